//! What is due, one run at a time per resource.
//!
//! The loop claims due resources from the database whenever a wake comes, a run ends, or a poll
//! interval is over, and starts as many runs as there are free slots. Nothing here remembers what
//! is due: a replica that dies loses no slot, and any number of replicas may run this loop.

pub mod wake;

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use crate::{
    fault::{Class, Fault},
    postgres::{self, Pool},
    record::{self, Claim, Ending, Status, Worker},
    sync::{self, Fleet, Gauge, Start},
};

/// The loop's parts.
pub struct Scheduler {
    pub pool: Pool,
    pub worker: Worker,
    pub fleet: watch::Receiver<Arc<Fleet>>,
    pub tracker: TaskTracker,
    /// Soft stop: no new claims, runs finish their batch.
    pub stop: CancellationToken,
    pub wake: Arc<Notify>,
    /// Told of every turn of the loop, so that a loop that hangs is seen from outside.
    pub on_turn: Box<dyn Fn(Turn) + Send + Sync>,
}

/// One turn of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Whether the database answered.
    pub database: bool,
    /// Runs under way in this process.
    pub running: usize,
}

impl Scheduler {
    /// Claims and runs until stopped; runs that are under way go on in the tracker.
    pub async fn run(self) {
        let slots = self.fleet.borrow().config.daemon.max_concurrent_runs;
        let free = Arc::new(Semaphore::new(slots));
        let mut away = false;
        while !self.stop.is_cancelled() {
            let (poll, claimed) = self.turn(&free).await;
            if away && claimed.is_some() {
                info!("the database is back");
            }
            away = claimed.is_none();
            let running = slots - free.available_permits();
            (self.on_turn)(Turn {
                database: claimed.is_some(),
                running,
            });
            // A full round may have left more that is due.
            if claimed.is_some_and(|n| n > 0) && free.available_permits() > 0 {
                continue;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(spread(poll)) => {}
            }
        }
    }

    /// Claims what is due and starts it. Returns the poll interval and how many were claimed;
    /// `None` when the database did not answer.
    async fn turn(&self, free: &Arc<Semaphore>) -> (Duration, Option<usize>) {
        let fleet = Arc::clone(&self.fleet.borrow());
        let poll = fleet.config.daemon.poll;
        let limit = free.available_permits();
        let claims = async {
            // The database's time, so that replicas with different clocks agree on what is due.
            let now = record::now(&self.pool).await?;
            record::claim_due(&self.pool, &self.worker, &fleet.config, limit, now).await
        };
        let claims = match claims.await {
            Ok(claims) => claims,
            Err(error) => {
                let fault = self.reason(&error).await;
                warn!(
                    error = fault.message,
                    hint = fault.hint,
                    "the schedule could not be read; trying again"
                );
                return (poll, None);
            }
        };
        let claimed = claims.len();
        for claim in claims {
            let Ok(permit) = Arc::clone(free).try_acquire_owned() else {
                // Cannot be: claims were limited by the free slots, and only this loop takes them.
                error!(resource = claim.resource, "claimed without a free slot");
                continue;
            };
            self.start(&fleet, claim, permit);
        }
        (poll, Some(claimed))
    }

    /// Why the database cannot be used. The pool knows only that no connection came in time.
    async fn reason(&self, error: &record::Error) -> Fault {
        match postgres::probe(&self.pool.connect_options()).await {
            Ok(_) => error.fault(),
            Err(reason) => reason.fault(),
        }
    }

    fn start(&self, fleet: &Fleet, claim: Claim, permit: OwnedSemaphorePermit) {
        let context = fleet.context(&claim, &self.pool, &self.worker, &self.tracker);
        let (pool, worker, tracker) =
            (self.pool.clone(), self.worker.clone(), self.tracker.clone());
        let (stop, wake) = (self.stop.clone(), Arc::clone(&self.wake));
        self.tracker.spawn(async move {
            match context {
                Some(context) => {
                    let gauge = Arc::new(Gauge::default());
                    run_guarded(&tracker, context, claim, Start::GoOn, gauge, stop).await;
                }
                None => close_orphan(&pool, &worker, &claim).await,
            }
            drop(permit);
            wake.notify_one();
        });
    }
}

/// Runs a claim and closes its row even when the run panics.
pub async fn run_guarded(
    tracker: &TaskTracker,
    context: sync::Context,
    claim: Claim,
    start: Start,
    gauge: Arc<Gauge>,
    stop: CancellationToken,
) -> Option<sync::Outcome> {
    let (pool, worker) = (context.pool.clone(), context.worker.clone());
    let run = sync::run(context, claim.clone(), start, gauge, stop);
    match tracker.spawn(run).await {
        Ok(outcome) => Some(outcome),
        Err(_) => {
            error!(
                run.id = claim.run_id,
                resource.name = claim.resource,
                "the run crashed"
            );
            let ending = Ending {
                fault: Some(sync::Error::Crashed.fault()),
                ..Ending::of(Status::Failed)
            };
            if let Err(error) = record::finish(&pool, &worker, &claim, ending).await {
                debug!(%error, "could not close the crashed run");
            }
            None
        }
    }
}

/// The database knew a resource that the configuration has just lost.
async fn close_orphan(pool: &Pool, worker: &Worker, claim: &Claim) {
    let fault = Fault {
        class: Class::Config,
        code: "not_configured".to_owned(),
        message: "the resource is no longer in the configuration".to_owned(),
        hint: "Nothing to do: it is marked as removed at the next start or reload.".to_owned(),
        retryable: false,
    };
    let ending = Ending {
        fault: Some(fault),
        ..Ending::of(Status::Cancelled)
    };
    if let Err(error) = record::finish(pool, worker, claim, ending).await {
        debug!(%error, "could not close the run of a removed resource");
    }
}

/// Spreads the polls of replicas that were started together: between 75 % and 125 % of `poll`.
fn spread(poll: Duration) -> Duration {
    poll.mul_f64(0.75 + fastrand::f64() / 2.0)
}
