//! `rosterd check`: says what a configuration means, or everything that is wrong with it.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use crate::clock;
use crate::config::{
    Config, Problems, endpoint::Paginator, schedule::Schedule, source::WriteDisposition,
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
                WriteDisposition::Merge => "merge",
            };
            let pages = match &resource.endpoint.paginator {
                Paginator::SinglePage => "single page",
                Paginator::Offset { .. } => "by offset",
                Paginator::PageNumber { .. } => "by page number",
                Paginator::Cursor { .. } => "by cursor",
                Paginator::JsonLink { .. } => "by link in the body",
                Paginator::HeaderLink { .. } => "by link in the header",
            };
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
            let key: Vec<String> = resource
                .primary_key
                .iter()
                .map(ToString::to_string)
                .collect();
            let key = match key.is_empty() {
                true => String::new(),
                false => format!(" on {}", key.join(", ")),
            };
            let _ = writeln!(
                out,
                "  {} -> {}.{}: {disposition}{key}, {pages}, {schedule}{next}",
                resource.name, resource.schema, resource.table
            );
        }
    }
    for warning in &config.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
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
            "sources: {hr: {client: {base_url: https://x.example, paginator: single_page}, resources: [a, {name: b, primary_key: [x, y.z], write_disposition: merge, schedule: every 1h}]}}",
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
