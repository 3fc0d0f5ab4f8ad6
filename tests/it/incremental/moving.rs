//! Records whose cursor value moves while a sorted walk is under way, and values that many records share.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rosterd::{record::Status, sync::Start};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    api::{Changes, Inner, Order, at},
    code, config, cursor, ids, succeeds,
};
use crate::support::sync::Bench;

/// A minute passes in which this record changes.
fn change(state: &mut Inner, id: i64) {
    state.now += TimeDelta::minutes(1);
    let time = state.now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let record = json!({"id": id, "at": time, "v": time});
    state.records.insert(id, (state.now, record));
}

/// Id and time of the last change, as the table has them.
async fn table(bench: &Bench) -> BTreeMap<i64, String> {
    let rows: Vec<String> = bench
        .column(
            "select id || ' ' || to_char(v at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') from hr.changes",
        )
        .await;
    let rows = rows.iter().map(|row| row.split_once(' ').unwrap());
    rows.map(|(id, v)| (id.parse().unwrap(), v.to_owned()))
        .collect()
}

fn truth(state: &Inner) -> BTreeMap<i64, String> {
    let records = state.records.iter();
    records
        .map(|(id, (_, record))| (*id, record["v"].as_str().unwrap().to_owned()))
        .collect()
}

#[tokio::test]
async fn a_record_that_moves_in_the_order_while_it_is_walked_costs_no_other_and_comes_itself() {
    // Which of the records moves: one that was read, one that is to be read, one on the border.
    for (order, word) in [(Order::Ascending, "asc"), (Order::Descending, "desc")] {
        for moving in [13, 16, 17, 20, 24] {
            for before_request in 1..=3 {
                let story = format!("{word}, {moving} moves before request {before_request}");
                let api = Changes::start().await;
                api.with(|state| state.order = order);
                for id in 1..=12 {
                    api.put(id, &format!("2024-03-01T00:{id:02}:00Z"));
                }
                let incremental =
                    format!("{{cursor_path: at, start_param: from, row_order: {word}}}");
                let (bench, config) = (Bench::new().await, config(&api, &incremental, ""));
                succeeds(&bench, &config, Start::GoOn).await;
                for id in 13..=24 {
                    api.put(id, &format!("2024-04-01T00:{id:02}:00Z"));
                }
                api.with(|state| state.log.clear());
                api.before_each(move |n, state| {
                    if n == before_request {
                        change(state, moving);
                    }
                    None
                });
                let outcome = succeeds(&bench, &config, Start::GoOn).await;
                let (now, was) = (table(&bench).await, api.with(|state| truth(state)));
                for (id, v) in was.iter().filter(|(id, _)| **id != moving) {
                    assert_eq!(now.get(id), Some(v), "{story}: {id} {outcome:?}");
                }
                // The cursor is not past what the walk may have missed.
                api.without_hook();
                succeeds(&bench, &config, Start::GoOn).await;
                assert_eq!(table(&bench).await, was, "{story}");
            }
        }
    }
}

#[tokio::test]
async fn records_that_move_in_every_walk_leave_the_cursor_where_it_was() {
    let api = Changes::start().await;
    api.with(|state| state.order = Order::Ascending);
    for id in 1..=12 {
        api.put(id, &format!("2024-03-01T00:{id:02}:00Z"));
    }
    for (overlap, status) in [("", Status::Partial), (", overlap: 1", Status::Succeeded)] {
        let (bench, config) = (
            Bench::new().await,
            config(
                &api,
                "{cursor_path: at, start_param: from, row_order: asc}",
                "",
            )
            .replace("total_path: total", &format!("total_path: total{overlap}")),
        );
        // The first of the order changes before the second page of each walk.
        // With an overlap that is offset 3, where once is enough.
        let mut has_moved = false;
        api.before_each(move |_, state| {
            let asked = state.log.last().and_then(|query| query.get("offset"));
            let asked = asked.map_or("", String::as_str);
            if asked == "4" || (asked == "3" && !std::mem::replace(&mut has_moved, true)) {
                let first = state.records.iter().min_by_key(|(_, (time, _))| *time);
                let first = *first.unwrap().0;
                change(state, first);
            }
            None
        });
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, status, "{outcome:?}");
        if status == Status::Partial {
            assert_eq!(code(&outcome), "pagination_drift");
            assert_eq!(cursor(&bench).await, None);
        }
        api.without_hook();
        succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(table(&bench).await, api.with(|state| truth(state)));
    }
}

#[tokio::test]
async fn a_run_that_is_cut_among_records_that_share_a_value_loses_and_doubles_none() {
    // Three pages of the same instant, between two pages of others.
    let times = |id: i64| match id {
        1..=3 => format!("2024-03-01T00:0{id}:00Z"),
        4..=15 => "2024-03-01T01:00:00Z".to_owned(),
        _ => format!("2024-03-01T02:{id}:00Z"),
    };
    for disposition in ["merge", "append"] {
        for cut_at in 0..=4 {
            let api = Changes::start().await;
            api.with(|state| state.order = Order::Ascending);
            for id in 1..=18 {
                api.put(id, &times(id));
            }
            let (bench, config) = (
                Bench::new().await,
                config(
                    &api,
                    "{cursor_path: at, start_param: from, row_order: asc}",
                    "",
                )
                .replace(
                    "write_disposition: merge",
                    &format!("write_disposition: {disposition}"),
                ),
            );
            let token = CancellationToken::new();
            let stop = token.clone();
            api.before_each(move |n, _| {
                if n == cut_at {
                    stop.cancel();
                }
                None
            });
            let outcome = bench.sync_until(&config, Start::GoOn, token).await;
            assert_eq!(outcome.status, Status::Interrupted, "{outcome:?}");
            // No value is behind us before all that have it are.
            assert_eq!(cursor(&bench).await, None);
            api.without_hook();
            succeeds(&bench, &config, Start::GoOn).await;
            assert_eq!(
                ids(&bench).await,
                (1..=18).collect::<Vec<_>>(),
                "{disposition} {cut_at}"
            );
            assert_eq!(
                cursor(&bench).await.map(|text| at(&text)),
                Some(at(&times(18)))
            );
        }
    }
}
