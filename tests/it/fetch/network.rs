//! The way to the API: what we call ourselves, through whom we go, where a login sends us.

use axum::{Json, Router, http::StatusCode, routing::post};
use rosterd::config::{Secret, source::ProxyRule};
use serde_json::json;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{auth_of, expect_all, offset, plan, source, stop, walk};
use crate::support::api::{Api, Key};

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn requests_go_through_the_configured_proxy_under_the_configured_name() {
    let proxy = Api::start().await;
    proxy.collection("employees").fill(25);
    let mut source = source(NOWHERE);
    source.client.network.proxy = ProxyRule::Through(Secret::new(
        proxy.url().replace("http://", "http://me:s3cret@"),
    ));
    source.client.network.user_agent = Some("acme-hr/1".into());

    expect_all(
        &walk(&source, plan(offset(10, stop(Some("total"), None)))).await,
        25,
    );

    for request in proxy.requests() {
        assert_eq!(request.headers["user-agent"], "acme-hr/1");
        assert_eq!(request.headers["host"], "127.0.0.1:1");
        assert_eq!(request.headers["proxy-authorization"], "Basic bWU6czNjcmV0");
    }
    source.client.network.proxy = ProxyRule::None;
    let walked = walk(&source, plan(offset(10, stop(Some("total"), None)))).await;
    assert_eq!(walked.end.unwrap_err().fault().code, "connect_failed");
}

#[tokio::test]
async fn a_login_may_send_us_to_hosts_that_are_admitted_and_nowhere_else() {
    let api = Api::start().await;
    api.collection("employees").fill(25);
    api.require(Key::Header("bhresttoken", "tok"));
    let rest = api.url();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let login = format!("http://{}/login", listener.local_addr().unwrap());
    let answer = move || {
        let body = json!({"BhRestToken": "tok", "restUrl": format!("{rest}/")});
        std::future::ready((StatusCode::OK, Json(body)))
    };
    let router = Router::new().route("/login", post(answer));
    let serve = async move { axum::serve(listener, router).await.unwrap() };
    let _login = AbortOnDropHandle::new(TaskTracker::new().spawn(serve));

    for (hosts, code) in [
        ("127.0.0.1", None),
        ("'*.example.com'", Some("foreign_base_url")),
        ("7.0.0.1", Some("foreign_base_url")),
    ] {
        let before = api.requests().len();
        let mut source = source(NOWHERE);
        source.client.auth = Some(auth_of(&format!(
            "{{type: session, request: {{url: '{login}'}}, token_path: BhRestToken, name: BhRestToken, template: '{{token}}', base_url: {{path: restUrl, hosts: [{hosts}]}}}}"
        )));
        let walked = walk(&source, plan(offset(10, stop(Some("total"), None)))).await;
        match code {
            None => expect_all(&walked, 25),
            Some(code) => {
                assert_eq!(walked.end.unwrap_err().fault().code, code);
                assert_eq!(api.requests().len(), before, "{hosts}");
            }
        }
    }
}
