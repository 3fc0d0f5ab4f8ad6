//! What people and programs want to know of the history: the questions behind `status`, `runs`, the
//! status page and the metrics.
//!
//! All of them ask the views, which are the contract with readers in SQL, so that a dashboard and a
//! person at `psql` never see different numbers. Each question is one read-only transaction with its
//! own time limit on the server: a page that is asked for often must not hold up the runs.

mod rows;

use std::{collections::HashMap, time::Duration};

use sqlx::{FromRow, PgConnection, PgPool, Postgres, Transaction};

pub use self::rows::{
    Attempt, ErrorGroup, Event, Measured, Oddity, Overview, ResourceHealth, RunDetail, RunRow,
    SchemaChange, Took, Totals, WorkerRow,
};

/// Runs per resource in [`Overview::durations`].
pub const DURATIONS: i64 = 24;

/// Runs, events and errors in one answer at most, whatever is asked for.
const MOST: i64 = 1_000;

/// One snapshot for all the statements of a question, and an end to each of them.
const BEGIN: &str = "begin isolation level repeatable read read only; \
    set local statement_timeout = '4s'; set local lock_timeout = '2s'; set local jit = off";

/// Reads the history. Cheap to clone.
///
/// Its futures must run to their end: dropping one in the middle of a statement would give the pool
/// a connection back that is still in a transaction.
#[derive(Debug, Clone)]
pub struct Reports {
    pool: PgPool,
}

/// Why a question has no answer. Never holds what Postgres wrote: that may quote values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the database cannot be reached")]
    Unreachable,
    #[error("no connection to the database could be had in time")]
    NoConnection,
    #[error("the database did not answer in time")]
    TimedOut,
    #[error("the tables of schema rosterd are missing or of another version")]
    NotMigrated,
    #[error("the database role may not read schema rosterd")]
    NotAllowed,
    #[error("the database refused the question (SQLSTATE {0})")]
    Refused(String),
}

impl Error {
    /// What the operator should do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable => {
                "See whether Postgres runs and takes connections; nothing has to be restarted here."
            }
            Self::NoConnection => {
                "See whether Postgres runs; if it does, all of `database.max_connections` are in use."
            }
            Self::TimedOut => "Look for long statements and locks in pg_stat_activity.",
            Self::NotMigrated => "Run `rosterd migrate` with a role that may create tables.",
            Self::NotAllowed => "Grant the role what deploy/roles.sql gives to the writer.",
            Self::Refused(_) => "Look up the code in the appendix of the PostgreSQL manual.",
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::NoConnection;
        }
        let code = match &error {
            sqlx::Error::Database(refusal) => refusal.code(),
            // A view whose columns are not as expected here is of another version.
            sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnDecode { .. } => {
                return Self::NotMigrated;
            }
            _ => None,
        };
        match code.as_deref() {
            None => Self::Unreachable,
            Some("57014" | "55P03") => Self::TimedOut,
            Some("42P01" | "42703" | "3F000" | "42804" | "42883") => Self::NotMigrated,
            Some("42501") => Self::NotAllowed,
            Some(code) if code.starts_with("08") || code.starts_with("57P") => Self::Unreachable,
            Some(code) => Self::Refused(code.to_owned()),
        }
    }
}

/// Which runs. Every field that is set narrows the answer.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub source: Option<String>,
    pub account: Option<String>,
    pub resource: Option<String>,
    /// Any of these; empty: all.
    pub statuses: Vec<String>,
    /// Started or finished within this long before now.
    pub within: Option<Duration>,
    /// Only older runs than this one: the way to the next page.
    pub before: Option<i64>,
}

impl Reports {
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Whether the database answers and has our schema; the number of its newest migration.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn schema_version(&self) -> Result<i64, Error> {
        let mut tx = self.begin().await?;
        let version = sqlx::query_scalar("select version::bigint from rosterd.schema_version")
            .fetch_one(&mut *tx)
            .await?;
        Ok(version)
    }

    /// All resources of the configuration, by source, account and name.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn health(&self) -> Result<Vec<ResourceHealth>, Error> {
        let mut tx = self.begin().await?;
        let health = health(&mut tx).await?;
        tx.commit().await?;
        Ok(health)
    }

    /// The newest runs first; at most 1,000.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn runs(&self, filter: &RunFilter, limit: usize) -> Result<Vec<RunRow>, Error> {
        let mut tx = self.begin().await?;
        let runs = runs(&mut tx, filter, limit).await?;
        tx.commit().await?;
        Ok(runs)
    }

    /// One run with its attempts, events and schema changes. `None`: there is no such run (any more).
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn run(&self, run_id: i64) -> Result<Option<RunDetail>, Error> {
        let mut tx = self.begin().await?;
        let detail = run(&mut tx, run_id).await?;
        tx.commit().await?;
        Ok(detail)
    }

    /// The processes that take runs, those that were silent for a day left out.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, Error> {
        let mut tx = self.begin().await?;
        let workers = workers(&mut tx).await?;
        tx.commit().await?;
        Ok(workers)
    }

    /// The causes of failures of the last seven days, the widest first.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn error_groups(&self) -> Result<Vec<ErrorGroup>, Error> {
        let mut tx = self.begin().await?;
        let groups = error_groups(&mut tx).await?;
        tx.commit().await?;
        Ok(groups)
    }

    /// What the status page shows.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn overview(&self, newest_runs: usize) -> Result<Overview, Error> {
        let mut tx = self.begin().await?;
        let overview = Overview {
            now: sqlx::query_scalar("select now()")
                .fetch_one(&mut *tx)
                .await?,
            resources: health(&mut tx).await?,
            runs: runs(&mut tx, &RunFilter::default(), newest_runs).await?,
            durations: durations(&mut tx).await?,
            errors: error_groups(&mut tx).await?,
            workers: workers(&mut tx).await?,
        };
        tx.commit().await?;
        Ok(overview)
    }

    /// What the metrics tell.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn measured(&self) -> Result<Measured, Error> {
        let mut tx = self.begin().await?;
        let measured = Measured {
            resources: health(&mut tx).await?,
            totals: totals(&mut tx).await?,
        };
        tx.commit().await?;
        Ok(measured)
    }

    async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.pool.begin_with(BEGIN).await
    }
}

async fn health(db: &mut PgConnection) -> Result<Vec<ResourceHealth>, sqlx::Error> {
    // A table's name stands in target_table with or without quotes; both spellings are tried, because
    // a cast to regclass fails for the whole answer on a name that it cannot read. The rows are what
    // the planner would assume: density at the last analyze times the size now.
    sqlx::query_as(
        "with sizes as (
           select n.nspname, c.relname,
             case when c.reltuples >= 0 and c.relpages > 0
               then c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::bigint)
               else pg_stat_get_live_tuples(c.oid) end::bigint as rows
           from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema', 'rosterd')),
         tables as (
           select nspname || '.' || relname as name, rows from sizes
           union
           select format('%I.%I', nspname, relname), rows from sizes)
         select h.resource_id, h.account, h.source, h.resource, h.target_table, h.health, h.running_now,
           h.phase, h.on_worker, h.last_success_at,
           extract(epoch from h.data_age)::float8 as data_age_s,
           extract(epoch from h.freshness_slo)::float8 as freshness_slo_s,
           h.last_run_id, h.last_status, h.last_finished_at, l.reason as last_reason,
           h.error_class, h.error_message, h.error_hint,
           h.failures_since_success, h.open_rejects, h.next_run_at, h.paused_reason, h.schedule,
           h.schedule_tz, t.rows as table_rows
         from rosterd.resource_health h
         left join tables t on t.name = h.target_table
         left join rosterd.run_list l on l.run_id = h.last_run_id
         order by h.source, h.account, h.resource",
    )
    .fetch_all(db)
    .await
}

/// The columns of [`RunRow`].
macro_rules! run_columns {
    () => {
        "run_id, account, source, resource, status, trigger, triggered_by, mode, scheduled_for,
         started_at, finished_at,
         extract(epoch from duration)::float8 as duration_s,
         extract(epoch from start_delay)::float8 as start_delay_s,
         pages::bigint, records_read, rows_inserted, rows_updated, rows_deleted, rows_unchanged,
         rows_rejected, http_requests::bigint, http_retries::bigint, http_429::bigint,
         extract(epoch from waited_for_limit)::float8 as waited_for_limit_s,
         attempts::integer, reason, error_class, error_code, error_message, error_hint, worker"
    };
}

async fn runs(
    db: &mut PgConnection,
    filter: &RunFilter,
    limit: usize,
) -> Result<Vec<RunRow>, sqlx::Error> {
    let within = filter.within.map(|d| d.as_secs_f64());
    sqlx::query_as(concat!(
        "select ",
        run_columns!(),
        " from rosterd.run_list
          where ($1::text is null or source = $1) and ($2::text is null or account = $2)
            and ($3::text is null or resource = $3)
            and (cardinality($4::text[]) = 0 or status = any($4))
            and ($5::float8 is null
              or coalesce(finished_at, started_at, now()) > now() - make_interval(secs => $5))
            and ($6::bigint is null or run_id < $6)
          order by run_id desc limit $7"
    ))
    .bind(&filter.source)
    .bind(&filter.account)
    .bind(&filter.resource)
    .bind(&filter.statuses)
    .bind(within)
    .bind(filter.before)
    .bind(i64::try_from(limit).unwrap_or(MOST).min(MOST))
    // The plan must be made for the filter at hand, or a generic one walks all runs for one name.
    .persistent(false)
    .fetch_all(db)
    .await
}

async fn run(db: &mut PgConnection, run_id: i64) -> Result<Option<RunDetail>, sqlx::Error> {
    let run: Option<RunRow> = sqlx::query_as(concat!(
        "select ",
        run_columns!(),
        " from rosterd.run_list where run_id = $1"
    ))
    .bind(run_id)
    .fetch_optional(&mut *db)
    .await?;
    let Some(run) = run else { return Ok(None) };
    let oddities = sqlx::query_as(
        "select counter, count from rosterd.runs cross join lateral (values
           ('text_replaced', text_replaced), ('fields_repeated', fields_repeated),
           ('records_superseded', records_superseded),
           ('cursor_missing_rows', cursor_missing_rows), ('cursor_future_rows', cursor_future_rows),
           ('records_left_out', records_left_out), ('rows_behind', rows_behind),
           ('rows_discarded', rows_discarded), ('values_discarded', values_discarded)) as c (counter, count)
         where run_id = $1 and count > 0",
    )
    .bind(run_id)
    .fetch_all(&mut *db)
    .await?;
    let attempts = sqlx::query_as(
        "select attempt::integer, worker, started_at, finished_at, outcome, pages::bigint, records_read,
           error_class, error_code, error_message
         from rosterd.attempts where run_id = $1 order by attempt desc limit $2",
    )
    .bind(run_id)
    .bind(MOST)
    .fetch_all(&mut *db)
    .await?;
    let events = sqlx::query_as(
        "select at, level, kind, message from rosterd.events where run_id = $1 order by event_id limit $2",
    )
    .bind(run_id)
    .bind(MOST)
    .fetch_all(&mut *db)
    .await?;
    let schema_changes = sqlx::query_as(
        "select c.at, c.change, c.table_name, c.column_name, c.old_type, c.new_type
         from rosterd.schema_changes c join rosterd.run_list r on r.resource_id = c.resource_id
         where c.run_id = $1 and r.run_id = $1 order by c.id limit $2",
    )
    .bind(run_id)
    .bind(MOST)
    .fetch_all(&mut *db)
    .await?;
    Ok(Some(RunDetail {
        run,
        oddities,
        attempts,
        events,
        schema_changes,
    }))
}

async fn workers(db: &mut PgConnection) -> Result<Vec<WorkerRow>, sqlx::Error> {
    sqlx::query_as(
        "select worker, host, pid::bigint, app_version, config_hash, started_at, heartbeat_at,
           extract(epoch from now() - heartbeat_at)::float8 as silent_s, running::bigint, draining
         from rosterd.workers where heartbeat_at > now() - interval '1 day'
         order by started_at desc limit $1",
    )
    .bind(MOST)
    .fetch_all(db)
    .await
}

async fn error_groups(db: &mut PgConnection) -> Result<Vec<ErrorGroup>, sqlx::Error> {
    sqlx::query_as(
        "select error_fingerprint, error_class, error_code, example, hint, runs, resources, first_seen, last_seen
         from rosterd.error_groups limit $1",
    )
    .bind(MOST)
    .fetch_all(db)
    .await
}

/// The last runs of every resource in one statement: one step into an index for each of them.
async fn durations(db: &mut PgConnection) -> Result<HashMap<i64, Vec<Took>>, sqlx::Error> {
    #[derive(FromRow)]
    struct Line {
        resource_id: i64,
        ids: Vec<i64>,
        statuses: Vec<String>,
        seconds: Vec<f64>,
    }
    let lines: Vec<Line> = sqlx::query_as(
        "select h.resource_id,
           array_agg(x.run_id order by x.run_id) as ids,
           array_agg(x.status order by x.run_id) as statuses,
           array_agg(x.seconds order by x.run_id) as seconds
         from rosterd.resources h
         cross join lateral (
           select run_id, status, coalesce(extract(epoch from duration), 0)::float8 as seconds
           from rosterd.run_list l
           where l.resource_id = h.resource_id and status not in ('queued', 'running', 'skipped')
           order by run_id desc limit $1) x
         where h.removed_at is null
         group by 1",
    )
    .bind(DURATIONS)
    .fetch_all(db)
    .await?;
    let together = |line: Line| {
        let runs = line.ids.into_iter().zip(line.statuses).zip(line.seconds);
        let runs = runs.map(|((run_id, status), seconds)| Took {
            run_id,
            status,
            seconds,
        });
        (line.resource_id, runs.collect())
    };
    Ok(lines.into_iter().map(together).collect())
}

/// Old days come from `daily`, which outlives the runs; the newest day of it and what is later come
/// from the runs too, and the larger sum counts, because that day may have been rolled up at noon.
async fn totals(db: &mut PgConnection) -> Result<Vec<Totals>, sqlx::Error> {
    sqlx::query_as(
        "with edge as (
           select coalesce(max(day), date '1970-01-01') as day from rosterd.daily),
         late as (
           select resource_id, day, runs, succeeded, partial, failed, interrupted, skipped,
             records_read, rows_changed, rows_rejected, http_requests, http_429
           from rosterd.daily where day = (select day from edge)
           union all
           select resource_id, (finished_at at time zone 'UTC')::date,
             count(*) filter (where status <> 'skipped'),
             count(*) filter (where status = 'succeeded'),
             count(*) filter (where status = 'partial'),
             count(*) filter (where status = 'failed'),
             count(*) filter (where status = 'interrupted'),
             count(*) filter (where status = 'skipped'),
             sum(records_read), sum(rows_inserted + rows_updated + rows_deleted), sum(rows_rejected),
             sum(http_requests), sum(http_429)
           from rosterd.runs
           where finished_at >= (select day from edge)::timestamp at time zone 'UTC'
             and queued_at >= (select day - 7 from edge)
           group by 1, 2),
         days as (
           select resource_id, max(runs) as runs, max(succeeded) as succeeded, max(partial) as partial,
             max(failed) as failed, max(interrupted) as interrupted, max(skipped) as skipped,
             max(records_read) as records_read, max(rows_changed) as rows_changed,
             max(rows_rejected) as rows_rejected, max(http_requests) as http_requests,
             max(http_429) as http_429
           from late group by resource_id, day
           union all
           select resource_id, sum(runs), sum(succeeded), sum(partial), sum(failed), sum(interrupted),
             sum(skipped), sum(records_read), sum(rows_changed), sum(rows_rejected),
             sum(http_requests), sum(http_429)
           from rosterd.daily where day < (select day from edge) group by resource_id)
         select r.source, r.account, r.resource,
           coalesce(sum(succeeded), 0)::bigint as succeeded,
           coalesce(sum(partial), 0)::bigint as partial,
           coalesce(sum(failed), 0)::bigint as failed,
           coalesce(sum(interrupted), 0)::bigint as interrupted,
           coalesce(sum(runs - succeeded - partial - failed - interrupted), 0)::bigint as cancelled,
           coalesce(sum(skipped), 0)::bigint as skipped,
           coalesce(sum(records_read), 0)::bigint as records_read,
           coalesce(sum(rows_changed), 0)::bigint as rows_changed,
           coalesce(sum(rows_rejected), 0)::bigint as rows_rejected,
           coalesce(sum(http_requests), 0)::bigint as http_requests,
           coalesce(sum(http_429), 0)::bigint as http_429
         from rosterd.resources r left join days using (resource_id)
         where r.removed_at is null
         group by r.resource_id, r.source, r.account, r.resource
         order by r.source, r.account, r.resource",
    )
    .fetch_all(db)
    .await
}
