//! Brings schema `rosterd` up to what this binary knows.
//!
//! All migrations run in one transaction, under a lock that ends with it. The driver's own runner
//! holds a session lock instead, which it keeps when it fails, and which a pooler hands to others.
//! So a migration cannot hold statements that refuse to run in a transaction.

use std::{borrow::Cow, sync::LazyLock, time::Duration};

use sqlx::{
    Connection, PgConnection,
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};

use super::{Error, Failure, options};
use crate::fault::{Class, Fault};

/// The migrations of this binary, and where they note what was applied.
pub static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.dangerous_set_table_name(TABLE);
    migrator.set_locking(false);
    migrator
});

const TABLE: &str = "rosterd._sqlx_migrations";

/// Key of the transaction's advisory lock: the letters `rosterd` as a number. Advisory locks are
/// per database, so other installations are not in the way.
const LOCK: i64 = 0x72_6f73_7465_7264;

/// How long to wait for a replica that migrates. Migrations of big tables would need more; the
/// replica then ends with a clear error and its service manager starts it again.
const WAIT_FOR_OTHERS: &str = "120s";

/// How long a migration may wait for a table lock, while it makes everybody behind it wait too.
const WAIT_FOR_TABLES: &str = "10s";

/// For the connection itself; the migrations have no limit.
const CONNECT: Duration = Duration::from_secs(10);

/// What [`migrate`] found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// Migrations applied just now; 0 when the schema was current.
    pub applied: usize,
    /// The newest migration's number.
    pub version: i64,
}

/// Why the database's schema cannot be used by this binary.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the database has schema version {found}, this rosterd knows versions up to {known}")]
    Newer { found: i64, known: i64 },
    #[error("the database has migration {found}, which this rosterd does not know")]
    Unknown { found: i64 },
    #[error("migration {version} was applied with another text than this rosterd holds")]
    Changed { version: i64 },
    #[error("schema rosterd lacks {pending} migration(s), and role {role:?} may not apply them")]
    NotAllowed { role: String, pending: usize },
    #[error("schema rosterd exists, but role {role:?} may not read it")]
    NotReadable { role: String },
    #[error("another process has been migrating the database for {WAIT_FOR_OTHERS}")]
    Locked,
    #[error("migration {version} failed: {failure}")]
    Failed { version: i64, failure: Failure },
}

impl Refusal {
    pub(super) fn fault(&self) -> Fault {
        let (code, hint, retryable) = match self {
            Self::Newer { .. } | Self::Unknown { .. } => (
                "schema_newer",
                "install the rosterd version that migrated this database, or a newer one",
                false,
            ),
            Self::Changed { .. } => (
                "schema_changed",
                "install a released rosterd; migrations must not be edited after they were applied",
                false,
            ),
            Self::NotAllowed { .. } => (
                "schema_not_current",
                "run `rosterd migrate` once with a database.url whose role owns schema rosterd and may create it",
                false,
            ),
            Self::NotReadable { .. } => (
                "schema_not_readable",
                "grant the role usage on schema rosterd and its tables (deploy/ has the statements)",
                false,
            ),
            Self::Locked => (
                "schema_locked",
                "wait for the other rosterd, or look in pg_stat_activity for what blocks it",
                true,
            ),
            Self::Failed { failure, .. } => {
                return Fault {
                    message: self.to_string(),
                    ..failure.fault()
                };
            }
        };
        Fault {
            class: Class::Destination,
            code: code.to_owned(),
            message: self.to_string(),
            hint: hint.to_owned(),
            retryable,
        }
    }
}

/// Applies what is pending, or finds out that nothing is; a role without DDL rights may do the latter.
///
/// Any number of replicas may do this at once: one applies, the others wait and then find nothing
/// to do.
///
/// # Errors
///
/// [`Error::Migrate`] when the schema and this binary do not fit, else why Postgres did not do it.
pub async fn migrate(options: &PgConnectOptions) -> Result<Migrated, Error> {
    let place = options::place(options);
    // A connection of its own, never a pooled one: whatever happens, it ends here, and with it
    // every lock.
    let options = options::base(options.clone());
    let connected = tokio::time::timeout(CONNECT, PgConnection::connect_with(&options)).await;
    let mut connection = connected
        .map_err(|_| Error::NoAnswer {
            place: place.clone(),
            seconds: CONNECT.as_secs(),
        })?
        .map_err(|error| Error::Connect {
            place,
            failure: error.into(),
        })?;
    let outcome = Box::pin(migrate_on(&mut connection, options.get_username())).await;
    // The outcome stands whatever the goodbye does.
    connection.close().await.ok();
    outcome
}

async fn migrate_on(connection: &mut PgConnection, role: &str) -> Result<Migrated, Error> {
    let version = MIGRATOR.iter().map(|m| m.version).max().unwrap_or(0);
    // Without the lock first: a current schema needs no rights but to read, and no waiting.
    if pending(connection, role).await? == 0 {
        return Ok(Migrated {
            applied: 0,
            version,
        });
    }

    let mut transaction = connection
        // Named, because a role's default may be stricter, and would not see what another replica
        // applied while we waited for the lock.
        .begin_with("begin isolation level read committed")
        .await
        .map_err(while_doing("begin the migration"))?;
    lock(&mut transaction).await?;
    let pending = pending(&mut transaction, role).await?;
    if pending > 0 {
        apply(&mut transaction, role, pending).await?;
    }
    transaction
        .commit()
        .await
        .map_err(while_doing("commit the migration"))?;
    Ok(Migrated {
        applied: pending,
        version,
    })
}

async fn lock(connection: &mut PgConnection) -> Result<(), Error> {
    for (name, value) in [
        // A migration may rewrite a table; the server's default limit is not meant for that.
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("lock_timeout", WAIT_FOR_OTHERS),
    ] {
        set_local(connection, name, value).await?;
    }
    let locked = sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *connection)
        .await;
    if let Err(error) = locked {
        let failure = Failure::from(error);
        return Err(if failure.sqlstate.as_deref() == Some("55P03") {
            Refusal::Locked.into()
        } else {
            Error::Statement {
                doing: "take the lock of the migrations",
                failure,
            }
        });
    }
    set_local(connection, "lock_timeout", WAIT_FOR_TABLES).await
}

async fn apply(connection: &mut PgConnection, role: &str, pending: usize) -> Result<(), Error> {
    // `create schema if not exists` asks for the right to create even when there is nothing to do.
    let exists: bool = sqlx::query_scalar("select to_regnamespace('rosterd') is not null")
        .fetch_one(&mut *connection)
        .await
        .map_err(while_doing("look for schema rosterd"))?;
    let not_allowed = |failure: &Failure| failure.sqlstate.as_deref() == Some("42501");
    if !exists {
        let created = sqlx::raw_sql("create schema rosterd")
            .execute(&mut *connection)
            .await;
        if let Err(error) = created {
            let failure = Failure::from(error);
            return Err(if not_allowed(&failure) {
                Refusal::NotAllowed {
                    role: role.to_owned(),
                    pending,
                }
                .into()
            } else {
                Error::Statement {
                    doing: "create schema rosterd",
                    failure,
                }
            });
        }
    }
    let applied = MIGRATOR.run(connection).await;
    applied.map_err(|error| {
        let (version, error) = match error {
            MigrateError::ExecuteMigration(error, version) => (Some(version), error),
            MigrateError::Execute(error) => (None, error),
            MigrateError::VersionMissing(found) => return Refusal::Unknown { found }.into(),
            MigrateError::VersionMismatch(version) => return Refusal::Changed { version }.into(),
            other => (None, sqlx::Error::Migrate(Box::new(other))),
        };
        let failure = Failure::from(error);
        match version {
            _ if not_allowed(&failure) => Refusal::NotAllowed {
                role: role.to_owned(),
                pending,
            }
            .into(),
            Some(version) => Refusal::Failed { version, failure }.into(),
            None => Error::Statement {
                doing: "apply the migrations",
                failure,
            },
        }
    })
}

/// Compares what was applied with what this binary holds, and counts what is missing.
async fn pending(connection: &mut PgConnection, role: &str) -> Result<usize, Error> {
    // Through the catalog, which everybody may read; `to_regclass` needs rights on the schema.
    let exists: bool = sqlx::query_scalar(
        "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = 'rosterd' and c.relname = '_sqlx_migrations')",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(while_doing("look for schema rosterd"))?;
    if !exists {
        return Ok(MIGRATOR.iter().count());
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("select version, checksum from rosterd._sqlx_migrations order by version")
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| {
                let failure = Failure::from(error);
                if failure.sqlstate.as_deref() == Some("42501") {
                    Refusal::NotReadable {
                        role: role.to_owned(),
                    }
                    .into()
                } else {
                    Error::Statement {
                        doing: "read which migrations were applied",
                        failure,
                    }
                }
            })?;
    let known = MIGRATOR.iter().map(|m| m.version).max().unwrap_or(0);
    for (found, checksum) in &applied {
        match MIGRATOR.iter().find(|m| m.version == *found) {
            None if *found > known => {
                return Err(Refusal::Newer {
                    found: *found,
                    known,
                }
                .into());
            }
            None => return Err(Refusal::Unknown { found: *found }.into()),
            Some(ours) if ours.checksum != Cow::Borrowed(checksum.as_slice()) => {
                return Err(Refusal::Changed { version: *found }.into());
            }
            Some(_) => {}
        }
    }
    Ok(MIGRATOR.iter().count().saturating_sub(applied.len()))
}

async fn set_local(connection: &mut PgConnection, name: &str, value: &str) -> Result<(), Error> {
    sqlx::query("select set_config($1, $2, true)")
        .bind(name)
        .bind(value)
        .execute(connection)
        .await
        .map(drop)
        .map_err(while_doing("set the limits of the migration"))
}

fn while_doing(doing: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| Error::Statement {
        doing,
        failure: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_can_run_inside_the_one_transaction() {
        assert!(MIGRATOR.iter().count() > 0);
        for migration in MIGRATOR.iter() {
            assert!(!migration.no_tx, "migration {}", migration.version);
            assert!(
                !migration.migration_type.is_down_migration(),
                "migration {}",
                migration.version
            );
        }
    }
}
