//! A row is the same whichever way it came into the table: the fast ways against the slow ones.

use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::{shapes::document_of, support::documents::Documents};

/// Children too, so that the rows of lists are compared as well.
const RESOURCE: &str = "primary_key: key\nwrite_disposition: merge\nmax_table_nesting: 2\n";

/// How the rows of the same records come into the table.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// COPY straight into an empty table, nothing compared.
    Copied,
    /// Other rows are there: each page is compared by key and hash, and new rows are copied.
    Probed,
    /// Rows with the same keys and nothing else are there: staged and merged.
    Merged,
    /// The same rows are there, with hashes that say nothing: staged, merged, found equal.
    Compared,
    /// Gathered beside the table, and swapped into it when the walk is over.
    Gathered,
    /// Read a second time: the hash says that nothing changed, and nothing is typed.
    Skipped,
}

const WAYS: [Way; 6] = [
    Way::Copied,
    Way::Probed,
    Way::Merged,
    Way::Compared,
    Way::Gathered,
    Way::Skipped,
];

#[tokio::test(flavor = "multi_thread")]
async fn random_documents_become_the_same_rows_by_every_way_into_the_table() {
    let mut runner = TestRunner::deterministic();
    for case in 0..3 {
        let records: Vec<Value> = (0..25)
            .map(|key| {
                let mut record = document_of(&mut runner);
                record["key"] = json!(key);
                record
            })
            .collect();
        let mut first = None;
        for way in WAYS {
            let rows = rows_by(way, &records).await;
            let first = first.get_or_insert_with(|| rows.clone());
            assert_eq!(first.len(), rows.len(), "case {case}, {way:?}");
            for (expected, found) in first.iter().zip(&rows) {
                assert_eq!(expected, found, "case {case}, {way:?}");
            }
        }
    }
}

/// The rows of every table, told by table, as text with all digits.
async fn rows_by(way: Way, records: &[Value]) -> Vec<Value> {
    let resource = match way {
        Way::Gathered => RESOURCE.replace("merge", "replace"),
        _ => RESOURCE.to_owned(),
    };
    let docs = Documents::new(&resource).await;
    let page = serde_json::to_vec(records).unwrap();
    match way {
        Way::Copied => {}
        Way::Probed | Way::Gathered => docs.load(r#"[{"key": -1}]"#).await,
        Way::Merged => {
            let keys: Vec<Value> = records.iter().map(|r| json!({"key": r["key"]})).collect();
            docs.load(serde_json::to_vec(&keys).unwrap()).await;
        }
        Way::Compared => {
            docs.load(page.clone()).await;
            docs.execute("update hr.docs set _row_hash = '\\x00'").await;
        }
        Way::Skipped => docs.load(page.clone()).await,
    }
    docs.load(page).await;
    let counted = docs
        .json("select rows_inserted, rows_updated, rows_unchanged from rosterd.runs order by run_id desc limit 1")
        .await;
    let count = |name: &str| counted[0][name].as_u64().unwrap();
    let told = (
        count("rows_inserted"),
        count("rows_updated"),
        count("rows_unchanged"),
    );
    let all = records.len() as u64;
    match way {
        Way::Copied | Way::Probed | Way::Gathered => assert_eq!(told, (all, 0, 0), "{way:?}"),
        // Records that hold their key and nothing else are equal to what is there.
        Way::Merged => assert_eq!((told.0, told.1 + told.2), (0, all), "{way:?}"),
        Way::Compared => assert_eq!((told.0, told.1 + told.2), (0, all), "{way:?}"),
        Way::Skipped => assert_eq!(told, (0, 0, all), "{way:?}"),
    }
    let tables = docs
        .json(
            "select table_name from information_schema.tables where table_schema = 'hr' order by 1",
        )
        .await;
    let mut rows = Vec::new();
    for table in tables.as_array().unwrap() {
        let table = table["table_name"].as_str().unwrap();
        let query = format!(
            "select '{table}' as of, to_jsonb(t) - '{{_run_id,_synced_at}}'::text[] as values \
             from hr.\"{table}\" t where to_jsonb(t) ->> 'key' is distinct from '-1' \
             order by to_jsonb(t) ->> '_rosterd_id', (to_jsonb(t) ->> 'key')::bigint"
        );
        rows.extend(docs.json(&query).await.as_array().unwrap().clone());
    }
    rows
}
