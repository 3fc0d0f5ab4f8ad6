//! The long-running process: build the parts, start, reload, stop.
//!
//! Stopping is soft first: no new claims, each run commits the batch in hand and ends
//! `interrupted`. What is still there after the grace period, or at a second signal, is left to the
//! leases: the next process closes those runs and goes on from their checkpoints.

pub mod base;

mod systemd;

mod upkeep;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, oneshot, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

pub use base::Base;

use crate::{
    config::{self, Config, Environment},
    record::{self, report::Reports},
    schedule::{Scheduler, Turn, wake::Wakes},
    serve::{self, Health},
    sync::{Binary, Fleet},
    telemetry,
};

/// How a daemon is started.
pub struct Options {
    /// Read again at each SIGHUP.
    pub config_path: PathBuf,
    pub config: Arc<Config>,
    /// Covers the secrets of each configuration that is read.
    pub log: telemetry::Guard,
    /// Told once, when the daemon is ready.
    pub on_ready: Option<oneshot::Sender<Ready>>,
}

/// Where to look at a daemon that is ready.
#[derive(Debug, Clone)]
pub struct Ready {
    /// A command line that opens the database, without any password.
    pub psql: String,
    pub status_page: Option<SocketAddr>,
    /// The history, for who wants to follow it in this process.
    pub reports: Reports,
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every run ended by itself.
    Clean,
    /// Runs were cut: a second signal came, or the grace period was over.
    Cut,
}

/// Runs the daemon until a signal or `stop` ends it.
///
/// # Errors
///
/// What keeps the daemon from starting and does not pass by itself.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<Stopped> {
    let config = Arc::clone(&options.config);
    let base = Base::start(&config).await?;
    let result = Box::pin(run_on(&base, options, stop)).await;
    systemd::stopping();
    base.close().await;
    result
}

async fn run_on(base: &Base, options: Options, stop: CancellationToken) -> anyhow::Result<Stopped> {
    let config = Arc::clone(&options.config);
    let health = Arc::new(Health::new(STUCK_AFTER));
    let served = CancellationToken::new();
    let _end_of_serving = served.clone().drop_guard();
    let state = serve::State {
        reports: Reports::new(base.pool.clone()),
        health: Arc::clone(&health),
        tasks: TaskTracker::new(),
    };
    let bound = serve::start(&config.daemon.admin, state, served.clone()).await?;
    if let Some(bound) = &bound {
        info!("status page at http://{}/", bound.addr);
    }

    let mut signals = Signals::new()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let prepared = tokio::select! {
        prepared = base.prepare(&config, &stop, || {
            health.ticked();
            health.set_waiting_for("Postgres");
        }) => Some(prepared),
        () = signals.stop() => None,
    };
    let Some(prepared) = prepared else {
        return Ok(Stopped::Clean);
    };
    let registered = prepared?;
    let fleet = Fleet::new(config, None, &base.pool, &base.worker, &Binary::own())?;
    let mut daemon = Running::start(base, fleet, Arc::clone(&health), stop.clone()).await?;
    health.set_ready();
    systemd::ready(&format!("{} resources", registered.len()));
    info!(resources = registered.len(), "ready");
    if let Some(on_ready) = options.on_ready {
        on_ready
            .send(Ready {
                psql: base.server.psql(),
                status_page: bound.map(|b| b.addr),
                reports: Reports::new(base.pool.clone()),
            })
            .ok();
    }

    loop {
        tokio::select! {
            _ = hangup.recv() => daemon.reload(base, &options.config_path, &options.log).await,
            () = signals.stop() => break,
            () = stop.cancelled() => break,
        }
    }
    health.set_draining();
    Ok(daemon.stop(&mut signals).await)
}

/// The parts that turn.
struct Running {
    fleet: watch::Sender<Arc<Fleet>>,
    wakes: Wakes,
    wake: Arc<Notify>,
    tracker: TaskTracker,
    stop: CancellationToken,
    running: Arc<AtomicUsize>,
}

impl Running {
    async fn start(
        base: &Base,
        fleet: Fleet,
        health: Arc<Health>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let wake = Arc::new(Notify::new());
        let schedules = fleet.schedules();
        let mut wakes = Wakes::start(wake_capacity(&schedules), Arc::clone(&wake))
            .await
            .context("the clockwork")?;
        wakes.set(&schedules).await.context("the clockwork")?;
        let (sender, receiver) = watch::channel(Arc::new(fleet));
        let tracker = TaskTracker::new();
        let running = Arc::new(AtomicUsize::new(0));

        let scheduler = Scheduler {
            pool: base.pool.clone(),
            worker: base.worker.clone(),
            fleet: receiver.clone(),
            tracker: tracker.clone(),
            stop: stop.clone(),
            wake: Arc::clone(&wake),
            on_turn: on_turn(health, Arc::clone(&running)),
        };
        tracker.spawn(scheduler.run());
        tracker.spawn(upkeep::run(
            base.pool.clone(),
            base.worker.clone(),
            receiver,
            Arc::clone(&running),
            stop.clone(),
        ));
        Ok(Self {
            fleet: sender,
            wakes,
            wake,
            tracker,
            stop,
            running,
        })
    }

    /// Takes a new configuration, or keeps the old one and says why.
    async fn reload(&mut self, base: &Base, path: &std::path::Path, log: &telemetry::Guard) {
        systemd::reloading();
        match self.try_reload(base, path, log).await {
            Ok(resources) => {
                info!(resources, "took the new configuration");
                systemd::ready(&format!("{resources} resources"));
            }
            Err(error) => {
                error!("kept the old configuration: {error:#}");
                systemd::ready("kept the old configuration; see the log");
            }
        }
    }

    async fn try_reload(
        &mut self,
        base: &Base,
        path: &std::path::Path,
        log: &telemetry::Guard,
    ) -> anyhow::Result<usize> {
        let config = Arc::new(config::load(path, &Environment::of_process())?);
        log.mask(&config.secret_texts());
        for warning in &config.warnings {
            warn!("{warning}");
        }
        let before = Arc::clone(&self.fleet.borrow());
        note_what_needs_a_restart(&before.config, &config);
        let fleet = Fleet::new(
            Arc::clone(&config),
            Some(&before),
            &base.pool,
            &base.worker,
            &Binary::own(),
        )?;
        let now = record::now(&base.pool).await?;
        let registered = record::register(&base.pool, &config, now).await?;
        self.wakes
            .set(&fleet.schedules())
            .await
            .context("the clockwork")?;
        self.fleet.send_replace(Arc::new(fleet));
        self.wake.notify_one();
        Ok(registered.len())
    }

    /// Soft stop, then, when the grace is over or a second signal comes, the hard one.
    async fn stop(self, signals: &mut Signals) -> Stopped {
        let grace = self.fleet.borrow().config.daemon.stop_grace;
        info!(
            running = self.running.load(Ordering::Relaxed),
            grace_s = grace.as_secs(),
            "stopping"
        );
        systemd::status("finishing the batches in hand");
        self.stop.cancel();
        self.wakes.stop().await;
        self.tracker.close();
        let fleet = Arc::clone(&self.fleet.borrow());
        let end = async {
            self.tracker.wait().await;
            fleet.settled().await;
        };
        tokio::select! {
            () = end => {
                info!("stopped");
                Stopped::Clean
            }
            () = tokio::time::sleep(grace) => {
                warn!("runs were cut: the grace period is over; the next start closes them");
                Stopped::Cut
            }
            () = signals.stop() => {
                warn!("runs were cut: a second signal came; the next start closes them");
                Stopped::Cut
            }
        }
    }
}

/// Room for the jobs of later reloads too: the clockwork is never rebuilt.
fn wake_capacity<T>(schedules: &HashMap<String, T>) -> usize {
    (schedules.len() * 4).max(4096)
}

/// What each turn of the scheduler's loop tells: the page, and systemd's watchdog.
fn on_turn(health: Arc<Health>, running: Arc<AtomicUsize>) -> Box<dyn Fn(Turn) + Send + Sync> {
    let watched = systemd::watchdog_interval().is_some();
    Box::new(move |turn| {
        running.store(turn.running, Ordering::Relaxed);
        health.ticked();
        if turn.database {
            health.set_ready();
        } else {
            health.set_waiting_for("Postgres");
        }
        if watched {
            systemd::watchdog();
        }
    })
}

/// Settings that are read once.
fn note_what_needs_a_restart(old: &Config, new: &Config) {
    if old.daemon.admin.listen != new.daemon.admin.listen {
        warn!("daemon.admin.listen changed: takes effect at the next start");
    }
    if old.daemon.state_dir != new.daemon.state_dir {
        warn!("daemon.state_dir changed: takes effect at the next start");
    }
    if old.daemon.max_concurrent_runs != new.daemon.max_concurrent_runs {
        warn!("daemon.max_concurrent_runs changed: takes effect at the next start");
    }
    let url = |config: &Config| {
        config
            .database
            .url
            .as_ref()
            .map(|url| url.expose().to_owned())
    };
    if url(old) != url(new) {
        warn!("database.url changed: takes effect at the next start");
    }
}

/// The signals that stop the daemon.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// SIGTERM or SIGINT.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Longest time between two turns of the loop before the daemon counts as stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);
