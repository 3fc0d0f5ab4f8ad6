//! Paging as APIs really do it, each against a server that does it so.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio_util::{task::AbortOnDropHandle, task::TaskTracker};

use super::{Walked, path, plan, proven, source, walk, yaml};

/// A request as the server sees it.
struct Asked {
    path: String,
    query: HashMap<String, String>,
    /// How many came before.
    number: usize,
}

impl Asked {
    fn number_of(&self, name: &str) -> Option<i64> {
        self.query.get(name).map(|text| text.parse().unwrap())
    }
}

struct Server {
    url: String,
    targets: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        let targets = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&targets), Arc::new(answer));
        let handler = move |request: Request| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let target = request.uri().to_string();
                let query = request.uri().query().unwrap_or("").as_bytes().to_vec();
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(target);
                    log.len() - 1
                };
                answer(&Asked {
                    path: request.uri().path().to_owned(),
                    query: url::form_urlencoded::parse(&query).into_owned().collect(),
                    number,
                })
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = async move {
            axum::serve(listener, Router::new().fallback(handler))
                .await
                .ok();
        };
        Self {
            url,
            targets,
            _task: AbortOnDropHandle::new(TaskTracker::new().spawn(serve)),
        }
    }

    fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

fn people(ids: impl IntoIterator<Item = i64>) -> Value {
    ids.into_iter()
        .map(|id| json!({"id": id, "seen": fastrand::u64(..)}))
        .collect()
}

fn data(ids: impl IntoIterator<Item = i64>) -> Value {
    json!({"data": people(ids)})
}

async fn walked(server: &Server, paginator: &str) -> Walked {
    let mut asked = plan(yaml(paginator));
    asked.key = vec![path("id")];
    let mut slow = source(&server.url);
    slow.client.max_in_flight = 2;
    walk(&slow, asked).await
}

#[track_caller]
fn expect_whole(walked: &Walked, count: i64) {
    let mut ids = walked.ids.clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, (1..=count).collect::<Vec<_>>());
    assert!(proven(walked), "{:?}", walked.end);
}

#[tokio::test]
async fn the_next_token_stands_in_a_header() {
    let server = Server::start(|asked| {
        let from = asked.number_of("cursor").unwrap_or(1);
        let body = axum::Json(data(from..from + 10));
        match from {
            21 => body.into_response(),
            _ => ([("X-Next", (from + 10).to_string())], body).into_response(),
        }
    })
    .await;
    let walked = walked(&server, "{type: header_cursor, cursor_key: x-next}").await;
    expect_whole(&walked, 30);
}

#[tokio::test]
async fn the_last_record_names_the_next_page() {
    // Both habits: records behind the key, and records from the key on.
    for behind in [1, 0] {
        let server = Server::start(move |asked| {
            let from = asked.number_of("since_id").map_or(1, |key| key + behind);
            axum::Json(data((from..=25).take(10))).into_response()
        })
        .await;
        let paginator = "{type: keyset, key_path: id, key_param: since_id, limit: 10}";
        expect_whole(&walked(&server, paginator).await, 25);
        let short = "{type: keyset, key_path: id, key_param: since_id, limit: 10, stop_after_short_page: true}";
        let before = server.targets().len();
        expect_whole(&walked(&server, short).await, 25);
        assert_eq!(server.targets().len() - before, 3);
    }
    // More records of one value than a page holds: the rest cannot be reached.
    let server = Server::start(|_| {
        let records: Vec<Value> = (1..=10).map(|id| json!({"id": id, "day": 7})).collect();
        axum::Json(json!({ "data": records })).into_response()
    })
    .await;
    let paginator = "{type: keyset, key_path: day, limit: 10}";
    let error = walked(&server, paginator).await.end.unwrap_err();
    assert_eq!(error.fault().code, "pagination_loop");
    // A record without the field is no end.
    let server = Server::start(|_| axum::Json(data([1, 2])).into_response()).await;
    let paginator = "{type: keyset, key_path: uuid}";
    let error = walked(&server, paginator).await.end.unwrap_err();
    assert_eq!(error.fault().code, "unexpected_shape");
}

#[tokio::test]
async fn the_total_stands_in_a_header() {
    let server = Server::start(|asked| {
        let page = asked.number_of("page").unwrap();
        let body = axum::Json(people(page * 10 - 9..=(page * 10).min(25)));
        ([("X-Total-Pages", "3")], body).into_response()
    })
    .await;
    let mut asked = plan(yaml(
        "{type: page_number, base_page: 1, total_header: X-Total-Pages}",
    ));
    asked.endpoint.data_selector = rosterd::config::endpoint::Selector::Root;
    let walked = walk(&source(&server.url), asked).await;
    expect_whole(&walked, 25);
    assert_eq!(server.targets().len(), 3);

    let server = Server::start(|_| axum::Json(data([1])).into_response()).await;
    let paginator = "{type: page_number, total_header: X-Total-Pages}";
    let error = self::walked(&server, paginator).await.end.unwrap_err();
    assert!(error.to_string().contains("X-Total-Pages (total_header)"));
}

#[tokio::test]
async fn a_status_ends_the_walk_behind_its_last_page_and_never_before_the_first() {
    for (status, first) in [(204, true), (304, true), (404, false), (400, false)] {
        let server = Server::start(move |asked| {
            let page = asked.number_of("page").unwrap();
            match page {
                0 | 1 => axum::Json(data(page * 10 + 1..=page * 10 + 10)).into_response(),
                _ => StatusCode::from_u16(status).unwrap().into_response(),
            }
        })
        .await;
        let paginator = "{type: page_number, end_statuses: [304, 400, 404]}";
        expect_whole(&walked(&server, paginator).await, 20);

        let empty =
            Server::start(move |_| StatusCode::from_u16(status).unwrap().into_response()).await;
        let none = walked(&empty, paginator).await;
        assert_eq!(proven(&none), first, "{status}: {:?}", none.end);
        assert_eq!(none.end.is_ok(), first, "{status}");
    }
}

#[tokio::test]
async fn links_with_another_host_are_followed_at_home_where_that_is_wanted() {
    let server = Server::start(|asked| {
        let from = asked.number_of("from").unwrap_or(1);
        let next = match from {
            21 => json!("null"),
            _ => json!(format!(
                "http://inner.test:81/v1/employees?from={}",
                from + 10
            )),
        };
        axum::Json(json!({"data": people(from..from + 10), "next": next})).into_response()
    })
    .await;
    let mut asked = plan(yaml(
        "{type: json_link, ignore_host: true, keep_params: true}",
    ));
    asked.endpoint.path = "/v1/employees?team=x".into();
    let whole = walk(&source(&server.url), asked).await;
    expect_whole(&whole, 30);
    assert!(
        server
            .targets()
            .iter()
            .all(|target| target.contains("team=x"))
    );
    let error = walked(&server, "json_link").await.end.unwrap_err();
    assert_eq!(error.fault().code, "foreign_next_link");
}

#[tokio::test]
async fn a_token_goes_alone_where_the_api_refuses_filters_with_it() {
    let server = Server::start(|asked| {
        let token = asked.number_of("cursor");
        if token.is_some() && asked.query.len() > 1 {
            return StatusCode::UNPROCESSABLE_ENTITY.into_response();
        }
        let from = token.unwrap_or(1);
        let next = (from < 21).then_some(from + 10);
        axum::Json(json!({"data": people(from..from + 10), "cursors": {"next": next}}))
            .into_response()
    })
    .await;
    for (keep, well) in [("false", true), ("true", false)] {
        let mut asked = plan(yaml(&format!(
            "{{type: cursor, limit: 10, limit_param: per_page, keep_params: {keep}}}"
        )));
        asked.endpoint.path = "/v1/employees?state=all".into();
        let whole = walk(&source(&server.url), asked).await;
        assert_eq!(proven(&whole), well, "{:?}", whole.end);
    }
    let targets = server.targets();
    assert_eq!(targets[0], "/v1/employees?state=all&per_page=10");
    assert_eq!(targets[1], "/v1/employees?cursor=11");
}

#[tokio::test]
async fn the_last_page_hands_out_the_token_of_the_next_walk() {
    let server = Server::start(|asked| {
        let from = asked.number_of("cursor").unwrap_or(1);
        let mut body = json!({"data": people(from..from + 10)});
        match from {
            21 => body["syncToken"] = json!("tomorrow"),
            _ => body["cursors"] = json!({"next": from + 10}),
        }
        axum::Json(body).into_response()
    })
    .await;
    let walked = walked(&server, "{type: cursor, sync_token_path: syncToken}").await;
    expect_whole(&walked, 30);
    let ending = walked.end.unwrap();
    assert_eq!(ending.sync_token.as_deref(), Some("tomorrow"));
}

#[tokio::test]
async fn the_number_of_a_page_stands_in_the_path() {
    let server = Server::start(|asked| {
        assert!(asked.query.is_empty());
        let page: i64 = asked.path.rsplit('/').next().unwrap().parse().unwrap();
        axum::Json(data(page * 10 - 9..=(page * 10).min(25))).into_response()
    })
    .await;
    let text = format!(
        "sources: {{hr: {{client: {{base_url: '{}'}}, resources: [{{name: people, write_disposition: append, endpoint: {{path: '/people/page/{{page}}', data_selector: data, paginator: {{type: page_number, base_page: 1, total_path: null}}}}}}]}}}}",
        server.url
    );
    let config = rosterd::config::from_str(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let mut asked = plan(yaml("single_page"));
    asked.endpoint = config.sources[0].resources[0].endpoint.clone();
    let whole = walk(&source(&server.url), asked).await;
    expect_whole(&whole, 25);
    assert_eq!(server.targets()[1], "/people/page/2");
    // A token has no value for the first page.
    let text = text.replace(
        "{type: page_number, base_page: 1, total_path: null}",
        "{type: cursor, cursor_param: page}",
    );
    assert!(rosterd::config::from_str(&text).is_err());
}

#[tokio::test]
async fn a_loop_is_found_however_long_it_is() {
    for period in [1, 2, 5, 9] {
        let server = Server::start(move |asked| {
            let page = asked.number_of("page").unwrap() % period;
            let ids = page * 10..page * 10 + 10;
            let records: Vec<Value> = ids.map(|id| json!({ "id": id })).collect();
            axum::Json(json!({ "data": records })).into_response()
        })
        .await;
        let walked = walked(&server, "{type: page_number, total_path: null}").await;
        assert_eq!(walked.end.unwrap_err().fault().code, "pagination_loop");
        assert!(server.targets().len() <= period as usize + 3, "{period}");
    }
}

#[tokio::test]
async fn auto_asks_once_and_says_what_to_write() {
    let server = Server::start(|asked| {
        assert_eq!(asked.path, "/v1/employees");
        axum::Json(json!({"data": people(1..10), "meta": {"page": 1, "total_pages": 9}}))
            .into_response()
    })
    .await;
    let walked = walked(&server, "auto").await;
    assert!(walked.pages.is_empty());
    let fault = walked.end.unwrap_err().fault();
    assert_eq!(fault.code, "paginator_unknown");
    assert!(!fault.retryable);
    assert!(
        fault.hint.contains(
            "`paginator: {type: page_number, base_page: 1, total_path: meta.total_pages}`"
        ),
        "{}",
        fault.hint
    );
    assert_eq!(server.targets().len(), 1);
}

#[tokio::test]
async fn pages_that_overlap_lose_nothing_while_rows_come_and_go() {
    let (mut with, mut without) = (0, 0);
    for seed in 0..40 {
        for (overlap, lost) in [(1, &mut with), (0, &mut without)] {
            let people_now = Arc::new(Mutex::new((1..=200).collect::<Vec<i64>>()));
            let rng = Mutex::new(fastrand::Rng::with_seed(seed));
            let list = Arc::clone(&people_now);
            let server = Server::start(move |asked| {
                let mut ids = list.lock().unwrap();
                let mut rng = rng.lock().unwrap();
                if asked.number > 0 && rng.u32(..3) == 0 {
                    // As many go as come: the total says nothing.
                    for _ in 0..rng.usize(1..4) {
                        let gone = rng.usize(..ids.len());
                        ids.remove(gone);
                        ids.push(rng.i64(1000..1_000_000));
                    }
                }
                let from = asked.number_of("offset").unwrap() as usize;
                let page: Vec<i64> = ids.iter().skip(from).take(10).copied().collect();
                axum::Json(json!({"data": people(page), "total": ids.len()})).into_response()
            })
            .await;
            let mut asked = plan(yaml(&format!(
                "{{type: offset, limit: 10, overlap: {overlap}}}"
            )));
            asked.key = vec![path("id")];
            let walked = walk(&source(&server.url), asked).await;
            assert!(server.targets().len() < 100);
            if proven(&walked) {
                let now = people_now.lock().unwrap();
                let stayed = now.iter().filter(|id| **id <= 200);
                *lost += stayed.filter(|id| !walked.ids.contains(id)).count();
            }
        }
    }
    assert_eq!(with, 0);
    assert!(without > 0);
}

#[tokio::test]
async fn pages_that_never_join_are_no_proof() {
    // Every answer in another order.
    let server = Server::start(|asked| {
        let from = asked.number_of("offset").unwrap();
        let ids = (0..10).map(|i| (from + i) * 1000 + asked.number as i64);
        axum::Json(json!({"data": people(ids), "total": 30})).into_response()
    })
    .await;
    let walked = walked(&server, "{type: offset, limit: 10, overlap: 2}").await;
    let doubt = walked.end.unwrap().doubt.unwrap().to_string();
    assert!(
        doubt.contains("does not join the page before it"),
        "{doubt}"
    );
    assert!(server.targets().len() < 40);
}

#[tokio::test]
async fn a_walk_with_overlap_goes_on_from_any_page() {
    let server = Server::start(|asked| {
        let from = asked.number_of("offset").unwrap();
        axum::Json(json!({"data": people((from + 1..=45).take(10)), "total": 45})).into_response()
    })
    .await;
    let paginator = "{type: offset, limit: 10, overlap: 2}";
    let whole = walked(&server, paginator).await;
    assert_eq!(whole.ids, (1..=45).collect::<Vec<_>>());
    assert!(proven(&whole));
    for page in &whole.pages {
        let mut rest = plan(yaml(paginator));
        rest.key = vec![path("id")];
        rest.resume = page.at.clone();
        rest.first_page = page.number;
        let resumed = walk(&source(&server.url), rest).await;
        assert!(proven(&resumed), "{:?}", resumed.end);
        assert_eq!(
            resumed.pages[0].records.len(),
            page.records.len(),
            "the same page, so that its anchor is met"
        );
        assert_eq!(resumed.ids.last(), Some(&45));
    }
}
