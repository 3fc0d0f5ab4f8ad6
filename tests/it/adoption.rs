//! A table that people made, or added to, before or beside rosterd.

use std::sync::Arc;

use rosterd::demo;
use sqlx::Row;
use tokio_util::sync::CancellationToken;

use crate::support::{daemon::Setup, db::TestDb};

fn config(db: &TestDb, api: &demo::Api) -> String {
    format!(
        r#"
database: {{url: "{}"}}
daemon: {{admin: {{listen: null}}}}
sources:
  hr:
    client:
      base_url: "{}"
      auth: {{type: api_key, name: api_key, api_key: "a-key-of-this-test", location: query}}
    resources:
      - name: employees
        primary_key: id
        write_disposition: merge
        endpoint: {{path: /v1/employees, data_selector: data, paginator: {{type: offset, limit: 100}}}}
"#,
        db.url(),
        api.base_url()
    )
}

async fn given_api() -> (Arc<demo::Api>, CancellationToken) {
    let cancel = CancellationToken::new();
    let options = demo::Options {
        employees: 250,
        key: "a-key-of-this-test".to_owned(),
        ..demo::Options::default()
    };
    let api = demo::Api::start(options, cancel.clone()).await.unwrap();
    (Arc::new(api), cancel)
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_people_added_are_left_as_they_are() {
    let (api, _cancel) = given_api().await;
    let db = TestDb::new().await;
    let sync = || {
        let mut run = Setup::command(config(&db, &api), &["sync"]).start();
        let status = run.wait();
        assert!(status.success(), "{}", run.stderr());
    };
    sync();
    sqlx::raw_sql(
        "alter table hr.employees add column note text, add column badge uuid default gen_random_uuid();
         update hr.employees set note = 'mine'",
    )
    .execute(db.pool())
    .await
    .unwrap();

    api.mutate("employees", demo::Mutation::Change(50));
    sync();

    let row = sqlx::query(
        "select count(*) filter (where note = 'mine'), count(badge), count(*) from hr.employees",
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    let (noted, badged, all): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((noted, badged, all), (250, 250, 250));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_by_hand_is_filled_and_gets_the_missing_columns() {
    let (api, _cancel) = given_api().await;
    let db = TestDb::new().await;
    sqlx::raw_sql(
        "create schema hr; create table hr.employees (id bigint primary key, email text)",
    )
    .execute(db.pool())
    .await
    .unwrap();

    let mut run = Setup::command(config(&db, &api), &["sync"]).start();
    let status = run.wait();
    assert!(status.success(), "{}", run.stderr());

    let filled: i64 = sqlx::query_scalar(
        "select count(*) from hr.employees where _run_id is not null and id is not null",
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    assert_eq!(filled, 250);
}
