//! From odd documents to columns, through the real sync and a real Postgres.

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::support::{documents::Documents, truth::instant};

const MERGE: &str = "primary_key: id\nwrite_disposition: merge\n";

fn hinted(columns: &str) -> String {
    format!("{MERGE}columns:\n{columns}")
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_hints_exist_with_their_types_even_when_every_value_is_null() {
    let docs = Documents::new(&hinted(
        "
  a_text: {data_type: text, precision: 40}
  a_bigint: {data_type: bigint}
  a_double: {data_type: double}
  a_bool: {data_type: bool}
  a_timestamp: {data_type: timestamp}
  a_naive: {data_type: timestamp, timezone: false, precision: 3}
  a_date: {data_type: date}
  a_time: {data_type: time}
  a_json: {data_type: json}
  a_decimal: {data_type: decimal, precision: 12, scale: 2}
  a_free: {data_type: decimal}
  a_binary: {data_type: binary}
  a_wei: {data_type: wei}
  a_length: {format: iso_duration}
  address__city: {data_type: text, nullable: false, unique: true}
",
    ))
    .await;
    docs.load(r#"[{"id": 1, "a_text": null, "address": {"city": "Oslo"}}]"#)
        .await;
    let types = docs
        .json(
            "select attname as name, format_type(atttypid, atttypmod) as type, attnotnull as required
             from pg_attribute where attrelid = 'hr.docs'::regclass and attnum > 0 order by attnum",
        )
        .await;
    let types: Vec<String> = types
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            format!(
                "{} {}{}",
                row["name"].as_str().unwrap(),
                row["type"].as_str().unwrap(),
                if row["required"] == true {
                    " not null"
                } else {
                    ""
                }
            )
        })
        .collect();
    assert_eq!(
        types,
        [
            "id bigint not null",
            "a_text character varying(40)",
            "a_bigint bigint",
            "a_double double precision",
            "a_bool boolean",
            "a_timestamp timestamp with time zone",
            "a_naive timestamp(3) without time zone",
            "a_date date",
            "a_time time without time zone",
            "a_json jsonb",
            "a_decimal numeric(12,2)",
            "a_free numeric",
            "a_binary bytea",
            "a_wei numeric",
            "a_length interval",
            "address__city text not null",
            "_run_id bigint",
            "_synced_at timestamp with time zone",
            "_row_hash bytea",
        ]
    );
    let unique = docs
        .json("select pg_get_constraintdef(oid) as d from pg_constraint where conrelid = 'hr.docs'::regclass and contype = 'u'")
        .await;
    assert_eq!(unique, json!([{"d": "UNIQUE (address__city)"}]));
}

/// Column hint, the value as JSON, and what the column then holds; `None`: the record is a reject.
const CONVERSIONS: [(&str, &str, Option<&str>); 64] = [
    ("data_type: text", "12.50", Some("12.50")),
    ("data_type: text", "\"2024-01-01\"", Some("2024-01-01")),
    ("data_type: text", "{\"a\": [1]}", Some("{\"a\": [1]}")),
    ("{data_type: text, precision: 3}", "\"äöü\"", Some("äöü")),
    ("{data_type: text, precision: 3}", "\"abcd\"", None),
    ("data_type: bigint", "\"12\"", Some("12")),
    ("data_type: bigint", "2.0", Some("2")),
    ("data_type: bigint", "2.5", None),
    ("data_type: bigint", "9223372036854775808", None),
    ("data_type: bigint", "{\"a\": 1}", None),
    ("{data_type: bigint, precision: 16}", "32768", None),
    (
        "{data_type: bigint, precision: 16}",
        "-32768",
        Some("-32768"),
    ),
    ("data_type: double", "0.1", Some("0.1")),
    ("data_type: double", "\"1.5\"", Some("1.5")),
    ("data_type: double", "\"NaN\"", None),
    ("data_type: double", "1e400", None),
    ("data_type: bool", "\"TRUE\"", Some("true")),
    ("data_type: bool", "0", Some("false")),
    ("data_type: bool", "\"yes\"", None),
    ("data_type: bool", "\"t\"", None),
    (
        "data_type: timestamp",
        "\"2024-05-01T10:00:00+02:00\"",
        Some("2024-05-01 08:00:00+00"),
    ),
    (
        "data_type: timestamp",
        "\"2024-05-01\"",
        Some("2024-05-01 00:00:00+00"),
    ),
    ("data_type: timestamp", "\"now\"", None),
    ("data_type: timestamp", "\"infinity\"", None),
    ("data_type: timestamp", "\"2024-02-30T00:00:00Z\"", None),
    ("data_type: timestamp", "1700000000", None),
    (
        "{data_type: timestamp, timezone: false}",
        "\"2024-05-01T10:00:00+02:00\"",
        Some("2024-05-01 08:00:00"),
    ),
    (
        "{data_type: timestamp, precision: 0}",
        "\"2024-05-01T10:00:00.999Z\"",
        Some("2024-05-01 10:00:00+00"),
    ),
    (
        "{data_type: timestamp, timezone: Europe/Berlin}",
        "\"2024-07-01 10:00:00\"",
        Some("2024-07-01 08:00:00+00"),
    ),
    // Left out by the clock change, and there twice.
    (
        "{data_type: timestamp, timezone: Europe/Berlin}",
        "\"2024-03-31T02:30:00\"",
        Some("2024-03-31 01:30:00+00"),
    ),
    (
        "{data_type: timestamp, timezone: Europe/Berlin}",
        "\"2024-10-27T02:30:00\"",
        Some("2024-10-27 00:30:00+00"),
    ),
    ("data_type: date", "\"2024-02-29\"", Some("2024-02-29")),
    (
        "data_type: date",
        "\"2024-02-29T00:00:00\"",
        Some("2024-02-29"),
    ),
    ("data_type: date", "\"2024-02-29T13:00:00\"", None),
    ("data_type: date", "\"0000-00-00\"", None),
    ("data_type: date", "\"today\"", None),
    (
        "data_type: time",
        "\"23:59:59.123456789\"",
        Some("23:59:59.123456"),
    ),
    ("data_type: time", "\"07:05\"", Some("07:05:00")),
    ("data_type: time", "\"24:00\"", None),
    ("data_type: time", "\"23:59:60\"", None),
    (
        "data_type: json",
        "{\"a\": {\"b\": 1.10}}",
        Some("{\"a\": {\"b\": 1.10}}"),
    ),
    ("data_type: json", "\"text\"", Some("\"text\"")),
    (
        "{data_type: decimal, precision: 5, scale: 2}",
        "123.450",
        Some("123.45"),
    ),
    (
        "{data_type: decimal, precision: 5, scale: 2}",
        "123.456",
        None,
    ),
    (
        "{data_type: decimal, precision: 5, scale: 2}",
        "1234.5",
        None,
    ),
    ("data_type: decimal", "\"0.10\"", Some("0.10")),
    ("data_type: binary", "\"aGk=\"", Some("\\x6869")),
    ("data_type: binary", "\"%%%\"", None),
    (
        "data_type: wei",
        "115792089237316195423570985008687907853269984665640564039457584007913129639935",
        Some("115792089237316195423570985008687907853269984665640564039457584007913129639935"),
    ),
    (
        "format: epoch_s",
        "1700000000.25",
        Some("2023-11-14 22:13:20.25+00"),
    ),
    (
        "format: epoch_ms",
        "\"1700000000123\"",
        Some("2023-11-14 22:13:20.123+00"),
    ),
    (
        "{format: epoch_ms, data_type: date}",
        "-1",
        Some("1969-12-31"),
    ),
    ("format: epoch_s", "99999999999999", None),
    (
        "format: /Date(ms)/",
        "\"/Date(1700000000123+0100)/\"",
        Some("2023-11-14 22:13:20.123+00"),
    ),
    ("format: /Date(ms)/", "\"1700000000123\"", None),
    ("format: '%d.%m.%Y'", "\"29.02.2024\"", Some("2024-02-29")),
    ("format: '%d.%m.%Y'", "\"30.02.2024\"", None),
    (
        "{format: '%d/%m/%Y %H:%M', data_type: timestamp, timezone: Europe/Berlin}",
        "\"01/07/2024 10:00\"",
        Some("2024-07-01 08:00:00+00"),
    ),
    ("format: '%Y%m%d'", "20240131", Some("2024-01-31")),
    (
        "{format: '%Y%m%d%H', data_type: timestamp}",
        "\"2024013113\"",
        Some("2024-01-31 13:00:00+00"),
    ),
    (
        "{format: '%I %p', data_type: time}",
        "\"01 PM\"",
        Some("13:00:00"),
    ),
    (
        "format: iso_duration",
        "\"P1Y2M3DT4H5M6.5S\"",
        Some("1 year 2 mons 3 days 04:05:06.5"),
    ),
    ("format: iso_duration", "\"PT0.5H\"", Some("00:30:00")),
    ("format: iso_duration", "\"8 hours\"", None),
];

#[tokio::test(flavor = "multi_thread")]
async fn values_convert_to_the_hinted_type_exactly_or_make_a_reject() {
    let mut hints = String::new();
    let mut records = Vec::new();
    for (at, (hint, value, _)) in CONVERSIONS.iter().enumerate() {
        let hint = hint.trim_start_matches('{').trim_end_matches('}');
        hints.push_str(&format!("  f{at}: {{{hint}}}\n"));
        records.push(format!("{{\"id\": {at}, \"f{at}\": {value}}}"));
    }
    let docs = Documents::new(&hinted(&hints)).await;
    let (status, log) = docs.sync(format!("[{}]", records.join(","))).await;
    assert_eq!(status, "partial", "{log}");
    sqlx::raw_sql(
        "create function as_text(id bigint, name text) returns text language plpgsql as $$
        declare found text; begin
          execute format('select %I::text from hr.docs where id = $1', name) into found using id;
          return coalesce(found, 'NULL');
        end $$",
    )
    .execute(docs.db.pool())
    .await
    .unwrap();
    let rejects = docs
        .json("select record_key, column_name, reason from rosterd.rejects")
        .await;
    for (at, (hint, value, expected)) in CONVERSIONS.iter().enumerate() {
        let found = docs
            .json(&format!(
                "select as_text({at}, 'f{at}') as v from hr.docs where id = {at}"
            ))
            .await;
        let found = found.pointer("/0/v").and_then(|v| v.as_str());
        assert_eq!(found, *expected, "{hint}: {value}");
        let reject = rejects
            .as_array()
            .unwrap()
            .iter()
            .find(|reject| reject["record_key"].as_str() == Some(at.to_string().as_str()));
        assert_eq!(reject.is_some(), expected.is_none(), "{hint}: {value}");
        if let Some(reject) = reject {
            assert_eq!(reject["column_name"], format!("f{at}"), "{hint}: {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_stand_for_null_are_null_by_column_and_by_resource() {
    let docs = Documents::new(&format!(
        "{MERGE}null_values: ['', None]\ncolumns:\n  grade: {{null_values: ['0']}}\n  since: {{data_type: date}}\n  name: {{nullable: false}}\n"
    ))
    .await;
    let (status, _) = docs
        .sync(
            r#"[{"id": 1, "name": "A", "note": "None", "grade": "", "since": ""},
                {"id": 2, "name": "B", "note": "", "grade": "0", "since": "2024-01-01"},
                {"id": 3, "name": "C", "only": "", "grade": null},
                {"id": 4, "name": "None"}, {"id": 5}]"#,
        )
        .await;
    assert_eq!(status, "partial");
    assert_eq!(
        docs.json("select id, name, grade, since from hr.docs order by id")
            .await,
        json!([
            {"id": 1, "name": "A", "grade": "", "since": null},
            {"id": 2, "name": "B", "grade": null, "since": "2024-01-01"},
            {"id": 3, "name": "C", "grade": null, "since": null},
        ])
    );
    assert_eq!(
        docs.json("select record_key, reason, column_name from rosterd.rejects order by 1")
            .await,
        json!([
            {"record_key": "4", "reason": "null_value", "column_name": "name"},
            {"record_key": "5", "reason": "null_value", "column_name": "name"},
        ])
    );
    assert_eq!(
        docs.json("select column_name from information_schema.columns where table_name = 'docs' and column_name in ('note', 'only')").await,
        json!([]),
        "a field that never had a value has no column"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn detections_can_be_switched_off() {
    let docs = Documents::new(&format!(
        "{MERGE}detect: {{timestamps: false, dates: false}}"
    ))
    .await;
    docs.load(r#"[{"id": 1, "at": "2024-05-01T10:00:00Z", "day": "2024-05-01"}]"#)
        .await;
    assert_eq!(
        docs.json(
            "select at, day, pg_typeof(at)::text as t, pg_typeof(day)::text as u from hr.docs"
        )
        .await,
        json!([{"at": "2024-05-01T10:00:00Z", "day": "2024-05-01", "t": "text", "u": "text"}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nul_and_lone_surrogates_go_by_the_policy() {
    let body = r#"[{"id": "a\u0000", "text": "x\u0000y\ud800", "list": ["\udc00z", "\\u0000"]}, {"id": "b", "text": "fine"}]"#;
    for (policy, expected) in [
        (
            "replace",
            json!([{"id": "a\u{fffd}", "text": "x\u{fffd}y\u{fffd}", "list": ["\u{fffd}z", "\\u0000"]}, {"id": "b", "text": "fine", "list": null}]),
        ),
        (
            "strip",
            json!([{"id": "a", "text": "xy", "list": ["z", "\\u0000"]}, {"id": "b", "text": "fine", "list": null}]),
        ),
        ("reject", json!([{"id": "b", "text": "fine"}])),
    ] {
        let docs = Documents::new(&format!("{MERGE}text: {{nul: {policy}}}")).await;
        let (status, log) = docs.sync(body).await;
        let columns = if policy == "reject" {
            "id, text"
        } else {
            "id, text, list"
        };
        assert_eq!(
            docs.json(&format!("select {columns} from hr.docs order by id"))
                .await,
            expected,
            "{policy}: {log}"
        );
        let rejected = docs
            .json("select reason, column_name from rosterd.rejects")
            .await;
        if policy == "reject" {
            assert_eq!(status, "partial");
            assert_eq!(
                rejected,
                json!([{"reason": "unstorable_text", "column_name": "id"}])
            );
        } else {
            assert_eq!(status, "succeeded");
            let counted = docs
                .json("select text_replaced as n from rosterd.runs")
                .await;
            assert_eq!(counted, json!([{"n": 4}]), "{policy}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_comes_later_widens_the_column_or_says_that_it_cannot() {
    let mut docs = Documents::new(MERGE).await;
    docs.load(r#"[{"id": 1, "firstName": 7, "day": "x"}]"#)
        .await;
    docs.configure(&hinted("  first_name: {data_type: text}\n"));
    docs.load(r#"[{"id": 1, "firstName": 7, "day": "x"}]"#)
        .await;
    assert_eq!(
        docs.json("select first_name, pg_typeof(first_name)::text as t from hr.docs")
            .await,
        json!([{"first_name": "7", "t": "text"}])
    );
    docs.configure(&hinted("  day: {data_type: date}\n"));
    let (status, _) = docs.sync(r#"[{"id": 1, "day": "2024-01-01"}]"#).await;
    assert_eq!(status, "failed");
    assert_eq!(
        docs.json(
            "select error_code, error_message from rosterd.runs order by run_id desc limit 1"
        )
        .await,
        json!([{"error_code": "column_type", "error_message": "column day of table \"hr\".\"docs\" has type text, and the configuration says date"}])
    );
}

/// What is odd, the body, a query, what it must give, and the reasons of rejects.
type Odd = (
    &'static str,
    String,
    &'static str,
    Value,
    &'static [&'static str],
);

/// The rows of `reliability.md` D and `dlt-features.md` 11 that one page can show.
fn odd_documents() -> Vec<Odd> {
    let long = "ä".repeat(40);
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let digits = "1234567890".repeat(4);
    vec![
        (
            "D1 a key twice in a page: the last counts",
            r#"[{"id": 1, "v": "a"}, {"id": 2, "v": "b"}, {"id": 1, "v": "c"}]"#.into(),
            "select id, v from hr.docs order by id",
            json!([{"id": 1, "v": "c"}, {"id": 2, "v": "b"}]),
            &[],
        ),
        (
            "D2 null, missing and empty keys",
            r#"[{"id": null}, {"v": 1}, {"id": ""}, {"id": 7}]"#.into(),
            "select id from hr.docs",
            json!([{"id": 7}]),
            &["null_key"],
        ),
        (
            "D3 one key in three spellings",
            r#"[{"id": 1, "v": "a"}, {"id": "1", "v": "b"}, {"id": 1.0, "v": "c"}]"#.into(),
            "select count(*) as n, max(v) as v from hr.docs",
            json!([{"n": 1, "v": "c"}]),
            &[],
        ),
        (
            "D4 keys are bytes",
            "[{\"id\": \"a\"}, {\"id\": \"A\"}, {\"id\": \"\u{e9}\"}, {\"id\": \"e\u{301}\"}, {\"id\": \"a \"}]".into(),
            "select count(*) as n from hr.docs",
            json!([{"n": 5}]),
            &[],
        ),
        (
            "D5 a type that changes from record to record",
            r#"[{"id": 1, "v": "s"}, {"id": 2, "v": 1}, {"id": 3, "v": {"a": 2}}, {"id": 4, "v": [3]}, {"id": 5, "v": null}]"#.into(),
            "select id, v, v__a from hr.docs order by id",
            json!([{"id": 1, "v": "s", "v__a": null}, {"id": 2, "v": 1, "v__a": null}, {"id": 3, "v": null, "v__a": 2}, {"id": 4, "v": [3], "v__a": null}, {"id": 5, "v": null, "v__a": null}]),
            &[],
        ),
        (
            "D6 numbers beyond float and bigint",
            format!(r#"[{{"id": 1, "a": 9007199254740993, "b": 9223372036854775808, "c": 0.{digits}, "d": 1.10}}, {{"id": 2, "d": 1e1001}}, {{"id": 3, "d": 1e131071}}]"#),
            "select a::text, b::text, c::text = '0.1234567890123456789012345678901234567890' as c, d::text from hr.docs",
            json!([{"a": "9007199254740993", "b": "9223372036854775808", "c": true, "d": "1.10"}]),
            &["number_out_of_range"],
        ),
        (
            "D7, D11, D12 words that the server would take for numbers, times and booleans stay text",
            r#"[{"id": 1, "a": "NaN", "b": "Infinity", "c": "now", "d": "infinity", "e": "yes", "f": "24:00", "g": "2024-02-30", "h": "0000-00-00"}]"#.into(),
            "select a, b, c, d, e, f, g, h, pg_typeof(g)::text as t from hr.docs",
            json!([{"a": "NaN", "b": "Infinity", "c": "now", "d": "infinity", "e": "yes", "f": "24:00", "g": "2024-02-30", "h": "0000-00-00", "t": "text"}]),
            &[],
        ),
        (
            "D8, D9 NUL and lone surrogates",
            r#"[{"id": 1, "a": "\u0000", "b": ["\ud800"], "c\u0000": 1}]"#.into(),
            "select a, b from hr.docs",
            json!([{"a": "\u{fffd}", "b": ["\u{fffd}"]}]),
            &[],
        ),
        (
            "D9 each of the 2048 lone surrogates",
            format!(
                "[{}]",
                (0xd800..=0xdfff)
                    .map(|unit: u32| format!("{{\"id\": {unit}, \"v\": \"\\u{unit:04x}!\"}}"))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
            "select v, count(*) as n from hr.docs group by v",
            json!([{"v": "\u{fffd}!", "n": 2_048}]),
            &[],
        ),
        (
            "D14 two fields of one name",
            r#"[{"id": 1, "na!e": 1, "na%e": 2}]"#.into(),
            "select count(*) as n, min(left(column_name, 4)) as name from information_schema.columns where table_name = 'docs' and column_name like 'na%'",
            json!([{"n": 2, "name": "na_e"}]),
            &[],
        ),
        (
            "D15 names of more than 63 bytes, alike in the first 63",
            format!(r#"[{{"id": 1, "{long}1": 1, "{long}2": 2}}]"#),
            "select count(*) as n, max(octet_length(column_name)) <= 63 as fits from information_schema.columns where table_name = 'docs' and column_name like 'ä%'",
            json!([{"n": 2, "fits": true}]),
            &[],
        ),
        (
            "D16 more fields than a table has columns",
            format!(
                "[{{\"id\": 1{}}}]",
                (0..2_000).map(|n| format!(",\"f{n}\":true")).collect::<String>()
            ),
            "select (select count(*) from jsonb_object_keys(_overflow)) + (select count(*) from information_schema.columns where table_name = 'docs' and column_name like 'f%') as n from hr.docs",
            json!([{"n": 2_000}]),
            &[],
        ),
        (
            "D17, D18 names that differ by case, belong to Postgres, are empty, or are SQL",
            r#"[{"id": 1, "Id": 2, "ID": 3, "xmin": 4, "ctid": 5, "": 6, "a\"; drop table x;--": 7, "_run_id": 8, "_deleted_at": 9}]"#.into(),
            "select count(*) as n from rosterd.columns where table_name = 'docs' and octet_length(column_name) <= 63",
            json!([{"n": 9}]),
            &[],
        ),
        (
            "D19 nesting that Postgres can hold, and that it cannot",
            format!(r#"[{{"id": 1, "v": {}}}, {{"id": 2, "v": {}}}]"#, deep(129), deep(100_000)),
            "select id, length(v::text) as n from hr.docs",
            json!([{"id": 1, "n": 258}]),
            &["too_deep"],
        ),
        (
            "D20 a name twice in one record: the last counts, and it is told",
            r#"[{"id": 1, "v": 1, "v": 2}, {"id": 2, "v": {"w": 1, "w": 2, "w": 3}}]"#.into(),
            "select v, v__w, (select fields_repeated from rosterd.runs) as told from hr.docs order by id",
            json!([{"v": 2, "v__w": null, "told": 3}, {"v": null, "v__w": 3, "told": 3}]),
            &[],
        ),
        (
            "D21 a key too long for an index, and a long text",
            format!(r#"[{{"id": "{}"}}, {{"id": "b", "v": "{}"}}]"#, "k".repeat(3_000), "x".repeat(2_000_000)),
            "select id, length(v) as n from hr.docs",
            json!([{"id": "b", "n": 2_000_000}]),
            &["key_too_long"],
        ),
        (
            "D22 a page of many rows",
            format!("[{}]", (0..70_000).map(|n| format!("{{\"id\":{n}}}")).collect::<Vec<_>>().join(",")),
            "select count(*) as n from hr.docs",
            json!([{"n": 70_000}]),
            &[],
        ),
        (
            "D22 a page of no rows, which makes no table",
            "[]".into(),
            "select count(*) as n from pg_class where relname = 'docs'",
            json!([{"n": 0}]),
            &[],
        ),
        (
            "D22 a page of one row",
            r#"[{"id": 1}]"#.into(),
            "select count(*) as n from hr.docs",
            json!([{"n": 1}]),
            &[],
        ),
        (
            "D23 a field that is missing, and one that is null",
            r#"[{"id": 1, "v": 1}, {"id": 2, "v": null}, {"id": 3}]"#.into(),
            "select json_agg(v order by id) as v from hr.docs",
            json!([{"v": [1, null, null]}]),
            &[],
        ),
        (
            "D24 letters of all kinds",
            "[{\"id\": 1, \"v\": \"\u{1f468}\u{200d}\u{1f469} \u{202e}abc\u{200b}\", \"名前\": \"x\", \"Größe\": 1}]".into(),
            "select v, 名前, größe from hr.docs",
            json!([{"v": "\u{1f468}\u{200d}\u{1f469} \u{202e}abc\u{200b}", "名前": "x", "größe": 1}]),
            &[],
        ),
        (
            "names of dlt",
            r#"[{"id": 1, "firstName": 1, "HTTPCode": 1, "1st": 1, "a+b*c@d-e|f": 1, "end_": 1, "address": {"zipCode": "0"}}]"#.into(),
            "select array_agg(column_name::text order by ordinal_position) as names from information_schema.columns where table_name = 'docs' and column_name not like '\\_r%' and column_name <> '_synced_at'",
            json!([{"names": ["id", "first_name", "http_code", "_1st", "axbxcad_elf", "endx", "address__zip_code"]}]),
            &[],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_odd_document_ends_as_it_should() {
    for (what, body, query, expected, reasons) in odd_documents() {
        let docs = Documents::new(MERGE).await;
        let (status, log) = docs.sync(body).await;
        let wanted = if reasons.is_empty() {
            "succeeded"
        } else {
            "partial"
        };
        assert_eq!(status, wanted, "{what}: {log}");
        assert_eq!(docs.json(query).await, expected, "{what}");
        let rejects = docs
            .json("select distinct reason from rosterd.rejects order by 1")
            .await;
        let found: Vec<&str> = rejects
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|row| row["reason"].as_str())
            .collect();
        assert_eq!(found, reasons, "{what}");
    }
}

/// Names of the cases, which begin with the ids of their rows.
pub(crate) fn cases() -> Vec<&'static str> {
    odd_documents().into_iter().map(|case| case.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_no_utf8_fails_with_the_place_and_is_read_again() {
    let docs = Documents::new(MERGE).await;
    docs.load(r#"[{"id": 1, "v": "as it was"}]"#).await;
    let mut body = br#"[{"id": 1, "v": ""#.to_vec();
    body.push(0xff);
    body.extend_from_slice(br#"Jane"}, {"id": 2, "v": "fine"}]"#);
    let (status, log) = docs.sync(body).await;
    assert_eq!(status, "failed");
    let run = docs
        .json("select error_code as c, error_message as m from rosterd.runs order by run_id desc limit 1")
        .await;
    assert_eq!(run[0]["c"], "invalid_utf8", "{run}");
    assert!(run[0]["m"].as_str().unwrap().contains("17"), "{run}");
    assert!(!log.contains("Jane"), "{log}");
    assert_eq!(
        docs.json("select id, v from hr.docs").await,
        json!([{"id": 1, "v": "as it was"}])
    );
    docs.load(r#"[{"id": 1, "v": "Jane"}]"#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_tables_indexes_and_constraints_fit_and_are_never_shared() {
    // Alike in the first 63 bytes, of letters that are no single byte.
    let long = "ä".repeat(40);
    let page = |value: i64| {
        format!(r#"[{{"id": {value}, "{long}": [{{"{long}": [{value}], "v": {value}}}]}}]"#)
    };
    let keys = |table: &str| {
        format!(
            "{MERGE}table_name: {table}\nmax_table_nesting: 2\ncolumns: {{{long}_unique: {{data_type: text, unique: true}}}}\n"
        )
    };
    let mut docs = Documents::new(&keys(&format!("{long}1"))).await;
    docs.load(page(1)).await;
    docs.configure(&keys(&format!("{long}2")));
    docs.command(&["reset", "hr/docs"]).await;
    docs.load(page(2)).await;
    let tables = docs
        .json("select relname from pg_class where relnamespace = 'hr'::regnamespace and relkind = 'r'")
        .await;
    assert_eq!(tables.as_array().unwrap().len(), 6, "{tables}");
    for table in tables.as_array().unwrap() {
        let rows = docs
            .json(&format!(
                "select count(*) as n from hr.\"{}\"",
                table["relname"].as_str().unwrap()
            ))
            .await;
        assert_eq!(rows, json!([{"n": 1}]), "{table}");
    }
    let names = "select relname::text as name from pg_class where relnamespace = 'hr'::regnamespace
                 union all select conname from pg_constraint where connamespace = 'hr'::regnamespace
                 union all select attname from pg_attribute a join pg_class c on c.oid = a.attrelid
                   where c.relnamespace = 'hr'::regnamespace and c.relkind = 'r'";
    assert_eq!(
        docs.json(&format!("select max(octet_length(name)) <= 63 as fit, count(*) filter (where convert_from(convert_to(name, 'UTF8'), 'UTF8') <> name) as broken from ({names}) x"))
            .await,
        json!([{"fit": true, "broken": 0}])
    );
}

const NAMES: [&str; 17] = [
    "name",
    "na!e",
    "na%e",
    "Id",
    "iD",
    "xmin",
    "_run_id",
    "_rosterd_id",
    "a.b",
    "",
    "名前",
    "a__b",
    "a",
    "ÅÄ-Ö|ñ",
    "a_rosterd_list_idx",
    "12th; drop table docs",
    "a_name_that_is_much_longer_than_postgres_lets_any_name_be_so_it_is_cut",
];
const TEXTS: [&str; 15] = [
    "",
    "now",
    "NaN",
    "12",
    "1.50",
    "-0",
    "true",
    "2024-02-30",
    "x\"y\\z",
    "\u{1f600}\u{200d}",
    "null",
    " ",
    "\u{202e}cba\u{feff}",
    "2024-05-01T10:00:00+02:00",
    "\\u0000",
];
const NUMBERS: [&str; 16] = [
    "0",
    "-1",
    "9007199254740993",
    "9223372036854775808",
    "1.50",
    "0.1",
    "-12345678901234567890.123456789",
    "3",
    "100",
    "0.000",
    "1e2",
    "-1.50E-7",
    "-0",
    "1e300",
    "-9223372036854775809",
    "123456789012345678901234567890123456789.000000000000000000001",
];

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        prop::sample::select(NUMBERS.to_vec()).prop_map(|text| serde_json::from_str(text).unwrap()),
        prop::sample::select(TEXTS.to_vec()).prop_map(|text| Value::String(text.to_owned())),
    ];
    let value = leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            members(inner),
        ]
    });
    // And now and then a chain that is deeper than columns go.
    let chain = (1..90_usize, any::<bool>()).prop_map(|(depth, in_lists)| {
        (0..depth).fold(Value::Bool(true), |inner, level| {
            match in_lists && level % 2 == 0 {
                true => json!([inner]),
                false => json!({ "a": inner }),
            }
        })
    });
    (members(value), prop::option::weighted(0.1, chain)).prop_map(|(mut document, chain)| {
        if let Some(chain) = chain {
            document["deep"] = chain;
        }
        document
    })
}

fn members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::vec((prop::sample::select(NAMES.to_vec()), value), 0..5).prop_map(|members| {
        Value::Object(
            members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    })
}

/// Whether a column's value is what the document says, whatever type the column came to have.
pub(crate) fn is_same(said: &Value, found: &Value) -> bool {
    match (said, found) {
        (Value::Number(said), Value::Number(found)) => {
            same_number(&said.to_string(), &found.to_string())
        }
        (Value::Number(said), Value::String(found)) => same_number(&said.to_string(), found),
        (Value::String(said), Value::Number(found)) => *said == found.to_string(),
        (Value::String(said), Value::String(found)) => {
            said == found || instant(said).is_some_and(|at| Some(at) == instant(found))
        }
        (Value::Bool(said), Value::String(found)) => said.to_string() == *found,
        (Value::Array(said), Value::Array(found)) => {
            said.len() == found.len() && said.iter().zip(found).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(said), Value::Object(found)) => {
            said.len() == found.len()
                && said
                    .iter()
                    .all(|(name, a)| found.get(name).is_some_and(|b| is_same(a, b)))
        }
        (said, found) => said == found,
    }
}

fn same_number(a: &str, b: &str) -> bool {
    match (plain(a), plain(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// Sign, digits without zeros around them, and the power of ten of the last digit.
fn plain(text: &str) -> Option<(bool, String, i64)> {
    let (digits, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let power = power.parse::<i64>().ok()? - i64::try_from(fraction.len()).ok()?;
    let ended = all.trim_end_matches('0');
    let power = power + i64::try_from(all.len() - ended.len()).ok()?;
    let digits = ended.trim_start_matches('0').to_owned();
    match digits.is_empty() {
        true => Some((false, digits, 0)),
        false => Some((negative, digits, power)),
    }
}

pub(crate) fn document_of(runner: &mut TestRunner) -> Value {
    document().new_tree(runner).unwrap().current()
}
