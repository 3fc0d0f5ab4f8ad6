//! The configuration as an operator meets it: what loads, what it means, what is said when it is wrong.

use std::{fmt::Write as _, time::Duration};

use rosterd::config::{
    self, Config, Environment, Problems,
    auth::{Auth, Place},
    endpoint::Selector,
    incremental::Lag,
    paginator::{Paginator, Target, Unit},
    source::WriteDisposition,
};
use serde_json::{Value, json};

const CANARY: &str = "c4n4ry-s3cret";

const DEFAULTS: &str = r#"
sources:
  hr:
    client:
      base_url: https://api.example.com
      paginator: header_link
    resource_defaults:
      primary_key: id
      write_disposition: merge
      schedule: every 15m
      endpoint:
        params: {state: all, per_page: 50}
        headers: {X-One: "1"}
        data_selector: data
        paginator: {type: page_number, base_page: 1}
    resources:
      - plain
      - name: own
        primary_key: [employee.id, "on.date"]
        schedule: null
        endpoint:
          path: /own
          params: {state: null, extra: [a, b]}
          headers: {X-Two: "2"}
          data_selector: null
          paginator: null
      - name: short
        endpoint: short/path?x=1
"#;

fn load(text: &str) -> Config {
    config::from_str(text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn refused(text: &str) -> Problems {
    match config::from_str(text) {
        Ok(_) => panic!("was accepted:\n{text}"),
        Err(problems) => problems,
    }
}

/// A source `hr` with the given lines under its `client` and as its resources.
fn source(client: &str, resources: &str) -> String {
    let mut text =
        "sources:\n  hr:\n    client:\n      base_url: https://api.example.com\n".to_owned();
    for line in client.lines() {
        let _ = writeln!(text, "      {line}");
    }
    text.push_str("    resources:\n");
    for line in resources.lines() {
        let _ = writeln!(text, "      {line}");
    }
    // At the end, so that it moves no line of them.
    text.push_str("    resource_defaults: {write_disposition: append}\n");
    text
}

fn example() -> Config {
    let environment = Environment::from_pairs([
        ("HR_API_URL", "http://127.0.0.1:9/"),
        ("HR_API_KEY", CANARY),
    ]);
    let text = include_str!("../../daemon.example.yaml");
    config::from_str_with(text, &environment).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_example_needs_two_variables_and_no_more() {
    let problems = refused(include_str!("../../daemon.example.yaml"));
    let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "environment variable HR_API_URL is not set",
            "environment variable HR_API_KEY is not set",
        ]
    );
    let config = example();
    assert_eq!(config.warnings, []);
    let [hr] = config.sources.as_slice() else {
        panic!("one source")
    };
    let Some(Auth::Key(key)) = &hr.client.auth else {
        panic!("a key")
    };
    assert_eq!(key.place, Place::Query("api_key".into()));
    assert_eq!(key.form.filled(&key.key).expose(), CANARY);
    let names: Vec<&str> = hr.resources.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["employees", "absences", "timesheets"]);
    for resource in &hr.resources {
        assert_eq!(resource.schema, "hr");
        assert_eq!(resource.write_disposition, WriteDisposition::Merge);
        assert_eq!(resource.primary_key.len(), 1);
        assert_eq!(resource.endpoint.data_selector.to_string(), "data");
        assert!(matches!(
            &resource.endpoint.paginator,
            Paginator::Counted(counted) if counted.start == 0 && matches!(&counted.position, Target::Query(offset) if offset == "offset")
        ));
        let incremental = resource.endpoint.incremental.as_ref();
        assert_eq!(incremental.is_some(), resource.name != "employees");
    }
}

#[test]
fn an_empty_file_has_all_the_defaults() {
    let config = load("");
    assert!(config.database.url.is_none());
    assert_eq!(config.database.max_connections, 10);
    assert_eq!(config.database.statement_timeout, Duration::from_secs(60));
    assert_eq!(config.database.lock_timeout, Duration::from_secs(2));
    assert_eq!(config.daemon.lease, Duration::from_secs(60));
    assert_eq!(
        config.daemon.admin.listen.unwrap().to_string(),
        "127.0.0.1:8686"
    );
    assert_eq!(
        config.daemon.retention.unchanged_runs,
        Duration::from_secs(7 * 86_400)
    );
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn a_source_has_the_defaults_of_dlt_and_those_of_the_reference() {
    let config = load(&source("paginator: single_page", "- employees"));
    let hr = &config.sources[0];
    assert_eq!(hr.account, "default");
    assert_eq!(hr.client.max_in_flight, 4);
    assert_eq!(hr.client.max_body, 64 << 20);
    assert_eq!(hr.client.retry.max_retries, 3);
    assert_eq!(hr.client.retry.statuses, [429, 500, 502, 503, 504]);
    assert_eq!(hr.client.timeouts.total, Duration::from_secs(120));
    let employees = &hr.resources[0];
    assert_eq!(employees.endpoint.path, "employees");
    assert_eq!(employees.write_disposition, WriteDisposition::Append);
    assert!(matches!(employees.endpoint.data_selector, Selector::Root));
    assert!(matches!(
        employees.endpoint.paginator,
        Paginator::SinglePage
    ));
    assert_eq!(employees.batch.rows, 10_000);
    assert_eq!(employees.batch.bytes, 2 << 20);
    assert_eq!(employees.max_pages, 100_000);
    assert!(employees.schedule.is_none());
}

#[test]
fn defaults_lie_under_resources_by_the_rules_of_dlt() {
    let config = load(DEFAULTS);
    let [plain, own, short] = config.sources[0].resources.as_slice() else {
        panic!("three resources")
    };
    assert_eq!(
        json!(plain.endpoint.params),
        json!({"state": "all", "per_page": 50})
    );
    assert!(matches!(
        &plain.endpoint.paginator,
        Paginator::Counted(pages) if pages.unit == Unit::Pages && pages.start == 1
    ));
    assert_eq!(plain.schedule.as_ref().unwrap().describe(), "every 15m");
    // `params` merge key by key, a null takes one out; `headers` are replaced whole.
    assert_eq!(
        json!(own.endpoint.params),
        json!({"per_page": 50, "extra": ["a", "b"]})
    );
    assert_eq!(own.endpoint.headers.keys().collect::<Vec<_>>(), ["X-Two"]);
    assert!(matches!(own.endpoint.data_selector, Selector::Root));
    assert!(matches!(own.endpoint.paginator, Paginator::Link(_)));
    assert!(own.schedule.is_none());
    let key: Vec<String> = own.primary_key.iter().map(ToString::to_string).collect();
    assert_eq!(key, ["employee.id", "on.date"]);
    assert_eq!(short.endpoint.path, "short/path?x=1");
    assert_eq!(short.primary_key, plain.primary_key);
}

#[test]
fn scalars_keep_their_text() {
    let config = load(&source(
        "auth: {token: 00123}\nheaders: {X-Version: 1.10, X-Octal: 012, X-Exponent: 1e5, X-Yes: yes, X-Hex: 0x1F}",
        r#"- name: a
  endpoint:
    paginator: single_page
    params: {n: 1.10, o: 012, e: 1e5, t: true, y: yes, i: 7, s: "7", d: 2024-01-01, b: 12345678901234567890123, q: "{{x}}"}
    incremental: {cursor_path: n, initial_value: 1.10, start_param: since}"#,
    ));
    let client = &config.sources[0].client;
    let Some(Auth::Key(token)) = &client.auth else {
        panic!("a map without type is a bearer token")
    };
    assert_eq!(token.form.filled(&token.key).expose(), "Bearer 00123");
    let headers: Vec<&str> = client
        .headers
        .values()
        .map(config::Secret::expose)
        .collect();
    assert_eq!(headers, ["1.10", "012", "1e5", "yes", "0x1F"]);
    let endpoint = &config.sources[0].resources[0].endpoint;
    assert_eq!(
        serde_json::to_string(&endpoint.params).unwrap(),
        r#"{"n":1.10,"o":"012","e":"1e5","t":true,"y":"yes","i":7,"s":"7","d":"2024-01-01","b":12345678901234567890123,"q":"{{x}}"}"#
    );
    let incremental = endpoint.incremental.as_ref().unwrap();
    assert_eq!(incremental.initial_value.as_deref(), Some("1.10"));
}

#[test]
fn a_plain_lag_means_what_it_means_in_dlt() {
    let time = |seconds| Lag::Time(Duration::from_secs(seconds));
    for (initial, lag, expected) in [
        ("\"2024-01-01\"", "3", time(3 * 86_400)),
        ("\"2024-01-01T00:00:00Z\"", "3", time(3)),
        ("\"2024-01-01\"", "3h", time(3 * 3600)),
        ("17", "3", Lag::Plain(3.0)),
        ("null", "3", Lag::Plain(3.0)),
    ] {
        let config = load(&source(
            "paginator: single_page",
            &format!(
                "- name: a\n  endpoint: {{incremental: {{cursor_path: u, start_param: s, initial_value: {initial}, lag: {lag}}}}}"
            ),
        ));
        let incremental = config.sources[0].resources[0].endpoint.incremental.clone();
        assert_eq!(incremental.unwrap().lag, expected, "{initial} {lag}");
    }
}

/// A wrong file, and for each problem its place, path and a part of its message.
type Case<'a> = (&'a str, String, Vec<(&'a str, &'a str, &'a str)>);

#[test]
fn every_problem_is_told_with_its_place_and_all_of_them_at_once() {
    let one = |endpoint: &str| source("", &format!("- name: a\n  endpoint: {endpoint}"));
    let cases: Vec<Case<'_>> = vec![
        (
            "unknown keys and wrong types in several places",
            "database: {max_conections: 3, lock_timeout: soon}\ndaemon:\n  timezone: Mars/Base\n  admn: {}\nsorces: {}\n".into(),
            vec![
                ("1:12", "database.max_conections", "did you mean `max_connections`"),
                ("1:45", "database.lock_timeout", "expected a length of time"),
                ("3:13", "daemon.timezone", "expected a time zone"),
                ("4:3", "daemon.admn", "did you mean `admin`"),
                ("5:1", "sorces", "did you mean `sources`"),
            ],
        ),
        (
            "keys that stand twice, on two levels",
            "daemon: {poll: 1s, poll: 2s}\ndaemon: {}\n".into(),
            vec![
                ("1:20", "daemon.poll", "stands twice"),
                ("2:1", "daemon", "stands twice"),
            ],
        ),
        (
            "not YAML",
            "daemon:\n  a: [1,\n".into(),
            vec![("2:6", "", "not valid YAML")],
        ),
        (
            "two documents",
            "daemon: {}\n---\ndaemon: {}\n".into(),
            vec![("3:1", "", "more than one document")],
        ),
        (
            "a list where a map is wanted",
            "- a\n".into(),
            vec![("1:1", "", "expected a map")],
        ),
        (
            "a wrong default is told once, where it stands",
            "sources:\n  hr:\n    client: {base_url: https://x.example}\n    resource_defaults:\n      max_pages: many\n      endpoint: {paginator: single_page, data_selectr: x}\n      write_disposition: append\n    resources: [a, b]\n".into(),
            vec![
                ("5:18", "sources.hr.resource_defaults.max_pages", "whole number of at least 1"),
                ("6:42", "sources.hr.resource_defaults.endpoint.data_selectr", "did you mean `data_selector`"),
            ],
        ),
        (
            "the paginator's limit is missing",
            one("{paginator: offset}"),
            vec![("7:31", "sources.hr.resources[0].endpoint.paginator", "the key `limit` is missing")],
        ),
        (
            "no paginator",
            source("", "- employees"),
            vec![("6:9", "sources.hr.resources[0].endpoint", "no paginator")],
        ),
        (
            "nothing ends the walk",
            one("{paginator: {type: offset, limit: 1, total_path: null, stop_after_empty_page: false}}"),
            vec![("7:31", "sources.hr.resources[0].endpoint.paginator", "nothing ends this walk")],
        ),
        (
            "query and body at once",
            one("{paginator: {type: cursor, cursor_param: a, cursor_body_path: b}}"),
            vec![("7:81", "sources.hr.resources[0].endpoint.paginator.cursor_body_path", "exclude each other")],
        ),
        (
            "a body place without a body",
            one("{paginator: {type: cursor, cursor_body_path: b}}"),
            vec![("7:31", "sources.hr.resources[0].endpoint.paginator", "needs `method: POST`")],
        ),
        (
            "a paginator that is misspelt",
            one("{paginator: ofset}"),
            vec![("7:31", "sources.hr.resources[0].endpoint.paginator", "did you mean `offset`")],
        ),
        (
            "keys of dlt that have no meaning in a file",
            source(
                "auth: {type: jwt}",
                "- name: a\n  table_format: iceberg\n  columns: {x: {row_key: true}}\n  endpoint: {paginator: single_page, response_actions: [], incremental: {cursor_path: u, convert: x, start_param: s}}",
            ),
            vec![
                ("5:20", "sources.hr.client.auth.type", "`jwt` is a Python class of dlt; the kind is called `oauth2_jwt_bearer` here"),
                ("8:9", "sources.hr.resources[0].table_format", "names a format of data lakes"),
                ("9:23", "sources.hr.resources[0].columns.x.row_key", "marks columns that dlt makes"),
                ("10:96", "sources.hr.resources[0].endpoint.incremental.convert", "is a Python function of dlt"),
            ],
        ),
        (
            "hints for rows of lists that have no tables, and marks that only records have",
            source(
                "paginator: single_page",
                "- name: a\n  write_disposition: append\n  max_table_nesting: 1\n  nested_hints:\n    jobs: {columns: {pay: {unique: true}}, primary_key: id}\n- name: b\n  write_disposition: append\n  nested_hints: {jobs: {columns: {pay: {data_type: decimal}}}}",
            ),
            vec![
                ("11:42", "sources.hr.resources[0].nested_hints.jobs.columns.pay.unique", "rows of lists go with their record's row"),
                ("11:50", "sources.hr.resources[0].nested_hints.jobs.primary_key", "does not go with a list"),
                ("14:23", "sources.hr.resources[1].nested_hints", "set `max_table_nesting` above 0"),
            ],
        ),
        (
            "steps are one program of jq each, which sees its input only",
            source(
                "paginator: single_page",
                "- name: a\n  processing_steps:\n    - {filter: '.a |'}\n    - {map: now}\n    - {map: ., filter: .}\n    - {}\n    - {yield_map: [.a]}\n    - {maps: .}\n    - .a",
            ),
            vec![
                ("9:22", "sources.hr.resources[0].processing_steps[0].filter", "line 1, column 5 of it: expected a term"),
                ("10:19", "sources.hr.resources[0].processing_steps[1].map", "a program sees its input and nothing else"),
                ("13:25", "sources.hr.resources[0].processing_steps[4].yield_map", "expected a program of jq"),
                ("14:14", "sources.hr.resources[0].processing_steps[5].maps", "did you mean `map`"),
                ("15:13", "sources.hr.resources[0].processing_steps[6]", "expected a map of keys"),
            ],
        ),
        (
            "a step has one key",
            source(
                "paginator: single_page",
                "- name: a\n  processing_steps:\n    - {map: ., filter: .}\n    - {}",
            ),
            vec![
                ("9:13", "sources.hr.resources[0].processing_steps[0]", "exactly one of filter, map, yield_map"),
                ("10:13", "sources.hr.resources[0].processing_steps[1]", "exactly one of filter, map, yield_map"),
            ],
        ),
        (
            "placeholders name what is there",
            one("{path: '/e/{resources.x.id}', paginator: single_page, params: {since: '{incremental.start_value}', u: {type: resolve, resource: x}}}"),
            vec![
                ("7:26", "sources.hr.resources[0].endpoint.path", "no resource of the placeholder's name"),
                ("7:89", "sources.hr.resources[0].endpoint.params.since", "needs `endpoint.incremental`"),
                ("7:121", "sources.hr.resources[0].endpoint.params.u", "expected the keys `type`, `resource` and `field`"),
            ],
        ),
        (
            "a parent is one that exists, is one, and is not its own child",
            source(
                "paginator: single_page",
                "- {name: a, endpoint: 'a/{resources.none.id}'}\n- {name: b, endpoint: 'b/{resources.c}'}\n- {name: c, endpoint: 'c/{resources.b.x[*]}'}",
            ),
            vec![
                ("7:29", "sources.hr.resources[0].endpoint", "no resource of the placeholder's name"),
                ("8:29", "sources.hr.resources[1].endpoint", "resources.<parent>.<field>"),
                ("9:29", "sources.hr.resources[2].endpoint", "a path of plain steps"),
            ],
        ),
        (
            "circles and several parents",
            source(
                "paginator: single_page",
                "- {name: a, endpoint: 'a/{resources.b.id}'}\n- {name: b, endpoint: 'b/{resources.a.id}'}\n- {name: c, endpoint: 'c/{resources.c.id}'}\n- d\n- e\n- {name: f, endpoint: 'f/{resources.d.id}/{resources.e.id}'}",
            ),
            vec![
                ("7:29", "sources.hr.resources[0].endpoint", "is its own parent"),
                ("8:29", "sources.hr.resources[1].endpoint", "is its own parent"),
                ("9:29", "sources.hr.resources[2].endpoint", "is its own parent"),
                ("12:29", "sources.hr.resources[5].endpoint", "several parents"),
            ],
        ),
        (
            "what is said of a parent fits the resource",
            source(
                "paginator: single_page",
                "- {name: p, include_from_parent: [x]}\n- {name: q, parent: {batch: 2, merge: true}}\n- name: a\n  endpoint: a/{resources.p.id}\n  include_from_parent: [id, {field: x, name: _p_id}, {name: y}, '']\n  parent: {missing: ignore, gone: [x]}",
            ),
            vec![
                ("11:60", "sources.hr.resources[2].include_from_parent[2]", "the key `field` is missing"),
                ("11:71", "sources.hr.resources[2].include_from_parent[3]", "a path of plain steps"),
                ("12:27", "sources.hr.resources[2].parent.missing", "expected one of skip, fail"),
                ("12:42", "sources.hr.resources[2].parent.gone[0]", "a whole number"),
            ],
        ),
        (
            "and its other keys",
            source(
                "paginator: single_page",
                "- {name: p, include_from_parent: [x]}\n- {name: q, parent: {batch: 2, merge: true}}\n- name: a\n  endpoint: {path: 'a/{resources.p.id}', incremental: {cursor_path: u, start_param: s}}\n  include_from_parent: [id, {field: x, name: _p_id}]\n  parent: {batch: 20000, merge: true, concurrency: 99, gone: [500, 401]}",
            ),
            vec![
                ("7:40", "sources.hr.resources[0].include_from_parent", "names no parent"),
                ("8:35", "sources.hr.resources[1].parent.batch", "names no parent"),
                ("8:45", "sources.hr.resources[1].parent.merge", "names no parent"),
                ("11:31", "sources.hr.resources[2].include_from_parent[0]", "a batch does not tell"),
                ("11:35", "sources.hr.resources[2].include_from_parent[1]", "a batch does not tell"),
                ("11:35", "sources.hr.resources[2].include_from_parent[1]", "a name that no other field has"),
                ("12:25", "sources.hr.resources[2].parent.batch", "at most 10000"),
                ("12:25", "sources.hr.resources[2].parent.batch", "does not go with `incremental`"),
                ("12:39", "sources.hr.resources[2].parent.merge", "a batch does not tell"),
                ("12:58", "sources.hr.resources[2].parent.concurrency", "at most 32"),
                ("12:68", "sources.hr.resources[2].parent.gone", "statuses from 400 to 499"),
            ],
        ),
        (
            "values that stand in the file",
            source(
                "paginator: single_page",
                "- {name: a, values: []}\n- {name: b, values: [1, [2], null]}\n- {name: c, values: [1], endpoint: c}",
            ),
            vec![
                ("7:27", "sources.hr.resources[0].values", "at least one value"),
                ("8:31", "sources.hr.resources[1].values[1]", "expected a map, a text"),
                ("8:36", "sources.hr.resources[1].values[2]", "expected a map, a text"),
                ("9:42", "sources.hr.resources[2].endpoint", "asks for nothing"),
            ],
        ),
        (
            "the older form of a placeholder belongs into the path",
            one("{path: '/e/{x}', paginator: single_page, params: {x: {type: resolve, resource: a}, y: {type: resolve, resource: a, field: id}}}"),
            vec![
                ("7:26", "sources.hr.resources[0].endpoint.path", "a parameter in a path must be"),
                ("7:72", "sources.hr.resources[0].endpoint.params.x", "expected the keys `type`, `resource` and `field`"),
                ("7:105", "sources.hr.resources[0].endpoint.params.y", "the path does not name this parameter"),
            ],
        ),
        (
            "a path cannot leave its place empty, and a brace stands for itself when doubled",
            one("{path: '/e/{incremental.start_value}', paginator: single_page, headers: {X-A: '{vars.none}', X-B: '{{ok}}', X-C: 'a}'}, incremental: {cursor_path: u}}"),
            vec![
                ("7:26", "sources.hr.resources[0].endpoint.path", "set `incremental.initial_value`"),
                ("7:97", "sources.hr.resources[0].endpoint.headers.X-A", "no such variable"),
                ("7:132", "sources.hr.resources[0].endpoint.headers.X-C", "a `}` alone"),
            ],
        ),
        (
            "versions and hashed keys that do not go with the rest",
            source(
                "paginator: single_page",
                "- {name: a, primary_key: id, write_disposition: {disposition: merge, boundary_timestamp: 2024-01-01}}\n- {name: b, primary_key: id, write_disposition: {disposition: merge, strategy: scd2, validity_column_names: [a, A]}}\n- {name: c, primary_key: id, write_disposition: {disposition: merge, strategy: scd2, validity_column_names: [Von, bis], active_record_timestamp: never}}\n- {name: d, primary_key: {hash: []}, write_disposition: merge}\n- {name: e, primary_key: {hash: '*'}, write_disposition: merge, columns: {id: {primary_key: true}}}\n- {name: f, primary_key: {hash: id}, write_disposition: merge, privacy: {exclude: id}}\n- {name: g, write_disposition: {disposition: merge, strategy: scd2, row_version_column_name: h}, privacy: {exclude: h}, columns: {x: {unique: true}}}\n- {name: h, write_disposition: {disposition: merge, strategy: scd2, validity_column_names: [Von, _run_id]}}\n- {name: i, primary_key: id, write_disposition: {disposition: merge, strategy: scd2}, deletes: none}\n- {name: j, primary_key: id, write_disposition: {disposition: merge, strategy: scd2}, deletes: {mode: snapshot, max_fraction: 0.5}}",
            ),
            vec![
                ("", "sources.hr.resources[0].write_disposition.boundary_timestamp", "belongs to `strategy: scd2`"),
                ("", "sources.hr.resources[1].write_disposition.validity_column_names", "two different names"),
                ("", "sources.hr.resources[2].write_disposition.active_record_timestamp", "expected a date or an instant"),
                ("", "sources.hr.resources[3].primary_key.hash", "at least one field"),
                ("", "sources.hr.resources[4].primary_key", "a hash is the whole key"),
                ("", "sources.hr.resources[5].privacy.exclude", "covers a field of the `primary_key`"),
                ("", "sources.hr.resources[6].privacy", "leaves out `h`"),
                ("", "sources.hr.resources[6].columns.x.unique", "several versions"),
                ("", "sources.hr.resources[7].write_disposition.validity_column_names", "names in lower case"),
                ("", "sources.hr.resources[8].deletes", "leave `deletes` out"),
            ],
        ),
        (
            "tables for lists that nothing ties to a row, or that another resource has",
            "sources:\n  hr:\n    client: {base_url: https://x.example, paginator: single_page}\n    max_table_nesting: 2\n    resources: [{name: a, write_disposition: replace}, {name: b, primary_key: 'ids[0]'}]\n".into(),
            vec![
                ("", "sources.hr.resources[0]", "need a `primary_key`"),
                ("", "sources.hr.resources[1].primary_key", "inside a list"),
            ],
        ),
        (
            "a resource with the name of another's lists",
            source("paginator: single_page", "- {name: a, write_disposition: append, max_table_nesting: 1}\n- {name: a__list, write_disposition: append}\n- {name: b__c, write_disposition: append, max_table_nesting: 1}\n- {name: x, table_name: B__C__D, write_disposition: append}\n- {name: B__cd, write_disposition: append}"),
            vec![
                ("", "sources.hr.resources[1]", "a table for lists of hr/a"),
                ("", "sources.hr.resources[3].table_name", "a table for lists of hr/b__c"),
            ],
        ),
        (
            "column hints that cannot be read",
            source(
                "paginator: single_page",
                "- name: a\n  columns:\n    c: {data_type: txt}\n    d: {format: yesterday}\n    e: {timezone: Mars}",
            ),
            vec![
                ("9:26", "sources.hr.resources[0].columns.c.data_type", "did you mean `text`"),
                ("10:23", "sources.hr.resources[0].columns.d.format", "expected epoch_s"),
                ("11:25", "sources.hr.resources[0].columns.e.timezone", "expected true, false"),
            ],
        ),
        (
            "column hints that do not go together",
            source(
                "paginator: single_page",
                "- name: a\n  columns:\n    id: {primary_key: true, format: epoch_s}\n    b: {data_type: bigint, precision: 7}\n    e: {data_type: date, timezone: UTC}\n    f: {scale: 2}\n    a__b: {data_type: text}\n    a.b: {unique: true}\n    h: {data_type: interval}\n    i: {data_type: bool, format: epoch_s}",
            ),
            vec![
                ("", "sources.hr.resources[0].columns.id", "a key has no `format`"),
                ("", "sources.hr.resources[0].columns.b.precision", "expected 8, 16, 32 or 64 bits"),
                ("", "sources.hr.resources[0].columns.e.timezone", "only `data_type: timestamp`"),
                ("", "sources.hr.resources[0].columns.f.scale", "only `data_type: decimal`"),
                ("", "sources.hr.resources[0].columns[\"a.b\"]", "another entry names the same column"),
                ("", "sources.hr.resources[0].columns.h.data_type", "needs `format: iso_duration`"),
                ("", "sources.hr.resources[0].columns.i.format", "does not go with"),
            ],
        ),
        (
            "dispositions whose parts do not go together",
            source(
                "paginator: single_page",
                "- {name: a, primary_key: id, write_disposition: {disposition: merge, deduplicated: true}}\n- {name: b, primary_key: id, write_disposition: {disposition: append, strategy: delete-insert, deduplicated: true}}\n- {name: c, primary_key: id, write_disposition: {disposition: merge, strategy: insert-only}, deletes: snapshot}\n- {name: d, primary_key: id, columns: {n: {dedup_sort: desc}}}\n- {name: e, primary_key: id, write_disposition: merge, columns: {n: {dedup_sort: desc}, m: {dedup_sort: asc}}}",
            ),
            vec![
                ("", "sources.hr.resources[0].write_disposition.deduplicated", "belongs to `strategy: delete-insert`"),
                ("", "sources.hr.resources[1].write_disposition.strategy", "only `merge` has strategies"),
                ("", "sources.hr.resources[2].deletes", "never touches a row"),
                ("", "sources.hr.resources[3].columns.n.dedup_sort", "under `merge` or `replace`"),
                ("", "sources.hr.resources[4].columns.m.dedup_sort", "another column"),
            ],
        ),
        (
            "sets and flags that do not go with the rest",
            source(
                "paginator: single_page",
                "- {name: a, write_disposition: append, merge_key: x}\n- {name: b, primary_key: id, write_disposition: {disposition: merge, strategy: upsert, merge_key: x}, replace_by: y}\n- {name: c, write_disposition: merge, replace_by: x, deletes: {mode: flag, field: gone}, privacy: {exclude: [gone, x]}}\n- {name: d, primary_key: id, write_disposition: merge, deletes: {mode: flag}}\n- {name: e, primary_key: id, write_disposition: merge, deletes: {mode: snapshot, field: x, values: [[1]]}}\n- {name: f, primary_key: id, write_disposition: merge, deletes: snapshot, columns: {x: {hard_delete: true}, y: {hard_delete: true}}}\n- {name: g, primary_key: id, columns: {x: {hard_delete: true}}}\n- {name: h, primary_key: id, write_disposition: merge, deletes: {mode: flag, field: x, when: .x}}\n- {name: i, primary_key: id, write_disposition: merge, deletes: {mode: snapshot, when: .x}}\n- {name: j, primary_key: id, write_disposition: merge, deletes: {mode: flag, when: '.x ==', values: [1]}}\n- {name: k, primary_key: id, write_disposition: merge, deletes: {mode: flag, when: .x, values: [1]}}",
            ),
            vec![
                ("", "sources.hr.resources[0].write_disposition", "replaces whole sets"),
                ("", "sources.hr.resources[1].write_disposition.strategy", "replaces whole sets"),
                ("", "sources.hr.resources[1].replace_by", "given twice"),
                ("", "sources.hr.resources[2].deletes", "when their set is delivered"),
                ("", "sources.hr.resources[2].privacy", "leaves out `gone`"),
                ("", "sources.hr.resources[2].privacy", "leaves out `x`"),
                ("", "sources.hr.resources[3].deletes.mode", "needs a `field`, or a condition"),
                ("", "sources.hr.resources[4].deletes.field", "only `mode: flag` has a field"),
                ("", "sources.hr.resources[4].deletes.values", "only `mode: flag`"),
                ("", "sources.hr.resources[4].deletes.values", "expected texts"),
                ("", "sources.hr.resources[5].columns.x.hard_delete", "in one way"),
                ("", "sources.hr.resources[5].columns.y.hard_delete", "already"),
                ("", "sources.hr.resources[6].columns.x.hard_delete", "under `write_disposition: merge` only"),
                ("", "sources.hr.resources[7].deletes.when", "either a `field`"),
                ("", "sources.hr.resources[8].deletes.when", "only `mode: flag` has a condition"),
                ("", "sources.hr.resources[9].deletes.when", "line 1, column 6"),
                ("", "sources.hr.resources[10].deletes.values", "with a `field`"),
            ],
        ),
        (
            "parts of rows where rows are whole",
            source(
                "paginator: single_page",
                "- {name: a, primary_key: id, partial_records: true}\n- {name: b, primary_key: id, partial_records: true, write_disposition: {disposition: merge, strategy: delete-insert}}\n- {name: c, primary_key: id, partial_records: true, write_disposition: merge, max_table_nesting: 1}\n- {name: d, primary_key: {hash: '*'}, partial_records: true, write_disposition: merge}",
            ),
            vec![
                ("", "sources.hr.resources[0].partial_records", "only `merge`"),
                ("", "sources.hr.resources[1].partial_records", "only `merge`"),
                ("", "sources.hr.resources[2].partial_records", "tables for lists"),
                ("", "sources.hr.resources[3].partial_records", "only `merge`"),
            ],
        ),
        (
            "merge without a key",
            source("paginator: single_page", "- {name: a, write_disposition: merge}"),
            vec![("7:38", "sources.hr.resources[0].write_disposition", "needs a `primary_key`")],
        ),
        (
            "neither a key nor what happens to the rows",
            "sources:\n  hr:\n    client: {base_url: https://x.example, paginator: single_page}\n    resources:\n      - a\n      - {name: b, primary_key: id}\n      - {name: c, primary_key: {hash: '*'}}\n      - {name: d, write_disposition: replace}\n      - {name: e, columns: {id: {primary_key: true}}}\n      - {name: f, selected: false}\n      - {name: g, columns: {id: {}}}\n".into(),
            vec![
                ("5:9", "sources.hr.resources[0]", "name the key"),
                ("11:9", "sources.hr.resources[6]", "name the key"),
            ],
        ),
        (
            "two resources in one table, names twice, a bad name",
            source("paginator: single_page", "- employeeList\n- employee_list\n- x\n- x\n- a/b"),
            vec![
                ("8:9", "sources.hr.resources[1]", "same table as hr/employeeList"),
                ("10:9", "sources.hr.resources[3]", "another resource has this name"),
                ("11:9", "sources.hr.resources[4]", "without `/`"),
            ],
        ),
        (
            "tables and columns that are one only by the rules of names",
            "sources:\n  hr-data:\n    client: {base_url: https://x.example, paginator: single_page}\n    resource_defaults: {write_disposition: append}\n    resources:\n      - HTTPUsers\n      - {name: b, table_name: a+}\n      - {name: c, columns: {homeURL: {}, home_url: {}, 'a.b': {}, A__B: {}, 'rate+': {}, ratex: {}}}\n  hr_data:\n    client: {base_url: https://x.example, paginator: single_page}\n    resource_defaults: {write_disposition: append}\n    resources:\n      - http_users\n      - ax\n      - {name: d, table_name: ax_}\n".into(),
            vec![
                ("", "sources.hr-data.resources[2].columns.home_url", "names the same column"),
                ("", "sources.hr-data.resources[2].columns.A__B", "names the same column"),
                ("", "sources.hr-data.resources[2].columns.ratex", "names the same column"),
                ("", "sources.hr_data.resources[0]", "same table as hr-data/HTTPUsers"),
                ("", "sources.hr_data.resources[1]", "same table as hr-data/b"),
            ],
        ),
        (
            "schedules",
            source(
                "paginator: single_page",
                "- {name: a, schedule: 0 0 30 2 *}\n- {name: b, schedule: every now}\n- {name: c, schedule: 61 * * * *}\n- {name: d, schedule: {every: 1h, timezone: UTC}}\n- {name: e, schedule: {jitter: 5m}}",
            ),
            vec![
                ("7:29", "sources.hr.resources[0].schedule", "never due"),
                ("8:29", "sources.hr.resources[1].schedule", "expected a length of time"),
                ("9:29", "sources.hr.resources[2].schedule", "out of its range"),
                ("10:51", "sources.hr.resources[3].schedule.timezone", "no time zone"),
                ("11:29", "sources.hr.resources[4].schedule", "expected `cron` or `every`"),
            ],
        ),
        (
            "selectors and paths",
            source(
                "paginator: single_page",
                "- {name: a, endpoint: {data_selector: 'a[[', path: 'https://evil.example/x'}}\n- {name: b, endpoint: {path: '//evil.example'}}\n- {name: c, primary_key: 'a[*]'}",
            ),
            vec![
                ("7:45", "sources.hr.resources[0].endpoint.data_selector", "RFC 9535"),
                ("7:58", "sources.hr.resources[0].endpoint.path", "another origin"),
                ("8:36", "sources.hr.resources[1].endpoint.path", "one `/` in front"),
                ("9:32", "sources.hr.resources[2].primary_key", "plain steps"),
            ],
        ),
        (
            "plain http, credentials in the URL, a line break in a key",
            "sources:\n  hr:\n    client:\n      base_url: http://u:p@api.example.com\n      auth: {token: \"a\\nb\"}\n    resources: []\n".into(),
            vec![
                ("4:17", "sources.hr.client.base_url", "expected https"),
                ("4:17", "sources.hr.client.base_url", "credentials do not belong"),
                ("5:21", "sources.hr.client.auth.token", "line break"),
                ("6:16", "sources.hr.resources", "at least one resource"),
            ],
        ),
        (
            "an open admin address without a token",
            "daemon: {admin: {listen: 0.0.0.0:80}}\n".into(),
            vec![("1:26", "daemon.admin.listen", "set `admin.token`")],
        ),
        (
            "references that cannot be filled",
            "database: {url: '${NOT_SET}'}\ndaemon:\n  state_dir: ${file:relative}\n  admin: {token: '${oops'}\n".into(),
            vec![
                ("1:17", "database.url", "environment variable NOT_SET is not set"),
                ("3:14", "daemon.state_dir", "absolute path"),
                ("4:18", "daemon.admin.token", "without its `}`"),
            ],
        ),
        (
            "replace of changes only, two parts of a walk in one parameter",
            source(
                "paginator: {type: offset, limit: 10}",
                "- name: a\n  write_disposition: replace\n  endpoint: {incremental: {cursor_path: u, start_param: offset}}",
            ),
            vec![
                ("8:28", "sources.hr.resources[0].write_disposition", "only the latest changes"),
                ("9:63", "sources.hr.resources[0].endpoint.incremental.start_param", "the paginator sets"),
            ],
        ),
        (
            "names of sources",
            "sources:\n  HR: {client: {base_url: https://x.example, paginator: single_page}, resources: [{name: a, primary_key: id}]}\n  rosterd: {client: {base_url: https://x.example, paginator: single_page}, resources: [{name: a, primary_key: id}]}\n".into(),
            vec![
                ("2:7", "sources.HR", "lower-case letters"),
                ("3:12", "sources.rosterd", "this one is taken"),
            ],
        ),
    ];
    for (what, text, expected) in cases {
        let problems = refused(&text);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), expected.len(), "{what}: {told:#?}");
        for (problem, (place, path, message)) in problems.iter().zip(expected) {
            let line = problem.to_string();
            assert!(
                place.is_empty() || line.starts_with(&format!("rosterd.yaml:{place}: ")),
                "{what}: expected {place} in {line}"
            );
            assert_eq!(problem.path, path, "{what}: {line}");
            assert!(problem.message.contains(message), "{what}: {line}");
        }
    }
}

#[test]
fn no_message_repeats_a_value_of_the_file() {
    // The canary stands at each leaf in turn, where it is mostly of a wrong type.
    let mut paths = Vec::new();
    let full = example().effective;
    leaves(&full, &mut Vec::new(), &mut paths);
    assert!(paths.len() > 50);
    for path in &paths {
        for wrong in [
            json!(CANARY),
            json!([CANARY]),
            json!({ "x": CANARY }),
            json!(format!("${{{CANARY}:")),
            json!(format!("{{{CANARY}")),
        ] {
            let mut value = full.clone();
            *value.pointer_mut(path).unwrap() = wrong;
            if let Err(problems) = config::from_str(&value.to_string()) {
                assert!(
                    !format!("{problems} {problems:?}").contains(CANARY),
                    "{path}"
                );
            }
        }
    }
    let broken = format!("database:\n  url: \"{CANARY}\n  x: *{CANARY}\n");
    assert!(!format!("{:?}", refused(&broken)).contains(CANARY));
    assert!(!format!("{:?}", refused(&format!("a: !{CANARY} {CANARY}"))).contains(CANARY));
}

fn leaves(value: &Value, at: &mut Vec<String>, paths: &mut Vec<String>) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => {
            paths.push(format!("/{}", at.join("/")));
            return;
        }
    };
    for (key, value) in entries {
        at.push(key);
        leaves(value, at, paths);
        at.pop();
    }
}

#[test]
fn secrets_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{CANARY}-file\n")).unwrap();
    let text = format!(
        r#"
database: {{url: "postgres://u:{CANARY}@h/d"}}
daemon: {{admin: {{token: {CANARY}-token}}}}
sources:
  hr:
    client:
      base_url: https://api.example.com
      headers: {{X-Key: {CANARY}-header}}
      auth: {{type: http_basic, username: {CANARY}-user, password: "${{PASSWORD}}"}}
      paginator: single_page
    resources:
      - name: a
        write_disposition: append
        endpoint: {{params: {{key: "${{file:{}}}"}}, headers: {{Y: "${{PASSWORD}}"}}}}
"#,
        file.display()
    );
    let environment = Environment::from_pairs([("PASSWORD", format!("{CANARY}-password"))]);
    let config = config::from_str_with(&text, &environment).unwrap();
    let secrets: Vec<String> = config
        .secrets()
        .iter()
        .map(|secret| secret.expose().to_owned())
        .collect();
    for part in ["", "-token", "-header", "-user", "-password", "-file"] {
        assert!(secrets.contains(&format!("{CANARY}{part}")), "{part}");
    }
    let mut shown = config.to_yaml_masked();
    let _ = write!(shown, "{:?} {}", config.secrets(), config.effective);
    let _ = write!(shown, "{:?} {:?}", config.database, config.daemon);
    let _ = write!(
        shown,
        "{:?} {:?}",
        config.sources[0].client, config.warnings
    );
    let _ = write!(shown, "{environment:?} {config:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    // A rotated key changes neither fingerprint; another parameter changes both.
    std::fs::write(&file, "another-key").unwrap();
    let rotated = config::from_str_with(&text, &environment).unwrap();
    assert_eq!(rotated.fingerprint, config.fingerprint);
    let print = |config: &Config| config.sources[0].resources[0].fingerprint.clone();
    assert_eq!(print(&rotated), print(&config));
    let other = config::from_str_with(&text.replace("name: a", "name: b"), &environment).unwrap();
    assert_ne!(other.fingerprint, config.fingerprint);
    assert_ne!(print(&other), print(&config));
}

#[test]
fn the_effective_configuration_loads_and_means_the_same() {
    let config = example();
    let again = load(&config.to_yaml_masked());
    assert_eq!(again.effective, config.effective);
    assert_eq!(again.fingerprint, config.fingerprint);
    assert_eq!(again.to_yaml_masked(), config.to_yaml_masked());
    for (one, other) in config.sources[0]
        .resources
        .iter()
        .zip(&again.sources[0].resources)
    {
        assert_eq!(one.fingerprint, other.fingerprint);
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let text = source("paginator: single_page", "- a");
    let environment = Environment::from_pairs([
        ("ROSTERD__DAEMON__TIMEZONE", "Europe/Berlin"),
        ("ROSTERD__DATABASE__MAX_CONNECTIONS", "3"),
        ("ROSTERD__DATABASE__URL", "postgres://${x}"),
        ("ROSTERD__SOURCES__HR__CLIENT__AUTH__TOKEN", "00123"),
        ("ROSTERD__DAEMON__POLL", ""),
        ("ROSTERD_CONFIG", "x"),
        ("OTHER", "x"),
    ]);
    let config = config::from_str_with(&text, &environment).unwrap();
    assert_eq!(config.daemon.timezone, chrono_tz::Europe::Berlin);
    assert_eq!(config.database.max_connections, 3);
    assert_eq!(config.database.url.unwrap().expose(), "postgres://${x}");
    let Some(Auth::Key(token)) = &config.sources[0].client.auth else {
        panic!("a token")
    };
    assert_eq!(token.key.expose(), "00123");
}

#[test]
fn a_wrong_override_is_told_by_its_name() {
    let environment = Environment::from_pairs([
        ("ROSTERD__DAEMON__TIMEZONE", CANARY),
        ("ROSTERD__DAEMN__POLL", "1s"),
        ("ROSTERD__SOURCES__HR__RESOURCES__0__NAME", CANARY),
    ]);
    let problems = config::from_str_with(&source("", "- a"), &environment).unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    for start in [
        "ROSTERD__DAEMN__POLL: daemn: unknown key; did you mean `daemon`?",
        "ROSTERD__DAEMON__TIMEZONE: daemon.timezone: expected a time zone",
        "ROSTERD__SOURCES__HR__RESOURCES__0__NAME: sources.hr.resources: expected a list",
    ] {
        assert!(
            told.iter().any(|line| line.starts_with(start)),
            "{start}: {told:#?}"
        );
    }
    assert!(!format!("{problems:?}").contains(CANARY));
}

#[test]
fn a_reference_that_is_overridden_need_not_be_filled() {
    let environment = Environment::from_pairs([("ROSTERD__DATABASE__URL", "postgres://h/d")]);
    let config = config::from_str_with("database: {url: '${NOT_SET}'}", &environment).unwrap();
    assert!(config.database.url.is_some());
    let config = config::from_str("database: {url: '${NOT_SET:-}'}").unwrap();
    assert!(config.database.url.is_none());
}

#[test]
fn bombs_and_floods_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let before = format!("*a{}, ", n - 1).repeat(10);
        let _ = writeln!(bomb, "a{n}: &a{n} [{before}]");
    }
    let deep = format!("a: {}{}", "[".repeat(500), "]".repeat(500));
    let very_deep = format!("a: {}", "[".repeat(500_000));
    let long = format!("a: {}", "x".repeat(1 << 20));
    for text in [bomb, deep, very_deep, long] {
        let problems = refused(&text);
        assert_eq!(problems.len(), 1);
        let problem = problems.iter().next().unwrap();
        assert!(
            problem.message.contains("too deep or too large") || problem.message.contains("1 MiB"),
            "{problem}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_literal_secret_in_a_readable_file_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rosterd.yaml");
    std::fs::write(
        &path,
        source(
            &format!("auth: {{token: {CANARY}}}\npaginator: single_page"),
            "- a",
        ),
    )
    .unwrap();
    for (mode, warnings) in [(0o644, 1), (0o600, 0)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let config = config::load(&path, &Environment::default()).unwrap();
        assert_eq!(config.warnings.len(), warnings);
    }
    let problems = config::load(&folder.path().join("none"), &Environment::default()).unwrap_err();
    assert!(problems.to_string().contains("no such file"));
}

#[test]
fn a_thousand_resources_load() {
    let mut text = "sources:\n".to_owned();
    for s in 0..50 {
        let _ = write!(
            text,
            "  s{s}:\n    client: {{base_url: https://x.example, paginator: {{type: offset, limit: 10}}}}\n    resource_defaults: {{primary_key: id, write_disposition: merge, schedule: '*/15 * * * *'}}\n    resources:\n"
        );
        for r in 0..20 {
            let _ = writeln!(text, "      - {{name: r{r}, endpoint: {{path: /v1/r{r}}}}}");
        }
    }
    let config = load(&text);
    assert_eq!(config.sources.len(), 50);
    // A debug build on a busy machine; a release build needs a tenth.
}

#[test]
fn a_parameter_that_the_walk_sets_is_left_to_the_walk_as_in_dlt() {
    let config = load(&source(
        "paginator: {type: offset, limit: 10}",
        "- name: a\n  endpoint: {params: {limit: 5, since: x, y: 1}, incremental: {cursor_path: u, start_param: since}}",
    ));
    let params = &config.sources[0].resources[0].endpoint.params;
    assert_eq!(json!(params), json!({"y": 1}));
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "rosterd.yaml:8:36: sources.hr.resources[0].endpoint.params.limit: the walk itself sets this parameter; the value here is not sent",
            "rosterd.yaml:8:46: sources.hr.resources[0].endpoint.params.since: the walk itself sets this parameter; the value here is not sent",
        ]
    );
}

#[test]
fn an_incremental_that_nothing_asks_for_is_told() {
    let cases = [
        ("incremental: {cursor_path: u}", 1),
        ("incremental: {cursor_path: u, start_param: since}", 0),
        (
            "params: {filter: 'u gt {incremental.start_value}'}, incremental: {cursor_path: u, initial_value: '2020'}",
            0,
        ),
    ];
    for (endpoint, warnings) in cases {
        let config = load(&source(
            "paginator: {type: offset, limit: 10}",
            &format!("- {{name: a, endpoint: {{{endpoint}}}}}"),
        ));
        assert_eq!(config.warnings.len(), warnings, "{endpoint}");
    }
}

#[test]
fn keys_that_do_nothing_are_taken_for_the_sake_of_dlt() {
    let config = load(
        &source(
            "paginator: single_page",
            "- {name: a, parallelized: true, file_format: parquet, references: [{referenced_table: b, columns: [b_id], referenced_columns: [id]}], \
             columns: {x: {description: d, partition: true, cluster: true, sort: true}}, \
             endpoint: {incremental: {cursor_path: u, start_param: s, primary_key: id, allow_external_schedulers: false}}}",
        )
        .replace("    resources:", "    parallelized: true\n    root_key: true\n    resources:"),
    );
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let wrong = source("paginator: single_page", "- {name: a, parallelized: much}");
    assert!(
        refused(&wrong)
            .to_string()
            .contains("parallelized: expected true or false")
    );
}

/// A file in which every key of the schema stands as null and every section has one unknown key.
/// Of each choice the `pick`th is taken. `sections`: the keys that the schema knows, by path.
fn instance(
    root: &Value,
    schema: &Value,
    pick: usize,
    path: &str,
    sections: &mut Vec<(String, Vec<String>)>,
) -> Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        // A credential may need another one; two of them are enough to see.
        if path.matches(".auth").count() > 2 {
            return Value::Null;
        }
        let target = root.pointer(name.trim_start_matches('#')).unwrap();
        return instance(root, target, pick, path, sections);
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let maps: Vec<&Value> = choices
            .iter()
            .filter(|choice| choice.get("$ref").is_some() || choice.get("properties").is_some())
            .collect();
        return match maps.is_empty() {
            true => Value::Null,
            false => instance(root, maps[pick % maps.len()], pick, path, sections),
        };
    }
    if let Some(items) = schema.get("items") {
        return match instance(root, items, pick, &format!("{path}[0]"), sections) {
            Value::Null => Value::Null,
            item => json!([item]),
        };
    }
    if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        return match instance(root, values, pick, &format!("{path}.x"), sections) {
            Value::Null => Value::Null,
            value => json!({ "x": value }),
        };
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Value::Null;
    };
    let mut map = serde_json::Map::new();
    let mut keys = Vec::new();
    for (key, property) in properties {
        let path = format!("{path}.{key}");
        match property.pointer("/enum/0") {
            Some(word) if key == "type" => {
                map.insert(key.clone(), word.clone());
            }
            _ => {
                map.insert(key.clone(), instance(root, property, pick, &path, sections));
                keys.push(key.clone());
            }
        }
    }
    map.insert("zzzzzzzzz".into(), json!(1));
    sections.push((path.trim_start_matches('.').to_owned(), keys));
    Value::Object(map)
}

#[test]
fn the_schema_and_the_loader_know_the_same_keys() {
    let schema = config::schema();
    let mut count = 0;
    for pick in 0..8 {
        let mut sections = Vec::new();
        let file = instance(&schema, &schema, pick, "", &mut sections);
        let problems = refused(&file.to_string());
        for problem in &problems {
            let unknown =
                problem.message.contains("unknown key") && !problem.path.ends_with("zzzzzzzzz");
            assert!(
                !unknown && !problem.message.contains("not supported"),
                "{problem}"
            );
        }
        for (path, keys) in sections {
            let unknown = match path.as_str() {
                "" => "zzzzzzzzz".to_owned(),
                path => format!("{path}.zzzzzzzzz"),
            };
            let problem = problems
                .iter()
                .find(|problem| problem.path == unknown)
                .unwrap_or_else(|| panic!("{unknown} was not looked at: {file:#}"));
            let known = match keys.is_empty() {
                true => "none is known here".to_owned(),
                false => format!("known here: {}", keys.join(", ")),
            };
            assert_eq!(problem.message, format!("unknown key; {known}"), "{path}");
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

/// Whether the value fits the schema, as far as the schema's words go that rosterd uses.
fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let list = |key: &str| schema.get(key).and_then(Value::as_array);
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        return fits(
            root,
            root.pointer(target.trim_start_matches('#')).unwrap(),
            value,
        );
    }
    if let Some(choices) = list("anyOf") {
        return choices.iter().any(|choice| fits(root, choice, value));
    }
    if let Some(words) = list("enum") {
        return words.contains(value);
    }
    let kinds = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.clone(),
        Some(kind) => vec![kind.clone()],
        None => return true,
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds
        .iter()
        .any(|k| k == kind || (k == "number" && kind == "integer"))
    {
        return false;
    }
    match value {
        Value::Array(items) => items.iter().all(|item| {
            schema
                .get("items")
                .is_none_or(|schema| fits(root, schema, item))
        }),
        Value::Object(map) => {
            let required = list("required").cloned().unwrap_or_default();
            required
                .iter()
                .all(|key| map.contains_key(key.as_str().unwrap()))
                && map.iter().all(|(key, value)| {
                    let own = schema.get("properties").and_then(|own| own.get(key));
                    match own.or(schema.get("additionalProperties")) {
                        Some(Value::Bool(allowed)) => *allowed,
                        Some(schema) => fits(root, schema, value),
                        None => true,
                    }
                })
        }
        _ => true,
    }
}

#[test]
fn files_that_load_fit_the_schema() {
    let schema = config::schema();
    let shipped = include_str!("../../daemon.example.yaml");
    let short = source(
        "auth: {token: x}\npaginator: single_page",
        "- a\n- {name: b, endpoint: /b, schedule: null, write_disposition: {disposition: append}}",
    );
    for text in [shipped, DEFAULTS, &short] {
        let value: Value = serde_saphyr::from_str(text).unwrap();
        assert!(fits(&schema, &schema, &value), "{text}");
    }
    let value = example().effective;
    assert!(fits(&schema, &schema, &value), "{value:#}");
    for wrong in [
        "daemon: {pol: 1s}",
        "sources: {a: {client: {}}}",
        "daemon: {admin: []}",
    ] {
        let value: Value = serde_saphyr::from_str(wrong).unwrap();
        assert!(!fits(&schema, &schema, &value), "{wrong}");
    }
}

#[test]
fn every_key_has_a_meaning_and_stands_in_the_reference() {
    let reference = config::reference();
    let schema = config::schema();
    let definitions = schema["$defs"].as_object().unwrap();
    let mut objects: Vec<&Value> = vec![&schema];
    for definition in definitions.values() {
        objects.push(definition);
        objects.extend(definition["anyOf"].as_array().into_iter().flatten());
    }
    let mut count = 0;
    for object in objects {
        for (key, property) in object["properties"].as_object().into_iter().flatten() {
            if key == "type" {
                continue;
            }
            count += 1;
            assert!(
                property["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 5),
                "{key}"
            );
            let cell = [format!(".{key}` |"), format!("`{key}` |")];
            assert!(cell.iter().any(|cell| reference.contains(cell)), "{key}");
        }
    }
    assert!(count > 90, "{count}");
    for line in [
        "| `daemon.admin.listen` | address:port | `127.0.0.1:8686` |",
        "| `sources.<name>.client.retry.statuses` | list of: integer | `[429,500,502,503,504]` |",
        "| `sources.<name>.client.base_url` | url | required |",
        "| `sources.<name>.client.paginator(offset).limit` | integer | required |",
    ] {
        assert!(reference.contains(line), "{line}\n{reference}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Whatever is done to the example, it loads or is refused with places; it never crashes and never tells the key.
    #[test]
    fn a_mangled_file_is_loaded_or_refused(
        cuts in proptest::collection::vec((0..3000_usize, 0..40_usize, 0..16_usize), 1..6)
    ) {
        const PIECES: [&str; 16] = [
            "", " ", "\n", "  ", ": ", "- ", "{", "}", "[", "${", "\"", "null", "&a ", "*a", "<<: ", "\u{0}é",
        ];
        let mut text: Vec<char> = include_str!("../../daemon.example.yaml").chars().collect();
        for (at, length, piece) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, PIECES[piece].chars());
        }
        let text: String = text.into_iter().collect();
        let environment = Environment::from_pairs([("HR_API_URL", "https://x.example"), ("HR_API_KEY", CANARY)]);
        match config::from_str_with(&text, &environment) {
            Ok(config) => {
                proptest::prop_assert!(!config.to_yaml_masked().contains(CANARY));
                let again = config::from_str(&config.to_yaml_masked());
                proptest::prop_assert!(again.is_ok(), "{}\n{:?}", config.to_yaml_masked(), again.err());
            }
            Err(problems) => {
                proptest::prop_assert!(!problems.is_empty());
                let told = format!("{problems} {problems:?}");
                proptest::prop_assert!(!told.contains(CANARY));
            }
        }
    }
}

/// The reference in the README is made of the types; this says how to bring it up to date.
#[test]
fn the_readme_has_the_reference_as_it_is() {
    const BEGIN: &str = "<!-- reference: made of the types -->\n";
    const END: &str = "<!-- end of the reference -->";
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let current = format!("{before}{BEGIN}\n{}\n{END}{after}", config::reference());
    if readme != current {
        std::fs::write(root.join("target/README.md"), current).unwrap();
        panic!("the keys changed: cp target/README.md README.md");
    }
}
