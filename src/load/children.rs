//! The tables of nested lists: written with their parents, in the parents' transaction.
//!
//! Rows of a list are told apart by an id made of the root row's key and the place in the record,
//! so an element that did not change is not written again. A foreign key with `on delete cascade`
//! ties them to the root row: whoever deletes that, and however, takes them along. Where rows are only
//! marked as deleted, the rows of their lists have the same mark, from the same transaction.

use sqlx::PgConnection;

use super::{
    Error,
    sql::{self, TableName},
    table::{self, Change},
    write::{self, Segment},
};
use crate::shape::{Family, Kind, Layout, ROOT_ID};

/// Whether the table of a list hangs on another table than `root`: one that the resource had before.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn is_of_another(
    connection: &mut PgConnection,
    list: &TableName,
    root: &TableName,
) -> Result<bool, Error> {
    sqlx::query_scalar(
        "select exists (select from pg_constraint k join pg_class c on c.oid = k.conrelid \
           join pg_namespace n on n.oid = c.relnamespace \
           join pg_attribute a on a.attrelid = c.oid and a.attnum = any (k.conkey) \
           join pg_class r on r.oid = k.confrelid join pg_namespace m on m.oid = r.relnamespace \
           where k.contype = 'f' and n.nspname = $1 and c.relname = $2 and a.attname = $3 \
             and (m.nspname, r.relname) <> ($4, $5))",
    )
    .bind(list.schema.name())
    .bind(list.table.name())
    .bind(ROOT_ID)
    .bind(root.schema.name())
    .bind(root.table.name())
    .fetch_one(connection)
    .await
    .map_err(Error::database("looking whose lists a table holds"))
}

/// Name of a child table.
#[must_use]
pub fn table_name(root: &TableName, family: &Family) -> TableName {
    TableName::new(root.schema.name(), &family.table)
}

/// What makes a child table of `root`.
#[must_use]
pub fn creation(root: &TableName, table: &TableName, layout: &Layout) -> Vec<Change> {
    let ddl = |change, ddl| Change {
        change,
        column: None,
        old_type: None,
        new_type: None,
        ddl,
    };
    vec![
        table::creation(table, layout, true),
        ddl("add_foreign_key", sql::reference_root(table, root)),
        ddl("create_index", sql::index_root(table)),
    ]
}

/// Makes the table of a `replace` walk anew for the lists that the walk will find.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn begin_walk(
    connection: &mut PgConnection,
    walk: &TableName,
    layout: &Layout,
) -> Result<(), Error> {
    super::replace::begin(connection, walk, layout, true).await
}

/// Makes the lists of the rows in `segments` what these say, in one child table.
///
/// `root` and `table` are those of the walk where there is one. `refused` are ids of rows that the
/// table did not take, for whatever reason; their lists stay as they are, as the rows do.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn write(
    connection: &mut PgConnection,
    root: &TableName,
    table: &TableName,
    family: usize,
    layout: &Layout,
    segments: &[Segment],
    refused: &[&str],
) -> Result<(), Error> {
    let failed = || Error::database("writing the rows of lists");
    let run = |statement: String| sql::safe(statement);
    let roots: Vec<&str> = written_roots(segments, refused).map(|(id, _)| id).collect();
    if roots.is_empty() {
        return Ok(());
    }
    let rows: Vec<&[u8]> = segments
        .iter()
        .flat_map(|segment| &segment.children)
        .filter(|rows| rows.family == family)
        .map(|rows| rows.data.as_slice())
        .collect();
    sqlx::raw_sql(run(sql::create_stage(&layout.columns, false)))
        .execute(&mut *connection)
        .await
        .map_err(failed())?;
    write::copy_tuples(
        connection,
        &sql::copy_into_stage(&layout.columns, false),
        &rows,
    )
    .await?;
    sqlx::query(run(sql::delete_lists(table)))
        .persistent(false)
        .bind(&roots)
        .execute(&mut *connection)
        .await
        .map_err(failed())?;
    sqlx::query(run(sql::insert_lists(root, table, &layout.columns)))
        .persistent(false)
        .bind(refused)
        .execute(&mut *connection)
        .await
        .map_err(failed())?;
    sqlx::raw_sql(sql::drop_stage())
        .execute(connection)
        .await
        .map_err(failed())?;
    Ok(())
}

/// Doubts the root's rows whose lists lost the spelling of their values by these changes, so that they
/// are compared again when they are next read.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn doubt_roots(
    connection: &mut PgConnection,
    root: &TableName,
    table: &TableName,
    changes: &[Change],
) -> Result<(), Error> {
    for change in changes {
        let kind = |name: &Option<String>| name.as_deref().and_then(Kind::from_sql);
        let (Some(from), Some(to), Some(column)) = (
            kind(&change.old_type),
            kind(&change.new_type),
            &change.column,
        ) else {
            continue;
        };
        if !sql::keeps_spelling(from, to) {
            sqlx::query(sql::safe(sql::doubt_roots(root, table, column)))
                .persistent(false)
                .execute(&mut *connection)
                .await
                .map_err(Error::database(
                    "marking rows whose lists changed their type",
                ))?;
        }
    }
    Ok(())
}

/// What lets the rows of lists be marked as deleted; those of rows that are marked already are from then on.
#[must_use]
pub fn mark_column(root: &TableName, table: &TableName) -> Change {
    let change = table::mark_column(table);
    Change {
        ddl: format!("{}; {}", change.ddl, sql::copy_marks(root, table)),
        ..change
    }
}

/// Marks the lists of the rows that this transaction marked as deleted.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn mark(
    connection: &mut PgConnection,
    root: &TableName,
    table: &TableName,
    run_id: i64,
) -> Result<(), Error> {
    sqlx::query(sql::safe(sql::mark_lists(root, table)))
        .persistent(false)
        .bind(run_id)
        .execute(connection)
        .await
        .map_err(Error::database("marking the rows of lists"))?;
    Ok(())
}

/// Takes the marks from the lists of the rows in `segments` that are there again.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn unmark(
    connection: &mut PgConnection,
    root: &TableName,
    table: &TableName,
    segments: &[Segment],
    run_id: i64,
) -> Result<(), Error> {
    let roots: Vec<&str> = written_roots(segments, &[]).map(|(id, _)| id).collect();
    if roots.is_empty() {
        return Ok(());
    }
    sqlx::query(sql::safe(sql::unmark_lists(root, table)))
        .persistent(false)
        .bind(&roots)
        .bind(run_id)
        .execute(connection)
        .await
        .map_err(Error::database("taking marks from the rows of lists"))?;
    Ok(())
}

/// Ids and hashes of the rows that the table took.
fn written_roots<'a>(
    segments: &'a [Segment],
    refused: &'a [&str],
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let roots = segments.iter().flat_map(|segment| &segment.roots);
    roots
        .map(|(id, hash)| (id.as_str(), hash.as_slice()))
        .filter(|(id, _)| !refused.contains(id))
}

/// Gives rows whose columns are unchanged, but not their lists, the hash and the marks of this run.
/// Returns how many.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn touch_roots(
    connection: &mut PgConnection,
    root: &TableName,
    run_id: i64,
    segments: &[Segment],
    refused: &[&str],
) -> Result<u64, Error> {
    let (ids, hashes): (Vec<&str>, Vec<&[u8]>) = written_roots(segments, refused).unzip();
    Ok(sqlx::query(sql::safe(sql::touch_roots(root)))
        .persistent(false)
        .bind(&ids)
        .bind(&hashes)
        .bind(run_id)
        .execute(connection)
        .await
        .map_err(Error::database("marking rows with changed lists"))?
        .rows_affected())
}
