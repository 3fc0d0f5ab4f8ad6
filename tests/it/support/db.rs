//! One private cluster for this process, started by the product's own code on first use; a database
//! of its own for each test, copied from a migrated template.
//!
//! A test binary ends without unwinding its statics, and may be killed. So a small shell process
//! watches over each folder: when our end of its pipe closes, for whatever reason, it stops the
//! server there and removes the folder.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rosterd::{
    config::{Database, Secret, database::Embedded},
    postgres::{ConnectOptions, Pool, Server, migrate, pool},
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, PgConnection};

const TEMPLATE: &str = "rosterd_template";

/// A folder for a private server, watched over so that no server outlives the tests.
pub(crate) struct StateDir {
    path: PathBuf,
    watchdog: Child,
    pipe: Option<ChildStdin>,
}

impl StateDir {
    pub(crate) fn new() -> Self {
        let path = tempfile::Builder::new()
            .prefix("rosterd-test-")
            .tempdir()
            .unwrap()
            .keep();
        // As root the server runs as another user, who must get in.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711)).unwrap();
        Self::watch(path)
    }

    /// Watches over a folder that exists already.
    pub(crate) fn watch(path: PathBuf) -> Self {
        let mut watchdog = Command::new("sh")
            .arg("-c")
            .arg(
                "read -r _; \
                 for f in \"$0\"/postgres/*/postmaster.pid; do \
                   [ -f \"$f\" ] && kill -QUIT \"$(head -n 1 \"$f\")\"; \
                   while [ -f \"$f\" ] && kill -0 \"$(head -n 1 \"$f\")\"; do sleep 0.05; done; \
                 done 2>/dev/null; \
                 rm -rf \"$0\"",
            )
            .arg(&path)
            // Ctrl-C ends the tests, and must not end their watchdog.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pipe = watchdog.stdin.take();
        Self {
            path,
            watchdog,
            pipe,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.watchdog.wait().ok();
    }
}

/// Section `database` without a URL, with time limits fit for tests.
pub(crate) fn embedded() -> Database {
    Database {
        url: None,
        schema: None,
        max_connections: 5,
        statement_timeout: Duration::from_secs(60),
        lock_timeout: Duration::from_secs(2),
        acquire_timeout: Duration::from_secs(10),
        embedded: Embedded::default(),
    }
}

/// A migrated, empty database, dropped when this value is.
pub(crate) struct TestDb {
    name: String,
    options: ConnectOptions,
    pool: Pool,
}

impl TestDb {
    /// Copies the migrated template.
    pub(crate) async fn new() -> Self {
        Self::copy(TEMPLATE).await
    }

    /// A database in which nobody migrated anything.
    pub(crate) async fn unmigrated() -> Self {
        Self::copy("template1").await
    }

    async fn copy(template: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect_with(&CLUSTER.admin).await.unwrap();
        let create = format!("create database {name} template {template}");
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut admin)
            .await
            .unwrap();
        admin.close().await.unwrap();
        let options = CLUSTER.admin.clone().database(&name);
        Self {
            pool: pool(options.clone(), &embedded()),
            name,
            options,
        }
    }

    /// A copy of this database. Nobody may be connected to it any more, so its pool is closed.
    #[cfg(feature = "failpoints")]
    pub(crate) async fn fork(&self) -> Self {
        self.pool.close().await;
        Self::copy(&self.name).await
    }

    /// Ends the leases of runs whose processes are gone.
    pub(crate) async fn let_leases_run_out(&self) {
        sqlx::query("update rosterd.leases set expires_at = clock_timestamp() - interval '1 s' where run_id is not null")
            .execute(self.pool())
            .await
            .unwrap();
    }

    /// The product's own pool.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// For `database.url`, also of another process.
    pub(crate) fn url(&self) -> String {
        self.options.to_url_lossy().to_string()
    }

    /// All that `pg_dump` writes of this database.
    pub(crate) async fn dump(&self) -> String {
        let folder: String =
            sqlx::query_scalar("select setting from pg_config() where name = 'BINDIR'")
                .fetch_one(self.pool())
                .await
                .unwrap();
        let url = self.url();
        let (start, query) = url.split_once('?').unwrap_or((&url, ""));
        // Without what only the driver understands.
        let known = query
            .split('&')
            .filter(|part| !part.starts_with("statement-cache"));
        let url = format!("{start}?{}", known.collect::<Vec<_>>().join("&"));
        let output = Command::new(format!("{folder}/pg_dump"))
            .arg(format!("--dbname={url}"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Section `database` that names this database.
    pub(crate) fn config(&self) -> Database {
        Database {
            url: Some(Secret::new(self.url())),
            ..embedded()
        }
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let drop_it = format!("drop database if exists {} with (force)", self.name);
        CLUSTER.runtime.spawn(async move {
            if let Ok(mut admin) = PgConnection::connect_with(&CLUSTER.admin).await {
                sqlx::raw_sql(AssertSqlSafe(drop_it))
                    .execute(&mut admin)
                    .await
                    .ok();
            }
        });
    }
}

struct Cluster {
    admin: ConnectOptions,
    /// Outlives every test's own runtime; the server's supervisor lives on it.
    runtime: tokio::runtime::Runtime,
    _server: Server,
    _state_dir: StateDir,
}

static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    // A test's own runtime is busy with asking for us.
    std::thread::spawn(start_cluster).join().unwrap()
});

fn start_cluster() -> Cluster {
    let state_dir = StateDir::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let database = Database {
        // Every test has a pool, and they run side by side.
        max_connections: 100,
        ..embedded()
    };
    let (server, admin) = runtime.block_on(async {
        let server = Server::start(&database, state_dir.path()).await.unwrap();
        let admin = server.connect_options();
        let mut connection = PgConnection::connect_with(&admin).await.unwrap();
        for statement in [
            "alter system set fsync = off",
            "alter system set full_page_writes = off",
            "alter system set synchronous_commit = off",
            "select pg_reload_conf()",
            "create database rosterd_template",
        ] {
            sqlx::raw_sql(statement)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        migrate(&admin.clone().database(TEMPLATE)).await.unwrap();
        sqlx::raw_sql(
            "alter database rosterd_template with is_template true allow_connections false",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
        (server, admin)
    });
    Cluster {
        admin,
        runtime,
        _server: server,
        _state_dir: state_dir,
    }
}
