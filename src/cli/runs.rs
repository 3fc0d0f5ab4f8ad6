//! `rosterd runs`: the run history, newest first.

use clap::Args;

use super::{Arguments as Global, Exit, Format, output, status::Reading};
use crate::record::report::RunFilter;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only this SOURCE or SOURCE/RESOURCE.
    #[arg(value_name = "SOURCE[/RESOURCE]")]
    resource: Option<String>,
    /// Only runs with this status: succeeded, partial, failed, interrupted, skipped, ...
    #[arg(long)]
    status: Option<String>,
    /// How many.
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) async fn execute(global: &Global, own: &Arguments) -> anyhow::Result<Exit> {
    let reading = Reading::open(global).await?;
    let (source, resource) = match own
        .resource
        .as_deref()
        .map(|name| name.split_once('/').unwrap_or((name, "")))
    {
        Some((source, resource)) => (
            Some(source.to_owned()),
            (!resource.is_empty()).then(|| resource.to_owned()),
        ),
        None => (None, None),
    };
    let statuses = own.status.iter().cloned().collect();
    let filter = RunFilter {
        source,
        resource,
        statuses,
        ..RunFilter::default()
    };
    let runs = reading.reports.runs(&filter, own.limit as usize).await;
    reading.close().await;
    let runs = runs?;
    if runs.is_empty() {
        output::say("no such run yet");
    }
    let header = [
        "run", "resource", "status", "started", "took", "read", "changed", "rejected", "error",
    ];
    output::rows(own.format, &runs, &header, |run| {
        vec![
            run.run_id.to_string(),
            format!("{}/{}", run.source, run.resource),
            run.status.clone(),
            output::time(run.started_at),
            output::seconds(run.duration_s),
            run.records_read.to_string(),
            run.rows_changed().to_string(),
            run.rows_rejected.to_string(),
            output::error(run.error_code.as_deref(), run.error_message.as_deref()),
        ]
    })
}
