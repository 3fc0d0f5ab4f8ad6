//! What the process knows of itself without asking the database.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Shared with the daemon, which says what it does; the pages only read.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// A scheduler that was silent for longer is stuck.
    tick_limit: Duration,
    /// Milliseconds after `started`.
    ticked: AtomicU64,
    draining: AtomicBool,
    /// Why the daemon cannot work yet; `None` once it can.
    waiting_for: Mutex<Option<&'static str>>,
}

impl Health {
    /// Not ready, and just ticked. `tick_limit` is several times the scheduler's pause.
    #[must_use]
    pub fn new(tick_limit: Duration) -> Self {
        Self {
            started: Instant::now(),
            tick_limit,
            ticked: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            waiting_for: Mutex::new(Some("starting")),
        }
    }

    /// The scheduler went round once.
    pub fn ticked(&self) {
        self.ticked
            .store(millis(self.started.elapsed()), Ordering::Relaxed);
    }

    /// Configuration is loaded, the database is there and migrated.
    pub fn set_ready(&self) {
        *self.waiting_for() = None;
    }

    /// The daemon waits for `what`: a few fixed words that may be shown to anybody.
    pub fn set_waiting_for(&self, what: &'static str) {
        *self.waiting_for() = Some(what);
    }

    /// The daemon stops and takes nothing new.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How long ago the scheduler last went round.
    #[must_use]
    pub fn since_tick(&self) -> Duration {
        let ticked = Duration::from_millis(self.ticked.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(ticked)
    }

    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the process does its work. A stop under way is work too.
    ///
    /// # Errors
    ///
    /// Says since when the scheduler is silent.
    pub fn alive(&self) -> Result<(), String> {
        let silent = self.since_tick();
        if silent <= self.tick_limit || self.is_draining() {
            return Ok(());
        }
        Err(format!(
            "the scheduler has been silent for {} s",
            silent.as_secs()
        ))
    }

    /// Whether the daemon takes work, the database left out.
    ///
    /// # Errors
    ///
    /// Says what it waits for.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.is_draining() {
            return Err("stopping");
        }
        (*self.waiting_for()).map_or(Ok(()), Err)
    }

    fn waiting_for(&self) -> std::sync::MutexGuard<'_, Option<&'static str>> {
        self.waiting_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_scheduler_shows_and_a_stop_does_not_look_like_one() {
        let health = Health::new(Duration::ZERO);
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(2) {}
        assert!(health.alive().unwrap_err().contains("silent for 0 s"));
        health.set_draining();
        assert_eq!(health.alive(), Ok(()));
        assert_eq!(health.ready(), Err("stopping"));
    }

    #[test]
    fn ready_says_what_is_waited_for() {
        let health = Health::new(Duration::from_secs(5));
        assert_eq!(health.ready(), Err("starting"));
        health.set_waiting_for("the database");
        assert_eq!(health.ready(), Err("the database"));
        health.set_ready();
        assert_eq!(health.ready(), Ok(()));
    }
}
