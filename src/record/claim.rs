//! Taking a resource: the lease, the run's row and the next slot, in one transaction before the first request.
//!
//! The rows of both `resources` and `leases` are locked. After waiting for a lock Postgres looks again at
//! locked rows only; with the lease alone locked, the slot would be read from an old snapshot and run twice.
//!
//! A lease that ran out is taken over at once, whatever the schedule says: its run is closed as interrupted
//! and a new one goes on from the checkpoint.

use std::{collections::HashMap, fmt};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};

use super::{Error, Mode, ResourceId, RunId, Trigger, Worker, resources, skip, slots, takeover};
use crate::{
    config::{Config, Resource, Source},
    failpoint,
};

/// Rows looked at in one go, at least and at most. Whatever is due behind them waits for the next claim: where a
/// thousand resources are due at once, each claim reads a few of them, not all that are left.
const CANDIDATES: (i64, i64) = (64, 500);

/// A resource that this worker owns until the lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub resource_id: ResourceId,
    pub run_id: RunId,
    /// Checked inside each data transaction.
    pub fence: i64,
    pub source: String,
    pub account: String,
    pub resource: String,
    pub trigger: Trigger,
    pub mode: Mode,
    /// The slot that the run answers; `None`: not started by the schedule.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// The interrupted run whose checkpoint this one goes on from.
    pub took_over: Option<RunId>,
    /// Stands in the run's row and belongs on its log lines.
    pub trace_id: String,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} (run {})", self.source, self.resource, self.run_id)
    }
}

/// Answer to a claim by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOne {
    Claimed(Claim),
    /// A living worker runs it.
    Held {
        owner: String,
        since: DateTime<Utc>,
    },
}

/// What is needed to open a run on a lease that is locked.
struct Opening {
    resource_id: ResourceId,
    account: String,
    source: String,
    resource: String,
    trigger: Trigger,
    triggered_by: String,
    mode: Mode,
    scheduled_for: Option<DateTime<Utc>>,
    took_over: Option<RunId>,
    labels: Value,
}

/// Where the schedule of a resource goes.
pub(super) struct Move {
    resource_id: ResourceId,
    last_slot: DateTime<Utc>,
    next_run_at: Option<DateTime<Utc>>,
}

/// Claims up to `limit` resources that are due at `now` (the database's time, see [`super::now`]), opens their
/// runs and moves their schedules on.
///
/// A due slot of a resource that is paused or whose run is still going becomes a skipped run; equal ones in
/// a row share one. Missed slots become one catch-up. Runs that were interrupted, and those whose worker
/// is gone, are gone on with. With a `limit` of 0 only the slots are kept account of.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn claim_due(
    pool: &PgPool,
    worker: &Worker,
    config: &Config,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Vec<Claim>, Error> {
    let sources = config.sources.iter();
    let configured: HashMap<_, (&Source, &Resource)> = sources
        .flat_map(|source| {
            source.resources.iter().map(move |resource| {
                let name = (&*source.account, &*source.name, &*resource.name);
                (name, (source, resource))
            })
        })
        .collect();

    // Another replica may know resources that we do not (yet), so pages of candidates are read until enough are ours.
    let mut known = Known::new();
    let mut unknown: Vec<ResourceId> = Vec::new();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let page = limit.saturating_mul(2).clamp(CANDIDATES.0, CANDIDATES.1);
    let (mut offset, mut free) = (0, 0);
    loop {
        let candidates = candidates(pool, now, page, offset).await?;
        let read = i64::try_from(candidates.len()).unwrap_or(i64::MAX);
        for candidate in candidates {
            let (account, source, resource) = &candidate.name;
            match configured.get(&(&**account, &**source, &**resource)) {
                Some(ours) => {
                    known.insert(candidate.resource_id, *ours);
                    free += i64::from(candidate.is_free);
                }
                None => unknown.push(candidate.resource_id),
            }
        }
        offset += read;
        if read < page || free > limit {
            break;
        }
    }
    if known.is_empty() && unknown.is_empty() {
        return Ok(Vec::new());
    }

    let mut tx = pool.begin().await?;
    let claims = if limit == 0 || known.is_empty() {
        Vec::new()
    } else {
        take_due(&mut tx, worker, &known, limit, now).await?
    };
    skip::skip_slots(&mut tx, &known, now).await?;
    takeover::put_away(&mut tx, &known, &unknown).await?;
    failpoint::reach("claim.before_commit");
    tx.commit().await?;
    failpoint::reach("claim.after_commit");
    Ok(claims)
}

/// Claims a resource now, whatever its schedule says and also while it is paused. The schedule stays as it is.
///
/// # Errors
///
/// [`Error::UnknownResource`], [`Error::Database`].
pub async fn claim_one(
    pool: &PgPool,
    worker: &Worker,
    resource_id: ResourceId,
    trigger: Trigger,
    mode: Mode,
    triggered_by: &str,
) -> Result<ClaimOne, Error> {
    let mut tx = pool.begin().await?;
    let row = sqlx::query(
        "select r.account, r.source, r.resource, l.run_id, l.resume_of, l.owner, l.acquired_at,
                coalesce(l.expires_at < clock_timestamp(), false) as over
         from rosterd.resources r join rosterd.leases l using (resource_id)
         where r.resource_id = $1 and r.removed_at is null
         for update of r, l",
    )
    .bind(resource_id)
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(Error::UnknownResource)?;

    let held: Option<RunId> = row.try_get("run_id")?;
    if let Some(run_id) = held {
        let free = row.try_get("over")?
            && takeover::lock_runs(&mut tx, &[run_id])
                .await?
                .contains(&run_id);
        if !free {
            return Ok(ClaimOne::Held {
                owner: row.try_get("owner")?,
                since: row.try_get("acquired_at")?,
            });
        }
        takeover::interrupt(&mut tx, run_id, row.try_get("owner")?).await?;
    }
    let took_over = held.or(row.try_get("resume_of")?);
    let opening = Opening {
        resource_id,
        account: row.try_get("account")?,
        source: row.try_get("source")?,
        resource: row.try_get("resource")?,
        trigger,
        triggered_by: triggered_by.to_owned(),
        mode,
        scheduled_for: None,
        took_over,
        labels: took_over.map_or_else(|| json!({}), |run_id| json!({ "resumes": run_id })),
    };
    let claims = open(&mut tx, worker, vec![opening]).await?;
    failpoint::reach("claim.before_commit");
    tx.commit().await?;
    failpoint::reach("claim.after_commit");
    claims
        .into_iter()
        .next()
        .map(ClaimOne::Claimed)
        .ok_or(Error::Lost)
}

/// The candidates that our configuration knows.
pub(super) type Known<'a> = HashMap<ResourceId, (&'a Source, &'a Resource)>;

/// A resource of which something is due.
struct Candidate {
    resource_id: ResourceId,
    /// Account, source and resource.
    name: (String, String, String),
    /// Whether it only waits for its run: not paused, not running, not to be gone on with.
    is_free: bool,
}

/// What may be due, read without locks; first whatever asks for more than a run.
async fn candidates(
    pool: &PgPool,
    now: DateTime<Utc>,
    page: i64,
    offset: i64,
) -> Result<Vec<Candidate>, Error> {
    let candidates = sqlx::query(
        "select r.resource_id, r.account, r.source, r.resource, r.next_run_at,
                l.run_id is null and l.resume_of is null and r.paused_at is null as is_free
         from rosterd.resources r join rosterd.leases l using (resource_id)
         where r.removed_at is null and (r.next_run_at <= $1 or r.next_reconcile_at <= $1)
         union
         select r.resource_id, r.account, r.source, r.resource, r.next_run_at, false
         from rosterd.leases l join rosterd.resources r using (resource_id)
         where (l.run_id is not null and l.expires_at < clock_timestamp())
            or (l.run_id is null and l.resume_of is not null and r.paused_at is null and r.removed_at is null)
         order by is_free, next_run_at nulls first, resource_id
         limit $2 offset $3",
    )
    .bind(now)
    .bind(page)
    .bind(offset)
    .try_map(|row: PgRow| {
        Ok(Candidate {
            resource_id: row.try_get("resource_id")?,
            name: (
                row.try_get("account")?,
                row.try_get("source")?,
                row.try_get("resource")?,
            ),
            is_free: row.try_get("is_free")?,
        })
    })
    .fetch_all(pool)
    .await?;
    Ok(candidates)
}

/// Locks what can be run, closes the runs it takes over, opens the new ones.
async fn take_due(
    tx: &mut PgConnection,
    worker: &Worker,
    known: &Known<'_>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Claim>, Error> {
    let ids: Vec<ResourceId> = known.keys().copied().collect();
    let rows = sqlx::query(
        "select r.resource_id, r.account, r.source, r.resource, r.next_run_at, r.next_reconcile_at,
                l.run_id, l.owner, l.resume_of
         from rosterd.resources r join rosterd.leases l using (resource_id)
         where r.resource_id = any($1) and r.paused_at is null and r.removed_at is null
           and (   (l.run_id is null and (r.next_run_at <= $2 or r.next_reconcile_at <= $2 or l.resume_of is not null))
                or (l.run_id is not null and l.expires_at < clock_timestamp()))
         order by (l.run_id is null and l.resume_of is null), r.next_run_at
         limit $3
         for update of r, l skip locked",
    )
    .bind(ids)
    .bind(now)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;

    let mut over: Vec<RunId> = Vec::new();
    let mut before: Vec<RunId> = Vec::new();
    for row in &rows {
        let held: Option<RunId> = row.try_get("run_id")?;
        over.extend(held);
        before.extend(held.or(row.try_get("resume_of")?));
    }
    let locked = takeover::lock_runs(tx, &over).await?;
    let predecessors = takeover::predecessors(tx, &before).await?;

    let mut openings = Vec::with_capacity(rows.len());
    let (mut moves, mut reconciled) = (Vec::new(), Vec::new());
    for row in rows {
        let resource_id: ResourceId = row.try_get("resource_id")?;
        let Some((source, resource)) = known.get(&resource_id) else {
            continue;
        };
        let held: Option<RunId> = row.try_get("run_id")?;
        let took_over = held.or(row.try_get("resume_of")?);
        let predecessor = took_over.and_then(|run_id| predecessors.get(&run_id));
        let mut takeovers = 0;
        if let Some(run_id) = held {
            // Not to be had: its owner is in the middle of a batch, so it lives. (A row that is not there holds nobody.)
            if predecessor.is_some() && !locked.contains(&run_id) {
                continue;
            }
            takeovers =
                predecessor.map_or(0, |run| if run.pages == 0 { run.takeovers + 1 } else { 1 });
            if takeovers > takeover::MOST_TAKEOVERS {
                takeover::give_up(tx, run_id, takeovers).await?;
                takeover::free(tx, resource_id, None).await?;
                continue;
            }
            takeover::interrupt(tx, run_id, row.try_get("owner")?).await?;
        }

        let first: Option<DateTime<Utc>> = row.try_get("next_run_at")?;
        let mut trigger = Trigger::Schedule;
        let mut labels = serde_json::Map::new();
        let mut slot = None;
        if let Some(first) = first.filter(|first| *first <= now) {
            slot = Some(first);
            let moved = move_on(source, resource, resource_id, first, now);
            if moved.1.missed {
                trigger = Trigger::CatchUp;
                labels.insert("missed_slots".to_owned(), json!(moved.1.count));
                labels.insert("last_missed".to_owned(), json!(moved.1.last));
            }
            moves.push(moved.0);
        }
        // A run that is gone on with is of the mode that it had; the slot waits for the next one.
        let reconcile: Option<DateTime<Utc>> = row.try_get("next_reconcile_at")?;
        let reconcile = reconcile.filter(|first| *first <= now && took_over.is_none());
        if let Some(first) = reconcile {
            let (moved, due) = move_reconcile(source, resource, resource_id, first, now);
            if slot.is_none() && due.missed {
                trigger = Trigger::CatchUp;
                labels.insert("missed_slots".to_owned(), json!(due.count));
                labels.insert("last_missed".to_owned(), json!(due.last));
            }
            labels.insert("reconcile".to_owned(), json!(first));
            slot = slot.or(Some(first));
            reconciled.push(moved);
        }
        if let Some(run_id) = took_over {
            trigger = Trigger::Retry;
            labels.insert("resumes".to_owned(), json!(run_id));
            if takeovers > 0 {
                labels.insert("takeovers".to_owned(), json!(takeovers));
            }
        }
        openings.push(Opening {
            resource_id,
            account: row.try_get("account")?,
            source: row.try_get("source")?,
            resource: row.try_get("resource")?,
            trigger,
            triggered_by: predecessor
                .and_then(|run| run.triggered_by.clone())
                .unwrap_or_else(|| "scheduler".to_owned()),
            // A full read that was asked for stays one when it is gone on with.
            mode: predecessor
                .and_then(|run| run.mode)
                .or_else(|| reconcile.map(|_| Mode::Full))
                .unwrap_or_else(|| resources::usual_mode(resource)),
            scheduled_for: slot.or(predecessor.and_then(|run| run.scheduled_for)),
            took_over,
            labels: Value::Object(labels),
        });
    }
    move_schedules(tx, &moves).await?;
    move_reconciles(tx, &reconciled).await?;
    open(tx, worker, openings).await
}

/// The due slot `first` and all others that are past are answered by one row.
pub(super) fn move_on(
    source: &Source,
    resource: &Resource,
    resource_id: ResourceId,
    first: DateTime<Utc>,
    now: DateTime<Utc>,
) -> (Move, slots::Due) {
    let due = slots::of(source, resource).map_or_else(
        || slots::Due::last_of_all(first),
        |slots| slots.due(first, now),
    );
    (
        Move {
            resource_id,
            last_slot: due.last,
            next_run_at: due.next,
        },
        due,
    )
}

/// The same of the slots at which everything is read.
pub(super) fn move_reconcile(
    source: &Source,
    resource: &Resource,
    resource_id: ResourceId,
    first: DateTime<Utc>,
    now: DateTime<Utc>,
) -> (Move, slots::Due) {
    let due = slots::of_reconcile(source, resource).map_or_else(
        || slots::Due::last_of_all(first),
        |slots| slots.due(first, now),
    );
    let moved = Move {
        resource_id,
        last_slot: due.last,
        next_run_at: due.next,
    };
    (moved, due)
}

pub(super) async fn move_reconciles(tx: &mut PgConnection, moves: &[Move]) -> Result<(), Error> {
    if moves.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update rosterd.resources r set next_reconcile_at = moved.next_at
           from unnest($1::bigint[], $2::timestamptz[]) as moved (resource_id, next_at)
          where r.resource_id = moved.resource_id",
    )
    .bind(moves.iter().map(|m| m.resource_id).collect::<Vec<_>>())
    .bind(moves.iter().map(|m| m.next_run_at).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn move_schedules(tx: &mut PgConnection, moves: &[Move]) -> Result<(), Error> {
    if moves.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update rosterd.resources r
            set next_run_at = moved.next_run_at, last_slot = greatest(r.last_slot, moved.last_slot)
           from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as moved (resource_id, next_run_at, last_slot)
          where r.resource_id = moved.resource_id",
    )
    .bind(moves.iter().map(|m| m.resource_id).collect::<Vec<_>>())
    .bind(moves.iter().map(|m| m.next_run_at).collect::<Vec<_>>())
    .bind(moves.iter().map(|m| m.last_slot).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Opens a run on each lease, all of which are locked and free.
async fn open(
    tx: &mut PgConnection,
    worker: &Worker,
    openings: Vec<Opening>,
) -> Result<Vec<Claim>, Error> {
    if openings.is_empty() {
        return Ok(Vec::new());
    }
    let traces: Vec<String> = openings
        .iter()
        .map(|_| format!("{:032x}", fastrand::u128(..)))
        .collect();
    let runs: HashMap<ResourceId, RunId> = sqlx::query(
        "insert into rosterd.runs
           (status, resource_id, account, source, resource, trigger, triggered_by, mode, scheduled_for, started_at,
            attempts, worker, app_version, config_hash, trace_id, labels)
         select 'running', resource_id, account, source, resource, trigger, triggered_by, mode, scheduled_for,
                clock_timestamp(), 1, $8, $9, $10, trace_id, labels
         from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $11::timestamptz[]) with ordinality
           as new (resource_id, account, source, resource, trigger, triggered_by, mode, scheduled_for, place)
         join unnest($12::text[], $13::jsonb[]) with ordinality as more (trace_id, labels, place) using (place)
         returning resource_id, run_id",
    )
    .bind(openings.iter().map(|o| o.resource_id).collect::<Vec<_>>())
    .bind(openings.iter().map(|o| o.account.as_str()).collect::<Vec<_>>())
    .bind(openings.iter().map(|o| o.source.as_str()).collect::<Vec<_>>())
    .bind(openings.iter().map(|o| o.resource.as_str()).collect::<Vec<_>>())
    .bind(openings.iter().map(|o| o.trigger.as_str()).collect::<Vec<_>>())
    .bind(openings.iter().map(|o| o.triggered_by.as_str()).collect::<Vec<_>>())
    .bind(openings.iter().map(|o| o.mode.as_str()).collect::<Vec<_>>())
    .bind(&worker.name)
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(&worker.config_hash)
    .bind(openings.iter().map(|o| o.scheduled_for).collect::<Vec<_>>())
    .bind(&traces)
    .bind(openings.iter().map(|o| &o.labels).collect::<Vec<_>>())
    .try_map(|row: PgRow| Ok((row.try_get("resource_id")?, row.try_get("run_id")?)))
    .fetch_all(&mut *tx)
    .await?
    .into_iter()
    .collect();

    let (ids, run_ids): (Vec<ResourceId>, Vec<RunId>) = runs.iter().unzip();
    let fences: HashMap<ResourceId, i64> = sqlx::query(
        "update rosterd.leases l
            set run_id = new.run_id, owner = $3, fence = l.fence + 1, acquired_at = clock_timestamp(),
                heartbeat_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $4),
                phase = 'starting', cancel_requested = false, resume_of = null
           from unnest($1::bigint[], $2::bigint[]) as new (resource_id, run_id)
          where l.resource_id = new.resource_id
         returning l.resource_id, l.fence",
    )
    .bind(ids)
    .bind(&run_ids)
    .bind(&worker.name)
    .bind(worker.lease_seconds())
    .try_map(|row: PgRow| Ok((row.try_get("resource_id")?, row.try_get("fence")?)))
    .fetch_all(&mut *tx)
    .await?
    .into_iter()
    .collect();
    sqlx::query(
        "insert into rosterd.attempts (run_id, attempt, worker, started_at, resumed_from)
         select run_id, 1, worker, started_at, 'run ' || (labels ->> 'resumes')
         from rosterd.runs where run_id = any($1)",
    )
    .bind(run_ids)
    .execute(tx)
    .await?;

    Ok(openings
        .into_iter()
        .zip(traces)
        .filter_map(|(opening, trace_id)| {
            Some(Claim {
                resource_id: opening.resource_id,
                run_id: *runs.get(&opening.resource_id)?,
                fence: *fences.get(&opening.resource_id)?,
                source: opening.source,
                account: opening.account,
                resource: opening.resource,
                trigger: opening.trigger,
                mode: opening.mode,
                scheduled_for: opening.scheduled_for,
                took_over: opening.took_over,
                trace_id,
            })
        })
        .collect())
}
