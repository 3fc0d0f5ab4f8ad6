//! What is done to a page before its records are looked at as rows.
//!
//! The steps stand in one list, [`Intake::take`]; each takes the page's records and hands them on. A
//! run and a preview take their pages in alike.

use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::privacy::LeftOut;
use crate::{
    fetch::Page,
    shape::{Mapper, Reject, Scan, Screen},
};

/// The steps that a run's pages go through.
pub(super) struct Intake {
    /// The privacy rules, where there are any.
    screen: Option<Screen>,
    left_out: LeftOut,
}

/// The records of one page, ready to become rows.
pub(super) struct Records {
    pub(super) body: Bytes,
    /// Where in `body` each record stands.
    pub(super) ranges: Vec<Range<u32>>,
    /// The body as the API sent it and where the records stood in it, when cursor values are read from there.
    originals: Option<(Bytes, Vec<Range<u32>>)>,
    /// Records that a step could not let through.
    pub(super) rejects: Vec<Reject>,
}

impl Intake {
    pub(super) fn new(screen: Option<Screen>) -> Self {
        Self {
            screen,
            left_out: LeftOut::default(),
        }
    }

    /// Takes a page in.
    pub(super) fn take(&mut self, page: &Page) -> Records {
        let records = Records {
            body: page.body.clone(),
            ranges: page.records.clone(),
            originals: None,
            rejects: Vec::new(),
        };
        self.screen(records)
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
        Records {
            body: Bytes::from(screened.body),
            ranges: screened.records,
            originals: screened
                .originals
                .map(|originals| (records.body, originals)),
            rejects,
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
    /// The first look at the records: keys, hashes, cursor.
    pub(super) fn scan(&self, mapper: &Mapper, cap: Option<DateTime<Utc>>) -> Scan {
        let originals = self.originals.as_ref();
        let originals = originals.map(|(body, ranges)| (&**body, ranges.as_slice()));
        mapper.scan_beside(&self.body, &self.ranges, originals, cap)
    }
}
