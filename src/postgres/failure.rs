//! What Postgres or the way to it said, in words that may be stored and logged.
//!
//! The server's own MESSAGE and DETAIL hold row values (`invalid input syntax for type integer:
//! "123-45-6789"`), so neither ever leaves this module: what is told is the SQLSTATE, its
//! condition's name, and the names of table, column and constraint.

use std::fmt;

use sqlx::postgres::PgDatabaseError;

use crate::fault::{Class, Fault};

/// The part of a database error that is safe to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `SQLSTATE 42501`, or a word of ours where Postgres was not reached: `pool_timeout`, `io`.
    pub code: String,
    /// One line without any value: `permission denied (table employees)`.
    pub message: String,
    /// The bare SQLSTATE, when the server answered.
    pub sqlstate: Option<String>,
    /// Whether the same statement may succeed later with nobody doing anything.
    pub transient: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl From<&sqlx::Error> for Failure {
    fn from(error: &sqlx::Error) -> Self {
        let (code, message) = describe_error(error);
        Self {
            code,
            message,
            sqlstate: sqlstate(error),
            transient: is_transient(error),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::from(&error)
    }
}

impl Failure {
    /// Whether the server as a whole is away: no statement of anybody's would succeed now. A run that
    /// ends for this has done nothing wrong, and nothing can run again before the trouble is over.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self.sqlstate.as_deref() {
            Some(state) => {
                state != "08P01" && state.starts_with("08")
                    || matches!(state, "53300" | "57P01" | "57P02" | "57P03" | "25006")
            }
            None => matches!(
                self.code.as_str(),
                "io" | "pool_timeout" | "worker_crashed" | "begin_failed" | "protocol"
            ),
        }
    }

    /// The failure as it stands in the history.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let state = self.sqlstate.as_deref().unwrap_or("");
        Fault {
            class: class_of(state),
            code: self.code.clone(),
            message: self.message.clone(),
            hint: hint_for(state, &self.code).to_owned(),
            retryable: self.transient,
        }
    }
}

/// The five characters of the SQLSTATE, when the error came from the server.
#[must_use]
pub fn sqlstate(error: &sqlx::Error) -> Option<String> {
    match error {
        sqlx::Error::Database(error) => error.code().map(std::borrow::Cow::into_owned),
        sqlx::Error::Migrate(error) => match error.as_ref() {
            sqlx::migrate::MigrateError::Execute(inner)
            | sqlx::migrate::MigrateError::ExecuteMigration(inner, _) => sqlstate(inner),
            _ => None,
        },
        _ => None,
    }
}

/// A stable code and one line, neither of which holds a value that the server sent.
#[must_use]
pub fn describe_error(error: &sqlx::Error) -> (String, String) {
    match error {
        sqlx::Error::Database(error) => {
            let state = error.code().unwrap_or_default();
            let mut message = condition(&state).to_owned();
            let mut names = Vec::new();
            if let Some(detail) = error.try_downcast_ref::<PgDatabaseError>() {
                let table = match (detail.schema(), detail.table()) {
                    (Some(schema), Some(table)) => Some(format!("{schema}.{table}")),
                    (None, Some(table)) => Some(table.to_owned()),
                    (_, None) => None,
                };
                let parts = [
                    ("table", table.as_deref()),
                    ("column", detail.column()),
                    ("constraint", detail.constraint()),
                    (
                        "routine",
                        detail.routine().filter(|_| tells_by_routine(&state)),
                    ),
                ];
                for (what, name) in parts {
                    if let Some(name) = name {
                        names.push(format!("{what} {name}"));
                    }
                }
            }
            if !names.is_empty() {
                message = format!("{message} ({})", names.join(", "));
            }
            (format!("SQLSTATE {state}"), message)
        }
        sqlx::Error::Io(error) => (
            "io".to_owned(),
            format!("no connection to PostgreSQL: {}", error.kind()),
        ),
        sqlx::Error::Tls(_) => word("tls", "the TLS handshake with PostgreSQL failed"),
        sqlx::Error::Protocol(_) => word("protocol", "PostgreSQL sent what its protocol forbids"),
        sqlx::Error::PoolTimedOut => word(
            "pool_timeout",
            "no free database connection within database.acquire_timeout",
        ),
        sqlx::Error::PoolClosed => word("pool_closed", "the connection pool is already closed"),
        sqlx::Error::WorkerCrashed => word("worker_crashed", "the database driver's worker died"),
        sqlx::Error::BeginFailed => word("begin_failed", "a transaction could not be begun"),
        sqlx::Error::InvalidSavePointStatement => {
            word("begin_failed", "a transaction was begun inside another one")
        }
        sqlx::Error::Configuration(_) | sqlx::Error::ConfigFile(_) => word(
            "connection_settings",
            "the connection settings cannot be used",
        ),
        sqlx::Error::InvalidArgument(_) => {
            word("statement", "a statement's arguments do not fit it")
        }
        sqlx::Error::RowNotFound => word("row_not_found", "a row that must exist does not"),
        sqlx::Error::TypeNotFound { .. } => word("type_not_found", "a type does not exist"),
        sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_) => word("decode", "a result does not have the expected shape"),
        sqlx::Error::Encode(_) | sqlx::Error::AnyDriverError(_) => {
            word("encode", "a value could not be encoded for PostgreSQL")
        }
        sqlx::Error::Migrate(error) => match error.as_ref() {
            sqlx::migrate::MigrateError::Execute(inner)
            | sqlx::migrate::MigrateError::ExecuteMigration(inner, _) => describe_error(inner),
            _ => word("migration", "the migrations do not fit the database"),
        },
        _ => word("database", "the database driver failed"),
    }
}

/// Where the name of the server's own function says more than the condition: a value's type, or a bug.
fn tells_by_routine(state: &str) -> bool {
    matches!(state.get(..2), Some("22" | "54" | "58" | "XX"))
}

/// Whether the same statement may succeed later: the server is away, full, restarting, or we
/// lost a race. A caller that retries starts again at the beginning of its transaction.
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        // The stream of a killed server may end in the middle of a message.
        sqlx::Error::Protocol(_) => true,
        _ => sqlstate(error).is_some_and(|state| is_transient_state(&state)),
    }
}

fn is_transient_state(state: &str) -> bool {
    // 08P01 is a disagreement on the protocol (a pooler that refuses our start): waiting does not cure it.
    if state == "08P01" {
        return false;
    }
    // 53: out of connections, memory, disk. 40: serialization, deadlock. 57P0x: going down, coming up.
    matches!(state.get(..2), Some("08" | "53" | "40"))
        || matches!(
            state,
            "57P01" | "57P02" | "57P03" | "57P05" | "57014" | "55P03" | "25006" | "25P03"
        )
}

fn word(code: &str, message: &str) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

fn class_of(state: &str) -> Class {
    match state.get(..2) {
        // Credentials and the database's name come from the configuration.
        Some("28" | "3D") => Class::Config,
        _ => Class::Destination,
    }
}

fn hint_for(state: &str, code: &str) -> &'static str {
    match state {
        "28P01" => "check the user and password of database.url",
        "28000" => "check the user of database.url, and what pg_hba.conf allows it",
        "3D000" => "create the database, or correct its name in database.url",
        "42501" => "grant the role the missing right (deploy/ has the statements), then run again",
        "42P01" | "3F000" => {
            "a table is gone: restore it, or run `rosterd reset SOURCE/RESOURCE` to load it anew; for a table of schema rosterd run `rosterd migrate`"
        }
        "42703" => "a column is gone; restore it, or reset the resource",
        "55000" => {
            "if the table is in a publication, give it a primary key, or run `alter table ... replica identity full`"
        }
        "42P10" => {
            "if the table is in a publication with a filter or a list of columns, run `alter table ... replica identity full`; else restore its unique index"
        }
        "53100" => "free disk space on the database server; rosterd goes on by itself",
        "53300" => {
            "lower database.max_connections or raise the server's max_connections; rosterd tries again by itself"
        }
        "25006" => {
            "the server is read-only (a standby, or full); point database.url at the primary"
        }
        "08P01" => {
            "behind PgBouncer set `ignore_startup_parameters = extra_float_digits, options`, or use a direct URL"
        }
        "57P03" => "the server is starting or stopping; rosterd waits for it",
        "57014" => "a statement took longer than database.statement_timeout",
        "55P03" => "another session holds a lock on the table; rosterd tries again by itself",
        "" => match code {
            "tls" => {
                "check the server's certificate, `sslrootcert` in database.url, or name another sslmode there"
            }
            "pool_timeout" => {
                "check that the server runs and takes connections and writes; if it does, raise database.max_connections"
            }
            "io" => "check that the server runs and that host and port of database.url are right",
            _ => "please report this with the lines of the log around it",
        },
        _ => match state.get(..2) {
            Some("08" | "53" | "57" | "40") => "rosterd tries again by itself",
            Some("23") => "a row breaks a constraint of the target table; look at the constraint",
            Some("42") => "the target table is not as rosterd left it; look at what changed",
            _ => "look the SQLSTATE up in PostgreSQL's appendix of error codes",
        },
    }
}

/// The condition's name in words, for the codes that operators meet.
fn condition(state: &str) -> &'static str {
    for (code, name) in CONDITIONS {
        if *code == state {
            return name;
        }
    }
    for (class, name) in CLASSES {
        if state.starts_with(class) {
            return name;
        }
    }
    "PostgreSQL reported an error"
}

const CONDITIONS: &[(&str, &str)] = &[
    ("08P01", "protocol violation"),
    ("0A000", "feature not supported"),
    ("21000", "cardinality violation"),
    ("22001", "value too long"),
    ("22003", "numeric value out of range"),
    ("22007", "invalid datetime format"),
    ("22008", "datetime out of range"),
    ("22021", "character not in the database's encoding"),
    ("22P02", "invalid text representation"),
    ("22P03", "invalid binary representation"),
    ("22P04", "bad copy file format"),
    ("22P05", "untranslatable character"),
    ("23502", "not-null violation"),
    ("23503", "foreign key violation"),
    ("23505", "unique violation"),
    ("23514", "check violation"),
    ("25001", "active transaction"),
    ("25006", "read-only transaction"),
    ("25P02", "transaction already failed"),
    ("25P03", "idle in transaction for too long"),
    ("28000", "role not allowed to log in this way"),
    ("28P01", "wrong password"),
    ("2BP01", "other objects depend on it"),
    ("3D000", "the database does not exist"),
    ("3F000", "the schema does not exist"),
    ("40001", "serialization failure"),
    ("40P01", "deadlock"),
    ("42501", "permission denied"),
    ("42601", "syntax error"),
    ("42701", "column exists already"),
    ("42703", "column does not exist"),
    ("42804", "datatype mismatch"),
    ("42809", "wrong kind of object"),
    ("42883", "function does not exist"),
    ("42P01", "table does not exist"),
    ("42P06", "schema exists already"),
    ("42P07", "table exists already"),
    (
        "42P10",
        "no unique index fits, or a publication needs another replica identity",
    ),
    ("53100", "disk full"),
    ("53200", "out of memory"),
    ("53300", "too many connections"),
    ("54000", "a limit of PostgreSQL was passed"),
    ("54011", "too many columns"),
    (
        "55000",
        "the table is not ready for this, or is published without a replica identity",
    ),
    ("55006", "object in use"),
    ("55P03", "lock not available in time"),
    ("57014", "statement cancelled or timed out"),
    ("57P01", "the server is shutting down"),
    ("57P02", "the server crashed"),
    ("57P03", "the server does not accept connections now"),
    ("57P04", "the database was dropped"),
    ("58030", "input/output error on the server"),
    ("XX001", "corrupted data"),
    ("XX002", "corrupted index"),
];

const CLASSES: &[(&str, &str)] = &[
    ("08", "connection failure"),
    ("22", "data not accepted"),
    ("23", "constraint violation"),
    ("25", "wrong transaction state"),
    ("28", "not authorised"),
    ("40", "transaction rolled back"),
    ("42", "statement does not fit the schema"),
    ("53", "the server is out of resources"),
    ("54", "a limit of PostgreSQL was passed"),
    ("55", "object not in the needed state"),
    ("57", "the operator or a shutdown intervened"),
    ("58", "system error on the server"),
    ("P0", "a trigger or function raised an error"),
    ("XX", "internal error of PostgreSQL"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_sorted_and_named_once() {
        for pair in CONDITIONS.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
        }
    }

    #[test]
    fn tells_what_may_pass_by_itself_from_what_will_not() {
        let cases = [
            ("53300", true),
            ("53100", true),
            ("57P01", true),
            ("57P03", true),
            ("40001", true),
            ("40P01", true),
            ("08006", true),
            ("25006", true),
            ("55P03", true),
            ("57014", true),
            ("08P01", false),
            ("28P01", false),
            ("3D000", false),
            ("42501", false),
            ("42P01", false),
            ("23502", false),
            ("22P02", false),
            ("", false),
        ];
        for (state, expected) in cases {
            assert_eq!(is_transient_state(state), expected, "{state}");
        }
    }

    #[test]
    fn tells_an_outage_of_the_server_from_trouble_with_a_statement() {
        let failure = |code: &str, sqlstate: Option<&str>| Failure {
            code: code.to_owned(),
            message: String::new(),
            sqlstate: sqlstate.map(str::to_owned),
            transient: true,
        };
        for (code, state, expected) in [
            ("io", None, true),
            ("pool_timeout", None, true),
            ("tls", None, false),
            ("SQLSTATE", Some("57P01"), true),
            ("SQLSTATE", Some("08006"), true),
            ("SQLSTATE", Some("08P01"), false),
            ("SQLSTATE", Some("25006"), true),
            ("SQLSTATE", Some("53300"), true),
            ("SQLSTATE", Some("53100"), false),
            ("SQLSTATE", Some("57014"), false),
            ("SQLSTATE", Some("40P01"), false),
        ] {
            assert_eq!(
                failure(code, state).is_outage(),
                expected,
                "{code} {state:?}"
            );
        }
    }

    #[test]
    fn an_io_error_is_told_without_its_text() {
        let error = sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::ConnectionRefused,
            "hunter2",
        ));
        let failure = Failure::from(&error);
        assert_eq!(failure.code, "io");
        assert_eq!(
            failure.message,
            "no connection to PostgreSQL: connection refused"
        );
        assert!(failure.transient);
        assert!(!failure.fault().hint.is_empty());
    }
}
