//! Paging by numbers that we count: rows to skip, or pages.

use super::{Book, Doubt, Judged, Seen, count, overlap::Overlap};
use crate::{
    config::{
        endpoint::DottedPath,
        paginator::{self, Stride, Total, TotalAt, Unit},
    },
    fetch::{
        Error, Position,
        decode::{Decoded, Scalar, shown},
    },
};

/// Steps back after a page that does not join, each twice as far as the last. 63 pages in all.
const MOST_BACK: u32 = 6;

#[derive(Debug)]
pub(super) struct Counted {
    /// `stop.after_empty_page` is not asked: an empty page ends the walk where nothing better is known,
    /// and never where the API says that more comes.
    rule: paginator::Counted,
    /// Where the walk begins, or goes on.
    first: u64,
    resumed: bool,
    /// From one position to the next, as the last pages went.
    step: u64,
    overlap: Overlap,
    /// Steps back in a row.
    back: u32,
    /// The place that did not join, while steps are taken back from it.
    gap: Option<u64>,
}

impl Counted {
    pub(super) fn new(
        rule: &paginator::Counted,
        key: &[DottedPath],
        resume: Option<&Position>,
    ) -> Result<Self, Error> {
        let first = match (rule.unit, resume) {
            (_, None) => rule.start,
            (Unit::Rows, Some(Position::Offset(at))) | (Unit::Pages, Some(Position::Page(at))) => {
                *at
            }
            (Unit::Rows | Unit::Pages, Some(_)) => return Err(Error::BadPosition),
        };
        let mut counted = Self {
            rule: rule.clone(),
            first,
            resumed: resume.is_some(),
            step: 1,
            overlap: Overlap::new(rule.overlap, key),
            back: 0,
            gap: None,
        };
        counted.step = counted.advance(0) - rule.overlap.min(counted.advance(0) - 1);
        Ok(counted)
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
        let Some(end) = self.end(total) else {
            return Vec::new();
        };
        let end = end.min(self.rule.maximum.unwrap_or(u64::MAX));
        let mut places = Vec::new();
        let mut at = next.saturating_add(self.step);
        // The first records of a page were on the one before.
        while places.len() < count && at.saturating_add(self.rule.overlap) < end {
            places.push(self.position(at));
            at = at.saturating_add(self.step);
        }
        places
    }

    pub(super) fn after(&mut self, seen: &Seen<'_>, book: &mut Book) -> Result<Judged, Error> {
        let at = match seen.position {
            Some(Position::Offset(at) | Position::Page(at)) => *at,
            Some(Position::Cursor(_) | Position::Number(_) | Position::Url(_)) | None => {
                return Err(Error::BadPosition);
            }
        };
        let rows = seen.decoded.records.len() as u64;
        let Some(repeated) = self.repeated(seen.decoded, at) else {
            return self.look_back(seen, book, at);
        };
        (self.back, self.gap) = (0, None);
        self.overlap.remember(seen.decoded);
        book.note(seen, repeated as u64)?;
        let next = self.next(seen, book, at, rows, rows - repeated as u64)?;
        Ok(Judged { next, repeated })
    }

    fn next(
        &mut self,
        seen: &Seen<'_>,
        book: &mut Book,
        at: u64,
        rows: u64,
        fresh: u64,
    ) -> Result<Option<Position>, Error> {
        if seen.decoded.no_content {
            self.compare_with_total(book);
            return Ok(None);
        }
        self.read_total(seen, book)?;
        let has_more = book.has_more(self.rule.stop.more.as_ref(), seen)?;
        let next = at.saturating_add(self.advance(rows));
        let total_reached = book
            .total
            .and_then(|total| self.reached(at, next, total, book));
        let more = match (total_reached, has_more) {
            (Some(true), Some(true)) => fresh > 0,
            (Some(false), Some(false)) => {
                book.doubt(format!(
                    "the API says that there is no more, but counts {} in all",
                    book.total.unwrap_or_default()
                ));
                false
            }
            (Some(reached), _) => !reached,
            (None, Some(more)) => more,
            (None, None) => fresh > 0 && !self.is_short(rows),
        };
        if !more {
            self.compare_with_total(book);
            return Ok(None);
        }
        if fresh == 0 {
            if self.rule.unit == Unit::Pages && book.total == Some(book.records) {
                // The total counts records, not pages, and all of them are here.
                return Ok(None);
            }
            book.follow_empty()?;
        }
        let next = next
            .saturating_sub(self.rule.overlap)
            .max(at.saturating_add(1));
        if rows > 0 && self.rule.unit == Unit::Rows {
            self.step = next - at;
        }
        if let Some(maximum) = self.rule.maximum.filter(|maximum| next >= *maximum) {
            book.doubt.get_or_insert(Doubt::Maximum(maximum));
            return Ok(None);
        }
        Ok(Some(self.position(next)))
    }

    fn position(&self, at: u64) -> Position {
        match self.rule.unit {
            Unit::Rows => Position::Offset(at),
            Unit::Pages => Position::Page(at),
        }
    }

    fn limit(&self) -> Option<u64> {
        self.rule.size.as_ref().map(|size| size.limit.max(1))
    }

    /// How far a page with `rows` leads. With [`Stride::Received`], a page shorter than the limit leads as
    /// far as it is long: the API may cap its pages, and skipping the limit would skip rows.
    fn advance(&self, rows: u64) -> u64 {
        let limit = self.limit().unwrap_or(1);
        match (self.rule.unit, self.rule.stride) {
            (Unit::Pages, _) | (Unit::Rows, Stride::One) => 1,
            (Unit::Rows, Stride::Received) if rows > 0 => rows,
            (Unit::Rows, Stride::Received | Stride::Limit) => limit,
        }
    }

    /// Whether the page at `at`, which leads to `next`, was the last by the API's count. `None`: the count
    /// does not tell.
    fn reached(&self, at: u64, next: u64, total: u64, book: &Book) -> Option<bool> {
        match (self.rule.unit, self.rule.stride, self.counts()) {
            (Unit::Rows, Stride::Received | Stride::Limit, _)
            | (Unit::Pages, _, Some(Unit::Pages) | None) => {
                Some(next >= total.saturating_add(self.rule.base))
            }
            // By what came, so that pages that the API caps are no early end. A resumed walk does not know
            // what came before.
            _ if !self.resumed && self.first == self.rule.base => Some(book.records >= total),
            _ => self.end(total).map(|end| at.saturating_add(1) >= end),
        }
    }

    /// The first position behind the last row or page, if `total` and the size of a page tell it.
    fn end(&self, total: u64) -> Option<u64> {
        let whole = match (self.rule.unit, self.rule.stride, self.counts()) {
            (Unit::Rows, Stride::Received | Stride::Limit, _)
            | (Unit::Pages, _, Some(Unit::Pages) | None) => total,
            _ => total.div_ceil(self.limit()?),
        };
        Some(whole.saturating_add(self.rule.base))
    }

    fn counts(&self) -> Option<Unit> {
        self.rule.stop.total.as_ref().map(|total| total.counts)
    }

    fn is_short(&self, rows: u64) -> bool {
        self.rule.stop.after_short_page && self.limit().is_some_and(|limit| rows < limit)
    }

    /// Whether the walk goes on behind its beginning, so that its first records were read before.
    fn is_later_resumed(&self) -> bool {
        self.resumed && self.first > self.rule.start
    }

    /// Records at the front of the page that came before. `None`: the page does not join the one before.
    fn repeated(&self, page: &Decoded, at: u64) -> Option<usize> {
        if at == self.first && self.is_later_resumed() {
            // What lies before is not remembered. As many as were asked for again.
            let asked = usize::try_from(self.rule.overlap).unwrap_or(usize::MAX);
            return Some(asked.min(page.records.len()));
        }
        self.overlap.join(page)
    }

    /// Looks for the end of the last page further ahead. Its own records are not handed on: without what
    /// lies before it, the page would be a place to resume at.
    fn look_back(&mut self, seen: &Seen<'_>, book: &mut Book, at: u64) -> Result<Judged, Error> {
        let rows = seen.decoded.records.len();
        book.note(seen, rows as u64)?;
        book.follow_empty()?;
        let gap = *self.gap.get_or_insert(at);
        let next = if self.back < MOST_BACK && at > self.rule.start {
            let far = self.limit().unwrap_or(1).saturating_mul(1 << self.back);
            self.back += 1;
            at.saturating_sub(far).max(self.rule.start)
        } else {
            // It is gone, or the order is another. The rest is read all the same, and proves nothing.
            book.doubt(format!(
                "page {} does not join the page before it: rows moved while they were read",
                seen.number
            ));
            self.overlap.rows = 0;
            gap
        };
        Ok(Judged {
            next: Some(self.position(next)),
            repeated: rows,
        })
    }

    fn read_total(&self, seen: &Seen<'_>, book: &mut Book) -> Result<(), Error> {
        let (total, name, [missing, unreadable]) = match &self.rule.stop.total {
            None => return Ok(()),
            Some(Total {
                at: TotalAt::Body(path),
                ..
            }) => (
                seen.decoded.envelope.total.clone(),
                shown(path),
                [
                    "(total_path) is not in the answer",
                    "(total_path) is not a count",
                ],
            ),
            Some(Total {
                at: TotalAt::Header(name),
                ..
            }) => (
                seen.answer
                    .header(name)
                    .map(|text| Scalar::Text(text.to_owned())),
                name.clone(),
                [
                    "(total_header) is not in the answer",
                    "(total_header) is not a count",
                ],
            ),
        };
        let misshapen = |what| Error::UnexpectedShape {
            path: name.as_str().into(),
            what,
            page: seen.number,
        };
        match (total.as_ref().and_then(count), book.total) {
            (Some(total), _) => {
                let fell_from = book.totals.hear(seen.answer.asked, total);
                if let Some(before) = fell_from.filter(|_| self.rule.overlap == 0) {
                    book.doubt(fell(before, total));
                }
                book.total = book.totals.newest();
            }
            // Later pages may leave it out.
            (None, Some(_)) => {}
            (None, None) if total.is_none() => {
                return Err(misshapen(missing));
            }
            (None, None) => return Err(misshapen(unreadable)),
        }
        Ok(())
    }

    fn compare_with_total(&self, book: &mut Book) {
        // Pages that join have lost nothing, whatever went away meanwhile.
        if let Some((most, newest)) = book.totals.unsettled().filter(|_| self.rule.overlap == 0) {
            book.doubt(fell(most, newest));
        }
        let (Some(Unit::Rows), Some(total)) = (self.counts(), book.total) else {
            return;
        };
        let mut begun = self.first.saturating_sub(self.rule.base);
        if self.is_later_resumed() {
            begun += self.rule.overlap;
        }
        let skipped = match (self.rule.unit, self.rule.stride) {
            (Unit::Rows, Stride::Received | Stride::Limit) => Some(begun),
            _ if begun == 0 => Some(0),
            _ => self.limit().map(|limit| begun.saturating_mul(limit)),
        };
        let Some(skipped) = skipped else { return };
        let expected = total.saturating_sub(skipped);
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
