//! Deletions that another endpoint lists.

use rosterd::{record::Status, sync::Start};
use serde_json::json;

use super::{
    api::{Changes, refusal},
    code, config as resource, succeeds,
};
use crate::support::sync::Bench;

fn config(api: &Changes, more: &str) -> String {
    let deletes = format!(
        "        deletes: {{mode: feed, key: who, endpoint: {{path: deleted, incremental: {{cursor_path: at, start_param: from}}}}{more}}}\n"
    );
    resource(api, "{cursor_path: at, start_param: from}", &deletes)
}

async fn given(count: i64, more: &str) -> (Bench, Changes, String) {
    let api = Changes::start().await;
    for id in 1..=count {
        api.put(id, &format!("2024-03-01T00:{id:02}:00Z"));
    }
    let config = config(&api, more);
    let bench = Bench::new().await;
    succeeds(&bench, &config, Start::GoOn).await;
    (bench, api, config)
}

async fn live(bench: &Bench, hard: bool) -> Vec<i64> {
    let only = if hard {
        ""
    } else {
        "where _deleted_at is null"
    };
    bench
        .column(&format!("select id from hr.changes {only} order by id"))
        .await
}

async fn feed_cursor(bench: &Bench) -> Option<String> {
    bench
        .value("select (select cursor #>> '{}' from rosterd.cursors where partition = 'deletes')")
        .await
}

#[tokio::test]
async fn rows_that_are_listed_go_and_the_list_has_a_cursor_of_its_own() {
    for (more, hard) in [("", false), (", hard: true", true)] {
        let (bench, api, config) = given(6, more).await;
        api.delete(2, "2024-03-02", 2);
        // Keys of another type than in the table, and one that no row has.
        api.delete(5, "2024-03-03", "5");
        api.delete(77, "2024-03-03", 77);
        let outcome = succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(outcome.counters.rows_deleted, 2, "{outcome:?}");
        assert_eq!(live(&bench, hard).await, [1, 3, 4, 6]);
        assert_eq!(feed_cursor(&bench).await.as_deref(), Some("2024-03-03"));
        let booked: i64 = bench
            .value("select rows_deleted from rosterd.runs order by run_id desc limit 1")
            .await;
        assert_eq!(booked, 2);
        let outcome = succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(outcome.counters.rows_deleted, 0);
        let asked = api.asked(&["path", "from"]);
        assert_eq!(asked[asked.len() - 2], "deleted 2024-03-03");
    }
}

#[tokio::test]
async fn a_record_that_came_back_is_not_deleted_again() {
    let (bench, api, config) = given(6, ", hard: true").await;
    api.delete(3, "2024-03-02", 3);
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(live(&bench, true).await, [1, 2, 4, 5, 6]);
    api.put(3, "2024-03-05");
    for _ in 0..3 {
        let outcome = succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(outcome.counters.rows_deleted, 0, "the list still has it");
        assert_eq!(live(&bench, true).await, [1, 2, 3, 4, 5, 6]);
    }
    // Deleted and back again between two runs.
    api.delete(4, "2024-03-06", 4);
    api.put(4, "2024-03-07");
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(live(&bench, true).await, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn too_many_at_once_are_held_and_the_cursor_stays() {
    let (bench, api, config) = given(30, "").await;
    for id in 1..=15 {
        api.delete(id, "2024-03-02", id);
    }
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(
        (outcome.status, code(&outcome)),
        (Status::Partial, "deletes_held")
    );
    assert_eq!(live(&bench, true).await.len(), 30);
    assert_eq!(feed_cursor(&bench).await, None);
    let outcome = bench.sync(&config, Start::AnewAllowingDeletes).await;
    assert_eq!(outcome.counters.rows_deleted, 15, "{outcome:?}");
    assert_eq!(live(&bench, false).await.len(), 15);
}

#[tokio::test]
async fn a_list_that_is_cut_short_deletes_nothing_and_the_rest_of_the_run_goes_on() {
    for page in 0..3 {
        let (bench, api, config) = given(12, "").await;
        for id in 1..=9 {
            api.delete(id, &format!("2024-03-02T00:0{id}:00Z"), json!(id));
        }
        api.put(13, "2024-03-03");
        let mut asked = 0;
        api.before_each(move |_, state| {
            if state.log.last().unwrap()["path"] != "deleted" {
                return None;
            }
            asked += 1;
            if asked == page + 1 {
                refusal(403)
            } else {
                None
            }
        });
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(
            (outcome.status, code(&outcome)),
            (Status::Partial, "HTTP 403"),
            "{outcome:?}"
        );
        assert_eq!(outcome.counters.rows_deleted, 0);
        assert_eq!(live(&bench, true).await.len(), 13, "the new one is there");
        api.without_hook();
        let outcome = succeeds(&bench, &config, Start::GoOn).await;
        assert_eq!(outcome.counters.rows_deleted, 9);
    }
}

#[tokio::test]
async fn a_list_that_is_new_to_a_table_waits_for_a_full_read() {
    let (bench, api, config) = given(6, "").await;
    bench
        .execute("delete from rosterd.cursors where partition = 'deletes'")
        .await;
    // Two was deleted and came back long ago; three is gone.
    api.delete(2, "2024-02-01", 2);
    api.put(2, "2024-03-01T00:02:00Z");
    api.delete(3, "2024-03-02", 3);
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(
        (outcome.status, code(&outcome)),
        (Status::Partial, "feed_not_begun")
    );
    assert_eq!(live(&bench, true).await.len(), 6);
    succeeds(&bench, &config, Start::Anew).await;
    assert_eq!(live(&bench, false).await, [1, 2, 4, 5, 6]);
    succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(live(&bench, false).await, [1, 2, 4, 5, 6]);
}

/// The same with a list of changes of all kinds, whose keys stand deeper.
#[tokio::test]
async fn steps_of_its_own_find_what_is_deleted_in_the_list() {
    let steps =
        ", processing_steps: [{filter: '.who.event == \"deleted\"'}, {map: '{who: .who.id, at}'}]";
    let (bench, api, config) = given(6, steps).await;
    api.delete(2, "2024-03-02", json!({"event": "deleted", "id": 2}));
    for (id, event) in [(3, "changed"), (4, "created")] {
        api.delete(id, "2024-03-03", json!({"event": event, "id": id}));
        api.put(id, "2024-03-01");
    }
    let outcome = succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(outcome.counters.rows_deleted, 1, "{outcome:?}");
    assert_eq!(live(&bench, false).await, [1, 3, 4, 5, 6]);
}

#[tokio::test]
async fn an_entry_that_names_no_row_is_a_reject_and_the_others_count() {
    for (steps, column, reason) in [
        ("", "deletes.who", "null_key"),
        (
            ", processing_steps: [{map: '.who = .who + 0'}]",
            "deletes.processing_steps[0].map",
            "step_failed",
        ),
    ] {
        let (bench, api, config) = given(6, steps).await;
        api.delete(2, "2024-03-02", 2);
        let nameless = if steps.is_empty() {
            json!(null)
        } else {
            json!("Jane")
        };
        api.delete(3, "2024-03-03", nameless);
        api.delete(5, "2024-03-04", 5);
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(
            (outcome.status, code(&outcome)),
            (Status::Partial, "rejects"),
            "{outcome:?}"
        );
        assert_eq!(outcome.counters.rows_deleted, 2);
        assert_eq!(live(&bench, false).await, [1, 3, 4, 6]);
        let rejects: Vec<String> = bench
            .column("select concat_ws(' ', reason, column_name, record_key, record) from rosterd.rejects")
            .await;
        assert_eq!(rejects, [format!("{reason} {column}")]);
    }
}

#[tokio::test]
async fn a_list_that_is_too_large_deletes_nothing_and_says_what_to_do() {
    let (bench, api, config) = given(30, ", max_records: 5").await;
    for id in 1..=6 {
        api.delete(id, "2024-03-02", id);
    }
    for _ in 0..2 {
        api.put(30, "2024-03-05");
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(
            (outcome.status, code(&outcome)),
            (Status::Partial, "feed_too_large"),
            "{outcome:?}"
        );
        assert_eq!(outcome.counters.rows_deleted, 0);
        assert_eq!(feed_cursor(&bench).await, None);
        assert_eq!(live(&bench, true).await.len(), 30);
        let hint = outcome.fault.unwrap().hint;
        assert!(hint.contains("deletes.max_records"), "{hint}");
    }
    let config = config.replace("max_records: 5", "max_records: 6");
    let outcome = succeeds(&bench, &config, Start::GoOn).await;
    assert_eq!(outcome.counters.rows_deleted, 6, "{outcome:?}");
}

#[tokio::test]
async fn what_was_deleted_before_the_first_row_came_is_not_held() {
    let api = Changes::start().await;
    for id in 1..=6 {
        api.put(id, "2024-03-01");
        api.delete(id, "2024-03-02", id);
    }
    api.put(7, "2024-03-03");
    let bench = Bench::new().await;
    succeeds(&bench, &config(&api, ", max_records: 5"), Start::GoOn).await;
    assert_eq!(live(&bench, true).await, [7]);
    assert_eq!(feed_cursor(&bench).await.as_deref(), Some("2024-03-02"));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (deletes, expected) in [
        ("feed", "needs an `endpoint`"),
        ("{mode: snapshot, endpoint: {path: d}}", "no other mode"),
        ("{mode: snapshot, key: a}", "only `mode: feed`"),
        ("{mode: feed, endpoint: d}", "expected a map"),
        (
            "{mode: feed, endpoint: {path: d}}",
            "needs an `incremental` of its own",
        ),
        (
            "{mode: feed, endpoint: {params: {a: 1}}}",
            "`path` is missing",
        ),
        (
            "{mode: feed, key: [a, b], endpoint: {path: d}}",
            "one field for each",
        ),
        ("{mode: feed, endpoint: {path: d, pth: x}}", "unknown key"),
        (
            "{mode: feed, endpoint: {path: d, incremental: {watermark: token, start_param: t}}}",
            "one walk from its cursor",
        ),
        (
            "{mode: snapshot, processing_steps: [{filter: .a}]}",
            "only `mode: feed` has steps",
        ),
        (
            "{mode: feed, processing_steps: [{filter: .a, map: .b}], endpoint: {path: d, incremental: {cursor_path: u}}}",
            "exactly one of filter, map",
        ),
        (
            "{mode: feed, processing_steps: [{filter: '.a |'}], endpoint: {path: d, incremental: {cursor_path: u}}}",
            "line 1, column 5",
        ),
        (
            "{mode: feed, endpoint: {path: d, incremental: {cursor_path: u}}}
        privacy: {hash: id}",
            "that the privacy rules hash",
        ),
    ] {
        let text = format!(
            "
privacy: {{key: {{id: k1, secret: a-key-of-thirty-two-characters-1}}}}
sources:
  hr:
    client: {{base_url: 'https://api.example.com', paginator: single_page}}
    resources:
      - name: changes
        primary_key: id
        write_disposition: merge
        deletes: {deletes}
        endpoint: {{path: /c, incremental: {{cursor_path: u, start_param: s}}}}
"
        );
        match rosterd::config::from_str(&text) {
            Ok(_) => panic!("{deletes}"),
            Err(problems) => {
                assert!(
                    problems.to_string().contains(expected),
                    "{deletes}\n{problems}"
                );
                assert!(
                    problems.iter().all(|p| p.path.contains("[0].deletes")),
                    "{problems}"
                );
            }
        }
    }
}
