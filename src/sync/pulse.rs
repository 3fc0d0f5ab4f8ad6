//! The run's heartbeat: keeps the lease, hears of cancellation, ends a run that takes too long.
//!
//! It only ever raises the halt token. Whether a write may happen is decided by the fence inside
//! each transaction, not here: a process that was stopped and resumed beats too late to know.

use std::sync::Arc;

use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug};

use super::{Context, gauge::Gauge};
use crate::record::{self, Beat, Claim};

/// Why the pulse halted its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    Lost,
    Cancelled,
    OutOfTime,
}

pub(super) struct Pulse {
    task: JoinHandle<Option<Halt>>,
    done: CancellationToken,
}

impl Pulse {
    /// Ends the heartbeat and says whether it was the one that halted the run.
    pub(super) async fn stop(self) -> Option<Halt> {
        self.done.cancel();
        self.task.await.ok().flatten()
    }
}

/// Starts beating, three times per lease, until stopped.
pub(super) fn start(
    context: &Context,
    claim: &Arc<Claim>,
    gauge: &Arc<Gauge>,
    halt: CancellationToken,
) -> Pulse {
    let done = CancellationToken::new();
    let task = context.tracker.spawn(
        beat(
            context.clone(),
            Arc::clone(claim),
            Arc::clone(gauge),
            halt,
            done.clone(),
        )
        .in_current_span(),
    );
    Pulse { task, done }
}

async fn beat(
    context: Context,
    claim: Arc<Claim>,
    gauge: Arc<Gauge>,
    halt: CancellationToken,
    done: CancellationToken,
) -> Option<Halt> {
    let deadline = Instant::now() + context.resource.max_run_time;
    let mut ticks = tokio::time::interval(context.worker.lease / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = done.cancelled() => return None,
            () = tokio::time::sleep_until(deadline) => {
                halt.cancel();
                return Some(Halt::OutOfTime);
            }
            _ = ticks.tick() => {}
        }
        let verdict =
            match record::heartbeat(&context.pool, &context.worker, &claim, &gauge.phase()).await {
                Ok(Beat::Alive) => continue,
                Ok(Beat::Lost) => Halt::Lost,
                Ok(Beat::CancelRequested) => Halt::Cancelled,
                Err(error) => {
                    debug!(%error, "heartbeat failed");
                    continue;
                }
            };
        halt.cancel();
        return Some(verdict);
    }
}
