//! APIs that send their callers on: to another path, or to the data centre where the tenant lives.

use serde_json::json;

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, open_route, route, wants_headers},
};

fn source(url: &str, hosts: &str, endpoint: &str) -> String {
    format!(
        "sources: {{moved: {{client: {{base_url: '{url}', redirect_hosts: [{hosts}], auth: {{type: api_key, name: X-Key, api_key: s3cret}}, headers: {{X-Tenant: acme}}, limits: [{{requests: 1000, per: 1m}}]}}, resources: [{{name: people, primary_key: id, write_disposition: merge, endpoint: {endpoint}}}]}}}}"
    )
}

/// Where the tenant lives: answers only who shows the key and asks as the first host was asked.
async fn home() -> Fake {
    let people = |asked: &Asked, data: &mut Data| {
        let is_search = asked.method == "POST";
        assert!(!is_search || asked.body == json!({"all": true}));
        Answer::json(&json!({"data": data["people"]}))
    };
    let fake = Fake::new(
        wants_headers([
            ("x-key", "s3cret".to_owned()),
            ("x-tenant", "acme".to_owned()),
        ]),
        [
            route("GET", "/eu/people", people),
            route("POST", "/eu/people", people),
        ],
    )
    .await;
    for id in 1..=3 {
        fake.put("people", json!({"id": id}));
    }
    fake
}

/// Sends everybody who asks for people to `target`.
async fn front(status: u16, target: String) -> Fake {
    let on =
        move |_: &Asked, _: &mut Data| Answer::empty(status).header("location", target.clone());
    let also = on.clone();
    Fake::new(
        |_| None,
        [
            open_route("GET", "/people", on),
            open_route("POST", "/people", also),
        ],
    )
    .await
}

const GET: &str = "{path: people, data_selector: data, paginator: single_page}";

const POST: &str =
    "{path: people, method: POST, json: {all: true}, data_selector: data, paginator: single_page}";

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_data_centre_keeps_method_body_and_key() {
    // Status, endpoint, whether it is followed, and what the other data centre is asked.
    for (status, endpoint, asked) in [
        (301, GET, Some("GET /eu/people?x=1")),
        (302, GET, Some("GET /eu/people?x=1")),
        (303, GET, Some("GET /eu/people?x=1")),
        (307, GET, Some("GET /eu/people?x=1")),
        (308, GET, Some("GET /eu/people?x=1")),
        (303, POST, Some("GET /eu/people?x=1")),
        (307, POST, Some("POST /eu/people?x=1 {\"all\":true}")),
        (308, POST, Some("POST /eu/people?x=1 {\"all\":true}")),
        // Clients do not agree on what these make of a POST.
        (301, POST, None),
        (302, POST, None),
        // These are no redirects.
        (300, GET, None),
        (305, GET, None),
    ] {
        let home = home().await;
        let front = front(status, format!("{}/eu/people?x=1", home.url())).await;
        let config = source(front.url(), "127.0.0.1", endpoint);
        let stage = Stage::of(front, &config).await;
        let outcome = stage.run("people").await;
        let what = format!("{status} {endpoint}: {outcome:?}");
        assert_eq!(home.requests(), Vec::from_iter(asked), "{what}");
        assert_eq!(stage.fake.requests().len(), 1, "{what}");
        match asked {
            Some(_) => assert_eq!(
                stage
                    .rows("select p.id, r.http_requests from moved.people p, rosterd.runs r order by 1")
                    .await,
                json!([{"id": 1, "http_requests": 2}, {"id": 2, "http_requests": 2}, {"id": 3, "http_requests": 2}]),
                "{what}"
            ),
            None => assert_eq!(
                stage.rows("select error_code from rosterd.runs").await,
                json!([{"error_code": "redirect_refused"}]),
                "{what}"
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_elsewhere_gets_nothing_and_one_in_a_circle_ends() {
    // Another port is another origin, and no host of the list.
    for hosts in ["", "api.example.com, '*.example.com'"] {
        let home = home().await;
        let front = front(307, format!("{}/eu/people", home.url())).await;
        let config = source(front.url(), hosts, GET);
        let stage = Stage::of(front, &config).await;
        stage.run("people").await;
        assert!(home.requests().is_empty());
        assert_eq!(
            stage
                .rows("select error_class, error_code from rosterd.runs")
                .await,
            json!([{"error_class": "source_response", "error_code": "redirect_refused"}])
        );
    }
    // On the configured origin it needs no list; five are followed.
    let stage = front(302, "/people".to_owned()).await;
    let config = source(stage.url(), "", GET);
    let stage = Stage::of(stage, &config).await;
    stage.run("people").await;
    assert_eq!(stage.fake.requests().len(), 6);
    assert_eq!(
        stage
            .rows("select error_code, http_requests, http_retries from rosterd.runs")
            .await,
        json!([{"error_code": "redirect_loop", "http_requests": 6, "http_retries": 0}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_redirected_too_and_a_key_in_the_query_is_sent_once() {
    let login = |asked: &Asked, _: &mut Data| match &*asked.path {
        "/login" => Answer::empty(307).header("location", "/eu/login"),
        _ if asked.body["user"] == "u" => Answer::json(&json!({"token": "t0k"})),
        _ => Answer::empty(400),
    };
    // As servers do that put the whole query that they were asked with behind the new place.
    let people = |asked: &Asked, _: &mut Data| {
        assert_eq!(asked.query, [("token".to_owned(), "t0k".to_owned())]);
        match &*asked.path {
            "/people" => Answer::empty(302).header("location", "/eu/people?token=t0k"),
            _ => Answer::json(&json!([{"id": 7}])),
        }
    };
    let fake = Fake::new(
        |_| None,
        [
            open_route("POST", "/login", login),
            open_route("POST", "/eu/login", login),
            open_route("GET", "/people", people),
            open_route("GET", "/eu/people", people),
        ],
    )
    .await;
    let url = fake.url();
    let config = format!(
        "sources: {{moved: {{client: {{base_url: '{url}', auth: {{type: session, request: {{url: '{url}/login', json: {{user: u}}}}, token_path: token, location: query, name: token}}}}, resources: [{{name: people, primary_key: id, write_disposition: merge, endpoint: {{path: people, paginator: single_page}}}}]}}}}"
    );
    let stage = Stage::of(fake, &config).await;
    assert_eq!(stage.sync("people").await.len(), 4);
    assert_eq!(
        stage.rows("select id from moved.people").await,
        json!([{"id": 7}])
    );
}
