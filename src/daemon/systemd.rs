//! What systemd is told: ready, reloading, stopping, a status line, and that the loop still turns.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

fn tell(states: &[NotifyState<'_>]) {
    // Without systemd there is no socket, and that is no error.
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd could not be told");
    }
}

pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Start-up goes on beyond systemd's start time-out while Postgres is away.
pub(super) fn waiting(wait: Duration) {
    let more = u32::try_from((wait + Duration::from_secs(30)).as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::ExtendTimeoutUsec(more),
        NotifyState::Status("waiting for Postgres"),
    ]);
}

pub(super) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now().ok());
    tell(&states);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Fed by the scheduler's loop and by nothing else: a loop that hangs gets the process restarted.
pub(super) fn watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// Half of the time within which systemd wants to hear of us.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|timeout| timeout / 2)
}
