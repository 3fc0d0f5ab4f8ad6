//! The one place that asks the machine for the time.
//!
//! Leases and schedules compare with the *database's* clock wherever two machines are concerned;
//! this clock serves logs, local waits and the daemon's own page.

use chrono::{DateTime, Utc};

/// The wall-clock time now, in UTC.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
