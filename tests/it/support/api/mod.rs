//! A fake HR API with state, over real sockets in this process.
//!
//! ```ignore
//! let api = Api::start().await;
//! let people = api.collection("employees").fill(250);
//! api.require(Key::Query("api_key", "s3cret"));
//! api.page(1).fails_with(503).twice();
//! api.after_page(0, move || people.remove(3));
//! // ... let something walk through GET {api.url()}/v1/employees ...
//! assert!(api.most_in(Duration::from_secs(1)) <= 15);
//! ```
//!
//! Every collection is served at `/v1/{name}`, as GET and as POST (parameters then in a flat JSON
//! body), in the order in which its records were first put.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::{DateTime, TimeDelta, Utc};
use indexmap::IndexMap;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

mod fault;
mod wire;

pub(crate) use fault::{Fault, Script};
use wire::Cutter;

/// The server. Clones share it; it stops with the last one.
#[derive(Clone)]
pub(crate) struct Api {
    address: SocketAddr,
    inner: Arc<Inner>,
    _server: Arc<AbortOnDropHandle<()>>,
}

/// What requests must carry, or they get 401.
#[derive(Clone)]
pub(crate) enum Key {
    Query(&'static str, &'static str),
    /// Name and whole value of a header; also for bearer, basic and cookies.
    Header(&'static str, &'static str),
}

/// How a collection's pages follow each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paging {
    /// `offset`, `limit` -> `total` (records).
    Offset,
    /// `page` from this number, `limit` -> `total` (pages).
    PageNumber(usize),
    /// `cursor`, `limit` -> `next_cursor`, null at the end.
    Cursor,
    /// `next`: a full URL with all the parameters of the request, the key among them.
    JsonLink,
    /// The same in a `Link` header.
    HeaderLink,
    /// All records at once.
    Single,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    /// Path and query, raw.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// Ordinal of the page that was asked for, from 0.
    pub(crate) page: Option<usize>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<Everything>,
    /// Answers without end that are still being sent.
    pouring: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Everything {
    collections: BTreeMap<String, Rows>,
    key: Option<Key>,
    log: Vec<Seen>,
    scripts: Vec<fault::Entry>,
    hooks: Vec<(usize, Box<dyn FnOnce() + Send>)>,
    /// Counts changes; makes `updated_at`.
    ticks: i64,
}

struct Rows {
    records: IndexMap<i64, Value>,
    paging: Paging,
    page_size: usize,
    cap: usize,
    has_more: bool,
    deaf: bool,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            records: IndexMap::new(),
            paging: Paging::Offset,
            page_size: 100,
            cap: usize::MAX,
            has_more: false,
            deaf: false,
        }
    }
}

impl Api {
    /// Starts a server on a free port of loopback.
    pub(crate) async fn start() -> Self {
        let listener = wire::Listener::bind().await;
        let address = listener.address();
        let inner = Arc::new(Inner::default());
        let routes = Router::new()
            .route("/v1/{collection}", get(answer).post(answer))
            .fallback(|| async { StatusCode::NOT_FOUND })
            .with_state(Arc::clone(&inner));
        let service = routes.into_make_service_with_connect_info::<Cutter>();
        let server = tokio_util::task::TaskTracker::new().spawn(async move {
            axum::serve(listener, service).await.ok();
        });
        Self {
            address,
            inner,
            _server: Arc::new(AbortOnDropHandle::new(server)),
        }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A collection, made when it is asked for first.
    pub(crate) fn collection(&self, name: &str) -> Collection {
        self.lock().collections.entry(name.to_owned()).or_default();
        Collection {
            inner: Arc::clone(&self.inner),
            name: name.to_owned(),
        }
    }

    /// Answers 401 to requests without this key.
    pub(crate) fn require(&self, key: Key) {
        self.lock().key = Some(key);
    }

    /// Names a fault for the requests of one page, from 0, however it is asked for.
    pub(crate) fn page(&self, page: usize) -> Script {
        self.script(fault::When::Page(page))
    }

    /// Names a fault for every n-th request.
    pub(crate) fn every(&self, n: usize) -> Script {
        self.script(fault::When::Every(n))
    }

    fn script(&self, when: fault::When) -> Script {
        Script::new(Arc::clone(&self.inner), when)
    }

    /// Runs once, right after the records of a page were taken: the data change between pages.
    pub(crate) fn after_page(&self, page: usize, change: impl FnOnce() + Send + 'static) {
        self.lock().hooks.push((page, Box::new(change)));
    }

    /// All requests so far, in the order in which they came.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.lock().log.clone()
    }

    /// The most requests that came in any window of this length.
    pub(crate) fn most_in(&self, window: Duration) -> usize {
        let mut moments: Vec<Instant> = self.lock().log.iter().map(|seen| seen.at).collect();
        moments.sort();
        let fullest = moments.iter().enumerate().map(|(i, first)| {
            moments[i..]
                .iter()
                .take_while(|at| **at < *first + window)
                .count()
        });
        fullest.max().unwrap_or(0)
    }

    /// Endless answers that somebody still reads.
    pub(crate) fn pouring(&self) -> usize {
        self.inner.pouring.load(SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Everything> {
        self.inner.state.lock().unwrap()
    }
}

/// One collection of records. Clones are the same collection.
#[derive(Clone)]
pub(crate) struct Collection {
    inner: Arc<Inner>,
    name: String,
}

impl Collection {
    /// Puts employees with ids from 1.
    pub(crate) fn fill(self, count: i64) -> Self {
        for id in 1..=count {
            self.put(json!({"id": id, "name": format!("Person {id}"), "salary": 1000 + id}));
        }
        self
    }

    /// Adds a record, or changes the one with its `id`. Sets `updated_at`.
    pub(crate) fn put(&self, mut record: Value) {
        let mut state = self.inner.state.lock().unwrap();
        state.ticks += 1;
        let start: DateTime<Utc> = "2024-01-01T00:00:00Z".parse().unwrap();
        let updated = start + TimeDelta::seconds(state.ticks);
        record["updated_at"] = updated.to_rfc3339().into();
        let id = record["id"].as_i64().unwrap();
        let records = &mut state.collections.get_mut(&self.name).unwrap().records;
        records.insert(id, record);
    }

    /// Deletes a record.
    pub(crate) fn remove(&self, id: i64) {
        self.change(|rows| drop(rows.records.shift_remove(&id)));
    }

    /// The records as they are now: what a complete copy equals.
    pub(crate) fn records(&self) -> Vec<Value> {
        let state = self.inner.state.lock().unwrap();
        state.collections[&self.name]
            .records
            .values()
            .cloned()
            .collect()
    }

    pub(crate) fn paging(self, paging: Paging) -> Self {
        self.change(|rows| rows.paging = paging);
        self
    }

    /// Records per page when the request names no limit.
    pub(crate) fn page_size(self, size: usize) -> Self {
        self.change(|rows| rows.page_size = size);
        self
    }

    /// Records per page at most, whatever the request says.
    pub(crate) fn cap(self, cap: usize) -> Self {
        self.change(|rows| rows.cap = cap);
        self
    }

    /// Adds `has_more`.
    pub(crate) fn with_has_more(self) -> Self {
        self.change(|rows| rows.has_more = true);
        self
    }

    /// Ignores where the request wants to begin: every page is the first.
    pub(crate) fn deaf(self) -> Self {
        self.change(|rows| rows.deaf = true);
        self
    }

    fn change(&self, change: impl FnOnce(&mut Rows)) {
        change(
            self.inner
                .state
                .lock()
                .unwrap()
                .collections
                .get_mut(&self.name)
                .unwrap(),
        );
    }
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    ConnectInfo(wire): ConnectInfo<Cutter>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().unwrap().to_string();
    let base = format!("http://{}", head.headers[header::HOST].to_str().unwrap());
    let mut query: Vec<(String, String)> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or("").as_bytes())
            .into_owned()
            .collect();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    if let Ok(Value::Object(fields)) = serde_json::from_slice(&body) {
        query.extend(
            fields
                .into_iter()
                .map(|(name, value)| (name, value.to_string())),
        );
    }
    let (fault, hooks, response) = {
        let mut state = inner.state.lock().unwrap();
        let view = state.collections.get(&name).map(|rows| rows.view(&query));
        state.log.push(Seen {
            at: Instant::now(),
            target,
            headers: head.headers.clone(),
            page: view.as_ref().map(|view| view.page),
        });
        let (count, page) = (state.log.len(), view.as_ref().map(|view| view.page));
        let fault = state
            .scripts
            .iter_mut()
            .find_map(|entry| entry.bite(count, page));
        let allowed = state
            .key
            .as_ref()
            .is_none_or(|key| key.opens(&query, &head.headers));
        let response = match view {
            None => StatusCode::NOT_FOUND.into_response(),
            Some(_) if !allowed => {
                (StatusCode::UNAUTHORIZED, "no key, Jane Doe 123-45-6789").into_response()
            }
            Some(view) => view.respond(&format!("{base}/v1/{name}"), &query),
        };
        let mut hooks = Vec::new();
        if fault.is_none() && response.status().is_success() {
            let (due, later) = std::mem::take(&mut state.hooks)
                .into_iter()
                .partition(|(after, _)| Some(*after) == page);
            (hooks, state.hooks) = (due, later);
        }
        (fault, hooks, response)
    };
    for (_, change) in hooks {
        change();
    }
    match fault {
        Some(fault) => fault.apply(response, &wire, &inner.pouring).await,
        None => response,
    }
}

/// What one request gets to see of a collection.
struct View {
    page: usize,
    start: usize,
    size: usize,
    total: usize,
    records: Vec<Value>,
    paging: Paging,
    shows_more: bool,
}

impl Rows {
    fn view(&self, query: &[(String, String)]) -> View {
        let number = |name: &str| {
            let value = query.iter().rev().find(|(n, _)| n == name);
            value.map(|(_, v)| {
                v.trim_matches('"')
                    .trim_start_matches('c')
                    .parse::<usize>()
                    .unwrap()
            })
        };
        let since = query.iter().find(|(n, _)| n == "updated_since");
        let since: Option<DateTime<Utc>> = since.map(|(_, v)| v.parse().unwrap());
        let visible: Vec<&Value> = self
            .records
            .values()
            .filter(|record| {
                let updated: DateTime<Utc> =
                    record["updated_at"].as_str().unwrap().parse().unwrap();
                since.is_none_or(|since| updated >= since)
            })
            .collect();
        let size = match self.paging {
            Paging::Single => usize::MAX,
            _ => number("limit")
                .unwrap_or(self.page_size)
                .min(self.cap)
                .max(1),
        };
        let start = match self.paging {
            Paging::Offset => number("offset").unwrap_or(0),
            Paging::PageNumber(base) => (number("page").unwrap_or(base) - base) * size,
            Paging::Cursor | Paging::JsonLink | Paging::HeaderLink => number("cursor").unwrap_or(0),
            Paging::Single => 0,
        };
        let from = if self.deaf { 0 } else { start };
        View {
            page: start / size,
            start,
            size,
            total: visible.len(),
            records: visible.into_iter().skip(from).take(size).cloned().collect(),
            paging: self.paging,
            shows_more: self.has_more,
        }
    }
}

impl View {
    fn respond(self, url: &str, query: &[(String, String)]) -> Response {
        let after = self.start.saturating_add(self.size);
        let more = after < self.total;
        let mut body = json!({"data": self.records});
        if self.shows_more {
            body["has_more"] = more.into();
        }
        let link = || {
            let kept = query.iter().filter(|(name, _)| name != "cursor");
            let mut link = url::Url::parse(url).unwrap();
            link.query_pairs_mut()
                .extend_pairs(kept)
                .append_pair("cursor", &format!("c{after}"));
            link.to_string()
        };
        let mut header_link = None;
        match self.paging {
            Paging::Offset => body["total"] = self.total.into(),
            Paging::PageNumber(_) => body["total"] = self.total.div_ceil(self.size).into(),
            Paging::Single => {}
            Paging::Cursor => body["next_cursor"] = more.then(|| format!("c{after}")).into(),
            Paging::JsonLink => body["next"] = more.then(link).into(),
            Paging::HeaderLink => header_link = more.then(link),
        }
        let mut response = axum::Json(body).into_response();
        if let Some(link) = header_link {
            let value =
                HeaderValue::from_str(&format!("<{url}>; rel=\"first\", <{link}>; rel=\"next\""))
                    .unwrap();
            response.headers_mut().insert(header::LINK, value);
        }
        response
    }
}

impl Key {
    fn opens(&self, query: &[(String, String)], headers: &HeaderMap) -> bool {
        match self {
            Self::Query(name, value) => {
                let given: Vec<_> = query.iter().filter(|(n, _)| n == name).collect();
                matches!(given[..], [(_, v)] if v == value)
            }
            Self::Header(name, value) => headers
                .get(*name)
                .is_some_and(|v| v.as_bytes() == value.as_bytes()),
        }
    }
}
