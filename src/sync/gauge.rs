//! What a run is doing right now, for the lease's phase, progress bars and the final line.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::record::Counters;

/// Shared by a run and those who watch it.
#[derive(Debug, Default)]
pub struct Gauge {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    phase: String,
    counters: Counters,
    /// The part of them that stands in the run's row.
    booked: Counters,
    total: Option<u64>,
}

impl Gauge {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held leaves numbers, not broken state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In words: `fetching page 41`.
    #[must_use]
    pub fn phase(&self) -> String {
        self.inner().phase.clone()
    }

    pub(crate) fn set_phase(&self, phase: String) {
        self.inner().phase = phase;
    }

    /// Everything counted so far, committed or not.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.inner().counters
    }

    pub(crate) fn add(&self, delta: &Counters) {
        self.inner().counters += *delta;
    }

    /// Says that a batch's counters were committed.
    pub(crate) fn book(&self, batch: &Counters) {
        self.inner().booked += *batch;
    }

    /// What was sent and waited for without a batch to count it: the cost of requests that failed, and of
    /// pages whose rows were not saved.
    pub(crate) fn unbooked_traffic(&self) -> Counters {
        let inner = self.inner();
        let (all, booked) = (&inner.counters, &inner.booked);
        Counters {
            http_requests: all.http_requests - booked.http_requests,
            http_retries: all.http_retries - booked.http_retries,
            http_429: all.http_429 - booked.http_429,
            bytes_in: all.bytes_in - booked.bytes_in,
            wait_rate_ms: all.wait_rate_ms - booked.wait_rate_ms,
            wait_retry_ms: all.wait_retry_ms - booked.wait_retry_ms,
            fetch_ms: all.fetch_ms - booked.fetch_ms,
            ..Counters::default()
        }
    }

    /// Records the API says there are, as far as it does.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.inner().total
    }

    pub(crate) fn set_total(&self, total: Option<u64>) {
        self.inner().total = total;
    }
}
