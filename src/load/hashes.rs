//! The hashes of a table's rows, read at once.

use futures_util::TryStreamExt as _;
use sqlx::PgConnection;

use super::{Error, sql, write::Target};
use crate::shape::KeySet;

/// What stands before the rows of a binary COPY: signature, flags, length of the extension.
const HEADER: usize = 11 + 4 + 4;

/// What stands before each hash: one field, of 16 bytes.
const ONE_FIELD: [u8; 6] = [0, 1, 0, 0, 0, 16];

/// Reads the hashes of all rows that are neither deleted nor an older version. `None`: there are more than `most`.
///
/// Rows that a wider column may have respelled are left out: they are to be compared.
///
/// # Errors
///
/// Whatever Postgres says.
pub async fn hashes(
    connection: &mut PgConnection,
    target: Target<'_>,
    most: usize,
) -> Result<Option<KeySet>, Error> {
    let failed = || Error::database("reading the hashes of rows");
    // Statistics may be old, but nobody else says so quickly that a table is far too large.
    let estimate: Option<i64> =
        sqlx::query_scalar("select reltuples::bigint from pg_class where oid = $1::text::regclass")
            .bind(target.table.to_string())
            .persistent(false)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed())?;
    if estimate.is_some_and(|rows| rows > most as i64) {
        return Ok(None);
    }
    let statement = sql::copy_hashes(target.table, target.marks, target.history, most + 1);
    let mut messages = connection
        .copy_out_raw(&statement)
        .await
        .map_err(failed())?;
    let mut hashes = KeySet::default();
    // To the end also where it is too much: what is left unread would be in the way of the next answer.
    while let Some(message) = messages.try_next().await.map_err(failed())? {
        hashes.extend(hashes_in(&message));
    }
    Ok((hashes.len() <= most).then_some(hashes))
}

/// The hashes in one message of a binary COPY. Postgres sends whole rows, the first behind the header.
fn hashes_in(message: &[u8]) -> impl Iterator<Item = u128> {
    let rows = match message.starts_with(b"PGCOPY") {
        true => message.get(HEADER..).unwrap_or_default(),
        false => message,
    };
    rows.chunks_exact(ONE_FIELD.len() + 16).filter_map(|row| {
        let hash = row.strip_prefix(&ONE_FIELD)?;
        Some(u128::from_be_bytes(hash.try_into().ok()?))
    })
}
