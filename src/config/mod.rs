//! The YAML file as typed values.
//!
//! Two shapes stand here. What the file may say (optional everywhere, dlt's spelling) is private to
//! the loader; what the rest of the program gets is the resolved [`Config`]: defaults merged, paths
//! and expressions parsed, every value present. A stage gets its own section, never the whole.

pub mod database;

pub mod daemon;

pub mod source;

pub mod endpoint;

pub mod schedule;

pub mod secret;

pub use daemon::Daemon;
pub use database::Database;
pub use secret::Secret;
pub use source::{Resource, Source};

/// The whole effective configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub database: Database,
    pub daemon: Daemon,
    /// In the order of the file.
    pub sources: Vec<Source>,
    /// Hash of the effective configuration without its secrets; stands in `rosterd.workers` and `rosterd.runs`.
    pub fingerprint: String,
}
