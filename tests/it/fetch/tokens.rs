//! Tokens that are asked for before the API is.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use rosterd::{config::auth::Auth, fetch};
use serde_json::{Value, json};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use super::{auth_of, expect_all, offset, plan, source, stop, walk};
use crate::support::api::{Api, Key};

/// Answers one status and body to each request, the last one again and again.
struct TokenServer {
    url: String,
    asked: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    _task: AbortOnDropHandle<()>,
}

impl TokenServer {
    async fn start(answers: Vec<(u16, Value)>) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let answer = move |headers: HeaderMap, body: Bytes| {
            let mut seen = seen.lock().unwrap();
            let (status, text) = answers[seen.len().min(answers.len() - 1)].clone();
            seen.push((headers, String::from_utf8_lossy(&body).into_owned()));
            let response: Response =
                (StatusCode::from_u16(status).unwrap(), axum::Json(text)).into_response();
            std::future::ready(response)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/oauth/token", listener.local_addr().unwrap());
        let router = Router::new().route("/oauth/token", post(answer));
        let serve = async move { axum::serve(listener, router).await.unwrap() };
        Self {
            url,
            asked,
            _task: AbortOnDropHandle::new(TaskTracker::new().spawn(serve)),
        }
    }

    fn asked(&self) -> Vec<(HeaderMap, String)> {
        self.asked.lock().unwrap().clone()
    }
}

fn credentials(url: &str, more: &str) -> Auth {
    auth_of(&format!(
        "{{type: oauth2_client_credentials, access_token_url: '{url}', client_id: me, client_secret: s3cr&t {more}}}"
    ))
}

fn paged() -> fetch::WalkPlan {
    plan(offset(10, stop(Some("total"), None)))
}

#[tokio::test]
async fn a_token_is_asked_for_in_every_configured_way() {
    let basic = "Basic bWU6czNjciZ0";
    for (more, answer, authorization, body, key) in [
        (
            "",
            json!({"access_token": "tok", "expires_in": 3600}),
            None,
            "grant_type=client_credentials&client_id=me&client_secret=s3cr%26t",
            Key::Header("authorization", "Bearer tok"),
        ),
        (
            ", client_auth: basic, access_token_request_data: {scope: 'a b'}",
            json!({"access_token": "tok", "expires_in": "3600"}),
            Some(basic),
            "grant_type=client_credentials&scope=a+b",
            Key::Header("authorization", "Bearer tok"),
        ),
        (
            ", request_format: json, token_path: data.jwt, access_token_request_data: {grant_type: api}",
            json!({"data": {"jwt": "tok"}}),
            None,
            r#"{"grant_type":"api","client_id":"me","client_secret":"s3cr&t"}"#,
            Key::Header("authorization", "Bearer tok"),
        ),
    ] {
        let server = TokenServer::start(vec![(200, answer)]).await;
        let api = Api::start().await;
        api.collection("employees").fill(25);
        api.require(key);
        let mut source = source(&api.url());
        source.client.auth = Some(credentials(&server.url, more));

        expect_all(&walk(&source, paged()).await, 25);

        let asked = server.asked();
        assert_eq!(asked.len(), 1, "{more}");
        assert_eq!(asked[0].1, body);
        let sent = asked[0].0.get("authorization");
        assert_eq!(sent.map(|value| value.to_str().unwrap()), authorization);
    }
}

/// Made for this test and good for nothing else.
pub(crate) const RSA: &str = "-----BEGIN RSA PRIVATE KEY-----\n\
MIIEpAIBAAKCAQEAsXlx8+9Q3mOdcf/EbgKP50h7YOv2QBbQ2lLf7nk+Av7Im0KB\n\
hoF/2nF4yBM3XFOixUVq+A4KgmBXn7fiuAc+/nPSINwx2ofI+su5B51lJgRiI+gP\n\
wZFJIWJHQBKvzlXoxQTGAyEBjPI+K8rLk6tO+ghqtsyO48lgFufczmNpDDM8/VHv\n\
J9Ugod0fk3QWz6BE4xnxOaTLN2xMsvTX0xA+uD+Pwrc04FtqvOyPGmm9UYEi3XzP\n\
82ASGo8cf39j4uAyFFyK9tihbUzJDmsqZJKHddexO4It/UvYcBOblZC2FWq2PgGM\n\
ucdpgQ8Tg1T3/1Sgn6Q5IYJGSZkrAkQqCYHoywIDAQABAoIBACZzyThQkEV28NyL\n\
zYwGWxaB8lV4GpUdPGgpT6J0O3bbrCxTlwvFECYMst4qp7KF3nz+guQ26pj/9cxB\n\
w8oaq8/m2U7MVrLh+643KKJZPFql1XuxIoTOjTlB+W0M/3Fl1LanR53S72qR692C\n\
JWSb19M9sp1jqcv5zCt6VjGTgWWmcepEjk9gxFoDNPYV5eXqWvq6YGzNkidSc3Dh\n\
TNBS7DfpO3CY3NP9aR2mQ0Nd1xcJsb6Zrfkx1QRVDvn//+MHkRDnSHoQNbhsexkD\n\
tckokKrpGt8g+TespZla1xbpMe53M2OetXrn+XylTi/rdtIbOuQ6FFjJpPNPuxKR\n\
mCaYl30CgYEA3sXXVSyl6KJcRdx0IJFT2GkDcqwA3VGPXDpSLO1vpMCOdr/bMyIe\n\
FSwOXzxfSAtjZ4TCa5uSYMflx6Xj7vQJB2RHTuIxzb+fX1N3Hg+z549Fho7fftHr\n\
BfjT/HL/dEU+EBKjOk2uW9nBu3W2Fph0ZgKaOCSUHiT8ou9YA5S0cw0CgYEAy/H4\n\
KWR69B+je/gDpimrRCLN05U4tnhj6EDODOY6H/zXA9SVQQ3OL0x1ti36jGg0F2oV\n\
ChohZYbfGxWt/g89NUMjOinSuM3Ynl/dwlf7dv5mbshwTjeF5wcTC+FX1ERr+AhM\n\
96nGdM/qbpN9o9mqFFkbaMqO197dHy+acJG5tTcCgYEAi/trZLUKh5TGQIvXWMOZ\n\
GQpbxUm5vVhLqhtnmZ2VIsRwgMPr3ESa/JjTaxqHkMC/NMQiWvXF1BSoGXzvLi6g\n\
IcnsWPAfdXbskTzkQ7qARIgtmvDaFVmYwgbqRd6JEKmV5wmfEbrQTh0V9FJyGd6w\n\
fY0zFQY/IHYDXerhtlZR0V0CgYAdaeyMq70/8EA35PFByci1rv9YgLEJQBvIp3AQ\n\
VDQV4PVxy/sqwr71+2UOvVrhXTYGGnqmVlZyuhz7XwkVF0WQpPozrUyC8s1HKjRl\n\
jyLpao+Dcs0fuspJI7APipSMPMIFp8zR+15wAnyhLgx00TPCc4eMeYpYgAAMO2Ve\n\
zuWlyQKBgQCUaib0imLul5DaaXE+IpO26w3ZKK2thw03OPxhvCIj8A85HMVxvKnS\n\
c+jIc/EA0JVIbbehNkPV+XrT/UtE3Kbjx4TCYm2TLuVX9Gl8wt4liXvPu2Ez0HSk\n\
HIOsVEuYsXDo0O1BoT8lDI9aPEnODwSPUDJgmDGxR2CMF+hFBPzpJw==\n\
-----END RSA PRIVATE KEY-----";

const RSA_PUBLIC: &str = "MIIBCgKCAQEAsXlx8+9Q3mOdcf/EbgKP50h7YOv2QBbQ2lLf7nk+Av7Im0KBhoF/2nF4yBM3XFOixUVq+A4KgmBXn7fiuAc+/nPSINwx2ofI+su5B51lJgRiI+gPwZFJIWJHQBKvzlXoxQTGAyEBjPI+K8rLk6tO+ghqtsyO48lgFufczmNpDDM8/VHvJ9Ugod0fk3QWz6BE4xnxOaTLN2xMsvTX0xA+uD+Pwrc04FtqvOyPGmm9UYEi3XzP82ASGo8cf39j4uAyFFyK9tihbUzJDmsqZJKHddexO4It/UvYcBOblZC2FWq2PgGMucdpgQ8Tg1T3/1Sgn6Q5IYJGSZkrAkQqCYHoywIDAQAB";

#[tokio::test]
async fn a_signed_statement_is_made_for_each_token() {
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };
    let server = TokenServer::start(vec![(200, json!({"access_token": "tok"}))]).await;
    let api = Api::start().await;
    api.collection("employees").fill(5);
    api.require(Key::Header("authorization", "Bearer tok"));
    let mut source = source(&api.url());
    source.client.auth = Some(auth_of(&format!(
        "{{type: oauth2_jwt_bearer, access_token_url: '{}', private_key: \"{}\", key_id: k1, issuer: me, subject: you, claims: {{tenant: acme}}}}",
        server.url,
        RSA.replace('\n', "\\n"),
    )));

    expect_all(&walk(&source, paged()).await, 5);
    expect_all(&walk(&source, paged()).await, 5);

    let asked = server.asked();
    let statements: Vec<String> = asked
        .iter()
        .map(|(_, body)| {
            let fields: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes())
                .into_owned()
                .collect();
            assert_eq!(fields[0].1, "urn:ietf:params:oauth:grant-type:jwt-bearer");
            assert_eq!(fields[1].0, "assertion");
            fields[1].1.clone()
        })
        .collect();
    assert_ne!(statements[0], statements[1]);
    let (input, signature) = statements[0].rsplit_once('.').unwrap();
    ring::signature::UnparsedPublicKey::new(
        &ring::signature::RSA_PKCS1_2048_8192_SHA256,
        STANDARD.decode(RSA_PUBLIC).unwrap(),
    )
    .verify(
        input.as_bytes(),
        &URL_SAFE_NO_PAD.decode(signature).unwrap(),
    )
    .unwrap();
    let part = |at: usize| -> Value {
        let part = input.split('.').nth(at).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(part(0), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    let claims = part(1);
    for (name, value) in [
        ("iss", "me"),
        ("sub", "you"),
        ("tenant", "acme"),
        ("aud", &server.url),
    ] {
        assert_eq!(claims[name], value);
    }
    let times = ["iat", "exp"].map(|name| claims[name].as_i64().unwrap());
    assert_eq!(times[1] - times[0], 300);
}

#[tokio::test]
async fn a_session_token_goes_where_it_is_wanted() {
    for (place, key) in [
        (
            "location: header, template: 'Token {token}'",
            Key::Header("authorization", "Token tok"),
        ),
        (
            "location: cookie, name: sid",
            Key::Header("cookie", "sid=tok"),
        ),
        (
            "location: query, name: session",
            Key::Query("session", "tok"),
        ),
    ] {
        let server = TokenServer::start(vec![(200, json!({"token": "tok"}))]).await;
        let api = Api::start().await;
        api.collection("employees").fill(12);
        api.require(key);
        let mut source = source(&api.url());
        source.client.auth = Some(auth_of(&format!(
            "{{type: session, request: {{url: '{}', json: {{user: u, password: p}}}}, {place}}}",
            server.url
        )));

        expect_all(&walk(&source, paged()).await, 12);

        assert_eq!(server.asked()[0].1, r#"{"user":"u","password":"p"}"#);
    }
}

#[tokio::test]
async fn walks_at_the_same_time_share_one_token() {
    let server = TokenServer::start(vec![(200, json!({"access_token": "tok"}))]).await;
    let api = Api::start().await;
    api.collection("employees").fill(30);
    let mut source = source(&api.url());
    source.client.auth = Some(credentials(&server.url, ""));
    let client = Arc::new(fetch::Api::new(&source).unwrap());

    let walks = (0..4).map(|_| {
        let mut walk = client.walk(paged(), CancellationToken::new());
        async move {
            while walk.next().await.unwrap().is_some() {}
            walk.ending().unwrap().records
        }
    });
    let read = futures_util::future::join_all(walks).await;

    assert_eq!(read, [30; 4]);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_token_that_expires_is_renewed_and_a_revoked_one_once() {
    let answers = ["one", "two", "three"]
        .map(|token| (200, json!({"access_token": token, "expires_in": 3600})));
    // The first token was revoked; the second one is good.
    let server = TokenServer::start(answers.to_vec()).await;
    let api = Api::start().await;
    api.collection("employees").fill(25);
    api.require(Key::Header("authorization", "Bearer two"));
    let mut revoked = source(&api.url());
    revoked.client.auth = Some(credentials(&server.url, ""));
    expect_all(&walk(&revoked, paged()).await, 25);
    assert_eq!(server.asked().len(), 2);

    // No token is good: two are tried, and no third.
    let server = TokenServer::start(answers.to_vec()).await;
    api.require(Key::Header("authorization", "Bearer none"));
    let before = api.requests().len();
    let mut refused = source(&api.url());
    refused.client.auth = Some(credentials(&server.url, ""));
    let walked = walk(&refused, paged()).await;
    assert_eq!(walked.end.unwrap_err().fault().code, "HTTP 401");
    assert_eq!(server.asked().len(), 2);
    assert_eq!(api.requests().len() - before, 2);

    // Expired when it comes: each request asks for its own.
    let short = json!({"access_token": "tok", "expires_in": 0});
    let server = TokenServer::start(vec![(200, short)]).await;
    api.require(Key::Header("authorization", "Bearer tok"));
    let mut expiring = source(&api.url());
    expiring.client.auth = Some(credentials(&server.url, ""));
    let walked = walk(&expiring, paged()).await;
    expect_all(&walked, 25);
    assert_eq!(server.asked().len() as u64, walked.tally.requests);
}

#[tokio::test]
async fn without_a_token_the_api_is_not_asked() {
    for (status, answer, code) in [
        (
            400,
            json!({"error": "invalid_client s3cr&t"}),
            "token_refused",
        ),
        (401, json!({}), "token_refused"),
        (200, json!({"token": "elsewhere"}), "token_missing"),
        (200, json!({"access_token": ""}), "token_missing"),
        (503, json!({}), "HTTP 503"),
    ] {
        let server = TokenServer::start(vec![(status, answer)]).await;
        let api = Api::start().await;
        api.collection("employees").fill(5);
        let mut source = source(&api.url());
        source.client.auth = Some(credentials(&server.url, ""));

        let error = walk(&source, paged()).await.end.unwrap_err();

        assert_eq!(error.fault().code, code);
        assert!(api.requests().is_empty());
        let tries = if status == 503 { 4 } else { 1 };
        assert_eq!(server.asked().len(), tries, "{status}");
        for text in [
            format!("{error}"),
            format!("{error:?}"),
            format!("{:?}", error.fault()),
        ] {
            assert!(
                !text.contains("s3cr") && !text.contains("elsewhere"),
                "{text}"
            );
        }
    }
}
