//! Records that could not become rows: kept apart, counted, closed when they load after all.

use sqlx::PgConnection;

use super::{Claim, Error, one_line};

/// One record that could not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReject {
    /// The record's key as text; `None`: it has none. Such records share one row per reason.
    pub key: Option<String>,
    /// `shape` or `load`.
    pub stage: &'static str,
    /// The field or column at fault.
    pub column: Option<String>,
    /// A stable word.
    pub reason: String,
    pub sqlstate: Option<String>,
    /// The record as JSON that `jsonb` takes, where it is to be kept.
    pub record: Option<String>,
}

/// Keys in the table are cut here; a longer one would not fit the index that finds it again.
const LONGEST_KEY: usize = 512;

fn stored_key(key: &str) -> String {
    one_line(key, LONGEST_KEY)
}

/// Keeps rejects: one open row per resource, key and reason, with a count. Returns how many rows that touched.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn reject(
    conn: &mut PgConnection,
    claim: &Claim,
    rejects: &[NewReject],
) -> Result<u64, Error> {
    if rejects.is_empty() {
        return Ok(0);
    }
    let keys: Vec<Option<String>> = rejects
        .iter()
        .map(|r| r.key.as_deref().map(stored_key))
        .collect();
    let stages: Vec<&str> = rejects.iter().map(|r| r.stage).collect();
    let columns: Vec<Option<String>> = rejects
        .iter()
        .map(|r| r.column.as_deref().map(|column| one_line(column, 500)))
        .collect();
    let reasons: Vec<String> = rejects.iter().map(|r| one_line(&r.reason, 200)).collect();
    let records: Vec<Option<&str>> = rejects.iter().map(|r| r.record.as_deref()).collect();
    let sqlstates: Vec<Option<&str>> = rejects.iter().map(|r| r.sqlstate.as_deref()).collect();

    // Grouped first: `on conflict` refuses to meet the same row twice in one statement. In the order of
    // the index, so that two writers never wait for each other crosswise.
    let done = sqlx::query(
        "insert into rosterd.rejects as kept
           (run_id, last_seen_run, resource_id, record_key, reason, stage, column_name, sqlstate, record, seen_count)
         select $1, $1, $2, key, reason, max(stage), max(column_name), max(sqlstate),
                (array_agg(record order by n desc))[1]::jsonb, count(*)
         from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
           with ordinality as new (key, stage, column_name, reason, sqlstate, record, n)
         group by key, reason
         order by key, reason
         on conflict (resource_id, coalesce(record_key, ''), reason) where resolved_at is null do update
            set seen_count = kept.seen_count + excluded.seen_count, last_seen_at = excluded.last_seen_at,
                last_seen_run = excluded.last_seen_run, stage = excluded.stage,
                column_name = excluded.column_name, sqlstate = excluded.sqlstate, record = excluded.record",
    )
    .bind(claim.run_id)
    .bind(claim.resource_id)
    .bind(keys)
    .bind(stages)
    .bind(columns)
    .bind(reasons)
    .bind(sqlstates)
    .bind(records)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Closes the open rejects of records that have loaded now. Returns how many.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn resolve_rejects(
    conn: &mut PgConnection,
    claim: &Claim,
    keys: &[String],
) -> Result<u64, Error> {
    if keys.is_empty() {
        return Ok(0);
    }
    let keys: Vec<String> = keys.iter().map(|key| stored_key(key)).collect();
    let done = sqlx::query(
        "update rosterd.rejects
            set resolved_at = clock_timestamp(), resolution = 'loaded by run ' || $1, record = null
          where resource_id = $2 and resolved_at is null and record_key is not null
            and coalesce(record_key, '') = any($3)",
    )
    .bind(claim.run_id)
    .bind(claim.resource_id)
    .bind(keys)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Closes the open rejects that a walk over everything did not meet: their records are loaded or gone.
/// Returns how many.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn resolve_unmet_rejects(conn: &mut PgConnection, claim: &Claim) -> Result<u64, Error> {
    let done = sqlx::query(
        "update rosterd.rejects
            set resolved_at = clock_timestamp(), resolution = 'not met by run ' || $1 || ', which read everything',
                record = null
          where resource_id = $2 and resolved_at is null and last_seen_run is distinct from $1",
    )
    .bind(claim.run_id)
    .bind(claim.resource_id)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
