//! What the demonstration tells while it runs: the first load as it grows, then a short line per run.

use std::{collections::BTreeSet, io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::super::output;
use crate::{
    demo,
    record::report::{Reports, RunFilter, RunRow},
};

/// How often the history is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Runs that are looked at each time; more cannot end in between.
const NEWEST: usize = 50;

/// Tells of runs as they end, until `over`.
pub(super) async fn follow(reports: &Reports, api: &demo::Api, over: &CancellationToken) {
    let mut feed = Feed::new(reports, api).await;
    while !over.is_cancelled() {
        feed.look(reports, api).await;
        tokio::select! {
            () = over.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    feed.bar.finish_and_clear();
}

struct Feed {
    /// Shown while there are resources that never had a run to its end.
    bar: ProgressBar,
    loading: BTreeSet<String>,
    /// Runs that need no line any more.
    told: BTreeSet<i64>,
}

impl Feed {
    async fn new(reports: &Reports, api: &demo::Api) -> Self {
        let health = reports.health().await.unwrap_or_default();
        let loading: BTreeSet<String> = health
            .iter()
            .filter(|resource| resource.last_success_at.is_none())
            .map(|resource| format!("{}/{}", resource.source, resource.resource))
            .collect();
        let bar = match loading.is_empty() || !std::io::stderr().is_terminal() {
            true => ProgressBar::hidden(),
            false => first_load(api),
        };
        // What an earlier start did is no news.
        let told = ended(reports).await.iter().map(|run| run.run_id).collect();
        Self { bar, loading, told }
    }

    async fn look(&mut self, reports: &Reports, api: &demo::Api) {
        self.bar.set_position(api.stats().records);
        let ended = ended(reports).await;
        for run in &ended {
            if !self.told.insert(run.run_id) {
                continue;
            }
            self.say(&line(run));
            let name = format!("{}/{}", run.source, run.resource);
            if run.status == "succeeded" && self.loading.remove(&name) && self.loading.is_empty() {
                self.bar.finish_and_clear();
                self.say("\nThe copy is complete. From now on each run brings what changed:\n");
            }
        }
        if let Some(oldest) = ended.iter().map(|run| run.run_id).min() {
            self.told = self.told.split_off(&oldest);
        }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| output::say(text));
    }
}

fn first_load(api: &demo::Api) -> ProgressBar {
    let records = ["employees", "absences", "timesheets"]
        .iter()
        .map(|collection| api.count(collection) as u64)
        .sum();
    let bar = ProgressBar::with_draw_target(Some(records), ProgressDrawTarget::stderr());
    bar.set_style(
        ProgressStyle::with_template("first load  {bar:40} {human_pos} of {human_len} records")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}

/// The newest runs that ended, in that order. A question that fails is asked again at the next look:
/// Postgres may be starting again.
async fn ended(reports: &Reports) -> Vec<RunRow> {
    let filter = RunFilter::default();
    let mut runs = reports.runs(&filter, NEWEST).await.unwrap_or_default();
    runs.retain(|run| run.finished_at.is_some());
    runs.sort_by_key(|run| run.finished_at);
    runs
}

/// One run: when, what, how it ended, and what to do where it did not end well.
fn line(run: &RunRow) -> String {
    let at = run.finished_at.unwrap_or_default().format("%T");
    let name = format!("{}/{}", run.source, run.resource);
    let mut line = format!("{at}  {name:<14}  ");
    if run.status == "skipped" {
        line += &format!("skipped: {}", run.reason.as_deref().unwrap_or("-"));
        return line;
    }
    let mut changes: Vec<String> = [
        (run.rows_inserted, "inserted"),
        (run.rows_updated, "updated"),
        (run.rows_deleted, "deleted"),
        (run.rows_rejected, "rejected"),
    ]
    .into_iter()
    .filter(|(rows, _)| *rows > 0)
    .map(|(rows, done)| format!("{} {done}", output::count(rows)))
    .collect();
    if changes.is_empty() {
        changes.push("nothing changed".to_owned());
    }
    if run.http_retries > 0 {
        changes.push(format!("{} retries", run.http_retries));
    }
    line += &format!(
        "{:>6} read  {}  ({})",
        output::count(run.records_read),
        changes.join(", "),
        output::seconds(run.duration_s)
    );
    if run.status != "succeeded" {
        line += &format!("  {}", run.status);
    }
    if run.error_message.is_some() {
        let error = output::error(run.error_code.as_deref(), run.error_message.as_deref());
        line += &format!("\n          {error}");
    }
    if let Some(hint) = &run.error_hint {
        line += &format!("\n          hint: {hint}");
    }
    line
}
