//! Teamtailor: JSON:API with bracketed parameters, and links to the next page.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, route, since, slice, wants_headers},
};

fn jobs(asked: &Asked, data: &mut Data) -> Answer {
    let bound = asked.param("filter[updated-at][from]");
    let all = asked.param("filter[status]") == Some("all");
    let mut found: Vec<Value> = since(&data["jobs"], "/attributes/updated-at", bound)
        .into_iter()
        .cloned()
        .collect();
    found.retain(|job| all || job["attributes"]["status"] == "open");
    let number = asked.number("page[number]", 1);
    let (page, more) = slice(&found, (number - 1) * 2, 2);
    let mut links = json!({"first": asked.origin});
    if more {
        let mut next = url::Url::parse(&format!("{}/v1/jobs", asked.origin)).unwrap();
        let kept = asked
            .query
            .iter()
            .filter(|(name, _)| name != "page[number]");
        next.query_pairs_mut()
            .extend_pairs(kept)
            .append_pair("page[number]", &(number + 1).to_string());
        links["next"] = next.to_string().into();
    }
    Answer::json(&json!({"data": page, "links": links, "meta": {"record-count": found.len()}}))
        .header("x-rate-limit-remaining", "49")
        .header("x-rate-limit-remaining", "49")
}

fn job(id: &str, title: &str, status: &str, updated: &str) -> Value {
    json!({
        "id": id, "type": "jobs", "links": {"careersite-job-url": "https://x.example/jobs/1"},
        "attributes": {"title": title, "status": status, "salary-time-unit": null, "tags": ["a"], "updated-at": updated, "created-at": "2026-01-01T00:00:00+01:00"},
        "relationships": {"department": {"data": {"type": "departments", "id": "7"}, "links": {"related": "https://x.example"}}}
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn teamtailor_jobs_of_every_status_come_by_link_and_then_by_change() {
    let guard = wants_headers([
        ("authorization", "Token token=tt-key".into()),
        ("x-api-version", "20210218".into()),
    ]);
    let fake = Fake::new(guard, [route("GET", "/v1/jobs", jobs)]).await;
    for (id, title, status, updated) in [
        ("11", "Cook", "open", "2026-02-01T09:00:00.123+01:00"),
        ("12", "Baker", "archived", "2026-02-02T09:00:00.000+01:00"),
        ("13", "Clerk", "draft", "2026-02-03T09:00:00.000+01:00"),
    ] {
        fake.put("jobs", job(id, title, status, updated));
    }
    let stage = Stage::new("teamtailor", fake, &[("TEAMTAILOR_API_KEY", "tt-key")]).await;
    let requests = stage.sync("jobs").await;
    assert_eq!(
        requests,
        [
            "GET /v1/jobs?page[size]=30&filter[status]=all",
            "GET /v1/jobs?page[size]=30&filter[status]=all&page[number]=2",
        ]
    );
    assert_eq!(
        stage.rows("select id, attributes__title as title, relationships__department__data__id as department from teamtailor.jobs order by id").await[1],
        json!({"id": "12", "title": "Baker", "department": "7"})
    );
    let columns = stage.columns("teamtailor.jobs").await;
    assert!(
        !columns.iter().any(|column| column.contains("links")),
        "{columns:?}"
    );

    stage.fake.put(
        "jobs",
        job("14", "Guard", "open", "2026-02-04T09:00:00.000+01:00"),
    );
    let requests = stage.sync("jobs").await;
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].contains("filter[updated-at][from]=2026-02-03T08:50:00"),
        "{requests:?}"
    );
    assert_eq!(stage.counts().await, "1 0 1 0");
}
