//! Chores beside the runs: saying that this worker lives, and letting old history go.

use std::{
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    postgres::Pool,
    record::{self, Worker},
    sync::Fleet,
};

/// How often this worker says that it lives.
const BEAT: Duration = Duration::from_secs(15);

/// How often old history is looked for; each pass is bounded by itself.
const RETAIN: Duration = Duration::from_secs(3600);

/// Does the chores until stopped.
pub(super) async fn run(
    pool: Pool,
    worker: Worker,
    fleet: watch::Receiver<Arc<Fleet>>,
    running: Arc<AtomicUsize>,
    stop: CancellationToken,
) {
    // Not at once: a daemon that starts has better things to do.
    let mut next_retention = Instant::now() + Duration::from_secs(60);
    while !stop.is_cancelled() {
        if let Err(error) =
            record::beat_worker(&pool, &worker, running.load(Ordering::Relaxed), false).await
        {
            debug!(%error, "the worker's heartbeat failed");
        }
        if Instant::now() >= next_retention {
            next_retention = Instant::now() + RETAIN;
            let retention = fleet.borrow().config.daemon.retention.clone();
            match record::retain(&pool, &retention).await {
                Ok(retained) => info!(?retained, "let old history go"),
                Err(error) => {
                    warn!(%error, "old history could not be let go; trying again in an hour");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(BEAT) => {}
        }
    }
    if let Err(error) = record::remove_worker(&pool, &worker).await {
        debug!(%error, "the worker could not sign off");
    }
}
