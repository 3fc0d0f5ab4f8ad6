//! Instants in an API's own spelling: read, and written so that they read the same.

use chrono::{
    DateTime, MappedLocalTime, NaiveDateTime, NaiveTime, Offset as _, TimeDelta, TimeZone as _,
    Utc,
    format::{Parsed, StrftimeItems},
};
use chrono_tz::Tz;

use super::columns::Format;

const SECOND_NANOS: i128 = 1_000_000_000;

/// Nanoseconds from 1970 of a text in this spelling. `zone`: that of times which name none.
#[must_use]
pub fn read(text: &str, format: &Format, zone: Option<Tz>) -> Option<i128> {
    match format {
        Format::EpochSeconds => epoch(text, 9),
        Format::EpochMillis => epoch(text, 6),
        Format::DotNet => {
            let inner = text.strip_prefix("/Date(")?.strip_suffix(")/")?;
            let offset = inner
                .char_indices()
                .skip(1)
                .find(|(_, sign)| matches!(sign, '+' | '-'));
            epoch(inner.get(..offset.map_or(inner.len(), |(at, _)| at))?, 6)
        }
        Format::IsoDuration => None,
        Format::Pattern(pattern) => {
            let parsed = parse(text, pattern)?;
            if let Ok(at) = parsed.to_datetime() {
                return nanos_of(at.to_utc());
            }
            let at = match parsed.to_naive_datetime_with_offset(0) {
                Ok(at) => at,
                Err(_) => parsed.to_naive_date().ok()?.and_time(NaiveTime::MIN),
            };
            nanos_of(from_local(at, zone)?)
        }
    }
}

/// The fields of a text by a strftime pattern. An hour without minutes is a full hour.
#[must_use]
pub fn parse(text: &str, pattern: &str) -> Option<Parsed> {
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, text, StrftimeItems::new(pattern)).ok()?;
    if parsed.hour_mod_12().is_some() && parsed.minute().is_none() {
        parsed.set_minute(0).ok()?;
    }
    Some(parsed)
}

/// The text in this spelling, cut down to what it can say.
#[must_use]
pub fn write(nanos: i128, format: &Format, zone: Option<Tz>) -> Option<String> {
    let millis = nanos.div_euclid(1_000_000);
    match format {
        Format::EpochSeconds => Some(nanos.div_euclid(SECOND_NANOS).to_string()),
        Format::EpochMillis => Some(millis.to_string()),
        Format::DotNet => Some(format!("/Date({millis})/")),
        Format::IsoDuration => None,
        Format::Pattern(pattern) => {
            use std::fmt::Write as _;
            let at = of_nanos(nanos)?.with_timezone(&zone.unwrap_or(Tz::UTC));
            let mut text = String::new();
            // A pattern may ask for what a zone cannot say; chrono then fails to write.
            write!(text, "{}", at.format(pattern)).ok()?;
            Some(text)
        }
    }
}

/// Whether times in this spelling name their zone.
#[must_use]
pub fn names_zone(format: &Format) -> bool {
    use chrono::format::{Fixed, Item, Numeric};
    match format {
        Format::EpochSeconds | Format::EpochMillis | Format::DotNet => true,
        Format::IsoDuration => false,
        Format::Pattern(pattern) => {
            let mut literal_zulu = false;
            let named = StrftimeItems::new(pattern).any(|item| match item {
                Item::Numeric(Numeric::Timestamp, _) => true,
                Item::Fixed(fixed) => !matches!(
                    fixed,
                    Fixed::ShortMonthName
                        | Fixed::LongMonthName
                        | Fixed::ShortWeekdayName
                        | Fixed::LongWeekdayName
                        | Fixed::LowerAmPm
                        | Fixed::UpperAmPm
                        | Fixed::Nanosecond
                        | Fixed::Nanosecond3
                        | Fixed::Nanosecond6
                        | Fixed::Nanosecond9
                ),
                Item::Literal(text) => {
                    literal_zulu = text.ends_with('Z');
                    false
                }
                _ => false,
            });
            named || literal_zulu
        }
    }
}

/// The instant of a time on the clocks of a zone. One that a clock change leaves out is moved
/// forward by the change; of one that comes twice the first counts.
#[must_use]
pub fn from_local(at: NaiveDateTime, zone: Option<Tz>) -> Option<DateTime<Utc>> {
    let Some(zone) = zone else {
        return Some(at.and_utc());
    };
    let utc = match zone.offset_from_local_datetime(&at) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => {
            at.checked_sub_offset(offset.fix())?
        }
        MappedLocalTime::None => {
            let before = at.checked_sub_signed(TimeDelta::hours(24))?;
            let offset = zone.offset_from_local_datetime(&before).earliest()?;
            at.checked_sub_offset(offset.fix())?
        }
    };
    Some(utc.and_utc())
}

/// Seconds from UTC on the clocks of a zone.
#[must_use]
pub fn offset_seconds(nanos: i128, zone: Tz) -> Option<i64> {
    let at = of_nanos(nanos)?.naive_utc();
    let offset = zone.offset_from_utc_datetime(&at).fix();
    Some(i64::from(offset.local_minus_utc()))
}

/// Nanoseconds from 1970.
#[must_use]
pub fn nanos_of(time: DateTime<Utc>) -> Option<i128> {
    Some(i128::from(time.timestamp()) * SECOND_NANOS + i128::from(time.timestamp_subsec_nanos()))
}

/// The instant of so many nanoseconds from 1970, where the calendar reaches it.
#[must_use]
pub fn of_nanos(nanos: i128) -> Option<DateTime<Utc>> {
    let seconds = i64::try_from(nanos.div_euclid(SECOND_NANOS)).ok()?;
    let rest = u32::try_from(nanos.rem_euclid(SECOND_NANOS)).ok()?;
    DateTime::from_timestamp(seconds, rest)
}

/// A number of units, each a power of ten of nanoseconds; finer digits are cut off.
fn epoch(text: &str, nano_power: usize) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits.len() > 20 || !all_digits(digits) || !all_digits(fraction) {
        return None;
    }
    let fraction = format!("{fraction:0<nano_power$}");
    format!("{whole}{}", fraction.get(..nano_power)?)
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Format {
        Format::Pattern(text.to_owned())
    }

    #[test]
    fn what_is_written_reads_the_same_cut_down_and_never_up() {
        let berlin = Some(Tz::Europe__Berlin);
        for (format, zone, at, expected) in [
            (
                Format::EpochSeconds,
                None,
                "2024-01-31T10:20:30.999Z",
                "1706696430",
            ),
            (
                Format::EpochMillis,
                None,
                "2024-01-31T10:20:30.9999Z",
                "1706696430999",
            ),
            (Format::EpochSeconds, None, "1969-12-31T23:59:59.5Z", "-1"),
            (
                Format::DotNet,
                None,
                "2024-01-31T10:20:30.5Z",
                "/Date(1706696430500)/",
            ),
            (
                pattern("%Y-%m-%dT%H:00:00Z"),
                None,
                "2024-01-31T23:59:59Z",
                "2024-01-31T23:00:00Z",
            ),
            (
                pattern("%d.%m.%Y %I %p"),
                None,
                "2024-01-31T13:59:59Z",
                "31.01.2024 01 PM",
            ),
            (
                pattern("%Y-%m-%d"),
                None,
                "2024-01-31T23:59:59Z",
                "2024-01-31",
            ),
            (
                pattern("%Y-%m-%d"),
                berlin,
                "2024-01-31T23:30:00Z",
                "2024-02-01",
            ),
            (
                pattern("%d-%b-%Y"),
                None,
                "2024-01-31T10:00:00Z",
                "31-Jan-2024",
            ),
            (
                pattern("%m/%d/%Y %I:%M:%S %p"),
                None,
                "2024-01-31T22:20:30Z",
                "01/31/2024 10:20:30 PM",
            ),
            (
                pattern("%Y-%m-%dT%H:%M:%S%:z"),
                berlin,
                "2024-07-01T10:00:00Z",
                "2024-07-01T12:00:00+02:00",
            ),
            (
                pattern("%Y-%m-%d %H:%M"),
                berlin,
                "2024-07-01T10:00:59Z",
                "2024-07-01 12:00",
            ),
        ] {
            let at: DateTime<Utc> = at.parse().unwrap();
            let nanos = nanos_of(at).unwrap();
            let text = write(nanos, &format, zone).unwrap();
            assert_eq!(text, expected);
            let back = read(&text, &format, zone).unwrap();
            assert!(back <= nanos, "{text} is after {at}");
            assert_eq!(write(back, &format, zone).unwrap(), text);
        }
    }

    #[test]
    fn what_is_not_in_the_spelling_is_not_read() {
        for (text, format) in [
            ("2024-01-31", Format::EpochSeconds),
            ("", Format::EpochMillis),
            ("/Date(x)/", Format::DotNet),
            ("31.02.2024", pattern("%d.%m.%Y")),
            ("2024-01-31", pattern("%d.%m.%Y")),
            ("P1D", Format::IsoDuration),
        ] {
            assert_eq!(read(text, &format, None), None, "{text}");
        }
        let offset = read("/Date(1706696430500+0100)/", &Format::DotNet, None);
        assert_eq!(offset, read("1706696430500", &Format::EpochMillis, None));
    }

    #[test]
    fn a_spelling_tells_whether_it_names_its_zone() {
        for (format, named) in [
            (Format::EpochMillis, true),
            (pattern("%Y-%m-%d"), false),
            (pattern("%d %b %Y %I:%M %p"), false),
            (pattern("%Y-%m-%dT%H:%M:%S%.3f"), false),
            (pattern("%Y-%m-%dT%H:%M:%SZ"), true),
            (pattern("%Y-%m-%dT%H:%M:%S%z"), true),
            (pattern("%s"), true),
        ] {
            assert_eq!(names_zone(&format), named, "{format:?}");
        }
    }
}
