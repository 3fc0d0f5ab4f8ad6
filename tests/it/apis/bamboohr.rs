//! BambooHR: a key as user, XML unless JSON is asked for, a map of tables by employee, dates ahead.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, basic, route, slice},
};

fn guard(asked: &Asked) -> Option<Answer> {
    if asked.header("authorization") != basic("b-key", "x") {
        return Some(Answer::empty(401));
    }
    let xml = asked.header("accept") != "application/json";
    xml.then(|| Answer::text("text/xml", "<directory/>".into()))
}

fn employees(asked: &Asked, data: &mut Data) -> Answer {
    if data.remove("busy").is_some() {
        return Answer::empty(503).header("Retry-After", "0");
    }
    assert!(asked.param("fields").unwrap().contains("jobTitle"));
    let (page, _) = slice(
        &data["employees"],
        asked.number("page[offset]", 0),
        asked.number("page[limit]", 100),
    );
    Answer::json(&json!({"data": page}))
}

fn job_info(asked: &Asked, data: &mut Data) -> Answer {
    let since = asked.param("since").unwrap();
    let mut map = json!({});
    for one in data["jobs"]
        .iter()
        .filter(|one| one["lastChanged"].as_str().unwrap() >= since)
    {
        map[one["employee"].as_str().unwrap()] =
            json!({"lastChanged": one["lastChanged"], "rows": one["rows"]});
    }
    Answer::json(&json!({"table": "jobInfo", "employees": map}))
}

fn time_off(asked: &Asked, data: &mut Data) -> Answer {
    let (start, end) = (asked.param("start").unwrap(), asked.param("end").unwrap());
    assert!(start.len() == 10 && end.len() == 10, "{start} {end}");
    let found: Vec<&Value> = data["time off"]
        .iter()
        .filter(|one| (start..=end).contains(&one["start"].as_str().unwrap()))
        .collect();
    Answer::json(&json!(found))
}

fn employee(id: &str, title: &str) -> Value {
    json!({"employeeId": id, "firstName": "Jo", "jobTitle": title, "dateOfBirth": "1990-01-01"})
}

fn jobs(employee: &str, changed: &str, titles: &[&str]) -> Value {
    let rows: Vec<Value> = titles.iter().enumerate().map(|(at, title)| json!({"date": format!("202{at}-01-01"), "jobTitle": title, "department": "Kitchen"})).collect();
    json!({"employee": employee, "lastChanged": changed, "rows": rows})
}

async fn stage() -> Stage {
    let routes = [
        route("GET", "/api/v1/employees", employees),
        route("GET", "/api/v1/employees/changed/tables/jobInfo", job_info),
        route("GET", "/api/v1/time_off/requests", time_off),
    ];
    let fake = Fake::new(guard, routes).await;
    Stage::new(
        "bamboohr",
        fake,
        &[("BAMBOOHR_COMPANY", "acme"), ("BAMBOOHR_API_KEY", "b-key")],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn bamboohr_employees_are_read_through_an_overload() {
    let stage = stage().await;
    for id in ["1", "2", "3"] {
        stage.fake.put("employees", employee(id, "Cook"));
    }
    stage.fake.put("busy", Value::Null);
    let requests = stage.sync("employees").await;
    assert!(
        requests.len() == 2 && requests[0].contains("page[limit]=2500"),
        "{requests:?}"
    );
    assert_eq!(
        stage.columns("bamboohr.employees").await,
        ["employee_id", "first_name", "job_title"]
    );
    stage.fake.change("employees", |all| {
        all[0] = employee("1", "Chef");
    });
    stage.sync("employees").await;
    assert_eq!(stage.counts().await, "0 1 2 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn bamboohr_tables_are_a_map_by_employee_and_only_the_changed_ones_come() {
    let stage = stage().await;
    stage
        .fake
        .put("jobs", jobs("1", "2026-01-01T10:00:00Z", &["Cook", "Chef"]));
    stage
        .fake
        .put("jobs", jobs("2", "2026-01-02T10:00:00Z", &["Baker"]));
    stage.sync("jobs").await;
    assert_eq!(
        stage
            .rows("select employee_id, job_title from bamboohr.jobs order by 1, date")
            .await,
        json!([{"employee_id": "1", "job_title": "Cook"}, {"employee_id": "1", "job_title": "Chef"}, {"employee_id": "2", "job_title": "Baker"}])
    );
    stage
        .fake
        .put("jobs", jobs("3", "2026-01-03T10:00:00Z", &["Clerk"]));
    let requests = stage.sync("jobs").await;
    assert!(
        requests[0].contains("since=2026-01-02T09:00:00"),
        "{requests:?}"
    );
    assert_eq!(stage.counts().await, "1 0 1 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn bamboohr_time_off_is_read_into_the_future() {
    let stage = stage().await;
    let ahead = (rosterd::clock::now() + chrono::TimeDelta::days(300))
        .format("%Y-%m-%d")
        .to_string();
    for (id, start) in [("70", "2026-02-02"), ("71", ahead.as_str())] {
        stage.fake.put("time off", json!({"id": id, "employeeId": "1", "start": start, "end": start, "type": {"name": "Sick"}, "notes": {"employee": "flu"}}));
    }
    stage.sync("time_off").await;
    assert_eq!(
        stage
            .rows("select id from bamboohr.time_off order by 1")
            .await,
        json!([{"id": "70"}, {"id": "71"}])
    );
    assert!(
        !stage
            .columns("bamboohr.time_off")
            .await
            .iter()
            .any(|c| c.contains("type") || c.contains("notes"))
    );
}
