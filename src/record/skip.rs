//! Slots that are due and cannot be run still leave a row: the resource is paused, or its run is still going.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::{
    Error, Mode, ResourceId,
    claim::{Known, move_on, move_reconcile, move_reconciles, move_schedules},
    resources, slots,
};
/// Keeps account of due slots that cannot be run: their resource is paused, or its run is still going.
pub(super) async fn skip_slots(
    tx: &mut PgConnection,
    known: &Known<'_>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let ids: Vec<ResourceId> = known.keys().copied().collect();
    let rows = sqlx::query(
        "select r.resource_id, r.next_run_at, r.paused_at is not null as paused
         from rosterd.resources r join rosterd.leases l using (resource_id)
         where r.resource_id = any($1) and r.removed_at is null and r.next_run_at <= $2
           and (r.paused_at is not null or (l.run_id is not null and l.expires_at >= clock_timestamp()))
         for update of r, l skip locked",
    )
    .bind(ids)
    .bind(now)
    .fetch_all(&mut *tx)
    .await?;

    let mut moves = Vec::with_capacity(rows.len());
    for row in rows {
        let resource_id: ResourceId = row.try_get("resource_id")?;
        let first: DateTime<Utc> = row.try_get("next_run_at")?;
        let Some((source, resource)) = known.get(&resource_id) else {
            continue;
        };
        let reason = if row.try_get("paused")? {
            "paused"
        } else {
            "overlap"
        };
        let (moved, due) = move_on(source, resource, resource_id, first, now);
        skip(
            tx,
            resource_id,
            reason,
            resources::usual_mode(resource),
            first,
            &due,
        )
        .await?;
        moves.push(moved);
    }
    move_schedules(tx, &moves).await?;
    skip_reconciles(tx, known, now).await
}

/// The same of slots at which everything is to be read. One that meets a run waits for its end.
async fn skip_reconciles(
    tx: &mut PgConnection,
    known: &Known<'_>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let ids: Vec<ResourceId> = known.keys().copied().collect();
    let rows = sqlx::query(
        "select r.resource_id, r.next_reconcile_at
         from rosterd.resources r join rosterd.leases l using (resource_id)
         where r.resource_id = any($1) and r.removed_at is null and r.next_reconcile_at <= $2
           and r.paused_at is not null
         for update of r, l skip locked",
    )
    .bind(ids)
    .bind(now)
    .fetch_all(&mut *tx)
    .await?;
    let mut moves = Vec::with_capacity(rows.len());
    for row in rows {
        let resource_id: ResourceId = row.try_get("resource_id")?;
        let first: DateTime<Utc> = row.try_get("next_reconcile_at")?;
        let Some((source, resource)) = known.get(&resource_id) else {
            continue;
        };
        let (moved, due) = move_reconcile(source, resource, resource_id, first, now);
        skip(tx, resource_id, "paused", Mode::Full, first, &due).await?;
        moves.push(moved);
    }
    move_reconciles(tx, &moves).await
}

/// One row per reason, mode and day for slots that are skipped in a row, or a paused resource would fill the history.
async fn skip(
    tx: &mut PgConnection,
    resource_id: ResourceId,
    reason: &str,
    mode: Mode,
    first: DateTime<Utc>,
    due: &slots::Due,
) -> Result<(), Error> {
    let counted = sqlx::query(
        "with newest as (
           select run_id from rosterd.runs where resource_id = $1 order by run_id desc limit 1)
         update rosterd.runs r
            set finished_at = clock_timestamp(),
                labels = r.labels || jsonb_build_object(
                  'count', coalesce((r.labels ->> 'count')::bigint, 1) + $3, 'last_slot', $4::timestamptz)
           from newest
          where r.run_id = newest.run_id and r.status = 'skipped' and r.reason = $2
            and (r.finished_at at time zone 'UTC')::date = (clock_timestamp() at time zone 'UTC')::date
            and r.mode = $5",
    )
    .bind(resource_id)
    .bind(reason)
    .bind(due.count)
    .bind(due.last)
    .bind(mode.as_str())
    .execute(&mut *tx)
    .await?;
    if counted.rows_affected() > 0 {
        return Ok(());
    }
    sqlx::query(
        "insert into rosterd.runs
           (status, resource_id, account, source, resource, trigger, triggered_by, mode, reason, scheduled_for,
            finished_at, app_version, labels)
         select 'skipped', resource_id, account, source, resource, 'schedule', 'scheduler', $3, $2, $4,
                clock_timestamp(), $7, jsonb_build_object('count', $5::bigint, 'last_slot', $6::timestamptz)
         from rosterd.resources where resource_id = $1",
    )
    .bind(resource_id)
    .bind(reason)
    .bind(mode.as_str())
    .bind(first)
    .bind(due.count)
    .bind(due.last)
    .bind(env!("CARGO_PKG_VERSION"))
    .execute(tx)
    .await?;
    Ok(())
}
