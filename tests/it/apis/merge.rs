//! Merge: one bearer and one account's token, opaque cursors, deleted records marked.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, route, since, slice, wants_headers},
};

fn list(collection: &'static str) -> impl Fn(&Asked, &mut Data) -> Answer {
    move |asked, data| {
        let bound = asked.param("modified_after");
        let found: Vec<Value> = since(&data[collection], "/modified_at", bound)
            .into_iter()
            .cloned()
            .collect();
        let start = asked.param("cursor").map_or(0, |cursor| {
            cursor.strip_prefix("cD0").unwrap().parse().unwrap()
        });
        let (page, more) = slice(&found, start, 2);
        let next = more.then(|| format!("cD0{}", start + 2));
        Answer::json(&json!({"next": next, "previous": null, "results": page}))
    }
}

fn employee(id: &str, modified: &str, deleted: bool) -> Value {
    json!({
        "id": id, "remote_id": "19202938", "employee_number": "2", "first_name": "Dirna", "last_name": "Emanuel",
        "work_email": "d@x.example", "personal_email": "private@x.example", "ssn": "123-45-6789", "date_of_birth": "1990-11-10T00:00:00Z",
        "home_location": {"street_1": "2920 Broadway"}, "employments": ["17a54124"], "start_date": "2020-10-10T00:00:00Z",
        "remote_was_deleted": deleted, "created_at": "2021-09-15T00:00:00Z", "modified_at": modified, "custom_fields": {"shirt": "M"}
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn merge_is_read_by_cursor_and_deleted_records_leave() {
    let guard = wants_headers([
        ("authorization", "Bearer k-1".into()),
        ("x-account-token", "t-1".into()),
    ]);
    let fake = Fake::new(
        guard,
        [route("GET", "/api/hris/v1/employees", list("employees"))],
    )
    .await;
    for (id, modified) in [
        ("a", "2026-01-01T00:00:00Z"),
        ("b", "2026-01-02T00:00:00Z"),
        ("c", "2026-01-03T00:00:00Z"),
    ] {
        fake.put("employees", employee(id, modified, false));
    }
    let stage = Stage::new(
        "merge",
        fake,
        &[("MERGE_API_KEY", "k-1"), ("MERGE_ACCOUNT_TOKEN", "t-1")],
    )
    .await;

    let requests = stage.sync("employees").await;
    assert_eq!(
        requests,
        [
            "GET /api/hris/v1/employees?page_size=100&include_deleted_data=true",
            "GET /api/hris/v1/employees?page_size=100&include_deleted_data=true&cursor=cD02",
        ]
    );
    assert_eq!(
        stage
            .rows("select id, first_name, employee_number from merge.employees order by id")
            .await[2],
        json!({"id": "c", "first_name": "Dirna", "employee_number": "2"})
    );
    let columns = stage.columns("merge.employees").await;
    for private in [
        "ssn",
        "date_of_birth",
        "personal_email",
        "home_location__street_1",
        "custom_fields__shirt",
    ] {
        assert!(!columns.contains(&private.to_owned()), "{private}");
    }

    stage.fake.change("employees", |all| {
        all[0] = employee("a", "2026-01-04T00:00:00Z", true);
    });
    let requests = stage.sync("employees").await;
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].contains("modified_after=2026-01-02T23:50:00"),
        "{requests:?}"
    );
    assert_eq!(
        stage
            .rows("select id from merge.employees order by id")
            .await,
        json!([{"id": "b"}, {"id": "c"}])
    );
}
