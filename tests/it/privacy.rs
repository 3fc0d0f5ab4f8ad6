//! The privacy rules end to end, with the real binary: what they keep out is nowhere.

use rosterd::config;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::{
    api::Api,
    daemon::{Daemon, Setup},
    db::TestDb,
};

pub(crate) const KEY: &str = "{id: k1, secret: 0123456789abcdef-of-this-test}";

/// One source `hr` with the given resources, each of which has a path of its own name.
pub(crate) fn config(db: &TestDb, api: &Api, privacy: &str, resources: &str) -> String {
    format!(
        r#"
database: {{url: "{}"}}
daemon: {{admin: {{listen: null}}}}
privacy: {privacy}
sources:
  hr:
    client:
      base_url: "{}"
      retry: {{max_retries: 0}}
    resource_defaults:
      primary_key: id
      write_disposition: merge
      endpoint: {{data_selector: data, paginator: {{type: offset, limit: 2}}}}
    resources:
{resources}
"#,
        db.url(),
        api.url()
    )
}

pub(crate) fn resource(name: &str, more: &str) -> String {
    format!("      - {{name: {name}, endpoint: {{path: /v1/{name}}}, {more}}}\n")
}

#[track_caller]
fn run(config: &str, arguments: &[&str]) -> Daemon {
    let mut run = Setup::command(config.to_owned(), arguments)
        .with_env("ROSTERD_LOG", "trace")
        .start();
    run.wait();
    run
}

#[track_caller]
pub(crate) fn succeed(config: &str, arguments: &[&str]) -> String {
    let mut run = run(config, arguments);
    let status = run.wait();
    assert!(status.success(), "{}\n{}", run.stdout(), run.stderr());
    run.stdout() + &run.stderr()
}

/// Lets the next process take over what a killed one held.
pub(crate) async fn end_leases(db: &TestDb) {
    sqlx::query("update rosterd.leases set expires_at = now() - interval '1 second' where run_id is not null")
        .execute(db.pool())
        .await
        .unwrap();
}

pub(crate) async fn text(db: &TestDb, query: &'static str) -> Vec<Option<String>> {
    sqlx::query_scalar(query)
        .fetch_all(db.pool())
        .await
        .unwrap()
}

pub(crate) fn person(id: i64) -> Value {
    json!({
        "id": id,
        "badge": if id == 4 { Value::Null } else { format!("B{id}").into() },
        "name": format!("Person {id}"),
        "ssn": "219-09-9999",
        "salary": 987_654_321,
        "home": {"street": "Canary Lane 5", "phone": {"number": "+49 170 0000001"}},
        "accounts": [{"bank": "Bank", "iban": "DE44500105175407324931"}, {"iban": "DE44500105175407324931"}],
        "custom": {"a": {"iban": "DE44500105175407324931", "kept": "yes"}},
        "born": "1987-03-05",
        "pin": 4711_4711_4711_i64,
    })
}

pub(crate) const WITHHELD: [&str; 7] = [
    "219-09-9999",
    "987654321",
    "Canary Lane",
    "0000001",
    "DE445001",
    "1987-03",
    "471147114711",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rules_leave_is_in_the_table_and_the_catalogue_says_what_they_did() {
    let (api, db) = (Api::start().await, TestDb::new().await);
    let people = api.collection("people");
    for id in 1..=7 {
        people.put(person(id));
    }
    let rules = "primary_key: badge, privacy: {exclude: [ssn, salary, home.**, '**.iban'], hash: pin, keep: {born: year}}";
    let config = config(
        &db,
        &api,
        &format!("{{key: {KEY}}}"),
        &resource("people", rules),
    );
    // One record has no key: the run is partial, the others load.
    run(&config, &["sync"]);

    let rows: i64 = sqlx::query_scalar("select count(*) from hr.people")
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(rows, 6);
    let rejects: i64 =
        sqlx::query_scalar("select count(*) from rosterd.rejects where reason = 'null_key'")
            .fetch_one(db.pool())
            .await
            .unwrap();
    assert_eq!(rejects, 1);
    let kept = sqlx::query(
        "select born, pin, accounts::text, custom__a__kept from hr.people where badge = 'B1'",
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    assert_eq!(kept.get::<i64, _>(0), 1987);
    assert!(kept.get::<String, _>(1).starts_with("k1:"));
    assert_eq!(kept.get::<String, _>(2), r#"[{"bank": "Bank"}, {}]"#);
    assert_eq!(kept.get::<String, _>(3), "yes");

    let catalogue = text(
        &db,
        "select field || ': ' || treatment from rosterd.catalogue where treatment <> 'as is' order by 1",
    )
    .await;
    let catalogue: Vec<String> = catalogue.into_iter().flatten().collect();
    assert_eq!(
        catalogue,
        [
            "**.iban: excluded",
            "accounts: in part",
            "born: year only",
            "home.**: excluded",
            "pin: hashed k1",
            "salary: excluded",
            "ssn: excluded"
        ]
    );
    let comment = text(
        &db,
        "select col_description('hr.people'::regclass, attnum) from pg_attribute where attrelid = 'hr.people'::regclass and attname = 'pin'",
    )
    .await;
    assert_eq!(
        comment,
        [Some("Field pin of the API; hashed k1.".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_values_join_across_resources_and_a_new_key_is_never_mixed_in_silently() {
    let (api, db) = (Api::start().await, TestDb::new().await);
    let (people, absences) = (api.collection("people"), api.collection("absences"));
    for id in 1..=3 {
        people.put(json!({"id": id, "number": id * 100, "email": format!("p{id}@example.org")}));
        absences.put(json!({"id": id + 10, "employee": format!("{}", id * 100), "who": format!("P{id}@Example.org ")}));
    }
    people.put(json!({"id": 4, "number": null, "email": null}));
    let resources = resource(
        "people",
        "privacy: {hash: [number, {path: email, fold: true}]}",
    ) + &resource(
        "absences",
        "privacy: {hash: [{path: employee}, {path: who, fold: true}]}",
    );
    let with = |keys: &str| config(&db, &api, keys, &resources);
    succeed(&with(&format!("{{key: {KEY}}}")), &["sync"]);
    let joined: i64 = sqlx::query_scalar(
        "select count(*) from hr.people p join hr.absences a on a.employee = p.number and a.who = p.email",
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    assert_eq!(joined, 3);
    assert_eq!(
        text(&db, "select number from hr.people where id = 4").await,
        [None]
    );

    let failed = run(
        &with("{key: {id: k1, secret: another-secret-of-this-test}}"),
        &["sync"],
    );
    assert!(
        failed.stderr().contains("privacy_key_changed"),
        "{}",
        failed.stderr()
    );
    let rotated =
        format!("{{key: {{id: k2, secret: another-secret-of-this-test}}, former_keys: [{KEY}]}}");
    succeed(&with(&rotated), &["sync"]);
    let prefixes = text(
        &db,
        "select distinct left(number, 3) from hr.people where number is not null",
    )
    .await;
    assert_eq!(prefixes, [Some("k2:".to_owned())]);
    let events: i64 =
        sqlx::query_scalar("select count(*) from rosterd.events where kind = 'privacy_changed'")
            .fetch_one(db.pool())
            .await
            .unwrap();
    assert_eq!(events, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_comes_later_empties_what_was_loaded_before() {
    let (api, db) = (Api::start().await, TestDb::new().await);
    let people = api.collection("people");
    for id in 1..=3 {
        people.put(json!({"id": id, "ssn": "219-09-9999", "name": "N"}));
    }
    let with = |more: &str| {
        config(
            &db,
            &api,
            &format!("{{key: {KEY}}}"),
            &resource("people", more),
        )
    };
    succeed(&with("selected: true"), &["sync"]);
    assert!(db.dump().await.contains("219-09-9999"));
    // The source no longer sends the row: it is not read again, and must be emptied even so.
    people.remove(2);
    succeed(&with("privacy: {exclude: ssn}"), &["sync"]);
    assert!(!db.dump().await.contains("219-09-9999"));

    // A key that is hashed from now on would leave each row behind under its old key.
    let failed = run(&with("privacy: {hash: id}"), &["sync"]);
    assert!(
        failed.stderr().contains("key_treatment_changed"),
        "{}",
        failed.stderr()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn new_fields_are_blocked_or_told() {
    let (api, db) = (Api::start().await, TestDb::new().await);
    let (blocked, warned) = (api.collection("blocked"), api.collection("warned"));
    for collection in [&blocked, &warned] {
        collection.put(json!({"id": 1, "name": "N", "work": {"title": "T"}}));
    }
    let resources = resource("blocked", "privacy: {new_columns: block}")
        + &resource("warned", "privacy: {new_columns: warn}");
    let config = config(&db, &api, "{}", &resources);
    succeed(&config, &["sync"]);
    for collection in [&blocked, &warned] {
        collection.put(
            json!({"id": 2, "name": "N", "work": {"title": "T", "pay": 5}, "ssn": "219-09-9999"}),
        );
    }
    succeed(&config, &["sync"]);
    succeed(&config, &["sync"]);

    let columns = |table: &'static str| {
        let pool = db.pool().clone();
        async move {
            sqlx::query_scalar::<_, String>(
                "select string_agg(column_name, ' ' order by column_name) from information_schema.columns
                 where table_schema = 'hr' and table_name = $1 and column_name !~ '^_'",
            )
            .bind(table)
            .fetch_one(&pool)
            .await
            .unwrap()
        }
    };
    assert_eq!(columns("blocked").await, "id name updated_at work__title");
    assert_eq!(
        columns("warned").await,
        "id name ssn updated_at work__pay work__title"
    );
    let events = text(
        &db,
        "select kind || ' ' || data::text from rosterd.events where level = 'warn' order by 1",
    )
    .await;
    let events: Vec<String> = events.into_iter().flatten().collect();
    assert_eq!(
        events,
        [
            r#"fields_blocked {"fields": ["work.pay", "ssn"]}"#,
            r#"new_columns {"columns": ["work__pay", "ssn"]}"#
        ]
    );
    let listed = text(
        &db,
        "select field from rosterd.catalogue where treatment = 'blocked' order by 1",
    )
    .await;
    assert_eq!(
        listed,
        [Some("ssn".to_owned()), Some("work.pay".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_may_be_kept_from_the_table_and_still_move() {
    let (api, db) = (Api::start().await, TestDb::new().await);
    api.collection("people").put(json!({"id": 1, "name": "N"}));
    let resources = "      - {name: people, privacy: {exclude: updated_at}, endpoint: {path: /v1/people, incremental: {cursor_path: updated_at}}}\n";
    succeed(&config(&db, &api, "{}", resources), &["sync"]);
    let cursor = text(&db, "select cursor_to from rosterd.runs").await;
    assert!(
        cursor[0].as_deref().unwrap().starts_with("2024-01-01"),
        "{cursor:?}"
    );
    let columns = text(
        &db,
        "select column_name from information_schema.columns where table_name = 'people' and column_name !~ '^_' order by 1",
    )
    .await;
    assert_eq!(columns, [Some("id".to_owned()), Some("name".to_owned())]);
}

#[test]
fn rules_add_up_and_wrong_ones_are_refused_with_their_place() {
    let with = |privacy: &str, source: &str, defaults: &str, own: &str| {
        config::from_str(&format!(
            r#"
privacy: {privacy}
sources:
  hr:
    client: {{base_url: "https://x.example"}}
    privacy: {source}
    resource_defaults: {{primary_key: id, write_disposition: merge, privacy: {defaults}, endpoint: {{paginator: single_page}}}}
    resources:
      - {{name: people, {own}}}
"#
        ))
    };
    let key = format!("{{key: {KEY}}}");
    let loaded = with(
        &key,
        "{exclude: ssn, keep: {born: year}, only: [id, a]}",
        "{exclude: ['home.**'], hash: email, new_columns: warn}",
        "privacy: {exclude: ['*.iban'], hash: [{path: phone, fold: true}], only: [id, b], keep: {left: year}}",
    )
    .unwrap();
    let privacy = &loaded.sources[0].resources[0].privacy;
    let texts = |patterns: &[config::privacy::Pattern]| -> Vec<String> {
        patterns.iter().map(ToString::to_string).collect()
    };
    assert_eq!(texts(&privacy.exclude), ["ssn", "home.**", "*.iban"]);
    assert_eq!(texts(&privacy.only), ["id", "b"]);
    assert_eq!(texts(&privacy.year), ["born", "left"]);
    let hash: Vec<_> = privacy
        .hash
        .iter()
        .map(|rule| (rule.pattern.to_string(), rule.fold))
        .collect();
    assert_eq!(
        hash,
        [("email".to_owned(), false), ("phone".to_owned(), true)]
    );
    assert_eq!(privacy.new_columns, config::privacy::NewColumns::Warn);
    let shown = loaded.to_yaml_masked();
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
    assert!(
        with("{}", "{exclude: ssn}", "{}", "privacy: null")
            .unwrap()
            .sources[0]
            .resources[0]
            .privacy
            .is_open()
    );

    for (privacy, own, at, message) in [
        (
            "{}",
            "privacy: {hash: email}",
            "privacy.hash",
            "needs a key",
        ),
        (
            "{key: {id: k1, secret: short}}",
            "selected: true",
            "privacy.key.secret",
            "at least 16",
        ),
        (
            "{key: {id: K 1, secret: 0123456789abcdef}}",
            "selected: true",
            "privacy.key.id",
            "lower-case",
        ),
        (
            "{former_keys: [{id: k1, secret: 0123456789abcdef}]}",
            "selected: true",
            "privacy.former_keys",
            "present one",
        ),
        (
            &key,
            "privacy: {exclude: ['**']}",
            "privacy.exclude",
            "primary_key",
        ),
        (&key, "privacy: {only: name}", "privacy.only", "primary_key"),
        (
            &key,
            "privacy: {keep: {id: year}}",
            "privacy.keep",
            "primary_key",
        ),
        (
            &key,
            "privacy: {keep: {born: month}}",
            "privacy.keep.born",
            "year",
        ),
        (
            &key,
            "privacy: {exclude: ['a[0].b']}",
            "privacy.exclude",
            "expected a path",
        ),
        (
            &key,
            "privacy: {keep: {'a..b': year}}",
            "privacy.keep",
            "expected a path",
        ),
        (
            &key,
            "privacy: {new_columns: never}",
            "privacy.new_columns",
            "allow, warn, block",
        ),
        (
            &key,
            "privacy: {exclude: left}, retention: {column: left, delete_after: 30d}",
            "retention.column",
            "age",
        ),
        (
            &key,
            "retention: {column: 'a[0]', delete_after: 30d}",
            "retention.column",
            "list",
        ),
        (
            &key,
            "retention: {column: left}",
            "retention",
            "delete_after",
        ),
    ] {
        let problems = with(privacy, "{}", "{}", own).unwrap_err().to_string();
        assert!(
            problems.contains(at) && problems.contains(message),
            "{own}: {problems}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_gone_and_stays_away() {
    let (api, db) = (Api::start().await, TestDb::new().await);
    let (people, hashed) = (api.collection("people"), api.collection("hashed"));
    for id in 1..=5 {
        people.put(json!({"id": id, "name": format!("Erasable-{id}")}));
        hashed.put(json!({"id": id, "unit": format!("U{id}"), "name": format!("Erasable-{id}")}));
    }
    let resources = resource("people", "selected: true")
        + &resource("hashed", "primary_key: [id, unit], privacy: {hash: [id]}");
    let with = |keys: &str| config(&db, &api, keys, &resources);
    let first = with(&format!("{{key: {KEY}}}"));
    succeed(&first, &["sync"]);
    sqlx::raw_sql(
        "insert into rosterd.rejects (run_id, resource_id, record_key, stage, reason)
         select 1, resource_id, '3', 'shape', 'misfit' from rosterd.resources where resource = 'people'",
    )
    .execute(db.pool())
    .await
    .unwrap();

    // A run that goes on holds the erasure up; nothing is done until it has ended.
    let hold = "update rosterd.leases set run_id = 1, owner = 'other', expires_at = now() + interval '1 hour' where resource_id = (select resource_id from rosterd.resources where resource = 'people')";
    sqlx::raw_sql(hold).execute(db.pool()).await.unwrap();
    let refused = run(&first, &["erase", "hr/people", "--key", "3", "--wait", "0"]);
    assert!(
        refused.stderr().contains("still being synced"),
        "{}",
        refused.stderr()
    );
    sqlx::raw_sql("update rosterd.leases set run_id = null, owner = null, expires_at = null")
        .execute(db.pool())
        .await
        .unwrap();

    let said = succeed(
        &first,
        &["erase", "hr/people", "--key", "3", "--reason", "ticket 17"],
    );
    assert!(said.contains("erased 1 rows and 1 rejects"), "{said}");
    let said = succeed(&first, &["erase", "hr/hashed", "--key", "3, U3"]);
    assert!(said.contains("erased 1 rows and 0 rejects"), "{said}");
    assert!(!db.dump().await.contains("Erasable-3"));
    succeed(&first, &["sync", "--full"]);
    let dumped = db.dump().await;
    assert!(!dumped.contains("Erasable-3") && dumped.contains("Erasable-4"));

    let events = text(&db, "select message || ' ' || coalesce(data ->> 'reason', '-') from rosterd.events where kind = 'erase' order by event_id").await;
    let events: Vec<String> = events.into_iter().flatten().collect();
    assert!(
        events[0].ends_with("erased a person: 1 rows, 1 rejects ticket 17"),
        "{events:?}"
    );
    let left_out: i64 =
        sqlx::query_scalar("select count(*) from rosterd.events where kind = 'erased_left_out'")
            .fetch_one(db.pool())
            .await
            .unwrap();
    assert_eq!(left_out, 2);

    // Under a new key the marks of the old one still hold; without the old one nothing is loaded.
    let failed = run(
        &with("{key: {id: k2, secret: another-secret-of-this-test}}"),
        &["sync", "hr/people"],
    );
    assert!(
        failed.stderr().contains("privacy_key_missing"),
        "{}",
        failed.stderr()
    );
    let rotated = with(&format!(
        "{{key: {{id: k2, secret: another-secret-of-this-test}}, former_keys: [{KEY}]}}"
    ));
    succeed(&rotated, &["sync", "hr/people", "--full"]);
    assert!(!db.dump().await.contains("Erasable-3"));

    for (arguments, message) in [
        (&["erase", "hr/hashed", "--key", "3"][..], "has 2 parts"),
        (
            &["erase", "hr/nobody", "--key", "3"],
            "no such source or resource",
        ),
        (
            &["erase", "hr/people", "--key", "x"],
            "invalid text representation",
        ),
    ] {
        let refused = run(&rotated, arguments);
        assert!(refused.stderr().contains(message), "{}", refused.stderr());
    }
    let refused = run(&with("{}"), &["erase", "hr/people", "--key", "4"]);
    assert!(
        refused.stderr().contains("needs a key"),
        "{}",
        refused.stderr()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_past_their_time_go_and_are_not_loaded_again() {
    let (api, db) = (Api::start().await, TestDb::new().await);
    let people = api.collection("people");
    let day = |age: i64| {
        (rosterd::clock::now() - chrono::TimeDelta::days(age))
            .date_naive()
            .to_string()
    };
    for (id, left) in [
        (1, Some(day(400))),
        (2, Some(day(100))),
        (3, None),
        (4, Some(day(181))),
    ] {
        people.put(json!({"id": id, "rejected": {"at": left}}));
    }
    let with = |more: &str| config(&db, &api, "{}", &resource("people", more));
    let kept = || text(&db, "select id::text from hr.people order by id");
    succeed(&with("selected: true"), &["sync"]);
    assert_eq!(kept().await.len(), 4);
    let rule = with("retention: {column: rejected.at, delete_after: 180d}");
    succeed(&rule, &["sync"]);
    assert_eq!(kept().await, [Some("2".to_owned()), Some("3".to_owned())]);
    succeed(&rule, &["sync", "--full"]);
    assert_eq!(kept().await.len(), 2);
    let deleted = text(
        &db,
        "select rows_deleted::text from rosterd.runs order by run_id",
    )
    .await;
    assert_eq!(deleted, ["0", "2", "0"].map(|n| Some(n.to_owned())));

    // A source that is down keeps nothing from being deleted in time.
    sqlx::query("update hr.people set rejected__at = current_date - 200 where id = 2")
        .execute(db.pool())
        .await
        .unwrap();
    api.page(0).fails_with(500).always();
    run(&rule, &["sync"]);
    assert_eq!(kept().await, [Some("3".to_owned())]);
    let failed = run(
        &with("retention: {column: id, delete_after: 180d}"),
        &["sync"],
    );
    assert!(
        failed.stderr().contains("retention_column"),
        "{}",
        failed.stderr()
    );
}
