//! The strategy `scd2`: every version of a row stays, with the time in which it was valid.
//!
//! A key has at most one version that is valid, which an index holds. A changed record ends that
//! version and adds its own at the same instant, in the transaction of its batch; an equal one
//! writes nothing. A record that is the same, and only spelled otherwise since a column got a wider
//! type, is no version: the valid one takes the spelling.

use sqlx::PgConnection;

use super::{
    Error,
    sql::{self, Guard, Ident, TableName},
    table::{self, Change},
    write::Written,
};
use crate::{
    config::source::History,
    shape::{Layout, identifier},
};

/// What makes the table, when there is none.
#[must_use]
pub fn creation(table: &TableName, layout: &Layout, history: &History) -> Vec<Change> {
    let key = table::key_idents(layout);
    let ddl = |change, ddl| Change {
        change,
        column: None,
        old_type: None,
        new_type: None,
        ddl,
    };
    vec![
        ddl(
            "create_table",
            sql::create_history(table, &layout.columns, &key, history),
        ),
        ddl("create_index", sql::index_active(table, &key, history)),
    ]
}

/// Columns that must be unique together for a table to hold versions: those of the key, and the first of the
/// two of the validity.
#[must_use]
pub fn unique_columns(key: &[String], history: &History) -> Vec<String> {
    let mut columns = key.to_vec();
    columns.push(identifier(&history.valid_from));
    columns
}

/// Makes versions of the staged rows that differ from the valid ones.
pub(super) async fn merge(
    connection: &mut PgConnection,
    table: &TableName,
    layout: &Layout,
    history: &History,
    guard: Option<&Guard>,
    staged: u64,
) -> Result<Written, Error> {
    let key: Vec<Ident> = table::key_idents(layout);
    let by_hash = history.row_version.is_some() || !layout.children.is_empty();
    let mut counts = [0; 4];
    for (count, statement) in counts.iter_mut().zip([
        sql::respell_versions(table, &layout.columns, &key, history),
        sql::drop_versions(table, &layout.columns, &key, history, by_hash, guard),
        sql::end_versions(table, &layout.columns, &key, history, by_hash, guard),
        sql::add_versions(table, &layout.columns, &key, history),
    ]) {
        *count = sqlx::query(sql::safe(statement))
            .persistent(false)
            .execute(&mut *connection)
            .await
            .map_err(Error::database("writing versions of rows"))?
            .rows_affected();
    }
    let [respelled, dropped, ended, added] = counts;
    let replaced = (dropped + ended).min(added);
    Ok(Written {
        inserted: added - replaced,
        updated: replaced + respelled,
        unchanged: staged.saturating_sub(added + respelled),
        ..Written::default()
    })
}
