//! SIGTERM, SIGHUP and what systemd is told, with the real binary.

use std::{os::unix::net::UnixDatagram, time::Duration};

use rosterd::demo::Options;
use rustix::process::Signal;

use crate::support::{
    daemon::Daemon,
    scene::Scene,
    timeline::{self, eventually},
    truth,
};

/// An API that takes its time, so that signals find a run under way.
async fn slow_scene() -> Scene {
    let mut scene = Scene::new(Options {
        employees: 400,
        latency: Some(Duration::from_millis(400)),
        ..Options::default()
    })
    .await;
    scene.client = "max_in_flight: 1";
    scene.defaults = "schedule: {every: 1h, jitter: 0s}";
    scene.register().await;
    timeline::make_due(scene.db.pool()).await;
    scene
}

async fn log_shows(daemon: &Daemon, text: &str) {
    eventually(text, || {
        let there = daemon.stderr().contains(text);
        async move { there.then_some(()) }
    })
    .await;
}

/// Waits for the end; answers the exit code and the log.
async fn end(mut daemon: Daemon) -> (Option<i32>, String) {
    tokio::task::spawn_blocking(move || (daemon.wait().code(), daemon.stderr()))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_commits_the_batch_in_hand_and_ends_well() {
    let scene = slow_scene().await;
    let daemon = scene.setup().start();
    eventually("three requests", || async {
        (scene.api.stats().requests >= 4).then_some(())
    })
    .await;
    daemon.signal(Signal::TERM);
    let (code, log) = end(daemon).await;
    assert_eq!(code, Some(0), "{log}");

    let pool = scene.db.pool();
    let runs = timeline::runs(pool, 0).await;
    let [run] = runs.as_slice() else {
        panic!("{runs:#?}");
    };
    assert_eq!(
        (run.status.as_str(), run.reason.as_deref()),
        ("interrupted", Some("the daemon was stopped"))
    );
    // Far less than a batch, and nobody had asked for it to be committed but the signal.
    assert!((2..10).contains(&run.pages), "{run:?}");
    let rows = truth::rows(pool, "hr.employees", "true").await;
    assert_eq!(i64::try_from(rows.len()).unwrap(), run.pages * 40);

    // The next start goes on behind these pages.
    let daemon = scene.setup().start();
    eventually("the run that goes on", || async {
        let runs = timeline::runs(pool, run.run_id).await;
        runs.first()
            .is_some_and(|next| next.status == "succeeded" && next.pages + run.pages == 10)
            .then_some(())
    })
    .await;
    daemon.signal(Signal::TERM);
    assert_eq!(end(daemon).await.0, Some(0));
    let rows = truth::rows(pool, "hr.employees", "true").await;
    let wrong = truth::differences(&rows, &scene.api.snapshot("employees"));
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_the_process_at_once() {
    let mut scene = slow_scene().await;
    scene.daemon = ", stop_grace: 10m";
    scene.defaults = "schedule: {every: 1h, jitter: 0s}\n      batch: {rows: 40}";
    let pool = scene.db.pool();
    let daemon = scene.setup().start();
    eventually("two pages", || async {
        let runs = timeline::runs(pool, 0).await;
        (runs.first()?.pages >= 2).then_some(())
    })
    .await;
    // A batch that cannot be committed keeps the soft stop waiting.
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("lock table hr.employees in access exclusive mode")
        .execute(&mut *blocker)
        .await
        .unwrap();
    eventually("a batch behind the lock", || async {
        sqlx::query_scalar::<_, bool>(
            "select exists (select from pg_locks where not granted and relation = 'hr.employees'::regclass)",
        )
        .fetch_one(pool)
        .await
        .unwrap()
        .then_some(())
    })
    .await;
    daemon.signal(Signal::TERM);
    log_shows(&daemon, "\"stopping\"").await;
    daemon.signal(Signal::TERM);
    let (code, log) = end(daemon).await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("a second signal came"), "{log}");
    blocker.rollback().await.unwrap();

    let daemon = scene.setup().start();
    eventually("the cut run is made good", || async {
        let runs = timeline::runs(pool, 0).await;
        let statuses: Vec<_> = runs.iter().map(|run| run.status.as_str()).collect();
        (statuses == ["interrupted", "succeeded"]).then_some(())
    })
    .await;
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_takes_a_good_configuration_and_refuses_a_wrong_one() {
    let mut scene = Scene::new(Options {
        employees: 50,
        ..Options::default()
    })
    .await;
    scene.defaults = "schedule: {every: 1s, jitter: 0s}";
    scene.resources = &["employees", "absences"];
    let pool = scene.db.pool();
    let daemon = scene.setup().start();
    let ran = async |name: &str, after: i64| {
        eventually(&format!("a run of {name}"), || async {
            timeline::runs(pool, after)
                .await
                .iter()
                .any(|run| run.resource == name && run.status == "succeeded")
                .then_some(())
        })
        .await;
    };
    ran("employees", 0).await;
    ran("absences", 0).await;

    daemon.write_config(&scene.config().replace("base_url", "base_uri"));
    daemon.signal(Signal::HUP);
    log_shows(&daemon, "kept the old configuration").await;
    assert!(
        daemon.stderr().contains("base_uri"),
        "the log names the mistake"
    );
    ran("employees", timeline::newest(pool).await).await;

    daemon.write_config(&scene.config_of(&["employees", "timesheets"]));
    daemon.signal(Signal::HUP);
    log_shows(&daemon, "took the new configuration").await;
    ran("timesheets", 0).await;
    let removed: Vec<String> =
        sqlx::query_scalar("select resource from rosterd.resources where removed_at is not null")
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(removed, ["absences"]);
    daemon.signal(Signal::TERM);
    assert_eq!(end(daemon).await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_hears_of_start_reload_life_and_stop() {
    let scene = Scene::new(Options {
        employees: 50,
        ..Options::default()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let daemon = scene
        .setup()
        .with_env("NOTIFY_SOCKET", path.to_str().unwrap())
        .with_env("WATCHDOG_USEC", "30000000")
        .start();
    tokio::task::spawn_blocking(move || {
        let next = |wanted: &str| loop {
            let mut buffer = [0; 4096];
            let length = socket
                .recv(&mut buffer)
                .unwrap_or_else(|_| panic!("no {wanted}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return text;
            }
        };
        assert!(next("READY=1").contains("STATUS=1 resources"));
        // One per turn of the loop; nothing else feeds it.
        next("WATCHDOG=1");
        next("WATCHDOG=1");
        daemon.signal(Signal::HUP);
        let reloading = next("RELOADING=1");
        let monotonic = reloading
            .lines()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(monotonic.unwrap().parse::<u64>().unwrap() > 0);
        next("READY=1");
        daemon.signal(Signal::TERM);
        next("STOPPING=1");
        let mut daemon = daemon;
        assert!(daemon.wait().success());
    })
    .await
    .unwrap();
}
