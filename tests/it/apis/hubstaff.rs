//! Hubstaff: a token that changes, activities in windows of seven days and whole hours.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, open_route, route},
};

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
        &json!({"access_token": format!("access-{count}"), "refresh_token": format!("refresh-{count}"), "expires_in": 86400}),
    )
}

fn guard(asked: &Asked) -> Option<Answer> {
    let good = asked.header("authorization").starts_with("Bearer access-");
    (!good).then(|| Answer::json(&json!({"error": "invalid_token"})).status(401))
}

/// Records whose id is at least the one asked for, two at a time.
fn page(asked: &Asked, name: &str, records: &[&Value]) -> Answer {
    let from = asked.number("page_start_id", 0) as u64;
    let rest: Vec<&&Value> = records
        .iter()
        .filter(|one| one["id"].as_u64().unwrap() >= from)
        .collect();
    let mut body = json!({ name: rest.iter().take(2).collect::<Vec<_>>() });
    if let Some(next) = rest.get(2) {
        body["pagination"] = json!({"next_page_start_id": next["id"]});
    }
    Answer::json(&body)
}

fn organizations(asked: &Asked, data: &mut Data) -> Answer {
    page(
        asked,
        "organizations",
        &data["organizations"].iter().collect::<Vec<_>>(),
    )
}

fn activities(asked: &Asked, data: &mut Data) -> Answer {
    let time = |name: &str| {
        asked
            .param(name)
            .unwrap()
            .parse::<chrono::DateTime<chrono::Utc>>()
            .unwrap()
    };
    let (from, to) = (time("time_slot[start]"), time("time_slot[stop]"));
    if to - from > chrono::TimeDelta::days(7)
        || asked.param("time_slot[stop]").unwrap()[14..16] != *"00"
    {
        return Answer::json(&json!({"code": "invalid_params", "error": "time_slot is too long"}))
            .status(400);
    }
    let found: Vec<&Value> = data["activities"]
        .iter()
        .filter(|one| one["organization"].as_u64() == asked.places[0].parse().ok())
        .filter(|one| {
            (from..=to).contains(
                &one["time_slot"]
                    .as_str()
                    .unwrap()
                    .parse::<chrono::DateTime<chrono::Utc>>()
                    .unwrap(),
            )
        })
        .collect();
    page(asked, "activities", &found)
}

fn activity(id: u64, organization: u64, slot: &str, tracked: u64) -> Value {
    json!({"id": id, "organization": organization, "time_slot": slot, "user_id": 5, "tracked": tracked, "keyboard": 77, "mouse": 12})
}

#[tokio::test(flavor = "multi_thread")]
async fn hubstaff_activities_come_in_windows_of_whole_hours() {
    let routes = [
        open_route("POST", "/access_tokens", token),
        route("GET", "/v2/organizations", organizations),
        route("GET", "/v2/organizations/{}/activities", activities),
    ];
    let fake = Fake::new(guard, routes).await;
    for id in 1..=3 {
        fake.put(
            "organizations",
            json!({"id": id, "name": format!("Org {id}")}),
        );
    }
    let recent = |hours: i64| {
        (rosterd::clock::now() - chrono::TimeDelta::hours(hours))
            .format("%Y-%m-%dT%H:10:00Z")
            .to_string()
    };
    fake.put("activities", activity(10, 1, "2026-02-01T10:10:00Z", 600));
    fake.put("activities", activity(11, 1, "2026-02-01T10:20:00Z", 300));
    fake.put("activities", activity(12, 1, "2026-02-01T10:30:00Z", 100));
    fake.put("activities", activity(13, 1, "2026-03-01T10:30:00Z", 50));
    let variables = [
        ("HUBSTAFF_REFRESH_TOKEN", "refresh-0"),
        ("HUBSTAFF_ORGANIZATION", "1"),
        (
            "ROSTERD_STORE_KEY",
            "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        ),
    ];
    let stage = Stage::new("hubstaff", fake, &variables).await;
    let requests = stage.sync("activities").await;
    assert!(
        requests
            .iter()
            .any(|request| request.contains("page_start_id=12")),
        "{requests:?}"
    );
    assert_eq!(
        stage
            .rows("select id, organization, tracked from hubstaff.activities order by id")
            .await[3],
        json!({"id": 13, "organization": 1, "tracked": 50})
    );
    let columns = stage.columns("hubstaff.activities").await;
    assert!(
        !columns
            .iter()
            .any(|column| column == "keyboard" || column == "mouse"),
        "{columns:?}"
    );

    stage
        .fake
        .put("activities", activity(14, 1, &recent(5), 60));
    let again = stage.sync("activities").await;
    assert!(
        again.len() < requests.len() / 3,
        "{} requests, then {}",
        requests.len(),
        again.len()
    );
    assert_eq!(
        stage
            .rows("select count(*) as n from hubstaff.activities")
            .await,
        json!([{"n": 5}])
    );
}
