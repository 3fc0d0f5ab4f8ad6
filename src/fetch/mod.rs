//! From an endpoint to pages of records, under the limiter, with retry.
//!
//! Selecting the records stands here and not in `shape`: whether a walk goes on is decided by how
//! many records an answer holds.

use std::ops::Range;

use bytes::Bytes;

/// One HTTP answer: its body and where in it the records stand.
#[derive(Debug, Clone)]
pub struct Page {
    /// Ordinal in the walk, from 0, a resumed walk counting on.
    pub number: u64,
    /// Decoded body.
    pub body: Bytes,
    /// Byte ranges of the records in `body`, in order; each is one complete JSON value.
    pub records: Vec<Range<u32>>,
    /// Where to resume after this page is committed. `None`: this was the last page.
    pub next: Option<Position>,
}

/// A place in a walk, as stored in the checkpoint. Holds no secret: a key in a next link is cut out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    Offset(u64),
    Page(u64),
    Cursor(String),
    Url(String),
}
