//! Factorial: a key in a header, pages from 1, nothing that tells the end but an empty page.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Fake, route, slice, wants_headers},
};

fn employee(id: i64, name: &str) -> Value {
    json!({"id": id, "full_name": name, "identifier": "X1234567", "birthday_on": "1990-05-01", "bank_number": "ES91", "manager_id": 1, "terminated_on": null, "contact_name": "Mother", "updated_at": "2026-01-01T10:00:00.123Z"})
}

#[tokio::test(flavor = "multi_thread")]
async fn factorial_is_read_to_its_empty_page_and_only_changes_are_written() {
    let path = "/api/2026-04-01/resources/employees/employees";
    let list = route("GET", path, |asked, data| {
        let (page, _) = slice(&data["employees"], (asked.number("page", 1) - 1) * 2, 2);
        Answer::json(&json!({"data": page, "meta": {"limit": asked.number("limit", 0)}}))
    });
    let fake = Fake::new(wants_headers([("x-api-key", "f-key".into())]), [list]).await;
    for (id, name) in [(1, "Ann"), (2, "Ben"), (3, "Cid")] {
        fake.put("employees", employee(id, name));
    }
    let stage = Stage::new("factorial", fake, &[("FACTORIAL_API_KEY", "f-key")]).await;
    let requests = stage.sync("employees").await;
    for page in 1..=3 {
        let wanted = format!("GET {path}?limit=100&page={page}");
        assert!(requests.contains(&wanted), "{wanted}: {requests:?}");
    }
    let columns = stage.columns("factorial.employees").await;
    assert_eq!(columns, ["full_name", "id", "manager_id", "updated_at"]);

    stage.fake.change("employees", |all| {
        all[1] = employee(2, "Benno");
        all.remove(0);
    });
    stage.sync("employees").await;
    // Before rows are deleted, everything is read once more; so unchanged rows count twice.
    let counts = stage.counts().await;
    assert!(
        counts.starts_with("0 1 ") && counts.ends_with(" 1"),
        "{counts}"
    );
    assert_eq!(
        stage.rows("select id, full_name from factorial.employees where _deleted_at is null order by id").await,
        json!([{"id": 2, "full_name": "Benno"}, {"id": 3, "full_name": "Cid"}])
    );
}
