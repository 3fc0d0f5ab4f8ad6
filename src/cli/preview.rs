//! `rosterd preview`: a resource's first page, and what loading it would do. Writes nothing.

use std::sync::Arc;

use clap::Args;
use tokio_util::task::TaskTracker;

use super::{Arguments as Global, Exit, Format, Loaded, output, select};
use crate::{
    config::{Config, Resource, Source},
    daemon::Base,
    postgres,
    sync::{
        fleet,
        outline::outline,
        preview::{Preview, preview},
    },
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The resource.
    #[arg(value_name = "SOURCE/RESOURCE")]
    resource: String,
    /// How many records to show. Only the privacy rules are applied to them: mind who looks on.
    #[arg(long, short = 'n', default_value_t = 3)]
    records: usize,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) async fn execute(global: &Global, own: &Arguments) -> anyhow::Result<Exit> {
    let Loaded { config, log: _log } = global.load()?;
    select::check(&config, std::slice::from_ref(&own.resource))?;
    let (source, resource) = find(&config, &own.resource)?;
    let base = Base::start(&config).await?;
    let result = async {
        let options = base.server.connect_options();
        postgres::probe(&options).await?;
        postgres::migrate(&options).await?;
        let refreshes = TaskTracker::new();
        let api = fleet::api(source, &config, &base.pool, &base.worker, &refreshes)?;
        let api = Arc::new(api);
        let seen = preview(source, resource, &api, &base.pool, own.records).await;
        if let Err(error) = &seen
            && error.fault().code == "unexpected_shape"
            && let Some(outline) = outline(resource, &api).await
        {
            output::print(&format!(
                "the answer, names and types only:\n\n{outline}\n\n"
            ))?;
        }
        api.retire().await;
        refreshes.close();
        refreshes.wait().await;
        anyhow::Ok(seen?)
    };
    let result = Box::pin(result).await;
    base.close().await;
    let mut preview = result?;
    cover(&mut preview.request, &config);
    match own.format {
        Format::Json => output::print(&(serde_json::to_string_pretty(&preview)? + "\n"))?,
        Format::Table => show(&preview)?,
    }
    Ok(Exit::Success)
}

/// Covers the configuration's secrets in a text, as they are and as a JSON text writes them.
fn cover(text: &mut String, config: &Config) {
    for secret in config.secret_texts() {
        let quoted = serde_json::Value::from(secret.as_str()).to_string();
        for spelling in [secret.as_str(), quoted.trim_matches('"')] {
            *text = text.replace(spelling, "***");
        }
    }
}

fn find<'a>(config: &'a Config, wanted: &str) -> anyhow::Result<(&'a Source, &'a Resource)> {
    let (source, resource) = wanted.split_once('/').unwrap_or((wanted, ""));
    let resource = resource.rsplit('/').next().unwrap_or_default();
    let found = config
        .sources
        .iter()
        .find(|s| s.name == source)
        .and_then(|s| {
            let resource = if resource.is_empty() {
                s.resources.first()
            } else {
                s.resources.iter().find(|r| r.name == resource)
            };
            resource.map(|resource| (s, resource))
        });
    found.ok_or_else(|| anyhow::anyhow!("name one resource as SOURCE/RESOURCE"))
}

fn show(preview: &Preview) -> anyhow::Result<()> {
    output::print(&format!(
        "request   {}\nrecords   {} on the first page\n\n",
        preview.request, preview.records
    ))?;
    for record in &preview.sample {
        output::print(&format!("{}\n", record.get()))?;
    }
    output::print(&format!("\ntable     {}\n", preview.table))?;
    output::rows(
        Format::Table,
        &preview.columns,
        &["column", "type", "from", "key"],
        |column| {
            let key = if column.key { "yes" } else { "" };
            vec![
                column.name.clone(),
                column.kind.to_owned(),
                column.path.clone(),
                key.to_owned(),
            ]
        },
    )?;
    for ddl in &preview.ddl {
        output::print(&format!("ddl       {ddl}\n"))?;
    }
    output::print(&format!(
        "\nof this page: {} would be inserted, {} updated, {} deleted, {} are unchanged, {} rejected\n",
        preview.would_insert,
        preview.would_update,
        preview.would_delete,
        preview.unchanged,
        preview.rejects.len()
    ))?;
    for (reason, path) in &preview.rejects {
        output::print(&format!(
            "reject    {reason} {}\n",
            path.as_deref().unwrap_or_default()
        ))?;
    }
    Ok(())
}
