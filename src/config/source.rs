//! Section `sources`: one API with one credential set, and its resources.

use std::time::Duration;

use indexmap::IndexMap;
use url::Url;

use super::{
    Secret,
    endpoint::{DottedPath, Endpoint},
    schedule::Schedule,
};

/// One API with one credential set.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    /// Tenant of the source; `default` when the file names none.
    pub account: String,
    pub client: Client,
    /// In the order of the file, without those that are not `selected`.
    pub resources: Vec<Resource>,
}

impl Source {
    /// Name of the rate budget that this source's credential spends. Never the secret itself.
    #[must_use]
    pub fn credential_key(&self) -> String {
        format!("{}/{}", self.name, self.account)
    }
}

/// How to talk to the API.
#[derive(Debug, Clone)]
pub struct Client {
    pub base_url: Url,
    pub headers: IndexMap<String, Secret>,
    pub auth: Option<Auth>,
    /// All windows hold at once. Empty: no limit but `max_in_flight`.
    pub limits: Vec<Limit>,
    /// Requests at the same time over all resources of the source.
    pub max_in_flight: usize,
    pub retry: Retry,
    pub timeouts: Timeouts,
    /// Largest decoded body in bytes. Larger ones fail the run, whatever the API says of the length.
    pub max_body: u64,
    /// Plain `http://` to a host that is not loopback.
    pub allow_http: bool,
}

/// Who we are to the API.
#[derive(Debug, Clone)]
pub enum Auth {
    ApiKey {
        name: String,
        key: Secret,
        location: KeyLocation,
    },
    Bearer {
        token: Secret,
    },
    HttpBasic {
        username: Secret,
        password: Secret,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLocation {
    Header,
    Query,
    Cookie,
}

/// At most `requests` in any window of length `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub requests: u32,
    pub per: Duration,
}

/// When and how a request is tried again.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Tries after the first.
    pub max_retries: u32,
    /// Wait before the first retry, before jitter.
    pub backoff: Duration,
    pub factor: f64,
    /// Longest single wait. A `Retry-After` beyond it ends the run as rate limited.
    pub max_wait: Duration,
    pub statuses: Vec<u16>,
}

#[derive(Debug, Clone)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Duration,
    /// Longest silence while headers or body are awaited.
    pub read: Duration,
    /// One try from its first byte to its last.
    pub total: Duration,
}

/// One endpoint that fills one table.
#[derive(Debug, Clone)]
pub struct Resource {
    pub name: String,
    /// Schema and table of the rows, as configured; `load` makes identifiers of them.
    pub schema: String,
    pub table: String,
    /// Paths into the record, in source spelling. Empty only under append and replace.
    pub primary_key: Vec<DottedPath>,
    pub write_disposition: WriteDisposition,
    /// Under replace: an empty but complete walk empties the table.
    pub allow_empty: bool,
    /// `None`: runs only on request.
    pub schedule: Option<Schedule>,
    /// `None`: dlt's default, objects flattened without end and lists as `jsonb`. 0: objects too as `jsonb`.
    pub max_table_nesting: Option<u32>,
    pub endpoint: Endpoint,
    pub max_pages: u64,
    pub max_run_time: Duration,
    pub batch: Batch,
    /// The table should never be older than this; `resource_health` says `late` when it is.
    pub freshness: Option<Duration>,
    /// Hash of what decides the meaning of a cursor: path, params, cursor field, key.
    pub fingerprint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteDisposition {
    Append,
    Replace,
    Merge,
}

/// When the rows in hand are committed: whichever bound is met first.
#[derive(Debug, Clone)]
pub struct Batch {
    pub rows: usize,
    pub bytes: usize,
    pub wait: Duration,
}
