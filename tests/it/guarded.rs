//! What a table is guarded against: answers that only look like "no records", readers in the middle of a
//! swap, a cursor that belongs to another question.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use rosterd::{record::Status, sync::Start};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio_util::task::TaskTracker;

use crate::support::{
    daemon::Setup,
    site::{Reply, Site},
    sync::Bench,
};

/// An API whose answers, by page, a test may set at any time.
struct Paged {
    site: Site,
    answers: Arc<Mutex<Vec<String>>>,
}

impl Paged {
    async fn start(answers: Vec<String>) -> Self {
        let answers = Arc::new(Mutex::new(answers));
        let told = Arc::clone(&answers);
        let site = Site::start(move |asked| {
            let page = asked.number("page", 0);
            Reply::text(told.lock().unwrap()[page].clone())
        })
        .await;
        Self { site, answers }
    }

    fn config(&self, keys: &str) -> String {
        format!(
            "
daemon: {{admin: {{listen: null}}}}
sources:
  hr:
    client: {{base_url: '{}', retry: {{max_retries: 0}}}}
    resources:
      - name: docs
        {keys}
        endpoint: {{path: docs, data_selector: data, paginator: {{type: page_number, base_page: 0, total_path: pages}}}}
",
            self.site.url()
        )
    }
}

fn page(pages: usize, ids: std::ops::Range<i64>) -> String {
    let data: Vec<Value> = ids.map(|id| json!({"id": id, "tags": [id]})).collect();
    json!({"pages": pages, "data": data}).to_string()
}

#[tokio::test]
async fn an_answer_without_its_list_is_no_empty_list_on_any_page() {
    let whole = || vec![page(3, 0..4), page(3, 4..8), page(3, 8..12)];
    for keys in [
        "primary_key: id\n        write_disposition: merge\n        deletes: {mode: snapshot, hard: true, max_fraction: 1}",
        "primary_key: id\n        write_disposition: replace\n        allow_empty: true",
        "merge_key: id\n        write_disposition: merge",
        "primary_key: id\n        write_disposition: {disposition: merge, strategy: scd2}",
    ] {
        let api = Paged::start(whole()).await;
        let bench = Bench::new().await;
        let config = api.config(keys);
        let first = bench.sync(&config, Start::GoOn).await;
        assert_eq!(first.status, Status::Succeeded, "{first:?}");
        let versions =
            "select string_agg(ctid::text || xmin::text, ',' order by ctid) from hr.docs";
        let before: String = bench.value(versions).await;
        for at in [0, 2] {
            for answer in [
                r#"{"pages": 3, "error": {"code": 500, "message": "come back later"}}"#,
                r#"{"pages": 3, "data": null}"#,
                "[]",
            ] {
                let mut answers = whole();
                answers[at] = answer.to_owned();
                *api.answers.lock().unwrap() = answers;
                let outcome = bench.sync(&config, Start::GoOn).await;
                assert_eq!(outcome.status, Status::Failed, "{keys} {answer}");
                let code = outcome.fault.unwrap().code;
                assert_eq!(code, "unexpected_shape", "{keys} {answer}");
                let after: String = bench.value(versions).await;
                assert_eq!(before, after, "{keys}: {answer} on page {at}");
            }
        }
        *api.answers.lock().unwrap() = whole();
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert_eq!(outcome.counters.rows_changed(), 0, "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_in_the_middle_of_a_swap_sees_the_old_rows_or_the_new_ones() {
    let of = |from: i64| {
        vec![
            page(3, from..from + 700),
            page(3, from + 700..from + 1400),
            page(3, from + 1400..from + 2000),
        ]
    };
    for keys in [
        "primary_key: id\n        write_disposition: replace",
        "primary_key: id\n        write_disposition: replace\n        max_table_nesting: 1",
        "write_disposition: replace",
        "primary_key: id\n        write_disposition: merge\n        deletes: {mode: snapshot, hard: true, max_fraction: 1}\n        batch: {rows: 10000}",
    ] {
        let api = Paged::start(of(0)).await;
        let bench = Bench::new().await;
        let config = api.config(keys);
        bench.sync(&config, Start::GoOn).await;
        let (is_over, options) = (Arc::new(AtomicBool::new(false)), bench.db.options().clone());
        let over = Arc::clone(&is_over);
        // Rows and their lists in one statement, so that both are of one instant.
        let query = match keys.contains("max_table_nesting") {
            true => "select (select count(*) from hr.docs), (select count(*) from hr.docs__tags)",
            false => "select count(*), count(*) from hr.docs",
        };
        let reader = TaskTracker::new().spawn(async move {
            let mut connection = PgConnection::connect_with(&options).await.unwrap();
            let (mut least, mut looks) = ((i64::MAX, i64::MAX), 0);
            loop {
                // The last look is one behind the last commit.
                let is_last = over.load(Ordering::SeqCst);
                let (rows, lists): (i64, i64) = sqlx::query_as(query)
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
                least = (least.0.min(rows), least.1.min(lists));
                looks += 1;
                if is_last {
                    break;
                }
            }
            (least, looks)
        });
        // Nothing of what was there is there any more; then there is less of it.
        for answers in [of(5_000), vec![page(1, 5_000..6_500)]] {
            *api.answers.lock().unwrap() = answers;
            let outcome = bench.sync(&config, Start::GoOn).await;
            assert_eq!(outcome.status, Status::Succeeded, "{keys} {outcome:?}");
        }
        is_over.store(true, Ordering::SeqCst);
        let ((rows, lists), looks) = reader.await.unwrap();
        assert!(looks > 2, "{keys}: {looks} looks");
        assert_eq!((rows, lists), (1_500, 1_500), "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_question_is_refused_and_kept_until_somebody_resets_it() {
    let site =
        Site::start(|_| json!([{"id": 1, "no": 1, "at": "2024-05-01T00:00:00Z"}]).into()).await;
    let bench = Bench::new().await;
    let config = |key: &str, endpoint: &str| {
        format!(
            "
database: {{url: '{}'}}
daemon: {{admin: {{listen: null}}}}
sources:
  hr:
    client: {{base_url: '{}', paginator: single_page}}
    resources:
      - name: docs
        primary_key: {key}
        write_disposition: merge
        endpoint: {{{endpoint}, incremental: {{cursor_path: at, start_param: since, initial_value: '2020-01-01T00:00:00Z'}}}}
",
            bench.db.url(),
            site.url()
        )
    };
    let first = config("id", "path: docs");
    let outcome = bench.sync(&first, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let cursor = "select cursor #>> '{}' from rosterd.cursors";
    let stored: String = bench.value(cursor).await;
    for (key, endpoint, code) in [
        ("id", "path: docs/all", "cursor_mismatch"),
        (
            "id",
            "path: docs, params: {status: active}",
            "cursor_mismatch",
        ),
        // The table has another key, which comes first.
        ("no", "path: docs", "no_unique_key"),
        ("[id, no]", "path: docs", "no_unique_key"),
    ] {
        let changed = config(key, endpoint);
        let asked = site.asked().len();
        let outcome = bench.sync(&changed, Start::GoOn).await;
        let fault = outcome.fault.unwrap();
        assert_eq!(
            (outcome.status, fault.code.as_str()),
            (Status::Failed, code),
            "{key} {endpoint}"
        );
        assert!(
            code == "no_unique_key" || fault.hint.contains("rosterd reset"),
            "{}",
            fault.hint
        );
        assert_eq!(
            bench.value::<String>(cursor).await,
            stored,
            "{key} {endpoint}"
        );
        assert_eq!(site.asked().len(), asked, "nothing was asked");
    }
    // The old question goes on where it was, and the new one after a reset, which keeps the old value.
    let outcome = bench.sync(&first, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let changed = config("id", "path: docs/all");
    let reset = changed.clone();
    let said = tokio::task::spawn_blocking(move || {
        let mut reset = Setup::command(reset, &["reset", "hr/docs"]).start();
        (reset.wait().success(), reset.stderr())
    })
    .await
    .unwrap();
    assert!(said.0, "{}", said.1);
    let logged: Vec<String> = bench
        .column("select old_cursor #>> '{}' from rosterd.cursor_log where new_cursor is null")
        .await;
    assert_eq!(logged, std::slice::from_ref(&stored));
    let outcome = bench.sync(&changed, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let since = site
        .asked()
        .last()
        .unwrap()
        .param("since")
        .unwrap()
        .to_owned();
    assert_eq!(since, "2020-01-01T00:00:00Z");
}
