//! The cursor values of one page: the furthest, the order they came in, and who is out of bounds.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};

use super::cursor::{self, CursorValue};
use super::json::{Token, Value, unescape};
use super::number::Decimal;
use crate::config::incremental::{Notation, RowOrder, Toward};
use crate::config::spelled;

/// What is known of the cursor values of a resource.
#[derive(Debug, Clone, Default)]
pub struct CursorRule {
    pub notation: Notation,
    pub toward: Toward,
    /// The order that the records are to be in.
    pub order: Option<RowOrder>,
}

/// Which records become rows, by their cursor value.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    pub lower: Option<Bound>,
    pub upper: Option<Bound>,
    /// Whether records without a cursor value are left out.
    pub leaves_out_missing: bool,
}

/// An end of what is taken.
#[derive(Debug, Clone)]
pub struct Bound {
    pub value: CursorValue,
    /// Whether records at the end itself are taken.
    pub closed: bool,
}

/// The cursor values of a page in the order of its records.
#[derive(Debug, Clone)]
pub struct Stretch {
    pub first: CursorValue,
    pub last: CursorValue,
    /// Whether they are in the order that was promised.
    pub sorted: bool,
}

/// Takes the cursor values of a page, without building one per record.
pub(super) struct Tracker<'a> {
    rule: &'a CursorRule,
    bounds: &'a Bounds,
    cap: Option<i128>,
    instant: Option<(i128, Value<'a>)>,
    number: Option<(Decimal<'a>, Value<'a>)>,
    numbers: u64,
    missing: u64,
    ends: Option<(Value<'a>, Value<'a>)>,
    before: Option<Point<'a>>,
    unsorted: bool,
    pub(super) future: u64,
}

/// Where a record stands.
#[derive(Clone)]
enum Point<'a> {
    Instant(i128),
    Number(Decimal<'a>),
}

impl<'a> Tracker<'a> {
    pub(super) fn new(
        rule: &'a CursorRule,
        bounds: &'a Bounds,
        cap: Option<DateTime<Utc>>,
    ) -> Self {
        Self {
            rule,
            bounds,
            cap: cap.and_then(spelled::nanos_of),
            instant: None,
            number: None,
            numbers: 0,
            missing: 0,
            ends: None,
            before: None,
            unsorted: false,
            future: 0,
        }
    }

    /// Takes the value of one more record, `None` when it has none. Says whether the record is
    /// within the bounds.
    pub(super) fn see(&mut self, value: Option<Value<'a>>) -> bool {
        let Some((point, value)) =
            value.and_then(|value| Some((point(value, &self.rule.notation)?, value)))
        else {
            self.missing += 1;
            return !self.bounds.leaves_out_missing;
        };
        let taken = self.takes(&point);
        // What is left out now must not be behind the cursor when it is asked for again.
        if taken {
            self.note(&point, value);
        }
        if let Some(order) = self.rule.order {
            self.ends = Some((self.ends.map_or(value, |(first, _)| first), value));
            let wrong = match order {
                RowOrder::Ascending => Ordering::Greater,
                RowOrder::Descending => Ordering::Less,
            };
            self.unsorted |= self
                .before
                .as_ref()
                .is_some_and(|before| before.compare(&point) == wrong);
            self.before = Some(point);
        }
        taken
    }

    fn note(&mut self, point: &Point<'a>, value: Value<'a>) {
        match point {
            Point::Instant(nanos) => {
                if self.cap.is_some_and(|cap| *nanos > cap) {
                    self.future += 1;
                } else if self.instant.is_none_or(|(best, _)| match self.rule.toward {
                    Toward::Max => *nanos > best,
                    Toward::Min => *nanos < best,
                }) {
                    self.instant = Some((*nanos, value));
                }
            }
            Point::Number(number) => {
                self.numbers += 1;
                let further = match self.rule.toward {
                    Toward::Max => Ordering::Greater,
                    Toward::Min => Ordering::Less,
                };
                let is_further = match &self.number {
                    Some((best, _)) => number.compare(best) == further,
                    None => true,
                };
                if is_further {
                    self.number = Some((*number, value));
                }
            }
        }
    }

    fn takes(&self, point: &Point<'_>) -> bool {
        let within = |bound: &Option<Bound>, outside: Ordering| {
            bound.as_ref().is_none_or(|bound| {
                match point.against(&bound.value) {
                    Some(Ordering::Equal) => bound.closed,
                    Some(side) => side != outside,
                    // An instant beside a number: nobody can say.
                    None => true,
                }
            })
        };
        within(&self.bounds.lower, Ordering::Less) && within(&self.bounds.upper, Ordering::Greater)
    }

    /// Records whose cursor value is absent or unreadable. Numbers count as such where the page
    /// has instants: the field is a time then.
    pub(super) fn missing(&self) -> u64 {
        if self.instant.is_some() || self.future > 0 {
            self.missing + self.numbers
        } else {
            self.missing
        }
    }

    /// The furthest value that is not above the cap.
    pub(super) fn furthest(&self) -> Option<CursorValue> {
        if let Some((_, value)) = self.instant {
            return self.value(value);
        }
        if self.future > 0 {
            return None;
        }
        let (_, value) = self.number?;
        self.value(value)
    }

    pub(super) fn stretch(&self) -> Option<Stretch> {
        let (first, last) = self.ends?;
        Some(Stretch {
            first: self.value(first)?,
            last: self.value(last)?,
            sorted: !self.unsorted,
        })
    }

    fn value(&self, value: Value<'_>) -> Option<CursorValue> {
        let parsed = CursorValue::parse(&text_of(value)?, &self.rule.notation)?;
        Some(match value.token {
            Token::Number => parsed.bare(),
            _ => parsed,
        })
    }
}

/// Orders two values as instants or as numbers. `None`: one of them is neither, or they differ in that.
pub(super) fn compare(left: Value<'_>, right: Value<'_>, notation: &Notation) -> Option<Ordering> {
    match (point(left, notation)?, point(right, notation)?) {
        (Point::Instant(left), Point::Instant(right)) => Some(left.cmp(&right)),
        (Point::Number(left), Point::Number(right)) => Some(left.compare(&right)),
        (Point::Instant(_), Point::Number(_)) | (Point::Number(_), Point::Instant(_)) => None,
    }
}

fn point<'a>(value: Value<'a>, notation: &Notation) -> Option<Point<'a>> {
    let nanos = match value.token {
        Token::String if value.escaped => text_of(value)
            .and_then(|text| CursorValue::parse(&text, notation))
            .and_then(|value| value.nanos()),
        Token::String => cursor::read_nanos(value.raw, notation),
        Token::Number if !notation.read.is_empty() => cursor::read_nanos(value.raw, notation),
        _ => None,
    };
    if let Some(nanos) = nanos {
        return Some(Point::Instant(nanos));
    }
    match value.token {
        Token::Number | Token::String => Decimal::parse(value.raw).ok().map(Point::Number),
        _ => None,
    }
}

impl Point<'_> {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Instant(left), Self::Instant(right)) => left.cmp(right),
            (Self::Number(left), Self::Number(right)) => left.compare(right),
            (Self::Instant(_), Self::Number(_)) | (Self::Number(_), Self::Instant(_)) => {
                Ordering::Equal
            }
        }
    }

    fn against(&self, value: &CursorValue) -> Option<Ordering> {
        match (self, value.nanos()) {
            (Self::Instant(nanos), Some(bound)) => Some(nanos.cmp(&bound)),
            (Self::Number(number), None) => {
                let bound = Decimal::parse(value.raw.as_bytes()).ok()?;
                Some(number.compare(&bound))
            }
            (Self::Instant(_), None) | (Self::Number(_), Some(_)) => None,
        }
    }
}

fn text_of(value: Value<'_>) -> Option<String> {
    if value.token == Token::Number {
        return std::str::from_utf8(value.raw).ok().map(str::to_owned);
    }
    let mut text = Vec::with_capacity(value.raw.len());
    unescape(value.raw, &mut text, &mut 0).ok()?;
    String::from_utf8(text).ok()
}
