//! What `rosterd erase` takes: every version, every list, every reject, and it stays away.

use serde_json::{Value, json};

use crate::{
    privacy::{KEY, config, resource, succeed, text},
    support::{api::Api, db::TestDb},
};

/// A person with lists in two levels, and a name that no other has.
fn listed(id: i64, pay: impl Into<Value>) -> Value {
    let mark = format!("Erasable-{id}");
    json!({"id": id, "unit": "U", "name": mark, "pay": pay.into(),
           "jobs": [{"title": format!("{mark} cook"), "skills": [format!("{mark} fire")]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_list_and_reject_of_an_erased_person_goes_and_stays_away() {
    for (write, key) in [
        (
            "write_disposition: {disposition: merge, strategy: scd2}",
            "3",
        ),
        (
            "write_disposition: {disposition: merge, strategy: scd2}, primary_key: [id, unit], privacy: {hash: [id]}",
            "3,U",
        ),
        (
            "write_disposition: {disposition: merge, strategy: delete-insert}, deletes: snapshot",
            "3",
        ),
        ("write_disposition: replace", "3"),
        ("write_disposition: append", "3"),
    ] {
        let (api, db) = (Api::start().await, TestDb::new().await);
        let people = api.collection("people");
        for id in 1..=4 {
            people.put(listed(id, 1));
        }
        let resources = resource(
            "people",
            &format!(
                "max_table_nesting: 2, rejects: {{store: record, tolerate: 10}}, columns: {{pay: {{data_type: bigint}}}}, {write}"
            ),
        );
        let config = config(&db, &api, &format!("{{key: {KEY}}}"), &resources);
        succeed(&config, &["sync"]);
        people.put(listed(3, 2));
        succeed(&config, &["sync"]);
        people.put(listed(3, "by the hour"));
        succeed(&config, &["sync"]);
        let before = db.dump().await;
        assert!(before.contains("Erasable-3"), "{write}");
        assert_eq!(
            text(&db, "select count(*)::text from rosterd.rejects").await,
            [Some("1".to_owned())],
            "{write}"
        );

        let said = succeed(&config, &["erase", "hr/people", "--key", key]);
        assert!(said.contains("1 rejects"), "{write}: {said}");
        assert!(!db.dump().await.contains("Erasable-3"), "{write}");
        // Neither as it was rejected nor as it was loaded does the API bring the person back.
        succeed(&config, &["sync", "--full"]);
        people.put(listed(3, 2));
        succeed(&config, &["sync", "--full"]);
        let after = db.dump().await;
        assert!(!after.contains("Erasable-3"), "{write}");
        assert!(after.contains("Erasable-4 fire"), "{write}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_walk_gathered_goes_too() {
    let (api, db) = (Api::start().await, TestDb::new().await);
    let people = api.collection("people");
    for id in 1..=6 {
        people.put(listed(id, 1));
    }
    let resources = resource("people", "max_table_nesting: 2, write_disposition: replace");
    let config = config(&db, &api, &format!("{{key: {KEY}}}"), &resources);
    succeed(&config, &["sync"]);
    // As a process leaves them that is killed in a walk.
    sqlx::raw_sql(
        "create table hr._rosterd_walk_people as select * from hr.people;
         create table hr._rosterd_walk_people__jobs as select * from hr.people__jobs;
         create table hr._rosterd_walk_people__jobs__skills as select * from hr.people__jobs__skills",
    )
    .execute(db.pool())
    .await
    .unwrap();
    succeed(&config, &["erase", "hr/people", "--key", "3"]);
    let after = db.dump().await;
    assert!(!after.contains("Erasable-3") && after.contains("Erasable-4 fire"));
}
