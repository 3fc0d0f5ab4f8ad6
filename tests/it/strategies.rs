//! The rows of dlt's list of write dispositions, each run against a real table as it should end here,
//! which is mostly better than there. What needs pages, batches and times stands in `dispositions`.

use serde_json::{Value, json};

use crate::support::documents::Documents;

/// Keys of the resource, the answer, and the status of the run; `refused`: no run, the file is wrong.
type Step = (&'static str, &'static str, &'static str);

/// The row of the list, what is done, a query and what it gives in the end.
type Row = (&'static str, Vec<Step>, &'static str, Value);

const MERGE: &str = "primary_key: id\nwrite_disposition: merge\n";
const APPEND: &str = "write_disposition: append\n";
const REPLACE: &str = "write_disposition: replace\nprimary_key: id\nmax_table_nesting: 1\n";
const DELETE_INSERT: &str = "primary_key: [id, day]\nwrite_disposition: {disposition: merge, strategy: delete-insert}\nmax_table_nesting: 1\n";
const SETS: &str =
    "merge_key: [who, day]\nwrite_disposition: {disposition: merge, strategy: delete-insert}\n";
const REPLACE_N: &str = "primary_key: id\nwrite_disposition: replace\nmax_table_nesting: 1\ncolumns: {n: {data_type: bigint}}\n";
const DEDUPLICATED: &str = "primary_key: id\nwrite_disposition: {disposition: merge, strategy: delete-insert, deduplicated: true}\n";
const HARD_BOOL: &str = "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 1\ncolumns: {gone: {data_type: bool, hard_delete: true}}\n";
const HARD_TEXT: &str =
    "primary_key: id\nwrite_disposition: merge\ncolumns: {gone: {hard_delete: true}}\n";
const INSERT_ONLY: &str =
    "primary_key: id\nwrite_disposition: {disposition: merge, strategy: insert-only}\n";
const SCD2: &str = "primary_key: id\nwrite_disposition: {disposition: merge, strategy: scd2, validity_column_names: [since, until]}\nmax_table_nesting: 1\n";
const SCD2_SETS: &str = "write_disposition: {disposition: merge, strategy: scd2, merge_key: who}\n";
const SNAPSHOT: &str = "primary_key: id\nwrite_disposition: merge\ndeletes: snapshot\n";

const ROWS: &str = "select id, v from hr.docs order by id, v";
const TAGS: &str = "select d.id, t.value as tag from hr.docs d left join hr.docs__tags t on t._rosterd_root_id = d._rosterd_id order by 1, 2";

fn rows() -> Vec<Row> {
    let all_of_replace = json!([{"id": 1, "tag": "a"}, {"id": 2, "tag": "b"}]);
    vec![
        (
            "append: each record of each run, also those that are equal, and no key is asked for",
            vec![
                (
                    APPEND,
                    r#"[{"id": 1, "v": "a"}, {"id": 1, "v": "a"}]"#,
                    "succeeded",
                ),
                (
                    APPEND,
                    r#"[{"id": 1, "v": "a"}, {"id": null, "v": "b"}]"#,
                    "succeeded",
                ),
            ],
            "select v, count(*) as n from hr.docs group by v order by v",
            json!([{"v": "a", "n": 3}, {"v": "b", "n": 1}]),
        ),
        (
            "replace: equal to the last whole walk, lists too",
            vec![
                (
                    REPLACE,
                    r#"[{"id": 1, "tags": ["a"]}, {"id": 2, "tags": ["b", "c"]}]"#,
                    "succeeded",
                ),
                (
                    REPLACE,
                    r#"[{"id": 2, "tags": ["c"]}, {"id": 3, "tags": []}]"#,
                    "succeeded",
                ),
            ],
            TAGS,
            json!([{"id": 2, "tag": "c"}, {"id": 3, "tag": null}]),
        ),
        (
            "replace: an answer without records empties nothing",
            vec![
                (
                    REPLACE,
                    r#"[{"id": 1, "tags": ["a"]}, {"id": 2, "tags": ["b"]}]"#,
                    "succeeded",
                ),
                (REPLACE, "[]", "failed"),
            ],
            TAGS,
            all_of_replace.clone(),
        ),
        (
            "replace: a load that fails leaves what was there",
            vec![
                (
                    REPLACE,
                    r#"[{"id": 1, "tags": ["a"]}, {"id": 2, "tags": ["b"]}]"#,
                    "succeeded",
                ),
                (REPLACE, r#"[{"id": 5, "tags": ["z"]}, {"id": 6"#, "failed"),
                (REPLACE, r#"{"error": "come back later"}"#, "failed"),
            ],
            TAGS,
            all_of_replace,
        ),
        (
            "replace: records that are all rejected empty nothing, whatever is allowed",
            vec![
                (
                    "primary_key: id\nwrite_disposition: replace\nallow_empty: true\n",
                    r#"[{"id": 1}]"#,
                    "succeeded",
                ),
                (
                    "primary_key: id\nwrite_disposition: replace\nallow_empty: true\n",
                    r#"[{"id": null}]"#,
                    "failed",
                ),
            ],
            "select (select count(*) from hr.docs) as n, (select json_agg(reason) from rosterd.rejects) as r",
            json!([{"n": 1, "r": ["null_key"]}]),
        ),
        (
            "replace: a rejected record takes no row away, and what it may be stays until a whole walk",
            vec![
                (
                    REPLACE_N,
                    r#"[{"id": 1, "n": 1, "tags": ["a"]}, {"id": 2, "n": 2, "tags": ["b"]}, {"id": 3, "n": 3, "tags": ["c"]}]"#,
                    "succeeded",
                ),
                (
                    REPLACE_N,
                    r#"[{"id": 1, "n": 9, "tags": ["z"]}, {"id": 2, "n": "x", "tags": []}, {"id": 4, "n": 4}]"#,
                    "partial",
                ),
            ],
            "select d.id, d.n, t.value as tag from hr.docs d left join hr.docs__tags t on t._rosterd_root_id = d._rosterd_id order by 1",
            json!([{"id": 1, "n": 9, "tag": "z"}, {"id": 2, "n": 2, "tag": "b"}, {"id": 3, "n": 3, "tag": "c"}, {"id": 4, "n": 4, "tag": null}]),
        ),
        (
            "replace: the whole walk after that takes away what is gone",
            vec![
                (
                    REPLACE_N,
                    r#"[{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 3}]"#,
                    "succeeded",
                ),
                (
                    REPLACE_N,
                    r#"[{"id": 1, "n": 9}, {"id": 2, "n": "x"}]"#,
                    "partial",
                ),
                (
                    REPLACE_N,
                    r#"[{"id": 1, "n": 9}, {"id": 2, "n": 8}]"#,
                    "succeeded",
                ),
            ],
            "select id, n from hr.docs order by id",
            json!([{"id": 1, "n": 9}, {"id": 2, "n": 8}]),
        ),
        (
            "replace: rejects that are tolerated are left out, and what is gone goes",
            vec![
                (
                    REPLACE_N,
                    r#"[{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 3, "n": 3}]"#,
                    "succeeded",
                ),
                (
                    "primary_key: id\nwrite_disposition: replace\nmax_table_nesting: 1\ncolumns: {n: {data_type: bigint}}\nrejects: {tolerate: 1}\n",
                    r#"[{"id": 1, "n": 1}, {"id": 2, "n": "x"}]"#,
                    "succeeded",
                ),
            ],
            "select id from hr.docs",
            json!([{"id": 1}]),
        ),
        (
            "replace: what the contract leaves out was asked for",
            vec![
                (
                    "primary_key: id\nwrite_disposition: replace\nschema_contract: {data_type: discard_row}\n",
                    r#"[{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 3, "n": 3}]"#,
                    "succeeded",
                ),
                (
                    "primary_key: id\nwrite_disposition: replace\nschema_contract: {data_type: discard_row}\n",
                    r#"[{"id": 1, "n": 1}, {"id": 2, "n": "x"}]"#,
                    "succeeded",
                ),
            ],
            "select id from hr.docs",
            json!([{"id": 1}]),
        ),
        (
            "replace: empty when that is allowed",
            vec![
                (
                    "write_disposition: replace\nallow_empty: true\n",
                    r#"[{"id": 1}]"#,
                    "succeeded",
                ),
                (
                    "write_disposition: replace\nallow_empty: true\n",
                    "[]",
                    "succeeded",
                ),
            ],
            "select count(*) as n from hr.docs",
            json!([{"n": 0}]),
        ),
        (
            "merge, delete-insert: a compound key, the row as the record says, fields that are missing null",
            vec![
                (
                    DELETE_INSERT,
                    r#"[{"id": 1, "day": 1, "v": "a", "w": 1, "tags": ["x", "y"]}, {"id": 1, "day": 2, "v": "b", "tags": ["z"]}]"#,
                    "succeeded",
                ),
                (
                    DELETE_INSERT,
                    r#"[{"id": 1, "day": 1, "v": "c", "tags": ["y"]}, {"id": 2, "day": 1, "v": "d"}]"#,
                    "succeeded",
                ),
            ],
            "select d.id, d.day, d.v, d.w, t.value as tag from hr.docs d left join hr.docs__tags t on t._rosterd_root_id = d._rosterd_id order by 1, 2, 5",
            json!([
                {"id": 1, "day": 1, "v": "c", "w": null, "tag": "y"},
                {"id": 1, "day": 2, "v": "b", "w": null, "tag": "z"},
                {"id": 2, "day": 1, "v": "d", "w": null, "tag": null},
            ]),
        ),
        (
            "merge, delete-insert: the row keeps its identity, and a real key has an index",
            vec![
                (
                    DELETE_INSERT,
                    r#"[{"id": 1, "day": 1, "v": "a", "tags": ["x"]}]"#,
                    "succeeded",
                ),
                (
                    DELETE_INSERT,
                    r#"[{"id": 1, "day": 1, "v": "b", "tags": ["x"]}]"#,
                    "succeeded",
                ),
            ],
            "select (select count(distinct new) from (select _rosterd_id as new from hr.docs union all select _rosterd_root_id from hr.docs__tags) x) as ids, (select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'hr.docs'::regclass and contype = 'p') as k, (select rows_updated from rosterd.runs order by run_id desc limit 1) as u",
            json!([{"ids": 1, "k": "PRIMARY KEY (id, day)", "u": 1}]),
        ),
        (
            "merge, delete-insert: a compound merge key replaces whole sets",
            vec![
                (
                    SETS,
                    r#"[{"id": 1, "who": "ann", "day": 1, "v": "a"}, {"id": 2, "who": "ann", "day": 1, "v": "b"}, {"id": 3, "who": "ann", "day": 2, "v": "c"}]"#,
                    "succeeded",
                ),
                (
                    SETS,
                    r#"[{"id": 4, "who": "ann", "day": 1, "v": "d"}]"#,
                    "succeeded",
                ),
            ],
            ROWS,
            json!([{"id": 3, "v": "c"}, {"id": 4, "v": "d"}]),
        ),
        (
            "merge without keys: no silent append",
            vec![("write_disposition: merge\n", r#"[{"id": 1}]"#, "refused")],
            "select count(*) as n from rosterd.runs",
            json!([{"n": 0}]),
        ),
        (
            "merge without keys: a key of what the record holds",
            vec![
                (
                    "primary_key: {hash: \"*\"}\nwrite_disposition: merge\n",
                    r#"[{"id": 1, "v": "a"}, {"v": "a", "id": 1}, {"id": 1, "v": "b"}]"#,
                    "succeeded",
                ),
                (
                    "primary_key: {hash: \"*\"}\nwrite_disposition: merge\n",
                    r#"[{"id": 1, "v": "a"}]"#,
                    "succeeded",
                ),
            ],
            ROWS,
            json!([{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]),
        ),
        (
            "dedup_sort: the highest, wherever it stands",
            vec![(
                "primary_key: id\nwrite_disposition: merge\ncolumns: {n: {dedup_sort: desc}}\n",
                r#"[{"id": 1, "n": 10, "v": "high"}, {"id": 1, "n": 9, "v": "low"}]"#,
                "succeeded",
            )],
            ROWS,
            json!([{"id": 1, "v": "high"}]),
        ),
        (
            "dedup_sort: without one, the last",
            vec![(
                MERGE,
                r#"[{"id": 1, "v": "first"}, {"id": 1, "v": "last"}]"#,
                "succeeded",
            )],
            ROWS,
            json!([{"id": 1, "v": "last"}]),
        ),
        (
            "skip dedup: a source that promises each key once and breaks it makes no second row",
            vec![
                (
                    DEDUPLICATED,
                    r#"[{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]"#,
                    "succeeded",
                ),
                (
                    DEDUPLICATED,
                    r#"[{"id": 1, "v": "c"}, {"id": 2, "v": "d"}, {"id": 1, "v": "e"}]"#,
                    "succeeded",
                ),
            ],
            ROWS,
            json!([{"id": 1, "v": "e"}, {"id": 2, "v": "d"}]),
        ),
        (
            "hard_delete: true deletes, false and null do not, and lists go along",
            vec![
                (
                    HARD_BOOL,
                    r#"[{"id": 1, "tags": ["a"]}, {"id": 2, "tags": ["b"]}, {"id": 3, "tags": ["c"]}]"#,
                    "succeeded",
                ),
                (
                    HARD_BOOL,
                    r#"[{"id": 1, "gone": true}, {"id": 2, "gone": false, "tags": ["b"]}, {"id": 4, "gone": true, "tags": ["d"]}]"#,
                    "succeeded",
                ),
            ],
            "select d.id, t.value as tag, (select count(*) from hr.docs__tags) as lists from hr.docs d left join hr.docs__tags t on t._rosterd_root_id = d._rosterd_id order by 1",
            json!([{"id": 2, "tag": "b", "lists": 2}, {"id": 3, "tag": "c", "lists": 2}]),
        ),
        (
            "hard_delete: of other types, whatever is not null deletes",
            vec![
                (
                    HARD_TEXT,
                    r#"[{"id": 1, "gone": null}, {"id": 2, "gone": null}]"#,
                    "succeeded",
                ),
                (
                    HARD_TEXT,
                    r#"[{"id": 1, "gone": "2024-01-01"}]"#,
                    "succeeded",
                ),
            ],
            "select id from hr.docs",
            json!([{"id": 2}]),
        ),
        (
            "upsert: the same key twice in a batch, and the same again",
            vec![
                (
                    MERGE,
                    r#"[{"id": 1, "v": "a"}, {"id": 1, "v": "b"}, {"id": 2, "v": "c"}]"#,
                    "succeeded",
                ),
                (
                    MERGE,
                    r#"[{"id": 1, "v": "b"}, {"id": 2, "v": "d"}, {"id": 2, "v": "e"}]"#,
                    "succeeded",
                ),
            ],
            ROWS,
            json!([{"id": 1, "v": "b"}, {"id": 2, "v": "e"}]),
        ),
        (
            "insert-only: known keys are not touched",
            vec![
                (INSERT_ONLY, r#"[{"id": 1, "v": "a"}]"#, "succeeded"),
                (
                    INSERT_ONLY,
                    r#"[{"id": 1, "v": "b"}, {"id": 2, "v": "c"}, {"id": 2, "v": "d"}]"#,
                    "succeeded",
                ),
            ],
            ROWS,
            json!([{"id": 1, "v": "a"}, {"id": 2, "v": "d"}]),
        ),
        (
            "scd2: versions by key, absent ones retired, a change in a list alone is seen",
            vec![
                (
                    SCD2,
                    r#"[{"id": 1, "v": "a", "tags": ["x"]}, {"id": 2, "v": "b"}, {"id": 3, "v": "c"}]"#,
                    "succeeded",
                ),
                (
                    SCD2,
                    r#"[{"id": 1, "v": "a", "tags": ["y"]}, {"id": 3, "v": "c"}]"#,
                    "succeeded",
                ),
                (
                    SCD2,
                    r#"[{"id": 1, "v": "a", "tags": ["y"]}, {"id": 3, "v": "c2"}]"#,
                    "succeeded",
                ),
            ],
            "select d.id, d.v, d.until is null as valid, t.value as tag from hr.docs d left join hr.docs__tags t on t._rosterd_root_id = d._rosterd_id order by d.id, d.since",
            json!([
                {"id": 1, "v": "a", "valid": false, "tag": "x"},
                {"id": 1, "v": "a", "valid": true, "tag": "y"},
                {"id": 2, "v": "b", "valid": false, "tag": null},
                {"id": 3, "v": "c", "valid": false, "tag": null},
                {"id": 3, "v": "c2", "valid": true, "tag": null},
            ]),
        ),
        (
            "scd2: a merge key limits what is retired",
            vec![
                (
                    SCD2_SETS,
                    r#"[{"id": 1, "v": "a", "who": "ann"}, {"id": 2, "v": "b", "who": "ann"}, {"id": 3, "v": "c", "who": "bob"}]"#,
                    "succeeded",
                ),
                (
                    SCD2_SETS,
                    r#"[{"id": 1, "v": "a", "who": "ann"}]"#,
                    "succeeded",
                ),
            ],
            "select id from hr.docs where _valid_to is null order by 1",
            json!([{"id": 1}, {"id": 3}]),
        ),
        (
            "deletes at the source: seen by a complete walk, and taken back",
            vec![
                (
                    SNAPSHOT,
                    r#"[{"id": 1, "v": "a"}, {"id": 2, "v": "b"}, {"id": 3, "v": "c"}]"#,
                    "succeeded",
                ),
                (SNAPSHOT, r#"[{"id": 1, "v": "a"}]"#, "succeeded"),
                (
                    SNAPSHOT,
                    r#"[{"id": 1, "v": "a"}, {"id": 3, "v": "c"}]"#,
                    "succeeded",
                ),
            ],
            "select id, _deleted_at is null as live from hr.docs order by 1",
            json!([{"id": 1, "live": true}, {"id": 2, "live": false}, {"id": 3, "live": true}]),
        ),
        (
            "null key: one reject, and nothing that a later run has to clear up",
            vec![
                (
                    MERGE,
                    r#"[{"id": 1, "v": "a"}, {"id": null, "v": "b"}, {"v": "c"}]"#,
                    "partial",
                ),
                (
                    MERGE,
                    r#"[{"id": 1, "v": "d"}, {"id": 2, "v": "b"}]"#,
                    "succeeded",
                ),
            ],
            "select (select json_agg(v order by id) from hr.docs) as v, (select count(*) from rosterd.rejects where resolved_at is null) as open",
            json!([{"v": ["d", "b"], "open": 0}]),
        ),
        (
            "changing append -> merge: the table gets its key",
            vec![
                (
                    APPEND,
                    r#"[{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]"#,
                    "succeeded",
                ),
                (
                    MERGE,
                    r#"[{"id": 2, "v": "c"}, {"id": 3, "v": "d"}]"#,
                    "succeeded",
                ),
            ],
            ROWS,
            json!([{"id": 1, "v": "a"}, {"id": 2, "v": "c"}, {"id": 3, "v": "d"}]),
        ),
        (
            "changing append -> merge: rows that repeat a key are told, and stay",
            vec![
                (
                    APPEND,
                    r#"[{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]"#,
                    "succeeded",
                ),
                (MERGE, r#"[{"id": 1, "v": "c"}]"#, "failed"),
                (APPEND, r#"[{"id": 2, "v": "d"}]"#, "succeeded"),
            ],
            ROWS,
            json!([{"id": 1, "v": "a"}, {"id": 1, "v": "b"}, {"id": 2, "v": "d"}]),
        ),
    ]
}

/// What the rows are about, which begins with their names in the list.
pub(crate) fn cases() -> Vec<&'static str> {
    rows().into_iter().map(|row| row.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_list_of_dispositions_ends_as_it_says() {
    let mut wrong = Vec::new();
    for (what, steps, query, expected) in rows() {
        let mut docs = Documents::new(APPEND).await;
        for (keys, page, wanted) in steps {
            docs.configure(keys);
            let (status, log) = docs.sync(page).await;
            let wanted = if wanted == "refused" { "none" } else { wanted };
            if status != wanted {
                wrong.push(format!("{what}: {page} {status}, not {wanted}: {log}"));
            }
        }
        let found = docs.json(query).await;
        if found != expected {
            wrong.push(format!("{what}:\n  {found}\n  {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
