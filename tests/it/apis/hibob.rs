//! HiBob: a search by POST without pages, children per person, changes since the last run.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, basic, route, wants_headers},
};

fn people(asked: &Asked, data: &mut Data) -> Answer {
    let fields = asked.body["fields"].as_array().unwrap();
    assert!(fields.contains(&json!("work/title")), "{fields:?}");
    let inactive = asked.body["showInactive"] == json!(true);
    let found: Vec<&Value> = data["people"]
        .iter()
        .filter(|one| inactive || one["internal"]["status"] == "Active")
        .collect();
    Answer::json(&json!({"employees": found}))
}

fn work(asked: &Asked, data: &mut Data) -> Answer {
    let known = data["people"]
        .iter()
        .any(|one| one["id"] == asked.places[0].as_str());
    match known {
        true => Answer::json(
            &json!({"values": [{"id": 1, "title": "Cook", "effectiveDate": "2025-01-01"}, {"id": 2, "title": "Chef", "effectiveDate": "2026-01-01"}]}),
        ),
        false => Answer::json(&json!({"key": "not_found"})).status(404),
    }
}

fn changes(asked: &Asked, data: &mut Data) -> Answer {
    data.entry("asked since".to_owned())
        .or_default()
        .push(asked.param("since").unwrap().into());
    Answer::json(&json!({"changes": data["changes"]}))
}

fn person(id: &str, title: &str, status: &str) -> Value {
    json!({"id": id, "displayName": "Jo", "work": {"title": title}, "internal": {"status": status}, "home": {"address": "Main St"}})
}

async fn stage() -> Stage {
    let guard = wants_headers([("authorization", basic("h-user", "h-token"))]);
    let routes = [
        route("POST", "/v1/people/search", people),
        route("GET", "/v1/people/{}/work", work),
        route("GET", "/v1/timeoff/requests/changes", changes),
    ];
    let fake = Fake::new(guard, routes).await;
    for (id, title, status) in [
        ("332", "Cook", "Active"),
        ("333", "Baker", "Active"),
        ("334", "Clerk", "Inactive"),
    ] {
        fake.put("people", person(id, title, status));
    }
    Stage::new(
        "hibob",
        fake,
        &[("HIBOB_USER", "h-user"), ("HIBOB_TOKEN", "h-token")],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn hibob_people_are_searched_with_leavers_and_only_changes_are_written() {
    let stage = stage().await;
    let requests = stage.sync("people").await;
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(
        stage.rows("select id, work__title as title, internal__status as status from hibob.people order by id").await[2],
        json!({"id": "334", "title": "Clerk", "status": "Inactive"})
    );
    assert!(
        !stage
            .columns("hibob.people")
            .await
            .iter()
            .any(|column| column.contains("home"))
    );
    stage.fake.change("people", |all| {
        all[0] = person("332", "Chef", "Active");
    });
    stage.sync("people").await;
    assert_eq!(stage.counts().await, "0 1 2 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn hibob_work_is_read_person_by_person() {
    let stage = stage().await;
    stage.sync("work").await;
    assert_eq!(
        stage
            .rows("select _people_id as person, id, title from hibob.work order by 1, 2")
            .await[3],
        json!({"person": "333", "id": 2, "title": "Chef"})
    );
    assert_eq!(
        stage.rows("select count(*) as n from hibob.work").await,
        json!([{"n": 6}])
    );
    stage.sync("work").await;
    assert_eq!(stage.counts().await, "0 0 6 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn hibob_changes_of_time_off_are_asked_for_from_the_last_run_on() {
    let stage = stage().await;
    stage.fake.put("changes", json!({"requestId": 7, "changeType": "Created", "employeeId": "332", "startDate": "2026-08-01", "policyTypeDisplayName": "Sick"}));
    stage.sync("time_off_changes").await;
    assert_eq!(
        stage.columns("hibob.time_off_changes").await,
        ["change_type", "employee_id", "request_id", "start_date"]
    );
    stage.fake.put("changes", json!({"requestId": 7, "changeType": "Canceled", "employeeId": "332", "startDate": "2026-08-01", "policyTypeDisplayName": "Sick"}));
    let requests = stage.sync("time_off_changes").await;
    assert_eq!(
        stage
            .rows("select request_id, change_type, employee_id, start_date from hibob.time_off_changes order by change_type")
            .await,
        json!([
            {"request_id": 7, "change_type": "Canceled", "employee_id": "332", "start_date": "2026-08-01"},
            {"request_id": 7, "change_type": "Created", "employee_id": "332", "start_date": "2026-08-01"},
        ])
    );
    let since: chrono::DateTime<chrono::Utc> =
        requests[0].split("since=").nth(1).unwrap().parse().unwrap();
    let age = rosterd::clock::now() - since;
    assert!((55..=125).contains(&age.num_minutes()), "{requests:?}");
}
