//! What is asked for the parents' records, and what of them stands in the children's rows.

use rosterd::{record::Status, sync::Start};
use serde_json::{Value, json};

use super::{EMPLOYEES, company, config, config_with, page};
use crate::support::{
    site::{Reply, Site},
    sync::Bench,
};

#[tokio::test]
async fn a_child_is_walked_page_by_page_for_each_parent_and_takes_its_fields_along() {
    let site = company(5, |asked| {
        let parts = asked.segments();
        let id: i64 = parts[1].parse().unwrap();
        let absences: Vec<Value> = (0..id).map(|n| json!({"id": id * 100 + n})).collect();
        page(asked, &absences)
    })
    .await;
    let config = config(
        &site,
        &format!(
            "{EMPLOYEES}
      - name: absences
        endpoint: {{path: 'employees/{{resources.employees.id}}/absences'}}
        include_from_parent: [id, unit.code, {{field: name, name: person}}]
"
        ),
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert_eq!(outcome.counters.rows_inserted, 15);
    assert_eq!(outcome.counters.records_read, 15);
    let rows: Vec<String> = bench
        .column("select id || ' ' || _employees_id || ' ' || _employees_unit_code || ' ' || person from hr.absences order by id")
        .await;
    assert_eq!(rows.first().unwrap(), "100 1 u/1 Person 1");
    assert_eq!(rows.last().unwrap(), "504 5 u/5 Person 5");
    let asked = site.take();
    // Three pages of employees; one, one, two, two and three of absences.
    assert_eq!(asked.len(), 3 + 9, "{asked:?}");
    assert_eq!(outcome.counters.http_requests, 12);
    let tables: Vec<String> = bench
        .column("select table_name::text from information_schema.tables where table_schema = 'hr'")
        .await;
    assert_eq!(tables, ["absences"]);

    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.counters.rows_unchanged, 15, "{outcome:?}");
}

#[tokio::test]
async fn ids_stay_one_segment_and_stand_wherever_they_are_named() {
    let ids = ["a/b", "c?d=1", "x y", "..x", "ü&=", "{z}"];
    let site = Site::start(move |asked| match asked.path.as_str() {
        "/people" => {
            let people: Vec<Value> = ids
                .iter()
                .map(|id| json!({"id": id, "n": 12345678901234567890_u64}))
                .collect();
            json!(people).into()
        }
        _ => json!([{"id": asked.path, "q": asked.param("q"), "h": asked.headers["x-person"].to_str().unwrap_or("?"), "b": asked.body}])
            .into(),
    })
    .await;
    let config = config_with(
        &site,
        "      paginator: single_page",
        "
      - {name: people, selected: false, endpoint: {data_selector: $, paginator: single_page}}
      - name: notes
        endpoint:
          path: people/{resources.people.id}/notes
          method: POST
          params: {q: 'id={resources.people.id}'}
          headers: {X-Person: 'n{resources.people.n}'}
          json: {person: '{resources.people.id}', n: '{resources.people.n}', list: ['{resources.people.n}']}
          data_selector: $
          paginator: single_page
",
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let rows: Vec<String> = bench
        .column("select id || ' ' || q || ' ' || h || ' ' || b__person || ' ' || b__n || ' ' || b__list from hr.notes")
        .await;
    let encoded = [
        "a%2Fb",
        "c%3Fd%3D1",
        "x%20y",
        "..x",
        "%C3%BC%26%3D",
        "%7Bz%7D",
    ];
    let mut expected: Vec<String> = ids
        .iter()
        .zip(encoded)
        .map(|(id, path)| {
            format!("/people/{path}/notes id={id} n12345678901234567890 {id} 12345678901234567890 [12345678901234567890]")
        })
        .collect();
    expected.sort();
    let mut rows = rows;
    rows.sort();
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn levels_may_be_many_and_a_path_may_name_all_of_them() {
    let site = Site::start(|asked| {
        let parts: Vec<String> = asked.segments().iter().map(|s| (*s).to_owned()).collect();
        let list = |ids: &[&str]| {
            let records: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
            page(asked, &records)
        };
        match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["companies"] => list(&["c1", "c2", "c3"]),
            ["companies", "c2", "sites"] => list(&[]),
            ["companies", c, "sites"] => {
                list(&[&format!("{c}s1"), &format!("{c}s2"), &format!("{c}s3")])
            }
            ["companies", _, "sites", s, "teams"] => list(&[&format!("{s}t1")]),
            ["companies", c, "sites", s, "teams", t] => {
                assert!(t.starts_with(s) && s.starts_with(c), "{t} of {s} of {c}");
                json!({"id": t, "size": 3}).into()
            }
            _ => Reply::status(500),
        }
    })
    .await;
    let config = config(
        &site,
        "
      - name: team_details
        endpoint: {path: 'companies/{resources.companies.id}/sites/{resources.sites.id}/teams/{resources.teams.id}', data_selector: $, paginator: single_page}
        include_from_parent: [_sites_id, {field: __sites__companies_id, name: company}]
      - name: teams
        selected: false
        endpoint: 'companies/{resources.companies.id}/sites/{resources.sites.id}/teams'
        include_from_parent: [{field: id, name: _sites_id}, _companies_id]
        processing_steps: [{map: '.__sites__companies_id = ._sites__companies_id'}]
      - name: sites
        selected: false
        endpoint: companies/{resources.companies.id}/sites
        include_from_parent: [id]
      - {name: companies, selected: false}
",
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let rows: Vec<String> = bench
        .column("select id || ' ' || _teams__sites_id || ' ' || company || ' ' || size from hr.team_details order by id")
        .await;
    assert_eq!(rows.len(), 6, "{rows:?}");
    assert_eq!(rows[0], "c1s1t1 c1s1 c1 3");
    assert_eq!(rows[5], "c3s3t1 c3s3 c3 3");
}

#[tokio::test]
async fn the_older_form_of_dlt_means_the_same() {
    let site = company(2, |asked| page(asked, &[json!({"id": asked.path})])).await;
    let config = config(
        &site,
        &format!(
            "{EMPLOYEES}
      - name: absences
        endpoint:
          path: employees/{{person}}/absences
          params: {{person: {{type: resolve, resource: employees, field: unit.code}}, all: 1}}
"
        ),
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let rows: Vec<String> = bench.column("select id from hr.absences order by id").await;
    assert_eq!(
        rows,
        ["/employees/u%2F1/absences", "/employees/u%2F2/absences"]
    );
    let asked = site.take();
    assert!(
        asked.contains(&"/employees/u%2F1/absences?all=1&offset=0&limit=2".to_owned()),
        "{asked:?}"
    );
}

#[tokio::test]
async fn steps_of_the_parent_decide_which_children_are_asked_for() {
    let site = company(4, |asked| page(asked, &[json!({"id": asked.path})])).await;
    let config = config(
        &site,
        "
      - name: employees
        selected: false
        processing_steps: [{filter: '.id % 2 == 0'}, {map: '{key: \"E\\(.id)\"}'}]
      - {name: absences, endpoint: 'employees/{resources.employees.key}/absences'}
",
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let rows: Vec<String> = bench.column("select id from hr.absences order by id").await;
    assert_eq!(rows, ["/employees/E2/absences", "/employees/E4/absences"]);
}

#[tokio::test]
async fn what_the_parents_privacy_keeps_out_is_not_copied_and_still_asked_with() {
    let site = company(2, |asked| page(asked, &[json!({"id": asked.path})])).await;
    let config = config(
        &site,
        "
      - {name: employees, selected: false, privacy: {exclude: [name]}}
      - name: absences
        endpoint: 'employees/{resources.employees.name}/absences'
        include_from_parent: [name, {field: id, name: employee}]
",
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let rows: Vec<String> = bench
        .column("select (to_jsonb(a) - '{_run_id,_synced_at,_row_hash}'::text[])::text from hr.absences a order by id")
        .await;
    assert_eq!(
        rows[0],
        r#"{"id": "/employees/Person%201/absences", "employee": 1}"#
    );
}
