//! The ready configurations, each against a small API that answers as the real one is documented to.
//!
//! A test loads the shipped file with its addresses turned to the fake, looks at the requests and at
//! the rows, changes something, and looks again: the second run must ask for, or write, only that.

use std::sync::Arc;

use rosterd::{
    cli::ready,
    config::{self, Config, Environment},
    record::Status,
    sync::{Outcome, Start},
};
use serde_json::Value;

use crate::support::sync::Bench;

pub(crate) mod fake;

mod adp;

mod ashby;

mod bamboohr;

mod deputy;

mod factorial;

mod greenhouse;

mod gusto;

mod hibob;

mod hubstaff;

mod jazzhr;

mod lever;

mod merge;

mod odd;

mod paycor;

mod personio;

mod redirects;

mod seven_shifts;

mod successfactors;

mod teamtailor;

mod whole;

mod workable;

mod workday_raas;

mod zoho_people;

use fake::Fake;

/// A certificate for loopback with its key, both good for nothing else.
const IDENTITY: &str = include_str!("identity.pem");

/// A ready configuration, its API, and a database.
pub(crate) struct Stage {
    pub(crate) fake: Fake,
    bench: Bench,
    config: Config,
}

impl Stage {
    pub(crate) async fn new(name: &str, fake: Fake, variables: &[(&str, &str)]) -> Self {
        let url = fake.url().to_owned();
        Self::at(&url, name, fake, variables).await
    }

    /// The same with the API at another address, which leads to the fake.
    pub(crate) async fn at(url: &str, name: &str, fake: Fake, variables: &[(&str, &str)]) -> Self {
        let text = redirected(ready::find(name).unwrap().text, url);
        let environment = Environment::from_pairs(variables.iter().copied());
        let config = config::from_str_with(&text, &environment)
            .unwrap_or_else(|problems| panic!("{problems}"));
        Self {
            fake,
            bench: Bench::new().await,
            config,
        }
    }

    /// A configuration of the test's own.
    pub(crate) async fn of(fake: Fake, config: &str) -> Self {
        Self {
            fake,
            bench: Bench::new().await,
            config: config::from_str(config).unwrap_or_else(|problems| panic!("{problems}")),
        }
    }

    /// The same with another configuration.
    pub(crate) fn with(self, config: &str) -> Self {
        Self {
            config: config::from_str(config).unwrap_or_else(|problems| panic!("{problems}")),
            ..self
        }
    }

    /// Runs one resource to its end, whatever that is.
    pub(crate) async fn run(&self, resource: &str) -> Outcome {
        self.bench
            .run(Arc::new(self.config.clone()), resource, Start::GoOn)
            .await
    }

    /// Runs one resource, which must succeed. Answers the requests.
    pub(crate) async fn sync(&self, resource: &str) -> Vec<String> {
        self.fake.requests();
        let outcome = self.run(resource).await;
        let requests = self.fake.requests();
        assert!(
            outcome.status == Status::Succeeded,
            "{resource}: {outcome:?}\n{requests:#?}"
        );
        requests
    }

    /// The rows of a query as JSON.
    pub(crate) async fn rows(&self, query: &str) -> Value {
        let query = format!("select coalesce(jsonb_agg(to_jsonb(q)), '[]') from ({query}) q");
        self.bench.value(&query).await
    }

    /// Names of a table's columns, without rosterd's own.
    pub(crate) async fn columns(&self, table: &str) -> Vec<String> {
        let (schema, table) = table.split_once('.').unwrap();
        self.bench
            .column(&format!(
                "select column_name::text from information_schema.columns where table_schema = '{schema}' and table_name = '{table}' and column_name not like '\\_%' order by 1"
            ))
            .await
    }

    /// `inserted, updated, unchanged, deleted` of the last run.
    pub(crate) async fn counts(&self) -> String {
        self.bench
            .value("select concat_ws(' ', rows_inserted, rows_updated, rows_unchanged, rows_deleted) from rosterd.runs order by run_id desc limit 1")
            .await
    }
}

/// The text with every https origin turned to the fake's.
fn redirected(text: &str, url: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("https://") {
            let end = after
                .find(['/', '"', '\'', ' ', ','])
                .unwrap_or(after.len());
            out.push_str(before);
            out.push_str(if before.contains('#') {
                "https://"
            } else {
                url
            });
            if before.contains('#') {
                out.push_str(&after[..end]);
            }
            rest = &after[end..];
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}

/// Variables that a file refers to.
fn variables(text: &str) -> Vec<&str> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let mut names: Vec<&str> = lines
        .flat_map(|line| line.split("${").skip(1))
        .filter_map(|rest| rest.split(['}', ':']).next())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A value that fits a variable of this name.
fn placeholder(name: &str) -> &'static str {
    match name {
        "ADP_CERTIFICATE" | "ADP_KEY" => IDENTITY,
        _ => "placeholder-of-more-than-32-characters",
    }
}

#[test]
fn every_ready_configuration_passes_check_says_its_variables_and_keeps_persons_private() {
    for ready in ready::ALL {
        let names = variables(ready.text);
        let pairs = names.iter().map(|name| (*name, placeholder(name)));
        let config = config::from_str_with(ready.text, &Environment::from_pairs(pairs))
            .unwrap_or_else(|problems| panic!("{}: {problems}", ready.name));
        assert!(
            config.warnings.is_empty(),
            "{}: {:?}",
            ready.name,
            config.warnings
        );
        assert!(ready.title().len() > 20, "{}", ready.name);
        for name in names {
            let told = ready
                .text
                .lines()
                .any(|line| line.starts_with('#') && line.contains(name));
            assert!(told, "{}: {name} is not explained at the head", ready.name);
        }
        for resource in &config.sources[0].resources {
            assert!(
                !resource.privacy.is_open(),
                "{}/{}",
                ready.name,
                resource.name
            );
            assert!(
                resource.schedule.is_some(),
                "{}/{}",
                ready.name,
                resource.name
            );
        }
    }
}
