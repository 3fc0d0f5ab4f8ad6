//! How far a resource, or one partition of it, is known to be complete; and where a walk resumes.
//!
//! A cursor is changed by three functions only: [`move_cursor`] and, for parts of a resource,
//! [`move_partition_cursors`] in the transaction of the rows that prove it, and [`reset_cursor`] by a person.
//! The first and the last leave a line in `rosterd.cursor_log`. Where rows that proved it are taken back,
//! [`take_back_partition_cursors`] goes with them. Nothing here
//! compares cursor values; whether one lies before the other is known to the caller, who knows its type.

use serde_json::Value;
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};

use super::{Claim, Error, Level, NewEvent, ResourceId, RunId, event};

/// Moves by runs that the log keeps per resource. Enough to see a cursor that is stuck or jumps.
const LOGGED_MOVES: i64 = 50;

/// A stored cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Everything up to here is in the table. `None`: nothing is known yet.
    pub value: Option<Value>,
    /// Where a walk that was cut short goes on.
    pub checkpoint: Option<Value>,
    /// The resource's fingerprint when this was stored. Another one now: do not use the value.
    pub fingerprint: Option<String>,
    /// Counts the walks.
    pub generation: i64,
    /// Grows with each change.
    pub version: i64,
    /// The run that changed it last; `None`: a person.
    pub updated_by_run: Option<RunId>,
}

/// The stored cursor of a partition; the whole resource is the partition `""`.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn cursor(
    conn: &mut PgConnection,
    resource_id: ResourceId,
    partition: &str,
) -> Result<Option<Cursor>, Error> {
    let cursor = sqlx::query(
        "select cursor, checkpoint, fingerprint, generation, version, updated_by_run
         from rosterd.cursors where resource_id = $1 and partition = $2",
    )
    .bind(resource_id)
    .bind(partition)
    .try_map(|row: PgRow| {
        Ok(Cursor {
            value: row.try_get("cursor")?,
            checkpoint: row.try_get("checkpoint")?,
            fingerprint: row.try_get("fingerprint")?,
            generation: row.try_get("generation")?,
            version: row.try_get("version")?,
            updated_by_run: row.try_get("updated_by_run")?,
        })
    })
    .fetch_optional(conn)
    .await?;
    Ok(cursor)
}

/// The version of the cursor's row, when the claim's run was the last to change it.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn cursor_version_by(
    conn: &mut PgConnection,
    claim: &Claim,
    partition: &str,
) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar(
        "select version from rosterd.cursors where resource_id = $1 and partition = $2 and updated_by_run = $3",
    )
    .bind(claim.resource_id)
    .bind(partition)
    .bind(claim.run_id)
    .fetch_optional(conn)
    .await?)
}

/// Stores where the walk resumes (`None`: from the start) in the transaction of the batch before that place.
/// The cursor itself stays where it is.
///
/// # Errors
///
/// As [`move_cursor`].
pub async fn save_checkpoint(
    tx: &mut PgConnection,
    claim: &Claim,
    partition: &str,
    checkpoint: Option<&Value>,
    generation: i64,
    fingerprint: Option<&str>,
) -> Result<i64, Error> {
    move_cursor(
        tx,
        claim,
        partition,
        None,
        checkpoint,
        generation,
        fingerprint,
    )
    .await
}

/// Moves the cursor to `value` (`None`: it stays) and stores the checkpoint (`None`: the walk is over) in
/// the transaction of the rows that prove it. Returns the new version of the cursor's row.
///
/// # Errors
///
/// [`Error::CursorMismatch`] when the stored cursor would stay under another fingerprint. [`Error::Database`].
pub async fn move_cursor(
    tx: &mut PgConnection,
    claim: &Claim,
    partition: &str,
    value: Option<&Value>,
    checkpoint: Option<&Value>,
    generation: i64,
    fingerprint: Option<&str>,
) -> Result<i64, Error> {
    // JSON's null is not a place; it must not wipe out the cursor under another name.
    let value = value.filter(|value| !value.is_null());
    let checkpoint = checkpoint.filter(|checkpoint| !checkpoint.is_null());

    if let Some(value) = value {
        let logged = sqlx::query(
            "insert into rosterd.cursor_log (resource_id, partition, old_cursor, new_cursor, run_id, changed_by)
             select $1, $2, old.cursor, $3, $4, 'run:' || $4
             from (select) as one
             left join rosterd.cursors old on old.resource_id = $1 and old.partition = $2
             where old.cursor is distinct from $3",
        )
        .bind(claim.resource_id)
        .bind(partition)
        .bind(value)
        .bind(claim.run_id)
        .execute(&mut *tx)
        .await?;
        if logged.rows_affected() > 0 {
            sqlx::query(
                "delete from rosterd.cursor_log
                  where resource_id = $1 and run_id is not null
                    and id <= (select id from rosterd.cursor_log where resource_id = $1 and run_id is not null
                               order by id desc offset $2 limit 1)",
            )
            .bind(claim.resource_id)
            .bind(LOGGED_MOVES)
            .execute(&mut *tx)
            .await?;
        }
    }

    let version: Option<i64> = sqlx::query_scalar(
        "insert into rosterd.cursors as c
           (resource_id, partition, cursor, checkpoint, generation, fingerprint, scan_complete, updated_by_run)
         values ($1, $2, $3, $4, $5, $6, $4 is null, $7)
         on conflict (resource_id, partition) do update
            set cursor = coalesce(excluded.cursor, c.cursor), checkpoint = excluded.checkpoint,
                generation = excluded.generation, fingerprint = coalesce(excluded.fingerprint, c.fingerprint),
                scan_complete = excluded.scan_complete, version = c.version + 1,
                updated_at = clock_timestamp(), updated_by_run = excluded.updated_by_run, updated_by = null
          where c.cursor is null or excluded.cursor is not null
             or excluded.fingerprint is null or c.fingerprint is null or excluded.fingerprint = c.fingerprint
         returning version",
    )
    .bind(claim.resource_id)
    .bind(partition)
    .bind(value)
    .bind(checkpoint)
    .bind(generation)
    .bind(fingerprint)
    .bind(claim.run_id)
    .fetch_optional(tx)
    .await?;
    // Otherwise the old cursor would pass for one of the new configuration.
    version.ok_or(Error::CursorMismatch)
}

/// The cursors of some partitions, with the fingerprints that they were stored under. Those that have none are left out.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn partition_cursors(
    conn: &mut PgConnection,
    resource_id: ResourceId,
    partitions: &[String],
) -> Result<Vec<(String, Value, Option<String>)>, Error> {
    Ok(sqlx::query_as(
        "select partition, cursor, fingerprint from rosterd.cursors
         where resource_id = $1 and partition = any($2) and cursor is not null",
    )
    .bind(resource_id)
    .bind(partitions)
    .fetch_all(conn)
    .await?)
}

/// Whether a part of the resource, and not the whole, has a cursor.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn has_partition_cursors(
    conn: &mut PgConnection,
    resource_id: ResourceId,
) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "select exists (select from rosterd.cursors
                        where resource_id = $1 and partition <> '' and cursor is not null)",
    )
    .bind(resource_id)
    .fetch_one(conn)
    .await?)
}

/// Moves the cursors of partitions, in the transaction of the rows that prove them. There may be a million of
/// them, so their moves are not logged one by one; each row keeps where it was before.
///
/// `moves`: each partition once. `runs`: the claim's run and those that it goes on with.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn move_partition_cursors(
    tx: &mut PgConnection,
    claim: &Claim,
    runs: &[RunId],
    moves: &[(String, Value)],
    generation: i64,
    fingerprint: &str,
) -> Result<(), Error> {
    if moves.is_empty() {
        return Ok(());
    }
    let (partitions, cursors): (Vec<&str>, Vec<&Value>) =
        moves.iter().map(|(p, value)| (p.as_str(), value)).unzip();
    sqlx::query(
        "insert into rosterd.cursors as c
           (resource_id, partition, cursor, generation, fingerprint, scan_complete, updated_by_run)
         select $1, t.partition, t.cursor, $4, $5, true, $6
         from unnest($2::text[], $3::jsonb[]) as t (partition, cursor)
         on conflict (resource_id, partition) do update
            set cursor = excluded.cursor, generation = excluded.generation,
                old_cursor = case when c.updated_by_run = any($7) then c.old_cursor else c.cursor end,
                fingerprint = excluded.fingerprint, scan_complete = true, version = c.version + 1,
                updated_at = clock_timestamp(), updated_by_run = excluded.updated_by_run, updated_by = null
          where c.cursor is distinct from excluded.cursor or c.fingerprint is distinct from excluded.fingerprint",
    )
    .bind(claim.resource_id)
    .bind(partitions)
    .bind(cursors)
    .bind(generation)
    .bind(fingerprint)
    .bind(claim.run_id)
    .bind(runs)
    .execute(tx)
    .await?;
    Ok(())
}

/// Moves the cursors of partitions back to where they were before these runs, in the transaction that takes
/// their rows back.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn take_back_partition_cursors(
    tx: &mut PgConnection,
    claim: &Claim,
    runs: &[RunId],
) -> Result<(), Error> {
    sqlx::query(
        "update rosterd.cursors
            set cursor = old_cursor, version = version + 1, updated_at = clock_timestamp(), updated_by_run = $3
          where resource_id = $1 and partition <> '' and updated_by_run = any($2)",
    )
    .bind(claim.resource_id)
    .bind(runs)
    .bind(claim.run_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets the cursors and checkpoints of a resource, so that its next run reads everything. The old values
/// stay in the log with who and why. Returns how many partitions had one.
///
/// # Errors
///
/// [`Error::Held`] while a living worker runs the resource, because that run would move the cursor again.
/// [`Error::UnknownResource`], [`Error::Database`].
pub async fn reset_cursor(
    pool: &PgPool,
    resource_id: ResourceId,
    by: &str,
    reason: Option<&str>,
) -> Result<u64, Error> {
    let mut tx = pool.begin().await?;
    // The fence rises, so that a worker whose lease ran out cannot bring the old cursor back. A run to be
    // resumed has nothing left to resume.
    let held = sqlx::query(
        "select owner, acquired_at, run_id is not null and expires_at >= clock_timestamp() as alive
         from rosterd.leases where resource_id = $1 for update",
    )
    .bind(resource_id)
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(Error::UnknownResource)?;
    if held.try_get::<bool, _>("alive")? {
        return Err(Error::Held {
            owner: held.try_get("owner")?,
            since: held.try_get("acquired_at")?,
        });
    }
    sqlx::query("update rosterd.leases set fence = fence + 1 where resource_id = $1")
        .bind(resource_id)
        .execute(&mut *tx)
        .await?;

    sqlx::query(
        "insert into rosterd.cursor_log (resource_id, partition, old_cursor, new_cursor, changed_by, reason)
         select resource_id, partition, cursor, null, $2, $3 from rosterd.cursors where resource_id = $1",
    )
    .bind(resource_id)
    .bind(by)
    .bind(reason)
    .execute(&mut *tx)
    .await?;
    let forgotten = sqlx::query(
        "update rosterd.cursors
            set cursor = null, old_cursor = null, checkpoint = null, fingerprint = null, scan_complete = true,
                generation = generation + 1, version = version + 1,
                updated_at = clock_timestamp(), updated_by_run = null, updated_by = $2
          where resource_id = $1",
    )
    .bind(resource_id)
    .bind(by)
    .execute(&mut *tx)
    .await?
    .rows_affected();

    let message = format!("{by} reset the cursor");
    let happened = NewEvent {
        run_id: None,
        resource_id: Some(resource_id),
        level: Level::Warn,
        kind: "reset",
        message: &message,
        data: serde_json::json!({ "by": by, "reason": reason, "partitions": forgotten }),
    };
    event(&mut tx, &happened).await?;
    tx.commit().await?;
    Ok(forgotten)
}
