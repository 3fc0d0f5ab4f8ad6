//! An API of changes: asked for a span, in whatever spelling, at whatever time it believes it is.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde_json::{Value, json};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// The server; it stops when dropped.
pub(super) struct Changes {
    address: SocketAddr,
    state: Arc<Mutex<Inner>>,
    _server: AbortOnDropHandle<()>,
}

/// Runs before a request is answered, with its ordinal from 0.
type Hook = Box<dyn FnMut(usize, &mut Inner) -> Option<Response> + Send>;

pub(super) struct Inner {
    /// Instant of the change and the record, by id.
    pub(super) records: BTreeMap<i64, (DateTime<Utc>, Value)>,
    /// The same of what is gone, at `/deleted`.
    pub(super) deleted: BTreeMap<i64, (DateTime<Utc>, Value)>,
    /// How `from` and `to` are spelled; a pattern, `epoch_s` or `epoch_ms`; empty: RFC 3339 or a date.
    pub(super) spelling: &'static str,
    /// The order of the records: by id, or by time.
    pub(super) order: Order,
    pub(super) page_size: usize,
    /// Whether answers have a `Date` that can be read.
    pub(super) tells_time: bool,
    /// The time in `Date`.
    pub(super) now: DateTime<Utc>,
    pub(super) log: Vec<BTreeMap<String, String>>,
    pub(super) token: Option<String>,
    /// Whether a record at `to` is within.
    pub(super) inclusive: bool,
    hook: Option<Hook>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Id,
    Ascending,
    Descending,
}

pub(super) fn at(text: &str) -> DateTime<Utc> {
    let text = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    text.parse().unwrap()
}

impl Changes {
    /// Knows of nothing; its time is the middle of 2024.
    pub(super) async fn start() -> Self {
        let state = Arc::new(Mutex::new(Inner {
            records: BTreeMap::new(),
            deleted: BTreeMap::new(),
            spelling: "",
            order: Order::Id,
            page_size: 4,
            tells_time: true,
            now: at("2024-06-15T12:00:00Z"),
            log: Vec::new(),
            token: None,
            inclusive: false,
            hook: None,
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/{*path}", get(answer))
            .with_state(Arc::clone(&state));
        let serve = async move {
            axum::serve(listener, routes).await.ok();
        };
        Self {
            address,
            state,
            _server: AbortOnDropHandle::new(TaskTracker::new().spawn(serve)),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// A record that changed at this time, spelled like this.
    pub(super) fn put_as(&self, id: i64, time: &str, spelled: impl Into<Value>) {
        let record = json!({"id": id, "at": spelled.into(), "v": time});
        self.with(|state| state.records.insert(id, (at(time), record)));
    }

    pub(super) fn put(&self, id: i64, time: &str) {
        self.put_as(id, time, time);
    }

    pub(super) fn remove(&self, id: i64) {
        self.with(|state| state.records.remove(&id));
    }

    /// Deletes a record, and lists it as deleted at this time under this key.
    pub(super) fn delete(&self, id: i64, time: &str, key: impl Into<Value>) {
        let entry = json!({"who": key.into(), "at": time});
        self.with(|state| {
            state.records.remove(&id);
            state.deleted.insert(id, (at(time), entry));
        });
    }

    pub(super) fn before_each(
        &self,
        hook: impl FnMut(usize, &mut Inner) -> Option<Response> + Send + 'static,
    ) {
        self.with(|state| state.hook = Some(Box::new(hook)));
    }

    pub(super) fn without_hook(&self) {
        self.with(|state| state.hook = None);
    }

    /// What was asked for of the first pages since this was last called: the values of these
    /// parameters, `-` where one was not sent.
    pub(super) fn asked(&self, names: &[&str]) -> Vec<String> {
        let log = self.with(|state| std::mem::take(&mut state.log));
        log.iter()
            .filter(|query| query.get("offset").is_none_or(|offset| offset == "0"))
            .map(|query| {
                let values = names.iter().map(|name| query.get(*name).map_or("-", |v| v));
                values.collect::<Vec<_>>().join(" ")
            })
            .collect()
    }
}

async fn answer(
    State(state): State<Arc<Mutex<Inner>>>,
    axum::extract::Path(path): axum::extract::Path<String>,
    Query(mut query): Query<BTreeMap<String, String>>,
) -> Response {
    query.insert("path".to_owned(), path);
    let mut state = state.lock().unwrap();
    let count = state.log.len();
    state.log.push(query.clone());
    let date = match state.tells_time {
        true => state.now.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        false => "-".to_owned(),
    };
    let hooked = state.hook.take().and_then(|mut hook| {
        let answered = hook(count, &mut state);
        state.hook = Some(hook);
        answered
    });
    let mut response = match hooked {
        Some(response) => response,
        None => state.page(&query),
    };
    response
        .headers_mut()
        .insert(header::DATE, date.parse().unwrap());
    response
}

pub(super) fn refusal(status: u16) -> Option<Response> {
    Some(StatusCode::from_u16(status).unwrap().into_response())
}

impl Inner {
    fn page(&self, query: &BTreeMap<String, String>) -> Response {
        let bound = |name: &str| query.get(name).map(|text| self.read(text));
        let (from, to) = (bound("from"), bound("to"));
        let mut found: Vec<(&DateTime<Utc>, &Value)> = self
            .list(query)
            .values()
            .map(|(time, record)| (time, record))
            .filter(|(time, _)| from.is_none_or(|from| **time >= from))
            .filter(|(time, _)| to.is_none_or(|to| **time < to || (self.inclusive && **time == to)))
            .collect();
        match self.order {
            Order::Id => {}
            Order::Ascending => found.sort_by_key(|(time, _)| **time),
            Order::Descending => found.sort_by_key(|(time, _)| std::cmp::Reverse(**time)),
        }
        let number = |name: &str| query.get(name).map(|text| text.parse::<usize>().unwrap());
        let offset = number("offset").unwrap_or(0);
        let total = found.len();
        let page: Vec<&Value> = found
            .into_iter()
            .skip(offset)
            .take(self.page_size)
            .map(|(_, record)| record)
            .collect();
        axum::Json(json!({"data": page, "total": total, "token": self.token})).into_response()
    }

    fn list(&self, query: &BTreeMap<String, String>) -> &BTreeMap<i64, (DateTime<Utc>, Value)> {
        match query["path"].as_str() {
            "deleted" => &self.deleted,
            _ => &self.records,
        }
    }

    fn read(&self, text: &str) -> DateTime<Utc> {
        match self.spelling {
            "" if text.len() == 10 => at(text),
            "" => text.parse().unwrap_or_else(|_| panic!("{text} is no time")),
            "epoch_s" => DateTime::from_timestamp(text.parse().unwrap(), 0).unwrap(),
            "epoch_ms" => DateTime::from_timestamp_millis(text.parse().unwrap()).unwrap(),
            pattern => NaiveDateTime::parse_from_str(text, pattern)
                .or_else(|_| {
                    NaiveDate::parse_from_str(text, pattern)
                        .map(|date| date.and_hms_opt(0, 0, 0).unwrap())
                })
                .unwrap_or_else(|_| panic!("{text} is not spelled {pattern}"))
                .and_utc(),
        }
    }
}
