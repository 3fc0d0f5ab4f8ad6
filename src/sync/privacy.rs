//! The privacy rules of one run: what must hold before the first page, and what the pages showed.
//!
//! Before the first request the catalogue is made true, values that a rule no longer allows are
//! taken out of the table, and rows past their time are deleted; so all this happens on runs
//! that fail later, too.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Acquire, PgPool};
use tracing::info;

use super::{
    Error,
    commit::{Opened, Store},
};
use crate::{
    clock,
    config::{Resource, Source, endpoint::DottedPath, privacy::Privacy},
    load::{children, erase, sql::TableName, table},
    record::{self, CatalogColumn, Counters, Level, Mark, NewEvent},
    shape::{
        AS_IS, Column, ELEMENT, Hasher, Kind, ROW_ID, Screen, ScreenSpec, Screened, treatment,
    },
};

/// Makes the table, the catalogue and the keys fit the rules; gives the screen for the run's pages.
pub(super) async fn prepare(opened: &Opened) -> Result<Option<Screen>, Error> {
    let store = &*opened.store;
    let (resource, resource_id) = (&store.context.resource, store.claim.resource_id);
    let mut connection = store.acquire().await?;
    let marks = record::erased(&mut connection, resource_id).await?;
    drop(connection);

    check_keys(store, &marks).await?;
    let placed = placed(store, opened);
    let catalogue = record::columns_of(&mut *store.acquire().await?, resource_id).await?;
    let changed = tighten(store, &placed, &catalogue, opened.has_rows).await?;
    write_down(store, &changed).await?;
    if let Some((field, before)) = expired(resource) {
        let path = field.keys();
        if let Some(column) = opened.columns.iter().find(|column| column.path == path) {
            purge(store, column, before).await?;
        }
    }
    let bound = bound_to(&store.claim.source, &store.claim.account, &resource.name);
    Ok(Screen::new(ScreenSpec {
        cursor_path: resource
            .endpoint
            .incremental
            .as_ref()
            .and_then(|incremental| incremental.cursor_path.clone()),
        ..spec(resource, bound, marks, catalogue)
    }))
}

/// What keeps records and fields of a resource out.
fn spec(
    resource: &Resource,
    bound: String,
    erased: Vec<Mark>,
    catalogue: Vec<CatalogColumn>,
) -> ScreenSpec {
    ScreenSpec {
        privacy: resource.privacy.clone(),
        resource: bound,
        primary_key: resource.source_key().to_vec(),
        erased,
        expired: expired(resource),
        known: known_fields(catalogue),
        ..ScreenSpec::default()
    }
}

/// The field that says how old a record is, and the time before which it is too old.
fn expired(resource: &Resource) -> Option<(DottedPath, DateTime<Utc>)> {
    let retention = resource.retention.as_ref()?;
    let age = TimeDelta::from_std(retention.delete_after).unwrap_or_default();
    Some((retention.field.clone(), clock::now() - age))
}

/// The fields that have columns; none: nothing is loaded yet, and each field is known.
fn known_fields(catalogue: Vec<CatalogColumn>) -> Option<Vec<Vec<String>>> {
    let known: Vec<Vec<String>> = catalogue
        .into_iter()
        // Where an id stands is the list itself, of whose elements the other columns tell.
        .filter(|column| column.column_name != ROW_ID)
        .map(|column| column.source_path)
        .filter(|path| !path.is_empty())
        .collect();
    (!known.is_empty()).then_some(known)
}

/// The rules of a parent, whose records only lead to those of its children.
pub(super) fn screen_of_parent(resource: &Resource) -> Option<Screen> {
    Screen::new(ScreenSpec {
        privacy: resource.privacy.clone(),
        primary_key: resource.source_key().to_vec(),
        ..ScreenSpec::default()
    })
}

/// The rules of a resource for a look at its records, beside the columns that it has: as in a run, but for
/// the cursor's field, which nobody follows here.
pub(super) async fn screen_to_look(
    source: &Source,
    resource: &Resource,
    pool: &PgPool,
    catalogue: Vec<CatalogColumn>,
) -> Result<Option<Screen>, Error> {
    let (name, account) = (&source.name, &source.account);
    let marks = match record::find(pool, name, account, &resource.name).await? {
        Some(found) => {
            let mut connection = pool
                .acquire()
                .await
                .map_err(crate::load::Error::database("connecting"))?;
            record::erased(&mut connection, found.resource_id).await?
        }
        None => Vec::new(),
    };
    let bound = bound_to(name, account, &resource.name);
    Ok(Screen::new(spec(resource, bound, marks, catalogue)))
}

/// What the marks of erased persons are bound to.
#[must_use]
pub fn bound_to(source: &str, account: &str, resource: &str) -> String {
    format!("{source}/{account}/{resource}")
}

/// A column of one of the resource's tables, and where in the records its values stand.
struct Placed<'a> {
    table: TableName,
    path: Vec<String>,
    column: &'a Column,
}

fn placed<'a>(store: &Store, opened: &'a Opened) -> Vec<Placed<'a>> {
    let root = opened.columns.iter().map(|column| Placed {
        table: store.table.clone(),
        path: column.path.clone(),
        column,
    });
    let lists = opened.families.iter().flat_map(|family| {
        let columns = family.layout.columns.iter();
        columns
            .filter(|column| !column.path.is_empty())
            .map(|column| Placed {
                table: children::table_name(&store.table, family),
                path: (family.path.iter().cloned())
                    .chain([ELEMENT.to_owned()])
                    .chain(column.path.iter().cloned())
                    .collect(),
                column,
            })
    });
    root.chain(lists).collect()
}

/// A path as rules name it: through a list as if its elements stood in its place.
fn without_elements(path: &[String]) -> Vec<String> {
    path.iter()
        .filter(|part| *part != ELEMENT)
        .cloned()
        .collect()
}

/// How the values at a path of the records are treated, in the catalogue's words.
pub(super) fn treatment_of(privacy: &Privacy, path: &[String], kind: Kind) -> String {
    let path = without_elements(path);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if path.is_empty() {
        return AS_IS.to_owned();
    }
    treatment(privacy, &path, kind == Kind::Jsonb)
}

/// What stands on the column itself.
pub(super) fn comment_of(name: &str, path: &[String], treatment: &str) -> (String, String) {
    let from = match path.is_empty() {
        true => "Fields for which there was no column".to_owned(),
        false => format!("Field {} of the API", path.join(".")),
    };
    (name.to_owned(), format!("{from}; {treatment}."))
}

fn refused(code: &'static str, message: String, hint: &'static str) -> Error {
    Error::Privacy {
        code,
        message,
        hint,
    }
}

/// Every key in use is known and has the secret that it always had.
async fn check_keys(store: &Store, marks: &[Mark]) -> Result<(), Error> {
    let privacy = &store.context.resource.privacy;
    let unknown = marks
        .iter()
        .find(|(id, _)| !privacy.keys.iter().any(|key| key.id == *id));
    if let Some((id, _)) = unknown {
        return Err(refused(
            "privacy_key_missing",
            format!("persons were erased under key {id}, which the configuration no longer has"),
            "Put the key back, under privacy.former_keys: without it the erased persons would be loaded again.",
        ));
    }
    if privacy.hash.is_empty() && marks.is_empty() {
        return Ok(());
    }
    let mut connection = store.acquire().await?;
    for key in &privacy.keys {
        let check = Hasher::new(key).check_value();
        if !record::is_same_key(&mut connection, &key.id, &check).await? {
            return Err(refused(
                "privacy_key_changed",
                format!(
                    "key {} has another secret than when it was first used",
                    key.id
                ),
                "Give a new secret a new id, and keep the old one under privacy.former_keys.",
            ));
        }
    }
    Ok(())
}

/// Empties columns that hold more than the rules now allow; gives those whose treatment changed.
async fn tighten<'a>(
    store: &Store,
    columns: &'a [Placed<'a>],
    catalogue: &[CatalogColumn],
    has_rows: bool,
) -> Result<Vec<(&'a Placed<'a>, String)>, Error> {
    let resource = &store.context.resource;
    let privacy = &resource.privacy;
    let keys: Vec<Vec<String>> = resource.primary_key.iter().map(DottedPath::keys).collect();
    let mut changed: Vec<(&Placed<'_>, String)> = Vec::new();
    for placed in columns {
        let column = placed.column;
        let Some(known) = catalogue
            .iter()
            .find(|c| c.column_name == column.name && c.table_name == placed.table.table.name())
        else {
            continue;
        };
        let now = treatment_of(privacy, &placed.path, column.kind);
        if now == known.treatment {
            continue;
        }
        if keys.contains(&placed.path) && has_rows {
            return Err(refused(
                "key_treatment_changed",
                format!(
                    "the key column {} holds values {}, and would now get them {now}",
                    column.name, known.treatment
                ),
                "Old rows would stay beside the new ones: truncate the table and run `rosterd reset`, or give the resource another table_name.",
            ));
        }
        // Hashes under a former key are as good as ever; what stands there as it came is not.
        let holds_more = matches!(known.treatment.as_str(), AS_IS | "in part");
        if holds_more && now != AS_IS {
            loop {
                let mut connection = store.acquire().await?;
                let mut transaction = connection.begin().await.map_err(connecting)?;
                let bite =
                    erase::empty_column(&mut transaction, &placed.table, &column.name).await?;
                store.fence(&mut transaction).await?;
                transaction.commit().await.map_err(connecting)?;
                if bite < erase::BITE {
                    break;
                }
            }
        }
        changed.push((placed, now));
    }

    Ok(changed)
}

/// Makes the catalogue say what the rules do.
async fn write_down(store: &Store, changed: &[(&Placed<'_>, String)]) -> Result<(), Error> {
    let privacy = &store.context.resource.privacy;
    let mut withheld: Vec<(String, String)> = Vec::new();
    for pattern in &privacy.exclude {
        withheld.push((pattern.to_string(), "excluded".to_owned()));
    }
    if !privacy.only.is_empty() {
        withheld.push(("**".to_owned(), "not listed".to_owned()));
    }
    withheld.sort_unstable();
    withheld.dedup_by(|a, b| a.0 == b.0);

    let mut connection = store.acquire().await?;
    let before = record::withheld(&mut connection, store.claim.resource_id).await?;
    if changed.is_empty() && before == withheld {
        return Ok(());
    }
    let mut transaction = connection.begin().await.map_err(connecting)?;
    record::set_withheld(&mut transaction, store.claim.resource_id, &withheld).await?;
    if !changed.is_empty() {
        table::bound_locks(&mut transaction, store.context.lock_timeout).await?;
        let entries: Vec<CatalogColumn> = changed
            .iter()
            .map(|(placed, _)| store.catalogue_entry(&placed.table, &placed.path, placed.column))
            .collect();
        record::save_columns(&mut transaction, &store.claim, &entries).await?;
        for (placed, now) in changed {
            let comment = comment_of(&placed.column.name, &placed.path, now);
            table::comment_columns(&mut transaction, &placed.table, &[comment]).await?;
        }
        let names: Vec<_> = changed
            .iter()
            .map(|(placed, now)| {
                let (table, column) = (placed.table.table.name(), &placed.column.name);
                serde_json::json!({ "table": table, "column": column, "treatment": now })
            })
            .collect();
        let message = format!(
            "the privacy rules changed for {} columns; rows that are not read again keep what they were given, `rosterd sync --full` reads all",
            changed.len()
        );
        store
            .tell(
                &mut transaction,
                Level::Warn,
                "privacy_changed",
                &message,
                serde_json::json!({ "columns": names }),
            )
            .await?;
        info!(columns = changed.len(), "the privacy rules changed");
    }
    store.fence(&mut transaction).await?;
    transaction.commit().await.map_err(connecting)?;
    Ok(())
}

/// Deletes rows past their time, bite by bite.
async fn purge(store: &Store, column: &Column, before: DateTime<Utc>) -> Result<(), Error> {
    loop {
        let mut connection = store.acquire().await?;
        let mut transaction = connection.begin().await.map_err(connecting)?;
        let deleted = erase::delete_expired(&mut transaction, &store.table, column, before).await?;
        let Some(deleted) = deleted else {
            return Err(refused(
                "retention_column",
                format!(
                    "the age of rows cannot be told by column {}, which has type {}",
                    column.name,
                    column.kind.sql()
                ),
                "Name a field under retention.column whose values are ISO dates or RFC 3339 times.",
            ));
        };
        let counters = Counters {
            rows_deleted: i64::try_from(deleted).unwrap_or(i64::MAX),
            ..Counters::default()
        };
        record::add_counters(&mut transaction, &store.claim, &counters).await?;
        store.fence(&mut transaction).await?;
        transaction.commit().await.map_err(connecting)?;
        store.gauge.add(&counters);
        if deleted < erase::BITE {
            return Ok(());
        }
    }
}

/// What the screen left out, told once per run.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    erased: u64,
    expired: u64,
    unreadable_dates: u64,
}

impl LeftOut {
    pub(super) fn count(&mut self, page: &Screened) {
        self.erased += page.erased;
        self.expired += page.expired;
        self.unreadable_dates += page.unreadable_dates;
    }

    /// Writes what was left out into the events of the run.
    pub(super) async fn tell(&self, store: &Store) -> Result<(), Error> {
        let lines = [
            (
                self.erased,
                "erased_left_out",
                "records of erased persons were left out",
            ),
            (
                self.expired,
                "expired_left_out",
                "records past their retention were left out",
            ),
            (
                self.unreadable_dates,
                "year_unknown",
                "values of which the year was to be kept are no ISO dates, and became null",
            ),
        ];
        for (count, kind, what) in lines.into_iter().filter(|(count, ..)| *count > 0) {
            let mut connection = store.acquire().await?;
            let data = serde_json::json!({ "records": count });
            store
                .tell(
                    &mut connection,
                    Level::Info,
                    kind,
                    &format!("{count} {what}"),
                    data,
                )
                .await?;
        }
        Ok(())
    }
}

/// Writes down fields that were blocked, and tells the operator of those that are met for the first time.
pub(super) async fn tell_blocked(store: &Store, fields: &[String]) -> Result<(), Error> {
    if fields.is_empty() {
        return Ok(());
    }
    let mut connection = store.acquire().await?;
    let new = record::note_blocked(&mut connection, store.claim.resource_id, fields).await?;
    if new.is_empty() {
        return Ok(());
    }
    let message = format!("{} new fields were blocked: {}", new.len(), new.join(", "));
    let data = serde_json::json!({ "fields": new });
    store
        .tell(
            &mut connection,
            Level::Warn,
            "fields_blocked",
            &message,
            data,
        )
        .await
}

fn connecting(error: sqlx::Error) -> Error {
    crate::load::Error::database("connecting")(error).into()
}

impl Store {
    pub(super) async fn acquire(
        &self,
    ) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>, Error> {
        self.context.pool.acquire().await.map_err(connecting)
    }

    async fn fence(&self, transaction: &mut sqlx::PgConnection) -> Result<(), Error> {
        Ok(record::fence(transaction, &self.context.worker, &self.claim).await?)
    }

    pub(super) async fn tell(
        &self,
        connection: &mut sqlx::PgConnection,
        level: Level,
        kind: &str,
        message: &str,
        data: serde_json::Value,
    ) -> Result<(), Error> {
        let event = NewEvent {
            run_id: Some(self.claim.run_id),
            resource_id: Some(self.claim.resource_id),
            level,
            kind,
            message,
            data,
        };
        Ok(record::event(connection, &event).await?)
    }
}
