//! Whether a page joins the one before it.
//!
//! Rows that go away before an offset pull the rest forward, and those that slip behind the offset are
//! never read. So the last records of a page are asked for again with the next one: as long as one of
//! them is met there, and the API keeps the order of what stays, nothing lies between the two pages.

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    config::endpoint::DottedPath,
    fetch::{
        decode::Decoded,
        select::{self, Slot, Wanted},
    },
};

/// Records of a page that are remembered: rows that were added in front push the last ones back.
const REMEMBERED: usize = 32;

/// The end of the last page that was read.
#[derive(Debug)]
pub(super) struct Overlap {
    /// Records asked for again.
    pub(super) rows: u64,
    /// One per field of the key. None: whole records are compared, whatever changes in them.
    key: Vec<Wanted>,
    tail: Vec<u64>,
}

impl Overlap {
    pub(super) fn new(rows: u64, key: &[DottedPath]) -> Self {
        let wanted = |path| {
            let mut wanted = Wanted::default();
            wanted.slot_at(Slot::Next, path);
            wanted
        };
        Self {
            rows,
            key: key.iter().map(wanted).collect(),
            tail: Vec::new(),
        }
    }

    /// How many of the page's first records were on the page before. `None`: the two do not join.
    pub(super) fn join(&self, page: &Decoded) -> Option<usize> {
        if self.rows == 0 || self.tail.is_empty() {
            return Some(0);
        }
        let count = page.records.len();
        let met = (0..count).find(|at| self.knows(page, *at))?;
        if met > 0 {
            // Others came in between. They are new, so all are handed on.
            return Some(0);
        }
        Some(
            (1..count)
                .find(|at| !self.knows(page, *at))
                .unwrap_or(count),
        )
    }

    /// Makes `page` the one before.
    pub(super) fn remember(&mut self, page: &Decoded) {
        if self.rows == 0 {
            return;
        }
        let count = page.records.len();
        let wanted = REMEMBERED.max(usize::try_from(self.rows).unwrap_or(usize::MAX));
        self.tail = (count.saturating_sub(wanted)..count)
            .filter_map(|at| self.name(page, at))
            .collect();
    }

    fn knows(&self, page: &Decoded, at: usize) -> bool {
        self.name(page, at)
            .is_some_and(|name| self.tail.contains(&name))
    }

    /// A hash that stands for the record's key, or for the record where it has none.
    fn name(&self, page: &Decoded, at: usize) -> Option<u64> {
        let record = page.records.get(at)?;
        let bytes = page.body.get(record.start as usize..record.end as usize)?;
        let whole = || xxh3_64(bytes);
        if self.key.is_empty() {
            return Some(whole());
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Some(whole());
        };
        let mut fields = Vec::new();
        for wanted in &self.key {
            match select::scan(text, wanted).ok().and_then(|found| found.next) {
                Some(value) => {
                    fields.extend_from_slice(value.get().as_bytes());
                    fields.push(0);
                }
                None => return Some(whole()),
            }
        }
        Some(xxh3_64(&fields))
    }
}
