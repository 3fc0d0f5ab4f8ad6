//! Many parents in one request, values that stand in the file, and list and detail in one row.

use rosterd::{record::Status, sync::Start};
use serde_json::{Value, json};

use super::{EMPLOYEES, company, config, page};
use crate::support::{
    site::{Asked, Reply, Site},
    sync::Bench,
};

/// One record for each id in any of the places that batches go to.
fn echo(asked: &Asked) -> Reply {
    let ids: Vec<String> = match (&asked.body["ids"], asked.params("ids")[..].to_vec()) {
        (Value::Array(ids), _) => ids.iter().map(ToString::to_string).collect(),
        (_, ids) => ids
            .iter()
            .flat_map(|text| text.split(','))
            .map(str::to_owned)
            .collect(),
    };
    let records: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
    json!({"data": records, "total": records.len()}).into()
}

#[tokio::test]
async fn batches_are_written_as_the_api_reads_them() {
    for (endpoint, first, last) in [
        (
            "{path: hours, params: {ids: '{resources.employees.id}'}, paginator: single_page}",
            "/hours?ids=1&ids=2&ids=3",
            "/hours?ids=4&ids=5",
        ),
        (
            "{path: hours, list_style: comma, params: {ids: '{resources.employees.id}'}, paginator: single_page}",
            "/hours?ids=1,2,3",
            "/hours?ids=4,5",
        ),
        (
            "{path: 'hours?ids={resources.employees.id}', paginator: single_page}",
            "/hours?ids=1,2,3",
            "/hours?ids=4,5",
        ),
        (
            "{path: hours, method: POST, json: {ids: '{resources.employees.id}'}, paginator: single_page}",
            "/hours",
            "/hours",
        ),
    ] {
        let site = company(5, echo).await;
        let config = config(
            &site,
            &format!(
                "{EMPLOYEES}      - {{name: hours, parent: {{batch: 3, concurrency: 1}}, endpoint: {endpoint}}}\n"
            ),
        );
        let bench = Bench::new().await;
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{endpoint} {outcome:?}");
        let rows: Vec<String> = bench
            .column("select id::text from hr.hours order by id")
            .await;
        assert_eq!(rows, ["1", "2", "3", "4", "5"], "{endpoint}");
        let asked = site.take();
        let hours: Vec<&String> = asked.iter().filter(|a| a.starts_with("/hours")).collect();
        assert_eq!(hours, [first, last], "{endpoint}");
    }
}

#[tokio::test]
async fn values_of_the_file_are_parents_without_a_request() {
    let site = Site::start(|asked| json!({"data": [{"id": asked.path}], "total": 1}).into()).await;
    let config = config(
        &site,
        "
      - {name: reports, values: [101, sick leave, {value: x, year: 2024}]}
      - {name: rows, endpoint: 'reports/{resources.reports.value}', include_from_parent: [year]}
",
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let rows: Vec<String> = bench
        .column("select id || coalesce(' ' || _reports_year, '') from hr.rows order by id")
        .await;
    assert_eq!(
        rows,
        ["/reports/101", "/reports/sick%20leave", "/reports/x 2024"]
    );
    assert_eq!(site.take().len(), 3);
}

#[tokio::test]
async fn one_look_up_serves_one_request() {
    let site = Site::start(|asked| match asked.path.as_str() {
        "/fields" => json!({"data": [{"name": "id"}, {"name": "pay"}], "total": 2}).into(),
        _ => json!({"data": [{"id": 1, "asked": asked.param("fields")}], "total": 1}).into(),
    })
    .await;
    let config = config(
        &site,
        "
      - {name: fields, selected: false}
      - {name: people, parent: {batch: 500}, endpoint: {path: people, list_style: comma, params: {fields: '{resources.fields.name}'}}}
",
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let asked: String = bench.value("select asked from hr.people").await;
    assert_eq!(asked, "id,pay");
    assert_eq!(site.take().len(), 2);
}

#[tokio::test]
async fn a_detail_is_laid_over_its_list_row_which_stays_when_there_is_none() {
    let site = company(6, |asked| match asked.segments()[1] {
        "2" => Reply::status(500),
        "3" => Reply::status(404),
        "4" => json!([]).into(),
        id => {
            json!({"id": id.parse::<i64>().unwrap(), "name": "From the detail", "pay": 1.50}).into()
        }
    })
    .await;
    let config = config(
        &site,
        &format!(
            "{EMPLOYEES}      - {{name: people, parent: {{merge: true}}, endpoint: {{path: 'employees/{{resources.employees.id}}', data_selector: $, paginator: single_page}}}}\n"
        ),
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Partial, "{outcome:?}");
    let fault = outcome.fault.unwrap();
    assert_eq!(fault.code, "HTTP 500");
    assert!(fault.message.starts_with("1 of 6 walks"), "{fault}");
    let rows: Vec<String> = bench
        .column("select id || ' ' || name || ' ' || unit__code || ' ' || coalesce(pay::text, 'none') from hr.people order by id")
        .await;
    assert_eq!(
        rows,
        [
            "1 From the detail u/1 1.5",
            "2 Person 2 u/2 none",
            "3 Person 3 u/3 none",
            "4 Person 4 u/4 none",
            "5 From the detail u/5 1.5",
            "6 From the detail u/6 1.5",
        ]
    );
}

#[tokio::test]
async fn a_parent_that_stands_twice_is_asked_for_once_and_one_without_a_value_not_at_all() {
    let site = Site::start(|asked| match asked.path.as_str() {
        "/people" => page(
            asked,
            &[
                json!({"id": 1, "dept": "a"}),
                json!({"id": 2, "dept": "b"}),
                json!({"id": 3, "dept": "a"}),
                json!({"id": 4, "dept": null}),
                json!({"id": 5}),
                json!({"id": 6, "dept": ""}),
                json!({"id": 7, "dept": {"x": 1}}),
            ],
        ),
        _ => json!({"data": [{"id": asked.path}], "total": 1}).into(),
    })
    .await;
    for (parent, status, failed) in [
        ("{}", Status::Succeeded, 0),
        ("{missing: fail}", Status::Partial, 4),
    ] {
        let config = config(
            &site,
            &format!(
                "      - {{name: people, selected: false}}\n      - {{name: depts, parent: {parent}, endpoint: 'depts/{{resources.people.dept}}/x'}}\n"
            ),
        );
        let bench = Bench::new().await;
        site.take();
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, status, "{outcome:?}");
        let asked = site.take();
        let mut children: Vec<&String> = asked.iter().filter(|a| a.starts_with("/depts")).collect();
        children.sort();
        assert_eq!(
            children,
            ["/depts/a/x?offset=0&limit=2", "/depts/b/x?offset=0&limit=2"]
        );
        let told: Vec<String> = bench
            .column("select data::text from rosterd.events where kind = 'parents'")
            .await;
        let told: Value = serde_json::from_str(&told[0]).unwrap();
        assert_eq!(told["failed"], failed);
        assert_eq!(told["skipped"], 4 - failed);
        assert_eq!(told["repeated"], 1);
        if let Some(fault) = outcome.fault {
            assert!(
                fault.message.contains("a record of people has no dept"),
                "{fault}"
            );
        }
    }
}
