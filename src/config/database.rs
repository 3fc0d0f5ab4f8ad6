//! Section `database`: where the tables live.

use std::{path::PathBuf, time::Duration};

use super::Secret;

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
