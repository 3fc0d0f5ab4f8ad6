//! Which slots are due, and which comes next. Pure.
//!
//! The jitter of a resource moves all its slots by the same amount, so a slot stands for its moved
//! time everywhere in the tables.

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::{Resource, Source, schedule::Schedule};

/// Slots are counted up to here. A schedule of every second that was down for a week has 600,000, and
/// nobody gains from the exact number.
const MOST_COUNTED: i64 = 1_000;

/// Later than this, a slot counts as missed: its run is a catch-up. Waiting for a free place in the
/// process is not that long in a healthy one.
const MISSED_AFTER: TimeDelta = TimeDelta::minutes(5);

/// What a due slot and the time make together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The newest slot that is past.
    pub last: DateTime<Utc>,
    /// Past slots, the first one counted too.
    pub count: i64,
    /// Whether they were missed, and not only just reached.
    pub missed: bool,
    /// The first slot that is not past.
    pub next: Option<DateTime<Utc>>,
}

impl Due {
    /// The schedule was taken out of the configuration, and this slot is the last that was planned.
    pub(super) fn last_of_all(slot: DateTime<Utc>) -> Self {
        Self {
            last: slot,
            count: 1,
            missed: false,
            next: None,
        }
    }
}

/// The rule of one resource: its schedule, and its own share of jitter.
pub(super) struct Slots<'a> {
    pub schedule: &'a Schedule,
    pub jitter: TimeDelta,
}

/// The slots of a resource as configured; `None` when it has no schedule.
pub(super) fn of<'a>(source: &Source, resource: &'a Resource) -> Option<Slots<'a>> {
    let schedule = resource.schedule.as_ref()?;
    let name = format!("{}/{}/{}", source.account, source.name, resource.name);
    Some(Slots {
        schedule,
        jitter: TimeDelta::from_std(schedule.jitter_for(&name)).unwrap_or_default(),
    })
}

/// The slots at which everything is read; `None` when there are none.
pub(super) fn of_reconcile<'a>(source: &Source, resource: &'a Resource) -> Option<Slots<'a>> {
    let schedule = resource.reconcile.as_ref()?;
    let name = format!("{}/{}/{}", source.account, source.name, resource.name);
    Some(Slots {
        schedule,
        jitter: TimeDelta::from_std(schedule.jitter_for(&name)).unwrap_or_default(),
    })
}

impl Slots<'_> {
    /// The first slot after an instant, jitter included.
    pub(super) fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.schedule
            .next_after(after - self.jitter)
            .map(|slot| slot + self.jitter)
            .filter(|slot| *slot > after)
    }

    /// Everything that is past at `now`, beginning with the due slot `first`.
    pub(super) fn due(&self, first: DateTime<Utc>, now: DateTime<Utc>) -> Due {
        let mut last = first;
        let mut count = 1;
        while count < MOST_COUNTED
            && let Some(slot) = self.next_after(last).filter(|slot| *slot <= now)
        {
            last = slot;
            count += 1;
        }
        Due {
            last,
            count,
            missed: count > 1 || now - first > MISSED_AFTER,
            next: self.next_after(now.max(last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::schedule::Timing;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-03-01T{text}Z").parse().unwrap()
    }

    fn every(minutes: u64) -> Schedule {
        Schedule {
            timing: Timing::Every(Duration::from_secs(minutes * 60)),
            jitter: Duration::ZERO,
        }
    }

    fn due(schedule: &Schedule, jitter: i64, first: DateTime<Utc>, now: DateTime<Utc>) -> Due {
        let jitter = TimeDelta::seconds(jitter);
        Slots { schedule, jitter }.due(first, now)
    }

    #[test]
    fn a_slot_that_was_just_reached_is_not_missed() {
        let due = due(&every(15), 0, at("10:15:00"), at("10:15:02"));
        assert_eq!(
            due,
            Due {
                last: at("10:15:00"),
                count: 1,
                missed: false,
                next: Some(at("10:30:00"))
            }
        );
    }

    #[test]
    fn slots_missed_while_down_are_counted_and_caught_up_once() {
        let due = due(&every(15), 0, at("10:15:00"), at("12:01:00"));
        assert_eq!(
            due,
            Due {
                last: at("12:00:00"),
                count: 8,
                missed: true,
                next: Some(at("12:15:00"))
            }
        );
    }

    #[test]
    fn one_daily_slot_that_was_slept_through_is_missed() {
        let due = due(&every(24 * 60), 0, at("00:00:00"), at("09:00:00"));
        assert_eq!((due.count, due.missed), (1, true));
    }

    #[test]
    fn jitter_moves_every_slot_and_loses_none() {
        let schedule = every(15);
        let slots = Slots {
            schedule: &schedule,
            jitter: TimeDelta::seconds(60),
        };
        assert_eq!(slots.next_after(at("10:15:30")), Some(at("10:16:00")));
        let due = slots.due(at("10:01:00"), at("10:15:30"));
        assert_eq!((due.last, due.next), (at("10:01:00"), Some(at("10:16:00"))));
    }

    #[test]
    fn a_clock_that_jumps_back_repeats_no_slot() {
        let due = due(&every(15), 0, at("10:15:00"), at("09:00:00"));
        assert_eq!(due.next, Some(at("10:30:00")));
    }

    #[test]
    fn counting_ends() {
        let due = due(
            &every(1),
            0,
            at("00:00:00"),
            at("00:00:00") + TimeDelta::days(30),
        );
        assert_eq!(due.count, MOST_COUNTED);
        assert_eq!(due.next, Some(at("00:01:00") + TimeDelta::days(30)));
    }

    #[test]
    fn a_schedule_without_further_slots_has_no_next() {
        assert_eq!(due(&every(0), 0, at("10:00:00"), at("10:00:01")).next, None);
    }
}
