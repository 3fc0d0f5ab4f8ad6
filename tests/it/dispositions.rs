//! What becomes of rows that are there: every disposition and strategy against pages as a test puts them.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use rosterd::{
    record::{Counters, Status},
    sync::{Outcome, Start},
};
use serde_json::{Value, json};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::support::{daemon::Setup, sync::Bench};

/// Asked for by a line `{incremental}` among a resource's keys.
const INCREMENTAL: &str = "          params: {since: '{incremental.start_value}'}
          incremental: {cursor_path: at, initial_value: '2020-01-01T00:00:00Z'}
";

/// An endpoint that shows the pages it was given, a database, and the resource between them.
struct World {
    bench: Bench,
    pages: Arc<Mutex<Vec<Value>>>,
    address: String,
    config: String,
    _server: AbortOnDropHandle<()>,
}

impl World {
    /// `resource`: keys of the resource `docs`, as lines of YAML.
    async fn new(resource: &str) -> Self {
        let pages = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Router::new()
            .route("/docs", get(answer))
            .with_state(Arc::clone(&pages));
        let server = TaskTracker::new().spawn(async move {
            axum::serve(listener, routes).await.ok();
        });
        let mut world = Self {
            bench: Bench::new().await,
            pages,
            address,
            config: String::new(),
            _server: AbortOnDropHandle::new(server),
        };
        world.configure(resource);
        world
    }

    fn configure(&mut self, resource: &str) {
        let lines: String = resource
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .map(|line| format!("        {line}\n"))
            .collect();
        let incremental = match resource.contains("{incremental}") {
            true => INCREMENTAL,
            false => "",
        };
        let lines = lines.replace("        {incremental}\n", "");
        self.config = format!(
            "
daemon: {{admin: {{listen: null}}}}
privacy: {{key: {{id: k1, secret: a-key-of-thirty-two-characters-1}}}}
sources:
  hr:
    client: {{base_url: 'http://{}', retry: {{max_retries: 0}}}}
    resources:
      - name: docs
        endpoint:
          path: /docs
          data_selector: data
          paginator: {{type: page_number, base_page: 0, total_path: pages}}
{incremental}{lines}",
            self.address
        );
    }

    /// Shows the pages and syncs them.
    async fn sync(&self, pages: Value) -> Outcome {
        *self.pages.lock().unwrap() = pages.as_array().unwrap().clone();
        self.bench.sync(&self.config, Start::GoOn).await
    }

    /// Syncs and expects success.
    async fn load(&self, pages: Value) -> Counters {
        let outcome = self.sync(pages).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        outcome.counters
    }

    /// The rows of a query as a list of objects.
    async fn json(&self, query: &str) -> Value {
        let query = format!("select coalesce(json_agg(r), '[]')::text from ({query}) r");
        let text: String = self.bench.value(&query).await;
        serde_json::from_str(&text).unwrap()
    }

    async fn expect(&self, query: &str, rows: Value) {
        assert_eq!(self.json(query).await, rows, "{query}");
    }

    /// Where each row of the table stands and who wrote it: the same again when nothing was written.
    async fn versions(&self, table: &str) -> String {
        let query = format!(
            "select coalesce(string_agg(xmin::text || ctid::text, ',' order by ctid), '') from {table}"
        );
        self.bench.value(&query).await
    }
}

async fn answer(
    State(pages): State<Arc<Mutex<Vec<Value>>>>,
    Query(query): Query<std::collections::HashMap<String, String>>,
) -> Json<Value> {
    let pages = pages.lock().unwrap().clone();
    let number: usize = query.get("page").map_or(0, |page| page.parse().unwrap());
    let data = pages.get(number).cloned().unwrap_or(json!([]));
    Json(json!({ "pages": pages.len().max(1), "data": data }))
}

const DOCS: &str = "select id, v from hr.docs order by id";

/// What was inserted, updated, unchanged, deleted.
fn changes(counters: &Counters) -> [i64; 4] {
    [
        counters.rows_inserted,
        counters.rows_updated,
        counters.rows_unchanged,
        counters.rows_deleted,
    ]
}

#[tokio::test]
async fn of_two_records_with_one_key_the_highest_version_counts_wherever_it_stands() {
    let hinted = |order: &str| {
        format!(
            "primary_key: id\nwrite_disposition: merge\ncolumns: {{at: {{dedup_sort: {order}}}}}\n"
        )
    };
    let replaced =
        "primary_key: id\nwrite_disposition: replace\ncolumns: {at: {dedup_sort: desc}}\n";
    let early = json!({"id": 1, "v": "early", "at": "2024-05-01T00:00:00+02:00"});
    let late = json!({"id": 1, "v": "late", "at": "2024-05-01T00:00:00Z"});
    let other = json!({"id": 2, "v": "other", "at": "2024-01-01T00:00:00Z"});
    let plain = "primary_key: id\nwrite_disposition: merge\n".to_owned();
    for (config, winner_first, winner_last) in [
        (hinted("desc"), "late", "late"),
        (hinted("asc"), "early", "early"),
        (format!("{{incremental}}\n{plain}"), "late", "late"),
        (replaced.to_owned(), "late", "late"),
        // Nothing tells them apart but their order.
        (plain, "early", "late"),
    ] {
        for (pages, winner) in [
            (json!([[late, other, early]]), winner_first),
            (json!([[early, other, late]]), winner_last),
            (json!([[late, other], [early]]), winner_first),
            (json!([[early], [other, late]]), winner_last),
        ] {
            // A batch per page, and one for all.
            for batch in ["batch: {rows: 1}\n", ""] {
                let world = World::new(&format!("{config}{batch}")).await;
                let counters = world.load(pages.clone()).await;
                world
                    .expect(
                        DOCS,
                        json!([{"id": 1, "v": winner}, {"id": 2, "v": "other"}]),
                    )
                    .await;
                if config == replaced {
                    // Counted is what the swap did.
                    continue;
                }
                let told = counters.rows_inserted + counters.rows_updated + counters.rows_unchanged;
                assert_eq!(told, counters.records_read, "{config} {pages}");
            }
        }
    }
}

#[tokio::test]
async fn a_stored_row_is_never_replaced_by_an_older_version() {
    let world = World::new("{incremental}\nprimary_key: id\nwrite_disposition: merge\n").await;
    let record = |v: &str, at: &str| json!([[{"id": 1, "v": v, "at": at}]]);
    for (v, at, stands, expected) in [
        ("b", "2024-02-01T00:00:00Z", "b", [1, 0, 0, 0]),
        ("a", "2024-01-01T00:00:00Z", "b", [0, 0, 1, 0]),
        // The same instant, spelled otherwise, and other content: not older.
        ("c", "2024-02-01T01:00:00+01:00", "c", [0, 1, 0, 0]),
        ("a", "2024-01-01T00:00:00Z", "c", [0, 0, 1, 0]),
        ("d", "2024-03-01T00:00:00Z", "d", [0, 1, 0, 0]),
        // A clock that ran ahead must not silence what comes after it.
        ("ahead", "2999-01-01T00:00:00Z", "ahead", [0, 1, 0, 0]),
        ("e", "2024-04-01T00:00:00Z", "e", [0, 1, 0, 0]),
    ] {
        let counters = world.load(record(v, at)).await;
        world.expect(DOCS, json!([{"id": 1, "v": stands}])).await;
        assert_eq!(changes(&counters), expected, "{v} at {at}");
    }
    // Without a version of its own a record is not older than any.
    let outcome = world.sync(json!([[{"id": 1, "v": "f"}]])).await;
    assert_eq!(changes(&outcome.counters), [0, 1, 0, 0]);
}

#[tokio::test]
async fn lists_of_a_row_stay_with_the_version_that_stays() {
    let world = World::new(
        "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 1\ncolumns: {n: {dedup_sort: desc}}\n",
    )
    .await;
    let lists = "select value from hr.docs__tags order by value";
    world
        .load(json!([[{"id": 1, "v": "new", "n": 2, "tags": ["x", "y"]}]]))
        .await;
    let before = world.versions("hr.docs__tags").await;
    world
        .load(json!([[{"id": 1, "v": "old", "n": 1, "tags": ["z"]}]]))
        .await;
    world.expect(DOCS, json!([{"id": 1, "v": "new"}])).await;
    world
        .expect(lists, json!([{"value": "x"}, {"value": "y"}]))
        .await;
    assert_eq!(before, world.versions("hr.docs__tags").await);
}

#[tokio::test]
async fn insert_only_leaves_known_rows_and_their_lists_as_they_are() {
    let world = World::new(
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: insert-only}\nmax_table_nesting: 1\n",
    )
    .await;
    // The second page repeats a key of the first.
    let pages = json!([[{"id": 1, "v": "a", "tags": ["x"]}], [{"id": 1, "v": "b", "tags": ["y"]}, {"id": 2, "v": "c", "tags": []}]]);
    assert_eq!(changes(&world.load(pages).await), [2, 0, 1, 0]);
    let rows = json!([{"id": 1, "v": "a"}, {"id": 2, "v": "c"}]);
    let lists = "select value from hr.docs__tags order by value";
    world.expect(DOCS, rows).await;
    world.expect(lists, json!([{"value": "x"}])).await;
    let before = world.versions("hr.docs").await;
    let pages = json!([[{"id": 2, "v": "other", "tags": ["z"]}, {"id": 1, "v": "a", "tags": ["x"]}, {"id": 3, "v": "d", "tags": ["w"]}]]);
    assert_eq!(changes(&world.load(pages).await), [1, 0, 2, 0]);
    assert!(world.versions("hr.docs").await.starts_with(&before));
    world
        .expect(lists, json!([{"value": "w"}, {"value": "x"}]))
        .await;
}

#[tokio::test]
async fn a_disposition_of_skip_is_no_resource() {
    let world = World::new("primary_key: id\nwrite_disposition: skip\n").await;
    let config = rosterd::config::from_str(&world.config).unwrap();
    assert!(config.sources[0].resources.is_empty());
}

#[tokio::test]
async fn records_that_say_that_they_are_gone_end_their_rows() {
    let by_hint = "columns: {gone: {hard_delete: true}}\n";
    let by_status = "deletes: {mode: flag, field: state.word, values: [left, 7], hard: true}\n";
    let soft = "deletes: {mode: flag, field: gone}\n";
    let by_condition =
        "deletes: {mode: flag, when: '.state.word == \"left\" and .gone != false', hard: true}\n";
    let of_steps = "processing_steps: [{map: '.left = (.gone == 1)'}, {filter: true}]\ndeletes: {mode: flag, when: .left}\n";
    let live = "select id, v from hr.docs where not (to_jsonb(docs) ? '_deleted_at') or to_jsonb(docs)->>'_deleted_at' is null order by id";
    for (keys, gone, here, is_hard) in [
        (by_hint, json!({"gone": true}), json!({"gone": false}), true),
        (
            by_hint,
            json!({"gone": "2024-01-01"}),
            json!({"gone": null}),
            true,
        ),
        (
            by_status,
            json!({"state": {"word": "left"}}),
            json!({"state": {"word": "Left"}}),
            true,
        ),
        (
            by_status,
            json!({"state": {"word": 7.0}}),
            json!({"state": {"word": "7"}}),
            true,
        ),
        (soft, json!({"gone": 1}), json!({}), false),
        (
            by_condition,
            json!({"state": {"word": "left"}}),
            json!({"state": {"word": "left"}, "gone": false}),
            true,
        ),
        (of_steps, json!({"gone": 1}), json!({"gone": 2}), false),
    ] {
        let with = |id: i64, v: &str, more: &Value| {
            let mut record = json!({"id": id, "v": v, "tags": [v]});
            record
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            record
        };
        for nesting in ["", "max_table_nesting: 1\n"] {
            let story = format!("{keys}{nesting}{gone}");
            let world = World::new(&format!(
                "primary_key: id\nwrite_disposition: merge\n{nesting}{keys}"
            ))
            .await;
            // 3 comes and goes in one walk, 4 goes before it ever came.
            let pages = json!([
                [
                    with(1, "a", &here),
                    with(2, "b", &here),
                    with(3, "c", &here)
                ],
                [with(3, "c", &gone), with(4, "d", &gone)],
            ]);
            let counters = world.load(pages.clone()).await;
            assert_eq!(changes(&counters), [3, 0, 1, 1], "{story}");
            world
                .expect(live, json!([{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]))
                .await;
            let rows: i64 = world.bench.value("select count(*) from hr.docs").await;
            assert_eq!(rows, if is_hard { 2 } else { 3 }, "{story}");

            let counters = world.load(json!([[with(2, "last words", &gone)]])).await;
            assert_eq!(changes(&counters), [0, 0, 0, 1], "{story}");
            world.expect(live, json!([{"id": 1, "v": "a"}])).await;
            if !nesting.is_empty() && is_hard {
                world
                    .expect("select value from hr.docs__tags", json!([{"value": "a"}]))
                    .await;
            }
            let before = world.versions("hr.docs").await;
            let counters = world
                .load(json!([[with(2, "last words", &gone), with(1, "a", &here)]]))
                .await;
            assert_eq!(changes(&counters), [0, 0, 2, 0], "{story}");
            assert_eq!(before, world.versions("hr.docs").await, "{story}");

            // Back again.
            let counters = world.load(json!([[with(2, "b", &here)]])).await;
            let back = if is_hard { [1, 0, 0, 0] } else { [0, 1, 0, 0] };
            assert_eq!(changes(&counters), back, "{story}");
            world
                .expect(live, json!([{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]))
                .await;
        }
    }
}

#[tokio::test]
async fn a_record_that_the_condition_cannot_judge_is_a_reject_and_its_row_stays() {
    for hard in [false, true] {
        let world = World::new(&format!(
            "primary_key: id\nwrite_disposition: merge\ndeletes: {{mode: flag, when: '.s | if type == \"array\" then .[] else . == \"left\" or startswith(\"x\") end', hard: {hard}}}\n"
        ))
        .await;
        let of = |states: &[Value]| {
            let records = states.iter().zip(1..);
            let records = records.map(|(s, id)| json!({"id": id, "s": s}));
            json!([records.collect::<Vec<_>>()])
        };
        let here = vec![json!("here"); 6];
        world.load(of(&here)).await;

        // An error, no output, two outputs, and one that is neither true nor false.
        let odd = [json!(null), json!([]), json!([true, true]), json!([1])];
        let mut states = vec![json!("left"), json!("here")];
        states.extend(odd);
        let outcome = world.sync(of(&states)).await;
        assert_eq!(outcome.status, Status::Partial, "{outcome:?}");
        assert_eq!(outcome.counters.rows_rejected, 4);
        assert_eq!(changes(&outcome.counters), [0, 0, 1, 1]);
        let live =
            "select id from hr.docs where to_jsonb(docs)->>'_deleted_at' is null order by id";
        let ids = |ids: &[i64]| json!(ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>());
        world.expect(live, ids(&[2, 3, 4, 5, 6])).await;
        let open = "select record_key as key, reason, column_name as path from rosterd.rejects where resolved_at is null order by record_key";
        let reject =
            |key: &str, reason: &str| json!({"key": key, "reason": reason, "path": "deletes.when"});
        world
            .expect(
                open,
                json!([
                    reject("3", "step_failed"),
                    reject("4", "step_not_one_output"),
                    reject("5", "step_not_one_output"),
                    reject("6", "not_boolean"),
                ]),
            )
            .await;

        // What can be judged again closes its reject, be it here or gone.
        let outcome = world
            .sync(of(
                &["here", "here", "left", "here", "left", "here"].map(Value::from)
            ))
            .await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        world.expect(open, json!([])).await;
        world.expect(live, ids(&[1, 2, 4, 6])).await;
    }
}

#[tokio::test]
async fn a_condition_sees_what_the_privacy_rules_keep_out() {
    let world = World::new(
        "primary_key: id\nwrite_disposition: merge\nprivacy: {exclude: [state], hash: [id], keep: {born: year}}\ndeletes: {mode: flag, when: '.state == \"left\" and .id > 0'}\nrejects: {store: record}\nmax_table_nesting: 1\n",
    )
    .await;
    let of = |states: [&str; 3]| {
        let records = states.iter().zip(1..);
        let records = records
            .map(|(state, id)| json!({"id": id, "state": state, "born": "1990-02-03", "v": id}));
        json!([records.collect::<Vec<_>>()])
    };
    world.load(of(["here", "here", "here"])).await;
    let counters = world.load(of(["here", "left", "here"])).await;
    assert_eq!(changes(&counters), [0, 0, 2, 1]);
    world
        .expect(
            "select v from hr.docs where _deleted_at is null order by v",
            json!([{"v": 1}, {"v": 3}]),
        )
        .await;
    let columns = "select count(*) as n from information_schema.columns where table_schema = 'hr' and column_name = 'state'";
    world.expect(columns, json!([{"n": 0}])).await;
    // The verdict of each record stays its own where another one is left out on the way.
    world.bench.execute("delete from hr.docs").await;
    let page = json!([[{"id": 1, "state": "here", "v": 1}, "no record", {"id": 2, "state": "left", "v": 2}, {"id": 3, "state": "here", "v": 3}]]);
    let outcome = world.sync(page).await;
    assert_eq!(outcome.counters.rows_rejected, 1, "{outcome:?}");
    world
        .expect(
            "select v from hr.docs order by v",
            json!([{"v": 1}, {"v": 3}]),
        )
        .await;
}

#[tokio::test]
async fn a_number_that_no_column_holds_is_told_by_key_and_field_with_privacy_rules_too() {
    let mut told = Vec::new();
    for rules in [
        "",
        "privacy: {exclude: [ssn], hash: [who]}\n",
        "privacy: {only: [id, a, l, key]}\n",
    ] {
        let world = World::new(&format!(
            "primary_key: id\nwrite_disposition: merge\n{rules}"
        ))
        .await;
        let number = |digits: &str| serde_json::from_str::<Value>(digits).unwrap();
        let huge = number("1e5000");
        let page = json!([[
            {"id": 1, "a": {"n": huge}, "ssn": 1},
            {"id": 2, "l": [huge], "who": "x"},
            {"id": huge},
            {"id": 4, "a": {"n": 4}},
        ]]);
        let outcome = world.sync(page).await;
        assert_eq!(outcome.counters.rows_rejected, 3, "{rules}{outcome:?}");
        told.push(
            world
                .json("select record_key as k, column_name as f, reason as why from rosterd.rejects order by column_name")
                .await,
        );
    }
    assert_eq!(told[0][0]["f"], "a.n", "{told:?}");
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0], told[2]);

    // Of a field that the rules keep out, nobody needs to know.
    let world =
        World::new("primary_key: id\nwrite_disposition: merge\nprivacy: {exclude: [ssn]}\n").await;
    let huge: Value = serde_json::from_str("1e5000").unwrap();
    let counters = world
        .load(json!([[{"id": 1, "v": "a", "ssn": huge}]]))
        .await;
    assert_eq!(counters.rows_inserted, 1);
}

#[tokio::test]
async fn a_preview_knows_which_records_are_gone() {
    let mut world = World::new(
        "primary_key: id\nwrite_disposition: merge\ndeletes: {mode: flag, when: .gone}\n",
    )
    .await;
    world.config = format!(
        "database: {{url: '{}'}}\n{}",
        world.bench.db.url(),
        world.config
    );
    let record = |id: i64, gone: bool, more: &str| json!({"id": id, "gone": gone, more: id});
    let page = |of: [bool; 4], more: &str| {
        let records = of.iter().zip(1..).map(|(gone, id)| record(id, *gone, more));
        json!([records.collect::<Vec<_>>()])
    };
    let told = async |world: &World| {
        let config = world.config.clone();
        let run = tokio::task::spawn_blocking(move || {
            let mut process = Setup::command(config, &["preview", "hr/docs", "-n", "0"]).start();
            let status = process.wait();
            assert!(status.success(), "{}", process.stderr());
            process.stdout()
        });
        let out = run.await.unwrap();
        let line = out
            .lines()
            .find(|line| line.starts_with("of this page"))
            .map(str::to_owned);
        (line.unwrap_or_default(), out)
    };
    // 4 was gone before, and 5 never was.
    world.load(page([false, false, false, false], "v")).await;
    world.load(page([false, false, false, true], "v")).await;
    let mut next = page([false, true, false, true], "v");
    next[0]
        .as_array_mut()
        .unwrap()
        .push(record(5, true, "of_nobody"));
    next[0].as_array_mut().unwrap().push(record(6, false, "v"));
    *world.pages.lock().unwrap() = next.as_array().unwrap().clone();
    let (line, out) = told(&world).await;
    assert_eq!(
        line,
        "of this page: 1 would be inserted, 0 updated, 1 deleted, 4 are unchanged, 0 rejected"
    );
    assert!(!out.contains("of_nobody"), "{out}");
}

#[tokio::test]
async fn an_old_record_that_was_gone_ends_no_newer_row() {
    let world = World::new(
        "primary_key: id\nwrite_disposition: merge\ncolumns: {gone: {hard_delete: true}, n: {dedup_sort: desc}}\n",
    )
    .await;
    world.load(json!([[{"id": 1, "v": "new", "n": 5}]])).await;
    world.load(json!([[{"id": 1, "n": 4, "gone": true}]])).await;
    world.expect(DOCS, json!([{"id": 1, "v": "new"}])).await;
    // In one page as well: the later version counts.
    world
        .load(json!([[{"id": 1, "n": 6, "v": "newest"}, {"id": 1, "n": 5, "gone": true}]]))
        .await;
    world.expect(DOCS, json!([{"id": 1, "v": "newest"}])).await;
    world.load(json!([[{"id": 1, "n": 7, "gone": true}]])).await;
    world.expect(DOCS, json!([])).await;
}

#[tokio::test]
async fn records_that_give_way_to_a_later_version_are_counted() {
    let upsert = "primary_key: id\nwrite_disposition: merge\n";
    let sorted = format!("{upsert}columns: {{at: {{dedup_sort: desc}}}}\n");
    for keys in [
        format!("{{incremental}}\n{upsert}"),
        sorted.clone(),
        format!("{upsert}columns: {{at: {{dedup_sort: asc}}}}\n"),
        format!("{sorted}max_table_nesting: 1\n"),
        format!("{sorted}deletes: {{mode: flag, field: gone}}\n"),
        format!("{sorted}deletes: {{mode: flag, field: gone, hard: true}}\n"),
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: scd2}\ncolumns: {at: {dedup_sort: desc}}\ndeletes: {mode: flag, field: gone}\n".to_owned(),
    ] {
        let world = World::new(&keys).await;
        let (early, late) = match keys.contains("asc}") {
            true => (json!("2024-06-01T00:00:00Z"), json!("2024-05-01T00:00:00Z")),
            false => (json!("2024-05-01T00:00:00Z"), json!("2024-06-01T00:00:00Z")),
        };
        let record = |id: i64, v: &str, at: &Value| json!({"id": id, "v": v, "at": at, "tags": [v]});
        let counters = world
            .load(json!([[record(1, "late", &late), record(2, "late", &late), record(3, "early", &early)]]))
            .await;
        assert_eq!(counters.rows_behind, 0, "{keys}");
        // One gives way, one that is gone too if anything says so, one is new, one is equal.
        let mut gone = record(2, "early", &early);
        gone["gone"] = json!(true);
        let counters = world
            .load(json!([[record(1, "early", &early), gone, record(3, "late", &late), record(4, "late", &late)]]))
            .await;
        assert_eq!(changes(&counters), [1, 1, 2, 0], "{keys}");
        assert_eq!(counters.rows_behind, 2, "{keys}");
        let told: i64 = world
            .bench
            .value("select rows_behind from rosterd.runs order by run_id desc limit 1")
            .await;
        assert_eq!(told, 2, "{keys}");
        world
            .expect(
                "select distinct v from hr.docs where to_jsonb(docs)->>'_valid_to' is null",
                json!([{"v": "late"}]),
            )
            .await;
    }
}

#[tokio::test]
async fn rows_that_another_mapping_would_write_alike_get_its_hash_once() {
    for keys in [
        "primary_key: id\nwrite_disposition: merge\n",
        "primary_key: id\nwrite_disposition: {disposition: merge, strategy: scd2}\n",
    ] {
        let mut world = World::new(keys).await;
        let page = |n: &str| {
            let n: Value = serde_json::from_str(n).unwrap();
            json!([[{"id": 1, "n": n}, {"id": 2, "n": 7.5}]])
        };
        world.load(page("1.5")).await;
        let hashes = "select encode(_row_hash, 'hex') as h from hr.docs order by id";
        let first = world.json(hashes).await;

        world.configure(&format!("{keys}null_values: [nothing]\n"));
        let counters = world.load(page("1.5")).await;
        assert_eq!(changes(&counters), [0, 0, 2, 0], "{keys}");
        let second = world.json(hashes).await;
        for row in 0..2 {
            assert_ne!(first[row], second[row], "{keys}");
        }
        // From here on the rows are known by their hash, and nothing is written.
        let versions = world.versions("hr.docs").await;
        let counters = world.load(page("1.5")).await;
        assert_eq!(changes(&counters), [0, 0, 2, 0], "{keys}");
        assert_eq!(world.versions("hr.docs").await, versions, "{keys}");
        // Another spelling is no other mapping.
        let counters = world.load(page("1.50")).await;
        assert_eq!(changes(&counters), [0, 0, 2, 0], "{keys}");
        assert_eq!(world.versions("hr.docs").await, versions, "{keys}");
    }
}

/// Rows of absences, with the set that they belong to.
const SETS: &str = "select who, day from hr.docs order by who, day";

#[tokio::test]
async fn a_set_that_is_delivered_whole_replaces_the_old_one() {
    let in_hint = "write_disposition: merge\ncolumns: {who: {merge_key: true}}\n";
    for (keys, has_key) in [
        ("write_disposition: merge\nmerge_key: who\n", false),
        ("write_disposition: merge\nreplace_by: [who]\n", false),
        (in_hint, false),
        (
            "write_disposition: {disposition: merge, strategy: delete-insert, merge_key: who}\nprimary_key: id\nmax_table_nesting: 1\n",
            true,
        ),
    ] {
        // One record per batch: a set is torn by the borders of pages and of batches.
        let world = World::new(&format!("{keys}batch: {{rows: 1}}\n")).await;
        let row =
            |id: i64, who: &str, day: i64| json!({"id": id, "who": who, "day": day, "tags": [day]});
        let first = json!([
            [row(1, "ann", 1), row(2, "ann", 2)],
            [row(3, "ann", 3), row(4, "bob", 1)]
        ]);
        assert_eq!(
            changes(&world.load(first.clone()).await),
            [4, 0, 0, 0],
            "{keys}"
        );
        let before = world.versions("hr.docs").await;
        assert_eq!(changes(&world.load(first).await), [0, 0, 4, 0], "{keys}");
        assert_eq!(before, world.versions("hr.docs").await, "{keys}");

        // Only Ann is delivered: 2 is gone, 3 is changed, 5 is new; Bob stays.
        let counters = world
            .load(json!([
                [row(1, "ann", 1)],
                [row(3, "ann", 30), row(5, "ann", 5)]
            ]))
            .await;
        assert_eq!(changes(&counters), [2, 0, 1, 2], "{keys}");
        world
            .expect(SETS, json!([{"who": "ann", "day": 1}, {"who": "ann", "day": 5}, {"who": "ann", "day": 30}, {"who": "bob", "day": 1}]))
            .await;
        if has_key {
            world
                .expect(
                    "select value from hr.docs__tags order by value",
                    json!([{"value": 1}, {"value": 1}, {"value": 5}, {"value": 30}]),
                )
                .await;
            // A row that moves to another set leaves the old one.
            world
                .load(json!([[row(5, "bob", 5), row(4, "bob", 1)]]))
                .await;
            world
                .expect(SETS, json!([{"who": "ann", "day": 1}, {"who": "ann", "day": 30}, {"who": "bob", "day": 1}, {"who": "bob", "day": 5}]))
                .await;
        }
        // A walk without records says nothing of any set.
        let before = world.versions("hr.docs").await;
        world.load(json!([[]])).await;
        assert_eq!(before, world.versions("hr.docs").await, "{keys}");
    }
}

#[tokio::test]
async fn equal_rows_of_a_set_without_keys_are_kept_each() {
    let world = World::new("write_disposition: merge\nreplace_by: who\n").await;
    let row = |day: i64| json!({"who": "ann", "day": day});
    world.load(json!([[row(1), row(1)], [row(2)]])).await;
    world.load(json!([[row(1)], [row(1), row(1)]])).await;
    let three: i64 = world
        .bench
        .value("select count(*) from hr.docs where day = 1")
        .await;
    assert_eq!(three, 3);
    let all: i64 = world.bench.value("select count(*) from hr.docs").await;
    assert_eq!(all, 3);
}

#[tokio::test]
async fn a_set_with_a_bad_record_loses_nothing() {
    let row = |id: Value, who: Value| json!({"id": id, "who": who, "day": id});
    // Without keys nobody can say which row the bad record was.
    let world = World::new("write_disposition: merge\nreplace_by: who\n").await;
    world
        .load(json!([[
            row(json!(1), json!("ann")),
            row(json!(2), json!("ann"))
        ]]))
        .await;
    let before = world.versions("hr.docs").await;
    let outcome = world
        .sync(json!([[
            row(json!(1), json!("ann")),
            row(json!(3), json!(null))
        ]]))
        .await;
    assert_eq!(outcome.fault.unwrap().code, "sets_not_whole");
    world
        .expect(
            "select reason, column_name from rosterd.rejects",
            json!([{"reason": "null_key", "column_name": "who"}]),
        )
        .await;
    assert_eq!(before, world.versions("hr.docs").await);

    // With keys the good records are loaded, and no row goes.
    let world = World::new("write_disposition: merge\nreplace_by: who\nprimary_key: id\n").await;
    world
        .load(json!([[
            row(json!(1), json!("ann")),
            row(json!(2), json!("ann"))
        ]]))
        .await;
    let outcome = world
        .sync(json!([[
            row(json!(3), json!("ann")),
            row(json!(null), json!("ann"))
        ]]))
        .await;
    assert_eq!(
        (outcome.status, outcome.counters.rows_deleted),
        (Status::Partial, 0)
    );
    let ids: Vec<i64> = world
        .bench
        .column("select id from hr.docs order by id")
        .await;
    assert_eq!(ids, [1, 2, 3]);
}

#[tokio::test]
async fn records_without_a_key_get_one_that_is_the_same_in_every_run() {
    let whole = "primary_key: {hash: \"*\"}\nwrite_disposition: merge\n";
    let world = World::new(whole).await;
    // The second is the first, spelled otherwise; so is the third, on another page.
    let pages = json!([[{"id": 1, "v": "a"}, {"v": "a", "id": 1.0}, {"id": 2, "v": "b"}], [{"id": 1, "v": "a", "x": null}]]);
    assert_eq!(changes(&world.load(pages.clone()).await), [2, 0, 2, 0]);
    let before = world.versions("hr.docs").await;
    assert_eq!(changes(&world.load(pages).await), [0, 0, 4, 0]);
    assert_eq!(before, world.versions("hr.docs").await);
    let key: String = world
        .bench
        .value("select string_agg(a.attname, ',') from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) where i.indrelid = 'hr.docs'::regclass and i.indisprimary")
        .await;
    assert_eq!(key, "_rosterd_key");
    // What changes is another row.
    world.load(json!([[{"id": 1, "v": "z"}]])).await;
    world
        .expect(
            "select id::int, v from hr.docs order by id, v",
            json!([{"id": 1, "v": "a"}, {"id": 1, "v": "z"}, {"id": 2, "v": "b"}]),
        )
        .await;

    let fields = "primary_key: {hash: [id, who.name]}\nwrite_disposition: merge\nmax_table_nesting: 1\nprivacy: {hash: who.name, exclude: secret}\ndeletes: {mode: snapshot, hard: true}\n";
    let world = World::new(fields).await;
    let record = |id: Value, name: &str, v: &str| json!({"id": id, "who": {"name": name}, "v": v, "secret": v, "tags": [v]});
    world
        .load(json!([[
            record(json!(1), "ann", "a"),
            record(json!(1), "bob", "b")
        ]]))
        .await;
    let counters = world
        .load(json!([[
            record(json!(1.0), "ann", "c"),
            record(json!(1), "bob", "b")
        ]]))
        .await;
    assert_eq!(changes(&counters), [0, 1, 1, 0]);
    world
        .expect(
            "select v from hr.docs order by v",
            json!([{"v": "b"}, {"v": "c"}]),
        )
        .await;
    world
        .expect(
            "select value from hr.docs__tags order by value",
            json!([{"value": "b"}, {"value": "c"}]),
        )
        .await;
    let counters = world.load(json!([[record(json!(1.0), "ann", "c")]])).await;
    assert_eq!(changes(&counters), [0, 0, 1, 1]);
    // Without any of the fields there is no key.
    let outcome = world
        .sync(json!([[record(json!(1), "ann", "c"), {"v": "q"}]]))
        .await;
    assert_eq!(
        (outcome.status, outcome.counters.rows_rejected),
        (Status::Partial, 1)
    );
}

const SCD2: &str = "write_disposition: {disposition: merge, strategy: scd2}\n";

/// Versions: what stands in them, whether each is valid, and whether it begins where the one before it ends.
const VERSIONS: &str = "select id, v, _valid_to is null as valid,
    coalesce(_valid_from = lag(_valid_to) over (partition by id order by _valid_from), false) as joined
    from hr.docs order by id, _valid_from";

#[tokio::test]
async fn scd2_keeps_every_version_with_the_time_of_its_validity() {
    for keys in [
        "primary_key: id\n".to_owned(),
        "primary_key: id\nbatch: {rows: 1}\n".to_owned(),
        // As in dlt: a row is all that it holds, and one that changes is another one.
        String::new(),
        "primary_key: {hash: id}\n".to_owned(),
    ] {
        let world = World::new(&format!(
            "{SCD2}{keys}deletes: {{mode: snapshot, floor: 0, max_fraction: 0.5}}\n"
        ))
        .await;
        let row = |id: i64, v: &str| json!({"id": id, "v": v});
        let first = json!([[row(1, "a"), row(2, "b")], [row(3, "c"), row(4, "d")]]);
        assert_eq!(
            changes(&world.load(first.clone()).await),
            [4, 0, 0, 0],
            "{keys}"
        );
        let before = world.versions("hr.docs").await;
        assert_eq!(
            changes(&world.load(first.clone()).await),
            [0, 0, 4, 0],
            "{keys}"
        );
        assert_eq!(before, world.versions("hr.docs").await, "{keys}");

        // 1 changes, 2 is gone.
        world
            .load(json!([[row(1, "a2")], [row(3, "c"), row(4, "d")]]))
            .await;
        let version = |id: i64, v: &str, valid: bool, joined: bool| json!({"id": id, "v": v, "valid": valid, "joined": joined});
        let is_keyed = !keys.is_empty();
        let seam = is_keyed;
        let gone = json!([
            version(1, "a", false, false),
            version(1, "a2", true, seam),
            version(2, "b", false, false),
            version(3, "c", true, false),
            version(4, "d", true, false)
        ]);
        let found = world.json(VERSIONS).await;
        let strip = |rows: &Value| -> Vec<Value> {
            rows.as_array()
                .unwrap()
                .iter()
                .map(|r| json!([r["id"], r["v"], r["valid"]]))
                .collect()
        };
        assert_eq!(strip(&found), strip(&gone), "{keys}");
        if is_keyed {
            assert_eq!(found, gone, "{keys}");
        }
        // 2 is back as it was: a new version, and the old one stays.
        world
            .load(json!([
                [row(1, "a2"), row(2, "b")],
                [row(3, "c"), row(4, "d")]
            ]))
            .await;
        let back: Vec<bool> = world
            .bench
            .column("select _valid_to is null from hr.docs where id = 2 order by _valid_from")
            .await;
        assert_eq!(back, [false, true], "{keys}");
        let twice: i64 = world.bench.value("select count(*) from (select id from hr.docs where _valid_to is null group by id having count(*) > 1) x").await;
        assert_eq!(twice, 0, "{keys}");

        // Almost nothing comes: nothing is retired, and the operator is told.
        let outcome = world.sync(json!([[row(1, "a2")]])).await;
        assert_eq!(outcome.fault.unwrap().code, "deletes_held", "{keys}");
        let outcome = world.sync(json!([[]])).await;
        assert_eq!(outcome.fault.unwrap().code, "deletes_held", "{keys}");
        let valid: i64 = world
            .bench
            .value("select count(*) from hr.docs where _valid_to is null")
            .await;
        assert_eq!(valid, 4, "{keys}");
    }
}

#[tokio::test]
async fn scd2_takes_dlts_options() {
    let mut world = World::new(
        "primary_key: id
write_disposition:
  disposition: merge
  strategy: scd2
  validity_column_names: [since, until]
  active_record_timestamp: 9999-12-31
  boundary_timestamp: '2024-08-21T12:15:00Z'
  row_version_column_name: hash
",
    )
    .await;
    let versions = "select id, v, since, until, since_ from (select id, v, since::date::text, until::date::text, 0 as since_ from hr.docs order by id, until) x";
    world.load(json!([[{"id": 1, "v": "a", "hash": "h1", "since": "2001-01-01"}, {"id": 2, "v": "b", "hash": "h2"}]])).await;
    // Another content under the same version is no other version.
    assert_eq!(
        changes(
            &world
                .load(
                    json!([[{"id": 1, "v": "z", "hash": "h1"}, {"id": 2, "v": "b", "hash": "h2"}]])
                )
                .await
        ),
        [0, 0, 2, 0]
    );
    world
        .expect(
            versions,
            json!([
                {"id": 1, "v": "a", "since": "2024-08-21", "until": "9999-12-31", "since_": 0},
                {"id": 2, "v": "b", "since": "2024-08-21", "until": "9999-12-31", "since_": 0},
            ]),
        )
        .await;
    // The source's own field of that name has a column of another name.
    let columns: Vec<String> = world.bench.column("select column_name::text from information_schema.columns where table_name = 'docs' and column_name like 'since%' order by 1").await;
    assert_eq!(columns.len(), 2, "{columns:?}");

    world.configure(
        "primary_key: id
write_disposition:
  disposition: merge
  strategy: scd2
  validity_column_names: [since, until]
  active_record_timestamp: 9999-12-31
  boundary_timestamp: 2025-01-01
  row_version_column_name: hash
",
    );
    // At one and the same boundary a version that was replaced has never been.
    for v in ["h3", "h4", "h4"] {
        world
            .load(json!([[{"id": 1, "v": v, "hash": v}, {"id": 2, "v": "b", "hash": "h2"}]]))
            .await;
    }
    world
        .expect(
            versions,
            json!([
                {"id": 1, "v": "a", "since": "2024-08-21", "until": "2025-01-01", "since_": 0},
                {"id": 1, "v": "h4", "since": "2025-01-01", "until": "9999-12-31", "since_": 0},
                {"id": 2, "v": "b", "since": "2024-08-21", "until": "9999-12-31", "since_": 0},
            ]),
        )
        .await;
    let outcome = world.sync(json!([[{"id": 1, "v": "x"}]])).await;
    assert_eq!(
        outcome.counters.rows_rejected, 1,
        "a record without a version is none"
    );
}

#[tokio::test]
async fn scd2_retires_within_a_merge_key_only_what_a_walk_speaks_for() {
    let row = |day: i64, id: i64, v: &str| json!({"day": day, "id": id, "v": v});
    for keys in ["primary_key: id\n", ""] {
        // Sets by day, with the key of the row and without.
        let world = World::new(&format!("{SCD2}{keys}merge_key: day\n")).await;
        world
            .load(json!([
                [row(1, 1, "a"), row(1, 2, "b")],
                [row(2, 3, "c"), row(2, 4, "d")]
            ]))
            .await;
        // Of day 1 all but one is gone; of day 2 nothing is said.
        world.load(json!([[row(1, 1, "a2")]])).await;
        world
            .expect(
                "select id, v from hr.docs where _valid_to is null order by id",
                json!([{"id": 1, "v": "a2"}, {"id": 3, "v": "c"}, {"id": 4, "v": "d"}]),
            )
            .await;
        let before = world.versions("hr.docs").await;
        world.load(json!([[]])).await;
        world.load(json!([[row(1, 1, "a2")]])).await;
        assert_eq!(before, world.versions("hr.docs").await, "{keys}");
    }
    // The natural key as merge key: nothing that is absent is retired.
    let world = World::new(&format!("{SCD2}merge_key: id\n")).await;
    world.load(json!([[row(1, 1, "a"), row(1, 2, "b")]])).await;
    world.load(json!([[row(1, 2, "b2")]])).await;
    world
        .expect(
            "select id, v from hr.docs where _valid_to is null order by id",
            json!([{"id": 1, "v": "a"}, {"id": 2, "v": "b2"}]),
        )
        .await;
}

#[tokio::test]
async fn versions_have_their_own_lists_and_end_when_their_record_says_so() {
    let world = World::new(&format!(
        "{SCD2}primary_key: id\nmax_table_nesting: 1\nprivacy: {{hash: id}}\ncolumns: {{gone: {{hard_delete: true}}}}\ndeletes: {{mode: snapshot, hard: true}}\n"
    ))
    .await;
    let row = |id: i64, tags: &[&str]| json!({"id": id, "v": "a", "tags": tags});
    let lists = "select t.value, r._valid_to is null as valid from hr.docs__tags t join hr.docs r on r._rosterd_id = t._rosterd_root_id order by valid, value";
    world
        .load(json!([[row(1, &["x", "y"]), row(2, &["q"])]]))
        .await;
    // A change in the list alone is a version.
    let counters = world
        .load(json!([[row(1, &["x", "z"]), row(2, &["q"])]]))
        .await;
    assert_eq!(changes(&counters), [0, 1, 1, 0]);
    let before = (
        world.versions("hr.docs").await,
        world.versions("hr.docs__tags").await,
    );
    assert_eq!(
        changes(
            &world
                .load(json!([[row(1, &["x", "z"]), row(2, &["q"])]]))
                .await
        ),
        [0, 0, 2, 0]
    );
    assert_eq!(
        before,
        (
            world.versions("hr.docs").await,
            world.versions("hr.docs__tags").await
        )
    );
    world
        .expect(
            lists,
            json!([{"value": "x", "valid": false}, {"value": "y", "valid": false}, {"value": "q", "valid": true}, {"value": "x", "valid": true}, {"value": "z", "valid": true}]),
        )
        .await;
    let counters = world
        .load(json!([[row(1, &["x", "z"]), {"id": 2, "gone": true}]]))
        .await;
    assert_eq!(changes(&counters), [0, 0, 1, 1]);
    let valid: i64 = world
        .bench
        .value("select count(*) from hr.docs where _valid_to is null")
        .await;
    assert_eq!(valid, 1);
}

#[tokio::test]
async fn a_table_that_was_appended_to_gets_its_key_or_says_why_not() {
    const APPEND: &str = "write_disposition: append\n";
    const MERGE: &str = "primary_key: id\nwrite_disposition: merge\n";
    let row = |id: i64, v: &str| json!({"id": id, "v": v});
    let mut world = World::new(APPEND).await;
    world.load(json!([[row(1, "a"), row(2, "b")]])).await;
    world.configure(MERGE);
    let counters = world
        .load(json!([[row(1, "a"), row(2, "c"), row(3, "d")]]))
        .await;
    assert_eq!(counters.rows_inserted, 1);
    world
        .expect(
            DOCS,
            json!([{"id": 1, "v": "a"}, {"id": 2, "v": "c"}, {"id": 3, "v": "d"}]),
        )
        .await;
    let change: String = world
        .bench
        .value("select ddl from rosterd.schema_changes where change = 'add_primary_key'")
        .await;
    assert!(change.contains("add primary key (\"id\")"), "{change}");

    for second in [row(1, "b"), json!({"v": "nobody"})] {
        let mut world = World::new(APPEND).await;
        world.load(json!([[row(1, "a"), second]])).await;
        world.configure(MERGE);
        let before = world.versions("hr.docs").await;
        let outcome = world.sync(json!([[row(1, "z")]])).await;
        let fault = outcome.fault.unwrap();
        assert_eq!(fault.code, "repeated_keys", "{fault:?}");
        assert_eq!(before, world.versions("hr.docs").await);
    }
}

#[tokio::test]
async fn fields_that_a_record_leaves_out_stay_under_partial_records_only() {
    let rows = "select id, v, n, address__city, address__zip from hr.docs order by id";
    for partial in [false, true] {
        let world = World::new(&format!(
            "primary_key: id\nwrite_disposition: merge\npartial_records: {partial}\ncolumns: {{n: {{nullable: true, data_type: bigint}}}}\n"
        ))
        .await;
        world
            .load(json!([[{"id": 1, "v": "a", "n": 1, "address": {"city": "Bonn", "zip": "5"}}]]))
            .await;
        let steps = [
            // What is said, the row if parts are parts, the row if they are not.
            (
                json!({"id": 1, "n": 2}),
                json!(["a", 2, "Bonn", "5"]),
                json!([null, 2, null, null]),
            ),
            (
                json!({"id": 1, "v": null, "address": {"zip": "6"}}),
                json!([null, 2, "Bonn", "6"]),
                json!([null, null, null, "6"]),
            ),
            (
                json!({"id": 1, "n": 2, "address": {}}),
                json!([null, 2, "Bonn", "6"]),
                json!([null, 2, null, null]),
            ),
            (
                json!({"id": 1, "address": null, "v": "b"}),
                json!(["b", 2, null, null]),
                json!(["b", null, null, null]),
            ),
        ];
        for (record, parts, whole) in steps {
            let expected = if partial { parts } else { whole };
            world.load(json!([[record]])).await;
            world
                .expect(
                    rows,
                    json!([{"id": 1, "v": expected[0], "n": expected[1], "address__city": expected[2], "address__zip": expected[3]}]),
                )
                .await;
            // The same again writes nothing, and neither does another part that says nothing new.
            let before = world.versions("hr.docs").await;
            assert_eq!(changes(&world.load(json!([[record]])).await), [0, 0, 1, 0]);
            assert_eq!(before, world.versions("hr.docs").await, "{record}");
        }
        if partial {
            // A part that was delivered before, after another: it must not be taken for unchanged.
            for (n, expected) in [(7, 7), (8, 8), (7, 7)] {
                world.load(json!([[{"id": 1, "n": n}]])).await;
                world.load(json!([[{"id": 1, "v": "b"}]])).await;
                let found: i64 = world.bench.value("select n from hr.docs").await;
                assert_eq!(found, expected);
            }
        }
    }
}
