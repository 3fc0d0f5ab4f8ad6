//! This process as the other replicas see it.

use std::{fs, process, time::Duration};

use sqlx::PgPool;

use super::Error;

/// A process that takes runs. Clones are the same worker.
#[derive(Debug, Clone)]
pub struct Worker {
    /// `host:pid:random`; never used again by another process.
    pub name: String,
    pub host: String,
    pub pid: u32,
    /// How long a lease lasts without a heartbeat.
    pub lease: Duration,
    /// [`crate::config::Config::fingerprint`]; set it anew after a reload.
    pub config_hash: String,
}

impl Worker {
    /// A new name for this process.
    #[must_use]
    pub fn new(lease: Duration, config_hash: &str) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "localhost".to_owned());
        let pid = process::id();
        Self {
            name: format!("{host}:{pid}:{:08x}", fastrand::u32(..)),
            host,
            pid,
            lease,
            config_hash: config_hash.to_owned(),
        }
    }

    pub(super) fn lease_seconds(&self) -> f64 {
        self.lease.as_secs_f64()
    }
}

/// Says that this worker is alive, with `running` runs in its hands.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn beat_worker(
    pool: &PgPool,
    worker: &Worker,
    running: usize,
    draining: bool,
) -> Result<(), Error> {
    sqlx::query(
        "insert into rosterd.workers as w (worker, host, pid, app_version, config_hash, running, draining)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (worker) do update
            set heartbeat_at = clock_timestamp(), running = excluded.running, draining = excluded.draining,
                config_hash = excluded.config_hash",
    )
    .bind(&worker.name)
    .bind(&worker.host)
    .bind(i64::from(worker.pid))
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(&worker.config_hash)
    .bind(i64::try_from(running).unwrap_or(i64::MAX))
    .bind(draining)
    .execute(pool)
    .await?;
    Ok(())
}

/// Strikes this worker off the list, at the end of a clean stop.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn remove_worker(pool: &PgPool, worker: &Worker) -> Result<(), Error> {
    sqlx::query("delete from rosterd.workers where worker = $1")
        .bind(&worker.name)
        .execute(pool)
        .await?;
    Ok(())
}
