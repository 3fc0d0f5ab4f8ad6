//! The page of one resource and the page of one run.

use maud::{Markup, html};

use super::{
    Health,
    page::{badge, data_age, frame, heading, next_run, none, remarks, run_table},
    words::{about, ago, at, count, counted, resource_link, resource_name, sentence, span},
};
use crate::{
    clock,
    record::report::{Attempt, Event, Oddity, ResourceHealth, RunDetail, RunRow, SchemaChange},
};

/// How a resource is doing, and its runs. `None`: the configuration names it no more.
pub(super) fn resource(found: Option<&ResourceHealth>, runs: &[RunRow], health: &Health) -> Markup {
    let now = clock::now();
    let name = match (found, runs.first()) {
        (Some(r), _) => (&r.source, &r.account, &r.resource),
        (None, Some(run)) => (&run.source, &run.account, &run.resource),
        (None, None) => return super::page::missing(health),
    };
    let main = html! {
        (trail(html! { (resource_name(name.0, name.1, name.2)) }))
        h1 { (resource_name(name.0, name.1, name.2)) }
        @match found {
            Some(r) => {
                p { (badge(&r.health)) @if r.running_now { " " (badge("running")) } }
                (remarks(r))
                dl.facts {
                    (fact("Age of data", &data_age(r)))
                    (fact("Next run", &next_run(r, now)))
                    (fact("Table", &html! {
                        code { (r.target_table) }
                        @if let Some(rows) = r.table_rows { span.sub { "about " (counted(rows, "row", "rows")) } }
                    }))
                    (fact("Last success", &html! {
                        @match r.last_success_at { Some(at) => (ago(at, now)), None => (none()) }
                    }))
                    (fact("Open rejects", &html! { (count(r.open_rejects)) }))
                    (fact("Failures since", &html! { (count(r.failures_since_success)) }))
                }
            }
            None => p.quiet { "The configuration names this resource no more; its history stays." },
        }
        section aria-labelledby="runs" {
            h2 #runs { "Runs" }
            @if runs.is_empty() { p.quiet { "None yet." } } @else { (run_table(runs, now, false)) }
        }
    };
    frame(name.2, health, &main)
}

/// One run with all its numbers.
pub(super) fn run(detail: &RunDetail, health: &Health) -> Markup {
    let run = &detail.run;
    let link = resource_link(&run.source, &run.account, &run.resource);
    let name = resource_name(&run.source, &run.account, &run.resource);
    let main = html! {
        (trail(html! { a href=(link) { (name) } span.slash { "›" } "run " (run.run_id) }))
        h1 { "Run " (run.run_id) }
        p { (badge(&run.status)) " " (name) }
        @if let Some(reason) = &run.reason { p { (reason) } }
        @if let Some(message) = &run.error_message {
            div.verdict.bad {
                p {
                    @if let Some(class) = &run.error_class { b { (class.replace('_', " ")) } " " }
                    @if let Some(code) = &run.error_code { code { (code) } }
                }
                p { (message) }
                @if let Some(hint) = &run.error_hint { p { span aria-hidden="true" { "→ " } (sentence(hint)) } }
            }
        }
        dl.facts { (when(run)) (rows(run)) (oddities(&detail.oddities)) (requests(run)) }
        @if !detail.attempts.is_empty() { (attempts(&detail.attempts)) }
        @if !detail.schema_changes.is_empty() { (changes(&detail.schema_changes)) }
        @if !detail.events.is_empty() { (events(&detail.events)) }
    };
    frame(&format!("Run {}", run.run_id), health, &main)
}

fn when(run: &RunRow) -> Markup {
    html! {
        (fact("Started by", &html! {
            (run.trigger.replace('_', " "))
            @if let Some(who) = &run.triggered_by { span.sub { (who) } }
        }))
        (fact("Kind", &html! { (run.mode) }))
        (fact("Started", &html! {
            @match run.started_at { Some(started) => (at(started)), None => (none()) }
            @if let Some(delay) = run.start_delay_s { span.sub { (about(delay)) " after its slot" } }
        }))
        (fact("Took", &html! {
            @match run.duration_s { Some(seconds) => (span(seconds)), None => (none()) }
            @if run.finished_at.is_none() { span.sub { "so far" } }
        }))
        @if let Some(worker) = &run.worker { (fact("Worker", &html! { (worker) })) }
    }
}

fn rows(run: &RunRow) -> Markup {
    html! {
        (fact("Records read", &html! { (count(run.records_read)) span.sub { "on " (counted(run.pages, "page", "pages")) } }))
        (fact("Inserted", &html! { (count(run.rows_inserted)) }))
        (fact("Updated", &html! { (count(run.rows_updated)) }))
        (fact("Unchanged", &html! { (count(run.rows_unchanged)) }))
        (fact("Deleted", &html! { (count(run.rows_deleted)) }))
        (fact("Rejected", &html! { (count(run.rows_rejected)) }))
    }
}

/// What was odd about the records, where anything was.
fn oddities(oddities: &[Oddity]) -> Markup {
    html! {
        @for Oddity { counter, count: times } in oddities {
            (fact(
                match counter.as_str() {
                    "text_replaced" => "Characters replaced",
                    "fields_repeated" => "Fields that stood twice",
                    "records_superseded" => "Superseded by others of their key",
                    "cursor_missing_rows" => "Without a cursor value",
                    "cursor_future_rows" => "With a cursor in the future",
                    "records_left_out" => "Left out",
                    "rows_behind" => "Older than their rows",
                    "rows_discarded" => "Discarded by the contract",
                    "values_discarded" => "Values discarded by the contract",
                    other => other,
                },
                &html! { (count(*times)) },
            ))
        }
    }
}

fn requests(run: &RunRow) -> Markup {
    html! {
        (fact("Requests", &html! {
            (count(run.http_requests))
            span.sub { (counted(run.http_retries, "retry", "retries")) ", " (count(run.http_429)) " × 429" }
        }))
        (fact("Held back by the limit", &html! { (span(run.waited_for_limit_s)) }))
    }
}

fn attempts(attempts: &[Attempt]) -> Markup {
    html! {
        section aria-labelledby="attempts" {
            h2 #attempts { "Attempts" }
            table.cards role="table" {
                thead role="rowgroup" {
                    tr role="row" { (heading("Attempt")) (heading("Outcome")) (heading("Started")) (heading("Took")) (heading("Read")) (heading("Worker")) }
                }
                tbody role="rowgroup" {
                    @for a in attempts {
                        tr role="row" {
                            th role="rowheader" scope="row" { (a.attempt) }
                            td role="cell" data-label="Outcome" {
                                (badge(a.outcome.as_deref().unwrap_or("running")))
                                @if let Some(message) = &a.error_message {
                                    p.remark.error { @if let Some(code) = &a.error_code { code { (code) } " " } (message) }
                                }
                            }
                            td role="cell" data-label="Started" { (at(a.started_at)) }
                            td role="cell" data-label="Took" {
                                @match a.finished_at { Some(end) => (span((end - a.started_at).as_seconds_f64())), None => (none()) }
                            }
                            td role="cell" data-label="Read" {
                                (count(a.records_read)) span.sub { "on " (counted(a.pages, "page", "pages")) }
                            }
                            td role="cell" data-label="Worker" { (a.worker) }
                        }
                    }
                }
            }
        }
    }
}

fn changes(changes: &[SchemaChange]) -> Markup {
    html! {
        section aria-labelledby="changes" {
            h2 #changes { "Tables and columns made or changed" }
            table.cards role="table" {
                thead role="rowgroup" { tr role="row" { (heading("Where")) (heading("Change")) (heading("When")) } }
                tbody role="rowgroup" {
                    @for c in changes {
                        tr role="row" {
                            th role="rowheader" scope="row" {
                                (c.table_name) @if let Some(column) = &c.column_name { span.slash { "." } (column) }
                            }
                            td role="cell" data-label="Change" {
                                (c.change.replace('_', " "))
                                @if let Some(new) = &c.new_type {
                                    span.sub { @if let Some(old) = &c.old_type { (old) " → " } (new) }
                                }
                            }
                            td role="cell" data-label="When" { (at(c.at)) }
                        }
                    }
                }
            }
        }
    }
}

fn events(events: &[Event]) -> Markup {
    html! {
        section aria-labelledby="events" {
            h2 #events { "Events" }
            table.cards role="table" {
                thead role="rowgroup" { tr role="row" { (heading("When")) (heading("Kind")) (heading("What")) } }
                tbody role="rowgroup" {
                    @for e in events {
                        tr role="row" {
                            th role="rowheader" scope="row" { (at(e.at)) }
                            td role="cell" data-label="Kind" { (e.kind.replace('_', " ")) @if e.level != "info" { " " (badge(&e.level)) } }
                            td role="cell" data-label="What" { (e.message) }
                        }
                    }
                }
            }
        }
    }
}

fn trail(here: Markup) -> Markup {
    html! {
        nav.trail aria-label="Breadcrumb" { a href="/" { "All resources" } span.slash { "›" } (here) }
    }
}

fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}
