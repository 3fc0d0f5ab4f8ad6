//! The privacy rules, applied to a page before anything else looks at it.
//!
//! A record goes in as the API sent it and comes out as text of the same kind with the rules
//! applied: what is excluded is not blanked but gone, name and comma included, so that not even the
//! row hash is influenced by it. Numbers are copied digit by digit, never read. A resource without
//! rules has no [`Screen`] and pays nothing.
//!
//! Keyed hashes come from `ring`, which does all other cryptography of this process already.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use chrono::{DateTime, Utc};
use ring::hmac;

use super::json::{self, Checker, Reader, Token, Unfit, Value};
use super::number::{Decimal, Misread};
use super::{ELEMENT, Reject, reason, time};
use crate::config::endpoint::DottedPath;
use crate::config::privacy::{NewColumns, Pattern, Privacy, PrivacyKey, Segment};

/// Names of blocked fields that are remembered and told, of each run.
const MAX_BLOCKED: usize = 50;
/// A longer name is cut when it is told.
const MAX_TOLD: usize = 200;

/// Keyed hashes under one key.
#[derive(Clone)]
pub struct Hasher {
    id: String,
    key: hmac::Key,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Hasher {
    #[must_use]
    pub fn new(key: &PrivacyKey) -> Self {
        Self {
            id: key.id.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, key.secret.expose().as_bytes()),
        }
    }

    /// The key's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What stands in the table in place of `text`: the key's name and the hash.
    #[must_use]
    pub fn disguise(&self, text: &[u8], fold: bool) -> String {
        let tag = if fold {
            let folded = String::from_utf8_lossy(text).trim().to_lowercase();
            hmac::sign(&self.key, folded.as_bytes())
        } else {
            hmac::sign(&self.key, text)
        };
        let mut disguise = format!("{}:", self.id);
        hex(tag.as_ref(), &mut disguise);
        disguise
    }

    /// The mark of an erased person's key: bound to the resource, and never equal to a [`Hasher::disguise`].
    #[must_use]
    pub fn mark(&self, resource: &str, key: &[String]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"\0rosterd erased\0");
        for part in [resource].into_iter().chain(key.iter().map(String::as_str)) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        bytes(context.sign())
    }

    /// Tells this secret from another one that is given the same name, and tells nothing else of it.
    #[must_use]
    pub fn check_value(&self) -> [u8; 32] {
        bytes(hmac::sign(&self.key, b"\0rosterd key check\0"))
    }
}

fn bytes(tag: hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, signed) in bytes.iter_mut().zip(tag.as_ref()) {
        *byte = *signed;
    }
    bytes
}

fn hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            out.extend(char::from_digit(u32::from(half), 16));
        }
    }
}

/// What a screen is made of, besides the rules.
#[derive(Debug, Clone, Default)]
pub struct ScreenSpec {
    pub privacy: Privacy,
    /// Source and resource, which the marks of erased persons are bound to.
    pub resource: String,
    pub primary_key: Vec<DottedPath>,
    pub cursor_path: Option<DottedPath>,
    /// Name of the key and mark of each erased person.
    pub erased: Vec<(String, [u8; 32])>,
    /// Records whose time in this field is before the instant are left out.
    pub expired: Option<(DottedPath, DateTime<Utc>)>,
    /// Paths of the table's columns. `None`: the table is not there yet, and no field is new.
    pub known: Option<Vec<Vec<String>>>,
}

/// Applies the rules of one resource to its pages.
pub struct Screen {
    rules: Vec<Rule>,
    has_only: bool,
    hasher: Option<Hasher>,
    /// Fields that have columns, when others are blocked.
    known: Option<Known>,
    primary_key: Vec<DottedPath>,
    resource: String,
    /// Hashers whose marks are in `erased`.
    markers: Vec<Hasher>,
    erased: HashSet<[u8; 32]>,
    expired: Option<(DottedPath, i128)>,
    keeps_cursor: bool,
    checker: Checker,
    states: Vec<State>,
    open: Vec<Open>,
    blocked: HashSet<String>,
    untold: Vec<String>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen")
            .field("rules", &self.rules.len())
            .field("erased", &self.erased.len())
            .finish_non_exhaustive()
    }
}

/// A page after the rules.
#[derive(Default)]
pub struct Screened {
    pub body: Vec<u8>,
    pub records: Vec<Range<u32>>,
    /// Where each record stood in the page, when the rules touch the cursor's field: its value is
    /// read from there, in memory only.
    pub originals: Option<Vec<Range<u32>>>,
    /// Which of the page's records each one is.
    pub places: Vec<usize>,
    pub rejects: Vec<Reject>,
    /// Records of erased persons, left out.
    pub erased: u64,
    /// Records past their time, left out.
    pub expired: u64,
    /// Values that were to keep their year and are no dates.
    pub unreadable_dates: u64,
}

impl fmt::Debug for Screened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screened")
            .field("records", &self.records.len())
            .field("rejects", &self.rejects.len())
            .finish_non_exhaustive()
    }
}

struct Rule {
    segments: Vec<Segment>,
    effect: Effect,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Exclude,
    Only,
    Change(Change),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Hash { fold: bool },
    Year,
}

/// How far a rule has come on the way down to a value.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    rule: u32,
    segment: u32,
}

/// What the rules say of a value, by the way that leads to it.
#[derive(Clone, Copy)]
struct View {
    /// Begin in `states` of the rules that may still name something below.
    from: usize,
    allowed: bool,
    change: Option<Change>,
    known: Option<usize>,
}

/// An object or list that is being written anew.
struct Open {
    close: u8,
    view: View,
    /// End in `states` of the view's rules.
    until: usize,
    /// Where in the output this value, its name and its comma begin.
    mark: usize,
    is_empty: bool,
    /// The member's name, as a range of the record.
    name: Range<usize>,
}

#[derive(Default)]
struct Known {
    nodes: Vec<KnownNode>,
}

/// What a member is to the fields that have columns.
enum Standing {
    Column,
    /// Columns stand below it.
    Around(usize),
    Unknown,
}

#[derive(Default)]
struct KnownNode {
    is_column: bool,
    /// A list with a table of its own: its elements' members are told apart too.
    is_list: bool,
    members: HashMap<Box<str>, usize>,
}

impl Known {
    fn new(paths: &[Vec<String>], keys: &[DottedPath]) -> Self {
        let mut known = Self {
            nodes: vec![KnownNode::default()],
        };
        let keys = keys.iter().map(DottedPath::keys);
        for path in paths.iter().cloned().chain(keys) {
            let mut at = 0;
            let is_list = path.last().is_some_and(|name| name == ELEMENT);
            for name in path {
                if name == ELEMENT {
                    if let Some(node) = known.nodes.get_mut(at) {
                        node.is_list = true;
                    }
                    continue;
                }
                let next = known.nodes.len();
                let Some(node) = known.nodes.get_mut(at) else {
                    break;
                };
                at = *node.members.entry(name.into()).or_insert(next);
                if at == next {
                    known.nodes.push(KnownNode::default());
                }
            }
            if let Some(node) = known.nodes.get_mut(at).filter(|_| at > 0 && !is_list) {
                node.is_column = true;
            }
        }
        known
    }
}

impl Screen {
    /// `None`: nothing would be changed, and no record left out.
    #[must_use]
    pub fn new(spec: ScreenSpec) -> Option<Self> {
        let privacy = &spec.privacy;
        if privacy.is_open() && spec.erased.is_empty() && spec.expired.is_none() {
            return None;
        }
        let rule = |effect| {
            move |pattern: &Pattern| Rule {
                segments: pattern.segments.clone(),
                effect,
            }
        };
        let mut rules: Vec<Rule> = Vec::new();
        rules.extend(privacy.exclude.iter().map(rule(Effect::Exclude)));
        rules.extend(privacy.only.iter().map(rule(Effect::Only)));
        rules.extend(privacy.year.iter().map(rule(Effect::Change(Change::Year))));
        rules.extend(privacy.hash.iter().map(|hash| Rule {
            segments: hash.pattern.segments.clone(),
            effect: Effect::Change(Change::Hash { fold: hash.fold }),
        }));
        let known = spec
            .known
            .filter(|_| privacy.new_columns == NewColumns::Block)
            .map(|paths| Known::new(&paths, &spec.primary_key));
        let cursor = spec.cursor_path.as_ref().map(DottedPath::keys);
        let keeps_cursor = cursor.is_some_and(|names| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            known.is_some() || treatment(privacy, &names, false) != AS_IS
        });
        let markers = privacy
            .keys
            .iter()
            .filter(|key| spec.erased.iter().any(|(id, _)| *id == key.id))
            .map(Hasher::new)
            .collect();
        Some(Self {
            has_only: !privacy.only.is_empty(),
            hasher: privacy.keys.first().map(Hasher::new),
            rules,
            known,
            primary_key: spec.primary_key,
            resource: spec.resource,
            markers,
            erased: spec.erased.into_iter().map(|(_, mark)| mark).collect(),
            expired: spec.expired.map(|(path, before)| (path, nanos(before))),
            keeps_cursor,
            checker: Checker::default(),
            states: Vec::new(),
            open: Vec::new(),
            blocked: HashSet::new(),
            untold: Vec::new(),
        })
    }

    /// Names of fields that were blocked and not told yet.
    pub fn take_blocked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.untold)
    }

    /// The page with the rules applied. Memory: at most that of the page again, hashes apart.
    pub fn page(&mut self, body: &[u8], records: &[Range<u32>]) -> Screened {
        let mut page = Screened {
            originals: self.keeps_cursor.then(Vec::new),
            ..Screened::default()
        };
        page.body.reserve(body.len());
        for (place, range) in records.iter().enumerate() {
            let record = body
                .get(range.start as usize..range.end as usize)
                .unwrap_or_default();
            let start = page.body.len();
            match self.record(record, &mut page) {
                Ok(true) => {
                    page.records.push(offset(start)..offset(page.body.len()));
                    page.places.push(place);
                    if let Some(originals) = &mut page.originals {
                        originals.push(range.clone());
                    }
                }
                Ok(false) => page.body.truncate(start),
                Err(reason) => {
                    page.body.truncate(start);
                    page.rejects.push(Reject {
                        key: None,
                        path: None,
                        reason,
                        record: place,
                    });
                }
            }
        }
        page
    }

    /// Appends one record, or says that it is left out.
    fn record(&mut self, record: &[u8], page: &mut Screened) -> Result<bool, &'static str> {
        if std::str::from_utf8(record).is_err() {
            return Err(reason::INVALID_UTF8);
        }
        let record = record.trim_ascii_start();
        if !record.starts_with(b"{") {
            return Err(reason::NOT_AN_OBJECT);
        }
        // Strictly, so that the rules and whoever reads the record later see the same values in it.
        // A number that no column holds is for the mapper to find, which knows the field and the key.
        match self.checker.check_form(record) {
            Ok(_) => {}
            Err(Unfit::Malformed) => return Err(reason::INVALID_JSON),
            Err(Unfit::TooDeep) => return Err(reason::TOO_DEEP),
            Err(Unfit::Number) => return Err(reason::NUMBER_OUT_OF_RANGE),
        }
        let whole = Value {
            token: Token::Object,
            raw: record,
            escaped: false,
        };
        if self.is_erased(whole) {
            page.erased += 1;
            return Ok(false);
        }
        if self.is_expired(whole) {
            page.expired += 1;
            return Ok(false);
        }
        if self.rules.is_empty() && self.known.is_none() {
            page.body.extend_from_slice(record);
            return Ok(true);
        }
        self.rewrite(record, &mut page.body, &mut page.unreadable_dates)
            .map_err(|json::Malformed| reason::INVALID_JSON)?;
        Ok(true)
    }

    fn is_erased(&self, record: Value<'_>) -> bool {
        if self.markers.is_empty() {
            return false;
        }
        let key: Option<Vec<String>> = self
            .primary_key
            .iter()
            .map(|path| json::find(record, &path.0).ok().flatten().and_then(plain))
            .collect();
        key.is_some_and(|key| {
            self.markers
                .iter()
                .any(|marker| self.erased.contains(&marker.mark(&self.resource, &key)))
        })
    }

    fn is_expired(&self, record: Value<'_>) -> bool {
        let Some((path, before)) = &self.expired else {
            return false;
        };
        let value = json::find(record, &path.0).ok().flatten();
        let text = value.filter(|value| value.token == Token::String);
        text.and_then(plain)
            .and_then(|text| instant(text.as_bytes()))
            .is_some_and(|nanos| nanos < *before)
    }

    /// Writes a record that was found well-formed anew, without recursion.
    fn rewrite(
        &mut self,
        record: &[u8],
        out: &mut Vec<u8>,
        unreadable_dates: &mut u64,
    ) -> Result<(), json::Malformed> {
        self.states.clear();
        self.open.clear();
        for rule in 0..self.rules.len() {
            self.push_state(0, offset(rule), 0);
        }
        let root = View {
            from: 0,
            allowed: !self.has_only,
            change: None,
            known: self.known.as_ref().map(|_| 0),
        };
        let mut reader = Reader::new(record);
        reader.skip_space();
        let mark = out.len();
        self.enter(&mut reader, root, out, mark, 0..0);
        while let Some(open) = self.open.last() {
            let (close, view, until) = (open.close, open.view, open.until);
            if reader.peek() == Some(close) {
                reader.eat(close);
                self.leave(out);
                if let Some(outer) = self.open.last() {
                    next(&mut reader, outer.close);
                }
                continue;
            }
            // A value begins here, after its name if it stands in an object.
            let mark = out.len();
            let (name, view) = if close == b'}' {
                let start = reader.position();
                let name = reader.name()?;
                let name_range = start + 1..start + 1 + name.raw.len();
                match self.member(view, until, name, record, &reader) {
                    Some(view) => (Some(name_range), view),
                    None => {
                        reader.value()?;
                        self.states.truncate(until);
                        next(&mut reader, close);
                        continue;
                    }
                }
            } else {
                let from = self.states.len();
                self.states.extend_from_within(view.from..until);
                (None, View { from, ..view })
            };
            let is_container = matches!(reader.peek(), Some(b'{' | b'['));
            if !view.allowed && !is_container {
                reader.value()?;
                self.states.truncate(until);
                next(&mut reader, close);
                continue;
            }
            if let Some(open) = self.open.last_mut() {
                if !open.is_empty {
                    out.push(b',');
                }
                open.is_empty = false;
            }
            if let Some(name) = &name {
                out.push(b'"');
                out.extend_from_slice(record.get(name.clone()).unwrap_or_default());
                out.extend_from_slice(b"\":");
            }
            let is_plain = view.allowed
                && view.change.is_none()
                && view.known.is_none()
                && self.states.len() == view.from;
            if is_container && !is_plain {
                self.enter(&mut reader, view, out, mark, name.unwrap_or_default());
                continue;
            }
            let start = reader.position();
            let value = reader.value()?;
            match view.change {
                Some(change) if value.token != Token::Null => {
                    *unreadable_dates += u64::from(!self.alter(change, value.of(record), out));
                }
                _ => {
                    out.extend_from_slice(record.get(start..reader.position()).unwrap_or_default());
                }
            }
            self.states.truncate(until);
            next(&mut reader, close);
        }
        Ok(())
    }

    /// Steps into the list or object that stands next.
    fn enter(
        &mut self,
        reader: &mut Reader<'_>,
        view: View,
        out: &mut Vec<u8>,
        mark: usize,
        name: Range<usize>,
    ) {
        let (open, close) = match reader.peek() {
            Some(b'[') => (b'[', b']'),
            _ => (b'{', b'}'),
        };
        reader.eat(open);
        out.push(open);
        self.open.push(Open {
            close,
            view,
            until: self.states.len(),
            mark,
            is_empty: true,
            name,
        });
    }

    /// Ends the innermost list or object. One that was only passed through for what it might hold,
    /// and held nothing, leaves nothing.
    fn leave(&mut self, out: &mut Vec<u8>) {
        let Some(done) = self.open.pop() else { return };
        self.states.truncate(done.view.from);
        out.push(done.close);
        let Some(outer) = self.open.last_mut() else {
            return;
        };
        if done.is_empty && !done.view.allowed {
            out.truncate(done.mark);
            // The first value of a list or object has its bracket before it; all others a comma of
            // their own, which went with them.
            outer.is_empty = matches!(out.last(), Some(b'{' | b'['));
        }
    }

    /// What the rules say of a member, or `None` when it must not arrive. `reader` stands on its value.
    fn member(
        &mut self,
        outer: View,
        until: usize,
        name: Value<'_>,
        record: &[u8],
        reader: &Reader<'_>,
    ) -> Option<View> {
        let mut unescaped = Vec::new();
        let text = if name.escaped {
            json::unescape(name.raw, &mut unescaped, &mut 0).ok()?;
            unescaped.as_slice()
        } else {
            name.raw
        };
        let from = self.states.len();
        let mut view = View { from, ..outer };
        for at in outer.from..until {
            let Some(&State { rule, segment }) = self.states.get(at) else {
                break;
            };
            let step = self
                .rules
                .get(rule as usize)
                .and_then(|rule| rule.segments.get(segment as usize));
            match step {
                Some(Segment::Name(wanted)) if wanted.as_bytes() == text => {
                    self.push_state(from, rule, segment + 1);
                }
                Some(Segment::Any) => self.push_state(from, rule, segment + 1),
                Some(Segment::Deep) => self.push_state(from, rule, segment),
                Some(Segment::Name(_)) | None => {}
            }
        }
        let mut is_listed = false;
        for at in from..self.states.len() {
            let Some(&State { rule, segment }) = self.states.get(at) else {
                break;
            };
            let Some(rule) = self.rules.get(rule as usize) else {
                continue;
            };
            if rule.segments.len() == segment as usize {
                match rule.effect {
                    Effect::Exclude => return None,
                    Effect::Only => view.allowed = true,
                    // Hash rules come last: of two changes the one that hides more holds.
                    Effect::Change(change) => view.change = Some(change),
                }
                is_listed |= rule.effect != Effect::Exclude;
            }
        }
        // What has been met decides no more; without it a value may prove to need no looking into.
        let (rules, mut kept) = (&self.rules, from);
        for at in from..self.states.len() {
            let Some(&state) = self.states.get(at) else {
                break;
            };
            let is_met = rules
                .get(state.rule as usize)
                .is_none_or(|rule| rule.segments.len() == state.segment as usize);
            if !is_met {
                if let Some(slot) = self.states.get_mut(kept) {
                    *slot = state;
                }
                kept += 1;
            }
        }
        self.states.truncate(kept);
        if !view.allowed && !self.may_allow(from) {
            return None;
        }
        if is_listed {
            view.known = None;
        } else if let Some(node) = view.known {
            view.known = match self.known_member(node, text, reader.peek()) {
                Standing::Column => None,
                Standing::Around(node) => Some(node),
                Standing::Unknown => {
                    self.block(text, record);
                    return None;
                }
            };
        }
        Some(view)
    }

    /// Whether a rule that allows may still name something below.
    fn may_allow(&self, from: usize) -> bool {
        self.states
            .get(from..)
            .unwrap_or_default()
            .iter()
            .any(|state| {
                self.rules
                    .get(state.rule as usize)
                    .is_some_and(|rule| rule.effect == Effect::Only)
            })
    }

    /// What the member, whose value begins with `first`, is to the known fields.
    fn known_member(&self, node: usize, name: &[u8], first: Option<u8>) -> Standing {
        let nodes = self.known.as_ref().map_or(&[][..], |known| &known.nodes);
        let member = std::str::from_utf8(name)
            .ok()
            .and_then(|name| nodes.get(node)?.members.get(name));
        match member.and_then(|at| Some((*at, nodes.get(*at)?))) {
            Some((_, known)) if known.is_column => Standing::Column,
            Some((at, _)) if first == Some(b'{') => Standing::Around(at),
            Some((at, known)) if known.is_list && first == Some(b'[') => Standing::Around(at),
            // A field without a value makes no column.
            _ if first == Some(b'n') => Standing::Column,
            _ => Standing::Unknown,
        }
    }

    fn block(&mut self, name: &[u8], record: &[u8]) {
        if self.blocked.len() >= MAX_BLOCKED {
            return;
        }
        let mut path = Vec::new();
        // Elements of a list have no name.
        for open in self
            .open
            .iter()
            .skip(1)
            .filter(|open| !open.name.is_empty())
        {
            let name = record.get(open.name.clone()).unwrap_or_default();
            path.push(String::from_utf8_lossy(name).into_owned());
        }
        path.push(String::from_utf8_lossy(name).into_owned());
        let mut path = path.join(".");
        path.truncate(path.floor_char_boundary(MAX_TOLD));
        if self.blocked.insert(path.clone()) {
            self.untold.push(path);
        }
    }

    /// Adds a state and those that `**` reaches without a step, each once.
    fn push_state(&mut self, from: usize, rule: u32, mut segment: u32) {
        loop {
            let state = State { rule, segment };
            let known = self.states.get(from..).unwrap_or_default();
            if !known.contains(&state) {
                self.states.push(state);
            }
            let step = self
                .rules
                .get(rule as usize)
                .and_then(|rule| rule.segments.get(segment as usize));
            if step != Some(&Segment::Deep) {
                return;
            }
            segment += 1;
        }
    }

    /// Writes the changed value of a scalar. `false`: it was to be a date and is none.
    fn alter(&self, change: Change, value: Value<'_>, out: &mut Vec<u8>) -> bool {
        match (change, &self.hasher) {
            (Change::Hash { fold }, Some(hasher)) => {
                match plain(value) {
                    Some(text) if !text.is_empty() => {
                        out.push(b'"');
                        out.extend_from_slice(hasher.disguise(text.as_bytes(), fold).as_bytes());
                        out.push(b'"');
                    }
                    _ => out.extend_from_slice(b"\"\""),
                }
                true
            }
            // Without a key, which the configuration does not let happen, nothing is told.
            (Change::Hash { .. }, None) => {
                out.extend_from_slice(b"null");
                true
            }
            (Change::Year, _) => {
                let year = (value.token == Token::String)
                    .then(|| plain(value))
                    .flatten()
                    .and_then(|text| year(text.as_bytes()));
                match year {
                    Some(year) => out.extend_from_slice(year.to_string().as_bytes()),
                    None => out.extend_from_slice(b"null"),
                }
                year.is_some()
            }
        }
    }
}

/// The word for a column whose values are those of the API.
pub const AS_IS: &str = "as is";

/// What the rules do with the field at `path`, in words for the catalogue. `is_json`: objects and
/// lists are kept in it, of which the rules may name parts.
#[must_use]
pub fn treatment(privacy: &Privacy, path: &[&str], is_json: bool) -> String {
    let covered = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.covers(path));
    let reached = |pattern: &Pattern| pattern.reaches_below(path);
    let only = !privacy.only.is_empty() && !covered(&privacy.only);
    if covered(&privacy.exclude) || (only && !(is_json && privacy.only.iter().any(reached))) {
        return "excluded".to_owned();
    }
    let hash: Vec<&Pattern> = privacy.hash.iter().map(|rule| &rule.pattern).collect();
    if hash.iter().any(|pattern| pattern.covers(path)) {
        let id = privacy.keys.first().map_or("", |key| key.id.as_str());
        return format!("hashed {id}");
    }
    if covered(&privacy.year) {
        return "year only".to_owned();
    }
    let mut inside = privacy.exclude.iter().chain(&privacy.year).chain(hash);
    if is_json && (only || inside.any(reached)) {
        return "in part".to_owned();
    }
    AS_IS.to_owned()
}

/// The text that a scalar is hashed and compared by: equal for equal values, however they are spelled.
fn plain(value: Value<'_>) -> Option<String> {
    let mut text = Vec::new();
    match value.token {
        Token::String => json::unescape(value.raw, &mut text, &mut 0).ok()?,
        Token::Number => match Decimal::parse(value.raw) {
            Ok(number) => number.write_canonical(&mut text),
            Err(Misread::OutOfRange | Misread::Malformed) => text.extend_from_slice(value.raw),
        },
        Token::Boolean => text.extend_from_slice(value.raw),
        Token::Null | Token::Array | Token::Object => return None,
    }
    String::from_utf8(text).ok()
}

/// The key of a record as a person writes it, for [`Hasher::mark`]: `07` stays, `7.0` is 7.
#[must_use]
pub fn written_key(part: &str) -> String {
    let mut text = Vec::new();
    match Decimal::parse(part.as_bytes()) {
        Ok(number) => number.write_canonical(&mut text),
        Err(_) => return part.to_owned(),
    }
    String::from_utf8(text).unwrap_or_else(|_| part.to_owned())
}

fn year(text: &[u8]) -> Option<u32> {
    let digits = text.get(..4)?;
    let is_date = text.len() == 4 || time::date(text).is_some() || time::instant(text).is_some();
    if !is_date || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn instant(text: &[u8]) -> Option<i128> {
    match time::date(text) {
        Some(days) => Some(i128::from(days) * i128::from(time::DAY_SECONDS) * 1_000_000_000),
        None => time::instant(text).map(time::Instant::nanos),
    }
}

fn nanos(at: DateTime<Utc>) -> i128 {
    i128::from(at.timestamp()) * 1_000_000_000 + i128::from(at.timestamp_subsec_nanos())
}

/// Steps over the comma after a value, when there is one.
fn next(reader: &mut Reader<'_>, close: u8) {
    reader.skip_space();
    if reader.peek() != Some(close) {
        reader.eat(b',');
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value as Json, json};

    use super::*;
    use crate::config::Secret;
    use crate::config::privacy::HashRule;

    fn key(id: &str, secret: &str) -> PrivacyKey {
        PrivacyKey {
            id: id.to_owned(),
            secret: Secret::new(secret.to_owned()),
        }
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts
            .iter()
            .map(|text| Pattern::parse(text).unwrap())
            .collect()
    }

    fn rules(exclude: &[&str], only: &[&str], hash: &[&str], year: &[&str]) -> Privacy {
        let hash = patterns(hash).into_iter().map(|pattern| HashRule {
            pattern,
            fold: false,
        });
        Privacy {
            exclude: patterns(exclude),
            only: patterns(only),
            hash: hash.collect(),
            year: patterns(year),
            new_columns: NewColumns::Allow,
            keys: vec![key("k1", "0123456789abcdef")],
        }
    }

    fn screen(privacy: Privacy) -> Screen {
        Screen::new(ScreenSpec {
            privacy,
            ..ScreenSpec::default()
        })
        .unwrap()
    }

    fn whole(record: impl AsRef<[u8]>) -> Vec<Range<u32>> {
        std::iter::once(0..offset(record.as_ref().len())).collect()
    }

    fn through(privacy: Privacy, record: &str) -> String {
        let page = screen(privacy).page(record.as_bytes(), &whole(record));
        assert!(page.rejects.is_empty(), "{record}");
        String::from_utf8(page.body).unwrap()
    }

    #[test]
    fn excluded_fields_are_gone_wherever_they_stand() {
        for (exclude, record, left) in [
            ("ssn", r#"{"id":1,"ssn":"x"}"#, r#"{"id":1}"#),
            ("ssn", r#"{"ssn":"x","id":1}"#, r#"{"id":1}"#),
            ("ssn", r#"{"ssn":"x"}"#, "{}"),
            (
                "ssn",
                r#" { "ssn" : "x" , "id" : 1.50 } "#,
                r#"{"id":1.50}"#,
            ),
            ("ssn", r#"{"ssn":1,"id":1,"ssn":2}"#, r#"{"id":1}"#),
            ("ssn", r#"{"s\u0073n":"x","id":1}"#, r#"{"id":1}"#),
            ("ssn", r#"{"a":{"ssn":"x"}}"#, r#"{"a":{"ssn":"x"}}"#),
            (
                "*.ssn",
                r#"{"a":{"ssn":"x","b":2},"ssn":1}"#,
                r#"{"a":{"b":2},"ssn":1}"#,
            ),
            (
                "**.ssn",
                r#"{"a":{"b":{"ssn":"x"}},"ssn":1}"#,
                r#"{"a":{"b":{}}}"#,
            ),
            (
                "home.**",
                r#"{"home":{"street":"x"},"id":1}"#,
                r#"{"id":1}"#,
            ),
            ("home.**", r#"{"home":"x","id":1}"#, r#"{"id":1}"#),
            (
                "rows[].ssn",
                r#"{"rows":[{"ssn":"x","n":1},[{"ssn":"y"}],3]}"#,
                r#"{"rows":[{"n":1},[{}],3]}"#,
            ),
            (
                "m.*.v",
                r#"{"m":{"a":{"v":1,"w":2},"b":{"v":3}}}"#,
                r#"{"m":{"a":{"w":2},"b":{}}}"#,
            ),
            (
                "a.**.z",
                r#"{"a":{"b":{"z":1,"y":2}}}"#,
                r#"{"a":{"b":{"y":2}}}"#,
            ),
            (
                "['odd.key']",
                r#"{"odd.key":1,"odd":{"key":2}}"#,
                r#"{"odd":{"key":2}}"#,
            ),
            (
                "größe",
                r#"{"größe":1,"id":123456789012345678901234567890.10}"#,
                r#"{"id":123456789012345678901234567890.10}"#,
            ),
        ] {
            assert_eq!(
                through(rules(&[exclude], &[], &[], &[]), record),
                left,
                "{exclude}"
            );
        }
    }

    #[test]
    fn only_named_fields_arrive() {
        for (only, record, left) in [
            (&["id"][..], r#"{"id":1,"x":2,"y":{"id":3}}"#, r#"{"id":1}"#),
            (
                &["id", "work.title"],
                r#"{"work":{"pay":9,"title":"t"},"id":1}"#,
                r#"{"work":{"title":"t"},"id":1}"#,
            ),
            (
                &["id", "work.title"],
                r#"{"work":{"pay":9},"id":1}"#,
                r#"{"id":1}"#,
            ),
            (
                &["id", "work.title"],
                r#"{"work":"x","id":1}"#,
                r#"{"id":1}"#,
            ),
            (
                &["id", "work"],
                r#"{"work":{"pay":9},"id":1}"#,
                r#"{"work":{"pay":9},"id":1}"#,
            ),
            (
                &["rows.n"],
                r#"{"rows":[{"n":1,"s":2},"x",{"s":3}],"id":1}"#,
                r#"{"rows":[{"n":1}]}"#,
            ),
            (
                &["**.id"],
                r#"{"a":{"id":1,"b":2},"c":{"d":{"e":4}},"id":5}"#,
                r#"{"a":{"id":1},"id":5}"#,
            ),
        ] {
            assert_eq!(
                through(rules(&[], only, &[], &[]), record),
                left,
                "{only:?}"
            );
        }
        let both = rules(&["work.pay"], &["work"], &[], &[]);
        assert_eq!(
            through(both, r#"{"work":{"pay":9,"t":1},"x":2}"#),
            r#"{"work":{"t":1}}"#
        );
    }

    #[test]
    fn equal_values_are_hashed_alike_and_null_stays() {
        let hashed = |record: &str| -> Json {
            let text = through(rules(&[], &[], &["v", "l", "o"], &[]), record);
            serde_json::from_str(&text).unwrap()
        };
        let seven = hashed(r#"{"v":7}"#)["v"].clone();
        assert!(seven.as_str().unwrap().starts_with("k1:"));
        assert_eq!(seven.as_str().unwrap().len(), 67);
        for same in ["7.0", "\"7\"", "70e-1", "\"\\u0037\""] {
            assert_eq!(hashed(&format!(r#"{{"v":{same}}}"#))["v"], seven, "{same}");
        }
        for other in ["8", "\"07\"", "\" 7\"", "true"] {
            assert_ne!(
                hashed(&format!(r#"{{"v":{other}}}"#))["v"],
                seven,
                "{other}"
            );
        }
        assert_eq!(hashed(r#"{"v":null}"#), json!({"v": null}));
        assert_eq!(hashed(r#"{"v":""}"#), json!({"v": ""}));
        assert_eq!(
            hashed(r#"{"l":[7,{"a":7}],"o":{"x":"7"}}"#),
            json!({"l": [seven, {"a": seven}], "o": {"x": seven}})
        );
        let (one, two) = (
            Hasher::new(&key("k1", "0123456789abcdef")),
            Hasher::new(&key("k1", "fedcba9876543210")),
        );
        assert_ne!(one.disguise(b"7", false), two.disguise(b"7", false));
        assert_ne!(one.check_value(), two.check_value());
        assert_eq!(
            one.disguise(b" Anna@X.org ", true),
            one.disguise(b"anna@x.org", true)
        );
        assert_ne!(one.disguise(b"Anna", false), one.disguise(b"anna", false));
    }

    #[test]
    fn of_a_date_the_year_is_kept() {
        for (value, kept, unreadable) in [
            ("\"1987-03-05\"", "1987", 0),
            ("\"1987-03-05T10:00:00Z\"", "1987", 0),
            ("\"1987\"", "1987", 0),
            ("null", "null", 0),
            ("\"05.03.1987\"", "null", 1),
            ("541900800", "null", 1),
            ("\"\"", "null", 1),
        ] {
            let record = format!(r#"{{"born":{value}}}"#);
            let page =
                screen(rules(&[], &[], &[], &["born"])).page(record.as_bytes(), &whole(&record));
            assert_eq!(
                page.body,
                format!(r#"{{"born":{kept}}}"#).as_bytes(),
                "{value}"
            );
            assert_eq!(page.unreadable_dates, unreadable, "{value}");
        }
    }

    #[test]
    fn new_fields_are_blocked_and_told_once() {
        let privacy = Privacy {
            new_columns: NewColumns::Block,
            exclude: patterns(&["gone"]),
            only: Vec::new(),
            hash: rules(&[], &[], &["listed"], &[]).hash,
            ..rules(&[], &[], &[], &[])
        };
        let known = [&["name"][..], &["work", "title"], &["tags"]];
        let mut screen = Screen::new(ScreenSpec {
            privacy,
            primary_key: vec![DottedPath::parse("id").unwrap()],
            known: Some(
                known
                    .iter()
                    .map(|path| path.iter().map(|&name| name.to_owned()).collect())
                    .collect(),
            ),
            ..ScreenSpec::default()
        })
        .unwrap();
        let record = r#"{"id":1,"name":"a","work":{"title":"t","pay":9},"tags":[{"new":1}],"ssn":"x","none":null,"gone":1,"listed":""}"#;
        let page = screen.page(record.as_bytes(), &whole(record));
        assert_eq!(
            String::from_utf8(page.body).unwrap(),
            r#"{"id":1,"name":"a","work":{"title":"t"},"tags":[{"new":1}],"none":null,"listed":""}"#
        );
        assert_eq!(screen.take_blocked(), ["work.pay", "ssn"]);
        screen.page(record.as_bytes(), &whole(record));
        assert!(screen.take_blocked().is_empty());
    }

    #[test]
    fn what_is_no_record_becomes_a_reject_and_leaves_nothing() {
        for (record, why) in [
            (&b"[1]"[..], reason::NOT_AN_OBJECT),
            (b"{\"a\":\"\xff\"}", reason::INVALID_UTF8),
            (b"{\"a\":{\"x\":[1},\"ssn\":\"1\"}}", reason::INVALID_JSON),
            (b"{\"a\":1", reason::INVALID_JSON),
        ] {
            let page = screen(rules(&["ssn"], &[], &[], &[])).page(record, &whole(record));
            assert_eq!(page.rejects.len(), 1, "{why}");
            assert_eq!(page.rejects[0].reason, why);
            assert!(page.body.is_empty() && page.records.is_empty());
        }
    }

    #[test]
    fn erased_and_expired_records_are_left_out() {
        let hasher = Hasher::new(&key("k1", "0123456789abcdef"));
        let before = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z")
            .unwrap()
            .to_utc();
        let mut screen = Screen::new(ScreenSpec {
            privacy: rules(&[], &[], &["id"], &[]),
            resource: "hr/people".to_owned(),
            primary_key: vec![DottedPath::parse("id").unwrap()],
            erased: vec![("k1".to_owned(), hasher.mark("hr/people", &["7".to_owned()]))],
            expired: Some((DottedPath::parse("left.at").unwrap(), before)),
            ..ScreenSpec::default()
        })
        .unwrap();
        let records = [
            (r#"{"id":7}"#, false),
            (r#"{"id":"7"}"#, false),
            (r#"{"id":8}"#, true),
            (r#"{"id":8,"left":{"at":"2025-12-31"}}"#, false),
            (
                r#"{"id":8,"left":{"at":"2025-12-31T23:00:00-02:00"}}"#,
                true,
            ),
            (r#"{"id":8,"left":{"at":"never"}}"#, true),
            (r#"{"id":8,"left":{"at":null}}"#, true),
        ];
        for (record, kept) in records {
            let page = screen.page(record.as_bytes(), &whole(record));
            assert_eq!(page.records.len() == 1, kept, "{record}");
            assert_eq!(
                page.erased + page.expired + page.records.len() as u64,
                1,
                "{record}"
            );
        }
    }

    #[test]
    fn the_catalogue_says_what_happens() {
        let privacy = rules(&["home.**", "**.iban"], &[], &["email"], &["born"]);
        for (path, is_json, said) in [
            ("email", false, "hashed k1"),
            ("born", false, "year only"),
            ("home.street", false, "excluded"),
            ("name", false, AS_IS),
            ("accounts", true, "in part"),
        ] {
            let path: Vec<&str> = path.split('.').collect();
            assert_eq!(treatment(&privacy, &path, is_json), said, "{path:?}");
        }
        let only = rules(&[], &["id", "work.title"], &[], &[]);
        assert_eq!(treatment(&only, &["id"], false), AS_IS);
        assert_eq!(treatment(&only, &["name"], false), "excluded");
        assert_eq!(treatment(&only, &["work"], true), "in part");
    }

    /// What the rules leave of a value, worked out the slow and plain way.
    fn left(value: &Json, path: &[&str], privacy: &Privacy, allowed: bool) -> Option<Json> {
        let covered = |patterns: &[Pattern]| patterns.iter().any(|p| p.covers(path));
        if !path.is_empty() && covered(&privacy.exclude) {
            return None;
        }
        let allowed = allowed || covered(&privacy.only);
        let shell = |is_empty: bool| is_empty && !allowed && !path.is_empty();
        match value {
            Json::Object(members) => {
                let mut kept = Map::new();
                for (name, member) in members {
                    let path = [path, &[name.as_str()]].concat();
                    kept.extend(
                        left(member, &path, privacy, allowed).map(|value| (name.clone(), value)),
                    );
                }
                (!shell(kept.is_empty())).then_some(Json::Object(kept))
            }
            Json::Array(list) => {
                let kept: Vec<Json> = list
                    .iter()
                    .filter_map(|item| left(item, path, privacy, allowed))
                    .collect();
                (!shell(kept.is_empty())).then_some(Json::Array(kept))
            }
            _ => allowed.then(|| value.clone()),
        }
    }

    fn document() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            "[a-z\"\\\\\u{0}é]{0,6}".prop_map(Json::from),
        ];
        let value = leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::vec(("[abc]", inner), 0..4)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        });
        prop::collection::vec(("[abc]", value), 0..5)
            .prop_map(|members| Json::Object(members.into_iter().collect()))
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        prop::collection::vec(
            prop_oneof![4 => "[abc]", 1 => Just("*".to_owned()), 1 => Just("**".to_owned())],
            1..4,
        )
        .prop_map(|segments| Pattern::parse(&segments.join(".")).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn the_rules_leave_what_they_say(
            document in document(),
            exclude in prop::collection::vec(pattern(), 0..3),
            only in prop::collection::vec(pattern(), 0..3),
        ) {
            let privacy = Privacy { exclude, only, ..rules(&[], &[], &[], &[]) };
            let record = document.to_string();
            let Some(mut screen) = Screen::new(ScreenSpec { privacy: privacy.clone(), ..ScreenSpec::default() }) else {
                return Ok(());
            };
            let page = screen.page(record.as_bytes(), &whole(&record));
            let got: Json = serde_json::from_slice(&page.body).unwrap();
            let expected = left(&document, &[], &privacy, privacy.only.is_empty());
            prop_assert_eq!(Some(got), expected, "{:?}", privacy);
        }
    }
}
