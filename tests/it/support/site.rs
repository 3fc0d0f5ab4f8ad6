//! A small API that a test writes as one function, over real sockets in this process.
//!
//! Where [`super::api`] has collections with pages, this has whatever the function says: paths that hold
//! ids, answers that hang on the body, a resource that is gone.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Percent-encoded, as it came.
    pub(crate) path: String,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    body: String,
}

impl Reply {
    /// JSON text, also with numbers that no Rust type holds.
    pub(crate) fn text(body: impl Into<String>) -> Self {
        Self {
            status: 200,
            body: body.into(),
        }
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// The server. It stops when this value goes.
pub(crate) struct Site {
    address: std::net::SocketAddr,
    _server: AbortOnDropHandle<()>,
}

impl Site {
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<Answer> = Arc::new(answer);
        let routes = Router::new().fallback(serve).with_state(answer);
        let server = TaskTracker::new().spawn(async move {
            axum::serve(listener, routes).await.ok();
        });
        Self {
            address,
            _server: AbortOnDropHandle::new(server),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(State(answer): State<Arc<Answer>>, uri: Uri) -> Response {
    let asked = Asked {
        path: uri.path().to_owned(),
    };
    let reply = answer(&asked);
    (
        StatusCode::from_u16(reply.status).unwrap(),
        [(header::CONTENT_TYPE, "application/json")],
        reply.body,
    )
        .into_response()
}
