//! The real binary, killed as by `kill -9` at every named point of a run, and started again.
//!
//! Points that a run comes by more than once are met the first, the second and the last time: over all ways
//! together, or with `ROSTERD_CRASH_ALL=1` in each way, which takes three times as long.

use std::{collections::BTreeMap, sync::Arc};

use rosterd::{
    clock, config,
    demo::{Api, Mutation, Options},
    failpoint::POINTS,
    record,
};
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::{
    daemon::Setup,
    db::TestDb,
    timeline::{self, eventually},
    truth,
};

/// How a run meets its table.
#[derive(Debug, Clone, Copy)]
struct Way {
    disposition: &'static str,
    incremental: bool,
    /// The table is filled already and the API has moved on.
    again: bool,
}

const WAYS: [Way; 13] = [
    way("merge", false, false),
    way("merge", true, false),
    way("merge", false, true),
    way("merge", true, true),
    way("append", false, false),
    way("append", true, true),
    way("replace", false, false),
    way("replace", false, true),
    way(SETS, false, true),
    way(SETS, true, true),
    way("{disposition: merge, strategy: insert-only}", false, false),
    way(VERSIONS, false, true),
    way(VERSIONS, true, true),
];

/// Sets of rows that replace those that are there.
const SETS: &str = "{disposition: merge, strategy: delete-insert, merge_key: id}";
const VERSIONS: &str = "{disposition: merge, strategy: scd2}";

const fn way(disposition: &'static str, incremental: bool, again: bool) -> Way {
    Way {
        disposition,
        incremental,
        again,
    }
}

impl Way {
    /// Six pages and three commits per walk, so that first, second and last differ.
    fn config(self, api: &str, database: &str) -> String {
        let incremental = if self.incremental {
            "\n          incremental: {cursor_path: updated_at, start_param: updated_since, initial_value: \"2000-01-01T00:00:00Z\"}"
        } else {
            ""
        };
        format!(
            "database: {{url: \"{database}\", max_connections: 3}}
daemon: {{admin: {{listen: null}}, lease: 3s, poll: 1s}}
sources:
  hr:
    client:
      base_url: {api}
      auth: {{type: api_key, name: api_key, api_key: demo-key, location: query}}
    resources:
      - name: employees
        primary_key: id
        write_disposition: {}
        schedule: {{every: 1h, jitter: 0s}}
        batch: {{rows: 80}}
        endpoint:
          path: /v1/employees
          data_selector: data
          paginator: {{type: offset, limit: 40}}{incremental}
",
            self.disposition
        )
    }
}

/// An API and a database in the state before the run that is to be killed.
struct Scene {
    way: Way,
    api: Api,
    before: TestDb,
    cursor: Option<String>,
}

impl Scene {
    async fn new(way: Way) -> Self {
        let options = Options {
            employees: 240,
            ..Options::default()
        };
        let api = Api::start(options, CancellationToken::new()).await.unwrap();
        let before = TestDb::new().await;
        let config = way.config(&api.base_url(), &before.url());
        let parsed = config::from_str(&config).unwrap();
        record::register(before.pool(), &parsed, clock::now())
            .await
            .unwrap();
        if way.again {
            let mut first = Setup::command(config, &["sync"]).start();
            let status = tokio::task::spawn_blocking(move || (first.wait(), first.stderr()))
                .await
                .unwrap();
            assert!(status.0.success(), "{}", status.1);
            api.mutate("employees", Mutation::Change(150));
            api.mutate("employees", Mutation::Add(40));
            api.mutate("employees", Mutation::End(30));
        }
        let cursor = cursor(&before).await;
        timeline::make_due(before.pool()).await;
        Self {
            way,
            api,
            before,
            cursor,
        }
    }

    fn config(&self, db: &TestDb) -> String {
        self.way.config(&self.api.base_url(), &db.url())
    }

    /// How often an undisturbed run comes by each point.
    async fn count(&self) -> BTreeMap<&'static str, usize> {
        let db = self.before.fork().await;
        let mut daemon = Setup::run(self.config(&db))
            .with_env("ROSTERD_LOG", "info,rosterd::failpoint=trace")
            .start();
        let after = baseline(&db).await;
        wait_until_settled(&db, after, "an undisturbed run").await;
        eventually("the run's last line", || {
            let ended = daemon.stderr().contains("run ended");
            async move { ended.then_some(()) }
        })
        .await;
        daemon.signal(rustix::process::Signal::TERM);
        tokio::task::spawn_blocking(move || {
            assert!(daemon.wait().success());
            let log = daemon.stderr();
            POINTS
                .iter()
                .map(|point| (*point, log.matches(&format!("\"{point}\"")).count()))
                .collect()
        })
        .await
        .unwrap()
    }

    /// Kills a run at the `k`-th coming by of a point, starts again, and looks whether all is well.
    async fn crash(&self, db: TestDb, point: &str, k: usize) {
        let story = format!("{:?}, killed at {point}:{k}", self.way);
        let after = baseline(&db).await;
        let mut killed = Setup::run(self.config(&db))
            .with_env("ROSTERD_FAILPOINT", &format!("{point}:{k}"))
            .start();
        eventually(&story, || {
            let ended = killed.exited();
            async move { ended }
        })
        .await;
        assert!(
            killed
                .exited()
                .is_some_and(|status| status.code().is_none()),
            "{story}"
        );
        self.expect_cursor_behind_rows(&db, &story).await;
        let open: Vec<i64> = timeline::runs(db.pool(), after)
            .await
            .iter()
            .filter(|run| run.status == "running")
            .map(|run| run.run_id)
            .collect();
        assert!(open.len() <= 1, "{story}");
        // As if the lease's time had passed: its owner is dead for sure.
        sqlx::query("update rosterd.leases set expires_at = clock_timestamp() - interval '1 s' where run_id is not null")
            .execute(db.pool())
            .await
            .unwrap();

        let mut second = Setup::run(self.config(&db)).start();
        eventually(&story, || {
            let ready = second.stderr().contains("\"ready\"");
            async move { ready.then_some(()) }
        })
        .await;
        wait_until_settled(&db, after, &story).await;
        second.signal(rustix::process::Signal::TERM);
        let (status, log) = tokio::task::spawn_blocking(move || (second.wait(), second.stderr()))
            .await
            .unwrap();
        assert!(status.success(), "{story}: {log}");

        let runs = timeline::runs(db.pool(), after).await;
        for run in &runs {
            let expected = if open.contains(&run.run_id) {
                "interrupted"
            } else {
                "succeeded"
            };
            assert_eq!(run.status, expected, "{story}: {runs:#?}");
        }
        self.expect_truth(&db, after, &story).await;
        self.expect_cursor_behind_rows(&db, &story).await;
        let walks: i64 =
            sqlx::query_scalar("select count(*) from pg_class where relname like '\\_rosterd\\_%'")
                .fetch_one(db.pool())
                .await
                .unwrap();
        assert_eq!(walks, 0, "{story}: a table of the walk is left");
    }

    async fn expect_truth(&self, db: &TestDb, after: i64, story: &str) {
        let mut truth = self.api.snapshot("employees");
        let filter = if self.way.disposition == "append" {
            if let Some(cursor) = &self.cursor {
                let since = truth::instant(cursor).unwrap();
                truth.retain(|record| updated(record) >= since);
            }
            format!("_run_id > {after}")
        } else if self.way.disposition == VERSIONS {
            self.expect_one_chain_of_versions(db, story).await;
            "_valid_to is null".to_owned()
        } else {
            "true".to_owned()
        };
        let rows = truth::rows(db.pool(), "hr.employees", &filter).await;
        let wrong = truth::differences(&rows, &truth);
        assert_eq!(wrong, Vec::<String>::new(), "{story}");
    }

    /// A version ends when the next one begins, and each stands there once.
    async fn expect_one_chain_of_versions(&self, db: &TestDb, story: &str) {
        let broken: i64 = sqlx::query_scalar(
            "select count(*) from (select id, revision, _valid_to, lead(_valid_from) over w as next,
                 lag(revision) over w as before from hr.employees
                 window w as (partition by id order by _valid_from)) x
             where next is distinct from _valid_to or before >= revision",
        )
        .fetch_one(db.pool())
        .await
        .unwrap();
        assert_eq!(broken, 0, "{story}: versions do not join");
    }

    /// No record up to the cursor is missing from the table or older there.
    async fn expect_cursor_behind_rows(&self, db: &TestDb, story: &str) {
        let Some(cursor) = cursor(db).await else {
            return;
        };
        let cursor = truth::instant(&cursor).unwrap();
        let mut stored: BTreeMap<String, i64> = BTreeMap::new();
        for row in truth::rows(db.pool(), "hr.employees", "true").await {
            let revision = row["revision"].as_i64().unwrap();
            let newest = stored.entry(row["id"].to_string()).or_default();
            *newest = revision.max(*newest);
        }
        for record in self.api.snapshot("employees") {
            let id = record["id"].to_string();
            if updated(&record) <= cursor {
                assert_eq!(
                    stored.get(&id).copied(),
                    record["revision"].as_i64(),
                    "{story}: the cursor is ahead of {id}"
                );
            }
        }
    }
}

fn updated(record: &Value) -> chrono::DateTime<chrono::Utc> {
    truth::instant(record["updated_at"].as_str().unwrap()).unwrap()
}

async fn cursor(db: &TestDb) -> Option<String> {
    sqlx::query_scalar("select cursor #>> '{}' from rosterd.cursors where cursor is not null")
        .fetch_optional(db.pool())
        .await
        .unwrap()
}

async fn baseline(db: &TestDb) -> i64 {
    timeline::newest(db.pool()).await
}

/// Until a run has succeeded and nothing is open, due or to be resumed.
async fn wait_until_settled(db: &TestDb, after: i64, story: &str) {
    eventually(story, || async {
        sqlx::query_scalar::<_, bool>(
            "select exists (select from rosterd.runs where run_id > $1 and status = 'succeeded')
                and not exists (select from rosterd.runs where status in ('queued', 'running'))
                and not exists (select from rosterd.leases where run_id is not null or resume_of is not null)
                and not exists (select from rosterd.resources where next_run_at < clock_timestamp())",
        )
        .bind(after)
        .fetch_one(db.pool())
        .await
        .unwrap()
        .then_some(())
    })
    .await;
}

/// Daemons at work at the same time.
const SIDE_BY_SIDE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_killed_at_any_point_is_made_good_by_the_next_start() {
    let slots = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut cases = JoinSet::new();
    let all = std::env::vars().any(|(name, _)| name == "ROSTERD_CRASH_ALL");
    for (turn, way) in WAYS.into_iter().enumerate() {
        let scene = Arc::new(Scene::new(way).await);
        let counts = scene.count().await;
        for (place, (point, count)) in counts.into_iter().enumerate() {
            assert!(count > 0, "{way:?} never comes by {point}");
            let mut hits = vec![1, 2, count];
            hits.retain(|k| *k <= count);
            hits.dedup();
            if !all {
                hits = vec![hits[(turn + place) % hits.len()]];
            }
            for k in hits {
                let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
                let db = scene.before.fork().await;
                let scene = Arc::clone(&scene);
                cases.spawn(async move {
                    scene.crash(db, point, k).await;
                    drop(slot);
                });
            }
        }
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}
