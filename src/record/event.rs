//! What happened besides the rows: one line each, a bounded number per run.

use serde_json::Value;
use sqlx::PgConnection;

use super::{Error, ResourceId, RunId, one_line};

/// A run writes at most this many, so that an API that misbehaves on each page cannot fill the table.
const MOST_PER_RUN: i64 = 200;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// One thing that happened. No secrets and no values of records in it.
#[derive(Debug, Clone)]
pub struct NewEvent<'a> {
    pub run_id: Option<RunId>,
    pub resource_id: Option<ResourceId>,
    pub level: Level,
    /// A stable word: `rate_limited`, `retry`, `pause`, `reset`, `config_reload`, ...
    pub kind: &'a str,
    /// One line for people.
    pub message: &'a str,
    /// The facts in it, an object.
    pub data: Value,
}

/// Writes an event, unless its run has written its share.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn event(conn: &mut PgConnection, event: &NewEvent<'_>) -> Result<(), Error> {
    sqlx::query(
        "insert into rosterd.events (run_id, resource_id, level, kind, message, data)
         select $1, $2, $3, $4, $5, $6
         where $1::bigint is null
            or (select count(*) from (select from rosterd.events where run_id = $1 limit $7) written) < $7",
    )
    .bind(event.run_id)
    .bind(event.resource_id)
    .bind(event.level.as_str())
    .bind(event.kind)
    .bind(one_line(event.message, 500))
    .bind(&event.data)
    .bind(MOST_PER_RUN)
    .execute(conn)
    .await?;
    Ok(())
}

/// The facts of the latest event of a kind that a resource has.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn latest_event(
    conn: &mut PgConnection,
    resource_id: ResourceId,
    kind: &str,
) -> Result<Option<Value>, Error> {
    Ok(sqlx::query_scalar(
        "select data from rosterd.events where kind = $2 and resource_id = $1 order by at desc, event_id desc limit 1",
    )
    .bind(resource_id)
    .bind(kind)
    .fetch_optional(conn)
    .await?)
}
