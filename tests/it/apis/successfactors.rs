//! SAP `SuccessFactors`: `OData` v2 with its dates, server paging and effective-dated rows.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, basic, route, slice, wants_headers},
};

fn millis(text: &str) -> i64 {
    text.parse::<chrono::DateTime<chrono::Utc>>()
        .unwrap()
        .timestamp_millis()
}

fn jobs(asked: &Asked, data: &mut Data) -> Answer {
    if asked.param("$format") != Some("json") {
        return Answer::text("application/atom+xml", "<feed/>".into());
    }
    if asked.param("fromDate").is_none() {
        return Answer::json(
            &json!({"error": {"code": "test", "message": {"value": "only today's rows"}}}),
        )
        .status(400);
    }
    let filter = asked.param("$filter").unwrap();
    let bound = filter
        .strip_prefix("lastModifiedDateTime ge datetimeoffset'")
        .unwrap()
        .strip_suffix('\'')
        .unwrap();
    let bound = millis(bound);
    let found: Vec<Value> = data["jobs"]
        .iter()
        .filter(|job| job["modified"].as_i64().unwrap() >= bound)
        .map(|job| {
            let date = |at: &Value| format!("/Date({}+0000)/", at.as_i64().unwrap());
            json!({
                "__metadata": {"uri": "x", "type": "SFOData.EmpJob"}, "userId": job["user"], "seqNumber": "1",
                "startDate": format!("/Date({})/", job["start"]), "jobTitle": job["title"], "payGrade": "GR-09",
                "lastModifiedDateTime": date(&job["modified"]), "employmentNav": {"__deferred": {"uri": "x"}}
            })
        })
        .collect();
    let start = asked
        .param("$skiptoken")
        .map_or(0, |token| token.parse().unwrap());
    let (page, more) = slice(&found, start, 2);
    let mut body = json!({"d": {"results": page}});
    if more {
        let mut next = url::Url::parse(&format!("{}/odata/v2/EmpJob", asked.origin)).unwrap();
        let kept = asked.query.iter().filter(|(name, _)| name != "$skiptoken");
        next.query_pairs_mut()
            .extend_pairs(kept)
            .append_pair("$skiptoken", &(start + 2).to_string());
        body["d"]["__next"] = next.to_string().into();
    }
    Answer::json(&body)
}

fn job(user: &str, start: &str, title: &str, modified: &str) -> Value {
    json!({"user": user, "start": millis(start), "title": title, "modified": millis(modified)})
}

#[tokio::test(flavor = "multi_thread")]
async fn successfactors_periods_are_kept_apart_and_dates_are_dates() {
    let guard = wants_headers([("authorization", basic("tech@acme", "pw"))]);
    let fake = Fake::new(guard, [route("GET", "/odata/v2/EmpJob", jobs)]).await;
    fake.put(
        "jobs",
        job("u1", "2020-01-01T00:00:00Z", "Cook", "2026-01-01T00:00:00Z"),
    );
    fake.put(
        "jobs",
        job("u1", "2030-01-01T00:00:00Z", "Chef", "2026-01-02T00:00:00Z"),
    );
    fake.put(
        "jobs",
        job(
            "u2",
            "2021-01-01T00:00:00Z",
            "Baker",
            "2026-01-03T00:00:00Z",
        ),
    );
    let variables = [
        ("SUCCESSFACTORS_HOST", "x.example"),
        ("SUCCESSFACTORS_USER", "tech@acme"),
        ("SUCCESSFACTORS_PASSWORD", "pw"),
    ];
    let stage = Stage::new("successfactors", fake, &variables).await;
    let requests = stage.sync("jobs").await;
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(
        requests[0]
            .contains("$filter=lastModifiedDateTime ge datetimeoffset'1970-01-01T00:00:00Z'"),
        "{requests:?}"
    );
    assert_eq!(
        stage.rows("select user_id, job_title, start_date = '2030-01-01T00:00:00Z' as future from successfactors.jobs order by user_id, job_title desc").await,
        json!([
            {"user_id": "u1", "job_title": "Cook", "future": false},
            {"user_id": "u1", "job_title": "Chef", "future": true},
            {"user_id": "u2", "job_title": "Baker", "future": false},
        ])
    );
    let columns = stage.columns("successfactors.jobs").await;
    assert!(
        !columns
            .iter()
            .any(|c| c.contains("metadata") || c.contains("deferred") || c.contains("pay")),
        "{columns:?}"
    );

    stage.fake.change("jobs", |all| {
        all[2] = job(
            "u2",
            "2021-01-01T00:00:00Z",
            "Master baker",
            "2026-02-01T00:00:00Z",
        );
    });
    let requests = stage.sync("jobs").await;
    assert!(
        requests.len() == 1 && requests[0].contains("datetimeoffset'2026-01-02T23:50:00"),
        "{requests:?}"
    );
    assert_eq!(stage.counts().await, "0 1 0 0");
}
