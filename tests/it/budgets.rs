//! Several processes with one credential: together they keep to what the API allows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rosterd::{
    config::{self, Config},
    fetch::{Api, Bindings, Error, Tally, WalkPlan},
    record::Worker,
    sync::fleet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{
    api::{self, Fault},
    db::TestDb,
};

fn configuration(url: &str, limits: &str) -> Config {
    let text = format!(
        "sources: {{hr: {{client: {{base_url: '{url}', {limits}}}, resources: [{{name: employees, write_disposition: append, endpoint: {{path: /v1/employees, data_selector: data, paginator: {{type: offset, limit: 10}}}}}}]}}}}"
    );
    config::from_str(&text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn api_of(config: &Config, pool: &sqlx::PgPool, worker: &Worker) -> Api {
    fleet::api(
        &config.sources[0],
        config,
        pool,
        worker,
        &TaskTracker::new(),
    )
    .unwrap()
}

/// The client of another process.
fn replica(config: &Config, db: &TestDb) -> Arc<Api> {
    let worker = Worker::new(Duration::from_secs(3), "test");
    Arc::new(api_of(config, db.pool(), &worker))
}

fn plan(config: &Config) -> WalkPlan {
    WalkPlan {
        bindings: Bindings::default(),
        endpoint: config.sources[0].resources[0].endpoint.clone(),
        start_value: None,
        end_value: None,
        key: Vec::new(),
        resume: None,
        first_page: 0,
        max_pages: 1000,
    }
}

async fn walk(replica: &Arc<Api>, config: &Config) -> (usize, Tally) {
    let mut walk = replica.walk(plan(config), CancellationToken::new());
    let mut records = 0;
    while let Some(page) = walk.next().await.unwrap() {
        records += page.records.len();
    }
    assert!(walk.ending().unwrap().proven.is_some());
    (records, walk.tally())
}

#[tokio::test]
async fn replicas_together_stay_within_every_window() {
    let db = TestDb::new().await;
    let api = api::Api::start().await;
    api.collection("employees").fill(200);
    let limits = "limits: [{requests: 8, per: 500ms}, {requests: 30, per: 2s}], max_in_flight: 5";
    let config = configuration(&api.url(), limits);
    let mut walks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (replica, config) = (replica(&config, &db), config.clone());
        walks.spawn(async move { walk(&replica, &config).await });
    }
    for (records, _) in walks.join_all().await {
        assert_eq!(records, 200);
    }
    assert_eq!(api.requests().len(), 60);
    assert!(api.most_in(Duration::from_millis(500)) <= 8);
    assert!(api.most_in(Duration::from_secs(2)) <= 30);
    let reported: (i64, f64) = sqlx::query_as(
        "select burst, requests_per_s::float8 from rosterd.api_budget where credential_key = 'hr/default'",
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    assert_eq!(reported.0, 5);
    assert!((14.9..=15.0).contains(&reported.1), "{reported:?}");
}

#[tokio::test]
async fn one_replica_has_it_all_at_few_transactions() {
    let db = TestDb::new().await;
    let api = api::Api::start().await;
    api.collection("employees").fill(2000);
    let config = configuration(&api.url(), "limits: [{requests: 1000, per: 1m}]");
    let begun = Instant::now();
    let (records, tally) = walk(&replica(&config, &db), &config).await;
    assert_eq!(records, 2000);
    assert_eq!(tally.requests, 200);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(tally.wait_rate_ms < 2000, "{tally:?}");
}

#[tokio::test]
async fn what_a_dead_process_held_counts_until_its_window_is_over() {
    let db = TestDb::new().await;
    let api = api::Api::start().await;
    api.collection("employees").fill(5);
    let config = configuration(&api.url(), "limits: [{requests: 10, per: 200ms}]");
    sqlx::raw_sql(
        "insert into rosterd.api_budgets (credential_key, emission) values ('hr/default', '0 s');
         insert into rosterd.api_budget_shares values ('hr/default', 'dead', '{4,10}', '{4,10}', clock_timestamp() + interval '500 ms')",
    )
    .execute(db.pool())
    .await
    .unwrap();
    let begun = Instant::now();
    walk(&replica(&config, &db), &config).await;
    // What is left of the share, the window, and a second for what was on its way.
    assert!(
        begun.elapsed() > Duration::from_millis(1600),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn without_the_database_nothing_is_sent_beyond_the_share() {
    let db = TestDb::new().await;
    let api = api::Api::start().await;
    api.collection("employees").fill(50_000);
    let config = configuration(&api.url(), "max_in_flight: 2");
    let options = db.pool().connect_options();
    let pool = sqlx::PgPool::connect_with((*options).clone())
        .await
        .unwrap();
    let worker = Worker::new(Duration::from_secs(1), "test");
    let replica = Arc::new(api_of(&config, &pool, &worker));
    let cancel = CancellationToken::new();
    let mut walk = replica.walk(plan(&config), cancel.clone());
    walk.next().await.unwrap();
    pool.close().await;
    // Goes on while the share lasts, half a second, and then stands still until it is told to stop.
    let still = async {
        loop {
            let asked = api.requests().len();
            tokio::time::timeout(Duration::from_millis(400), async {
                while walk.next().await.unwrap().is_some() {}
            })
            .await
            .unwrap_err();
            if api.requests().len() == asked {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), still)
        .await
        .unwrap();
    cancel.cancel();
    assert_eq!(walk.next().await.unwrap_err(), Error::Cancelled);
}

#[tokio::test]
async fn a_wait_that_one_is_asked_for_holds_for_all() {
    let db = TestDb::new().await;
    let api = api::Api::start().await;
    api.collection("employees").fill(5);
    api.page(0).goes(Fault::RetryAfter(429, "2".into())).once();
    let config = configuration(&api.url(), "max_in_flight: 4");
    let (first, second) = (replica(&config, &db), replica(&config, &db));
    let one = TaskTracker::new().spawn({
        let config = config.clone();
        async move { walk(&first, &config).await }
    });
    let begun = Instant::now();
    loop {
        let blocked: Option<bool> =
            sqlx::query_scalar("select blocked_until > clock_timestamp() from rosterd.api_budgets")
                .fetch_optional(db.pool())
                .await
                .unwrap()
                .flatten();
        if blocked == Some(true) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    walk(&second, &config).await;
    one.await.unwrap();
    let times: Vec<Instant> = api.requests().iter().map(|seen| seen.at).collect();
    assert_eq!(times.len(), 3);
    assert!(
        times[1] - times[0] >= Duration::from_millis(1900),
        "{:?}",
        times[1] - times[0]
    );
}
