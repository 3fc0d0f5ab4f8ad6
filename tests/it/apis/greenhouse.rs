//! Greenhouse Harvest v3: a token for a named user, one parameter with both bounds, bare cursors.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, basic, open_route, route, since, slice, wants_headers},
};

fn token(asked: &Asked, _: &mut Data) -> Answer {
    if asked.header("authorization") != basic("g-id", "g-secret")
        || asked.body != json!({"grant_type": "client_credentials", "sub": "42"})
    {
        return Answer::json(&json!({"error": "invalid_client"})).status(401);
    }
    Answer::json(&json!({"access_token": "g-token", "token_type": "Bearer", "expires_in": 3600}))
}

fn candidates(asked: &Asked, data: &mut Data) -> Answer {
    let (start, bound) = match asked.param("cursor") {
        Some(_) if asked.query.len() > 1 => {
            return Answer::json(&json!({"message": "no other parameters with cursor"}))
                .status(422);
        }
        Some(cursor) => {
            let (start, bound) = cursor.split_once('~').unwrap();
            (start.parse().unwrap(), bound.to_owned())
        }
        None => {
            let both = asked.param("updated_at").unwrap();
            let (bound, end) = both
                .strip_prefix("gte|")
                .unwrap()
                .split_once("|lte|")
                .unwrap();
            assert!(end.len() > 10, "{both}");
            (0, bound.to_owned())
        }
    };
    let found: Vec<Value> = since(&data["candidates"], "/updated_at", Some(&bound))
        .into_iter()
        .cloned()
        .collect();
    let (page, more) = slice(&found, start, 2);
    let answer = Answer::json(&page.into());
    if more {
        answer.header(
            "link",
            format!(
                "<{}/v3/candidates?cursor={}~{bound}>; rel=\"next\"",
                asked.origin,
                start + 2
            ),
        )
    } else {
        answer
    }
}

fn candidate(id: i64, name: &str, updated: &str) -> Value {
    json!({"id": id, "first_name": name, "email_addresses": [{"value": "x@x.example"}], "tags": [], "created_at": "2026-01-01T00:00:00.000Z", "updated_at": updated})
}

#[tokio::test(flavor = "multi_thread")]
async fn greenhouse_cursors_go_alone_and_the_bounds_in_one_parameter() {
    let guard = wants_headers([("authorization", "Bearer g-token".into())]);
    let routes = [
        open_route("POST", "/token", token),
        route("GET", "/v3/candidates", candidates),
    ];
    let fake = Fake::new(guard, routes).await;
    for (id, name, updated) in [
        (1, "Ann", "2026-01-01T00:00:00.000Z"),
        (2, "Ben", "2026-01-02T00:00:00Z"),
        (3, "Cid", "2026-01-03T00:00:00.5+00:00"),
    ] {
        fake.put("candidates", candidate(id, name, updated));
    }
    let variables = [
        ("GREENHOUSE_CLIENT_ID", "g-id"),
        ("GREENHOUSE_CLIENT_SECRET", "g-secret"),
        ("GREENHOUSE_USER_ID", "42"),
    ];
    let stage = Stage::new("greenhouse", fake, &variables).await;
    let requests = stage.sync("candidates").await;
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(
        requests[1].starts_with(
            "GET /v3/candidates?per_page=500&updated_at=gte|2010-01-01T00:00:00Z|lte|2"
        ),
        "{requests:?}"
    );
    assert!(
        requests[2].starts_with("GET /v3/candidates?cursor=2~"),
        "{requests:?}"
    );
    assert_eq!(
        stage.columns("greenhouse.candidates").await,
        ["created_at", "first_name", "id", "tags", "updated_at"]
    );

    stage.fake.change("candidates", |all| {
        all[0] = candidate(1, "Anna", "2026-01-04T00:00:00Z");
    });
    let requests = stage.sync("candidates").await;
    assert!(
        requests.last().unwrap().contains("gte|2026-01-02T23:00:00"),
        "{requests:?}"
    );
    assert_eq!(stage.counts().await, "0 1 1 0");
}
