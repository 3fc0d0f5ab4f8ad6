//! What answers mean: each action, seen from the rows, the cursor, the deletes and the history.

use rosterd::sync::Start;
use serde_json::{Value, json};

use super::{
    config, config_with, outcome,
    server::{Asked, Said, Server, json as answers, says},
};
use crate::support::sync::Bench;

/// Three pages of two, by page number; the answer to page 3 is the test's.
fn pages(last: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> impl Fn(&Asked) -> Said {
    move |asked| match asked.target.rsplit('=').next().unwrap() {
        "1" => answers(&json!([{"id": 1}, {"id": 2}])),
        "2" => answers(&json!([{"id": 3}, {"id": 4}])),
        _ => last(asked),
    }
}

const PAGED: &str = "endpoint:
  path: /people
  paginator: {type: page_number, base_page: 1, total_path: null}
  response_actions:
";

async fn ids(bench: &Bench) -> Vec<i64> {
    bench.column("select id from hr.people order by id").await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_means_what_it_says_on_the_third_page() {
    let error = |status: u16| {
        move || {
            says(
                status,
                r#"{"code": 7, "error": {"message": "scope hr:read is missing for 123-45-6789"}}"#,
            )
        }
    };
    for (rules, answer, status, code, requests) in [
        // dlt's form, also with the status as text.
        (
            "- {status_code: 404, action: ignore}",
            error(404),
            "partial",
            "rule_ignore",
            3,
        ),
        (
            "- {status_code: '404', content: scope, action: ignore}",
            error(404),
            "partial",
            "rule_ignore",
            3,
        ),
        (
            "- {status_code: 404, content: other, action: ignore}",
            error(404),
            "failed",
            "HTTP 404",
            3,
        ),
        // An end of the API's own.
        (
            "- {when: {status: [404, 410]}, action: empty}",
            error(404),
            "succeeded",
            "",
            3,
        ),
        (
            "- {when: {status: 4xx, json: {code: [6, 7]}}, action: empty}",
            error(400),
            "succeeded",
            "",
            3,
        ),
        (
            "- {when: {json: {code: '7', gone: null}}, action: empty}",
            error(200),
            "succeeded",
            "",
            3,
        ),
        (
            "- {when: {header: {content-type: html}}, action: empty}",
            error(404),
            "failed",
            "HTTP 404",
            3,
        ),
        (
            "- {when: {empty: true}, action: empty}",
            error(400),
            "failed",
            "HTTP 400",
            3,
        ),
        (
            "- {when: {status: 304}, action: empty}",
            error(304),
            "succeeded",
            "",
            3,
        ),
        (
            "- {status_code: 403, action: skip}",
            error(403),
            "partial",
            "rule_skip",
            3,
        ),
        (
            "- {status_code: 404, action: retry}",
            error(404),
            "failed",
            "rule_retry",
            5,
        ),
        // The first that fits decides.
        (
            "- {status_code: 503, action: fail}\n  - {status_code: 5xx, action: retry}",
            error(503),
            "failed",
            "rule_fail",
            3,
        ),
        (
            "- {when: {status: 200, json: {code: 7}}, action: fail}",
            error(200),
            "failed",
            "rule_fail",
            3,
        ),
        (
            "- {status_code: 400-499, action: refresh}",
            error(401),
            "failed",
            "rule_refresh",
            3,
        ),
        (
            "- {status_code: 410, action: restart}",
            error(410),
            "failed",
            "rule_restart",
            12,
        ),
        (
            "- {status_code: 410, action: resync}",
            error(410),
            "failed",
            "rule_resync",
            6,
        ),
    ] {
        let server = Server::start(pages(move |_| answer())).await;
        let bench = Bench::new().await;
        let config = config(&bench, &server, &format!("{PAGED}  {rules}"));
        let ended = outcome(&bench, &config, Start::GoOn).await;
        assert_eq!(ended, (status, code.to_owned()), "{rules}");
        assert_eq!(server.requests().len(), requests, "{rules}");
        assert_eq!(ids(&bench).await, [1, 2, 3, 4], "{rules}");
        let kept: Vec<Option<Value>> = bench.column("select checkpoint from rosterd.cursors").await;
        if code == "rule_ignore" || code == "rule_skip" {
            assert_eq!(
                kept,
                [None],
                "the next run begins at the beginning: {rules}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_empty_proves_that_the_rows_behind_it_are_gone() {
    for (action, status, left) in [
        ("empty", "succeeded", vec![1, 2, 3, 4]),
        ("ignore", "partial", vec![1, 2, 3, 4, 5]),
        ("skip", "partial", vec![1, 2, 3, 4, 5]),
    ] {
        let server = Server::start(pages(|asked| match asked.number {
            0..=2 => answers(&json!([{"id": 5}])),
            3 => answers(&json!([])),
            _ => says(403, "{}"),
        }))
        .await;
        let bench = Bench::new().await;
        let config = config(
            &bench,
            &server,
            &format!(
                "deletes: {{mode: snapshot, hard: true, max_fraction: 0.9}}\n{PAGED}  - {{status_code: 403, action: {action}}}"
            ),
        );
        assert_eq!(outcome(&bench, &config, Start::GoOn).await.0, "succeeded");
        assert_eq!(ids(&bench).await, [1, 2, 3, 4, 5]);
        assert_eq!(
            outcome(&bench, &config, Start::GoOn).await.0,
            status,
            "{action}"
        );
        assert_eq!(ids(&bench).await, left, "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again_and_the_run_succeeds() {
    for (rule, bad) in [
        ("{status_code: 404, action: retry}", 404),
        ("{when: {status: 200, content: busy}, action: retry}", 200),
        ("{status_code: 410, action: restart}", 410),
    ] {
        let server = Server::start(pages(move |asked| match asked.number {
            2 => says(bad, r#"{"state": "busy"}"#),
            _ => answers(&json!([])),
        }))
        .await;
        let bench = Bench::new().await;
        let config = config(&bench, &server, &format!("{PAGED}  - {rule}"));
        let ended = outcome(&bench, &config, Start::GoOn).await;
        assert_eq!(ended, ("succeeded", String::new()), "{rule}");
        assert_eq!(ids(&bench).await, [1, 2, 3, 4], "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_cursor_is_answered_by_reading_everything_once() {
    let server = Server::start(|asked| match asked.target.as_str() {
        "/people" => answers(&json!([{"id": 1, "n": asked.number}, {"id": 2, "n": 5}])),
        "/people?since=5" => says(410, "{}"),
        other => panic!("{other}"),
    })
    .await;
    let bench = Bench::new().await;
    let config = config(
        &bench,
        &server,
        "deletes: {mode: snapshot}
endpoint:
  path: /people
  paginator: single_page
  incremental: {cursor_path: n, start_param: since}
  response_actions: [{status_code: 410, action: resync}]",
    );
    for _ in 0..2 {
        let ended = outcome(&bench, &config, Start::GoOn).await;
        assert_eq!(ended, ("succeeded", String::new()));
    }
    let targets: Vec<String> = server.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/people", "/people?since=5", "/people"]);
    let counted: Vec<i64> = bench.column("select n from hr.people order by id").await;
    assert_eq!(counted, [2, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_the_api_is_shown_only_where_it_was_declared_safe() {
    let body = r#"{"error": {"message": "scope hr:read is missing for jane.doe@example.com 123-45-6789"}}"#;
    for (safe, expected) in [
        (
            "safe_message_path: error.message, ",
            "answered with status 403, for which a rule says `fail`: scope hr:read is missing for *** ***",
        ),
        ("", "answered with status 403, for which a rule says `fail`"),
    ] {
        let server = Server::start(move |_| says(403, body)).await;
        let bench = Bench::new().await;
        let config = config(
            &bench,
            &server,
            &format!("{PAGED}  - {{status_code: 403, {safe}action: fail}}"),
        );
        let outcome = bench.sync(&config, Start::GoOn).await;
        let message = outcome.fault.unwrap().message;
        assert!(message.ends_with(expected), "{message}");
        let stored: String = bench.value("select error_message from rosterd.runs").await;
        assert_eq!(stored, message);
        assert!(!stored.contains("jane"), "{stored}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_renewed_once_where_a_rule_says_that_it_was_refused() {
    let server = Server::start(
        |asked| match (asked.path(), asked.headers.get("authorization")) {
            ("/login", _) => answers(&json!({"token": format!("t{}", asked.number)})),
            (_, Some(key)) if key == "Bearer t0" => answers(&json!({"ok": false, "code": 1002})),
            _ => answers(&json!([{"id": 1}])),
        },
    )
    .await;
    let bench = Bench::new().await;
    let config = config_with(
        &bench,
        &server,
        &format!(
            "auth: {{type: session, request: {{url: '{}/login', json: {{user: u}}}}}}",
            server.url()
        ),
        "endpoint:
  path: /people
  paginator: single_page
  response_actions: [{when: {json: {code: 1002}}, action: refresh}]",
    );
    let ended = outcome(&bench, &config, Start::GoOn).await;
    assert_eq!(ended, ("succeeded", String::new()));
    let paths: Vec<String> = server
        .requests()
        .iter()
        .map(|r| r.path().to_owned())
        .collect();
    assert_eq!(paths, ["/login", "/people", "/login", "/people"]);
}
