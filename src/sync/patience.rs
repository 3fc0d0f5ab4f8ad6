//! Waiting for a Postgres that is away.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::{Context, Error, Gauge};

/// How long one piece of work is tried again: as long as a lease lasts. Nothing is lost by then, and
/// another worker may have the resource already.
pub(super) struct Patience<'a> {
    gauge: &'a Gauge,
    until: Instant,
    wait: Duration,
}

/// Asks until there is an answer, or the patience is over.
///
/// # Errors
///
/// As of [`Patience::after`].
pub(super) async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    context: &Context,
    gauge: &Gauge,
    mut ask: impl FnMut() -> F,
) -> Result<T, Error> {
    let mut patience = Patience::new(context, gauge);
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => patience.after(error).await?,
        }
    }
}

impl<'a> Patience<'a> {
    pub(super) fn new(context: &Context, gauge: &'a Gauge) -> Self {
        Self {
            gauge,
            until: Instant::now() + context.worker.lease,
            wait: Duration::from_millis(100),
        }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    ///
    /// The error itself, when it does not pass by waiting or the time is over.
    pub(super) async fn after(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_transient() || Instant::now() + self.wait > self.until {
            return Err(error);
        }
        warn!(%error, wait_ms = self.wait.as_millis(), "the database is in trouble; trying again");
        self.gauge.set_phase("waiting for the database".to_owned());
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(Duration::from_secs(5));
        Ok(())
    }
}
