//! The private Postgres of the bench: a database per run, and what is asked of it.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use rosterd::{
    config::{Database, database::Embedded},
    postgres::Server,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use super::{
    api::Truth,
    child::{self, Cost},
};

/// The server, started by the product's own code.
pub(crate) struct Postgres {
    server: Server,
    made: u32,
}

/// A database of its own.
#[derive(Debug, Clone)]
pub(crate) struct Fresh {
    pub(crate) name: String,
    /// For libpq and for rosterd.
    pub(crate) url: String,
}

impl Postgres {
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        // As root the server runs as another user, who must get in.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))?;
        let config = Database {
            url: None,
            schema: None,
            max_connections: 10,
            statement_timeout: std::time::Duration::from_secs(600),
            lock_timeout: std::time::Duration::from_secs(2),
            acquire_timeout: std::time::Duration::from_secs(10),
            embedded: Embedded::default(),
        };
        Ok(Self {
            server: Server::start(&config, folder).await?,
            made: 0,
        })
    }

    pub(crate) fn describe(&self) -> String {
        self.server.describe()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        Ok(self.server.stop().await?)
    }

    /// Drops the database before and makes an empty one, with all of the past written out, so
    /// that nobody pays for another's dirty pages.
    pub(crate) async fn fresh(&mut self) -> anyhow::Result<Fresh> {
        let mut connection = self.connect(None).await?;
        if self.made > 0 {
            let old = format!("drop database if exists bench_{} with (force)", self.made);
            execute(&mut connection, &old).await?;
        }
        self.made += 1;
        let name = format!("bench_{}", self.made);
        execute(&mut connection, &format!("create database {name}")).await?;
        execute(&mut connection, "checkpoint").await?;
        connection.close().await?;
        let options = self.server.connect_options();
        let host = options
            .get_socket()
            .map_or_else(|| PathBuf::from(options.get_host()), Clone::clone);
        let url = format!(
            "postgresql://{}@localhost/{name}?host={}&port={}",
            options.get_username(),
            host.display(),
            options.get_port()
        );
        Ok(Fresh { name, url })
    }

    async fn connect(&self, database: Option<&Fresh>) -> anyhow::Result<PgConnection> {
        let options = self.server.connect_options();
        let options = match database {
            Some(fresh) => options.database(&fresh.name),
            None => options,
        };
        options.connect().await.context("cannot connect")
    }

    /// Like [`Postgres::fresh`] between two runs on one database: the next finds a tidy table.
    pub(crate) async fn tidy(&self, fresh: &Fresh) -> anyhow::Result<()> {
        let mut connection = self.connect(Some(fresh)).await?;
        execute(&mut connection, "vacuum analyze").await?;
        execute(&mut connection, "checkpoint").await
    }

    pub(crate) async fn execute(&self, fresh: &Fresh, sql: &str) -> anyhow::Result<()> {
        execute(&mut self.connect(Some(fresh)).await?, sql).await
    }

    /// Position of the write-ahead log, in bytes.
    pub(crate) async fn wal(&self) -> anyhow::Result<u64> {
        let mut connection = self.connect(None).await?;
        let sql = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        let bytes: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        Ok(bytes.try_into()?)
    }

    /// Refuses a table that is not what the API has.
    pub(crate) async fn verify(
        &self,
        fresh: &Fresh,
        table: &str,
        truth: Truth,
    ) -> anyhow::Result<()> {
        let mut connection = self.connect(Some(fresh)).await?;
        let sql = format!(
            "select count(*), count(distinct id), sum(id)::bigint, sum(revision)::bigint from {table}"
        );
        let (count, distinct, ids, revisions): (i64, i64, i64, i64) =
            sqlx::query_as(AssertSqlSafe(sql))
                .fetch_one(&mut connection)
                .await?;
        let found = Truth {
            count,
            ids,
            revisions,
        };
        ensure!(
            found == truth && distinct == count,
            "{table} is not what the API has: {found:?}, {distinct} keys, against {truth:?}"
        );
        Ok(())
    }

    /// How many row versions the run before wrote: rows whose `_run_id` is the last run's.
    pub(crate) async fn rows_of_last_run(&self, fresh: &Fresh) -> anyhow::Result<i64> {
        let mut connection = self.connect(Some(fresh)).await?;
        let sql = "select count(*) from hr.employees \
                   where _run_id = (select max(run_id) from rosterd.runs)";
        Ok(sqlx::query_scalar(sql).fetch_one(&mut connection).await?)
    }

    /// Writes the rows of a loaded table to a file, and returns the statement that makes one like it.
    pub(crate) async fn dump(&self, fresh: &Fresh, file: &Path) -> anyhow::Result<String> {
        let command = format!(
            r"\copy (select * from hr.employees order by id) to {} with (format binary)",
            file.display()
        );
        psql(fresh, &[&command], file).await?;
        let mut connection = self.connect(Some(fresh)).await?;
        let sql = "select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' \
                   order by attnum) from pg_attribute \
                   where attrelid = 'hr.employees'::regclass and attnum > 0 and not attisdropped";
        let columns: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        Ok(format!(
            "create table employees ({columns}, primary key (id))"
        ))
    }

    /// The floor: what `psql` needs to copy the rows into a staging table and to merge them.
    pub(crate) async fn floor(
        &self,
        fresh: &Fresh,
        create: &str,
        file: &Path,
    ) -> anyhow::Result<Cost> {
        self.execute(fresh, create).await?;
        let copy = format!(r"\copy stage from {} with (format binary)", file.display());
        let commands = [
            "begin",
            "create temp table stage (like employees) on commit drop",
            &copy,
            "insert into employees select * from stage on conflict (id) do nothing",
            "commit",
        ];
        psql(fresh, &commands, file).await
    }

    /// Less than the floor: only the copy, straight into the table.
    pub(crate) async fn copy_only(
        &self,
        fresh: &Fresh,
        create: &str,
        file: &Path,
    ) -> anyhow::Result<Cost> {
        self.execute(fresh, create).await?;
        let copy = format!(
            r"\copy employees from {} with (format binary)",
            file.display()
        );
        psql(fresh, &[&copy], file).await
    }
}

async fn psql(fresh: &Fresh, commands: &[&str], file: &Path) -> anyhow::Result<Cost> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &fresh.url]);
    for command in commands {
        psql.args(["-c", command]);
    }
    child::run(&mut psql, &file.with_extension("log")).await
}

async fn execute(connection: &mut PgConnection, sql: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .with_context(|| sql.to_owned())?;
    Ok(())
}
