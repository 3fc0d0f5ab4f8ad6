//! What `rosterd preview` says a resource's first request would be, and what its answer would become.

use serde_json::{Value, json};

use crate::support::{
    daemon::Setup,
    db::TestDb,
    site::{Reply, Site},
};

const SECRET: &str = "canary-5ecret-value";

async fn site() -> Site {
    Site::start(|asked| match asked.path.as_str() {
        "/teams" => json!([{"id": "a/b"}, {"id": "c"}]).into(),
        "/broken" => Reply::status(500),
        "/before" => json!([{"id": 1, "name": "Jo"}, {"id": 2, "name": "Ali"}]).into(),
        "/leavers" => json!([{"id": 1, "name": "Jo"}, {"id": 2, "name": "Al"}, {"id": 3, "name": "Cy", "left": "2020-01-01"}]).into(),
        "/parts" => json!([{"id": 1, "name": "Joe"}, {"id": 1, "mail": "j@x.org"}]).into(),
        "/after" => {
            json!([{"id": 1, "name": "Jo"}, {"id": 2, "name": "Al"}, {"id": 3, "mail": "b@x.org"}])
                .into()
        }
        _ => json!([{"id": 1, "name": "Jo", "ssn": "123"}, {"id": 2, "name": "Al", "ssn": "456"}])
            .into(),
    })
    .await
}

/// The preview of `hr/docs`, and what was said beside it.
async fn preview(db: &TestDb, site: &Site, client: &str, resource: &str) -> (Value, String) {
    let (shown, said) = command(
        &["preview", "hr/docs", "--format", "json"],
        db,
        site,
        client,
        resource,
    )
    .await;
    let parsed = serde_json::from_str(&shown).unwrap_or_default();
    (parsed, said + &shown)
}

/// What a command says on the one and on the other way.
async fn command(
    command: &[&str],
    db: &TestDb,
    site: &Site,
    client: &str,
    resource: &str,
) -> (String, String) {
    let parents = match resource.contains("{resources.teams") {
        true => "- {name: teams, selected: false}",
        false => "",
    };
    let config = format!(
        "
database: {{url: '{}'}}
daemon: {{admin: {{listen: null}}}}
privacy: {{key: {{id: k1, secret: a-key-of-thirty-two-characters-1}}}}
sources:
  hr:
    vars: {{tenant: acme}}
    client:
      base_url: '{}'
      paginator: single_page
      retry: {{max_retries: 0}}
      {client}
    resource_defaults: {{primary_key: id, write_disposition: merge}}
    resources:
      {parents}
      - name: docs
        {resource}
",
        db.url(),
        site.url()
    );
    let setup = Setup::command(config, command).with_env("HR_KEY", SECRET);
    tokio::task::spawn_blocking(move || {
        let mut process = setup.start();
        process.wait();
        (process.stdout(), process.stderr())
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_is_shown_as_it_is_sent_with_its_secrets_masked() {
    let (db, site) = (TestDb::new().await, site().await);
    let key = |more: &str| format!("auth: {{type: api_key, api_key: '${{HR_KEY}}', {more}}}");
    for (client, resource, expected) in [
        (
            String::new(),
            "endpoint: {path: docs, params: {tenant: '{vars.tenant}', active: true, empty: null}}",
            "GET {url}/docs?tenant=acme&active=true",
        ),
        (
            key("name: apikey, location: query"),
            "endpoint: {path: docs, params: {a: 1}}",
            "GET {url}/docs?a=1&apikey=***",
        ),
        (
            key("name: X-Key"),
            "endpoint: {path: docs, headers: {Accept-Language: de}}",
            "GET {url}/docs accept-language: *** x-key: ***",
        ),
        (
            key("name: session, location: cookie"),
            "endpoint: docs",
            "GET {url}/docs cookie: ***",
        ),
        (
            key("name: auth.key, location: body"),
            "endpoint: {path: docs, method: POST, json: {select: [id, name], active: true}}",
            "POST {url}/docs content-type: application/json {\"select\":[\"id\",\"name\"],\"active\":true,\"auth\":{\"key\":\"***\"}}",
        ),
        (
            String::new(),
            "endpoint: {path: docs, method: POST, data: {a: b c}}",
            "POST {url}/docs content-type: application/x-www-form-urlencoded a=b+c",
        ),
        (
            // That of the first parent, one segment.
            String::new(),
            "endpoint: 'teams/{resources.teams.id}/docs'",
            "GET {url}/teams/a%2Fb/docs",
        ),
        (
            String::new(),
            "endpoint: {path: docs, paginator: {type: offset, limit: 2, total_path: null}}",
            "GET {url}/docs?offset=0&limit=2",
        ),
        (
            String::new(),
            "endpoint: {path: docs, incremental: {cursor_path: at, start_param: from, end_param: to, initial_value: '2024-01-01', window: 30d}}",
            "GET {url}/docs?from=2024-01-01&to=2024-01-31",
        ),
        (
            String::new(),
            "endpoint: {path: docs, params: {q: 'changed > {incremental.start_value}'}, incremental: {cursor_path: at, initial_value: '2024-01-01T00:00:00Z'}}",
            "GET {url}/docs?q=changed%20%3E%202024-01-01T00%3A00%3A00Z",
        ),
        (
            String::new(),
            "endpoint: {path: docs, incremental: {cursor_path: at, start_param: from, first: {path: all}}}",
            "GET {url}/all",
        ),
    ] {
        site.take();
        let (shown, said) = preview(&db, &site, &client, resource).await;
        let expected = expected.replace("{url}", &site.url());
        assert_eq!(shown["request"], expected, "{said}");
        assert!(!said.contains(SECRET), "{said}");
        // That one was made. The next parent's may have begun while the page was taken.
        let asked = site.take();
        let path = expected.split(' ').nth(1).unwrap().replace(&site.url(), "");
        let path = path.split('?').next().unwrap();
        assert!(
            asked.iter().any(|asked| asked.starts_with(path)),
            "{asked:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_page_would_become_is_told_and_nothing_is_written() {
    let (db, site) = (TestDb::new().await, site().await);
    let rules = "privacy: {exclude: [ssn]}
        processing_steps: [{filter: '.id < 3'}]";
    let (shown, said) = preview(&db, &site, "", rules).await;
    assert_eq!(shown["records"], 2, "{said}");
    assert_eq!(
        shown["sample"],
        json!([{"id": 1, "name": "Jo"}, {"id": 2, "name": "Al"}])
    );
    assert_eq!(
        [
            &shown["would_insert"],
            &shown["would_update"],
            &shown["unchanged"]
        ],
        [&json!(2), &json!(0), &json!(0)]
    );
    let ddl = shown["ddl"].to_string();
    assert!(
        ddl.contains("create table") && !ddl.contains("ssn"),
        "{ddl}"
    );
    let tables: i64 = sqlx::query_scalar("select count(*) from pg_class where relnamespace = (select oid from pg_namespace where nspname = 'hr')")
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(tables, 0);

    // Where the records are not where they should be, the answer is shown in outline.
    let (_, said) = preview(
        &db,
        &site,
        "",
        "endpoint: {path: docs, data_selector: data}",
    )
    .await;
    assert!(
        said.contains("data is not in the answer (page 0)\nhint: compare endpoint.data_selector"),
        "{said}"
    );
    assert!(
        said.contains("list of 2\n  id: number\n  name: text\n  ssn: text"),
        "{said}"
    );
    assert!(!said.contains("Jo") && !said.contains("123"), "{said}");

    // What cannot be read is told as a run would tell it.
    let (_, said) = preview(&db, &site, "", "endpoint: broken").await;
    assert!(said.contains("500") && said.contains("hint:"), "{said}");
    // That of the answer's body.
    assert!(!said.contains("Jane Doe"), "{said}");
}

/// Every row of every table, where it stands and which transaction wrote it. But for the budget of requests: a
/// preview sends one.
async fn everything(db: &TestDb) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar("select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('hr', 'rosterd') and tablename <> 'api_budgets' order by 1")
        .fetch_all(db.pool())
        .await
        .unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let all = format!(
            "select concat_ws(' ', '{table}', t.ctid, t.xmin, t.*) from {table} t order by t.ctid"
        );
        let all: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(all))
            .fetch_all(db.pool())
            .await
            .unwrap();
        rows.extend(all);
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_erased_or_is_past_retention_is_not_shown_either() {
    let (db, site) = (TestDb::new().await, site().await);
    let keys = "endpoint: leavers\n        retention: {column: left, delete_after: 180d}\n        privacy: {exclude: [ssn]}";
    command(&["sync"], &db, &site, "", keys).await;
    let erase = ["erase", "hr/docs", "--key", "2"];
    let (_, said) = command(&erase, &db, &site, "", keys).await;
    assert!(!said.contains("error"), "{said}");
    let (shown, said) = preview(&db, &site, "", keys).await;
    assert_eq!(shown["sample"], json!([{"id": 1, "name": "Jo"}]), "{said}");
    assert_eq!(
        [&shown["would_insert"], &shown["unchanged"]],
        [&json!(0), &json!(1)],
        "{said}"
    );
    assert!(!said.contains("Al") && !said.contains("Cy"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_there_are_compared_and_stay_as_they_are() {
    let (db, site) = (TestDb::new().await, site().await);
    let (_, said) = command(&["sync"], &db, &site, "", "endpoint: before").await;
    assert!(said.contains("2 inserted"), "{said}");
    let before = everything(&db).await;
    assert!(before.iter().any(|row| row.contains("Ali")), "{before:#?}");
    for _ in 0..2 {
        let (shown, said) = preview(&db, &site, "", "endpoint: after").await;
        let counts = ["would_insert", "would_update", "would_delete", "unchanged"];
        assert_eq!(
            counts.map(|count| shown[count].clone()),
            [json!(1), json!(1), json!(0), json!(1)],
            "{said}"
        );
        let ddl = shown["ddl"].as_array().unwrap();
        assert_eq!(ddl.len(), 1, "{said}");
        assert!(
            ddl[0].as_str().unwrap().contains("add column \"mail\""),
            "{said}"
        );
    }
    assert_eq!(before, everything(&db).await);

    let gone = "endpoint: after\n        deletes: {mode: flag, field: mail}";
    let (shown, said) = preview(&db, &site, "", gone).await;
    assert_eq!(shown["would_delete"], 0, "a row that is not there: {said}");
    let parts = "endpoint: parts\n        partial_records: true";
    let (shown, said) = preview(&db, &site, "", parts).await;
    assert_eq!(
        [&shown["would_insert"], &shown["would_update"]],
        [&json!(0), &json!(2)],
        "{said}"
    );
    assert_eq!(before, everything(&db).await);
}
