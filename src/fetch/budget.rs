//! Sharing a credential's limits with other processes.
//!
//! Each process holds a share of each window and keeps its own exact count against that share. Shares
//! add up to no more than the API allows, so their counts do too, however the network delays. A share
//! is held for a while and must be renewed; it is given back only as far as the requests made under it
//! have left the window. Without a share nobody sends: when whoever hands them out is away, a process
//! goes on until its share runs out, and then waits.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info, warn};

use super::limiter::Shared;

/// A share is renewed so many times while it lasts.
const RENEWALS: u32 = 3;

/// Between two askings for more.
const PATIENCE: Duration = Duration::from_millis(20);

/// A process that asked for nothing for so long is at rest.
const REST: Duration = Duration::from_millis(100);

/// The part of the time that a share lasts by which it ends earlier for us than for the others.
const MARGIN: u32 = 10;

/// Hands out shares of a credential's limits. Whoever starts the stage gives it one.
pub trait Budget: Send + Sync + fmt::Debug {
    /// How long a share lasts without being renewed.
    fn lasts(&self) -> Duration;

    /// Renews this process's share, larger or smaller.
    fn share(&self, ask: Ask) -> Answer<'_>;
}

/// The share, or in a line why there is none.
pub type Answer<'b> = Pin<Box<dyn Future<Output = Result<Grant, String>> + Send + 'b>>;

/// What a process has to say when it renews its share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// The first is that of requests at the same time.
    pub windows: Vec<AskWindow>,
    /// Nobody is to send for so long: the API said so.
    pub pause: Option<Duration>,
    /// What the API last said of its own count: what is left, and until when.
    pub left: Option<(u64, Duration)>,
}

/// One window of an [`Ask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskWindow {
    /// What the API allows to all processes together.
    pub whole: u64,
    pub per: Duration,
    /// Requests that still count; so much cannot be given back.
    pub used: u64,
    /// 0: nothing is to be sent.
    pub wanted: u64,
}

/// A share of each window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    pub windows: Vec<u64>,
    /// Another process heard from the API that nobody is to send for so long.
    pub pause: Option<Duration>,
}

/// Renews the share for as long as it is used.
pub(super) fn keep(
    shared: &Arc<Shared>,
    budget: Arc<dyn Budget>,
    tracker: &TaskTracker,
    stop: CancellationToken,
) {
    let shared = Arc::downgrade(shared);
    let keeper = async move { run(&shared, &*budget, &stop).await };
    tracker.spawn(keeper.in_current_span());
}

/// A renewal is never dropped half-way: it is a transaction of somebody's.
async fn run(shared: &Weak<Shared>, budget: &dyn Budget, stop: &CancellationToken) {
    let lasts = budget.lasts();
    let mut is_away = false;
    while let Some(limiter) = shared.upgrade() {
        let is_over = stop.is_cancelled();
        let (ask, is_last) = limiter.ask();
        let asked = Instant::now();
        let answer = budget.share(ask.clone()).await;
        let got_all = match answer {
            Ok(grant) => {
                if std::mem::take(&mut is_away) {
                    info!("the shared rate budget is back");
                }
                let pairs = ask.windows.iter().zip(&grant.windows);
                let got_all = pairs.clone().all(|(asked, got)| *got >= asked.wanted);
                limiter.granted(grant, asked + lasts - lasts / MARGIN);
                got_all
            }
            Err(why) => {
                if !std::mem::replace(&mut is_away, true) && !is_over {
                    warn!(
                        why,
                        "the shared rate budget is away; requests go on while the share lasts, then wait"
                    );
                }
                false
            }
        };
        // Asked for the last time, what is not used was given back.
        if is_over || (is_last && limiter.leave_if_idle()) {
            return;
        }
        let (hungry, rested) = (limiter.hungry(), limiter.rested());
        drop(limiter);
        // What nobody uses is given back soon, but not between two pages of a walk.
        let rested = async {
            loop {
                rested.notified().await;
                sleep(REST).await;
                if shared.upgrade().is_none_or(|limiter| limiter.is_idle()) {
                    break;
                }
            }
        };
        let hungry = async {
            // Asking again does not help where others hold the rest.
            if got_all {
                hungry.notified().await;
                sleep(PATIENCE).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let soon = if is_away {
            lasts / 10
        } else {
            lasts / RENEWALS
        };
        tokio::select! {
            () = sleep(soon) => {}
            () = hungry => {}
            () = rested => {}
            () = stop.cancelled() => {}
        }
    }
}
