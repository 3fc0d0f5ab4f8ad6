//! Limits, waiting, fetching ahead, stopping.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rosterd::{
    config::source::{Limit, QuotaHeaders, ResetUnit, Timeouts},
    fetch::{self, Error},
};
use tokio_util::sync::CancellationToken;

use super::{cursor, expect_all, ids_of, offset, plan, source, stop, walk};
use crate::support::api::{Api, Fault};

#[tokio::test]
async fn limits_hold_at_the_server_over_all_walks_and_retries() {
    let api = Api::start().await;
    api.collection("employees").fill(600);
    api.every(7).fails_with(503).always();
    let mut limited = source(&api.url());
    limited.client.limits = vec![
        Limit {
            requests: 20,
            per: Duration::from_millis(200),
        },
        Limit {
            requests: 60,
            per: Duration::from_secs(1),
        },
    ];
    limited.client.max_in_flight = 8;
    let shared = Arc::new(fetch::Api::new(&limited).unwrap());
    let mut walks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let mut walk = shared.walk(
            plan(offset(10, stop(Some("total"), None))),
            CancellationToken::new(),
        );
        walks.spawn(async move {
            while walk.next().await.unwrap().is_some() {}
            walk.tally()
        });
    }
    let tallies = walks.join_all().await;
    let requests: u64 = tallies.iter().map(|tally| tally.requests).sum();
    assert_eq!(requests, api.requests().len() as u64);
    assert!(requests > 180);
    assert!(
        api.most_in(Duration::from_millis(200)) <= 20,
        "{}",
        api.most_in(Duration::from_millis(200))
    );
    assert!(
        api.most_in(Duration::from_secs(1)) <= 60,
        "{}",
        api.most_in(Duration::from_secs(1))
    );
    assert!(
        tallies
            .iter()
            .all(|tally| tally.wait_rate_ms > 0 && tally.fetch_ms > 0)
    );
}

#[tokio::test]
async fn retry_after_is_never_undercut_also_by_other_walks() {
    let api = Api::start().await;
    api.collection("employees").fill(5);
    api.page(0).goes(Fault::RetryAfter(429, "1".into())).once();
    let shared = Arc::new(fetch::Api::new(&source(&api.url())).unwrap());
    let asked = || {
        shared.walk(
            plan(offset(10, stop(Some("total"), None))),
            CancellationToken::new(),
        )
    };
    let mut first = asked();
    let begun = Instant::now();
    while api.requests().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut second = asked();
    assert_eq!(ids_of(&second.next().await.unwrap().unwrap()).len(), 5);
    assert_eq!(ids_of(&first.next().await.unwrap().unwrap()).len(), 5);
    let times: Vec<Instant> = api.requests().iter().map(|seen| seen.at).collect();
    assert_eq!(times.len(), 3);
    assert!(
        times[1] - times[0] >= Duration::from_secs(1),
        "{:?}",
        times[1] - times[0]
    );
}

#[tokio::test]
async fn fetching_ahead_keeps_the_order_and_the_bound() {
    let api = Api::start().await;
    api.collection("employees").fill(300);
    // Every third page is late, so that later ones overtake it.
    for page in (1..30).step_by(3) {
        api.page(page)
            .goes(Fault::Late(Duration::from_millis(60)))
            .always();
    }
    let walked = walk(
        &source(&api.url()),
        plan(offset(10, stop(Some("total"), None))),
    )
    .await;
    expect_all(&walked, 300);
    assert_eq!(api.requests().len(), 30);
    let order: Vec<_> = api
        .requests()
        .iter()
        .map(|seen| seen.page.unwrap())
        .collect();
    assert!(order.windows(2).any(|pair| pair[0] != pair[1]));

    // Nobody takes the pages: the walk stops by itself, a few pages ahead.
    let api = Api::start().await;
    api.collection("employees").fill(1000);
    let shared = Arc::new(fetch::Api::new(&source(&api.url())).unwrap());
    let mut idle = shared.walk(
        plan(offset(10, stop(Some("total"), None))),
        CancellationToken::new(),
    );
    idle.next().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asked = api.requests().len();
    assert!((5..=8).contains(&asked), "{asked}");

    // Dropped, it asks no more.
    drop(idle);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let asked = api.requests().len();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(api.requests().len(), asked);
}

#[tokio::test]
async fn a_cancelled_walk_ends_at_once_wherever_it_waits() {
    for fault in [
        Fault::Late(Duration::from_secs(60)),
        Fault::Trickle(Duration::from_millis(100)),
        Fault::Status(503),
    ] {
        let api = Api::start().await;
        api.collection("employees").fill(25);
        api.page(0).goes(fault).always();
        let mut patient = source(&api.url());
        patient.client.timeouts = Timeouts {
            connect: Duration::from_secs(60),
            read: Duration::from_secs(60),
            total: Duration::from_secs(60),
        };
        patient.client.retry.backoff = Duration::from_secs(60);
        patient.client.retry.max_wait = Duration::from_secs(60);
        let shared = Arc::new(fetch::Api::new(&patient).unwrap());
        let cancel = CancellationToken::new();
        let mut walk = shared.walk(plan(cursor()), cancel.clone());
        while api.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let begun = Instant::now();
        cancel.cancel();
        assert_eq!(walk.next().await.unwrap_err(), Error::Cancelled);
        assert!(begun.elapsed() < Duration::from_millis(500));
    }
}

#[tokio::test]
async fn an_api_that_tells_what_is_left_is_never_asked_for_more() {
    // Ten requests in each window of a second; the eleventh would be refused.
    for (unit, per_second) in [("seconds", 1), ("ms", 1000)] {
        let state = Arc::new(std::sync::Mutex::new((Instant::now(), 0_u32, 0_u32)));
        let seen = Arc::clone(&state);
        let answer = move |uri: axum::http::Uri| {
            let mut state = seen.lock().unwrap();
            if state.0.elapsed() >= Duration::from_secs(1) {
                (state.0, state.1) = (Instant::now(), 0);
            }
            state.1 += 1;
            let refused = state.1 > 10;
            state.2 += u32::from(refused);
            let left = 10_u32.saturating_sub(state.1).to_string();
            let query = uri.query().unwrap_or_default().replace("offset=", "");
            let from: i64 = query.split('&').next().unwrap().parse().unwrap();
            let ids: Vec<_> = (from + 1..=from + 10)
                .map(|id| serde_json::json!({ "id": id }))
                .collect();
            let status = match refused {
                true => axum::http::StatusCode::TOO_MANY_REQUESTS,
                false => axum::http::StatusCode::OK,
            };
            std::future::ready((
                status,
                [("X-Left", left), ("X-Reset", per_second.to_string())],
                axum::Json(serde_json::json!({"data": ids, "total": 250})),
            ))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut telling = source(&format!("http://{}", listener.local_addr().unwrap()));
        let serve =
            async move { axum::serve(listener, axum::Router::new().fallback(answer)).await };
        let _server = tokio_util::task::AbortOnDropHandle::new(
            tokio_util::task::TaskTracker::new().spawn(serve),
        );
        telling.client.quota = Some(QuotaHeaders {
            remaining: Some("X-Left".into()),
            reset: "x-reset".into(),
            unit: match unit {
                "ms" => ResetUnit::Milliseconds,
                _ => ResetUnit::Seconds,
            },
            reserve: 0,
        });
        let walked = walk(&telling, plan(offset(10, stop(Some("total"), None)))).await;
        expect_all(&walked, 250);
        assert_eq!(state.lock().unwrap().2, 0, "{unit}");
        assert_eq!(walked.tally.http_429, 0);
        assert!(walked.tally.wait_rate_ms > 500);
    }
}

#[tokio::test]
async fn a_wait_that_the_api_asks_for_is_kept_whatever_the_status() {
    for status in [403, 409, 503] {
        let api = Api::start().await;
        api.collection("employees").fill(5);
        api.page(0)
            .goes(Fault::RetryAfter(status, "1".into()))
            .once();
        let begun = Instant::now();
        let walked = walk(
            &source(&api.url()),
            plan(offset(10, stop(Some("total"), None))),
        )
        .await;
        expect_all(&walked, 5);
        assert!(begun.elapsed() >= Duration::from_secs(1), "{status}");
        // Page 0 was all that was waited for.
        assert!(walked.tally.wait_retry_ms >= 900, "{:?}", walked.tally);
    }
    // A refused key is not tried again, whatever it says.
    let api = Api::start().await;
    api.collection("employees").fill(5);
    api.page(0)
        .goes(Fault::RetryAfter(401, "0".into()))
        .always();
    let walked = walk(&source(&api.url()), plan(cursor())).await;
    assert_eq!(walked.end.unwrap_err().fault().code, "HTTP 401");
    assert_eq!(api.requests().len(), 1);
}
