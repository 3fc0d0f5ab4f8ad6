//! Who may come in, and what every answer tells the browser.
//!
//! A page on some web site must not read this one through the visitor's browser (DNS rebinding): the
//! `Host` must be an address or `localhost`, unless a token is set, which such a page does not have.

use std::{hint::black_box, net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::config::Secret;

/// Names and values of a request's headers together.
const HEADER_BYTES: usize = 8 << 10;

const ANSWER_HEADERS: [(HeaderName, &str); 7] = [
    (header::CONNECTION, "close"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

#[derive(Debug)]
pub(super) struct Door {
    token: Option<Secret>,
}

impl Door {
    pub(super) fn new(token: Option<Secret>) -> Self {
        Self { token }
    }

    fn refuse(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let allow = [(header::ALLOW, "GET, HEAD")];
            return Some((StatusCode::METHOD_NOT_ALLOWED, allow).into_response());
        }
        let size: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        if size + request.uri().path().len() > HEADER_BYTES {
            return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response());
        }
        let Some(token) = &self.token else {
            let host = headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok());
            let local = host.or(request.uri().authority().map(Authority::as_str));
            return (!local.is_some_and(is_address_or_localhost))
                .then(|| (StatusCode::MISDIRECTED_REQUEST, "unknown Host\n").into_response());
        };
        // Probes have no token, and learn a word.
        if matches!(request.uri().path(), "/healthz" | "/readyz") {
            return None;
        }
        if given_token(headers).is_some_and(|given| same(&given, token.expose().as_bytes())) {
            return None;
        }
        // A browser asks for name and password then; the password is the token.
        let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"rosterd\"")];
        Some((StatusCode::UNAUTHORIZED, ask, "token required\n").into_response())
    }
}

pub(super) async fn check(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let mut response = match door.refuse(&request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    for (name, value) in ANSWER_HEADERS {
        response
            .headers_mut()
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

fn is_address_or_localhost(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || address.unwrap_or(name).parse::<IpAddr>().is_ok()
}

/// From `Bearer token`, or `Basic` with the token as the password.
fn given_token(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(rest.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    pair.get(colon + 1..).map(<[u8]>::to_vec)
}

/// Takes as long for a wrong first byte as for a wrong last one. The length may show.
fn same(given: &[u8], right: &[u8]) -> bool {
    let differing = given
        .iter()
        .zip(right)
        .fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    given.len() == right.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(door: &Door, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        door.refuse(&request).map_or(200, |r| r.status().as_u16())
    }

    #[test]
    fn only_an_address_or_localhost_as_host_without_a_token() {
        let door = Door::new(None);
        for (host, expected) in [
            ("127.0.0.1:8686", 200),
            ("localhost", 200),
            ("LOCALHOST:1", 200),
            ("[::1]:8686", 200),
            ("10.1.2.3", 200),
            ("evil.example:8686", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("", 421),
        ] {
            assert_eq!(
                status(&door, "GET", "/", &[("host", host)]),
                expected,
                "{host}"
            );
        }
        assert_eq!(status(&door, "GET", "/", &[]), 421);
    }

    #[test]
    fn the_token_opens_as_bearer_and_as_password() {
        let door = Door::new(Some(Secret::new("s3cret:ä".to_owned())));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (authorization, expected) in [
            ("Bearer s3cret".to_owned(), 401),
            ("Bearer ".to_owned(), 401),
            (basic("anna:s3cret:ä"), 200),
            (basic("s3cret:ä"), 401),
            (basic(":s3cret:a"), 401),
            ("Basic !!".to_owned(), 401),
            ("Digest x".to_owned(), 401),
        ] {
            let headers = [
                ("host", "status.example"),
                ("authorization", authorization.as_str()),
            ];
            assert_eq!(
                status(&door, "GET", "/", &headers),
                expected,
                "{authorization}"
            );
        }
        assert_eq!(
            status(&door, "GET", "/readyz", &[("host", "x.example")]),
            200
        );
        let ascii = Door::new(Some(Secret::new("plain".to_owned())));
        let bearer = [("authorization", "bearer plain")];
        assert_eq!(status(&ascii, "HEAD", "/", &bearer), 200);
    }

    #[test]
    fn nothing_is_changed_and_nothing_large_is_taken() {
        let door = Door::new(None);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            assert_eq!(status(&door, method, "/", &[("host", "localhost")]), 405);
        }
        let large = "x".repeat(9_000);
        let headers = [("host", "localhost"), ("cookie", large.as_str())];
        assert_eq!(status(&door, "GET", "/", &headers), 431);
    }
}
