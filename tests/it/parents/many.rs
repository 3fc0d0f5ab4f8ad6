//! Many parents in one answer: they become units a part at a time, and memory does not grow with them.
//!
//! `ROSTERD_PARENTS=1000000 cargo test --test it parents::many` for a million.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use rosterd::{record::Status, sync::Start};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::config;
use crate::support::{
    daemon::Setup,
    db::TestDb,
    site::{Asked, Reply, Site},
    sync::Bench,
    timeline::{self, eventually},
};

fn people(count: usize) -> Reply {
    let people: Vec<Value> = (1..=count).map(|id| json!({"id": id})).collect();
    json!({"data": people}).into()
}

fn child(asked: &Asked) -> Reply {
    let id: usize = asked
        .param("ids")
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    json!({"data": [{"id": id}]}).into()
}

fn resources(batch: usize) -> String {
    format!(
        "
      - {{name: people, selected: false}}
      - name: badges
        write_disposition: append
        parent: {{batch: {batch}}}
        endpoint: {{path: badges, params: {{ids: '{{resources.people.id}}'}}}}
"
    )
}

/// The same with answers that are all.
fn in_one(config: &str) -> String {
    config.replace("{type: offset, limit: 2}", "single_page")
}

#[tokio::test]
async fn a_run_that_is_cut_far_into_one_page_of_parents_goes_on_there() {
    for (stop_at, batch) in [(501, 1), (690, 1), (210, 3)] {
        let (count, token) = (AtomicUsize::new(0), CancellationToken::new());
        let stop = token.clone();
        let site = Site::start(move |asked| match asked.path.as_str() {
            "/people" => people(720),
            _ => {
                if count.fetch_add(1, SeqCst) + 1 == stop_at {
                    stop.cancel();
                }
                child(asked)
            }
        })
        .await;
        let config = in_one(&config(&site, &resources(batch)));
        let bench = Bench::new().await;
        let outcome = bench.sync_until(&config, Start::GoOn, token).await;
        assert_eq!(outcome.status, Status::Interrupted, "{outcome:?}");
        site.take();
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        let rows: Vec<i64> = bench.column("select id from hr.badges order by id").await;
        let expected: Vec<i64> = (1..=720).step_by(batch).collect();
        assert_eq!(rows, expected, "cut at {stop_at}");
        let again = site.take().iter().filter(|a| a.contains("/badges")).count();
        assert!(again <= 720 / batch - stop_at + 20, "{stop_at}: {again}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_the_parents() {
    let many = env::vars()
        .find(|(name, _)| name == "ROSTERD_PARENTS")
        .map_or(3_000, |(_, value)| value.parse().unwrap());
    // So many in a request that there are no more than a hundred thousand.
    let batch = (many / 100_000).max(1);
    let mut peaks = Vec::new();
    for count in [300, many] {
        let asked_for = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked_for);
        let site = Site::start(move |asked| {
            counted.fetch_add(1, SeqCst);
            match asked.path.as_str() {
                "/people" => people(count),
                _ => child(asked),
            }
        })
        .await;
        let db = TestDb::new().await;
        let text = in_one(&config(&site, &resources(batch))).replace(
            "primary_key: id",
            "primary_key: id\n      schedule: {every: 12h, jitter: 0s}",
        );
        let config = format!(
            "database: {{url: '{}'}}\ndaemon: {{admin: {{listen: null}}, poll: 1s}}\n{text}",
            db.url()
        );
        let mut daemon = Setup::run(config).start();
        daemon.wait_until_ready();
        timeline::make_due(db.pool()).await;
        loop {
            // A run of a million takes its time; each wait is for the next sign of it.
            let before = asked_for.load(SeqCst);
            let over = eventually("a request, or the end", || async {
                let runs = timeline::runs(db.pool(), 0).await;
                let over = runs.iter().any(|run| run.finished_at.is_some());
                (over || asked_for.load(SeqCst) > before).then_some(over)
            })
            .await;
            if over {
                break;
            }
        }
        let runs = timeline::runs(db.pool(), 0).await;
        assert_eq!(runs[0].status, "succeeded", "{runs:?}");
        assert_eq!(
            runs[0].records_read,
            i64::try_from(count.div_ceil(batch)).unwrap()
        );
        peaks.push(daemon.peak_memory());
    }
    // The answer with the parents, in its raw form and as it was read, and 17 bytes for each of them, so
    // that none is asked for twice, twice that while the set grows.
    let answer = many * 13 * 4 + many * 17 * 3;
    let most = peaks[0] + 32 + (answer as u64 >> 20);
    println!(
        "{many} parents: {} MiB, 300 parents: {} MiB",
        peaks[1], peaks[0]
    );
    assert!(peaks[1] <= most, "{peaks:?} MiB, expected at most {most}");
}
