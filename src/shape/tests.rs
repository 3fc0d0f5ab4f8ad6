//! Pages in, tuples out; the tuples are read back here by a reader of their own.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::json::{Checker, Unfit};
use super::name::Names;
use super::number::Decimal;
use super::*;
use crate::config::columns::Format;
use crate::config::endpoint::{DottedPath, Step};
use crate::config::incremental::{Incremental, Lag, Notation, RowOrder, Toward};

fn path(text: &str) -> DottedPath {
    DottedPath(
        text.split('.')
            .map(|key| Step::Key(key.to_owned()))
            .collect(),
    )
}

fn spec(key: &[&str]) -> MapSpec {
    MapSpec {
        primary_key: key.iter().map(|key| path(key)).collect(),
        cursor_path: None,
        max_table_nesting: None,
        mapping_version: 7,
        ..MapSpec::default()
    }
}

fn keyed_by_id() -> Mapper {
    Mapper::new(spec(&["id"]), Layout::default())
}

fn stamp() -> Stamp {
    Stamp {
        run_id: 42,
        synced_at: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
    }
}

struct Page {
    body: Vec<u8>,
    records: Vec<Range<u32>>,
}

fn page<T: AsRef<[u8]>>(records: &[T]) -> Page {
    let mut page = Page {
        body: b"[".to_vec(),
        records: Vec::new(),
    };
    for record in records {
        let start = page.body.len() as u32;
        page.body.extend_from_slice(record.as_ref());
        page.records.push(start..page.body.len() as u32);
        page.body.push(b',');
    }
    page
}

fn scan(mapper: &Mapper, page: &Page) -> Scan {
    mapper.scan(&page.body, &page.records, None)
}

fn encode(mapper: &mut Mapper, page: &Page) -> (Scan, Encoded) {
    let scan = scan(mapper, page);
    let keep = vec![true; scan.rows.len()];
    let encoded = mapper.encode(&page.body, &page.records, &scan, &keep, stamp());
    (scan, encoded)
}

/// Rows by column name, values as Postgres would print them; nulls left out.
type Row = HashMap<String, String>;

fn decode(mapper: &Mapper, encoded: &Encoded) -> Vec<Row> {
    let columns = &mapper.layout().columns;
    assert_eq!(encoded.revision, mapper.layout().revision);
    assert_eq!(encoded.columns, columns.len());
    assert_eq!(encoded.tuples.len(), encoded.rows.len());
    let mut rows = Vec::new();
    let mut expected_start = 0;
    for tuple in &encoded.tuples {
        assert_eq!(tuple.start, expected_start, "tuples follow each other");
        expected_start = tuple.end;
        let bytes = &encoded.data[tuple.start as usize..tuple.end as usize];
        let (count, mut rest) = bytes.split_first_chunk::<2>().unwrap();
        assert_eq!(i16::from_be_bytes(*count) as usize, columns.len() + 3);
        let mut fields = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = i32::from_be_bytes(*length);
            if length < 0 {
                fields.push(None);
                rest = after;
            } else {
                let (field, after) = after.split_at(length as usize);
                fields.push(Some(field));
                rest = after;
            }
        }
        assert!(rest.is_empty());
        assert_eq!(fields.len(), columns.len() + 3);
        let system = &fields[columns.len()..];
        assert_eq!(system[0], Some(&42_i64.to_be_bytes()[..]));
        assert_eq!(
            show(Kind::Timestamptz, system[1].unwrap()),
            "2026-01-02T03:04:05.678901Z"
        );
        assert_eq!(system[2].unwrap().len(), 16);
        let mut row = Row::new();
        for (column, field) in columns.iter().zip(fields) {
            if let Some(field) = field {
                row.insert(column.name.clone(), show(column.kind, field));
            }
        }
        rows.push(row);
    }
    assert_eq!(expected_start as usize, encoded.data.len());
    rows
}

fn show(kind: Kind, field: &[u8]) -> String {
    match kind {
        Kind::Boolean => (field == [1]).to_string(),
        Kind::BigInt => i64::from_be_bytes(field.try_into().unwrap()).to_string(),
        Kind::Text => String::from_utf8(field.to_vec()).unwrap(),
        Kind::Double => f64::from_be_bytes(field.try_into().unwrap()).to_string(),
        Kind::Time | Kind::Timestamp => i64::from_be_bytes(field.try_into().unwrap()).to_string(),
        Kind::Interval | Kind::Bytea => format!("{field:?}"),
        Kind::Jsonb => {
            assert_eq!(field[0], 1);
            String::from_utf8(field[1..].to_vec()).unwrap()
        }
        Kind::Date => {
            let days = i32::from_be_bytes(field.try_into().unwrap());
            let epoch = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap();
            (epoch + TimeDelta::days(i64::from(days))).to_string()
        }
        Kind::Timestamptz => {
            let micros = i64::from_be_bytes(field.try_into().unwrap());
            let epoch: DateTime<Utc> = "2000-01-01T00:00:00Z".parse().unwrap();
            (epoch + TimeDelta::microseconds(micros))
                .to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
        }
        Kind::Numeric => show_numeric(field),
    }
}

fn show_numeric(field: &[u8]) -> String {
    let word = |place: usize| u16::from_be_bytes([field[place * 2], field[place * 2 + 1]]);
    let (count, weight, sign, scale) = (word(0), word(1) as i16, word(2), word(3));
    assert_eq!(field.len(), 8 + 2 * count as usize);
    let digits: Vec<u16> = (0..count as usize).map(|place| word(4 + place)).collect();
    assert!(digits.iter().all(|digit| *digit < 10_000));
    assert_ne!(digits.first(), Some(&0), "no leading zero group");
    assert_ne!(digits.last(), Some(&0), "no trailing zero group");
    let group = |position: i32| {
        let place = i32::from(weight) - position;
        usize::try_from(place)
            .ok()
            .and_then(|place| digits.get(place))
            .copied()
            .unwrap_or(0)
    };
    let mut text = String::new();
    for position in (0..=i32::from(weight).max(0)).rev() {
        text.push_str(&format!("{:04}", group(position)));
    }
    let mut text = text.trim_start_matches('0').to_owned();
    if text.is_empty() {
        text.push('0');
    }
    if scale > 0 {
        let mut fraction = String::new();
        let mut position = -1;
        while fraction.len() < scale as usize {
            fraction.push_str(&format!("{:04}", group(position)));
            position -= 1;
        }
        text.push('.');
        text.push_str(&fraction[..scale as usize]);
    }
    if sign == 0x4000 {
        text.insert(0, '-');
    }
    text
}

fn show_layout(layout: &Layout) -> String {
    let columns = layout.columns.iter().enumerate().map(|(place, column)| {
        let key = if layout.key.contains(&place) {
            " key"
        } else {
            ""
        };
        format!(
            "{} {}{key} <- {}",
            column.name,
            column.kind.sql(),
            column.path.join(".")
        )
    });
    columns.collect::<Vec<_>>().join("\n")
}

fn show_rows(mapper: &Mapper, encoded: &Encoded) -> String {
    let names = mapper.layout().columns.iter().map(|column| &column.name);
    let lines = decode(mapper, encoded).into_iter().map(|row| {
        let fields = names
            .clone()
            .filter_map(|name| Some(format!("{name}={}", row.get(name)?)));
        fields.collect::<Vec<_>>().join(" | ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// One column `v` from one value; its kind and text.
fn one(value: &str) -> (String, String) {
    let mut mapper = keyed_by_id();
    let page = page(&[format!(r#"{{"id":1,"v":{value}}}"#)]);
    let (_, encoded) = encode(&mut mapper, &page);
    if let Some(reject) = encoded.rejects.first() {
        return ("reject".to_owned(), reject.reason.to_owned());
    }
    let rows = decode(&mapper, &encoded);
    match mapper.layout().columns.get(1) {
        Some(column) => (column.kind.sql().to_owned(), rows[0]["v"].clone()),
        None => ("none".to_owned(), String::new()),
    }
}

#[test]
fn a_page_of_people_becomes_typed_rows() {
    let mut mapper = keyed_by_id();
    let page = page(&[
        r#"{"id":1,"firstName":"Zoë","salary":5200.50,"hiredAt":"2020-02-29","updated_at":"2024-05-06T07:08:09.123456789+02:00","active":true,"address":{"city":"Łódź","geo":{"lat":51.7}},"tags":["a", 1],"leftAt":null}"#,
        r#"{"id":2,"firstName":"A\"b","salary":4000,"hiredAt":"2021-01-01","active":false,"address":{"city":null},"tags":[],"manager":{"id":"1"}}"#,
    ]);
    let (_, encoded) = encode(&mut mapper, &page);
    insta::assert_snapshot!(show_layout(mapper.layout()), @r#"
    id bigint key <- id
    first_name text <- firstName
    salary numeric <- salary
    hired_at date <- hiredAt
    updated_at timestamptz <- updated_at
    active boolean <- active
    address__city text <- address.city
    address__geo__lat numeric <- address.geo.lat
    tags jsonb <- tags
    manager__id text <- manager.id
    "#);
    insta::assert_snapshot!(show_rows(&mapper, &encoded), @r#"
    id=1 | first_name=Zoë | salary=5200.50 | hired_at=2020-02-29 | updated_at=2024-05-06T05:08:09.123456Z | active=true | address__city=Łódź | address__geo__lat=51.7 | tags=["a", 1]
    id=2 | first_name=A"b | salary=4000 | hired_at=2021-01-01 | active=false | tags=[] | manager__id=1
    "#);
}

#[test]
fn a_value_alone_decides_its_kind() {
    let cases = [
        ("true", "boolean", "true"),
        ("12", "bigint", "12"),
        ("-0", "bigint", "0"),
        ("9223372036854775807", "bigint", "9223372036854775807"),
        ("-9223372036854775808", "bigint", "-9223372036854775808"),
        ("9223372036854775808", "numeric", "9223372036854775808"),
        ("9007199254740993", "bigint", "9007199254740993"),
        ("1.10", "numeric", "1.10"),
        ("2.0", "numeric", "2.0"),
        ("1e3", "numeric", "1000"),
        ("1.5e-5", "numeric", "0.000015"),
        ("-0.00012", "numeric", "-0.00012"),
        ("0.0", "numeric", "0.0"),
        ("10000.0001", "numeric", "10000.0001"),
        (
            "12345678901234567890123.4567890123",
            "numeric",
            "12345678901234567890123.4567890123",
        ),
        ("1e1000", "numeric", &format!("1{}", "0".repeat(1000))),
        ("1e1001", "reject", "number_out_of_range"),
        ("1e400000000000", "reject", "number_out_of_range"),
        (
            &format!("1{}", "0".repeat(1000)),
            "reject",
            "number_out_of_range",
        ),
        ("[1e9999]", "reject", "number_out_of_range"),
        ("01", "reject", "invalid_json"),
        ("1.", "reject", "invalid_json"),
        (r#""2024-02-29""#, "date", "2024-02-29"),
        (r#""0001-01-01""#, "date", "0001-01-01"),
        (r#""2024-02-30""#, "text", "2024-02-30"),
        (r#""0000-00-00""#, "text", "0000-00-00"),
        (r#""0000-01-01""#, "text", "0000-01-01"),
        (r#""294277-01-01""#, "text", "294277-01-01"),
        (r#""2024-1-1""#, "text", "2024-1-1"),
        (
            r#""2024-05-06T07:08:09Z""#,
            "timestamptz",
            "2024-05-06T07:08:09Z",
        ),
        (
            r#""2024-05-06 07:08:09""#,
            "timestamptz",
            "2024-05-06T07:08:09Z",
        ),
        (
            r#""2024-05-06T07:08:09.9999999-0130""#,
            "timestamptz",
            "2024-05-06T08:38:09.999999Z",
        ),
        (
            r#""1969-12-31T23:59:59.9999999Z""#,
            "timestamptz",
            "1969-12-31T23:59:59.999999Z",
        ),
        (
            r#""2024-05-06T07:08:09\u002B01:00""#,
            "timestamptz",
            "2024-05-06T06:08:09Z",
        ),
        (r#""2024-05-06T24:00:00Z""#, "text", "2024-05-06T24:00:00Z"),
        (r#""2024-05-06T23:59:60Z""#, "text", "2024-05-06T23:59:60Z"),
        (
            r#""2024-05-06T07:08:09+24:00""#,
            "text",
            "2024-05-06T07:08:09+24:00",
        ),
        (r#""now""#, "text", "now"),
        (r#""infinity""#, "text", "infinity"),
        (r#""NaN""#, "text", "NaN"),
        (r#""yes""#, "text", "yes"),
        (r#""12""#, "text", "12"),
        (r#""""#, "text", ""),
        (r#""a\u0000b""#, "text", "a\u{fffd}b"),
        (
            r#""\ud83d\ude00 \ud83d \ude00""#,
            "text",
            "😀 \u{fffd} \u{fffd}",
        ),
        (r#""\ud83d\u0041""#, "text", "\u{fffd}A"),
        (r#""\n\t\/\\""#, "text", "\n\t/\\"),
        ("[1, {\"a\":2}]", "jsonb", "[1, {\"a\":2}]"),
        (
            r#"["\u0000 \\u0000 \ud800 \ud83d\ude00"]"#,
            "jsonb",
            r#"["\ufffd \\u0000 \ufffd \ud83d\ude00"]"#,
        ),
        ("{}", "none", ""),
        ("null", "none", ""),
        ("nul", "reject", "invalid_json"),
        ("[1,]", "reject", "invalid_json"),
        ("[1}", "reject", "invalid_json"),
        (r#"["\q"]"#, "reject", "invalid_json"),
        (r#""\q""#, "reject", "invalid_json"),
        ("\"tab\there\"", "reject", "invalid_json"),
    ];
    for (value, kind, text) in cases {
        // A broken record is found by the scan, before a row comes of it.
        let page = page(&[format!(r#"{{"id":1,"v":{value}}}"#)]);
        if let Some(reject) = scan(&keyed_by_id(), &page).rejects.first() {
            assert_eq!((kind, text), ("reject", reject.reason), "{value}");
            continue;
        }
        assert_eq!(one(value), (kind.to_owned(), text.to_owned()), "{value}");
    }
}

#[test]
fn a_column_takes_what_converts_exactly_and_widens_for_the_rest() {
    // First value, second value, kind after both, both as they are stored.
    let cases = [
        ("1", "2.0", "bigint", "1", "2"),
        ("1", "\"12\"", "bigint", "1", "12"),
        ("1", "\"012\"", "text", "1", "012"),
        ("1", "\"-0\"", "text", "1", "-0"),
        ("1", "1.5", "numeric", "1", "1.5"),
        ("1.50", "\"2.50\"", "numeric", "1.50", "2.50"),
        ("1.5", "\"1e5\"", "text", "1.5", "1e5"),
        ("1.5", "\"NaN\"", "text", "1.5", "NaN"),
        ("1", "true", "text", "1", "true"),
        ("true", "\"true\"", "text", "true", "true"),
        ("true", "1", "text", "true", "1"),
        (
            "\"2024-01-01\"",
            "\"2024-01-02T03:04:05Z\"",
            "timestamptz",
            "2024-01-01T00:00:00Z",
            "2024-01-02T03:04:05Z",
        ),
        (
            "\"2024-01-02T03:04:05Z\"",
            "\"2024-01-01\"",
            "timestamptz",
            "2024-01-02T03:04:05Z",
            "2024-01-01T00:00:00Z",
        ),
        ("\"2024-01-01\"", "\"n/a\"", "text", "2024-01-01", "n/a"),
        ("\"2024-01-01\"", "5", "text", "2024-01-01", "5"),
        (
            "\"2024-01-02T03:04:05+01:00\"",
            "\"\"",
            "text",
            "2024-01-02T03:04:05+01:00",
            "",
        ),
        ("\"x\"", "1.10", "text", "x", "1.10"),
        ("\"x\"", "1e5000", "text", "x", "1e5000"),
        ("1", "[1]", "jsonb", "1", "[1]"),
        ("\"x\"", "[1]", "jsonb", "\"x\"", "[1]"),
        ("[1]", "{\"a\":1}", "jsonb", "[1]", "{\"a\":1}"),
        ("[1]", "\"a\\u0000\"", "jsonb", "[1]", "\"a\\ufffd\""),
    ];
    for (first, second, kind, left, right) in cases {
        for pages in [1, 2] {
            let mut mapper = keyed_by_id();
            let records = [
                format!(r#"{{"id":1,"v":{first}}}"#),
                format!(r#"{{"id":2,"v":{second}}}"#),
            ];
            let mut rows = Vec::new();
            for page in records.chunks(2 / pages).map(page) {
                let (_, encoded) = encode(&mut mapper, &page);
                assert!(encoded.rejects.is_empty(), "{first} {second}");
                rows = decode(&mapper, &encoded);
            }
            assert_eq!(
                mapper.layout().columns[1].kind.sql(),
                kind,
                "{first} {second}"
            );
            assert_eq!(rows.pop().unwrap()["v"], right, "{first} {second}");
            if let Some(row) = rows.pop() {
                assert_eq!(row["v"], left, "{first} {second}");
            }
        }
    }
}

#[test]
fn a_scalar_that_meets_an_object_stands_beside_its_fields() {
    let mut mapper = keyed_by_id();
    let page = page(&[
        r#"{"id":1,"manager":"none"}"#,
        r#"{"id":2,"manager":{"id":5}}"#,
        r#"{"id":3,"manager":["x"]}"#,
        r#"{"id":4,"manager":{"id":6}}"#,
    ]);
    let (_, encoded) = encode(&mut mapper, &page);
    insta::assert_snapshot!(show_rows(&mapper, &encoded), @r#"
    id=1 | manager="none"
    id=2 | manager__id=5
    id=3 | manager=["x"]
    id=4 | manager__id=6
    "#);
}

#[test]
fn nesting_of_zero_keeps_objects_as_json_and_still_finds_a_key_inside() {
    let mut mapper = Mapper::new(
        MapSpec {
            max_table_nesting: Some(0),
            ..spec(&["ref.id"])
        },
        Layout::default(),
    );
    let page = page(&[r#"{"ref":{"id":"7","x":{}},"n":{"a":{"b":1}}}"#]);
    let (_, encoded) = encode(&mut mapper, &page);
    insta::assert_snapshot!(show_layout(mapper.layout()), @r#"
    ref__id text key <- ref.id
    ref jsonb <- ref
    n jsonb <- n
    "#);
    insta::assert_snapshot!(show_rows(&mapper, &encoded), @r#"ref__id=7 | ref={"id":"7","x":{}} | n={"a":{"b":1}}"#);
}

#[test]
fn a_name_that_stands_twice_in_an_object_counts_the_last_time() {
    let mut mapper = keyed_by_id();
    let page = page(&[
        r#"{"id":0,"id":1,"a":{"b":1,"c":2},"a":{"c":3},"d":{"e":1},"d":4,"f":5,"f":null,"\u0067":1,"g":2}"#,
    ]);
    let (scan, encoded) = encode(&mut mapper, &page);
    assert_eq!(scan.rows.len(), 1);
    insta::assert_snapshot!(show_rows(&mapper, &encoded), @"id=1 | a__c=3 | d=4 | g=2");
}

#[test]
fn keys_that_are_one_value_are_one_row() {
    // Key values of a page, rows left, kind of the key.
    let cases: [(&[&str], usize, &str); 9] = [
        (&["1", "1.0", "\"1\"", "1e0", "2"], 2, "bigint"),
        (&["1", "1.5", "1.50"], 2, "numeric"),
        (&["\"a\"", "1", "\"1\"", "\"1.0\"", "1.0"], 3, "text"),
        (&["1", "\"01\"", "\"1\""], 2, "text"),
        (&["\"A\"", "\"a\"", "\"a \"", "\"\\u0061\""], 3, "text"),
        (
            &[
                "\"2024-01-01\"",
                "\"2024-01-01T00:00:00Z\"",
                "\"2024-01-01T01:00:00+01:00\"",
            ],
            1,
            "timestamptz",
        ),
        (&["\"a\\u0000\"", "\"a\\ud800\""], 1, "text"),
        (&["true", "false", "true"], 2, "boolean"),
        (
            &["12345678901234567890", "12345678901234567891"],
            2,
            "numeric",
        ),
    ];
    for (keys, rows, kind) in cases {
        let mut mapper = keyed_by_id();
        let records: Vec<String> = keys
            .iter()
            .enumerate()
            .map(|(place, key)| format!(r#"{{"id":{key},"place":{place}}}"#))
            .collect();
        let (scan, encoded) = encode(&mut mapper, &page(&records));
        assert_eq!(scan.rows.len(), rows, "{keys:?}");
        assert_eq!(scan.duplicates as usize, keys.len() - rows);
        let decoded = decode(&mapper, &encoded);
        let distinct: HashSet<_> = decoded.iter().map(|row| &row["id"]).collect();
        assert_eq!(distinct.len(), rows, "{keys:?}");
        assert_eq!(mapper.layout().columns[0].kind.sql(), kind, "{keys:?}");
        // The last one of each stays.
        assert_eq!(
            decoded.last().unwrap()["place"],
            (keys.len() - 1).to_string()
        );
    }
}

#[test]
fn the_hash_of_a_whole_number_key_outlives_the_widening_of_its_column() {
    let mut mapper = keyed_by_id();
    let first = encode(&mut mapper, &page(&[r#"{"id":17}"#])).0;
    encode(&mut mapper, &page(&[r#"{"id":"x"}"#]));
    let second = scan(&mapper, &page(&[r#"{"id":"17"}"#]));
    assert_eq!(first.rows[0].key, second.rows[0].key);
}

#[test]
fn records_without_a_usable_key_are_rejects_and_cost_no_other() {
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(513));
    let cases = [
        (r#"{"id":null}"#, "null_key"),
        (r#"{"x":1}"#, "null_key"),
        (r#"{"id":""}"#, "null_key"),
        (r#"{"id":[1]}"#, "key_not_scalar"),
        (r#"{"id":{"a":1}}"#, "key_not_scalar"),
        (r#"{"id":1e5000}"#, "number_out_of_range"),
        (long.as_str(), "key_too_long"),
        ("[1]", "not_an_object"),
        ("null", "not_an_object"),
        ("", "not_an_object"),
        (r#"{"id" 1}"#, "invalid_json"),
    ];
    let mut records = vec![r#"{"id":5,"v":"good"}"#];
    records.extend(cases.map(|(record, _)| record));
    let mut mapper = keyed_by_id();
    let (scan, encoded) = encode(&mut mapper, &page(&records));
    assert_eq!(decode(&mapper, &encoded).len(), 1);
    assert_eq!(scan.rejects.len(), cases.len());
    for (reject, (record, reason)) in scan.rejects.iter().zip(cases) {
        assert_eq!(reject.reason, reason, "{record}");
    }
    assert_eq!(scan.rejects[0].path.as_deref(), Some("id"));
    assert_eq!(mapper.layout().columns[0].kind, Kind::BigInt);
}

#[test]
fn what_is_broken_behind_the_key_is_found_by_the_second_look() {
    let mut mapper = keyed_by_id();
    let broken = [r#"{"id":1"#, r#"{"id":2}}"#, r#"{"id":3,"a"}"#];
    let (scan, encoded) = encode(&mut mapper, &page(&broken));
    let rejects: Vec<&str> = (scan.rejects.iter().chain(&encoded.rejects))
        .map(|reject| reject.reason)
        .collect();
    assert_eq!(rejects, ["invalid_json"; 3]);
    assert!(encoded.tuples.is_empty());
}

#[test]
fn of_a_name_that_stands_twice_the_last_counts_wherever_it_stands() {
    for (record, key) in [
        (r#"{"id":1,"id":2}"#, "2"),
        (r#"{"id":1,"a":"b","id":2}"#, "2"),
        (r#"{"id":1, "a" : {"id":3} , "id" : 2 }"#, "2"),
        (
            r#"{"id":1,"a":[{"id":3},{"id":4}],"id":2,"b":{"id":5}}"#,
            "2",
        ),
        (r#"{"id":1,"\u0069d":2}"#, "2"),
        (r#"{"id":1,"a":"}{\"","id":2}"#, "2"),
        // These only look like it.
        (r#"{"id":1,"a":{"id":2}}"#, "1"),
        (r#"{"id":1,"a":{"b":{"id":2},"id":3},"c":[{"id":4}]}"#, "1"),
        (
            r#"{"id":1,"a":["id","x"],"b":"id","c":"{","d":{"id":2},"e":"}}"}"#,
            "1",
        ),
        (r#"{"id":1,"a":"}","b":{"id":2}}"#, "1"),
        (r#"{"id":1,"a":"{","id":2,"b":"}"}"#, "2"),
        (r#"{"id":1,"a":"\"id\":2"}"#, "1"),
        (r#"{"id":1,"idd":2,"ID":3}"#, "1"),
    ] {
        let mapper = keyed_by_id();
        let scan = scan(&mapper, &page(&[record]));
        assert_eq!(scan.key_text(0).as_deref(), Some(key), "{record}");
    }
}

#[test]
fn a_record_that_cannot_be_stored_names_its_key_and_field_and_adds_no_column() {
    let deep = format!(
        r#"{{"id":3,"deep":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let deep_object = format!(
        r#"{{"id":4,"deep":{}1{}}}"#,
        r#"{"a":"#.repeat(100_000),
        "}".repeat(100_000)
    );
    let mut mapper = keyed_by_id();
    let (_, encoded) = encode(
        &mut mapper,
        &page(&[
            r#"{"id":1,"pay":{"gross":1e9999},"other":1}"#.to_owned(),
            r#"{"id":2,"v":1}"#.to_owned(),
            deep,
            deep_object,
        ]),
    );
    let rejects: Vec<_> = encoded
        .rejects
        .iter()
        .map(|reject| {
            (
                reject.key.as_deref(),
                reject.path.as_deref().map(str::len),
                reject.reason,
                reject.record,
            )
        })
        .collect();
    assert_eq!(
        rejects,
        [
            (Some("1"), Some("pay.gross".len()), "number_out_of_range", 0),
            (Some("3"), Some("deep".len()), "too_deep", 2),
            (Some("4"), Some("deep".len() + 64 * 2), "too_deep", 3),
        ]
    );
    assert_eq!(
        show_layout(mapper.layout()),
        "id bigint key <- id\nv bigint <- v"
    );
    assert_eq!(encoded.rows, [1]);
}

#[test]
fn objects_deeper_than_64_levels_are_kept_as_json() {
    let mut mapper = keyed_by_id();
    let record = format!(
        r#"{{"id":1,"a":{}1{}}}"#,
        r#"{"a":"#.repeat(100),
        "}".repeat(100)
    );
    let (_, encoded) = encode(&mut mapper, &page(&[record]));
    let column = &mapper.layout().columns[1];
    assert_eq!((column.kind, column.path.len()), (Kind::Jsonb, 65));
    assert!(column.name.len() <= 63);
    assert!(decode(&mapper, &encoded)[0][&column.name].starts_with(r#"{"a":{"a""#));
}

#[test]
fn rows_that_are_not_kept_are_not_looked_into() {
    let mut mapper = keyed_by_id();
    let page = page(&[r#"{"id":1,"a":1}"#, r#"{"id":2,"b":1}"#]);
    let scan = scan(&mapper, &page);
    let encoded = mapper.encode(&page.body, &page.records, &scan, &[false, true], stamp());
    assert_eq!(encoded.rows, [1]);
    assert_eq!(
        show_layout(mapper.layout()),
        "id bigint key <- id\nb bigint <- b"
    );
    let revision = mapper.layout().revision;
    let encoded = mapper.encode(&page.body, &page.records, &scan, &[false, false], stamp());
    assert!(encoded.data.is_empty());
    assert_eq!(mapper.layout().revision, revision);
}

#[test]
fn the_revision_counts_changes_only() {
    let mut mapper = keyed_by_id();
    let mut revisions = Vec::new();
    for record in [
        r#"{"id":1,"a":1}"#,
        r#"{"id":2,"a":2}"#,
        r#"{"id":2,"a":2.5}"#,
        r#"{"a":null,"id":3,"z":null}"#,
        r#"{"id":3,"z":1}"#,
    ] {
        revisions.push(encode(&mut mapper, &page(&[record])).1.revision);
    }
    assert_eq!(revisions, [1, 1, 2, 2, 3]);
}

#[test]
fn the_row_hash_covers_the_bytes_and_the_mapping() {
    let page = page(&[r#"{"id":1}"#, r#"{"id": 1 }"#, r#"{"id":2}"#]);
    let hashes = |version| {
        let mapper = Mapper::new(
            MapSpec {
                mapping_version: version,
                ..spec(&[])
            },
            Layout::default(),
        );
        let rows = scan(&mapper, &page).rows;
        rows.into_iter().map(|row| row.hash).collect::<Vec<_>>()
    };
    let (one, two) = (hashes(1), hashes(2));
    assert_eq!(one, hashes(1));
    let all: HashSet<_> = one.iter().chain(&two).collect();
    assert_eq!(all.len(), 6);
}

#[test]
fn a_second_run_maps_fields_to_the_columns_of_the_first() {
    let records = [
        r#"{"id":1,"na!e":1,"na%e":"x","_run_id":5,"xmin":6,"_overflow":7,"":8,"A":{"b":1},"a__b":2,"Ärzte":3}"#,
    ];
    let mut first = keyed_by_id();
    encode(&mut first, &page(&records));
    insta::assert_snapshot!(show_layout(first.layout()), @r#"
    id bigint key <- id
    na_e bigint <- na!e
    na_e_6f24523c text <- na%e
    _run_id_016da491 bigint <- _run_id
    xmin_713c432b bigint <- xmin
    _overflow_d2095f47 bigint <- _overflow
    _empty bigint <- 
    a__b bigint <- A.b
    a__b_8c848c75 bigint <- a__b
    ärzte bigint <- Ärzte
    "#);
    let turned = [
        r#"{"Ärzte":3,"a__b":2,"A":{"b":1},"":8,"_overflow":7,"xmin":6,"_run_id":5,"na%e":"x","na!e":1,"id":1}"#,
    ];
    let with_paths = first.layout().clone();
    let mut without_paths = with_paths.clone();
    for column in &mut without_paths.columns {
        column.path.clear();
    }
    for known in [with_paths, without_paths] {
        let mut second = Mapper::new(spec(&["id"]), known);
        let (_, encoded) = encode(&mut second, &page(&turned));
        assert_eq!(decode(&second, &encoded).len(), 1);
        let names = |mapper: &Mapper| {
            let columns = mapper.layout().columns.iter();
            let mut names: Vec<_> = columns.map(|column| column.name.clone()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&second), names(&first));
    }
}

#[test]
fn columns_made_by_hand_are_left_alone_or_taken_as_they_are() {
    let column = |name: &str, kind| Column {
        name: name.to_owned(),
        path: Vec::new(),
        kind,
        is_fixed: false,
        declared: Declared::default(),
    };
    let known = Layout {
        columns: vec![
            column("id", Kind::Text),
            column("note", Kind::Text),
            column("first_name", Kind::BigInt),
            column("_run_id", Kind::BigInt),
        ],
        ..Layout::default()
    };
    let mut mapper = Mapper::new(spec(&["id"]), known);
    let (_, encoded) = encode(&mut mapper, &page(&[r#"{"id":1,"firstName":"12"}"#]));
    assert_eq!(
        show_layout(mapper.layout()),
        "id text key <- id\nfirst_name bigint <- firstName"
    );
    let rows = decode(&mapper, &encoded);
    assert_eq!((&*rows[0]["id"], &*rows[0]["first_name"]), ("1", "12"));
}

#[test]
fn fields_beyond_the_last_column_go_to_the_overflow_column() {
    let mut mapper = keyed_by_id();
    let wide = |from: usize, to: usize| {
        let fields: Vec<String> = (from..to)
            .map(|field| format!(r#","f{field}":true"#))
            .collect();
        fields.concat()
    };
    let (_, encoded) = encode(
        &mut mapper,
        &page(&[
            format!(r#"{{"id":1{}}}"#, wide(0, 1400)),
            format!(r#"{{"id":2{}}}"#, wide(1200, 1700)),
            r#"{"id":3,"f1":false,"new":{"a.b":{"c":"\ud800"}},"n":null}"#.to_owned(),
        ]),
    );
    assert!(encoded.rejects.is_empty());
    assert_eq!(mapper.layout().columns.len(), MAX_COLUMNS + 1);
    let rows = decode(&mapper, &encoded);
    assert!(!rows[0].contains_key("_overflow"));
    let overflow: Json = serde_json::from_str(&rows[1]["_overflow"]).unwrap();
    assert_eq!(overflow.as_object().unwrap().len(), 201);
    assert_eq!(rows[2]["_overflow"], r#"{"new":{"a.b":{"c":"\ufffd"}}}"#);
    // A later run knows the column again.
    let mut second = Mapper::new(spec(&["id"]), mapper.layout().clone());
    let (_, encoded) = encode(&mut second, &page(&[r#"{"id":3,"x.y":5}"#]));
    assert_eq!(decode(&second, &encoded)[0]["_overflow"], r#"{"x\\.y":5}"#);
}

#[test]
fn a_row_that_no_block_of_postgres_can_hold_is_a_reject() {
    let mut mapper = keyed_by_id();
    let fields: Vec<String> = (0..1200)
        .map(|field| format!(r#","f{field}":{field}"#))
        .collect();
    let (_, encoded) = encode(
        &mut mapper,
        &page(&[
            format!(r#"{{"id":1{}}}"#, fields.concat()),
            r#"{"id":2}"#.to_owned(),
        ]),
    );
    assert_eq!(encoded.rejects[0].reason, "row_too_wide");
    assert_eq!(encoded.rows, [1]);
}

#[test]
fn hostile_records_end_quickly() {
    let mut mapper = keyed_by_id();
    let repeated = format!(r#"{{"id":1{}}}"#, r#","a":{"b":1}"#.repeat(100_000));
    let many: Vec<String> = (0..200_000)
        .map(|field| format!(r#","f{field}":1"#))
        .collect();
    let many = format!(r#"{{"id":2{}}}"#, many.concat());
    let names: Vec<String> = (0..50_000)
        .map(|field| format!(r#","n{field}":null"#))
        .collect();
    let names = format!(r#"{{"id":3{}}}"#, names.concat());
    let long = format!(r#"{{"id":4,"{}":1}}"#, "n".repeat(5_000));
    let (_, encoded) = encode(&mut mapper, &page(&[repeated, many, names, long]));
    let reasons: Vec<_> = encoded.rejects.iter().map(|reject| reject.reason).collect();
    assert_eq!(reasons, ["too_many_fields", "too_many_fields"]);
    let rows = decode(&mapper, &encoded);
    assert!(rows[1]["_overflow"].starts_with(r#"{"nnn"#));
}

#[test]
fn a_probe_asks_with_the_keys_as_the_table_holds_them() {
    let mut mapper = Mapper::new(spec(&["id", "ref.day"]), Layout::default());
    let page = page(&[
        r#"{"id":"7","ref":{"day":"2000-01-03"}}"#,
        r#"{"id":8,"ref":{"day":"1999-12-31"}}"#,
        r#"{"id":"8","ref":{"day":"1999-12-31"}}"#,
    ]);
    let empty = scan(&mapper, &page);
    assert!(empty.probe(mapper.layout()).is_none(), "no columns yet");
    encode(&mut mapper, &page);
    let scan = scan(&mapper, &page);
    let probe = scan.probe(mapper.layout()).unwrap();
    let kinds: Vec<Kind> = probe.key_arrays.iter().map(|array| array.element).collect();
    assert_eq!(kinds, [Kind::Text, Kind::Date], "\"7\" came first");
    let head = |element: u32| {
        let words = [1, 0, element, 2, 1];
        words.map(u32::to_be_bytes).concat()
    };
    let mut days = head(1082);
    days.extend([0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 4, 255, 255, 255, 255]);
    assert_eq!(probe.key_arrays[1].bytes, days);
    assert!(probe.hashes.bytes.starts_with(&head(BYTEA_OID)));
    let last = scan.rows[1].hash.to_be_bytes();
    assert!(probe.hashes.bytes.ends_with(&last));
    // Another kind of key in the page: nothing of it can be in the table.
    let other = self::page(&[r#"{"id":1,"ref":{"day":"soon"}}"#]);
    assert!(self::scan(&mapper, &other).probe(mapper.layout()).is_none());
}

#[test]
fn the_cursor_is_the_latest_instant_at_or_below_the_cap() {
    let mapper = Mapper::new(
        MapSpec {
            cursor_path: Some(path("meta.at")),
            ..spec(&[])
        },
        Layout::default(),
    );
    let cap = Some("2024-06-01T00:00:00Z".parse().unwrap());
    // Values of a page, cursor, missing, future.
    let cases: [(&[&str], Option<&str>, u64, u64); 8] = [
        (
            &["\"2024-01-01T10:00:00+02:00\"", "\"2024-01-01T09:00:00Z\""],
            Some("2024-01-01T09:00:00Z"),
            0,
            0,
        ),
        (
            &[
                "\"2024-01-01T09:00:00.1Z\"",
                "\"2024-01-01T09:00:00.099999Z\"",
            ],
            Some("2024-01-01T09:00:00.1Z"),
            0,
            0,
        ),
        (
            &["\"2999-12-31\"", "\"2024-01-01\"", "null"],
            Some("2024-01-01"),
            1,
            1,
        ),
        (&["\"2999-12-31\"", "5"], None, 1, 1),
        (&["9", "10", "\"n/a\"", "9.5"], Some("10"), 1, 0),
        (&["\"9\"", "\"10\""], Some("10"), 0, 0),
        (
            &["12345678901234567890123", "12345678901234567890122"],
            Some("12345678901234567890123"),
            0,
            0,
        ),
        (
            &["5", "\"2024-06-01T00:00:00\\u002B00:00\"", "true"],
            Some("2024-06-01T00:00:00+00:00"),
            2,
            0,
        ),
    ];
    for (values, cursor, missing, future) in cases {
        let records: Vec<String> = values
            .iter()
            .map(|value| format!(r#"{{"meta":{{"at":{value}}}}}"#))
            .collect();
        let page = page(&records);
        let scan = mapper.scan(&page.body, &page.records, cap);
        let raw = scan.cursor.as_ref().map(|cursor| cursor.raw.as_str());
        assert_eq!(
            (raw, scan.cursor_missing, scan.cursor_future),
            (cursor, missing, future),
            "{values:?}"
        );
        if let Some(cursor) = scan.cursor {
            let again = CursorValue::from_json(&cursor.to_json(), &plain()).unwrap();
            assert_eq!((again.raw.as_str(), &again), (cursor.raw.as_str(), &cursor));
        }
    }
    assert_eq!(
        CursorValue::parse("10", &plain()).unwrap().to_json(),
        json!("10")
    );
    let bare = CursorValue::from_json(&json!(10), &plain()).unwrap();
    assert_eq!(bare.to_json(), json!(10));
}

#[test]
fn a_lag_is_taken_off_in_the_style_of_the_value_and_cut_down() {
    let cases = [
        ("2024-03-01T00:00:30Z", 60_000, "2024-02-29T23:59:30Z"),
        (
            "2024-03-01 00:00:30.123456789+05:30",
            60_000,
            "2024-02-29 23:59:30.123456789+05:30",
        ),
        ("2024-03-01T00:00:30", 1, "2024-03-01T00:00:29"),
        ("2024-03-01T00:00:30.50Z", 1, "2024-03-01T00:00:30.49Z"),
        ("2024-03-01T00:00:30.5Z", 0, "2024-03-01T00:00:30.5Z"),
        ("2024-03-01", 600_000, "2024-02-29"),
        ("0001-01-01", 600_000, "0001-01-01"),
        ("1700000000", 600_000, "1699999400"),
        ("1700000000.25", 1, "1699999999.25"),
        ("1700000000123", 600_000, "1699999400123"),
        ("42", 600_000, "42"),
        ("-1700000000", 600_000, "-1700000000"),
    ];
    for (raw, millis, expected) in cases {
        let value = CursorValue::parse(raw, &plain()).unwrap();
        let incremental = Incremental {
            lag: Lag::Time(Duration::from_millis(millis)),
            ..by_at()
        };
        assert_eq!(value.start(&incremental), expected, "{raw}");
        assert!(CursorValue::parse(expected, &plain()).unwrap() <= value);
    }
    for raw in ["now", "", "2024-02-30", "infinity", "1e5000"] {
        assert!(CursorValue::parse(raw, &plain()).is_none(), "{raw}");
    }
    let cap = "2024-01-01T00:00:00Z".parse().unwrap();
    assert!(
        CursorValue::parse("2024-01-01T00:00:00.000000001Z", &plain())
            .unwrap()
            .exceeds(cap)
    );
    assert!(
        !CursorValue::parse("2024-01-01T01:00:00+01:00", &plain())
            .unwrap()
            .exceeds(cap)
    );
    assert!(
        !CursorValue::parse("99999999999999", &plain())
            .unwrap()
            .exceeds(cap)
    );
}

fn plain() -> Notation {
    Notation::default()
}

fn by_at() -> Incremental {
    Incremental::by(path("at"))
}

#[test]
fn a_plain_lag_counts_in_the_unit_of_the_cursor_and_stays_above_the_initial_value() {
    for (raw, lag, toward, initial, expected) in [
        ("2024-03-01", 1.0, Toward::Max, None, "2024-02-29"),
        (
            "2024-03-01T00:00:30Z",
            31.0,
            Toward::Max,
            None,
            "2024-02-29T23:59:59Z",
        ),
        ("100", 7.0, Toward::Max, None, "93"),
        ("100.5", 7.5, Toward::Max, None, "92.5"),
        ("3", 7.0, Toward::Max, None, "-4"),
        ("3", 7.0, Toward::Max, Some("1"), "1"),
        ("100", 7.0, Toward::Min, None, "107"),
        (
            "2024-03-01",
            2.0,
            Toward::Max,
            Some("2024-02-29"),
            "2024-02-29",
        ),
        (
            "2024-03-01",
            0.0,
            Toward::Max,
            Some("2024-05-01"),
            "2024-05-01",
        ),
        (
            "2024-03-01",
            2.0,
            Toward::Max,
            Some("not a date"),
            "2024-02-28",
        ),
        ("2024-03-01", 2.0, Toward::Min, None, "2024-03-03"),
    ] {
        let incremental = Incremental {
            lag: Lag::Plain(lag),
            toward,
            initial_value: initial.map(str::to_owned),
            ..by_at()
        };
        let value = CursorValue::parse(raw, &plain()).unwrap();
        assert_eq!(value.start(&incremental), expected, "{raw} {lag}");
    }
}

#[test]
fn what_is_sent_has_the_spelling_that_the_configuration_names() {
    let day = Format::Pattern("%d.%m.%Y".into());
    for (sent, read, zone, raw, expected) in [
        (
            Some(Format::EpochMillis),
            vec![],
            None,
            "2024-03-01T00:00:00.5Z",
            "1709251200500",
        ),
        (
            Some(day.clone()),
            vec![],
            None,
            "2024-03-01T23:59:59Z",
            "01.03.2024",
        ),
        (
            Some(day.clone()),
            vec![Format::EpochSeconds],
            None,
            "1709251200",
            "01.03.2024",
        ),
        (
            None,
            vec![Format::EpochSeconds],
            None,
            "1709251200",
            "1709251200",
        ),
        (None, vec![day], None, "01.03.2024", "01.03.2024"),
        (
            Some(Format::EpochSeconds),
            vec![],
            Some(chrono_tz::Tz::America__New_York),
            "2024-03-01T00:00:00",
            "1709269200",
        ),
    ] {
        let notation = Notation { sent, read, zone };
        let incremental = Incremental {
            notation: notation.clone(),
            ..by_at()
        };
        let value = CursorValue::parse(raw, &notation).unwrap();
        assert_eq!(value.start(&incremental), expected, "{raw}");
        let again = CursorValue::from_json(&value.to_json(), &notation).unwrap();
        assert_eq!(again, value);
    }
}

#[test]
fn records_out_of_bounds_are_no_rows_and_do_not_move_the_cursor() {
    let spec = MapSpec {
        cursor_path: Some(path("at")),
        ..spec(&["id"])
    };
    let bound = |text: &str, closed| {
        Some(Bound {
            value: CursorValue::parse(text, &plain()).unwrap(),
            closed,
        })
    };
    let values = ["1", "2", "3", "\"x\"", "4", "5"];
    for (lower, upper, leaves_out_missing, expected, left_out, cursor) in [
        (None, None, false, vec![0, 1, 2, 3, 4, 5], 0, Some("5")),
        (
            bound("2", true),
            None,
            false,
            vec![1, 2, 3, 4, 5],
            1,
            Some("5"),
        ),
        (
            bound("2", false),
            bound("4", false),
            false,
            vec![2, 3],
            4,
            Some("3"),
        ),
        (
            bound("2.0", true),
            bound("4", true),
            true,
            vec![1, 2, 4],
            3,
            Some("4"),
        ),
        (bound("9", true), None, true, vec![], 6, None),
        // An instant cannot be compared with numbers.
        (
            bound("2024-01-01", true),
            None,
            false,
            vec![0, 1, 2, 3, 4, 5],
            0,
            Some("5"),
        ),
    ] {
        let mut mapper = Mapper::new(spec.clone(), Layout::default());
        mapper.bound(Bounds {
            lower,
            upper,
            leaves_out_missing,
        });
        let records: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(id, value)| format!(r#"{{"id":{id},"at":{value}}}"#))
            .collect();
        let page = page(&records);
        let scan = mapper.scan(&page.body, &page.records, None);
        let rows: Vec<u32> = scan.rows.iter().map(|row| row.record).collect();
        let furthest = scan.cursor.map(|cursor| cursor.raw);
        assert_eq!(
            (rows, scan.left_out, furthest.as_deref()),
            (expected, left_out, cursor)
        );
    }
}

#[test]
fn the_order_of_a_page_is_looked_at_where_one_is_promised() {
    for (order, toward, values, expected) in [
        (None, Toward::Max, vec!["1", "2"], None),
        (
            Some(RowOrder::Ascending),
            Toward::Max,
            vec!["1", "null", "1.0", "2"],
            Some(("1", "2", true)),
        ),
        (
            Some(RowOrder::Ascending),
            Toward::Max,
            vec!["2", "1", "3"],
            Some(("2", "3", false)),
        ),
        (
            Some(RowOrder::Descending),
            Toward::Min,
            vec!["3", "2", "2", "1"],
            Some(("3", "1", true)),
        ),
        (
            Some(RowOrder::Descending),
            Toward::Max,
            vec!["3", "4"],
            Some(("3", "4", false)),
        ),
        (Some(RowOrder::Descending), Toward::Max, vec!["null"], None),
    ] {
        let rule = CursorRule {
            order,
            toward,
            ..CursorRule::default()
        };
        let spec = MapSpec {
            cursor_path: Some(path("at")),
            cursor: rule,
            ..spec(&[])
        };
        let records: Vec<String> = values
            .iter()
            .map(|value| format!(r#"{{"at":{value}}}"#))
            .collect();
        let page = page(&records);
        let scan = Mapper::new(spec, Layout::default()).scan(&page.body, &page.records, None);
        let stretch = scan.stretch.map(|s| (s.first.raw, s.last.raw, s.sorted));
        let stretch = stretch
            .as_ref()
            .map(|(a, b, sorted)| (a.as_str(), b.as_str(), *sorted));
        assert_eq!(stretch, expected, "{values:?}");
        if toward == Toward::Min {
            assert_eq!(scan.cursor.unwrap().raw, "1");
        }
    }
}

#[test]
fn names_come_out_as_in_dlt_and_keep_letters_of_any_script() {
    let cases = [
        ("id", "id"),
        ("firstName", "first_name"),
        ("HTTPServerURL", "http_server_url"),
        ("ABCDef", "abc_def"),
        ("Event-Name", "event_name"),
        ("event name!", "event_namex"),
        ("1st", "_1st"),
        ("a+b*c@d|e", "axbxcadle"),
        ("__x", "_x"),
        ("x__", "xxx"),
        ("x_", "xx"),
        ("_", "x"),
        ("a___b", "a___b"),
        ("address__City", "address__city"),
        ("!!", "x"),
        ("", "_empty"),
        ("  ", "_empty"),
        ("ГодРождения", "год_рождения"),
        ("Straße", "straße"),
        ("名前", "名前"),
        ("e\u{301}tat", "e\u{301}tat"),
        ("pg_stat", "_pg_stat"),
        ("\0", "x"),
        ("\"; drop table x; --", "_drop_table_xxxx"),
    ];
    for (text, name) in cases {
        assert_eq!(identifier(text), name, "{text:?}");
    }
    let long = identifier(&"ü".repeat(40));
    assert!(long.len() <= 63 && long.starts_with("üüü"), "{long}");
    assert_ne!(long, identifier(&"ü".repeat(41)));
}

#[test]
fn two_fields_never_share_a_column_over_a_hundred_thousand_names() {
    let mut names = Names::default();
    let mut seen = HashSet::new();
    let alphabet: Vec<char> = "aAbB1_-+!%. éÉ名".chars().collect();
    let mut random = fastrand::Rng::with_seed(5);
    let mut paths = HashSet::new();
    while paths.len() < 100_000 {
        let parts = (0..random.usize(1..3)).map(|_| {
            let length = if random.u8(..) == 0 {
                200
            } else {
                random.usize(0..7)
            };
            (0..length)
                .map(|_| alphabet[random.usize(..alphabet.len())])
                .collect::<String>()
        });
        paths.insert(parts.collect::<Vec<_>>());
    }
    for path in paths {
        let name = names.assign(&path, |_| false);
        assert!(!name.is_empty() && name.len() <= 63, "{name}");
        assert!(
            !name::is_reserved(&name) || name.starts_with("_rosterd"),
            "{name}"
        );
        assert!(seen.insert(name), "{path:?}");
    }
}

#[test]
fn a_hundred_thousand_numbers_keep_every_digit() {
    let mut random = fastrand::Rng::with_seed(9);
    for _ in 0..100_000 {
        let digits = |random: &mut fastrand::Rng, most: usize| {
            let length = random.usize(1..=most);
            (0..length).map(|_| random.digit(10)).collect::<String>()
        };
        let most = if random.u8(..) == 0 { 200 } else { 12 };
        let whole = digits(&mut random, most);
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let mut text = whole.to_owned();
        if random.bool() {
            text.push('.');
            text.push_str(&digits(&mut random, most));
        }
        let is_zero = !text.contains(|digit| matches!(digit, '1'..='9'));
        if random.bool() && !is_zero {
            text.insert(0, '-');
        }
        let mut field = Vec::new();
        Decimal::parse(text.as_bytes())
            .unwrap()
            .write_numeric(&mut field);
        assert_eq!(show_numeric(&field), text);
        // The canonical text is the same number without the zeros at its end.
        let mut canonical = Vec::new();
        Decimal::parse(text.as_bytes())
            .unwrap()
            .write_canonical(&mut canonical);
        let mut again = Vec::new();
        Decimal::parse(&canonical)
            .unwrap()
            .write_canonical(&mut again);
        assert_eq!(canonical, again);
        let trimmed = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        };
        assert_eq!(String::from_utf8(canonical).unwrap(), trimmed);
    }
}

#[test]
fn json_is_checked_to_the_letter_before_it_is_sent() {
    let good = [
        "1",
        " [ ] ",
        "{}",
        r#"{"a":[1,{"b":null}],"c":"\u00e9"}"#,
        "[[[[]]]]",
        "-1.5e+10",
    ];
    let bad = [
        "",
        "[",
        "]",
        "[1 2]",
        "{1:2}",
        r#"{"a"}"#,
        r#"{"a":1,}"#,
        "[1]]",
        "tru",
        "+1",
        "\"\u{1}\"",
        r#""\u12""#,
        "[1}",
    ];
    for text in good {
        assert_eq!(
            Checker::default().check(text.as_bytes()),
            Ok(false),
            "{text}"
        );
        assert!(serde_json::from_str::<Json>(text).is_ok());
    }
    for text in bad {
        assert_eq!(
            Checker::default().check(text.as_bytes()),
            Err(Unfit::Malformed),
            "{text}"
        );
        assert!(serde_json::from_str::<Json>(text).is_err());
    }
    let depth = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(Checker::default().check(depth(5_000).as_bytes()), Ok(false));
    assert_eq!(
        Checker::default().check(depth(5_001).as_bytes()),
        Err(Unfit::TooDeep)
    );
}

/// Strings that look like other things, or that no sane system would send.
fn odd_string() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,12}",
        "-?[0-9]{1,20}(\\.[0-9]{1,5})?",
        "20[0-9]{2}-[01][0-9]-[0-3][0-9]",
        "20[0-9]{2}-0[1-9]-[0-2][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|[+-][01][0-9]:?[0-5][0-9])?",
        Just("now".to_owned()),
        Just(String::new()),
    ]
}

fn odd_number() -> impl Strategy<Value = Json> {
    "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?"
        .prop_map(|text| serde_json::from_str(&text).unwrap())
}

fn odd_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(Json::from),
        odd_number(),
        odd_string().prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            members(inner).prop_map(Json::Object),
        ]
    })
}

fn members(
    value: impl Strategy<Value = Json>,
) -> impl Strategy<Value = serde_json::Map<String, Json>> {
    // Few names, so that records meet in the same columns.
    let name = prop_oneof![
        8 => "[abAB]",
        1 => Just("a b".to_owned()),
        1 => Just("a__b".to_owned()),
        1 => Just("_run_id".to_owned()),
        1 => any::<String>(),
    ];
    prop::collection::vec((name, value), 0..6).prop_map(|members| members.into_iter().collect())
}

fn document() -> impl Strategy<Value = serde_json::Map<String, Json>> {
    members(odd_value())
}

/// Compares a document with its row, taking what it finds out of `fields`.
fn expect(layout: &Layout, fields: &mut Row, at: &mut Vec<String>, value: &Json) {
    let column = layout.columns.iter().find(|column| column.path == *at);
    let stored = column.and_then(|column| Some((column.kind, fields.remove(&column.name)?)));
    match (value, stored) {
        (Json::Null, None) => {}
        (Json::Object(members), None) => {
            for (name, value) in members {
                at.push(name.clone());
                expect(layout, fields, at, value);
                at.pop();
            }
        }
        (value, Some((kind, text))) => assert!(
            means(kind, &text, value),
            "{at:?}: {text} as {kind:?} is not {value}"
        ),
        (value, None) => panic!("{at:?}: {value} is lost"),
    }
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn means(kind: Kind, text: &str, value: &Json) -> bool {
    let number = |text: &str| {
        let mut canonical = Vec::new();
        Decimal::parse(text.as_bytes())
            .map(|decimal| decimal.write_canonical(&mut canonical))
            .ok()?;
        Some(canonical)
    };
    match (kind, value) {
        (Kind::Boolean, Json::Bool(truth)) => text.parse() == Ok(*truth),
        (Kind::BigInt | Kind::Numeric, Json::Number(source)) => {
            number(text) == number(&source.to_string())
        }
        (Kind::BigInt | Kind::Numeric, Json::String(source)) => text == source,
        (Kind::Text, Json::String(source)) => text == without_nul(source),
        (Kind::Text, Json::Bool(truth)) => text.parse() == Ok(*truth),
        (Kind::Text, Json::Number(source)) => text == source.as_str(),
        (Kind::Date, Json::String(source)) => text == source && source.parse::<NaiveDate>().is_ok(),
        (Kind::Timestamptz, Json::String(source)) => {
            let stored: DateTime<Utc> = text.parse().unwrap();
            let format = |zone: &str| format!("%Y-%m-%d%H:%M:%S%.f{zone}");
            let plain = source.replace(['T', ' '], "");
            let exact = DateTime::parse_from_str(&plain.replace('Z', "+00:00"), &format("%z"))
                .map(|time| time.to_utc())
                .or_else(|_| {
                    chrono::NaiveDateTime::parse_from_str(&plain, &format(""))
                        .map(|time| time.and_utc())
                })
                .or_else(|_| {
                    source
                        .parse::<NaiveDate>()
                        .map(|day| day.and_time(chrono::NaiveTime::MIN).and_utc())
                })
                .unwrap();
            let lost = exact - stored;
            lost >= TimeDelta::zero() && lost < TimeDelta::microseconds(1)
        }
        (Kind::Jsonb, value) => {
            let source: Json =
                serde_json::from_str(&value.to_string().replace("\\u0000", "\\ufffd")).unwrap();
            serde_json::from_str::<Json>(text).unwrap() == source
        }
        _ => false,
    }
}

/// Members of an object as text, with names that stand twice, are spelled otherwise, or only look like `id`.
fn lookalikes(
    value: impl Strategy<Value = String> + Clone,
) -> impl Strategy<Value = String> + Clone {
    let name = prop::sample::select(vec![
        r#""id""#,
        r#""a""#,
        r#""\u0069d""#,
        r#""id\"""#,
        r#""id{""#,
    ]);
    let member =
        (name, " ?", value).prop_map(|(name, space, value)| format!("{name}{space}:{value}"));
    prop::collection::vec(member, 0..5).prop_map(|members| members.join(","))
}

fn any_value() -> impl Strategy<Value = String> + Clone {
    let leaf = prop::sample::select(vec![
        "1",
        "null",
        r#""id""#,
        r#""{""#,
        r#""}""#,
        r#""}{\"""#,
        r#""\"id\":2""#,
        r#""\\""#,
    ]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                lookalikes(inner.clone()).prop_map(|members| format!("{{{members}}}")),
                prop::collection::vec(inner, 0..3)
                    .prop_map(|values| format!("[{}]", values.join(", "))),
            ]
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_key_is_what_reading_the_whole_record_would_find(
        parts in prop::collection::vec((lookalikes(any_value()), 0_u32..100), 0..4),
    ) {
        // At the record's own level `id` is a number, or what is found would be no key.
        let parts = parts.iter().map(|(others, id)| {
            let others = format!("\"o\":{{{others}}}");
            format!(r#""id":{id},{others}"#)
        });
        let record = format!("{{\"first\":1,{}\"last\":[]}}", parts.map(|part| part + ",").collect::<String>());
        let whole: Json = serde_json::from_str(&record).unwrap();
        let scan = scan(&keyed_by_id(), &page(&[&record]));
        match whole.get("id") {
            Some(id) => prop_assert_eq!(scan.key_text(0), Some(id.to_string()), "{}", record),
            None => prop_assert_eq!(scan.rejects.first().map(|reject| reject.reason), Some("null_key")),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_documents_come_back_whole(
        pages in prop::collection::vec(prop::collection::vec(document(), 1..8), 1..4),
        nesting in prop::option::of(0_u32..3),
        restart in any::<bool>(),
    ) {
        let spec = MapSpec { max_table_nesting: nesting.filter(|levels| *levels == 0), ..spec(&["the id"]) };
        let mut mapper = Mapper::new(spec.clone(), Layout::default());
        for mut documents in pages {
            for (id, document) in documents.iter_mut().enumerate() {
                document.insert("the id".to_owned(), Json::from(id));
            }
            let texts: Vec<String> = documents.iter().map(|d| Json::Object(d.clone()).to_string()).collect();
            let (scan, encoded) = encode(&mut mapper, &page(&texts));
            prop_assert_eq!(scan.rows.len(), documents.len());
            prop_assert!(encoded.rejects.is_empty(), "{:?}", encoded.rejects);
            let rows = decode(&mapper, &encoded);
            for (document, mut row) in documents.iter().zip(rows) {
                for (name, value) in document {
                    expect(mapper.layout(), &mut row, &mut vec![name.clone()], value);
                }
                prop_assert!(row.is_empty(), "not in the document: {row:?}");
            }
            let names: HashSet<_> = mapper.layout().columns.iter().map(|c| &c.name).collect();
            prop_assert_eq!(names.len(), mapper.layout().columns.len());
            if restart {
                mapper = Mapper::new(spec.clone(), mapper.layout().clone());
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        records in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "[\\{\\}\\[\\]\",:0-9eE.a\\\\u -]{0,60}".prop_map(String::into_bytes),
            r#"\{"id":[0-9"a\\u\[\]\{\},.:-]{0,40}\}"#.prop_map(String::into_bytes),
            document().prop_flat_map(|document| {
                let mut text = Json::Object(document).to_string().into_bytes();
                text.splice(1..1, br#""id":1,"#.iter().copied());
                let length = text.len();
                (Just(text), 0..length, any::<u8>()).prop_map(|(mut text, place, byte)| {
                    text[place] = byte;
                    text
                })
            }),
        ], 0..6),
    ) {
        let mut mapper = Mapper::new(
            MapSpec { cursor_path: Some(path("at")), ..spec(&["id"]) },
            Layout::default(),
        );
        let (scan, encoded) = encode(&mut mapper, &page(&records));
        prop_assert_eq!(
            scan.rows.len() + scan.duplicates as usize + scan.rejects.len(),
            records.len()
        );
        prop_assert_eq!(encoded.tuples.len() + encoded.rejects.len(), scan.rows.len());
        // What is sent as JSON is JSON.
        for row in decode(&mapper, &encoded) {
            for column in &mapper.layout().columns {
                if let (Kind::Jsonb, Some(text)) = (column.kind, row.get(&column.name)) {
                    prop_assert!(serde_json::from_str::<Json>(text).is_ok(), "{text}");
                }
            }
        }
    }

    #[test]
    fn ranges_outside_the_body_are_rejects(start in any::<u32>(), end in any::<u32>()) {
        let mut mapper = keyed_by_id();
        let page = Page { body: br#"{"id":1}"#.to_vec(), records: std::iter::once(start..end).collect() };
        let (scan, _) = encode(&mut mapper, &page);
        prop_assert!(scan.rows.is_empty() || (start, end) == (0, 8));
    }
}
