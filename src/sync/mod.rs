//! One run of one resource: the only module that knows all the stages.
//!
//! ```text
//! claim ── plan ──> walk ──> page ──> scan ──> probe ──> encode ──> batch ──> commit ──> finish
//!          plan.rs  fetch    page.rs  shape    load      shape      outbox.rs commit.rs  here
//! ```
//!
//! While one batch commits, the next is being fetched and shaped; there is never more than one
//! commit in flight, so batches land in the walk's order. The last batch, the cursor's move and the
//! closing of the run are one transaction.

pub mod batch;

mod budget;

pub mod commit;

pub mod credentials;

mod deletes;

pub mod error;

mod feed;

pub mod fleet;

mod cursor;

pub mod gauge;

mod hashes;

mod intake;

mod fanout;

mod trail;

mod outbox;

pub mod outline;

mod page;

mod patience;

pub mod plan;

pub mod preview;

pub mod sandbox;

mod span;

mod children;

pub mod privacy;

pub mod erase;

mod pulse;

pub mod stream;

mod waiting;
mod walk;

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info, warn};

pub use error::Error;
pub use fleet::Fleet;
pub use gauge::Gauge;
pub use plan::Start;
pub use sandbox::Binary;

use crate::{
    clock,
    config::{Resource, Source},
    failpoint,
    fault::Fault,
    fetch,
    record::{self, Claim, Counters, Ending, Status, Worker},
};

/// What a run needs besides its claim.
#[derive(Clone)]
pub struct Context {
    pub pool: PgPool,
    pub worker: Worker,
    pub source: Arc<Source>,
    pub resource: Arc<Resource>,
    pub api: Arc<fetch::Api>,
    pub binary: Binary,
    /// How long DDL waits for a lock before the run tries again.
    pub lock_timeout: Duration,
    /// Where the run's own tasks live, so that stopping waits for them.
    pub tracker: TaskTracker,
}

/// How a run ended, for the log, the command line and the exit code.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub run_id: record::RunId,
    pub status: Status,
    pub fault: Option<Fault>,
    pub counters: Counters,
    pub took: Duration,
}

/// Runs a claimed resource to its end and closes the run row, whatever happens.
///
/// `stop` asks for a soft end: the batch in hand is committed and the run ends `interrupted`.
pub async fn run(
    context: Context,
    claim: Claim,
    start: Start,
    gauge: Arc<Gauge>,
    stop: CancellationToken,
) -> Outcome {
    let span = tracing::info_span!(
        "run",
        run.id = claim.run_id,
        source.name = %claim.source,
        account = %claim.account,
        resource.name = %claim.resource
    );
    run_in_span(context, claim, start, gauge, stop)
        .instrument(span)
        .await
}

async fn run_in_span(
    context: Context,
    claim: Claim,
    start: Start,
    gauge: Arc<Gauge>,
    stop: CancellationToken,
) -> Outcome {
    let started = clock::now();
    let claim = Arc::new(claim);
    let halt = stop.child_token();
    let pulse = pulse::start(&context, &claim, &gauge, halt.clone());
    // On the heap: the future of a whole run is large, and callers hold it in theirs.
    let result = Box::pin(walk::run(&context, &claim, start, &gauge, halt.clone())).await;
    let halted = pulse.stop().await;

    let ending = match result {
        Ok(ending) => ending,
        Err(error) => {
            let ending = Ending {
                counters: gauge.unbooked_traffic(),
                ..ending_of(&context, &error, halted, stop.is_cancelled())
            };
            close(&context, &claim, ending).await
        }
    };
    failpoint::reach("run.after_finish");
    let outcome = Outcome {
        run_id: claim.run_id,
        status: ending.status,
        fault: ending.fault,
        counters: gauge.counters(),
        took: (clock::now() - started).to_std().unwrap_or_default(),
    };
    report(&outcome);
    outcome
}

/// Turns the error of a run into the row that explains it.
fn ending_of(
    context: &Context,
    error: &Error,
    halted: Option<pulse::Halt>,
    stopping: bool,
) -> Ending {
    let (status, reason, fault) = match (error, halted) {
        (Error::Halted, Some(pulse::Halt::Cancelled)) => {
            (Status::Cancelled, Some("cancelled on request"), None)
        }
        (Error::Halted, Some(pulse::Halt::OutOfTime)) => {
            (Status::Failed, None, Some(Error::OutOfTime.fault()))
        }
        (Error::Halted, Some(pulse::Halt::Lost)) | (Error::Lost, _) => (
            Status::Interrupted,
            Some("another worker took the resource over"),
            None,
        ),
        (Error::Halted, None) if stopping => {
            (Status::Interrupted, Some("the daemon was stopped"), None)
        }
        (Error::Halted, None) => (Status::Interrupted, Some("the run was stopped"), None),
        (other, _) if other.is_outage() => (
            Status::Interrupted,
            Some("the database was away; the run goes on when it is back"),
            Some(other.fault()),
        ),
        (other, _) => (other.status(), None, Some(located(context, other))),
    };
    Ending {
        fault,
        reason: reason.map(str::to_owned),
        ..Ending::of(status)
    }
}

/// The fault with the table's name in it: Postgres does not say which one a role may not use.
fn located(context: &Context, error: &Error) -> Fault {
    let mut fault = error.fault();
    let (schema, table) = (&context.resource.schema, &context.resource.table);
    if matches!(error, Error::Load(_)) && !fault.message.contains(table.as_str()) {
        fault.message = format!("{} (table {schema}.{table})", fault.message);
    }
    fault
}

/// Longest time that closing a run waits for a database that is away. Beyond it the lease ends and
/// whoever claims the resource next closes the row.
const CLOSE_WITHIN: Duration = Duration::from_secs(20);

async fn close(context: &Context, claim: &Claim, ending: Ending) -> Ending {
    failpoint::reach("run.before_finish");
    let deadline = tokio::time::Instant::now() + CLOSE_WITHIN;
    let mut wait = Duration::from_millis(200);
    loop {
        match record::finish(&context.pool, &context.worker, claim, ending.clone()).await {
            Ok(()) => return ending,
            Err(error) if tokio::time::Instant::now() + wait > deadline => {
                warn!(%error, "could not close the run; it will be closed as interrupted when its lease ends");
                return ending;
            }
            Err(_) => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(3));
            }
        }
    }
}

/// One line per run.
fn report(outcome: &Outcome) {
    let counters = &outcome.counters;
    let took_ms = u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX);
    match &outcome.fault {
        None => info!(
            status = outcome.status.as_str(),
            took_ms,
            pages = counters.pages,
            records = counters.records_read,
            inserted = counters.rows_inserted,
            updated = counters.rows_updated,
            unchanged = counters.rows_unchanged,
            deleted = counters.rows_deleted,
            rejected = counters.rows_rejected,
            requests = counters.http_requests,
            retries = counters.http_retries,
            "run ended"
        ),
        Some(fault) => warn!(
            status = outcome.status.as_str(),
            took_ms,
            pages = counters.pages,
            records = counters.records_read,
            inserted = counters.rows_inserted,
            updated = counters.rows_updated,
            rejected = counters.rows_rejected,
            requests = counters.http_requests,
            retries = counters.http_retries,
            error.class = fault.class.as_str(),
            error.code = fault.code,
            error.message = fault.message,
            error.hint = fault.hint,
            "run ended"
        ),
    }
}
