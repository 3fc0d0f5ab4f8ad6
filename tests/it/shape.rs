//! What `shape` encodes, read back by a real Postgres: the server is the judge of the wire formats.

use rosterd::{
    config::endpoint::{DottedPath, Step},
    shape::{Column, Encoded, Layout, MapSpec, Mapper, SYSTEM_COLUMNS, Scan, Stamp},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgPoolCopyExt as _};

use crate::support::db::TestDb;

/// Each case: a field's JSON, and the SQL whose value the row must then have.
const CASES: [(&str, &str); 24] = [
    ("true", "true"),
    ("-9223372036854775808", "'-9223372036854775808'::bigint"),
    ("9223372036854775808", "9223372036854775808::numeric"),
    ("0.000", "0.000"),
    ("-1234567.0001000", "-1234567.0001000"),
    (
        "12345678901234567890123.4567890123",
        "12345678901234567890123.4567890123",
    ),
    ("10000", "10000::bigint"),
    ("1e-1000", "'1e-1000'::numeric"),
    ("9.5e1000", "'9.5e1000'::numeric"),
    ("-1.50E+3", "'-1.50E+3'::numeric"),
    ("\"2024-02-29\"", "'2024-02-29'::date"),
    ("\"0001-01-01\"", "'0001-01-01'::date"),
    ("\"9999-12-31\"", "'9999-12-31'::date"),
    (
        "\"1999-12-31T23:59:59.999999999Z\"",
        "'1999-12-31 23:59:59.999999+00'::timestamptz",
    ),
    (
        "\"0001-01-01T00:00:00+14:00\"",
        "'0001-01-01 00:00:00+14'::timestamptz",
    ),
    (
        "\"2024-05-06 07:08:09.5-0330\"",
        "'2024-05-06 07:08:09.5-03:30'::timestamptz",
    ),
    ("\"now\"", "'now'::text"),
    ("\"a\\u0000b\\ud800\"", "U&'a\\FFFDb\\FFFD'"),
    ("\"\\ud83d\\ude00 é\"", "U&'\\+01F600 \\00E9'"),
    ("\"\"", "''::text"),
    ("[1.50, {\"a\": null}]", "'[1.50, {\"a\": null}]'::jsonb"),
    (
        "[\"\\u0000\\\\u0000\\udc00\"]",
        "'[\"\\ufffd\\\\u0000\\ufffd\"]'::jsonb",
    ),
    ("[]", "'[]'::jsonb"),
    ("[[[[[[]]]]]]", "'[[[[[[]]]]]]'::jsonb"),
];

fn key(name: &str) -> DottedPath {
    DottedPath(vec![Step::Key(name.to_owned())])
}

fn mapper(key_names: &[&str]) -> Mapper {
    let spec = MapSpec {
        primary_key: key_names.iter().map(|name| key(name)).collect(),
        cursor_path: None,
        max_table_nesting: None,
        mapping_version: 1,
        ..MapSpec::default()
    };
    Mapper::new(spec, Layout::default())
}

fn encode(mapper: &mut Mapper, record: &str) -> (Scan, Encoded) {
    let whole = 0..u32::try_from(record.len()).unwrap();
    let records = std::slice::from_ref(&whole);
    let scan = mapper.scan(record.as_bytes(), records, None);
    let stamp = Stamp {
        run_id: -7,
        synced_at: "1999-12-31T23:59:59.25Z".parse().unwrap(),
    };
    let encoded = mapper.encode(record.as_bytes(), records, &scan, &[true], stamp);
    assert!(scan.rejects.is_empty() && encoded.rejects.is_empty());
    (scan, encoded)
}

fn quoted(column: &Column) -> String {
    format!("\"{}\" {}", column.name, column.kind.sql())
}

/// Tuples with the header and the trailer of a binary COPY.
fn copy_file(tuples: &[u8]) -> Vec<u8> {
    let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    [&header[..], tuples, &[0xff, 0xff]].concat()
}

async fn copy(db: &TestDb, table: &str, tuples: &[u8]) {
    let statement = format!("copy {table} from stdin with (format binary)");
    let mut copy = db.pool().copy_in_raw(&statement).await.unwrap();
    copy.send(copy_file(tuples)).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 1);
}

async fn execute(db: &TestDb, sql: String) {
    let mut connection = PgConnection::connect_with(db.options()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

async fn truth(db: &TestDb, sql: String) -> bool {
    let mut connection = PgConnection::connect_with(db.options()).await.unwrap();
    let truth = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    truth
}

#[tokio::test]
async fn postgres_reads_each_value_as_it_was_meant() {
    let db = TestDb::new().await;
    let fields: Vec<String> = CASES
        .iter()
        .enumerate()
        .map(|(place, (json, _))| format!("\"f{place}\":{json}"))
        .collect();
    let mut mapper = mapper(&["f6"]);
    let (_, encoded) = encode(&mut mapper, &format!("{{{}}}", fields.join(",")));
    let columns = mapper.layout().columns.iter().map(quoted);
    let system = SYSTEM_COLUMNS.map(|(name, kind)| format!("{name} {kind}"));
    let columns: Vec<String> = columns.chain(system).collect();
    execute(&db, format!("create table people ({})", columns.join(", "))).await;
    copy(&db, "people", &encoded.data).await;
    for (place, (json, sql)) in CASES.iter().enumerate() {
        // The text too: a numeric of the same value may have lost its zeros.
        let same = format!(
            "select f{place} is not distinct from {sql} and f{place}::text = ({sql})::text \
             and pg_typeof(f{place}) = pg_typeof({sql}) from people"
        );
        let same = same
            .replace("pg_typeof(U&", "pg_typeof(text U&")
            .replace("= (U&", "= (text U&");
        assert!(truth(&db, same).await, "{json}");
    }
    let system = "select _run_id = -7 and _synced_at = '1999-12-31 23:59:59.25+00' \
                  and length(_row_hash) = 16 from people";
    assert!(truth(&db, system.to_owned()).await);
}

#[tokio::test]
async fn postgres_finds_a_row_by_its_probe() {
    let db = TestDb::new().await;
    let record =
        r#"{"a":-5,"b":1.50,"c":"2024-02-29","d":"1999-01-01T00:00:00+05:00","e":"é","f":true}"#;
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut mapper = mapper(&names);
    let (scan, encoded) = encode(&mut mapper, record);
    let probe = scan.probe(mapper.layout()).unwrap();
    let columns: Vec<String> = mapper.layout().columns.iter().map(quoted).collect();
    let system = SYSTEM_COLUMNS.map(|(name, kind)| format!("{name} {kind}"));
    execute(
        &db,
        format!(
            "create table people ({}, {}); create table probe ({}, hash bytea[])",
            columns.join(", "),
            system.join(", "),
            columns
                .iter()
                .map(|column| format!("{column}[]"))
                .collect::<Vec<_>>()
                .join(", "),
        ),
    )
    .await;
    copy(&db, "people", &encoded.data).await;
    // An array has the same bytes as a field of COPY and as a parameter.
    let arrays = probe
        .key_arrays
        .iter()
        .map(|array| &array.bytes)
        .chain([&probe.hashes.bytes]);
    let mut tuple = i16::try_from(names.len() + 1)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    for bytes in arrays {
        tuple.extend(i32::try_from(bytes.len()).unwrap().to_be_bytes());
        tuple.extend(bytes);
    }
    copy(&db, "probe", &tuple).await;
    let found = "select count(*) = 1 from probe as p, unnest(p.a, p.b, p.c, p.d, p.e, p.f, p.hash) \
                 as q (a, b, c, d, e, f, hash) \
                 join people as t on (t.a, t.b, t.c, t.d, t.e, t.f) = (q.a, q.b, q.c, q.d, q.e, q.f) \
                 and t._row_hash = q.hash";
    assert!(truth(&db, found.to_owned()).await);
}
