//! An HTTP server that answers as a test says, and keeps what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, Method, StatusCode},
    response::Response,
};
use serde_json::Value;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// Path and query, raw.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// How many came before.
    pub(super) number: usize,
}

impl Asked {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// What a test answers.
pub(super) struct Said {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

pub(super) fn says(status: u16, body: impl Into<Body>) -> Said {
    Said {
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

pub(super) fn json(value: &Value) -> Said {
    says(200, value.to_string()).with("content-type", "application/json")
}

impl Said {
    /// Sets a header, in place of one of that name.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }
}

#[derive(Clone)]
pub(super) struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::<Asked>::new()));
        let (kept, answer) = (Arc::clone(&log), Arc::new(answer));
        let routes = Router::new().fallback(move |request: Request| {
            let (log, answer) = (Arc::clone(&kept), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let asked = {
                    let mut log = log.lock().unwrap();
                    let asked = Asked {
                        method: head.method,
                        target: head.uri.path_and_query().unwrap().to_string(),
                        headers: head.headers,
                        body,
                        number: log.len(),
                    };
                    log.push(asked.clone());
                    asked
                };
                let said = answer(&asked);
                let mut response =
                    Response::builder().status(StatusCode::from_u16(said.status).unwrap());
                for (name, value) in said.headers {
                    response = response.header(name, value);
                }
                response.body(said.body).unwrap()
            }
        });
        let task = TaskTracker::new().spawn(async move {
            axum::serve(listener, routes).await.ok();
        });
        Self {
            address,
            log,
            _task: Arc::new(AbortOnDropHandle::new(task)),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, in the order in which they came.
    pub(super) fn requests(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }
}
