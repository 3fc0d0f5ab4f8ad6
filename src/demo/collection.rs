//! The records of one collection, rendered and ready to be sent.
//!
//! Records lie rendered in segments that never change once made; a page is a list of slices of them,
//! so that serving it copies nothing. A change throws one segment away, and the next reader makes it
//! anew. Pages are ordered by position also under `updated_since`: ordered by time, a record that
//! changes between two pages would move to the end and push another one over a page's edge unseen.

use std::{collections::HashMap, ops::Range, sync::OnceLock};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use fastrand::Rng;

use super::{
    Mutation,
    records::{Company, History, Kind},
};

/// Records per segment: a change renders so many anew, a page of 1,000 sends so few pieces.
const SEGMENT: usize = 256;

/// One collection.
#[derive(Debug)]
pub(super) struct Collection {
    company: Company,
    count: usize,
    /// Only of records that something happened to.
    histories: HashMap<usize, History>,
    /// Empty when the collection is too large to be kept rendered.
    segments: Vec<OnceLock<Segment>>,
    kept: bool,
    dice: Rng,
}

/// A run of rendered records with a comma after each.
#[derive(Debug)]
struct Segment {
    bytes: Bytes,
    /// Where each record ends, without its comma.
    ends: Vec<u32>,
}

impl Collection {
    /// Takes from `budget` what its rendered records will need, or renders for each page when that is too much.
    pub(super) fn new(
        kind: Kind,
        seed: u64,
        count: usize,
        people: usize,
        budget: &mut usize,
    ) -> Self {
        let company = Company { kind, seed, people };
        let need = count.saturating_mul(kind.size());
        let kept = need <= *budget;
        if kept {
            *budget -= need;
        }
        Self {
            count,
            histories: HashMap::new(),
            segments: if kept {
                (0..count.div_ceil(SEGMENT))
                    .map(|_| OnceLock::new())
                    .collect()
            } else {
                Vec::new()
            },
            kept,
            dice: Rng::with_seed(seed ^ 0x5eed ^ (kind as u64) << 32),
            company,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The record at a position, as JSON.
    pub(super) fn record(&self, index: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.company.kind.size());
        self.render(index, &mut out);
        out
    }

    /// The pieces of `{"data":[...],"total":N}` for the asked part, and how many records it holds.
    pub(super) fn page(
        &self,
        offset: usize,
        limit: usize,
        since: Option<DateTime<Utc>>,
    ) -> (Vec<Bytes>, usize) {
        let mut pieces = vec![Bytes::from_static(b"{\"data\":[")];
        let (count, total) = match since {
            Some(since) => self.changed(offset, limit, since, &mut pieces),
            None => {
                let from = offset.min(self.len());
                let to = from.saturating_add(limit).min(self.len());
                self.slices(from..to, &mut pieces);
                (to - from, self.len())
            }
        };
        pieces.push(Bytes::from(format!("],\"total\":{total}}}")));
        (pieces, count)
    }

    fn changed(
        &self,
        offset: usize,
        limit: usize,
        since: DateTime<Utc>,
        pieces: &mut Vec<Bytes>,
    ) -> (usize, usize) {
        let mut out = Vec::new();
        let (mut total, mut count) = (0, 0);
        for index in 0..self.count {
            let history = self.history(index);
            if history.updated < since {
                continue;
            }
            if total >= offset && count < limit {
                if count > 0 {
                    out.push(b',');
                }
                self.company.render(index, &history, &mut out);
                count += 1;
            }
            total += 1;
        }
        pieces.push(Bytes::from(out));
        (count, total)
    }

    fn slices(&self, range: Range<usize>, pieces: &mut Vec<Bytes>) {
        if range.is_empty() {
            return;
        }
        if !self.kept {
            let mut out = Vec::with_capacity(range.len() * self.company.kind.size());
            for index in range {
                self.render(index, &mut out);
                out.push(b',');
            }
            out.pop();
            pieces.push(Bytes::from(out));
            return;
        }
        let mut from = range.start;
        while from < range.end {
            let number = from / SEGMENT;
            let to = ((number + 1) * SEGMENT).min(range.end);
            if let Some(segment) = self.segments.get(number) {
                let segment = segment.get_or_init(|| self.segment(number));
                let first = number * SEGMENT;
                pieces.push(segment.slice(from - first..to - first, to < range.end));
            }
            from = to;
        }
    }

    fn segment(&self, number: usize) -> Segment {
        let first = number * SEGMENT;
        let last = (first + SEGMENT).min(self.len());
        let mut out = Vec::with_capacity((last - first) * self.company.kind.size());
        let mut ends = Vec::with_capacity(last - first);
        for index in first..last {
            self.render(index, &mut out);
            ends.push(u32::try_from(out.len()).unwrap_or(u32::MAX));
            out.push(b',');
        }
        // A segment lives long: give back what the estimate was too high.
        out.shrink_to_fit();
        Segment {
            bytes: Bytes::from(out),
            ends,
        }
    }

    fn render(&self, index: usize, out: &mut Vec<u8>) {
        self.company.render(index, &self.history(index), out);
    }

    fn history(&self, index: usize) -> History {
        self.histories
            .get(&index)
            .copied()
            .unwrap_or_else(|| self.company.untouched(index))
    }

    /// Lets it happen at `at`; answers how many records were touched.
    pub(super) fn mutate(&mut self, mutation: Mutation, at: DateTime<Utc>) -> usize {
        match mutation {
            Mutation::Add(count) => self.add(count, at),
            Mutation::Change(count) => self.touch(count, at, false),
            Mutation::End(count) => self.touch(count, at, true),
        }
    }

    fn add(&mut self, count: usize, at: DateTime<Utc>) -> usize {
        for _ in 0..count {
            let index = self.count;
            self.count += 1;
            self.histories.insert(
                index,
                History {
                    added: Some(at),
                    updated: at,
                    ..self.company.untouched(index)
                },
            );
            self.forget(index);
        }
        count
    }

    fn touch(&mut self, count: usize, at: DateTime<Utc>, end: bool) -> usize {
        let len = self.len();
        let mut touched = 0;
        let mut drawn = 0;
        // Some draws meet a record that was touched now already, or has ended; a bounded number of them.
        while touched < count.min(len) && drawn < count.saturating_mul(20).saturating_add(100) {
            drawn += 1;
            let index = self.dice.usize(..len);
            let history = self.history(index);
            if history.ended.is_some() || history.updated == at {
                continue;
            }
            self.histories.insert(
                index,
                History {
                    revision: history.revision.saturating_add(1),
                    ended: end.then_some(at),
                    updated: at,
                    ..history
                },
            );
            self.forget(index);
            touched += 1;
        }
        touched
    }

    /// The segment of this record will be rendered again.
    fn forget(&mut self, index: usize) {
        if !self.kept {
            return;
        }
        let number = index / SEGMENT;
        match self.segments.get_mut(number) {
            Some(segment) => {
                segment.take();
            }
            None => self.segments.push(OnceLock::new()),
        }
    }
}

impl Segment {
    /// The records of a range, with the last one's comma when more follows.
    fn slice(&self, records: Range<usize>, comma: bool) -> Bytes {
        let end = |n: usize| self.ends.get(n).map_or(self.bytes.len(), |e| *e as usize);
        let from = match records.start {
            0 => 0,
            n => end(n - 1) + 1,
        };
        let to = end(records.end - 1) + usize::from(comma);
        self.bytes.slice(from..to.max(from))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn collection(count: usize, mut budget: usize) -> Collection {
        Collection::new(Kind::Employees, 3, count, count, &mut budget)
    }

    fn ids(pieces: &[Bytes]) -> (Vec<u64>, u64) {
        let page: Value = serde_json::from_slice(&pieces.concat()).unwrap();
        let ids = page["data"].as_array().unwrap();
        (
            ids.iter().map(|r| r["id"].as_u64().unwrap()).collect(),
            page["total"].as_u64().unwrap(),
        )
    }

    #[test]
    fn pages_join_to_the_whole_whatever_their_size() {
        for budget in [0, 10 << 20] {
            let records = collection(1_000, budget);
            for limit in [1, 7, 255, 256, 257, 1_000, 5_000] {
                let mut all = Vec::new();
                let mut offset = 0;
                while offset < records.len() {
                    let (pieces, count) = records.page(offset, limit, None);
                    let (page, total) = ids(&pieces);
                    assert_eq!((page.len(), total), (count, 1_000));
                    all.extend(page);
                    offset += limit;
                }
                assert_eq!(all, (1..=1_000).collect::<Vec<_>>(), "limit {limit}");
            }
            assert_eq!(ids(&records.page(1_000, 10, None).0), (vec![], 1_000));
        }
    }

    #[test]
    fn kept_and_rendered_pages_are_the_same_bytes() {
        let kept = collection(700, 10 << 20);
        let fresh = collection(700, 0);
        assert_eq!(
            kept.page(100, 500, None).0.concat(),
            fresh.page(100, 500, None).0.concat()
        );
    }

    #[test]
    fn what_happened_shows_in_the_page_and_after_its_time() {
        let mut records = collection(600, 10 << 20);
        let before = records.page(0, 1_000, None).0.concat();
        let at = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        assert_eq!(records.mutate(Mutation::Add(3), at), 3);
        assert_eq!(records.mutate(Mutation::Change(10), at), 10);
        assert_eq!(records.mutate(Mutation::End(2), at), 2);
        assert_ne!(records.page(0, 1_000, None).0.concat(), before);
        assert_eq!(ids(&records.page(0, 1_000, None).0).0.len(), 603);
        let (changed, total) = ids(&records.page(0, 1_000, Some(at)).0);
        assert_eq!((changed.len(), total), (15, 15));
        assert!(changed.is_sorted());
        assert_eq!(ids(&records.page(10, 10, Some(at)).0).0, changed[10..]);
    }
}
