//! Rows whose records are gone: what a full walk has seen, what it has not, and the end of the latter.
//!
//! What was seen is remembered as hashes that Postgres makes of the typed key, in the transaction of
//! the batch. Two keys of one hash can only keep a row that should go, never the other way round;
//! and as the walk's generation seeds the hash, not for two walks in a row.

use sqlx::{PgConnection, Row};

use super::{
    Error,
    sql::{self, Ident, Live, TableName},
    write::BinaryArray,
};
use crate::{
    config::source::History,
    shape::{self, Kind},
};

/// The column that says since when a row's record is gone.
pub const DELETED_AT: &str = "_deleted_at";

/// One walk of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    pub resource_id: i64,
    pub generation: i64,
}

/// A table and what tells its rows apart.
#[derive(Debug, Clone)]
pub struct Keyed<'a> {
    pub table: &'a TableName,
    pub key: &'a [(Ident, Kind)],
    pub live: Live<'a>,
    /// A row is asked for only when another one, that was seen, has the same values in these columns.
    pub within: &'a [Ident],
}

/// What a walk's sightings say about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Different keys that were seen.
    pub seen: u64,
    /// Rows that are not marked as deleted.
    pub live: u64,
    /// Of these: not seen.
    pub unseen: u64,
}

/// Remembers that the records of these keys were seen.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn remember(
    connection: &mut PgConnection,
    sighting: Sighting,
    keys: &[Vec<shape::BinaryArray>],
) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    forget(connection, sighting, Forget::Others).await?;
    for key in keys {
        let mut query = sqlx::query(sql::safe(sql::remember_seen(key.len())))
            .persistent(false)
            .bind(sighting.resource_id)
            .bind(sighting.generation);
        for array in key {
            query = query.bind(BinaryArray::of(array));
        }
        query
            .execute(&mut *connection)
            .await
            .map_err(Error::database("remembering what was seen"))?;
    }
    Ok(())
}

/// Which sightings are not needed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forget {
    /// Those of earlier walks.
    Others,
    /// Those of this walk too.
    All,
}

/// Takes sightings away.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn forget(
    connection: &mut PgConnection,
    sighting: Sighting,
    which: Forget,
) -> Result<(), Error> {
    sqlx::query("delete from rosterd.seen where resource_id = $1 and (generation <> $2 or $3)")
        .bind(sighting.resource_id)
        .bind(sighting.generation)
        .bind(which == Forget::All)
        .execute(connection)
        .await
        .map_err(Error::database("forgetting what was seen"))?;
    Ok(())
}

/// Counts the rows that the walk did not see.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn census(
    connection: &mut PgConnection,
    sighting: Sighting,
    rows: &Keyed<'_>,
) -> Result<Census, Error> {
    let row = sqlx::query(sql::safe(sql::census(rows)))
        .persistent(false)
        .bind(sighting.resource_id)
        .bind(sighting.generation)
        .fetch_one(connection)
        .await
        .map_err(Error::database("counting the rows that were not seen"))?;
    let count = |at| u64::try_from(row.get::<i64, _>(at)).unwrap_or_default();
    Ok(Census {
        seen: count(0),
        live: count(1),
        unseen: count(2),
    })
}

/// What becomes of a row whose record is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'a> {
    Deleted,
    /// It stays, and says which run found it gone.
    Marked {
        by_run: i64,
    },
    /// It is no more valid.
    Ended(&'a History),
}

/// Ends the rows that the walk did not see; returns how many.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn sweep(
    connection: &mut PgConnection,
    sighting: Sighting,
    rows: &Keyed<'_>,
    fate: Fate<'_>,
) -> Result<u64, Error> {
    let statement = match fate {
        Fate::Deleted => sql::delete_unseen(rows),
        Fate::Marked { .. } => sql::mark_unseen(rows),
        Fate::Ended(history) => sql::end_unseen(rows, history),
    };
    let mut query = sqlx::query(sql::safe(statement))
        .persistent(false)
        .bind(sighting.resource_id)
        .bind(sighting.generation);
    if let Fate::Marked { by_run } = fate {
        query = query.bind(by_run);
    }
    Ok(query
        .execute(connection)
        .await
        .map_err(Error::database("deleting rows that were not seen"))?
        .rows_affected())
}

/// Keys that a feed of deletions lists: one array per part of the key.
#[derive(Clone)]
pub struct Listed {
    pub keys: Vec<shape::BinaryArray>,
    /// Rows that this run or a later one wrote are newer than the list.
    pub before_run: Option<i64>,
}

impl Listed {
    fn kinds(&self) -> Vec<Kind> {
        self.keys.iter().map(|array| array.element).collect()
    }
}

/// Counts the live rows, and those of them that the lists name.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn count_listed(
    connection: &mut PgConnection,
    rows: &Keyed<'_>,
    lists: &[Listed],
) -> Result<(u64, u64), Error> {
    let counting = || Error::database("counting the rows that are listed as gone");
    let live: i64 = sqlx::query_scalar(sql::safe(sql::count_live(rows)))
        .persistent(false)
        .fetch_one(&mut *connection)
        .await
        .map_err(counting())?;
    let mut named = 0_i64;
    for list in lists {
        let mut query =
            sqlx::query_scalar::<_, i64>(sql::safe(sql::count_listed(rows, &list.kinds())))
                .persistent(false)
                .bind(list.before_run);
        for array in &list.keys {
            query = query.bind(BinaryArray::of(array));
        }
        named += query
            .fetch_one(&mut *connection)
            .await
            .map_err(counting())?;
    }
    let count = |count| u64::try_from(count).unwrap_or_default();
    Ok((count(live), count(named)))
}

/// Ends the rows that a list names; returns how many.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn end_listed(
    connection: &mut PgConnection,
    rows: &Keyed<'_>,
    list: &Listed,
    by_run: Option<i64>,
) -> Result<u64, Error> {
    let statement = match by_run {
        None => sql::delete_listed(rows, &list.kinds()),
        Some(_) => sql::mark_listed(rows, &list.kinds()),
    };
    let mut query = sqlx::query(sql::safe(statement))
        .persistent(false)
        .bind(list.before_run);
    for array in &list.keys {
        query = query.bind(BinaryArray::of(array));
    }
    if let Some(by_run) = by_run {
        query = query.bind(by_run);
    }
    Ok(query
        .execute(connection)
        .await
        .map_err(Error::database("ending rows that are listed as gone"))?
        .rows_affected())
}
