//! What the privacy rules leave behind: keys that were used, erased persons, fields that never arrive.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{Error, ResourceId};

/// An erased person: the name of the key, and the keyed hash that stands for them.
pub type Mark = (String, [u8; 32]);

/// Whether `key_id` stands for the same secret as ever. Its first use is noted.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn is_same_key(
    conn: &mut PgConnection,
    key_id: &str,
    check_value: &[u8],
) -> Result<bool, Error> {
    sqlx::query(
        "insert into rosterd.privacy_keys (key_id, check_value) values ($1, $2) on conflict do nothing",
    )
    .bind(key_id)
    .bind(check_value)
    .execute(&mut *conn)
    .await?;
    let same =
        sqlx::query_scalar("select check_value = $2 from rosterd.privacy_keys where key_id = $1")
            .bind(key_id)
            .bind(check_value)
            .fetch_one(conn)
            .await?;
    Ok(same)
}

/// The erased persons of a resource.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn erased(conn: &mut PgConnection, resource_id: ResourceId) -> Result<Vec<Mark>, Error> {
    let marks = sqlx::query("select key_id, mark from rosterd.suppressions where resource_id = $1")
        .bind(resource_id)
        .try_map(|row: PgRow| {
            let mark: Vec<u8> = row.try_get("mark")?;
            let mark = mark.try_into().map_err(|_| sqlx::Error::RowNotFound)?;
            Ok((row.try_get("key_id")?, mark))
        })
        .fetch_all(conn)
        .await?;
    Ok(marks)
}

/// Keeps persons from being loaded again.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn suppress(
    conn: &mut PgConnection,
    resource_id: ResourceId,
    marks: &[Mark],
) -> Result<(), Error> {
    for (key_id, mark) in marks {
        sqlx::query(
            "insert into rosterd.suppressions (resource_id, mark, key_id) values ($1, $2, $3) on conflict do nothing",
        )
        .bind(resource_id)
        .bind(mark.as_slice())
        .bind(key_id)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Deletes the rejects of an erased person, open and resolved ones. Returns how many.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn erase_rejects(
    conn: &mut PgConnection,
    resource_id: ResourceId,
    keys: &[String],
) -> Result<u64, Error> {
    // Nobody can say whose a record without a key is.
    sqlx::query(
        "update rosterd.rejects set record = null where resource_id = $1 and record_key is null",
    )
    .bind(resource_id)
    .execute(&mut *conn)
    .await?;
    let done =
        sqlx::query("delete from rosterd.rejects where resource_id = $1 and record_key = any($2)")
            .bind(resource_id)
            .bind(keys)
            .execute(conn)
            .await?;
    Ok(done.rows_affected())
}

/// Fields that the configuration keeps out, with their treatment, as they were last written down.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn withheld(
    conn: &mut PgConnection,
    resource_id: ResourceId,
) -> Result<Vec<(String, String)>, Error> {
    let fields = sqlx::query_as(
        "select field, treatment from rosterd.withheld_fields
         where resource_id = $1 and treatment <> 'blocked' order by field collate \"C\"",
    )
    .bind(resource_id)
    .fetch_all(conn)
    .await?;
    Ok(fields)
}

/// Makes the list of fields that the configuration keeps out equal to `fields` (field and treatment).
///
/// # Errors
///
/// [`Error::Database`].
pub async fn set_withheld(
    conn: &mut PgConnection,
    resource_id: ResourceId,
    fields: &[(String, String)],
) -> Result<(), Error> {
    let names: Vec<&str> = fields.iter().map(|(field, _)| field.as_str()).collect();
    let treatments: Vec<&str> = fields
        .iter()
        .map(|(_, treatment)| treatment.as_str())
        .collect();
    sqlx::query(
        "delete from rosterd.withheld_fields
          where resource_id = $1 and treatment <> 'blocked' and field <> all($2)",
    )
    .bind(resource_id)
    .bind(&names)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "insert into rosterd.withheld_fields as w (resource_id, field, treatment)
         select $1, field, treatment from unnest($2::text[], $3::text[]) as new (field, treatment)
         on conflict (resource_id, field) do update set treatment = excluded.treatment, since = now()
          where w.treatment <> excluded.treatment",
    )
    .bind(resource_id)
    .bind(&names)
    .bind(&treatments)
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes fields that were blocked; returns those that were not known yet.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn note_blocked(
    conn: &mut PgConnection,
    resource_id: ResourceId,
    fields: &[String],
) -> Result<Vec<String>, Error> {
    let new = sqlx::query_scalar(
        "insert into rosterd.withheld_fields (resource_id, field, treatment)
         select $1, field, 'blocked' from unnest($2::text[]) as new (field)
         on conflict do nothing returning field",
    )
    .bind(resource_id)
    .bind(fields)
    .fetch_all(conn)
    .await?;
    Ok(new)
}

/// Whether nobody runs the resource now, which then stays so until the transaction's end.
///
/// A worker whose lease is over may only be slow: from now on it cannot write.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn hold_idle(conn: &mut PgConnection, resource_id: ResourceId) -> Result<bool, Error> {
    let idle: Option<bool> = sqlx::query_scalar(
        "select run_id is null or expires_at < clock_timestamp() from rosterd.leases
         where resource_id = $1 for update",
    )
    .bind(resource_id)
    .fetch_optional(&mut *conn)
    .await?;
    if idle == Some(true) {
        sqlx::query("update rosterd.leases set fence = fence + 1 where resource_id = $1 and run_id is not null")
            .bind(resource_id)
            .execute(conn)
            .await?;
    }
    Ok(idle.unwrap_or(true))
}
