//! What the configuration says of columns, made ready for use on values.
//!
//! A column with a `data_type` is pinned: it stands in the table from the first row on, never
//! widens, and takes what converts to it exactly. Everything else in it is a reject of the record.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use chrono::{Datelike as _, Offset as _, TimeZone as _, Timelike as _};
use indexmap::IndexMap;

use super::json::{Token, Value};
use super::number::Decimal;
use super::value::{Misfit, Sink, with_short_text};
use super::{Declared, Kind, name, reason, time};
use crate::config::columns::{ColumnHint, DataType, Format, Zone};
use crate::config::spelled;

/// Position of a rule in [`Hints`].
pub(super) type RuleId = usize;

/// The rules of one table.
#[derive(Debug, Default)]
pub(super) struct Hints {
    rules: Vec<Rule>,
    /// By the column's name in full, before it is shortened.
    by_name: HashMap<String, RuleId>,
    /// For columns that the configuration does not name.
    default: Option<RuleId>,
    /// In the order of the configuration.
    order: Vec<String>,
}

impl Hints {
    pub(super) fn new(hints: &IndexMap<String, ColumnHint>, null_values: &[String]) -> Self {
        let mut all = Self::default();
        for (name, hint) in hints {
            let path: Vec<String> = name.split('.').map(str::to_owned).collect();
            let name = name::plain(&path);
            all.by_name.insert(name.clone(), all.rules.len());
            all.order.push(name);
            all.rules.push(Rule::new(hint, null_values));
        }
        if !null_values.is_empty() {
            all.default = Some(all.rules.len());
            all.rules
                .push(Rule::new(&ColumnHint::default(), null_values));
        }
        all
    }

    /// The rule for the column that the field at `path` gets.
    pub(super) fn of_path(&self, path: &[String]) -> Option<RuleId> {
        if self.rules.is_empty() {
            return None;
        }
        self.of_name(&name::plain(path))
    }

    pub(super) fn of_name(&self, plain: &str) -> Option<RuleId> {
        self.by_name.get(plain).copied().or(self.default)
    }

    pub(super) fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules.get(id)
    }

    /// Columns that exist in any case: their names before shortening, and their kinds.
    pub(super) fn pinned(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.order.iter().filter_map(|name| {
            Some((
                name.as_str(),
                self.rules.get(*self.by_name.get(name)?)?.kind?,
            ))
        })
    }

    /// The kind that the column of this name has in any case.
    pub(super) fn kind_of(&self, path: &[String]) -> Option<Kind> {
        self.rule(self.of_path(path)?)?.kind
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }
}

/// What is asked of the values of one column.
#[derive(Debug)]
pub(super) struct Rule {
    /// The column's kind, where it is fixed.
    pub(super) kind: Option<Kind>,
    pub(super) declared: Declared,
    zone: Zone,
    format: Option<Format>,
    nulls: Vec<Vec<u8>>,
}

impl Rule {
    fn new(hint: &ColumnHint, null_values: &[String]) -> Self {
        let kind = hint.data_type.map(|data_type| match data_type {
            DataType::Text => Kind::Text,
            DataType::Bigint => Kind::BigInt,
            DataType::Double => Kind::Double,
            DataType::Bool => Kind::Boolean,
            DataType::Timestamp if hint.zone == Zone::Naive => Kind::Timestamp,
            DataType::Timestamp => Kind::Timestamptz,
            DataType::Date => Kind::Date,
            DataType::Time => Kind::Time,
            DataType::Interval => Kind::Interval,
            DataType::Json => Kind::Jsonb,
            DataType::Decimal | DataType::Wei => Kind::Numeric,
            DataType::Binary => Kind::Bytea,
        });
        let nulls = hint.null_values.as_deref().unwrap_or(null_values);
        Self {
            kind,
            declared: Declared {
                precision: hint.precision,
                scale: hint.scale,
                not_null: hint.not_null,
                unique: hint.unique,
            },
            zone: hint.zone,
            format: hint.format.clone(),
            nulls: nulls.iter().map(|text| text.as_bytes().to_vec()).collect(),
        }
    }

    /// Whether the value stands for null.
    pub(super) fn is_null(&self, value: Value<'_>) -> bool {
        match value.token {
            Token::Null => true,
            Token::String if !self.nulls.is_empty() => {
                with_short_text(value, |text| self.nulls.iter().any(|null| null == text))
                    .is_ok_and(|hit| hit == Some(true))
            }
            _ => false,
        }
    }

    /// What the column makes of a value that is not there.
    pub(super) fn null(&self, sink: &mut Sink) -> Result<(), Misfit> {
        if self.declared.not_null {
            return Err(Misfit::Reject(reason::NULL_VALUE));
        }
        sink.null();
        Ok(())
    }

    /// Writes a value as this column takes it. `kind` is the column's present kind. Keys are taken
    /// as they are: they were compared with the table's before.
    pub(super) fn write(
        &self,
        sink: &mut Sink,
        kind: Kind,
        value: Value<'_>,
        is_key: bool,
    ) -> Result<(), Misfit> {
        if !is_key && self.is_null(value) {
            return self.null(sink);
        }
        let Some(pinned) = self.kind else {
            return sink.write(kind, value);
        };
        let written = match is_key {
            true => self
                .check(pinned, value)
                .and_then(|()| sink.write(pinned, value)),
            false => self.convert(sink, pinned, value),
        };
        written.map_err(|misfit| match misfit {
            Misfit::Widen(_) => Misfit::Reject(reason::MISFIT),
            reject @ Misfit::Reject(_) => reject,
        })
    }

    fn convert(&self, sink: &mut Sink, kind: Kind, value: Value<'_>) -> Result<(), Misfit> {
        const MISFIT: Misfit = Misfit::Reject(reason::MISFIT);
        if let Some(format) = &self.format {
            return self.formatted(format, sink, kind, value).ok_or(MISFIT);
        }
        self.check(kind, value)?;
        match (kind, value.token) {
            (Kind::Timestamp | Kind::Timestamptz, Token::String) => {
                let micros = with_short_text(value, |text| self.micros(text))?.flatten();
                sink.eight(self.cut(micros.ok_or(MISFIT)?));
                Ok(())
            }
            (Kind::Time, Token::String) => {
                let micros = with_short_text(value, time::of_day)?.flatten();
                sink.eight(self.cut(micros.ok_or(MISFIT)?));
                Ok(())
            }
            (Kind::Date, Token::String) => {
                let day =
                    with_short_text(value, |text| time::date(text).or_else(|| midnight(text)))?;
                sink.date(day.flatten().ok_or(MISFIT)?);
                Ok(())
            }
            (Kind::Boolean, Token::String | Token::Number) => {
                let truth = match value.raw {
                    b"1" => true,
                    b"0" => false,
                    text if text.eq_ignore_ascii_case(b"true") => true,
                    text if text.eq_ignore_ascii_case(b"false") => false,
                    _ => return Err(MISFIT),
                };
                sink.bytes(&[u8::from(truth)]);
                Ok(())
            }
            (Kind::Double, Token::String) => {
                let number = with_short_text(value, super::number::double)?;
                sink.eight(number.ok_or(MISFIT)??.to_bits().cast_signed());
                Ok(())
            }
            (Kind::Bytea, Token::String) => {
                let bytes = match value.escaped {
                    // Base64 has no need of escapes but for the slash.
                    true => {
                        let mut text = Vec::with_capacity(value.raw.len());
                        super::json::unescape(value.raw, &mut text, &mut 0)?;
                        STANDARD.decode(text)
                    }
                    false => STANDARD.decode(value.raw),
                };
                sink.bytes(&bytes.map_err(|_| MISFIT)?);
                Ok(())
            }
            // Lists and objects as the text that they came in.
            (Kind::Text, Token::Array | Token::Object) => sink.checked_text(value.raw),
            _ => sink.write(kind, value),
        }
    }

    /// Whether the value has the size that the column was given.
    fn check(&self, kind: Kind, value: Value<'_>) -> Result<(), Misfit> {
        let Some(precision) = self.declared.precision else {
            return Ok(());
        };
        let fits = match (kind, value.token) {
            (Kind::Text, Token::String) if value.escaped => {
                let mut text = Vec::new();
                super::json::unescape(value.raw, &mut text, &mut 0)?;
                characters(&text) <= usize::from(precision)
            }
            (Kind::Text, _) => characters(value.raw) <= usize::from(precision),
            (Kind::BigInt | Kind::Numeric, Token::Number | Token::String) => {
                let scale = self.declared.scale.unwrap_or(0);
                with_short_text(value, |text| {
                    Decimal::parse(text).is_ok_and(|decimal| match kind {
                        Kind::Numeric => decimal.fits(precision, scale),
                        _ => decimal.to_i64().is_some_and(|number| {
                            let spare = 64_u32.saturating_sub(u32::from(precision));
                            number >= i64::MIN >> spare && number <= i64::MAX >> spare
                        }),
                    })
                })?
                .unwrap_or(false)
            }
            _ => true,
        };
        fits.then_some(()).ok_or(Misfit::Reject(reason::MISFIT))
    }

    /// Cuts a time down to the digits that the column has, which the server would round.
    fn cut(&self, micros: i64) -> i64 {
        let digits = u32::from(self.declared.precision.unwrap_or(6).min(6));
        let step = 10_i64.pow(6 - digits);
        micros.div_euclid(step) * step
    }

    /// Microseconds from 2000 of a time as RFC 3339 has it, or of a date.
    fn micros(&self, text: &[u8]) -> Option<i64> {
        if let Some(days) = time::date(text) {
            return self.local(day(days)?.and_time(NaiveTime::MIN));
        }
        let (instant, spelling) = time::read(text)?;
        if spelling.zone.is_empty() && matches!(self.zone, Zone::Local(_)) {
            return self
                .local(DateTime::from_timestamp(instant.seconds, instant.nanos)?.naive_utc());
        }
        Some(instant.postgres_micros())
    }

    /// Microseconds from 2000 of a time of the column's zone. One that a clock change leaves out
    /// is moved forward by the change; of one that comes twice the first counts.
    fn local(&self, at: NaiveDateTime) -> Option<i64> {
        let utc = match self.zone {
            Zone::Utc | Zone::Naive => at,
            Zone::Local(zone) => match zone.offset_from_local_datetime(&at) {
                MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => {
                    at.checked_sub_offset(offset.fix())?
                }
                MappedLocalTime::None => {
                    let before = at.checked_sub_signed(TimeDelta::hours(24))?;
                    let offset = zone.offset_from_local_datetime(&before).earliest()?;
                    at.checked_sub_offset(offset.fix())?
                }
            },
        };
        in_range(utc.and_utc().timestamp_micros())
    }

    fn formatted(
        &self,
        format: &Format,
        sink: &mut Sink,
        kind: Kind,
        value: Value<'_>,
    ) -> Option<()> {
        if !matches!(value.token, Token::String | Token::Number) {
            return None;
        }
        with_short_text(value, |text| {
            let micros = match format {
                Format::EpochSeconds => in_range(Decimal::parse(text).ok()?.truncated(6)?)?,
                Format::EpochMillis => in_range(Decimal::parse(text).ok()?.truncated(3)?)?,
                Format::DotNet => {
                    let inner = text.strip_prefix(b"/Date(")?.strip_suffix(b")/")?;
                    let sign = inner
                        .iter()
                        .skip(1)
                        .position(|byte| matches!(byte, b'+' | b'-'));
                    let digits = inner.get(..sign.map_or(inner.len(), |at| at + 1))?;
                    in_range(Decimal::parse(digits).ok()?.truncated(3)?)?
                }
                Format::IsoDuration => {
                    let (months, days, micros) = duration(text)?;
                    let mut field = micros.to_be_bytes().to_vec();
                    field.extend_from_slice(&days.to_be_bytes());
                    field.extend_from_slice(&months.to_be_bytes());
                    sink.bytes(&field);
                    return Some(());
                }
                Format::Pattern(pattern) => {
                    let text = std::str::from_utf8(text).ok()?;
                    match kind {
                        Kind::Date => {
                            let date = spelled::parse(text, pattern)?.to_naive_date().ok()?;
                            sink.date(unix_days(date)?);
                            return Some(());
                        }
                        Kind::Time => {
                            let time = spelled::parse(text, pattern)?.to_naive_time().ok()?;
                            let seconds = i64::from(time.num_seconds_from_midnight());
                            let micros = i64::from(time.nanosecond().min(999_999_999) / 1_000);
                            sink.eight(self.cut(seconds * 1_000_000 + micros));
                            return Some(());
                        }
                        _ => self.pattern(text, pattern)?,
                    }
                }
            };
            match kind {
                Kind::Date => sink.date(
                    micros.div_euclid(time::DAY_SECONDS * 1_000_000) + time::POSTGRES_EPOCH_DAYS,
                ),
                _ => sink.eight(self.cut(micros)),
            }
            Some(())
        })
        .ok()
        .flatten()
        .flatten()
    }

    fn pattern(&self, text: &str, pattern: &str) -> Option<i64> {
        let parsed = spelled::parse(text, pattern)?;
        if let Ok(at) = parsed.to_datetime() {
            return in_range(at.timestamp_micros());
        }
        let at = match parsed.to_naive_datetime_with_offset(0) {
            Ok(at) => at,
            Err(_) => parsed.to_naive_date().ok()?.and_time(NaiveTime::MIN),
        };
        self.local(at)
    }
}

fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| (**byte as i8) >= -0x40).count()
}

fn day(unix_days: i64) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(i32::try_from(unix_days).ok()?)
}

/// Days from 1970, of the years that a text in the usual form can have.
fn unix_days(date: NaiveDate) -> Option<i64> {
    (1..=9_999)
        .contains(&date.year())
        .then(|| i64::from(date.to_epoch_days()))
}

/// Microseconds from 2000, out of those from 1970, for the years 1 to 9999.
fn in_range(unix_micros: i64) -> Option<i64> {
    const FIRST: i64 = -62_135_596_800_000_000;
    const LAST: i64 = 253_402_300_799_999_999;
    (FIRST..=LAST)
        .contains(&unix_micros)
        .then(|| unix_micros - time::POSTGRES_EPOCH_DAYS * time::DAY_SECONDS * 1_000_000)
}

/// The day of a time that is a midnight and names no zone but UTC.
fn midnight(text: &[u8]) -> Option<i64> {
    let (instant, spelling) = time::read(text)?;
    (spelling.offset_seconds == 0
        && instant.nanos == 0
        && instant.seconds.rem_euclid(time::DAY_SECONDS) == 0)
        .then(|| instant.seconds.div_euclid(time::DAY_SECONDS))
}

/// `P1Y2M3W4DT5H6M7.8S` as months, days and microseconds. A fraction stands in the seconds only,
/// or in the hours and minutes when they come last.
fn duration(text: &[u8]) -> Option<(i32, i32, i64)> {
    let (negative, rest) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut rest = rest.strip_prefix(b"P")?;
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
    let (mut in_time, mut any, mut rank) = (false, false, 0);
    while let Some((&first, after)) = rest.split_first() {
        if first == b'T' {
            if in_time || after.is_empty() {
                return None;
            }
            in_time = true;
            rest = after;
            continue;
        }
        let end = rest.iter().position(u8::is_ascii_alphabetic)?;
        let (digits, tail) = rest.split_at(end);
        let (&unit, after) = tail.split_first()?;
        let padded: Vec<u8> = match digits.iter().position(|&digit| digit != b'0') {
            Some(at) if digits.get(at).is_some_and(u8::is_ascii_digit) => {
                digits.get(at..)?.to_vec()
            }
            Some(at) if at > 0 => digits.get(at - 1..)?.to_vec(),
            None if !digits.is_empty() => b"0".to_vec(),
            _ => return None,
        };
        let number = Decimal::parse(&padded).ok()?;
        let whole = || number.to_i64().filter(|number| *number >= 0);
        let (place, unit_micros) = match (in_time, unit) {
            (false, b'Y') => (1, None),
            (false, b'M') => (2, None),
            (false, b'W') => (3, None),
            (false, b'D') => (4, None),
            (true, b'H') => (5, Some(3_600)),
            (true, b'M') => (6, Some(60)),
            (true, b'S') => (7, Some(1)),
            _ => return None,
        };
        if place <= rank {
            return None;
        }
        rank = place;
        match place {
            1 => months += whole()?.checked_mul(12)?,
            2 => months += whole()?,
            3 => days += whole()?.checked_mul(7)?,
            4 => days += whole()?,
            _ => {
                if number.to_i64().is_none() && !after.is_empty() {
                    return None;
                }
                micros = micros.checked_add(number.truncated(6)?.checked_mul(unit_micros?)?)?;
            }
        }
        any = true;
        rest = after;
    }
    let sign = if negative { -1 } else { 1 };
    any.then_some((
        i32::try_from(months.checked_mul(sign)?).ok()?,
        i32::try_from(days.checked_mul(sign)?).ok()?,
        micros.checked_mul(sign)?,
    ))
}
