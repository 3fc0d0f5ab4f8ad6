//! What becomes of a run whose worker gave no sign of life until its lease ended.
//!
//! The run's row is locked without waiting: its owner may be alive after all and in the middle of a batch,
//! holding that row and waiting for the lease that we hold. Who cannot be locked lives, and is left alone.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{Claim, Counters, Ending, Error, Mode, ResourceId, RunId, Status, claim::Known, run};
use crate::fault::{Class, Fault};

/// So many processes may die in a row in runs of one resource that commit nothing. Then the run counts as
/// failed and the next slot is waited for: a record that kills the process shall not kill all replicas for ever.
pub(super) const MOST_TAKEOVERS: i64 = 3;

/// The run before, as far as it decides how to go on.
pub(super) struct Predecessor {
    pub mode: Option<Mode>,
    pub scheduled_for: Option<DateTime<Utc>>,
    pub triggered_by: Option<String>,
    pub pages: i64,
    pub takeovers: i64,
}

/// Those of the runs that could be locked at once.
pub(super) async fn lock_runs(
    tx: &mut PgConnection,
    runs: &[RunId],
) -> Result<HashSet<RunId>, Error> {
    if runs.is_empty() {
        return Ok(HashSet::new());
    }
    let locked: Vec<RunId> = sqlx::query_scalar(
        "select run_id from rosterd.runs where run_id = any($1) for update skip locked",
    )
    .bind(runs)
    .fetch_all(tx)
    .await?;
    Ok(locked.into_iter().collect())
}

pub(super) async fn predecessors(
    tx: &mut PgConnection,
    runs: &[RunId],
) -> Result<HashMap<RunId, Predecessor>, Error> {
    if runs.is_empty() {
        return Ok(HashMap::new());
    }
    let predecessors = sqlx::query(
        "select run_id, mode, scheduled_for, triggered_by, pages,
                coalesce((labels ->> 'takeovers')::bigint, 0) as takeovers
         from rosterd.runs where run_id = any($1)",
    )
    .bind(runs)
    .try_map(|row: PgRow| {
        let predecessor = Predecessor {
            mode: Mode::from_word(row.try_get("mode")?),
            scheduled_for: row.try_get("scheduled_for")?,
            triggered_by: row.try_get("triggered_by")?,
            pages: row.try_get("pages")?,
            takeovers: row.try_get("takeovers")?,
        };
        Ok((row.try_get("run_id")?, predecessor))
    })
    .fetch_all(tx)
    .await?;
    Ok(predecessors.into_iter().collect())
}

/// The interrupted runs that a run goes on with, the latest first, as far as they had its configuration.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn interrupted_before(
    conn: &mut PgConnection,
    claim: &Claim,
) -> Result<Vec<RunId>, Error> {
    if claim.took_over.is_none() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar(
        "with recursive line as (
           select run_id, resource_id, config_hash, labels from rosterd.runs where run_id = $1
           union all
           select before.run_id, before.resource_id, before.config_hash, before.labels
           from line join rosterd.runs before on before.run_id = (line.labels ->> 'resumes')::bigint
           where before.run_id < line.run_id and before.resource_id = line.resource_id
             and before.status = 'interrupted' and before.config_hash is not distinct from line.config_hash
         )
         select run_id from line where run_id <> $1 order by run_id desc",
    )
    .bind(claim.run_id)
    .fetch_all(conn)
    .await?)
}

/// Closes the run of a worker that is gone.
pub(super) async fn interrupt(
    tx: &mut PgConnection,
    run_id: RunId,
    owner: &str,
) -> Result<(), Error> {
    let ending = Ending {
        status: Status::Interrupted,
        fault: None,
        reason: Some(format!(
            "no sign of life from {owner} until its lease ended"
        )),
        counters: Counters::default(),
        cursor_from: None,
        cursor_to: None,
        watermark_at: None,
    };
    run::close(tx, run_id, &ending).await?;
    Ok(())
}

/// Closes a run whose process dies again and again.
pub(super) async fn give_up(tx: &mut PgConnection, run_id: RunId, times: i64) -> Result<(), Error> {
    let ending = Ending {
        status: Status::Failed,
        fault: Some(Fault {
            class: Class::Internal,
            code: "crash_loop".to_owned(),
            message: format!(
                "the process ended {times} times in a row in this resource's runs, with no page committed"
            ),
            hint: "look for a panic or an out-of-memory kill in the service's log of these times"
                .to_owned(),
            retryable: true,
        }),
        reason: None,
        counters: Counters::default(),
        cursor_from: None,
        cursor_to: None,
        watermark_at: None,
    };
    run::close(tx, run_id, &ending).await?;
    Ok(())
}

/// Frees a lease that is locked, against the will of its owner.
pub(super) async fn free(
    tx: &mut PgConnection,
    resource_id: ResourceId,
    resume_of: Option<RunId>,
) -> Result<(), Error> {
    sqlx::query(
        "update rosterd.leases
            set run_id = null, owner = null, expires_at = null, phase = null, cancel_requested = false,
                fence = fence + 1, resume_of = $2
          where resource_id = $1",
    )
    .bind(resource_id)
    .bind(resume_of)
    .execute(tx)
    .await?;
    Ok(())
}

/// Closes the runs of workers that are gone where nobody may go on with them now: the resource is paused,
/// removed, or not in our configuration.
pub(super) async fn put_away(
    tx: &mut PgConnection,
    known: &Known<'_>,
    unknown: &[ResourceId],
) -> Result<(), Error> {
    let all: Vec<ResourceId> = known.keys().chain(unknown).copied().collect();
    let rows = sqlx::query(
        "select r.resource_id, l.run_id, l.owner, r.removed_at is not null as removed
         from rosterd.resources r join rosterd.leases l using (resource_id)
         where r.resource_id = any($1) and l.run_id is not null and l.expires_at < clock_timestamp()
           and (r.paused_at is not null or r.removed_at is not null or r.resource_id = any($2))
         for update of r, l skip locked",
    )
    .bind(all)
    .bind(unknown)
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        let run_id: RunId = row.try_get("run_id")?;
        if !lock_runs(tx, &[run_id]).await?.contains(&run_id) {
            continue;
        }
        interrupt(tx, run_id, row.try_get("owner")?).await?;
        let resume_of = (!row.try_get::<bool, _>("removed")?).then_some(run_id);
        free(tx, row.try_get("resource_id")?, resume_of).await?;
    }
    Ok(())
}
