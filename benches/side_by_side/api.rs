//! The sample HR API in a process of its own, and reading it without doing anything else.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

use super::child::Ended;

/// The key of `rosterd demo`.
pub(crate) const KEY: &str = "demo-key-of-the-sample-api";

/// A running sample API.
pub(crate) struct Api {
    pub(crate) base: String,
    pub(crate) records: u64,
    process: Ended,
}

/// What the records say of themselves, to check tables by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) count: i64,
    pub(crate) ids: i64,
    pub(crate) revisions: i64,
}

impl Api {
    /// Starts the real binary's sample API with `records` employees that stay as they are.
    pub(crate) async fn start(records: u64, options: &[&str]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let keeps: &[&str] = match options.contains(&"--keep-mb") {
            true => &[],
            false => &["--keep-mb", "16384"],
        };
        let process = Command::new(super::ROSTERD)
            .args(["demo", "--still"])
            .args(keeps)
            .args(["--page-cap", "100000"])
            .args(["--api-only", &port.to_string()])
            .args(["--employees", &records.to_string()])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut api = Self {
            base: format!("http://127.0.0.1:{port}"),
            records,
            process: Ended(process),
        };
        let began = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
        {
            ensure!(
                api.process.0.try_wait()?.is_none(),
                "the sample API ended at once"
            );
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "the sample API does not start"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(api)
    }

    /// Reads all pages with so many connections and throws them away.
    pub(crate) async fn drain(&self, limit: u64, connections: usize) -> anyhow::Result<Duration> {
        let client = client()?;
        let next = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let mut readers = JoinSet::new();
        for _ in 0..connections {
            let (client, next) = (client.clone(), Arc::clone(&next));
            let (base, records) = (self.base.clone(), self.records);
            readers.spawn(async move {
                loop {
                    let offset = next.fetch_add(limit, Ordering::Relaxed);
                    if offset >= records {
                        return anyhow::Ok(());
                    }
                    page(&client, &base, offset, limit).await?;
                }
            });
        }
        while let Some(read) = readers.join_next().await {
            read??;
        }
        Ok(began.elapsed())
    }

    /// Reads all records with a JSON parser and adds up what the tables must have.
    pub(crate) async fn truth(&self) -> anyhow::Result<Truth> {
        let client = client()?;
        let mut truth = Truth::default();
        let mut offset = 0;
        while offset < self.records {
            let body = page(&client, &self.base, offset, 1000).await?;
            let answer: Answer = serde_json::from_slice(&body)?;
            for record in &answer.data {
                truth.count += 1;
                truth.ids += record.id;
                truth.revisions += record.revision;
            }
            offset += 1000;
        }
        Ok(truth)
    }
}

#[derive(serde::Deserialize)]
struct Answer {
    data: Vec<Record>,
}

#[derive(serde::Deserialize)]
struct Record {
    id: i64,
    revision: i64,
}

pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the measure of draining is another client than the product's"
)]
pub(crate) fn client() -> anyhow::Result<reqwest::Client> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .context("cannot build a client")
}

async fn page(
    client: &reqwest::Client,
    base: &str,
    offset: u64,
    limit: u64,
) -> anyhow::Result<bytes::Bytes> {
    let url = format!("{base}/v1/employees?api_key={KEY}&offset={offset}&limit={limit}");
    Ok(client
        .get(url)
        .send()
        .await?
        .error_for_status()?
        .bytes()
        .await?)
}
