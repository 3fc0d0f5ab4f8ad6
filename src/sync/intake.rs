//! What is done to a page before its records are looked at as rows.
//!
//! The steps stand in one list, [`Intake::take`]; each takes the page's records and hands them on. A
//! run and a preview take their pages in alike.

use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{
    Error,
    privacy::LeftOut,
    sandbox::{Binary, Condition, Steps},
};
use crate::{
    config::{Resource, source::KeyHash},
    fetch::Page,
    shape::{self, Beside, Mapper, Reject, Scan, Screen, Verdict},
};

/// The steps that a run's pages go through.
pub(super) struct Intake {
    /// The resource's own steps, where there are any.
    steps: Option<Steps>,
    /// What says of a record that it is gone, where that is a condition.
    condition: Option<Condition>,
    /// The privacy rules, where there are any.
    screen: Option<Screen>,
    key_hash: Option<KeyHash>,
    left_out: LeftOut,
}

/// The records of one page, ready to become rows.
pub(super) struct Records {
    pub(super) body: Bytes,
    /// Where in `body` each record stands.
    pub(super) ranges: Vec<Range<u32>>,
    /// The body as the API sent it and where the records stood in it, when cursor values are read from there.
    originals: Option<(Bytes, Vec<Range<u32>>)>,
    /// What the condition says of each record; empty where there is none.
    verdicts: Vec<Verdict>,
    /// Records that a step could not let through.
    pub(super) rejects: Vec<Reject>,
    /// Texts that Postgres cannot hold, replaced already.
    pub(super) replaced: u64,
}

/// A part of a body, copied, and where it stands in the copy.
fn alone(body: &Bytes, range: &Range<u32>) -> Option<(Bytes, Range<u32>)> {
    let part = body.get(range.start as usize..range.end as usize)?;
    let whole = 0..range.end.checked_sub(range.start)?;
    Some((Bytes::copy_from_slice(part), whole))
}

impl Intake {
    pub(super) fn new(resource: &Resource, screen: Option<Screen>, binary: &Binary) -> Self {
        let (nul, limits) = (resource.nul, resource.processing_limits);
        let condition = resource.deletes.when.as_ref();
        Self {
            steps: Steps::new(binary, &resource.steps, nul, limits),
            condition: condition.map(|program| Condition::new(binary, program, nul, limits)),
            screen,
            key_hash: resource.key_hash.clone(),
            left_out: LeftOut::default(),
        }
    }

    /// Takes a page in. May be dropped; a program of the steps that runs then is killed.
    pub(super) async fn take(&mut self, page: &Page) -> Result<Records, Error> {
        let stepped = match &mut self.steps {
            Some(steps) => Some(steps.page(&page.body, &page.records).await?),
            None => None,
        };
        let records = match stepped {
            Some(stepped) => Records {
                body: Bytes::from(stepped.body),
                ranges: stepped.records,
                originals: None,
                verdicts: Vec::new(),
                rejects: stepped.rejects,
                replaced: stepped.replaced,
            },
            None => Records {
                body: page.body.clone(),
                ranges: page.records.clone(),
                originals: None,
                verdicts: Vec::new(),
                rejects: Vec::new(),
                replaced: 0,
            },
        };
        let records = self.judge(records).await?;
        let records = self.screen(records);
        Ok(self.key(records))
    }

    /// Says which records are gone, before the privacy rules take away what they say it by.
    async fn judge(&mut self, mut records: Records) -> Result<Records, Error> {
        if let Some(condition) = &mut self.condition {
            records.verdicts = condition.page(&records.body, &records.ranges).await?;
        }
        Ok(records)
    }

    /// Applies the privacy rules: behind this step nothing is left of what they keep out.
    fn screen(&mut self, records: Records) -> Records {
        let Some(screen) = &mut self.screen else {
            return records;
        };
        let screened = screen.page(&records.body, &records.ranges);
        self.left_out.count(&screened);
        let mut rejects = records.rejects;
        rejects.extend(screened.rejects);
        let verdicts = screened.places.iter();
        let verdicts = verdicts.filter_map(|&place| records.verdicts.get(place).copied());
        Records {
            verdicts: verdicts.collect(),
            body: Bytes::from(screened.body),
            ranges: screened.records,
            originals: screened
                .originals
                .map(|originals| (records.body, originals)),
            rejects,
            replaced: records.replaced,
        }
    }

    /// Gives records without a key one, made of what the rules leave.
    fn key(&self, records: Records) -> Records {
        let Some(hash) = &self.key_hash else {
            return records;
        };
        let (body, ranges) = shape::key_page(hash, &records.body, &records.ranges);
        Records {
            // Cursor values that the rules do not keep out stand in the record still.
            originals: records.originals,
            verdicts: records.verdicts,
            body: Bytes::from(body),
            ranges,
            ..records
        }
    }

    /// Paths that the rules kept out for the first time since this was last asked.
    pub(super) fn take_blocked(&mut self) -> Vec<String> {
        self.screen
            .as_mut()
            .map(Screen::take_blocked)
            .unwrap_or_default()
    }

    pub(super) fn left_out(&self) -> &LeftOut {
        &self.left_out
    }
}

impl Records {
    /// One of the records by itself, in memory of its own. `None`: there is none at this place.
    pub(super) fn only(&self, place: usize) -> Option<Self> {
        let (body, range) = alone(&self.body, self.ranges.get(place)?)?;
        let originals = match &self.originals {
            Some((body, ranges)) => {
                let (body, range) = alone(body, ranges.get(place)?)?;
                Some((body, vec![range]))
            }
            None => None,
        };
        Some(Self {
            body,
            ranges: vec![range],
            originals,
            verdicts: self.verdicts.get(place).copied().into_iter().collect(),
            rejects: Vec::new(),
            replaced: 0,
        })
    }

    /// Bytes that these records hold in memory, if it is their own.
    pub(super) fn bytes(&self) -> usize {
        let originals = self.originals.as_ref();
        self.body.len() + originals.map_or(0, |(body, _)| body.len())
    }

    /// The first look at the records: keys, hashes, cursor.
    pub(super) fn scan(&self, mapper: &Mapper, cap: Option<DateTime<Utc>>) -> Scan {
        let originals = self.originals.as_ref();
        let originals = originals.map(|(body, ranges)| (&**body, ranges.as_slice()));
        let beside = Beside {
            originals,
            verdicts: &self.verdicts,
        };
        mapper.scan_beside(&self.body, &self.ranges, beside, cap)
    }
}
