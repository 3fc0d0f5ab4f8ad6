//! What APIs demand that none of the ready configurations needs.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, route, since, slice},
};

/// A source `odd` with one resource.
fn source(url: &str, client: &str, resource: &str) -> String {
    format!(
        "sources: {{odd: {{client: {{base_url: '{url}'{client}}}, resources: [{{name: people, primary_key: id, write_disposition: merge, {resource}}}]}}}}"
    )
}

fn person(id: i64, status: &str, modified: &str) -> Value {
    json!({"id": id, "status": status, "modified": modified})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_goes_in_a_header_and_304_says_that_nothing_is_new() {
    let modules = |asked: &Asked, data: &mut Data| {
        let bound = Some(asked.header("if-modified-since")).filter(|bound| !bound.is_empty());
        let found = since(&data["people"], "/modified", bound);
        let page = asked.number("page", 1);
        match found.is_empty() {
            true => Answer::empty(304),
            false => Answer::json(
                &json!({"data": found.iter().skip((page - 1) * 2).take(2).collect::<Vec<_>>(), "info": {"more_records": found.len() > page * 2}}),
            ),
        }
    };
    let fake = Fake::new(|_| None, [route("GET", "/crm/people", modules)]).await;
    for id in 1..=3 {
        fake.put("people", person(id, "new", "2026-01-01T10:00:00Z"));
    }
    let config = source(
        fake.url(),
        "",
        "endpoint: {path: crm/people, data_selector: data, headers: {If-Modified-Since: '{incremental.start_value}'}, paginator: {type: page_number, base_page: 1, has_more_path: info.more_records, end_statuses: [304]}, incremental: {cursor_path: modified}, response_actions: [{status_code: 304, action: empty}]}",
    );
    let stage = Stage::of(fake, &config).await;
    assert_eq!(stage.sync("people").await.len(), 2);
    assert_eq!(stage.counts().await, "3 0 0 0");
    stage.fake.change("people", |all| {
        all[0] = person(1, "hired", "2026-01-02T10:00:00Z");
    });
    stage.sync("people").await;
    assert_eq!(stage.counts().await, "0 1 2 0");
    stage.fake.change("people", Vec::clear);
    assert_eq!(stage.sync("people").await.len(), 1);
    assert_eq!(stage.counts().await, "0 0 0 0");
    assert_eq!(
        stage.rows("select count(*) as n from odd.people").await,
        json!([{"n": 3}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_chosen_by_a_predicate_of_the_selector_and_of_a_step() {
    let list = |_: &Asked, _: &mut Data| {
        Answer::json(&json!({"lists": [
            {"alias": "location", "options": [{"id": 9, "status": "x"}]},
            {"alias": "jobTitle", "options": [{"id": 1, "status": "open"}, {"id": 2, "status": "archived"}, {"id": 3, "status": "open"}]},
        ]}))
    };
    let fake = Fake::new(|_| None, [route("GET", "/meta/lists", list)]).await;
    let config = source(
        fake.url(),
        "",
        "endpoint: {path: meta/lists, data_selector: \"$.lists[?@.alias=='jobTitle'].options[*]\", paginator: single_page}, processing_steps: [{filter: '.status == \"open\"'}]",
    );
    let stage = Stage::of(fake, &config).await;
    stage.sync("people").await;
    assert_eq!(
        stage.rows("select id from odd.people order by id").await,
        json!([{"id": 1}, {"id": 3}])
    );
    stage.sync("people").await;
    assert_eq!(stage.counts().await, "0 0 2 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_goes_in_the_body_beside_what_is_asked_for() {
    let employees = |asked: &Asked, data: &mut Data| {
        if asked.body["APIKey"] != "p-key" {
            return Answer::json(&json!({"isError": true, "Message": "Invalid API key"}));
        }
        assert_eq!(asked.body["Action"], "GetAllEmployeeDetail");
        let (page, _) = slice(&data["people"], 0, 10);
        Answer::json(&json!({"isError": false, "Result": page}))
    };
    let fake = Fake::new(|_| None, [route("POST", "/Employee", employees)]).await;
    fake.put(
        "people",
        json!({"id": 1, "FirstName": {"DisplayValue": "Ann", "FieldHistory": [1]}}),
    );
    let of = |key: &str| {
        source(
            fake.url(),
            &format!(", auth: {{type: api_key, name: APIKey, api_key: {key}, location: body}}"),
            "endpoint: {path: Employee, method: POST, json: {Action: GetAllEmployeeDetail}, data_selector: Result, paginator: single_page, response_actions: [{when: {json: {isError: true}}, action: fail}]}, processing_steps: [{map: 'with_entries(.value |= (.DisplayValue? // .))'}]",
        )
    };
    let (right, wrong) = (of("p-key"), of("other-key"));
    let stage = Stage::of(fake, &right).await;
    stage.sync("people").await;
    assert_eq!(
        stage.rows("select id, first_name from odd.people").await,
        json!([{"id": 1, "first_name": "Ann"}])
    );
    let said: Value = stage
        .rows("select r::text as run from rosterd.runs r")
        .await;
    assert!(!said.to_string().contains("p-key"), "{said}");
    let stage = stage.with(&wrong);
    assert_eq!(stage.run("people").await.fault.unwrap().code, "rule_fail");
}
