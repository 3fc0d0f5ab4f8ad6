//! The lines of the answers. Also what `--format json` prints, so fields are only ever added.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;

/// One resource and how it is doing: a row of `rosterd.resource_health`.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct ResourceHealth {
    pub resource_id: i64,
    pub account: String,
    pub source: String,
    pub resource: String,
    pub target_table: String,
    /// `ok`, `degraded`, `late`, `failing`, `broken`, `stuck`, `paused` or `never_ran`.
    pub health: String,
    pub running_now: bool,
    /// What the run is doing, in words.
    pub phase: Option<String>,
    pub on_worker: Option<String>,
    pub last_success_at: Option<DateTime<Utc>>,
    /// Age of the data in seconds.
    pub data_age_s: Option<f64>,
    /// The data should never be older than this, in seconds.
    pub freshness_slo_s: Option<f64>,
    pub last_run_id: Option<i64>,
    pub last_status: Option<String>,
    pub last_finished_at: Option<DateTime<Utc>>,
    /// Why the last run is partial, interrupted or cancelled.
    pub last_reason: Option<String>,
    pub error_class: Option<String>,
    pub error_message: Option<String>,
    pub error_hint: Option<String>,
    pub failures_since_success: i64,
    pub open_rejects: i64,
    pub next_run_at: Option<DateTime<Utc>>,
    pub paused_reason: Option<String>,
    pub schedule: Option<String>,
    pub schedule_tz: String,
    /// Rows of the target table as Postgres estimates them. `None`: no such table, or no estimate yet.
    pub table_rows: Option<i64>,
}

/// One run: a row of `rosterd.run_list`, without the cursors, which may be personal.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct RunRow {
    pub run_id: i64,
    pub account: String,
    pub source: String,
    pub resource: String,
    pub status: String,
    pub trigger: String,
    pub triggered_by: Option<String>,
    pub mode: String,
    pub scheduled_for: Option<DateTime<Utc>>,
    /// `None`: skipped, or not taken up yet.
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// Seconds from start to end, or to now.
    pub duration_s: Option<f64>,
    /// Seconds from slot to start.
    pub start_delay_s: Option<f64>,
    pub pages: i64,
    pub records_read: i64,
    pub rows_inserted: i64,
    pub rows_updated: i64,
    pub rows_deleted: i64,
    pub rows_unchanged: i64,
    pub rows_rejected: i64,
    pub http_requests: i64,
    pub http_retries: i64,
    pub http_429: i64,
    /// Seconds held back by the rate limiter.
    pub waited_for_limit_s: f64,
    pub attempts: i32,
    /// Why it was skipped, cancelled, interrupted or is partial.
    pub reason: Option<String>,
    pub error_class: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub error_hint: Option<String>,
    pub worker: Option<String>,
}

impl RunRow {
    /// Rows inserted, updated or deleted.
    #[must_use]
    pub fn rows_changed(&self) -> i64 {
        self.rows_inserted + self.rows_updated + self.rows_deleted
    }
}

/// A run with everything that hangs on it.
#[derive(Debug, Clone, Serialize)]
pub struct RunDetail {
    pub run: RunRow,
    /// What was odd about its records, as far as there was anything.
    pub oddities: Vec<Oddity>,
    pub attempts: Vec<Attempt>,
    pub events: Vec<Event>,
    pub schema_changes: Vec<SchemaChange>,
}

/// One counter of `rosterd.runs` that tells of records which were not as they should be.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Oddity {
    /// The column's name.
    pub counter: String,
    pub count: i64,
}

/// One time that a process took a run up.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Attempt {
    pub attempt: i32,
    pub worker: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    /// `None`: still going on.
    pub outcome: Option<String>,
    pub pages: i64,
    pub records_read: i64,
    pub error_class: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
}

/// Something worth a line that happened in a run.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Event {
    pub at: DateTime<Utc>,
    pub level: String,
    pub kind: String,
    pub message: String,
}

/// A table or column that a run made or changed.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct SchemaChange {
    pub at: DateTime<Utc>,
    pub change: String,
    pub table_name: String,
    pub column_name: Option<String>,
    pub old_type: Option<String>,
    pub new_type: Option<String>,
}

/// A process that takes runs.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct WorkerRow {
    pub worker: String,
    pub host: Option<String>,
    pub pid: Option<i64>,
    pub app_version: Option<String>,
    pub config_hash: Option<String>,
    pub started_at: DateTime<Utc>,
    pub heartbeat_at: DateTime<Utc>,
    /// Seconds since it last said that it is alive, by the database's clock.
    pub silent_s: f64,
    pub running: i64,
    pub draining: bool,
}

/// One cause of failures in the last seven days.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct ErrorGroup {
    pub error_fingerprint: Option<String>,
    pub error_class: String,
    pub error_code: Option<String>,
    pub example: Option<String>,
    pub hint: Option<String>,
    pub runs: i64,
    pub resources: i64,
    pub first_seen: DateTime<Utc>,
    pub last_seen: DateTime<Utc>,
}

/// How long a finished run took.
#[derive(Debug, Clone, Serialize)]
pub struct Took {
    pub run_id: i64,
    pub status: String,
    pub seconds: f64,
}

/// Sums over all history of one resource. They only grow, also when old runs are deleted.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Totals {
    pub source: String,
    pub account: String,
    pub resource: String,
    pub succeeded: i64,
    pub partial: i64,
    pub failed: i64,
    pub interrupted: i64,
    pub cancelled: i64,
    pub skipped: i64,
    pub records_read: i64,
    pub rows_changed: i64,
    pub rows_rejected: i64,
    pub http_requests: i64,
    pub http_429: i64,
}

/// Everything on the status page, of one instant.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// The database's clock, to tell ages by.
    pub now: DateTime<Utc>,
    pub resources: Vec<ResourceHealth>,
    /// The newest ones of all resources.
    pub runs: Vec<RunRow>,
    /// By `resource_id`, oldest first, [`super::DURATIONS`] at most.
    pub durations: HashMap<i64, Vec<Took>>,
    pub errors: Vec<ErrorGroup>,
    pub workers: Vec<WorkerRow>,
}

/// Everything in the metrics, of one instant.
#[derive(Debug, Clone)]
pub struct Measured {
    pub resources: Vec<ResourceHealth>,
    pub totals: Vec<Totals>,
}
