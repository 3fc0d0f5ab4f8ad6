//! Walks that are repeated where rows are appended: what they brought before is taken back, and read again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use rosterd::{record::Status, sync::Start};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{company, config, employees, page};
use crate::support::{
    site::{Asked, Reply, Site},
    sync::Bench,
};

/// Three entries of each person, on two pages; the day is the last digit.
fn entries(asked: &Asked) -> Reply {
    let person: i64 = asked.segments()[1].parse().unwrap();
    let since = asked.param("since").unwrap_or("");
    let entries: Vec<Value> = (1..=3)
        .map(|day| json!({"id": person * 10 + day, "at": format!("2024-01-0{day}T00:00:00Z")}))
        .filter(|entry| entry["at"].as_str().unwrap() > since)
        .collect();
    page(asked, &entries)
}

const CHILD: &str = "
      - {name: employees, selected: false}
      - name: entries
        write_disposition: append
        batch: {rows: 1}
        parent: {concurrency: 1}
        endpoint:
          path: employees/{resources.employees.id}/entries
";

const CURSOR: &str =
    "          incremental: {cursor_path: at, start_param: since, range_start: open}\n";

async fn rows(bench: &Bench) -> Vec<i64> {
    bench.column("select id from hr.entries order by id").await
}

fn all(people: impl Iterator<Item = i64>) -> Vec<i64> {
    people
        .flat_map(|id| (1..=3).map(move |day| id * 10 + day))
        .collect()
}

#[tokio::test]
async fn what_is_taken_back_is_read_again_from_the_cursors_that_were_there_before() {
    for incremental in [CURSOR, ""] {
        // The first time the parents' total says more than come.
        let lies = Arc::new(AtomicBool::new(true));
        let lying = Arc::clone(&lies);
        let site = Site::start(move |asked| match asked.path.as_str() {
            "/employees" => {
                let start = asked.number("offset", 0);
                let people: Vec<Value> = employees(3).into_iter().skip(start).take(2).collect();
                let total = if lying.load(SeqCst) { 9 } else { 3 };
                if start >= 2 && lying.load(SeqCst) && people.is_empty() {
                    lying.store(false, SeqCst);
                }
                json!({"data": people, "total": total}).into()
            }
            _ => entries(asked),
        })
        .await;
        let config = config(&site, &format!("{CHILD}{incremental}"));
        let bench = Bench::new().await;
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert!(!lies.load(SeqCst), "the walk was not in doubt");
        assert_eq!(rows(&bench).await, all(1..=3), "{incremental}");
        if !incremental.is_empty() {
            let outcome = bench.sync(&config, Start::GoOn).await;
            assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
            assert_eq!(rows(&bench).await, all(1..=3));
        }
    }
}

#[tokio::test]
async fn an_interrupted_run_that_cannot_be_gone_on_with_is_taken_back() {
    for incremental in [CURSOR, ""] {
        let (moved, token) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let (stop, away) = (token.clone(), Arc::clone(&moved));
        let site = Site::start(move |asked| match asked.path.as_str() {
            "/employees" => {
                let people: Vec<Value> = employees(6).into_iter().skip(away.load(SeqCst)).collect();
                page(asked, &people)
            }
            _ => {
                if asked.segments()[1] == "4" {
                    stop.cancel();
                }
                entries(asked)
            }
        })
        .await;
        let config = config(&site, &format!("{CHILD}{incremental}"));
        let bench = Bench::new().await;
        let outcome = bench.sync_until(&config, Start::GoOn, token).await;
        assert_eq!(outcome.status, Status::Interrupted, "{outcome:?}");
        assert!(!rows(&bench).await.is_empty());
        // The first one is gone: all others are one place further up, and the place is not found again.
        moved.store(1, SeqCst);
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert_eq!(rows(&bench).await, all(2..=6), "{incremental}");
    }
}

#[tokio::test]
async fn a_walk_for_one_parent_that_begins_again_doubles_nothing() {
    // Once, the second page of the second person says that its place is lost.
    let lost = Arc::new(AtomicBool::new(false));
    let losing = Arc::clone(&lost);
    let site = company(3, move |asked| {
        let is_it = asked.segments()[1] == "2" && asked.number("offset", 0) == 2;
        match is_it && !losing.swap(true, SeqCst) {
            true => Reply::status(410),
            false => entries(asked),
        }
    })
    .await;
    for disposition in ["append", "merge"] {
        lost.store(false, SeqCst);
        let text = CHILD.replace("append", disposition);
        let config = config(
            &site,
            &format!("{text}          response_actions: [{{status_code: 410, action: restart}}]\n"),
        );
        let bench = Bench::new().await;
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert!(lost.load(SeqCst));
        assert_eq!(rows(&bench).await, all(1..=3), "{disposition}");
    }
}
