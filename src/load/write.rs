//! One batch into its table: straight COPY for rows that are new, staging and a merge for the rest.
//!
//! Which way a row goes is a guess made before the transaction (see [`probe`]): when the table turns
//! out to have a "new" key after all, the COPY is rolled back to its savepoint and the same rows
//! take the merge. Only what differs is written; equal rows get no new version.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use sqlx::{
    PgConnection, Postgres, Row,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, types::Oid},
};

use super::{
    Error,
    sql::{self, Guard, Ident, TableName},
    table,
};
use crate::{
    config::source::{History, Strategy, Version},
    failpoint,
    shape::{self, BYTEA_ARRAY_OID, ChildRows, Kind, Layout, Probe, RowKeys},
};

/// A table that rows are written to, and how.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub table: &'a TableName,
    /// Whether it has `_deleted_at`, so that a row that is written is no more deleted.
    pub marks: bool,
    /// What becomes of a row whose key is there.
    pub strategy: Strategy,
    /// What keeps a row from being replaced by an older one.
    pub version: Option<&'a Version>,
    /// How versions of a row are kept, where they are.
    pub history: Option<&'a History>,
    /// Whether rows of records that are gone are deleted, and not only marked.
    pub hard: bool,
}

impl Target<'_> {
    /// The column of the version, if its values have an order.
    fn guard(&self, layout: &Layout) -> Option<Guard> {
        let version = self.version?;
        let path = version.path().keys();
        let column = layout.columns.iter().find(|column| column.path == path)?;
        Guard::new(column, version.lowest)
    }
}

/// How rows are expected to meet the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// No row with the same key is there.
    Insert,
    /// A row with the same key may be there.
    Merge,
    /// The records are gone, and so are to be the rows with their keys.
    Delete,
}

/// Rows of one layout, encoded as binary COPY tuples.
#[derive(Debug, Clone)]
pub struct Segment {
    pub layout: Arc<Layout>,
    /// Whether the table has the layout's key; not so where rows are only appended.
    pub keyed: bool,
    pub way: Way,
    pub data: Vec<u8>,
    /// One range of `data` per row.
    pub tuples: Vec<Range<u32>>,
    /// Rows of the lists' tables.
    pub children: Vec<ChildRows>,
    /// Ids and hashes of the rows, where lists have tables.
    pub roots: Vec<(String, [u8; 16])>,
    /// Where in `keys` the key of each row stands.
    pub rows: Vec<u32>,
    /// For telling a refused row's name.
    pub keys: RowKeys,
    /// The records, where those of refused rows are to be kept.
    pub records: Option<Records>,
}

/// The records that rows were made of.
#[derive(Clone)]
pub struct Records {
    pub body: Bytes,
    /// One range of `body` per row.
    pub ranges: Vec<Range<u32>>,
}

impl std::fmt::Debug for Records {
    /// Their number: the rest is people's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} records]", self.ranges.len())
    }
}

/// What a batch did to its table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    pub inserted: u64,
    pub updated: u64,
    /// Rows whose records say that they are gone, deleted or marked.
    pub deleted: u64,
    /// Staged rows that were equal to the table's after all, or gave way to them.
    pub unchanged: u64,
    /// Staged rows that gave way to a later version in the table.
    pub behind: u64,
    /// Hashes of rows that this run wrote and that gave way to a staged one.
    pub superseded: Vec<Vec<u8>>,
    /// Ids of rows that gave way to the table's, where lists have tables: so do their lists.
    pub kept: Vec<String>,
    pub refused: Vec<Refused>,
}

/// A row that the table itself refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The row's key as text, as in the rejects of `shape`.
    pub key: Option<String>,
    pub sqlstate: String,
    /// The record, where it is to be kept; JSON that `jsonb` takes.
    pub record: Option<String>,
    /// The row's id, where lists have tables: its lists must stay as the table has them.
    pub root: Option<String>,
}

/// What a probed row is to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    New,
    Changed,
    Unchanged,
    /// The table has it, marked as deleted.
    Marked,
    /// Its record says that it is gone, and the table may have it.
    Gone,
}

/// Asks the table, by key and hash, which of a page's rows it does not have as they are.
///
/// Returns one standing per probed row.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn probe(
    connection: &mut PgConnection,
    target: Target<'_>,
    key: &[(Ident, Kind)],
    probe: &Probe,
    rows: usize,
) -> Result<Vec<Standing>, Error> {
    let compares = target.strategy != Strategy::InsertOnly;
    let statement = sql::safe(sql::probe(
        target.table,
        key,
        target.marks,
        compares,
        target.history,
    ));
    let mut query = sqlx::query(statement).persistent(false);
    for array in &probe.key_arrays {
        query = query.bind(BinaryArray::of(array));
    }
    query = query.bind(BinaryArray {
        array_oid: BYTEA_ARRAY_OID,
        bytes: &probe.hashes.bytes,
    });
    let found = query
        .fetch_all(connection)
        .await
        .map_err(Error::database("looking for unchanged rows"))?;
    let mut standings = vec![Standing::Unchanged; rows];
    for row in found {
        let at = usize::try_from(row.get::<i64, _>(0) - 1).unwrap_or(usize::MAX);
        if let Some(standing) = standings.get_mut(at) {
            *standing = match (row.get(1), row.get(2)) {
                (true, _) => Standing::New,
                (false, true) => Standing::Marked,
                (false, false) => Standing::Changed,
            };
        }
    }
    Ok(standings)
}

/// An array that `shape` has already put into Postgres' wire format.
pub(super) struct BinaryArray<'a> {
    array_oid: u32,
    bytes: &'a [u8],
}

impl<'a> BinaryArray<'a> {
    pub(super) fn of(array: &'a shape::BinaryArray) -> Self {
        Self {
            array_oid: array.element.array_oid(),
            bytes: &array.bytes,
        }
    }
}

impl sqlx::Type<Postgres> for BinaryArray<'_> {
    fn type_info() -> PgTypeInfo {
        // Only asked where there is no value; `produces` says the true type.
        PgTypeInfo::with_oid(Oid(BYTEA_ARRAY_OID))
    }
}

impl sqlx::Encode<'_, Postgres> for BinaryArray<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.array_oid)))
    }

    fn size_hint(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes a batch inside the caller's transaction.
///
/// No key may stand twice in `segments`. Rows that the table refuses for their content are left
/// out one by one and returned.
///
/// # Errors
///
/// Whatever Postgres says that is no single row's fault; the transaction must be rolled back then.
pub async fn write(
    connection: &mut PgConnection,
    target: Target<'_>,
    segments: &[Segment],
) -> Result<Written, Error> {
    let mut written = Written::default();
    let mut rest: Vec<&Segment> = segments.iter().filter(|s| !s.tuples.is_empty()).collect();
    while let Some(first) = rest.first().copied() {
        let (group, others): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|s| s.layout.revision == first.layout.revision && s.way == first.way);
        rest = others;
        let rows: Vec<Rows<'_>> = group
            .iter()
            .map(|s| Rows {
                segment: s,
                tuples: &s.tuples,
            })
            .collect();
        write_rows(connection, target, first, rows, &mut written).await?;
    }
    Ok(written)
}

/// Deletes the rows that some runs wrote; returns how many of each.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn take_back(
    connection: &mut PgConnection,
    table: &TableName,
    runs: &[i64],
) -> Result<Vec<(i64, i64)>, Error> {
    sqlx::query_as(sql::safe(sql::delete_of_runs(table)))
        .bind(runs)
        .persistent(false)
        .fetch_all(connection)
        .await
        .map_err(Error::database("taking back a repeated walk's rows"))
}

/// A run of rows of one segment.
#[derive(Clone, Copy)]
struct Rows<'a> {
    segment: &'a Segment,
    tuples: &'a [Range<u32>],
}

impl<'a> Rows<'a> {
    /// The tuples' bytes; tuples of one segment stand next to each other.
    fn bytes(&self) -> &'a [u8] {
        let start = self.tuples.first().map_or(0, |range| range.start) as usize;
        let end = self.tuples.last().map_or(0, |range| range.end) as usize;
        self.segment.data.get(start..end).unwrap_or_default()
    }
}

impl Rows<'_> {
    /// The first row's record, where it is to be kept.
    fn record(&self) -> Option<String> {
        let records = self.segment.records.as_ref()?;
        let first = self.tuples.first()?;
        let at = self
            .segment
            .tuples
            .iter()
            .position(|range| range == first)?;
        let range = records.ranges.get(at)?;
        shape::kept(records.body.get(range.start as usize..range.end as usize)?)
    }

    /// Id of the first row, where lists have tables.
    fn root(&self) -> Option<String> {
        let first = self.tuples.first()?;
        let at = self
            .segment
            .tuples
            .iter()
            .position(|range| range.start == first.start)?;
        self.segment.roots.get(at).map(|(id, _)| id.clone())
    }
}

/// Writes rows of one layout, halving them around any row that the table refuses.
async fn write_rows<'a>(
    connection: &mut PgConnection,
    target: Target<'_>,
    like: &'a Segment,
    rows: Vec<Rows<'a>>,
    written: &mut Written,
) -> Result<(), Error> {
    let mut work = vec![(rows, like.way)];
    while let Some((rows, way)) = work.pop() {
        savepoint(connection, "savepoint rosterd_rows").await?;
        let result = match way {
            // Versions need columns that no COPY brings; parts of rows bring one that no table has.
            Way::Insert if target.history.is_some() || like.layout.partial => {
                merge(connection, target, like, &rows).await
            }
            Way::Insert => insert(connection, target.table, like, &rows).await,
            Way::Merge => merge(connection, target, like, &rows).await,
            Way::Delete => delete(connection, target, like, &rows).await,
        };
        match result {
            Ok(part) => {
                savepoint(connection, "release savepoint rosterd_rows").await?;
                written.inserted += part.inserted;
                written.updated += part.updated;
                written.deleted += part.deleted;
                written.unchanged += part.unchanged;
                written.behind += part.behind;
                written.superseded.extend(part.superseded);
                written.kept.extend(part.kept);
            }
            Err(error) if error.blames_a_row() => {
                savepoint(connection, "rollback to savepoint rosterd_rows").await?;
                savepoint(connection, "release savepoint rosterd_rows").await?;
                if way == Way::Insert && like.keyed && error.sqlstate() == Some("23505") {
                    work.push((rows, Way::Merge));
                } else if let Some((left, right)) = halve(&rows) {
                    work.push((right, way));
                    work.push((left, way));
                } else {
                    let row = rows.first();
                    written.refused.push(Refused {
                        key: row.and_then(key_text),
                        record: row.and_then(Rows::record),
                        root: row.and_then(Rows::root),
                        sqlstate: error.sqlstate().unwrap_or_default().to_owned(),
                    });
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn savepoint(connection: &mut PgConnection, statement: &'static str) -> Result<(), Error> {
    sqlx::raw_sql(statement)
        .execute(connection)
        .await
        .map_err(Error::database("setting a savepoint"))?;
    Ok(())
}

/// Splits the rows in two halves; `None` when there is one row only.
fn halve<'a>(rows: &[Rows<'a>]) -> Option<(Vec<Rows<'a>>, Vec<Rows<'a>>)> {
    let total: usize = rows.iter().map(|r| r.tuples.len()).sum();
    let mut left_over = (total / 2 > 0).then_some(total / 2)?;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for run in rows {
        let (a, b) = run.tuples.split_at(left_over.min(run.tuples.len()));
        left_over -= a.len();
        if !a.is_empty() {
            left.push(Rows {
                segment: run.segment,
                tuples: a,
            });
        }
        if !b.is_empty() {
            right.push(Rows {
                segment: run.segment,
                tuples: b,
            });
        }
    }
    Some((left, right))
}

async fn insert(
    connection: &mut PgConnection,
    table: &TableName,
    like: &Segment,
    rows: &[Rows<'_>],
) -> Result<Written, Error> {
    let inserted = copy(
        connection,
        &sql::copy_into(table, &like.layout.columns),
        rows,
    )
    .await?;
    Ok(Written {
        inserted,
        ..Written::default()
    })
}

async fn merge(
    connection: &mut PgConnection,
    target: Target<'_>,
    like: &Segment,
    rows: &[Rows<'_>],
) -> Result<Written, Error> {
    let table = target.table;
    let key = table::key_idents(&like.layout);
    let guard = target.guard(&like.layout);
    sqlx::raw_sql(sql::safe(sql::create_stage(
        &like.layout.columns,
        like.layout.partial,
    )))
    .execute(&mut *connection)
    .await
    .map_err(Error::database("creating the staging table"))?;
    let staged = copy(
        connection,
        &sql::copy_into_stage(&like.layout.columns, like.layout.partial),
        rows,
    )
    .await?;
    let behind = count_behind(connection, target, &key, guard.as_ref()).await?;
    let superseded = superseded(connection, target, &like.layout, &key, guard.as_ref()).await?;
    if let Some(history) = target.history {
        let guard = guard.as_ref();
        let written =
            super::scd2::merge(connection, table, &like.layout, history, guard, staged).await?;
        refresh_hashes(connection, target, &key, guard).await?;
        drop_stage(connection).await?;
        return Ok(Written {
            behind,
            superseded,
            ..written
        });
    }
    let mut kept = Vec::new();
    let may_keep = guard.is_some() || target.strategy == Strategy::InsertOnly;
    if may_keep && !like.layout.children.is_empty() {
        let guard = guard
            .as_ref()
            .filter(|_| target.strategy == Strategy::Upsert);
        kept = sqlx::query_scalar(sql::safe(sql::roots_kept(table, &key, target.marks, guard)))
            .persistent(false)
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::database("looking for rows to keep"))?;
    }
    let updated = match target.strategy {
        Strategy::InsertOnly | Strategy::History => 0,
        Strategy::Upsert => {
            let columns = &like.layout.columns;
            let update = sql::update_changed(
                table,
                columns,
                like.layout.partial,
                &key,
                target.marks,
                guard.as_ref(),
            );
            sqlx::query(sql::safe(update))
                .persistent(false)
                .execute(&mut *connection)
                .await
                .map_err(Error::database("updating rows"))?
                .rows_affected()
        }
    };
    if target.strategy == Strategy::Upsert {
        refresh_hashes(connection, target, &key, guard.as_ref()).await?;
    }
    let inserted = sqlx::query(sql::safe(sql::insert_missing(
        table,
        &like.layout.columns,
        &key,
    )))
    .persistent(false)
    .execute(&mut *connection)
    .await
    .map_err(Error::database("inserting rows"))?
    .rows_affected();
    drop_stage(connection).await?;
    Ok(Written {
        inserted,
        updated,
        unchanged: staged.saturating_sub(updated + inserted),
        behind,
        superseded,
        kept,
        ..Written::default()
    })
}

/// Counts the staged rows that give way to a later version in the table.
async fn count_behind(
    connection: &mut PgConnection,
    target: Target<'_>,
    key: &[Ident],
    guard: Option<&Guard>,
) -> Result<u64, Error> {
    let Some(guard) = guard.filter(|_| target.strategy != Strategy::InsertOnly) else {
        return Ok(0);
    };
    let statement = sql::count_behind(target.table, key, target.marks, guard, target.history);
    let count: i64 = sqlx::query_scalar(sql::safe(statement))
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(Error::database("counting rows of older versions"))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Hashes of the rows of this run that give way to the staged ones. Parts of records only add to each other.
async fn superseded(
    connection: &mut PgConnection,
    target: Target<'_>,
    layout: &Layout,
    key: &[Ident],
    guard: Option<&Guard>,
) -> Result<Vec<Vec<u8>>, Error> {
    if target.strategy == Strategy::InsertOnly || layout.partial {
        return Ok(Vec::new());
    }
    let statement = sql::superseded(target.table, key, guard, target.history);
    sqlx::query_scalar(sql::safe(statement))
        .persistent(false)
        .fetch_all(connection)
        .await
        .map_err(Error::database("looking for rows of the same walk"))
}

/// Lets rows that another mapping wrote count as this one's, where nothing else of them differs.
async fn refresh_hashes(
    connection: &mut PgConnection,
    target: Target<'_>,
    key: &[Ident],
    guard: Option<&Guard>,
) -> Result<(), Error> {
    let statement = sql::refresh_hashes(target.table, key, guard, target.history);
    sqlx::query(sql::safe(statement))
        .persistent(false)
        .execute(connection)
        .await
        .map_err(Error::database("refreshing the hashes of rows"))?;
    Ok(())
}

async fn drop_stage(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::raw_sql(sql::drop_stage())
        .execute(connection)
        .await
        .map_err(Error::database("dropping the staging table"))?;
    Ok(())
}

/// Ends the rows that have the keys of these, where they have no later version.
async fn delete(
    connection: &mut PgConnection,
    target: Target<'_>,
    like: &Segment,
    rows: &[Rows<'_>],
) -> Result<Written, Error> {
    let columns = &like.layout.columns;
    let key = table::key_idents(&like.layout);
    let guard = target.guard(&like.layout);
    sqlx::raw_sql(sql::safe(sql::create_stage(columns, like.layout.partial)))
        .execute(&mut *connection)
        .await
        .map_err(Error::database("creating the staging table"))?;
    let staged = copy(
        connection,
        &sql::copy_into_stage(columns, like.layout.partial),
        rows,
    )
    .await?;
    let guard = guard.as_ref();
    let behind = count_behind(connection, target, &key, guard).await?;
    let superseded = superseded(connection, target, &like.layout, &key, guard).await?;
    let statement = match (target.history, target.hard) {
        (Some(history), _) => sql::end_staged(target.table, &key, history, guard),
        (None, true) => sql::delete_staged(target.table, &key, guard),
        (None, false) => sql::mark_staged(target.table, &key, guard),
    };
    let deleted = sqlx::query(sql::safe(statement))
        .persistent(false)
        .execute(&mut *connection)
        .await
        .map_err(Error::database("deleting rows whose records are gone"))?
        .rows_affected();
    drop_stage(connection).await?;
    Ok(Written {
        deleted,
        unchanged: staged.saturating_sub(deleted),
        behind,
        superseded,
        ..Written::default()
    })
}

/// Signature, flags and length of the header extension of Postgres' binary COPY.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The driver copies what it is given into a buffer that it keeps; small pieces keep that small,
/// and let Postgres begin with the first while the second is copied.
const COPY_PIECE: usize = 64 << 10;
/// A field count of -1 ends the data.
const COPY_TRAILER: &[u8] = &[0xff, 0xff];

/// Streams the rows' tuples into the statement; returns how many rows Postgres took.
async fn copy(
    connection: &mut PgConnection,
    statement: &str,
    rows: &[Rows<'_>],
) -> Result<u64, Error> {
    let tuples: Vec<&[u8]> = rows.iter().map(Rows::bytes).collect();
    copy_tuples(connection, statement, &tuples).await
}

/// [`copy`], of tuples as they are.
pub(super) async fn copy_tuples(
    connection: &mut PgConnection,
    statement: &str,
    tuples: &[&[u8]],
) -> Result<u64, Error> {
    let failed = || Error::database("copying rows");
    let mut sink = connection.copy_in_raw(statement).await.map_err(failed())?;
    sink.send(COPY_HEADER).await.map_err(failed())?;
    for tuples in tuples {
        for piece in tuples.chunks(COPY_PIECE) {
            sink.send(piece).await.map_err(failed())?;
        }
    }
    sink.send(COPY_TRAILER).await.map_err(failed())?;
    let copied = sink.finish().await.map_err(failed())?;
    failpoint::reach("load.after_copy");
    Ok(copied)
}

/// The key of the first of these rows as text.
fn key_text(rows: &Rows<'_>) -> Option<String> {
    let first = rows.tuples.first()?;
    let place = rows.segment.tuples.iter().position(|t| t == first)?;
    let row = usize::try_from(*rows.segment.rows.get(place)?).ok()?;
    rows.segment.keys.text(row)
}
