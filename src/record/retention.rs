//! Rolls days up into `rosterd.daily`, then deletes old history in small steps.
//!
//! The newest run of a resource *of each status* stays whatever its age: health, the last success and the last
//! failure are read from it. One replica at a time does this, under a lease of its own; the others find it
//! taken and go home.

use std::time::Duration;

use sqlx::{PgConnection, PgPool, Row};

use super::Error;
use crate::config::daemon::Retention;

/// Rows looked at per step: short transactions, so that runs never wait for this.
const STEP: i64 = 1_000;

/// How long the chore's lease lasts; it is renewed with each step.
const LEASE: Duration = Duration::from_secs(30);

/// Workers that did not say goodbye leave the list after this.
const WORKER_GONE: Duration = Duration::from_secs(24 * 3600);

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// `false`: another replica is at it.
    pub done: bool,
    /// Rows written to `rosterd.daily`.
    pub rolled_up: u64,
    pub runs: u64,
    pub events: u64,
    pub rejects: u64,
    pub cursor_log: u64,
    pub workers: u64,
}

/// Rolls up and deletes what is older than configured. Call it now and then; it picks up where it stopped.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn retain(pool: &PgPool, retention: &Retention) -> Result<Retained, Error> {
    let chore = Chore {
        owner: format!("{:032x}", fastrand::u128(..)),
    };
    let mut retained = Retained::default();
    if !chore.take(pool).await? {
        return Ok(retained);
    }
    let outcome = work(pool, &chore, retention, &mut retained).await;
    let complete = matches!(outcome, Ok(true));
    // Given back also after an error, so that the next call need not wait for the lease to end.
    let given_back = chore.give_back(pool, complete).await;
    retained.done = outcome?;
    given_back?;
    Ok(retained)
}

/// `false`: the lease was lost on the way.
async fn work(
    pool: &PgPool,
    chore: &Chore,
    retention: &Retention,
    retained: &mut Retained,
) -> Result<bool, Error> {
    retained.rolled_up = roll_up(pool).await?;

    let mut after = 0;
    loop {
        if !chore.take(pool).await? {
            return Ok(false);
        }
        let Some((last, deleted)) = delete_runs(pool, retention, after).await? else {
            break;
        };
        after = last;
        retained.runs += deleted;
    }
    // Events and the log are in order of time, so their oldest rows come first and the first step
    // that finds a young one is the last.
    retained.events = steps(pool, chore, Table::Events, retention.events).await?;
    retained.rejects = steps(pool, chore, Table::Rejects, retention.rejects).await?;
    // An open reject says that a record is missing, and stays. The record itself does not.
    sqlx::query(
        "update rosterd.rejects set record = null
          where record is not null and last_seen_at < clock_timestamp() - make_interval(secs => $1)",
    )
    .bind(retention.rejects.as_secs_f64())
    .execute(pool)
    .await?;
    // What people did to cursors is kept as long as what failed.
    retained.cursor_log = steps(pool, chore, Table::CursorLog, retention.failed_runs).await?;
    // A record that has not given way for as long is not there any more.
    sqlx::query(
        "delete from rosterd.superseded where seen_at < clock_timestamp() - make_interval(secs => $1)",
    )
    .bind(retention.failed_runs.as_secs_f64())
    .execute(pool)
    .await?;
    retained.workers =
        sqlx::query("delete from rosterd.workers where heartbeat_at < clock_timestamp() - make_interval(secs => $1)")
            .bind(WORKER_GONE.as_secs_f64())
            .execute(pool)
            .await?
            .rows_affected();
    Ok(true)
}

/// Adds the days that are over and not in `daily` yet: one row per resource, also where nothing ran.
async fn roll_up(pool: &PgPool) -> Result<u64, Error> {
    // An hour of grace for transactions that were open at midnight. A day is written once: after that
    // its runs begin to disappear and could not be counted again.
    let done = sqlx::query(
        "with bounds as (
           select first, last from (
             select coalesce(
                      (select max(day) + 1 from rosterd.daily),
                      (select (min(finished_at) at time zone 'UTC')::date from rosterd.runs)) as first,
                    ((clock_timestamp() - interval '1 hour') at time zone 'UTC')::date - 1 as last) open
           where first <= last),
         days as (
           select day::date from bounds, generate_series(first::timestamp, last::timestamp, interval '1 day') as day),
         ended as (
           select (finished_at at time zone 'UTC')::date as day, resource_id, account, source, resource, status,
                  records_read, rows_inserted + rows_updated + rows_deleted as rows_changed, rows_rejected,
                  http_requests, http_429, wait_rate_ms,
                  coalesce((labels ->> 'count')::bigint, 1) as slots,
                  (extract(epoch from finished_at - started_at) * 1000)::bigint as duration_ms,
                  extract(epoch from started_at - scheduled_for)::bigint as lag_s
           from rosterd.runs, bounds
           where finished_at >= (first::timestamp at time zone 'UTC')
             and finished_at < ((last + 1)::timestamp at time zone 'UTC')),
         spine as (
           select d.day, r.resource_id, r.account, r.source, r.resource
           from days d, rosterd.resources r
           where r.removed_at is null or (r.removed_at at time zone 'UTC')::date >= d.day
           union
           select distinct on (day, resource_id) day, resource_id, account, source, resource from ended
           where not exists (select from rosterd.resources r where r.resource_id = ended.resource_id))
         insert into rosterd.daily
           (day, resource_id, account, source, resource, runs, succeeded, partial, failed, interrupted, skipped,
            records_read, rows_changed, rows_rejected, http_requests, http_429, wait_rate_ms,
            duration_ms_sum, duration_ms_max, worst_lag_s)
         select s.day, s.resource_id, s.account, s.source, s.resource,
                count(*) filter (where e.status <> 'skipped'),
                count(*) filter (where e.status = 'succeeded'),
                count(*) filter (where e.status = 'partial'),
                count(*) filter (where e.status = 'failed'),
                count(*) filter (where e.status = 'interrupted'),
                coalesce(sum(e.slots) filter (where e.status = 'skipped'), 0),
                coalesce(sum(e.records_read), 0), coalesce(sum(e.rows_changed), 0), coalesce(sum(e.rows_rejected), 0),
                coalesce(sum(e.http_requests), 0), coalesce(sum(e.http_429), 0), coalesce(sum(e.wait_rate_ms), 0),
                coalesce(sum(e.duration_ms), 0), coalesce(max(e.duration_ms), 0), greatest(coalesce(max(e.lag_s), 0), 0)
         from spine s
         left join ended e on e.day = s.day and e.resource_id = s.resource_id
         group by 1, 2, 3, 4, 5
         on conflict (day, resource_id) do nothing",
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// One step through the runs in order of age. Returns the last run looked at and how many went, or `None`
/// once the runs are too young.
async fn delete_runs(
    pool: &PgPool,
    retention: &Retention,
    after: i64,
) -> Result<Option<(i64, u64)>, Error> {
    let youngest = retention
        .runs
        .min(retention.failed_runs)
        .min(retention.unchanged_runs);
    let mut tx = pool.begin().await?;
    let last: Option<i64> = sqlx::query_scalar(
        "select max(run_id) from (
           select run_id, queued_at from rosterd.runs where run_id > $1 order by run_id limit $2) step
         having min(queued_at) < clock_timestamp() - make_interval(secs => $3)",
    )
    .bind(after)
    .bind(STEP)
    .bind(youngest.as_secs_f64())
    .fetch_optional(&mut *tx)
    .await?
    .flatten();
    let Some(last) = last else {
        return Ok(None);
    };
    // Only days that are in `daily` may go.
    let deleted = sqlx::query(
        "delete from rosterd.runs r
          where r.run_id > $1 and r.run_id <= $2
            and r.finished_at < clock_timestamp() - make_interval(secs => case
                  when r.status in ('failed', 'partial', 'interrupted') then $3
                  when r.status = 'succeeded' and r.rows_inserted + r.rows_updated + r.rows_deleted = 0 then least($4, $5)
                  else $4 end)
            and r.finished_at < ((select max(day) + 1 from rosterd.daily)::timestamp at time zone 'UTC')
            and exists (select from rosterd.runs newer
                         where newer.resource_id = r.resource_id and newer.status = r.status and newer.run_id > r.run_id)
            and not exists (select from rosterd.leases l where l.resource_id = r.resource_id and l.resume_of = r.run_id)",
    )
    .bind(after)
    .bind(last)
    .bind(retention.failed_runs.as_secs_f64())
    .bind(retention.runs.as_secs_f64())
    .bind(retention.unchanged_runs.as_secs_f64())
    .execute(&mut *tx)
    .await?
    .rows_affected();
    tx.commit().await?;
    Ok(Some((last, deleted)))
}

#[derive(Clone, Copy)]
enum Table {
    Events,
    Rejects,
    CursorLog,
}

async fn steps(pool: &PgPool, chore: &Chore, table: Table, age: Duration) -> Result<u64, Error> {
    let mut deleted = 0;
    let mut after = 0;
    while chore.take(pool).await? {
        let mut tx = pool.begin().await?;
        let (last, gone) = step(&mut tx, table, after, age).await?;
        tx.commit().await?;
        deleted += gone;
        match last {
            Some(last) => after = last,
            None => break,
        }
    }
    Ok(deleted)
}

/// One step through a table in order of age. `None`: it was the last one.
async fn step(
    tx: &mut PgConnection,
    table: Table,
    after: i64,
    age: Duration,
) -> Result<(Option<i64>, u64), Error> {
    let statement = match table {
        Table::Events => {
            "with step as (select event_id as id, at from rosterd.events where event_id > $1 order by 1 limit $2),
                  gone as (delete from rosterd.events e using step
                            where e.event_id = step.id and step.at < clock_timestamp() - make_interval(secs => $3)
                           returning 1)
             select (select max(id) from step
                     having min(at) < clock_timestamp() - make_interval(secs => $3)) as last, (select count(*) from gone) as gone"
        }
        Table::Rejects => {
            "with step as (select reject_id as id, first_seen_at, resolved_at from rosterd.rejects
                           where reject_id > $1 order by 1 limit $2),
                  gone as (delete from rosterd.rejects r using step
                            where r.reject_id = step.id
                              and step.resolved_at < clock_timestamp() - make_interval(secs => $3)
                           returning 1)
             select (select max(id) from step
                     having min(first_seen_at) < clock_timestamp() - make_interval(secs => $3)) as last,
                    (select count(*) from gone) as gone"
        }
        Table::CursorLog => {
            "with step as (select id, at from rosterd.cursor_log where id > $1 order by 1 limit $2),
                  gone as (delete from rosterd.cursor_log c using step
                            where c.id = step.id and step.at < clock_timestamp() - make_interval(secs => $3)
                           returning 1)
             select (select max(id) from step
                     having min(at) < clock_timestamp() - make_interval(secs => $3)) as last, (select count(*) from gone) as gone"
        }
    };
    let row = sqlx::query(statement)
        .bind(after)
        .bind(STEP)
        .bind(age.as_secs_f64())
        .fetch_one(tx)
        .await?;
    let gone: i64 = row.try_get("gone")?;
    Ok((
        row.try_get("last")?,
        u64::try_from(gone).unwrap_or_default(),
    ))
}

/// The lease on this chore.
struct Chore {
    owner: String,
}

impl Chore {
    /// Takes or renews it. `false`: somebody else has it.
    async fn take(&self, pool: &PgPool) -> Result<bool, Error> {
        let taken = sqlx::query(
            "update rosterd.chores set owner = $1, expires_at = clock_timestamp() + make_interval(secs => $2)
              where chore = 'retention' and (owner is null or owner = $1 or expires_at < clock_timestamp())",
        )
        .bind(&self.owner)
        .bind(LEASE.as_secs_f64())
        .execute(pool)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    async fn give_back(&self, pool: &PgPool, complete: bool) -> Result<(), Error> {
        sqlx::query(
            "update rosterd.chores
                set owner = null, expires_at = null,
                    last_done_at = case when $2 then clock_timestamp() else last_done_at end
              where chore = 'retention' and owner = $1",
        )
        .bind(&self.owner)
        .bind(complete)
        .execute(pool)
        .await?;
        Ok(())
    }
}
