//! Numbers, ages and times as a person reads them, and links.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

/// `1234567` as `1,234,567`.
pub(super) fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    if n < 0 {
        out.push('−');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `one` thing or so many `many`.
pub(super) fn counted(n: i64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A span of seconds with two digits of meaning: `85 ms`, `4.2 s`, `3 min 20 s`, `5 h 2 min`, `12 d`.
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a cast from a float saturates"
    )]
    let whole = seconds.round() as u64;
    let two = |large: u64, a: &str, small: u64, b: &str| match small {
        0 => format!("{large} {a}"),
        _ => format!("{large} {a} {small} {b}"),
    };
    match whole {
        _ if seconds < 0.9995 => format!("{:.0} ms", seconds * 1_000.0),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..600 => two(whole / 60, "min", whole % 60, "s"),
        600..3_600 => format!("{} min", whole / 60),
        3_600..86_400 => two(whole / 3_600, "h", whole % 3_600 / 60, "min"),
        86_400..864_000 => two(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
        _ => format!("{} d", whole / 86_400),
    }
}

/// A span without its small part: `3 min`, `5 h`.
pub(super) fn about(seconds: f64) -> String {
    let span = span(if seconds < 60.0 {
        seconds.round()
    } else {
        seconds
    });
    let mut words = span.splitn(3, ' ');
    match (words.next(), words.next()) {
        (Some("0"), Some("ms")) => "0 s".to_owned(),
        (Some(number), Some(unit)) => {
            format!("{} {unit}", number.strip_suffix(".0").unwrap_or(number))
        }
        _ => span,
    }
}

/// How long ago, with the instant itself behind it.
pub(super) fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    let seconds = (now - at).as_seconds_f64();
    let text = if seconds < 1.0 {
        "just now".to_owned()
    } else {
        format!("{} ago", about(seconds))
    };
    time(at, &text)
}

/// How long from now, or that it is due.
pub(super) fn until(at: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    let seconds = (at - now).as_seconds_f64();
    let text = match seconds {
        ..-60.0 => format!("{} overdue", about(-seconds)),
        ..1.0 => "due now".to_owned(),
        _ => format!("in {}", about(seconds)),
    };
    time(at, &text)
}

/// The instant in full.
pub(super) fn at(at: DateTime<Utc>) -> Markup {
    time(at, &at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

fn time(at: DateTime<Utc>, text: &str) -> Markup {
    html! {
        time datetime=(at.format("%Y-%m-%dT%H:%M:%SZ")) title=(at.format("%Y-%m-%d %H:%M:%S UTC")) { (text) }
    }
}

/// The page of a resource. Names may hold anything that a configuration may.
pub(super) fn resource_link(source: &str, account: &str, resource: &str) -> String {
    format!(
        "/resources/{}/{}/{}",
        segment(source),
        segment(account),
        segment(resource)
    )
}

/// Text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}

/// A sentence in which `words between backticks` are commands and names.
pub(super) fn sentence(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// `source / resource`, with the account between them where it is not the only one.
pub(super) fn resource_name(source: &str, account: &str, resource: &str) -> Markup {
    html! {
        span.source { (breakable(source)) }
        @if account != "default" { span.slash { "/" } span.source { (breakable(account)) } }
        span.slash { "/" }
        span.resource { (breakable(resource)) }
    }
}

/// A name that may go on in the next line after each underscore and point.
pub(super) fn breakable(name: &str) -> Markup {
    html! {
        @for part in name.split_inclusive(['_', '.']) { (part) wbr; }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_digits_of_meaning() {
        for (seconds, full, short) in [
            (0.0, "0 ms", "0 s"),
            (0.0851, "85 ms", "0 s"),
            (0.9999, "1.0 s", "1 s"),
            (4.23, "4.2 s", "4 s"),
            (9.97, "10 s", "10 s"),
            (59.7, "1 min", "1 min"),
            (200.0, "3 min 20 s", "3 min"),
            (1_500.0, "25 min", "25 min"),
            (18_120.0, "5 h 2 min", "5 h"),
            (90_000.0, "1 d 1 h", "1 d"),
            (1e9, "11574 d", "11574 d"),
            (-5.0, "0 ms", "0 s"),
        ] {
            assert_eq!(span(seconds), full, "{seconds}");
            assert_eq!(about(seconds), short, "{seconds}");
        }
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (-1_234_567, "−1,234,567"),
        ] {
            assert_eq!(count(n), text);
        }
    }

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("a/b c.é"), "a%2Fb%20c%2E%C3%A9");
    }
}
