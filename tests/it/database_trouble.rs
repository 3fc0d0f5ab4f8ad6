//! A database that misbehaves: away, full, read-only, changed by people.

use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::support::{
    api::{Api, Paging},
    daemon::{Daemon, Setup},
    db::TestDb,
    history::{Run, bookkeeping, ended, make_due, next_run, run_now},
    server::OwnServer,
};

/// Records of the collection; at 50 a page and 15 pages a second some seconds' worth.
const PEOPLE: i64 = 2_000;

fn config(database: &str, api: &Api, lease: &str) -> String {
    format!(
        "database: {{url: '{database}', acquire_timeout: 2s}}
daemon: {{admin: {{listen: '127.0.0.1:0'}}, poll: 200ms, lease: {lease}}}
sources:
  hr:
    client:
      base_url: {}
      limits: [{{requests: 15, per: 1s}}]
    resource_defaults:
      primary_key: id
      write_disposition: merge
      schedule: every 1d
      batch: {{rows: 100}}
      endpoint:
        data_selector: data
        paginator: {{type: offset, limit: 50}}
    resources: [{{name: employees, endpoint: /v1/employees}}]
",
        api.url()
    )
}

/// A database in trouble, an API, a daemon between them.
struct Scene {
    server: OwnServer,
    api: Api,
    daemon: Daemon,
    pool: PgPool,
}

impl Scene {
    async fn new(lease: &str) -> Self {
        let server = OwnServer::start("pw").await;
        let api = Api::start().await;
        api.collection("employees").fill(PEOPLE);
        let mut daemon = Setup::run(config(&server.url("pw"), &api, lease)).start();
        daemon.wait_until_ready();
        let pool = server.pool();
        Self {
            server,
            api,
            daemon,
            pool,
        }
    }

    /// Starts a run, and returns when it is in the middle.
    async fn in_the_middle_of_a_run(&self) {
        let asked = self.api.requests().len();
        make_due(&self.pool, "hr", "employees").await;
        while self.api.requests().len() < asked + 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for a run after `after` that succeeded, and compares the table with the API.
    async fn expect_success(&mut self, after: i64) -> Run {
        // The old pool's connections may be dead.
        self.pool = self.server.pool();
        let deadline = Instant::now() + Duration::from_secs(90);
        let run = loop {
            let run = ended(&self.pool, "hr", "employees", after).await;
            match run {
                Some(run) if run.status == "succeeded" => break run,
                _ if Instant::now() > deadline => {
                    panic!("{run:?} {}", self.daemon.stderr())
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let (rows, people): (i64, i64) =
            sqlx::query_as("select count(*), count(distinct (id, name)) from hr.employees")
                .fetch_one(&self.pool)
                .await
                .unwrap();
        assert_eq!((rows, people), (PEOPLE, PEOPLE));
        let open: i64 =
            sqlx::query_scalar("select count(*) from rosterd.runs where finished_at is null")
                .fetch_one(&self.pool)
                .await
                .unwrap();
        assert_eq!(open, 0);
        run
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_a_restart_of_postgres_in_its_middle() {
    let mut scene = Scene::new("60s").await;
    // A first load, fast shutdown.
    scene.in_the_middle_of_a_run().await;
    scene.server.stop().await;
    scene.server.start_again().await;
    let first = scene.expect_success(0).await;

    // A second load, which compares with the table; the server dies.
    for id in 1..=PEOPLE {
        scene
            .api
            .collection("employees")
            .put(serde_json::json!({"id": id, "name": format!("New {id}")}));
    }
    scene.in_the_middle_of_a_run().await;
    scene.server.crash().await;
    let second = scene.expect_success(first.run_id).await;

    assert_eq!(second.run_id, first.run_id + 1, "one run each");
    let log = scene.daemon.stderr();
    assert!(log.contains("trying again"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_the_lease_is_waited_out_and_told() {
    let mut scene = Scene::new("3s").await;
    let ready = scene.daemon.get("/readyz", "");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    scene.in_the_middle_of_a_run().await;
    scene.server.stop().await;
    scene.daemon.wait_for_log("the schedule could not be read");
    tokio::time::sleep(Duration::from_secs(12)).await;
    let ready = scene.daemon.get("/readyz", "");
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(ready.contains("not ready: "), "{ready}");
    let alive = scene.daemon.get("/healthz", "");
    assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
    let log = scene.daemon.stderr();
    assert!(log.contains("connection refused"), "{log}");
    assert!(log.contains("check that the server runs"), "{log}");

    scene.server.start_again().await;
    scene.expect_success(0).await;
    scene.daemon.wait_for_log("the database is back");
    let ready = scene.daemon.get("/readyz", "");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_while_the_database_is_read_only_or_full() {
    let mut scene = Scene::new("60s").await;
    let cases = [
        (
            "alter system set default_transaction_read_only = on; select pg_reload_conf()",
            "set default_transaction_read_only = off; \
             alter system reset default_transaction_read_only; select pg_reload_conf()",
            "read-only",
        ),
        (
            "alter role keeper connection limit 0; \
             select pg_terminate_backend(pid) from pg_stat_activity where usename = 'keeper'",
            "alter role keeper connection limit -1",
            "SQLSTATE 53300",
        ),
        (
            "alter database hr set default_transaction_read_only = on; \
             select pg_terminate_backend(pid) from pg_stat_activity where usename = 'keeper'",
            "alter database hr reset default_transaction_read_only; \
             select pg_terminate_backend(pid) from pg_stat_activity where usename = 'keeper'",
            "read-only",
        ),
    ];
    let mut last = 0;
    for (trouble, repair, reason) in cases {
        let told = scene.daemon.stderr().len();
        scene.in_the_middle_of_a_run().await;
        scene.server.execute(trouble).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !scene.daemon.stderr()[told..].contains(reason) {
            assert!(
                Instant::now() < deadline,
                "{reason}: {}",
                scene.daemon.stderr()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        scene.server.execute(repair).await;
        last = scene.expect_success(last).await.run_id;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_work_says_why_in_one_line_with_a_hint() {
    let server = OwnServer::start("right").await;
    let api = Api::start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = nobody.local_addr().unwrap().port();
    drop(nobody);
    let good = server.url("right");
    let cases = [
        (
            server.url("wrong"),
            "wrong password (SQLSTATE 28P01)",
            "database.url",
            2,
        ),
        (
            good.replace("/hr", "/nowhere"),
            "the database does not exist (SQLSTATE 3D000)",
            "create the database",
            2,
        ),
        (
            good.replace(&server.port().to_string(), &closed.to_string()),
            "connection refused (io)",
            "check that the server runs",
            1,
        ),
    ];
    for (url, reason, hint, code) in cases {
        for command in ["run", "sync", "migrate", "status", "reset hr/employees"] {
            if command == "run" && code == 1 {
                // The daemon waits for a server that is away.
                let mut daemon = Setup::run(config(&url, &api, "60s")).start();
                daemon.wait_for_log("Postgres is away; waiting for it");
                let ready = daemon.get("/readyz", "");
                assert!(ready.contains("not ready: Postgres"), "{ready}");
                daemon.signal(rustix::process::Signal::TERM);
                assert!(daemon.wait().success(), "{}", daemon.stderr());
                continue;
            }
            let arguments: Vec<&str> = command.split(' ').collect();
            let mut ended = Setup::command(config(&url, &api, "60s"), &arguments).start();
            let status = ended.wait();
            let said = ended.stderr();
            assert_eq!(status.code(), Some(code), "{command} {reason}: {said}");
            let lines: Vec<&str> = said.lines().filter(|l| !l.starts_with('{')).collect();
            let [line, advice] = lines[..] else {
                panic!("{command} {reason}: {said}");
            };
            assert!(line.starts_with("rosterd: "), "{line}");
            assert!(line.contains(reason), "{line}");
            assert!(
                advice.starts_with("hint: ") && advice.contains(hint),
                "{advice}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_changed_by_people_stops_its_resource_only() {
    const RESOURCES: [&str; 8] = [
        "revoked",
        "dropped",
        "renamed",
        "retyped",
        "widened",
        "unkeyed",
        "fitting",
        "untouched",
    ];
    let server = OwnServer::start("pw").await;
    let api = Api::start().await;
    let mut resources = String::new();
    for name in RESOURCES {
        api.collection(name).fill(120).paging(Paging::Offset);
        resources += &format!("      - {{name: {name}, endpoint: /v1/{name}}}\n");
    }
    let text = config(&server.url("pw"), &api, "60s")
        .replace("limits: [{requests: 15, per: 1s}]", "max_in_flight: 4")
        .replace(
            "    resources: [{name: employees, endpoint: /v1/employees}]\n",
            &format!("    resources:\n{resources}"),
        )
        .replace(
            "paginator: {type: offset, limit: 50}",
            "paginator: {type: offset, limit: 50}\n        \
             incremental: {cursor_path: updated_at, start_param: updated_since, initial_value: '2020-01-01T00:00:00Z'}",
        );
    let mut daemon = Setup::run(text.clone()).start();
    daemon.wait_until_ready();
    let pool = server.pool();

    // Made by hand before the first run.
    sqlx::raw_sql(
        "create schema hr authorization keeper; set role keeper;
         create table hr.unkeyed (id bigint, name text, salary bigint, updated_at timestamptz);
         create table hr.fitting (id bigint primary key, name text, salary bigint, updated_at timestamptz);
         reset role",
    )
    .execute(&pool)
    .await
    .unwrap();
    for name in RESOURCES {
        let run = run_now(&pool, "hr", name).await;
        let expected = if name == "unkeyed" {
            ("failed", "schema", "no_unique_key")
        } else {
            ("succeeded", "", "")
        };
        assert_eq!(run.verdict(), expected, "{name}: {run:?}");
    }

    let before = cursors(&pool).await;
    sqlx::raw_sql(
        "alter table hr.revoked owner to current_user; revoke all on hr.revoked from keeper;
         drop table hr.dropped;
         alter table hr.renamed rename column salary to pay;
         alter table hr.retyped alter column salary type money using salary::text::money;
         alter table hr.widened alter column salary type text",
    )
    .execute(&pool)
    .await
    .unwrap();
    for name in RESOURCES {
        api.collection(name)
            .put(serde_json::json!({"id": 7, "name": "Changed", "salary": 5}));
    }
    let expected = [
        (
            "revoked",
            ("failed", "destination", "SQLSTATE 42501"),
            "hr.revoked",
            "grant",
        ),
        (
            "dropped",
            ("failed", "destination", "SQLSTATE 42P01"),
            "hr.dropped",
            "rosterd reset hr/dropped",
        ),
        (
            "retyped",
            ("failed", "schema", "column_type"),
            "salary",
            "table_name",
        ),
        (
            "unkeyed",
            ("failed", "schema", "no_unique_key"),
            "unkeyed",
            "primary key",
        ),
    ];
    for (name, verdict, object, hint) in expected {
        let run = run_now(&pool, "hr", name).await;
        assert_eq!(run.verdict(), verdict, "{name}: {run:?}");
        assert!(run.message().contains(object), "{name}: {run:?}");
        assert!(run.hint().contains(hint), "{name}: {run:?}");
    }
    assert_eq!(
        cursors(&pool).await,
        before,
        "no cursor moves without its rows"
    );
    for name in ["widened", "renamed", "fitting", "untouched"] {
        let run = run_now(&pool, "hr", name).await;
        assert_eq!(run.verdict(), ("succeeded", "", ""), "{name}: {run:?}");
    }
    let told = bookkeeping(&pool).await + &daemon.stderr();
    assert!(
        !told.contains("Person ") && !told.contains("Changed"),
        "{told}"
    );

    // Repaired, each as its hint says.
    sqlx::raw_sql(
        "alter table hr.revoked owner to keeper;
         alter table hr.retyped alter column salary type bigint using salary::numeric::bigint;
         alter table hr.unkeyed add primary key (id)",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut reset = Setup::command(text, &["reset", "hr/dropped"]).start();
    assert!(reset.wait().success(), "{}", reset.stderr());
    for (name, ..) in expected {
        let run = run_now(&pool, "hr", name).await;
        assert_eq!(run.verdict(), ("succeeded", "", ""), "{name}: {run:?}");
        let (rows, changed): (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select count(*), count(*) filter (where salary = 5) from hr.{name}"
        )))
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!((rows, changed), (120, 1), "{name}");
    }
}

async fn cursors(pool: &PgPool) -> Vec<(i64, Option<String>)> {
    sqlx::query_as(
        "select resource_id, cursor::text from rosterd.cursors
         join rosterd.resources using (resource_id)
         where resource in ('revoked', 'dropped', 'retyped', 'unkeyed') order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_locked_by_somebody_is_waited_for_and_holds_nobody_else_up() {
    let db = TestDb::new().await;
    let api = Api::start().await;
    api.collection("employees").fill(100);
    api.collection("others").fill(100);
    let text = config(&db.url(), &api, "60s")
        .replace("acquire_timeout: 2s", "lock_timeout: 200ms, statement_timeout: 1s")
        .replace(
            "resources: [{name: employees, endpoint: /v1/employees}]",
            "resources: [{name: employees, endpoint: /v1/employees}, {name: others, endpoint: /v1/others}]",
        );
    let mut daemon = Setup::run(text).start();
    daemon.wait_until_ready();
    let first = run_now(db.pool(), "hr", "employees").await;
    assert_eq!(first.verdict(), ("succeeded", "", ""), "{first:?}");

    // The API has a new field: the table must be altered, which a reader's lock forbids.
    for mode in ["access share", "share", "access exclusive"] {
        let field = mode.replace(' ', "_");
        api.collection("employees")
            .put(serde_json::json!({"id": 1, "name": "x", field.as_str(): "new"}));
        let mut locker = db.pool().begin().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "lock table hr.employees in {mode} mode"
        )))
        .execute(&mut *locker)
        .await
        .unwrap();
        let told = daemon.stderr().len();
        let before = ended(db.pool(), "hr", "employees", 0).await.unwrap().run_id;
        make_due(db.pool(), "hr", "employees").await;
        let other = run_now(db.pool(), "hr", "others").await;
        assert_eq!(other.verdict(), ("succeeded", "", ""), "{other:?}");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !daemon.stderr()[told..].contains("trying again") {
            assert!(Instant::now() < deadline, "{mode}: {}", daemon.stderr());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        locker.rollback().await.unwrap();
        let run = next_run(db.pool(), "hr", "employees", before).await;
        assert_eq!(run.verdict(), ("succeeded", "", ""), "{mode}: {run:?}");
        let runs: i64 = sqlx::query_scalar(
            "select count(*) from rosterd.runs where resource = 'employees' and run_id > $1",
        )
        .bind(before)
        .fetch_one(db.pool())
        .await
        .unwrap();
        assert_eq!(runs, 1, "{mode}: one run, that waited");
    }
}
