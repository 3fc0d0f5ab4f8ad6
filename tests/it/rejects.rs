//! Records that cannot become rows: one costs one, says which it was, and closes itself when it is well again.

use rosterd::{record::Status, sync::Start};
use serde_json::json;

use crate::support::{
    api::{Api, Collection, Fault},
    sync::Bench,
};

fn config(api: &Api, rejects: &str) -> String {
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
    let config = config(&api, rejects);
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
        let config = config(&api, "{}");
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
        let problems = rosterd::config::from_str(&text).unwrap_err();
        assert!(
            problems.to_string().contains("rejects.tolerate"),
            "{problems}"
        );
    }
}
