//! What an API says of its own limit: how many requests are left, and until when.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;

use crate::{
    clock,
    config::source::{QuotaHeaders, ResetUnit},
};

/// The API's word on its limit, as of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    /// Requests left in its window, where it says so.
    pub(super) left: Option<u64>,
    /// Until the window is over.
    pub(super) reset: Duration,
}

/// Reads the headers. `None`: they are not there, or nobody can read them.
///
/// A moment is measured from the answer's own `Date`, so that it holds when our clock is off.
pub(super) fn read(
    rule: &QuotaHeaders,
    headers: &HeaderMap,
    date: Option<DateTime<Utc>>,
) -> Option<Quota> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    // Lists such as `100, 100;w=60` name the limit that counts first.
    let number = |name| {
        let text = text(name)?.split([',', ';']).next()?;
        text.trim().parse::<f64>().ok().filter(|n| n.is_finite())
    };
    let now = date.unwrap_or_else(clock::now);
    let until_moment = |seconds: f64| {
        let now = now.timestamp_millis() as f64 / 1000.0;
        seconds - now
    };
    let seconds = match rule.unit {
        ResetUnit::Seconds => number(&rule.reset)?,
        ResetUnit::Milliseconds => number(&rule.reset)? / 1000.0,
        ResetUnit::Epoch => until_moment(number(&rule.reset)?),
        ResetUnit::EpochMs => until_moment(number(&rule.reset)? / 1000.0),
        ResetUnit::Date => {
            let text = text(&rule.reset)?;
            let moment = match DateTime::parse_from_rfc3339(text) {
                Ok(moment) => moment.into(),
                Err(_) => httpdate::parse_http_date(text).ok()?.into(),
            };
            let moment: DateTime<Utc> = moment;
            until_moment(moment.timestamp_millis() as f64 / 1000.0)
        }
    };
    let reset = Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
    let left = rule.remaining.as_deref().and_then(number);
    Some(Quota {
        left: left.map(|left| left.max(0.0) as u64),
        reset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_read_in_every_unit() {
        let date = Some("2026-11-23T10:00:00Z".parse().unwrap());
        for (unit, text, seconds) in [
            (ResetUnit::Seconds, "30", Some(30.0)),
            (ResetUnit::Seconds, "0.5", Some(0.5)),
            (ResetUnit::Seconds, "30;w=60, 5", Some(30.0)),
            (ResetUnit::Milliseconds, "1500", Some(1.5)),
            (ResetUnit::Epoch, "1795428030", Some(30.0)),
            (ResetUnit::Epoch, "1795427000", Some(0.0)),
            (ResetUnit::EpochMs, "1795428030250", Some(30.25)),
            (ResetUnit::Date, "2026-11-23T10:00:30Z", Some(30.0)),
            (ResetUnit::Date, "2026-11-23T11:00:30+01:00", Some(30.0)),
            (ResetUnit::Date, "Mon, 23 Nov 2026 10:00:30 GMT", Some(30.0)),
            (ResetUnit::Date, "soon", None),
            (ResetUnit::Seconds, "NaN", None),
            (ResetUnit::Seconds, "", None),
            (ResetUnit::Seconds, "1e300", None),
        ] {
            let rule = QuotaHeaders {
                remaining: Some("x-left".into()),
                reset: "x-reset".into(),
                unit,
                reserve: 0,
            };
            let mut headers = HeaderMap::new();
            headers.insert("x-reset", text.parse().unwrap());
            headers.insert("x-left", "-3".parse().unwrap());
            let quota = read(&rule, &headers, date);
            assert_eq!(
                quota.map(|quota| quota.reset.as_secs_f64()),
                seconds,
                "{unit:?} {text:?}"
            );
            assert!(quota.is_none_or(|quota| quota.left == Some(0)));
            headers.remove("x-left");
            assert!(read(&rule, &headers, date).is_none_or(|quota| quota.left.is_none()));
            headers.remove("x-reset");
            assert_eq!(read(&rule, &headers, date), None);
        }
    }
}
