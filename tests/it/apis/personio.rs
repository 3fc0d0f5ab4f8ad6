//! Personio v1: a login, fields in envelopes, an offset that counts rows and one that counts pages.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, open_route, route, since, slice, wants_headers},
};

fn login(asked: &Asked, _: &mut Data) -> Answer {
    match asked.body == json!({"client_id": "p-id", "client_secret": "p-secret"}) {
        true => Answer::json(&json!({"success": true, "data": {"token": "p-token"}})),
        false => Answer::json(&json!({"success": false})).status(403),
    }
}

fn employees(asked: &Asked, data: &mut Data) -> Answer {
    let found: Vec<Value> = since(
        &data["employees"],
        "/attributes/last_modified_at/value",
        asked.param("updated_since"),
    )
    .into_iter()
    .cloned()
    .collect();
    let (page, _) = slice(
        &found,
        asked.number("offset", 0),
        asked.number("limit", 50).min(2),
    );
    Answer::json(&json!({"success": true, "metadata": {"total_pages": 2}, "data": page}))
}

fn absences(asked: &Asked, data: &mut Data) -> Answer {
    let since = asked.param("updated_since");
    assert!(since.is_none_or(|day| day.len() == 10), "{since:?}");
    let size = asked.number("limit", 200);
    let found: Vec<Value> = data["absences"]
        .iter()
        .filter(|one| {
            since.is_none_or(|day| one["attributes"]["updated_at"].as_str().unwrap() >= day)
        })
        .cloned()
        .collect();
    let (page, _) = slice(&found, (asked.number("offset", 1) - 1) * size, size);
    Answer::json(&json!({"success": true, "data": page}))
}

fn employee(id: i64, name: &str, modified: &str) -> Value {
    let field = |value: Value| json!({"label": "x", "value": value, "type": "standard"});
    json!({"type": "Employee", "attributes": {
        "id": field(json!(id)), "first_name": field(json!(name)), "has_car": field(json!(false)), "gender": field(json!("x")),
        "department": field(json!({"type": "Department", "attributes": {"id": 7, "name": "Kitchen"}})),
        "fix_salary": field(json!(4200.50)), "last_modified_at": field(json!(modified)),
    }})
}

fn absence(id: i64, updated: &str) -> Value {
    json!({"type": "TimeOffPeriod", "attributes": {
        "id": id, "start_date": "2026-07-01T00:00:00+02:00", "days_count": 2.5, "updated_at": updated,
        "time_off_type": {"type": "TimeOffType", "attributes": {"id": 1, "name": "Sick days"}},
        "employee": {"type": "Employee", "attributes": {"id": {"label": "", "value": 9}, "email": {"label": "", "value": "x@x.example"}}},
    }})
}

async fn stage() -> Stage {
    let guard = wants_headers([
        ("authorization", "Bearer p-token".into()),
        ("x-personio-app-id", "rosterd".into()),
    ]);
    let routes = [
        open_route("POST", "/v1/auth", login),
        route("GET", "/v1/company/employees", employees),
        route("GET", "/v1/company/time-offs", absences),
    ];
    let fake = Fake::new(guard, routes).await;
    Stage::new(
        "personio",
        fake,
        &[
            ("PERSONIO_CLIENT_ID", "p-id"),
            ("PERSONIO_CLIENT_SECRET", "p-secret"),
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn personio_employees_lose_their_envelopes() {
    let stage = stage().await;
    for (id, name) in [(1, "Ann"), (2, "Ben"), (3, "Cid")] {
        stage
            .fake
            .put("employees", employee(id, name, "2026-01-01T00:00:00+01:00"));
    }
    stage.sync("employees").await;
    assert_eq!(
        stage.rows("select id, first_name, has_car, department__name from personio.employees order by id").await[0],
        json!({"id": 1, "first_name": "Ann", "has_car": false, "department__name": "Kitchen"})
    );
    let columns = stage.columns("personio.employees").await;
    assert!(
        !columns
            .iter()
            .any(|column| column.contains("salary") || column.contains("gender")),
        "{columns:?}"
    );
    stage.fake.change("employees", |all| {
        all[1] = employee(2, "Benno", "2026-02-01T00:00:00+01:00");
    });
    let requests = stage.sync("employees").await;
    assert!(
        requests
            .last()
            .unwrap()
            .contains("updated_since=2025-12-31T23:50:00"),
        "{requests:?}"
    );
    assert_eq!(stage.counts().await.split(' ').nth(1), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn personio_absences_come_by_pages_and_by_days() {
    let stage = stage().await;
    for id in 1..=201 {
        stage
            .fake
            .put("absences", absence(id, "2026-01-10T10:00:00+01:00"));
    }
    let requests = stage.sync("absences").await;
    assert!(
        requests.iter().any(|request| request.contains("offset=2")),
        "{requests:?}"
    );
    assert_eq!(
        stage
            .rows("select count(*) as n, max(employee_id) as e from personio.absences")
            .await,
        json!([{"n": 201, "e": 9}])
    );
    let columns = stage.columns("personio.absences").await;
    assert_eq!(
        columns,
        [
            "days_count",
            "employee_id",
            "id",
            "start_date",
            "updated_at"
        ]
    );
    let requests = stage.sync("absences").await;
    assert!(
        requests[1].contains("updated_since=2026-01-08"),
        "{requests:?}"
    );
}
