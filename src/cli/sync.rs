//! `rosterd sync`: once, in this process, along the daemon's own path.

use std::{io::IsTerminal as _, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Arguments as Global, Exit, Loaded, output, select};
use crate::{
    daemon::Base,
    postgres,
    record::{self, ClaimOne, Mode, Registered, Status, Trigger},
    schedule,
    sync::{Binary, Fleet, Gauge, Outcome, Start},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to sync: SOURCE or SOURCE/RESOURCE; everything when left out.
    #[arg(value_name = "SOURCE[/RESOURCE]")]
    resources: Vec<String>,
    /// Read everything, as if for the first time; the cursor moves only when that is complete.
    #[arg(long)]
    full: bool,
    /// Read everything, and let rows that are gone go this once, however many they are.
    #[arg(long, requires = "resources")]
    allow_deletes: bool,
}

impl Arguments {
    fn start(&self) -> Start {
        match (self.allow_deletes, self.full) {
            (true, _) => Start::AnewAllowingDeletes,
            (false, true) => Start::Anew,
            (false, false) => Start::GoOn,
        }
    }
}

pub(super) async fn execute(global: &Global, own: &Arguments) -> anyhow::Result<Exit> {
    let Loaded { config, log: _log } = global.load()?;
    select::check(&config, &own.resources)?;
    let stop = stop_on_signal()?;
    let base = Base::start(&config).await?;
    let result = async {
        let registered = base.open(&config).await?;
        let chosen: Vec<Registered> = select::select(&registered, &own.resources)?
            .into_iter()
            .cloned()
            .collect();
        let fleet = Arc::new(Fleet::new(
            config,
            None,
            &base.pool,
            &base.worker,
            &Binary::own(),
        )?);
        let exit = sync_all(&base, Arc::clone(&fleet), chosen, own.start(), &stop).await;
        fleet.settled().await;
        exit
    };
    let result = Box::pin(result).await;
    base.close().await;
    result
}

/// A token that the first SIGINT or SIGTERM cancels; the second one ends the process as usual.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let token = stop.clone();
    TaskTracker::new().spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        token.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Nothing is lost: the leases tell the next process which runs were cut.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .ok();
    });
    Ok(stop)
}

async fn sync_all(
    base: &Base,
    fleet: Arc<Fleet>,
    chosen: Vec<Registered>,
    start: Start,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let tracker = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(fleet.config.daemon.max_concurrent_runs));
    let bars = Bars::new();
    let mut tasks = Vec::with_capacity(chosen.len());
    for resource in chosen {
        let one = One {
            pool: base.pool.clone(),
            worker: base.worker.clone(),
            fleet: Arc::clone(&fleet),
            tracker: tracker.clone(),
            bar: bars.add(&select::full_name(&resource)),
            resource,
            start,
            stop: stop.clone(),
        };
        let slots = Arc::clone(&slots);
        tasks.push(tracker.spawn(async move {
            let _slot = slots.acquire_owned().await;
            one.run().await
        }));
    }
    tracker.close();
    let mut all_well = true;
    for task in tasks {
        all_well &= task.await.unwrap_or(false);
    }
    tracker.wait().await;
    Ok(if all_well {
        Exit::Success
    } else {
        Exit::Failure
    })
}

/// One resource of the command.
struct One {
    pool: postgres::Pool,
    worker: record::Worker,
    fleet: Arc<Fleet>,
    tracker: TaskTracker,
    resource: Registered,
    start: Start,
    stop: CancellationToken,
    bar: Bar,
}

impl One {
    /// Whether the run succeeded.
    async fn run(self) -> bool {
        match self.try_run().await {
            Ok(well) => well,
            Err(error) => {
                self.bar.end(&format!("failed: {error:#}"));
                false
            }
        }
    }

    async fn try_run(&self) -> anyhow::Result<bool> {
        let mode = match self.start {
            Start::GoOn => Mode::Incremental,
            Start::Anew | Start::AnewAllowingDeletes => Mode::Full,
        };
        let id = self.resource.resource_id;
        let claimed =
            record::claim_one(&self.pool, &self.worker, id, Trigger::Manual, mode, "cli").await?;
        let claim = match claimed {
            ClaimOne::Claimed(claim) => claim,
            ClaimOne::Held { owner, .. } => {
                self.bar.end(&format!("not started: {owner} is syncing it"));
                return Ok(false);
            }
        };
        let context = self
            .fleet
            .context(&claim, &self.pool, &self.worker, &self.tracker)
            .context("the resource is not in the configuration")?;
        let gauge = Arc::new(Gauge::default());
        let watching = CancellationToken::new();
        let watcher = self
            .tracker
            .spawn(self.bar.clone().watch(Arc::clone(&gauge), watching.clone()));
        let run = schedule::run_guarded(
            &self.tracker,
            context,
            claim,
            self.start,
            gauge,
            self.stop.clone(),
        );
        let outcome = run.await;
        watching.cancel();
        watcher.await.ok();
        Ok(match outcome {
            Some(outcome) => {
                self.bar.end(&summary(&outcome));
                outcome.status == Status::Succeeded
            }
            None => {
                self.bar.end("failed: a fault in rosterd; see the log");
                false
            }
        })
    }
}

/// One line for people: what happened and, when it did not go well, what to do.
fn summary(outcome: &Outcome) -> String {
    let c = &outcome.counters;
    let mut line = format!(
        "{} in {:.1} s: {} records, {} inserted, {} updated, {} unchanged",
        outcome.status.as_str(),
        outcome.took.as_secs_f64(),
        c.records_read,
        c.rows_inserted,
        c.rows_updated,
        c.rows_unchanged
    );
    for (count, word) in [
        (c.rows_deleted, "deleted"),
        (c.rows_rejected, "rejected"),
        (c.records_left_out, "left out"),
        (c.rows_behind, "older than their rows"),
        (c.cursor_missing_rows, "without a cursor value"),
        (c.cursor_future_rows, "with a cursor in the future"),
        (c.text_replaced, "characters replaced"),
        (c.fields_repeated, "fields that stood twice"),
        (c.records_superseded, "superseded by others of their key"),
        (c.values_discarded, "values discarded"),
        (c.http_retries, "retries"),
    ] {
        if count > 0 {
            line += &format!(", {count} {word}");
        }
    }
    if let Some(fault) = &outcome.fault {
        line += &format!("\n    {fault}\n    hint: {}", fault.hint);
    }
    line
}

/// Progress bars on a terminal, one plain line per resource elsewhere.
struct Bars {
    all: Option<MultiProgress>,
}

impl Bars {
    fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            all: terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
        }
    }

    fn add(&self, name: &str) -> Bar {
        let bar = self.all.as_ref().map(|all| {
            let bar = all.add(ProgressBar::new_spinner());
            bar.set_prefix(name.to_owned());
            bar.set_style(waiting_style());
            bar.set_message("waiting");
            bar
        });
        Bar {
            name: name.to_owned(),
            bar,
        }
    }
}

fn waiting_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix:.bold}  {pos} records  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn counting_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix:.bold}  {bar:30} {pos}/{len} records  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[derive(Clone)]
struct Bar {
    name: String,
    bar: Option<ProgressBar>,
}

impl Bar {
    async fn watch(self, gauge: Arc<Gauge>, done: CancellationToken) {
        let Some(bar) = &self.bar else { return };
        let mut counting = false;
        while !done.is_cancelled() {
            if let Some(total) = gauge.total() {
                if !counting {
                    bar.set_style(counting_style());
                    counting = true;
                }
                bar.set_length(total);
            }
            bar.set_position(u64::try_from(gauge.counters().records_read).unwrap_or_default());
            bar.set_message(gauge.phase());
            tokio::select! {
                () = done.cancelled() => {}
                () = tokio::time::sleep(Duration::from_millis(120)) => {}
            }
        }
    }

    fn end(&self, message: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_style(
                    ProgressStyle::with_template("{prefix:.bold}  {msg}")
                        .unwrap_or_else(|_| waiting_style()),
                );
                bar.finish_with_message(message.to_owned());
            }
            None => output::say(&format!("{}: {message}", self.name)),
        }
    }
}
