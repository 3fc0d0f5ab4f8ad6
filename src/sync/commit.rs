//! One batch, one transaction: DDL first and apart, then rows, rejects, counters, checkpoint,
//! cursor and, last, the fence.
//!
//! A commit runs as a task of its own and is never dropped half-way; when Postgres goes away it is
//! tried again from memory. An answer to COMMIT can get lost, and the server may even be at it still
//! when the next try begins. So each transaction takes the next version of the cursor's row, and one
//! that finds it taken by this very run knows that the try before it came through.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use sqlx::{Acquire, PgConnection, Postgres, Transaction};
use tokio::{sync::Mutex, time::Instant};
use tracing::warn;

use super::{
    Context, Error, Gauge,
    batch::Batch,
    children,
    patience::{Patience, patiently},
    plan::Checkpoint,
    privacy,
};
use crate::{
    config::{
        contract::Contract,
        endpoint::DottedPath,
        privacy::NewColumns,
        source::{DeleteMode, WriteDisposition},
    },
    failpoint,
    fault::{Class, Fault},
    load::{
        deletes::{self, Census, Fate, Forget, Keyed, Listed, Sighting},
        hashes, replace, scd2,
        sql::{Ident, Live, Scope, TableName},
        table::{self, Change},
        write::{self, Standing, Target, Written},
    },
    record::{
        self, CatalogColumn, Claim, Counters, Cursor, Ending, Level, NewReject, RunId, Status,
    },
    shape::{
        Column, CursorValue, Family, HASHED_KEY_COLUMN, KeySet, Kind, Layout, Probe, column_name,
        identifier,
    },
};

/// The cursor's partition of a resource that has only one.
pub(super) const WHOLE: &str = "";

/// The resource's table and bookkeeping, as one run sees them.
pub(super) struct Store {
    pub(super) context: Context,
    pub(super) claim: Arc<Claim>,
    pub(super) gauge: Arc<Gauge>,
    pub(super) table: TableName,
    /// Whether the table has a primary key that rows are merged by.
    pub(super) keyed: bool,
    /// The table of a `replace` walk.
    pub(super) walk: Option<TableName>,
    tables: Mutex<Tables>,
    /// The tables of nested lists.
    pub(super) children: Mutex<children::Known>,
    /// Version of the cursor's row, as of our last commit.
    version: AtomicI64,
    /// Tells walks apart where rows that were not seen are deleted. A resumed walk keeps its number.
    generation: AtomicI64,
    /// The run and, under `append`, the interrupted ones that it goes on with: what a repetition takes back.
    runs: Vec<RunId>,
}

/// The columns that the tables have now; `None` where there is no table yet.
struct Tables {
    target: Option<Vec<Column>>,
    /// Changes that the table needs before its first batch, because somebody else made it or the configuration changed.
    adopt: Vec<Change>,
    /// Whether the target has the column that marks rows as deleted.
    marks: bool,
    walk: Option<Layout>,
}

/// A column and where in the records its values stand: not the same in the tables of lists.
pub(super) struct Named<'a> {
    pub(super) column: &'a Column,
    pub(super) path: Vec<String>,
}

/// The state of the table and of the cursor when a run begins.
pub(super) struct Opened {
    pub(super) store: Arc<Store>,
    pub(super) columns: Vec<Column>,
    pub(super) families: Vec<Family>,
    pub(super) has_rows: bool,
    /// Blocks that the rows take.
    pub(super) blocks: u64,
    /// Whether records of earlier runs wait to be loaded after all.
    pub(super) has_rejects: bool,
    /// Hashes of records that gave way to later ones in earlier walks.
    pub(super) superseded: Vec<Vec<u8>>,
    /// What may become of the tables. Everything, while the first load is not done.
    pub(super) contract: Contract,
    pub(super) cursor: Option<Cursor>,
    /// Whether parts of the resource, one for each parent, have cursors.
    pub(super) has_cursors_of_units: bool,
}

/// How a proven walk ends its run, in the transaction of its last batch.
pub(super) struct Conclusion {
    /// Moves the cursor, where there is one.
    pub(super) cursor: Option<CursorValue>,
    pub(super) cursor_from: Option<String>,
    pub(super) watermark_at: Option<chrono::DateTime<chrono::Utc>>,
    /// Key of the rows, when those that the walk did not see go.
    pub(super) sweep: Option<Vec<(Ident, Kind)>>,
    /// Why they stay.
    pub(super) held: Option<Fault>,
    /// Whether each record of the source was read by this run.
    pub(super) read_everything: bool,
}

/// What a commit did.
#[derive(Clone)]
pub(super) struct Committed {
    /// Rows that were taken for new and met their key in the table.
    pub(super) met_known_keys: bool,
    /// Present when the run was closed in the same transaction.
    pub(super) ending: Option<Ending>,
    /// What the transaction counted beyond the batch's own counters.
    written: Counters,
}

/// Reads what is there: the table's columns, the catalogue of paths, the cursor.
pub(super) async fn open(
    context: &Context,
    claim: &Arc<Claim>,
    gauge: &Arc<Gauge>,
) -> Result<Opened, Error> {
    patiently(context, gauge, || try_open(context, claim, gauge)).await
}

async fn try_open(
    context: &Context,
    claim: &Arc<Claim>,
    gauge: &Arc<Gauge>,
) -> Result<Opened, Error> {
    let resource = &context.resource;
    let name = TableName::new(&identifier(&resource.schema), &identifier(&resource.table));
    let keyed =
        !resource.primary_key.is_empty() && resource.write_disposition != WriteDisposition::Append;

    let mut connection = context.pool.acquire().await.map_err(connecting)?;
    let cursor = record::cursor(&mut connection, claim.resource_id, WHOLE).await?;
    let has_cursors_of_units = resource.parent.is_some()
        && record::has_partition_cursors(&mut connection, claim.resource_id).await?;
    let mut runs = vec![claim.run_id];
    if resource.write_disposition == WriteDisposition::Append {
        runs.extend(record::interrupted_before(&mut connection, claim).await?);
    }
    let left_over = record::left_over(&mut connection, claim.resource_id).await?;
    let found = table::inspect(&mut connection, &name).await?;
    let is_loaded =
        found.is_some() && record::is_loaded(&mut connection, claim.resource_id).await?;
    let contract = match is_loaded {
        true => resource.schema_contract,
        false => Contract::default(),
    };
    let catalogue = record::columns(&mut connection, name.schema.name(), name.table.name()).await?;
    let paths: Vec<(String, Vec<String>)> = catalogue
        .into_iter()
        .map(|column| (column.column_name, column.source_path))
        .collect();

    let (columns, mut adopt, has_rows) = match &found {
        Some(found) => (
            found.known(&name, &paths)?,
            table::adopt(&name, found),
            found.has_rows,
        ),
        None if cursor.as_ref().is_some_and(|c| c.fingerprint.is_some())
            && record::had_table(&mut connection, claim.resource_id).await? =>
        {
            return Err(Error::TableGone {
                table: format!("{}.{}", name.schema.name(), name.table.name()),
                resource: format!("{}/{}", claim.source, claim.resource),
            });
        }
        None => (Vec::new(), Vec::new(), false),
    };
    if let Some(found) = &found
        && keyed
        && resource.write_disposition == WriteDisposition::Merge
    {
        let mut key: Vec<String> = key_names(resource, &columns);
        if let Some(history) = &resource.history {
            key = scd2::unique_columns(&key, history);
        }
        if let Err(error) = found.require_unique(&name, &key) {
            // Versions, and lists under ids of their runs, cannot be told by a key afterwards.
            if !is_loaded || resource.history.is_some() || resource.max_table_nesting > Some(0) {
                return Err(error.into());
            }
            adopt.push(table::add_key(&mut connection, &name, found, &key).await?);
        }
    }
    let (families, known) = match resource.max_table_nesting {
        Some(1..) => children::find(&mut connection, claim, &name).await?,
        _ => Default::default(),
    };
    let walk = resource.gathers().then(|| replace::walk_table(&name));
    let marks = found.as_ref().is_some_and(table::Found::marks);
    let blocks = (found.as_ref()).map_or(0, |found| found.blocks.unsigned_abs());
    if marks_deleted(resource) && !marks {
        adopt.push(table::mark_column(&name));
    }
    let tables = Tables {
        target: found.map(|_| columns.clone()),
        adopt,
        marks,
        walk: None,
    };
    let store = Store {
        context: context.clone(),
        claim: Arc::clone(claim),
        gauge: Arc::clone(gauge),
        table: name,
        keyed,
        walk,
        tables: Mutex::new(tables),
        children: Mutex::new(known),
        version: AtomicI64::new(cursor.as_ref().map_or(0, |cursor| cursor.version)),
        generation: AtomicI64::new(cursor.as_ref().map_or(0, |cursor| cursor.generation)),
        runs,
    };
    Ok(Opened {
        store: Arc::new(store),
        columns,
        families,
        has_rows,
        blocks,
        has_rejects: left_over.open_rejects > 0,
        superseded: left_over.superseded,
        contract,
        cursor,
        has_cursors_of_units,
    })
}

/// Whether the resource's rows stay when their records are gone.
pub(super) fn marks_deleted(resource: &crate::config::Resource) -> bool {
    resource.deletes.mode != DeleteMode::None && !resource.deletes.hard
}

/// The table's names for the configured key fields.
fn key_names(resource: &crate::config::Resource, columns: &[Column]) -> Vec<String> {
    resource
        .primary_key
        .iter()
        .map(|path| {
            let keys = path.keys();
            if resource.key_hash.is_some() {
                return HASHED_KEY_COLUMN.to_owned();
            }
            // A table that somebody made has no paths yet; the name is then the one rosterd would give.
            columns
                .iter()
                .find(|column| column.path == keys)
                .map_or_else(
                    || identifier(&keys.join("__")),
                    |column| column.name.clone(),
                )
        })
        .collect()
}

fn connecting(error: sqlx::Error) -> Error {
    crate::load::Error::database("connecting")(error).into()
}

impl Store {
    /// Whether rows meet those of the table by their key.
    pub(super) fn is_merging(&self) -> bool {
        let resource = &self.context.resource;
        self.keyed && resource.write_disposition == WriteDisposition::Merge && !resource.gathers()
    }

    /// Begins a walk that goes on with no other: what earlier ones saw does not count for it.
    pub(super) fn begin_generation(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn sighting(&self) -> Sighting {
        Sighting {
            resource_id: self.claim.resource_id,
            generation: self.generation.load(Ordering::SeqCst),
        }
    }

    /// The table as rows meet it now.
    pub(super) async fn target(&self) -> Target<'_> {
        self.target_of(&self.table, self.tables.lock().await.marks)
    }

    fn target_of<'a>(&'a self, table: &'a TableName, marks: bool) -> Target<'a> {
        let resource = &self.context.resource;
        Target {
            table,
            marks,
            strategy: resource.strategy,
            version: resource.version.as_ref(),
            history: resource.history.as_ref(),
            hard: resource.deletes.hard,
        }
    }

    /// What the table has of a page's rows; asked again while Postgres is away.
    pub(super) async fn probe(
        &self,
        gauge: &Gauge,
        key: &[(Ident, Kind)],
        probe: &Probe,
        rows: usize,
    ) -> Result<Vec<Standing>, Error> {
        patiently(&self.context, gauge, move || async move {
            let mut connection = self.context.pool.acquire().await.map_err(connecting)?;
            let target = self.target().await;
            Ok(write::probe(&mut connection, target, key, probe, rows).await?)
        })
        .await
    }

    /// The hashes of all rows that count; `None`: there are more than `most`.
    pub(super) async fn hashes(&self, gauge: &Gauge, most: usize) -> Result<Option<KeySet>, Error> {
        patiently(&self.context, gauge, move || async move {
            let mut connection = self.context.pool.acquire().await.map_err(connecting)?;
            let target = self.target().await;
            Ok(hashes::hashes(&mut connection, target, most).await?)
        })
        .await
    }

    /// What the walk's committed sightings say about the table. `None`: there is no table.
    pub(super) async fn census(&self, key: &[(Ident, Kind)]) -> Result<Option<Census>, Error> {
        let tables = self.tables.lock().await;
        if tables.target.is_none() {
            return Ok(None);
        }
        let within = self.within(&tables);
        let rows = self.keyed_rows(&tables, key, &within);
        let mut connection = self.context.pool.acquire().await.map_err(connecting)?;
        Ok(Some(
            deletes::census(&mut connection, self.sighting(), &rows).await?,
        ))
    }

    /// The table as it is asked what is gone.
    fn keyed_rows<'a>(
        &'a self,
        tables: &Tables,
        key: &'a [(Ident, Kind)],
        within: &'a [Ident],
    ) -> Keyed<'a> {
        Keyed {
            table: &self.table,
            key,
            live: match &self.context.resource.history {
                Some(history) => Live::Valid(history),
                None if tables.marks => Live::Unmarked,
                None => Live::All,
            },
            within,
        }
    }

    /// Columns in which a row must be like one that was seen, to be gone.
    fn within(&self, tables: &Tables) -> Vec<Ident> {
        let history = self.context.resource.history.as_ref();
        let paths = history.map_or(&[][..], |history| &history.within);
        let columns = paths.iter().filter_map(|path| {
            let path = path.keys();
            let mut columns = tables.target.iter().flatten();
            columns.find(|column| column.path == path)
        });
        columns.map(|column| Ident::new(&column.name)).collect()
    }

    /// Whether there is a table that rows can be in.
    pub(super) async fn has_table(&self) -> bool {
        self.tables.lock().await.target.is_some()
    }

    /// The stored cursor of a partition.
    pub(super) async fn cursor_of(&self, partition: &str) -> Result<Option<Cursor>, Error> {
        let mut connection = self.context.pool.acquire().await.map_err(connecting)?;
        Ok(record::cursor(&mut connection, self.claim.resource_id, partition).await?)
    }

    /// The key's columns as the table has them.
    fn key_of(&self, tables: &Tables) -> Vec<(Ident, Kind)> {
        let columns = tables.target.as_deref().unwrap_or_default();
        key_names(&self.context.resource, columns)
            .iter()
            .filter_map(|name| columns.iter().find(|column| column.name == *name))
            .map(|column| (Ident::new(&column.name), column.kind))
            .collect()
    }

    /// Live rows, and those of them that the lists name.
    pub(super) async fn count_listed(&self, lists: &[Listed]) -> Result<(u64, u64), Error> {
        let tables = self.tables.lock().await;
        let key = self.key_of(&tables);
        let rows = self.keyed_rows(&tables, &key, &[]);
        let mut connection = self.context.pool.acquire().await.map_err(connecting)?;
        Ok(deletes::count_listed(&mut connection, &rows, lists).await?)
    }

    /// Ends the rows that a feed lists, and moves its cursor in the same transaction.
    pub(super) async fn end_listed(
        &self,
        lists: &[Listed],
        partition: Option<&str>,
        cursor: Option<&CursorValue>,
        fingerprint: &str,
        rejects: &[NewReject],
        counters: Counters,
    ) -> Result<Counters, Error> {
        let mut connection = self.context.pool.acquire().await.map_err(connecting)?;
        if !lists.is_empty() {
            self.adopt(&mut connection).await?;
            self.adopt_children(&mut connection).await?;
        }
        let tables = self.tables.lock().await;
        let key = self.key_of(&tables);
        let rows = self.keyed_rows(&tables, &key, &[]);
        let by_run = (!self.context.resource.deletes.hard).then_some(self.claim.run_id);
        let mut transaction = connection.begin().await.map_err(connecting)?;
        let mut deleted = 0;
        for list in lists {
            deleted += deletes::end_listed(&mut transaction, &rows, list, by_run).await?;
        }
        if deleted > 0 {
            self.mark_children(&mut transaction).await?;
        }
        let counters = Counters {
            rows_deleted: signed(deleted),
            ..counters
        };
        let cursor = cursor.map(CursorValue::to_json);
        if let Some(partition) = partition {
            record::move_cursor(
                &mut transaction,
                &self.claim,
                partition,
                cursor.as_ref(),
                None,
                0,
                Some(fingerprint),
            )
            .await?;
        }
        record::reject(&mut transaction, &self.claim, rejects).await?;
        record::add_counters(&mut transaction, &self.claim, &counters).await?;
        record::fence(&mut transaction, &self.context.worker, &self.claim).await?;
        transaction.commit().await.map_err(connecting)?;
        Ok(counters)
    }

    /// Ends the rows that the walk did not see, where it may, and forgets what it saw.
    async fn end_snapshot(
        &self,
        transaction: &mut PgConnection,
        conclusion: &Conclusion,
    ) -> Result<u64, Error> {
        let sighting = self.sighting();
        let mut deleted = 0;
        if let Some(key) = &conclusion.sweep {
            let tables = self.tables.lock().await;
            let within = self.within(&tables);
            let rows = self.keyed_rows(&tables, key, &within);
            let resource = &self.context.resource;
            let fate = match &resource.history {
                Some(history) => Fate::Ended(history),
                None if resource.deletes.hard => Fate::Deleted,
                None => Fate::Marked {
                    by_run: self.claim.run_id,
                },
            };
            deleted = deletes::sweep(&mut *transaction, sighting, &rows, fate).await?;
        }
        if self.context.resource.deletes.mode == DeleteMode::Snapshot {
            deletes::forget(transaction, sighting, Forget::All).await?;
        }
        Ok(deleted)
    }

    /// Forgets a `replace` walk, so that the next one begins with an empty table.
    pub(super) async fn restart_walk(&self) {
        self.tables.lock().await.walk = None;
        self.children.lock().await.restart();
    }

    /// Drops the table of a `replace` walk that came to nothing. Its failure is only untidy.
    pub(super) async fn abandon_walk(&self) {
        let Some(walk) = &self.walk else { return };
        let dropped = async {
            let mut connection = self.context.pool.acquire().await.map_err(connecting)?;
            let mut transaction = self.begin_ddl(&mut connection).await?;
            replace::drop_walk(&mut transaction, walk).await?;
            self.abandon_children(&mut transaction).await?;
            self.commit_fenced(transaction).await
        };
        match dropped.await {
            // It is another worker's table by now.
            Ok(()) | Err(Error::Lost) => {}
            Err(error) => {
                warn!(%error, "could not drop the table of the walk; the next run does");
            }
        }
    }

    pub(super) async fn begin_ddl<'c>(
        &self,
        connection: &'c mut PgConnection,
    ) -> Result<Transaction<'c, Postgres>, Error> {
        let mut transaction = connection.begin().await.map_err(connecting)?;
        table::bound_locks(&mut transaction, self.context.lock_timeout).await?;
        Ok(transaction)
    }

    pub(super) async fn commit_fenced(
        &self,
        mut transaction: Transaction<'_, Postgres>,
    ) -> Result<(), Error> {
        record::fence(&mut transaction, &self.context.worker, &self.claim).await?;
        transaction.commit().await.map_err(connecting)?;
        Ok(())
    }

    /// Commits a batch, again and again while Postgres is away, for as long as a lease lasts.
    pub(super) async fn commit(
        self: Arc<Self>,
        batch: Batch,
        conclusion: Option<Conclusion>,
    ) -> Result<Committed, Error> {
        let mut patience = Patience::new(&self.context, &self.gauge);
        // What the last transaction of which COMMIT was sent would have done.
        let mut sent = None;
        loop {
            let error = match self
                .try_commit(&batch, conclusion.as_ref(), &mut sent)
                .await
            {
                Ok(committed) => return Ok(self.done(&batch, committed)),
                Err(error) => error,
            };
            patience.after(error).await?;
        }
    }

    fn done(&self, batch: &Batch, committed: Committed) -> Committed {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.gauge.book(&batch.counters);
        self.gauge.add(&committed.written);
        committed
    }

    /// Whether the cursor's row has the version that our next commit gives it, and has it from us.
    async fn came_through(&self, connection: &mut PgConnection) -> Result<bool, Error> {
        let written = record::cursor_version_by(connection, &self.claim, WHOLE).await?;
        Ok(written == Some(self.version.load(Ordering::SeqCst) + 1))
    }

    /// Sets `sent` once only COMMIT itself is left to do; when it is set already, that transaction's fate is unknown.
    async fn try_commit(
        &self,
        batch: &Batch,
        conclusion: Option<&Conclusion>,
        sent: &mut Option<Committed>,
    ) -> Result<Committed, Error> {
        failpoint::reach("load.before_begin");
        let started = Instant::now();
        let mut connection = self.context.pool.acquire().await.map_err(connecting)?;
        if sent.is_some()
            && self.came_through(&mut connection).await?
            && let Some(committed) = sent.take()
        {
            return Ok(committed);
        }
        let mut schema_changes = 0;
        if let Some(layout) = batch.layout() {
            schema_changes = self.fit(&mut connection, layout).await?;
            schema_changes += self.adopt_children(&mut connection).await?;
            schema_changes += self.fit_children(&mut connection, layout).await?;
        }
        if conclusion.is_some_and(|conclusion| conclusion.sweep.is_some()) {
            schema_changes += self.adopt(&mut connection).await?;
            schema_changes += self.adopt_children(&mut connection).await?;
        }

        let mut transaction = connection.begin().await.map_err(connecting)?;
        let taken_back = match batch.takes_back {
            true => self.take_back(&mut transaction).await?,
            false => 0,
        };
        let into = match &self.walk {
            Some(walk) => self.target_of(walk, false),
            None => self.target().await,
        };
        let mut written = write::write(&mut transaction, into, &batch.segments).await?;
        let in_lists = self
            .write_children(&mut transaction, &batch.segments, &written)
            .await?;
        written.updated += in_lists;
        written.unchanged = written.unchanged.saturating_sub(in_lists);
        deletes::remember(&mut transaction, self.sighting(), &batch.seen).await?;
        failpoint::reach("load.after_merge");

        let mut counters = batch.counters;
        counters.schema_changes += schema_changes;
        counters.rows_behind += signed(written.behind);
        counters.records_superseded += signed(written.superseded.len() as u64);
        // Under replace only the swap touches the table that people read.
        let (in_table, mut deleted) = match (&self.walk, conclusion) {
            (Some(walk), Some(_)) => {
                let refused = signed(written.refused.len() as u64);
                let scope = self.scope_of_walk(refused).await?;
                let swapped = self.swap(&mut transaction, walk, scope.as_ref()).await?;
                self.swap_children(&mut transaction, scope.is_some())
                    .await?;
                swapped
            }
            (Some(_), None) => (Written::default(), 0),
            (None, _) => (written.clone(), written.deleted),
        };
        if let Some(conclusion) = conclusion {
            deleted += self.end_snapshot(&mut transaction, conclusion).await?;
        }
        if deleted > 0 {
            self.mark_children(&mut transaction).await?;
        }
        counters.rows_inserted += signed(in_table.inserted) - taken_back;
        counters.rows_updated += signed(in_table.updated);
        counters.rows_unchanged += signed(in_table.unchanged);
        counters.rows_deleted += signed(deleted);
        let refused = refused(&written);
        counters.rows_rejected += signed(refused.len() as u64);
        counters.write_ms += i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);

        let loaded: Vec<String> = batch
            .loaded
            .iter()
            .filter(|key| !refused.iter().any(|r| r.key.as_ref() == Some(*key)))
            .cloned()
            .collect();
        record::resolve_rejects(&mut transaction, &self.claim, &loaded).await?;
        record::reject(&mut transaction, &self.claim, &batch.rejects).await?;
        record::reject(&mut transaction, &self.claim, &refused).await?;
        if self.is_merging() {
            let superseded = [&written.superseded[..], &batch.superseded[..]].concat();
            record::note_superseded(&mut transaction, &self.claim, &superseded).await?;
        }
        let moves: Vec<(String, serde_json::Value)> = batch
            .cursors
            .iter()
            .map(|(partition, cursor)| (partition.clone(), cursor.clone()))
            .collect();
        record::move_partition_cursors(
            &mut transaction,
            &self.claim,
            &self.runs,
            &moves,
            self.generation.load(Ordering::SeqCst),
            &self.context.resource.fingerprint,
        )
        .await?;
        let version = self
            .book_cursor(&mut transaction, batch, conclusion)
            .await?;
        if version != self.version.load(Ordering::SeqCst) + 1 {
            // Now that the row's lock was waited for, the other transaction's fate is known.
            transaction.rollback().await.map_err(connecting)?;
            return match sent.take() {
                Some(committed) if self.came_through(&mut connection).await? => Ok(committed),
                _ => Err(Error::Lost),
            };
        }
        let ending = self
            .book(&mut transaction, batch, conclusion, &counters)
            .await?;
        failpoint::reach("load.before_commit");
        let committed = Committed {
            met_known_keys: written.updated + written.unchanged > 0,
            ending,
            written: written_only(counters, &batch.counters),
        };
        *sent = Some(committed.clone());
        transaction
            .commit()
            .await
            .map_err(crate::load::Error::database("committing"))?;
        failpoint::reach("load.after_commit");
        Ok(committed)
    }

    /// Whether interrupted runs wrote rows that this run may have to take back.
    pub(super) fn has_predecessors(&self) -> bool {
        self.runs.len() > 1
    }

    /// Takes back what the run appended, and those that it goes on with, and the moves of the parents'
    /// cursors; returns how many rows were the run's own.
    async fn take_back(&self, transaction: &mut PgConnection) -> Result<i64, Error> {
        record::take_back_partition_cursors(transaction, &self.claim, &self.runs).await?;
        if self.tables.lock().await.target.is_none() {
            return Ok(0);
        }
        let gone = write::take_back(transaction, &self.table, &self.runs).await?;
        let of = |is_own: bool| -> i64 {
            let gone = gone
                .iter()
                .filter(|(run_id, _)| (*run_id == self.claim.run_id) == is_own);
            gone.map(|(_, rows)| rows).sum()
        };
        let of_others = of(false);
        if of_others > 0 {
            let message =
                format!("{of_others} rows that interrupted runs had appended are taken back");
            let data = serde_json::json!({ "rows": of_others });
            self.tell(transaction, Level::Info, "taken_back", &message, data)
                .await?;
        }
        Ok(of(true))
    }

    /// Stores the checkpoint or, at the end, the cursor; returns the new version of its row.
    async fn book_cursor(
        &self,
        transaction: &mut PgConnection,
        batch: &Batch,
        conclusion: Option<&Conclusion>,
    ) -> Result<i64, Error> {
        let fingerprint = &self.context.resource.fingerprint;
        let checkpoint = if conclusion.is_some() || self.walk.is_some() {
            None
        } else {
            batch.checkpoint.as_ref()
        };
        let checkpoint = checkpoint.map(checkpoint_json).transpose()?;
        let cursor = match conclusion {
            Some(conclusion) => conclusion.cursor.as_ref(),
            None => batch.cursor.as_ref(),
        };
        let cursor = cursor.map(CursorValue::to_json);
        Ok(record::move_cursor(
            transaction,
            &self.claim,
            WHOLE,
            cursor.as_ref(),
            checkpoint.as_ref(),
            self.generation.load(Ordering::SeqCst),
            Some(fingerprint),
        )
        .await?)
    }

    /// Writes what is left: counters, the end of the run, and the fence.
    async fn book(
        &self,
        transaction: &mut PgConnection,
        batch: &Batch,
        conclusion: Option<&Conclusion>,
        counters: &Counters,
    ) -> Result<Option<Ending>, Error> {
        record::add_counters(&mut *transaction, &self.claim, counters).await?;
        let Some(conclusion) = conclusion else {
            record::fence(transaction, &self.context.worker, &self.claim).await?;
            return Ok(None);
        };
        let before = self.gauge.counters();
        // What the contract leaves out was asked for.
        let rejected = before.rows_rejected - batch.counters.rows_rejected + counters.rows_rejected
            - before.rows_discarded;
        record::note_loaded(&mut *transaction, self.claim.resource_id).await?;
        if conclusion.read_everything {
            record::resolve_unmet_rejects(&mut *transaction, &self.claim).await?;
        }
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        let tolerated = self.context.resource.tolerated_rejects;
        let rejects = (!tolerated.covers(count(rejected), count(before.records_read)))
            .then(|| rejects_fault(rejected, before.records_read));
        let fault = conclusion.held.clone().or(rejects);
        let ending = Ending {
            status: if fault.is_some() {
                Status::Partial
            } else {
                Status::Succeeded
            },
            fault,
            reason: None,
            counters: Counters::default(),
            cursor_from: conclusion.cursor_from.clone(),
            cursor_to: conclusion.cursor.as_ref().map(|cursor| cursor.raw.clone()),
            watermark_at: conclusion.watermark_at,
        };
        failpoint::reach("run.before_finish");
        record::finish_in(
            transaction,
            &self.context.worker,
            &self.claim,
            ending.clone(),
        )
        .await?;
        Ok(Some(ending))
    }

    /// Makes the table have the layout's columns, in a transaction of its own, so that no page waits
    /// behind a lock. Returns the number of changes.
    async fn fit(&self, connection: &mut PgConnection, layout: &Layout) -> Result<i64, Error> {
        let mut tables = self.tables.lock().await;
        if let Some(walk) = &self.walk {
            let changes = match &tables.walk {
                Some(had) => table::changes(walk, &had.columns, layout),
                None => Vec::new(),
            };
            if tables.walk.is_some() && changes.is_empty() {
                return Ok(0);
            }
            // Fenced too: whoever lost the lease must not touch the walk of its successor.
            let mut transaction = self.begin_ddl(connection).await?;
            if tables.walk.is_none() {
                table::ensure_schema(&mut transaction, walk).await?;
                replace::begin(&mut transaction, walk, layout, self.keyed).await?;
            } else {
                table::apply(&mut transaction, &changes).await?;
            }
            self.commit_fenced(transaction).await?;
            tables.walk = Some(layout.clone());
            return Ok(0);
        }
        let changes = self.needed(&tables, layout);
        if changes.is_empty()
            && tables
                .target
                .as_deref()
                .is_some_and(|columns| is_told(columns, layout))
        {
            return Ok(0);
        }
        let schema_changes = self
            .change_apart(connection, &mut tables, &changes, &layout.columns)
            .await?;
        table::learn(tables.target.get_or_insert_default(), &layout.columns);
        Ok(schema_changes)
    }

    /// Makes the changes that the table needs whatever rows come.
    async fn adopt(&self, connection: &mut PgConnection) -> Result<i64, Error> {
        let mut tables = self.tables.lock().await;
        let changes = tables.adopt.clone();
        if changes.is_empty() {
            return Ok(0);
        }
        self.change_apart(connection, &mut tables, &changes, &[])
            .await
    }

    /// Makes changes, and notes where `columns` come from, in a transaction of its own.
    async fn change_apart(
        &self,
        connection: &mut PgConnection,
        tables: &mut Tables,
        changes: &[Change],
        columns: &[Column],
    ) -> Result<i64, Error> {
        let mut transaction = self.begin_ddl(connection).await?;
        self.change(&mut transaction, changes, columns).await?;
        self.commit_fenced(transaction).await?;
        tables.adopt.clear();
        tables.marks |= marks_deleted(&self.context.resource);
        Ok(signed(changes.len() as u64))
    }

    /// The layout of what a `replace` walk has brought so far.
    pub(super) async fn walked(&self) -> Option<Layout> {
        self.tables.lock().await.walk.clone()
    }

    fn needed(&self, tables: &Tables, layout: &Layout) -> Vec<Change> {
        match &tables.target {
            None => {
                let mut changes = match &self.context.resource.history {
                    Some(history) => scd2::creation(&self.table, layout, history),
                    None => vec![table::creation(&self.table, layout, self.keyed)],
                };
                changes.extend(tables.adopt.iter().cloned());
                changes
            }
            Some(columns) => {
                let mut changes = tables.adopt.clone();
                changes.extend(table::changes(&self.table, columns, layout));
                changes
            }
        }
    }

    /// Runs the changes and writes them down.
    async fn change(
        &self,
        transaction: &mut PgConnection,
        changes: &[Change],
        columns: &[Column],
    ) -> Result<(), Error> {
        table::bound_locks(&mut *transaction, self.context.lock_timeout).await?;
        table::ensure_schema(&mut *transaction, &self.table).await?;
        table::apply(&mut *transaction, changes).await?;
        if changes.iter().any(|change| change.change == "create_table") {
            table::comment(
                &mut *transaction,
                &self.table,
                &self.claim.source,
                &self.claim.resource,
            )
            .await?;
        }
        for change in changes {
            let change = record::SchemaChange {
                table_name: self.table.to_string(),
                ..schema_change(change)
            };
            record::schema_change(&mut *transaction, &self.claim, &change).await?;
        }
        let entries: Vec<CatalogColumn> = columns
            .iter()
            .map(|column| self.catalogue_entry(&self.table, &column.path, column))
            .collect();
        record::save_columns(&mut *transaction, &self.claim, &entries).await?;
        let named: Vec<Named<'_>> = columns
            .iter()
            .map(|column| Named {
                column,
                path: column.path.clone(),
            })
            .collect();
        let table = self.table.clone();
        self.comment(transaction, &table, changes, &named).await
    }

    /// Says on each column that was made what is in it. Events tell of those that a field did not
    /// get under its own name and, with `new_columns: warn`, of all.
    pub(super) async fn comment(
        &self,
        transaction: &mut PgConnection,
        table: &TableName,
        changes: &[Change],
        columns: &[Named<'_>],
    ) -> Result<(), Error> {
        let rules = &self.context.resource.privacy;
        let made: Vec<&Named<'_>> = match changes.iter().any(|c| c.change == "create_table") {
            true => columns.iter().collect(),
            false => {
                let added = changes.iter().filter(|c| c.change == "add_column");
                let names: HashSet<&String> = added.filter_map(|c| c.column.as_ref()).collect();
                columns
                    .iter()
                    .filter(|named| names.contains(&named.column.name))
                    .collect()
            }
        };
        let comments: Vec<_> = made
            .iter()
            .map(|Named { column, path }| {
                let treatment = privacy::treatment_of(rules, path, column.kind);
                privacy::comment_of(&column.name, path, &treatment)
            })
            .collect();
        table::comment_columns(&mut *transaction, table, &comments).await?;
        self.tell_names(transaction, table, columns, &made).await?;
        let made: Vec<&Column> = made.iter().map(|named| named.column).collect();
        if rules.new_columns == NewColumns::Warn
            && made.len() < columns.len()
            && let [first, ..] = made.as_slice()
        {
            let names: Vec<&String> = made.iter().map(|column| &column.name).collect();
            let message = format!("{} new columns, {} first", made.len(), first.name);
            let data = serde_json::json!({ "columns": names });
            self.tell(transaction, Level::Warn, "new_columns", &message, data)
                .await?;
        }
        Ok(())
    }

    /// Tells of columns whose names are not those of their fields: others have these, or the values
    /// did not fit a column that cannot be altered.
    async fn tell_names(
        &self,
        transaction: &mut PgConnection,
        table: &TableName,
        columns: &[Named<'_>],
        made: &[&Named<'_>],
    ) -> Result<(), Error> {
        let odd: Vec<_> = made
            .iter()
            .filter(|Named { column, .. }| {
                !column.path.is_empty() && column.name != column_name(&column.path)
            })
            .map(|Named { column, path }| {
                let twin =
                    |other: &Named<'_>| other.path == *path && other.column.name != column.name;
                (column, path, columns.iter().any(twin))
            })
            .collect();
        for (is_variant, kind, what) in [
            (
                false,
                "name_clash",
                "columns got a suffix, as their fields' names were taken",
            ),
            (
                true,
                "variant_column",
                "columns were added for values that do not fit columns on which something hangs",
            ),
        ] {
            let columns: Vec<_> = odd
                .iter()
                .filter(|(.., variant)| *variant == is_variant)
                .map(|(column, path, _)| {
                    serde_json::json!({ "column": column.name, "field": path.join(".") })
                })
                .collect();
            if columns.is_empty() {
                continue;
            }
            let message = format!("{} {what} (table {table})", columns.len());
            let data = serde_json::json!({ "table": table.table.name(), "columns": columns });
            self.tell(transaction, Level::Warn, kind, &message, data)
                .await?;
        }
        Ok(())
    }

    /// `path`: where in the records the column's values stand.
    pub(super) fn catalogue_entry(
        &self,
        table: &TableName,
        path: &[String],
        column: &Column,
    ) -> CatalogColumn {
        CatalogColumn {
            table_schema: table.schema.name().to_owned(),
            table_name: table.table.name().to_owned(),
            column_name: column.name.clone(),
            source_path: path.to_vec(),
            data_type: column.sql_type(),
            treatment: privacy::treatment_of(&self.context.resource.privacy, path, column.kind),
        }
    }

    /// The end of a `replace` walk: the table becomes what was walked.
    async fn swap(
        &self,
        transaction: &mut PgConnection,
        walk: &TableName,
        scope: Option<&Scope>,
    ) -> Result<(Written, u64), Error> {
        let tables = self.tables.lock().await;
        let by_sets = &self.context.resource.replace_by;
        let Some(layout) = &tables.walk else {
            // Nothing was walked, and `allow_empty` was checked before.
            replace::drop_walk(&mut *transaction, walk).await?;
            let deleted = if tables.target.is_some() && by_sets.is_empty() {
                replace::clear(transaction, &self.table).await?
            } else {
                0
            };
            return Ok((Written::default(), deleted));
        };
        let changes = self.needed(&tables, layout);
        if !changes.is_empty() {
            self.change(transaction, &changes, &layout.columns).await?;
        }
        let columns = &layout.columns;
        Ok(replace::swap(transaction, &self.table, walk, columns, scope).await?)
    }

    /// The rows that the walk speaks for; `None`: all of them. `refused`: rows of the last batch that the
    /// table itself did not take.
    async fn scope_of_walk(&self, refused: i64) -> Result<Option<Scope>, Error> {
        let tables = self.tables.lock().await;
        let Some(layout) = &tables.walk else {
            return Ok(None);
        };
        let by_sets = &self.context.resource.replace_by;
        let counters = self.gauge.counters();
        let rejected = counters.rows_rejected + refused;
        if by_sets.is_empty() {
            // The rows that are not in the walk may be those of the rejected records, as far as a key
            // can tell. What the contract leaves out was asked for, and so was what is tolerated.
            let count = |count: i64| u64::try_from(count).unwrap_or_default();
            let tolerated = self.context.resource.tolerated_rejects;
            let (lost, read) = (rejected - counters.rows_discarded, counters.records_read);
            let is_whole = tolerated.covers(count(lost), count(read)) || layout.key.is_empty();
            return Ok((!is_whole).then(|| scope(by_sets, layout, true)));
        }
        if rejected > 0 && layout.key.is_empty() {
            return Err(Error::SetsNotWhole);
        }
        Ok(Some(scope(by_sets, layout, rejected > 0)))
    }
}

/// What a walk by sets speaks for. A record that could not become a row may belong to any of its sets:
/// then no set is whole, and only rows with the walk's own keys are replaced.
fn scope(by_sets: &[DottedPath], layout: &Layout, has_rejects: bool) -> Scope {
    let sets = by_sets.iter().filter_map(|path| {
        let path = path.keys();
        layout.columns.iter().find(|column| column.path == path)
    });
    let key = layout.key.iter().filter_map(|at| layout.columns.get(*at));
    let named = |column: &Column| Ident::new(&column.name);
    Scope {
        sets: match has_rejects {
            true => Vec::new(),
            false => sets.map(named).collect(),
        },
        key: key.map(named).collect(),
    }
}

/// A change as the history keeps it, but for the table's name.
pub(super) fn schema_change(change: &Change) -> record::SchemaChange {
    record::SchemaChange {
        change: change.change,
        table_name: String::new(),
        column_name: change.column.clone(),
        old_type: change.old_type.clone(),
        new_type: change.new_type.clone(),
        ddl: change.ddl.clone(),
    }
}

/// Whether the catalogue knows where each column's values come from.
fn is_told(columns: &[Column], layout: &Layout) -> bool {
    layout.columns.iter().all(|column| {
        let known = columns.iter().find(|known| known.name == column.name);
        known.is_some_and(|known| known.path == column.path)
    })
}

fn checkpoint_json(checkpoint: &Checkpoint) -> Result<serde_json::Value, Error> {
    serde_json::to_value(checkpoint).map_err(|_| Error::Crashed)
}

fn refused(written: &Written) -> Vec<NewReject> {
    written
        .refused
        .iter()
        .map(|row| NewReject {
            key: row.key.clone(),
            stage: "load",
            column: None,
            reason: "refused_by_table".to_owned(),
            sqlstate: Some(row.sqlstate.clone()),
            record: row.record.clone(),
        })
        .collect()
}

fn rejects_fault(rejected: i64, read: i64) -> Fault {
    Fault {
        class: Class::Data,
        code: "rejects".to_owned(),
        message: format!("{rejected} of {read} records were rejected"),
        hint: "See rosterd.rejects for reasons and keys; the other records are loaded.".to_owned(),
        retryable: true,
    }
}

/// The counters that the transaction itself added to the batch's.
fn written_only(all: Counters, batch: &Counters) -> Counters {
    Counters {
        rows_inserted: all.rows_inserted - batch.rows_inserted,
        rows_updated: all.rows_updated - batch.rows_updated,
        rows_unchanged: all.rows_unchanged - batch.rows_unchanged,
        rows_deleted: all.rows_deleted - batch.rows_deleted,
        rows_rejected: all.rows_rejected - batch.rows_rejected,
        schema_changes: all.schema_changes - batch.schema_changes,
        rows_behind: all.rows_behind - batch.rows_behind,
        records_superseded: all.records_superseded - batch.records_superseded,
        write_ms: all.write_ms - batch.write_ms,
        ..Counters::default()
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
