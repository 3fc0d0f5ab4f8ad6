//! From encoded rows to committed ones: tables and columns made as needed, COPY, merge, replace.
//!
//! Everything here works on a connection that `sync` gave, mostly inside a transaction that `sync`
//! begins and commits, so that rows, cursor, counters and lease are one. Values never travel as
//! SQL text and are never parsed by the server: they go as binary COPY tuples made by `shape`.

pub mod sql;

pub mod table;

pub mod write;

pub mod hashes;

pub mod replace;

pub mod scd2;

pub mod deletes;

pub mod children;

pub mod erase;

use crate::{
    fault::{Class, Fault},
    postgres,
};

/// What can go wrong between a row and its table.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Postgres refused; the text is made of its SQLSTATE and of object names only.
    #[error("{doing}: {}", failure.message)]
    Database {
        doing: &'static str,
        failure: postgres::Failure,
    },
    /// The table has a column that rosterd would have made with another type.
    #[error("column {column} of table {table} has type {found}, which rosterd does not write")]
    ColumnType {
        table: String,
        column: String,
        found: String,
    },
    /// The configuration gives a column a type that the one in the table cannot be widened to.
    #[error(
        "column {column} of table {table} has type {found}, and the configuration says {wanted}"
    )]
    HintedType {
        table: String,
        column: String,
        found: &'static str,
        wanted: &'static str,
    },
    /// A merge needs a primary key or unique index on exactly the configured key.
    #[error("table {table} has no primary key or unique index on ({key})")]
    NoUniqueKey {
        table: String,
        key: String,
        /// How the table is partitioned, where its key must hold other columns for that.
        partitioned: Option<String>,
    },
    /// A table that was filled without a key holds rows that no key can tell apart.
    #[error(
        "table {table} was filled without a primary key: {repeated} rows repeat the ({key}) of another row, {keyless} have none"
    )]
    RepeatedKeys {
        table: String,
        key: String,
        keyless: i64,
        repeated: i64,
    },
}

impl Error {
    /// Wraps an error of Postgres without anything that it says about values.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |error| Self::Database {
            doing,
            failure: error.into(),
        }
    }

    /// Whether the same transaction may succeed when it is tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database { failure, .. } => failure.transient,
            Self::ColumnType { .. }
            | Self::HintedType { .. }
            | Self::NoUniqueKey { .. }
            | Self::RepeatedKeys { .. } => false,
        }
    }

    /// Whether the server as a whole is away.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Database { failure, .. } if failure.is_outage())
    }

    /// The SQLSTATE, when Postgres gave one.
    fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Database { failure, .. } => failure.sqlstate.as_deref(),
            Self::ColumnType { .. }
            | Self::HintedType { .. }
            | Self::NoUniqueKey { .. }
            | Self::RepeatedKeys { .. } => None,
        }
    }

    /// Whether one row's content is at fault, so that the others can be saved by leaving it out.
    fn blames_a_row(&self) -> bool {
        self.sqlstate()
            .is_some_and(|s| s.starts_with("22") || s.starts_with("23") || s == "54000")
    }

    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Database { failure, .. } => Fault { message: self.to_string(), ..failure.fault() },
            Self::ColumnType { .. } => Fault {
                class: Class::Schema,
                code: "column_type".to_owned(),
                message: self.to_string(),
                hint: "Change the column to boolean, bigint, numeric, date, timestamptz, text or jsonb, or give the resource another table_name.".to_owned(),
                retryable: false,
            },
            Self::HintedType { .. } => Fault {
                class: Class::Schema,
                code: "column_type".to_owned(),
                message: self.to_string(),
                hint: "Change the column's type yourself (alter table ... alter column ... type ... using ...), or take data_type out of the column's hint.".to_owned(),
                retryable: false,
            },
            Self::RepeatedKeys { .. } => Fault {
                class: Class::Schema,
                code: "repeated_keys".to_owned(),
                message: self.to_string(),
                hint: "Delete all rows but the latest of each key (see _synced_at), or give the resource another table_name and let it be read anew.".to_owned(),
                retryable: false,
            },
            Self::NoUniqueKey { partitioned, .. } => Fault {
                class: Class::Schema,
                code: "no_unique_key".to_owned(),
                message: self.to_string(),
                hint: match partitioned {
                    None => "Add the primary key to the table, or let rosterd make the table: rename the present one.".to_owned(),
                    Some(by) => format!("The table is partitioned by {by}, and a key of it holds all columns of that: name them in primary_key too, or let rosterd make the table: rename the present one."),
                },
                retryable: false,
            },
        }
    }
}
