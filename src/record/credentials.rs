//! Credentials that the API replaces, as they lie in the database: sealed.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};

use super::Error;

/// What is kept for one source. Nothing of it can be read without a key of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredCredential {
    pub key_id: Option<String>,
    pub sealed_refresh: Option<Vec<u8>>,
    pub sealed_access: Option<Vec<u8>>,
    pub renew_at: Option<DateTime<Utc>>,
    /// Of the configured first tokens that were taken already.
    pub seed_marks: Vec<Vec<u8>>,
    /// Counts the changes.
    pub generation: i64,
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CredentialLine {
    pub source: String,
    pub account: String,
    /// Whether there is a token.
    pub kept: bool,
    pub key_id: Option<String>,
    pub renewals: i64,
    pub changed_at: DateTime<Utc>,
    pub renew_at: Option<DateTime<Utc>>,
}

/// Reads a source's credential and keeps everyone else from it until the transaction ends. Waits at
/// most `patience` for whoever has it now, and gives the caller as long before the server gives up on it.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn lock_credential(
    conn: &mut PgConnection,
    source: &str,
    account: &str,
    patience: std::time::Duration,
) -> Result<StoredCredential, Error> {
    let patience = format!("{}ms", patience.as_millis());
    sqlx::query(
        "select set_config('statement_timeout', $1, true),
                set_config('lock_timeout', $1, true),
                set_config('idle_in_transaction_session_timeout', $1, true)",
    )
    .bind(patience)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "insert into rosterd.credentials (source, account) values ($1, $2) on conflict do nothing",
    )
    .bind(source)
    .bind(account)
    .execute(&mut *conn)
    .await?;
    let stored = sqlx::query(
        "select key_id, sealed_refresh, sealed_access, renew_at, seed_marks, generation
         from rosterd.credentials where source = $1 and account = $2 for update",
    )
    .bind(source)
    .bind(account)
    .try_map(|row: PgRow| {
        Ok(StoredCredential {
            key_id: row.try_get("key_id")?,
            sealed_refresh: row.try_get("sealed_refresh")?,
            sealed_access: row.try_get("sealed_access")?,
            renew_at: row.try_get("renew_at")?,
            seed_marks: row.try_get("seed_marks")?,
            generation: row.try_get("generation")?,
        })
    })
    .fetch_one(conn)
    .await?;
    Ok(stored)
}

/// Replaces a source's credential, if it is still the one of `stored.generation - 1`. Says whether it was.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn replace_credential(
    conn: &mut PgConnection,
    source: &str,
    account: &str,
    stored: &StoredCredential,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "update rosterd.credentials
         set key_id = $3, sealed_refresh = $4, sealed_access = $5, renew_at = $6, seed_marks = $7,
             generation = $8, changed_at = clock_timestamp()
         where source = $1 and account = $2 and generation = $8 - 1",
    )
    .bind(source)
    .bind(account)
    .bind(&stored.key_id)
    .bind(&stored.sealed_refresh)
    .bind(&stored.sealed_access)
    .bind(stored.renew_at)
    .bind(&stored.seed_marks)
    .bind(stored.generation)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets a source's credential; the configured first token is then taken again.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn forget_credential(pool: &PgPool, source: &str, account: &str) -> Result<bool, Error> {
    let done = sqlx::query("delete from rosterd.credentials where source = $1 and account = $2")
        .bind(source)
        .bind(account)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// All that are kept, without what they are.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn credentials(pool: &PgPool) -> Result<Vec<CredentialLine>, Error> {
    let lines = sqlx::query(
        "select source, account, sealed_refresh is not null as kept, key_id, generation, changed_at, renew_at
         from rosterd.credentials order by source, account",
    )
    .try_map(|row: PgRow| {
        Ok(CredentialLine {
            source: row.try_get("source")?,
            account: row.try_get("account")?,
            kept: row.try_get("kept")?,
            key_id: row.try_get("key_id")?,
            renewals: row.try_get("generation")?,
            changed_at: row.try_get("changed_at")?,
            renew_at: row.try_get("renew_at")?,
        })
    })
    .fetch_all(pool)
    .await?;
    Ok(lines)
}
