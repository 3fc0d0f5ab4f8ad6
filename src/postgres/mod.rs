//! The way to Postgres: the server itself when nobody named one, connections, migrations, and the
//! words for what goes wrong there.
//!
//! Whether the server is somebody else's or a private one that [`Server`] starts, everything after
//! [`Server::connect_options`] is the same code. Two habits of the driver shape this module:
//!
//! - Its pool hides why it cannot connect, so [`probe()`] asks once, directly, and tells.
//! - A future that is dropped in the middle of a statement leaves its connection in an unknown
//!   state. Callers therefore never put a time limit around a pooled connection; the server ends
//!   a statement that takes too long, and [`pool()`] lets no connection back in that is still inside
//!   a transaction.
//!
//! Connections may come from a pooler in transaction mode (`PgBouncer` needs
//! `ignore_startup_parameters = options`): nothing here keeps state in a session beyond what it
//! sets at connection start, and migrations lock for the length of their transaction only.

mod embedded;

mod failure;

mod migrate;

mod options;

mod pool;

mod probe;

mod server;

pub use failure::{Failure, describe_error, is_transient, sqlstate};
pub use migrate::{MIGRATOR, Migrated, migrate};
pub use pool::{close, pool};
pub use probe::{ServerVersion, probe, wait_until_ready};
pub use server::Server;

/// The pool of connections, named here so that callers need not name the driver.
pub type Pool = sqlx::PgPool;

/// How to connect. Its `Debug` shows the password in clear: never print it.
pub type ConnectOptions = sqlx::postgres::PgConnectOptions;

use crate::fault::{Class, Fault};

/// Why Postgres cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("database.url is not usable: {reason}")]
    Url { reason: String },
    #[error("cannot connect to PostgreSQL at {place}: {failure}")]
    Connect { place: String, failure: Failure },
    #[error("PostgreSQL at {place} did not answer within {seconds} s")]
    NoAnswer { place: String, seconds: u64 },
    #[error("PostgreSQL at {place} is read-only")]
    ReadOnly { place: String },
    #[error("PostgreSQL at {place} has version {version}; {oldest} or newer is needed")]
    TooOld {
        place: String,
        version: ServerVersion,
        oldest: u32,
    },
    #[error("waiting for PostgreSQL was cancelled")]
    Cancelled,
    #[error("cannot {doing}: {failure}")]
    Statement {
        doing: &'static str,
        failure: Failure,
    },
    #[error(transparent)]
    Migrate(#[from] migrate::Refusal),
    #[error(transparent)]
    Embedded(#[from] embedded::Error),
}

impl Error {
    /// The error as it stands in the history.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let message = self.to_string();
        match self {
            Self::Url { .. } => Fault {
                class: Class::Config,
                code: "database_url".to_owned(),
                message,
                hint: "write database.url as postgres://user:password@host:5432/database"
                    .to_owned(),
                retryable: false,
            },
            Self::Connect { failure, .. } | Self::Statement { failure, .. } => Fault {
                message,
                ..failure.fault()
            },
            Self::NoAnswer { .. } => Fault {
                class: Class::Destination,
                code: "no_answer".to_owned(),
                message,
                hint: "check that the server runs, and that no firewall drops the packets on the way"
                    .to_owned(),
                retryable: true,
            },
            Self::ReadOnly { .. } => Fault {
                class: Class::Destination,
                code: "SQLSTATE 25006".to_owned(),
                message,
                hint: "point database.url at the primary; rosterd goes on by itself when the server takes writes again"
                    .to_owned(),
                retryable: true,
            },
            Self::TooOld { .. } => Fault {
                class: Class::Config,
                code: "server_version".to_owned(),
                message,
                hint: "upgrade the server, or point database.url at a newer one".to_owned(),
                retryable: false,
            },
            Self::Cancelled => Fault {
                class: Class::Destination,
                code: "cancelled".to_owned(),
                message,
                hint: "rosterd was told to stop before PostgreSQL answered".to_owned(),
                retryable: true,
            },
            Self::Migrate(refusal) => refusal.fault(),
            Self::Embedded(error) => error.fault(),
        }
    }
}
