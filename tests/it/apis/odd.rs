//! What APIs demand that none of the ready configurations needs.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, open_route, route, since, slice},
};
use crate::fetch::tokens::RSA;

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

#[tokio::test(flavor = "multi_thread")]
async fn the_field_of_the_last_record_names_the_next_page() {
    let people = |asked: &Asked, data: &mut Data| {
        let after = i64::try_from(asked.number("since_id", 0)).unwrap();
        let found: Vec<&Value> = (data["people"].iter())
            .filter(|one| one["id"].as_i64().unwrap() > after)
            .take(asked.number("limit", 100))
            .collect();
        Answer::json(&json!({"data": found}))
    };
    let fake = Fake::new(|_| None, [route("GET", "/people", people)]).await;
    for id in 1..=5 {
        fake.put("people", person(id, "new", "2026-01-01T10:00:00Z"));
    }
    let config = source(
        fake.url(),
        "",
        "endpoint: {path: people, data_selector: data, paginator: {type: keyset, key_path: id, key_param: since_id, limit: 2}}",
    );
    let stage = Stage::of(fake, &config).await;
    let requests = stage.sync("people").await;
    assert_eq!(
        requests,
        [
            "GET /people?limit=2",
            "GET /people?since_id=2&limit=2",
            "GET /people?since_id=4&limit=2",
            "GET /people?since_id=5&limit=2",
        ]
    );
    assert_eq!(
        stage
            .rows("select array_agg(id order by id) as ids from odd.people")
            .await,
        json!([{"ids": [1, 2, 3, 4, 5]}])
    );
}

/// What the login is asked with, what it answers, and the header that opens the API.
struct Login {
    auth: &'static str,
    answer: fn(&Asked, usize) -> Value,
    opens: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_asked_for_in_every_way_and_once_more_when_they_are_refused() {
    let logins = [
        Login {
            // The API is where the login says.
            auth: "{type: session, request: {url: '{url}/login', json: {user: me}}, token_path: BhRestToken, name: BhRestToken, template: '{token}', base_url: {path: restUrl, hosts: [127.0.0.1]}}",
            answer: |asked, count| {
                assert_eq!(asked.body["user"], "me");
                json!({"BhRestToken": format!("t{count}"), "restUrl": format!("{}/rest/", asked.origin)})
            },
            opens: "bhresttoken",
        },
        Login {
            auth: "{type: oauth2_jwt_bearer, access_token_url: '{url}/login', private_key: \"{key}\", issuer: me, subject: you}",
            answer: |asked, count| {
                assert_eq!(
                    asked.body["assertion"].as_str().unwrap().split('.').count(),
                    3
                );
                json!({"access_token": format!("t{count}")})
            },
            opens: "authorization",
        },
    ];
    for login in logins {
        // Tokens are good for one request each, from the third on for ever.
        let refused = move |asked: &Asked| {
            let token = asked.header(login.opens).trim_start_matches("Bearer ");
            (token != "t2").then(|| Answer::json(&json!({"error": "expired"})).status(401))
        };
        let answer = login.answer;
        let give = move |asked: &Asked, data: &mut Data| {
            let given = data.entry("logins".into()).or_default();
            given.push(Value::Null);
            Answer::json(&answer(asked, given.len()))
        };
        let people =
            |_: &Asked, _: &mut Data| Answer::json(&json!([person(1, "new", "2026-01-01")]));
        let routes = [
            open_route("POST", "/login", give),
            route("GET", "/people", people),
            route("GET", "/rest/people", people),
        ];
        let fake = Fake::new(refused, routes).await;
        let auth = login.auth.replace("{url}", fake.url());
        let auth = auth.replace("{key}", &RSA.replace('\n', "\\n"));
        let config = source(
            fake.url(),
            &format!(", auth: {auth}"),
            "endpoint: {path: people, paginator: single_page}",
        );
        let stage = Stage::of(fake, &config).await;
        let requests: Vec<String> = (stage.sync("people").await.into_iter())
            .map(|line| line.split([' ', '{']).take(2).collect::<Vec<_>>().join(" "))
            .collect();
        let people = match login.opens {
            "bhresttoken" => "GET /rest/people",
            _ => "GET /people",
        };
        assert_eq!(requests, ["POST /login", people, "POST /login", people]);
        assert_eq!(stage.counts().await, "1 0 0 0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_tells_when_its_window_is_over_is_waited_for() {
    // Two requests are left after the first; the window is over after a second.
    let people = |asked: &Asked, data: &mut Data| {
        let start = asked.number("offset", 0);
        let (page, _) = slice(&data["people"], start, 2);
        let left = 2_usize.saturating_sub(start / 2);
        Answer::json(&json!({"data": page, "total": data["people"].len()}))
            .header("X-Left", left.to_string())
            .header("X-Reset-Ms", "300")
    };
    let fake = Fake::new(|_| None, [route("GET", "/people", people)]).await;
    for id in 1..=8 {
        fake.put("people", person(id, "new", "2026-01-01T10:00:00Z"));
    }
    let config = source(
        fake.url(),
        ", max_in_flight: 1, limit_headers: {remaining: X-Left, reset: X-Reset-Ms, reset_unit: ms}",
        "endpoint: {path: people, data_selector: data, paginator: {type: offset, limit: 2}}",
    );
    let stage = Stage::of(fake, &config).await;
    assert_eq!(stage.sync("people").await.len(), 4);
    assert_eq!(stage.counts().await, "8 0 0 0");
    let waited = stage
        .rows("select wait_rate_ms >= 250 as long from rosterd.runs")
        .await;
    assert_eq!(waited, json!([{"long": true}]));
}
