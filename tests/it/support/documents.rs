//! An endpoint that answers with whatever JSON a test gives it, and the real binary that syncs it.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{daemon::Setup, db::TestDb};

/// How Postgres calls the connections of the binary, and none of a test.
pub(crate) const SYNC: &str = "sync";

pub(crate) struct Documents {
    pub(crate) db: TestDb,
    body: Arc<Mutex<Vec<u8>>>,
    config: String,
    _server: AbortOnDropHandle<()>,
}

impl Documents {
    /// `resource`: keys of the resource `docs` of the source `hr`, as lines of YAML.
    pub(crate) async fn new(resource: &str) -> Self {
        let body = Arc::new(Mutex::new(b"[]".to_vec()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/docs", get(answer))
            .with_state(Arc::clone(&body));
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
            body,
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
        *self.body.lock().unwrap() = body.into();
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

async fn answer(State(body): State<Arc<Mutex<Vec<u8>>>>) -> impl IntoResponse {
    let body = body.lock().unwrap().clone();
    ([(header::CONTENT_TYPE, "application/json")], body)
}
