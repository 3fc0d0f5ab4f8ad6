//! The configuration that the program was made for, for a while, against an API that changes and fails.
//!
//! `ROSTERD_SOAK_SECONDS=600 cargo test --test it soak::` for the long one.

use std::{collections::BTreeSet, env, time::Duration};

use rosterd::demo::{Api, Mutation, Options};
use tokio_util::sync::CancellationToken;

use crate::support::{
    daemon::Setup,
    db::TestDb,
    timeline::{self, eventually},
    truth,
};

/// What the API allows. The daemon's own second window is smaller, so that both bind.
const PER_WINDOW: u32 = 60;
const WINDOW: Duration = Duration::from_secs(5);
const PER_SECOND: u32 = 20;

const COLLECTIONS: [&str; 3] = ["employees", "absences", "timesheets"];

fn config(api: &str, database: &str) -> String {
    let incremental = "incremental: {cursor_path: updated_at, start_param: updated_since, initial_value: \"2000-01-01T00:00:00Z\", lag: 2s}";
    format!(
        "database: {{url: \"{database}\"}}
daemon: {{admin: {{listen: null}}, lease: 10s, poll: 1s}}
sources:
  hr:
    client:
      base_url: {api}
      auth: {{type: api_key, name: api_key, api_key: soak-key-7f3a, location: query}}
      limits:
        - {{requests: {PER_WINDOW}, per: {}s}}
        - {{requests: {PER_SECOND}, per: 1s}}
      retry: {{max_retries: 3, backoff: 1s, factor: 2, statuses: [429, 500, 502, 503, 504]}}
    resource_defaults:
      primary_key: id
      write_disposition: merge
      schedule: {{every: 2s, jitter: 0s}}
      endpoint: {{data_selector: data, paginator: {{type: offset, limit: 100}}}}
    resources:
      - name: employees
        endpoint: /v1/employees
      - name: absences
        endpoint: {{path: /v1/absences, {incremental}}}
      - name: timesheets
        endpoint: {{path: /v1/timesheets, {incremental}}}
",
        WINDOW.as_secs()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_stay_equal_to_a_changing_and_failing_api_and_the_limit_is_never_passed() {
    let seconds = env::vars()
        .find(|(name, _)| name == "ROSTERD_SOAK_SECONDS")
        .map_or(15, |(_, value)| value.parse().unwrap());
    let api = Api::start(
        Options {
            employees: 500,
            churn: Some(Duration::from_millis(50)),
            fail_fraction: 0.05,
            rate_limit: Some((PER_WINDOW, WINDOW)),
            key: "soak-key-7f3a".to_owned(),
            ..Options::default()
        },
        CancellationToken::new(),
    )
    .await
    .unwrap();
    let db = TestDb::new().await;
    let mut daemon = Setup::run(config(&api.base_url(), &db.url())).start();

    tokio::time::sleep(Duration::from_secs(seconds)).await;
    api.stop_churn();
    api.set_fail_fraction(0.0);
    // A last change, so that the last runs have something to bring.
    for collection in COLLECTIONS {
        api.mutate(collection, Mutation::Change(3));
    }
    let before = timeline::newest(db.pool()).await;
    for collection in COLLECTIONS {
        eventually(&format!("a last run of {collection}"), || async {
            timeline::runs(db.pool(), before)
                .await
                .iter()
                .any(|run| run.resource == collection && run.status == "succeeded")
                .then_some(())
        })
        .await;
    }
    daemon.signal(rustix::process::Signal::TERM);
    let (status, log) = tokio::task::spawn_blocking(move || (daemon.wait(), daemon.stderr()))
        .await
        .unwrap();
    assert!(status.success(), "{log}");

    for collection in COLLECTIONS {
        let rows = truth::rows(db.pool(), &format!("hr.{collection}"), "true").await;
        let wrong = truth::differences(&rows, &api.snapshot(collection));
        assert_eq!(wrong, Vec::<String>::new(), "{collection}");
    }
    let stats = api.stats();
    for peak in &stats.peaks {
        let most = match peak.window.as_secs() {
            1 => PER_SECOND,
            5 => PER_WINDOW,
            _ => continue,
        };
        assert!(peak.requests <= most as usize, "{peak:?}");
    }
    assert_eq!(stats.keys, BTreeSet::from(["soak-key-7f3a".to_owned()]));
    assert!(!log.contains("soak-key-7f3a"), "the key is in the log");

    let runs = timeline::runs(db.pool(), 0).await;
    let mut by_status = std::collections::BTreeMap::<_, usize>::new();
    for run in &runs {
        *by_status
            .entry((run.status.as_str(), run.error_code.as_deref()))
            .or_default() += 1;
        match run.status.as_str() {
            "succeeded" => {}
            "skipped" => assert_eq!(run.reason.as_deref(), Some("overlap"), "{run:?}"),
            "partial" | "failed" => assert_eq!(run.retryable, Some(true), "{run:?}"),
            // The daemon was stopped.
            "interrupted" => assert!(run.run_id > before, "{run:?}"),
            other => panic!("{other}: {run:?}"),
        }
    }
    let doubts = log.lines().filter(|line| line.contains("did not prove"));
    println!(
        "{seconds} s: {by_status:?}\n{stats:#?}\n{}",
        doubts.take(20).collect::<Vec<_>>().join("\n")
    );
}
