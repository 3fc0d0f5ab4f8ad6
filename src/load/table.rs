//! The data table as it is, and the DDL that makes it fit a layout.

use sqlx::{PgConnection, Row};

use super::{
    Error,
    deletes::DELETED_AT,
    sql::{self, Ident, TableName},
};
use crate::shape::{Column, Declared, Kind, Layout, SYSTEM_COLUMNS};

const DELETED_AT_TYPE: &str = "timestamp with time zone";

/// A table found in the database.
#[derive(Debug, Clone)]
pub struct Found {
    /// Name and type, without dropped columns, in the table's order.
    pub columns: Vec<(String, String)>,
    pub has_rows: bool,
    /// Blocks that the rows take.
    pub blocks: i64,
    /// Column sets that are unique by a plain, complete index.
    unique: Vec<Vec<String>>,
    /// Columns whose type cannot change for what hangs on them.
    fixed: Vec<String>,
    partitioned: Option<Partitioned>,
}

/// How a table is partitioned, which limits the keys that it can have.
#[derive(Debug, Clone)]
struct Partitioned {
    /// As Postgres says it: `RANGE (day)`.
    by: String,
    columns: Vec<String>,
    /// Then it can have no key at all.
    by_expressions: bool,
}

impl Partitioned {
    fn allows(&self, key: &[String]) -> bool {
        !self.by_expressions && self.columns.iter().all(|column| key.contains(column))
    }
}

/// One change of a table, as recorded in `rosterd.schema_changes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `create_table`, `add_column` or `widen_column`.
    pub change: &'static str,
    pub column: Option<String>,
    pub old_type: Option<String>,
    pub new_type: Option<String>,
    pub ddl: String,
}

/// Reads the table's columns and keys from the catalogue. `None`: there is no such table.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn inspect(
    connection: &mut PgConnection,
    table: &TableName,
) -> Result<Option<Found>, Error> {
    // By what Postgres calls the table, not by its two names: a plan for any name would look at all tables that
    // have the same name in other schemas.
    let name = table.to_string();
    let rows = sqlx::query(
        "select a.attname, format_type(a.atttypid, null) from pg_attribute a \
         join pg_class c on c.oid = a.attrelid \
         where c.oid = to_regclass($1) and c.relkind in ('r', 'p') \
           and a.attnum > 0 and not a.attisdropped order by a.attnum",
    )
    .bind(&name)
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::database("reading the table's columns"))?;
    if rows.is_empty() {
        return Ok(None);
    }
    let columns = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let unique = sqlx::query_scalar::<_, Vec<String>>(
        "select array_agg(a.attname::text order by a.attname) from pg_index i \
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) \
         where i.indrelid = to_regclass($1) and i.indisunique and i.indisvalid and i.indpred is null \
           and i.indexprs is null group by i.indexrelid",
    )
    .bind(&name)
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::database("reading the table's indexes"))?;
    let fixed = sqlx::query_scalar(FIXED_COLUMNS)
        .bind(&name)
        .fetch_all(&mut *connection)
        .await
        .map_err(Error::database("reading what hangs on the table's columns"))?;
    let partitioned = sqlx::query(
        "select pg_get_partkeydef(c.oid), array(select a.attname::text from pg_attribute a \
           where a.attrelid = c.oid and a.attnum = any (p.partattrs::int2[])), 0 = any (p.partattrs::int2[]) \
         from pg_partitioned_table p join pg_class c on c.oid = p.partrelid where c.oid = to_regclass($1)",
    )
    .bind(&name)
    .fetch_optional(&mut *connection)
    .await
    .map_err(Error::database("reading how the table is partitioned"))?
    .map(|row| Partitioned {
        by: row.get(0),
        columns: row.get(1),
        by_expressions: row.get(2),
    });
    let (has_rows, blocks) = sqlx::query_as(sql::safe(sql::extent(table)))
        .bind(&name)
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(Error::database("looking whether the table has rows"))?;
    Ok(Some(Found {
        columns,
        has_rows,
        blocks,
        unique,
        fixed,
        partitioned,
    }))
}

/// Columns on which something hangs that makes `alter column ... type` fail, or may: views and rules,
/// policies, triggers, functions, publications, generated columns, checks and foreign keys, indexes
/// on expressions, the partition key.
const FIXED_COLUMNS: &str = "select distinct a.attname::text from pg_attribute a \
    join pg_class c on c.oid = a.attrelid \
    where c.oid = to_regclass($1) and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped \
      and (exists (select 1 from pg_depend d \
             where d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid and d.refobjsubid = a.attnum \
               and (d.classid in ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_trigger'::regclass, \
                                  'pg_proc'::regclass, 'pg_publication_rel'::regclass) \
                 or exists (select 1 from pg_attrdef f where d.classid = 'pg_attrdef'::regclass and f.oid = d.objid \
                              and (f.adrelid, f.adnum) is distinct from (c.oid, a.attnum)) \
                 or exists (select 1 from pg_constraint k where d.classid = 'pg_constraint'::regclass \
                              and k.oid = d.objid and k.contype in ('c', 'f', 'x')) \
                 or exists (select 1 from pg_index i where d.classid = 'pg_class'::regclass and i.indexrelid = d.objid \
                              and (i.indexprs is not null or i.indpred is not null)))) \
        or exists (select 1 from pg_partitioned_table p where p.partrelid = c.oid and a.attnum = any (p.partattrs::int2[])))";

impl Found {
    /// The columns that rosterd fills, with the paths the catalogue knows. A column without a path is
    /// somebody else's: it is left alone until a record has a field of its name.
    ///
    /// # Errors
    ///
    /// [`Error::ColumnType`] for a column of the catalogue that now has a type rosterd does not write.
    pub fn known(
        &self,
        table: &TableName,
        paths: &[(String, Vec<String>)],
    ) -> Result<Vec<Column>, Error> {
        let mut known = Vec::with_capacity(self.columns.len());
        for (name, sql_type) in &self.columns {
            if name == DELETED_AT || SYSTEM_COLUMNS.iter().any(|(own, _)| own == name) {
                continue;
            }
            let path = paths.iter().find(|(column, _)| column == name);
            match (Kind::from_sql(sql_type), path) {
                (Some(kind), path) => known.push(Column {
                    name: name.clone(),
                    path: path.map(|(_, path)| path.clone()).unwrap_or_default(),
                    kind,
                    is_fixed: self.fixed.contains(name),
                    declared: Declared {
                        unique: self.unique.contains(&vec![name.clone()]),
                        ..Declared::default()
                    },
                }),
                // Ours once, and altered since.
                (None, Some(_)) => {
                    return Err(Error::ColumnType {
                        table: table.to_string(),
                        column: name.clone(),
                        found: sql_type.clone(),
                    });
                }
                // Somebody else's column, which no field has claimed so far.
                (None, None) => {}
            }
        }
        Ok(known)
    }

    /// Whether rows can be marked as deleted.
    #[must_use]
    pub fn marks(&self) -> bool {
        self.columns
            .iter()
            .any(|(name, sql_type)| name == DELETED_AT && sql_type == DELETED_AT_TYPE)
    }

    /// Checks that a merge on `key` has an index to stand on.
    ///
    /// # Errors
    ///
    /// [`Error::NoUniqueKey`].
    pub fn require_unique(&self, table: &TableName, key: &[String]) -> Result<(), Error> {
        let mut wanted = key.to_vec();
        wanted.sort();
        let unique = self.unique.iter().any(|columns| {
            let mut columns = columns.clone();
            columns.sort();
            columns == wanted
        });
        if unique {
            Ok(())
        } else {
            Err(self.no_unique_key(table, key))
        }
    }

    fn no_unique_key(&self, table: &TableName, key: &[String]) -> Error {
        let partitioned = self.partitioned.as_ref();
        Error::NoUniqueKey {
            table: table.to_string(),
            key: key.join(", "),
            partitioned: partitioned
                .filter(|partitioned| !partitioned.allows(key))
                .map(|partitioned| partitioned.by.clone()),
        }
    }

    fn missing_own(&self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        SYSTEM_COLUMNS
            .iter()
            .filter(|(own, _)| !self.columns.iter().any(|(name, _)| name == own))
    }
}

/// What must happen to a table with columns `known` so that rows of `layout` fit.
#[must_use]
pub fn changes(table: &TableName, known: &[Column], layout: &Layout) -> Vec<Change> {
    let mut changes = Vec::new();
    for column in &layout.columns {
        match known.iter().find(|k| k.name == column.name) {
            None => changes.push(Change {
                change: "add_column",
                column: Some(column.name.clone()),
                old_type: None,
                new_type: Some(column.sql_type()),
                ddl: sql::add_column(table, &column.name, &added_type(column)),
            }),
            Some(k) if k.kind != column.kind => changes.push(Change {
                change: "widen_column",
                column: Some(column.name.clone()),
                old_type: Some(k.kind.sql().to_owned()),
                new_type: Some(column.kind.sql().to_owned()),
                ddl: sql::widen_column(table, &column.name, k.kind, column.kind),
            }),
            Some(k) if column.declared.unique && !k.declared.unique => changes.push(Change {
                change: "add_unique",
                column: Some(column.name.clone()),
                old_type: None,
                new_type: None,
                ddl: sql::add_unique(table, &column.name),
            }),
            Some(_) => {}
        }
    }
    changes
}

/// Brings what is known of a table up to date after its changes. Columns of others stay known.
pub fn learn(known: &mut Vec<Column>, columns: &[Column]) {
    for column in columns {
        match known.iter_mut().find(|known| known.name == column.name) {
            Some(known) => known.clone_from(column),
            None => known.push(column.clone()),
        }
    }
}

/// Not `not null`: the rows that are there have no value yet. The shape stage holds new rows to it.
fn added_type(column: &Column) -> String {
    let unique = if column.declared.unique {
        " unique"
    } else {
        ""
    };
    format!("{}{unique}", column.sql_type())
}

/// What makes a table that somebody else created carry rosterd's own columns.
#[must_use]
pub fn adopt(table: &TableName, found: &Found) -> Vec<Change> {
    found
        .missing_own()
        .map(|(name, kind)| Change {
            change: "add_column",
            column: Some((*name).to_owned()),
            old_type: None,
            new_type: Some((*kind).to_owned()),
            ddl: sql::add_column(table, name, kind),
        })
        .collect()
}

/// What gives a table that was filled without a key the primary key that its rows are now merged by.
///
/// # Errors
///
/// [`Error::NoUniqueKey`] when it has another primary key, or not the columns; [`Error::RepeatedKeys`]
/// when its rows do not allow it; whatever else Postgres says.
pub async fn add_key(
    connection: &mut PgConnection,
    table: &TableName,
    found: &Found,
    key: &[String],
) -> Result<Change, Error> {
    let has_columns = key
        .iter()
        .all(|part| found.columns.iter().any(|(name, _)| name == part));
    let has_primary: bool = sqlx::query_scalar(
        "select exists (select 1 from pg_index i join pg_class c on c.oid = i.indrelid \
           join pg_namespace n on n.oid = c.relnamespace \
           where n.nspname = $1 and c.relname = $2 and i.indisprimary)",
    )
    .bind(table.schema.name())
    .bind(table.table.name())
    .fetch_one(&mut *connection)
    .await
    .map_err(Error::database("reading the table's indexes"))?;
    let partitioned = found.partitioned.as_ref();
    let is_forbidden = partitioned.is_some_and(|partitioned| !partitioned.allows(key));
    if !has_columns || has_primary || is_forbidden {
        return Err(found.no_unique_key(table, key));
    }
    let idents: Vec<Ident> = key.iter().map(|name| Ident::new(name)).collect();
    let row = sqlx::query(sql::safe(sql::keyless_and_repeated(table, &idents)))
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(Error::database("looking for repeated keys"))?;
    let (keyless, repeated): (i64, i64) = (row.get(0), row.get(1));
    if keyless + repeated > 0 {
        return Err(Error::RepeatedKeys {
            table: table.to_string(),
            key: key.join(", "),
            keyless,
            repeated,
        });
    }
    Ok(Change {
        change: "add_primary_key",
        column: None,
        old_type: None,
        new_type: None,
        ddl: sql::add_primary_key(table, &idents),
    })
}

/// What lets the rows of a table be marked as deleted.
#[must_use]
pub fn mark_column(table: &TableName) -> Change {
    Change {
        change: "add_column",
        column: Some(DELETED_AT.to_owned()),
        old_type: None,
        new_type: Some(DELETED_AT_TYPE.to_owned()),
        ddl: sql::add_column(table, DELETED_AT, "timestamptz"),
    }
}

/// What makes the table, when there is none.
#[must_use]
pub fn creation(table: &TableName, layout: &Layout, keyed: bool) -> Change {
    let key = if keyed {
        key_idents(layout)
    } else {
        Vec::new()
    };
    Change {
        change: "create_table",
        column: None,
        old_type: None,
        new_type: None,
        ddl: sql::create_table(table, &layout.columns, &key),
    }
}

/// Names of the key columns, in the key's order.
#[must_use]
pub fn key_columns(layout: &Layout) -> Vec<String> {
    layout
        .key
        .iter()
        .filter_map(|at| layout.columns.get(*at))
        .map(|column| column.name.clone())
        .collect()
}

pub(super) fn key_idents(layout: &Layout) -> Vec<Ident> {
    key_columns(layout)
        .iter()
        .map(|name| Ident::new(name))
        .collect()
}

/// Runs the changes inside the caller's transaction, waiting at most `lock_timeout` for each lock.
///
/// # Errors
///
/// Whatever Postgres says; 55P03 when the lock was not had in time.
pub async fn apply(connection: &mut PgConnection, changes: &[Change]) -> Result<(), Error> {
    for change in changes {
        let statement = sql::safe(change.ddl.clone());
        sqlx::raw_sql(statement)
            .execute(&mut *connection)
            .await
            .map_err(Error::database("changing the table"))?;
    }
    Ok(())
}

/// Bounds how long the transaction's DDL waits for locks, so that it never stands in front of readers for long.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn bound_locks(
    connection: &mut PgConnection,
    wait: std::time::Duration,
) -> Result<(), Error> {
    sqlx::query("select set_config('lock_timeout', $1, true)")
        .bind(format!("{}ms", wait.as_millis()))
        .execute(connection)
        .await
        .map_err(Error::database("setting the lock time-out"))?;
    Ok(())
}

/// Makes the schema when it is missing. Needs no right on the database when it is there.
///
/// # Errors
///
/// Whatever Postgres says; 42501 when the role may not create schemas.
pub async fn ensure_schema(connection: &mut PgConnection, table: &TableName) -> Result<(), Error> {
    let exists: bool =
        sqlx::query_scalar("select exists (select 1 from pg_namespace where nspname = $1)")
            .bind(table.schema.name())
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::database("looking for the schema"))?;
    if !exists {
        // Two resources of one source start together, and "if not exists" does not wait for the other.
        sqlx::query("select pg_advisory_xact_lock(hashtextextended('rosterd schema ' || $1, 0))")
            .bind(table.schema.name())
            .execute(&mut *connection)
            .await
            .map_err(Error::database("waiting to create the schema"))?;
        sqlx::raw_sql(sql::safe(sql::create_schema(&table.schema)))
            .execute(connection)
            .await
            .map_err(Error::database("creating the schema"))?;
    }
    Ok(())
}

/// Says on columns (name and text) what is in them.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn comment_columns(
    connection: &mut PgConnection,
    table: &TableName,
    columns: &[(String, String)],
) -> Result<(), Error> {
    if columns.is_empty() {
        return Ok(());
    }
    sqlx::raw_sql(sql::safe(sql::comment_on_columns(table, columns)))
        .execute(connection)
        .await
        .map_err(Error::database("commenting the columns"))?;
    Ok(())
}

/// Says on the table itself who keeps it.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn comment(
    connection: &mut PgConnection,
    table: &TableName,
    source: &str,
    resource: &str,
) -> Result<(), Error> {
    sqlx::raw_sql(sql::safe(sql::comment_on_table(table, source, resource)))
        .execute(connection)
        .await
        .map_err(Error::database("commenting the table"))?;
    Ok(())
}
