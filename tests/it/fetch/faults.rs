//! Answers that go wrong.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use rosterd::{
    config::{
        Secret, Source,
        auth::{Auth, Form, Key as KnownKey, Place},
    },
    fault::Class,
    fetch,
};

use super::{cursor, expect_all, offset, plan, source, stop, walk};
use crate::support::api::{Api, Fault, Key};

const KEY: &str = "k3y+/=Zz&q%1 ok";

#[tokio::test]
async fn faults_that_pass_are_ridden_out_and_counted() {
    let cases = [
        ("500", Fault::Status(500), 3, 0),
        ("502", Fault::Status(502), 3, 0),
        ("429", Fault::Status(429), 3, 2),
        ("429, 0 s", Fault::RetryAfter(429, "0".into()), 3, 2),
        (
            "429, past",
            Fault::RetryAfter(429, "Mon, 23 Nov 2020 09:59:00 GMT".into()),
            3,
            2,
        ),
        ("429, junk", Fault::RetryAfter(429, "soon".into()), 3, 2),
        ("reset", Fault::Reset, 3, 0),
        ("reset mid body", Fault::ResetMidBody, 3, 0),
        ("truncated", Fault::Truncated, 3, 0),
        (
            "cut JSON",
            Fault::Answer(
                200,
                "application/json",
                Bytes::from_static(b"{\"data\":[{\"id"),
            ),
            3,
            0,
        ),
        ("late", Fault::Late(Duration::from_secs(9)), 3, 0),
    ];
    join_all(cases.map(|(name, fault, requests, http_429)| async move {
        let api = Api::start().await;
        api.collection("employees").fill(15);
        let source = impatient(source(&api.url()), &fault);
        api.page(0).goes(fault).twice();
        let walked = walk(&source, plan(offset(10, stop(Some("total"), None)))).await;
        expect_all(&walked, 15);
        assert_eq!(api.requests().len(), requests + 1, "{name}");
        assert_eq!(walked.tally.requests, requests as u64 + 1, "{name}");
        let counted = (walked.tally.retries, walked.tally.http_429);
        assert_eq!(counted, (2, http_429), "{name}");
        assert!(walked.tally.wait_retry_ms >= 5, "{name}");
    }))
    .await;
}

/// Short time-outs where the fault is to be slow, long ones elsewhere: the machine may be busy.
fn impatient(mut source: Source, fault: &Fault) -> Source {
    if matches!(fault, Fault::Late(_) | Fault::Trickle(_)) {
        source.client.timeouts.read = Duration::from_millis(700);
        source.client.timeouts.total = Duration::from_millis(1000);
    }
    source
}

#[tokio::test]
async fn faults_that_stay_have_a_class_and_a_code() {
    use Class::{Permission, RateLimit, SourceResponse, SourceUnavailable};
    let json =
        |body: &'static [u8]| Fault::Answer(200, "application/json", Bytes::from_static(body));
    let html = Fault::Answer(
        200,
        "text/html",
        Bytes::from_static(b"<html>Jane Doe 123-45-6789</html>"),
    );
    let cases = [
        (Fault::Status(400), SourceResponse, "HTTP 400", 1),
        (Fault::Status(401), Class::Auth, "HTTP 401", 1),
        (Fault::Status(403), Permission, "HTTP 403", 1),
        (Fault::Status(404), SourceResponse, "HTTP 404", 1),
        (Fault::Status(429), RateLimit, "HTTP 429", 4),
        (Fault::Status(503), SourceUnavailable, "HTTP 503", 4),
        (
            Fault::RetryAfter(429, "9".into()),
            RateLimit,
            "rate_limited",
            1,
        ),
        (
            Fault::RetryAfter(503, "99999999999999999999".into()),
            RateLimit,
            "rate_limited",
            1,
        ),
        (
            Fault::RetryAfter(429, "Fri, 31 Dec 2100 23:59:59 GMT".into()),
            RateLimit,
            "rate_limited",
            1,
        ),
        (Fault::Reset, SourceUnavailable, "connection_lost", 4),
        (Fault::ResetMidBody, SourceUnavailable, "connection_lost", 4),
        (Fault::Truncated, SourceUnavailable, "connection_lost", 4),
        (
            Fault::Late(Duration::from_secs(9)),
            SourceUnavailable,
            "timeout",
            4,
        ),
        (
            Fault::Trickle(Duration::from_millis(20)),
            SourceUnavailable,
            "timeout",
            4,
        ),
        (
            Fault::Encoding("gzip"),
            SourceUnavailable,
            "connection_lost",
            4,
        ),
        (
            Fault::Encoding("gzip, gzip"),
            SourceResponse,
            "unknown_encoding",
            1,
        ),
        (html, SourceResponse, "not_json", 2),
        (json(b""), SourceResponse, "empty_body", 2),
        (
            json(b"{\"data\":[]} Jane Doe"),
            SourceResponse,
            "invalid_json",
            2,
        ),
        (
            json(b"{\"data\":[{\"name\":\"Jane Doe"),
            SourceResponse,
            "invalid_json",
            4,
        ),
        (
            json(b"{\"data\":[\"Jane Doe\xff\"]}"),
            SourceResponse,
            "invalid_utf8",
            2,
        ),
        (
            json(b"{\"error\":\"Jane Doe 123-45-6789\"}"),
            SourceResponse,
            "unexpected_shape",
            1,
        ),
        (
            json(b"{\"data\":null,\"total\":1}"),
            SourceResponse,
            "unexpected_shape",
            1,
        ),
        (
            json(b"{\"data\":[]}"),
            SourceResponse,
            "unexpected_shape",
            1,
        ),
        (
            json(b"{\"data\":[],\"total\":\"many\"}"),
            SourceResponse,
            "unexpected_shape",
            1,
        ),
    ];
    join_all(cases.map(|(fault, class, code, requests)| async move {
        let name = format!("{fault:?}");
        let api = Api::start().await;
        api.require(Key::Query("api_key", KEY));
        api.collection("employees").fill(15);
        let mut keyed = impatient(source(&api.url()), &fault);
        keyed.client.auth = Some(Auth::Key(KnownKey {
            key: Secret::new(KEY.into()),
            form: Form::bare(),
            place: Place::Query("api_key".into()),
        }));
        api.page(0).goes(fault).always();
        let walked = walk(&keyed, plan(offset(10, stop(Some("total"), None)))).await;
        let error = walked.end.unwrap_err();
        let fault = error.fault();
        assert_eq!((fault.class, fault.code.as_str()), (class, code), "{name}");
        assert_eq!(api.requests().len(), requests, "{name}");
        assert!(
            !fault.hint.is_empty() && !fault.message.contains('\n'),
            "{name}"
        );
        expect_silent(&format!("{error} {error:?} {fault} {fault:?}"));
    }))
    .await;
}

/// Neither the key in any form nor a person.
#[track_caller]
fn expect_silent(text: &str) {
    for secret in [KEY, "k3y%2B", "k3y+", "k3y", "a3kz", "Jane", "123-45"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

async fn expect_nobody_pours(api: &Api) {
    let begun = Instant::now();
    while api.pouring() > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "the connection is still open"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn hosts_that_are_not_there_and_plain_http_are_named() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let walked = walk(&source(&url), plan(cursor())).await;
    assert_eq!(walked.end.unwrap_err().fault().code, "connect_failed");
    assert_eq!(walked.tally.retries, 3);

    // TLS to a server that speaks none.
    let api = Api::start().await;
    let walked = walk(
        &source(&api.url().replace("http:", "https:")),
        plan(cursor()),
    )
    .await;
    assert_eq!(walked.end.unwrap_err().fault().code, "tls_failed");
    assert_eq!(walked.tally.retries, 0);

    let mut far = source("http://api.example.com/v1");
    let refused = fetch::Api::new(&far).unwrap_err();
    assert_eq!(
        (refused.fault().class, refused.fault().code.as_str()),
        (Class::Config, "insecure_url")
    );
    far.client.allow_http = true;
    assert!(fetch::Api::new(&far).is_ok());
}

#[tokio::test]
async fn a_huge_body_costs_no_memory() {
    let api = Api::start().await;
    api.collection("employees").fill(1);
    let mut capped = source(&api.url());
    capped.client.max_body = 32 << 20;
    capped.client.timeouts.total = Duration::from_secs(60);
    capped.client.max_in_flight = 1;
    for fault in [Fault::Endless, Fault::GzipBomb] {
        api.page(0).goes(fault).once();
        let before = resident();
        let error = walk(&capped, plan(cursor())).await.end.unwrap_err();
        let fault = error.fault();
        assert_eq!(
            (fault.class, &*fault.code),
            (Class::SourceResponse, "body_too_large")
        );
        expect_silent(&format!("{error:?} {fault:?}"));
        // The body up to its cap, the buffer's last move, and what other tests do meanwhile.
        let grown = resident().saturating_sub(before);
        assert!(grown < 96 << 20, "{} MiB", grown >> 20);
        expect_nobody_pours(&api).await;
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
