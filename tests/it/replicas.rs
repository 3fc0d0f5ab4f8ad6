//! Several daemons on one database: shared work, one writer, and a stopped one that comes back too late.

use std::{collections::BTreeSet, time::Duration};

use rosterd::demo::Options;
use rustix::process::Signal;

use crate::support::{
    daemon::Daemon,
    db::TestDb,
    scene::Scene,
    timeline::{self, eventually},
    truth,
};

async fn stop(mut daemon: Daemon) -> String {
    daemon.signal(Signal::TERM);
    tokio::task::spawn_blocking(move || {
        let status = daemon.wait();
        assert!(status.success(), "{}", daemon.stderr());
        daemon.stderr()
    })
    .await
    .unwrap()
}

/// Runs of one resource, one after the other: none begins before the one before it has ended.
fn expect_no_overlap(runs: &[timeline::Run]) {
    let names: BTreeSet<&str> = runs.iter().map(|run| run.resource.as_str()).collect();
    for name in names {
        let mut spans: Vec<_> = runs
            .iter()
            .filter(|run| run.resource == name && run.started_at.is_some())
            .map(|run| (run.started_at, run.finished_at, run.run_id))
            .collect();
        spans.sort();
        for pair in spans.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "{name}: {pair:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_share_the_work_and_never_run_a_resource_at_the_same_time() {
    let mut scene = Scene::new(Options {
        employees: 100,
        latency: Some(Duration::from_millis(30)),
        ..Options::default()
    })
    .await;
    scene.daemon = ", max_concurrent_runs: 2";
    scene.defaults = "schedule: {every: 1s, jitter: 0s}";
    scene.resources = &["employees", "absences", "timesheets"];
    let daemons = [scene.setup().start(), scene.setup().start()];
    let pool = scene.db.pool();
    eventually("thirty runs, some by each", || async {
        let runs = timeline::runs(pool, 0).await;
        let done: Vec<_> = runs
            .iter()
            .filter(|run| run.status == "succeeded")
            .collect();
        let workers: BTreeSet<_> = done.iter().map(|run| &run.worker).collect();
        (done.len() >= 30 && workers.len() == 2).then_some(())
    })
    .await;
    for daemon in daemons {
        stop(daemon).await;
    }
    let runs = timeline::runs(pool, 0).await;
    assert!(runs.iter().all(|run| run.status != "running"));
    expect_no_overlap(&runs);
    // No request but those that the runs account for, so there was no walk beside them.
    let accounted: i64 = runs.iter().map(|run| run.http_requests).sum();
    assert!(
        scene.api.stats().requests <= u64::try_from(accounted).unwrap(),
        "{accounted} of {}",
        scene.api.stats().requests
    );
}

/// What a run has written, as Postgres tells row versions apart.
async fn versions(db: &TestDb, run_id: i64) -> BTreeSet<(String, i64)> {
    let rows = sqlx::query_as("select xmin::text, id from hr.employees where _run_id = $1")
        .bind(run_id)
        .fetch_all(db.pool())
        .await;
    // Under replace there is no table yet.
    rows.unwrap_or_default().into_iter().collect()
}

async fn cursor_moves(db: &TestDb, run_id: i64) -> i64 {
    sqlx::query_scalar("select count(*) from rosterd.cursor_log where run_id = $1")
        .bind(run_id)
        .fetch_one(db.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_stopped_past_its_lease_writes_nothing_when_it_goes_on() {
    for disposition in ["merge", "append", "replace"] {
        let mut scene = Scene::new(Options {
            employees: 600,
            latency: Some(Duration::from_millis(250)),
            ..Options::default()
        })
        .await;
        scene.client = "max_in_flight: 1";
        scene.defaults = match disposition {
            "merge" => {
                "write_disposition: merge\n      batch: {rows: 40}\n      schedule: {every: 1h, jitter: 0s}"
            }
            "append" => {
                "write_disposition: append\n      batch: {rows: 40}\n      schedule: {every: 1h, jitter: 0s}"
            }
            _ => {
                "write_disposition: replace\n      batch: {rows: 40}\n      schedule: {every: 1h, jitter: 0s}"
            }
        };
        scene.register().await;
        timeline::make_due(scene.db.pool()).await;
        let pool = scene.db.pool();
        let pages_of = async |place: usize, least: i64| {
            eventually(&format!("{disposition}: pages of run {place}"), || async {
                let runs = timeline::runs(pool, 0).await;
                let run = runs.get(place)?.clone();
                (run.pages >= least).then_some(run)
            })
            .await
        };

        let first = scene.setup().start();
        let theirs = pages_of(0, 3).await;
        // Not in the middle of a transaction: Postgres would keep its locks, and the run would count as alive.
        loop {
            first.signal(Signal::STOP);
            tokio::time::sleep(Duration::from_millis(50)).await;
            let at_it: bool = sqlx::query_scalar(
                "select exists (select from pg_stat_activity
                  where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null)",
            )
            .fetch_one(pool)
            .await
            .unwrap();
            if !at_it {
                break;
            }
            first.signal(Signal::CONT);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let second = scene.setup().start();
        let ours = pages_of(1, 2).await;
        let before = (
            versions(&scene.db, theirs.run_id).await,
            cursor_moves(&scene.db, theirs.run_id).await,
            timeline::runs(pool, 0).await[0].clone(),
        );
        assert_eq!(before.2.status, "interrupted", "{disposition}");
        assert_eq!(ours.trigger, "retry", "{disposition}");

        first.signal(Signal::CONT);
        eventually(&format!("{disposition}: the first daemon gives up"), || {
            let ended = first.stderr().contains("run ended");
            async move { ended.then_some(()) }
        })
        .await;
        eventually(&format!("{disposition}: the second run"), || async {
            let runs = timeline::runs(pool, 0).await;
            (runs[1].status != "running").then_some(())
        })
        .await;
        let runs = timeline::runs(pool, 0).await;
        assert_eq!(runs[1].status, "succeeded", "{disposition}: {runs:#?}");
        assert_eq!(runs[0], before.2, "{disposition}");
        assert_eq!(runs.len(), 2, "{disposition}: {runs:#?}");
        assert!(
            versions(&scene.db, theirs.run_id)
                .await
                .is_subset(&before.0)
        );
        assert_eq!(cursor_moves(&scene.db, theirs.run_id).await, before.1);
        let rows = truth::rows(pool, "hr.employees", "true").await;
        let wrong = truth::differences(&rows, &scene.api.snapshot("employees"));
        assert_eq!(wrong, Vec::<String>::new(), "{disposition}");

        // It is as good as new: alone again, it does the next run.
        stop(second).await;
        timeline::make_due(pool).await;
        eventually(&format!("{disposition}: the next run"), || async {
            let runs = timeline::runs(pool, 0).await;
            let run = runs.get(2)?;
            (run.status == "succeeded" && run.worker == theirs.worker).then_some(())
        })
        .await;
        stop(first).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_come_while_the_run_goes_on_are_skipped_in_one_counted_row() {
    let mut scene = Scene::new(Options {
        employees: 240,
        latency: Some(Duration::from_millis(800)),
        ..Options::default()
    })
    .await;
    scene.client = "max_in_flight: 1";
    scene.defaults = "schedule: {every: 1s, jitter: 0s}";
    let daemon = scene.setup().start();
    let pool = scene.db.pool();
    eventually("a second run", || async {
        let runs = timeline::runs(pool, 0).await;
        (runs.iter().filter(|run| run.started_at.is_some()).count() >= 2).then_some(())
    })
    .await;
    stop(daemon).await;
    let runs = timeline::runs(pool, 0).await;
    expect_no_overlap(&runs);
    assert_eq!(runs[0].status, "succeeded", "{runs:#?}");
    let skipped: Vec<_> = runs
        .iter()
        .take_while(|run| run.run_id == runs[0].run_id || run.started_at.is_none())
        .filter(|run| run.status == "skipped")
        .collect();
    let [row] = skipped.as_slice() else {
        panic!("{runs:#?}");
    };
    assert_eq!(row.reason.as_deref(), Some("overlap"));
    assert!(row.labels["count"].as_i64().unwrap() >= 2, "{row:?}");
}
