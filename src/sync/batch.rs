//! The rows in hand between two commits.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;
use tokio::time::Instant;

use super::plan::Checkpoint;
use crate::{
    config::source,
    load::write::{Records, Segment, Way},
    record::{Counters, NewReject},
    shape::{BinaryArray, CursorValue, Encoded, KeySet, Layout, RowKeys},
};

/// Bytes of rows beside which the cost of a transaction does not count.
const ENOUGH: usize = 1 << 20;

/// What one transaction will commit.
#[derive(Debug, Default)]
pub struct Batch {
    pub segments: Vec<Segment>,
    /// Keys of the rows in `segments`; no key may stand twice in one batch.
    pub keys: KeySet,
    pub rejects: Vec<NewReject>,
    /// Keys of records that became rows, while there are rejects that may be theirs.
    pub loaded: Vec<String>,
    /// Keys of all records that were read, where a snapshot is made: arrays of the key's parts.
    pub seen: Vec<Vec<BinaryArray>>,
    /// Hashes of records that gave way to later ones of their key before they were written.
    pub superseded: Vec<Vec<u8>>,
    pub counters: Counters,
    /// Cursors of units that are over, by their partitions.
    pub cursors: IndexMap<String, Value>,
    /// Whether everything that this run appended before goes away again, with this batch's transaction.
    pub takes_back: bool,
    /// Where the cursor is with this batch: a piece of the run's span is proven complete.
    pub cursor: Option<CursorValue>,
    /// Where to resume after this batch. `None`: the walk cannot be resumed after it.
    pub checkpoint: Option<Checkpoint>,
    rows: usize,
    bytes: usize,
    opened: Option<Instant>,
}

impl Batch {
    /// Whether there is anything to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opened.is_none()
    }

    /// Notes a page, so that also pages without changes are committed with their checkpoint in time.
    pub fn note_page(&mut self, records: usize) {
        self.rows += records;
        self.opened.get_or_insert_with(Instant::now);
    }

    /// Takes the keys of one page.
    pub fn see(&mut self, keys: Vec<BinaryArray>) {
        if let Some(last) = self.seen.last_mut()
            && last.len() == keys.len()
            && last.iter().zip(&keys).all(|(a, b)| a.element == b.element)
        {
            // Pages are too small for the count to run over before the batch is full.
            let whole = last.iter_mut().zip(&keys).all(|(a, b)| a.append(b));
            debug_assert!(whole, "a batch holds fewer keys than an array can");
        } else {
            self.seen.push(keys);
        }
    }

    /// Makes this batch the opposite of what was appended so far: its own rows are dropped, those committed before are
    /// deleted with it. Counters of pages and requests stay; they happened.
    pub fn take_back(&mut self) {
        self.segments.clear();
        self.keys.clear();
        self.cursors.clear();
        self.takes_back = true;
        self.note_page(0);
    }

    /// Takes the rows of one page that go one way.
    pub fn push(
        &mut self,
        encoded: Encoded,
        keys: RowKeys,
        layout: &Arc<Layout>,
        keyed: bool,
        way: Way,
        records: Option<Records>,
    ) {
        let of_lists: usize = encoded.children.iter().map(|rows| rows.data.len()).sum();
        self.bytes += encoded.data.len() + of_lists;
        self.opened.get_or_insert_with(Instant::now);
        self.segments.push(Segment {
            layout: Arc::clone(layout),
            keyed,
            way,
            data: encoded.data,
            tuples: encoded.tuples,
            // The lists of a row that goes go with it.
            children: if way == Way::Delete {
                Vec::new()
            } else {
                encoded.children
            },
            roots: if way == Way::Delete {
                Vec::new()
            } else {
                encoded.roots
            },
            rows: encoded.rows,
            keys,
            records,
        });
    }

    /// Revision of the rows' layout. All rows of a batch share one.
    #[must_use]
    pub fn revision(&self) -> Option<u32> {
        self.segments.last().map(|segment| segment.layout.revision)
    }

    #[must_use]
    pub fn layout(&self) -> Option<&Arc<Layout>> {
        self.segments.last().map(|segment| &segment.layout)
    }

    /// When the batch must be committed even if nothing more comes.
    #[must_use]
    pub fn deadline(&self, bounds: &source::Batch) -> Option<Instant> {
        self.opened.map(|opened| opened + bounds.wait)
    }

    /// Whether the rows in hand are worth a commit of their own when none is under way: then
    /// Postgres need not wait for a full batch, and less is lost when the run is cut.
    #[must_use]
    pub fn is_worth_a_commit(&self) -> bool {
        self.bytes >= ENOUGH
    }

    /// Whether one of the bounds is met.
    #[must_use]
    pub fn is_full(&self, bounds: &source::Batch) -> bool {
        self.rows >= bounds.rows
            || self.bytes >= bounds.bytes
            || self
                .deadline(bounds)
                .is_some_and(|deadline| deadline <= Instant::now())
    }
}
