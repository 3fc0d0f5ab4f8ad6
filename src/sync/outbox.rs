//! The rows in hand and the commit under way: what a walk hands on to the table.

use std::sync::Arc;

use tokio::{task::JoinHandle, time::Instant};
use tracing::Instrument;

use super::{
    Error, Gauge,
    batch::Batch,
    commit::{Committed, Conclusion, Store},
};
use crate::{
    config::source,
    record::{Counters, Ending},
    shape::{KeySet, Scan},
};

/// Gathers batches and commits them one after the other; there is never more than one commit under way.
pub(super) struct Outbox {
    store: Arc<Store>,
    gauge: Arc<Gauge>,
    pub(super) batch: Batch,
    in_flight: Option<InFlight>,
    /// Revision of the layout that the table is known to have.
    applied: u32,
    /// Whether rows are compared with the table before they are encoded. Not so while the table
    /// was empty at the start and no known key was met.
    pub(super) is_probing: bool,
}

struct InFlight {
    keys: KeySet,
    revision: Option<u32>,
    task: JoinHandle<Result<Committed, Error>>,
}

impl Outbox {
    pub(super) fn new(
        store: &Arc<Store>,
        gauge: &Arc<Gauge>,
        applied: u32,
        is_probing: bool,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            gauge: Arc::clone(gauge),
            batch: Batch::default(),
            in_flight: None,
            applied,
            is_probing,
        }
    }

    /// Counts for the batch in hand.
    pub(super) fn add(&mut self, delta: &Counters) {
        self.batch.counters += *delta;
        self.gauge.add(delta);
    }

    /// When the batch in hand must go, whatever comes.
    pub(super) fn deadline(&self, bounds: &source::Batch) -> Option<Instant> {
        self.batch.deadline(bounds)
    }

    /// Whether the batch in hand should go now.
    pub(super) fn is_due(&self, bounds: &source::Batch) -> bool {
        let is_idle = || {
            let flight = self.in_flight.as_ref();
            flight.is_none_or(|flight| flight.task.is_finished())
        };
        self.batch.is_full(bounds) || (self.batch.is_worth_a_commit() && is_idle())
    }

    /// Whether the table has the layout of `revision`, as far as is known.
    pub(super) fn has_applied(&self, revision: u32) -> bool {
        self.applied == revision
    }

    /// Whether a key of the page stands in rows that are not committed yet.
    pub(super) fn repeats_a_key(&self, scan: &Scan) -> bool {
        let in_flight = self
            .in_flight
            .as_ref()
            .filter(|_| self.is_probing)
            .map(|flight| &flight.keys);
        self.store.keyed
            && scan.rows.iter().any(|row| {
                self.batch.keys.contains(&row.key)
                    || in_flight.is_some_and(|keys| keys.contains(&row.key))
            })
    }

    /// Gives the batch in hand to a commit, after the one before it.
    pub(super) async fn hand_over(&mut self, conclusion: Option<Conclusion>) -> Result<(), Error> {
        self.settle().await?;
        if self.batch.is_empty() && conclusion.is_none() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let keys = if self.is_probing {
            batch.keys.clone()
        } else {
            KeySet::default()
        };
        let revision = batch.revision();
        let commit = Arc::clone(&self.store).commit(batch, conclusion);
        let task = self.store.context.tracker.spawn(commit.in_current_span());
        self.in_flight = Some(InFlight {
            keys,
            revision,
            task,
        });
        Ok(())
    }

    /// Waits for the commit under way.
    pub(super) async fn settle(&mut self) -> Result<Option<Ending>, Error> {
        let Some(flight) = self.in_flight.take() else {
            return Ok(None);
        };
        let committed = flight.task.await.map_err(|_| Error::Crashed)??;
        if let Some(revision) = flight.revision {
            self.applied = revision;
        }
        self.is_probing |= committed.met_known_keys && self.store.is_merging();
        Ok(committed.ending)
    }

    /// Commits what is in hand, and waits until it is done.
    pub(super) async fn flush(&mut self) -> Result<Option<Ending>, Error> {
        self.hand_over(None).await?;
        self.settle().await
    }
}
