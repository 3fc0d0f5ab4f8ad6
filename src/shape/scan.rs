//! The first, cheap look at a page: keys, hashes and the highest cursor value.
//!
//! What Postgres already has, by key and hash, is not looked into any further, so that a page
//! without changes costs little more than reading it.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use memchr::{memchr, memchr_iter, memchr2_iter, memmem};
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use super::condition::Verdict;
use super::cursor::CursorValue;
use super::json::{self, Malformed, Reader, Token, Value};
use super::number::Decimal;
use super::stretch::{self, Bounds, CursorRule, Stretch, Tracker};
use super::time::{DAY_SECONDS, POSTGRES_EPOCH_DAYS};
use super::value::{self, Misfit, Reading, Sink};
use super::{BYTEA_OID, Kind, Layout, Reject, reason};
use crate::config::{
    endpoint::{DottedPath, Step},
    incremental::Notation,
    source::{Flag, Version, VersionField},
};

/// Longest key. Postgres' index takes 2,704 bytes; a key of 512 is a mistake in the configuration.
const MAX_KEY: usize = 512;

/// What the first look at a page found.
pub struct Scan {
    /// One per key of the page, in the order of the records that were kept.
    pub rows: Vec<ScanRow>,
    /// Records without a usable key, or not records at all.
    pub rejects: Vec<Reject>,
    /// Records left out because another one has the same key.
    pub duplicates: u64,
    /// Of these, records that say other things than the one that was kept.
    pub superseded: u64,
    /// Where rows may be brought in parts: positions of records whose key is that of a row before them,
    /// in their order. They are to become rows after it.
    pub later: Vec<u32>,
    /// Furthest cursor value at or below the cap.
    pub cursor: Option<CursorValue>,
    /// Rows without a readable cursor value.
    pub cursor_missing: u64,
    /// Rows whose cursor value lies above the cap.
    pub cursor_future: u64,
    /// Records that are out of the walk's bounds; they are no rows.
    pub left_out: u64,
    /// From the first record to the last, where an order was promised.
    pub stretch: Option<Stretch>,
    /// What the key columns must be able to hold: their kinds so far, widened by this page.
    pub(super) key_kinds: Vec<Kind>,
    keys: Arc<Keys>,
}

/// A record that may become a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanRow {
    /// Position in the page.
    pub record: u32,
    /// Hash of the canonical key; of the record where there is no key.
    pub key: u128,
    /// Hash of the record's bytes, seeded with the mapping's version. `_row_hash`, high byte first.
    pub hash: u128,
    /// The record says of itself that it is gone.
    pub is_gone: bool,
}

impl fmt::Debug for Scan {
    /// Counts only: keys are personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("rows", &self.rows.len())
            .field("rejects", &self.rejects.len())
            .field("duplicates", &self.duplicates)
            .finish_non_exhaustive()
    }
}

/// The keys of a page's rows as people would write them.
#[derive(Clone, Default)]
pub struct RowKeys {
    keys: Arc<Keys>,
    kinds: Vec<Kind>,
}

impl RowKeys {
    /// By the row's position in [`Scan::rows`]. `None` for rows without a key.
    #[must_use]
    pub fn text(&self, row: usize) -> Option<String> {
        let first = row * self.kinds.len();
        let parts = self
            .kinds
            .iter()
            .enumerate()
            .map(|(part, kind)| spelled(*kind, self.keys.part(first + part)));
        clip(parts.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Debug for RowKeys {
    /// No key: they are personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowKeys").finish_non_exhaustive()
    }
}

/// A part of a canonical key as people write it: days and instants are counts of microseconds there.
fn spelled(kind: Kind, part: &[u8]) -> String {
    let text = String::from_utf8_lossy(part);
    let instant = || {
        let micros: i64 = text.parse().ok()?;
        let epoch = POSTGRES_EPOCH_DAYS * DAY_SECONDS * 1_000_000;
        DateTime::from_timestamp_micros(micros.checked_add(epoch)?)
    };
    let spelled = match kind {
        Kind::Date => instant().map(|day| day.format("%Y-%m-%d").to_string()),
        Kind::Timestamptz => instant().map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        _ => None,
    };
    spelled.unwrap_or_else(|| text.into_owned())
}

/// The key texts of all rows, one after the other.
#[derive(Default)]
struct Keys {
    text: Vec<u8>,
    /// Ends in `text`, one per key part of each row.
    ends: Vec<u32>,
}

impl Keys {
    fn part(&self, place: usize) -> &[u8] {
        let end = self.ends.get(place).copied().unwrap_or_default() as usize;
        let start = match place.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default() as usize,
            None => 0,
        };
        self.text.get(start..end).unwrap_or_default()
    }
}

/// The keys and hashes of a scan as parameters of a query, to ask which rows are unchanged.
#[derive(Debug, Clone)]
pub struct Probe {
    /// One per key column, each with one element per scan row.
    pub key_arrays: Vec<BinaryArray>,
    /// `bytea[]`, parallel to the keys.
    pub hashes: HashArray,
}

/// A one-dimensional array in Postgres' binary format.
#[derive(Clone)]
pub struct BinaryArray {
    pub element: Kind,
    pub bytes: Vec<u8>,
}

impl BinaryArray {
    /// Where in the bytes the count of elements stands.
    const LENGTH: Range<usize> = 12..16;
    /// Where the first element stands.
    const ELEMENTS: usize = 20;

    /// Adds the elements of another array. `false`, and nothing done, when they are of another kind or too many.
    #[must_use]
    pub fn append(&mut self, other: &Self) -> bool {
        let sum = self.length().checked_add(other.length());
        let (Some(sum), true) = (sum, self.element == other.element) else {
            return false;
        };
        if let Some(length) = self.bytes.get_mut(Self::LENGTH) {
            length.copy_from_slice(&sum.to_be_bytes());
        }
        let elements = other.bytes.get(Self::ELEMENTS..).unwrap_or_default();
        self.bytes.extend_from_slice(elements);
        true
    }

    fn length(&self) -> u32 {
        let bytes = self.bytes.get(Self::LENGTH).unwrap_or_default();
        bytes.try_into().map_or(0, u32::from_be_bytes)
    }
}

/// A `bytea[]` in Postgres' binary format.
#[derive(Clone)]
pub struct HashArray {
    pub bytes: Vec<u8>,
}

impl fmt::Debug for BinaryArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{} bytes]", self.element, self.bytes.len())
    }
}

impl fmt::Debug for HashArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hashes[{} bytes]", self.bytes.len())
    }
}

impl Scan {
    /// The key of a row as text, for its reject.
    #[must_use]
    pub fn key_text(&self, row: usize) -> Option<String> {
        self.row_keys().text(row)
    }

    /// The keys of all rows as texts, to outlive the scan.
    #[must_use]
    pub fn row_keys(&self) -> RowKeys {
        RowKeys {
            keys: Arc::clone(&self.keys),
            kinds: self.key_kinds.clone(),
        }
    }

    /// The rows' keys and hashes as binary arrays. `None` when there is no key, no row, or the key
    /// columns in `layout` are not yet of the kinds that this page needs: then no row can be
    /// known to be unchanged.
    #[must_use]
    pub fn probe(&self, layout: &Layout) -> Option<Probe> {
        let rows: Vec<usize> = (0..self.rows.len()).collect();
        self.probe_of(layout, &rows)
    }

    /// The same of some of the rows, by their positions in [`Self::rows`].
    #[must_use]
    pub fn probe_of(&self, layout: &Layout, rows: &[usize]) -> Option<Probe> {
        let width = self.key_kinds.len();
        if width == 0 || rows.is_empty() || layout.key.len() != width {
            return None;
        }
        let mut key_arrays = Vec::with_capacity(width);
        for (part, (&kind, &place)) in self.key_kinds.iter().zip(&layout.key).enumerate() {
            if layout.columns.get(place)?.kind != kind {
                return None;
            }
            let mut sink = array_head(kind.oid(), rows.len())?;
            for row in rows {
                value::write_canonical_field(&mut sink, kind, self.keys.part(row * width + part))?;
            }
            key_arrays.push(BinaryArray {
                element: kind,
                bytes: sink.out,
            });
        }
        let mut sink = array_head(BYTEA_OID, rows.len())?;
        for row in rows {
            sink.bytes(&self.rows.get(*row)?.hash.to_be_bytes());
        }
        Some(Probe {
            key_arrays,
            hashes: HashArray { bytes: sink.out },
        })
    }
}

/// One dimension, no nulls, from index 1.
fn array_head(element: u32, length: usize) -> Option<Sink> {
    let mut sink = Sink::default();
    sink.out.reserve(20 + length * 12);
    for word in [1, 0, element, u32::try_from(length).ok()?, 1] {
        sink.out.extend_from_slice(&word.to_be_bytes());
    }
    Some(sink)
}

/// What a scan looks for in each record.
pub(super) struct Wanted<'s> {
    pub(super) keys: &'s [DottedPath],
    pub(super) cursor: Option<&'s DottedPath>,
    /// What tells which of two records with one key counts.
    pub(super) version: Option<&'s Version>,
    /// What says of a record that it is gone.
    pub(super) flag: Option<&'s Flag>,
    /// Fields without which a record cannot be a row, beside the key.
    pub(super) required: &'s [DottedPath],
    pub(super) rule: &'s CursorRule,
    pub(super) bounds: &'s Bounds,
    /// The field of which the row hash is made, and not of the whole record.
    pub(super) row_version: Option<&'s DottedPath>,
    /// Whether records of one key add to each other.
    pub(super) partial: bool,
    pub(super) seed: u64,
    pub(super) beside: Beside<'s>,
    /// Kinds of the key columns as far as they are known.
    pub(super) kinds: &'s [Option<Kind>],
    /// Why a key column cannot become wider, where it cannot.
    pub(super) pinned: &'s [Option<&'static str>],
    pub(super) reading: Reading,
}

/// What is known of a page's records that does not stand in them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'s> {
    /// Body and places of the records as the API sent them, where the cursor's field is kept from
    /// the rows.
    pub originals: Option<(&'s [u8], &'s [Range<u32>])>,
    /// What the condition says of each record; empty where there is none.
    pub verdicts: &'s [Verdict],
}

impl<'s> Wanted<'s> {
    /// Field of the version, unless it is that of the cursor.
    fn version_path(&self) -> Option<&'s DottedPath> {
        match &self.version?.field {
            VersionField::Cursor(_) => None,
            VersionField::Path(path) => Some(path),
        }
    }
}

/// A record with all its key parts.
struct Candidate<'a> {
    record: u32,
    hash: u128,
    version: Option<Value<'a>>,
    is_gone: bool,
}

impl Candidate<'_> {
    /// Whether this record, that came later, must give way to the other one of its key.
    fn is_behind(&self, other: &Self, lowest: bool, notation: &Notation) -> bool {
        let order = match (self.version, other.version) {
            (Some(own), Some(other)) => stretch::compare(own, other, notation),
            _ => None,
        };
        order
            == Some(match lowest {
                true => Ordering::Greater,
                false => Ordering::Less,
            })
    }
}

pub(super) fn scan(
    wanted: &Wanted<'_>,
    body: &[u8],
    records: &[Range<u32>],
    cap: Option<DateTime<Utc>>,
) -> Scan {
    let width = wanted.keys.len();
    let mut tracker = Tracker::new(wanted.rule, wanted.bounds, cap);
    let mut left_out = 0;
    let mut rejects = Vec::new();
    let mut candidates: Vec<Candidate<'_>> = Vec::with_capacity(records.len());
    let mut parts: Vec<Value<'_>> = Vec::with_capacity(records.len() * width);
    let mut kinds = wanted.kinds.to_vec();
    let sought = Sought::new(wanted);
    let mut found: Vec<Option<Value<'_>>> = Vec::new();
    let (mut widened, mut text) = (Vec::new(), Vec::new());
    for (place, range) in records.iter().enumerate() {
        let mut reject = |reason, path: Option<String>, key| {
            rejects.push(Reject {
                key,
                path,
                reason,
                record: place,
            });
        };
        let bytes = body
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default();
        if simdutf8::basic::from_utf8(bytes).is_err() {
            reject(reason::INVALID_UTF8, None, None);
            continue;
        }
        if !bytes.trim_ascii_start().starts_with(b"{") {
            reject(reason::NOT_AN_OBJECT, None, None);
            continue;
        }
        if sought.pick(bytes, &mut found).is_err() {
            reject(reason::INVALID_JSON, None, None);
            continue;
        }
        if let Some((body, originals)) = wanted.beside.originals
            && let Some(path) = wanted.cursor
            && let Some(cursor) = found.get_mut(width + wanted.required.len())
        {
            *cursor = original(body, originals.get(place), path);
        }
        let (keys, others) = found.split_at(width);
        if let Err((part, reason)) = settle(wanted, keys, &mut kinds, &mut widened, &mut text) {
            reject(reason, wanted.keys.get(part).map(spell), key_text(keys));
            continue;
        }
        // In the order in which `pick` looked for them.
        let (required, others) = others.split_at(wanted.required.len());
        let missing = required.iter().zip(wanted.required).find(|(value, _)| {
            value.is_none_or(|value| value.token == Token::String && value.raw.is_empty())
        });
        if let Some((_, path)) = missing {
            reject(reason::NULL_KEY, Some(spell(path)), key_text(keys));
            continue;
        }
        let (others, gone) = match wanted.flag {
            Some(_) => others.split_at(others.len() - 1),
            None => (others, [].as_slice()),
        };
        let says_gone = |flag| says_gone(flag, gone.first().copied().flatten());
        // Of what is left the last, be it the cursor.
        let version = wanted.version.and(others.last());
        if wanted.cursor.is_some() && !tracker.see(others.first().copied().flatten()) {
            left_out += 1;
            continue;
        }
        let is_gone = match wanted.beside.verdicts.get(place) {
            Some(Verdict::Unknown(reason)) => {
                reject(reason, Some("deletes.when".to_owned()), key_text(keys));
                continue;
            }
            Some(verdict) => *verdict == Verdict::Gone,
            None => wanted.flag.is_some_and(says_gone),
        };
        parts.extend(keys.iter().copied().flatten());
        candidates.push(Candidate {
            record: u32::try_from(place).unwrap_or(u32::MAX),
            hash: match wanted.row_version {
                Some(path) => version_hash(bytes, path),
                None => record_hash(bytes, wanted.seed),
            },
            version: version.copied().flatten(),
            is_gone,
        });
    }
    let key_kinds: Vec<Kind> = if candidates.is_empty() {
        Vec::new()
    } else {
        kinds.iter().copied().flatten().collect()
    };
    let unique = unique(&candidates, &parts, &key_kinds, wanted, &mut rejects);
    Scan {
        rows: unique.rows,
        rejects,
        duplicates: unique.duplicates,
        superseded: unique.superseded,
        later: unique.later,
        cursor: tracker.furthest(),
        cursor_missing: tracker.missing(),
        cursor_future: tracker.future,
        left_out,
        stretch: tracker.stretch(),
        key_kinds,
        keys: Arc::new(unique.keys),
    }
}

/// Hash of a record under one mapping. Its first four bytes are the mapping's, so that a row that only
/// another mapping wrote can be told from one whose record differs.
fn record_hash(record: &[u8], mapping: u64) -> u128 {
    let hash = xxh3_128_with_seed(record, mapping);
    (u128::from(mapping) << 96) | (hash >> 32)
}

/// Hash of the field that tells versions of a row apart. The mapping's version is not in it.
fn version_hash(record: &[u8], path: &DottedPath) -> u128 {
    let whole = Value {
        token: Token::Object,
        raw: record.trim_ascii_start(),
        escaped: false,
    };
    let value = json::find(whole, &path.0).ok().flatten();
    xxh3_128(value.map_or(&b""[..], |value| value.raw))
}

/// Whether a record with this value in the flag's field is gone.
fn says_gone(flag: &Flag, value: Option<Value<'_>>) -> bool {
    let Some(value) = value else {
        return false;
    };
    let Some(values) = &flag.values else {
        return value.token != Token::Null && value.raw != b"false";
    };
    values.iter().any(|wanted| match (wanted, value.token) {
        (serde_json::Value::String(wanted), Token::String) => {
            let mut text = Vec::with_capacity(value.raw.len());
            json::unescape(value.raw, &mut text, &mut 0).is_ok() && text == wanted.as_bytes()
        }
        (serde_json::Value::Number(wanted), Token::Number) => {
            let wanted = wanted.to_string();
            let (wanted, value) = (Decimal::parse(wanted.as_bytes()), Decimal::parse(value.raw));
            matches!((wanted, value), (Ok(wanted), Ok(value)) if wanted.compare(&value) == Ordering::Equal)
        }
        (serde_json::Value::Bool(wanted), Token::Boolean) => {
            value.raw == if *wanted { &b"true"[..] } else { b"false" }
        }
        _ => false,
    })
}

/// The value at `path` of a record before the privacy rules.
fn original<'a>(
    body: &'a [u8],
    range: Option<&Range<u32>>,
    path: &DottedPath,
) -> Option<Value<'a>> {
    let range = range.cloned().unwrap_or_default();
    let record = Value {
        token: Token::Object,
        raw: body
            .get(range.start as usize..range.end as usize)?
            .trim_ascii_start(),
        escaped: false,
    };
    let value = json::find(record, &path.0).ok().flatten()?;
    (value.token != Token::Null).then_some(value)
}

/// Where the values stand that a scan looks for: the key parts, the required fields, the cursor value, the
/// version and the flag, in this order.
struct Sought<'s> {
    /// First name and the rest of each path. A path that begins with an index leads nowhere in an object.
    paths: Vec<(Option<&'s str>, &'s [Step])>,
    /// Finds the first names, with their quotes.
    names: Vec<memmem::Finder<'static>>,
}

impl<'s> Sought<'s> {
    fn new(wanted: &Wanted<'s>) -> Self {
        let keys = wanted.keys.iter().chain(wanted.required);
        let cursor = keys.chain(wanted.cursor).chain(wanted.version_path());
        let paths = cursor.chain(wanted.flag.map(|flag| &flag.field));
        let paths: Vec<(Option<&str>, &[Step])> = paths
            .map(|path| match path.0.split_first() {
                Some((Step::Key(first), rest)) => (Some(first.as_str()), rest),
                _ => (None, &[][..]),
            })
            .collect();
        let names = paths.iter().filter_map(|(first, _)| *first);
        let finder = |name: &str| memmem::Finder::new(&format!("\"{name}\"")).into_owned();
        Self {
            names: names.map(finder).collect(),
            paths,
        }
    }

    /// Finds the values in a record; `None` where missing or null. Of names that stand twice the last counts.
    /// What is malformed behind them, the second look finds.
    fn pick<'a>(
        &self,
        record: &'a [u8],
        found: &mut Vec<Option<Value<'a>>>,
    ) -> Result<(), Malformed> {
        found.clear();
        found.resize(self.paths.len(), None);
        // Paths whose first name was not met yet. From the 64th on the whole record is read.
        let mut missing = match self.paths.len() {
            paths @ 0..64 => (1_u64 << paths) - 1,
            _ => u64::MAX,
        };
        let mut reader = Reader::new(record);
        reader.skip_space();
        reader.eat(b'{');
        if reader.peek() == Some(b'}') {
            reader.eat(b'}');
        } else {
            loop {
                let name = reader.name()?;
                let value = reader.value()?;
                let before = missing;
                for (place, ((first, rest), found)) in
                    self.paths.iter().zip(&mut *found).enumerate()
                {
                    if first.is_some_and(|first| json::is_name(name, first)) {
                        *found = json::find(value.of(record), rest)?
                            .filter(|value| value.token != Token::Null);
                        missing &= !1_u64.checked_shl(place as u32).unwrap_or_default();
                    }
                }
                if before != 0 && missing == 0 && self.is_all(record.get(reader.position()..)) {
                    return Ok(());
                }
                if !reader.more(b'}')? {
                    break;
                }
            }
        }
        if reader.is_done() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    /// Whether none of the names stands in the rest of a record, behind one of its members. Quicker by far than
    /// to read that rest; `false` where that has to be done.
    fn is_all(&self, rest: Option<&[u8]>) -> bool {
        let Some(rest) = rest.filter(|rest| memchr(b'\\', rest).is_none()) else {
            return false;
        };
        self.names.iter().all(|name| {
            let mut found = name.find_iter(rest).peekable();
            // Most records have the name of their key once more inside, as that of another's.
            let (mut depth, mut is_string, mut from) = (1_usize, false, 0);
            for brace in memchr2_iter(b'{', b'}', rest) {
                if found.peek().is_none() {
                    return true;
                }
                let between = rest.get(from..brace).unwrap_or_default();
                is_string ^= memchr_iter(b'"', between).count() % 2 == 1;
                from = brace;
                if is_string {
                    continue;
                }
                while found.next_if(|name| *name < brace).is_some() {
                    if depth == 1 {
                        return false;
                    }
                }
                match rest.get(brace) {
                    Some(b'{') => depth += 1,
                    _ => depth = depth.saturating_sub(1),
                }
            }
            found.peek().is_none()
        })
    }
}

/// Checks the key parts of one record and widens `kinds` so that they fit. Nothing is widened for
/// a record that becomes a reject: part and reason are returned.
fn settle(
    wanted: &Wanted<'_>,
    keys: &[Option<Value<'_>>],
    kinds: &mut Vec<Option<Kind>>,
    widened: &mut Vec<Option<Kind>>,
    text: &mut Vec<u8>,
) -> Result<(), (usize, &'static str)> {
    widened.clear();
    let mut length = 0;
    for (part, (key, kind)) in keys.iter().zip(&*kinds).enumerate() {
        let Some(key) = key else {
            return Err((part, reason::NULL_KEY));
        };
        match key.token {
            Token::String if key.raw.is_empty() => return Err((part, reason::NULL_KEY)),
            Token::Array | Token::Object => return Err((part, reason::KEY_NOT_SCALAR)),
            _ => {}
        }
        let mut kind = *kind;
        loop {
            text.clear();
            let fit = match kind {
                Some(kind) => value::canonical(kind, *key, wanted.reading, text),
                None => value::natural(*key, wanted.reading)
                    .and_then(|natural| Err(Misfit::Widen(natural))),
            };
            match fit {
                Ok(()) => break,
                Err(Misfit::Reject(reason)) => return Err((part, reason)),
                Err(Misfit::Widen(natural)) => {
                    let wider = kind.map_or(natural, |kind| kind.join(natural));
                    let pinned = wanted.pinned.get(part).copied().unwrap_or_default();
                    if let Some(reason) = pinned {
                        return Err((part, reason));
                    }
                    if kind == Some(wider) {
                        return Err((part, reason::MISFIT));
                    }
                    kind = Some(wider);
                }
            }
        }
        length += text.len();
        if length > MAX_KEY {
            return Err((part, reason::KEY_TOO_LONG));
        }
        widened.push(kind);
    }
    std::mem::swap(kinds, widened);
    Ok(())
}

/// The rows of a page, each key once, and what became of the other records.
#[derive(Default)]
struct Unique {
    rows: Vec<ScanRow>,
    /// Key texts by the kinds that the whole page needs.
    keys: Keys,
    duplicates: u64,
    superseded: u64,
    later: Vec<u32>,
}

/// Leaves one record of each key, that of the highest version, else the last; parts of a row all stay.
fn unique(
    candidates: &[Candidate<'_>],
    parts: &[Value<'_>],
    kinds: &[Kind],
    wanted: &Wanted<'_>,
    rejects: &mut Vec<Reject>,
) -> Unique {
    let width = kinds.len();
    if width == 0 {
        let rows = candidates.iter().map(|candidate| ScanRow {
            record: candidate.record,
            key: candidate.hash,
            hash: candidate.hash,
            is_gone: candidate.is_gone,
        });
        return Unique {
            rows: rows.collect(),
            ..Unique::default()
        };
    }
    let mut all = Keys::default();
    let mut rows: Vec<Option<ScanRow>> = Vec::with_capacity(candidates.len());
    let mut last: HashMap<u128, usize, super::KeyHashing> =
        HashMap::with_capacity_and_hasher(candidates.len(), super::KeyHashing::default());
    let mut found = Unique::default();
    let mut whole = Vec::new();
    let lowest = wanted.version.is_some_and(|version| version.lowest);
    for (candidate, parts) in candidates.iter().zip(parts.chunks_exact(width)) {
        whole.clear();
        let mut is_fit = true;
        for (part, &kind) in parts.iter().zip(kinds) {
            let start = all.text.len();
            is_fit &= value::canonical(kind, *part, wanted.reading, &mut all.text).is_ok();
            let text = all.text.get(start..).unwrap_or_default();
            // The length keeps ("a", "bc") and ("ab", "c") apart.
            whole.extend_from_slice(&text.len().to_le_bytes());
            whole.extend_from_slice(text);
            all.ends
                .push(u32::try_from(all.text.len()).unwrap_or(u32::MAX));
        }
        if !is_fit {
            rejects.push(Reject {
                key: None,
                path: None,
                reason: reason::MISFIT,
                record: candidate.record as usize,
            });
            rows.push(None);
            continue;
        }
        let key = xxh3_128(&whole);
        if let Some(&before) = last.get(&key) {
            // One place in `rows` for each candidate.
            let other = candidates.get(before);
            let is_behind =
                other.is_some_and(|o| candidate.is_behind(o, lowest, &wanted.rule.notation));
            if wanted.partial && !is_behind {
                found.later.push(candidate.record);
                last.insert(key, rows.len());
                rows.push(None);
                continue;
            }
            found.duplicates += 1;
            found.superseded += u64::from(other.is_some_and(|o| o.hash != candidate.hash));
            if is_behind {
                rows.push(None);
                continue;
            }
            if let Some(row) = rows.get_mut(before) {
                *row = None;
            }
        }
        last.insert(key, rows.len());
        rows.push(Some(ScanRow {
            record: candidate.record,
            key,
            hash: candidate.hash,
            is_gone: candidate.is_gone,
        }));
    }
    if rows.iter().all(Option::is_some) {
        return Unique {
            rows: rows.into_iter().flatten().collect(),
            keys: all,
            ..found
        };
    }
    let mut kept = Keys::default();
    for (place, _) in rows.iter().enumerate().filter(|(_, row)| row.is_some()) {
        for part in place * width..(place + 1) * width {
            kept.text.extend_from_slice(all.part(part));
            kept.ends
                .push(u32::try_from(kept.text.len()).unwrap_or(u32::MAX));
        }
    }
    Unique {
        rows: rows.into_iter().flatten().collect(),
        keys: kept,
        ..found
    }
}

/// The key as a person would write it, as far as the record has one.
fn key_text(keys: &[Option<Value<'_>>]) -> Option<String> {
    let mut text = Vec::new();
    for key in keys.iter().flatten() {
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        let before = text.len();
        let written = match key.token {
            Token::String => json::unescape(key.raw, &mut text, &mut 0),
            Token::Array | Token::Object => continue,
            Token::Null | Token::Boolean | Token::Number => {
                text.extend_from_slice(key.raw);
                Ok(())
            }
        };
        if written.is_err() {
            text.truncate(before);
        }
    }
    clip(String::from_utf8_lossy(&text).into_owned())
}

/// At most as much of a key as a key may have.
fn clip(mut text: String) -> Option<String> {
    text.truncate(text.floor_char_boundary(MAX_KEY));
    (!text.is_empty()).then_some(text)
}

/// A path as it stands in the configuration.
fn spell(path: &DottedPath) -> String {
    let mut text = String::new();
    for step in &path.0 {
        match step {
            Step::Key(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}
