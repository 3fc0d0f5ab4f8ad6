//! rosterd beside its contenders: the same records, the same machine, in turn, in one run.
//!
//! `cargo bench --bench side_by_side` prints the figures and whether each target is met.
//! `-- first latency` runs only these parts, `-- --help` lists them.
//! Everything happens on loopback, with a private Postgres that is gone afterwards.
#![expect(clippy::print_stdout, reason = "the tables are the result")]

mod api;

mod child;

mod database;

mod peers;

mod rosterd;

mod table;

mod wide;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};

use self::{
    api::{Api, Truth},
    child::Cost,
    database::Postgres,
    peers::{Peer, Peers},
    rosterd::Setup,
    table::{Gate, Samples, megabytes, seconds},
    wide::Wide,
};

/// The real binary, built in the bench profile.
const ROSTERD: &str = env!("CARGO_BIN_EXE_rosterd");

const HELP: &str = "\
cargo bench --bench side_by_side -- [PART...] [--repeat N] [--records N] [--no-peers] [--large]
  first     first load, full re-read unchanged and with 1 % changed, against all contenders
  latency   50 ms per answer, pages of 100, 20,000 records
  memory    peak memory from 20,000 to 500,000 records (5,000,000 with --large)
  ready     time from start to ready
  idle      1,000 resources of 50 sources, every minute
  growth    cost by columns, page size, and resources at once
Without a part: all of them, rows up to 500,000.";

const FIRST: &str = "first load";
const SAME: &str = "re-read, nothing changed";
const CHANGED: &str = "re-read, 1 % changed";
const ROSTERD_NAME: &str = "rosterd";
const FLOOR: &str = "psql \\copy + merge";

struct Bench {
    repeat: usize,
    records: u64,
    with_peers: bool,
    large: bool,
    folder: PathBuf,
    postgres: Postgres,
    gates: Vec<Gate>,
}

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(Box::pin(run()))
}

async fn run() -> anyhow::Result<()> {
    let mut parts = Vec::new();
    let (mut repeat, mut records, mut with_peers, mut large) = (5, 100_000, true, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> anyhow::Result<u64> {
            let word = words.next().context("a number is missing")?;
            Ok(word.parse()?)
        };
        match word.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            "--repeat" => repeat = usize::try_from(number()?.max(1))?,
            "--records" => records = number()?.max(1000),
            "--no-peers" => with_peers = false,
            "--large" => large = true,
            "first" | "latency" | "memory" | "ready" | "idle" | "growth" => parts.push(word),
            other => bail!("unknown word {other:?}\n{HELP}"),
        }
    }
    if parts.is_empty() {
        parts = ["first", "latency", "memory", "ready", "idle", "growth"]
            .map(str::to_owned)
            .to_vec();
    }

    let folder = tempfile::Builder::new()
        .prefix("rosterd-bench-")
        .tempdir()?;
    let postgres = Box::pin(Postgres::start(folder.path())).await?;
    println!("{}", postgres.describe());
    let mut bench = Bench {
        repeat,
        records,
        with_peers,
        large,
        folder: folder.path().to_owned(),
        postgres,
        gates: Vec::new(),
    };
    let done = bench.parts(&parts).await;
    table::gates(&bench.gates);
    bench.postgres.stop().await?;
    done
}

impl Bench {
    async fn parts(&mut self, parts: &[String]) -> anyhow::Result<()> {
        for part in parts {
            match part.as_str() {
                "first" => Box::pin(self.first()).await?,
                "latency" => Box::pin(self.latency()).await?,
                "memory" => Box::pin(self.memory()).await?,
                "ready" => Box::pin(self.ready()).await?,
                "idle" => Box::pin(self.idle()).await?,
                _ => Box::pin(self.growth()).await?,
            }
        }
        Ok(())
    }

    fn gate(&mut self, what: &str, measured: f64, most: f64, unit: &'static str) {
        self.gates.push(Gate {
            what: what.to_owned(),
            measured,
            bound: table::Bound::Most(most),
            unit,
        });
    }

    fn gate_least(&mut self, what: &str, measured: f64, least: f64) {
        self.gates.push(Gate {
            what: what.to_owned(),
            measured,
            bound: table::Bound::Least(least),
            unit: "x",
        });
    }

    /// One measured run, with the log it wrote, filed under its contender and phase.
    async fn note(
        &self,
        samples: &mut Samples,
        contender: &str,
        phase: &'static str,
        wal_before: u64,
        cost: Cost,
    ) -> anyhow::Result<()> {
        let wal = self.postgres.wal().await? - wal_before;
        samples.add(contender, phase, cost, wal);
        Ok(())
    }

    async fn first(&mut self) -> anyhow::Result<()> {
        let changed = (self.records / 100).to_string();
        let before = Api::start(self.records, &[]).await?;
        let after = Api::start(self.records, &["--changed", &changed]).await?;
        let (truth, truth_after) = (before.truth().await?, after.truth().await?);
        ensure!(truth != truth_after, "nothing changed in the sample API");

        let peers = match self.with_peers {
            true => Peers::prepare(&self.folder.join("pip.log")).await,
            false => Peers::none("--no-peers"),
        };
        for (peer, why) in peers.left_out() {
            println!("left out: {} ({why})", peer.name());
        }

        // Unmeasured: gives the rows of the floor, and warms everything.
        let file = self.folder.join("rows.bin");
        let fresh = self.postgres.fresh().await?;
        let setup = Setup::new(&before.base, 1000);
        setup.migrate(&fresh, &self.folder).await?;
        setup.sync(&fresh, &self.folder).await?;
        let create = self.postgres.dump(&fresh, &file).await?;

        let mut samples = Samples::default();
        for turn in 0..self.repeat {
            for connections in [1, 4] {
                let wall = before.drain(1000, connections).await?;
                let name = format!("drain only, {connections} connections");
                let cost = Cost {
                    wall,
                    ..Cost::default()
                };
                samples.add(&name, FIRST, cost, 0);
            }
            let fresh = self.postgres.fresh().await?;
            let wal = self.postgres.wal().await?;
            let cost = self.postgres.copy_only(&fresh, &create, &file).await?;
            self.note(&mut samples, "psql \\copy only", FIRST, wal, cost)
                .await?;

            let fresh = self.postgres.fresh().await?;
            let wal = self.postgres.wal().await?;
            let cost = self.postgres.floor(&fresh, &create, &file).await?;
            self.note(&mut samples, FLOOR, FIRST, wal, cost).await?;
            self.postgres.verify(&fresh, "employees", truth).await?;

            self.rosterd_turn(&mut samples, &before, &after, truth, truth_after)
                .await?;
            for peer in peers.here() {
                if peer.is_slow() && turn > 0 && turn + 1 < self.repeat {
                    continue;
                }
                let fresh = self.postgres.fresh().await?;
                for (phase, api, truth) in [(FIRST, &before, truth), (CHANGED, &after, truth_after)]
                {
                    let wal = self.postgres.wal().await?;
                    let cost = peers
                        .sync(peer, api, &fresh, &self.postgres, &self.folder)
                        .await?;
                    self.note(&mut samples, peer.name(), phase, wal, cost)
                        .await?;
                    self.postgres.verify(&fresh, peer.table(), truth).await?;
                    self.postgres.tidy(&fresh).await?;
                }
            }
        }
        samples.print(self.records);
        self.first_gates(&samples, &peers.here().collect::<Vec<_>>());
        Ok(())
    }

    async fn rosterd_turn(
        &mut self,
        samples: &mut Samples,
        before: &Api,
        after: &Api,
        truth: Truth,
        truth_after: Truth,
    ) -> anyhow::Result<()> {
        let fresh = self.postgres.fresh().await?;
        let setup = Setup::new(&before.base, 1000);
        let setup_after = Setup::new(&after.base, 1000);
        setup.migrate(&fresh, &self.folder).await?;
        for (phase, setup, truth, rows) in [
            (FIRST, &setup, truth, Some(truth.count)),
            (SAME, &setup, truth, Some(0)),
            (CHANGED, &setup_after, truth_after, None),
        ] {
            let wal = self.postgres.wal().await?;
            let cost = setup.sync(&fresh, &self.folder).await?;
            self.note(samples, ROSTERD_NAME, phase, wal, cost).await?;
            self.postgres.verify(&fresh, "hr.employees", truth).await?;
            let written = self.postgres.rows_of_last_run(&fresh).await?;
            let wanted = rows.unwrap_or(truth_after.revisions - truth.count);
            ensure!(
                written == wanted,
                "{phase}: {written} rows were written, not {wanted}"
            );
            self.postgres.tidy(&fresh).await?;
        }
        Ok(())
    }

    fn first_gates(&mut self, samples: &Samples, peers: &[Peer]) {
        let wall = |contender: &str, phase| samples.wall(contender, phase).as_secs_f64();
        let per_100k = 100_000.0 / self.records as f64;
        let first = wall(ROSTERD_NAME, FIRST);
        let changed = wall(ROSTERD_NAME, CHANGED);
        self.gate("first load / floor", first / wall(FLOOR, FIRST), 1.0, "x");
        self.gate(
            "re-read, 1 % changed / first load",
            changed / first,
            0.5,
            "x",
        );
        for (peer, phase, least) in [
            (Peer::DltDefault, FIRST, 30.0),
            (Peer::DltTuned, FIRST, 12.0),
            (Peer::Faucet, FIRST, 5.0),
            (Peer::Script, FIRST, 3.0),
            (Peer::DltDefault, CHANGED, 100.0),
            (Peer::Faucet, CHANGED, 15.0),
        ] {
            if peers.contains(&peer) {
                let own = wall(ROSTERD_NAME, phase);
                let what = format!("{phase}: faster than {} by", peer.name());
                self.gate_least(&what, wall(peer.name(), phase) / own, least);
            }
        }
        let cost = |phase| samples.median(ROSTERD_NAME, phase);
        let cpu = |phase| cost(phase).0.cpu.as_secs_f64() * per_100k;
        self.gate("client CPU per 100k rows, first load", cpu(FIRST), 0.5, "s");
        self.gate("client CPU per 100k rows, re-read", cpu(CHANGED), 0.25, "s");
        let wal = cost(CHANGED).1 as f64 / 1e6 * per_100k;
        self.gate("WAL per 100k rows, 1 % changed", wal, 15.0, "MB");
        let peak = [FIRST, SAME, CHANGED].map(|phase| cost(phase).0.memory);
        let peak = peak.into_iter().max().unwrap_or(0);
        self.gate("peak memory, pages of 1000", peak as f64 / 1e6, 40.0, "MB");
    }

    async fn latency(&mut self) -> anyhow::Result<()> {
        let records = 20_000;
        let api = Api::start(records, &["--latency-ms", "50"]).await?;
        let quick = Api::start(records, &[]).await?;
        let truth = quick.truth().await?;
        let mut samples = Samples::default();
        const DRAIN: &str = "drain only, 4 connections";
        for _ in 0..self.repeat.min(3) {
            let cost = Cost {
                wall: api.drain(100, 4).await?,
                ..Cost::default()
            };
            samples.add(DRAIN, FIRST, cost, 0);
            let fresh = self.postgres.fresh().await?;
            let setup = Setup::new(&api.base, 100);
            setup.migrate(&fresh, &self.folder).await?;
            for phase in [FIRST, SAME] {
                let wal = self.postgres.wal().await?;
                let cost = setup.sync(&fresh, &self.folder).await?;
                self.note(&mut samples, ROSTERD_NAME, phase, wal, cost)
                    .await?;
                self.postgres.verify(&fresh, "hr.employees", truth).await?;
            }
        }
        println!("\n50 ms per answer, pages of 100, 4 in flight");
        samples.print(records);
        let own = samples.wall(ROSTERD_NAME, FIRST).as_secs_f64();
        let drain = samples.wall(DRAIN, FIRST).as_secs_f64();
        self.gate("50 ms latency: first load / drain", own / drain, 1.1, "x");
        Ok(())
    }

    async fn memory(&mut self) -> anyhow::Result<()> {
        let mut sizes = vec![20_000, 100_000, 500_000];
        if self.large {
            sizes.push(5_000_000);
        }
        println!("\npeak memory and time by rows, pages of 1000");
        println!(
            "{:>10} {:>28} {:>8} {:>9} {:>7} {:>8}",
            "rows", "", "s", "rows/s", "CPU s", "MB"
        );
        let mut peaks = Vec::new();
        for &size in &sizes {
            // Five million records do not fit into anybody's memory; they are rendered as asked.
            let keep: &[&str] = if size > 1_000_000 {
                &["--keep-mb", "0"]
            } else {
                &[]
            };
            let api = Api::start(size, keep).await?;
            let truth = api.truth().await?;
            let fresh = self.postgres.fresh().await?;
            let setup = Setup::new(&api.base, 1000);
            setup.migrate(&fresh, &self.folder).await?;
            let mut peak = 0;
            for phase in [FIRST, SAME] {
                let cost = setup.sync(&fresh, &self.folder).await?;
                self.postgres.verify(&fresh, "hr.employees", truth).await?;
                self.postgres.tidy(&fresh).await?;
                peak = peak.max(cost.memory);
                row(&size.to_string(), phase, size, cost);
            }
            peaks.push(peak);
        }
        if let (Some(first), Some(last)) = (peaks.first(), peaks.last()) {
            let most = peaks.iter().max().unwrap_or(last);
            self.gate("peak memory at any size", *most as f64 / 1e6, 40.0, "MB");
            let growth = last.saturating_sub(*first) as f64 / 1e6;
            self.gate(
                "growth of peak memory, 20k to the most rows",
                growth,
                5.0,
                "MB",
            );
        }
        Ok(())
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let api = Api::start(1, &[]).await?;
        let fresh = self.postgres.fresh().await?;
        let setup = Setup::new(&api.base, 1000);
        setup.migrate(&fresh, &self.folder).await?;
        let mut times = Vec::new();
        for _ in 0..self.repeat.max(3) {
            let (daemon, took) = setup.daemon(&fresh, &self.folder).await?;
            drop(daemon);
            times.push(took);
        }
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        println!(
            "\nstart to ready on a migrated database: {} s (median of {})",
            seconds(median),
            times.len()
        );
        self.gate("start to ready", median.as_secs_f64() * 1e3, 300.0, "ms");
        Ok(())
    }

    async fn idle(&mut self) -> anyhow::Result<()> {
        let api = Api::start(1, &[]).await?;
        let fresh = self.postgres.fresh().await?;
        let mut setup = Setup::new(&api.base, 1000);
        (setup.sources, setup.resources) = (50, 20);
        setup.migrate(&fresh, &self.folder).await?;
        let (daemon, _) = setup.daemon(&fresh, &self.folder).await?;
        let pid = daemon.0.id();
        // The first round makes a thousand tables and is not idle.
        tokio::time::sleep(Duration::from_secs(90)).await;
        let before = child::cpu_of(pid)?;
        let window = Duration::from_secs(120);
        tokio::time::sleep(window).await;
        let used = child::cpu_of(pid)?.saturating_sub(before);
        let share = used.as_secs_f64() / window.as_secs_f64() * 100.0;
        let memory = child::peak_memory(pid);
        println!(
            "\n1,000 resources of 50 sources every minute: {share:.1} % of a core, {} MB",
            megabytes(memory)
        );
        self.gate("idle: share of a core", share, 5.0, "%");
        self.gate("idle: peak memory", memory as f64 / 1e6, 100.0, "MB");
        Ok(())
    }

    async fn growth(&mut self) -> anyhow::Result<()> {
        println!("\nby page size, 20,000 records");
        let api = Api::start(20_000, &[]).await?;
        for limit in [10, 100, 1000, 10_000] {
            let fresh = self.postgres.fresh().await?;
            let setup = Setup::new(&api.base, limit);
            setup.migrate(&fresh, &self.folder).await?;
            for phase in [FIRST, SAME] {
                let cost = setup.sync(&fresh, &self.folder).await?;
                row(&format!("pages of {limit}"), phase, 20_000, cost);
            }
        }
        println!("\nby columns, 20,000 records, pages of 1000");
        for fields in [10, 100, 500] {
            let api = Wide::start(20_000, fields).await?;
            let fresh = self.postgres.fresh().await?;
            let setup = Setup::new(&api.base, 1000);
            setup.migrate(&fresh, &self.folder).await?;
            for phase in [FIRST, SAME] {
                let cost = setup.sync(&fresh, &self.folder).await?;
                self.postgres
                    .verify(&fresh, "hr.employees", api.truth)
                    .await?;
                row(&format!("{fields} columns"), phase, 20_000, cost);
            }
        }
        println!("\nby resources at once, 1,000 records each");
        let api = Api::start(1_000, &[]).await?;
        for resources in [1, 10, 100, 1000] {
            let fresh = self.postgres.fresh().await?;
            let mut setup = Setup::new(&api.base, 1000);
            setup.resources = resources;
            setup.migrate(&fresh, &self.folder).await?;
            for phase in [FIRST, SAME] {
                let cost = setup.sync(&fresh, &self.folder).await?;
                let rows = u64::from(resources) * 1000;
                row(&format!("{resources} resources"), phase, rows, cost);
            }
        }
        Ok(())
    }
}

fn row(what: &str, phase: &str, rows: u64, cost: Cost) {
    println!(
        "{what:>16} {phase:>26} {:>7} s {:>9.0} rows/s {:>6} s CPU {:>6} MB",
        seconds(cost.wall),
        rows as f64 / cost.wall.as_secs_f64(),
        seconds(cost.cpu),
        megabytes(cost.memory)
    );
}
