//! The pool: lazily connected, and picky about what goes out and what comes back.

use std::time::Duration;

use sqlx::{
    PgConnection, Row,
    pool::PoolConnectionMetadata,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Pool, options};
use crate::config::Database;

/// How long a returned connection may take to show that it is at rest. A borrower who was dropped
/// in the middle of a statement leaves the rest of it to be read first.
const REST: Duration = Duration::from_secs(10);

/// For how long a connection that came back fit goes out again without another question.
const FIT: Duration = Duration::from_secs(1);

/// How long the goodbyes may take when the network is gone; then the process ends without them.
const GOODBYE: Duration = Duration::from_secs(5);

const IDLE: Duration = Duration::from_mins(5);

/// Bounds how long connections to an old primary, or with an old password, live on.
const LIFETIME: Duration = Duration::from_mins(30);

/// Makes the pool. Nothing is connected yet, so this also works while Postgres is away.
#[must_use]
pub fn pool(options: PgConnectOptions, config: &Database) -> Pool {
    PgPoolOptions::new()
        .max_connections(config.max_connections.max(1))
        .min_connections(0)
        .acquire_timeout(config.acquire_timeout)
        .idle_timeout(IDLE)
        .max_lifetime(LIFETIME)
        // `is_fit` is the test; a ping besides would be a second round trip.
        .test_before_acquire(false)
        .before_acquire(|connection, metadata| Box::pin(is_fit(connection, metadata)))
        .after_connect(|connection, _| Box::pin(refuse_read_only(connection)))
        .after_release(|connection, _| Box::pin(is_at_rest(connection)))
        .connect_lazy_with(options::with_session_settings(options, config))
}

/// Closes the pool once all borrowers are done. The driver's own `close` waits without end for an
/// answer that a dead network never brings.
pub async fn close(pool: &Pool) {
    if tokio::time::timeout(GOODBYE, pool.close()).await.is_err() {
        tracing::warn!("not every database connection could be closed");
    }
}

/// After a failover the old primary still answers, read-only, for as long as it is asked.
async fn takes_writes(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // A simple query takes one round trip.
    let row = sqlx::raw_sql("show transaction_read_only")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get::<&str, _>(0)? != "on")
}

/// Whether a connection may go out. One that has just come back was asked then; of a busy pool's statements
/// this question would be every sixth. If the server went away since, the borrower's first statement says so, as it
/// does when the server goes away a moment later.
async fn is_fit(
    connection: &mut PgConnection,
    metadata: PoolConnectionMetadata,
) -> Result<bool, sqlx::Error> {
    Ok(metadata.idle_for < FIT || takes_writes(connection).await?)
}

async fn refuse_read_only(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if takes_writes(connection).await? {
        Ok(())
    } else {
        // The pool tries again until its acquire time is over, and `probe` tells the reason.
        Err(sqlx::Error::Configuration("the server is read-only".into()))
    }
}

/// Keeps a connection out of the pool that is read-only, or inside a transaction: the driver loses track of one
/// whose `begin` was cancelled, and the next borrower's commits would commit nothing.
///
/// Outside a transaction block a simple query begins its own transaction, so both times are the
/// same instant. Asking the driver does not help, it counts what it began; a plain `rollback`
/// would write a warning to the server's log on each return.
async fn is_at_rest(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // What the driver has queued goes first: the rollback of a dropped transaction.
    let question = sqlx::raw_sql(
        "select pg_catalog.now() = pg_catalog.statement_timestamp(), \
                pg_catalog.current_setting('transaction_read_only') = 'off'",
    )
    .fetch_one(connection);
    // A time limit is safe here, and only here: on error the pool cuts the connection off.
    let row = tokio::time::timeout(REST, question)
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)??;
    let (at_rest, takes_writes): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    if !at_rest {
        tracing::warn!("a connection came back inside a transaction and was closed");
    }
    Ok(at_rest && takes_writes)
}
