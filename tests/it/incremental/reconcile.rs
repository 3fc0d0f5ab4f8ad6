//! The second schedule: full reads of a resource that has a cursor.

use chrono::{DateTime, Utc};
use rosterd::{
    config,
    record::{self, Mode, Status, Trigger},
};

use super::{api::Changes, config as resource, cursor, ids};
use crate::support::sync::Bench;

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-03-01T{text}:00Z").parse().unwrap()
}

const SCHEDULES: &str =
    "        deletes: snapshot\n        schedule: every 1h\n        reconcile: '30 3 * * *'\n";

async fn given(api: &Changes) -> (Bench, String) {
    for id in 1..=6 {
        api.put(id, &format!("2024-03-0{id}"));
    }
    let text = resource(api, "{cursor_path: at, start_param: from}", SCHEDULES);
    let bench = Bench::new().await;
    let parsed = config::from_str(&text).unwrap();
    record::register(bench.db.pool(), &parsed, at("00:59"))
        .await
        .unwrap();
    (bench, text)
}

async fn skipped(bench: &Bench) -> Vec<String> {
    bench
        .column("select mode || ' ' || reason || ' ' || (labels ->> 'count') from rosterd.runs where status = 'skipped' order by run_id")
        .await
}

#[tokio::test]
async fn a_slot_of_reconcile_reads_everything_and_ends_rows_that_are_gone() {
    let api = Changes::start().await;
    let (bench, config) = given(&api).await;
    let runs = bench.run_due(&config, at("01:00")).await;
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].0.mode, runs[0].1.status),
        (Mode::Incremental, Status::Succeeded)
    );
    // One is gone, and one comes late, from before the cursor.
    api.remove(2);
    api.put(7, "2024-01-01");
    for slot in ["02:00", "03:00"] {
        let runs = bench.run_due(&config, at(slot)).await;
        assert_eq!(runs[0].0.mode, Mode::Incremental);
        assert_eq!(runs[0].1.counters.rows_changed(), 0);
    }
    let runs = bench.run_due(&config, at("03:30")).await;
    let [(claim, outcome)] = runs.as_slice() else {
        panic!("one run, not {runs:?}")
    };
    assert_eq!(
        (claim.mode, claim.trigger, claim.scheduled_for),
        (Mode::Full, Trigger::Schedule, Some(at("03:30")))
    );
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert_eq!(
        (
            outcome.counters.rows_inserted,
            outcome.counters.rows_deleted
        ),
        (1, 1)
    );
    assert_eq!(ids(&bench).await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(cursor(&bench).await.as_deref(), Some("2024-03-06"));
    assert!(bench.run_due(&config, at("03:31")).await.is_empty());
    let runs = bench.run_due(&config, at("04:00")).await;
    assert_eq!(runs[0].0.mode, Mode::Incremental, "the next is as before");
}

#[tokio::test]
async fn slots_of_both_kinds_that_are_due_together_become_one_full_run() {
    let api = Changes::start().await;
    let (bench, config) = given(&api).await;
    bench.run_due(&config, at("01:00")).await;
    let runs = bench.run_due(&config, at("05:10")).await;
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].0.mode, runs[0].0.trigger),
        (Mode::Full, Trigger::CatchUp)
    );
    let label: String = bench
        .value("select labels ->> 'reconcile' from rosterd.runs order by run_id desc limit 1")
        .await;
    assert_eq!(label.parse::<DateTime<Utc>>().unwrap(), at("03:30"));
    assert!(bench.run_due(&config, at("05:20")).await.is_empty());
}

#[tokio::test]
async fn a_paused_resource_skips_its_slots_and_a_busy_one_keeps_that_of_reconcile() {
    let api = Changes::start().await;
    let (bench, config) = given(&api).await;
    bench
        .execute("update rosterd.resources set paused_at = now()")
        .await;
    assert!(bench.run_due(&config, at("03:30")).await.is_empty());
    assert_eq!(
        skipped(&bench).await,
        ["incremental paused 3", "full paused 1"]
    );
    bench
        .execute(
            "update rosterd.resources set paused_at = null, next_reconcile_at = '2026-03-01 03:30Z';
             update rosterd.leases set run_id = 1, owner = 'another', expires_at = now() + interval '1 h'",
        )
        .await;
    assert!(bench.run_due(&config, at("03:35")).await.is_empty());
    bench
        .execute("update rosterd.leases set run_id = null, owner = null, expires_at = null")
        .await;
    let runs = bench.run_due(&config, at("03:40")).await;
    assert_eq!((runs.len(), runs[0].0.mode), (1, Mode::Full));
}

#[test]
fn only_what_has_a_cursor_is_reconciled() {
    for (incremental, extra, fits) in [
        (
            "incremental: {cursor_path: u, start_param: s}",
            "reconcile: '0 3 * * 0'",
            true,
        ),
        (
            "incremental: {cursor_path: u, start_param: s}",
            "reconcile: {every: 7d, jitter: 1h}",
            true,
        ),
        (
            "incremental: {cursor_path: u, start_param: s}",
            "reconcile: sundays",
            false,
        ),
        ("params: {a: 1}", "reconcile: '0 3 * * 0'", false),
        (
            "incremental: {cursor_path: u, initial_value: '2024-01-01', end_value: '2024-02-01'}",
            "reconcile: '0 3 * * 0'",
            false,
        ),
        (
            "incremental: {cursor_path: u, start_param: s, end_param: e}",
            "deletes: snapshot",
            false,
        ),
    ] {
        let text = format!(
            "
sources:
  hr:
    client: {{base_url: 'https://api.example.com', paginator: single_page}}
    resources:
      - name: changes
        primary_key: id
        write_disposition: merge
        {extra}
        endpoint: {{path: /c, {incremental}}}
"
        );
        let loaded = config::from_str(&text);
        assert_eq!(loaded.is_ok(), fits, "{extra} {incremental}");
        if let Err(problems) = loaded {
            let path = if extra.starts_with("reconcile") {
                "reconcile"
            } else {
                "deletes"
            };
            assert!(
                problems
                    .to_string()
                    .contains(&format!("resources[0].{path}")),
                "{problems}"
            );
        }
    }
}
