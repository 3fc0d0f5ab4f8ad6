//! The private server's life, the pool's manners, and the migrations' outcomes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use rosterd::{
    config::Database,
    fault::Class,
    postgres::{
        ConnectOptions, Error, Failure, MIGRATOR, Server, close, migrate, pool, probe,
        wait_until_ready,
    },
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::support::db::{StateDir, TestDb, embedded};

async fn execute(options: &ConnectOptions, sql: &str) {
    let mut connection = PgConnection::connect_with(options).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

async fn ask<T>(options: &ConnectOptions, sql: &'static str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let mut connection = PgConnection::connect_with(options).await.unwrap();
    let value = sqlx::query_scalar(sql)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    value
}

/// Process of the server on the data under `state_dir`, if one left a note.
fn server_pid(state_dir: &Path) -> Option<String> {
    let folders = fs::read_dir(state_dir.join("postgres")).ok()?;
    folders.flatten().find_map(|entry| {
        let text = fs::read_to_string(entry.path().join("postmaster.pid")).ok()?;
        text.lines().next().map(str::to_owned)
    })
}

fn kill(signal: &str, pid: &str) {
    let status = std::process::Command::new("kill")
        .args([signal, pid])
        .status();
    assert!(status.unwrap().success());
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn the_private_server_keeps_its_data_between_starts() {
    let dir = StateDir::new();
    let server = Server::start(&embedded(), dir.path()).await.unwrap();
    assert!(server.is_embedded());
    let told = server.describe();
    assert!(told.starts_with("using embedded PostgreSQL 1"), "{told}");
    assert!(told.contains("psql -h "), "{told}");
    execute(
        &server.connect_options(),
        "create table kept as select 42 as n",
    )
    .await;
    server.stop().await.unwrap();
    assert_eq!(server_pid(dir.path()), None);

    let server = Server::start(&embedded(), dir.path()).await.unwrap();
    let options = server.connect_options();
    assert_eq!(ask::<i32>(&options, "select n from kept").await, 42);
    assert_eq!(
        ask::<String>(&options, "show listen_addresses").await,
        "",
        "no network"
    );
    for name in ["jit", "fsync"] {
        let value: String = ask(
            &options,
            match name {
                "jit" => "show jit",
                _ => "show fsync",
            },
        )
        .await;
        assert_eq!(value, if name == "jit" { "off" } else { "on" });
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_private_server_is_started_again() {
    let dir = StateDir::new();
    let server = Server::start(&embedded(), dir.path()).await.unwrap();
    let options = server.connect_options();
    let pool = pool(options.clone(), &embedded());
    sqlx::query("create table kept as select 42 as n")
        .execute(&pool)
        .await
        .unwrap();
    let before = server_pid(dir.path()).unwrap();

    kill("-9", &before);
    let stop = CancellationToken::new();
    // The old server may still take a connection for an instant.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        wait_until_ready(&options, &stop, |_, _| {}).await.unwrap();
        if server_pid(dir.path()).is_some_and(|pid| pid != before) {
            break;
        }
        assert!(Instant::now() < deadline, "not started again");
        tokio::task::yield_now().await;
    }
    wait_until_ready(&options, &stop, |_, _| {}).await.unwrap();
    // The pool's connection died with the old server.
    let kept: i32 = sqlx::query_scalar("select n from kept")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(kept, 42);
    close(&pool).await;
    server.stop().await.unwrap();
    assert_eq!(server_pid(dir.path()), None);
}

#[test]
fn the_server_of_a_killed_process_is_adopted() {
    let dir = StateDir::new();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    // The runtime dies with everything on it: nothing is stopped, locks are let go.
    let first = runtime();
    let server = first
        .block_on(Server::start(&embedded(), dir.path()))
        .unwrap();
    first.block_on(execute(
        &server.connect_options(),
        "create table kept as select 42 as n",
    ));
    drop(first);
    drop(server);
    let left = server_pid(dir.path()).unwrap();

    let second = runtime();
    second.block_on(async {
        let server = Server::start(&embedded(), dir.path()).await.unwrap();
        assert_eq!(server_pid(dir.path()).unwrap(), left, "not a second one");
        let options = server.connect_options();
        assert_eq!(ask::<i32>(&options, "select n from kept").await, 42);
        server.stop().await.unwrap();
    });
    assert_eq!(server_pid(dir.path()), None, "stopped like one of its own");
}

#[tokio::test]
async fn the_last_user_of_the_private_server_stops_it() {
    let dir = StateDir::new();
    let daemon = Server::start(&embedded(), dir.path()).await.unwrap();
    let command = Server::start(&embedded(), dir.path()).await.unwrap();
    let options = command.connect_options();

    daemon.stop().await.unwrap();
    probe(&options).await.unwrap();

    command.stop().await.unwrap();
    assert_eq!(server_pid(dir.path()), None);
}

#[tokio::test]
async fn two_processes_may_start_the_private_server_at_the_same_time() {
    let dir = StateDir::new();
    let (database, path) = (embedded(), dir.path());
    let (one, two) = tokio::join!(
        Server::start(&database, path),
        Server::start(&database, path)
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    probe(&one.connect_options()).await.unwrap();
    one.stop().await.unwrap();
    probe(&two.connect_options()).await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn an_interrupted_initdb_is_begun_anew() {
    let dir = StateDir::new();
    let server = Server::start(&embedded(), dir.path()).await.unwrap();
    server.stop().await.unwrap();
    // As a kill in the middle leaves it: half a folder under the unfinished name.
    let data = newest_data(dir.path());
    let mut unfinished = data.clone().into_os_string();
    unfinished.push(".new");
    fs::rename(&data, &unfinished).unwrap();
    fs::remove_file(PathBuf::from(unfinished).join("global/pg_control")).unwrap();

    let server = Server::start(&embedded(), dir.path()).await.unwrap();
    probe(&server.connect_options()).await.unwrap();
    server.stop().await.unwrap();
}

fn newest_data(state_dir: &Path) -> PathBuf {
    fs::read_dir(state_dir.join("postgres"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("PG_VERSION").exists())
        .unwrap()
}

#[tokio::test]
async fn a_long_path_moves_the_socket_and_nothing_else() {
    let dir = StateDir::new();
    let deep = dir.path().join("a-folder-with-a-long-name".repeat(5));
    let server = Server::start(&embedded(), &deep).await.unwrap();
    let options = server.connect_options();
    probe(&options).await.unwrap();
    let socket = options.get_socket().unwrap().clone();
    assert!(!socket.starts_with(dir.path()));
    assert!(newest_data(&deep).starts_with(dir.path().canonicalize().unwrap()));
    server.stop().await.unwrap();
    fs::remove_dir(socket).unwrap();
}

#[tokio::test]
async fn data_of_a_version_that_is_not_installed_are_left_alone() {
    let dir = StateDir::new();
    let data = dir.path().join("postgres/9");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let error = Server::start(&embedded(), dir.path()).await.unwrap_err();
    let fault = error.fault();
    assert!(fault.message.contains("PostgreSQL 9"), "{fault}");
    assert!(fault.hint.contains("install PostgreSQL 9"), "{fault:?}");
}

#[tokio::test]
async fn missing_server_programs_are_told_with_advice() {
    let dir = StateDir::new();
    let mut database = embedded();
    database.embedded.bin_dir = Some(dir.path().to_owned());
    let error = Server::start(&database, dir.path()).await.unwrap_err();
    assert!(
        error.fault().hint.contains("database.embedded.bin_dir"),
        "{:?}",
        error.fault()
    );
}

#[tokio::test]
async fn as_root_the_server_runs_as_another_user_wherever_state_dir_is() {
    if !is_root() {
        return;
    }
    let dir = StateDir::new();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let server = Server::start(&embedded(), &closed.join("state"))
        .await
        .unwrap();
    let options = server.connect_options();
    let data: String = ask(&options, "show data_directory").await;
    let home = Path::new(&data).ancestors().nth(2).unwrap().to_owned();
    let _watched = StateDir::watch(home.clone());
    assert!(home.starts_with("/var/lib/rosterd"), "{data}");
    assert!(server.describe().contains(&data));
    let pid = server_pid(&home).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let uid = status.lines().find(|l| l.starts_with("Uid:")).unwrap();
    assert!(!uid.split_whitespace().any(|id| id == "0"), "{uid}");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(
        !String::from_utf8_lossy(&environment).contains("CARGO"),
        "nothing of ours is in the server's environment"
    );
    execute(&options, "create table kept as select 42 as n").await;
    server.stop().await.unwrap();

    // Data stay where they were made, also when state_dir can be entered later ...
    let open = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&closed, mode).unwrap();
    };
    open(0o755);
    let server = Server::start(&embedded(), &closed.join("state"))
        .await
        .unwrap();
    let kept: i32 = ask(&server.connect_options(), "select n from kept").await;
    assert_eq!(kept, 42);
    server.stop().await.unwrap();

    // ... and data that were made in state_dir are not replaced by new ones elsewhere.
    let inside = closed.join("inside");
    let server = Server::start(&embedded(), &inside).await.unwrap();
    assert!(server.describe().contains(inside.to_str().unwrap()));
    server.stop().await.unwrap();
    open(0o700);
    let error = Server::start(&embedded(), &inside).await.unwrap_err();
    assert!(error.to_string().contains("cannot enter"), "{error}");
}

#[tokio::test]
async fn the_loopback_port_wants_the_password() {
    let dir = StateDir::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut database = embedded();
    database.embedded.port = Some(port);
    let server = Server::start(&database, dir.path()).await.unwrap();
    let pgpass = fs::read_to_string(dir.path().join("postgres/pgpass")).unwrap();
    let password = pgpass.trim().rsplit(':').next().unwrap();
    assert!(!server.describe().contains(password));
    assert!(!server.psql().contains(password));

    let through = |password: &str, database: &str| Database {
        url: Some(rosterd::config::Secret::new(format!(
            "postgres://rosterd:{password}@127.0.0.1:{port}/{database}"
        ))),
        ..embedded()
    };
    let outcome = async |database: Database| {
        let server = Server::start(&database, dir.path()).await.unwrap();
        assert!(!server.is_embedded());
        probe(&server.connect_options()).await.map(drop)
    };
    outcome(through(password, "rosterd")).await.unwrap();

    let wrong = outcome(through("hunter2", "rosterd")).await.unwrap_err();
    let fault = wrong.fault();
    assert_eq!(
        (fault.class, fault.code.as_str(), fault.retryable),
        (Class::Config, "SQLSTATE 28P01", false)
    );
    assert!(!format!("{wrong} {wrong:?}").contains("hunter2"));

    let missing = outcome(through(password, "nowhere")).await.unwrap_err();
    assert_eq!(missing.fault().code, "SQLSTATE 3D000");

    server.stop().await.unwrap();
    let refused = outcome(through(password, "rosterd")).await.unwrap_err();
    let fault = refused.fault();
    assert_eq!(
        (fault.class, fault.code.as_str(), fault.retryable),
        (Class::Destination, "io", true)
    );
    assert!(fault.message.contains("connection refused"), "{fault}");
}

#[tokio::test]
async fn a_server_turned_read_only_is_refused_until_it_takes_writes() {
    let dir = StateDir::new();
    let server = Server::start(&embedded(), dir.path()).await.unwrap();
    let options = server.connect_options();
    let config = Database {
        max_connections: 1,
        acquire_timeout: Duration::from_millis(500),
        ..embedded()
    };
    let pool = pool(options.clone(), &config);
    sqlx::query("create table t (n int)")
        .execute(&pool)
        .await
        .unwrap();

    let set = async |value: &str| {
        // The connection that changes the setting must itself be allowed to write.
        let options = options
            .clone()
            .options([("default_transaction_read_only", "off")]);
        let change = format!("alter system set default_transaction_read_only = {value}");
        execute(&options, &change).await;
        execute(&options, "select pg_reload_conf()").await;
    };
    set("on").await;
    // The server's processes read the change one after the other.
    while probe(&options).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let error = probe(&options).await.unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    assert!(error.fault().retryable);
    // The connection that is in the pool already is handed out only if it has just come back, and never twice.
    let error = sqlx::query("insert into t values (0)")
        .execute(&pool)
        .await
        .unwrap_err();
    assert!(Failure::from(error).is_outage());
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(error, sqlx::Error::PoolTimedOut), "{error}");

    set("off").await;
    let stop = CancellationToken::new();
    wait_until_ready(&options, &stop, |_, _| {}).await.unwrap();
    sqlx::query("insert into t values (1)")
        .execute(&pool)
        .await
        .unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_full_server_is_told_and_waited_for() {
    let dir = StateDir::new();
    let server = Server::start(&embedded(), dir.path()).await.unwrap();
    execute(
        &server.connect_options(),
        "alter system set max_connections = 5",
    )
    .await;
    server.stop().await.unwrap();
    let server = Server::start(&embedded(), dir.path()).await.unwrap();
    let options = server.connect_options();
    let mut taken = Vec::new();
    let full = loop {
        match PgConnection::connect_with(&options).await {
            Ok(connection) => taken.push(connection),
            Err(error) => break Failure::from(error),
        }
    };
    assert_eq!(full.code, "SQLSTATE 53300");
    let fault = probe(&options).await.unwrap_err().fault();
    assert_eq!(
        (fault.code.as_str(), fault.retryable),
        ("SQLSTATE 53300", true)
    );

    let stop = CancellationToken::new();
    let mut reports = 0;
    wait_until_ready(&options, &stop, |_, _| {
        reports += 1;
        taken.clear();
    })
    .await
    .unwrap();
    assert!(reports >= 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_begin_reaches_no_other_borrower() {
    let db = TestDb::new().await;
    let config = Database {
        max_connections: 1,
        ..embedded()
    };
    let pool = pool(db.options().clone(), &config);
    for attempt in 0..20 {
        let mut connection = pool.acquire().await.unwrap();
        if attempt % 2 == 0 {
            // Sent, and dropped before the answer (unless the server was very quick): the driver
            // believes that nothing was begun.
            drop(connection.begin().now_or_never());
        } else {
            sqlx::raw_sql("begin")
                .execute(&mut *connection)
                .await
                .unwrap();
        }
        drop(connection);
        let mut connection = pool.acquire().await.unwrap();
        let row = sqlx::raw_sql("select now() = statement_timestamp()")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        let at_rest: bool = sqlx::Row::get(&row, 0);
        assert!(at_rest, "attempt {attempt}");
    }
    pool.close().await;
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_and_its_connection_kept() {
    let db = TestDb::new().await;
    let config = Database {
        max_connections: 1,
        ..embedded()
    };
    let pool = pool(db.options().clone(), &config);
    sqlx::query("create table t (n int)")
        .execute(&pool)
        .await
        .unwrap();
    let pid = async || -> i32 {
        sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    let before = pid().await;
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("insert into t values (1)")
        .execute(&mut *transaction)
        .await
        .unwrap();
    drop(transaction);
    let rows: i64 = sqlx::query_scalar("select count(*) from t")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(rows, 0);
    assert_eq!(pid().await, before);
}

#[tokio::test]
async fn every_session_has_its_name_and_its_limits() {
    let db = TestDb::new().await;
    let expected = [
        ("application_name", "rosterd"),
        ("statement_timeout", "1min"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("TimeZone", "UTC"),
        ("DateStyle", "ISO, MDY"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
    ];
    for (name, value) in expected {
        let actual: String = sqlx::query_scalar("select current_setting($1)")
            .bind(name)
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert_eq!(actual, value, "{name}");
    }
}

#[tokio::test]
async fn no_value_of_a_row_is_in_an_error_or_in_the_servers_log() {
    let dir = StateDir::new();
    let server = Server::start(&embedded(), dir.path()).await.unwrap();
    let pool = pool(server.connect_options(), &embedded());
    sqlx::query("create table people (id int primary key, ssn text not null)")
        .execute(&pool)
        .await
        .unwrap();
    let canary = "123-45-6789";
    let cases = [
        (
            "insert into people (id, ssn) values ($1::text::int, 'x')",
            "SQLSTATE 22P02",
            vec![],
        ),
        (
            "insert into people (id, ssn) values (length($1::text), null)",
            "SQLSTATE 23502",
            vec!["table public.people", "column ssn"],
        ),
        (
            "insert into people (id, ssn) select 1, $1::text from generate_series(1, 2)",
            "SQLSTATE 23505",
            vec!["constraint people_pkey"],
        ),
    ];
    for (sql, code, names) in cases {
        let error = sqlx::query(sql).bind(canary).execute(&pool).await;
        let failure = Failure::from(error.unwrap_err());
        assert_eq!(failure.code, code);
        let told = format!("{failure} {failure:?} {:?}", failure.fault());
        assert!(!told.contains(canary), "{told}");
        for name in names {
            assert!(told.contains(name), "{told} lacks {name}");
        }
        assert!(!failure.transient);
    }
    pool.close().await;
    server.stop().await.unwrap();
    let logs = fs::read_dir(dir.path().join("postgres/log")).unwrap();
    let mut text = String::new();
    for log in logs.flatten() {
        text.push_str(&fs::read_to_string(log.path()).unwrap());
    }
    assert!(text.contains("database system is ready"), "{text}");
    assert!(!text.contains(canary), "{text}");
}

#[tokio::test]
async fn a_server_of_somebody_else_is_used_and_never_stopped() {
    let db = TestDb::new().await;
    let nowhere = Path::new("/nonexistent");
    let server = Server::start(&db.config(), nowhere).await.unwrap();
    assert!(server.describe().starts_with("using PostgreSQL at /"));
    let options = server.connect_options();
    assert_eq!(migrate(&options).await.unwrap().applied, 0);
    server.stop().await.unwrap();
    assert!(probe(&options).await.unwrap().major() >= 14);
}

#[tokio::test]
async fn one_of_many_migrators_migrates() {
    let db = TestDb::unmigrated().await;
    let mut outcomes = Vec::new();
    for outcome in futures_util::future::join_all((0..8).map(|_| migrate(db.options()))).await {
        outcomes.push(outcome.unwrap());
    }
    let all = MIGRATOR.iter().count();
    let applied: Vec<_> = outcomes.iter().map(|o| o.applied).collect();
    assert_eq!(applied.iter().filter(|n| **n == all).count(), 1);
    assert_eq!(applied.iter().filter(|n| **n == 0).count(), 7);
    let newest = MIGRATOR.iter().map(|m| m.version).max().unwrap();
    assert!(outcomes.iter().all(|o| o.version == newest));
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing_behind() {
    let db = TestDb::unmigrated().await;
    // Stands in the way of the first migration's notes.
    execute(
        db.options(),
        "create schema rosterd; create view rosterd._sqlx_migrations as select 1 as version",
    )
    .await;
    migrate(db.options()).await.unwrap_err();
    execute(db.options(), "drop schema rosterd cascade").await;
    assert!(migrate(db.options()).await.unwrap().applied > 0);
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_refused() {
    let cases = [
        (
            "insert into rosterd._sqlx_migrations select 999999, 'later', now(), true, ''::bytea, 0",
            "schema_newer",
            "version 999999",
        ),
        (
            "update rosterd._sqlx_migrations set checksum = 'x'::bytea",
            "schema_changed",
            "another text",
        ),
    ];
    for (change, code, text) in cases {
        let db = TestDb::new().await;
        execute(db.options(), change).await;
        let fault = migrate(db.options()).await.unwrap_err().fault();
        assert_eq!(fault.code, code);
        assert!(fault.message.contains(text), "{fault}");
        assert!(!fault.retryable);
    }
}

#[tokio::test]
async fn a_role_without_ddl_rights_may_run_on_a_current_schema_only() {
    // The private server knows one role by its socket; the others are taken on for the session.
    let as_role = |db: &TestDb, role: &str| {
        db.options()
            .clone()
            .options([("role", role)])
            .username("rosterd")
    };
    let current = TestDb::new().await;
    execute(
        current.options(),
        "create role plain_current; grant usage on schema rosterd to plain_current; \
         grant select on all tables in schema rosterd to plain_current",
    )
    .await;
    let migrated = migrate(&as_role(&current, "plain_current")).await.unwrap();
    assert_eq!(migrated.applied, 0);

    execute(current.options(), "create role stranger").await;
    let fault = migrate(&as_role(&current, "stranger"))
        .await
        .unwrap_err()
        .fault();
    assert_eq!(fault.code, "schema_not_readable");

    let empty = TestDb::unmigrated().await;
    execute(empty.options(), "create role plain_empty").await;
    let fault = migrate(&as_role(&empty, "plain_empty"))
        .await
        .unwrap_err()
        .fault();
    assert_eq!(fault.code, "schema_not_current");
    assert!(fault.hint.contains("rosterd migrate"), "{fault:?}");
}

#[tokio::test]
async fn waiting_for_the_server_ends_when_told_and_does_not_wait_for_what_stays_wrong() {
    let dir = StateDir::new();
    let database = Database {
        // A port of the reserved range, where nothing listens.
        url: Some(rosterd::config::Secret::new(
            "postgres://nobody@127.0.0.1:1/none".to_owned(),
        )),
        ..embedded()
    };
    let server = Server::start(&database, dir.path()).await.unwrap();
    let stop = CancellationToken::new();
    let mut reports = 0;
    let outcome = wait_until_ready(&server.connect_options(), &stop, |error, _| {
        assert_eq!(error.fault().code, "io");
        reports += 1;
        if reports == 2 {
            stop.cancel();
        }
    })
    .await;
    assert!(matches!(outcome, Err(Error::Cancelled)));
    assert_eq!(reports, 2);

    let db = TestDb::new().await;
    let nowhere = db.options().clone().database("nowhere");
    let outcome = wait_until_ready(&nowhere, &CancellationToken::new(), |_, _| {}).await;
    assert_eq!(outcome.unwrap_err().fault().code, "SQLSTATE 3D000");
}
