//! Programs of the configuration that do not end, or want more than there is.

use std::fs;

use futures_util::future::join_all;
use rosterd::{record::Status, sync::Start};
use rustix::process::Signal;

use crate::support::{
    daemon::Setup,
    site::{Reply, Site},
    sync::Bench,
    timeline::eventually,
};

const RECORDS: &str = r#"[{"id": 1, "n": 1}, {"id": 2, "n": 1, "bad": true}, {"id": 3, "n": 1}]"#;

/// A resource `docs` with these keys, over a site that answers with `records`.
async fn given(records: &str, keys: &str) -> (Bench, Site, String) {
    let records = records.to_owned();
    let site = Site::start(move |_| Reply::text(records.clone())).await;
    let config = format!(
        "
sources:
  hr:
    client: {{base_url: '{}', paginator: single_page, retry: {{max_retries: 0}}}}
    resources:
      - name: docs
        primary_key: id
        write_disposition: merge
        {keys}
",
        site.url()
    );
    (Bench::new().await, site, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_a_program_cannot_get_through_costs_itself_alone() {
    let cases = [
        ("def f: f; f", "step_too_long"),
        ("until(false; .)", "step_too_long"),
        ("last(repeat(1))", "step_too_long"),
        ("[range(1e12)] | length", "step_exhausted"),
        ("[repeat(\"abcdefgh\" * 100)] | length", "step_exhausted"),
        ("\"x\" * 10000000000 | length", "step_exhausted"),
        ("def f: 1 + f; f", "step_exhausted"),
    ];
    let cases = cases.map(|(program, reason)| async move {
        let time = match reason {
            "step_too_long" => "1s",
            _ => "5m",
        };
        let keys = format!(
            "processing_limits: {{time: {time}, memory: 32MiB}}
        processing_steps: [{{map: 'if .bad then (.n = ({program})) else . end'}}]"
        );
        let (bench, _site, config) = given(RECORDS, &keys).await;
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Partial, "{program}: {outcome:?}");
        let rows: Vec<i64> = bench.column("select id from hr.docs order by id").await;
        assert_eq!(rows, [1, 3], "{program}");
        let told: String = bench
            .value("select reason || ' ' || (record is null) from rosterd.rejects")
            .await;
        assert_eq!(told, format!("{reason} true"), "{program}");
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_does_not_end_deletes_nothing() {
    let keys = "processing_limits: {time: 1s}
        deletes: {mode: flag, when: 'if .bad then until(false; .) else .n == 1 end'}";
    let (bench, _site, config) = given(RECORDS, keys).await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Partial, "{outcome:?}");
    assert_eq!(outcome.counters.rows_rejected, 1);
    let reasons: Vec<String> = bench.column("select reason from rosterd.rejects").await;
    assert_eq!(reasons, ["step_too_long"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_fails_on_everything_fails_the_run_and_not_for_hours() {
    let records: Vec<String> = (1..=200).map(|id| format!("{{\"id\": {id}}}")).collect();
    let keys = "processing_steps: [{map: '. + {n: def f: 1 + f; f}'}]";
    let (bench, _site, config) = given(&format!("[{}]", records.join(",")), keys).await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Failed, "{outcome:?}");
    let fault = outcome.fault.unwrap();
    assert_eq!(fault.code, "step_limits");
    assert!(fault.hint.contains("processing_limits"), "{fault:?}");
}

/// Processes that this one started.
fn children_of(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        after_name.split(' ').nth(1) == Some(&parent.to_string()) && !after_name.starts_with('Z')
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_end_outlives_neither_a_stop_nor_its_process() {
    for signal in [Signal::TERM, Signal::KILL] {
        let keys = "processing_limits: {time: 1h}
        processing_steps: [{filter: 'until(false; .)'}]";
        let (bench, _site, config) = given(RECORDS, keys).await;
        let config = format!(
            "database: {{url: \"{}\"}}\ndaemon: {{admin: {{listen: null}}}}\n{config}",
            bench.db.url()
        );
        let mut daemon = Setup::command(config, &["sync"]).start();
        let pid = daemon.pid();
        let child = eventually("a process for the program", || async {
            children_of(pid).first().copied()
        })
        .await;
        daemon.signal(signal);
        tokio::task::spawn_blocking(move || daemon.wait())
            .await
            .unwrap();
        eventually("its end", || async {
            let stat = fs::read_to_string(format!("/proc/{child}/cmdline"));
            stat.unwrap_or_default().is_empty().then_some(())
        })
        .await;
        if signal == Signal::TERM {
            let status: String = bench
                .value("select status from rosterd.runs order by run_id limit 1")
                .await;
            assert_eq!(status, "interrupted");
        }
    }
}
