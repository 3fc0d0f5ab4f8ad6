//! When a fan-out is proven, what it may delete then, and how an interrupted one goes on.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use rosterd::{record::Status, sync::Start};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{EMPLOYEES, company, config, page};
use crate::support::{
    site::{Reply, Site},
    sync::Bench,
};

const CHILD: &str = "
      - name: absences
        batch: {rows: 1}
        parent: {concurrency: 1}
        endpoint: employees/{resources.employees.id}/absences
        deletes: {mode: snapshot, hard: true, floor: 0, max_fraction: 0.9}
";

#[tokio::test]
async fn rows_are_deleted_after_a_whole_fan_out_only() {
    let state = Arc::new(AtomicUsize::new(0));
    let mode = Arc::clone(&state);
    // Everybody has two absences; from state 1 on, the second of employee 2 is gone.
    let site = company(4, move |asked| {
        let id: usize = asked.segments()[1].parse().unwrap();
        let state = mode.load(SeqCst);
        match (state, id) {
            (1, 3) => return Reply::status(403),
            (2, 3) => return Reply::status(500),
            (4, 4) => return Reply::status(404),
            _ => {}
        }
        let count = if state > 0 && id == 2 { 1 } else { 2 };
        let records: Vec<Value> = (0..count).map(|n| json!({"id": id * 10 + n})).collect();
        page(asked, &records)
    })
    .await;
    let config = config(&site, &format!("{EMPLOYEES}{CHILD}"));
    let bench = Bench::new().await;
    let all = vec![10, 11, 20, 21, 30, 31, 40, 41];
    for (at, verdict, rows) in [
        (0, Status::Succeeded, all.clone()),
        (1, Status::Partial, all.clone()),
        (2, Status::Partial, all.clone()),
        (3, Status::Succeeded, vec![10, 11, 20, 30, 31, 40, 41]),
        // The parent is gone, and so are its records.
        (4, Status::Succeeded, vec![10, 11, 20, 30, 31]),
    ] {
        state.store(at, SeqCst);
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, verdict, "state {at}: {outcome:?}");
        let there: Vec<i64> = bench.column("select id from hr.absences order by id").await;
        assert_eq!(there, rows, "state {at}");
    }
}

/// A run of the child that is stopped while its `stop_at`-th child request is answered.
async fn cut(stop_at: usize, disposition: &str) -> (Bench, Arc<Site>, String) {
    let (count, token) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let stop = token.clone();
    let site = company(5, move |asked| {
        if count.fetch_add(1, SeqCst) + 1 == stop_at {
            stop.cancel();
        }
        let id: usize = asked.segments()[1].parse().unwrap();
        // The third has none, the others three on two pages.
        let absences = if id == 3 { 0 } else { 3 };
        let records: Vec<Value> = (0..absences).map(|n| json!({"id": id * 10 + n})).collect();
        page(asked, &records)
    })
    .await;
    let config = config(
        &site,
        &format!(
            "{EMPLOYEES}{}        write_disposition: {disposition}\n",
            CHILD.replace(
                "        deletes: {mode: snapshot, hard: true, floor: 0, max_fraction: 0.9}\n",
                ""
            )
        ),
    );
    let bench = Bench::new().await;
    let outcome = bench.sync_until(&config, Start::GoOn, token).await;
    assert_eq!(outcome.status, Status::Interrupted, "{outcome:?}");
    (bench, site, config)
}

#[tokio::test]
async fn an_interrupted_fan_out_goes_on_where_it_was_and_doubles_nothing() {
    for disposition in ["merge", "append"] {
        for stop_at in 1..=9 {
            let (bench, site, config) = cut(stop_at, disposition).await;
            let had: Vec<String> = bench
                .column("select table_name::text from information_schema.tables where table_schema = 'hr'")
                .await;
            let had: i64 = match had.is_empty() {
                true => 0,
                false => bench.value("select count(*) from hr.absences").await,
            };
            site.take();
            let outcome = bench.sync(&config, Start::GoOn).await;
            assert_eq!(outcome.status, Status::Succeeded, "{stop_at} {outcome:?}");
            let rows: Vec<i64> = bench.column("select id from hr.absences order by id").await;
            let expected = vec![10, 11, 12, 20, 21, 22, 40, 41, 42, 50, 51, 52];
            assert_eq!(rows, expected, "{disposition}, cut at {stop_at}");
            let asked = site.take();
            let children = asked.iter().filter(|a| a.contains("/absences")).count();
            // Nine requests in all; those for what was committed are not sent again, but for one.
            let committed_pages = usize::try_from(had).unwrap() * 2 / 3;
            assert!(
                children <= 9 - committed_pages + 2,
                "{disposition}, cut at {stop_at} with {had} rows: {asked:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_fan_out_that_is_cut_at_any_request_deletes_the_right_rows_in_the_end() {
    for stop_at in 1..=8 {
        let (count, token) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let (asked_for, stop) = (Arc::clone(&count), token.clone());
        // Everybody has three absences on two pages; after the first run the last of 2 and all of 4 are gone.
        let site = company(4, move |asked| {
            let at = asked_for.fetch_add(1, SeqCst);
            if at == 7 + stop_at {
                stop.cancel();
            }
            let id: usize = asked.segments()[1].parse().unwrap();
            let absences = match (at < 8, id) {
                (false, 2) => 2,
                (false, 4) => 0,
                _ => 3,
            };
            let records: Vec<Value> = (0..absences).map(|n| json!({"id": id * 10 + n})).collect();
            page(asked, &records)
        })
        .await;
        let config = config(&site, &format!("{EMPLOYEES}{CHILD}"));
        let bench = Bench::new().await;
        let first = bench.sync(&config, Start::GoOn).await;
        assert_eq!(first.status, Status::Succeeded, "{first:?}");
        assert_eq!(count.load(SeqCst), 8);
        let outcome = bench.sync_until(&config, Start::GoOn, token).await;
        assert_eq!(outcome.status, Status::Interrupted, "{stop_at} {outcome:?}");
        let rows: i64 = bench.value("select count(*) from hr.absences").await;
        assert_eq!(rows, 12, "cut at {stop_at}");
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{stop_at} {outcome:?}");
        let there: Vec<i64> = bench.column("select id from hr.absences order by id").await;
        assert_eq!(there, [10, 11, 12, 20, 21, 30, 31, 32], "cut at {stop_at}");
    }
}

#[tokio::test]
async fn parents_that_moved_meanwhile_are_all_read_again() {
    let (moved, token) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let (stop, away) = (token.clone(), Arc::clone(&moved));
    let site = Site::start(move |asked| match asked.path.as_str() {
        "/employees" => {
            let first = away.load(SeqCst) + 1;
            let people: Vec<Value> = (first..=8).map(|id| json!({"id": id})).collect();
            page(asked, &people)
        }
        path => {
            let id: usize = path.split('/').nth(2).unwrap().parse().unwrap();
            if id == 5 {
                stop.cancel();
            }
            page(asked, &[json!({"id": id})])
        }
    })
    .await;
    let config = config(&site, &format!("{EMPLOYEES}{CHILD}"));
    let bench = Bench::new().await;
    let outcome = bench.sync_until(&config, Start::GoOn, token).await;
    assert_eq!(outcome.status, Status::Interrupted, "{outcome:?}");
    // The first employee is gone: all others are one place further up.
    moved.store(1, SeqCst);
    // The walk that was gone on with had seen its row; the next one does not.
    for first in [1, 2] {
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        let rows: Vec<i64> = bench.column("select id from hr.absences order by id").await;
        assert_eq!(rows, (first..=8).collect::<Vec<i64>>());
    }
}

#[tokio::test]
async fn parents_whose_walk_is_in_doubt_prove_nothing() {
    // The total says ten, and eight come.
    let site = Site::start(|asked| match asked.path.as_str() {
        "/employees" => {
            let start = asked.number("offset", 0);
            let people: Vec<Value> = (start + 1..=8)
                .take(2)
                .map(|id| json!({"id": id}))
                .collect();
            json!({"data": people, "total": 10}).into()
        }
        path => page(asked, &[json!({"id": path})]),
    })
    .await;
    let config = config(&site, &format!("{EMPLOYEES}{CHILD}"));
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert!(
        matches!(outcome.status, Status::Partial | Status::Failed),
        "{outcome:?}"
    );
    let rows: i64 = bench.value("select count(*) from hr.absences").await;
    assert_eq!(rows, 8);
}

#[tokio::test]
async fn a_replaced_table_keeps_its_rows_when_a_child_fails() {
    let state = Arc::new(AtomicUsize::new(0));
    let mode = Arc::clone(&state);
    let site = company(3, move |asked| {
        match (mode.load(SeqCst), asked.segments()[1]) {
            (1, "2") => Reply::status(500),
            (state, id) => page(asked, &[json!({"id": id, "state": state})]),
        }
    })
    .await;
    let config = config(
        &site,
        &format!(
            "{EMPLOYEES}      - {{name: absences, write_disposition: replace, endpoint: 'employees/{{resources.employees.id}}/absences'}}\n"
        ),
    );
    let bench = Bench::new().await;
    for (at, verdict, expected) in [
        (0, Status::Succeeded, 0),
        (1, Status::Partial, 0),
        (2, Status::Succeeded, 2),
    ] {
        state.store(at, SeqCst);
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, verdict, "{outcome:?}");
        let rows: Vec<i64> = bench.column("select state from hr.absences").await;
        assert_eq!(rows, [expected; 3]);
    }
}

#[tokio::test]
async fn a_maximum_costs_what_is_behind_it_and_nothing_before_it() {
    let limited =
        |records: u32| format!("paginator: {{type: offset, limit: 2, maximum_offset: {records}}}");
    for (parents, children, rows) in [
        // Of the parents: all that belongs to the first four is read.
        (
            format!("endpoint: {{{}}}, ", limited(4)),
            "'employees/{resources.employees.id}/absences'".to_owned(),
            4 * 5,
        ),
        // Of each of the children, more of them than may fail one after the other.
        (
            String::new(),
            format!(
                "{{path: 'employees/{{resources.employees.id}}/absences', {}}}",
                limited(2)
            ),
            30 * 2,
        ),
    ] {
        let site = company(30, |asked| {
            let id: usize = asked.segments()[1].parse().unwrap();
            let records = (0..5).map(|n| json!({"id": id * 10 + n}));
            page(asked, &records.collect::<Vec<_>>())
        })
        .await;
        let bench = Bench::new().await;
        let config = config(
            &site,
            &format!(
                "      - {{name: employees, {parents}selected: false}}\n      - {{name: absences, endpoint: {children}}}\n"
            ),
        );
        for _ in 0..2 {
            site.take();
            let outcome = bench.sync(&config, Start::GoOn).await;
            assert_eq!(outcome.status, Status::Partial, "{outcome:?}");
            assert_eq!(outcome.fault.unwrap().code, "maximum_reached");
            let asked = site.take();
            let unique: HashSet<&String> = asked.iter().collect();
            assert_eq!(
                asked.len(),
                unique.len(),
                "something was read twice: {asked:?}"
            );
            let found: i64 = bench.value("select count(*) from hr.absences").await;
            assert_eq!(found, rows);
        }
    }
}
