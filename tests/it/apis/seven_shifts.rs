//! 7shifts: companies and their users, changes by days, times in two spellings.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, route, slice, wants_headers},
};

fn list(asked: &Asked, records: &[Value]) -> Answer {
    let start = asked
        .param("cursor")
        .map_or(0, |cursor| cursor.parse().unwrap());
    let (page, more) = slice(records, start, 2);
    Answer::json(
        &json!({"data": page, "meta": {"cursor": {"current": null, "next": more.then(|| (start + 2).to_string())}}}),
    )
}

fn users(asked: &Asked, data: &mut Data) -> Answer {
    let since = asked.param("modified_since");
    if since.is_some_and(|day| day.len() != 10) {
        return Answer::json(&json!({"status": 400, "detail": "modified_since must be a date"}))
            .status(400);
    }
    let found: Vec<Value> = data["users"]
        .iter()
        .filter(|user| user["company_id"].as_i64() == asked.places[0].parse().ok())
        .filter(|user| since.is_none_or(|day| user["modified"].as_str().unwrap() >= day))
        .cloned()
        .collect();
    list(asked, &found)
}

fn user(id: i64, company: i64, name: &str, modified: &str) -> Value {
    json!({"id": id, "company_id": company, "first_name": name, "birth_date": "1990-01-01", "mobile_number": "1", "modified": modified})
}

#[tokio::test(flavor = "multi_thread")]
async fn sevenshifts_users_are_read_company_by_company_and_day_by_day() {
    let guard = wants_headers([
        ("authorization", "Bearer s-token".into()),
        ("x-company-guid", "guid".into()),
    ]);
    let routes = [
        route("GET", "/v2/companies", |asked, data| {
            list(asked, &data["companies"])
        }),
        route("GET", "/v2/company/{}/users", users),
        route("GET", "/v2/company/{}/users/{}/assignments", |asked, _| {
            let role = json!({"id": 40, "name": "Cook", "user": asked.places[1]});
            Answer::json(&json!({"data": {"roles": [role], "locations": []}}))
        }),
    ];
    let fake = Fake::new(guard, routes).await;
    for id in [1, 2] {
        fake.put(
            "companies",
            json!({"id": id, "name": format!("Company {id}")}),
        );
    }
    for (id, company, modified) in [
        (10, 1, "2026-01-05T10:00:00+00:00"),
        (11, 1, "2026-01-06T10:00:00+0000"),
        (12, 1, "2026-01-07T10:00:00+00:00"),
        (20, 2, "2025-06-01T10:00:00+0000"),
    ] {
        fake.put("users", user(id, company, "Jo", modified));
    }
    let stage = Stage::new(
        "7shifts",
        fake,
        &[
            ("SEVENSHIFTS_TOKEN", "s-token"),
            ("SEVENSHIFTS_COMPANY", "guid"),
        ],
    )
    .await;
    stage.sync("users").await;
    assert_eq!(
        stage
            .rows("select id, _companies_id as company from sevenshifts.users order by id")
            .await,
        json!([{"id": 10, "company": 1}, {"id": 11, "company": 1}, {"id": 12, "company": 1}, {"id": 20, "company": 2}])
    );
    assert_eq!(
        stage.columns("sevenshifts.users").await,
        ["company_id", "first_name", "id", "modified"]
    );

    stage.fake.change("users", |all| {
        all[3] = user(20, 2, "Joanna", "2026-01-08T10:00:00+0000");
    });
    let requests = stage.sync("users").await;
    assert!(
        requests
            .iter()
            .any(|r| r.contains("company/1/users") && r.contains("modified_since=2026-01-05")),
        "{requests:?}"
    );
    assert!(
        requests
            .iter()
            .any(|r| r.contains("company/2/users") && r.contains("modified_since=2025-05-30")),
        "{requests:?}"
    );
    assert_eq!(stage.counts().await.split(' ').nth(1), Some("1"));

    stage.sync("assignments").await;
    assert_eq!(stage.rows("select count(*) as n, count(distinct _users_id) as users from sevenshifts.assignments").await, json!([{"n": 4, "users": 4}]));
}
