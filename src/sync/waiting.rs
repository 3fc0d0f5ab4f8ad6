//! Records that wait for a later one of their key.
//!
//! Of two records of one key in a walk the last counts, and the one before it is written for nothing:
//! again in every run, since the table has the last one then. So a record that gave way in an earlier
//! walk waits, here, until the later one comes or the walk is over; only then it is written. While
//! records wait, a walk that is cut is gone on with from before the first of them.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::{intake::Records, plan::Checkpoint};
use crate::{
    load::write::Standing,
    shape::{Scan, ScanRow},
};

/// Records that may wait at once. Those beyond are written, as if none came later.
const MOST: usize = 1_000;

/// Bytes of such records.
const MOST_BYTES: usize = 1 << 20;

/// Keys of deleted records that are remembered, to know when one comes after it.
const MOST_GONE: usize = 10_000;

#[derive(Default)]
pub(super) struct Waiting {
    /// Hashes of records that gave way in earlier walks.
    known: HashSet<u128>,
    /// By key.
    records: IndexMap<u128, Waiter>,
    bytes: usize,
    /// Hashes of records that said of themselves that they are gone, and were taken at their word, by key.
    gone: HashMap<u128, u128>,
    /// Where the walk can be gone on with while records wait.
    checkpoint: Option<Checkpoint>,
}

struct Waiter {
    hash: u128,
    record: Records,
}

/// How a page's records meet those that wait.
pub(super) struct Terms<'a> {
    /// Whether the table was asked what it has.
    pub(super) may_wait: bool,
    /// Whether of two records of a key not always the last one counts.
    pub(super) has_versions: bool,
    /// Where a walk can be gone on with that is cut before the page.
    pub(super) checkpoint: Option<&'a Checkpoint>,
}

/// What a page means for the records that wait.
#[derive(Default)]
pub(super) struct Met {
    /// Hashes of the records that gave way.
    pub(super) superseded: Vec<u128>,
    /// Records that have to be written before the page is.
    pub(super) due: Vec<Records>,
}

impl Waiting {
    /// `known`: hashes of records that gave way in earlier walks, as in `_row_hash`.
    pub(super) fn new(known: &[Vec<u8>]) -> Self {
        let known = known.iter().filter_map(|hash| {
            let hash: [u8; 16] = hash.as_slice().try_into().ok()?;
            Some(u128::from_be_bytes(hash))
        });
        Self {
            known: known.collect(),
            ..Self::default()
        }
    }

    /// Matches a page's rows with the records that wait, and lets those of them wait that are known to give
    /// way: their rows count as unchanged.
    pub(super) fn meet(
        &mut self,
        records: &Records,
        scan: &Scan,
        standings: &mut [Standing],
        terms: &Terms<'_>,
    ) -> Met {
        let mut met = Met::default();
        for (row, standing) in scan.rows.iter().zip(standings) {
            if let Some(waiter) = self.leave(row.key) {
                // Where versions count, only what the table has already is known to be the later one.
                match terms.has_versions && *standing != Standing::Unchanged {
                    true => met.due.push(waiter.record),
                    false => met.superseded.push(waiter.hash),
                }
            }
            if terms.may_wait
                && *standing != Standing::Unchanged
                && self.takes(row, records, terms.checkpoint)
            {
                *standing = Standing::Unchanged;
            }
            match *standing {
                Standing::Gone if self.gone.len() < MOST_GONE => {
                    self.gone.insert(row.key, row.hash);
                }
                Standing::New | Standing::Changed => {
                    met.superseded.extend(self.gone.remove(&row.key));
                }
                _ => {}
            }
        }
        met
    }

    /// Lets a record wait that gave way in an earlier walk, where there is room.
    fn takes(&mut self, row: &ScanRow, records: &Records, checkpoint: Option<&Checkpoint>) -> bool {
        if !self.known.contains(&row.hash) || self.records.len() >= MOST {
            return false;
        }
        let Some(record) = records.only(row.record as usize) else {
            return false;
        };
        let bytes = record.bytes();
        if self.bytes + bytes > MOST_BYTES {
            return false;
        }
        if self.records.is_empty() {
            self.checkpoint = checkpoint.cloned();
        }
        self.bytes += bytes;
        let hash = row.hash;
        self.records.insert(row.key, Waiter { hash, record });
        true
    }

    fn leave(&mut self, key: u128) -> Option<Waiter> {
        let waiter = self.records.shift_remove(&key)?;
        self.bytes -= waiter.record.bytes();
        Some(waiter)
    }

    /// The records for which no later one came, in their order. None waits after this.
    pub(super) fn take(&mut self) -> Vec<Records> {
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        records.into_values().map(|waiter| waiter.record).collect()
    }

    /// Forgets what the walk brought, for its repetition.
    pub(super) fn begin_again(&mut self) {
        self.take();
        self.gone.clear();
    }

    /// Where a cut walk can be gone on with: `latest`, but while records wait.
    pub(super) fn checkpoint<'c>(
        &'c self,
        latest: &'c Option<Checkpoint>,
    ) -> &'c Option<Checkpoint> {
        match self.records.is_empty() {
            true => latest,
            false => &self.checkpoint,
        }
    }
}
