//! An endpoint that answers with whatever JSON a test gives it, and the real binary that syncs it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Query, State},
    http::header,
    response::IntoResponse,
    routing::get,
};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{daemon::Setup, db::TestDb};

/// Keys of a resource whose answer comes in pages. The first one is asked for as page 1.
pub(crate) const PAGED: &str =
    "endpoint: {paginator: {type: page_number, base_page: 1, total_path: null}}\n";

type Pages = Arc<Mutex<Vec<Vec<u8>>>>;

/// How Postgres calls the connections of the binary, and none of a test.
pub(crate) const SYNC: &str = "sync";

pub(crate) struct Documents {
    pub(crate) db: TestDb,
    pages: Pages,
    config: String,
    _server: AbortOnDropHandle<()>,
}

impl Documents {
    /// `resource`: keys of the resource `docs` of the source `hr`, as lines of YAML.
    pub(crate) async fn new(resource: &str) -> Self {
        let pages = Pages::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/docs", get(answer))
            .with_state(Arc::clone(&pages));
        let server = TaskTracker::new().spawn(async move {
            axum::serve(listener, routes).await.ok();
        });
        let db = TestDb::new().await;
        let config = format!(
            "database: {{url: \"{}&application_name={SYNC}\"}}\ndaemon: {{admin: {{listen: null}}}}\nprivacy: {{key: {{id: k1, secret: a-key-of-thirty-two-characters-1}}}}\nsources:\n  hr:\n    client: {{base_url: \"http://{address}\", paginator: single_page}}\n    resource_defaults: {{write_disposition: append}}\n",
            db.url()
        );
        let mut documents = Self {
            db,
            pages,
            config,
            _server: AbortOnDropHandle::new(server),
        };
        documents.configure(resource);
        documents
    }

    /// Replaces the resource's keys, and those of the source that stand before a line `---`.
    pub(crate) fn configure(&mut self, keys: &str) {
        const SOURCE: &str = "    resource_defaults: {write_disposition: append}\n";
        let (source, resource) = keys.split_once("---\n").unwrap_or(("", keys));
        let indented = |lines: &str, by: &str| -> String {
            let lines = lines.lines().filter(|line| !line.trim().is_empty());
            lines.map(|line| format!("{by}{line}\n")).collect()
        };
        let end = self.config.find(SOURCE).unwrap() + SOURCE.len();
        self.config.truncate(end);
        self.config += &indented(source, "    ");
        self.config += "    resources:\n      - name: docs\n";
        self.config += &indented(resource, "        ");
    }

    /// Sets the answer and syncs it. Returns the run's status and what the binary logged.
    pub(crate) async fn sync(&self, body: impl Into<Vec<u8>>) -> (String, String) {
        self.sync_pages(vec![body.into()]).await
    }

    /// Sets the pages of the answer, of which those after the first only come to who asks for them ([`PAGED`]).
    pub(crate) async fn sync_pages(&self, pages: Vec<Vec<u8>>) -> (String, String) {
        *self.pages.lock().unwrap() = pages;
        let log = self.command(&["sync"]).await;
        let status = self
            .json("select status from rosterd.runs order by run_id desc limit 1")
            .await;
        let status = status
            .pointer("/0/status")
            .and_then(Value::as_str)
            .unwrap_or("none");
        (status.to_owned(), log)
    }

    /// Runs the binary to its end, and returns what it said.
    pub(crate) async fn command(&self, arguments: &[&str]) -> String {
        let setup = Setup::command(self.config.clone(), arguments);
        let ended = tokio::task::spawn_blocking(move || {
            let mut run = setup.start();
            run.wait();
            run.stderr()
        });
        ended.await.unwrap()
    }

    /// Syncs and expects the run to succeed.
    pub(crate) async fn load(&self, body: impl Into<Vec<u8>>) {
        let (status, log) = self.sync(body).await;
        assert_eq!(status, "succeeded", "{log}");
    }

    /// The same, of an answer in pages.
    pub(crate) async fn load_pages(&self, pages: &[&str]) {
        let pages = pages.iter().map(|page| page.as_bytes().to_vec()).collect();
        let (status, log) = self.sync_pages(pages).await;
        assert_eq!(status, "succeeded", "{log}");
    }

    /// Syncs pages with a process that dies when it reaches a point for the `nth` time, and lets its lease run out.
    #[cfg(feature = "failpoints")]
    pub(crate) async fn kill_at(&self, point: &str, nth: usize, pages: &[&str]) {
        *self.pages.lock().unwrap() = pages.iter().map(|page| page.as_bytes().to_vec()).collect();
        let setup = Setup::command(self.config.clone(), &["sync"])
            .with_env("ROSTERD_FAILPOINT", &format!("{point}:{nth}"));
        let ended = tokio::task::spawn_blocking(move || {
            let mut run = setup.start();
            (run.wait().code(), run.stderr())
        });
        let (code, log) = ended.await.unwrap();
        assert_eq!(code, None, "{point}:{nth} was not reached: {log}");
        self.db.let_leases_run_out().await;
    }

    /// Does something to the tables that rosterd did not.
    pub(crate) async fn execute(&self, statement: &'static str) {
        sqlx::raw_sql(statement)
            .execute(self.db.pool())
            .await
            .unwrap();
    }

    /// The rows of a query as a list of objects, all digits kept.
    pub(crate) async fn json(&self, query: &str) -> Value {
        let query =
            format!("select coalesce(json_agg(row_of_all), '[]')::text from ({query}) row_of_all");
        let text: String = sqlx::query_scalar(AssertSqlSafe(query))
            .persistent(false)
            .fetch_one(self.db.pool())
            .await
            .unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

async fn answer(
    State(pages): State<Pages>,
    Query(asked): Query<HashMap<String, String>>,
) -> impl IntoResponse {
    let page: usize = asked.get("page").map_or(1, |page| page.parse().unwrap());
    let pages = pages.lock().unwrap();
    let body = pages.get(page - 1).cloned();
    let body = body.unwrap_or_else(|| b"[]".to_vec());
    ([(header::CONTENT_TYPE, "application/json")], body)
}
