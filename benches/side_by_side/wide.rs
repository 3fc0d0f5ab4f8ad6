//! An API whose records have as many fields as one wants, served by the bench itself.

use std::{fmt::Write as _, sync::Arc};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{Query, State},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, task::JoinHandle};

use super::api::Truth;

/// Records of `fields` fields in all: `id`, `revision`, and then texts, numbers, times and flags by turns.
pub(crate) struct Wide {
    pub(crate) base: String,
    pub(crate) truth: Truth,
    server: JoinHandle<()>,
}

impl Drop for Wide {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(serde::Deserialize)]
struct Place {
    offset: usize,
    limit: usize,
}

impl Wide {
    /// Renders all records beforehand, so that pages cost next to nothing.
    pub(crate) async fn start(records: usize, fields: usize) -> anyhow::Result<Self> {
        let rendered: Arc<Vec<String>> =
            Arc::new((0..records).map(|id| record(id, fields)).collect());
        let router = Router::new()
            .route("/v1/employees", get(page))
            .with_state(rendered);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        #[expect(
            clippy::disallowed_methods,
            reason = "the bench has no tasks to wait for at its end; this one is aborted"
        )]
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.ok();
        });
        let count = i64::try_from(records).context("too many records")?;
        let truth = Truth {
            count,
            ids: count * (count - 1) / 2,
            revisions: count,
        };
        Ok(Self {
            base,
            truth,
            server,
        })
    }
}

async fn page(
    State(records): State<Arc<Vec<String>>>,
    Query(place): Query<Place>,
) -> impl IntoResponse {
    let from = place.offset.min(records.len());
    let to = (from + place.limit).min(records.len());
    let data = records.get(from..to).unwrap_or_default().join(",");
    let total = records.len();
    (
        [("content-type", "application/json")],
        format!("{{\"data\":[{data}],\"total\":{total}}}"),
    )
}

fn record(id: usize, fields: usize) -> String {
    let mut text = format!("{{\"id\":{id},\"revision\":1");
    for field in 2..fields {
        // Writing to a String cannot fail.
        match field % 5 {
            0 => write!(text, ",\"name_{field}\":\"Person {id} of {field}\""),
            1 => write!(text, ",\"number_{field}\":{}", id * field),
            2 => write!(text, ",\"pay_{field}\":{}.{:02}", id + field, id % 100),
            3 => write!(
                text,
                ",\"since_{field}\":\"2026-01-02T03:04:{:02}Z\"",
                id % 60
            ),
            _ => write!(text, ",\"active_{field}\":{}", id.is_multiple_of(2)),
        }
        .ok();
    }
    text.push('}');
    text
}
