//! Parents of parents: what fails in the middle, and runs that end in the middle of them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use rosterd::{record::Status, sync::Start};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{config, page};
use crate::support::{
    site::{Asked, Reply, Site},
    sync::Bench,
};

/// Three firms, of which the second has no site; three sites each, two teams each but for site 12.
const TEAMS: [i64; 10] = [111, 112, 131, 132, 311, 312, 321, 322, 331, 332];

fn records(ids: impl Iterator<Item = i64>) -> Vec<Value> {
    ids.map(|id| json!({"id": id, "at": "2024-01-01T00:00:00Z"}))
        .collect()
}

/// Pages of two; teams come one a page.
fn answer(asked: &Asked) -> Reply {
    let number = |at: usize| asked.segments()[at].parse::<i64>().unwrap();
    match asked.segments().len() {
        1 => page(asked, &records(1..=3)),
        3 => match number(1) {
            2 => page(asked, &[]),
            firm => page(asked, &records((1..=3).map(|n| firm * 10 + n))),
        },
        _ => {
            let site = number(3);
            let teams = TEAMS.into_iter().filter(|team| team / 10 == site);
            page(asked, &records(teams))
        }
    }
}

/// Teams of sites of firms, one commit for each page of teams.
fn teams(site: &Site, more: &str, incremental: &str) -> String {
    config(
        site,
        &format!(
            "
      - {{name: firms, selected: false}}
      - {{name: sites, selected: false, endpoint: 'firms/{{resources.firms.id}}/sites'}}
      - name: teams
        batch: {{rows: 1}}
        {more}
        endpoint:
          path: firms/{{resources.firms.id}}/sites/{{resources.sites.id}}/teams
          paginator: {{type: offset, limit: 1}}
          {incremental}
"
        ),
    )
}

async fn rows(bench: &Bench) -> Vec<i64> {
    bench.column("select id from hr.teams order by id").await
}

#[tokio::test]
async fn what_fails_at_any_level_costs_what_is_below_it_and_comes_with_the_next_run() {
    // What fails, which teams that costs, and how many walks for a firm or a site there were.
    for (failing, lost, walks) in [
        ("/firms/3/sites/32/teams", vec![321, 322], 9),
        ("/firms/1/sites/12/teams", vec![], 9),
        ("/firms/3/sites", vec![311, 312, 321, 322, 331, 332], 6),
        ("/firms/2/sites", vec![], 9),
    ] {
        let broken = Arc::new(Mutex::new(failing));
        let path = Arc::clone(&broken);
        let site = Site::start(move |asked| match asked.path == *path.lock().unwrap() {
            true => Reply::status(500),
            false => answer(asked),
        })
        .await;
        let config = teams(
            &site,
            "deletes: {mode: snapshot, hard: true, floor: 0, max_fraction: 1.0}",
            "",
        );
        let bench = Bench::new().await;
        *broken.lock().unwrap() = "";
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{failing} {outcome:?}");
        assert_eq!(rows(&bench).await, TEAMS);

        // Nothing is gone because it was not seen.
        *broken.lock().unwrap() = failing;
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Partial, "{failing} {outcome:?}");
        let fault = outcome.fault.unwrap();
        assert_eq!(fault.code, "HTTP 500", "{failing}");
        let expected = format!("1 of {walks} walks for parents failed");
        assert!(fault.message.starts_with(&expected), "{failing} {fault}");
        assert_eq!(rows(&bench).await, TEAMS, "{failing}");

        // And what failed costs the first run its own rows only.
        let bench = Bench::new().await;
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Partial, "{failing} {outcome:?}");
        let mut others = TEAMS.to_vec();
        others.retain(|team| !lost.contains(team));
        assert_eq!(rows(&bench).await, others, "{failing}");
        *broken.lock().unwrap() = "";
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{failing} {outcome:?}");
        assert_eq!(rows(&bench).await, TEAMS, "{failing}");
    }
}

#[tokio::test]
async fn a_parent_in_the_middle_that_is_gone_has_no_children() {
    let site = Site::start(|asked| match asked.path.as_str() {
        "/firms/3/sites" | "/firms/1/sites/13/teams" => Reply::status(404),
        _ => answer(asked),
    })
    .await;
    let bench = Bench::new().await;
    let outcome = bench.sync(&teams(&site, "", ""), Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert_eq!(rows(&bench).await, [111, 112]);
}

#[tokio::test]
async fn a_run_that_is_cut_at_any_request_of_any_level_goes_on_and_doubles_nothing() {
    for disposition in ["merge", "append"] {
        let mut stop_at = 1;
        loop {
            let (count, token) = (AtomicUsize::new(0), CancellationToken::new());
            let stop = token.clone();
            let site = Site::start(move |asked| {
                if count.fetch_add(1, SeqCst) + 1 == stop_at {
                    stop.cancel();
                }
                answer(asked)
            })
            .await;
            let more =
                format!("write_disposition: {disposition}\n        parent: {{concurrency: 1}}");
            let config = teams(&site, &more, "");
            let bench = Bench::new().await;
            let outcome = bench.sync_until(&config, Start::GoOn, token.clone()).await;
            if !token.is_cancelled() {
                assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
                break;
            }
            // After the last request a run may end before it hears of the stop.
            if outcome.status != Status::Succeeded {
                assert_eq!(outcome.status, Status::Interrupted, "{stop_at} {outcome:?}");
                let outcome = bench.sync(&config, Start::GoOn).await;
                assert_eq!(outcome.status, Status::Succeeded, "{stop_at} {outcome:?}");
            }
            assert_eq!(rows(&bench).await, TEAMS, "{disposition}, cut at {stop_at}");
            stop_at += 1;
        }
        // Firms 2, sites 2 + 1 + 2, teams 1 for the empty site and 2 for the others.
        assert!(stop_at > 18, "{stop_at}");
    }
}

// The API must answer while the test waits for the process.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_that_is_killed_at_any_commit_goes_on_and_loses_and_doubles_nothing() {
    use crate::support::daemon::Setup;

    let site = Site::start(answer).await;
    let incremental =
        "incremental: {cursor_path: at, start_param: since, initial_value: '2000-01-01T00:00:00Z'}";
    // At every commit in one way; in the others at every third, each at others.
    for (disposition, incremental, point, first, step) in [
        ("append", incremental, "load.after_commit", 1, 1),
        ("append", "", "load.before_commit", 2, 3),
        ("merge", incremental, "load.before_commit", 3, 3),
    ] {
        let mut nth = first;
        loop {
            let story = format!("{disposition} {incremental}, killed at {point}:{nth}");
            let bench = Bench::new().await;
            let more = format!("write_disposition: {disposition}");
            let config = format!(
                "database: {{url: '{}'}}\n{}",
                bench.db.url(),
                teams(&site, &more, incremental)
            );
            let mut killed = Setup::command(config.clone(), &["sync", "hr/teams"])
                .with_env("ROSTERD_FAILPOINT", &format!("{point}:{nth}"))
                .start();
            let status = killed.wait();
            if status.code().is_some() {
                assert!(status.success(), "{story}: {}", killed.stderr());
                break;
            }
            bench.let_leases_run_out().await;
            let is_over: bool = bench
                .value("select exists (select from rosterd.runs where status = 'succeeded')")
                .await;
            if is_over {
                assert_eq!(rows(&bench).await, TEAMS, "{story}");
                break;
            }
            site.take();
            let outcome = bench.sync(&config, Start::GoOn).await;
            assert_eq!(outcome.status, Status::Succeeded, "{story} {outcome:?}");
            assert_eq!(rows(&bench).await, TEAMS, "{story}");
            let of_first = |asked: &String| asked.starts_with("/firms/1/sites/11/teams");
            // It did not begin anew once the first site was behind it.
            if nth > 4 {
                assert!(!site.take().iter().any(of_first), "{story}");
            }
            nth += step;
        }
        // A commit for each page with a team, and the end.
        assert!(nth > 10, "{disposition} {point}: {nth}");
    }
}
