//! What stands in braces is filled as data, and encoded for its place.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    http::{HeaderMap, Uri},
};
use rosterd::{config, fetch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{source, walk};

/// The first resource of a file with this endpoint.
fn endpoint(yaml: &str) -> config::endpoint::Endpoint {
    let file = format!(
        "sources:\n  hr:\n    client: {{base_url: 'https://a.test'}}\n    vars: {{tenant: 'a/b c', plain: x}}\n    \
         resources: [{{name: e, primary_key: id, endpoint: {yaml}}}]\n"
    );
    let config = config::from_str(&file).unwrap();
    config.sources[0].resources[0].endpoint.clone()
}

/// The first request of a walk from `start`: its target, and its headers.
async fn request(yaml: &str, start: Option<&str>) -> (String, HeaderMap) {
    let seen = Arc::new(Mutex::new(None));
    let log = Arc::clone(&seen);
    let answer = move |uri: Uri, headers: HeaderMap| {
        log.lock()
            .unwrap()
            .get_or_insert((uri.to_string(), headers));
        std::future::ready("[]")
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = async move { axum::serve(listener, Router::new().fallback(answer)).await };
    let _server = AbortOnDropHandle::new(TaskTracker::new().spawn(serve));
    let plan = fetch::WalkPlan {
        endpoint: endpoint(yaml),
        bindings: fetch::Bindings::default(),
        start_value: start.map(str::to_owned),
        key: Vec::new(),
        end_value: None,
        resume: None,
        first_page: 0,
        max_pages: 10,
    };
    // The answer does not matter here; what was asked for does.
    drop(walk(&source(&url), plan).await);
    seen.lock().unwrap().take().unwrap()
}

#[tokio::test]
async fn places_are_filled_for_where_they_stand() {
    let since = "2024-05-06T07:08:09+02:00";
    let incremental = "incremental: {cursor_path: u, initial_value: '2020-01-01'}";
    for (yaml, start, expected) in [
        (
            "path: '/{vars.tenant}/e', params: {since: '{incremental.start_value}'}",
            Some(since),
            "/a%2Fb%20c/e?since=2024-05-06T07%3A08%3A09%2B02%3A00",
        ),
        (
            "path: '/since/{incremental.last_value}/e'",
            Some(since),
            "/since/2024-05-06T07%3A08%3A09%2B02%3A00/e",
        ),
        (
            "path: '/e', params: {filter: \"updated gt '{incremental.start_value}'\"}",
            Some("a'&b"),
            "/e?filter=updated%20gt%20%27a%27%26b%27",
        ),
        // What has no value is left out, and never the text None.
        (
            "path: '/e', params: {since: '{incremental.start_value}', a: 1}",
            None,
            "/e?a=1",
        ),
        (
            "path: '/e', params: {ids: ['{vars.plain}', '{{x}}'], from: '{incremental.initial_value}'}",
            None,
            "/e?ids=x&ids=%7Bx%7D&from=2020-01-01",
        ),
    ] {
        let yaml = format!("{{{yaml}, paginator: single_page, {incremental}}}");
        assert_eq!(request(&yaml, start).await.0, expected, "{yaml}");
    }
}

#[tokio::test]
async fn headers_without_a_value_are_left_out() {
    let yaml = "{path: /e, paginator: single_page, headers: {X-Since: '{incremental.start_value}', X-Tenant: '{vars.plain}'}, incremental: {cursor_path: u}}";
    let (_, headers) = request(yaml, Some("5")).await;
    assert_eq!(
        (&headers["x-since"], &headers["x-tenant"]),
        (&"5".parse().unwrap(), &"x".parse().unwrap())
    );
    let (_, headers) = request(yaml, None).await;
    assert!(!headers.contains_key("x-since"));
}
