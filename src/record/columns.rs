//! The catalogue of the data tables' columns, and the log of their changes.
//!
//! The catalogue is what keeps names stable: a field that was once given a column keeps it, whatever
//! other fields turn up later.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{Claim, Error, ResourceId};

/// One column of a data table and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogColumn {
    pub table_schema: String,
    pub table_name: String,
    pub column_name: String,
    /// Keys from the record's root, in source spelling.
    pub source_path: Vec<String>,
    pub data_type: String,
    /// `as is`, or what the privacy rules do with it.
    pub treatment: String,
}

/// The columns of one data table, in the order in which they were added.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn columns(
    conn: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<Vec<CatalogColumn>, Error> {
    let columns = sqlx::query(
        "select table_schema, table_name, column_name, source_path, data_type, treatment
         from rosterd.columns where table_schema = $1 and table_name = $2 order by added_at, column_name",
    )
    .bind(schema)
    .bind(table)
    .try_map(column)
    .fetch_all(conn)
    .await?;
    Ok(columns)
}

/// The columns of all tables of one resource.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn columns_of(
    conn: &mut PgConnection,
    resource_id: ResourceId,
) -> Result<Vec<CatalogColumn>, Error> {
    let columns = sqlx::query(
        "select table_schema, table_name, column_name, source_path, data_type, treatment
         from rosterd.columns where resource_id = $1 order by added_at, table_name, column_name",
    )
    .bind(resource_id)
    .try_map(column)
    .fetch_all(conn)
    .await?;
    Ok(columns)
}

/// The columns of all tables of the resource that one table belongs to; empty when it belongs to none.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn columns_beside(
    conn: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<Vec<CatalogColumn>, Error> {
    let owner: Option<ResourceId> = sqlx::query_scalar(
        "select min(resource_id) from rosterd.columns where table_schema = $1 and table_name = $2",
    )
    .bind(schema)
    .bind(table)
    .fetch_one(&mut *conn)
    .await?;
    match owner {
        Some(resource_id) => columns_of(conn, resource_id).await,
        None => Ok(Vec::new()),
    }
}

fn column(row: PgRow) -> Result<CatalogColumn, sqlx::Error> {
    Ok(CatalogColumn {
        table_schema: row.try_get("table_schema")?,
        table_name: row.try_get("table_name")?,
        column_name: row.try_get("column_name")?,
        source_path: row.try_get("source_path")?,
        data_type: row.try_get("data_type")?,
        treatment: row.try_get("treatment")?,
    })
}

/// The tables of the resource that have a column `marker` with a path: its lists' tables, with the
/// lists' paths.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn list_tables(
    conn: &mut PgConnection,
    resource_id: ResourceId,
    marker: &str,
) -> Result<Vec<(String, Vec<String>)>, Error> {
    let tables = sqlx::query_as(
        "select table_name, source_path from rosterd.columns
         where resource_id = $1 and column_name = $2 and source_path <> '{}' order by added_at, table_name",
    )
    .bind(resource_id)
    .bind(marker)
    .fetch_all(conn)
    .await?;
    Ok(tables)
}

/// Whether a table was ever made, or taken over, for the resource.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn had_table(conn: &mut PgConnection, resource_id: ResourceId) -> Result<bool, Error> {
    let had =
        sqlx::query_scalar("select exists (select from rosterd.columns where resource_id = $1)")
            .bind(resource_id)
            .fetch_one(conn)
            .await?;
    Ok(had)
}

/// Whether a run has once read everything that the resource had.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn is_loaded(conn: &mut PgConnection, resource_id: ResourceId) -> Result<bool, Error> {
    let loaded = sqlx::query_scalar(
        "select exists (select from rosterd.resources where resource_id = $1 and first_load_at is not null)",
    )
    .bind(resource_id)
    .fetch_one(conn)
    .await?;
    Ok(loaded)
}

/// Notes that a run has read everything that the resource had.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn note_loaded(conn: &mut PgConnection, resource_id: ResourceId) -> Result<(), Error> {
    sqlx::query(
        "update rosterd.resources set first_load_at = clock_timestamp()
         where resource_id = $1 and first_load_at is null",
    )
    .bind(resource_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes columns into the catalogue. A known one gets its new type and treatment, and its path if
/// it had none so far.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn save_columns(
    conn: &mut PgConnection,
    claim: &Claim,
    columns: &[CatalogColumn],
) -> Result<(), Error> {
    for column in columns {
        sqlx::query(
            "insert into rosterd.columns as c
               (resource_id, table_schema, table_name, column_name, source_path, data_type, treatment, added_by_run)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (table_schema, table_name, column_name) do update
                set data_type = excluded.data_type, treatment = excluded.treatment,
                    source_path = case when c.source_path = '{}' then excluded.source_path else c.source_path end
              where (c.data_type, c.treatment) is distinct from (excluded.data_type, excluded.treatment)
                 or (c.source_path = '{}' and excluded.source_path <> '{}')",
        )
        .bind(claim.resource_id)
        .bind(&column.table_schema)
        .bind(&column.table_name)
        .bind(&column.column_name)
        .bind(&column.source_path)
        .bind(&column.data_type)
        .bind(&column.treatment)
        .bind(claim.run_id)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// One change of a data table, as it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// A stable word: `create_table`, `add_column`, `widen_column`, `variant_column`, ...
    pub change: &'static str,
    /// Schema and table.
    pub table_name: String,
    pub column_name: Option<String>,
    pub old_type: Option<String>,
    pub new_type: Option<String>,
    /// The statement.
    pub ddl: String,
}

/// Logs a change, in the transaction that makes it.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn schema_change(
    conn: &mut PgConnection,
    claim: &Claim,
    change: &SchemaChange,
) -> Result<(), Error> {
    sqlx::query(
        "insert into rosterd.schema_changes
           (run_id, resource_id, change, table_name, column_name, old_type, new_type, ddl)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(claim.run_id)
    .bind(claim.resource_id)
    .bind(change.change)
    .bind(&change.table_name)
    .bind(&change.column_name)
    .bind(&change.old_type)
    .bind(&change.new_type)
    .bind(&change.ddl)
    .execute(conn)
    .await?;
    Ok(())
}
