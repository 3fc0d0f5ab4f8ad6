//! One direct connection that tells the truth, because the pool says "timed out" to everything.

use std::{fmt, time::Duration};

use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions};
use tokio_util::sync::CancellationToken;

use super::{Error, Failure, options};

/// The oldest server that is tested.
pub(super) const OLDEST: u32 = 14;

/// A connection that takes longer than this is as good as none.
const ANSWER: Duration = Duration::from_secs(10);

const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Also the longest time between the server's return and our noticing it.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Version of a server, as in `server_version_num`: `150018` is 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    #[must_use]
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10_000, self.0 % 10_000)
    }
}

/// Connects once and asks for version and writability.
///
/// # Errors
///
/// The true reason, within ten seconds: refused, wrong password, no such database, too many
/// connections, starting up, TLS, read-only, too old.
pub async fn probe(options: &PgConnectOptions) -> Result<ServerVersion, Error> {
    let place = options::place(options);
    let options = options::base(options.clone());
    let question = async {
        let mut connection = PgConnection::connect_with(&options).await?;
        let row = sqlx::query(
            "select current_setting('server_version_num')::int4, current_setting('transaction_read_only') = 'on'",
        )
        .persistent(false)
        .fetch_one(&mut connection)
        .await?;
        let version: i32 = row.try_get(0)?;
        let read_only: bool = row.try_get(1)?;
        connection.close().await?;
        Ok::<_, sqlx::Error>((version, read_only))
    };
    // The connection is ours alone; dropping it in the middle closes it.
    let answer = tokio::time::timeout(ANSWER, question)
        .await
        .map_err(|_| Error::NoAnswer {
            place: place.clone(),
            seconds: ANSWER.as_secs(),
        })?;
    let (version, read_only) = answer.map_err(|error| Error::Connect {
        place: place.clone(),
        failure: Failure::from(error),
    })?;
    let version = ServerVersion(u32::try_from(version).unwrap_or(0));
    if version.major() < OLDEST {
        return Err(Error::TooOld {
            place,
            version,
            oldest: OLDEST,
        });
    }
    if read_only {
        return Err(Error::ReadOnly { place });
    }
    Ok(version)
}

/// Waits until the server takes writes, for as long as the reason may pass by itself.
///
/// `report` hears each failed try and the time until the next one.
///
/// # Errors
///
/// What does not pass by itself (wrong password, no such database) at once, and
/// [`Error::Cancelled`] when `stop` was cancelled first.
pub async fn wait_until_ready(
    options: &PgConnectOptions,
    stop: &CancellationToken,
    mut report: impl FnMut(&Error, Duration),
) -> Result<ServerVersion, Error> {
    let mut wait = FIRST_WAIT;
    loop {
        let error = match probe(options).await {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        if !error.fault().retryable {
            return Err(error);
        }
        let pause = wait.mul_f64(0.75 + fastrand::f64() / 2.0);
        report(&error, pause);
        tokio::select! {
            () = stop.cancelled() => return Err(Error::Cancelled),
            () = tokio::time::sleep(pause) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}
