//! Who owns a resource, from the claim to the end of the run.

use sqlx::{PgConnection, PgPool};

use super::{Claim, Error, Level, NewEvent, ResourceId, RunId, Worker, event, one_line};

/// What a heartbeat learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// The lease is ours for another while.
    Alive,
    /// It is another worker's now. Nothing that is not committed will be.
    Lost,
    /// The lease is ours, and somebody asks the run to stop after the batch in hand.
    CancelRequested,
}

/// Extends the lease and says in words what the run is doing.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn heartbeat(
    pool: &PgPool,
    worker: &Worker,
    claim: &Claim,
    phase: &str,
) -> Result<Beat, Error> {
    let cancel: Option<bool> = sqlx::query_scalar(
        "update rosterd.leases
            set heartbeat_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $3), phase = $4
          where resource_id = $1 and fence = $2 and run_id = $5
         returning cancel_requested",
    )
    .bind(claim.resource_id)
    .bind(claim.fence)
    .bind(worker.lease_seconds())
    .bind(one_line(phase, 200))
    .bind(claim.run_id)
    .fetch_optional(pool)
    .await?;
    Ok(match cancel {
        None => Beat::Lost,
        Some(true) => Beat::CancelRequested,
        Some(false) => Beat::Alive,
    })
}

/// Extends the lease inside a data transaction, as its last statement before the commit.
///
/// Last, because it then holds the lease's row for an instant only, and heartbeats need not wait for a
/// slow batch.
///
/// # Errors
///
/// [`Error::Lost`] when another worker has taken over: the caller must roll back. [`Error::Database`].
pub async fn fence(tx: &mut PgConnection, worker: &Worker, claim: &Claim) -> Result<(), Error> {
    let done = sqlx::query(
        "update rosterd.leases
            set heartbeat_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $3)
          where resource_id = $1 and fence = $2 and run_id = $4",
    )
    .bind(claim.resource_id)
    .bind(claim.fence)
    .bind(worker.lease_seconds())
    .bind(claim.run_id)
    .execute(tx)
    .await?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(Error::Lost)
    }
}

/// Asks the run of a resource to stop after the batch in hand. Returns the run, or `None` when none is going on.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn request_cancel(
    pool: &PgPool,
    resource_id: ResourceId,
    by: &str,
) -> Result<Option<RunId>, Error> {
    let mut tx = pool.begin().await?;
    let run_id: Option<RunId> = sqlx::query_scalar(
        "update rosterd.leases set cancel_requested = true where resource_id = $1 and run_id is not null returning run_id",
    )
    .bind(resource_id)
    .fetch_optional(&mut *tx)
    .await?;
    if run_id.is_some() {
        let message = format!("{by} asked the run to stop");
        let asked = NewEvent {
            // Not counted among the run's own events, which may be used up.
            run_id: None,
            resource_id: Some(resource_id),
            level: Level::Info,
            kind: "cancel",
            message: &message,
            data: serde_json::json!({ "by": by, "run_id": run_id }),
        };
        event(&mut tx, &asked).await?;
    }
    tx.commit().await?;
    Ok(run_id)
}
