//! Cursor values: ordered as instants or as numbers, never as text, and kept as the API spelled them.

use std::cmp::Ordering;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::Value as Json;

use super::number::{self, Decimal};
use super::time::{self, DAY_SECONDS, Spelling};
use crate::config::columns::Format;
use crate::config::incremental::{Incremental, Lag, Notation, Toward};
use crate::config::spelled::{self, nanos_of};

/// How far a walk has come, by a field of its records.
///
/// Two values are equal when they mean the same instant or number, however they are spelled.
/// Instants stand above numbers, so that a stray number never hides one.
#[derive(Debug, Clone)]
pub struct CursorValue {
    /// As the API wrote it.
    pub raw: String,
    /// Whether JSON had it as a number and not as a string.
    bare: bool,
    meaning: Meaning,
}

#[derive(Debug, Clone)]
enum Meaning {
    Number,
    /// Nanoseconds from 1970.
    Date(i128),
    Instant(i128, Spelling),
    /// Read by a spelling of the configuration.
    Formatted(i128, Format),
    /// What only the API understands.
    Token,
}

/// How far west of UTC clocks go: a time without a zone may be so much later than it reads.
const UNKNOWN_ZONE: TimeDelta = TimeDelta::hours(14);

impl CursorValue {
    /// Reads a date, an instant or a number from text, as from the configuration. `None`: it is
    /// none of them.
    #[must_use]
    pub fn parse(text: &str, notation: &Notation) -> Option<Self> {
        Some(Self {
            meaning: Meaning::of(text, notation)?,
            raw: text.to_owned(),
            bare: false,
        })
    }

    /// Reads what [`CursorValue::to_json`] wrote, or what a record holds.
    #[must_use]
    pub fn from_json(json: &Json, notation: &Notation) -> Option<Self> {
        match json {
            Json::String(text) => Self::parse(text, notation),
            Json::Number(number) => Some(Self {
                bare: true,
                ..Self::parse(&number.to_string(), notation)?
            }),
            Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
        }
    }

    /// A value that only the API understands. Nothing is before or after it.
    #[must_use]
    pub fn token(text: &str) -> Self {
        Self {
            raw: text.to_owned(),
            bare: false,
            meaning: Meaning::Token,
        }
    }

    /// An instant as rosterd spells it, as far as what is sent can say it.
    #[must_use]
    pub fn at(at: DateTime<Utc>, notation: &Notation) -> Option<Self> {
        let nanos = nanos_of(at)?;
        let nanos = match &notation.sent {
            Some(format) => {
                let text = spelled::write(nanos, format, notation.zone)?;
                spelled::read(&text, format, notation.zone)?
            }
            None => nanos,
        };
        let text = spelled::of_nanos(nanos)?.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        // As it stands, and not by a spelling that would read it otherwise.
        Self::parse(&text, &Notation::default())
    }

    /// Another instant in the spelling of this value. `None`: this one is no instant.
    #[must_use]
    pub fn moved_to(&self, at: DateTime<Utc>, notation: &Notation) -> Option<Self> {
        self.nanos()?;
        if notation.sent.is_some() {
            return Self::at(at, notation);
        }
        Some(Self {
            bare: self.bare,
            ..Self::parse(&self.spell(nanos_of(at)?, notation)?, notation)?
        })
    }

    /// For storage: a number stays a number, everything else is a string; every digit is kept.
    #[must_use]
    pub fn to_json(&self) -> Json {
        if self.bare
            && let Ok(number) = serde_json::from_str(&self.raw)
        {
            return Json::Number(number);
        }
        Json::String(self.raw.clone())
    }

    /// Whether the value lies after `cap`, so that trusting it would silence all records up to
    /// then. Never of a number: whether it counts time cannot be known.
    #[must_use]
    pub fn exceeds(&self, cap: DateTime<Utc>) -> bool {
        match (self.nanos(), nanos_of(cap)) {
            (Some(nanos), Some(cap)) => nanos > cap,
            _ => false,
        }
    }

    /// The instant that the value means; `None`: it is none.
    #[must_use]
    pub fn instant(&self) -> Option<DateTime<Utc>> {
        spelled::of_nanos(self.nanos()?)
    }

    /// How much earlier than a clock the cursor must stay that is set by one: nobody may know the
    /// zone of what is sent.
    #[must_use]
    pub fn clock_margin(&self, notation: &Notation) -> TimeDelta {
        if notation.zone.is_some() {
            return TimeDelta::zero();
        }
        let named = match (&notation.sent, &self.meaning) {
            (Some(format), _) => spelled::names_zone(format),
            (None, Meaning::Formatted(_, format)) => spelled::names_zone(format),
            (None, Meaning::Instant(_, spelling)) => !spelling.zone.is_empty(),
            (None, Meaning::Date(_)) => false,
            (None, Meaning::Number | Meaning::Token) => true,
        };
        if named {
            TimeDelta::zero()
        } else {
            UNKNOWN_ZONE
        }
    }

    /// Which of the two is further, that one being this one or later.
    #[must_use]
    pub fn is_beyond(&self, other: &Self, toward: Toward) -> bool {
        match toward {
            Toward::Max => self > other,
            Toward::Min => self < other,
        }
    }

    /// What a walk that goes on from this value sends: `lag` before it, never before the initial
    /// value, in the spelling of what is sent or else of the value: same zone, same number of
    /// digits, cut down and never up.
    #[must_use]
    pub fn start(&self, incremental: &Incremental) -> String {
        let notation = &incremental.notation;
        let text = self.lagging(incremental.lag, incremental.toward, notation);
        let Some(initial) = &incremental.initial_value else {
            return text;
        };
        let is_before = |initial: &Self| {
            Self::parse(&text, notation)
                .is_some_and(|start| initial.is_beyond(&start, incremental.toward))
        };
        match Self::parse(initial, notation) {
            Some(value) if is_before(&value) => value.sent(notation),
            _ => text,
        }
    }

    /// The value as it is sent.
    #[must_use]
    pub fn sent(&self, notation: &Notation) -> String {
        match (&notation.sent, self.nanos()) {
            (Some(format), Some(nanos)) => spelled::write(nanos, format, notation.zone),
            _ => None,
        }
        .unwrap_or_else(|| self.raw.clone())
    }

    fn lagging(&self, lag: Lag, toward: Toward, notation: &Notation) -> String {
        let sign = match toward {
            Toward::Max => -1,
            Toward::Min => 1,
        };
        let Some(nanos) = self.nanos() else {
            return match self.meaning {
                Meaning::Number if !lag.is_none() => number_lagging(&self.raw, lag, sign),
                _ => self.raw.clone(),
            };
        };
        if lag.is_none() {
            return self.sent(notation);
        }
        let lag = match lag {
            Lag::Time(time) => time,
            Lag::Plain(number) => {
                let unit = match self.meaning {
                    Meaning::Date(_) => 86_400.0,
                    _ => 1.0,
                };
                Duration::try_from_secs_f64(number * unit).unwrap_or(Duration::MAX)
            }
        };
        let lag = i128::try_from(lag.as_nanos()).unwrap_or(i128::MAX / 2);
        self.spell(nanos + sign * lag, notation)
            .unwrap_or_else(|| self.raw.clone())
    }

    /// An instant in the spelling of what is sent, or else of this value.
    fn spell(&self, nanos: i128, notation: &Notation) -> Option<String> {
        let nanos = nanos.clamp(FIRST_DAY * DAY_NANOS, LAST_DAY * DAY_NANOS);
        if let Some(format) = &notation.sent {
            return spelled::write(nanos, format, notation.zone);
        }
        match &self.meaning {
            Meaning::Number | Meaning::Token => None,
            Meaning::Formatted(_, format) => spelled::write(nanos, format, notation.zone),
            Meaning::Date(_) => Some(format_day(nanos.div_euclid(DAY_NANOS))),
            Meaning::Instant(_, spelling) => {
                let step = 10_i128.pow(9 - u32::try_from(spelling.fraction.min(9)).unwrap_or(9));
                let offset = match notation.zone {
                    Some(zone) if spelling.zone.is_empty() => spelled::offset_seconds(nanos, zone)?,
                    _ => spelling.offset_seconds,
                };
                let local = nanos + i128::from(offset) * SECOND_NANOS;
                let local = (local.div_euclid(step) * step).max(FIRST_DAY * DAY_NANOS);
                let (day, time) = (local.div_euclid(DAY_NANOS), local.rem_euclid(DAY_NANOS));
                let seconds = time / SECOND_NANOS;
                let fraction = match spelling.fraction {
                    0 => String::new(),
                    digits => format!(".{:0digits$}", time % SECOND_NANOS / step),
                };
                Some(format!(
                    "{}{}{:02}:{:02}:{:02}{fraction}{}",
                    format_day(day),
                    spelling.separator,
                    seconds / 3_600,
                    seconds / 60 % 60,
                    seconds % 60,
                    self.raw.get(spelling.zone.clone()).unwrap_or_default(),
                ))
            }
        }
    }

    pub(super) fn nanos(&self) -> Option<i128> {
        match &self.meaning {
            Meaning::Number | Meaning::Token => None,
            Meaning::Date(nanos) | Meaning::Instant(nanos, _) | Meaning::Formatted(nanos, _) => {
                Some(*nanos)
            }
        }
    }

    pub(super) fn bare(self) -> Self {
        Self { bare: true, ..self }
    }
}

impl Meaning {
    fn of(text: &str, notation: &Notation) -> Option<Self> {
        // What is sent may be stored as well: an initial value that no record has reached.
        for format in notation.read.iter().chain(&notation.sent) {
            if let Some(nanos) = spelled::read(text, format, notation.zone) {
                return Some(Self::Formatted(nanos, format.clone()));
            }
        }
        if let Some(nanos) = date_nanos(text.as_bytes(), notation) {
            Some(Self::Date(nanos))
        } else if let Some((instant, spelling)) = time::read(text.as_bytes()) {
            let nanos = zoned(instant.nanos(), spelling.zone.is_empty(), notation)?;
            Some(Self::Instant(nanos, spelling))
        } else if Decimal::parse(text.as_bytes()).is_ok() {
            Some(Self::Number)
        } else {
            None
        }
    }
}

/// The instant of a text by the usual forms and those of the configuration.
pub(super) fn read_nanos(text: &[u8], notation: &Notation) -> Option<i128> {
    if !notation.read.is_empty() {
        let text = std::str::from_utf8(text).ok()?;
        let mut formats = notation.read.iter();
        if let Some(nanos) = formats.find_map(|f| spelled::read(text, f, notation.zone)) {
            return Some(nanos);
        }
    }
    date_nanos(text, notation).or_else(|| {
        if notation.zone.is_none() {
            return time::instant(text).map(time::Instant::nanos);
        }
        let (instant, spelling) = time::read(text)?;
        zoned(instant.nanos(), spelling.zone.is_empty(), notation)
    })
}

fn date_nanos(text: &[u8], notation: &Notation) -> Option<i128> {
    let nanos = i128::from(time::date(text)?) * DAY_NANOS;
    zoned(nanos, true, notation)
}

/// The instant of a time that reads as UTC and may be of the configured zone.
fn zoned(nanos: i128, is_local: bool, notation: &Notation) -> Option<i128> {
    match notation.zone {
        Some(_) if is_local => {
            let local = spelled::of_nanos(nanos)?.naive_utc();
            nanos_of(spelled::from_local(local, notation.zone)?)
        }
        _ => Some(nanos),
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
/// 0001-01-01 and 9999-12-31, the first and the last day that the spelling can express.
const FIRST_DAY: i128 = -719_162;
const LAST_DAY: i128 = 2_932_896;

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

/// A number `lag` before it. A plain lag counts in the number's own unit. A length of time is taken
/// off numbers of the size of Unix times (seconds to nanoseconds): should one be a counter, some
/// records are read again. Other numbers stay.
fn number_lagging(raw: &str, lag: Lag, sign: i128) -> String {
    // Seconds with a fraction keep it: only whole units are taken off.
    let (whole, fraction) = raw.find('.').map_or((raw, ""), |point| raw.split_at(point));
    let Some(value) = number::integer(whole.as_bytes()) else {
        return raw.to_owned();
    };
    if fraction.contains(['e', 'E']) {
        return raw.to_owned();
    }
    let (units, floor) = match lag {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the configuration takes up to 1e9"
        )]
        Lag::Plain(number) => (number.ceil() as i128, i128::from(i64::MIN)),
        Lag::Time(time) => {
            let unit: i128 = match value {
                100_000_000..100_000_000_000 => SECOND_NANOS,
                100_000_000_000..100_000_000_000_000 => 1_000_000,
                100_000_000_000_000..100_000_000_000_000_000 => 1_000,
                100_000_000_000_000_000.. => 1,
                _ => return raw.to_owned(),
            };
            let nanos = i128::try_from(time.as_nanos()).unwrap_or(i128::MAX / 2);
            // Rounding the lag up is cutting the result down.
            let units = nanos.div_euclid(unit) + i128::from(nanos.rem_euclid(unit) != 0);
            (units, 0)
        }
    };
    format!(
        "{}{fraction}",
        (i128::from(value) + sign * units).max(floor)
    )
}
