//! Contenders that others wrote, as far as they can be had.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    api::{Api, KEY},
    child::{self, Cost},
    database::{Fresh, Postgres},
};

const PACKAGES: &[&str] = &["httpx", "orjson", "psycopg[binary]", "dlt[postgres]"];
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/side_by_side/peers");

/// One contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Script,
    Faucet,
    DltDefault,
    DltTuned,
}

impl Peer {
    pub(crate) const ALL: [Self; 4] =
        [Self::Script, Self::Faucet, Self::DltTuned, Self::DltDefault];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Script => "Python by hand, COPY",
            Self::Faucet => "faucet-stream",
            Self::DltDefault => "dlt default",
            Self::DltTuned => "dlt tuned",
        }
    }

    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Script | Self::Faucet => "public.employees",
            Self::DltDefault | Self::DltTuned => "dlt.employees",
        }
    }

    /// A run takes a minute; its spread is far below its distance.
    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::DltDefault | Self::DltTuned)
    }
}

/// The programs that the contenders need, or why there is none.
pub(crate) struct Peers {
    python: Result<PathBuf, String>,
    faucet: Result<PathBuf, String>,
}

impl Peers {
    pub(crate) fn none(why: &str) -> Self {
        let none = || Err(why.to_owned());
        Self {
            python: none(),
            faucet: none(),
        }
    }

    /// Finds the programs, and installs the Python packages if they are not there.
    pub(crate) async fn prepare(log: &Path) -> Self {
        Self {
            python: python(log).await,
            faucet: faucet(),
        }
    }

    fn program(&self, peer: Peer) -> Result<&Path, &str> {
        let program = match peer {
            Peer::Faucet => &self.faucet,
            Peer::Script | Peer::DltDefault | Peer::DltTuned => &self.python,
        };
        program.as_deref().map_err(String::as_str)
    }

    /// The contenders that can be measured.
    pub(crate) fn here(&self) -> impl Iterator<Item = Peer> {
        Peer::ALL
            .into_iter()
            .filter(|peer| self.program(*peer).is_ok())
    }

    /// The others, each with the reason.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (Peer, &str)> {
        Peer::ALL
            .into_iter()
            .filter_map(|peer| Some((peer, self.program(peer).err()?)))
    }

    /// One run of a contender; [`Peers::here`] has it.
    pub(crate) async fn sync(
        &self,
        peer: Peer,
        api: &Api,
        fresh: &Fresh,
        postgres: &Postgres,
        folder: &Path,
    ) -> anyhow::Result<Cost> {
        let program = self.program(peer).map_err(|why| anyhow::anyhow!("{why}"))?;
        let mut command = Command::new(program);
        match peer {
            Peer::Faucet => {
                postgres
                    .execute(fresh, include_str!("peers/faucet.sql"))
                    .await?;
                command.arg("run").arg(format!("{SCRIPTS}/faucet.yaml"));
                command
                    .env("BENCH_BASE", &api.base)
                    .env("BENCH_KEY", KEY)
                    .env("BENCH_DATABASE", &fresh.url);
            }
            Peer::Script => {
                command.arg(format!("{SCRIPTS}/by_hand.py"));
                command.args([&api.base, KEY, &fresh.url, "1000"]);
            }
            Peer::DltDefault | Peer::DltTuned => {
                command.arg(format!("{SCRIPTS}/dlt_peer.py"));
                command.args([&api.base, KEY, &fresh.url, "1000"]);
                let mode = match peer {
                    Peer::DltTuned => "tuned",
                    _ => "default",
                };
                command.arg(folder.join(&fresh.name)).arg(mode);
            }
        }
        child::run(&mut command, &folder.join("peer.log")).await
    }
}

/// `faucet` from the path. It takes many minutes to build, so that is left to people.
fn faucet() -> Result<PathBuf, String> {
    let program = PathBuf::from("faucet");
    match Command::new(&program).arg("--version").output() {
        Ok(output) if output.status.success() => Ok(program),
        Ok(_) | Err(_) => Err("no faucet on the path".to_owned()),
    }
}

/// Makes a virtual environment with the packages in `target/`, once. Says why when it cannot.
async fn python(log: &Path) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-python");
    let program = folder.join("bin/python");
    let has_packages = Command::new(&program)
        .args([
            "-c",
            "import httpx, orjson, psycopg, dlt.destinations.impl.postgres",
        ])
        .output()
        .is_ok_and(|output| output.status.success());
    if has_packages {
        return Ok(program);
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&folder);
    child::run(&mut venv, log)
        .await
        .map_err(|error| format!("no virtual environment: {}", first_line(&error)))?;
    let mut pip = Command::new(&program);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ])
    .args(PACKAGES);
    child::run(&mut pip, log)
        .await
        .map_err(|error| format!("pip cannot install the packages: {}", first_line(&error)))?;
    Ok(program)
}

fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().to_owned()
}
