//! From a body to the places of its records.
//!
//! The records stay where they are in the body. Only a JSONPath expression that is more than plain
//! steps needs the whole body as a tree; its records are written out anew.

use std::{io::Read as _, ops::Range};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, value::RawValue};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    Address, Error,
    client::Answer,
    select::{self, Records, Slot, Wanted},
};
use crate::config::{
    endpoint::{DottedPath, Endpoint, Selector, Step},
    paginator::{LinkFrom, Paginator, TokenFrom, Total, TotalAt},
    response::Format,
};

mod expression;

pub(super) mod lines;

mod xml;

use expression::Expression;

/// What to look for in the answers of one endpoint.
#[derive(Debug)]
pub(super) struct Decoder {
    wanted: Wanted,
    expression: Option<Expression>,
    format: Format,
    /// Elements of XML that are lists.
    lists: xml::Lists,
    null_is_empty: bool,
    /// Most decoded bytes.
    cap: u64,
    /// Where the records of a stream stand; `None`: bodies are read whole.
    stream: Option<Vec<Step>>,
    /// The selector as configured, for errors.
    selector: Box<str>,
}

/// A body whose records are known.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) body: Bytes,
    pub(super) records: Vec<Range<u32>>,
    pub(super) envelope: Envelope,
    /// Hash of all records, to notice a page that comes again.
    pub(super) content: u128,
    /// By status or by a rule, the API says that there is nothing at this place.
    pub(super) no_content: bool,
}

impl Decoded {
    /// The API says that nothing is at this place.
    pub(super) fn nothing() -> Self {
        Self {
            body: Bytes::new(),
            records: Vec::new(),
            envelope: Envelope::default(),
            content: 0,
            no_content: true,
        }
    }
}

/// The paginator's values.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) total: Option<Scalar>,
    pub(super) has_more: Option<Scalar>,
    pub(super) next: Option<Scalar>,
    pub(super) sync_token: Option<Scalar>,
}

/// A small JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    /// As it stands in the body.
    Number(String),
    Text(String),
    /// A list, an object, or a text beyond [`Scalar::MAX`].
    Other,
}

impl Scalar {
    /// Longest token or link. Servers refuse longer URLs, and each is kept in the checkpoint.
    const MAX: usize = 8 << 10;

    pub(super) fn of(raw: &RawValue) -> Self {
        let text = raw.get();
        match text.as_bytes().first() {
            _ if text.len() > Self::MAX => Self::Other,
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => serde_json::from_str(text).map_or(Self::Other, Self::Text),
            Some(b'{' | b'[') | None => Self::Other,
            Some(_) => Self::Number(text.to_owned()),
        }
    }
}

impl Decoder {
    /// `cap`: most bytes of a body, where the endpoint does not say.
    pub(super) fn new(endpoint: &Endpoint, cap: u64) -> Self {
        let mut wanted = Wanted::default();
        let mut expression = None;
        let selector = match &endpoint.data_selector {
            Selector::Root => {
                wanted.records_at(&[]);
                "the body".to_owned()
            }
            Selector::Path(path) => {
                wanted.records_at(&path.0);
                shown(path)
            }
            Selector::JsonPath(path) => {
                expression = Some(Expression::new(path));
                path.to_string()
            }
        };
        if let Some(stop) = endpoint.paginator.stop() {
            if let Some(Total {
                at: TotalAt::Body(path),
                ..
            }) = &stop.total
            {
                wanted.slot_at(Slot::Total, path);
            }
            if let Some(more) = &stop.more {
                wanted.slot_at(Slot::HasMore, &more.path);
            }
            if let Some(path) = &stop.sync_token {
                wanted.slot_at(Slot::SyncToken, path);
            }
        }
        match &endpoint.paginator {
            Paginator::Token(token) => {
                if let TokenFrom::Body(path) = &token.from {
                    wanted.slot_at(Slot::Next, path);
                }
            }
            Paginator::Link(link) => {
                if let LinkFrom::Body(path) = &link.from {
                    wanted.slot_at(Slot::Next, path);
                }
            }
            Paginator::SinglePage | Paginator::Counted(_) | Paginator::Auto => {}
        }
        let response = &endpoint.response;
        let mut lists = xml::Lists::default();
        if let Format::Xml { lists: paths } = &response.format {
            paths.iter().for_each(|path| lists.add(path));
            if let Selector::Path(path) = &endpoint.data_selector {
                lists.add(path);
            }
        }
        let steps = match &endpoint.data_selector {
            Selector::Path(path) => path.0.clone(),
            Selector::Root | Selector::JsonPath(_) => Vec::new(),
        };
        Self {
            wanted,
            expression,
            format: response.format.clone(),
            lists,
            null_is_empty: endpoint.null_is_empty,
            cap: response.max_body.unwrap_or(cap),
            stream: response.stream.then_some(steps),
            selector: selector.into(),
        }
    }

    /// Most bytes of a body.
    pub(super) fn cap(&self) -> u64 {
        self.cap
    }

    /// Whether the records are to be taken out while the body comes.
    pub(super) fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Takes the records out of a body while it comes.
    pub(super) fn read_stream(
        &self,
        input: impl std::io::Read,
        sink: lines::Sink<'_>,
    ) -> Result<(), lines::Failure> {
        let path = self.stream.as_deref().unwrap_or_default();
        lines::read(&self.format, path, input, self.cap, sink)
    }

    /// Finds the records of a successful answer. `page` is its ordinal, for errors.
    pub(super) fn decode(&self, answer: &Answer, page: u64) -> Result<Decoded, Error> {
        if answer.status == 204 {
            return Ok(Decoded::nothing());
        }
        let at = || answer.at.clone();
        let body = self.unzipped(&answer.body, &answer.at)?;
        let document = match &self.format {
            Format::Json => body,
            Format::Xml { .. } => self.xml(&body, &answer.at)?,
            Format::Ndjson | Format::Csv(_) => return self.lines(&body, &answer.at, page),
        };
        let text = text_of(&document, answer)?;
        let broken = |e: &serde_json::Error| Error::InvalidJson {
            offset: (document.len() - text.len() + offset_of(e, text)) as u64,
            truncated: e.is_eof(),
            at: at(),
        };
        let found = select::scan(text, &self.wanted).map_err(|e| broken(&e))?;
        let envelope = Envelope {
            total: found.total.map(Scalar::of),
            has_more: found.has_more.map(Scalar::of),
            next: found.next.map(Scalar::of),
            sync_token: found.sync_token.map(Scalar::of),
        };
        let misshapen = |what| Error::UnexpectedShape {
            path: self.selector.clone(),
            what,
            page,
        };
        let (body, records) = match &self.expression {
            Some(expression) => {
                let records = expression.records(text, self.null_is_empty);
                records.map_err(|e| match e {
                    expression::Failure::Json(e) => broken(&e),
                    expression::Failure::Shape(what) => misshapen(what),
                })?
            }
            None => {
                let records = match found.records {
                    Records::List(elements) => ranges(&document, &elements),
                    Records::One(raw) if raw.get().starts_with('{') => ranges(&document, &[raw]),
                    Records::One(raw) if raw.get().starts_with("null") && self.null_is_empty => {
                        Vec::new()
                    }
                    Records::One(raw) if raw.get().starts_with("null") => {
                        return Err(misshapen("is null instead of a list"));
                    }
                    Records::One(_) | Records::Other => {
                        return Err(misshapen("is neither a list nor an object"));
                    }
                    Records::Missing => return Err(misshapen("is not in the answer")),
                };
                (document.clone(), records)
            }
        };
        Ok(Decoded {
            content: content_hash(&body, &records),
            body,
            records,
            envelope,
            no_content: false,
        })
    }
}

impl Decoder {
    /// A gzip file opened; anything else as it is. Some servers send files of their store so.
    fn unzipped(&self, body: &Bytes, at: &Address) -> Result<Bytes, Error> {
        if !body.starts_with(&lines::GZIP) {
            return Ok(body.clone());
        }
        let mut opened = Vec::new();
        let mut file = MultiGzDecoder::new(body.as_ref()).take(self.cap + 1);
        file.read_to_end(&mut opened)
            .map_err(|_| Error::InvalidGzip { at: at.clone() })?;
        match opened.len() as u64 > self.cap {
            true => Err(Error::BodyTooLarge {
                limit: self.cap,
                at: at.clone(),
            }),
            false => Ok(opened.into()),
        }
    }

    fn xml(&self, body: &Bytes, at: &Address) -> Result<Bytes, Error> {
        let at = || at.clone();
        let start = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let start = start.trim_ascii_start();
        let is_page = start
            .get(..14)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"<!doctype html"))
            || start
                .get(..5)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"<html"));
        match start.first() {
            None => return Err(Error::EmptyBody { at: at() }),
            // Two bytes per sign begin with a mark or a zero.
            Some(b'<' | 0xfe | 0xff | 0) if !is_page => {}
            Some(_) => {
                return Err(Error::WrongFormat {
                    wanted: "XML",
                    at: at(),
                });
            }
        }
        let text = xml::text_of(body).ok_or_else(|| Error::Charset { at: at() })?;
        let value = xml::to_json(&text, &self.lists).map_err(|broken| Error::InvalidXml {
            offset: broken.offset,
            truncated: broken.truncated,
            at: at(),
        })?;
        Ok(value.to_string().into())
    }

    fn lines(&self, body: &Bytes, at: &Address, page: u64) -> Result<Decoded, Error> {
        let first = body.iter().find(|b| !b.is_ascii_whitespace());
        let (wanted, is_wrong) = match &self.format {
            Format::Csv(_) => ("CSV", matches!(first, Some(b'<' | b'{' | b'['))),
            _ => ("lines of JSON", matches!(first, Some(b'<'))),
        };
        if first.is_none() {
            return Err(Error::EmptyBody { at: at.clone() });
        }
        if is_wrong {
            let at = at.clone();
            return Err(Error::WrongFormat { wanted, at });
        }
        let part = lines::read_whole(&self.format, body, self.cap)
            .map_err(|failure| self.failed(failure, at, page))?;
        let body = Bytes::from(part.body);
        Ok(Decoded {
            content: content_hash(&body, &part.records),
            body,
            records: part.records,
            envelope: Envelope::default(),
            no_content: false,
        })
    }

    /// Puts a failure of reading into words. What ended too early may have been cut on its way.
    pub(super) fn failed(&self, failure: lines::Failure, at: &Address, page: u64) -> Error {
        let at = at.clone();
        match failure {
            lines::Failure::Io => Error::InvalidGzip { at },
            lines::Failure::Json { offset, truncated } => Error::InvalidJson {
                offset,
                truncated,
                at,
            },
            lines::Failure::Charset => Error::Charset { at },
            lines::Failure::Shape(what) => Error::UnexpectedShape {
                path: self.selector.clone(),
                what,
                page,
            },
            lines::Failure::TooLarge => Error::BodyTooLarge {
                limit: self.cap,
                at,
            },
            lines::Failure::Stopped => Error::Cancelled,
        }
    }
}

/// The body as text, without a byte order mark.
fn text_of<'b>(body: &'b Bytes, answer: &Answer) -> Result<&'b str, Error> {
    let at = || answer.at.clone();
    let whole = body.len();
    let body: &[u8] = body;
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    match body.iter().find(|b| !b.is_ascii_whitespace()) {
        None => return Err(Error::EmptyBody { at: at() }),
        // Some APIs send JSON as text/html, so what looks like JSON is read as JSON.
        Some(b'{' | b'[') => {}
        Some(b'<') => return Err(not_json(at())),
        Some(_) if answer.json_type => {}
        Some(_) => return Err(not_json(at())),
    }
    simdutf8::basic::from_utf8(body).map_err(|_| Error::InvalidUtf8 {
        // Read once more to find the place, which the quick check does not tell.
        offset: std::str::from_utf8(body)
            .map_or_else(|e| (whole - body.len() + e.valid_up_to()) as u64, |_| 0),
        at: at(),
    })
}

fn not_json(at: Address) -> Error {
    let wanted = "JSON";
    Error::WrongFormat { wanted, at }
}

/// Where in `text` the parser stopped. It tells line and column only, both from 1, in bytes.
fn offset_of(error: &serde_json::Error, text: &str) -> usize {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .nth(line - 2)
            .map_or(0, |(at, _)| at + 1),
    };
    (line_start + error.column()).min(text.len())
}

/// Places of `elements`, which are parts of `body`.
fn ranges(body: &Bytes, elements: &[&RawValue]) -> Vec<Range<u32>> {
    let base = body.as_ptr() as usize;
    elements
        .iter()
        .map(|element| {
            let text = element.get();
            // The client holds bodies below 4 GiB.
            let start = (text.as_ptr() as usize - base) as u32;
            start..start + text.len() as u32
        })
        .collect()
}

/// Hash from the first record to the last. What stands around them (time stamps, request ids) may
/// differ although the page is the same.
fn content_hash(body: &Bytes, records: &[Range<u32>]) -> u128 {
    match (records.first(), records.last()) {
        (Some(first), Some(last)) => body
            .get(first.start as usize..last.end as usize)
            .map_or(0, xxh3_128),
        _ => 0,
    }
}

/// The value at a path of a tree.
pub(super) fn found_at<'v>(value: &'v Value, path: &DottedPath) -> Option<&'v Value> {
    path.0.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(at) => {
            let list = value.as_array()?;
            let back = usize::try_from(at.unsigned_abs()).ok()?;
            match *at < 0 {
                true => list.get(list.len().checked_sub(back)?),
                false => list.get(back),
            }
        }
    })
}

/// A path as it is written in the configuration.
pub(super) fn shown(path: &DottedPath) -> String {
    let mut text = String::new();
    for step in &path.0 {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

#[cfg(test)]
pub(super) mod tests;
