//! Ashby: calls by POST, cursors in the body, a sync token at the end, refusals with status 200.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, basic, route, slice, wants_headers},
};

/// A token is the number of changes that its holder has seen.
fn candidates(asked: &Asked, data: &mut Data) -> Answer {
    let changes = data["changes"].clone();
    let seen = match asked.body["syncToken"].as_str() {
        None => 0,
        Some(_) if data.remove("tokens expire").is_some() => {
            return Answer::json(&json!({"success": false, "errors": ["sync_token_expired"]}));
        }
        Some(token) => token.strip_prefix("sync-").unwrap().parse().unwrap(),
    };
    let start = asked.body["cursor"]
        .as_str()
        .map_or(0, |cursor| cursor.parse().unwrap());
    let (page, more) = slice(&changes[seen..], start, 2);
    let mut body = json!({"success": true, "results": page, "moreDataAvailable": more});
    if more {
        body["nextCursor"] = (start + 2).to_string().into();
    } else {
        body["syncToken"] = format!("sync-{}", changes.len()).into();
    }
    Answer::json(&body)
}

fn candidate(id: &str, name: &str) -> Value {
    json!({"id": id, "name": name, "primaryEmailAddress": {"value": "private@x.example"}, "phoneNumbers": [], "tags": [{"id": "t"}], "updatedAt": "2026-01-01T00:00:00Z"})
}

#[tokio::test(flavor = "multi_thread")]
async fn ashby_is_read_by_sync_token_and_read_whole_when_the_token_expired() {
    let guard = wants_headers([("authorization", basic("a-key", ""))]);
    let fake = Fake::new(guard, [route("POST", "/candidate.list", candidates)]).await;
    for (id, name) in [("a", "Ann"), ("b", "Ben"), ("c", "Cid")] {
        fake.put("changes", candidate(id, name));
    }
    let stage = Stage::new("ashby", fake, &[("ASHBY_API_KEY", "a-key")]).await;
    let requests = stage.sync("candidates").await;
    assert_eq!(
        requests,
        [
            r#"POST /candidate.list {"limit":100}"#,
            r#"POST /candidate.list {"cursor":"2","limit":100}"#,
        ]
    );
    assert_eq!(
        stage.columns("ashby.candidates").await,
        ["id", "name", "tags", "updated_at"]
    );

    stage.fake.put("changes", candidate("b", "Benno"));
    let requests = stage.sync("candidates").await;
    assert_eq!(
        requests,
        [r#"POST /candidate.list {"syncToken":"sync-3","limit":100}"#]
    );
    assert_eq!(stage.counts().await, "0 1 0 0");

    stage.fake.put("tokens expire", Value::Null);
    let requests = stage.sync("candidates").await;
    assert!(
        requests[0].contains("sync-4") && !requests[1].contains("sync-"),
        "{requests:?}"
    );
    assert_eq!(
        stage
            .rows("select id, name from ashby.candidates order by id")
            .await,
        json!([{"id": "a", "name": "Ann"}, {"id": "b", "name": "Benno"}, {"id": "c", "name": "Cid"}])
    );
    stage.sync("candidates").await;

    stage.fake.change("changes", Vec::clear);
}

#[tokio::test(flavor = "multi_thread")]
async fn ashby_refuses_with_status_200_and_the_run_fails() {
    let refuse = |_: &Asked, _: &mut Data| {
        Answer::json(&json!({"success": false, "errors": ["missing_endpoint_permission"]}))
    };
    let fake = Fake::new(|_| None, [route("POST", "/job.list", refuse)]).await;
    let stage = Stage::new("ashby", fake, &[("ASHBY_API_KEY", "a-key")]).await;
    let fault = stage.run("jobs").await.fault.unwrap();
    assert_eq!(fault.code, "rule_fail");
}
