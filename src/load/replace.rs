//! Walks that count only as a whole: their rows gather beside the table, then one transaction makes
//! the table equal to them, all of it (`replace`) or the sets that the walk brought (`merge_key`).
//!
//! The walk's rows gather in an unlogged table of their own; readers of the real table see the old
//! rows until the commit, and rows that did not change are not touched even then. Renaming the new
//! table over the old would be quicker and would lose grants, views and every unchanged row.

use sqlx::PgConnection;

use super::{
    Error,
    sql::{self, Scope, TableName},
    table,
    write::Written,
};
use crate::shape::{Column, Layout, identifier};

/// Name of the table that gathers a walk for `table`.
#[must_use]
pub fn walk_table(table: &TableName) -> TableName {
    TableName::new(
        table.schema.name(),
        &identifier(&format!("_rosterd_walk_{}", table.table.name())),
    )
}

/// Makes the walk's table anew, empty, with the layout's columns and, where `keyed`, its key.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn begin(
    connection: &mut PgConnection,
    walk: &TableName,
    layout: &Layout,
    keyed: bool,
) -> Result<(), Error> {
    let key = if keyed {
        table::key_idents(layout)
    } else {
        Vec::new()
    };
    for statement in [
        sql::drop_table(walk),
        sql::create_walk_table(walk, &layout.columns, &key),
    ] {
        sqlx::raw_sql(sql::safe(statement))
            .execute(&mut *connection)
            .await
            .map_err(Error::database("making the table of the walk"))?;
    }
    Ok(())
}

/// Makes `table` hold exactly the rows of `walk`, inside the caller's transaction, and drops `walk`.
/// With a scope only the rows that this covers are touched.
///
/// Returns what was written and, second, how many rows were deleted; a changed row is one of each.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn swap(
    connection: &mut PgConnection,
    table: &TableName,
    walk: &TableName,
    columns: &[Column],
    scope: Option<&Scope>,
) -> Result<(Written, u64), Error> {
    let walked: i64 = sqlx::query_scalar(sql::safe(sql::count(walk)))
        .persistent(false)
        .fetch_one(&mut *connection)
        .await
        .map_err(Error::database("counting the walk's rows"))?;
    let deleted = sqlx::query(sql::safe(sql::delete_absent(table, walk, scope)))
        .persistent(false)
        .execute(&mut *connection)
        .await
        .map_err(Error::database("deleting rows that are gone"))?
        .rows_affected();
    let inserted = sqlx::query(sql::safe(sql::insert_absent(table, walk, columns, scope)))
        .persistent(false)
        .execute(&mut *connection)
        .await
        .map_err(Error::database("inserting new rows"))?
        .rows_affected();
    drop_walk(connection, walk).await?;
    let unchanged = u64::try_from(walked)
        .unwrap_or_default()
        .saturating_sub(inserted);
    Ok((
        Written {
            inserted,
            updated: 0,
            unchanged,
            ..Written::default()
        },
        deleted,
    ))
}

/// Adds the lists that a walk gathered for rows that the swap brought in, and drops `walk`. The lists of
/// rows that went are gone with them.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn add_lists(
    connection: &mut PgConnection,
    root: &TableName,
    table: &TableName,
    walk: &TableName,
    columns: &[Column],
) -> Result<(), Error> {
    let statement = sql::insert_walked_lists(walk, root, table, columns);
    sqlx::query(sql::safe(statement))
        .persistent(false)
        .execute(&mut *connection)
        .await
        .map_err(Error::database("inserting the rows of lists"))?;
    drop_walk(connection, walk).await
}

/// Deletes every row of `table`; returns how many.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn clear(connection: &mut PgConnection, table: &TableName) -> Result<u64, Error> {
    Ok(sqlx::query(sql::safe(sql::delete_all(table)))
        .persistent(false)
        .execute(connection)
        .await
        .map_err(Error::database("emptying the table"))?
        .rows_affected())
}

/// Drops the walk's table.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn drop_walk(connection: &mut PgConnection, walk: &TableName) -> Result<(), Error> {
    sqlx::raw_sql(sql::safe(sql::drop_table(walk)))
        .execute(connection)
        .await
        .map_err(Error::database("dropping the table of the walk"))?;
    Ok(())
}
