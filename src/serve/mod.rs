//! The daemon's own page, its metrics and its health, over HTTP on loopback.
//!
//! Whoever can ask costs the daemon little: 32 connections, one request on each, ten seconds in all,
//! two questions to the database at a time. Nothing here changes anything, and nothing shown is a
//! value that came from an API: names, numbers, states, and sentences of our own.

mod ask;

mod connection;

mod door;

mod health;

mod metrics;

mod page;

mod run_pages;

mod sparkline;

mod words;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Path, Query, State as FromState},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use maud::Markup;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{ask::Asker, door::Door};
use crate::{
    config::daemon::Admin,
    record::report::{Reports, RunFilter},
};

pub use self::{ask::Unavailable, health::Health};

/// Runs on the status page and on a resource's own page.
const RECENT_RUNS: usize = 25;
const RESOURCE_RUNS: usize = 100;

/// What the pages are made from.
#[derive(Debug, Clone)]
pub struct State {
    pub reports: Reports,
    pub health: Arc<Health>,
    /// Where the server and its questions to the database run, so that a stop waits for them.
    pub tasks: TaskTracker,
}

/// A server that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub addr: SocketAddr,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "daemon.admin.listen is {0}, which others can reach, and daemon.admin.token is not set"
    )]
    TokenRequired(SocketAddr),
    #[error("cannot listen on {addr} (daemon.admin.listen)")]
    Bind {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// Serves until `cancel`. `None`: `admin.listen` is not set.
///
/// # Errors
///
/// See [`Error`]; nothing is served then.
pub async fn start(
    admin: &Admin,
    state: State,
    cancel: CancellationToken,
) -> Result<Option<Bound>, Error> {
    let Some(listen) = admin.listen else {
        return Ok(None);
    };
    if !listen.ip().is_loopback() && admin.token.is_none() {
        return Err(Error::TokenRequired(listen));
    }
    let bind = |source| Error::Bind {
        addr: listen,
        source,
    };
    let listener = TcpListener::bind(listen).await.map_err(bind)?;
    let addr = listener.local_addr().map_err(bind)?;
    let routes = routes(&state, Door::new(admin.token.clone()));
    state.tasks.spawn(async move {
        let served = axum::serve(connection::Limited::new(listener), routes)
            .with_graceful_shutdown(cancel.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::warn!(%error, "status server stopped");
        }
    });
    Ok(Some(Bound { addr }))
}

#[derive(Debug, Clone)]
struct Pages {
    asker: Asker,
    health: Arc<Health>,
}

fn routes(state: &State, door: Door) -> Router {
    let pages = Pages {
        asker: Asker::new(state.reports.clone(), state.tasks.clone()),
        health: Arc::clone(&state.health),
    };
    Router::new()
        .route("/", get(overview))
        .route("/resources/{source}/{account}/{resource}", get(resource))
        .route("/runs/{id}", get(run))
        .route("/metrics", get(metrics))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route(
            "/style.css",
            get(async || file("text/css", include_str!("style.css"))),
        )
        .route(
            "/page.js",
            get(async || file("text/javascript", include_str!("page.js"))),
        )
        .route(
            "/icon.svg",
            get(async || file("image/svg+xml", include_str!("icon.svg"))),
        )
        .fallback(get(missing))
        .layer(middleware::from_fn_with_state(Arc::new(door), door::check))
        .with_state(pages)
}

#[derive(Debug, Deserialize)]
struct Shown {
    /// Only resources of this health.
    health: Option<String>,
}

async fn overview(FromState(pages): FromState<Pages>, Query(shown): Query<Shown>) -> Response {
    let asked = pages
        .asker
        .ask(|reports| async move { reports.overview(RECENT_RUNS).await })
        .await;
    match asked {
        Ok(overview) => html(
            StatusCode::OK,
            page::overview(&overview, shown.health.as_deref(), &pages.health),
        ),
        Err(unavailable) => away(&unavailable, &pages.health),
    }
}

async fn resource(
    FromState(pages): FromState<Pages>,
    Path((source, account, resource)): Path<(String, String, String)>,
) -> Response {
    let filter = RunFilter {
        source: Some(source.clone()),
        account: Some(account.clone()),
        resource: Some(resource.clone()),
        ..RunFilter::default()
    };
    let asked = pages
        .asker
        .ask(|reports| async move {
            let health =
                reports.health().await?.into_iter().find(|h| {
                    (&h.source, &h.account, &h.resource) == (&source, &account, &resource)
                });
            Ok((health, reports.runs(&filter, RESOURCE_RUNS).await?))
        })
        .await;
    match asked {
        Ok((None, runs)) if runs.is_empty() => missing(FromState(pages)).await,
        Ok((found, runs)) => html(
            StatusCode::OK,
            run_pages::resource(found.as_ref(), &runs, &pages.health),
        ),
        Err(unavailable) => away(&unavailable, &pages.health),
    }
}

async fn run(FromState(pages): FromState<Pages>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<i64>() else {
        return missing(FromState(pages)).await;
    };
    match pages
        .asker
        .ask(move |reports| async move { reports.run(id).await })
        .await
    {
        Ok(Some(detail)) => html(StatusCode::OK, run_pages::run(&detail, &pages.health)),
        Ok(None) => missing(FromState(pages)).await,
        Err(unavailable) => away(&unavailable, &pages.health),
    }
}

/// Answers also while the database is away: then only what the process knows of itself.
async fn metrics(FromState(pages): FromState<Pages>) -> Response {
    let measured = pages
        .asker
        .ask(|reports| async move { reports.measured().await })
        .await;
    let text = metrics::encode_all(measured.as_ref().ok(), &pages.health);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn alive(FromState(pages): FromState<Pages>) -> Response {
    match pages.health.alive() {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn ready(FromState(pages): FromState<Pages>) -> Response {
    let ready = match pages.health.ready() {
        Ok(()) => pages
            .asker
            .ask(|reports| async move { reports.schema_version().await })
            .await
            .map(drop)
            .map_err(|unavailable| unavailable.to_string()),
        Err(why) => Err(why.to_owned()),
    };
    match ready {
        Ok(()) => (StatusCode::OK, "ready\n").into_response(),
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        )
            .into_response(),
    }
}

async fn missing(FromState(pages): FromState<Pages>) -> Response {
    html(StatusCode::NOT_FOUND, page::missing(&pages.health))
}

fn away(unavailable: &Unavailable, health: &Health) -> Response {
    html(
        StatusCode::SERVICE_UNAVAILABLE,
        page::away(unavailable, health),
    )
}

fn html(status: StatusCode, markup: Markup) -> Response {
    let kind = "text/html; charset=utf-8";
    (status, [(header::CONTENT_TYPE, kind)], markup.into_string()).into_response()
}

/// A file that is part of the program. Kept for a minute by the browser: it changes with the program only.
fn file(kind: &'static str, text: &'static str) -> Response {
    let kind = HeaderValue::from_static(kind);
    let keep = HeaderValue::from_static("private, max-age=60");
    (
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, keep)],
        text,
    )
        .into_response()
}
