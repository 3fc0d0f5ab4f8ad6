//! What is sent.

use rosterd::sync::Start;
use serde_json::json;

use super::{
    config, outcome,
    server::{Server, json as answers},
};
use crate::support::sync::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn a_search_by_put_sends_typed_values_and_lists_as_the_api_reads_them() {
    let server = Server::start(|_| answers(&json!({"rows": [{"id": 1, "n": 1}]}))).await;
    let bench = Bench::new().await;
    let config = config(
        &bench,
        &server,
        r#"endpoint:
  path: /t/{vars.tenant}/{org}/people
  method: put
  params:
    org: "x y/{vars.size}"
    fields: {type: list, style: comma, values: [id, name]}
    state: [active, left]
    where: {type: json, value: {archived: "{vars.archived}", since: "{incremental.start_value}"}}
    since: "{incremental.start_value}"
  list_style: brackets
  headers: {If-Modified-Since: "{incremental.start_value}"}
  json:
    size: "{vars.size}"
    archived: "{vars.archived}"
    label: "of {vars.tenant} {{here}}"
    filter: {updated: {gt: "{incremental.start_value}"}}
    nothing: null
  data_selector: rows
  paginator: single_page
  incremental: {cursor_path: n}"#,
    );
    assert_eq!(outcome(&bench, &config, Start::GoOn).await.0, "succeeded");
    let [asked] = server.requests().try_into().unwrap();
    assert_eq!(asked.method, "PUT");
    assert_eq!(
        asked.target,
        "/t/a%2Fb/x%20y%2F50/people?fields=id%2Cname&state%5B%5D=active&state%5B%5D=left&where=%7B%22archived%22%3Afalse%7D"
    );
    assert!(!asked.headers.contains_key("if-modified-since"));
    assert_eq!(
        asked.json(),
        json!({"size": 50, "archived": false, "label": "of a/b {here}", "nothing": null})
    );
    assert!(!String::from_utf8_lossy(&asked.body).contains("None"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_stands_wherever_it_was_put_in_the_second_run() {
    let server = Server::start(|asked| {
        answers(&match asked.number {
            0 => json!([{"id": 1, "n": 17}, {"id": 2, "n": 9}]),
            _ => json!([]),
        })
    })
    .await;
    let bench = Bench::new().await;
    let config = config(
        &bench,
        &server,
        r#"endpoint:
  path: /people
  method: POST
  params: {q: "n ge {incremental.start_value}", n: "{incremental.start_value}"}
  json: [{field: n, op: ge, value: "{incremental.start_value}"}]
  headers: {X-Since: "{incremental.start_value}"}
  paginator: single_page
  incremental: {cursor_path: n}"#,
    );
    for _ in 0..2 {
        let ended = outcome(&bench, &config, Start::GoOn).await;
        assert_eq!(ended, ("succeeded", String::new()));
    }
    let [first, second] = server.requests().try_into().unwrap();
    assert_eq!(
        (first.target.as_str(), first.json()),
        ("/people", json!([{"field": "n", "op": "ge"}]))
    );
    assert_eq!(second.path(), first.path());
    assert_eq!(second.target, "/people?q=n%20ge%2017&n=17");
    assert_eq!(
        second.json(),
        json!([{"field": "n", "op": "ge", "value": 17}])
    );
    assert_eq!(second.headers["x-since"], "17");
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_and_plain_texts_are_bodies_too() {
    for (data, kind, expected) in [
        (
            "{report: people, ids: [1, 2], since: '{incremental.start_value}'}",
            Some("application/x-www-form-urlencoded"),
            "report=people&ids=1&ids=2&since=2024-01-01%3C",
        ),
        (
            "'<q xmlns=\"x\">{incremental.start_value}</q>'",
            Some("text/xml"),
            "<q xmlns=\"x\">2024-01-01&lt;</q>",
        ),
    ] {
        let server = Server::start(|_| answers(&json!([{"id": 1, "u": "2024-01-02"}]))).await;
        let bench = Bench::new().await;
        let headers = match data.starts_with('{') {
            true => "{}",
            false => "{Content-Type: text/xml}",
        };
        let config = config(
            &bench,
            &server,
            &format!(
                "endpoint:\n  path: /p\n  method: POST\n  data: {data}\n  headers: {headers}\n  paginator: single_page\n  incremental: {{cursor_path: u, initial_value: '2024-01-01<'}}"
            ),
        );
        assert_eq!(outcome(&bench, &config, Start::GoOn).await.0, "succeeded");
        let [asked] = server.requests().try_into().unwrap();
        assert_eq!(asked.body, expected);
        let sent = asked
            .headers
            .get("content-type")
            .map(|v| v.to_str().unwrap());
        assert_eq!(sent, kind);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_ends_in_a_placeholder_is_one_record_whatever_the_client_pages_by() {
    let server = Server::start(|_| answers(&json!({"id": 7, "items": [1, 2]}))).await;
    let bench = Bench::new().await;
    let config = super::config_with(
        &bench,
        &server,
        "paginator: {type: offset, limit: 10}",
        "endpoint: {path: '/people/{id}?full=1', params: {id: 7}}",
    );
    assert_eq!(outcome(&bench, &config, Start::GoOn).await.0, "succeeded");
    assert_eq!(server.requests()[0].target, "/people/7?full=1");
    let ids: Vec<i64> = bench.column("select id from hr.people").await;
    assert_eq!(ids, [7]);
}
