//! Paginators as an operator writes them: what is refused, and what a run makes of them.

use rosterd::config;
use serde_json::json;

use crate::support::documents::Documents;

/// A resource with a paginator; POST, so that places in the body may be named.
fn resource(paginator: &str) -> String {
    format!(
        "sources: {{hr: {{client: {{base_url: 'https://api.example.com'}}, resources: [{{name: people, write_disposition: append, endpoint: {{method: POST, paginator: {paginator}}}}}]}}}}"
    )
}

#[test]
fn what_does_not_fit_together_is_refused_with_its_key() {
    for (paginator, key, message) in [
        (
            "{type: offset, limit: 10, overlap: 10}",
            "overlap",
            "less than `limit`",
        ),
        (
            "{type: offset, limit: 10, overlap: 1, step: limit}",
            "overlap",
            "needs `step: received`",
        ),
        (
            "{type: offset, limit: 10, step: two}",
            "step",
            "expected one of received, limit, one",
        ),
        (
            "{type: offset, limit: 10, total_path: a, total_header: X-T}",
            "total_header",
            "exclude each other",
        ),
        (
            "{type: offset, limit: 10, total_header: 'a b'}",
            "total_header",
            "name of a header",
        ),
        (
            "{type: offset, limit: 10, has_more_path: a, last_page_path: b}",
            "last_page_path",
            "exclude each other",
        ),
        (
            "{type: offset, limit: 10, end_statuses: [403]}",
            "end_statuses",
            "other than 401, 403",
        ),
        (
            "{type: offset, limit: 10, end_statuses: 404}",
            "end_statuses",
            "expected a list",
        ),
        (
            "{type: offset, limit: 10, end_statuses: [500]}",
            "end_statuses",
            "from 400 to 499",
        ),
        (
            "{type: offset, limit: 10, sync_token_path: 'a[*]'}",
            "sync_token_path",
            "",
        ),
        (
            "{type: page_number, limit_param: n}",
            "limit_param",
            "needs `limit`",
        ),
        (
            "{type: page_number, limit: 1, limit_param: a, limit_body_path: b}",
            "limit_body_path",
            "exclude each other",
        ),
        (
            "{type: page_number, stop_after_short_page: true}",
            "stop_after_short_page",
            "needs `limit`",
        ),
        (
            "{type: page_number, base_page: 1, page: 0}",
            "page",
            "at least `base_page`",
        ),
        (
            "{type: page_number, total_counts: items}",
            "total_counts",
            "expected one of pages, records",
        ),
        (
            "{type: page_number, page: 3, maximum_page: 3}",
            "maximum_page",
            "nothing would be read",
        ),
        ("{type: page_number, overlap: 1}", "overlap", "unknown key"),
        (
            "{type: cursor, stop_after_short_page: true}",
            "stop_after_short_page",
            "needs `limit`",
        ),
        ("{type: cursor, keep_params: perhaps}", "keep_params", ""),
        (
            "{type: header_cursor, cursor_key: 'a:b'}",
            "cursor_key",
            "name of a header",
        ),
        (
            "{type: header_cursor, cursor_param: a, cursor_body_path: b}",
            "cursor_body_path",
            "exclude each other",
        ),
        ("keyset", "paginator", "the key `key_path` is missing"),
        (
            "{type: keyset, key_path: id, key_param: a, key_body_path: b}",
            "key_body_path",
            "exclude each other",
        ),
        ("{type: json_link, ignore_host: maybe}", "ignore_host", ""),
        (
            "{type: json_link, has_more_path: a, last_page_path: b}",
            "last_page_path",
            "exclude each other",
        ),
        ("{type: auto, limit: 5}", "limit", "unknown key"),
    ] {
        let Err(problems) = config::from_str(&resource(paginator)) else {
            panic!("was accepted: {paginator}");
        };
        let found = problems
            .iter()
            .any(|problem| problem.path.ends_with(key) && problem.message.contains(message));
        assert!(found, "{paginator}: {problems}");
    }
}

#[test]
fn a_rule_that_dlt_does_not_have_stands_in_for_its_total() {
    for (paginator, total) in [
        ("{type: page_number}", true),
        ("{type: page_number, has_more_path: more}", true),
        ("{type: page_number, last_page_path: last}", false),
        ("{type: page_number, end_statuses: [404]}", false),
        (
            "{type: page_number, limit: 5, stop_after_short_page: true}",
            false,
        ),
        (
            "{type: page_number, end_statuses: [404], total_path: total}",
            true,
        ),
        ("{type: offset, limit: 5, total_header: X-Total}", true),
    ] {
        let config = config::from_str(&resource(paginator)).unwrap();
        let stop = |config: &config::Config| {
            let paginator = &config.sources[0].resources[0].endpoint.paginator;
            paginator.stop().unwrap().total.is_some()
        };
        assert_eq!(stop(&config), total, "{paginator}");
        // What `check --print` shows means the same.
        let again = config::from_str(&config.to_yaml_masked()).unwrap();
        assert_eq!(stop(&again), total, "{paginator}");
    }
}

#[test]
fn limits_that_do_not_fit_together_are_refused_with_their_key() {
    for (client, key, message) in [
        (
            "limit_headers: {remaining: X-Left}",
            "limit_headers",
            "the key `reset` is missing",
        ),
        ("limit_headers: {reset: 'a b'}", "reset", "name of a header"),
        (
            "limit_headers: {reset: X, remaining: ''}",
            "remaining",
            "name of a header",
        ),
        (
            "limit_headers: {reset: X, reset_unit: hours}",
            "reset_unit",
            "expected one of seconds, ms, epoch",
        ),
        (
            "limit_headers: {reset: X, reserve: 5}",
            "reserve",
            "needs `remaining`",
        ),
        (
            "limit_headers: {reset: X, remaining: Y, reserve: -1}",
            "reserve",
            "",
        ),
        ("retry: {min_wait: 2m}", "min_wait", "at most `max_wait`"),
        ("limits: [{requests: 0, per: 1s}]", "requests", ""),
        ("max_in_flight: 0", "max_in_flight", ""),
    ] {
        let text = format!(
            "sources: {{hr: {{client: {{base_url: 'https://api.example.com', paginator: single_page, {client}}}, resources: [{{name: people, write_disposition: append}}]}}}}"
        );
        let Err(problems) = config::from_str(&text) else {
            panic!("was accepted: {client}");
        };
        let found = problems
            .iter()
            .any(|problem| problem.path.ends_with(key) && problem.message.contains(message));
        assert!(found, "{client}: {problems}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_behind_the_maximum_is_not_read_and_the_run_says_so_once() {
    let pages = ["[{\"id\": 1}]", "[{\"id\": 2}]", "[{\"id\": 3}]"];
    for (maximum, status, code, ids) in [
        (3, "partial", json!("maximum_reached"), 2),
        (5, "succeeded", json!(null), 3),
    ] {
        let docs = Documents::new(&format!(
            "endpoint: {{paginator: {{type: page_number, base_page: 1, total_path: null, maximum_page: {maximum}}}}}\nprimary_key: id\nwrite_disposition: merge"
        ))
        .await;
        for _ in 0..2 {
            let pages = pages.iter().map(|page| page.as_bytes().to_vec()).collect();
            docs.sync_pages(pages).await;
        }
        // No page is read twice for it, and no run goes on behind it.
        let read = if maximum == 3 { 2 } else { 4 };
        let run = json!({"status": status, "error_code": code, "pages": read});
        assert_eq!(
            docs.json("select status, error_code, pages from rosterd.runs")
                .await,
            json!([run, run]),
        );
        let rows = docs.json("select count(*)::int as rows from hr.docs").await;
        assert_eq!(rows, json!([{"rows": ids}]));
    }
}
