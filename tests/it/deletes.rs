//! Rows whose records are gone: when they go, and above all when they stay.

use std::collections::BTreeSet;

use rosterd::{record::Status, sync::Start};
use serde_json::json;
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;

use crate::support::{
    api::{Api, Collection, Fault, Paging},
    daemon::Setup,
    sync::Bench,
};

const PAGE: usize = 10;

fn config(api: &Api, deletes: &str) -> String {
    format!(
        "
daemon: {{admin: {{listen: null}}}}
sources:
  hr:
    client: {{base_url: '{}', retry: {{max_retries: 0}}}}
    resources:
      - name: employees
        primary_key: id
        write_disposition: merge
        deletes: {deletes}
        batch: {{rows: {PAGE}}}
        endpoint:
          path: /v1/employees
          data_selector: data
          paginator: {{type: offset, limit: {PAGE}}}
",
        api.url()
    )
}

const SOFT: &str = "snapshot";
const HARD: &str = "{mode: snapshot, hard: true}";

/// An API with so many employees, and a table that holds them.
async fn given(count: i64, deletes: &str) -> (Bench, Api, Collection, String) {
    let api = Api::start().await;
    let people = api.collection("employees").fill(count);
    let config = config(&api, deletes);
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    (bench, api, people, config)
}

async fn live(bench: &Bench) -> BTreeSet<i64> {
    let has_marks: bool = bench
        .value(
            "select exists (select from information_schema.columns where table_schema = 'hr'
               and table_name = 'employees' and column_name = '_deleted_at')",
        )
        .await;
    let query = if has_marks {
        "select id from hr.employees where _deleted_at is null"
    } else {
        "select id from hr.employees"
    };
    bench.column(query).await.into_iter().collect()
}

fn ids(people: &Collection) -> BTreeSet<i64> {
    let records = people.records();
    records
        .iter()
        .map(|record| record["id"].as_i64().unwrap())
        .collect()
}

fn code(outcome: &rosterd::sync::Outcome) -> &str {
    outcome.fault.as_ref().map_or("", |fault| &fault.code)
}

#[tokio::test]
async fn a_complete_walk_ends_the_rows_that_it_did_not_see() {
    for (deletes, kept) in [(SOFT, 40_i64), (HARD, 37)] {
        let (bench, _api, people, config) = given(40, deletes).await;
        for id in [1, 17, 40] {
            people.remove(id);
        }
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert_eq!(outcome.counters.rows_deleted, 3);
        assert_eq!(live(&bench).await, ids(&people));
        let rows: i64 = bench.value("select count(*) from hr.employees").await;
        assert_eq!(rows, kept, "{deletes}");
        let by_run: i64 = bench
            .value(&format!(
                "select count(*) from hr.employees where _run_id = {}",
                outcome.run_id
            ))
            .await;
        assert_eq!(
            by_run,
            kept - 37,
            "marked rows name the run that marked them"
        );

        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.counters.rows_deleted, 0, "none is deleted twice");
        assert_eq!(outcome.counters.rows_changed(), 0);
        let seen: i64 = bench.value("select count(*) from rosterd.seen").await;
        assert_eq!(seen, 0, "what was seen is forgotten");
    }
}

#[tokio::test]
async fn without_deletes_rows_stay_for_ever() {
    let (bench, _api, people, config) = given(15, "none").await;
    people.remove(3);
    bench.sync(&config, Start::GoOn).await;
    assert_eq!(live(&bench).await.len(), 15);
}

#[tokio::test]
async fn unchanged_data_leave_the_table_untouched() {
    let (bench, _api, people, config) = given(40, SOFT).await;
    people.remove(7);
    bench.sync(&config, Start::GoOn).await;
    let versions = "select string_agg(xmin::text || ctid::text, ',' order by id) from hr.employees";
    let before: String = bench.value(versions).await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.counters.rows_unchanged, 39);
    let after: String = bench.value(versions).await;
    assert_eq!(before, after);

    // A server process tells its counters when it ends.
    bench.db.pool().close().await;
    let mut other = sqlx::PgConnection::connect_with(bench.db.options())
        .await
        .unwrap();
    let alone = "select count(*) = 1 from pg_stat_activity where datname = current_database()";
    while !sqlx::query_scalar::<_, bool>(alone)
        .fetch_one(&mut other)
        .await
        .unwrap()
    {
        tokio::task::yield_now().await;
    }
    let written: Vec<i64> = sqlx::query_scalar(
        "select array[n_tup_ins, n_tup_upd, n_tup_del] from pg_stat_user_tables
         where schemaname = 'hr' and relname = 'employees'",
    )
    .fetch_one(&mut other)
    .await
    .unwrap();
    assert_eq!(
        written,
        [40, 1, 0],
        "inserted once, one marked, none deleted"
    );
}

#[tokio::test]
async fn a_row_that_comes_back_is_no_more_deleted() {
    let (bench, _api, people, config) = given(20, SOFT).await;
    let gone = people.records()[4].clone();
    people.remove(5);
    bench.sync(&config, Start::GoOn).await;
    assert!(!live(&bench).await.contains(&5));
    people.put(gone);
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.counters.rows_updated, 1);
    assert_eq!(live(&bench).await, ids(&people));
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.counters.rows_changed(), 0);
}

#[tokio::test]
async fn a_row_comes_back_unchanged_byte_for_byte() {
    let (bench, api, _people, config) = given(20, SOFT).await;
    bench
        .execute("update hr.employees set _deleted_at = now() where id = 5")
        .await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.counters.rows_updated, 1);
    assert_eq!(live(&bench).await.len(), 20);
    drop(api);
}

#[tokio::test]
async fn too_many_rows_are_held_until_somebody_allows_it_once() {
    for deletes in [SOFT, HARD] {
        let (bench, _api, people, config) = given(60, deletes).await;
        for id in 1..=30 {
            people.remove(id);
        }
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(
            (outcome.status, code(&outcome)),
            (Status::Partial, "deletes_held")
        );
        let fault = outcome.fault.unwrap();
        assert!(fault.message.contains("30 of 60 rows"), "{}", fault.message);
        assert!(
            fault
                .hint
                .contains("rosterd sync hr/employees --allow-deletes"),
            "{}",
            fault.hint
        );
        assert_eq!(live(&bench).await.len(), 60);

        let outcome = bench.sync(&config, Start::AnewAllowingDeletes).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert_eq!(outcome.counters.rows_deleted, 30);
        assert_eq!(live(&bench).await, ids(&people));

        for id in 31..=45 {
            people.remove(id);
        }
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(code(&outcome), "deletes_held", "allowed once is not always");
    }
}

#[tokio::test]
async fn an_empty_answer_deletes_nothing_however_few_the_rows() {
    let (bench, _api, people, config) = given(3, SOFT).await;
    for id in 1..=3 {
        people.remove(id);
    }
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(
        (outcome.status, code(&outcome)),
        (Status::Partial, "deletes_held")
    );
    assert_eq!(live(&bench).await.len(), 3);
    let outcome = bench.sync(&config, Start::AnewAllowingDeletes).await;
    assert_eq!(outcome.counters.rows_deleted, 3);
    assert!(live(&bench).await.is_empty());
}

#[tokio::test]
async fn a_walk_that_is_refused_on_any_page_deletes_nothing() {
    for page in 0..4 {
        for status in [403, 500] {
            let (bench, api, people, config) = given(40, HARD).await;
            people.remove(2);
            people.remove(39);
            api.page(page).fails_with(status).once();
            let outcome = bench.sync(&config, Start::GoOn).await;
            assert_eq!(outcome.status, Status::Failed, "{outcome:?}");
            assert_eq!(outcome.counters.rows_deleted, 0);
            assert_eq!(live(&bench).await.len(), 40);
            let outcome = bench.sync(&config, Start::GoOn).await;
            assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
            assert_eq!(live(&bench).await, ids(&people), "page {page}");
        }
    }
}

#[tokio::test]
async fn a_walk_that_is_cut_short_on_any_page_deletes_nothing() {
    let cut = Fault::Answer(
        200,
        "application/json",
        br#"{"data": [], "total": 0}"#.as_slice().into(),
    );
    for page in 1..4 {
        let (bench, api, people, config) = given(40, HARD).await;
        people.remove(2);
        api.page(page).goes(cut.clone()).always();
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_ne!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert_eq!(live(&bench).await.len(), 40, "page {page}");
    }
}

#[tokio::test]
async fn a_stopped_walk_goes_on_and_knows_what_it_saw() {
    for page in 0..4 {
        let (bench, api, people, config) = given(40, HARD).await;
        people.remove(2);
        people.remove(39);
        let stop = CancellationToken::new();
        let token = stop.clone();
        api.after_page(page, move || token.cancel());
        let outcome = bench.sync_until(&config, Start::GoOn, stop).await;
        assert_eq!(outcome.status, Status::Interrupted, "{outcome:?}");
        assert_eq!(live(&bench).await.len(), 40);
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert_eq!(live(&bench).await, ids(&people), "page {page}");
    }
}

// The API must answer while the test waits for the process.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_is_killed_anywhere_deletes_the_right_rows_in_the_end() {
    // Four pages, the same once more as rows would go, and the end: nine commits.
    let points = [
        "load.after_merge",
        "load.before_commit",
        "load.after_commit",
    ];
    for (nth, point) in (1..=9).flat_map(|nth| points.map(|point| (nth, point))) {
        let (bench, _api, people, config) = given(40, HARD).await;
        people.remove(2);
        people.remove(39);
        let config = format!("database: {{url: '{}'}}\n{config}", bench.db.url());
        let mut killed = Setup::command(config.clone(), &["sync", "hr/employees"])
            .with_env("ROSTERD_FAILPOINT", &format!("{point}:{nth}"))
            .start();
        let status = killed.wait();
        assert_eq!(
            status.code(),
            None,
            "{point}:{nth} was not reached: {}",
            killed.stderr()
        );
        let rows = live(&bench).await.len();
        assert!(rows == 40 || rows == 38, "all or nothing, not {rows}");
        bench.let_leases_run_out().await;

        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(
            outcome.status,
            Status::Succeeded,
            "{point}:{nth} {outcome:?}"
        );
        assert_eq!(live(&bench).await, ids(&people), "{point}:{nth}");
    }
}

#[tokio::test]
async fn an_incremental_walk_deletes_nothing_and_a_full_one_does() {
    for asked in [
        "incremental: {cursor_path: updated_at, start_param: updated_since, initial_value: '2020-01-01T00:00:00Z'}",
        "params: {updated_since: '{incremental.start_value}'}
          incremental: {cursor_path: updated_at, initial_value: '2020-01-01T00:00:00Z'}",
    ] {
        let (bench, _api, people, config) = given(30, SOFT).await;
        let config = config.replace(
            "          data_selector: data\n",
            &format!("          data_selector: data\n          {asked}\n"),
        );
        bench.execute("delete from rosterd.cursors").await;
        bench.sync(&config, Start::GoOn).await;
        people.remove(3);
        people.put(json!({"id": 31, "name": "Person 31"}));
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert!(outcome.counters.records_read < 30, "{outcome:?}");
        assert_eq!(outcome.counters.rows_inserted, 1);
        assert_eq!(outcome.counters.rows_deleted, 0);
        assert_eq!(live(&bench).await.len(), 31);
        let outcome = bench.sync(&config, Start::Anew).await;
        assert_eq!(outcome.counters.rows_deleted, 1, "{outcome:?}");
        assert_eq!(live(&bench).await, ids(&people));
    }
}

#[tokio::test]
async fn a_record_whose_key_is_unknown_may_be_any_row() {
    let (bench, api, people, config) = given(20, HARD).await;
    people.remove(3);
    let mut records = people.records();
    records[0]["id"] = json!(null);
    let page = json!({"data": records, "total": records.len()});
    api.page(0)
        .goes(Fault::Answer(
            200,
            "application/json",
            page.to_string().into(),
        ))
        .always();
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(
        (outcome.status, code(&outcome)),
        (Status::Partial, "deletes_held")
    );
    assert_eq!(live(&bench).await.len(), 20);
}

#[tokio::test]
async fn a_rejected_record_whose_key_is_known_was_seen() {
    let (bench, _api, people, config) = given(20, HARD).await;
    people.remove(3);
    people.put(json!({"id": 4, "name": "Another name", "salary": 1}));
    bench
        .execute("alter table hr.employees add constraint unfit check (id <> 4) not valid")
        .await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(
        (outcome.status, code(&outcome)),
        (Status::Partial, "rejects")
    );
    assert_eq!(
        live(&bench).await,
        ids(&people),
        "row 3 is gone, row 4 stays"
    );
}

#[tokio::test]
async fn keys_that_change_their_type_on_the_way_are_read_again() {
    let (bench, api, people, config) = given(20, HARD).await;
    people.remove(3);
    // The last page, 9 records from offset 10, has a key that is no number.
    let mut records = people.records().split_off(PAGE);
    records[5]["id"] = json!("E-16");
    let page = json!({"data": records, "total": 19});
    api.page(1)
        .goes(Fault::Answer(
            200,
            "application/json",
            page.to_string().into(),
        ))
        .always();
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert_eq!(outcome.counters.rows_deleted, 2);
    let keys: Vec<String> = bench.column("select id from hr.employees").await;
    assert_eq!(keys.len(), 19);
    assert!(keys.contains(&"E-16".to_owned()) && !keys.contains(&"3".to_owned()));
}

#[tokio::test]
async fn every_kind_of_paging_can_end_in_deletes() {
    for (paging, paginator) in [
        (
            Paging::PageNumber(1),
            "{type: page_number, base_page: 1, total_path: total}",
        ),
        (
            Paging::Cursor,
            "{type: cursor, cursor_path: next_cursor, cursor_param: cursor}",
        ),
        (Paging::JsonLink, "{type: json_link, next_url_path: next}"),
        (Paging::Single, "single_page"),
    ] {
        let (bench, _api, people, config) = given(35, SOFT).await;
        let people = people.paging(paging).page_size(PAGE);
        let config = config.replace(&format!("{{type: offset, limit: {PAGE}}}"), paginator);
        people.remove(11);
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{paginator} {outcome:?}");
        assert_eq!(live(&bench).await, ids(&people), "{paginator}");
    }
}

#[tokio::test]
async fn records_that_move_while_they_are_read_are_never_taken_for_gone() {
    for seed in 0..4_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (bench, api, people, config) =
            given(120, "{mode: snapshot, hard: true, floor: 1000}").await;
        let mut next = 121;
        for round in 0..4 {
            // Whatever is there during the whole run must be in the table after it.
            let before = ids(&people);
            for page in 0..11 {
                if random.u8(..3) > 0 {
                    continue;
                }
                let all: Vec<i64> = ids(&people).into_iter().collect();
                let goes = all[random.usize(..all.len())];
                let (people, comes) = (people.clone(), next);
                next += 1;
                api.after_page(page, move || {
                    people.remove(goes);
                    people.put(json!({"id": comes, "name": format!("Person {comes}")}));
                });
            }
            let outcome = bench.sync(&config, Start::GoOn).await;
            let after = ids(&people);
            let live = live(&bench).await;
            let lost: Vec<_> = before
                .intersection(&after)
                .filter(|id| !live.contains(id))
                .collect();
            assert!(
                lost.is_empty(),
                "seed {seed}, round {round}: {lost:?} {outcome:?}"
            );
        }
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert_eq!(live(&bench).await, ids(&people), "seed {seed}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let base = |disposition: &str, deletes: &str| {
        format!(
            "
sources:
  hr:
    client: {{base_url: 'https://api.example.com'}}
    resources:
      - name: employees
        primary_key: id
        write_disposition: {disposition}
        deletes: {deletes}
        endpoint: {{path: /v1/employees, data_selector: data, paginator: single_page}}
"
        )
    };
    assert!(rosterd::config::from_str(&base("merge", "snapshot")).is_ok());
    assert!(rosterd::config::from_str(&base("append", "none")).is_ok());
    for (disposition, deletes, expected) in [
        (
            "replace",
            "snapshot",
            "under `write_disposition: merge` only",
        ),
        (
            "append",
            "{mode: snapshot}",
            "under `write_disposition: merge` only",
        ),
        (
            "merge",
            "{mode: snapshot, max_fraction: 1.5}",
            "from 0 to 1",
        ),
        ("merge", "{hard: true}", "`mode`"),
        ("merge", "sometimes", "expected one of"),
    ] {
        let problems = rosterd::config::from_str(&base(disposition, deletes)).unwrap_err();
        assert!(problems.to_string().contains(expected), "{problems}");
    }
}
