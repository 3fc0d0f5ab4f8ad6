//! Rows and values that must go: erased persons, rows past their time, columns that are no longer to be filled.
//!
//! Deleted for good, never marked. What may be many rows goes in bounded bites, each of which the
//! caller puts into a transaction of its own.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{
    Error, replace,
    sql::{self, Ident, TableName},
};
use crate::shape::{Column, Kind};

/// Rows of one bite: short enough for nobody to wait behind it.
pub const BITE: u64 = 5_000;

/// Empties a column in at most [`BITE`] rows; returns in how many.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn empty_column(
    connection: &mut PgConnection,
    table: &TableName,
    column: &str,
) -> Result<u64, Error> {
    Ok(
        sqlx::query(sql::safe(sql::empty_column(table, column, BITE)))
            .persistent(false)
            .execute(connection)
            .await
            .map_err(Error::database("emptying a column"))?
            .rows_affected(),
    )
}

/// Deletes at most [`BITE`] rows whose time in `column` is before the instant; returns how many.
/// `None`: the column holds no times.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn delete_expired(
    connection: &mut PgConnection,
    table: &TableName,
    column: &Column,
    before: DateTime<Utc>,
) -> Result<Option<u64>, Error> {
    // A date is over when its first instant is, as where records are left out on their way in.
    if !matches!(column.kind, Kind::Date | Kind::Timestamptz) {
        return Ok(None);
    }
    let deleted = sqlx::query(sql::safe(sql::delete_expired(table, column, BITE)))
        .persistent(false)
        .bind(before)
        .execute(connection)
        .await
        .map_err(Error::database("deleting rows past their time"))?;
    Ok(Some(deleted.rows_affected()))
}

/// Tables of the same schema that hang on one: those of its lists are among them.
const LISTS: &str = "select distinct c.relname::text from pg_constraint k \
    join pg_class c on c.oid = k.conrelid join pg_class r on r.oid = k.confrelid \
    join pg_namespace n on n.oid = r.relnamespace \
    where k.contype = 'f' and n.nspname = $1 and r.relname = $2 and c.relnamespace = r.relnamespace";

/// Deletes every row with this key, its history and lists too, and what a cut `replace` walk left behind.
/// Returns how many rows of the table went.
///
/// # Errors
///
/// Whatever Postgres says; 22P02 and its like when the text cannot be a value of the key's type.
pub async fn delete_key(
    connection: &mut PgConnection,
    table: &TableName,
    key: &[Column],
    values: &[String],
) -> Result<u64, Error> {
    let columns: Vec<(Ident, Kind)> = key
        .iter()
        .map(|column| (Ident::new(&column.name), column.kind))
        .collect();
    let mut query = sqlx::query(sql::safe(sql::delete_key(table, &columns))).persistent(false);
    for value in values {
        query = query.bind(value);
    }
    let deleted = query
        .execute(&mut *connection)
        .await
        .map_err(Error::database("deleting the person's rows"))?;
    let lists: Vec<String> = sqlx::query_scalar(LISTS)
        .bind(table.schema.name())
        .bind(table.table.name())
        .fetch_all(&mut *connection)
        .await
        .map_err(Error::database("looking for the tables of lists"))?;
    let lists = lists
        .iter()
        .map(|list| TableName::new(table.schema.name(), list));
    for gathered in lists.chain([table.clone()]) {
        replace::drop_walk(connection, &replace::walk_table(&gathered)).await?;
    }
    Ok(deleted.rows_affected())
}
