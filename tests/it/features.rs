//! The rows of dlt's schema inference, and those odd shapes of data that take two readings to show,
//! each with what rosterd makes of it. What one page can show stands in `shapes`, contracts and
//! variants in `contracts`.

use serde_json::{Value, json};

use crate::support::documents::Documents;

const MERGE: &str = "primary_key: id\nwrite_disposition: merge\n";

/// The row, keys of the resource, pages in their order, a query and what it gives in the end.
type Row = (&'static str, String, Vec<&'static str>, &'static str, Value);

fn rows() -> Vec<Row> {
    let merge = || MERGE.to_owned();
    vec![
        (
            "types: fractions are numeric, and money keeps its digits",
            merge(),
            vec![
                r#"[{"id": 1, "s": "x", "i": 7, "f": 1000.10, "b": true, "l": [1], "d": "2024-05-01", "t": "2024-05-01T10:00:00.123456Z"}]"#,
            ],
            "select array_agg(format_type(atttypid, atttypmod) order by attnum) as t, (select f::text from hr.docs) as f from pg_attribute where attrelid = 'hr.docs'::regclass and attname in ('s', 'i', 'f', 'b', 'l', 'd', 't')",
            json!([{"t": ["text", "bigint", "numeric", "boolean", "jsonb", "date", "timestamp with time zone"], "f": "1000.10"}]),
        ),
        (
            "timestamp detection: RFC 3339 and ISO dates only, and not by the first value alone",
            merge(),
            vec![
                r#"[{"id": 1, "t": "2024-05-01T10:00:00+02:00", "d": "2024-05-01", "n": "20240501", "c": "10:00"}]"#,
                r#"[{"id": 2, "t": "later", "d": "2024-05-02T08:00:00Z"}]"#,
                r#"[{"id": 1, "t": "2024-05-01T10:00:00+02:00", "d": "2024-05-01", "n": "20240501", "c": "10:00"}]"#,
            ],
            "select id, t, d::text, n, c from hr.docs order by id",
            json!([{"id": 1, "t": "2024-05-01T10:00:00+02:00", "d": "2024-05-01 00:00:00+00", "n": "20240501", "c": "10:00"}, {"id": 2, "t": "later", "d": "2024-05-02 08:00:00+00", "n": null, "c": null}]),
        ),
        (
            "first type wins: no number becomes a date, no text a boolean; the column widens",
            merge(),
            vec![
                r#"[{"id": 1, "t": "2024-05-01T10:00:00Z", "i": 1, "b": true}]"#,
                r#"[{"id": 2, "t": 1700000000, "i": "12", "b": "yes"}]"#,
            ],
            "select t, i, b, pg_typeof(i)::text as k from hr.docs where id = 2",
            json!([{"t": "1700000000", "i": 12, "b": "yes", "k": "bigint"}]),
        ),
        (
            "variant columns: none where the column can widen in place",
            merge(),
            vec![
                r#"[{"id": 1, "v": 1}]"#,
                r#"[{"id": 2, "v": 1.5}]"#,
                r#"[{"id": 3, "v": "x"}]"#,
                r#"[{"id": 4, "v": [1]}]"#,
            ],
            "select (select json_agg(v order by id) from hr.docs) as v, (select count(*) from pg_attribute where attrelid = 'hr.docs'::regclass and attname like 'v%') as n, (select json_agg(new_type order by id) from rosterd.schema_changes where change = 'widen_column') as t",
            json!([{"v": ["1", "1.5", "x", [1]], "n": 1, "t": ["numeric", "text", "jsonb"]}]),
        ),
        (
            "objects: a scalar where an object was, and back",
            merge(),
            vec![
                r#"[{"id": 1, "a": {"b": 1}}]"#,
                r#"[{"id": 2, "a": 5}, {"id": 1, "a": {"b": 2}}]"#,
            ],
            "select id, a, a__b from hr.docs order by id",
            json!([{"id": 1, "a": null, "a__b": 2}, {"id": 2, "a": 5, "a__b": null}]),
        ),
        (
            "lists: jsonb, also of objects",
            merge(),
            vec![r#"[{"id": 1, "l": [{"a": 1}, "x", null]}]"#],
            "select l, pg_typeof(l)::text as t from hr.docs",
            json!([{"l": [{"a": 1}, "x", null], "t": "jsonb"}]),
        ),
        (
            "max_table_nesting: what is deeper than its levels is jsonb",
            format!("{MERGE}max_table_nesting: 1\n"),
            vec![r#"[{"id": 1, "l": [{"m": [{"n": 1}]}]}]"#],
            "select m from hr.docs__l",
            json!([{"m": [{"n": 1}]}]),
        ),
        (
            "null: no column before a value comes, but for those that the configuration names",
            format!("{MERGE}columns: {{named: {{data_type: date}}}}\n"),
            vec![r#"[{"id": 1, "named": null, "free": null}]"#],
            "select json_agg(attname order by attnum) as c from pg_attribute where attrelid = 'hr.docs'::regclass and attnum > 0 and attname not like '\\_%'",
            json!([{"c": ["id", "named"]}]),
        ),
        (
            "new and vanished fields; D23: in a whole record, missing is null",
            merge(),
            vec![
                r#"[{"id": 1, "old": 1}, {"id": 2, "old": 2}]"#,
                r#"[{"id": 1, "new": 1}, {"id": 2, "old": 2}]"#,
            ],
            "select id, old, new from hr.docs order by id",
            json!([{"id": 1, "old": null, "new": 1}, {"id": 2, "old": 2, "new": null}]),
        ),
        (
            "columns hints: not nullable",
            format!("{MERGE}rejects: {{tolerate: 1}}\ncolumns: {{name: {{nullable: false}}}}\n"),
            vec![r#"[{"id": 1, "name": "A"}, {"id": 2, "name": null}]"#],
            "select (select json_agg(id) from hr.docs) as ids, (select json_agg(reason) from rosterd.rejects) as r",
            json!([{"ids": [1], "r": ["null_value"]}]),
        ),
        (
            "unique: the second of two equal values is a reject, and the key is indexed",
            format!(
                "{MERGE}rejects: {{tolerate: 1}}\ncolumns: {{mail: {{data_type: text, unique: true}}}}\n"
            ),
            vec![r#"[{"id": 1, "mail": "a"}, {"id": 2, "mail": "a"}, {"id": 3, "mail": "b"}]"#],
            "select (select count(*) from hr.docs) as n, (select json_agg(sqlstate) from rosterd.rejects) as s, (select json_agg(contype order by contype) from pg_constraint where conrelid = 'hr.docs'::regclass and contype in ('p', 'u')) as c",
            json!([{"n": 2, "s": ["23505"], "c": ["p", "u"]}]),
        ),
        (
            "primary_key: nested fields in the source's spelling, and a real key",
            "primary_key: [ref.employeeId, day]\nwrite_disposition: merge\n".to_owned(),
            vec![
                r#"[{"ref": {"employeeId": 1}, "day": "2024-01-01", "h": 1}]"#,
                r#"[{"ref": {"employeeId": 1}, "day": "2024-01-01", "h": 2}, {"ref": {"employeeId": 1}, "day": "2024-01-02", "h": 3}]"#,
            ],
            "select (select json_agg(h order by day) from hr.docs) as h, pg_get_constraintdef(oid) as d from pg_constraint where conrelid = 'hr.docs'::regclass and contype = 'p'",
            json!([{"h": [2, 3], "d": "PRIMARY KEY (ref__employee_id, day)"}]),
        ),
        (
            "big integers",
            merge(),
            vec![
                r#"[{"id": 1, "v": 9223372036854775807}]"#,
                r#"[{"id": 2, "v": 18446744073709551616}]"#,
            ],
            "select json_agg(v::text order by id) as v from hr.docs",
            json!([{"v": ["9223372036854775807", "18446744073709551616"]}]),
        ),
        (
            "NUL in text: one character, not a page",
            merge(),
            vec![r#"[{"id": 1, "v": "a\u0000b"}, {"id": 2, "v": "c"}]"#],
            "select (select json_agg(v order by id) from hr.docs) as v, (select max(text_replaced) from rosterd.runs) as n",
            json!([{"v": ["a\u{fffd}b", "c"], "n": 1}]),
        ),
        (
            "system names: fields called as rosterd's and dlt's own columns are columns of their own",
            merge(),
            vec![
                r#"[{"id": 1, "_run_id": "mine", "_rosterd_id": "mine", "_dlt_id": "theirs", "_row_hash": "mine"}]"#,
            ],
            "select (select _dlt_id from hr.docs) as d, (select count(*) from rosterd.columns where table_name = 'docs') as n, (select pg_typeof(_run_id)::text from hr.docs) as t",
            json!([{"d": "theirs", "n": 5, "t": "bigint"}]),
        ),
        (
            "D13 a time without a zone is of the zone that the configuration names",
            format!("{MERGE}columns: {{t: {{data_type: timestamp, timezone: Europe/Berlin}}}}\n"),
            vec![
                r#"[{"id": 1, "t": "2024-03-31T02:30:00"}, {"id": 2, "t": "2024-10-27T02:30:00"}, {"id": 3, "t": "2024-07-01T12:00:00Z"}]"#,
            ],
            "select json_agg(t at time zone 'UTC' order by id) as t from hr.docs",
            json!([{"t": ["2024-03-31T01:30:00", "2024-10-27T00:30:00", "2024-07-01T12:00:00"]}]),
        ),
        (
            "D16 a column is never dropped and made again",
            merge(),
            vec![
                r#"[{"id": 1, "v": 1}]"#,
                r#"[{"id": 1}]"#,
                r#"[{"id": 1, "v": "x"}]"#,
            ],
            "select count(*) filter (where attisdropped) as dropped, (select count(*) from rosterd.schema_changes where ddl ilike '%drop%') as ddl, (select v from hr.docs) as v from pg_attribute where attrelid = 'hr.docs'::regclass",
            json!([{"dropped": 0, "ddl": 0, "v": "x"}]),
        ),
        (
            "D19 values deeper than 64 objects are kept as jsonb",
            merge(),
            vec![Box::leak(
                format!(
                    r#"[{{"id": 1, "v": {}1{}}}]"#,
                    r#"{"a":"#.repeat(100),
                    "}".repeat(100)
                )
                .into_boxed_str(),
            )],
            "select max(octet_length(column_name)) <= 63 as fits, bool_or(data_type = 'jsonb') as json, count(*) as n from rosterd.columns where table_name = 'docs' and column_name <> 'id'",
            json!([{"fits": true, "json": true, "n": 1}]),
        ),
    ]
}

/// What the rows are about, which begins with their names in the list.
pub(crate) fn cases() -> Vec<&'static str> {
    rows().into_iter().map(|row| row.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_feature_list_is_as_it_says() {
    let mut wrong = Vec::new();
    for (what, keys, pages, query, expected) in rows() {
        let docs = Documents::new(&keys).await;
        for page in pages {
            let (status, log) = docs.sync(page).await;
            assert_eq!(status, "succeeded", "{what}: {log}");
        }
        let found = docs.json(query).await;
        if found != expected {
            wrong.push(format!("{what}:\n  {found}\n  {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
