//! Workable: full URLs to the next page, a 404 that passes, and a limit of ten in ten seconds.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, route, since, wants_headers},
};

fn candidates(asked: &Asked, data: &mut Data) -> Answer {
    // Once, for a moment.
    if data.remove("gone for a moment").is_some() {
        return Answer::empty(404);
    }
    let bound = asked.param("updated_after");
    let found = since(&data["candidates"], "/updated_at", bound);
    let after = asked.param("since_id").unwrap_or_default();
    let page: Vec<&&Value> = found
        .iter()
        .filter(|c| c["id"].as_str().unwrap() > after)
        .take(2)
        .collect();
    let last = page.last().map(|c| c["id"].as_str().unwrap());
    let mut body = json!({"candidates": page});
    if let Some(last) = last.filter(|last| found.iter().any(|c| c["id"].as_str().unwrap() > *last))
    {
        let bound = bound.map_or(String::new(), |bound| format!("&updated_after={bound}"));
        body["paging"] = json!({"next": format!("{}/spi/v3/candidates?limit=100&since_id={last}{bound}", asked.origin)});
    }
    Answer::json(&body)
}

fn candidate(id: &str, stage: &str, updated: &str) -> Value {
    json!({"id": id, "name": "Jo", "stage": stage, "email": "jo@x.example", "phone": "123", "job": {"shortcode": "GROOV001", "title": "Cook"}, "updated_at": updated})
}

#[tokio::test(flavor = "multi_thread")]
async fn workable_candidates_come_by_link_through_a_passing_404() {
    let guard = wants_headers([("authorization", "Bearer w-token".into())]);
    let fake = Fake::new(guard, [route("GET", "/spi/v3/candidates", candidates)]).await;
    for (id, updated) in [
        ("1a", "2026-03-01T00:00:00Z"),
        ("2b", "2026-03-02T00:00:00Z"),
        ("3c", "2026-03-03T00:00:00Z"),
    ] {
        fake.put("candidates", candidate(id, "Applied", updated));
    }
    fake.put("gone for a moment", Value::Null);
    let stage = Stage::new(
        "workable",
        fake,
        &[
            ("WORKABLE_SUBDOMAIN", "acme"),
            ("WORKABLE_TOKEN", "w-token"),
        ],
    )
    .await;
    let requests = stage.sync("candidates").await;
    assert_eq!(
        requests,
        [
            "GET /spi/v3/candidates?limit=100",
            "GET /spi/v3/candidates?limit=100",
            "GET /spi/v3/candidates?limit=100&since_id=2b",
        ]
    );
    assert_eq!(
        stage.columns("workable.candidates").await,
        [
            "id",
            "job__shortcode",
            "job__title",
            "name",
            "stage",
            "updated_at"
        ]
    );
    stage.fake.change("candidates", |all| {
        all[0] = candidate("1a", "Hired", "2026-03-04T00:00:00Z");
    });
    let requests = stage.sync("candidates").await;
    assert!(
        requests.len() == 1 && requests[0].contains("updated_after=2026-03-02T23:50:00"),
        "{requests:?}"
    );
    assert_eq!(stage.counts().await, "0 1 1 0");
}
