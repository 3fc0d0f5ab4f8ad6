//! Section `daemon`: the process itself.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use chrono_tz::Tz;

use super::{
    Secret,
    decode::{Period, section},
    problem::Problems,
    tree::Node,
};

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

section! {
    /// The process itself.
    pub(super) struct DaemonFile {
        /// Where the embedded Postgres keeps its data; relative to the folder in which rosterd is started.
        state_dir: PathBuf = "./.rosterd",
        /// Time zone of cron schedules that name none.
        timezone: Tz = "UTC",
        /// Health, metrics and status page.
        admin: AdminFile; section,
        /// Runs at the same time in this process, over all sources. Too low: resources wait; too high: memory and connections run out.
        max_concurrent_runs: NonZeroUsize = "8",
        /// How long a lease lasts without a heartbeat. Too low: a slow database loses runs; too high: a dead daemon's work waits.
        lease: Period = "60s",
        /// How often the schedule is read without a wake; the delay of a manual request, at most.
        poll: Period = "5s",
        /// How long a stop may take before what still runs is cut.
        stop_grace: Duration = "30s",
        /// How long history is kept. The newest run, success and failure of a resource always stay.
        retention: RetentionFile; section,
    }
}

section! {
    /// Health, metrics and status page.
    pub(super) struct AdminFile {
        /// Address and port; null for no server at all. Other addresses than loopback need a `token`.
        listen: Option<SocketAddr> = "127.0.0.1:8686",
        /// Bearer token that the server asks for.
        token: Secret,
    }
}

section! {
    /// How long history is kept.
    pub(super) struct RetentionFile {
        /// Successful runs.
        runs: Duration = "30d",
        /// Failed, partial and interrupted runs.
        failed_runs: Duration = "365d",
        /// Successful runs that changed no row; they stay counted in `rosterd.daily`.
        unchanged_runs: Duration = "7d",
        /// Events.
        events: Duration = "30d",
        /// Rejects, from the day they were resolved.
        rejects: Duration = "90d",
    }
}

/// Shorter leases than this are lost to ordinary hiccups of a database.
const MIN_LEASE: Duration = Duration::from_secs(3);

impl DaemonFile {
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Daemon {
        let token = self
            .admin
            .token
            .clone()
            .filter(|token| !token.expose().is_empty());
        let public = self
            .admin
            .listen
            .is_some_and(|listen| !listen.ip().is_loopback());
        if public && token.is_none() {
            node.nearest(&["admin", "listen"]).wrong(
                problems,
                "this address can be reached from outside: set `admin.token`, or listen on 127.0.0.1",
            );
        }
        if self.lease.0 < MIN_LEASE {
            node.nearest(&["lease"])
                .wrong(problems, "expected at least 3s");
        }
        if self.poll.0 >= self.lease.0 {
            node.nearest(&["poll"])
                .wrong(problems, "expected less than `lease`");
        }
        Daemon {
            state_dir: self.state_dir.clone(),
            timezone: self.timezone,
            admin: Admin {
                listen: self.admin.listen,
                token,
            },
            max_concurrent_runs: self.max_concurrent_runs.get(),
            lease: self.lease.0,
            poll: self.poll.0,
            stop_grace: self.stop_grace,
            retention: Retention {
                runs: self.retention.runs,
                failed_runs: self.retention.failed_runs,
                unchanged_runs: self.retention.unchanged_runs,
                events: self.retention.events,
                rejects: self.retention.rejects,
            },
        }
    }
}
