//! The product as a contender: the real binary, with a configuration as users write it.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::{
    api::{self, KEY},
    child::{self, Cost, Ended},
    database::Fresh,
};

/// What is synced, and how.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) base: String,
    pub(crate) limit: u64,
    pub(crate) sources: u32,
    /// Resources of each source, each with a table of its own.
    pub(crate) resources: u32,
    /// Port of the status page.
    pub(crate) port: Option<u16>,
}

/// What the service's unit and the image set for the C library's allocator.
fn allocator() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("../../deploy/rosterd.service")
        .lines()
        .filter_map(|line| line.strip_prefix("Environment="))
        .flat_map(str::split_ascii_whitespace)
        .filter(|word| word.starts_with("MALLOC_"))
        .filter_map(|word| word.split_once('='))
}

impl Setup {
    pub(crate) fn new(base: &str, limit: u64) -> Self {
        Self {
            base: base.to_owned(),
            limit,
            sources: 1,
            resources: 1,
            port: None,
        }
    }

    fn yaml(&self, state: &Path) -> String {
        let listen = self
            .port
            .map_or_else(|| "null".to_owned(), |port| format!("127.0.0.1:{port}"));
        let mut yaml = format!(
            "database: {{url: \"${{BENCH_DATABASE}}\"}}\n\
             daemon: {{state_dir: {}, admin: {{listen: {listen}}}}}\nsources:\n",
            state.display()
        );
        for source in 0..self.sources {
            let name = if source == 0 {
                "hr".to_owned()
            } else {
                format!("hr{source}")
            };
            // Writing to a String cannot fail.
            write!(
                yaml,
                "  {name}:\n    client:\n      base_url: {}\n      \
                 auth: {{type: api_key, name: api_key, api_key: \"${{BENCH_KEY}}\", location: query}}\n    \
                 resource_defaults: {{primary_key: id, write_disposition: merge, schedule: every 1m}}\n    \
                 resources:\n",
                self.base
            )
            .ok();
            for resource in 0..self.resources {
                let name = if resource == 0 {
                    "employees".to_owned()
                } else {
                    format!("employees{resource}")
                };
                write!(
                    yaml,
                    "      - name: {name}\n        endpoint: {{path: /v1/employees, data_selector: data, \
                     paginator: {{type: offset, limit: {}}}}}\n",
                    self.limit
                )
                .ok();
            }
        }
        yaml
    }

    fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let path = folder.join("bench.yaml");
        fs::write(&path, self.yaml(&folder.join("state")))?;
        Ok(path)
    }

    fn command(&self, fresh: &Fresh, folder: &Path, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(super::ROSTERD);
        command
            .args(["--log", "warn", "--config"])
            .arg(self.write(folder)?)
            .args(words)
            .envs(allocator())
            .env("BENCH_DATABASE", &fresh.url)
            .env("BENCH_KEY", KEY);
        Ok(command)
    }

    /// Makes the bookkeeping tables, which is no part of any figure.
    pub(crate) async fn migrate(&self, fresh: &Fresh, folder: &Path) -> anyhow::Result<()> {
        let mut command = self.command(fresh, folder, &["migrate"])?;
        child::run(&mut command, &folder.join("rosterd.log")).await?;
        Ok(())
    }

    /// `rosterd sync`, from the start of the process to its end.
    pub(crate) async fn sync(&self, fresh: &Fresh, folder: &Path) -> anyhow::Result<Cost> {
        let mut command = self.command(fresh, folder, &["sync"])?;
        child::run(&mut command, &folder.join("rosterd.log")).await
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub(crate) async fn daemon(
        &self,
        fresh: &Fresh,
        folder: &Path,
    ) -> anyhow::Result<(Ended, Duration)> {
        let mut setup = self.clone();
        let port = api::free_port()?;
        setup.port = Some(port);
        let mut command = setup.command(fresh, folder, &["run"])?;
        let log = fs::File::create(folder.join("rosterd.log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let client = api::client()?;
        let began = Instant::now();
        let daemon = Ended(command.spawn()?);
        loop {
            let answer = client.get(format!("http://127.0.0.1:{port}/readyz")).send();
            if answer
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                return Ok((daemon, began.elapsed()));
            }
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "the daemon does not become ready: {}",
                fs::read_to_string(folder.join("rosterd.log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
