//! Processing steps on the way from an answer to rows.

use rosterd::{record::Status, sync::Start};
use serde_json::json;

use crate::support::{
    site::{Reply, Site},
    sync::Bench,
};

/// One resource `docs` with these keys, over a site that answers every request with `body`.
async fn given(body: &str, resource: &str) -> (Bench, Site, String) {
    let body = body.to_owned();
    let site = Site::start(move |asked| match asked.path.as_str() {
        "/docs" => Reply::text(body.clone()),
        _ => Reply::text("[]"),
    })
    .await;
    let config = format!(
        "
sources:
  hr:
    client: {{base_url: '{}', paginator: single_page, retry: {{max_retries: 0}}}}
    resources:
      - name: docs
        primary_key: id
        write_disposition: merge
{resource}",
        site.url()
    );
    (Bench::new().await, site, config)
}

#[tokio::test]
async fn a_map_of_keys_becomes_rows_and_money_keeps_every_digit() {
    let (bench, _site, config) = given(
        r#"{"people": {"7": {"pay": 1234567890123456789.10, "on": true}, "9": {"pay": 0.30, "on": false}, "x": {"pay": 1e2, "on": true}}}"#,
        "
        endpoint: {path: docs, data_selector: people}
        processing_steps:
          - yield_map: 'to_entries[] | .value + {id: .key}'
          - filter: .on
          - map: 'del(.on)'
",
    )
    .await;
    for inserted in [2, 0] {
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert_eq!(outcome.counters.rows_inserted, inserted);
        assert_eq!(outcome.counters.records_read, 1);
    }
    let rows: Vec<String> = bench
        .column("select id || ' ' || pay from hr.docs order by id")
        .await;
    assert_eq!(rows, ["7 1234567890123456789.10", "x 100"]);
}

#[tokio::test]
async fn a_record_that_a_step_fails_on_is_a_reject_without_its_values() {
    let body = json!([{"id": 1, "n": 5}, {"id": 2, "n": "Jane Doe"}, {"id": 3, "n": 6}]);
    let (bench, _site, config) = given(
        &body.to_string(),
        "
        processing_steps: [{map: '.n = (.n - 1)'}]
",
    )
    .await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Partial, "{outcome:?}");
    assert_eq!(outcome.counters.rows_rejected, 1);
    let rows: Vec<i64> = bench.column("select n from hr.docs order by id").await;
    assert_eq!(rows, [4, 5]);
    let rejects: Vec<String> = bench
        .column("select to_jsonb(r)::text from rosterd.rejects r")
        .await;
    assert_eq!(rejects.len(), 1);
    assert!(rejects[0].contains("step_failed") && rejects[0].contains("processing_steps[0].map"));
    assert!(!rejects[0].contains("Jane"), "{}", rejects[0]);
}

#[tokio::test]
async fn privacy_keys_and_cursor_see_what_the_steps_made() {
    let (bench, _site, config) = given(
        r#"[{"Id": "A", "secret": "s3cr3t", "At": "2024-05-01T00:00:00Z"}, {"Id": "B", "secret": "x", "At": "2024-06-01T00:00:00Z"}]"#,
        "
        endpoint: {path: docs, incremental: {cursor_path: at, start_param: since}}
        processing_steps: [{map: '{id: .Id, at: .At, kept: .secret, iban: .secret}'}]
        privacy: {exclude: [iban]}
",
    )
    .await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let rows: Vec<String> = bench
        .column("select (to_jsonb(d) - '{_run_id,_synced_at,_row_hash}'::text[])::text from hr.docs d order by id")
        .await;
    assert_eq!(
        rows[0],
        r#"{"at": "2024-05-01T00:00:00+00:00", "id": "A", "kept": "s3cr3t"}"#
    );
    let cursor: String = bench
        .value("select cursor_to from rosterd.runs order by run_id desc limit 1")
        .await;
    assert_eq!(cursor, "2024-06-01T00:00:00Z");
}

#[tokio::test]
async fn texts_that_postgres_cannot_hold_are_replaced_and_counted_with_steps_too() {
    let (bench, _site, config) = given(
        r#"[{"id": 1, "t": "a\u0000b\ud800c"}]"#,
        "
        processing_steps: [{filter: 'true'}]
",
    )
    .await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert_eq!(outcome.counters.text_replaced, 2);
    let text: String = bench.value("select t from hr.docs").await;
    assert_eq!(text, "a\u{fffd}b\u{fffd}c");
}
