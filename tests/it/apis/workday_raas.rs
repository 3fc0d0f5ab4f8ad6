//! Workday's custom reports: one large answer each, XML unless JSON is asked for.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Fake, basic, route, wants_headers},
};

fn worker(id: &str, title: &str) -> Value {
    json!({"Employee_ID": id, "Worker": format!("Person {id}"), "Business_Title": title, "FTE": "0.80", "Date_of_Birth": "1980-01-01", "Home_Address": "Main St"})
}

#[tokio::test(flavor = "multi_thread")]
async fn workday_reports_are_read_whole_and_leavers_are_marked() {
    let guard = wants_headers([("authorization", basic("isu@acme", "pw"))]);
    let report = route(
        "GET",
        "/ccx/service/customreport2/acme/owner/Workers",
        |asked, data| match asked.param("format") {
            Some("json") if data.contains_key("no report") => {
                Answer::json(&json!({"message": "report is being changed"}))
            }
            Some("json") => Answer::json(&json!({"Report_Entry": data["workers"]})),
            _ => Answer::text("text/xml", "<wd:Report_Data/>".into()),
        },
    );
    let fake = Fake::new(guard, [report]).await;
    for (id, title) in [("1", "Cook"), ("2", "Baker"), ("3", "Clerk")] {
        fake.put("workers", worker(id, title));
    }
    let variables = [
        ("WORKDAY_HOST", "x.example"),
        ("WORKDAY_TENANT", "acme"),
        ("WORKDAY_USER", "isu"),
        ("WORKDAY_PASSWORD", "pw"),
        ("WORKDAY_OWNER", "owner"),
    ];
    let stage = Stage::new("workday-raas", fake, &variables).await;
    let requests = stage.sync("workers").await;
    assert_eq!(
        requests,
        ["GET /ccx/service/customreport2/acme/owner/Workers?format=json"]
    );
    assert_eq!(
        stage.columns("workday.workers").await,
        ["business_title", "employee_id", "fte", "worker"]
    );
    assert_eq!(stage.counts().await, "3 0 0 0");

    stage.fake.change("workers", |all| {
        all[0] = worker("1", "Chef");
        all.pop();
    });
    stage.sync("workers").await;
    assert_eq!(stage.counts().await, "0 1 1 1");
    assert_eq!(
        stage.rows("select employee_id as id, business_title as title, _deleted_at is not null as gone from workday.workers order by 1").await,
        json!([{"id": "1", "title": "Chef", "gone": false}, {"id": "2", "title": "Baker", "gone": false}, {"id": "3", "title": "Clerk", "gone": true}])
    );

    stage.fake.put("no report", Value::Null);
    let outcome = stage.run("workers").await;
    assert_eq!(outcome.fault.unwrap().code, "unexpected_shape");
    assert_eq!(
        stage
            .rows("select count(*) as n from workday.workers where _deleted_at is null")
            .await,
        json!([{"n": 2}])
    );
}
