//! A small API made of routes: each is a method, a path and a function of what was asked and the
//! data that the API keeps.
//!
//! ```ignore
//! let fake = Fake::new(bearer("k"), [route("GET", "/v1/people/{id}", |asked, data| ...)]).await;
//! fake.put("people", json!({"id": 1}));
//! ```

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

/// What the API keeps: records by the name of their collection, in the order in which they came.
pub(crate) type Data = BTreeMap<String, Vec<Value>>;

type Handler = Box<dyn Fn(&Asked, &mut Data) -> Answer + Send + Sync>;

type Guard = Box<dyn Fn(&Asked) -> Option<Answer> + Send + Sync>;

pub(crate) struct Route {
    method: &'static str,
    pattern: &'static str,
    guarded: bool,
    handler: Handler,
}

/// A route; `{}` in the pattern stands for one segment.
pub(crate) fn route(
    method: &'static str,
    pattern: &'static str,
    handler: impl Fn(&Asked, &mut Data) -> Answer + Send + Sync + 'static,
) -> Route {
    Route {
        method,
        pattern,
        guarded: true,
        handler: Box::new(handler),
    }
}

/// A route without the guard, such as the one that gives out tokens.
pub(crate) fn open_route(
    method: &'static str,
    pattern: &'static str,
    handler: impl Fn(&Asked, &mut Data) -> Answer + Send + Sync + 'static,
) -> Route {
    Route {
        guarded: false,
        ..route(method, pattern, handler)
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Decoded, in order.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    /// JSON as it came; a form as an object of texts; else null.
    pub(crate) body: Value,
    /// Decoded segments in the place of `{}`.
    pub(crate) places: Vec<String>,
    /// `http://127.0.0.1:PORT`
    pub(crate) origin: String,
}

impl Asked {
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let mut found = self.query.iter().filter(|(n, _)| n == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// A number of the query, or of the body when it is not in the query.
    pub(crate) fn number(&self, name: &str, default: usize) -> usize {
        let body = || {
            self.body[name]
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
        };
        match self.param(name) {
            Some(text) => text.parse().unwrap_or(usize::MAX),
            None => body().unwrap_or(default),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    }

    /// `GET /path?a=1&b=2`, decoded; for a POST with its body.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{} {}", self.method, self.path);
        for (index, (name, value)) in self.query.iter().enumerate() {
            let sign = if index == 0 { '?' } else { '&' };
            let _ = write!(line, "{sign}{name}={value}");
        }
        if !self.body.is_null() {
            let _ = write!(line, " {}", self.body);
        }
        line
    }
}

/// What is answered.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    pub(crate) fn json(body: &Value) -> Self {
        Self::text("application/json", body.to_string())
    }

    pub(crate) fn text(kind: &'static str, body: String) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", kind.to_owned())],
            body,
        }
    }

    /// An answer without a body.
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A running API. Stops when it is dropped.
pub(crate) struct Fake {
    url: String,
    inner: Arc<Inner>,
    _server: AbortOnDropHandle<()>,
}

struct Inner {
    origin: String,
    guard: Guard,
    routes: Vec<Route>,
    state: Mutex<(Data, Vec<Asked>)>,
}

impl Fake {
    pub(crate) async fn new(
        guard: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
        routes: impl IntoIterator<Item = Route>,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            origin: origin.clone(),
            guard: Box::new(guard),
            routes: routes.into_iter().collect(),
            state: Mutex::default(),
        });
        let router = axum::Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&inner));
        let server = tokio_util::task::TaskTracker::new().spawn(async move {
            axum::serve(listener, router).await.ok();
        });
        Self {
            url: origin,
            inner,
            _server: AbortOnDropHandle::new(server),
        }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn put(&self, collection: &str, record: Value) {
        self.change(collection, |records| records.push(record));
    }

    pub(crate) fn change(&self, collection: &str, change: impl FnOnce(&mut Vec<Value>)) {
        let mut state = self.inner.state.lock().unwrap();
        change(state.0.entry(collection.to_owned()).or_default());
    }

    /// The requests since this was asked last, each in a line.
    pub(crate) fn requests(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.inner.state.lock().unwrap().1);
        asked.iter().map(Asked::line).collect()
    }
}

async fn serve(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let pairs = |text: &[u8]| -> Vec<(String, String)> {
        url::form_urlencoded::parse(text).into_owned().collect()
    };
    let kind = head
        .headers
        .get("content-type")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let body = if kind.starts_with("application/x-www-form-urlencoded") {
        Value::Object(
            pairs(&bytes)
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
        )
    } else {
        serde_json::from_slice(&bytes).unwrap_or_default()
    };
    let mut asked = Asked {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: pairs(head.uri.query().unwrap_or_default().as_bytes()),
        headers: head.headers,
        body,
        places: Vec::new(),
        origin: inner.origin.clone(),
    };
    let mut state = inner.state.lock().unwrap();
    let found = inner.routes.iter().find_map(|route| {
        let places = places(route.pattern, &asked.path)?;
        (route.method == asked.method).then_some((route, places))
    });
    let answer = match found {
        None => Answer::json(&json!({"error": "no such route"})).status(404),
        Some((route, places)) => {
            asked.places = places;
            let refused = (inner.guard)(&asked).filter(|_| route.guarded);
            refused.unwrap_or_else(|| (route.handler)(&asked, &mut state.0))
        }
    };
    state.1.push(asked);
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status).unwrap());
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}

/// The segments in the place of `{}`, if the path fits the pattern.
fn places(pattern: &str, path: &str) -> Option<Vec<String>> {
    let (pattern, path): (Vec<_>, Vec<_>) =
        (pattern.split('/').collect(), path.split('/').collect());
    if pattern.len() != path.len() {
        return None;
    }
    let mut places = Vec::new();
    for (wanted, segment) in pattern.into_iter().zip(path) {
        match wanted {
            "{}" => {
                let pair = format!("p={}", segment.replace('+', "%2B"));
                places.extend(
                    url::form_urlencoded::parse(pair.as_bytes()).map(|(_, v)| v.into_owned()),
                );
            }
            wanted if wanted == segment => {}
            _ => return None,
        }
    }
    Some(places)
}

/// A guard that wants these headers, exactly.
pub(crate) fn wants_headers<const N: usize>(
    headers: [(&'static str, String); N],
) -> impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static {
    move |asked| {
        let missing = headers
            .iter()
            .find(|(name, value)| asked.header(name) != value);
        let (name, _) = missing?;
        Some(Answer::json(&json!({ "error": format!("no {name}") })).status(401))
    }
}

/// The value of the header of HTTP Basic.
pub(crate) fn basic(user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {pair}")
}

/// The records from `start`, `size` at most, and whether there are more.
pub(crate) fn slice(records: &[Value], start: usize, size: usize) -> (Vec<Value>, bool) {
    let page: Vec<Value> = records.iter().skip(start).take(size).cloned().collect();
    (page, start.saturating_add(size) < records.len())
}

/// The records whose field is not before the bound; texts of one format compare as instants do.
pub(crate) fn since<'a>(records: &'a [Value], field: &str, bound: Option<&str>) -> Vec<&'a Value> {
    let instant = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().ok();
    records
        .iter()
        .filter(|record| {
            let value = record
                .pointer(field)
                .and_then(Value::as_str)
                .unwrap_or_default();
            bound.is_none_or(|bound| match (instant(value), instant(bound)) {
                (Some(value), Some(bound)) => value >= bound,
                _ => value >= bound,
            })
        })
        .collect()
}
