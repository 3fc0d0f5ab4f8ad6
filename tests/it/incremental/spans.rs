//! Spans that are walked in windows.

use super::{
    api::{Changes, at, refusal},
    config, cursor, ids, succeeds,
};
use crate::support::sync::Bench;
use rosterd::{record::Status, sync::Start};

const WINDOWS: &str =
    "{cursor_path: at, start_param: from, end_param: to, initial_value: '2024-01-01', window: 60d";

fn windows(more: &str) -> String {
    format!("{WINDOWS}{more}}}")
}

/// Nine records, one every twenty days from the first of January.
fn fill(api: &Changes) {
    for id in 0..9_i64 {
        let day = at("2024-01-01") + chrono::TimeDelta::days(id * 20);
        api.put(id, &day.format("%Y-%m-%d").to_string());
    }
}

#[tokio::test]
async fn a_span_is_walked_in_windows_that_touch_each_other() {
    let api = Changes::start().await;
    fill(&api);
    let (bench, config) = (
        Bench::new().await,
        config(&api, &windows(", timezone: UTC"), ""),
    );
    let asked = || api.asked(&["from", "to"]);
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(
        asked(),
        [
            "2024-01-01 2024-03-01",
            "2024-03-01 2024-04-30",
            "2024-04-30 2024-06-15",
        ]
    );
    assert_eq!(ids(&bench).await, (0..9).collect::<Vec<_>>());
    // The last record is of the ninth of June; the windows before it ended earlier.
    assert_eq!(cursor(&bench).await.as_deref(), Some("2024-06-09"));
    let moves: Vec<String> = bench
        .column("select new_cursor #>> '{}' from rosterd.cursor_log order by id")
        .await;
    assert_eq!(moves, ["2024-03-01", "2024-04-30", "2024-06-09"]);
    succeeds(&bench, &config, Start::GoOn).await;
    // Until the API has told its time, ours counts, which is years later.
    assert_eq!(asked(), ["2024-06-09 2024-08-08"]);
}

#[tokio::test]
async fn a_span_may_end_ahead_of_now_or_nowhere() {
    for (until, expected) in [
        (
            "now+60d",
            vec![
                "2024-01-01 2024-03-01",
                "2024-03-01 2024-04-30",
                "2024-04-30 2024-06-29",
                "2024-06-29 2024-08-14",
            ],
        ),
        (
            "open",
            vec![
                "2024-01-01 2024-03-01",
                "2024-03-01 2024-04-30",
                "2024-04-30 -",
            ],
        ),
    ] {
        let api = Changes::start().await;
        fill(&api);
        api.put(20, "2024-07-20");
        let more = format!(", timezone: UTC, until: {until}");
        let (bench, config) = (Bench::new().await, config(&api, &windows(&more), ""));
        let outcome = succeeds(&bench, &config, Start::GoOn).await;
        let asked = api.asked(&["from", "to"]);
        assert_eq!(asked, expected);
        assert_eq!(ids(&bench).await.len(), 10, "{until}");
        assert_eq!(outcome.counters.cursor_future_rows, 1);
        assert_eq!(cursor(&bench).await.as_deref(), Some("2024-06-09"));
    }
}

#[tokio::test]
async fn windows_may_be_narrower_than_what_the_api_can_say() {
    let api = Changes::start().await;
    api.with(|state| {
        state.spelling = "%d/%m/%Y";
        state.now = at("2024-01-03T12:00:00Z");
    });
    api.put(1, "2024-01-02T08:00:00Z");
    let incremental = "{cursor_path: at, start_param: from, end_param: to, initial_value: '2024-01-01', window: 1h, timezone: UTC, format: {send: '%d/%m/%Y'}}";
    let (bench, config) = (Bench::new().await, config(&api, incremental, ""));
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(
        api.asked(&["from", "to"]),
        ["01/01/2024 02/01/2024", "02/01/2024 03/01/2024"]
    );
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(api.asked(&["from", "to"]), ["02/01/2024 03/01/2024"]);
}

#[tokio::test]
async fn a_walk_without_windows_can_have_an_end_too() {
    let api = Changes::start().await;
    fill(&api);
    let incremental = "{cursor_path: at, start_param: from, end_param: to, initial_value: '2024-01-01', timezone: UTC, until: now+10d}";
    let (bench, config) = (Bench::new().await, config(&api, incremental, ""));
    succeeds(&bench, &config, Start::GoOn).await;
    let asked = api.asked(&["from", "to"]);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("2024-01-01 20"), "{asked:?}");
    assert_eq!(ids(&bench).await.len(), 9);
}

#[tokio::test]
async fn each_window_that_is_proven_is_kept_when_a_later_one_fails() {
    // The requests: pages 0 and 1 of the first window, the same of the second and of the third.
    let (first, second, third) = (
        "2024-01-01 2024-03-01",
        "2024-03-01 2024-04-30",
        "2024-04-30 2024-06-15",
    );
    for (failing, kept, again) in [
        (0, None, vec![first, second, third]),
        // The first page was kept, and the walk goes on behind it.
        (1, None, vec![first, second, third]),
        (2, Some("2024-03-01"), vec![second, third]),
        (3, Some("2024-03-01"), vec![second, third]),
        (4, Some("2024-04-30"), vec![third]),
        (5, Some("2024-04-30"), vec![third]),
    ] {
        let api = Changes::start().await;
        fill(&api);
        api.with(|state| state.page_size = 2);
        let config = config(&api, &windows(", timezone: UTC"), "").replace("limit: 4", "limit: 2");
        let bench = Bench::new().await;
        api.before_each(move |n, _| (n == failing).then(|| refusal(403)).flatten());
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Failed, "{outcome:?}");
        assert_eq!(cursor(&bench).await.as_deref(), kept, "{failing}");
        api.without_hook();
        api.with(|state| state.log.clear());
        let outcome = succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(ids(&bench).await, (0..9).collect::<Vec<_>>(), "{failing}");
        let windows: Vec<String> = api.with(|state| {
            let ends = state
                .log
                .iter()
                .map(|query| format!("{} {}", query["from"], query["to"]));
            let mut ends: Vec<String> = ends.collect();
            ends.dedup();
            ends
        });
        // The last page of the window before is shown again, to prove that nothing has moved.
        let windows: Vec<&str> = windows.iter().map(String::as_str).collect();
        assert!(windows.ends_with(&again), "{failing}: {windows:?}");
        assert!(windows.len() <= again.len() + 1, "{failing}: {windows:?}");
        assert!(outcome.counters.records_read <= 9, "{failing}: {outcome:?}");
        assert_eq!(cursor(&bench).await.as_deref(), Some("2024-06-09"));
    }
}

#[tokio::test]
async fn a_clock_of_ours_that_is_wrong_does_not_matter() {
    // Years from now the API still says that it is 2024, and years ago too.
    for now in ["2024-06-15T12:00:00Z", "2009-01-01T00:00:00Z"] {
        let api = Changes::start().await;
        fill(&api);
        api.with(|state| state.now = at(now));
        let (bench, config) = (
            Bench::new().await,
            config(&api, &windows(", timezone: UTC"), ""),
        );
        succeeds(&bench, &config, Start::GoOn).await;
        let asked = api.asked(&["from", "to"]);
        assert!(asked.len() <= 3, "{asked:?}");
        let cursor = cursor(&bench).await;
        match now {
            "2009-01-01T00:00:00Z" => assert_eq!(cursor, None),
            _ => assert_eq!(cursor.as_deref(), Some("2024-06-09")),
        }
    }
}

#[tokio::test]
async fn appended_windows_share_no_row() {
    let api = Changes::start().await;
    fill(&api);
    // On the border of two windows, by an API that counts both ends in.
    api.put(10, "2024-03-01");
    api.with(|state| state.inclusive = true);
    let (bench, config) = (
        Bench::new().await,
        config(&api, &windows(", timezone: UTC"), "")
            .replace("write_disposition: merge", "write_disposition: append"),
    );
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(ids(&bench).await, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]);
}
