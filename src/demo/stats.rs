//! What the API saw: the log that a client's promises are checked against.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fastrand::Rng;

/// Different keys that are remembered; a client that guesses shall not fill the memory.
const KEYS: usize = 64;

/// Windows whose fullest moment is always known, besides that of the rate limit.
const WINDOWS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// What was asked of the API so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// All requests, whatever was answered.
    pub requests: u64,
    /// Answers by status; a connection that was cut counts under the status it had begun with.
    pub answers: BTreeMap<u16, u64>,
    /// Answers cut in the middle on purpose.
    pub cut: u64,
    /// Answers held back on purpose.
    pub slow: u64,
    /// Records in complete pages.
    pub records: u64,
    /// The most requests that ever fell into a sliding window.
    pub peaks: Vec<Peak>,
    /// The different values of `api_key` that came (the first 64).
    pub keys: BTreeSet<String>,
}

/// The most requests that ever fell into any window of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    pub window: Duration,
    pub requests: usize,
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Answer,
    /// Above the limit: come back after so long.
    Limited(Duration),
    Fail(Failure),
}

/// A fault put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    TooMany,
    Internal,
    Unavailable,
    /// Headers and half of the body, then the connection is closed.
    Cut,
    /// The right answer, late.
    Slow,
}

/// Counts, and decides about limit and faults.
#[derive(Debug)]
pub(super) struct Recorder(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    stats: Stats,
    windows: Vec<Window>,
    limit: Option<(Window, usize)>,
    fail_fraction: f64,
    dice: Rng,
}

/// Arrivals of the last so long.
#[derive(Debug)]
struct Window {
    length: Duration,
    arrivals: VecDeque<Instant>,
    peak: usize,
}

impl Recorder {
    pub(super) fn new(seed: u64, fail_fraction: f64, limit: Option<(u32, Duration)>) -> Self {
        let mut lengths = WINDOWS.to_vec();
        if let Some((_, length)) = limit
            && !lengths.contains(&length)
        {
            lengths.push(length);
        }
        Self(Mutex::new(Inner {
            stats: Stats::default(),
            windows: lengths.into_iter().map(Window::new).collect(),
            limit: limit.map(|(most, length)| (Window::new(length), most as usize)),
            fail_fraction,
            dice: Rng::with_seed(seed ^ 0xfa11),
        }))
    }

    pub(super) fn set_fail_fraction(&self, fraction: f64) {
        self.inner().fail_fraction = fraction;
    }

    pub(super) fn stats(&self) -> Stats {
        let inner = self.inner();
        let mut stats = inner.stats.clone();
        stats.peaks = inner
            .windows
            .iter()
            .map(|w| Peak {
                window: w.length,
                requests: w.peak,
            })
            .collect();
        stats
    }

    /// Counts a request in, and says how it shall be answered.
    pub(super) fn arrive(&self, key: Option<&str>, now: Instant) -> Verdict {
        let mut inner = self.inner();
        inner.stats.requests += 1;
        if let Some(key) = key
            && inner.stats.keys.len() < KEYS
            && !inner.stats.keys.contains(key)
        {
            inner.stats.keys.insert(key.chars().take(256).collect());
        }
        for window in &mut inner.windows {
            window.push(now);
        }
        if let Some((window, most)) = &mut inner.limit {
            window.forget(now);
            if window.arrivals.len() >= *most {
                let free = window.arrivals.front().map_or(window.length, |first| {
                    (*first + window.length).saturating_duration_since(now)
                });
                return Verdict::Limited(free);
            }
            window.push(now);
        }
        if inner.dice.f64() >= inner.fail_fraction {
            return Verdict::Answer;
        }
        Verdict::Fail(match inner.dice.u8(..5) {
            0 => Failure::TooMany,
            1 => Failure::Internal,
            2 => Failure::Unavailable,
            3 => Failure::Cut,
            _ => Failure::Slow,
        })
    }

    pub(super) fn answered(&self, status: u16, records: usize) {
        let mut inner = self.inner();
        *inner.stats.answers.entry(status).or_default() += 1;
        inner.stats.records += records as u64;
    }

    pub(super) fn cut(&self) {
        self.inner().stats.cut += 1;
    }

    pub(super) fn slow(&self) {
        self.inner().stats.slow += 1;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn new(length: Duration) -> Self {
        Self {
            length,
            arrivals: VecDeque::new(),
            peak: 0,
        }
    }

    fn push(&mut self, now: Instant) {
        self.forget(now);
        self.arrivals.push_back(now);
        self.peak = self.peak.max(self.arrivals.len());
    }

    fn forget(&mut self, now: Instant) {
        while self
            .arrivals
            .front()
            .is_some_and(|first| now.saturating_duration_since(*first) >= self.length)
        {
            self.arrivals.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_in_every_window_and_says_when_to_come_back() {
        let recorder = Recorder::new(1, 0.0, Some((3, Duration::from_secs(10))));
        let start = Instant::now();
        let at = |seconds| recorder.arrive(None, start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(4), at(5)], [Verdict::Answer; 3]);
        assert_eq!(at(6), Verdict::Limited(Duration::from_secs(4)));
        // What was refused does not count against the limit, but does in the log.
        assert_eq!(at(10), Verdict::Answer);
        assert_eq!(at(11), Verdict::Limited(Duration::from_secs(3)));
        let peak = recorder.stats().peaks[2];
        assert_eq!((peak.window.as_secs(), peak.requests), (10, 5));
    }

    #[test]
    fn about_the_asked_share_fails_and_the_same_ones_for_a_seed() {
        let verdicts = |seed| -> Vec<Verdict> {
            let recorder = Recorder::new(seed, 0.2, None);
            (0..2_000)
                .map(|_| recorder.arrive(None, Instant::now()))
                .collect()
        };
        let failed = verdicts(5)
            .iter()
            .filter(|v| **v != Verdict::Answer)
            .count();
        assert!((300..500).contains(&failed), "{failed}");
        assert_eq!(verdicts(5), verdicts(5));
        assert_ne!(verdicts(5), verdicts(6));
    }
}
