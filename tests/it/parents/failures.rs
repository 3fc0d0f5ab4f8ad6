//! What a failing child costs, what says something of all of them, and what is told.

use std::time::Duration;

use rosterd::{record::Status, sync::Start};
use serde_json::{Value, json};

use super::{EMPLOYEES, company, config, config_with, page};
use crate::support::{
    site::{Reply, Site},
    sync::Bench,
};

fn absences(more: &str) -> String {
    format!(
        "{EMPLOYEES}      - {{name: absences, endpoint: 'employees/{{resources.employees.id}}/absences'{more}}}\n"
    )
}

#[tokio::test]
async fn a_child_that_fails_costs_its_own_rows_and_a_parent_that_is_gone_costs_nothing() {
    for (status, more, verdict, failed, gone) in [
        (404, "", Status::Succeeded, 0, 1),
        (410, "", Status::Succeeded, 0, 1),
        (404, ", parent: {gone: []}", Status::Partial, 1, 0),
        (403, ", parent: {gone: [403]}", Status::Succeeded, 0, 1),
        (403, "", Status::Partial, 1, 0),
        (400, "", Status::Partial, 1, 0),
        (500, "", Status::Partial, 1, 0),
    ] {
        let site = company(5, move |asked| match asked.segments()[1] {
            "3" => Reply::status(status),
            id => page(asked, &[json!({"id": id})]),
        })
        .await;
        let bench = Bench::new().await;
        let outcome = bench
            .sync(&config(&site, &absences(more)), Start::GoOn)
            .await;
        assert_eq!(outcome.status, verdict, "{status} {more} {outcome:?}");
        let rows: Vec<String> = bench.column("select id from hr.absences order by id").await;
        assert_eq!(rows, ["1", "2", "4", "5"], "{status} {more}");
        let told: String = bench
            .value("select data::text from rosterd.events where kind = 'parents'")
            .await;
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (told["failed"].as_i64(), told["gone"].as_i64()),
            (Some(failed), Some(gone))
        );
        if failed > 0 {
            let fault = outcome.fault.unwrap();
            assert_eq!(fault.code, format!("HTTP {status}"));
            assert!(
                fault.message.starts_with("1 of 5 walks for parents failed"),
                "{fault}"
            );
            assert!(
                fault.message.contains("/employees/:employees.id/absences"),
                "{fault}"
            );
            let all = crate::support::history::bookkeeping(bench.db.pool()).await;
            assert!(!all.contains("employees/3"), "{all}");
        }
    }
}

#[tokio::test]
async fn what_says_something_of_the_credential_or_of_all_ends_the_run() {
    for (status, verdict, code, most) in [
        (401, Status::Failed, "HTTP 401", 12),
        (429, Status::Partial, "HTTP 429", 12),
        (403, Status::Failed, "HTTP 403", 60),
        (500, Status::Failed, "HTTP 500", 60),
    ] {
        let site = company(100, move |_| Reply::status(status)).await;
        let bench = Bench::new().await;
        let outcome = bench.sync(&config(&site, &absences("")), Start::GoOn).await;
        assert_eq!(outcome.status, verdict, "{status} {outcome:?}");
        assert_eq!(outcome.fault.unwrap().code, code);
        let asked = site.take();
        let asked = asked.iter().filter(|a| a.contains("/absences")).count();
        assert!(asked <= most, "{status}: {asked}");
    }
}

#[tokio::test]
async fn an_id_of_dots_is_not_asked_for_elsewhere() {
    let site = Site::start(|asked| match asked.path.as_str() {
        "/people" => page(
            asked,
            &[json!({"id": ".."}), json!({"id": "."}), json!({"id": "a"})],
        ),
        _ => json!({"data": [{"id": asked.path}], "total": 1}).into(),
    })
    .await;
    let config = config(
        &site,
        "      - {name: people, selected: false}\n      - {name: notes, endpoint: 'people/{resources.people.id}/notes'}\n",
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Partial, "{outcome:?}");
    assert!(outcome.fault.unwrap().message.starts_with("2 of 3 walks"));
    let rows: Vec<String> = bench.column("select id from hr.notes").await;
    assert_eq!(rows, ["/people/a/notes"]);
    assert!(!site.take().iter().any(|asked| asked.starts_with("/notes")));
}

#[tokio::test]
async fn children_are_under_way_together_within_the_limits_and_come_in_order() {
    let slow = |asked: &crate::support::site::Asked| {
        let id = asked.segments()[1].parse::<u64>().unwrap();
        let late = if id % 2 == 0 { 5 } else { 40 };
        page(asked, &[json!({"id": id})]).late(Duration::from_millis(late))
    };
    for (client, concurrency, most) in [("", 1, 1), ("", 4, 4), ("      max_in_flight: 2", 4, 2)] {
        let site = company(24, slow).await;
        let config = config_with(
            &site,
            client,
            &absences(&format!(
                ", write_disposition: append, parent: {{concurrency: {concurrency}}}"
            )),
        );
        let bench = Bench::new().await;
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        let rows: Vec<i64> = bench
            .column("select id from hr.absences order by ctid")
            .await;
        assert_eq!(
            rows,
            (1..=24).collect::<Vec<i64>>(),
            "{client} {concurrency}"
        );
        // The parents' own walk reads ahead beside them.
        let at_once = site.most_at_once();
        assert!(
            at_once > most.min(2) - 1 && at_once <= most + 16,
            "{at_once}"
        );
    }
}

#[tokio::test]
async fn requests_of_children_keep_to_the_rate_limit() {
    let site = company(12, |asked| page(asked, &[json!({"id": asked.path})])).await;
    let config = config_with(
        &site,
        "      limits: [{requests: 5, per: 200ms}]",
        &absences(""),
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let asked = site.asked();
    for (at, first) in asked.iter().enumerate() {
        assert_eq!(first.method, "GET");
        let window = Duration::from_millis(190);
        let within = asked[at..].iter().filter(|a| a.at < first.at + window);
        assert!(within.count() <= 5);
    }
    let rows: i64 = bench.value("select count(*) from hr.absences").await;
    assert_eq!(rows, 12);
}
