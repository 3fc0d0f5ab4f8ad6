//! What rosterd remembers: what should run, who runs it, what ran, and how far it came.
//!
//! A claim takes a resource's row in `rosterd.leases`, opens a row in `rosterd.runs` and moves the
//! schedule on, in one short transaction and before the first request. From then on everything that
//! a batch changes here ([`add_counters`], [`save_checkpoint`], [`move_cursor`], [`reject()`]) goes
//! into the transaction of the batch's rows, and [`fence`] comes last in it. So whatever is killed
//! wherever, the history, the cursor and the table agree.
//!
//! Nobody is elected. Every replica tries, and row locks decide (`for update ... skip locked`). Leases
//! compare with the *database's* clock only, and a lease that ran out does not stop its owner: taking
//! it over raises the fence, and the fence stops it. Locks are taken in the order runs, then leases
//! inside a batch; whoever holds a lease's row first never waits for a run's row.
//!
//! Functions take `&PgPool` where they are a transaction of their own, and `&mut PgConnection` where
//! they belong to the caller's.

mod budgets;

mod claim;

mod columns;

mod credentials;

mod cursor;

mod event;

mod lease;

mod privacy;

mod reject;

pub mod report;

mod resources;

mod retention;

mod run;

mod seal;

mod skip;

mod slots;

mod superseded;

mod takeover;

mod worker;

use std::fmt;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::{
    fault::{Class, Fault},
    postgres,
};

pub use budgets::{ShareAsked, ShareHeld, WindowAsked, share};
pub use claim::{Claim, ClaimOne, claim_due, claim_one};
pub use columns::{
    CatalogColumn, SchemaChange, columns, columns_beside, columns_of, had_table, is_loaded,
    list_tables, note_loaded, save_columns, schema_change,
};
pub use credentials::{
    CredentialLine, StoredCredential, credentials, forget_credential, lock_credential,
    replace_credential,
};
pub use cursor::{
    Cursor, cursor, cursor_version_by, has_partition_cursors, move_cursor, move_partition_cursors,
    partition_cursors, reset_cursor, save_checkpoint, take_back_partition_cursors,
};
pub use event::{Level, NewEvent, event, latest_event};
pub use lease::{Beat, fence, heartbeat, request_cancel};
pub use privacy::{
    Mark, erase_rejects, erased, hold_idle, is_same_key, note_blocked, set_withheld, suppress,
    withheld,
};
pub use reject::{NewReject, reject, resolve_rejects, resolve_unmet_rejects};
pub use resources::{Registered, find, pause, register, resume};
pub use retention::{Retained, retain};
pub use run::{Counters, Ending, Mode, Status, Trigger, add_counters, finish, finish_in};
pub use seal::Seal;
pub use superseded::{LeftOver, forget_superseded, left_over, note_superseded};
pub use takeover::interrupted_before;
pub use worker::{Worker, beat_worker, remove_worker};

/// Identity of a row in `rosterd.resources`.
pub type ResourceId = i64;

/// Identity of a row in `rosterd.runs`.
pub type RunId = i64;

/// What can go wrong while the record is kept.
pub enum Error {
    /// The lease is another worker's now, or the run was closed for us. What is not committed must not be.
    Lost,
    /// A living worker runs the resource.
    Held { owner: String, since: DateTime<Utc> },
    /// There is no such resource, or the configuration names it no more.
    UnknownResource,
    /// The stored cursor belongs to another configuration of the resource, so it can neither stay nor be used.
    CursorMismatch,
    /// A run cannot end as queued, running or skipped.
    NotAnEnding(Status),
    /// Postgres or the way to it.
    Database(postgres::Failure),
}

impl Error {
    /// The same as it stands in the history.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let (class, code, hint, retryable) = match self {
            Self::Lost => (
                Class::Timeout,
                "lease_lost".to_owned(),
                "nothing to do, the other worker goes on; if it happens often, raise daemon.lease",
                true,
            ),
            Self::Held { .. } => (
                Class::Internal,
                "lease_held".to_owned(),
                "wait for the run that is going on, or cancel it",
                true,
            ),
            Self::UnknownResource => (
                Class::Config,
                "unknown_resource".to_owned(),
                "compare the name with `rosterd status`",
                false,
            ),
            Self::CursorMismatch => (
                Class::Config,
                "cursor_mismatch".to_owned(),
                "run `rosterd reset` for this resource; its next run then reads everything",
                false,
            ),
            Self::NotAnEnding(_) => (
                Class::Internal,
                "not_an_ending".to_owned(),
                "please report this",
                false,
            ),
            Self::Database(failure) => return failure.fault(),
        };
        Fault {
            class,
            code,
            message: self.to_string(),
            hint: hint.to_owned(),
            retryable,
        }
    }
}

impl Error {
    /// Whether the same transaction may succeed when it is tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(failure) => failure.transient,
            Self::Lost
            | Self::Held { .. }
            | Self::UnknownResource
            | Self::CursorMismatch
            | Self::NotAnEnding(_) => false,
        }
    }

    /// Whether the server as a whole is away.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Database(failure) if failure.is_outage())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("another worker has taken over this run"),
            Self::Held { owner, since } => {
                write!(f, "{owner} has been running this resource since {since}")
            }
            Self::UnknownResource => f.write_str("there is no such resource"),
            Self::CursorMismatch => f.write_str(
                "path, parameters, cursor field or key were changed since the cursor was stored",
            ),
            Self::NotAnEnding(status) => write!(f, "a run cannot end as {status}"),
            Self::Database(failure) => {
                write!(
                    f,
                    "the bookkeeping tables could not be used: {}",
                    failure.message
                )
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// No `source()`: who prints the chain would print the server's words.
impl std::error::Error for Error {}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// The database's time. Slots are compared with this one, so that replicas with different clocks agree.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn now(pool: &PgPool) -> Result<DateTime<Utc>, Error> {
    Ok(sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(pool)
        .await?)
}

/// One line of at most `limit` characters that Postgres can store.
fn one_line(text: &str, limit: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(limit)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_the_history_is_short_and_storable() {
        assert_eq!(one_line("a\0b\nc\u{7f}d ", 100), "a b c d");
        assert_eq!(one_line("ääää", 2), "ää");
    }

    #[test]
    fn errors_of_the_driver_keep_their_words_to_themselves() {
        let error = Error::from(sqlx::Error::Protocol("salary 4711".to_owned()));
        let texts = [
            format!("{error}"),
            format!("{error:?}"),
            format!("{:?}", error.fault()),
        ];
        assert!(texts.iter().all(|text| !text.contains("4711")), "{texts:?}");
        assert!(std::error::Error::source(&error).is_none());
    }
}
