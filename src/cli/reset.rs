//! `rosterd reset`: forgets a cursor. The old value stays in `rosterd.cursor_log`, with who and why.

use clap::Args;

use super::{Arguments as Global, Exit, Loaded, output, select};
use crate::{
    config::Environment,
    daemon::Base,
    record::{self, Registered},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The resource.
    #[arg(value_name = "SOURCE/RESOURCE")]
    resource: String,
    /// Why; stands in `rosterd.cursor_log`.
    #[arg(long)]
    reason: Option<String>,
}

pub(super) async fn execute(global: &Global, own: &Arguments) -> anyhow::Result<Exit> {
    on_one(global, &own.resource, async |base, resource| {
        let by = operator();
        record::reset_cursor(&base.pool, resource.resource_id, &by, own.reason.as_deref()).await?;
        output::say(&format!(
            "{}: the next run reads everything",
            select::full_name(resource)
        ));
        Ok(Exit::Success)
    })
    .await
}

/// Who gives the command, for the history: `cli:anna`.
pub(super) fn operator() -> String {
    format!("cli:{}", Environment::of_process().user())
}

/// Does something to one resource of the configuration.
///
/// # Errors
///
/// An unknown resource, a database that cannot be had, and whatever `action` says.
pub(super) async fn on_one(
    global: &Global,
    wanted: &str,
    action: impl AsyncFnOnce(&Base, &Registered) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    let Loaded { config, log: _log } = global.load()?;
    select::check(&config, &[wanted.to_owned()])?;
    let base = Base::start(&config).await?;
    let result = async {
        let registered = base.open(&config).await?;
        action(&base, select::one(&registered, wanted)?).await
    };
    let result = Box::pin(result).await;
    base.close().await;
    result
}
