//! `rosterd pause` and `rosterd resume`.

use clap::Args;

use super::{
    Arguments as Global, Exit, output,
    reset::{on_one, operator},
    select,
};
use crate::record;

#[derive(Debug, Args)]
pub(super) struct PauseArguments {
    /// The resource.
    #[arg(value_name = "SOURCE/RESOURCE")]
    resource: String,
    /// Why; shown by `status`.
    #[arg(long, default_value = "by the operator")]
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArguments {
    /// The resource.
    #[arg(value_name = "SOURCE/RESOURCE")]
    resource: String,
}

pub(super) async fn execute(global: &Global, own: &PauseArguments) -> anyhow::Result<Exit> {
    on_one(global, &own.resource, async |base, resource| {
        record::pause(&base.pool, resource.resource_id, &own.reason, &operator()).await?;
        output::say(&format!("{}: paused", select::full_name(resource)));
        Ok(Exit::Success)
    })
    .await
}

pub(super) async fn resume(global: &Global, own: &ResumeArguments) -> anyhow::Result<Exit> {
    on_one(global, &own.resource, async |base, resource| {
        record::resume(&base.pool, resource.resource_id, &operator()).await?;
        output::say(&format!("{}: scheduled again", select::full_name(resource)));
        Ok(Exit::Success)
    })
    .await
}
