//! Contenders from the Python Package Index, where Python and the packages can be had.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    api::{Api, KEY},
    child::{self, Cost},
    database::Fresh,
};

const PACKAGES: &[&str] = &["httpx", "orjson", "psycopg[binary]", "dlt[postgres]"];
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/side_by_side/peers");

/// A contender written in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Script,
    DltDefault,
    DltTuned,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Script, Self::DltTuned, Self::DltDefault];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Script => "Python by hand, COPY",
            Self::DltDefault => "dlt default",
            Self::DltTuned => "dlt tuned",
        }
    }

    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Script => "public.employees",
            Self::DltDefault | Self::DltTuned => "dlt.employees",
        }
    }
}

/// A Python with the packages.
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    /// Makes a virtual environment in `target/`, once. Says why when it cannot.
    pub(crate) async fn prepare(log: &Path) -> Result<Self, String> {
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
            return Ok(Self { program });
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
        Ok(Self { program })
    }

    pub(crate) async fn sync(
        &self,
        peer: Peer,
        api: &Api,
        fresh: &Fresh,
        folder: &Path,
    ) -> anyhow::Result<Cost> {
        let mut command = Command::new(&self.program);
        let script = match peer {
            Peer::Script => "by_hand.py",
            Peer::DltDefault | Peer::DltTuned => "dlt_peer.py",
        };
        command.arg(format!("{SCRIPTS}/{script}"));
        command.args([&api.base, KEY, &fresh.url, "1000"]);
        match peer {
            Peer::Script => {}
            Peer::DltDefault => {
                command.arg(folder.join(&fresh.name)).arg("default");
            }
            Peer::DltTuned => {
                command.arg(folder.join(&fresh.name)).arg("tuned");
            }
        }
        child::run(&mut command, &folder.join("peer.log")).await
    }
}

fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().to_owned()
}
