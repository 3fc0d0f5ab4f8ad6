//! The sample HR API as a client sees it. What it says of itself must be right, because other tests
//! judge the program by it.

use std::time::Duration;

use rosterd::demo::{Api, Mutation, Options};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

async fn start(options: Options) -> Api {
    Api::start(options, CancellationToken::new()).await.unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a bare client, to see the API and not our own client"
)]
fn client() -> reqwest::Client {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn page(client: &reqwest::Client, api: &Api, query: &str) -> Value {
    let url = format!("{}/v1/{query}&api_key=demo-key", api.base_url());
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_walk_over_the_pages_gives_the_snapshot() {
    let api = start(Options {
        employees: 537,
        ..Options::default()
    })
    .await;
    let client = client();
    for (collection, count) in [
        ("employees", 537),
        ("absences", 1_074),
        ("timesheets", 2_148),
    ] {
        let mut walked = Vec::new();
        loop {
            let query = format!("{collection}?offset={}&limit=250", walked.len());
            let Value::Object(mut page) = page(&client, &api, &query).await else {
                panic!("no object");
            };
            assert_eq!(page["total"], count);
            let Some(Value::Array(records)) = page.remove("data") else {
                panic!("no data");
            };
            if records.is_empty() {
                break;
            }
            walked.extend(records);
        }
        assert_eq!(walked, api.snapshot(collection));
    }
    let stats = api.stats();
    assert_eq!(stats.requests, 4 + 6 + 10);
    assert_eq!(stats.records, 537 + 1_074 + 2_148);
    assert_eq!(stats.keys.into_iter().collect::<Vec<_>>(), ["demo-key"]);
    api.stop().await;
}

#[tokio::test]
async fn only_what_changed_since_is_asked_for() {
    let api = start(Options::default()).await;
    let client = client();
    let newest = api
        .snapshot("employees")
        .iter()
        .map(|r| r["updated_at"].as_str().unwrap().to_owned())
        .max()
        .unwrap();
    assert_eq!(api.mutate("employees", Mutation::Change(5)), 5);
    assert_eq!(api.mutate("employees", Mutation::End(1)), 1);
    assert_eq!(api.mutate("employees", Mutation::Add(2)), 2);
    assert_eq!(api.count("employees"), 1_002);

    let answer = page(&client, &api, &format!("employees?updated_since={newest}")).await;
    // The one that was newest before is not older than itself.
    assert_eq!(answer["total"], 9);
    let left = answer["data"].as_array().unwrap().iter();
    let left: Vec<&Value> = left
        .filter(|r| r["status"] == "terminated" && r["revision"] == 2)
        .collect();
    assert_eq!(left.len(), 1);
    assert!(left[0]["ended_on"].is_string());
    api.stop().await;
}

#[tokio::test]
async fn refuses_what_a_real_api_refuses() {
    let api = start(Options {
        page_cap: 50,
        ..Options::default()
    })
    .await;
    let client = client();
    for (path, status) in [
        ("/v1/employees", 401),
        ("/v1/employees?api_key=wrong", 401),
        ("/v1/unknown?api_key=demo-key", 404),
        ("/v1/employees?api_key=demo-key&offset=-1", 400),
        ("/v1/employees?api_key=demo-key&updated_since=soon", 400),
        ("/", 404),
    ] {
        let url = format!("{}{path}", api.base_url());
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    let answer = page(&client, &api, "employees?limit=5000").await;
    assert_eq!(answer["data"].as_array().unwrap().len(), 50);
    api.stop().await;
}

#[tokio::test]
async fn above_its_limit_it_answers_429_and_when_to_come_back() {
    let api = start(Options {
        rate_limit: Some((3, Duration::from_secs(3_600))),
        ..Options::default()
    })
    .await;
    let client = client();
    let url = format!("{}/v1/employees?limit=1&api_key=demo-key", api.base_url());
    let mut seen = Vec::new();
    for _ in 0..5 {
        let answer = client.get(&url).send().await.unwrap();
        let wait = answer.headers().get("retry-after").is_some();
        seen.push((answer.status().as_u16(), wait));
    }
    assert_eq!(
        seen,
        [
            (200, false),
            (200, false),
            (200, false),
            (429, true),
            (429, true)
        ]
    );
    let stats = api.stats();
    assert_eq!((stats.answers[&200], stats.answers[&429]), (3, 2));
    let peak = stats.peaks.iter().find(|p| p.window.as_secs() == 3_600);
    assert_eq!(peak.unwrap().requests, 5);
    api.stop().await;
}

#[tokio::test]
async fn every_kind_of_fault_comes() {
    let api = start(Options {
        fail_fraction: 1.0,
        ..Options::default()
    })
    .await;
    let url = format!("{}/v1/employees?api_key=demo-key", api.base_url());
    let client = client();
    let answers = futures_util::future::join_all((0..60).map(|_| async {
        let answer = client.get(&url).send().await?;
        answer.bytes().await
    }))
    .await;
    let stats = api.stats();
    for status in [429, 500, 503] {
        assert!(stats.answers[&status] > 0, "{status}");
    }
    assert!(stats.cut > 0 && stats.slow > 0);
    let torn = answers.iter().filter(|a| a.is_err()).count();
    assert_eq!(torn as u64, stats.cut);
    api.stop().await;
}

#[tokio::test]
async fn people_join_change_and_leave_by_themselves() {
    let api = start(Options {
        employees: 50,
        churn: Some(Duration::from_millis(1)),
        ..Options::default()
    })
    .await;
    let left = |api: &Api| {
        let people = api.snapshot("employees");
        people.iter().filter(|r| r["ended_on"].is_string()).count()
    };
    let (before, left_before) = (api.snapshot("employees"), left(&api));
    let watch = async {
        loop {
            let now = api.snapshot("employees");
            let changed = before
                .iter()
                .zip(&now)
                .any(|(a, b)| a["annual_salary"] != b["annual_salary"] && b["ended_on"].is_null());
            if now.len() > 50 && changed && left(&api) > left_before {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), watch)
        .await
        .expect("within 20 s somebody joins, changes and leaves");
    api.stop().await;
}

#[tokio::test]
async fn five_million_people_need_no_memory_for_their_records() {
    let api = start(Options {
        employees: 5_000_000,
        ..Options::default()
    })
    .await;
    let client = client();
    let answer = page(&client, &api, "employees?offset=4999999").await;
    assert_eq!(answer["total"], 5_000_000);
    assert_eq!(answer["data"][0]["id"], 5_000_000);
    api.stop().await;
}
