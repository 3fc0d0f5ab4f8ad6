//! A second run over the same data writes no row: not one of `pg_stat_user_tables`' counters moves for
//! any data table, and `rows_unchanged` counts every record. One row of the table per strategy and per
//! kind of data that might look changed when it is not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::documents::{Documents, PAGED, SYNC};

/// What is written how, keys of the resource, the page of every run, and how many of its records
/// count as unchanged in a later run.
type Case = (&'static str, &'static str, &'static str, i64);

const PLAIN: &str = r#"[{"id": 1, "v": "a", "who": "ann"}, {"id": 2, "v": "b", "who": "ann"}, {"id": 3, "v": null, "who": "bob"}]"#;

const LISTS: &str = r#"[{"id": 1, "tags": ["x", "y"], "jobs": [{"title": "cook", "skills": ["fire", 1]}]}, {"id": 2, "tags": []}, {"id": 3}]"#;

const CASES: &[Case] = &[
    (
        "merge, upsert",
        "primary_key: id\nwrite_disposition: merge",
        PLAIN,
        3,
    ),
    (
        "merge, upsert, a batch for each record",
        "primary_key: id\nwrite_disposition: merge\nbatch: {rows: 1}",
        PLAIN,
        3,
    ),
    (
        "merge, delete-insert",
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: delete-insert}",
        PLAIN,
        3,
    ),
    (
        "merge, delete-insert, deduplicated",
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: delete-insert, deduplicated: true}",
        PLAIN,
        3,
    ),
    (
        "merge, insert-only",
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: insert-only}",
        PLAIN,
        3,
    ),
    (
        "merge, scd2",
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: scd2}",
        PLAIN,
        3,
    ),
    (
        "merge, scd2 without a key",
        "write_disposition: {disposition: merge, strategy: scd2}",
        PLAIN,
        3,
    ),
    (
        "merge, scd2 with a merge key, a boundary and a time for what is valid",
        "merge_key: who\nwrite_disposition: {disposition: merge, strategy: scd2, boundary_timestamp: 2024-01-01, active_record_timestamp: 9999-12-31}",
        PLAIN,
        3,
    ),
    (
        "merge, scd2 with lists",
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: scd2}\nmax_table_nesting: 2",
        LISTS,
        3,
    ),
    (
        "sets by a merge key",
        "merge_key: who\nwrite_disposition: merge",
        PLAIN,
        3,
    ),
    (
        "sets by a merge key, with a key and lists",
        "merge_key: id\nprimary_key: id\nwrite_disposition: merge\nmax_table_nesting: 2",
        LISTS,
        3,
    ),
    (
        "replace, with a key",
        "primary_key: id\nwrite_disposition: replace",
        PLAIN,
        3,
    ),
    (
        "replace, without a key, equal rows among them",
        "write_disposition: replace",
        r#"[{"v": 1}, {"v": 1}, {"v": 2}]"#,
        3,
    ),
    (
        "replace, with lists",
        "primary_key: id\nwrite_disposition: replace\nmax_table_nesting: 2",
        LISTS,
        3,
    ),
    (
        "snapshot deletes, marked",
        "primary_key: id\nwrite_disposition: merge\ndeletes: snapshot",
        PLAIN,
        3,
    ),
    (
        "snapshot deletes, for good, with lists",
        "primary_key: id\nwrite_disposition: merge\ndeletes: {mode: snapshot, hard: true}\nmax_table_nesting: 2",
        LISTS,
        3,
    ),
    (
        "deletes by flag: the record of a row that is gone writes nothing either",
        "primary_key: id\nwrite_disposition: merge\ndeletes: {mode: flag, field: gone}",
        r#"[{"id": 1, "gone": null}, {"id": 2, "gone": true}, {"id": 3}]"#,
        3,
    ),
    (
        "hard_delete",
        "primary_key: id\nwrite_disposition: merge\ncolumns: {gone: {hard_delete: true}}",
        r#"[{"id": 1, "gone": false}, {"id": 2, "gone": true}]"#,
        2,
    ),
    (
        "lists with tables",
        "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 2",
        LISTS,
        3,
    ),
    (
        "objects and lists as jsonb: order of members and spelling of numbers are theirs",
        "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 0",
        r#"[{"id": 1, "a": {"z": 1.50, "b": [1e2, {"y": null, "x": 2}], "z2": 1}}, {"id": 2, "a": []}]"#,
        2,
    ),
    (
        "jsonb by hint, with a member twice",
        "primary_key: id\nwrite_disposition: merge\ncolumns: {a: {data_type: json}}",
        r#"[{"id": 1, "a": {"b": 1, "b": 2}}, {"id": 2, "a": "text"}, {"id": 3, "a": null}]"#,
        3,
    ),
    (
        "a key of hashed fields",
        "primary_key: {hash: [v, who]}\nwrite_disposition: merge",
        PLAIN,
        3,
    ),
    (
        "a key of the whole record",
        "primary_key: {hash: \"*\"}\nwrite_disposition: merge",
        PLAIN,
        3,
    ),
    (
        "privacy: hashes, also of the key, years, fields kept out",
        "primary_key: id\nwrite_disposition: merge\nprivacy: {hash: [id, mail], keep: {born: year}, exclude: '**.ssn'}",
        r#"[{"id": 1, "mail": "a@x.org", "born": "1987-03-05", "ssn": 1, "home": {"ssn": 2, "city": "Oslo"}}, {"id": 2, "born": "soon"}]"#,
        2,
    ),
    (
        "privacy in lists with tables",
        "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 2\nprivacy: {hash: 'jobs.title', exclude: 'jobs.skills'}",
        LISTS,
        3,
    ),
    (
        "privacy: new fields are blocked in every run",
        "primary_key: id\nwrite_disposition: merge\nprivacy: {new_columns: block}",
        PLAIN,
        3,
    ),
    (
        "hints of every kind",
        "primary_key: id\nwrite_disposition: merge\nnull_values: ['None']\ncolumns: {f: {data_type: double}, t: {data_type: timestamp, timezone: Europe/Berlin, precision: 0}, d: {format: '%d.%m.%Y'}, l: {format: iso_duration}, b: {data_type: binary}, n: {data_type: decimal, precision: 9, scale: 3}, e: {format: epoch_ms}, c: {data_type: time}}",
        r#"[{"id": 1, "f": -0.0, "t": "2024-03-31T02:30:00.7", "d": "29.02.2024", "l": "P1Y2M3DT4H5M6.5S", "b": "aGk=", "n": 1.50, "e": 1700000000123, "c": "07:05", "x": "None"}, {"id": 2, "f": "1.5"}]"#,
        2,
    ),
    (
        "numbers in several spellings, texts with NUL",
        "primary_key: id\nwrite_disposition: merge",
        r#"[{"id": 1.0, "a": 1e2, "b": 1.500, "c": -0, "t": "a\u0000b\ud800"}, {"id": "2", "a": 9223372036854775808, "b": "2024-01-01T02:00:00+02:00"}]"#,
        2,
    ),
    (
        "types that widened on the way, to text and to jsonb",
        "primary_key: id\nwrite_disposition: merge",
        r#"[{"id": 1, "v": 1e2, "w": "2024-01-01T02:00:00+02:00"}, {"id": 2, "v": "x", "w": [1]}, {"id": 3, "v": true, "w": 5}]"#,
        3,
    ),
    (
        "the highest version of a key, and lower ones after it",
        "primary_key: id\nwrite_disposition: merge\nbatch: {rows: 1}\ncolumns: {n: {dedup_sort: desc}}",
        r#"[{"id": 1, "n": 9}, {"id": 1, "n": 7}, {"id": 2, "n": 1}]"#,
        3,
    ),
    (
        "parts of records",
        "primary_key: id\nwrite_disposition: merge\npartial_records: true",
        r#"[{"id": 1, "v": 1}, {"id": 2, "w": 2, "address": {"city": "Oslo"}}]"#,
        2,
    ),
    (
        "a record that is rejected in every run",
        "primary_key: id\nwrite_disposition: merge\nrejects: {tolerate: 5}\ncolumns: {n: {data_type: bigint}}",
        r#"[{"id": 1, "n": 1}, {"id": 2, "n": "x"}, {"id": null}]"#,
        1,
    ),
    (
        "rows past their time are left out in every run",
        "primary_key: id\nwrite_disposition: merge\nretention: {column: left, delete_after: 180d}",
        r#"[{"id": 1, "left": "2020-01-01"}, {"id": 2, "left": null}, {"id": 3, "left": "2999-01-01"}]"#,
        2,
    ),
    (
        "names that clash, are Postgres' own, or are too long",
        "primary_key: id\nwrite_disposition: merge",
        r#"[{"id": 1, "na!e": 1, "na%e": 2, "xmin": 3, "_run_id": 4, "_row_hash": 5, "": 6, "a_name_that_is_much_longer_than_postgres_lets_any_name_be_so_it_is_cut": 7}]"#,
        1,
    ),
    (
        "schema_contract: freeze",
        "primary_key: id\nwrite_disposition: merge\nschema_contract: freeze",
        PLAIN,
        3,
    ),
];

/// Rows inserted, updated and deleted so far, by data table, when every run has told its numbers.
async fn written(docs: &Documents) -> Value {
    // A server process tells what it counted when its client is gone, and is gone after that.
    let at_work = format!(
        "select count(*) as n from pg_stat_activity where datname = current_database() and application_name = '{SYNC}'"
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    while docs.json(&at_work).await != json!([{"n": 0}]) {
        assert!(
            Instant::now() < deadline,
            "the run is over, and still connected"
        );
    }
    docs.json(
        "select relname, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables
         where schemaname = 'hr' order by relname",
    )
    .await
}

/// Runs twice, and says what the second run wrote or miscounted.
async fn wrong(docs: &Documents, pages: &[&str], unchanged: i64) -> Option<String> {
    docs.load_pages(pages).await;
    let before = written(docs).await;
    assert!(before[0]["n_tup_ins"].as_i64() > Some(0), "{before}");
    // Twice: what the first run could not know of hashes, the second has written down.
    for _ in 0..2 {
        docs.load_pages(pages).await;
        let after = written(docs).await;
        let counted = docs
            .json("select rows_inserted + rows_updated + rows_deleted as changed, rows_unchanged as unchanged from rosterd.runs order by run_id desc limit 1")
            .await;
        let counted = counted[0].clone();
        if before != after || counted != json!({"changed": 0, "unchanged": unchanged}) {
            return Some(format!("{counted}\n  {before}\n  {after}"));
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_over_unchanged_data_writes_no_row_whatever_the_strategy() {
    let mut found = Vec::new();
    for (what, keys, page, unchanged) in CASES {
        let docs = Documents::new(keys).await;
        if let Some(wrong) = wrong(&docs, &[page], *unchanged).await {
            found.push(format!("{what}: {wrong}"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What is written how, keys of the resource, the pages of every run, and the rows of key 1 that stay.
type Contested = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
);

const UPSERT: &str = "primary_key: id\nwrite_disposition: merge";

/// Records of one key that say different things, on different pages: the last one counts, and those
/// before it are no reason to write.
const CONTESTED: &[Contested] = &[
    (
        "upsert",
        UPSERT,
        &[
            r#"[{"id": 1, "v": "a"}, {"id": 2, "v": "x"}]"#,
            r#"[{"id": 1, "v": "b"}, {"id": 3, "v": "y"}]"#,
        ],
        r#"[{"v": "b"}]"#,
    ),
    (
        "upsert, a batch for each record",
        "primary_key: id\nwrite_disposition: merge\nbatch: {rows: 1}",
        &[
            r#"[{"id": 1, "v": "a"}]"#,
            r#"[{"id": 2, "v": "x"}]"#,
            r#"[{"id": 1, "v": "b"}]"#,
            r#"[{"id": 3, "v": "y"}]"#,
        ],
        r#"[{"v": "b"}]"#,
    ),
    (
        "three of a key",
        UPSERT,
        &[
            r#"[{"id": 1, "v": "a"}]"#,
            r#"[{"id": 1, "v": "b"}]"#,
            r#"[{"id": 1, "v": "c"}]"#,
        ],
        r#"[{"v": "c"}]"#,
    ),
    (
        "there and back",
        UPSERT,
        &[
            r#"[{"id": 1, "v": "a"}]"#,
            r#"[{"id": 1, "v": "b"}]"#,
            r#"[{"id": 1, "v": "a"}, {"id": 2}]"#,
        ],
        r#"[{"v": "a"}]"#,
    ),
    (
        "delete-insert",
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: delete-insert}",
        &[r#"[{"id": 1, "v": "a"}]"#, r#"[{"id": 1, "v": "b"}]"#],
        r#"[{"v": "b"}]"#,
    ),
    (
        "insert-only: here the first one counts",
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: insert-only}",
        &[r#"[{"id": 1, "v": "a"}]"#, r#"[{"id": 1, "v": "b"}]"#],
        r#"[{"v": "a"}]"#,
    ),
    (
        "scd2",
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: scd2}",
        &[r#"[{"id": 1, "v": "a"}]"#, r#"[{"id": 1, "v": "b"}]"#],
        r#"[{"v": "a"}, {"v": "b"}]"#,
    ),
    (
        "scd2, versions by a field",
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: scd2, row_version_column_name: v}",
        &[
            r#"[{"id": 1, "v": "a"}, {"id": 2, "v": "a"}]"#,
            r#"[{"id": 1, "v": "b"}, {"id": 3, "v": "a"}]"#,
        ],
        r#"[{"v": "a"}, {"v": "b"}]"#,
    ),
    (
        "snapshot deletes",
        "primary_key: id\nwrite_disposition: merge\ndeletes: snapshot",
        &[r#"[{"id": 1, "v": "a"}]"#, r#"[{"id": 1, "v": "b"}]"#],
        r#"[{"v": "b"}]"#,
    ),
    (
        "lists with tables",
        "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 1",
        &[
            r#"[{"id": 1, "v": "a", "tags": [1, 2]}]"#,
            r#"[{"id": 1, "v": "b", "tags": [3]}]"#,
        ],
        r#"[{"v": "b"}]"#,
    ),
    (
        "a key of hashed fields",
        "primary_key: {hash: [id]}\nwrite_disposition: merge",
        &[r#"[{"id": 1, "v": "a"}]"#, r#"[{"id": 1, "v": "b"}]"#],
        r#"[{"v": "b"}]"#,
    ),
    (
        "versions that are equal",
        "primary_key: id\nwrite_disposition: merge\ncolumns: {n: {dedup_sort: desc}}",
        &[
            r#"[{"id": 1, "n": 7, "v": "a"}]"#,
            r#"[{"id": 1, "n": 7, "v": "b"}]"#,
        ],
        r#"[{"v": "b"}]"#,
    ),
    (
        "gone after all, for good",
        "primary_key: id\nwrite_disposition: merge\ndeletes: {mode: flag, field: gone, hard: true}",
        &[
            r#"[{"id": 1, "v": "a"}, {"id": 2}]"#,
            r#"[{"id": 1, "v": "b", "gone": true}]"#,
        ],
        "[]",
    ),
    (
        "gone after all, marked",
        "primary_key: id\nwrite_disposition: merge\ndeletes: {mode: flag, field: gone}",
        &[
            r#"[{"id": 1, "v": "a"}]"#,
            r#"[{"id": 1, "v": "b", "gone": true}]"#,
        ],
        r#"[{"v": "a"}]"#,
    ),
    (
        "there after all, deletes for good",
        "primary_key: id\nwrite_disposition: merge\ndeletes: {mode: flag, field: gone, hard: true}",
        &[
            r#"[{"id": 1, "gone": true, "v": "a"}, {"id": 2}]"#,
            r#"[{"id": 1, "v": "b"}]"#,
        ],
        r#"[{"v": "b"}]"#,
    ),
    (
        "there after all, deletes marked",
        "primary_key: id\nwrite_disposition: merge\ndeletes: {mode: flag, field: gone}",
        &[
            r#"[{"id": 1, "gone": true, "v": "a"}]"#,
            r#"[{"id": 1, "v": "b"}]"#,
        ],
        r#"[{"v": "b"}]"#,
    ),
    (
        "parts of records that say nothing of each other's fields",
        "primary_key: id\nwrite_disposition: merge\npartial_records: true",
        &[
            r#"[{"id": 1, "w": 1}, {"id": 1, "x": 2}]"#,
            r#"[{"id": 1, "v": "b"}]"#,
        ],
        r#"[{"v": "b"}]"#,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn records_that_give_way_to_later_ones_of_their_key_write_no_row_in_a_second_run() {
    let mut found = Vec::new();
    for (what, keys, pages, row) in CONTESTED {
        let docs = Documents::new(&format!("{PAGED}{keys}")).await;
        let records = pages.iter().map(|page| {
            let page: Vec<Value> = serde_json::from_str(page).unwrap();
            page.len()
        });
        let records = i64::try_from(records.sum::<usize>()).unwrap();
        if let Some(wrong) = wrong(&docs, pages, records).await {
            found.push(format!("{what}: {wrong}"));
        }
        let rows = docs
            .json("select v from hr.docs where id = 1 order by v")
            .await;
        let row: Value = serde_json::from_str(row).unwrap();
        if rows != row {
            found.push(format!("{what}: {rows}"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Contract, the first page, the page of every later run, and its unchanged records.
const CONTRACTS: &[(&str, &str, &str, i64)] = &[
    (
        "{columns: discard_value}",
        r#"[{"id": 1}]"#,
        r#"[{"id": 1, "more": 1}, {"id": 2, "more": {"deep": 1}}]"#,
        2,
    ),
    (
        "{data_type: discard_value}",
        r#"[{"id": 1, "v": 1}]"#,
        r#"[{"id": 1, "v": "x"}, {"id": 2, "v": 2}]"#,
        2,
    ),
    (
        "{tables: discard_value}",
        r#"[{"id": 1}]"#,
        r#"[{"id": 1, "tags": ["x"]}, {"id": 2, "tags": ["y"]}]"#,
        2,
    ),
    (
        "discard_row",
        r#"[{"id": 1, "v": 1}]"#,
        r#"[{"id": 1, "v": "x"}, {"id": 2, "v": 2}, {"id": 3, "more": 1}]"#,
        1,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_contract_leaves_out_of_every_run_is_no_change() {
    let mut found = Vec::new();
    for (contract, first, later, unchanged) in CONTRACTS {
        let docs = Documents::new(&format!(
            "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 1\nschema_contract: {contract}"
        ))
        .await;
        docs.load(*first).await;
        if let Some(wrong) = wrong(&docs, &[later], *unchanged).await {
            found.push(format!("{contract}: {wrong}"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_beside_a_column_that_a_view_holds_are_no_change() {
    let docs = Documents::new("primary_key: id\nwrite_disposition: merge").await;
    docs.load(r#"[{"id": 1, "n": 1}, {"id": 2, "n": 2}]"#).await;
    docs.execute("create view hr.report as select n from hr.docs")
        .await;
    let page = r#"[{"id": 1, "n": "one"}, {"id": 2, "n": 2}, {"id": 3, "n": 2.5}]"#;
    assert_eq!(wrong(&docs, &[page], 3).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_appended_table_grows_by_every_record_of_every_run() {
    let docs = Documents::new("write_disposition: append").await;
    for runs in 1..=2 {
        docs.load(PLAIN).await;
        assert_eq!(
            docs.json("select count(*) as n from hr.docs").await,
            json!([{"n": 3 * runs}])
        );
    }
}
