//! Records that become rows later than their page: those that wait for a later one of their key, and the
//! parts of one row that follow each other on a page.
//!
//! Of two records of one key in a walk the last counts, and the one before it is written for nothing:
//! again in every run, since the table has the last one then. So a record that gave way in an earlier
//! walk waits, here, until the later one comes or the walk is over; only then it is written. While
//! records wait, a walk that is cut is gone on with from before the first of them.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::{
    Error,
    intake::Records,
    page::count_unchanged,
    plan::Checkpoint,
    walk::{Walker, signed},
};
use crate::{
    load::write::Standing,
    record::Counters,
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
    /// Records that wait no more, and are not in a batch yet.
    unwritten: usize,
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
struct Terms<'a> {
    /// Whether the table was asked what it has.
    may_wait: bool,
    /// Whether of two records of a key not always the last one counts.
    has_versions: bool,
    /// Where a walk can be gone on with that is cut before the page.
    checkpoint: Option<&'a Checkpoint>,
}

/// What a page means for the records that wait.
#[derive(Default)]
struct Met {
    /// Hashes of the records that gave way.
    superseded: Vec<u128>,
    /// Records that have to be written before the page is.
    due: Vec<Records>,
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
    fn meet(
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
                    true => {
                        self.unwritten += 1;
                        met.due.push(waiter.record);
                    }
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
        if self.is_over() {
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
    fn take(&mut self) -> Vec<Records> {
        self.bytes = 0;
        self.unwritten += self.records.len();
        let records = std::mem::take(&mut self.records);
        records.into_values().map(|waiter| waiter.record).collect()
    }

    /// Forgets what the walk brought, for its repetition.
    pub(super) fn begin_again(&mut self) {
        let known = std::mem::take(&mut self.known);
        *self = Self {
            known,
            ..Self::default()
        };
    }

    /// Lets a cut walk begin at the beginning, as far as it is not beyond what waits.
    pub(super) fn forget_place(&mut self) {
        self.checkpoint = None;
    }

    /// Whether each record that waited is in a batch, or gave way.
    fn is_over(&self) -> bool {
        self.records.is_empty() && self.unwritten == 0
    }

    /// Where a cut walk can be gone on with: `latest`, but while records wait.
    pub(super) fn checkpoint<'c>(
        &'c self,
        latest: &'c Option<Checkpoint>,
    ) -> &'c Option<Checkpoint> {
        match self.is_over() {
            true => latest,
            false => &self.checkpoint,
        }
    }
}

impl Walker {
    /// Lets records wait that are known to give way to later ones, and writes those that cannot wait any more.
    pub(super) async fn settle_waiting(
        &mut self,
        records: &Records,
        scan: &Scan,
        standings: &mut [Standing],
    ) -> Result<(), Error> {
        let resource = &self.store.context.resource;
        // Parts of records do not give way to each other.
        if !self.store.is_merging() || resource.partial_records {
            return Ok(());
        }
        let terms = Terms {
            may_wait: self.outbox.is_probing,
            has_versions: resource.version.is_some(),
            checkpoint: self.checkpoint.as_ref(),
        };
        let met = self.waiting.meet(records, scan, standings, &terms);
        self.outbox.add(&Counters {
            records_superseded: signed(met.superseded.len()),
            ..Counters::default()
        });
        let hashes = met
            .superseded
            .iter()
            .map(|hash| hash.to_be_bytes().to_vec());
        self.outbox.batch.superseded.extend(hashes);
        if met.due.is_empty() {
            return Ok(());
        }
        for record in met.due {
            self.load_waiter(&record).await?;
        }
        self.make_way(scan).await
    }

    /// Writes the records for which no later one came.
    pub(super) async fn load_waiting(&mut self) -> Result<(), Error> {
        for record in self.waiting.take() {
            self.load_waiter(&record).await?;
        }
        self.offer_checkpoint();
        Ok(())
    }

    /// Writes a record that had to wait, and had been counted as unchanged.
    async fn load_waiter(&mut self, record: &Records) -> Result<(), Error> {
        let unchanged = self.load_again(record).await?;
        self.waiting.unwritten -= 1;
        self.outbox.add(&Counters {
            rows_unchanged: unchanged - 1,
            ..Counters::default()
        });
        Ok(())
    }

    /// Parts of records that are of one row, where the page has several: each after the one before it.
    pub(super) async fn load_later(&mut self, records: &Records, scan: &Scan) -> Result<(), Error> {
        for &place in &scan.later {
            let Some(record) = records.only(place as usize) else {
                continue;
            };
            let unchanged = self.load_again(&record).await?;
            self.outbox.add(&Counters {
                rows_unchanged: unchanged,
                ..Counters::default()
            });
        }
        Ok(())
    }

    /// Turns a record of a page that was read into a row of a batch. Returns how many rows are unchanged.
    async fn load_again(&mut self, record: &Records) -> Result<i64, Error> {
        self.offer_checkpoint();
        let scan = record.scan(&self.mapper, self.read.cap);
        let asked = self.ask(&scan).await?;
        let standings = self.standings(&scan, asked).await?;
        let rejected = self.encode(record, &scan, &standings).await?;
        self.note_loaded(&scan, &rejected);
        self.keep_rejects(record, rejected, Vec::new());
        self.note_keys(&scan);
        self.outbox.batch.note_page(scan.rows.len());
        Ok(count_unchanged(&standings))
    }
}
