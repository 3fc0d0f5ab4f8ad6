//! Zoho People: records under their ids, counted from 1, days as `dd-MMM-yyyy`, and 200 for everything.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, open_route, route},
};

fn token(asked: &Asked, _: &mut Data) -> Answer {
    match asked.body["refresh_token"] == "z-refresh" && asked.body["grant_type"] == "refresh_token"
    {
        true => Answer::json(
            &json!({"access_token": "z-access", "expires_in": 3600, "api_domain": "https://www.zohoapis.eu"}),
        ),
        false => Answer::json(&json!({"error": "invalid_code"})),
    }
}

fn guard(asked: &Asked) -> Option<Answer> {
    let good = asked.header("authorization") == "Zoho-oauthtoken z-access";
    (!good).then(|| {
        Answer::json(&json!({"response": {"status": 1, "message": "Invalid token"}})).status(401)
    })
}

fn records(asked: &Asked, data: &mut Data) -> Answer {
    let refuse = |code: u64, message: &str| {
        Answer::json(
            &json!({"response": {"errors": {"code": code, "message": message}, "status": 1, "message": message}}),
        )
    };
    if data.contains_key("refused") {
        return refuse(7200, "Permission denied");
    }
    let since = asked.param("modifiedtime").map(|day| {
        let day = chrono::NaiveDate::parse_from_str(day, "%d-%b-%Y").unwrap();
        day.and_hms_opt(0, 0, 0)
            .unwrap()
            .and_utc()
            .timestamp_millis()
    });
    let found: Vec<Value> = data["employees"]
        .iter()
        .filter(|one| {
            since.is_none_or(|since| {
                one["ModifiedTime"]
                    .as_str()
                    .unwrap()
                    .parse::<i64>()
                    .unwrap()
                    >= since
            })
        })
        .map(|one| json!({ one["Zoho_ID"].to_string(): [one] }))
        .collect();
    let (first, limit) = (asked.number("sIndex", 1), asked.number("limit", 200));
    let page: Vec<&Value> = found.iter().skip(first - 1).take(limit).collect();
    if page.is_empty() {
        return refuse(7024, "No records found");
    }
    Answer::json(
        &json!({"response": {"result": page, "message": "Data fetched successfully", "status": 0}}),
    )
}

fn employee(id: i64, name: &str, modified: &str) -> Value {
    let millis = modified
        .parse::<chrono::DateTime<chrono::Utc>>()
        .unwrap()
        .timestamp_millis();
    json!({"Zoho_ID": id, "FirstName": name, "Department": "", "Date_of_birth": "01-Jan-1990", "Mobile": "123", "ModifiedTime": millis.to_string()})
}

#[tokio::test(flavor = "multi_thread")]
async fn zoho_people_records_lose_their_maps_and_no_records_are_no_error() {
    let routes = [
        open_route("POST", "/oauth/v2/token", token),
        route("GET", "/people/api/forms/employee/getRecords", records),
    ];
    let fake = Fake::new(guard, routes).await;
    for id in 1..=200 {
        fake.put(
            "employees",
            employee(413_124_000_068_132_000 + id, "Jo", "2026-01-10T10:00:00Z"),
        );
    }
    let variables = [
        ("ZOHO_CLIENT_ID", "id"),
        ("ZOHO_CLIENT_SECRET", "secret"),
        ("ZOHO_REFRESH_TOKEN", "z-refresh"),
        (
            "ROSTERD_STORE_KEY",
            "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        ),
    ];
    let stage = Stage::new("zoho-people", fake, &variables).await;
    let requests = stage.sync("employees").await;
    for first in ["sIndex=1&", "sIndex=201"] {
        assert!(
            requests
                .iter()
                .any(|request| format!("{request}&").contains(first)),
            "{first}: {requests:?}"
        );
    }
    assert_eq!(
        stage
            .rows("select count(*) as n, max(zoho_id) as last from zoho_people.employees")
            .await,
        json!([{"n": 200, "last": 413_124_000_068_132_200_i64}])
    );
    let columns = stage.columns("zoho_people.employees").await;
    assert_eq!(columns, ["first_name", "modified_time", "zoho_id"]);

    stage.fake.change("employees", |all| {
        all[0] = employee(413_124_000_068_132_001, "Joanna", "2026-01-11T10:00:00Z");
    });
    let requests = stage.sync("employees").await;
    assert!(
        requests[0].contains("modifiedtime=08-Jan-2026"),
        "{requests:?}"
    );
    assert_eq!(stage.counts().await.split(' ').nth(1), Some("1"));

    stage.fake.put("refused", Value::Null);
    let fault = stage.run("employees").await.fault.unwrap();
    assert!(fault.to_string().contains("Permission denied"), "{fault}");
}
