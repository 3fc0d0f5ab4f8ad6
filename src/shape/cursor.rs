//! Cursor values: ordered as instants or as numbers, never as text, and kept as the API spelled them.

use std::cmp::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::json::{Token, Value, unescape};
use super::number::{self, Decimal};
use super::time::{self, DAY_SECONDS, Spelling};

/// How far a walk has come, by a field of its records.
///
/// Two values are equal when they mean the same instant or number, however they are spelled.
/// Instants stand above numbers, so that a stray number never hides one.
#[derive(Debug, Clone)]
pub struct CursorValue {
    /// As the API wrote it.
    pub raw: String,
    meaning: Meaning,
}

#[derive(Debug, Clone)]
enum Meaning {
    /// Whether JSON had it as a number and not as a string.
    Number {
        bare: bool,
    },
    /// Nanoseconds from 1970.
    Date(i128),
    Instant(i128, Spelling),
}

impl CursorValue {
    /// Reads a date, an instant or a number from text, as from the configuration. `None`: it is
    /// none of them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let meaning = if let Some(days) = time::date(text.as_bytes()) {
            Meaning::Date(i128::from(days) * DAY_NANOS)
        } else if let Some((instant, spelling)) = time::read(text.as_bytes()) {
            Meaning::Instant(instant.nanos(), spelling)
        } else if Decimal::parse(text.as_bytes()).is_ok() {
            Meaning::Number { bare: false }
        } else {
            return None;
        };
        Some(Self {
            raw: text.to_owned(),
            meaning,
        })
    }

    /// Reads what [`CursorValue::to_json`] wrote.
    #[must_use]
    pub fn from_json(json: &Json) -> Option<Self> {
        match json {
            Json::String(text) => Self::parse(text),
            Json::Number(number) => Self::parse_number(&number.to_string()),
            Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
        }
    }

    /// For storage: a number stays a number, everything else is a string; every digit is kept.
    #[must_use]
    pub fn to_json(&self) -> Json {
        if let Meaning::Number { bare: true } = self.meaning
            && let Ok(number) = serde_json::from_str(&self.raw)
        {
            return Json::Number(number);
        }
        Json::String(self.raw.clone())
    }

    fn parse_number(text: &str) -> Option<Self> {
        Decimal::parse(text.as_bytes()).ok()?;
        Some(Self {
            raw: text.to_owned(),
            meaning: Meaning::Number { bare: true },
        })
    }

    /// Whether the value lies after `cap`, so that trusting it would silence all records up to
    /// then. Never of a number: whether it counts time cannot be known.
    #[must_use]
    pub fn exceeds(&self, cap: DateTime<Utc>) -> bool {
        self.nanos().is_some_and(|nanos| nanos > nanos_of(cap))
    }

    /// The value `lag` earlier, spelled alike: same zone, same number of digits, cut down and never
    /// up. Numbers of the size of Unix times (seconds to nanoseconds) are taken for such; should
    /// one be a counter, some records are read again. Other numbers stay.
    #[must_use]
    pub fn minus(&self, lag: Duration) -> String {
        if lag.is_zero() {
            return self.raw.clone();
        }
        let lag_nanos = i128::try_from(lag.as_nanos()).unwrap_or(i128::MAX / 2);
        match &self.meaning {
            Meaning::Number { .. } => number_minus(&self.raw, lag_nanos),
            Meaning::Date(nanos) => {
                let day = (nanos - lag_nanos).div_euclid(DAY_NANOS);
                format_day(day.max(FIRST_DAY))
            }
            Meaning::Instant(nanos, spelling) => {
                let step = 10_i128.pow(9 - u32::try_from(spelling.fraction.min(9)).unwrap_or(9));
                let local = nanos - lag_nanos + i128::from(spelling.offset_seconds) * SECOND_NANOS;
                let local = (local.div_euclid(step) * step).max(FIRST_DAY * DAY_NANOS);
                let (day, time) = (local.div_euclid(DAY_NANOS), local.rem_euclid(DAY_NANOS));
                let seconds = time / SECOND_NANOS;
                let fraction = match spelling.fraction {
                    0 => String::new(),
                    digits => format!(".{:0digits$}", time % SECOND_NANOS / step),
                };
                format!(
                    "{}{}{:02}:{:02}:{:02}{fraction}{}",
                    format_day(day),
                    spelling.separator,
                    seconds / 3_600,
                    seconds / 60 % 60,
                    seconds % 60,
                    self.raw.get(spelling.zone.clone()).unwrap_or_default(),
                )
            }
        }
    }

    fn nanos(&self) -> Option<i128> {
        match &self.meaning {
            Meaning::Number { .. } => None,
            Meaning::Date(nanos) | Meaning::Instant(nanos, _) => Some(*nanos),
        }
    }
}

impl Ord for CursorValue {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.nanos(), other.nanos()) {
            (None, None) => {
                let left = Decimal::parse(self.raw.as_bytes());
                let right = Decimal::parse(other.raw.as_bytes());
                match (left, right) {
                    (Ok(left), Ok(right)) => left.compare(&right),
                    _ => Ordering::Equal,
                }
            }
            (left, right) => left.cmp(&right),
        }
    }
}

impl PartialOrd for CursorValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for CursorValue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for CursorValue {}

const SECOND_NANOS: i128 = 1_000_000_000;
const DAY_NANOS: i128 = DAY_SECONDS as i128 * SECOND_NANOS;
/// 0001-01-01, the first day that the spelling can express.
const FIRST_DAY: i128 = -719_162;

fn nanos_of(time: DateTime<Utc>) -> i128 {
    i128::from(time.timestamp()) * SECOND_NANOS + i128::from(time.timestamp_subsec_nanos())
}

fn format_day(days: i128) -> String {
    // The inverse of the calendar in `time`: eras of 400 years that begin in March.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i128::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn number_minus(raw: &str, lag_nanos: i128) -> String {
    // Seconds with a fraction keep it: only whole units are taken off.
    let (whole, fraction) = raw.find('.').map_or((raw, ""), |point| raw.split_at(point));
    let Some(value) = number::integer(whole.as_bytes()) else {
        return raw.to_owned();
    };
    if fraction.contains(['e', 'E']) {
        return raw.to_owned();
    }
    let unit: i128 = match value {
        100_000_000..100_000_000_000 => SECOND_NANOS,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        100_000_000_000_000_000.. => 1,
        _ => return raw.to_owned(),
    };
    // Rounding the lag up is cutting the result down.
    let units = lag_nanos.div_euclid(unit) + i128::from(lag_nanos.rem_euclid(unit) != 0);
    format!("{}{fraction}", (i128::from(value) - units).max(0))
}

/// The highest cursor value of a page, found without building one per record.
pub(super) struct Highest<'a> {
    cap: Option<i128>,
    instant: Option<(i128, Value<'a>)>,
    number: Option<(Decimal<'a>, Value<'a>)>,
    numbers: u64,
    missing: u64,
    pub(super) future: u64,
}

impl<'a> Highest<'a> {
    pub(super) fn new(cap: Option<DateTime<Utc>>) -> Self {
        Self {
            cap: cap.map(nanos_of),
            instant: None,
            number: None,
            numbers: 0,
            missing: 0,
            future: 0,
        }
    }

    /// Takes the value of one more record, `None` when it has none.
    pub(super) fn see(&mut self, value: Option<Value<'a>>) {
        let Some(value) = value else {
            self.missing += 1;
            return;
        };
        if let Some(nanos) = instant_of(value) {
            if self.cap.is_some_and(|cap| nanos > cap) {
                self.future += 1;
            } else if self.instant.is_none_or(|(best, _)| nanos > best) {
                self.instant = Some((nanos, value));
            }
            return;
        }
        match number_of(value) {
            Some(number) => {
                self.numbers += 1;
                let higher = match &self.number {
                    Some((best, _)) => number.compare(best) == Ordering::Greater,
                    None => true,
                };
                if higher {
                    self.number = Some((number, value));
                }
            }
            None => self.missing += 1,
        }
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

    pub(super) fn value(&self) -> Option<CursorValue> {
        if let Some((_, value)) = self.instant {
            return CursorValue::parse(&text_of(value)?);
        }
        if self.future > 0 {
            return None;
        }
        let (_, value) = self.number?;
        let text = std::str::from_utf8(value.raw).ok()?;
        match value.token {
            Token::Number => CursorValue::parse_number(text),
            _ => CursorValue::parse(text),
        }
    }
}

/// Orders two values as instants or as numbers. `None`: one of them is neither, or they differ in that.
pub(super) fn compare(left: Value<'_>, right: Value<'_>) -> Option<Ordering> {
    match (instant_of(left), instant_of(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        (None, None) => Some(number_of(left)?.compare(&number_of(right)?)),
        _ => None,
    }
}

fn instant_of(value: Value<'_>) -> Option<i128> {
    match value.token {
        Token::String if value.escaped => text_of(value)
            .and_then(|text| CursorValue::parse(&text))
            .and_then(|value| value.nanos()),
        Token::String => time::date(value.raw)
            .map(|days| i128::from(days) * DAY_NANOS)
            .or_else(|| time::instant(value.raw).map(time::Instant::nanos)),
        _ => None,
    }
}

fn number_of(value: Value<'_>) -> Option<Decimal<'_>> {
    match value.token {
        Token::Number | Token::String => Decimal::parse(value.raw).ok(),
        _ => None,
    }
}

fn text_of(value: Value<'_>) -> Option<String> {
    let mut text = Vec::with_capacity(value.raw.len());
    unescape(value.raw, &mut text, &mut 0).ok()?;
    String::from_utf8(text).ok()
}
