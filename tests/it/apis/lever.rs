//! Lever: times in milliseconds, windows, opaque offsets that may expire, and a feed of deletes.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, basic, route, slice, wants_headers},
};

fn opportunities(asked: &Asked, data: &mut Data) -> Answer {
    let bound = |name: &str| asked.param(name).map(|text| text.parse::<i64>().unwrap());
    let (from, to) = (
        bound("updated_at_start").unwrap_or(0),
        bound("updated_at_end").unwrap_or(i64::MAX),
    );
    let found: Vec<Value> = data["opportunities"]
        .iter()
        .filter(|one| (from..=to).contains(&one["updatedAt"].as_i64().unwrap()))
        .cloned()
        .collect();
    let start = match asked.param("offset") {
        None => 0,
        Some(_) if data.remove("offsets expire").is_some() => {
            return Answer::json(
                &json!({"code": "BadRequestError", "message": "Invalid offset token: expired"}),
            )
            .status(400);
        }
        Some(token) => token.strip_prefix("[tok").unwrap().parse().unwrap(),
    };
    let (page, more) = slice(&found, start, 2);
    let mut body = json!({"data": page, "hasNext": more});
    if more {
        body["next"] = format!("[tok{}", start + 2).into();
    }
    Answer::json(&body)
}

fn deleted(asked: &Asked, data: &mut Data) -> Answer {
    let from: i64 = asked.param("deleted_at_start").unwrap().parse().unwrap();
    let found: Vec<&Value> = data["deleted"]
        .iter()
        .filter(|one| one["deletedAt"].as_i64().unwrap() >= from)
        .collect();
    Answer::json(&json!({"data": found, "hasNext": false}))
}

fn millis(text: &str) -> i64 {
    text.parse::<chrono::DateTime<chrono::Utc>>()
        .unwrap()
        .timestamp_millis()
}

fn opportunity(id: &str, stage: &str, updated: &str) -> Value {
    json!({"id": id, "name": "Jo", "stage": stage, "emails": ["jo@x.example"], "phones": [], "createdAt": millis("2026-01-01T00:00:00Z"), "updatedAt": millis(updated)})
}

#[tokio::test(flavor = "multi_thread")]
async fn lever_is_read_in_windows_and_deletes_are_followed() {
    let guard = wants_headers([("authorization", basic("l-key", ""))]);
    let routes = [
        route("GET", "/v1/opportunities", opportunities),
        route("GET", "/v1/opportunities/deleted", deleted),
    ];
    let fake = Fake::new(guard, routes).await;
    for (id, updated) in [
        ("a", "2026-01-01T00:00:00Z"),
        ("b", "2026-01-02T00:00:00Z"),
        ("c", "2026-01-03T00:00:00Z"),
    ] {
        fake.put("opportunities", opportunity(id, "new", updated));
    }
    fake.change("deleted", Vec::clear);
    fake.put("offsets expire", Value::Null);
    let stage = Stage::new("lever", fake, &[("LEVER_API_KEY", "l-key")]).await;
    let requests = stage.sync("opportunities").await;
    let first = format!("updated_at_start={}", millis("2020-01-01T00:00:00Z"));
    assert!(
        requests
            .iter()
            .any(|request| request.contains(&first) && request.contains("updated_at_end=")),
        "{requests:?}"
    );
    assert_eq!(
        stage
            .rows(
                "select id, updated_at = '2026-01-02' as right from lever.opportunities order by id"
            )
            .await[1],
        json!({"id": "b", "right": true})
    );
    assert!(
        !stage
            .columns("lever.opportunities")
            .await
            .contains(&"emails".to_owned())
    );

    stage
        .fake
        .change("opportunities", |all| all.retain(|one| one["id"] != "a"));
    stage.fake.put(
        "deleted",
        json!({"id": "a", "deletedAt": millis("2026-02-01T00:00:00Z")}),
    );
    let requests = stage.sync("opportunities").await;
    assert!(
        !requests.iter().any(|request| request.contains(&first)),
        "{requests:?}"
    );
    assert_eq!(
        stage
            .rows("select id from lever.opportunities where _deleted_at is null order by id")
            .await,
        json!([{"id": "b"}, {"id": "c"}])
    );
}
