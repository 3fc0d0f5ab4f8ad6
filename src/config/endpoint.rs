//! Section `endpoint`: what is requested, where the records are, how the pages follow.

use std::time::Duration;

use indexmap::IndexMap;
use serde_json::Value;

/// What one resource asks for.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub method: Method,
    /// Relative to `client.base_url`, or an absolute URL on the same origin.
    pub path: String,
    /// Query parameters in the order of the file; a list repeats its key, null leaves it out.
    pub params: IndexMap<String, Value>,
    pub headers: IndexMap<String, String>,
    /// JSON body, for POST.
    pub json: Option<Value>,
    pub data_selector: Selector,
    pub paginator: Paginator,
    pub incremental: Option<Incremental>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

/// Where in an answer the records stand.
#[derive(Debug, Clone)]
pub enum Selector {
    /// The whole body.
    Root,
    /// Steps of object keys and list positions from the root: `data.items`, `result[0].rows`.
    Path(DottedPath),
    /// Any other RFC 9535 expression.
    JsonPath(Box<serde_json_path::JsonPath>),
}

/// A path of plain steps into JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DottedPath(pub Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    Key(String),
    /// From the start, or from the end when negative: `data[-1].id`.
    Index(i64),
}

/// Where a page parameter goes: the query, or a place in the JSON body.
#[derive(Debug, Clone)]
pub enum Target {
    Query(String),
    Body(DottedPath),
}

/// How the pages follow each other. Each has a stop rule by construction.
#[derive(Debug, Clone)]
pub enum Paginator {
    /// One answer is all.
    SinglePage,
    Offset {
        limit: u64,
        /// First offset, usually 0.
        start: u64,
        offset: Target,
        limit_to: Target,
        stop: Stop,
        maximum_offset: Option<u64>,
    },
    PageNumber {
        /// First page: 0 or 1.
        start: u64,
        page: Target,
        stop: Stop,
        /// Exclusive, as in dlt: with base 1 and maximum 3, pages 1 and 2 are read.
        maximum_page: Option<u64>,
    },
    /// The answer names the next page's token.
    Cursor {
        cursor_path: DottedPath,
        cursor: Target,
        stop_after_empty_page: bool,
        has_more_path: Option<DottedPath>,
    },
    /// The answer holds the next page's URL.
    JsonLink { next_url_path: DottedPath },
    /// The `Link` header holds it, by `rel`.
    HeaderLink { links_next_key: String },
}

/// When a walk over counted pages is over. At least one of the three rules holds.
#[derive(Debug, Clone)]
pub struct Stop {
    /// Items in all (offset) or pages in all (page number).
    pub total_path: Option<DottedPath>,
    pub has_more_path: Option<DottedPath>,
    pub after_empty_page: bool,
}

/// Only what changed since the last complete walk.
#[derive(Debug, Clone)]
pub struct Incremental {
    /// Field of the record that holds the cursor value.
    pub cursor_path: DottedPath,
    /// Sent on the first walk; the parameter is left out when absent.
    pub initial_value: Option<String>,
    /// Query parameter that gets the start value.
    pub start_param: Option<String>,
    /// Subtracted from the stored cursor (instants), so that late rows are seen.
    pub lag: Duration,
}
