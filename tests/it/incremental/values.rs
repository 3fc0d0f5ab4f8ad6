//! One walk: what its cursor becomes, and which records become rows.

use rosterd::{record::Status, sync::Start};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    api::{Changes, Order, refusal},
    code, config, cursor, ids, succeeds,
};
use crate::support::sync::Bench;

#[tokio::test]
async fn a_cursor_in_the_apis_own_spelling_is_compared_as_an_instant() {
    for (spelling, incremental, spelled, expected) in [
        (
            "",
            "{cursor_path: at, start_param: from}",
            [
                json!("2024-03-01T10:00:00+02:00"),
                json!("2024-03-01T09:00:00Z"),
            ],
            "2024-03-01T09:00:00Z",
        ),
        (
            "epoch_ms",
            "{cursor_path: at, start_param: from, format: epoch_ms}",
            [json!(1_709_280_000_000_i64), json!(1_709_283_600_000_i64)],
            "1709283600000",
        ),
        (
            "epoch_s",
            "{cursor_path: at, start_param: from, format: {send: epoch_s}}",
            [
                json!("2024-03-01T08:00:00Z"),
                json!("2024-03-01T09:00:00.900Z"),
            ],
            "1709283600",
        ),
        (
            "%d-%b-%Y %H:%M",
            "{cursor_path: at, start_param: from, format: '%d-%b-%Y %H:%M'}",
            [json!("01-Mar-2024 08:00"), json!("01-Mar-2024 09:00")],
            "01-Mar-2024 09:00",
        ),
        (
            "%Y-%m-%d",
            "{cursor_path: at, start_param: from, format: {send: '%Y-%m-%d', read: [/Date(ms)/]}}",
            [
                json!("/Date(1709280000000)/"),
                json!("/Date(1709283600000+0000)/"),
            ],
            "2024-03-01",
        ),
    ] {
        let api = Changes::start().await;
        api.with(|state| state.spelling = spelling);
        let [first, second] = spelled;
        // The later one comes first: as text it would be the smaller one in some spellings.
        api.put_as(1, "2024-03-01T09:00:00Z", second);
        api.put_as(2, "2024-03-01T08:00:00Z", first);
        let (bench, config) = (Bench::new().await, config(&api, incremental, ""));
        succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(api.asked(&["from"]), ["-"]);
        succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(api.asked(&["from"]), [expected], "{incremental}");
    }
}

#[tokio::test]
async fn what_changed_twice_within_the_same_instant_is_seen() {
    let api = Changes::start().await;
    api.put(1, "2024-03-01");
    let (bench, config) = (
        Bench::new().await,
        config(&api, "{cursor_path: at, start_param: from}", ""),
    );
    succeeds(&bench, &config, Start::GoOn).await;
    api.with(|state| {
        let (_, record) = state.records.get_mut(&1).unwrap();
        record["v"] = json!("again");
    });
    api.put(2, "2024-03-01");
    succeeds(&bench, &config, Start::GoOn).await;
    let values: Vec<String> = bench.column("select v from hr.changes order by id").await;
    assert_eq!(values, ["again", "2024-03-01"]);
}

#[tokio::test]
async fn a_record_from_the_future_does_not_carry_the_cursor_away() {
    let api = Changes::start().await;
    api.put(1, "2024-03-01");
    api.put(2, "2999-12-31");
    let (bench, config) = (
        Bench::new().await,
        config(&api, "{cursor_path: at, start_param: from}", ""),
    );
    let outcome = succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(outcome.counters.cursor_future_rows, 1);
    assert_eq!(cursor(&bench).await.as_deref(), Some("2024-03-01"));
    api.put(3, "2024-03-02");
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(ids(&bench).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_record_without_a_cursor_value_is_included_left_out_or_fails_the_run() {
    for (missing, status, rows, left_out) in [
        ("include", Status::Succeeded, vec![1, 2, 3], 0),
        ("exclude", Status::Succeeded, vec![1, 3], 1),
        ("raise", Status::Failed, vec![], 0),
    ] {
        let api = Changes::start().await;
        api.put(1, "2024-03-01");
        api.put_as(2, "2024-03-02", json!(null));
        api.put(3, "2024-03-03");
        let incremental = format!("{{cursor_path: at, on_cursor_value_missing: {missing}}}");
        let (bench, config) = (Bench::new().await, config(&api, &incremental, ""));
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, status, "{outcome:?}");
        assert_eq!(outcome.counters.records_left_out, left_out);
        if status == Status::Succeeded {
            assert_eq!(ids(&bench).await, rows);
            assert_eq!(outcome.counters.cursor_missing_rows, 1);
            assert_eq!(cursor(&bench).await.as_deref(), Some("2024-03-03"));
        } else {
            assert_eq!(code(&outcome), "cursor_missing");
            assert_eq!(cursor(&bench).await, None);
        }
    }
}

#[tokio::test]
async fn a_cursor_that_no_record_has_is_told() {
    for (incremental, value) in [
        ("{cursor_path: at}", json!("01.03.2024")),
        ("{cursor_path: updated.at}", json!("2024-03-01")),
    ] {
        let api = Changes::start().await;
        api.put_as(1, "2024-03-01", value);
        let (bench, config) = (Bench::new().await, config(&api, incremental, ""));
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(
            (outcome.status, code(&outcome)),
            (Status::Partial, "cursor_unreadable")
        );
        assert_eq!(ids(&bench).await, [1], "the rows are stored all the same");
        assert_eq!(cursor(&bench).await, None);
    }
}

#[tokio::test]
async fn what_the_api_was_not_asked_to_keep_back_is_left_out() {
    let span = "initial_value: '2024-03-02', end_value: '2024-03-04'";
    for (incremental, expected) in [
        // The API keeps back what is before; what it sends is merged.
        (
            "{cursor_path: at, start_param: from, initial_value: '2024-03-02'}".to_owned(),
            vec![2, 3, 4, 5],
        ),
        (
            "{cursor_path: at, start_param: since, initial_value: '2024-03-02'}".to_owned(),
            vec![1, 2, 3, 4, 5],
        ),
        (
            "{cursor_path: at, initial_value: '2024-03-02'}".to_owned(),
            vec![2, 3, 4, 5],
        ),
        (
            "{cursor_path: at, initial_value: '2024-03-02', range_start: open}".to_owned(),
            vec![3, 4, 5],
        ),
        (format!("{{cursor_path: at, {span}}}"), vec![2, 3]),
        (
            format!("{{cursor_path: at, {span}, range_end: closed}}"),
            vec![2, 3, 4],
        ),
        (
            format!("{{cursor_path: at, {span}, range_start: open}}"),
            vec![3],
        ),
    ] {
        let api = Changes::start().await;
        for id in 1..=5 {
            api.put(id, &format!("2024-03-0{id}"));
        }
        let (bench, config) = (Bench::new().await, config(&api, &incremental, ""));
        let outcome = succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(ids(&bench).await, expected, "{incremental}");
        let counters = outcome.counters;
        assert_eq!(
            counters.records_left_out + counters.rows_inserted,
            counters.records_read
        );
    }
}

#[tokio::test]
async fn between_fixed_ends_there_is_no_cursor() {
    let api = Changes::start().await;
    for id in 1..=5 {
        api.put(id, &format!("2024-03-0{id}"));
    }
    let incremental = "{cursor_path: at, start_param: from, end_param: to, initial_value: '2024-03-02', end_value: '2024-03-04'}";
    let (bench, config) = (Bench::new().await, config(&api, incremental, ""));
    for _ in 0..2 {
        succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(api.asked(&["from", "to"]), ["2024-03-02 2024-03-04"]);
        assert_eq!(cursor(&bench).await, None);
    }
}

#[tokio::test]
async fn appended_rows_are_not_appended_again() {
    let api = Changes::start().await;
    for id in 1..=5 {
        api.put(id, &format!("2024-03-0{id}"));
    }
    let (bench, config) = (
        Bench::new().await,
        config(&api, "{cursor_path: at, range_start: open}", "")
            .replace("write_disposition: merge", "write_disposition: append"),
    );
    succeeds(&bench, &config, Start::GoOn).await;
    api.put(6, "2024-03-06");
    let outcome = succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(outcome.counters.records_left_out, 5);
    assert_eq!(ids(&bench).await, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn what_an_interrupted_run_appended_is_taken_back_where_nothing_can_be_gone_on_with() {
    // Its place is not found again; or it is not to be looked for.
    for start in [Start::GoOn, Start::Anew] {
        let api = Changes::start().await;
        for id in 1..=20 {
            api.put(id, &format!("2024-03-{id:02}"));
        }
        let (bench, config) = (
            Bench::new().await,
            config(&api, "{cursor_path: at, range_start: open}", "")
                .replace("write_disposition: merge", "write_disposition: append"),
        );
        let token = CancellationToken::new();
        let stop = token.clone();
        api.before_each(move |n, _| {
            if n == 3 {
                stop.cancel();
            }
            None
        });
        let outcome = bench.sync_until(&config, Start::GoOn, token).await;
        assert_eq!(outcome.status, Status::Interrupted, "{outcome:?}");
        assert!(!ids(&bench).await.is_empty());
        api.remove(1);
        let outcome = succeeds(&bench, &config, start).await;
        assert_eq!(ids(&bench).await, (2..=20).collect::<Vec<_>>());
        assert_eq!(outcome.counters.rows_inserted, 19, "its own rows only");
    }
}

#[tokio::test]
async fn the_least_value_may_be_the_furthest() {
    let api = Changes::start().await;
    for id in 3..=5 {
        api.put(id, &format!("2024-03-0{id}"));
    }
    let (bench, config) = (
        Bench::new().await,
        config(
            &api,
            "{cursor_path: at, start_param: to, last_value_func: min, lag: 1d}",
            "",
        ),
    );
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(cursor(&bench).await.as_deref(), Some("2024-03-03"));
    api.put(2, "2024-03-02");
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(api.asked(&["to"]), ["-", "2024-03-04"]);
    assert_eq!(cursor(&bench).await.as_deref(), Some("2024-03-02"));
}

#[tokio::test]
async fn newest_first_ends_at_the_first_page_that_is_older_than_the_cursor() {
    let api = Changes::start().await;
    api.with(|state| state.order = Order::Descending);
    for id in 1..=40 {
        api.put(id, &format!("2024-03-01T00:{id:02}:00Z"));
    }
    let (bench, config) = (
        Bench::new().await,
        config(&api, "{cursor_path: at, row_order: desc}", ""),
    );
    let outcome = succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(outcome.counters.pages, 10);
    for id in 41..=43 {
        api.put(id, &format!("2024-03-01T00:{id:02}:00Z"));
    }
    let outcome = succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(outcome.counters.rows_inserted, 3);
    assert_eq!(
        outcome.counters.pages, 2,
        "the page with the cursor, and the older one"
    );
    assert_eq!(ids(&bench).await, (1..=43).collect::<Vec<_>>());
    assert_eq!(
        cursor(&bench).await.as_deref(),
        Some("2024-03-01T00:43:00Z")
    );
}

#[tokio::test]
async fn oldest_first_ends_at_the_first_page_that_is_past_the_end() {
    let api = Changes::start().await;
    api.with(|state| state.order = Order::Ascending);
    for id in 1..=40 {
        api.put(id, &format!("2024-03-01T00:{id:02}:00Z"));
    }
    let incremental = "{cursor_path: at, row_order: asc, initial_value: '2024-03-01', end_value: '2024-03-01T00:07:00Z'}";
    let (bench, config) = (Bench::new().await, config(&api, incremental, ""));
    let outcome = succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(outcome.counters.pages, 2);
    assert_eq!(ids(&bench).await, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn an_order_that_does_not_hold_ends_nothing() {
    let api = Changes::start().await;
    api.with(|state| state.order = Order::Descending);
    for id in 1..=20 {
        api.put(id, &format!("2024-03-01T00:{id:02}:00Z"));
    }
    let (bench, config) = (
        Bench::new().await,
        config(&api, "{cursor_path: at, row_order: desc}", ""),
    );
    succeeds(&bench, &config, Start::GoOn).await;
    api.with(|state| state.order = Order::Id);
    api.put(21, "2024-03-01T00:21:00Z");
    let outcome = succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(
        outcome.counters.rows_inserted, 1,
        "the new one stands on the last page"
    );
    assert_eq!(outcome.counters.pages, 6);
}

#[tokio::test]
async fn a_full_read_sees_everything_and_does_not_move_the_cursor_back() {
    let api = Changes::start().await;
    api.with(|state| state.order = Order::Descending);
    for id in 1..=9 {
        api.put(id, &format!("2024-03-0{id}"));
    }
    let (bench, config) = (
        Bench::new().await,
        config(
            &api,
            "{cursor_path: at, start_param: from, row_order: desc}",
            "        deletes: snapshot\n",
        ),
    );
    succeeds(&bench, &config, Start::GoOn).await;
    api.remove(9);
    let outcome = succeeds(&bench, &config, Start::Anew).await;
    assert_eq!(outcome.counters.rows_deleted, 1, "{outcome:?}");
    assert_eq!(cursor(&bench).await.as_deref(), Some("2024-03-09"));
}

#[tokio::test]
async fn an_api_whose_values_went_back_is_told_of_once() {
    let asked = "{cursor_path: at, start_param: from}";
    for (incremental, order, start, is_told) in [
        (asked, Order::Id, Start::Anew, true),
        ("{cursor_path: at}", Order::Id, Start::GoOn, true),
        (
            "{cursor_path: at, row_order: desc}",
            Order::Descending,
            Start::GoOn,
            true,
        ),
        (
            "{cursor_path: at, start_param: from, lag: 2d}",
            Order::Id,
            Start::GoOn,
            true,
        ),
        // An API that has nothing newer to send looks the same.
        (asked, Order::Id, Start::GoOn, false),
    ] {
        let story = format!("{incremental} {start:?}");
        let api = Changes::start().await;
        api.with(|state| state.order = order);
        for id in 1..=9 {
            api.put(id, &format!("2024-03-0{id}"));
        }
        let (bench, config) = (Bench::new().await, config(&api, incremental, ""));
        succeeds(&bench, &config, Start::GoOn).await;
        succeeds(&bench, &config, start).await;
        let told = async || -> Vec<String> {
            let told = "select data::text from rosterd.events where kind = 'cursor_regression'";
            bench.column(told).await
        };
        assert_eq!(told().await, Vec::<String>::new(), "{story}");

        api.remove(9);
        for _ in 0..2 {
            succeeds(&bench, &config, start).await;
            assert_eq!(cursor(&bench).await.as_deref(), Some("2024-03-09"));
        }
        // With nothing but the two values.
        let expected = r#"{"cursor": "2024-03-09", "newest": "2024-03-08"}"#;
        let expected: &[&str] = if is_told { &[expected] } else { &[] };
        assert_eq!(told().await, expected, "{story}");

        // Back even further is told again; a record as new as the cursor is the end of it.
        api.remove(8);
        succeeds(&bench, &config, start).await;
        assert_eq!(told().await.len(), expected.len() * 2, "{story}");
        api.put(10, "2024-03-10");
        succeeds(&bench, &config, start).await;
        assert_eq!(told().await.len(), expected.len() * 2, "{story}");
        assert_eq!(cursor(&bench).await.as_deref(), Some("2024-03-10"));
    }
}

#[tokio::test]
async fn the_cursor_may_be_the_time_at_which_the_api_was_asked() {
    for (incremental, expected) in [
        (
            "{watermark: run_start, start_param: from}",
            "2024-06-15T12:00:00Z",
        ),
        (
            "{watermark: run_start, start_param: from, initial_value: '2024-01-01', timezone: UTC, lag: 1d}",
            "2024-06-14T12:00:00Z",
        ),
        // In a spelling that names no zone nobody knows whose noon it is.
        (
            "{watermark: run_start, start_param: from, format: {send: '%Y-%m-%dT%H:%M:%S'}}",
            "2024-06-14T22:00:00",
        ),
        (
            "{watermark: run_start, start_param: from, timezone: Europe/Berlin, format: {send: '%Y-%m-%dT%H:%M:%S'}}",
            "2024-06-15T14:00:00",
        ),
        (
            "{watermark: run_start, start_param: from, format: epoch_s}",
            "1718452800",
        ),
    ] {
        let api = Changes::start().await;
        api.with(|state| {
            state.spelling = match incremental {
                i if i.contains("%Y") => "%Y-%m-%dT%H:%M:%S",
                i if i.contains("epoch") => "epoch_s",
                _ => "",
            }
        });
        api.put(1, "2024-03-01");
        let (bench, config) = (Bench::new().await, config(&api, incremental, ""));
        succeeds(&bench, &config, Start::GoOn).await;
        api.asked(&[]);
        succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(api.asked(&["from"]), [expected], "{incremental}");
    }
}

#[tokio::test]
async fn without_the_apis_time_or_token_the_cursor_stays_and_the_run_says_so() {
    let api = Changes::start().await;
    api.put(1, "2024-03-01");
    let incremental = "{watermark: run_start, start_param: from, initial_value: '2024-01-01'}";
    let (bench, config_of_time) = (Bench::new().await, config(&api, incremental, ""));
    api.with(|state| state.tells_time = false);
    let outcome = bench.sync(&config_of_time, Start::GoOn).await;
    assert_eq!(
        (outcome.status, code(&outcome)),
        (Status::Partial, "no_api_clock")
    );
    assert_eq!((ids(&bench).await, cursor(&bench).await), (vec![1], None));
    api.with(|state| state.tells_time = true);
    succeeds(&bench, &config_of_time, Start::GoOn).await;
    assert!(cursor(&bench).await.is_some());

    // A token that the API forgot to send leaves the last one in its place.
    let bench = Bench::new().await;
    let incremental = "{watermark: token, start_param: token}";
    let config_of_token = config(&api, incremental, "").replace(
        "limit: 4, total_path: total",
        "limit: 4, total_path: total, sync_token_path: token",
    );
    api.asked(&[]);
    for (token, asked, ends) in [
        (Some("t1"), "-", "t1"),
        (None, "t1", "no_end_token"),
        (Some("t2"), "t1", "t2"),
        (Some("t3"), "t2", "t3"),
    ] {
        api.with(|state| state.token = token.map(str::to_owned));
        let outcome = bench.sync(&config_of_token, Start::GoOn).await;
        assert_eq!(api.asked(&["token"]), [asked]);
        match token {
            Some(_) => assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}"),
            None => assert_eq!((outcome.status, code(&outcome)), (Status::Partial, ends)),
        }
        if token.is_some() {
            assert_eq!(cursor(&bench).await.as_deref(), Some(ends));
        }
    }
}

#[tokio::test]
async fn the_first_walk_may_go_to_another_endpoint() {
    let api = Changes::start().await;
    for id in 1..=6 {
        api.put(id, &format!("2024-03-0{id}"));
    }
    let incremental =
        "{cursor_path: at, start_param: from, first: {path: everyone, params: {all: 'yes'}}}";
    let (bench, config) = (Bench::new().await, config(&api, incremental, ""));
    let asked = || api.asked(&["path", "all", "from"]);
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(asked(), ["everyone yes -"]);
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(asked(), ["changes - 2024-03-06"]);
    assert_eq!(ids(&bench).await, [1, 2, 3, 4, 5, 6]);
    api.put(7, "2024-03-07");
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(asked(), ["changes - 2024-03-06"]);
    assert_eq!(ids(&bench).await, [1, 2, 3, 4, 5, 6, 7]);
    succeeds(&bench, &config, Start::Anew).await;
    assert_eq!(asked(), ["everyone yes -"]);
}

#[tokio::test]
async fn a_walk_that_fails_leaves_the_cursor_where_it_was() {
    let api = Changes::start().await;
    for id in 1..=9 {
        api.put(id, &format!("2024-03-0{id}"));
    }
    let (bench, config) = (
        Bench::new().await,
        config(&api, "{cursor_path: at, start_param: from}", ""),
    );
    succeeds(&bench, &config, Start::GoOn).await;
    for id in 10..=25 {
        api.put(id, &format!("2024-03-{id}"));
    }
    for page in 0..4 {
        api.with(|state| state.log.clear());
        api.before_each(move |n, _| if n == page { refusal(403) } else { None });
        let outcome = bench.sync(&config, Start::Anew).await;
        assert_eq!(outcome.status, Status::Failed, "{outcome:?}");
        assert_eq!(
            cursor(&bench).await.as_deref(),
            Some("2024-03-09"),
            "page {page}"
        );
    }
    api.without_hook();
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(ids(&bench).await.len(), 25);
}
