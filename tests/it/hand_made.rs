//! Tables that somebody else made or uses: in partitions, in a publication.

use serde_json::{Value, json};

use crate::support::documents::Documents;

/// Two partitions, so that rows of both stand at the same place of their file.
const PARTITIONED: &str = "
    create schema hr;
    create table hr.docs (id bigint, day date, v text, primary key (id, day)) partition by range (day);
    create table hr.docs_2023 partition of hr.docs for values from ('2023-01-01') to ('2024-01-01');
    create table hr.docs_2024 partition of hr.docs for values from ('2024-01-01') to ('2025-01-01')";

const ROWS: &str = "select id, day, v from hr.docs order by id, day";

fn row(id: i64, day: &str, v: &str) -> Value {
    json!({"id": id, "day": day, "v": v})
}

fn page(rows: &[Value]) -> Vec<u8> {
    serde_json::to_vec(rows).unwrap()
}

async fn fault(docs: &Documents) -> (String, String, String) {
    let run = docs
        .json("select error_code, error_message, error_hint from rosterd.runs order by run_id desc limit 1")
        .await;
    let text = |name: &str| run[0][name].as_str().unwrap_or_default().to_owned();
    (
        text("error_code"),
        text("error_message"),
        text("error_hint"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_strategy_keeps_a_partitioned_table_row_by_row() {
    // Two partitions of eight rows each.
    let first: Vec<Value> = (1..=8)
        .flat_map(|id| [row(id, "2023-05-01", "a"), row(id, "2024-05-01", "b")])
        .collect();
    // In one of them four rows change and one is gone; the other gets one more.
    let mut second: Vec<Value> = first[..15].to_vec();
    second.remove(14);
    for at in [0, 2, 4, 6] {
        second[at]["v"] = json!("a2");
    }
    second.extend([first[15].clone(), row(9, "2024-05-01", "c")]);
    // Keys of the resource, and how many rows the second page takes away; a replaced one counts.
    for (keys, deleted) in [
        ("write_disposition: merge", 0),
        (
            "write_disposition: {disposition: merge, strategy: delete-insert}",
            0,
        ),
        (
            "write_disposition: merge\ndeletes: {mode: snapshot, hard: true}",
            1,
        ),
        ("write_disposition: replace", 5),
        ("write_disposition: merge\nmerge_key: id", 5),
    ] {
        let docs = Documents::new(&format!("primary_key: [id, day]\n{keys}\n")).await;
        docs.execute(PARTITIONED).await;
        docs.load(page(&first)).await;
        assert_eq!(docs.json(ROWS).await, json!(first), "{keys}");
        docs.load(page(&second)).await;
        let mut expected = second.to_vec();
        if deleted == 0 {
            expected.insert(14, first[14].clone());
        }
        assert_eq!(docs.json(ROWS).await, json!(expected), "{keys}");
        assert_eq!(
            docs.json("select rows_deleted as n from rosterd.runs order by run_id desc limit 1")
                .await,
            json!([{"n": deleted}]),
            "{keys}"
        );
        docs.load(page(&second)).await;
        assert_eq!(
            docs.json("select rows_inserted + rows_updated + rows_deleted as n, rows_unchanged as u from rosterd.runs order by run_id desc limit 1").await,
            json!([{"n": 0, "u": 16}]),
            "{keys}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_by_its_age_or_by_a_later_rule_goes_from_its_own_partition_only() {
    let first = [
        row(1, "2023-05-01", "a"),
        row(1, "2024-05-01", "c"),
        row(2, "2023-05-02", "b"),
        row(2, "2024-05-02", "d"),
    ];
    let keys = "primary_key: [id, day]\nwrite_disposition: merge\n";
    let mut docs = Documents::new(keys).await;
    docs.execute(PARTITIONED).await;
    let mut aged = first.clone();
    aged[3]["since"] = json!("2000-01-01");
    docs.load(page(&aged)).await;
    docs.configure(&format!(
        "{keys}retention: {{column: since, delete_after: 180d}}\n"
    ));
    docs.load("[]").await;
    assert_eq!(docs.json(ROWS).await, json!(first[..3]));

    docs.execute("update hr.docs set v = null where (id, day) <> (1, '2024-05-01')")
        .await;
    docs.configure(&format!("{keys}privacy: {{exclude: v}}\n"));
    docs.load("[]").await;
    assert_eq!(
        docs.json("select count(v) as n, count(*) as rows from hr.docs")
            .await,
        json!([{"n": 0, "rows": 3}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_partition_takes_is_one_reject() {
    let docs = Documents::new("primary_key: [id, day]\nwrite_disposition: merge\n").await;
    docs.execute(PARTITIONED).await;
    let (status, log) = docs
        .sync(page(&[
            row(1, "2023-05-01", "a"),
            row(2, "2031-05-01", "b"),
        ]))
        .await;
    assert_eq!(status, "partial", "{log}");
    assert_eq!(docs.json(ROWS).await, json!([row(1, "2023-05-01", "a")]));
    assert_eq!(
        docs.json("select record_key, reason, sqlstate from rosterd.rejects")
            .await,
        json!([{"record_key": "2, 2031-05-01", "reason": "refused_by_table", "sqlstate": "23514"}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_key_outside_of_the_primary_key_is_told_with_what_to_do() {
    // With a key of its own that is another one, and without any.
    for (table, words) in [
        (PARTITIONED, "no primary key or unique index on (id)"),
        (
            "create schema hr; create table hr.docs (id bigint, day date, v text) partition by range (day);
             create table hr.docs_2023 partition of hr.docs for values from ('2023-01-01') to ('2024-01-01')",
            "no primary key or unique index on (id)",
        ),
    ] {
        let docs = Documents::new("primary_key: id\nwrite_disposition: merge\n").await;
        docs.execute(table).await;
        let (status, log) = docs.sync(page(&[row(1, "2023-05-01", "a")])).await;
        assert_eq!(status, "failed", "{log}");
        let (code, message, hint) = fault(&docs).await;
        assert_eq!(code, "no_unique_key", "{message}");
        assert!(message.contains("\"hr\".\"docs\"") && message.contains(words), "{message}");
        assert!(
            hint.contains("partitioned by RANGE (day)") && hint.contains("primary_key"),
            "{hint}"
        );
        assert_eq!(docs.json(ROWS).await, json!([]));
    }

    // Filled by `append`, and to be merged from now on.
    let mut docs = Documents::new("write_disposition: append\n").await;
    docs.execute(
        "create schema hr; create table hr.docs (id bigint, day date, v text) partition by range (day);
         create table hr.docs_2023 partition of hr.docs for values from ('2023-01-01') to ('2024-01-01')",
    )
    .await;
    let rows = [row(1, "2023-05-01", "a")];
    docs.load(page(&rows)).await;
    docs.configure("primary_key: id\nwrite_disposition: merge\n");
    let (status, log) = docs.sync(page(&rows)).await;
    assert_eq!(status, "failed", "{log}");
    let (code, message, hint) = fault(&docs).await;
    assert_eq!(code, "no_unique_key", "{message}");
    assert!(hint.contains("partitioned by RANGE (day)"), "{hint}");
    // The key that the table can have.
    docs.configure("primary_key: [id, day]\nwrite_disposition: merge\n");
    docs.load(page(&rows)).await;
    assert_eq!(docs.json(ROWS).await, json!(rows));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_with_keys_are_published_through_their_whole_life() {
    for keys in [
        "write_disposition: merge\ndeletes: {mode: snapshot, hard: true}",
        "write_disposition: merge\ndeletes: snapshot",
        "write_disposition: replace",
        "write_disposition: merge\nmerge_key: day",
        "write_disposition: {disposition: merge, strategy: scd2}\ndeletes: {mode: snapshot, floor: 5}",
    ] {
        let docs =
            Documents::new(&format!("primary_key: id\nmax_table_nesting: 2\n{keys}\n")).await;
        // All tables: rosterd's own, those of lists, and what stands beside a walk.
        docs.execute("create publication everything for all tables")
            .await;
        let record = |id: i64, v: &Value| json!({"id": id, "day": 1, "v": v, "tags": [v], "jobs": [{"skills": [v]}]});
        docs.load(page(&[record(1, &json!(1)), record(2, &json!(2))]))
            .await;
        docs.load(page(&[record(1, &json!(5)), record(3, &json!(3))]))
            .await;
        docs.load(page(&[record(1, &json!("x")), record(3, &json!(3))]))
            .await;
        let live = "select id from hr.docs d where coalesce(to_jsonb(d) ->> '_deleted_at', to_jsonb(d) ->> '_valid_to') is null order by id";
        assert_eq!(
            docs.json(live).await,
            json!([{"id": 1}, {"id": 3}]),
            "{keys}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_table_without_a_key_is_told_how_to_be_published() {
    for keys in [
        "write_disposition: replace",
        "write_disposition: merge\nreplace_by: day",
    ] {
        let docs = Documents::new(&format!("{keys}\n")).await;
        let rows = [row(1, "2023-05-01", "a"), row(2, "2023-05-01", "b")];
        docs.load(page(&rows)).await;
        docs.execute("create publication one for table hr.docs")
            .await;
        let (status, log) = docs.sync(page(&rows[..1])).await;
        assert_eq!(status, "failed", "{log}");
        let (code, message, hint) = fault(&docs).await;
        assert_eq!(code, "SQLSTATE 55000", "{message}");
        assert!(
            message.contains("published without a replica identity"),
            "{message}"
        );
        assert!(hint.contains("replica identity full"), "{hint}");
        assert_eq!(docs.json(ROWS).await, json!(rows), "{keys}");
        docs.execute("alter table hr.docs replica identity full")
            .await;
        docs.load(page(&rows[..1])).await;
        assert_eq!(docs.json(ROWS).await, json!(rows[..1]), "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_a_publication_names_widens_or_leads_beside_it() {
    for publication in [
        "create publication narrow for table hr.docs (id, n)",
        "create publication narrow for table hr.docs where (n > 0); alter table hr.docs replica identity full",
    ] {
        let docs = Documents::new("primary_key: id\nwrite_disposition: merge\n").await;
        docs.load(r#"[{"id": 1, "n": 1}]"#).await;
        docs.execute(publication).await;
        docs.load(r#"[{"id": 1, "n": "x"}, {"id": 2, "n": 2}]"#)
            .await;
        assert_eq!(
            docs.json("select id, n, n__v_text from hr.docs order by id")
                .await,
            json!([{"id": 1, "n": null, "n__v_text": "x"}, {"id": 2, "n": 2, "n__v_text": null}]),
            "{publication}"
        );
    }
}
