//! Records that gave way to later ones of their key in one walk, by hash.

use sqlx::PgConnection;

use super::{Claim, Error, ResourceId};

/// Hashes kept for a resource. Beyond these, records are written although a later one follows.
const MOST: i64 = 10_000;

/// What earlier walks left to be looked at again, in one question: it is asked in every run.
#[derive(Debug, sqlx::FromRow)]
pub struct LeftOver {
    /// How many rejects are open. With none, [`super::resolve_rejects`] need not be asked for each batch.
    pub open_rejects: i64,
    /// Hashes of the records that gave way, as in `_row_hash`.
    pub superseded: Vec<Vec<u8>>,
}

/// What earlier walks of a resource left.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn left_over(
    conn: &mut PgConnection,
    resource_id: ResourceId,
) -> Result<LeftOver, Error> {
    let left = sqlx::query_as(
        "select (select count(*) from rosterd.rejects where resource_id = $1 and resolved_at is null) as open_rejects,
                array(select row_hash from rosterd.superseded where resource_id = $1
                       order by seen_at desc limit $2) as superseded",
    )
    .bind(resource_id)
    .bind(MOST)
    .fetch_one(conn)
    .await?;
    Ok(left)
}

/// Notes records that gave way in this walk.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn note_superseded(
    tx: &mut PgConnection,
    claim: &Claim,
    hashes: &[Vec<u8>],
) -> Result<(), Error> {
    if hashes.is_empty() {
        return Ok(());
    }
    // A walk that sees them each time need not write each time.
    sqlx::query(
        "insert into rosterd.superseded as s (resource_id, row_hash)
         select $1, h from (select distinct unnest($2::bytea[])) as new (h)
          where (select count(*) from rosterd.superseded where resource_id = $1) < $3
             or exists (select from rosterd.superseded where resource_id = $1 and row_hash = h)
         on conflict (resource_id, row_hash) do update set seen_at = excluded.seen_at
          where s.seen_at < excluded.seen_at - interval '1 day'",
    )
    .bind(claim.resource_id)
    .bind(hashes)
    .bind(MOST)
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets all of a resource's. The next walks find them again.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn forget_superseded(
    conn: &mut PgConnection,
    resource_id: ResourceId,
) -> Result<(), Error> {
    sqlx::query("delete from rosterd.superseded where resource_id = $1")
        .bind(resource_id)
        .execute(conn)
        .await?;
    Ok(())
}
