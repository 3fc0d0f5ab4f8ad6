//! The status page, and the frame that all pages share.
//!
//! The whole page is made on the server and is complete without JavaScript; the script only fetches
//! it again and puts the new `main` in place of the old. On a phone each table row becomes a card:
//! the cells carry their column's name, and the roles keep it a table for who listens to it.

use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, html};

use super::{
    Health,
    ask::Unavailable,
    metrics::STATES,
    sparkline::sparkline,
    words::{
        about, ago, at, breakable, count, counted, resource_link, resource_name, sentence, span,
        until,
    },
};
use crate::{
    clock,
    record::report::{ErrorGroup, Overview, ResourceHealth, RunRow, WorkerRow},
};

/// Resources on one page; the worst come first, and the chips lead to the rest.
const MOST_RESOURCES: usize = 300;
const MOST_ERRORS: usize = 10;
const MOST_WORKERS: usize = 20;

/// A worker that was silent for so many seconds is shown as gone.
const SILENT: f64 = 60.0;

/// Everything that everything else is inside of.
pub(super) fn frame(title: &str, health: &Health, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · rosterd" }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/style.css";
                script src="/page.js" defer {}
                noscript { meta http-equiv="refresh" content="30"; }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header {
                    a.brand href="/" { span.mark aria-hidden="true" { "⟳" } "rosterd" }
                    p.live { span #live role="status" { "As of " (at(clock::now())) } }
                }
                main #main tabindex="-1" { (main) }
                footer {
                    p {
                        "rosterd " (env!("CARGO_PKG_VERSION"))
                        " · up " (about(health.uptime().as_secs_f64()))
                        " · scheduler ticked " (about(health.since_tick().as_secs_f64())) " ago"
                        @if health.is_draining() { " · " strong { "stopping" } }
                    }
                    p {
                        "The same in SQL: " code { "select * from rosterd.resource_health" }
                        " · " a href="/metrics" { "metrics" }
                        " · " a href="/readyz" { "readiness" }
                    }
                }
            }
        }
    }
}

/// All resources, what went wrong, what ran, who is at work.
pub(super) fn overview(overview: &Overview, only: Option<&str>, health: &Health) -> Markup {
    let only = only.filter(|only| STATES.contains(only));
    let mut shown: Vec<&ResourceHealth> = overview
        .resources
        .iter()
        .filter(|r| only.is_none_or(|only| r.health == only))
        .collect();
    shown.sort_by_key(|r| urgency(&r.health));
    let main = html! {
        (verdict(overview, health))
        (chips(&overview.resources, only))
        @if overview.resources.is_empty() {
            (nothing_yet())
        } @else {
            section aria-labelledby="resources" {
                h2 #resources { "Resources" }
                @if shown.is_empty() {
                    p.quiet { "None is " (in_words(only.unwrap_or_default())) " now. " a href="/" { "Show all" } }
                } @else {
                    (resource_table(&shown, overview))
                }
                @if shown.len() > MOST_RESOURCES {
                    p.quiet { "The first " (MOST_RESOURCES) " of " (shown.len()) " are shown; narrow them by state above." }
                }
            }
        }
        @if !overview.errors.is_empty() { (error_table(&overview.errors, overview.now)) }
        @if !overview.runs.is_empty() {
            section aria-labelledby="runs" {
                h2 #runs { "Recent runs" }
                (run_table(&overview.runs, overview.now, true))
            }
        }
        (worker_table(&overview.workers, overview.now))
    };
    frame("Status", health, &main)
}

/// The database does not answer: says so, and what still can be said.
pub(super) fn away(unavailable: &Unavailable, health: &Health) -> Markup {
    let main = html! {
        div.verdict.bad role="alert" {
            h1 { "No answer from the database" }
            p { "For now: " (unavailable) "." }
            p { (sentence(unavailable.hint())) }
        }
        p.quiet {
            "The daemon itself is "
            @match health.alive() {
                Ok(()) => "alive",
                Err(why) => { strong { "not well" } ": " (why) }
            }
            ". It waits for the database and goes on by itself; no data is lost. This page keeps asking."
        }
    };
    frame("Database away", health, &main)
}

pub(super) fn missing(health: &Health) -> Markup {
    let main = html! {
        div.verdict.fair {
            h1 { "Nothing here" }
            p { "The page, resource or run does not exist, or its history was deleted after its time." }
            p { a href="/" { "All resources" } }
        }
    };
    frame("Not found", health, &main)
}

fn verdict(overview: &Overview, health: &Health) -> Markup {
    let resources = &overview.resources;
    let of = |kind: &str| resources.iter().filter(|r| tone(&r.health) == kind).count();
    let (bad, fair) = (of("bad"), of("fair"));
    let running = resources.iter().filter(|r| r.running_now).count();
    let next = resources
        .iter()
        .filter(|r| r.health != "paused")
        .filter_map(|r| r.next_run_at)
        .min();
    let class = match (bad, fair) {
        _ if resources.is_empty() => "idle",
        (0, 0) => "fine",
        (0, _) => "fair",
        _ => "bad",
    };
    html! {
        div class={ "verdict " (class) } {
            h1 {
                @if resources.is_empty() { "No resources yet" }
                @else if bad > 0 { (bad) " of " (counted_usize(resources.len())) " " @if bad == 1 { "needs" } @else { "need" } " attention" }
                @else if fair > 0 { (fair) " of " (counted_usize(resources.len())) " not quite up to date" }
                @else { "Everything is up to date" }
            }
            p {
                @if let Err(why) = health.ready() { strong { "Daemon: " (why) "." } " " }
                @if running > 0 { (running) " running now" } @else { "Nothing running right now" }
                @if let Some(next) = next { " · next run " (until(next, overview.now)) }
            }
        }
    }
}

fn counted_usize(n: usize) -> String {
    counted(
        i64::try_from(n).unwrap_or(i64::MAX),
        "resource",
        "resources",
    )
}

/// How many resources are in which state; each leads to only those.
fn chips(resources: &[ResourceHealth], only: Option<&str>) -> Markup {
    html! {
        nav.chips aria-label="Resources by state" {
            a href="/" aria-current=[only.is_none().then_some("page")] { "All " b { (resources.len()) } }
            @for state in worst_first() {
                @let many = resources.iter().filter(|r| r.health == state).count();
                @if many > 0 || only == Some(state) {
                    a href={ "/?health=" (state) } aria-current=[(only == Some(state)).then_some("page")] class=(tone(state)) {
                        (glyph(state)) (in_words(state)) " " b { (many) }
                    }
                }
            }
        }
    }
}

fn nothing_yet() -> Markup {
    html! {
        section.empty {
            p { "The configuration names no resource, or the daemon has not registered them yet." }
            p { "Check it with " code { "rosterd check" } "; this page fills by itself." }
        }
    }
}

fn resource_table(resources: &[&ResourceHealth], overview: &Overview) -> Markup {
    let now = overview.now;
    html! {
        table.cards role="table" {
            thead role="rowgroup" {
                tr role="row" {
                    (heading("State")) (heading("Resource")) (heading("Age of data")) (heading("Last run"))
                    (heading("Next run")) (heading("Rows, about")) (heading("Durations"))
                }
            }
            tbody role="rowgroup" {
                @for r in resources.iter().take(MOST_RESOURCES) {
                    tr role="row" {
                        td role="cell" data-label="State" { (badge(&r.health)) @if r.running_now { " " (badge("running")) } }
                        th role="rowheader" scope="row" {
                            a href=(resource_link(&r.source, &r.account, &r.resource)) {
                                (resource_name(&r.source, &r.account, &r.resource))
                            }
                            span.table { (breakable(&r.target_table)) }
                            (remarks(r))
                        }
                        td role="cell" data-label="Age of data" { (data_age(r)) }
                        td role="cell" data-label="Last run" { (last_run(r, overview)) }
                        td role="cell" data-label="Next run" { (next_run(r, now)) }
                        td role="cell" data-label="Rows, about" {
                            @match r.table_rows { Some(rows) => (count(rows)), None => (none()) }
                            @if r.open_rejects > 0 { span.sub { (counted(r.open_rejects, "reject", "rejects")) } }
                        }
                        td role="cell" data-label="Durations" {
                            (sparkline(overview.durations.get(&r.resource_id).map_or(&[], Vec::as_slice)))
                        }
                    }
                }
            }
        }
    }
}

/// What a person should read about a resource, under its name.
pub(super) fn remarks(r: &ResourceHealth) -> Markup {
    html! {
        @if r.running_now {
            @if let Some(phase) = &r.phase { p.remark { (phase) } }
        }
        @if let Some(reason) = &r.paused_reason { p.remark { "Paused: " (reason) } }
        @if let Some(message) = &r.error_message {
            p.remark.error {
                @if let Some(class) = &r.error_class { b { (class.replace('_', " ")) } ": " }
                (message)
                @if r.failures_since_success > 1 { " (" (r.failures_since_success) " times in a row)" }
            }
            @if let Some(hint) = &r.error_hint { p.remark.hint { span aria-hidden="true" { "→ " } (sentence(hint)) } }
        } @else if r.last_status.as_deref() != Some("succeeded") {
            @if let Some(reason) = &r.last_reason { p.remark { (reason) } }
        }
    }
}

pub(super) fn data_age(r: &ResourceHealth) -> Markup {
    let late = r
        .freshness_slo_s
        .zip(r.data_age_s)
        .is_some_and(|(slo, age)| age > slo);
    html! {
        @match r.data_age_s {
            Some(age) => span.late[late] { (about(age)) },
            None => (none()),
        }
        @if let Some(slo) = r.freshness_slo_s { span.sub { "of at most " (about(slo)) } }
    }
}

fn last_run(r: &ResourceHealth, overview: &Overview) -> Markup {
    let last = overview
        .durations
        .get(&r.resource_id)
        .and_then(|runs| runs.last());
    html! {
        @match r.last_run_id {
            Some(id) => {
                a href={ "/runs/" (id) } { (r.last_status.as_deref().unwrap_or("unknown")) }
                span.sub {
                    @if let Some(finished) = r.last_finished_at { (ago(finished, overview.now)) }
                    @if let Some(last) = last.filter(|l| l.run_id == id) { ", took " (span(last.seconds)) }
                }
            }
            None => (none()),
        }
    }
}

pub(super) fn next_run(r: &ResourceHealth, now: DateTime<Utc>) -> Markup {
    html! {
        @match r.next_run_at {
            _ if r.health == "paused" => span.quiet { "when resumed" },
            Some(next) => { (until(next, now)) }
            None => span.quiet { "on request" },
        }
        @if let Some(schedule) = &r.schedule {
            span.sub { (schedule) @if r.schedule_tz != "UTC" { " " (r.schedule_tz) } }
        }
    }
}

fn error_table(errors: &[ErrorGroup], now: DateTime<Utc>) -> Markup {
    html! {
        section aria-labelledby="errors" {
            h2 #errors { "What went wrong in the last seven days" }
            table.cards role="table" {
                thead role="rowgroup" { tr role="row" { (heading("Cause")) (heading("Hits")) (heading("Last seen")) } }
                tbody role="rowgroup" {
                    @for e in errors.iter().take(MOST_ERRORS) {
                        tr role="row" {
                            th role="rowheader" scope="row" {
                                b { (e.error_class.replace('_', " ")) }
                                @if let Some(code) = &e.error_code { " " code { (code) } }
                                @if let Some(example) = &e.example { p.remark { (example) } }
                                @if let Some(hint) = &e.hint { p.remark.hint { span aria-hidden="true" { "→ " } (sentence(hint)) } }
                            }
                            td role="cell" data-label="Hits" {
                                (counted(e.runs, "run", "runs"))
                                span.sub { "of " (counted(e.resources, "resource", "resources")) }
                            }
                            td role="cell" data-label="Last seen" { (ago(e.last_seen, now)) }
                        }
                    }
                }
            }
        }
    }
}

/// Runs, the newest first. `named`: of several resources.
pub(super) fn run_table(runs: &[RunRow], now: DateTime<Utc>, named: bool) -> Markup {
    html! {
        table.cards.runs role="table" {
            thead role="rowgroup" {
                tr role="row" {
                    (heading("Run"))
                    @if named { (heading("Resource")) }
                    (heading("Outcome")) (heading("Started")) (heading("Took")) (heading("Read"))
                    (heading("Changed")) (heading("Requests"))
                }
            }
            tbody role="rowgroup" {
                @for run in runs {
                    tr role="row" {
                        th role="rowheader" scope="row" {
                            a href={ "/runs/" (run.run_id) } { span.visually-hidden { "Run " } (run.run_id) }
                            span.sub { (in_words(&run.trigger)) }
                        }
                        @if named {
                            td role="cell" data-label="Resource" {
                                a href=(resource_link(&run.source, &run.account, &run.resource)) {
                                    (resource_name(&run.source, &run.account, &run.resource))
                                }
                            }
                        }
                        td role="cell" data-label="Outcome" { (badge(&run.status)) (why(run)) }
                        td role="cell" data-label="Started" {
                            @match run.started_at.or(run.scheduled_for) { Some(at) => (ago(at, now)), None => (none()) }
                        }
                        td role="cell" data-label="Took" {
                            @match run.duration_s.filter(|_| run.started_at.is_some()) { Some(s) => (span(s)), None => (none()) }
                        }
                        @if run.started_at.is_some() {
                            td role="cell" data-label="Read" { (count(run.records_read)) }
                            td role="cell" data-label="Changed" {
                                (count(run.rows_changed()))
                                @if run.rows_rejected > 0 { span.sub.late { (count(run.rows_rejected)) " rejected" } }
                            }
                            td role="cell" data-label="Requests" {
                                (count(run.http_requests))
                                @if run.http_retries > 0 { span.sub { (counted(run.http_retries, "retry", "retries")) } }
                            }
                        } @else {
                            td role="cell" data-label="Read" { (none()) }
                            td role="cell" data-label="Changed" { (none()) }
                            td role="cell" data-label="Requests" { (none()) }
                        }
                    }
                }
            }
        }
    }
}

/// Why a run did not end well, in one line.
fn why(run: &RunRow) -> Markup {
    html! {
        @if let Some(text) = run.error_message.as_ref().or(run.reason.as_ref()) {
            p.remark.error[run.status == "failed"] { (text) }
        }
    }
}

fn worker_table(workers: &[WorkerRow], now: DateTime<Utc>) -> Markup {
    html! {
        @if !workers.is_empty() {
            section aria-labelledby="workers" {
                h2 #workers { "Workers" }
                table.cards role="table" {
                    thead role="rowgroup" {
                        tr role="row" { (heading("Worker")) (heading("State")) (heading("Running")) (heading("Started")) (heading("Version")) }
                    }
                    tbody role="rowgroup" {
                        @for w in workers.iter().take(MOST_WORKERS) {
                            tr role="row" {
                                th role="rowheader" scope="row" { (w.worker) }
                                td role="cell" data-label="State" {
                                    @if w.silent_s > SILENT { (badge("silent")) span.sub { "for " (about(w.silent_s)) } }
                                    @else if w.draining { (badge("stopping")) }
                                    @else { (badge("alive")) }
                                }
                                td role="cell" data-label="Running" { (count(w.running)) }
                                td role="cell" data-label="Started" { (ago(w.started_at, now)) }
                                td role="cell" data-label="Version" { (w.app_version.as_deref().unwrap_or("unknown")) }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn heading(text: &str) -> Markup {
    html! { th role="columnheader" scope="col" { (text) } }
}

/// Nothing to show, also for who listens.
pub(super) fn none() -> Markup {
    html! { span.quiet { span aria-hidden="true" { "–" } span.visually-hidden { "none" } } }
}

/// A state as a word with a sign and a colour: none of them alone.
pub(super) fn badge(state: &str) -> Markup {
    html! { span class={ "badge " (tone(state)) } { (glyph(state)) (in_words(state)) } }
}

fn glyph(state: &str) -> Markup {
    let sign = match state {
        "ok" | "succeeded" | "alive" => "✓",
        "running" => "▶",
        "paused" | "skipped" => "❚❚",
        "never_ran" | "queued" => "○",
        _ => match tone(state) {
            "bad" => "✕",
            _ => "!",
        },
    };
    html! { span.glyph aria-hidden="true" { (sign) } }
}

/// How much a state should worry: a class of the stylesheet.
fn tone(state: &str) -> &'static str {
    match state {
        "ok" | "succeeded" | "alive" => "fine",
        "broken" | "stuck" | "failing" | "failed" | "error" => "bad",
        "late" | "degraded" | "partial" | "interrupted" | "silent" | "stopping" | "warn" => "fair",
        "running" => "busy",
        _ => "idle",
    }
}

fn in_words(state: &str) -> String {
    match state {
        "never_ran" => "never ran".to_owned(),
        other => other.replace('_', " "),
    }
}

fn worst_first() -> [&'static str; 8] {
    let mut states = STATES;
    states.sort_by_key(|state| urgency(state));
    states
}

fn urgency(state: &str) -> u8 {
    match state {
        "broken" => 0,
        "stuck" => 1,
        "failing" => 2,
        "late" => 3,
        "degraded" => 4,
        "never_ran" => 5,
        "paused" => 6,
        "ok" => 8,
        _ => 7,
    }
}
