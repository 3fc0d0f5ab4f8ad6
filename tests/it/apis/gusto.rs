//! Gusto: refresh tokens that change, a look-up before every path, totals in headers.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, open_route, route, slice},
};

/// Each refresh token is good once.
fn token(asked: &Asked, data: &mut Data) -> Answer {
    let tokens = data.entry("refreshes".to_owned()).or_default();
    let wanted = format!("refresh-{}", tokens.len());
    if asked.body["grant_type"] != "refresh_token" || asked.body["refresh_token"] != wanted.as_str()
    {
        return Answer::json(&json!({"error": "invalid_grant"})).status(401);
    }
    tokens.push(Value::Null);
    let count = tokens.len();
    Answer::json(
        &json!({"access_token": format!("access-{count}"), "refresh_token": format!("refresh-{count}"), "expires_in": 7200, "token_type": "bearer"}),
    )
}

fn guard(asked: &Asked) -> Option<Answer> {
    let good = asked.header("authorization").starts_with("Bearer access-")
        && asked.header("x-gusto-api-version") == "2024-04-01";
    (!good).then(|| Answer::json(&json!({"error": "no token"})).status(401))
}

fn me(_: &Asked, _: &mut Data) -> Answer {
    Answer::json(
        &json!({"email": "admin@x.example", "roles": {"payroll_admin": {"companies": [{"uuid": "c-1", "name": "Acme"}, {"uuid": "c-2", "name": "Beta"}]}}}),
    )
}

fn employees(asked: &Asked, data: &mut Data) -> Answer {
    let of: Vec<Value> = data["employees"]
        .iter()
        .filter(|one| one["company"] == asked.places[0].as_str())
        .cloned()
        .collect();
    let (page, _) = slice(&of, (asked.number("page", 1) - 1) * 2, 2);
    Answer::json(&page.into())
        .header("X-Total-Pages", of.len().div_ceil(2).to_string())
        .header("X-Total-Count", of.len().to_string())
}

fn employee(uuid: &str, company: &str, title: &str) -> Value {
    json!({"uuid": uuid, "company": company, "first_name": "Jo", "current_title": title, "ssn": "123", "date_of_birth": "1990-01-01", "jobs": [{"rate": "70000.00"}], "terminated": false})
}

#[tokio::test(flavor = "multi_thread")]
async fn gusto_is_read_company_by_company_with_a_token_that_changes() {
    let routes = [
        open_route("POST", "/oauth/token", token),
        route("GET", "/v1/me", me),
        route("GET", "/v1/companies/{}/employees", employees),
    ];
    let fake = Fake::new(guard, routes).await;
    for (uuid, company) in [("e1", "c-1"), ("e2", "c-1"), ("e3", "c-1"), ("e4", "c-2")] {
        fake.put("employees", employee(uuid, company, "Cook"));
    }
    let variables = [
        ("GUSTO_CLIENT_ID", "id"),
        ("GUSTO_CLIENT_SECRET", "secret"),
        ("GUSTO_REFRESH_TOKEN", "refresh-0"),
        (
            "ROSTERD_STORE_KEY",
            "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        ),
    ];
    let stage = Stage::new("gusto", fake, &variables).await;
    let requests = stage.sync("employees").await;
    assert!(
        requests
            .iter()
            .any(|r| r.starts_with("GET /v1/companies/c-1/employees?") && r.contains("page=2")),
        "{requests:?}"
    );
    assert_eq!(
        stage
            .rows("select uuid, _companies_uuid as company from gusto.employees order by uuid")
            .await[3],
        json!({"uuid": "e4", "company": "c-2"})
    );
    let columns = stage.columns("gusto.employees").await;
    assert_eq!(
        columns,
        [
            "company",
            "current_title",
            "first_name",
            "terminated",
            "uuid"
        ]
    );

    // Another process begins with what is stored, not with the token of the file.
    stage.fake.change("employees", |all| {
        all[0] = employee("e1", "c-1", "Chef");
    });
    stage.sync("employees").await;
    assert_eq!(stage.counts().await.split(' ').nth(1), Some("1"));
}
