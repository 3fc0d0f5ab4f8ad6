//! Dates and instants from text, strictly: what is not plainly one of the two forms stays text.
//!
//! Read here and never by the server, which takes `now`, `infinity` and `24:00` for times.

use std::ops::Range;

/// Days from 1970-01-01 to 2000-01-01, from where Postgres counts.
pub(super) const POSTGRES_EPOCH_DAYS: i64 = 10_957;
pub(super) const DAY_SECONDS: i64 = 86_400;

/// A point in time, counted from 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Instant {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
}

impl Instant {
    /// Microseconds from 2000-01-01, as `timestamptz` counts. Finer digits are cut off, never
    /// rounded up.
    pub(super) fn postgres_micros(self) -> i64 {
        (self.seconds - POSTGRES_EPOCH_DAYS * DAY_SECONDS)
            .saturating_mul(1_000_000)
            .saturating_add(i64::from(self.nanos / 1_000))
    }

    /// Nanoseconds from 1970.
    pub(super) fn nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }
}

/// How an instant was spelled, enough to spell another one alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spelling {
    /// `T`, `t` or a blank.
    pub(super) separator: char,
    /// Digits after the second's point, 0 to 9.
    pub(super) fraction: usize,
    /// What stands behind the time: `Z`, `+01:00`, nothing.
    pub(super) zone: Range<usize>,
    pub(super) offset_seconds: i64,
}

/// `YYYY-MM-DD`, a day that the calendar has, as days from 1970.
pub(super) fn date(text: &[u8]) -> Option<i64> {
    if text.len() != 10 {
        return None;
    }
    calendar_day(text.first_chunk()?)
}

/// The date as Postgres counts it.
pub(super) fn postgres_days(unix_days: i64) -> i32 {
    i32::try_from(unix_days - POSTGRES_EPOCH_DAYS).unwrap_or(i32::MAX)
}

/// RFC 3339, with `T` or a blank, with an offset, `Z` or (then it is UTC) neither; the offset's
/// colon may be missing, as many APIs leave it out. At most nine fraction digits.
pub(super) fn instant(text: &[u8]) -> Option<Instant> {
    read(text).map(|(instant, _)| instant)
}

/// [`instant`], with the way it was spelled.
pub(super) fn read(text: &[u8]) -> Option<(Instant, Spelling)> {
    let days = calendar_day(text.first_chunk()?)?;
    let separator = *text.get(10)?;
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = text.get(11..)?.first_chunk::<8>()? else {
        return None;
    };
    let (hour, minute, second) = (pair(h1, h2)?, pair(m1, m2)?, pair(s1, s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0_u32;
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix(b".") {
        fraction = after
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(after.len());
        if !(1..=9).contains(&fraction) {
            return None;
        }
        let (digits, after) = after.split_at(fraction);
        for place in 0..9 {
            let digit = digits.get(place).map_or(0, |digit| digit - b'0');
            nanos = nanos * 10 + u32::from(digit);
        }
        rest = after;
    }
    let offset_seconds = offset(rest)?;
    let seconds = days * DAY_SECONDS + hour * 3_600 + minute * 60 + second - offset_seconds;
    let spelling = Spelling {
        separator: char::from(separator),
        fraction,
        zone: text.len() - rest.len()..text.len(),
        offset_seconds,
    };
    Some((Instant { seconds, nanos }, spelling))
}

/// `HH:MM`, `HH:MM:SS` or with a fraction, as microseconds from midnight; finer digits are cut off.
pub(super) fn of_day(text: &[u8]) -> Option<i64> {
    let &[h1, h2, b':', m1, m2] = text.first_chunk::<5>()? else {
        return None;
    };
    let (hour, minute) = (pair(h1, h2)?, pair(m1, m2)?);
    let (second, rest) = match text.get(5..)? {
        [] => (0, &[][..]),
        [b':', s1, s2, rest @ ..] => (pair(*s1, *s2)?, rest),
        _ => return None,
    };
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => digits,
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let fraction = (0..6).fold(0, |sum, place| {
        sum * 10 + digits.get(place).map_or(0, |digit| i64::from(digit - b'0'))
    });
    Some((hour * 3_600 + minute * 60 + second) * 1_000_000 + fraction)
}

fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => {
            (sign, pair(h1, h2)?, pair(m1, m2)?)
        }
        [sign, h1, h2] => (sign, pair(h1, h2)?, 0),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 3_600 + minutes * 60),
        b'-' => Some(-(hours * 3_600 + minutes * 60)),
        _ => None,
    }
}

fn pair(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

/// `YYYY-MM-DD` as days from 1970; year 0 is none, as in Postgres.
fn calendar_day(text: &[u8; 10]) -> Option<i64> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return None;
    };
    let year = pair(y1, y2)? * 100 + pair(y3, y4)?;
    let (month, day) = (pair(m1, m2)?, pair(d1, d2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if year == 0 || day == 0 || day > length {
        return None;
    }
    // Years that begin in March put the leap day last, so that months have a closed form.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Some(year * 365 + leap_days + day_of_year - 719_468)
}
