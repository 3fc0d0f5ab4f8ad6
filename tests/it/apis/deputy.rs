//! Deputy: searches by POST, with the cursor and the page deep in the body.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, route, since, slice, wants_headers},
};

fn query(asked: &Asked, data: &mut Data) -> Answer {
    let search = &asked.body["search"]["s1"];
    if search["field"] != "Modified"
        || search["type"] != "ge"
        || asked.body["sort"]["Modified"] != "asc"
    {
        return Answer::json(&json!({"error": {"code": 400, "message": "Invalid search"}}))
            .status(400);
    }
    let mut found: Vec<Value> = since(&data["employees"], "/Modified", search["data"].as_str())
        .into_iter()
        .cloned()
        .collect();
    found.sort_by_key(|employee| employee["Modified"].to_string());
    let (page, _) = slice(&found, asked.number("start", 0), asked.number("max", 500));
    Answer::json(&page.into())
}

fn employee(id: usize, name: &str, modified: &str) -> Value {
    json!({"Id": id, "DisplayName": name, "DateOfBirth": "1990-01-01", "Active": true, "Modified": modified})
}

#[tokio::test(flavor = "multi_thread")]
async fn deputy_is_searched_in_pages_to_a_short_one() {
    let guard = wants_headers([("authorization", "Bearer d-token".into())]);
    let fake = Fake::new(
        guard,
        [route("POST", "/api/v1/resource/Employee/QUERY", query)],
    )
    .await;
    for id in 1..=501 {
        fake.put("employees", employee(id, "Jo", "2026-01-01T00:00:00+10:00"));
    }
    let stage = Stage::new(
        "deputy",
        fake,
        &[
            ("DEPUTY_HOST", "acme.eu.deputy.com"),
            ("DEPUTY_TOKEN", "d-token"),
        ],
    )
    .await;
    let requests = stage.sync("employees").await;
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(
        requests
            .iter()
            .any(|request| request.contains(r#""start":500"#)),
        "{requests:?}"
    );
    assert_eq!(
        stage.columns("deputy.employees").await,
        ["active", "display_name", "id", "modified"]
    );
    assert_eq!(
        stage
            .rows("select count(*) as n from deputy.employees")
            .await,
        json!([{"n": 501}])
    );

    stage.fake.change("employees", |all| {
        all[6] = employee(7, "Joanna", "2026-02-01T00:00:00+10:00");
    });
    stage.sync("employees").await;
    assert_eq!(stage.counts().await.split(' ').nth(1), Some("1"));
    stage.fake.change("employees", |all| {
        all[7] = employee(8, "Jon", "2026-02-02T00:00:00+10:00");
    });
    let requests = stage.sync("employees").await;
    assert!(
        requests.len() == 1 && requests[0].contains("2026-01-31T23:50:00"),
        "{requests:?}"
    );
}
