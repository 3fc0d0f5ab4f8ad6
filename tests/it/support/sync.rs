//! Runs of one resource in this process, along the daemon's own path, without its schedule.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use rosterd::{
    clock,
    config::{self, Config},
    record::{self, ClaimOne, Mode, Trigger, Worker},
    sync::{self, Binary, Fleet, Gauge, Outcome, Start},
};
use sqlx::{AssertSqlSafe, postgres::PgRow};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::db::TestDb;

/// A database and a worker for it.
pub(crate) struct Bench {
    pub(crate) db: TestDb,
    worker: Worker,
    tracker: TaskTracker,
}

/// The program under test, for what runs in a process of its own.
fn binary() -> Binary {
    Binary::at(Path::new(env!("CARGO_BIN_EXE_rosterd")))
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self {
            db: TestDb::new().await,
            worker: Worker::new(Duration::from_secs(60), "test"),
            tracker: TaskTracker::new(),
        }
    }

    /// Runs the configuration's only resource, to the end of the run.
    pub(crate) async fn sync(&self, config: &str, start: Start) -> Outcome {
        self.sync_until(config, start, CancellationToken::new())
            .await
    }

    /// The same, asked to stop by a token.
    pub(crate) async fn sync_until(
        &self,
        config: &str,
        start: Start,
        stop: CancellationToken,
    ) -> Outcome {
        let config = config::from_str(config).unwrap_or_else(|problems| panic!("{problems}"));
        let resource = config.sources[0].resources[0].name.clone();
        self.run_until(Arc::new(config), &resource, start, stop)
            .await
    }

    /// Runs one resource of a configuration, to the end of the run.
    pub(crate) async fn run(&self, config: Arc<Config>, resource: &str, start: Start) -> Outcome {
        self.run_until(config, resource, start, CancellationToken::new())
            .await
    }

    async fn run_until(
        &self,
        config: Arc<Config>,
        resource: &str,
        start: Start,
        stop: CancellationToken,
    ) -> Outcome {
        let pool = self.db.pool();
        let registered = record::register(pool, &config, clock::now()).await.unwrap();
        let id = registered
            .iter()
            .find(|registered| registered.resource == resource)
            .unwrap_or_else(|| panic!("no resource {resource}"))
            .resource_id;
        let claimed = record::claim_one(
            pool,
            &self.worker,
            id,
            Trigger::Manual,
            match start {
                Start::GoOn => Mode::Incremental,
                Start::Anew | Start::AnewAllowingDeletes => Mode::Full,
            },
            "a test",
        );
        let ClaimOne::Claimed(claim) = claimed.await.unwrap() else {
            panic!("the resource is held");
        };
        let fleet = Fleet::new(config, None, pool, &self.worker, &binary()).unwrap();
        let context = fleet
            .context(&claim, pool, &self.worker, &self.tracker)
            .unwrap();
        let gauge = Arc::new(Gauge::default());
        Box::pin(sync::run(context, claim, start, gauge, stop)).await
    }

    /// Claims what is due at an instant, and runs it one after the other.
    pub(crate) async fn run_due(
        &self,
        config: &str,
        now: DateTime<Utc>,
    ) -> Vec<(record::Claim, Outcome)> {
        let config = config::from_str(config).unwrap_or_else(|problems| panic!("{problems}"));
        let pool = self.db.pool();
        let claims = record::claim_due(pool, &self.worker, &config, 8, now)
            .await
            .unwrap();
        let fleet = Fleet::new(Arc::new(config), None, pool, &self.worker, &binary()).unwrap();
        let mut outcomes = Vec::new();
        for claim in claims {
            let context = fleet
                .context(&claim, pool, &self.worker, &self.tracker)
                .unwrap();
            let gauge = Arc::new(Gauge::default());
            let run = sync::run(
                context,
                claim.clone(),
                Start::GoOn,
                gauge,
                CancellationToken::new(),
            );
            outcomes.push((claim, Box::pin(run).await));
        }
        outcomes
    }

    /// Makes the lease of a worker that was killed run out.
    pub(crate) async fn let_leases_run_out(&self) {
        self.db.let_leases_run_out().await;
    }

    pub(crate) async fn execute(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(self.db.pool())
            .await
            .unwrap();
    }

    /// The only column of a query's rows.
    pub(crate) async fn column<T>(&self, query: &str) -> Vec<T>
    where
        T: Send + Unpin,
        (T,): for<'r> sqlx::FromRow<'r, PgRow>,
    {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_all(self.db.pool())
            .await
            .unwrap()
    }

    /// The only value of a query.
    pub(crate) async fn value<T>(&self, query: &str) -> T
    where
        T: Send + Unpin,
        (T,): for<'r> sqlx::FromRow<'r, PgRow>,
    {
        self.column(query).await.pop().unwrap()
    }
}
