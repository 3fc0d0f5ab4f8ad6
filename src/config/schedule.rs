//! When a resource is due.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

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
        cron: Box<croner::Cron>,
        zone: Tz,
    },
    /// Every so often, counted from the Unix epoch so that all replicas agree.
    Every(Duration),
}

impl Schedule {
    /// The first slot after `after`, without jitter. `None`: there is none in reach.
    #[must_use]
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let _ = after;
        None
    }
}
