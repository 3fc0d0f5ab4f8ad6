//! Paging by numbers that we count: rows to skip, or pages.

use super::{Book, Seen, count, flag};
use crate::{
    config::endpoint::{DottedPath, Stop},
    fetch::{Error, Position, decode::shown},
};

#[derive(Debug)]
pub(super) struct Counted {
    unit: Unit,
    /// Where the walk begins, or goes on.
    first: u64,
    /// The number of the very first row or page: 0 or 1. Totals count from here.
    base: u64,
    /// `after_empty_page` is not asked: an empty page ends the walk where nothing better is known,
    /// and never where the API says that more comes.
    stop: Stop,
    /// Exclusive.
    maximum: Option<u64>,
    /// From one position to the next, as the last pages went.
    step: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Rows { limit: u64 },
    Pages,
}

impl Counted {
    pub(super) fn rows(
        limit: u64,
        start: u64,
        stop: &Stop,
        maximum: Option<u64>,
        resume: Option<&Position>,
    ) -> Result<Self, Error> {
        let first = match resume {
            None => start,
            Some(Position::Offset(at)) => *at,
            Some(Position::Page(_) | Position::Cursor(_) | Position::Url(_)) => {
                return Err(Error::BadPosition);
            }
        };
        let limit = limit.max(1);
        Ok(Self {
            unit: Unit::Rows { limit },
            first,
            // A start of 1 counts rows from 1; a larger one skips rows.
            base: u64::from(start == 1),
            stop: stop.clone(),
            maximum,
            step: limit,
        })
    }

    pub(super) fn pages(
        start: u64,
        stop: &Stop,
        maximum: Option<u64>,
        resume: Option<&Position>,
    ) -> Result<Self, Error> {
        let first = match resume {
            None => start,
            Some(Position::Page(at)) => *at,
            Some(Position::Offset(_) | Position::Cursor(_) | Position::Url(_)) => {
                return Err(Error::BadPosition);
            }
        };
        Ok(Self {
            unit: Unit::Pages,
            first,
            base: start.min(1),
            stop: stop.clone(),
            maximum,
            step: 1,
        })
    }

    pub(super) fn first(&self) -> Position {
        self.position(self.first)
    }

    pub(super) fn foresee(
        &self,
        next: &Position,
        total: Option<u64>,
        count: usize,
    ) -> Vec<Position> {
        let (Some(total), Position::Offset(next) | Position::Page(next)) = (total, next) else {
            return Vec::new();
        };
        let end = total
            .saturating_add(self.base)
            .min(self.maximum.unwrap_or(u64::MAX));
        let mut places = Vec::new();
        let mut at = next.saturating_add(self.step);
        while places.len() < count && at < end {
            places.push(self.position(at));
            at = at.saturating_add(self.step);
        }
        places
    }

    pub(super) fn after(
        &mut self,
        seen: &Seen<'_>,
        book: &mut Book,
    ) -> Result<Option<Position>, Error> {
        let at = match seen.position {
            Some(Position::Offset(at) | Position::Page(at)) => *at,
            Some(Position::Cursor(_) | Position::Url(_)) | None => return Err(Error::BadPosition),
        };
        let rows = seen.decoded.records.len() as u64;
        if seen.decoded.no_content {
            self.compare_with_total(book);
            return Ok(None);
        }
        self.read_total(seen, book)?;
        let has_more = self.has_more(seen)?;
        let next = at.saturating_add(self.advance(rows));
        let total_reached = book
            .total
            .map(|total| next >= total.saturating_add(self.base));
        let more = match (total_reached, has_more) {
            (Some(true), Some(true)) => rows > 0,
            (Some(false), Some(false)) => {
                book.doubt(format!(
                    "the API says that there is no more, but counts {} in all",
                    book.total.unwrap_or_default()
                ));
                false
            }
            (Some(reached), _) => !reached,
            (None, Some(more)) => more,
            (None, None) => rows > 0,
        };
        if !more {
            self.compare_with_total(book);
            return Ok(None);
        }
        if rows == 0 {
            if self.unit == Unit::Pages && book.total == Some(book.records) {
                // The total counts records, not pages, and all of them are here.
                return Ok(None);
            }
            book.follow_empty()?;
        }
        if let Some(maximum) = self.maximum.filter(|maximum| next >= *maximum) {
            book.doubt(format!("stopped at the configured maximum of {maximum}"));
            return Ok(None);
        }
        Ok(Some(self.position(next)))
    }

    fn position(&self, at: u64) -> Position {
        match self.unit {
            Unit::Rows { .. } => Position::Offset(at),
            Unit::Pages => Position::Page(at),
        }
    }

    /// How far a page with `rows` leads. A page shorter than the limit leads as far as it is long:
    /// the API may cap its pages, and skipping the limit would skip rows.
    fn advance(&mut self, rows: u64) -> u64 {
        match self.unit {
            Unit::Rows { limit } if rows == 0 => limit,
            Unit::Rows { .. } => {
                self.step = rows;
                rows
            }
            Unit::Pages => 1,
        }
    }

    fn read_total(&self, seen: &Seen<'_>, book: &mut Book) -> Result<(), Error> {
        let Some(path) = &self.stop.total_path else {
            return Ok(());
        };
        let total = seen.decoded.envelope.total.as_ref();
        match (total.and_then(count), book.total) {
            (Some(total), _) => {
                if let Some(before) = book.totals.hear(seen.answer.asked, total) {
                    book.doubt(fell(before, total));
                }
                book.total = book.totals.newest();
            }
            // Later pages may leave it out.
            (None, Some(_)) => {}
            (None, None) if total.is_none() => {
                return Err(misshapen(path, "(total_path) is not in the answer", seen));
            }
            (None, None) => return Err(misshapen(path, "(total_path) is not a count", seen)),
        }
        Ok(())
    }

    fn has_more(&self, seen: &Seen<'_>) -> Result<Option<bool>, Error> {
        has_more(self.stop.has_more_path.as_ref(), seen)
    }

    fn compare_with_total(&self, book: &mut Book) {
        if let Some((most, newest)) = book.totals.unsettled() {
            book.doubt(fell(most, newest));
        }
        let (Unit::Rows { .. }, Some(total)) = (self.unit, book.total) else {
            return;
        };
        let expected = total.saturating_sub(self.first - self.base.min(self.first));
        if book.records < expected {
            let records = book.records;
            book.doubt(format!(
                "{records} records came, fewer than the {expected} that the API counts"
            ));
        }
    }
}

fn fell(before: u64, now: u64) -> String {
    format!("the total went from {before} to {now} while walking: rows may have been skipped")
}

/// Reads the has-more flag. A configured flag must be there on every page.
pub(super) fn has_more(path: Option<&DottedPath>, seen: &Seen<'_>) -> Result<Option<bool>, Error> {
    let Some(path) = path else { return Ok(None) };
    match seen.decoded.envelope.has_more.as_ref().map(flag) {
        Some(Some(more)) => Ok(Some(more)),
        Some(None) => Err(misshapen(
            path,
            "(has_more_path) is neither true nor false",
            seen,
        )),
        None => Err(misshapen(
            path,
            "(has_more_path) is not in the answer",
            seen,
        )),
    }
}

pub(super) fn misshapen(path: &DottedPath, what: &'static str, seen: &Seen<'_>) -> Error {
    Error::UnexpectedShape {
        path: shown(path).into(),
        what,
        page: seen.number,
    }
}
