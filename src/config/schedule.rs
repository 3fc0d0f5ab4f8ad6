//! When a resource is due.
//!
//! Cron is told in a time zone with its rules, not with today's offset: a local time that is skipped
//! in spring is due once, at the first valid instant; one that is repeated in autumn is due once, at
//! its first pass; steps such as `*/15` follow elapsed time through both.

use std::{
    num::NonZeroU64,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::{Cron, errors::CronError, parser::CronParser, parser::Seconds};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    decode::{Decode, Period, section},
    problem::Problems,
    tree::{Content, Node, Scalar},
    units,
};

/// A resource's schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub timing: Timing,
    /// Each slot is moved by up to this much, always by the same amount for one resource.
    pub jitter: Duration,
}

/// The rule for the slots.
#[derive(Debug, Clone)]
pub enum Timing {
    /// Cron expression with five or six fields, told in `zone`.
    Cron {
        expression: String,
        cron: Box<Cron>,
        zone: Tz,
    },
    /// Every so often, counted from the Unix epoch so that all replicas agree.
    Every(Duration),
}

impl Schedule {
    /// The first slot after `after`, without jitter. `None`: there is none in reach.
    #[must_use]
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.timing {
            Timing::Cron { cron, zone, .. } => cron
                .find_next_occurrence(&after.with_timezone(zone), false)
                .ok()
                .map(|slot| slot.with_timezone(&Utc)),
            Timing::Every(period) => {
                let period = i64::try_from(period.as_millis()).ok().filter(|p| *p > 0)?;
                let slots = after.timestamp_millis().div_euclid(period);
                DateTime::from_timestamp_millis(slots.checked_add(1)?.checked_mul(period)?)
            }
        }
    }

    /// By how much the slots of the resource `name` are moved: the same on every replica and after every start.
    #[must_use]
    pub fn jitter_for(&self, name: &str) -> Duration {
        let millis = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        match NonZeroU64::new(millis) {
            Some(millis) => Duration::from_millis(xxh3_64(name.as_bytes()) % millis),
            None => Duration::ZERO,
        }
    }

    /// The schedule in words: `every 15m`, `cron 0 3 * * * (Europe/Berlin), moved by up to 30s`.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut words = match &self.timing {
            Timing::Cron {
                expression, zone, ..
            } => format!("cron {expression} ({zone})"),
            Timing::Every(period) => format!("every {}", units::format_duration(*period)),
        };
        if !self.jitter.is_zero() {
            words.push_str(", moved by up to ");
            words.push_str(&units::format_duration(self.jitter));
        }
        words
    }
}

section! {
    /// When the resource is due: a cron expression, `every 15m`, or a map. Null: only on request.
    pub(super) struct ScheduleMapFile {
        /// Cron expression with five fields, or six with seconds in front.
        cron: String,
        /// A fixed length of time between slots, counted from 1970-01-01T00:00:00Z.
        every: Period,
        /// Time zone of `cron`. Left out: `daemon.timezone`.
        timezone: Tz,
        /// Each slot is moved by up to this much, always by the same amount for one resource.
        jitter: Duration = "0s",
    }
}

/// A schedule in its long or short form.
#[derive(Debug, Clone)]
pub(super) struct ScheduleFile(pub(super) ScheduleMapFile);

impl Decode for ScheduleFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Some(scalar) = node.scalar() else {
            return ScheduleMapFile::decode(node, problems).map(Self);
        };
        let long = match scalar.text.trim().strip_prefix("every ") {
            Some(period) => Node {
                content: Content::Scalar(Scalar {
                    text: period.to_owned(),
                    ..scalar.clone()
                }),
                ..node.clone()
            }
            .under("every"),
            None => node.clone().under("cron"),
        };
        ScheduleMapFile::decode(&long, problems).map(Self)
    }

    fn show(&self) -> Value {
        self.0.show()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<ScheduleMapFile>();
        json_schema!({ "anyOf": [{ "type": "string", "format": "schedule" }, long] })
    }
}

impl ScheduleFile {
    /// The schedule, with `timezone` written out.
    pub(super) fn resolve(
        &mut self,
        timezone: Tz,
        node: &Node,
        problems: &mut Problems,
    ) -> Option<Schedule> {
        let file = &mut self.0;
        let timing = match (&file.cron, file.every) {
            (Some(expression), None) => {
                let zone = *file.timezone.get_or_insert(timezone);
                match parse_cron(expression) {
                    Ok(cron) => Timing::Cron {
                        expression: expression.trim().to_owned(),
                        cron: Box::new(cron),
                        zone,
                    },
                    Err(message) => {
                        node.nearest(&["cron"]).wrong(problems, message);
                        return None;
                    }
                }
            }
            (None, Some(every)) => {
                if file.timezone.is_some() {
                    node.nearest(&["timezone"])
                        .wrong(problems, "`every` knows no time zone; only `cron` does");
                }
                if every.0 < Duration::from_secs(1) {
                    node.nearest(&["every"])
                        .wrong(problems, "expected at least 1s");
                    return None;
                }
                if file.jitter >= every.0 {
                    node.nearest(&["jitter"])
                        .wrong(problems, "expected less than `every`");
                }
                Timing::Every(every.0)
            }
            (None, None) => {
                node.wrong(problems, "expected `cron` or `every`");
                return None;
            }
            (Some(_), Some(_)) => {
                node.wrong(problems, "`cron` and `every` exclude each other");
                return None;
            }
        };
        let schedule = Schedule {
            timing,
            jitter: file.jitter,
        };
        // The clock of `clock` is not for `config`; whether a slot is left is no matter of seconds.
        if schedule.next_after(SystemTime::now().into()).is_none() {
            node.wrong(problems, "this schedule is never due");
            return None;
        }
        Some(schedule)
    }
}

/// The library's own texts quote the expression, so they are not used.
fn parse_cron(expression: &str) -> Result<Cron, &'static str> {
    // Letters of a time zone or a stray word would be dropped by some readers; here they are refused.
    CronParser::builder()
        .seconds(Seconds::Optional)
        .build()
        .parse(expression)
        .map_err(|error| match error {
            CronError::EmptyPattern => "the cron expression is empty",
            CronError::IllegalCharacters(_) => {
                "the cron expression holds signs that are not known (five fields: minute hour day month weekday; or `every 15m`)"
            }
            CronError::ComponentError(_) => {
                "a field of the cron expression is out of its range (minute hour day month weekday)"
            }
            CronError::InvalidPattern(_)
            | CronError::InvalidDate
            | CronError::InvalidTime
            | CronError::TimeSearchLimitExceeded => {
                "not a cron expression (five fields: minute hour day month weekday; six with seconds in front; or `every 15m`)"
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(expression: &str, zone: &str) -> Schedule {
        Schedule {
            timing: Timing::Cron {
                expression: expression.to_owned(),
                cron: Box::new(parse_cron(expression).unwrap()),
                zone: zone.parse().unwrap(),
            },
            jitter: Duration::ZERO,
        }
    }

    fn slots(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
        let mut at: DateTime<Utc> = after.parse().unwrap();
        (0..count)
            .map(|_| {
                at = schedule.next_after(at).unwrap();
                at.format("%m-%dT%H:%M").to_string()
            })
            .collect()
    }

    #[test]
    fn slots_follow_the_rules_of_their_zone_through_every_transition() {
        for (what, expression, zone, after, expected) in [
            (
                "local morning stays the local morning in autumn",
                "0 9 * * *",
                "Europe/Berlin",
                "2026-10-24T00:00:00Z",
                vec!["10-24T07:00", "10-25T08:00", "10-26T08:00"],
            ),
            (
                "a skipped time runs once, at the first valid instant",
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T00:00:00Z",
                vec!["03-28T01:30", "03-29T01:00", "03-30T00:30"],
            ),
            (
                "a repeated time runs once, at its first pass",
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T12:00:00Z",
                vec!["10-25T00:30", "10-26T01:30"],
            ),
            (
                "steps follow elapsed time in autumn",
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-24T23:45:00Z",
                vec![
                    "10-25T00:00",
                    "10-25T00:30",
                    "10-25T01:00",
                    "10-25T01:30",
                    "10-25T02:00",
                ],
            ),
            (
                "steps follow elapsed time in spring",
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-03-29T00:15:00Z",
                vec!["03-29T00:30", "03-29T01:00", "03-29T01:30"],
            ),
            (
                "New York in spring",
                "30 2 * * *",
                "America/New_York",
                "2026-03-07T12:00:00Z",
                vec!["03-08T07:00", "03-09T06:30"],
            ),
            (
                "New York in autumn",
                "30 1 * * *",
                "America/New_York",
                "2026-10-31T12:00:00Z",
                vec!["11-01T05:30", "11-02T06:30"],
            ),
            (
                "half an hour is skipped on Lord Howe",
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-02T20:00:00Z",
                vec!["10-03T15:30", "10-04T15:15"],
            ),
            (
                "half an hour is repeated on Lord Howe",
                "45 1 * * *",
                "Australia/Lord_Howe",
                "2026-04-04T00:00:00Z",
                vec!["04-04T14:45", "04-05T15:15"],
            ),
            (
                "midnight is skipped in Santiago",
                "0 0 * * *",
                "America/Santiago",
                "2026-09-05T12:00:00Z",
                vec!["09-06T04:00", "09-07T03:00"],
            ),
            (
                "a zone without transitions",
                "*/15 * * * *",
                "Asia/Kolkata",
                "2026-01-01T00:01:00Z",
                vec!["01-01T00:15", "01-01T00:30"],
            ),
            (
                "the last day of the month",
                "0 6 L * *",
                "UTC",
                "2026-01-30T00:00:00Z",
                vec!["01-31T06:00", "02-28T06:00"],
            ),
        ] {
            let schedule = cron(expression, zone);
            assert_eq!(slots(&schedule, after, expected.len()), expected, "{what}");
        }
    }

    #[test]
    fn slots_move_forward_in_every_zone_for_two_years() {
        for zone in [
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Africa/Casablanca",
            "America/Santiago",
            "Asia/Kathmandu",
            "Pacific/Chatham",
            "UTC",
        ] {
            for expression in ["30 2 * * *", "0 */6 * * *", "59 23 * * 0", "15 0 1 * *"] {
                let schedule = cron(expression, zone);
                let mut at: DateTime<Utc> = "2025-12-31T00:00:00Z".parse().unwrap();
                let end: DateTime<Utc> = "2028-01-01T00:00:00Z".parse().unwrap();
                while at < end {
                    let next = schedule.next_after(at).unwrap();
                    assert!(next > at, "{expression} in {zone} after {at}");
                    // From between two slots the same slot is found as from the first of them.
                    let between = at + (next - at) / 2;
                    if between > at {
                        assert_eq!(
                            schedule.next_after(between),
                            Some(next),
                            "{expression} in {zone} after {between}"
                        );
                    }
                    at = next;
                }
            }
        }
    }

    #[test]
    fn every_is_anchored_at_the_epoch() {
        let schedule = Schedule {
            timing: Timing::Every(Duration::from_secs(900)),
            jitter: Duration::ZERO,
        };
        assert_eq!(
            slots(&schedule, "2026-10-25T00:14:59Z", 3),
            ["10-25T00:15", "10-25T00:30", "10-25T00:45"]
        );
        assert_eq!(slots(&schedule, "2026-10-25T00:15:00Z", 1), ["10-25T00:30"]);
    }

    #[test]
    fn jitter_is_the_same_for_one_resource_and_spread_over_many() {
        let mut schedule = cron("0 * * * *", "UTC");
        assert_eq!(schedule.jitter_for("hr/employees"), Duration::ZERO);
        schedule.jitter = Duration::from_secs(60);
        let jitters: std::collections::BTreeSet<Duration> = (0..100)
            .map(|n| schedule.jitter_for(&format!("hr/r{n}")))
            .collect();
        assert!(jitters.len() > 90);
        assert!(jitters.iter().all(|jitter| *jitter < schedule.jitter));
        assert_eq!(schedule.jitter_for("hr/r1"), schedule.jitter_for("hr/r1"));
    }

    #[test]
    fn schedules_tell_themselves_in_words() {
        let mut schedule = cron("0 3 * * *", "Europe/Berlin");
        schedule.jitter = Duration::from_secs(30);
        assert_eq!(
            schedule.describe(),
            "cron 0 3 * * * (Europe/Berlin), moved by up to 30s"
        );
    }

    #[test]
    fn words_that_are_no_cron_expression_are_refused() {
        for expression in [
            "",
            "* * *",
            "61 * * * *",
            "every",
            "* * * * * * * *",
            "a b c d e",
        ] {
            assert!(parse_cron(expression).is_err(), "{expression}");
        }
        for expression in [
            "*/15 * * * *",
            "0 */15 * * * *",
            "@daily",
            "0 9 * * MON-FRI",
        ] {
            assert!(parse_cron(expression).is_ok(), "{expression}");
        }
    }
}
