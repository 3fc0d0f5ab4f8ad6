//! What the daemon wrote down about its runs.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rosterd::postgres::Pool;
use sqlx::FromRow;

/// One row of `rosterd.runs`.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct Run {
    pub(crate) run_id: i64,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) trigger: String,
    pub(crate) resource: String,
    pub(crate) worker: Option<String>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
    pub(crate) error_class: Option<String>,
    pub(crate) error_code: Option<String>,
    pub(crate) retryable: Option<bool>,
    pub(crate) pages: i64,
    pub(crate) records_read: i64,
    pub(crate) rows_inserted: i64,
    pub(crate) http_requests: i64,
    pub(crate) labels: serde_json::Value,
}

/// All runs with a greater number than `after`, oldest first.
pub(crate) async fn runs(pool: &Pool, after: i64) -> Vec<Run> {
    sqlx::query_as("select * from rosterd.runs where run_id > $1 order by run_id")
        .bind(after)
        .fetch_all(pool)
        .await
        .unwrap()
}

/// The number of the newest run; 0 before the first.
pub(crate) async fn newest(pool: &Pool) -> i64 {
    sqlx::query_scalar("select coalesce(max(run_id), 0) from rosterd.runs")
        .fetch_one(pool)
        .await
        .unwrap()
}

/// Makes every resource due.
pub(crate) async fn make_due(pool: &Pool) {
    sqlx::query("update rosterd.resources set next_run_at = clock_timestamp() - interval '1 s' where removed_at is null")
        .execute(pool)
        .await
        .unwrap();
}

/// Polls until the answer is there; panics with `what` when it takes too long.
pub(crate) async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
