//! The HTTP side: one route, one key, and the faults that were asked for.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt as _,
};
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use futures_util::stream;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    Hr, read,
    records::Kind,
    stats::{Failure, Verdict},
};

/// How late a slow answer is: longer than a healthy one by far, shorter than a client's patience.
const SLOW: Duration = Duration::from_secs(2);

/// Records per page when the request does not say.
const DEFAULT_LIMIT: usize = 100;

#[derive(Debug, Deserialize)]
struct Params {
    offset: Option<usize>,
    limit: Option<usize>,
    updated_since: Option<String>,
    api_key: Option<String>,
}

/// Serves until `cancel`.
pub(super) async fn serve(listener: TcpListener, hr: Arc<Hr>, cancel: CancellationToken) {
    let listener = listener.tap_io(|io| {
        // Without it the last small piece of a page waits for the acknowledgement of the one before.
        io.set_nodelay(true).ok();
    });
    let routes = Router::new()
        .route("/v1/{collection}", get(page))
        .with_state(hr);
    let served = axum::serve(listener, routes)
        .with_graceful_shutdown(cancel.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::warn!(%error, "sample api stopped");
    }
}

async fn page(
    State(hr): State<Arc<Hr>>,
    Path(collection): Path<String>,
    params: Result<Query<Params>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let params = params.map(|Query(params)| params);
    let key = params.as_ref().ok().and_then(|p| p.api_key.as_deref());
    let verdict = hr.recorder.arrive(key, Instant::now());
    if let Some(latency) = hr.options.latency {
        tokio::time::sleep(latency).await;
    }
    let mut cut = false;
    let answer = match verdict {
        Verdict::Limited(free) => refused(
            StatusCode::TOO_MANY_REQUESTS,
            Some(free.as_secs() + u64::from(free.subsec_nanos() > 0)),
        ),
        Verdict::Fail(Failure::TooMany) => refused(StatusCode::TOO_MANY_REQUESTS, Some(1)),
        Verdict::Fail(Failure::Internal) => refused(StatusCode::INTERNAL_SERVER_ERROR, None),
        Verdict::Fail(Failure::Unavailable) => refused(StatusCode::SERVICE_UNAVAILABLE, None),
        Verdict::Fail(Failure::Slow) => {
            hr.recorder.slow();
            tokio::time::sleep(SLOW).await;
            answer(&hr, &collection, params.ok(), false)
        }
        Verdict::Fail(Failure::Cut) => {
            cut = true;
            answer(&hr, &collection, params.ok(), true)
        }
        Verdict::Answer => answer(&hr, &collection, params.ok(), false),
    };
    let (response, records) = answer;
    hr.recorder
        .answered(response.status().as_u16(), if cut { 0 } else { records });
    response
}

/// A refusal in the words of a typical API, and no records.
fn refused(status: StatusCode, retry_after: Option<u64>) -> (Response, usize) {
    let reason = status.canonical_reason().unwrap_or("error");
    let body = Json(serde_json::json!({"error": {"code": status.as_u16(), "message": reason}}));
    let mut response = (status, body).into_response();
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    (response, 0)
}

fn answer(hr: &Hr, collection: &str, params: Option<Params>, cut: bool) -> (Response, usize) {
    let Some(kind) = Kind::from_name(collection) else {
        return refused(StatusCode::NOT_FOUND, None);
    };
    let Some(params) = params else {
        return refused(StatusCode::BAD_REQUEST, None);
    };
    if params.api_key.as_deref() != Some(hr.options.key.as_str()) {
        return refused(StatusCode::UNAUTHORIZED, None);
    }
    let since = match params.updated_since.as_deref().map(instant) {
        Some(None) => return refused(StatusCode::BAD_REQUEST, None),
        Some(since) => since,
        None => None,
    };
    let limit = params
        .limit
        .unwrap_or(DEFAULT_LIMIT)
        .clamp(1, hr.options.page_cap.max(1));
    let (pieces, records) =
        read(hr.collection(kind)).page(params.offset.unwrap_or(0), limit, since);
    if cut {
        hr.recorder.cut();
    }
    (json(pieces, cut), records)
}

/// RFC 3339, or a date for its first instant.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .ok()
        .or_else(|| {
            let date: NaiveDate = text.parse().ok()?;
            Some(date.and_time(NaiveTime::MIN).and_utc())
        })
}

/// Sends the pieces as they are. With `cut` the connection closes before the last one.
fn json(mut pieces: Vec<Bytes>, cut: bool) -> Response {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    if cut {
        pieces.pop();
    }
    let end = cut.then(|| Err(io::Error::from(io::ErrorKind::ConnectionReset)));
    let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok).chain(end)));
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    (headers, body).into_response()
}
