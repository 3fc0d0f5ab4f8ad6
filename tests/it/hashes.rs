//! A run that goes on reads the hashes of the table's rows, and asks only about what is not among them: it must
//! come to the same rows as one that asks about each page.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::documents::{Documents, PAGED};

const MERGE: &str = "primary_key: id\nwrite_disposition: merge";

/// Loads records, each on a page of its own, so that the hashes are read before the last ones come.
async fn load(docs: &Documents, records: &[(u32, impl AsRef<str>)]) {
    let pages = records
        .iter()
        .map(|(id, v)| format!(r#"[{{"id": {id}, "v": {}}}]"#, v.as_ref()));
    let pages: Vec<String> = pages.collect();
    docs.load_pages(&pages.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
}

/// Looks into the indexes of the table since it was made. The binary's connections have ended, and told theirs.
async fn looks(docs: &Documents) -> i64 {
    let found = docs
        .json("select idx_scan from pg_stat_user_tables where relname = 'docs'")
        .await;
    found[0]["idx_scan"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_asks_about_changes_only() {
    let docs = Documents::new(&format!("{PAGED}{MERGE}")).await;
    let mut records: Vec<(u32, String)> = (0..60).map(|id| (id, format!("\"v{id}\""))).collect();
    load(&docs, &records).await;
    let loaded = looks(&docs).await;
    load(&docs, &records).await;
    let again = looks(&docs).await - loaded;
    assert!(again <= 5, "{again} looks for 60 pages");
    records[50].1 = "\"other\"".to_owned();
    load(&docs, &records).await;
    let runs =
        "select rows_inserted, rows_updated, rows_unchanged from rosterd.runs order by run_id";
    assert_eq!(
        docs.json(runs).await,
        json!([
            {"rows_inserted": 60, "rows_updated": 0, "rows_unchanged": 0},
            {"rows_inserted": 0, "rows_updated": 0, "rows_unchanged": 60},
            {"rows_inserted": 0, "rows_updated": 1, "rows_unchanged": 59},
        ])
    );
    assert_eq!(
        docs.json("select v from hr.docs where id = 50").await,
        json!([{"v": "other"}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_run_itself_has_changed_is_not_taken_for_what_it_was() {
    for batch in ["", "\nbatch: {rows: 1}"] {
        let docs = Documents::new(&format!("{PAGED}{MERGE}{batch}")).await;
        let before = [
            (1, "\"a\""),
            (2, "\"x\""),
            (3, "\"x\""),
            (4, "\"x\""),
            (5, "\"x\""),
        ];
        load(&docs, &before).await;
        // The second record of key 1 is the same as the row was before the first one.
        let after = [
            (2, "\"x\""),
            (3, "\"x\""),
            (4, "\"x\""),
            (5, "\"x\""),
            (1, "\"b\""),
            (6, "\"x\""),
            (1, "\"a\""),
        ];
        for _ in 0..2 {
            load(&docs, &after).await;
            let row = docs.json("select v from hr.docs where id = 1").await;
            assert_eq!(row, json!([{"v": "a"}]), "{batch}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_marked_are_there_again() {
    let docs = Documents::new(&format!("{PAGED}{MERGE}\ndeletes: snapshot")).await;
    let all = [(1, "1"), (2, "1"), (3, "1"), (4, "1"), (5, "1")];
    load(&docs, &all).await;
    let marked = "select id from hr.docs where _deleted_at is not null";
    load(&docs, &all[..4]).await;
    assert_eq!(docs.json(marked).await, json!([{"id": 5}]));
    load(&docs, &all).await;
    assert_eq!(docs.json(marked).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_becomes_of_a_record_that_is_gone_and_never_had_a_row() {
    let docs = Documents::new(&format!(
        "{PAGED}{MERGE}\ndeletes: {{mode: flag, field: gone}}\ncolumns: {{v: {{nullable: false}}}}"
    ))
    .await;
    let all = [(1, "1"), (2, "1"), (3, "1"), (4, "1"), (5, "1")];
    load(&docs, &all).await;
    let mut pages: Vec<String> = all
        .iter()
        .map(|(id, v)| format!(r#"[{{"id": {id}, "v": {v}}}]"#))
        .collect();
    // Neither its missing value nor its own field is anybody's concern.
    pages.push(r#"[{"id": 6, "gone": true, "left_on": "2024-01-01"}]"#.to_owned());
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    docs.load_pages(&pages).await;
    let columns = "select column_name from information_schema.columns where table_name = 'docs' and column_name = 'left_on'";
    assert_eq!(docs.json(columns).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_row_with_history_the_valid_version_counts() {
    let docs = Documents::new(&format!(
        "{PAGED}primary_key: id\nwrite_disposition: {{disposition: merge, strategy: scd2}}"
    ))
    .await;
    let walk = |v| {
        [
            (1, "\"x\""),
            (2, "\"x\""),
            (3, "\"x\""),
            (4, "\"x\""),
            (5, v),
        ]
    };
    for v in ["\"a\"", "\"b\"", "\"a\"", "\"a\""] {
        load(&docs, &walk(v)).await;
    }
    let versions = docs
        .json("select v from hr.docs where id = 5 order by _valid_from")
        .await;
    assert_eq!(versions, json!([{"v": "a"}, {"v": "b"}, {"v": "a"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_spelled_as_their_records_when_a_column_becomes_wider() {
    let docs = Documents::new(&format!("{PAGED}{MERGE}")).await;
    let records = |third| [(1, "1"), (2, "1"), (3, third), (4, "1e2"), (5, "2.50")];
    load(&docs, &records("1")).await;
    let fresh = Documents::new(&format!("{PAGED}{MERGE}")).await;
    load(&fresh, &records("\"text\"")).await;
    let rows = "select id, v from hr.docs order by id";
    for _ in 0..2 {
        load(&docs, &records("\"text\"")).await;
        assert_eq!(docs.json(rows).await, fresh.json(rows).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_depend_on_the_whole_record_is_asked_for() {
    // The version of the row alone tells whether it has changed; many rows have the same.
    let docs = Documents::new(&format!(
        "{PAGED}primary_key: id\nwrite_disposition: {{disposition: merge, strategy: scd2, row_version_column_name: v}}"
    ))
    .await;
    let mut records = vec![(1, "7"), (2, "7"), (3, "7"), (4, "7")];
    load(&docs, &records).await;
    records.push((5, "7"));
    load(&docs, &records).await;
    let ids = docs.json("select count(*) from hr.docs").await;
    assert_eq!(ids, json!([{"count": 5}]));

    // Known keys are left alone, whatever their records say.
    let docs = Documents::new(&format!(
        "{PAGED}primary_key: id\nwrite_disposition: {{disposition: merge, strategy: insert-only}}"
    ))
    .await;
    load(&docs, &records).await;
    records[4] = (5, "8");
    load(&docs, &records).await;
    let row = docs.json("select v from hr.docs where id = 5").await;
    assert_eq!(row, json!([{"v": 7}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_partitions_are_known_too() {
    let docs = Documents::new(&format!("{PAGED}{MERGE}")).await;
    docs.execute(
        "create schema hr; \
         create table hr.docs (id bigint primary key, v text, _synced_at timestamptz, _run_id bigint, _row_hash bytea) \
           partition by range (id); \
         create table hr.low partition of hr.docs for values from (0) to (3); \
         create table hr.high partition of hr.docs for values from (3) to (100)",
    )
    .await;
    let records = [
        (1, "\"a\""),
        (2, "\"a\""),
        (3, "\"a\""),
        (4, "\"a\""),
        (5, "\"a\""),
    ];
    load(&docs, &records).await;
    load(&docs, &records).await;
    let run = "select rows_inserted, rows_updated, rows_unchanged from rosterd.runs order by run_id desc limit 1";
    let expected: Value = json!([{"rows_inserted": 0, "rows_updated": 0, "rows_unchanged": 5}]);
    assert_eq!(docs.json(run).await, expected);
}

/// Walks at random over a few keys with a few values, so that records come back as they once were, also within a
/// walk: after each, the table has what came last of each key.
#[tokio::test(flavor = "multi_thread")]
async fn after_any_walk_the_table_has_the_last_record_of_each_key() {
    const SNAPSHOT: &str = "deletes: {mode: snapshot, floor: 1000}";
    for (way, rows) in [
        (MERGE.to_owned(), "select id, v from hr.docs"),
        (
            format!("{MERGE}\n{SNAPSHOT}"),
            "select id, v from hr.docs where _deleted_at is null",
        ),
        (
            format!(
                "primary_key: id\nwrite_disposition: {{disposition: merge, strategy: scd2}}\n{SNAPSHOT}\nbatch: {{rows: 3}}"
            ),
            "select id, v from hr.docs where _valid_to is null",
        ),
    ] {
        for seed in 0..3 {
            let mut random = fastrand::Rng::with_seed(seed);
            let docs = Documents::new(&format!("{PAGED}{way}")).await;
            let mut truth: BTreeMap<u32, u32> = BTreeMap::new();
            for walk in 0..5 {
                if way.contains("snapshot") {
                    truth.clear();
                }
                let mut pages = Vec::new();
                for id in 0..20 {
                    // Most keys stand as they are in most walks; some come once more, and some not at all. One
                    // of its own keeps each page from being taken for another.
                    let first = (random.u32(0..8) > 0).then_some((id, 0));
                    let others =
                        (0..random.usize(0..3)).map(|_| (random.u32(0..20), random.u32(0..2)));
                    let others: Vec<(u32, u32)> = others.collect();
                    let records = [(100 + id, 0)].into_iter().chain(first).chain(others);
                    let mut page = Vec::new();
                    for (id, v) in records {
                        page.push(json!({"id": id, "v": v}));
                        truth.insert(id, v);
                    }
                    pages.push(Value::from(page).to_string());
                }
                let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
                docs.load_pages(&pages).await;
                let found = docs.json(&format!("{rows} order by id")).await;
                let expected = truth.iter().map(|(id, v)| json!({"id": id, "v": v}));
                let expected: Value = expected.collect();
                assert_eq!(found, expected, "{way}: seed {seed}, walk {walk}");
            }
        }
    }
}
