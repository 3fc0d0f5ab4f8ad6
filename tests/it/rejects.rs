//! Records that cannot become rows: one costs one, says which it was, and closes itself when it is well again.

use rosterd::{
    config,
    record::{self, Status},
    sync::Start,
};
use serde_json::json;

use crate::support::{
    api::{Api, Collection, Fault},
    documents::Documents,
    sync::Bench,
};

fn config_of(api: &Api, rejects: &str) -> String {
    format!(
        "
sources:
  hr:
    client: {{base_url: '{}', retry: {{max_retries: 0}}}}
    resources:
      - name: employees
        primary_key: id
        write_disposition: merge
        rejects: {rejects}
        endpoint: {{path: /v1/employees, data_selector: data, paginator: {{type: offset, limit: 10}}}}
",
        api.url()
    )
}

async fn given(count: i64, rejects: &str) -> (Bench, Api, Collection, String) {
    let api = Api::start().await;
    let people = api.collection("employees").fill(count);
    let config = config_of(&api, rejects);
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    (bench, api, people, config)
}

const OPEN: &str =
    "select coalesce(record_key, 'none') || ' ' || stage || ' ' || reason || ' ' || seen_count
                    from rosterd.rejects where resolved_at is null order by 1";

const CLOSED: &str = "select coalesce(record_key, 'none') || ' ' || resolution
                      from rosterd.rejects where resolved_at is not null order by 1";

#[tokio::test]
async fn a_row_that_the_table_refuses_has_its_key_and_closes_when_it_loads() {
    let (bench, _api, people, config) = given(20, "{}").await;
    bench
        .execute("alter table hr.employees add constraint unfit check (salary < 5000) not valid")
        .await;
    people.put(json!({"id": 4, "name": "Person 4", "salary": 9000}));
    for times in 1..=2 {
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Partial);
        assert_eq!(outcome.counters.rows_rejected, 1);
        let open: Vec<String> = bench.column(OPEN).await;
        assert_eq!(open, [format!("4 load refused_by_table {times}")]);
    }
    people.put(json!({"id": 4, "name": "Person 4", "salary": 4000}));
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert!(bench.column::<String>(OPEN).await.is_empty());
    let closed: Vec<String> = bench.column(CLOSED).await;
    assert_eq!(closed, [format!("4 loaded by run {}", outcome.run_id)]);
}

#[tokio::test]
async fn keys_of_every_type_are_told() {
    for (id, key) in [
        (json!("E-7"), "E-7"),
        (json!(12.5), "12.5"),
        (json!("2024-02-29"), "2024-02-29"),
        (json!("2024-02-29T12:00:00+02:00"), "2024-02-29T10:00:00Z"),
    ] {
        let api = Api::start().await;
        api.collection("employees").fill(1);
        let page = |salary: i64| {
            let page = json!({"data": [{"id": id, "salary": salary}], "total": 1});
            Fault::Answer(200, "application/json", page.to_string().into())
        };
        let config = config_of(&api, "{}");
        let bench = Bench::new().await;
        api.page(0).goes(page(1)).once();
        bench.sync(&config, Start::GoOn).await;
        bench
            .execute("alter table hr.employees add constraint unfit check (salary < 5) not valid")
            .await;
        api.page(0).goes(page(9)).once();
        bench.sync(&config, Start::GoOn).await;
        let open: Vec<String> = bench.column(OPEN).await;
        assert_eq!(open, [format!("{key} load refused_by_table 1")]);
        api.page(0).goes(page(2)).once();
        bench.sync(&config, Start::GoOn).await;
        assert!(bench.column::<String>(OPEN).await.is_empty(), "{key}");
    }
}

#[tokio::test]
async fn a_record_without_a_key_closes_when_a_complete_walk_does_not_meet_it() {
    let (bench, api, people, config) = given(9, "{}").await;
    let mut records = people.records();
    records[3]["id"] = json!(null);
    let page = json!({"data": records, "total": 9}).to_string();
    api.page(0)
        .goes(Fault::Answer(200, "application/json", page.into()))
        .once();
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Partial);
    let open: Vec<String> = bench.column(OPEN).await;
    assert_eq!(open, ["none shape null_key 1"]);

    api.page(0).fails_with(500).once();
    bench.sync(&config, Start::GoOn).await;
    assert_eq!(
        bench.column::<String>(OPEN).await.len(),
        1,
        "nothing was proven"
    );

    let outcome = bench.sync(&config, Start::GoOn).await;
    assert!(bench.column::<String>(OPEN).await.is_empty());
    let closed: Vec<String> = bench.column(CLOSED).await;
    assert_eq!(
        closed,
        [format!(
            "none not met by run {}, which read everything",
            outcome.run_id
        )]
    );
}

#[tokio::test]
async fn tolerated_rejects_leave_a_run_succeeded_and_are_kept_all_the_same() {
    for (rejects, bad, expected) in [
        ("{}", 1, Status::Partial),
        ("{tolerate: 2}", 2, Status::Succeeded),
        ("{tolerate: 2}", 3, Status::Partial),
        ("{tolerate: 10%}", 2, Status::Succeeded),
        ("{tolerate: 10%}", 3, Status::Partial),
    ] {
        let (bench, _api, people, config) = given(20, rejects).await;
        bench
            .execute(
                "alter table hr.employees add constraint unfit check (salary < 5000) not valid",
            )
            .await;
        for id in 1..=bad {
            people.put(json!({"id": id, "name": "Person", "salary": 9000}));
        }
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, expected, "{rejects} {bad} {outcome:?}");
        let open: Vec<String> = bench.column(OPEN).await;
        assert_eq!(open.len(), usize::try_from(bad).unwrap());
    }
}

#[test]
fn tolerances_that_mean_nothing_are_refused() {
    for tolerate in ["-1", "101%", "some", "1.5"] {
        let text = format!(
            "
sources:
  hr:
    client: {{base_url: 'https://api.example.com'}}
    resources:
      - name: employees
        rejects: {{tolerate: {tolerate}}}
        endpoint: {{path: /v1/employees, data_selector: data, paginator: single_page}}
"
        );
        let problems = config::from_str(&text).unwrap_err();
        assert!(
            problems.to_string().contains("rejects.tolerate"),
            "{problems}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_kept_where_that_is_asked_for_as_the_privacy_rules_leave_it() {
    let keys = "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 1\nprivacy: {exclude: ['**.ssn']}\nschema_contract: {data_type: discard_row}\ncolumns:\n  n: {data_type: bigint}\n";
    let first = r#"[{"id": 3, "n": 0, "l": [{"v": 0}]}]"#;
    let page = r#"[
      {"id": 1, "n": "x", "ssn": "219-09-9999", "note": "a\u0000b\ud800"},
      {"id": null, "ssn": "219-09-9999"},
      {"id": 3, "n": 3, "ssn": "219-09-9999", "l": [{"v": 1}, {"v": true}]},
      {"id": 4, "n": 4},
      {"id": 5, "n": "y", "long": "LONG"}]"#
        .replace("LONG", &"x".repeat(70_000));
    let rejects = "select record_key as k, column_name as c, reason as r, seen_count as n, record from rosterd.rejects where resolved_at is null order by 1 nulls first, 2";

    let plain = Documents::new(keys).await;
    plain.load(first).await;
    assert_eq!(plain.sync(page.clone()).await.0, "partial");
    assert_eq!(
        plain
            .json("select count(*) as n, count(record) as kept from rosterd.rejects")
            .await,
        json!([{"n": 4, "kept": 0}]),
        "not asked for"
    );

    let docs = Documents::new(&format!("{keys}rejects: {{store: record}}\n")).await;
    docs.load(first).await;
    docs.sync(page.clone()).await;
    let (status, log) = docs.sync(page).await;
    assert_eq!(status, "partial", "{log}");
    let found = docs.json(rejects).await;
    assert_eq!(
        found[0],
        json!({"k": null, "c": "id", "r": "null_key", "n": 2, "record": {"id": null}})
    );
    assert_eq!(
        found[1],
        json!({"k": "1", "c": "n", "r": "misfit", "n": 2, "record": {"id": 1, "n": "x", "note": "a\u{fffd}b\u{fffd}"}})
    );
    assert_eq!(
        found[2],
        json!({"k": "3", "c": "l.[].v", "r": "contract_data_type", "n": 2, "record": {"id": 3, "n": 3, "l": [{"v": 1}, {"v": true}]}})
    );
    assert_eq!(
        found[3],
        json!({"k": "5", "c": "n", "r": "misfit", "n": 2, "record": null}),
        "too long to be kept"
    );
    assert_eq!(
        docs.json("select id, (select count(*) from hr.docs__l where _rosterd_root_id = d._rosterd_id) as n from hr.docs d order by 1").await,
        json!([{"id": 3, "n": 1}, {"id": 4, "n": 0}])
    );

    docs.load(
        r#"[{"id": 1, "n": 1}, {"id": 3, "n": 3, "l": [{"v": 1}, {"v": 2}]}, {"id": 5, "n": 5}]"#,
    )
    .await;
    assert_eq!(docs.json(rejects).await, json!([]));
    assert_eq!(
        docs.json("select count(*) as n, count(record) as kept from rosterd.rejects")
            .await,
        json!([{"n": 4, "kept": 0}]),
        "what has loaded is not kept twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_no_json_of_postgres_is_kept_as_a_text() {
    let docs =
        Documents::new("primary_key: id\nwrite_disposition: merge\nrejects: {store: record}\n")
            .await;
    let (status, log) = docs
        .sync(r#"[{"id": 1, "v": 1e200000, "t": "\u0000"}, "plain"]"#)
        .await;
    assert_eq!(status, "partial", "{log}");
    assert_eq!(
        docs.json(
            "select record_key as k, reason as r, record from rosterd.rejects order by 1 nulls last"
        )
        .await,
        json!([
            {"k": "1", "r": "number_out_of_range", "record": r#"{"id": 1, "v": 1e200000, "t": "\u0000"}"#},
            {"k": null, "r": "not_an_object", "record": "plain"},
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_table_refuses_is_kept_too() {
    let docs = Documents::new(
        "primary_key: id\nwrite_disposition: merge\nrejects: {store: record}\nprivacy: {exclude: ssn}\n",
    )
    .await;
    docs.load(r#"[{"id": 1, "n": 1}]"#).await;
    docs.execute("alter table hr.docs add constraint small check (n < 5)")
        .await;
    let (status, _) = docs
        .sync(r#"[{"id": 1, "n": 7, "ssn": "219"}, {"id": 2, "n": 2}, {"id": 3, "n": 8}]"#)
        .await;
    assert_eq!(status, "partial");
    assert_eq!(
        docs.json("select record_key as k, sqlstate, record from rosterd.rejects order by 1")
            .await,
        json!([
            {"k": "1", "sqlstate": "23514", "record": {"id": 1, "n": 7}},
            {"k": "3", "sqlstate": "23514", "record": {"id": 3, "n": 8}},
        ])
    );
}

#[test]
fn what_is_kept_of_rejects_is_a_known_word() {
    for store in ["records", "true", "[record]", "{a: b}"] {
        let text = format!(
            "sources:\n  hr:\n    client: {{base_url: 'https://api.example.com', paginator: single_page}}\n    resources:\n      - name: docs\n        rejects: {{store: {store}}}\n"
        );
        let problems = config::from_str(&text).unwrap_err().to_string();
        assert!(problems.contains("rejects.store"), "{store}: {problems}");
    }
}

/// Rejects of a person without a key and of one with a key, whose records are kept.
async fn kept() -> Documents {
    let docs =
        Documents::new("primary_key: id\nwrite_disposition: merge\nrejects: {store: record}\n")
            .await;
    let (status, log) = docs
        .sync(r#"[{"id": 1, "n": "Ann-17"}, {"id": null, "n": "Nemo-17"}, {"id": 2, "n": "Bob-17", "v": 1e2000}]"#)
        .await;
    assert_eq!(status, "partial", "{log}");
    docs
}

const KEPT: &str = "select record_key as k, record is not null as kept, resolved_at is null as open from rosterd.rejects order by 1 nulls last";

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_kept_no_longer_than_rejects_are_and_its_reject_stays_open() {
    let docs = kept().await;
    docs.execute("update rosterd.rejects set last_seen_at = now() - interval '31 days' where record_key is null")
        .await;
    let config = config::from_str("daemon: {retention: {rejects: 30d}}").unwrap();
    record::retain(docs.db.pool(), &config.daemon.retention)
        .await
        .unwrap();
    assert_eq!(
        docs.json(KEPT).await,
        json!([{"k": "2", "kept": true, "open": true}, {"k": null, "kept": false, "open": true}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_takes_the_records_that_may_be_anybodys() {
    let docs = kept().await;
    let said = docs.command(&["erase", "hr/docs", "--key", "1"]).await;
    assert_eq!(
        docs.json(KEPT).await,
        json!([{"k": "2", "kept": true, "open": true}, {"k": null, "kept": false, "open": true}]),
        "{said}"
    );
    docs.command(&["erase", "hr/docs", "--key", "2"]).await;
    assert_eq!(
        docs.json(KEPT).await,
        json!([{"k": null, "kept": false, "open": true}])
    );
    let dump = docs.db.dump().await;
    for name in ["Ann-17", "Bob-17", "Nemo-17"] {
        assert!(!dump.contains(name), "{name}");
    }
}
