//! What `check` says of an `incremental` that cannot be meant.

use rosterd::config::{self, Problems};

fn file(endpoint: &str, resource: &str) -> String {
    format!(
        "
sources:
  hr:
    client: {{base_url: 'https://api.example.com', paginator: single_page}}
    resources:
      - name: changes
        primary_key: id
        write_disposition: merge
        endpoint: {endpoint}
        {resource}
"
    )
}

fn of(incremental: &str) -> String {
    file(&format!("{{path: /c, incremental: {incremental}}}"), "")
}

fn refused(text: &str) -> Problems {
    match config::from_str(text) {
        Ok(_) => panic!("was accepted:\n{text}"),
        Err(problems) => problems,
    }
}

#[test]
fn whatever_dlt_has_loads() {
    for incremental in [
        "{cursor_path: u}",
        "{cursor_path: $.meta.u, initial_value: '2024-01-01', end_value: '2024-02-01', start_param: a, end_param: b}",
        "{cursor_path: u, initial_value: 17, start_param: a, lag: 3, row_order: asc, range_start: open, range_end: open}",
        "{cursor_path: u, start_param: a, last_value_func: min, row_order: desc, on_cursor_value_missing: raise}",
        "{cursor_path: u, start_param: a, primary_key: [], allow_external_schedulers: false}",
        "{cursor_path: u, start_param: a, primary_key: id, on_cursor_value_missing: exclude}",
        "{cursor_path: u, start_param: a, end_param: b}",
    ] {
        let text = of(incremental);
        assert!(config::from_str(&text).is_ok(), "{}", refused(&text));
    }
}

#[test]
fn dlts_parameter_of_type_incremental_is_the_section() {
    let text = file(
        "{path: /c, params: {x: 1, since: {type: incremental, cursor_path: u, initial_value: '2024-01-01'}}}",
        "",
    );
    let config = config::from_str(&text).unwrap();
    let endpoint = &config.sources[0].resources[0].endpoint;
    let incremental = endpoint.incremental.as_ref().unwrap();
    assert_eq!(incremental.start_param.as_deref(), Some("since"));
    assert_eq!(incremental.initial_value.as_deref(), Some("2024-01-01"));
    assert_eq!(endpoint.params.keys().collect::<Vec<_>>(), ["x"]);
    let twice = text.replace("path: /c,", "path: /c, incremental: {cursor_path: u},");
    assert!(refused(&twice).to_string().contains("one cursor"));
    let wrong = text.replace("cursor_path: u", "cursor: u");
    assert!(refused(&wrong).to_string().contains("params.since.cursor"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    for (incremental, expected) in [
        ("{}", "`cursor_path` is missing"),
        ("{cursor_path: u, convert: x}", "a Python function of dlt"),
        ("{cursor_path: u, start_param: ''}", "name of a parameter"),
        (
            "{cursor_path: u, start_param: a, end_param: a}",
            "cannot share",
        ),
        (
            "{cursor_path: u, end_value: '2024-01-01'}",
            "needs `initial_value`",
        ),
        (
            "{cursor_path: u, initial_value: a, end_value: b}",
            "expected a date",
        ),
        (
            "{cursor_path: u, initial_value: '2024-01-01', end_value: '2024-02-01', lag: 1d}",
            "no cursor to lag behind",
        ),
        (
            "{cursor_path: u, initial_value: '2024-01-01', end_value: '2024-02-01', until: now}",
            "says already",
        ),
        ("{cursor_path: u, range_end: closed}", "needs `end_value`"),
        ("{cursor_path: u, until: tomorrow}", "expected now, open"),
        ("{cursor_path: u, until: now+90d}", "set `end_param`"),
        ("{cursor_path: u, window: 30d}", "needs `initial_value`"),
        (
            "{cursor_path: u, window: 30d, initial_value: '2024-01-01'}",
            "set `start_param`",
        ),
        (
            "{cursor_path: u, window: 30d, initial_value: '2024-01-01', start_param: a}",
            "set `end_param`",
        ),
        (
            "{cursor_path: u, window: 30d, initial_value: 17, start_param: a, end_param: b}",
            "windows need a date",
        ),
        (
            "{cursor_path: u, window: 10ms, initial_value: '2024-01-01', start_param: a, end_param: b}",
            "at least 1s",
        ),
        (
            "{cursor_path: u, window: 1d, last_value_func: min, initial_value: '2024-01-01', start_param: a, end_param: b}",
            "windows go forward",
        ),
        (
            "{cursor_path: u, window: 1d, row_order: desc, initial_value: '2024-01-01', start_param: a, end_param: b}",
            "nothing to stop",
        ),
        ("{cursor_path: u, format: sometimes}", "strftime"),
        ("{cursor_path: u, format: iso_duration}", "no place in time"),
        ("{cursor_path: u, format: {write: epoch_s}}", "unknown key"),
        (
            "{cursor_path: u, format: epoch_s, last_value_func: min}",
            "cut down",
        ),
        ("{cursor_path: u, timezone: Mars}", "time zone"),
        ("{cursor_path: u, watermark: newest}", "expected one of"),
        (
            "{watermark: run_start, row_order: asc}",
            "needs `cursor_path`",
        ),
        (
            "{cursor_path: u, watermark: run_start, last_value_func: min}",
            "`watermark: max` only",
        ),
        (
            "{watermark: token, start_param: t, lag: 1h}",
            "means nothing to a token",
        ),
        (
            "{watermark: token, start_param: t, window: 1h}",
            "means nothing to a token",
        ),
        ("{cursor_path: u, row_order: random}", "expected one of"),
        ("{cursor_path: u, last_value_func: sum}", "expected one of"),
        (
            "{cursor_path: u, on_cursor_value_missing: null_it}",
            "expected one of",
        ),
        ("{cursor_path: u, range_start: half}", "expected one of"),
        (
            "{cursor_path: u, allow_external_schedulers: true}",
            "not supported",
        ),
        ("{cursor_path: u, first: all}", "expected a map"),
        (
            "{cursor_path: u, first: {incremental: {}}}",
            "keeps the cursor",
        ),
        ("{cursor_path: u, first: {pth: /x}}", "unknown key"),
        ("{cursor_path: u, first: {path: '//x'}}", "one `/` in front"),
    ] {
        let problems = refused(&of(incremental));
        assert!(
            problems.to_string().contains(expected),
            "{incremental}\n{problems}"
        );
        for problem in problems.iter() {
            assert!(
                problem
                    .path
                    .starts_with("sources.hr.resources[0].endpoint.incremental"),
                "{problem:?}"
            );
        }
    }
}

#[test]
fn an_end_that_no_walk_has_cannot_be_named() {
    for (endpoint, fits) in [
        (
            "{path: /c, params: {to: '{incremental.end_value}'}, incremental: {cursor_path: u}}",
            false,
        ),
        (
            "{path: /c, params: {to: '{incremental.end_value}'}, incremental: {cursor_path: u, until: now}}",
            true,
        ),
        (
            "{path: '/c/{incremental.start_value}/{incremental.end_value}', incremental: {cursor_path: u, initial_value: '2024-01-01', window: 1d}}",
            true,
        ),
    ] {
        assert_eq!(
            config::from_str(&file(endpoint, "")).is_ok(),
            fits,
            "{endpoint}"
        );
    }
}
