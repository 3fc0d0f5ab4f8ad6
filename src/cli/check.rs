//! `rosterd check`: says what a configuration means, or everything that is wrong with it.

use std::{fmt::Write, sync::Arc};

use chrono::{DateTime, Utc};
use clap::Args;
use tokio_util::task::TaskTracker;

use super::{Arguments as Global, Exit, output};
use crate::{
    clock,
    config::{
        Config, Problems, Resource,
        paginator::{LinkFrom, Paginator, TokenFrom, Unit},
        schedule::Schedule,
        source::{KeyHash, Strategy, WriteDisposition},
    },
    daemon::Base,
    fault::Fault,
    fetch, postgres,
    sync::{self, credentials},
};

/// What the configuration makes the daemon do, for people: one line per resource, then the warnings.
#[must_use]
pub fn report(config: &Config) -> String {
    report_at(config, clock::now())
}

fn report_at(config: &Config, now: DateTime<Utc>) -> String {
    let mut out = String::new();
    for source in &config.sources {
        let _ = writeln!(out, "{} ({})", source.name, source.client.base_url);
        for resource in &source.resources {
            let disposition = match resource.write_disposition {
                WriteDisposition::Append => "append",
                WriteDisposition::Replace => "replace",
                WriteDisposition::Merge => match resource.strategy {
                    Strategy::Upsert if resource.gathers() => "merge of whole sets",
                    Strategy::Upsert => "merge",
                    Strategy::InsertOnly => "merge of new rows",
                    Strategy::History => "merge of versions",
                },
            };
            let pages = pages(&resource.endpoint.paginator);
            let schedule = resource
                .schedule
                .as_ref()
                .map_or_else(|| "only on request".to_owned(), Schedule::describe);
            let next = resource
                .schedule
                .as_ref()
                .and_then(|schedule| schedule.next_after(now))
                .map_or_else(String::new, |slot| {
                    slot.format(", next at %F %T UTC").to_string()
                });
            let reconcile = resource
                .reconcile
                .as_ref()
                .map_or_else(String::new, |at| format!(", everything {}", at.describe()));
            let key: Vec<String> = resource
                .primary_key
                .iter()
                .map(ToString::to_string)
                .collect();
            let key = match (&resource.key_hash, key.is_empty()) {
                (Some(KeyHash::Whole), _) => " on a hash of all fields".to_owned(),
                (Some(KeyHash::Fields(fields)), _) => {
                    let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
                    format!(" on a hash of {}", fields.join(", "))
                }
                (None, true) => String::new(),
                (None, false) => format!(" on {}", key.join(", ")),
            };
            let _ = writeln!(
                out,
                "  {} -> {}.{}: {disposition}{key}, {pages}, {schedule}{next}{reconcile}",
                resource.name, resource.schema, resource.table
            );
        }
    }
    for warning in &config.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn pages(paginator: &Paginator) -> &'static str {
    match paginator {
        Paginator::SinglePage => "single page",
        Paginator::Counted(counted) => match counted.unit {
            Unit::Rows => "by offset",
            Unit::Pages => "by page number",
        },
        Paginator::Token(token) => match token.from {
            TokenFrom::Body(_) => "by cursor",
            TokenFrom::Header(_) => "by cursor in the header",
            TokenFrom::LastRecord(_) => "by the last record's key",
        },
        Paginator::Link(link) => match link.from {
            LinkFrom::Body(_) => "by link in the body",
            LinkFrom::Relation(_) => "by link in the header",
        },
        Paginator::Auto => "not known yet: `check --connect` suggests how",
    }
}

/// The effective configuration, secrets masked (`check --print`).
#[must_use]
pub fn print(config: &Config) -> String {
    config.to_yaml_masked()
}

/// All problems, one per line, with their number.
#[must_use]
pub fn complaint(problems: &Problems) -> String {
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    format!("{problems}\n{count} in the configuration\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn each_resource_is_told_in_one_line() {
        let config = config::from_str(
            "sources: {hr: {client: {base_url: https://x.example, paginator: single_page}, resources: [{name: a, write_disposition: append}, {name: b, primary_key: [x, y.z], write_disposition: merge, schedule: every 1h}]}}",
        )
        .unwrap();
        assert_eq!(
            report_at(&config, "2026-01-01T00:30:00Z".parse().unwrap()),
            "hr (https://x.example/)\n  a -> hr.a: append, single page, only on request\n  b -> hr.b: merge on x, y.z, single page, every 1h, next at 2026-01-01 01:00:00 UTC\n"
        );
    }

    #[test]
    fn problems_are_counted() {
        let problems = config::from_str("a: 1\nb: 2\n").unwrap_err();
        let complaint = complaint(&problems);
        assert!(complaint.starts_with("rosterd.yaml:1:1: a: unknown key"));
        assert!(complaint.ends_with("\n2 problems in the configuration\n"));
    }
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print the effective configuration, defaults merged, secrets masked.
    #[arg(long)]
    print: bool,
    /// Also connect: to the database, and to each API for its first page.
    #[arg(long)]
    connect: bool,
}

pub(super) async fn execute(global: &Global, own: &Arguments) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(problems) => {
            output::say(complaint(&problems).trim_end());
            return Ok(Exit::Usage);
        }
    };
    let text = if own.print {
        print(&config)
    } else {
        report(&config)
    };
    output::print(&text)?;
    if !own.connect {
        return Ok(Exit::Success);
    }
    let _log = global.start_log(&config)?;
    let base = Base::start(&config).await?;
    let database = postgres::probe(&base.server.connect_options()).await;
    let well = connect(&config, &base, database).await;
    base.close().await;
    Ok(if well? { Exit::Success } else { Exit::Failure })
}

/// Tells of the database and of each resource's first page; whether all went well.
async fn connect(
    config: &Config,
    base: &Base,
    database: Result<postgres::ServerVersion, postgres::Error>,
) -> anyhow::Result<bool> {
    let mut well = told(
        "database",
        database
            .map(|version| format!("Postgres {version}"))
            .map_err(|e| e.fault()),
    )?;
    let refreshes = TaskTracker::new();
    for source in &config.sources {
        let api = Arc::new(credentials::api(source, config, &base.pool, &refreshes)?);
        for resource in &source.resources {
            let name = format!("{}/{}", source.name, resource.name);
            well &= told(&name, first_page(&api, resource).await)?;
        }
    }
    refreshes.close();
    refreshes.wait().await;
    Ok(well)
}

async fn first_page(api: &Arc<fetch::Api>, resource: &Resource) -> Result<String, Fault> {
    let (_, page) = sync::stream::first_page(resource, api)
        .await
        .map_err(|error| error.fault())?;
    Ok(format!(
        "{} records on the first page",
        page.map_or(0, |page| page.records.len())
    ))
}

/// One line for what was tried; whether it went well.
fn told(what: &str, result: Result<String, Fault>) -> anyhow::Result<bool> {
    let (line, well) = match result {
        Ok(said) => (format!("ok      {what}: {said}\n"), true),
        Err(fault) => (
            format!("failed  {what}: {fault}\n        hint: {}\n", fault.hint),
            false,
        ),
    };
    output::print(&line)?;
    Ok(well)
}
