//! From odd documents to columns, through the real sync and a real Postgres.

use serde_json::json;

use crate::support::documents::Documents;

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
const CONVERSIONS: [(&str, &str, Option<&str>); 62] = [
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
