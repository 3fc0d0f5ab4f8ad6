//! What every command that works on the database stands on: server, pool, schema, resources.

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::systemd;
use crate::{
    config::Config,
    postgres::{self, Pool, Server},
    record::{self, Registered, Worker},
};

/// A reachable Postgres and our name in it.
pub struct Base {
    pub server: Server,
    pub pool: Pool,
    pub worker: Worker,
}

impl Base {
    /// Starts the embedded server or takes the configured one; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// A URL that cannot be read, or an embedded server that cannot be had.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let server = Server::start(&config.database, &config.daemon.state_dir).await?;
        let pool = postgres::pool(server.connect_options(), &config.database);
        info!("{}", server.describe());
        Ok(Self {
            server,
            pool,
            worker: Worker::new(config.daemon.lease, &config.fingerprint),
        })
    }

    /// Waits for the database, then does what [`Base::open`] does.
    ///
    /// Waits without end while Postgres is away for a reason that passes; `on_wait` hears of each wait,
    /// `stop` ends the waiting.
    ///
    /// # Errors
    ///
    /// Reasons that do not pass by themselves: a wrong password, missing rights, a newer schema.
    pub async fn prepare(
        &self,
        config: &Config,
        stop: &CancellationToken,
        mut on_wait: impl FnMut(),
    ) -> anyhow::Result<Vec<Registered>> {
        let options = self.server.connect_options();
        postgres::wait_until_ready(&options, stop, |failure, wait| {
            systemd::waiting(wait);
            on_wait();
            let hint = failure.fault().hint;
            warn!(reason = %failure, hint, wait_ms = wait.as_millis(), "Postgres is away; waiting for it");
        })
        .await?;
        self.open(config).await
    }

    /// Migrates the database and registers the configuration's resources.
    ///
    /// # Errors
    ///
    /// Why the database cannot be used now, at once: whoever typed a command wants to know.
    pub async fn open(&self, config: &Config) -> anyhow::Result<Vec<Registered>> {
        let options = self.server.connect_options();
        postgres::probe(&options).await?;
        let migrated = postgres::migrate(&options).await?;
        if migrated.applied > 0 {
            info!(
                applied = migrated.applied,
                version = migrated.version,
                "migrated schema rosterd"
            );
        }
        let now = record::now(&self.pool).await?;
        Ok(record::register(&self.pool, config, now).await?)
    }

    /// Closes the pool and, where we started it, stops the server.
    pub async fn close(self) {
        postgres::close(&self.pool).await;
        if let Err(error) = self.server.stop().await {
            warn!(%error, "the embedded server did not stop");
        }
    }
}
