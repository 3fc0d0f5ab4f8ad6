//! Exports: created, waited for, fetched.

use rosterd::sync::Start;
use serde_json::json;

use super::{
    config_with, outcome,
    server::{Asked, Said, Server, json as answers, says},
};
use crate::support::sync::Bench;

const KEY: &str = "auth: {token: the-key-of-the-api}\nheaders: {X-Tenant: acme}";

/// An API whose exports are there at the second question.
fn api(done: impl Fn() -> Said + Send + Sync + 'static) -> impl Fn(&Asked) -> Said {
    move |asked| {
        assert_eq!(asked.headers["authorization"], "Bearer the-key-of-the-api");
        match (asked.method.as_str(), asked.target.as_str()) {
            ("POST", "/exports?kind=people") => answers(&json!({"job": {"id": "a/b 1"}})),
            ("GET", "/exports/a%2Fb%201") if asked.number % 4 == 1 => {
                answers(&json!({"state": {"name": "running"}}))
            }
            ("GET", "/exports/a%2Fb%201") => done(),
            ("GET", "/exports/a%2Fb%201/file?raw=1") => says(200, "id,name\n1,Eva\n2,Tom\n"),
            other => panic!("{other:?}"),
        }
    }
}

fn endpoint(lines: &str) -> String {
    format!(
        "endpoint:
  path: /exports
  method: POST
  params: {{kind: people}}
  json: {{fields: [id, name]}}
  response: csv
  paginator: single_page
  export:
    poll_path: /exports/{{export.job.id}}
    status_path: state.name
    done: [done]
    failed: [broken]
    interval: 10ms
    max_time: 200ms
{lines}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_created_waited_for_and_fetched_in_every_run() {
    let server = Server::start(api(|| answers(&json!({"state": {"name": "done"}})))).await;
    let bench = Bench::new().await;
    for (run, response) in ["csv", "{type: csv, stream: true}"].into_iter().enumerate() {
        let lines = endpoint("    download_path: /exports/{export.job.id}/file?raw=1")
            .replace("response: csv", &format!("response: {response}"));
        let config = config_with(&bench, &server, KEY, &lines);
        let ended = outcome(&bench, &config, Start::GoOn).await;
        assert_eq!(ended, ("succeeded", String::new()));
        let names: Vec<String> = bench.column("select name from hr.people order by id").await;
        assert_eq!(names, ["Eva", "Tom"]);
        assert_eq!(server.requests().len(), 4 * (run + 1));
    }
    let requests = server.requests();
    let (created, polled) = (&requests[0], &requests[1]);
    assert_eq!(created.json(), json!({"fields": ["id", "name"]}));
    assert!(polled.body.is_empty());
    assert_eq!(polled.headers["x-tenant"], "acme");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_url_elsewhere_gets_neither_key_nor_headers_and_only_where_it_was_allowed() {
    for (origin, ended, asked) in [
        (true, ("succeeded", ""), 1),
        (false, ("failed", "foreign_next_link"), 0),
    ] {
        let storage = Server::start(|_| says(200, "id,name\n1,Eva\n")).await;
        let url = format!("{}/bucket/file.csv?signature=s3cret", storage.url());
        let server = Server::start(api(move || {
            answers(&json!({"state": {"name": "done"}, "result": {"url": url}}))
        }))
        .await;
        let bench = Bench::new().await;
        let origins = match origin {
            true => storage.url(),
            false => "https://storage.example.com".to_owned(),
        };
        let lines = endpoint(&format!(
            "    url_path: result.url\n    origins: [\"{origins}\"]"
        ));
        let config = config_with(&bench, &server, KEY, &lines);
        let (status, code) = outcome(&bench, &config, Start::GoOn).await;
        assert_eq!((status, code.as_str()), ended);
        let fetched = storage.requests();
        assert_eq!(fetched.len(), asked);
        for request in fetched {
            assert_eq!(request.target, "/bucket/file.csv?signature=s3cret");
            assert!(!request.headers.contains_key("authorization"));
            assert!(!request.headers.contains_key("x-tenant"));
        }
        let told: Option<String> = bench.value("select error_message from rosterd.runs").await;
        assert!(!told.unwrap_or_default().contains("s3cret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_does_not_come_is_a_named_error_and_deletes_nothing() {
    for (state, code) in [
        (json!({"state": {"name": "broken"}}), "export_failed"),
        (json!({"state": {"name": "running"}}), "export_timeout"),
        (json!({"state": {}}), "unexpected_shape"),
        (json!({"state": {"name": "done"}}), "unexpected_shape"),
    ] {
        let server = Server::start(api(move || answers(&state))).await;
        let bench = Bench::new().await;
        let config = config_with(&bench, &server, KEY, &endpoint("    url_path: result.url"));
        let ended = outcome(&bench, &config, Start::GoOn).await;
        assert_eq!(ended, ("failed", code.to_owned()));
    }
}
