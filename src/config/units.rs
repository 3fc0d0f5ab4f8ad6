//! Lengths of time and sizes as people write them: `15m`, `1h30m`, `64MiB`.

use std::time::Duration;

/// Longest length of time that is accepted: a hundred years keeps every sum in range.
const MAX_SECONDS: f64 = 100.0 * 366.0 * 86_400.0;

/// Units from long to short, with their milliseconds.
const TIME: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads `15m`, `1h30m`, `250ms`, or a plain number of seconds.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return (0.0..=MAX_SECONDS)
            .contains(&seconds)
            .then(|| Duration::try_from_secs_f64(seconds).ok())
            .flatten();
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let tail = tail.trim_start();
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters)?;
        let (_, millis) = TIME.into_iter().find(|(name, _)| *name == unit)?;
        // Longest first, each unit once: `30m1h` is more likely a slip than a wish.
        if millis >= last {
            return None;
        }
        last = millis;
        let part = number.parse::<u64>().ok()?.checked_mul(millis)?;
        total = total.checked_add(Duration::from_millis(part))?;
        rest = tail.trim_start();
    }
    (last != u64::MAX && total.as_secs_f64() <= MAX_SECONDS).then_some(total)
}

/// Writes a length of time so that [`parse_duration`] reads the same: `90s`, `15m`, `7d`.
pub(super) fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)) != duration {
        return duration.as_secs_f64().to_string();
    }
    if millis == 0 {
        return "0s".to_owned();
    }
    TIME.into_iter()
        .skip(1) // weeks are read, not written
        .find(|(_, unit)| millis.is_multiple_of(u128::from(*unit)))
        .map_or_else(String::new, |(name, unit)| {
            format!("{}{name}", millis / u128::from(unit))
        })
}

const SIZE: [(&str, u64); 7] = [
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
    ("b", 1),
];

/// Reads `64MiB`, `8 MB`, or a plain number of bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" => 1,
        unit => SIZE.into_iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes a size so that [`parse_size`] reads the same.
pub(super) fn format_size(bytes: u64) -> String {
    for (name, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1_u64 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(factor) {
            return format!("{}{name}", bytes / factor);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_written() {
        for (text, millis) in [
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("250ms", 250),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
            ("10", 10_000),
            ("0.5", 500),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "m",
            "-5s",
            "5 years",
            "30m1h",
            "1m1m",
            "1e99",
            "NaN",
            "5x",
            "5µs",
            "99999999999999999999s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_written_so_that_they_read_the_same() {
        for text in ["1500ms", "90s", "15m", "36h", "14d", "0s"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(format_duration(duration), text);
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(parse_size("64MiB"), Some(64 << 20));
        assert_eq!(parse_size("8 mb"), Some(8_000_000));
        assert_eq!(parse_size("512"), Some(512));
        assert_eq!(parse_size("1.5GiB"), None);
        assert_eq!(parse_size("99999999999GiB"), None);
        assert_eq!(format_size(64 << 20), "64MiB");
        assert_eq!(format_size(1000), "1000");
    }
}
