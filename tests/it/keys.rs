//! Every key that says what becomes of rows, once without it and once with it, over the same answers: the
//! table that comes of it must be another one. A key that did nothing would fail here, and so would one
//! that the reference names and nobody wrote a row for.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rosterd::sync::Start;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    capabilities::known_tests,
    support::{
        documents::Documents,
        site::{Reply, Site},
        sync::Bench,
    },
};

/// Keys under this path are those of the resource, unless they begin with `source.`.
const RESOURCE: &str = "sources.<name>.resources[].";

/// One key, or several that only go together.
struct Key {
    keys: &'static [&'static str],
    /// Keys of the resource without it and with it.
    configs: [String; 2],
    /// Answers, one for each run.
    pages: Vec<String>,
    query: &'static str,
    /// What the query gives without it and with it.
    expected: [Value; 2],
}

const MERGE: &str = "primary_key: id\nwrite_disposition: merge\n";
const SCD2: &str = "{disposition: merge, strategy: scd2";

fn key(
    keys: &'static [&'static str],
    configs: [&str; 2],
    pages: &[&str],
    query: &'static str,
    expected: [Value; 2],
) -> Key {
    Key {
        keys,
        configs: configs.map(str::to_owned),
        pages: pages.iter().map(|page| (*page).to_owned()).collect(),
        query,
        expected,
    }
}

/// A key beside a merge by `id`.
fn merged(
    keys: &'static [&'static str],
    with: &str,
    pages: &[&str],
    query: &'static str,
    expected: [Value; 2],
) -> Key {
    key(
        keys,
        [MERGE, &format!("{MERGE}{with}\n")],
        pages,
        query,
        expected,
    )
}

/// A hint for the column `v` of a merged table, whose values the query shows as texts.
fn hinted(
    keys: &'static [&'static str],
    hints: [&str; 2],
    values: &[&str],
    expected: [Value; 2],
) -> Key {
    let config = |hint: &str| match hint {
        "" => MERGE.to_owned(),
        hint => format!("{MERGE}columns: {{v: {{{hint}}}}}\n"),
    };
    let records: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(id, value)| format!("{{\"id\": {id}, \"v\": {value}}}"))
        .collect();
    key(
        keys,
        hints.map(config).each_ref().map(String::as_str),
        &[&format!("[{}]", records.join(","))],
        "select coalesce(json_agg(v::text order by id), '[]') as v, min(pg_typeof(v)::text) as t from hr.docs",
        expected,
    )
}

fn values(values: Value, kind: &str) -> Value {
    json!([{"v": values, "t": kind}])
}

/// So many records from `from` on.
fn records(from: i64, to: i64) -> String {
    let records: Vec<Value> = (from..=to).map(|id| json!({"id": id})).collect();
    json!(records).to_string()
}

const ROWS: &str = "select id, v from hr.docs order by id, v";
const LIVE: &str = "select count(*) as rows, count(*) filter (where to_jsonb(d) ->> '_deleted_at' is null) as live from hr.docs d";
const COLUMNS: &str = "select json_agg(attname order by attname) as c from pg_attribute where attrelid = 'hr.docs'::regclass and attnum > 0 and attname !~ '^_(run_id|synced_at|row_hash)$'";
const LAST: &str = "select status, rows_rejected as rejected, rows_discarded + values_discarded as discarded from rosterd.runs order by run_id desc limit 1";

fn dispositions() -> Vec<Key> {
    let twice = r#"[{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]"#;
    let versions = &[
        r#"[{"id": 1, "v": "a", "h": 1}]"#,
        r#"[{"id": 1, "v": "b", "h": 1}]"#,
    ];
    let scd2 = |more: &str| format!("primary_key: id\nwrite_disposition: {SCD2}{more}}}\n");
    let sets = &[
        r#"[{"id": 1, "v": "x"}, {"id": 2, "v": "x"}]"#,
        r#"[{"id": 1, "v": "x"}]"#,
    ];
    let one = json!([{"id": 1, "v": "x"}]);
    let two = json!([{"id": 1, "v": "x"}, {"id": 2, "v": "x"}]);
    let versioned =
        |keys: &'static [&'static str], more: &str, query: &'static str, expected: [Value; 2]| {
            key(keys, [&scd2(""), &scd2(more)], versions, query, expected)
        };
    vec![
        key(
            &[
                "primary_key",
                "write_disposition",
                "write_disposition.disposition",
            ],
            ["write_disposition: append", MERGE],
            &[twice],
            ROWS,
            [
                json!([{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]),
                json!([{"id": 1, "v": "b"}]),
            ],
        ),
        key(
            &["primary_key.hash"],
            [MERGE, "primary_key: {hash: [v]}\nwrite_disposition: merge"],
            &[twice],
            ROWS,
            [
                json!([{"id": 1, "v": "b"}]),
                json!([{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]),
            ],
        ),
        key(
            &["write_disposition.strategy"],
            [
                MERGE,
                "primary_key: id\nwrite_disposition: {disposition: merge, strategy: insert-only}",
            ],
            versions,
            ROWS,
            [json!([{"id": 1, "v": "b"}]), json!([{"id": 1, "v": "a"}])],
        ),
        // dlt's word, for which nothing is to be trusted: the source may repeat a key all the same.
        key(
            &["write_disposition.deduplicated"],
            [
                "primary_key: id\nwrite_disposition: {disposition: merge, strategy: delete-insert}",
                "primary_key: id\nwrite_disposition: {disposition: merge, strategy: delete-insert, deduplicated: true}",
            ],
            &[twice],
            ROWS,
            [json!([{"id": 1, "v": "b"}]), json!([{"id": 1, "v": "b"}])],
        ),
        key(
            &["write_disposition.merge_key"],
            [
                MERGE,
                "primary_key: id\nwrite_disposition: {disposition: merge, strategy: delete-insert, merge_key: v}",
            ],
            sets,
            ROWS,
            [two.clone(), one.clone()],
        ),
        merged(
            &["merge_key"],
            "merge_key: v",
            sets,
            ROWS,
            [two.clone(), one.clone()],
        ),
        merged(
            &["replace_by"],
            "replace_by: [v]",
            sets,
            ROWS,
            [two.clone(), one.clone()],
        ),
        merged(
            &["columns.<name>.merge_key"],
            "columns: {v: {merge_key: true}}",
            sets,
            ROWS,
            [two, one],
        ),
        key(
            &["columns.<name>.primary_key"],
            [
                "write_disposition: append",
                "write_disposition: merge\ncolumns: {id: {primary_key: true}}",
            ],
            &[twice],
            ROWS,
            [
                json!([{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]),
                json!([{"id": 1, "v": "b"}]),
            ],
        ),
        versioned(
            &["write_disposition.validity_column_names"],
            ", validity_column_names: [since, until]",
            COLUMNS,
            [
                json!([{"c": ["_valid_from", "_valid_to", "h", "id", "v"]}]),
                json!([{"c": ["h", "id", "since", "until", "v"]}]),
            ],
        ),
        versioned(
            &["write_disposition.active_record_timestamp"],
            ", active_record_timestamp: 9999-12-31",
            "select count(*) filter (where _valid_to is null) as open, count(*) filter (where _valid_to = '9999-12-31Z') as far from hr.docs",
            [
                json!([{"open": 1, "far": 0}]),
                json!([{"open": 0, "far": 1}]),
            ],
        ),
        versioned(
            &["write_disposition.boundary_timestamp"],
            ", boundary_timestamp: 2020-01-01",
            "select bool_and(_valid_from = '2020-01-01Z') as then from hr.docs",
            [json!([{"then": false}]), json!([{"then": true}])],
        ),
        versioned(
            &["write_disposition.row_version_column_name"],
            ", row_version_column_name: h",
            "select count(*) as n from hr.docs",
            [json!([{"n": 2}]), json!([{"n": 1}])],
        ),
        merged(
            &["partial_records"],
            "partial_records: true",
            &[r#"[{"id": 1, "v": "a", "w": 1}]"#, r#"[{"id": 1, "w": 2}]"#],
            "select v, w from hr.docs",
            [json!([{"v": null, "w": 2}]), json!([{"v": "a", "w": 2}])],
        ),
        key(
            &["allow_empty"],
            [
                "write_disposition: replace",
                "write_disposition: replace\nallow_empty: true",
            ],
            &[r#"[{"id": 1}]"#, "[]"],
            "select (select count(*) from hr.docs) as n, error_code as e from rosterd.runs order by run_id desc limit 1",
            [
                json!([{"n": 1, "e": "empty_walk"}]),
                json!([{"n": 0, "e": null}]),
            ],
        ),
        merged(
            &["table_name"],
            "table_name: people",
            &["[{\"id\": 1}]"],
            "select relname as t from pg_class where relnamespace = 'hr'::regnamespace and relkind = 'r'",
            [json!([{"t": "docs"}]), json!([{"t": "people"}])],
        ),
        merged(
            &["max_table_nesting"],
            "max_table_nesting: 1",
            &[r#"[{"id": 1, "v": ["a"]}]"#],
            "select relname as t from pg_class where relnamespace = 'hr'::regnamespace and relkind = 'r' order by 1",
            [
                json!([{"t": "docs"}]),
                json!([{"t": "docs"}, {"t": "docs__v"}]),
            ],
        ),
        key(
            &["nested_hints", "nested_hints.<name>.columns"],
            [
                &format!("{MERGE}max_table_nesting: 1\n"),
                &format!(
                    "{MERGE}max_table_nesting: 1\nnested_hints: {{v: {{columns: {{a: {{data_type: text}}}}}}}}\n"
                ),
            ],
            &[r#"[{"id": 1, "v": [{"a": 1}]}]"#],
            "select a from hr.docs__v",
            [json!([{"a": 1}]), json!([{"a": "1"}])],
        ),
        key(
            &["source.max_table_nesting"],
            [MERGE, &format!("max_table_nesting: 1\n---\n{MERGE}")],
            &[r#"[{"id": 1, "v": ["a"]}]"#],
            "select count(*) as n from pg_class where relnamespace = 'hr'::regnamespace and relkind = 'r'",
            [json!([{"n": 1}]), json!([{"n": 2}])],
        ),
    ]
}

fn deletes() -> Vec<Key> {
    let snapshot = format!("{MERGE}deletes: snapshot\n");
    let limited = |more: &str| format!("{MERGE}deletes: {{mode: snapshot, {more}}}\n");
    let some_go = [records(1, 30), records(1, 18)];
    let some_go = [some_go[0].as_str(), some_go[1].as_str()];
    let state = |rows: i64, live: i64| json!([{"rows": rows, "live": live}]);
    let flagged = &[
        r#"[{"id": 1, "v": "here"}, {"id": 2, "v": "here"}]"#,
        r#"[{"id": 1, "v": "left"}, {"id": 2, "v": "away"}]"#,
    ];
    let flag = |more: &str| format!("{MERGE}deletes: {{mode: flag, field: v{more}}}\n");
    let own = format!("{MERGE}endpoint: {{path: docs, data_selector: data}}\n");
    let feed = |key: &str| {
        format!(
            "{own}deletes: {{mode: feed, {key}endpoint: {{path: docs, data_selector: gone}}}}\n"
        )
    };
    let listed = &[
        r#"{"data": [{"id": 1}, {"id": 2}, {"id": 3}], "gone": []}"#,
        r#"{"data": [], "gone": [{"id": 1, "who": 2}]}"#,
    ];
    let left = "select json_agg(id order by id) as ids from hr.docs d where to_jsonb(d) ->> '_deleted_at' is null";
    vec![
        key(
            &["deletes", "deletes.mode"],
            [MERGE, &snapshot],
            &["[{\"id\": 1}, {\"id\": 2}]", "[{\"id\": 1}]"],
            LIVE,
            [state(2, 2), state(2, 1)],
        ),
        key(
            &["deletes.hard"],
            [&snapshot, &limited("hard: true")],
            &["[{\"id\": 1}, {\"id\": 2}]", "[{\"id\": 1}]"],
            LIVE,
            [state(2, 1), state(1, 1)],
        ),
        key(
            &["deletes.max_fraction"],
            [&snapshot, &limited("max_fraction: 0.5")],
            &some_go,
            LIVE,
            [state(30, 30), state(30, 18)],
        ),
        key(
            &["deletes.floor"],
            [&snapshot, &limited("floor: 12")],
            &some_go,
            LIVE,
            [state(30, 30), state(30, 18)],
        ),
        key(
            &["deletes.field"],
            [MERGE, &flag("").replace("field: v", "field: w")],
            &[r#"[{"id": 1}]"#, r#"[{"id": 1, "w": true}]"#],
            LIVE,
            [state(1, 1), state(1, 0)],
        ),
        key(
            &["deletes.when"],
            [
                MERGE,
                &format!("{MERGE}deletes: {{mode: flag, when: '.v == \"left\"'}}\n"),
            ],
            flagged,
            LIVE,
            [state(2, 2), state(2, 1)],
        ),
        key(
            &["deletes.values"],
            [&flag(""), &flag(", values: [left]")],
            &[flagged[1], flagged[0], flagged[1]],
            LIVE,
            [state(0, 0), state(2, 1)],
        ),
        key(
            &["deletes.endpoint"],
            [&own, &feed("")],
            listed,
            left,
            [json!([{"ids": [1, 2, 3]}]), json!([{"ids": [2, 3]}])],
        ),
        key(
            &["deletes.key"],
            [&feed(""), &feed("key: who, ")],
            listed,
            left,
            [json!([{"ids": [2, 3]}]), json!([{"ids": [1, 3]}])],
        ),
        key(
            &["deletes.processing_steps"],
            [&feed(""), &feed("processing_steps: [{filter: .gone}], ")],
            &[
                listed[0],
                r#"{"data": [], "gone": [{"id": 1, "gone": true}, {"id": 2}]}"#,
            ],
            left,
            [json!([{"ids": [3]}]), json!([{"ids": [2, 3]}])],
        ),
        key(
            &["deletes.max_records"],
            [&feed(""), &feed("max_records: 1, ")],
            &[listed[0], r#"{"data": [], "gone": [{"id": 1}, {"id": 2}]}"#],
            left,
            [json!([{"ids": [3]}]), json!([{"ids": [1, 2, 3]}])],
        ),
    ]
}

fn shapes() -> Vec<Key> {
    let last = |status: &str, rejected: i64, discarded: i64| json!([{"status": status, "rejected": rejected, "discarded": discarded}]);
    let bad = r#"[{"id": 1}, {"id": null, "v": "kept"}]"#;
    let later = &[
        r#"[{"id": 1, "v": 1}]"#,
        r#"[{"id": 1, "v": "x", "new": 1, "l": [1]}]"#,
    ];
    let nested = format!("{MERGE}max_table_nesting: 1\n");
    let contract = |contract: &str| format!("{nested}schema_contract: {contract}\n");
    let evolved = last("succeeded", 0, 0);
    vec![
        merged(
            &["rejects", "rejects.tolerate"],
            "rejects: {tolerate: 1}",
            &[bad],
            LAST,
            [last("partial", 1, 0), last("succeeded", 1, 0)],
        ),
        merged(
            &["rejects.store"],
            "rejects: {store: record}",
            &[bad],
            "select record from rosterd.rejects",
            [
                json!([{"record": null}]),
                json!([{"record": {"id": null, "v": "kept"}}]),
            ],
        ),
        key(
            &["schema_contract"],
            [&nested, &contract("freeze")],
            later,
            LAST,
            [evolved.clone(), last("failed", 0, 0)],
        ),
        key(
            &["source.schema_contract"],
            [&nested, &format!("schema_contract: freeze\n---\n{nested}")],
            later,
            LAST,
            [evolved.clone(), last("failed", 0, 0)],
        ),
        key(
            &["source.schema_contract.tables"],
            [&nested, &contract("{tables: discard_value}")],
            later,
            LAST,
            [evolved.clone(), last("succeeded", 0, 1)],
        ),
        key(
            &["source.schema_contract.columns"],
            [&nested, &contract("{columns: discard_value}")],
            later,
            LAST,
            [evolved.clone(), last("succeeded", 0, 1)],
        ),
        key(
            &["source.schema_contract.data_type"],
            [&nested, &contract("{data_type: discard_value}")],
            later,
            LAST,
            [evolved, last("succeeded", 0, 1)],
        ),
        hinted(
            &["columns", "columns.<name>.data_type"],
            ["", "data_type: text"],
            &["7"],
            [values(json!(["7"]), "bigint"), values(json!(["7"]), "text")],
        ),
        hinted(
            &["columns.<name>.precision"],
            ["data_type: text", "data_type: text, precision: 2"],
            &["\"abc\"", "\"ab\""],
            [
                values(json!(["abc", "ab"]), "text"),
                values(json!(["ab"]), "character varying"),
            ],
        ),
        hinted(
            &["columns.<name>.scale"],
            [
                "data_type: decimal, precision: 9",
                "data_type: decimal, precision: 9, scale: 2",
            ],
            &["1", "1.5"],
            [
                values(json!(["1"]), "numeric"),
                values(json!(["1.00", "1.50"]), "numeric"),
            ],
        ),
        hinted(
            &["columns.<name>.timezone"],
            [
                "data_type: timestamp",
                "data_type: timestamp, timezone: Europe/Berlin",
            ],
            &["\"2024-07-01T12:00:00\""],
            [
                values(
                    json!(["2024-07-01 12:00:00+00"]),
                    "timestamp with time zone",
                ),
                values(
                    json!(["2024-07-01 10:00:00+00"]),
                    "timestamp with time zone",
                ),
            ],
        ),
        hinted(
            &["columns.<name>.nullable"],
            ["data_type: text", "data_type: text, nullable: false"],
            &["\"a\"", "null"],
            [
                values(json!(["a", null]), "text"),
                values(json!(["a"]), "text"),
            ],
        ),
        hinted(
            &["columns.<name>.unique"],
            ["data_type: text", "data_type: text, unique: true"],
            &["\"a\"", "\"a\""],
            [
                values(json!(["a", "a"]), "text"),
                values(json!(["a"]), "text"),
            ],
        ),
        merged(
            &["columns.<name>.dedup_sort"],
            "columns: {v: {dedup_sort: desc}}",
            &[r#"[{"id": 1, "v": 9}, {"id": 1, "v": 3}]"#],
            ROWS,
            [json!([{"id": 1, "v": 3}]), json!([{"id": 1, "v": 9}])],
        ),
        merged(
            &["columns.<name>.hard_delete"],
            "columns: {v: {hard_delete: true}}",
            &[r#"[{"id": 1, "v": false}]"#, r#"[{"id": 1, "v": true}]"#],
            LIVE,
            [
                json!([{"rows": 1, "live": 1}]),
                json!([{"rows": 0, "live": 0}]),
            ],
        ),
        hinted(
            &["columns.<name>.format"],
            ["", "format: '%d.%m.%Y'"],
            &["\"29.02.2024\""],
            [
                values(json!(["29.02.2024"]), "text"),
                values(json!(["2024-02-29"]), "date"),
            ],
        ),
        hinted(
            &["columns.<name>.null_values"],
            ["data_type: text", "data_type: text, null_values: ['-']"],
            &["\"-\"", "\"a\""],
            [
                values(json!(["-", "a"]), "text"),
                values(json!([null, "a"]), "text"),
            ],
        ),
        merged(
            &["null_values"],
            "null_values: ['-']",
            &[r#"[{"id": 1, "v": "-"}, {"id": 2, "v": "a"}]"#],
            ROWS,
            [
                json!([{"id": 1, "v": "-"}, {"id": 2, "v": "a"}]),
                json!([{"id": 1, "v": null}, {"id": 2, "v": "a"}]),
            ],
        ),
        merged(
            &["detect", "detect.timestamps"],
            "detect: {timestamps: false}",
            &[r#"[{"id": 1, "t": "2024-05-01T10:00:00Z", "d": "2024-05-01"}]"#],
            "select pg_typeof(t)::text as t, pg_typeof(d)::text as d from hr.docs",
            [
                json!([{"t": "timestamp with time zone", "d": "date"}]),
                json!([{"t": "text", "d": "date"}]),
            ],
        ),
        merged(
            &["detect.dates"],
            "detect: {dates: false}",
            &[r#"[{"id": 1, "t": "2024-05-01T10:00:00Z", "d": "2024-05-01"}]"#],
            "select pg_typeof(t)::text as t, pg_typeof(d)::text as d from hr.docs",
            [
                json!([{"t": "timestamp with time zone", "d": "date"}]),
                json!([{"t": "timestamp with time zone", "d": "text"}]),
            ],
        ),
        merged(
            &["text", "text.nul"],
            "text: {nul: strip}",
            &[r#"[{"id": 1, "v": "a\u0000b"}]"#],
            ROWS,
            [
                json!([{"id": 1, "v": "a\u{fffd}b"}]),
                json!([{"id": 1, "v": "ab"}]),
            ],
        ),
    ]
}

fn privacy() -> Vec<Key> {
    let person = r#"[{"id": 1, "mail": " A@x.org", "born": "1987-03-05"}]"#;
    let row = "select to_jsonb(d) - '{_run_id,_synced_at,_row_hash}'::text[] as r from hr.docs d";
    let mail = "select left(mail, 3) as scheme, length(mail) as n from hr.docs";
    let whole = json!([{"r": {"id": 1, "mail": " A@x.org", "born": "1987-03-05"}}]);
    let born = json!([{"r": {"id": 1, "born": "1987-03-05"}}]);
    let plain = json!([{"scheme": " A@", "n": 8}]);
    let hashed = json!([{"scheme": "k1:", "n": 67}]);
    let join = "select count(distinct mail) as n from hr.docs";
    let same = r#"[{"id": 1, "mail": " A@x.org"}, {"id": 2, "mail": "a@x.org"}]"#;
    let new = &[r#"[{"id": 1}]"#, r#"[{"id": 1, "v": 1}]"#];
    let ages = r#"[{"id": 1, "left": "2020-01-01", "came": "2999-01-01"}, {"id": 2, "left": "2999-01-01", "came": "2020-01-01"}]"#;
    let ids = "select json_agg(id order by id) as ids from hr.docs";
    vec![
        key(
            &["source.privacy"],
            [MERGE, &format!("privacy: {{exclude: mail}}\n---\n{MERGE}")],
            &[person],
            row,
            [whole.clone(), born.clone()],
        ),
        merged(
            &["privacy", "source.privacy.exclude"],
            "privacy: {exclude: mail}",
            &[person],
            row,
            [whole.clone(), born.clone()],
        ),
        merged(
            &["source.privacy.only"],
            "privacy: {only: [id, born]}",
            &[person],
            row,
            [whole.clone(), born],
        ),
        merged(
            &["source.privacy.hash"],
            "privacy: {hash: mail}",
            &[person],
            mail,
            [plain.clone(), hashed.clone()],
        ),
        merged(
            &["source.privacy.hash.path"],
            "privacy: {hash: [{path: mail}]}",
            &[person],
            mail,
            [plain, hashed],
        ),
        key(
            &["source.privacy.hash.fold"],
            [
                &format!("{MERGE}privacy: {{hash: [{{path: mail}}]}}\n"),
                &format!("{MERGE}privacy: {{hash: [{{path: mail, fold: true}}]}}\n"),
            ],
            &[same],
            join,
            [json!([{"n": 2}]), json!([{"n": 1}])],
        ),
        merged(
            &["source.privacy.keep"],
            "privacy: {keep: {born: year}}",
            &[person],
            row,
            [
                whole,
                json!([{"r": {"id": 1, "mail": " A@x.org", "born": 1987}}]),
            ],
        ),
        merged(
            &["source.privacy.new_columns"],
            "privacy: {new_columns: block}",
            new,
            COLUMNS,
            [json!([{"c": ["id", "v"]}]), json!([{"c": ["id"]}])],
        ),
        merged(
            &["retention", "retention.delete_after"],
            "retention: {column: left, delete_after: 30d}",
            &[ages],
            ids,
            [json!([{"ids": [1, 2]}]), json!([{"ids": [2]}])],
        ),
        key(
            &["retention.column"],
            [
                &format!("{MERGE}retention: {{column: left, delete_after: 30d}}\n"),
                &format!("{MERGE}retention: {{column: came, delete_after: 30d}}\n"),
            ],
            &[ages],
            ids,
            [json!([{"ids": [2]}]), json!([{"ids": [1]}])],
        ),
    ]
}

/// Keys whose effect one answer cannot show, and the tests that fail without them.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "batch",
        "keys::rows_in_hand_are_committed_at_each_of_the_three_bounds",
    ),
    (
        "batch.rows",
        "keys::rows_in_hand_are_committed_at_each_of_the_three_bounds",
    ),
    (
        "batch.bytes",
        "keys::rows_in_hand_are_committed_at_each_of_the_three_bounds",
    ),
    (
        "batch.wait",
        "keys::rows_in_hand_are_committed_at_each_of_the_three_bounds",
    ),
    (
        "columns.<name>.description",
        "config::keys_that_do_nothing_are_taken_for_the_sake_of_dlt",
    ),
    (
        "columns.<name>.partition",
        "config::keys_that_do_nothing_are_taken_for_the_sake_of_dlt",
    ),
    (
        "columns.<name>.cluster",
        "config::keys_that_do_nothing_are_taken_for_the_sake_of_dlt",
    ),
    (
        "columns.<name>.sort",
        "config::keys_that_do_nothing_are_taken_for_the_sake_of_dlt",
    ),
];

fn all() -> Vec<Key> {
    [dispositions(), deletes(), shapes(), privacy()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn every_key_of_the_reference_that_is_about_rows_has_its_row_here() {
    let sections = [
        "table_name",
        "primary_key",
        "write_disposition",
        "merge_key",
        "partial_records",
        "replace_by",
        "allow_empty",
        "deletes",
        "rejects",
        "batch",
        "max_table_nesting",
        "columns",
        "nested_hints",
        "schema_contract",
        "null_values",
        "detect",
        "text",
        "privacy",
        "retention",
    ];
    let of_source = ["max_table_nesting", "schema_contract", "privacy"];
    let reference: BTreeSet<String> = include_str!("../../README.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter_map(|path| {
            let is_of = |sections: &[&str], key: &str| {
                sections.contains(&key.split(['.', '[']).next().unwrap_or_default())
            };
            match (
                path.strip_prefix(RESOURCE),
                path.strip_prefix("sources.<name>."),
            ) {
                (Some(key), _) => is_of(&sections, key).then(|| key.to_owned()),
                (None, Some(key)) => is_of(&of_source, key).then(|| format!("source.{key}")),
                (None, None) => None,
            }
        })
        .collect();
    assert!(reference.len() > 60, "{reference:?}");
    let known = known_tests();
    for (key, test) in ELSEWHERE {
        assert!(known.contains(*test), "{key}: no test {test}");
    }
    let here = all();
    let here: BTreeSet<String> = here
        .iter()
        .flat_map(|row| row.keys.iter().copied())
        .chain(ELSEWHERE.iter().map(|(key, _)| *key))
        .map(str::to_owned)
        .collect();
    let missing: Vec<&String> = reference.symmetric_difference(&here).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Configurations at work at the same time.
const SIDE_BY_SIDE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_makes_another_table_than_its_absence() {
    let slots = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut cases = JoinSet::new();
    for row in all() {
        let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
        cases.spawn(async move {
            let mut wrong = Vec::new();
            for (config, expected) in row.configs.iter().zip(&row.expected) {
                let docs = Documents::new(config).await;
                let mut log = String::new();
                for page in &row.pages {
                    log = docs.sync(page.as_str()).await.1;
                }
                let has_table = docs
                    .json("select 1 from pg_class where relname in ('docs', 'people')")
                    .await;
                let found = match has_table {
                    Value::Array(tables) if tables.is_empty() => json!(log),
                    _ => docs.json(row.query).await,
                };
                if found != *expected {
                    wrong.push(format!(
                        "{:?}\n{config}\n  {found}\n  {expected}\n{log}",
                        row.keys
                    ));
                }
            }
            let differ = row.expected[0] != row.expected[1];
            if !differ && row.keys != ["write_disposition.deduplicated"] {
                wrong.push(format!("{:?} would not be missed", row.keys));
            }
            drop(slot);
            wrong
        });
    }
    let mut wrong = Vec::new();
    while let Some(case) = cases.join_next().await {
        wrong.extend(case.unwrap());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_hand_are_committed_at_each_of_the_three_bounds() {
    // Three pages; the second is late.
    let site = Site::start(|asked| {
        let page = asked.number("page", 0);
        let records = json!({"pages": 3, "data": [{"id": page, "v": "x".repeat(300)}]});
        match page {
            1 => Reply::from(records).late(Duration::from_secs(2)),
            _ => records.into(),
        }
    })
    .await;
    // Transactions that brought rows.
    for (batch, commits) in [
        ("{wait: 1h}", 1),
        ("{wait: 1h, rows: 1}", 3),
        ("{wait: 1h, rows: 2}", 2),
        ("{wait: 1h, bytes: 300b}", 3),
        ("{wait: 300ms}", 2),
    ] {
        let config = format!(
            "
sources:
  hr:
    client: {{base_url: '{}', max_in_flight: 1}}
    resources:
      - name: docs
        primary_key: id
        write_disposition: merge
        batch: {batch}
        endpoint: {{path: docs, data_selector: data, paginator: {{type: page_number, base_page: 0, total_path: pages}}}}
",
            site.url()
        );
        let bench = Bench::new().await;
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.counters.rows_inserted, 3, "{batch}: {outcome:?}");
        let found: i64 = bench
            .value("select count(distinct xmin::text) from hr.docs")
            .await;
        assert_eq!(found, commits, "{batch}");
    }
}
