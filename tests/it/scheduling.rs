//! Slots and commands, through the real binary.

use std::time::Duration;

use rosterd::demo::Options;
use rustix::process::Signal;

use crate::support::{
    daemon::Setup,
    scene::Scene,
    timeline::{self, eventually},
};

/// Runs a command to its end: exit code, stdout, stderr.
async fn execute(setup: Setup) -> (Option<i32>, String, String) {
    tokio::task::spawn_blocking(move || {
        let mut process = setup.start();
        let status = process.wait();
        (status.code(), process.stdout(), process.stderr())
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_missed_while_down_become_one_run_and_paused_ones_none() {
    let mut scene = Scene::new(Options {
        employees: 50,
        ..Options::default()
    })
    .await;
    scene.defaults = "schedule: {every: 10m, jitter: 0s}";
    scene.resources = &["employees", "absences"];
    scene.register().await;
    let pool = scene.db.pool();
    sqlx::query(
        "update rosterd.resources set next_run_at = clock_timestamp() - interval '3 hours'",
    )
    .execute(pool)
    .await
    .unwrap();
    let (code, _, log) = execute(scene.command(&["pause", "hr/absences"])).await;
    assert_eq!(code, Some(0), "{log}");

    let mut daemon = scene.setup().start();
    let runs = eventually("both rows", || async {
        let runs = timeline::runs(pool, 0).await;
        (runs.len() >= 2 && runs.iter().all(|run| run.status != "running")).then_some(runs)
    })
    .await;
    daemon.signal(Signal::TERM);
    assert!(
        tokio::task::spawn_blocking(move || daemon.wait())
            .await
            .unwrap()
            .success()
    );
    assert_eq!(timeline::runs(pool, 0).await.len(), runs.len());
    let [employees, absences] = ["employees", "absences"].map(|name| {
        let mut of_it = runs.iter().filter(|run| run.resource == name);
        let run = of_it.next().unwrap();
        assert!(of_it.next().is_none(), "{runs:#?}");
        run
    });
    assert_eq!(
        (employees.status.as_str(), employees.trigger.as_str()),
        ("succeeded", "catch_up")
    );
    assert!(employees.labels["missed_slots"].as_i64().unwrap() >= 18);
    assert_eq!(
        (absences.status.as_str(), absences.reason.as_deref()),
        ("skipped", Some("paused"))
    );
    let due: i64 = sqlx::query_scalar(
        "select count(*) from rosterd.resources where next_run_at <= clock_timestamp()",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(due, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sync_says_that_a_daemon_is_at_it_and_exits_with_1() {
    let mut scene = Scene::new(Options {
        employees: 400,
        latency: Some(Duration::from_secs(1)),
        ..Options::default()
    })
    .await;
    scene.client = "max_in_flight: 1";
    scene.defaults = "schedule: {every: 1h, jitter: 0s}";
    scene.register().await;
    let pool = scene.db.pool();
    timeline::make_due(pool).await;
    let daemon = scene.setup().start();
    let run = eventually("a run", || async {
        timeline::runs(pool, 0).await.first().cloned()
    })
    .await;
    let (code, _, log) = execute(scene.command(&["sync", "hr/employees"])).await;
    assert_eq!(code, Some(1), "{log}");
    let owner = run.worker.unwrap();
    assert!(
        log.contains("employees: not started: ") && log.contains(&format!("{owner} is syncing it")),
        "{log}"
    );
    assert_eq!(timeline::runs(pool, 0).await.len(), 1);
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_of_sync_tells_success_failure_and_mistake() {
    let scene = Scene::new(Options {
        employees: 50,
        ..Options::default()
    })
    .await;
    let wrong_key = scene.config().replace("demo-key", "other-key");
    let no_key = scene.config().replace("base_url", "base_uri");
    let cases = [
        ("all is well", scene.command(&["sync"]), 0),
        (
            "all is well, fully",
            scene.command(&["sync", "hr", "--full"]),
            0,
        ),
        ("401", Setup::command(wrong_key, &["sync"]), 1),
        ("no such resource", scene.command(&["sync", "hr/nobody"]), 2),
        ("no such source", scene.command(&["sync", "nobody"]), 2),
        ("no such argument", scene.command(&["sync", "--fully"]), 2),
        ("no such key", Setup::command(no_key, &["sync"]), 2),
    ];
    for (name, setup, expected) in cases {
        let (code, out, log) = execute(setup).await;
        assert_eq!(code, Some(expected), "{name}: {out}{log}");
    }
    let statuses: Vec<_> = timeline::runs(scene.db.pool(), 0)
        .await
        .into_iter()
        .map(|run| (run.status, run.trigger, run.error_class))
        .collect();
    let expected = [
        ("succeeded", None),
        ("succeeded", None),
        ("failed", Some("auth")),
    ]
    .map(|(status, class)| {
        (
            status.to_owned(),
            "manual".to_owned(),
            class.map(str::to_owned),
        )
    });
    assert_eq!(statuses, expected);
}
