//! `rosterd run`: the daemon.

use tokio_util::sync::CancellationToken;

use super::{Arguments, Exit, Loaded};
use crate::daemon::{self, Stopped};

pub(super) async fn execute(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Loaded { config, log } = arguments.load()?;
    let options = daemon::Options {
        config_path: arguments.config.clone(),
        config,
        log,
        on_ready: None,
    };
    match daemon::run(options, CancellationToken::new()).await? {
        Stopped::Clean => Ok(Exit::Success),
        Stopped::Cut => Ok(Exit::Failure),
    }
}
