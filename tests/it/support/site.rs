//! A small API that a test writes as one function, over real sockets in this process.
//!
//! Where [`super::api`] has collections with pages, this has whatever the function says: paths that hold
//! ids, answers that hang on the body, a resource that is gone.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET`, `POST`
    pub(crate) method: String,
    /// Percent-encoded, as it came.
    pub(crate) path: String,
    /// Decoded, in order.
    pub(crate) query: Vec<(String, String)>,
    /// Null when there was none.
    pub(crate) body: Value,
    pub(crate) headers: HeaderMap,
    pub(crate) at: Instant,
}

impl Asked {
    /// The first value of a parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        pairs.find_map(|(n, value)| (n == name).then_some(value.as_str()))
    }

    /// All values of a parameter.
    pub(crate) fn params(&self, name: &str) -> Vec<&str> {
        let pairs = self.query.iter().filter(|(n, _)| n == name);
        pairs.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn number(&self, name: &str, default: usize) -> usize {
        self.param(name)
            .map_or(default, |text| text.parse().unwrap())
    }

    /// The segments of the path, still encoded.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect()
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    body: String,
    after: Duration,
}

impl From<Value> for Reply {
    fn from(body: Value) -> Self {
        Self {
            status: 200,
            body: body.to_string(),
            after: Duration::ZERO,
        }
    }
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            body: "{\"error\": \"Jane Doe 123-45-6789\"}".to_owned(),
            after: Duration::ZERO,
        }
    }

    /// JSON text with numbers that no Rust type holds.
    pub(crate) fn text(body: impl Into<String>) -> Self {
        Self {
            status: 200,
            body: body.into(),
            after: Duration::ZERO,
        }
    }

    pub(crate) fn late(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

struct Inner {
    answer: Box<Answer>,
    log: Mutex<Vec<Asked>>,
    /// Requests that are being answered, and the most that ever were.
    busy: Mutex<(usize, usize)>,
}

/// The server. It stops when this value goes.
pub(crate) struct Site {
    address: std::net::SocketAddr,
    inner: Arc<Inner>,
    _server: AbortOnDropHandle<()>,
}

impl Site {
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            answer: Box::new(answer),
            log: Mutex::default(),
            busy: Mutex::default(),
        });
        let routes = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let server = TaskTracker::new().spawn(async move {
            axum::serve(listener, routes).await.ok();
        });
        Self {
            address,
            inner,
            _server: AbortOnDropHandle::new(server),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, in the order in which they came.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inner.log.lock().unwrap().clone()
    }

    /// Path and query of the requests so far, and forgets them.
    pub(crate) fn take(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.inner.log.lock().unwrap());
        let texts = asked.into_iter().map(|asked| {
            let query: Vec<String> = asked
                .query
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            match query.is_empty() {
                true => asked.path,
                false => format!("{}?{}", asked.path, query.join("&")),
            }
        });
        texts.collect()
    }

    /// The most requests that were being answered at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.inner.busy.lock().unwrap().1
    }
}

async fn serve(
    State(inner): State<Arc<Inner>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked {
        method: method.to_string(),
        path: uri.path().to_owned(),
        query: url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes())
            .into_owned()
            .collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        headers,
        at: Instant::now(),
    };
    {
        let mut busy = inner.busy.lock().unwrap();
        busy.0 += 1;
        busy.1 = busy.1.max(busy.0);
    }
    let reply = (inner.answer)(&asked);
    inner.log.lock().unwrap().push(asked);
    tokio::time::sleep(reply.after).await;
    inner.busy.lock().unwrap().0 -= 1;
    let status = StatusCode::from_u16(reply.status).unwrap();
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        reply.body,
    )
        .into_response()
}
