//! `rosterd healthcheck`: asks a running daemon, so that an image needs no curl.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Arguments as Global, Exit, output};

/// Longest wait for the daemon's answer.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ask whether it is ready (database reachable), not only whether it is alive.
    #[arg(long)]
    ready: bool,
    /// Address of the daemon; from the configuration when left out.
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,
}

pub(super) async fn execute(global: &Global, own: &Arguments) -> anyhow::Result<Exit> {
    let address = match own.address {
        Some(address) => address,
        None => global
            .read()?
            .daemon
            .admin
            .listen
            .context("daemon.admin.listen is off")?,
    };
    let path = if own.ready { "/readyz" } else { "/healthz" };
    match timeout(ANSWER, ask(local(address), path))
        .await
        .context("no answer in time")??
    {
        200 => Ok(Exit::Success),
        status => {
            output::complain(&format!("{path} answered {status}"));
            Ok(Exit::Failure)
        }
    }
}

/// A daemon that listens on every address is asked on loopback.
fn local(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let loopback = if address.is_ipv4() {
        [127, 0, 0, 1].into()
    } else {
        std::net::Ipv6Addr::LOCALHOST.into()
    };
    SocketAddr::new(loopback, address.port())
}

/// One HTTP/1.1 request by hand: the HTTP client belongs to `fetch` and its rules.
async fn ask(address: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("no daemon answers at {address}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await?;
    let Some(status) = std::str::from_utf8(&head)?.strip_prefix("HTTP/1.1 ") else {
        bail!("the answer is not HTTP");
    };
    Ok(status.parse()?)
}
