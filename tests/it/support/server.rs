//! A Postgres of the test's own, to be stopped, killed and misconfigured. The daemon sees it as
//! somebody else's server: it gets a role, a password and a port.

use std::{fs, net::TcpListener, process::Command, time::Duration};

use rosterd::{
    config::Database,
    postgres::{ConnectOptions, Server, probe},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgPoolOptions};

use super::db::{StateDir, embedded};

pub(crate) struct OwnServer {
    config: Database,
    port: u16,
    server: Option<Server>,
    // Dropped last: it removes the files.
    state_dir: StateDir,
}

impl OwnServer {
    /// Starts a server with an empty database `hr` that role `keeper` owns.
    pub(crate) async fn start(password: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut config = embedded();
        config.embedded.port = Some(port);
        let mut own = Self {
            config,
            port,
            server: None,
            state_dir: StateDir::new(),
        };
        own.start_again().await;
        let quoted = password.replace('\'', "''");
        own.execute(&format!(
            "set standard_conforming_strings = on; create role keeper login password '{quoted}'"
        ))
        .await;
        own.execute("create database hr owner keeper").await;
        own
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `database.url` of the daemon. The password goes in percent-encoded.
    pub(crate) fn url(&self, password: &str) -> String {
        let encoded: String = password.bytes().map(|b| format!("%{b:02X}")).collect();
        format!("postgres://keeper:{encoded}@127.0.0.1:{}/hr", self.port)
    }

    fn admin(&self) -> ConnectOptions {
        self.server.as_ref().unwrap().connect_options()
    }

    /// A pool of the superuser's on database `hr`.
    pub(crate) fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(2)
            .connect_lazy_with(self.admin().database("hr"))
    }

    /// Runs statements as superuser, one by one, outside a transaction.
    pub(crate) async fn execute(&self, statement: &str) {
        let mut connection = PgConnection::connect_with(&self.admin()).await.unwrap();
        for statement in statement.split(';') {
            sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
                .execute(&mut connection)
                .await
                .unwrap();
        }
        connection.close().await.unwrap();
    }

    /// Shuts the server down as `pg_ctl stop -m fast` does.
    pub(crate) async fn stop(&mut self) {
        self.server.take().unwrap().stop().await.unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        let server = Server::start(&self.config, self.state_dir.path()).await;
        self.server = Some(server.unwrap());
    }

    /// Ends the server as `pg_ctl stop -m immediate` does; it comes back after its recovery.
    pub(crate) async fn crash(&self) {
        let data = fs::read_dir(self.state_dir.path().join("postgres")).unwrap();
        let file = data
            .map(|entry| entry.unwrap().path().join("postmaster.pid"))
            .find(|file| file.exists());
        let text = fs::read_to_string(file.unwrap()).unwrap();
        let pid = text.lines().next().unwrap().to_owned();
        Command::new("kill").args(["-QUIT", &pid]).status().unwrap();
        while probe(&self.admin()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while probe(&self.admin()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
