//! What a walk cost so far, counted where it happens.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// What a walk cost so far; every figure only grows. Times are summed over requests, which may run
/// side by side, so they can add up to more than the time that passed.
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
    /// From sending a request to the last byte of its body.
    pub fetch_ms: u64,
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

    pub(super) fn waited_for_limit(&self, time: Duration) {
        self.wait_rate.fetch_add(micros(time), Relaxed);
    }

    pub(super) fn waited_for_retry(&self, time: Duration) {
        self.wait_retry.fetch_add(micros(time), Relaxed);
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

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
