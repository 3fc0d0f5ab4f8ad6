//! Section `daemon`: the process itself.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use chrono_tz::Tz;

use super::Secret;

/// Settings of the process.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// Where the embedded Postgres keeps its data.
    pub state_dir: PathBuf,
    /// Zone of cron schedules that name none.
    pub timezone: Tz,
    pub admin: Admin,
    /// Runs at the same time in this process, over all sources.
    pub max_concurrent_runs: usize,
    /// How long a lease lasts without a heartbeat. Too low: a slow database loses runs; too high: a dead daemon's work waits.
    pub lease: Duration,
    /// How often the schedule is read without a wake. Bounds the delay of a manual request and of a dead replica's runs.
    pub poll: Duration,
    /// How long a stop may take before what still runs is cut.
    pub stop_grace: Duration,
    pub retention: Retention,
}

/// The HTTP side of the daemon: health, metrics, status page.
#[derive(Debug, Clone)]
pub struct Admin {
    /// `None`: no server at all.
    pub listen: Option<SocketAddr>,
    /// Bearer token; required when `listen` is not loopback.
    pub token: Option<Secret>,
}

/// How long history is kept. The newest run, success and failure of a resource always stay.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Successful runs.
    pub runs: Duration,
    /// Failed, partial and interrupted runs.
    pub failed_runs: Duration,
    /// Successful runs that changed no row.
    pub unchanged_runs: Duration,
    pub events: Duration,
    /// Rejects, counted from the day they were resolved.
    pub rejects: Duration,
}
