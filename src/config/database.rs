//! Section `database`: where the tables live.

use std::{num::NonZeroU16, num::NonZeroU32, path::PathBuf, time::Duration};

use super::{
    Secret,
    decode::{Period, section},
    problem::Problems,
    tree::Node,
};

/// How to reach Postgres, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Database {
    /// Connection URL. `None`: a private embedded server under `daemon.state_dir`.
    pub url: Option<Secret>,
    /// Schema of the data tables. `None`: the source's name.
    pub schema: Option<String>,
    /// Connections in the pool. Too low: runs wait for each other; too high: the server refuses (53300).
    pub max_connections: u32,
    /// How long a statement may take on the server.
    pub statement_timeout: Duration,
    /// How long DDL may wait for its lock before it is tried again.
    pub lock_timeout: Duration,
    /// How long to wait for a free connection, and for a new one to be made.
    pub acquire_timeout: Duration,
    pub embedded: Embedded,
}

/// The private server, used when there is no URL.
#[derive(Debug, Clone, Default)]
pub struct Embedded {
    /// Folder of `initdb` and `postgres`. `None`: looked for in the usual places.
    pub bin_dir: Option<PathBuf>,
    /// TCP port on loopback besides the socket. `None`: socket only.
    pub port: Option<u16>,
}

section! {
    /// Where the tables live.
    pub(super) struct DatabaseFile {
        /// Connection URL, `postgres://user@host/database`. Left out or empty: a private embedded Postgres under `daemon.state_dir`.
        url: Secret,
        /// Schema of the data tables. Left out: the source's name.
        schema: String,
        /// Connections in the pool. Too low: runs wait for each other; too high: the server refuses them.
        max_connections: NonZeroU32 = "10",
        /// How long one statement may take on the server. Too low: large batches fail.
        statement_timeout: Period = "60s",
        /// How long a change of a table may wait for its lock before it is tried again. Too high: readers queue behind it.
        lock_timeout: Period = "2s",
        /// How long to wait for a free connection, and for a new one to be made.
        acquire_timeout: Period = "10s",
        /// The private server, used when there is no `url`.
        embedded: EmbeddedFile; section,
    }
}

section! {
    /// The private server, used when there is no `url`.
    pub(super) struct EmbeddedFile {
        /// Folder of `initdb` and `postgres`. Left out: looked for in the usual places.
        bin_dir: PathBuf,
        /// TCP port on loopback besides the socket. Left out: socket only.
        port: NonZeroU16,
    }
}

impl DatabaseFile {
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Database {
        let url = self
            .url
            .clone()
            .filter(|url| !url.expose().trim().is_empty());
        if let Some(url) = &url
            && !url.expose().starts_with("postgres://")
            && !url.expose().starts_with("postgresql://")
        {
            node.nearest(&["url"])
                .wrong(problems, "expected a URL that begins with postgres://");
        }
        if self.schema.as_deref().is_some_and(is_reserved_schema) {
            node.nearest(&["schema"]).wrong(
                problems,
                "this schema is not for data: rosterd, information_schema, pg_* and the empty name are taken",
            );
        }
        Database {
            url,
            schema: self.schema.clone(),
            max_connections: self.max_connections.get(),
            statement_timeout: self.statement_timeout.0,
            lock_timeout: self.lock_timeout.0,
            acquire_timeout: self.acquire_timeout.0,
            embedded: Embedded {
                bin_dir: self.embedded.bin_dir.clone(),
                port: self.embedded.port.map(NonZeroU16::get),
            },
        }
    }
}

/// Schemas that are rosterd's or Postgres' own.
pub(super) fn is_reserved_schema(name: &str) -> bool {
    name.is_empty()
        || name.starts_with("pg_")
        || matches!(name, "rosterd" | "information_schema")
        || name.contains('\0')
}
