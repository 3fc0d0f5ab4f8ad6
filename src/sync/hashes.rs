//! What the table is known to have, so that it need not be asked.
//!
//! A run asks the table about each page by key and hash, which costs Postgres a look into the key's index
//! for each record. One that goes on and on, and finds most of its records unchanged, reads the hashes of
//! all rows once instead: a record's hash is made of all of it, the key with it, so that a row with the
//! same hash is the same record as it is. The table is asked about the rest only.

use super::{Error, page::count_unchanged, walk::Walker};
use crate::{
    config::Resource,
    load::write::Standing,
    shape::{KeySet, ScanRow},
};

/// Most hashes that are held, together with the keys of rows that the run writes: 17 bytes each, and room to grow.
const MOST: usize = 200_000;

/// Looks into the key's index that cost as much as to read the hashes out of one block of the table.
const BLOCK: u64 = 1;

/// Looks that cost as much as a question itself.
const QUESTION: u64 = 100;

/// Hashes of the table's rows, once they are worth reading.
pub(super) struct TableHashes {
    /// What it costs to read them, in looks into the key's index.
    cost: u64,
    state: State,
}

enum State {
    Unread(Asked),
    Read {
        hashes: KeySet,
        /// Keys of rows that this run may have changed since.
        written: KeySet,
        /// Of the layout that the table had.
        revision: u32,
    },
    /// There are too many, or they do not tell whether a record has changed.
    Unfit,
}

/// What was asked so far.
#[derive(Default)]
struct Asked {
    /// What it cost, in looks.
    cost: u64,
    rows: u64,
    unchanged: u64,
}

impl TableHashes {
    /// `blocks`: those of the table.
    pub(super) fn new(resource: &Resource, blocks: u64) -> Self {
        let history = resource.history.as_ref();
        let of_a_field = history.is_some_and(|history| history.row_version.is_some());
        Self {
            cost: blocks * BLOCK,
            state: match of_a_field {
                true => State::Unfit,
                false => State::Unread(Asked::default()),
            },
        }
    }

    pub(super) fn are_read(&self) -> bool {
        matches!(self.state, State::Read { .. })
    }

    /// Positions of the rows of which it is not known that the table has their records as they are.
    pub(super) fn unknown(&self, rows: &[ScanRow]) -> Vec<usize> {
        let rows = rows.iter().enumerate();
        let unknown = rows.filter(|(_, row)| !self.has(row));
        unknown.map(|(place, _)| place).collect()
    }

    /// Whether the table is known to have the record as it is.
    fn has(&self, row: &ScanRow) -> bool {
        match &self.state {
            State::Read {
                hashes, written, ..
            } => hashes.contains(&row.hash) && !written.contains(&row.key),
            State::Unread(_) | State::Unfit => false,
        }
    }

    fn is_worth_reading(&self) -> bool {
        match &self.state {
            State::Unread(asked) => asked.cost > self.cost && asked.unchanged * 2 >= asked.rows,
            State::Read { .. } | State::Unfit => false,
        }
    }

    /// Another layout may respell what the rows hold, and they are to be compared then.
    fn forget_older(&mut self, layout: u32) {
        if matches!(self.state, State::Read { revision, .. } if revision != layout) {
            self.state = State::Unread(Asked::default());
        }
    }

    /// Notes what a question brought.
    pub(super) fn note_answer(&mut self, standings: &[Standing]) {
        if let State::Unread(asked) = &mut self.state {
            let rows = standings.len() as u64;
            asked.cost += QUESTION + rows;
            asked.rows += rows;
            asked.unchanged += count_unchanged(standings).unsigned_abs();
        }
    }

    /// Notes the rows that are to be written.
    pub(super) fn note_written(&mut self, rows: &[ScanRow], standings: &[Standing]) {
        let State::Read {
            hashes, written, ..
        } = &mut self.state
        else {
            return;
        };
        let changed = rows.iter().zip(standings);
        let changed = changed.filter(|(_, standing)| **standing != Standing::Unchanged);
        written.extend(changed.map(|(row, _)| row.key));
        if hashes.len() + written.len() > MOST {
            self.state = State::Unfit;
        }
    }
}

impl Walker {
    /// Reads the hashes once enough was asked, and most of it was unchanged.
    pub(super) async fn read_hashes_if_worth_it(&mut self) -> Result<(), Error> {
        self.hashes.forget_older(self.layout.revision);
        if self.hashes.is_worth_reading() {
            // A commit under way would be in them by half.
            self.outbox.settle().await?;
            self.hashes.state = match self.store.hashes(&self.gauge, MOST).await? {
                Some(hashes) => State::Read {
                    hashes,
                    written: self.outbox.batch.keys.clone(),
                    revision: self.layout.revision,
                },
                None => State::Unfit,
            };
        }
        Ok(())
    }
}
