//! Decimal numbers as the text they came in: no digit is ever rounded.

use std::cmp::Ordering;

/// Digits that a number may have. Postgres would take 131,072, written out in full by every reader.
const MAX_DIGITS: usize = 1_000;
/// How far the exponent may go: `1e131071` is 8 bytes here and 131 KB to whoever reads it.
const MAX_EXPONENT: i32 = 1_000;

/// Why text is not a number that can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misread {
    Malformed,
    OutOfRange,
}

/// A number by the grammar of JSON, within the limits, split into its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal<'a> {
    negative: bool,
    /// At least one digit; no leading zero unless it is the only one.
    integer: &'a [u8],
    fraction: &'a [u8],
    exponent: i32,
}

impl<'a> Decimal<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, Misread> {
        let (negative, text) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (integer, rest) = digits(text);
        if integer.is_empty() || (integer.len() > 1 && integer.starts_with(b"0")) {
            return Err(Misread::Malformed);
        }
        let (fraction, rest) = match rest.strip_prefix(b".") {
            Some(rest) => {
                let (fraction, rest) = digits(rest);
                if fraction.is_empty() {
                    return Err(Misread::Malformed);
                }
                (fraction, rest)
            }
            None => (&[][..], rest),
        };
        let exponent = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', rest)) => {
                let (sign, rest) = match rest.split_first() {
                    Some((b'-', rest)) => (-1, rest),
                    Some((b'+', rest)) => (1, rest),
                    _ => (1, rest),
                };
                let (value, end) = digits(rest);
                if value.is_empty() || !end.is_empty() {
                    return Err(Misread::Malformed);
                }
                sign * value.iter().fold(0_i32, |sum, digit| {
                    sum.saturating_mul(10)
                        .saturating_add(i32::from(digit - b'0'))
                })
            }
            Some(_) => return Err(Misread::Malformed),
        };
        if integer.len() + fraction.len() > MAX_DIGITS
            || !(-MAX_EXPONENT..=MAX_EXPONENT).contains(&exponent)
        {
            return Err(Misread::OutOfRange);
        }
        Ok(Self {
            negative,
            integer,
            fraction,
            exponent,
        })
    }

    /// The digits that count, without zeros at either end, and how many of the number's digits
    /// stand before the decimal point (negative: zeros follow the point first).
    fn significant(&self) -> (impl Iterator<Item = u8> + Clone + 'a, usize, i32) {
        let all = self.integer.iter().chain(self.fraction).copied();
        let total = self.integer.len() + self.fraction.len();
        let leading = all.clone().take_while(|&digit| digit == b'0').count();
        let trailing = all.clone().rev().take_while(|&digit| digit == b'0').count();
        let count = total.saturating_sub(leading + trailing);
        let before = to_i32(self.integer.len()) + self.exponent - to_i32(leading);
        (all.skip(leading).take(count), count, before)
    }

    /// The whole number that this is, if it is one and fits.
    pub(super) fn to_i64(self) -> Option<i64> {
        let (digits, count, before) = self.significant();
        if count == 0 {
            return Some(0);
        }
        if before < to_i32(count) || before > 19 {
            return None;
        }
        let mut value = 0_i64;
        for digit in digits {
            value = value
                .checked_mul(10)?
                .checked_sub(i64::from(digit - b'0'))?;
        }
        for _ in to_i32(count)..before {
            value = value.checked_mul(10)?;
        }
        if self.negative {
            Some(value)
        } else {
            value.checked_neg()
        }
    }

    /// The value times ten to the `power`, less what then stands behind the point.
    pub(super) fn truncated(self, power: i32) -> Option<i64> {
        let (mut digits, count, before) = self.significant();
        let before = before.saturating_add(power);
        if count == 0 || before <= 0 {
            return Some(0);
        }
        if before > 19 {
            return None;
        }
        let mut value = 0_i64;
        for _ in 0..before {
            let digit = digits.next().map_or(0, |digit| digit - b'0');
            value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
        }
        if self.negative {
            Some(value)
        } else {
            value.checked_neg()
        }
    }

    /// Whether the value has at most `scale` digits behind the point and `precision` in all, as a
    /// `numeric(precision, scale)` holds it without rounding.
    pub(super) fn fits(self, precision: u16, scale: u16) -> bool {
        let (_, count, before) = self.significant();
        count == 0
            || (before <= i32::from(precision) - i32::from(scale)
                && to_i32(count) - before <= i32::from(scale))
    }

    /// Whether the value is a whole number without fraction digits or exponent in its text.
    pub(super) fn is_plain_integer(&self) -> bool {
        self.fraction.is_empty() && self.exponent == 0
    }

    /// Appends the value in the wire format of `numeric`: count of base-10000 digits, weight of
    /// the first, sign, digits to show after the point, the digits. Fraction zeros are kept.
    pub(super) fn write_numeric(&self, out: &mut Vec<u8>) {
        let scale = (to_i32(self.fraction.len()) - self.exponent).max(0);
        let (digits, count, before) = self.significant();
        // Position of the first base-10000 digit, counted in such digits from the point.
        let weight = (before - 1).div_euclid(4);
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&to_i16(if count == 0 { 0 } else { weight }).to_be_bytes());
        let sign: u16 = if self.negative && count > 0 {
            0x4000
        } else {
            0
        };
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&to_i16(scale).to_be_bytes());
        if count == 0 {
            return;
        }
        // Decimal digits that the first group still takes: 1 to 4.
        let mut room = before - weight * 4;
        let mut group = 0_i16;
        let mut groups = 0_i32;
        for digit in digits {
            group = group * 10 + i16::from(digit - b'0');
            room -= 1;
            if room == 0 {
                out.extend_from_slice(&group.to_be_bytes());
                groups += 1;
                group = 0;
                room = 4;
            }
        }
        if room < 4 {
            for _ in 0..room {
                group *= 10;
            }
            out.extend_from_slice(&group.to_be_bytes());
            groups += 1;
        }
        if let Some(head) = out.get_mut(start..start + 2) {
            head.copy_from_slice(&to_i16(groups).to_be_bytes());
        }
    }

    /// Appends the shortest plain text of the value: equal values give equal texts.
    pub(super) fn write_canonical(&self, out: &mut Vec<u8>) {
        let (digits, count, before) = self.significant();
        if count == 0 {
            out.push(b'0');
            return;
        }
        if self.negative {
            out.push(b'-');
        }
        if before <= 0 {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', before.unsigned_abs() as usize));
        }
        let mut place = 0_i32;
        for digit in digits {
            if place > 0 && place == before {
                out.push(b'.');
            }
            out.push(digit);
            place += 1;
        }
        for _ in place..before {
            out.push(b'0');
        }
    }

    /// Order by value.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let (own, own_count, own_before) = self.significant();
        let (others, other_count, other_before) = other.significant();
        let sign = |negative: bool, count: usize| match (count, negative) {
            (0, _) => 0,
            (_, true) => -1,
            (_, false) => 1,
        };
        let (left, right) = (
            sign(self.negative, own_count),
            sign(other.negative, other_count),
        );
        if left != right || left == 0 {
            return left.cmp(&right);
        }
        let size = own_before.cmp(&other_before).then_with(|| own.cmp(others));
        if left < 0 { size.reverse() } else { size }
    }
}

/// The nearest binary float.
pub(super) fn double(text: &[u8]) -> Result<f64, Misread> {
    Decimal::parse(text)?;
    let number: Option<f64> = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    number
        .filter(|number| number.is_finite())
        .ok_or(Misread::OutOfRange)
}

/// The whole number that `text` is in its one canonical spelling: no plus, no leading zero, no
/// fraction. `-0` is none.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, magnitude) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    match magnitude {
        [] => return None,
        [b'0'] if !negative => return Some(0),
        [b'0', ..] => return None,
        _ if magnitude.len() > 19 => return None,
        _ => {}
    }
    let mut value = 0_u64;
    for &digit in magnitude {
        if !digit.is_ascii_digit() {
            return None;
        }
        // 19 digits stay below 2^64.
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative {
        0_i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

/// Whether a *string* spells a number so that the number can be written back as that same string.
pub(super) fn is_canonical(text: &[u8]) -> bool {
    let zero = text.starts_with(b"-") && !text.iter().any(|digit| matches!(digit, b'1'..=b'9'));
    !zero && !text.iter().any(|byte| matches!(byte, b'e' | b'E'))
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Lengths here are bounded by [`MAX_DIGITS`].
fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn to_i16(count: i32) -> i16 {
    i16::try_from(count).unwrap_or(i16::MAX)
}
