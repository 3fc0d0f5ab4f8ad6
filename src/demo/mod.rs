//! A small HR system to try things on: employees, absences and timesheets over HTTP, on loopback.
//!
//! It stands in the shipped program because `rosterd demo` needs an API that changes while one
//! looks, and because a copy can only be called true against a system whose truth is known: a test
//! asks [`Api::snapshot`] for it. Records are rendered once and pages are joined from those bytes,
//! so that in a benchmark this side is never the slow one.

mod collection;

mod http;

mod records;

mod stats;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{collection::Collection, records::Kind, stats::Recorder};
use crate::clock;

pub use self::stats::{Peak, Stats};

/// Names of the collections, as they stand in paths.
pub const COLLECTIONS: [&str; 3] = ["employees", "absences", "timesheets"];

/// What the sample API is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port on loopback; 0 takes a free one.
    pub port: u16,
    /// People at the start. Absences are twice, timesheets four times as many.
    pub employees: usize,
    /// How often something happens by itself: people join, change and leave. `None`: never.
    pub churn: Option<Duration>,
    /// Share of the answers, 0 to 1, that fail: 429, 500, 503, cut in the middle, or late.
    pub fail_fraction: f64,
    /// More requests than this in any window of that length are answered with 429.
    pub rate_limit: Option<(u32, Duration)>,
    /// Added to every answer.
    pub latency: Option<Duration>,
    /// Records per page at most; a larger `limit` is cut to it without a word, as many APIs do.
    pub page_cap: usize,
    /// Rendered records kept in memory, in bytes; a collection that does not fit is rendered for
    /// each page anew.
    pub keep: usize,
    /// The same seed gives the same people and the same faults.
    pub seed: u64,
    /// What `api_key` must be.
    pub key: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            employees: 1_000,
            churn: None,
            fail_fraction: 0.0,
            rate_limit: None,
            latency: None,
            page_cap: 1_000,
            keep: 128 << 20,
            seed: 1,
            key: "demo-key".to_owned(),
        }
    }
}

/// Something that happens to a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// So many new records at the end.
    Add(usize),
    /// So many records, picked at random, change.
    Change(usize),
    /// So many open records end: a person leaves, an absence is cancelled, a timesheet is voided.
    /// None vanishes.
    End(usize),
}

/// The running sample API. Stops with the token it was started with, or by [`Api::stop`].
#[derive(Debug)]
pub struct Api {
    /// Where it listens.
    pub addr: SocketAddr,
    hr: Arc<Hr>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    churning: CancellationToken,
}

impl Api {
    /// Binds to loopback and serves until `cancel`.
    ///
    /// # Errors
    ///
    /// The port is taken or may not be bound.
    pub async fn start(options: Options, cancel: CancellationToken) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let addr = listener.local_addr()?;
        let cancel = cancel.child_token();
        let tasks = TaskTracker::new();
        let hr = Arc::new(Hr::new(options));
        tasks.spawn(http::serve(listener, Arc::clone(&hr), cancel.clone()));
        let churning = cancel.child_token();
        if let Some(every) = hr.options.churn {
            tasks.spawn(churn(Arc::clone(&hr), every, churning.clone()));
        }
        tasks.close();
        Ok(Self {
            addr,
            hr,
            tasks,
            cancel,
            churning,
        })
    }

    /// `http://127.0.0.1:port`, as `client.base_url` wants it.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What was asked of the API so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.hr.recorder.stats()
    }

    /// All records of a collection as they are now, in order. Empty for an unknown name.
    #[must_use]
    pub fn snapshot(&self, collection: &str) -> Vec<Value> {
        let Some(kind) = Kind::from_name(collection) else {
            return Vec::new();
        };
        let records = read(self.hr.collection(kind));
        (0..records.len())
            .map(|index| serde_json::from_slice(&records.record(index)).unwrap_or(Value::Null))
            .collect()
    }

    /// Records in a collection now. 0 for an unknown name.
    #[must_use]
    pub fn count(&self, collection: &str) -> usize {
        Kind::from_name(collection).map_or(0, |kind| read(self.hr.collection(kind)).len())
    }

    /// Lets something happen to a collection now; answers how many records it touched.
    pub fn mutate(&self, collection: &str, mutation: Mutation) -> usize {
        Kind::from_name(collection).map_or(0, |kind| {
            write(self.hr.collection(kind)).mutate(mutation, clock::now())
        })
    }

    /// From now on nothing happens by itself any more.
    pub fn stop_churn(&self) {
        self.churning.cancel();
    }

    /// From now on this share of the answers fails.
    pub fn set_fail_fraction(&self, fraction: f64) {
        self.hr.recorder.set_fail_fraction(fraction);
    }

    /// Stops and waits until the last connection is closed.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tasks.wait().await;
    }
}

/// The state behind the HTTP side.
#[derive(Debug)]
struct Hr {
    options: Options,
    employees: RwLock<Collection>,
    absences: RwLock<Collection>,
    timesheets: RwLock<Collection>,
    recorder: Recorder,
}

impl Hr {
    fn new(options: Options) -> Self {
        let people = options.employees;
        let mut budget = options.keep;
        let mut build = |kind: Kind, count: usize| {
            RwLock::new(Collection::new(
                kind,
                options.seed,
                count,
                people,
                &mut budget,
            ))
        };
        Self {
            employees: build(Kind::Employees, people),
            absences: build(Kind::Absences, people.saturating_mul(2)),
            timesheets: build(Kind::Timesheets, people.saturating_mul(4)),
            recorder: Recorder::new(options.seed, options.fail_fraction, options.rate_limit),
            options,
        }
    }

    fn collection(&self, kind: Kind) -> &RwLock<Collection> {
        match kind {
            Kind::Employees => &self.employees,
            Kind::Absences => &self.absences,
            Kind::Timesheets => &self.timesheets,
        }
    }
}

/// A panic while the lock was held leaves at worst one record half changed; serving goes on.
fn read(lock: &RwLock<Collection>) -> std::sync::RwLockReadGuard<'_, Collection> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(lock: &RwLock<Collection>) -> std::sync::RwLockWriteGuard<'_, Collection> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// An ordinary day at work, quickly: mostly changes, now and then somebody joins or leaves.
async fn churn(hr: Arc<Hr>, every: Duration, cancel: CancellationToken) {
    let mut dice = fastrand::Rng::with_seed(hr.options.seed ^ 0x00c0_ffee);
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let kind = *dice
            .choice(&[
                Kind::Employees,
                Kind::Employees,
                Kind::Absences,
                Kind::Timesheets,
            ])
            .unwrap_or(&Kind::Employees);
        let mutation = match dice.u8(..10) {
            0..2 => Mutation::Add(1),
            2 => Mutation::End(1),
            _ => Mutation::Change(1),
        };
        let at: DateTime<Utc> = clock::now();
        write(hr.collection(kind)).mutate(mutation, at);
    }
}
