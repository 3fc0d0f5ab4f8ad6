//! `rosterd demo`: the sample HR API, an embedded Postgres and the real daemon, in one process.
//!
//! The daemon reads `daemon.example.yaml` as any user would, with its two variables set; only what
//! a demonstration needs is laid over it: frequent schedules and no daemon settings of the user's.

mod feed;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Arguments as Global, Exit, init, output};
use crate::{
    config::{
        self, Config, Environment,
        schedule::{Schedule, Timing},
    },
    daemon::{self, Ready, Stopped},
    demo,
};

/// The key that the sample API asks for. It opens nothing else.
const KEY: &str = "demo-key-of-the-sample-api";

/// How often each resource is synced in the demonstration.
const EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Employees in the sample company.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    employees: u32,
    /// Share of the API's answers that fail, 0 to 0.9.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    fail: f64,
    /// Requests per second that the API takes before it answers 429.
    #[arg(long)]
    rate_limit: Option<u32>,
    /// Milliseconds that each answer of the API takes.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Where the embedded Postgres keeps its data between starts.
    #[arg(long, default_value = "./.rosterd")]
    state_dir: PathBuf,
    /// Address of the status page.
    #[arg(long, default_value = "127.0.0.1:8686")]
    listen: std::net::SocketAddr,
    /// Serve only the sample API, on this port of loopback; 0 takes a free one.
    #[arg(long, value_name = "PORT")]
    api_only: Option<u16>,
    /// Nothing happens by itself: nobody joins, changes or leaves.
    #[arg(long)]
    still: bool,
    /// Records of each collection that change before the first answer, the same ones each time.
    #[arg(long, default_value_t = 0, value_name = "RECORDS")]
    changed: usize,
    /// Records that the API gives per page at most.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    page_cap: u32,
    /// Megabytes of rendered records that the API keeps, so that pages cost it nothing.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(0..=16_384))]
    keep_mb: u32,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|share| (0.0..=0.9).contains(share))
        .ok_or_else(|| "from 0 to 0.9".to_owned())
}

pub(super) async fn execute(global: &Global, own: &Arguments) -> anyhow::Result<Exit> {
    let stop = CancellationToken::new();
    let _end = stop.clone().drop_guard();
    let api = demo::Api::start(options(own), stop.clone()).await?;
    for collection in demo::COLLECTIONS {
        api.mutate(collection, demo::Mutation::Change(own.changed));
    }
    if own.api_only.is_some() {
        output::say(&format!(
            "sample HR API at {}/v1/employees?api_key={KEY}\nCtrl-C stops it",
            api.base_url()
        ));
        tokio::signal::ctrl_c().await?;
        return Ok(Exit::Success);
    }

    let config = Arc::new(configuration(&api.base_url(), own)?);
    let log = global.start_log(&config)?;
    output::say(&format!(
        "A sample HR API is at {}: {} employees, who join, change and leave.\n\
         Starting a private PostgreSQL in {} and the daemon with daemon.example.yaml.\n\
         Ctrl-C stops everything; a second start goes on where it was.",
        api.base_url(),
        output::count(own.employees.into()),
        own.state_dir.display(),
    ));
    let (sender, ready) = oneshot::channel();
    let options = daemon::Options {
        config_path: global.config.clone(),
        config,
        log,
        on_ready: Some(sender),
    };
    let over = CancellationToken::new();
    let running = async {
        let stopped = Box::pin(daemon::run(options, stop.clone())).await;
        over.cancel();
        stopped
    };
    let telling = async {
        if let Ok(ready) = ready.await {
            output::say(&instructions(&ready));
            tokio::join!(
                feed::follow(&ready.reports, &api, &over),
                tell_stop(&over, own)
            );
        }
    };
    let (stopped, ()) = tokio::join!(running, telling);
    match stopped? {
        Stopped::Clean => Ok(Exit::Success),
        Stopped::Cut => Ok(Exit::Failure),
    }
}

/// Says that the signal was heard: the batch in hand may take its time.
async fn tell_stop(over: &CancellationToken, own: &Arguments) {
    tokio::select! {
        () = over.cancelled() => {}
        _ = tokio::signal::ctrl_c() => output::say(&format!(
            "\nStopping. The data stay in {}; delete that folder to begin anew.",
            own.state_dir.display()
        )),
    }
}

/// The example as it is, with its two variables set, beside the settings given on the command line.
fn configuration(api: &str, own: &Arguments) -> anyhow::Result<Config> {
    let environment = Environment::from_pairs([
        ("HR_API_URL", api.to_owned()),
        ("HR_API_KEY", KEY.to_owned()),
        (
            "ROSTERD__DAEMON__STATE_DIR",
            own.state_dir.display().to_string(),
        ),
        ("ROSTERD__DAEMON__ADMIN__LISTEN", own.listen.to_string()),
    ]);
    let mut config = config::from_str_with(init::template(), &environment)?;
    // What the example leaves for every quarter of an hour, nobody wants to wait for here.
    for resource in config
        .sources
        .iter_mut()
        .flat_map(|source| &mut source.resources)
    {
        resource.schedule = Some(Schedule {
            timing: Timing::Every(EVERY),
            jitter: Duration::ZERO,
        });
    }
    Ok(config)
}

fn instructions(ready: &Ready) -> String {
    let page = ready
        .status_page
        .map_or_else(|| "off".to_owned(), |addr| format!("http://{addr}/"));
    let psql = &ready.psql;
    format!(
        "\n  status page   {page}\n  \
           tables        {psql} -c 'select * from hr.employees limit 5'\n  \
           run history   {psql} -c 'select * from rosterd.run_list order by run_id desc limit 10'\n  \
           health        {psql} -c 'select * from rosterd.resource_health'\n"
    )
}

fn options(own: &Arguments) -> demo::Options {
    demo::Options {
        port: own.api_only.unwrap_or(0),
        employees: own.employees as usize,
        churn: (!own.still).then_some(Duration::from_secs(2)),
        fail_fraction: own.fail,
        rate_limit: own
            .rate_limit
            .map(|requests| (requests, Duration::from_secs(1))),
        latency: (own.latency_ms > 0).then(|| Duration::from_millis(own.latency_ms)),
        page_cap: own.page_cap as usize,
        keep: (own.keep_mb as usize) << 20,
        key: KEY.to_owned(),
        ..demo::Options::default()
    }
}
