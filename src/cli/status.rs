//! `rosterd status`: the health of every resource, from the view that people read in SQL.

use clap::Args;

use super::{Arguments as Global, Exit, Format, Loaded, output};
use crate::{daemon::Base, postgres, record::report::Reports, telemetry};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) async fn execute(global: &Global, own: &Arguments) -> anyhow::Result<Exit> {
    let reading = Reading::open(global).await?;
    let health = reading.reports.health().await;
    reading.close().await;
    let health = health?;
    if health.is_empty() {
        output::say(
            "no resources yet: `rosterd run` and `rosterd sync` register those of the configuration",
        );
    }
    let header = [
        "resource",
        "health",
        "last success",
        "age",
        "next run",
        "rejects",
        "error",
        "hint",
    ];
    output::rows(own.format, &health, &header, |row| {
        vec![
            format!("{}/{}", row.source, row.resource),
            row.health.clone(),
            output::time(row.last_success_at),
            output::seconds(row.data_age_s),
            output::time(row.next_run_at),
            row.open_rejects.to_string(),
            row.error_message.clone().unwrap_or_default(),
            row.error_hint.clone().unwrap_or_default(),
        ]
    })?;
    let well = health
        .iter()
        .all(|row| matches!(row.health.as_str(), "ok" | "paused" | "never_ran"));
    Ok(if well { Exit::Success } else { Exit::Failure })
}

/// A database that is only read: not migrated, nothing registered.
pub(super) struct Reading {
    base: Base,
    _log: telemetry::Guard,
    pub(super) reports: Reports,
}

impl Reading {
    /// # Errors
    ///
    /// The true reason when the database cannot be reached.
    pub(super) async fn open(global: &Global) -> anyhow::Result<Self> {
        let Loaded { config, log } = global.load()?;
        let base = Base::start(&config).await?;
        if let Err(error) = postgres::probe(&base.server.connect_options()).await {
            base.close().await;
            return Err(error.into());
        }
        let reports = Reports::new(base.pool.clone());
        Ok(Self {
            base,
            reports,
            _log: log,
        })
    }

    pub(super) async fn close(self) {
        self.base.close().await;
    }
}
