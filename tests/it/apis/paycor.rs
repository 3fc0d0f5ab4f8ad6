//! Paycor: a refresh token that changes each time, and links without a host.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, open_route, route, slice},
};

fn token(asked: &Asked, data: &mut Data) -> Answer {
    let tokens = data.entry("refreshes".to_owned()).or_default();
    let wanted = format!("refresh-{}", tokens.len());
    if asked.param("subscription-key") != Some("sub-key")
        || asked.body["refresh_token"] != wanted.as_str()
    {
        return Answer::json(&json!({"error": "invalid_grant"})).status(400);
    }
    tokens.push(Value::Null);
    let count = tokens.len();
    Answer::json(
        &json!({"access_token": format!("access-{count}"), "refresh_token": format!("refresh-{count}"), "expires_in": 1800}),
    )
}

fn guard(asked: &Asked) -> Option<Answer> {
    let good = asked.header("authorization").starts_with("Bearer access-")
        && asked.header("ocp-apim-subscription-key") == "sub-key";
    (!good).then(|| Answer::json(&json!({"Detail": "no"})).status(401))
}

fn employees(asked: &Asked, data: &mut Data) -> Answer {
    let start = asked.number("continuationToken", 0);
    let (page, more) = slice(&data["employees"], start, 2);
    let next = format!(
        "/v1/legalentities/77/employees?include=EmploymentDates&continuationToken={}",
        start + 2
    );
    Answer::json(
        &json!({"hasMoreResults": more, "additionalResultsUrl": if more { next } else { String::new() }, "records": page}),
    )
}

fn employee(id: &str, status: &str) -> Value {
    json!({"id": id, "firstName": "Jo", "status": status, "socialSecurityNumber": "123", "birthDate": "1990-01-01"})
}

async fn stage() -> Stage {
    let routes = [
        open_route("POST", "/sts/v1/common/token", token),
        route("GET", "/v1/legalentities/77/employees", employees),
    ];
    let fake = Fake::new(guard, routes).await;
    for id in ["a", "b", "c"] {
        fake.put("employees", employee(id, "Active"));
    }
    let variables = [
        ("PAYCOR_CLIENT_ID", "id"),
        ("PAYCOR_CLIENT_SECRET", "secret"),
        ("PAYCOR_REFRESH_TOKEN", "refresh-0"),
        ("PAYCOR_SUBSCRIPTION_KEY", "sub-key"),
        ("PAYCOR_LEGAL_ENTITY", "77"),
        (
            "ROSTERD_STORE_KEY",
            "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        ),
    ];
    Stage::new("paycor", fake, &variables).await
}

#[tokio::test(flavor = "multi_thread")]
async fn paycor_employees_come_by_links_without_a_host() {
    let stage = stage().await;
    let requests = stage.sync("employees").await;
    assert!(
        requests
            .iter()
            .any(|request| request.contains("continuationToken=2")),
        "{requests:?}"
    );
    assert_eq!(
        stage.columns("paycor.employees").await,
        ["first_name", "id", "status"]
    );
    stage.fake.change("employees", |all| {
        all[0] = employee("a", "Terminated");
    });
    stage.sync("employees").await;
    assert_eq!(stage.counts().await, "0 1 2 0");
}
