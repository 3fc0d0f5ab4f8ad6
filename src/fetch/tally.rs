//! What a walk cost so far, counted where it happens.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// What a walk cost so far; every figure only grows. The waits are those for which the walk stood still:
/// requests made ahead wait side by side, and only what the next page waited for is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests sent, retries among them.
    pub requests: u64,
    pub retries: u64,
    /// Answers with status 429.
    pub http_429: u64,
    /// Bytes of the bodies, after decompression.
    pub bytes_in: u64,
    /// Waiting for the rate limit and for a free place in flight.
    pub wait_rate_ms: u64,
    /// Waiting between a failed try and the next.
    pub wait_retry_ms: u64,
    /// From sending a request to the last byte of its body, summed over requests that may run side by side.
    pub fetch_ms: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What came after `before`.
    #[must_use]
    pub fn minus(&self, before: &Self) -> Self {
        self.with(before, u64::saturating_sub)
    }

    fn with(&self, other: &Self, join: fn(u64, u64) -> u64) -> Self {
        Self {
            requests: join(self.requests, other.requests),
            retries: join(self.retries, other.retries),
            http_429: join(self.http_429, other.http_429),
            bytes_in: join(self.bytes_in, other.bytes_in),
            wait_rate_ms: join(self.wait_rate_ms, other.wait_rate_ms),
            wait_retry_ms: join(self.wait_retry_ms, other.wait_retry_ms),
            fetch_ms: join(self.fetch_ms, other.fetch_ms),
        }
    }
}

/// The counters behind a [`Tally`]. Times are kept in microseconds, so that many short waits add up.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    retries: AtomicU64,
    http_429: AtomicU64,
    bytes_in: AtomicU64,
    wait_rate: AtomicU64,
    wait_retry: AtomicU64,
    fetch: AtomicU64,
}

impl Counters {
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(super) fn too_many_requests(&self) {
        self.http_429.fetch_add(1, Relaxed);
    }

    pub(super) fn bytes(&self, count: usize) {
        self.bytes_in.fetch_add(count as u64, Relaxed);
    }

    /// The walk stood still between the two moments, because it needed the page of these waits.
    pub(super) fn stood_still(&self, waits: &Waits, from: Instant, to: Instant) {
        for (why, sum) in [
            (For::Limit, &self.wait_rate),
            (For::Retry, &self.wait_retry),
        ] {
            sum.fetch_add(micros(waits.within(why, from, to)), Relaxed);
        }
    }

    pub(super) fn fetched(&self, time: Duration) {
        self.fetch.fetch_add(micros(time), Relaxed);
    }

    pub(super) fn read(&self) -> Tally {
        Tally {
            requests: self.requests.load(Relaxed),
            retries: self.retries.load(Relaxed),
            http_429: self.http_429.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            wait_rate_ms: self.wait_rate.load(Relaxed) / 1000,
            wait_retry_ms: self.wait_retry.load(Relaxed) / 1000,
            fetch_ms: self.fetch.load(Relaxed) / 1000,
        }
    }
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Limit,
    Retry,
}

/// When one page's requests waited. Each retry adds two entries, and retries are bounded.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<Vec<(For, Instant, Option<Instant>)>>);

/// A wait that ends when this is dropped.
pub(super) struct Waiting<'w> {
    waits: &'w Waits,
    at: usize,
}

impl Waits {
    pub(super) fn begin(&self, why: For) -> Waiting<'_> {
        let mut list = self.lock();
        list.push((why, Instant::now(), None));
        Waiting {
            waits: self,
            at: list.len() - 1,
        }
    }

    /// The part of the waits that lies between two moments.
    fn within(&self, why: For, from: Instant, to: Instant) -> Duration {
        let list = self.lock();
        let parts = list.iter().filter(|wait| wait.0 == why);
        parts
            .map(|(_, begun, ended)| {
                let end = ended.unwrap_or(to).min(to);
                end.saturating_duration_since((*begun).max(from))
            })
            .sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(For, Instant, Option<Instant>)>> {
        // Nothing under the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(wait) = self.waits.lock().get_mut(self.at) {
            wait.2 = Some(Instant::now());
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_waits_that_hold_the_walk_up_are_counted() {
        let second = Duration::from_secs(1);
        let counters = Counters::default();
        let (ahead, next) = (Waits::default(), Waits::default());
        let both = (ahead.begin(For::Limit), next.begin(For::Limit));
        tokio::time::advance(2 * second).await;
        // The walk comes to the page when half of its wait is over.
        let from = Instant::now();
        tokio::time::advance(3 * second).await;
        drop(both);
        let retry = next.begin(For::Retry);
        tokio::time::advance(second).await;
        drop(retry);
        tokio::time::advance(second).await;
        counters.stood_still(&next, from, Instant::now());
        let now = Instant::now();
        counters.stood_still(&ahead, now, now);
        let tally = counters.read();
        assert_eq!((tally.wait_rate_ms, tally.wait_retry_ms), (3000, 1000));
    }
}
