//! Metrics in OpenMetrics text, computed at each scrape from the same views as the page.
//!
//! Labels are the names in the configuration and fixed words, so their number is bounded. Counters are
//! sums over the history in the database: they survive a restart, and every replica tells the same.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, text::encode},
    metrics::{MetricType, TypedMetric, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::Health;
use crate::record::report::{Measured, ResourceHealth, Totals};

/// All values of `resource_health.health`.
pub(super) const STATES: [&str; 8] = [
    "ok",
    "degraded",
    "late",
    "failing",
    "broken",
    "stuck",
    "paused",
    "never_ran",
];

type Labels = Vec<(&'static str, String)>;
type Seconds = Family<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>;
type Count = Family<Labels, Gauge>;
type Sum = Family<Labels, Total>;

/// A counter whose value was counted elsewhere.
#[derive(Debug, Default)]
struct Total(std::sync::atomic::AtomicU64);

impl Total {
    fn set(&self, sum: i64) {
        let sum = u64::try_from(sum).unwrap_or(0);
        self.0.store(sum, std::sync::atomic::Ordering::Relaxed);
    }
}

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Total {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let sum = self.0.load(std::sync::atomic::Ordering::Relaxed);
        encoder.encode_counter::<prometheus_client::encoding::NoLabelSet, _, u64>(&sum, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// `measured` is `None` while the database does not answer.
pub(super) fn encode_all(measured: Option<&Measured>, health: &Health) -> String {
    let mut registry = Registry::with_prefix("rosterd");
    process(&mut registry, measured.is_some(), health);
    if let Some(measured) = measured {
        resources(&mut registry, &measured.resources);
        totals(&mut registry, &measured.totals);
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    encode(&mut text, &registry).ok();
    text
}

fn process(registry: &mut Registry, database: bool, health: &Health) {
    registry.register(
        "build",
        "The program that answers",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    let gauge = |value: bool| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::from(value));
        gauge
    };
    registry.register(
        "ready",
        "1 when the daemon takes work",
        gauge(health.ready().is_ok()),
    );
    registry.register(
        "draining",
        "1 while the daemon stops",
        gauge(health.is_draining()),
    );
    registry.register(
        "database_reachable",
        "1 when the database answered this scrape; without it there are no figures of resources",
        gauge(database),
    );
    let tick: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
    tick.set(health.since_tick().as_secs_f64());
    registry.register_with_unit(
        "scheduler_tick_age",
        "How long ago the scheduler last went round",
        Unit::Seconds,
        tick,
    );
}

fn resources(registry: &mut Registry, resources: &[ResourceHealth]) {
    let (last_success, age) = (Seconds::default(), Seconds::default());
    let (slo, next_run) = (Seconds::default(), Seconds::default());
    let (state, running) = (Count::default(), Count::default());
    let (rejects, failures) = (Count::default(), Count::default());
    for r in resources {
        let labels = labels(&r.source, &r.account, &r.resource);
        let set = |family: &Seconds, value: Option<f64>| {
            if let Some(value) = value {
                family.get_or_create(&labels).set(value);
            }
        };
        set(
            &last_success,
            r.last_success_at.map(|at| at.timestamp() as f64),
        );
        set(&age, r.data_age_s);
        set(&slo, r.freshness_slo_s);
        set(&next_run, r.next_run_at.map(|at| at.timestamp() as f64));
        for known in STATES {
            let mut labels = labels.clone();
            labels.push(("state", known.to_owned()));
            state
                .get_or_create(&labels)
                .set(i64::from(r.health == known));
        }
        running.get_or_create(&labels).set(i64::from(r.running_now));
        rejects.get_or_create(&labels).set(r.open_rejects);
        failures
            .get_or_create(&labels)
            .set(r.failures_since_success);
    }
    let seconds = |registry: &mut Registry, name: &str, help: &str, family| {
        registry.register_with_unit(name, help, Unit::Seconds, family);
    };
    seconds(
        registry,
        "resource_last_success_timestamp",
        "When data last arrived, as Unix time",
        last_success,
    );
    seconds(registry, "resource_data_age", "How old the data is", age);
    seconds(
        registry,
        "resource_freshness_slo",
        "The data should never be older than this",
        slo,
    );
    seconds(
        registry,
        "next_run_timestamp",
        "The next slot, as Unix time",
        next_run,
    );
    registry.register(
        "resource_health",
        "1 for the state that the resource is in",
        state,
    );
    registry.register("running", "1 while a run is going on", running);
    registry.register(
        "resource_open_rejects",
        "Records that could not become rows and have not loaded since",
        rejects,
    );
    registry.register(
        "resource_failures_since_success",
        "Failed runs since data last arrived",
        failures,
    );
}

fn totals(registry: &mut Registry, totals: &[Totals]) {
    let (runs, rows) = (Sum::default(), Sum::default());
    let (requests, refused) = (Sum::default(), Sum::default());
    for t in totals {
        let labels = labels(&t.source, &t.account, &t.resource);
        let set = |family: &Sum, name: &'static str, word: &str, sum: i64| {
            let mut labels = labels.clone();
            labels.push((name, word.to_owned()));
            family.get_or_create(&labels).set(sum);
        };
        for (status, sum) in [
            ("succeeded", t.succeeded),
            ("partial", t.partial),
            ("failed", t.failed),
            ("interrupted", t.interrupted),
            ("cancelled", t.cancelled),
            ("skipped", t.skipped),
        ] {
            set(&runs, "status", status, sum);
        }
        for (kind, sum) in [
            ("read", t.records_read),
            ("changed", t.rows_changed),
            ("rejected", t.rows_rejected),
        ] {
            set(&rows, "kind", kind, sum);
        }
        requests.get_or_create(&labels).set(t.http_requests);
        refused.get_or_create(&labels).set(t.http_429);
    }
    registry.register("runs", "Runs that ended, by how; skipped slots too", runs);
    registry.register("rows", "Records read, rows changed, records rejected", rows);
    registry.register("http_requests", "Requests sent, retries included", requests);
    registry.register("http_429", "Answers that said too many requests", refused);
}

fn labels(source: &str, account: &str, resource: &str) -> Labels {
    vec![
        ("source", source.to_owned()),
        ("account", account.to_owned()),
        ("resource", resource.to_owned()),
    ]
}
