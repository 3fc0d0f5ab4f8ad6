//! `rosterd migrate`: the schema alone, for setups where the daemon's role has no DDL rights.

use super::{Arguments, Exit, Loaded, output};
use crate::{daemon::Base, postgres};

pub(super) async fn execute(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Loaded { config, log: _log } = arguments.load()?;
    let base = Base::start(&config).await?;
    let migrated = postgres::migrate(&base.server.connect_options()).await;
    base.close().await;
    let migrated = migrated?;
    output::say(&format!(
        "schema rosterd is at version {} ({} applied now)",
        migrated.version, migrated.applied
    ));
    Ok(Exit::Success)
}
