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

    /// Records the API says there are, as far as it does.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.inner().total
    }

    pub(crate) fn set_total(&self, total: Option<u64>) {
        self.inner().total = total;
    }
}
