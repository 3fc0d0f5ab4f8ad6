//! The bookkeeping as tests read it: runs that ended, and everything that schema `rosterd` holds.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, FromRow, PgExecutor, PgPool};

/// Longest wait for a run to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run that ended, as an operator sees it.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Run {
    pub(crate) run_id: i64,
    pub(crate) status: String,
    pub(crate) error_class: Option<String>,
    pub(crate) error_code: Option<String>,
    pub(crate) error_message: Option<String>,
    pub(crate) error_hint: Option<String>,
    pub(crate) http_requests: i64,
    pub(crate) records_read: i64,
}

impl Run {
    /// Status, class and code.
    pub(crate) fn verdict(&self) -> (&str, &str, &str) {
        (
            &self.status,
            self.error_class.as_deref().unwrap_or_default(),
            self.error_code.as_deref().unwrap_or_default(),
        )
    }

    pub(crate) fn message(&self) -> &str {
        self.error_message.as_deref().unwrap_or_default()
    }

    pub(crate) fn hint(&self) -> &str {
        self.error_hint.as_deref().unwrap_or_default()
    }
}

/// Makes the scheduler run a resource at its next poll.
pub(crate) async fn make_due(db: impl PgExecutor<'_>, source: &str, resource: &str) {
    let made = sqlx::query(
        "update rosterd.resources set next_run_at = greatest(clock_timestamp() - interval '1 s', last_slot + interval '1 ms')
         where source = $1 and resource = $2",
    )
    .bind(source)
    .bind(resource)
    .execute(db)
    .await
    .unwrap();
    assert_eq!(made.rows_affected(), 1, "{source}/{resource} is not there");
}

/// The newest run of a resource that ended and is newer than `after`.
pub(crate) async fn ended(
    db: impl PgExecutor<'_>,
    source: &str,
    resource: &str,
    after: i64,
) -> Option<Run> {
    sqlx::query_as(
        "select run_id, status, error_class, error_code, error_message, error_hint, http_requests, records_read
         from rosterd.runs where source = $1 and resource = $2 and run_id > $3 and finished_at is not null
           and status <> 'skipped'
         order by run_id desc limit 1",
    )
    .bind(source)
    .bind(resource)
    .bind(after)
    .fetch_optional(db)
    .await
    .unwrap()
}

/// Waits for a run of the resource, newer than `after`, to end.
pub(crate) async fn next_run(pool: &PgPool, source: &str, resource: &str, after: i64) -> Run {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(run) = ended(pool, source, resource, after).await {
            return run;
        }
        assert!(
            Instant::now() < deadline,
            "no run of {source}/{resource} ended"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes the resource due and waits for that run.
pub(crate) async fn run_now(pool: &PgPool, source: &str, resource: &str) -> Run {
    let before = ended(pool, source, resource, 0)
        .await
        .map_or(0, |run| run.run_id);
    make_due(pool, source, resource).await;
    next_run(pool, source, resource, before).await
}

/// Every row of every table and view of schema `rosterd`, as text with the relation's name in front.
pub(crate) async fn bookkeeping(pool: &PgPool) -> String {
    let relations: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c
         where c.relnamespace = 'rosterd'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut text = String::new();
    for relation in relations {
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select to_jsonb(t)::text from rosterd.{relation} t"
        )))
        .fetch_all(pool)
        .await
        .unwrap();
        for row in rows {
            text += &format!("{relation}: {row}\n");
        }
    }
    text
}
