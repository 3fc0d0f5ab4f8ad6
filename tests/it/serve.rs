//! Health, metrics and pages over a real Postgres, asked over plain sockets: a client that behaves
//! would hide what matters here.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rosterd::{
    config::{Secret, daemon::Admin},
    record::report::{Error, Reports, RunFilter},
    serve::{self, Health, State},
};
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::db::TestDb;

/// Two sources with a history: one resource well, one refused, one running, one paused, one untouched.
async fn given_history(pool: &PgPool) {
    sqlx::raw_sql(
        "create schema hr; create table hr.employees as select g as id from generate_series(1, 500) g;
         analyze hr.employees;
         insert into rosterd.resources (account, source, resource, target_table, credential_key, mode,
           schedule, freshness_slo, paused_at, paused_reason, fingerprint, next_run_at)
         values
           ('default', 'hr', 'employees', 'hr.employees', 'hr/default', 'incremental', '*/15 * * * *', '1 h', null, null, 'f', now() + '5 min'),
           ('acme', 'ats', 'candidates', 'ats.candidates', 'ats/acme', 'full', null, null, null, null, 'f', null),
           ('default', 'hr', 'absences', 'hr.absences', 'hr/default', 'full', null, null, null, null, 'f', null),
           ('default', 'hr', 'a/b <i>', 'hr.odd', 'hr/default', 'full', null, null, now(), 'operator: <b>move</b>', 'f', null),
           ('default', 'hr', 'new', 'hr.new', 'hr/default', 'full', null, null, null, null, 'f', null);
         insert into rosterd.runs (status, resource_id, account, source, resource, trigger, mode, started_at,
           finished_at, cursor_from, cursor_to, records_read, rows_inserted, rows_updated, rows_rejected,
           http_requests, http_retries, http_429, pages)
         select 'succeeded', 1, 'default', 'hr', 'employees', 'schedule', 'incremental',
           now() - make_interval(hours => n), now() - make_interval(hours => n) + '2 s', 'CURSOR-CANARY', 'CURSOR-CANARY',
           1000, 10, 5, 1, 12, 2, 1, 11
         from generate_series(40, 0, -1) n;
         insert into rosterd.runs (status, resource_id, account, source, resource, trigger, mode, started_at,
           finished_at, error_class, error_code, error_message, error_hint, error_fingerprint)
         values ('failed', 2, 'acme', 'ats', 'candidates', 'manual', 'full', now() - interval '1 min', now(), 'auth',
           'HTTP 401', 'the API refused the key', 'Renew the key, then `rosterd resume ats`.', 'x');
         insert into rosterd.runs (status, resource_id, account, source, resource, trigger, mode, started_at)
         values ('running', 3, 'default', 'hr', 'absences', 'schedule', 'full', now());
         insert into rosterd.leases (resource_id, run_id, owner, fence, expires_at, phase)
         select 3, run_id, 'worker-1', 1, now() + interval '1 h', 'page 42' from rosterd.runs where status = 'running';
         insert into rosterd.attempts (run_id, attempt, worker, started_at, finished_at, outcome)
         select run_id, 1, 'worker-1', started_at, finished_at, status from rosterd.runs where status = 'failed';
         insert into rosterd.events (run_id, level, kind, message)
         select run_id, 'warn', 'circuit_open', 'the key is left alone' from rosterd.runs where status = 'failed';
         insert into rosterd.schema_changes (run_id, resource_id, change, table_name, column_name, old_type, new_type)
         select run_id, 2, 'widen_column', 'ats.candidates', 'salary', 'bigint', 'numeric' from rosterd.runs where status = 'failed';
         update rosterd.runs set fields_repeated = 37 where status = 'failed';
         insert into rosterd.workers (worker, host, app_version, running) values ('worker-1', 'h', '0.1.0', 1);",
    )
    .execute(pool)
    .await
    .unwrap();
}

struct Server {
    addr: SocketAddr,
    health: Arc<Health>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Server {
    async fn start(pool: PgPool, token: Option<&str>) -> Self {
        let health = Arc::new(Health::new(Duration::from_secs(60)));
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let admin = Admin {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            token: token.map(|t| Secret::new(t.to_owned())),
        };
        let state = State {
            reports: Reports::new(pool),
            health: Arc::clone(&health),
            tasks: tasks.clone(),
        };
        let bound = serve::start(&admin, state, cancel.clone()).await.unwrap();
        Self {
            addr: bound.unwrap().addr,
            health,
            tasks,
            cancel,
        }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await
    }

    /// The status and all of the answer; the server closes the connection after it.
    async fn send(&self, request: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.addr).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(15), self.tasks.wait())
            .await
            .expect("the server stops");
    }
}

#[tokio::test]
async fn the_page_shows_how_everything_is_and_no_value() {
    let db = TestDb::new().await;
    let pool = db.pool().clone();
    given_history(&pool).await;
    let server = Server::start(pool, None).await;
    let (status, page) = server.get("/").await;
    assert_eq!(status, 200);
    for text in [
        "1 of 5 resources needs attention",
        "the API refused the key",
        "<code>rosterd resume ats</code>",
        "page 42",
        "worker-1",
        "never ran",
        "operator: &lt;b&gt;move&lt;/b&gt;",
        "/resources/hr/default/a%2Fb%20%3Ci%3E",
        "24 last runs: typically 2.0 s, longest 2.0 s, 0 failed",
        ">500<",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
    for path in [
        "/",
        "/?health=ok",
        "/resources/hr/default/employees",
        "/runs/1",
        "/metrics",
    ] {
        let (status, page) = server.get(path).await;
        assert_eq!(status, 200, "{path}");
        assert!(!page.contains("CURSOR-CANARY"), "{path}");
    }
    let (_, broken) = server.get("/?health=broken").await;
    assert!(broken.contains("candidates") && !broken.contains("a%2Fb"));
    server.stop().await;
}

#[tokio::test]
async fn an_empty_history_is_a_page_too() {
    let db = TestDb::new().await;
    let server = Server::start(db.pool().clone(), None).await;
    let (status, page) = server.get("/").await;
    assert_eq!(status, 200);
    assert!(page.contains("No resources yet"));
    server.stop().await;
}

#[tokio::test]
async fn a_resource_and_a_run_have_their_pages() {
    let db = TestDb::new().await;
    let pool = db.pool().clone();
    given_history(&pool).await;
    let server = Server::start(pool, None).await;
    let (_, page) = server.get("/resources/ats/acme/candidates").await;
    let link = page.split("/runs/").nth(1).unwrap();
    let id = link.split('"').next().unwrap();
    let (status, run) = server.get(&format!("/runs/{id}")).await;
    assert_eq!(status, 200);
    for text in [
        "HTTP 401",
        "the key is left alone",
        "bigint → numeric",
        "worker-1",
        "Fields that stood twice</dt><dd>37",
    ] {
        assert!(run.contains(text), "{text} in {run}");
    }
    // Only what there was.
    assert!(!run.contains("Left out"), "{run}");
    let (status, _) = server.get("/resources/hr/default/a%2Fb%20%3Ci%3E").await;
    assert_eq!(status, 200);
    for path in [
        "/runs/999999",
        "/runs/x",
        "/runs/99999999999999999999",
        "/resources/a/b/c",
        "/nothing",
    ] {
        assert_eq!(server.get(path).await.0, 404, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_metrics_are_those_of_the_views_and_only_grow() {
    let db = TestDb::new().await;
    let pool = db.pool().clone();
    given_history(&pool).await;
    let server = Server::start(pool.clone(), None).await;
    let employees = r#"source="hr",account="default",resource="employees""#;
    let expected = [
        format!("rosterd_runs_total{{{employees},status=\"succeeded\"}} 41\n"),
        format!("rosterd_rows_total{{{employees},kind=\"changed\"}} 615\n"),
        format!("rosterd_rows_total{{{employees},kind=\"read\"}} 41000\n"),
        format!("rosterd_http_requests_total{{{employees}}} 492\n"),
        format!("rosterd_http_429_total{{{employees}}} 41\n"),
        format!("rosterd_resource_health{{{employees},state=\"ok\"}} 1\n"),
        format!("rosterd_resource_data_age_seconds{{{employees}}} "),
        format!("rosterd_resource_last_success_timestamp_seconds{{{employees}}} "),
        format!("rosterd_next_run_timestamp_seconds{{{employees}}} "),
        "rosterd_running{source=\"hr\",account=\"default\",resource=\"absences\"} 1\n".to_owned(),
        "rosterd_build_info{version=".to_owned(),
        "rosterd_database_reachable 1\n".to_owned(),
    ];
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.ends_with("# EOF\n"));
    for line in &expected {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }

    // Retention rolls the days up and deletes what is old: the sums stay.
    sqlx::raw_sql(
        "insert into rosterd.daily
         select (finished_at at time zone 'UTC')::date, resource_id, account, source, resource, count(*),
           count(*), 0, 0, 0, 0, sum(records_read), sum(rows_inserted + rows_updated), sum(rows_rejected),
           sum(http_requests), sum(http_429), 0, 0, 0, 0
         from rosterd.runs where status = 'succeeded' group by 1, 2, 3, 4, 5;
         delete from rosterd.runs where status = 'succeeded' and finished_at < now() - interval '20 h'",
    )
    .execute(&pool)
    .await
    .unwrap();
    let (_, metrics) = server.get("/metrics").await;
    for line in &expected {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    server.stop().await;
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let db = TestDb::new().await;
    let server = Server::start(db.pool().clone(), None).await;
    let (status, answer) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(answer.ends_with("not ready: starting\n"));
    assert_eq!(server.get("/healthz").await.0, 200);
    server.health.set_ready();
    assert_eq!(server.get("/readyz").await.0, 200);
    server.health.set_draining();
    let (status, answer) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(answer.ends_with("not ready: stopping\n"));
    server.stop().await;
}

#[tokio::test]
async fn with_the_database_away_the_page_says_so_and_the_process_is_alive() {
    let pool = sqlx::postgres::PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(200))
        .connect_lazy("postgres://nobody@127.0.0.1:1/none")
        .unwrap();
    let server = Server::start(pool, None).await;
    server.health.set_ready();
    let (status, page) = server.get("/").await;
    assert_eq!(status, 503);
    assert!(page.contains("No answer from the database") && page.contains("id=\"main\""));
    assert_eq!(server.get("/readyz").await.0, 503);
    assert_eq!(server.get("/healthz").await.0, 200);
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("rosterd_database_reachable 0\n"));
    server.stop().await;
}

#[tokio::test]
async fn a_database_without_our_schema_is_told_apart() {
    let db = TestDb::new().await;
    sqlx::raw_sql("drop schema rosterd cascade")
        .execute(db.pool())
        .await
        .unwrap();
    assert_eq!(
        Reports::new(db.pool().clone()).schema_version().await,
        Err(Error::NotMigrated)
    );
}

#[tokio::test]
async fn strangers_and_writers_are_refused() {
    let db = TestDb::new().await;
    let pool = db.pool().clone();
    let server = Server::start(pool.clone(), None).await;
    for (request, expected) in [
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0",
            405,
        ),
        ("GET / HTTP/1.1\r\nHost: evil.example", 421),
        ("HEAD /healthz HTTP/1.1\r\nHost: 127.0.0.1", 200),
        ("GET / HTTP/1.0\r\nX: y", 421),
    ] {
        let (status, answer) = server.send(&format!("{request}\r\n\r\n")).await;
        assert_eq!(status, expected, "{request}");
        let headers = answer.to_lowercase();
        assert!(headers.contains("content-security-policy: default-src 'none'"));
        assert!(headers.contains("connection: close") || request.contains("1.0"));
    }
    server.stop().await;

    let server = Server::start(pool, Some("token-canary")).await;
    for (path, header, expected) in [
        ("/", "X: y", 401),
        ("/metrics", "Authorization: Bearer wrong", 401),
        ("/metrics", "Authorization: Bearer token-canary", 200),
        ("/", "Authorization: Basic OnRva2VuLWNhbmFyeQ==", 200),
        ("/healthz", "X: y", 200),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: status.example\r\n{header}\r\n\r\n");
        let (status, answer) = server.send(&request).await;
        assert_eq!(status, expected, "{path} {header}");
        assert!(!answer.contains("token-canary"));
    }
    server.stop().await;
}

#[tokio::test]
async fn does_not_listen_to_the_world_without_a_token() {
    let admin = Admin {
        listen: Some("0.0.0.0:0".parse().unwrap()),
        token: None,
    };
    let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
    let state = State {
        reports: Reports::new(pool),
        health: Arc::new(Health::new(Duration::from_secs(1))),
        tasks: TaskTracker::new(),
    };
    let refused = serve::start(&admin, state, CancellationToken::new()).await;
    assert!(matches!(refused, Err(serve::Error::TokenRequired(_))));
}

#[tokio::test]
async fn clients_that_hang_up_do_not_spoil_the_pool() {
    let db = TestDb::new().await;
    let pool = db.pool().clone();
    given_history(&pool).await;
    let one = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .connect_with((*pool.connect_options()).clone())
        .await
        .unwrap();
    let server = Server::start(one.clone(), None).await;
    for _ in 0..40 {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        socket.write_all(request).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get("/").await.0, 200);
    server.stop().await;
    // Inside of a transaction now() stands still.
    let clock = || sqlx::query_scalar::<_, chrono::DateTime<chrono::Utc>>("select now()");
    let first = clock().fetch_one(&one).await.unwrap();
    let second = clock().fetch_one(&one).await.unwrap();
    assert!(second > first);
}

#[tokio::test]
async fn silent_clients_hold_their_places_for_seconds_only() {
    let db = TestDb::new().await;
    let server = Server::start(db.pool().clone(), None).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
        silent.push(socket);
    }
    let probe = tokio::time::timeout(Duration::from_secs(8), server.get("/healthz"));
    assert_eq!(probe.await.expect("a place within seconds").0, 200);
    server.stop().await;
}

#[tokio::test]
async fn runs_are_found_by_what_is_known_of_them() {
    let db = TestDb::new().await;
    let pool = db.pool().clone();
    given_history(&pool).await;
    let reports = Reports::new(pool);
    let text = |text: &str| Some(text.to_owned());
    let employees = RunFilter {
        source: text("hr"),
        resource: text("employees"),
        ..RunFilter::default()
    };
    for (filter, expected) in [
        (RunFilter::default(), 43),
        (employees.clone(), 41),
        (
            RunFilter {
                before: Some(11),
                ..employees.clone()
            },
            10,
        ),
        (
            RunFilter {
                within: Some(Duration::from_secs(5 * 3_600 - 60)),
                ..employees
            },
            5,
        ),
        (
            RunFilter {
                statuses: vec!["failed".to_owned(), "running".to_owned()],
                ..RunFilter::default()
            },
            2,
        ),
        (
            RunFilter {
                account: text("acme"),
                ..RunFilter::default()
            },
            1,
        ),
    ] {
        let runs = reports.runs(&filter, 100).await.unwrap();
        assert_eq!(runs.len(), expected, "{filter:?}");
        assert!(runs.is_sorted_by(|a, b| a.run_id > b.run_id));
    }
    assert_eq!(
        reports.runs(&RunFilter::default(), 7).await.unwrap().len(),
        7
    );
    assert_eq!(reports.workers().await.unwrap().len(), 1);
    let groups = reports.error_groups().await.unwrap();
    assert_eq!(
        (groups[0].runs, groups[0].error_code.as_deref()),
        (1, Some("HTTP 401"))
    );
    assert!(reports.run(1_000_000).await.unwrap().is_none());
}
