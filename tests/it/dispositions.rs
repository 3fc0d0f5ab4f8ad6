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

use crate::support::sync::Bench;

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
    let counters = world.load(json!([[{"id": 1, "v": "f"}]])).await;
    assert_eq!(changes(&counters), [0, 1, 0, 0]);
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
