//! Erasing one person: their rows, history and rejects in one transaction, and a mark that keeps the
//! next walk from bringing them back.
//!
//! Nobody may be running the resource meanwhile: a run in progress has read its marks already, and
//! may hold the person in its hands.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use sqlx::{Acquire, PgPool};

use super::{Error, privacy::bound_to};
use crate::{
    config::Resource,
    load::{
        erase,
        sql::TableName,
        table::{self, Found},
    },
    record::{self, Level, NewEvent, Registered},
    shape::{Column, Hasher, identifier, written_key},
};

/// Who is to be erased, and who says so.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The primary key as the API writes it, part by part.
    pub key: &'a [String],
    pub by: &'a str,
    pub reason: Option<&'a str>,
}

/// What was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    pub rows: u64,
    pub rejects: u64,
}

/// Erases a person from a resource. `None`: the resource is being synced, and nothing was done.
///
/// # Errors
///
/// A key that does not fit the resource, no key for hashes, and whatever Postgres says.
pub async fn erase(
    pool: &PgPool,
    lock_timeout: Duration,
    registered: &Registered,
    resource: &Resource,
    request: Request<'_>,
) -> Result<Option<Erased>, Error> {
    let hashers: Vec<Hasher> = resource.privacy.keys.iter().map(Hasher::new).collect();
    let hasher = check(resource, request, &hashers)?;
    let spelled = spellings(request.key);
    let stored = stored(resource, &spelled, &hashers);
    let bound = bound_to(
        &registered.source,
        &registered.account,
        &registered.resource,
    );
    let marks: Vec<record::Mark> = spelled
        .iter()
        .map(|key| (hasher.id().to_owned(), hasher.mark(&bound, key)))
        .collect();
    let name = TableName::new(&identifier(&resource.schema), &identifier(&resource.table));

    let mut connection = pool.acquire().await.map_err(connecting)?;
    let mut transaction = connection.begin().await.map_err(connecting)?;
    if !record::hold_idle(&mut transaction, registered.resource_id).await? {
        transaction.rollback().await.map_err(connecting)?;
        return Ok(None);
    }
    if !record::is_same_key(&mut transaction, hasher.id(), &hasher.check_value()).await? {
        return Err(refused(
            "privacy_key_changed",
            format!(
                "key {} has another secret than when it was first used",
                hasher.id()
            ),
            "Give a new secret a new id, and keep the old one under privacy.former_keys.",
        ));
    }
    table::bound_locks(&mut transaction, lock_timeout).await?;
    let mut rows = 0;
    if let Some(found) = table::inspect(&mut transaction, &name).await? {
        let columns = key_columns(&mut transaction, resource, &name, &found).await?;
        for key in &stored {
            rows += erase::delete_key(&mut transaction, &name, &columns, key).await?;
        }
    }
    let texts: Vec<String> = stored
        .iter()
        .flat_map(|key| [key.join(", "), key.join(",")])
        .collect();
    let rejects = record::erase_rejects(&mut transaction, registered.resource_id, &texts).await?;
    record::forget_superseded(&mut transaction, registered.resource_id).await?;
    record::suppress(&mut transaction, registered.resource_id, &marks).await?;
    let message = format!(
        "{} erased a person: {rows} rows, {rejects} rejects",
        request.by
    );
    let event = NewEvent {
        run_id: None,
        resource_id: Some(registered.resource_id),
        level: Level::Info,
        kind: "erase",
        message: &message,
        data: json!({ "by": request.by, "reason": request.reason, "rows": rows, "rejects": rejects }),
    };
    record::event(&mut transaction, &event).await?;
    transaction.commit().await.map_err(connecting)?;
    Ok(Some(Erased { rows, rejects }))
}

fn refused(code: &'static str, message: String, hint: &'static str) -> Error {
    Error::Privacy {
        code,
        message,
        hint,
    }
}

fn check<'h>(
    resource: &Resource,
    request: Request<'_>,
    hashers: &'h [Hasher],
) -> Result<&'h Hasher, Error> {
    let width = resource.source_key().len();
    if width == 0 {
        return Err(refused(
            "no_primary_key",
            "the resource has no primary_key, so that no row can be told to be one person's"
                .to_owned(),
            "Exclude the person's fields, or reload the table with `write_disposition: replace`.",
        ));
    }
    if request.key.len() != width {
        return Err(refused(
            "key_parts",
            format!(
                "the primary key has {width} parts, and {} were given",
                request.key.len()
            ),
            "Repeat --key for each part, in the order of primary_key.",
        ));
    }
    hashers.first().ok_or_else(|| {
        refused(
            "no_privacy_key",
            "erasing needs a key, under which it is remembered who must not come back".to_owned(),
            "Add `privacy: {key: {id: k1, secret: ${file:...}}}` at the top of the configuration.",
        )
    })
}

/// The key as it was typed, and with its numbers as they are compared: a record's `7.0` is 7.
fn spellings(key: &[String]) -> Vec<Vec<String>> {
    let numbers = key.iter().map(|part| written_key(part)).collect();
    let all: BTreeSet<Vec<String>> = [key.to_vec(), numbers].into();
    all.into_iter().collect()
}

/// The key as it may stand in the table: hashed under any of the keys where the rules say so.
fn stored(resource: &Resource, spelled: &[Vec<String>], hashers: &[Hasher]) -> Vec<Vec<String>> {
    let folds: Vec<Option<bool>> = resource
        .primary_key
        .iter()
        .map(|path| {
            let names = path.keys();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut rules = resource.privacy.hash.iter().rev();
            rules
                .find(|rule| rule.pattern.covers(&names))
                .map(|rule| rule.fold)
        })
        .collect();
    let mut all = BTreeSet::new();
    for key in spelled {
        for hasher in hashers {
            let parts = key.iter().zip(&folds).map(|(part, fold)| match fold {
                Some(fold) => hasher.disguise(part.as_bytes(), *fold),
                None => part.clone(),
            });
            all.insert(parts.collect::<Vec<_>>());
        }
    }
    all.into_iter().collect()
}

/// The key's columns in the table, in the key's order.
async fn key_columns(
    connection: &mut sqlx::PgConnection,
    resource: &Resource,
    name: &TableName,
    found: &Found,
) -> Result<Vec<Column>, Error> {
    let catalogue = record::columns(connection, name.schema.name(), name.table.name()).await?;
    let paths: Vec<(String, Vec<String>)> = catalogue
        .into_iter()
        .map(|column| (column.column_name, column.source_path))
        .collect();
    let known = found.known(name, &paths)?;
    let columns: Option<Vec<Column>> = resource
        .primary_key
        .iter()
        .map(|path| {
            let path = path.keys();
            known.iter().find(|column| column.path == path).cloned()
        })
        .collect();
    columns.ok_or_else(|| {
        refused(
            "no_key_columns",
            format!("table {name} has no columns for the configured primary key"),
            "Sync the resource once, or delete the rows by hand.",
        )
    })
}

fn connecting(error: sqlx::Error) -> Error {
    crate::load::Error::database("connecting")(error).into()
}
