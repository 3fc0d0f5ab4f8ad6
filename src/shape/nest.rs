//! Lists of a record taken apart into records of tables of their own.
//!
//! A list's elements become records like any other, made of the element's bytes and of links to
//! where it stood, and go through a mapper of their own. So a child table has types, names and
//! evolution by the same rules as its parent. Ids are hashes of the root's key and the place in
//! the record: reading the same record again gives the same ids.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use indexmap::IndexMap;
use xxhash_rust::xxh3::xxh3_128;

use super::encode::{Conflict, Encoded, MapSpec, Mapper, Stamp};
use super::hashed::HASHED_KEY_COLUMN;
use super::hint::Hints;
use super::json::{Extent, Malformed, Reader, Token, unescape};
use super::{Breach, Column, Declared, Family, Kind, Layout, Reject, name};
use crate::config::{
    columns::ColumnHint,
    contract::{Contract, Terms},
    endpoint::{DottedPath, Step},
    source::HASHED_KEY,
};

/// Tables that the lists of one resource get; lists beyond stay JSON.
const MAX_TABLES: usize = 100;
/// Levels of objects that are looked into for lists, as for columns.
const MAX_LEVELS: usize = 64;
/// Step of a path from a list to its elements.
pub const ELEMENT: &str = "[]";
/// Name of the row's id, in the root table and in its child tables.
pub const ROW_ID: &str = "_rosterd_id";
/// Id of the row that the list belongs to, in its table.
const PARENT_ID: &str = "_rosterd_parent_id";
/// Id of the row of the root table.
pub const ROOT_ID: &str = "_rosterd_root_id";
/// Position in the list, from 0.
const LIST_INDEX: &str = "_rosterd_list_idx";

/// Names that the links have in the records made here. No API has fields with a control character
/// in front; should one have, ours stands last and counts.
const ID_FIELD: &str = "\u{1}id";
const LINKS: [(&str, &str, Kind); 4] = [
    (ROW_ID, ID_FIELD, Kind::Text),
    (PARENT_ID, "\u{1}parent", Kind::Text),
    (ROOT_ID, "\u{1}root", Kind::Text),
    (LIST_INDEX, "\u{1}index", Kind::BigInt),
];

/// Whether a field is one of the links.
pub(super) fn is_link(path: &[String]) -> bool {
    path.first().is_some_and(|name| name.starts_with('\u{1}'))
}

/// The column of a key that is a hash of the record.
pub(super) fn hashed_key() -> Column {
    link(&(HASHED_KEY_COLUMN, HASHED_KEY, Kind::Text), false)
}

/// The column of a root table that its child tables refer to.
pub(super) fn root_id() -> Column {
    link(&LINKS[0], true)
}

fn link((name, field, kind): &(&str, &str, Kind), unique: bool) -> Column {
    Column {
        name: (*name).to_owned(),
        path: vec![(*field).to_owned()],
        kind: *kind,
        is_fixed: false,
        declared: Declared {
            unique,
            ..Declared::default()
        },
    }
}

/// The child tables of one resource.
pub(super) struct Nest {
    spec: MapSpec,
    levels: u32,
    tables: Vec<Child>,
    by_path: HashMap<Vec<String>, usize>,
    names: Vec<String>,
    /// Rows that were numbered, where rows have no key to tell them apart.
    serial: u64,
    /// Lists of the page that the contract left out.
    discarded: u64,
    breach: Option<Breach>,
}

/// Where a list goes.
enum Home {
    Table(usize),
    Column,
    Nowhere,
}

struct Child {
    path: Vec<String>,
    table: String,
    mapper: Mapper,
    page: Page,
}

#[derive(Default)]
struct Page {
    body: Vec<u8>,
    records: Vec<Range<u32>>,
    /// Place in the root's page of the record that each stood in.
    roots: Vec<usize>,
}

/// Rows of one child table.
#[derive(Debug, Clone)]
pub struct ChildRows {
    /// Position in [`Layout::children`].
    pub family: usize,
    pub data: Vec<u8>,
    pub tuples: Vec<Range<u32>>,
}

/// The rows of all child tables of a page.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) rows: Vec<ChildRows>,
    pub(super) rejects: Vec<Reject>,
    pub(super) replaced: u64,
    pub(super) repeated: u64,
    /// Lists and values that the contract left out.
    pub(super) discarded: u64,
    pub(super) breach: Option<Breach>,
}

/// A page of root records without their lists.
pub(super) struct Rooted {
    pub(super) body: Vec<u8>,
    pub(super) records: Vec<Range<u32>>,
    /// Parallel to `records`; empty where the record was left out.
    pub(super) ids: Vec<String>,
}

impl Nest {
    pub(super) fn new(spec: &MapSpec, known: Vec<Family>) -> Option<Self> {
        let levels = spec.max_table_nesting.filter(|levels| *levels > 0)?;
        let mut nest = Self {
            spec: spec.clone(),
            levels,
            tables: Vec::new(),
            by_path: HashMap::new(),
            names: vec![spec.table.clone()],
            serial: 0,
            discarded: 0,
            breach: None,
        };
        for family in known {
            nest.add(family.path, Some((family.table, family.layout.columns)));
        }
        Some(nest)
    }

    /// The child tables with their columns as they are now.
    pub(super) fn families(&self) -> Vec<Family> {
        let tables = self.tables.iter();
        tables
            .map(|child| Family {
                table: child.table.clone(),
                path: child.path.clone(),
                layout: child.mapper.layout().clone(),
            })
            .collect()
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn reset(&mut self, serial: u64) {
        self.serial = serial;
        self.discarded = 0;
    }

    /// [`Nest::unnest`] again, keeping the rows of lists only of `accepted` records.
    pub(super) fn unnest_only(
        &mut self,
        hints: &Hints,
        body: &[u8],
        records: &[Range<u32>],
        stamp: Stamp,
        row: impl Fn(usize) -> Option<u128>,
        accepted: &HashSet<usize>,
    ) {
        self.take(hints, body, records, stamp, row, |place| {
            accepted.contains(&place)
        });
    }

    /// Takes the lists out of the records for which `row` gives their key's hash.
    pub(super) fn unnest(
        &mut self,
        hints: &Hints,
        body: &[u8],
        records: &[Range<u32>],
        stamp: Stamp,
        row: impl Fn(usize) -> Option<u128>,
    ) -> Rooted {
        self.take(hints, body, records, stamp, row, |_| true)
    }

    fn take(
        &mut self,
        hints: &Hints,
        body: &[u8],
        records: &[Range<u32>],
        stamp: Stamp,
        row: impl Fn(usize) -> Option<u128>,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Rooted {
        for child in &mut self.tables {
            child.page = Page::default();
        }
        let mut rooted = Rooted {
            body: Vec::with_capacity(body.len() + 48 * records.len()),
            records: Vec::with_capacity(records.len()),
            ids: Vec::with_capacity(records.len()),
        };
        for (place, range) in records.iter().enumerate() {
            let start = rooted.body.len();
            let mut id = String::new();
            if let Some(key) = row(place) {
                let record = body
                    .get(range.start as usize..range.end as usize)
                    .unwrap_or_default();
                let number = if self.spec.numbered {
                    self.serial += 1;
                    let mut seed = stamp.run_id.to_be_bytes().to_vec();
                    seed.extend_from_slice(&self.serial.to_be_bytes());
                    xxh3_128(&seed)
                } else {
                    key
                };
                if !is_wanted(place) {
                    rooted.records.push(offset(start)..offset(start));
                    rooted.ids.push(id);
                    continue;
                }
                let mut out = Vec::with_capacity(record.len() + 48);
                let mut work = Work {
                    nest: self,
                    hints,
                    root: number,
                    place,
                };
                let mut path = Vec::new();
                id = hex(number);
                match work.object(record, number, &mut path, 0, Owner::ROOT, &mut out) {
                    Ok(()) => {
                        finish(&mut out, &[(ID_FIELD, format!("\"{id}\""))]);
                        rooted.body.extend_from_slice(&out);
                    }
                    // The mapper says what is wrong with it.
                    Err(Malformed) => rooted.body.extend_from_slice(record),
                }
            }
            rooted
                .records
                .push(offset(start)..offset(rooted.body.len()));
            rooted.ids.push(id);
        }
        rooted
    }

    /// Encodes what [`Nest::unnest`] found. Elements that cannot be stored are rejects.
    pub(super) fn encode(&mut self, stamp: Stamp) -> Lists {
        let mut lists = Lists {
            discarded: std::mem::take(&mut self.discarded),
            breach: self.breach.take(),
            ..Lists::default()
        };
        for (family, child) in self.tables.iter_mut().enumerate() {
            let page = std::mem::take(&mut child.page);
            if page.records.is_empty() {
                continue;
            }
            let scan = child.mapper.scan(&page.body, &page.records, None);
            let keep = vec![true; scan.rows.len()];
            let encoded: Encoded =
                child
                    .mapper
                    .encode(&page.body, &page.records, &scan, &keep, stamp);
            lists.replaced += encoded.replaced;
            lists.repeated += encoded.repeated;
            lists.discarded += encoded.discarded;
            lists.breach = lists.breach.take().or(encoded.breach);
            let place = child.path.join(".");
            lists.rejects.extend(
                scan.rejects
                    .into_iter()
                    .chain(encoded.rejects)
                    .map(|reject| Reject {
                        path: Some(match reject.path {
                            Some(path) => format!("{place}.{ELEMENT}.{path}"),
                            None => format!("{place}.{ELEMENT}"),
                        }),
                        // Of the record that people know, not of the element.
                        key: None,
                        record: page.roots.get(reject.record).copied().unwrap_or_default(),
                        reason: reject.reason,
                    }),
            );
            lists.rows.push(ChildRows {
                family,
                data: encoded.data,
                tuples: encoded.tuples,
            });
        }
        lists
    }

    /// The table for the lists at `path`, made when there is none yet.
    fn table(&mut self, path: &[String]) -> Home {
        if let Some(&known) = self.by_path.get(path) {
            return Home::Table(known);
        }
        match self.spec.contract.tables {
            Terms::Evolve if self.tables.len() < MAX_TABLES => {
                Home::Table(self.add(path.to_vec(), None))
            }
            Terms::Evolve => Home::Column,
            Terms::DiscardRow | Terms::DiscardValue => {
                self.discarded += 1;
                Home::Nowhere
            }
            Terms::Freeze => {
                self.breach.get_or_insert_with(|| Breach {
                    clause: "tables",
                    table: self.spec.table.clone(),
                    field: path.join("."),
                });
                Home::Nowhere
            }
        }
    }

    /// What the configuration says of the lists at `path`.
    fn hints_of(&self, path: &[String]) -> IndexMap<String, ColumnHint> {
        let field = name::list_parts(path).join(".");
        self.spec
            .nested_hints
            .get(&field)
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn conflict(&self) -> Option<&Conflict> {
        self.tables.iter().find_map(|child| child.mapper.conflict())
    }

    fn add(&mut self, path: Vec<String>, known: Option<(String, Vec<Column>)>) -> usize {
        // A table that this run makes takes its columns as they come, as the root table did.
        let contract = match known {
            Some(_) => self.spec.contract,
            None => Contract::default(),
        };
        let (table, columns) = known.unwrap_or_else(|| {
            let parts = name::list_parts(&path);
            let table = name::child_table(&self.spec.table, &parts, &path, &self.names);
            (table, Vec::new())
        });
        self.names.push(table.clone());
        let mut layout = Layout::default();
        let own = LINKS.iter().map(|one| link(one, false));
        layout.columns.extend(own);
        layout.columns.extend(
            columns
                .into_iter()
                .filter(|column| !column.name.starts_with("_rosterd")),
        );
        let spec = MapSpec {
            primary_key: vec![DottedPath(vec![Step::Key(ID_FIELD.to_owned())])],
            max_table_nesting: None,
            mapping_version: self.spec.mapping_version,
            null_values: self.spec.null_values.clone(),
            detect: self.spec.detect,
            nul: self.spec.nul,
            columns: self.hints_of(&path),
            table: table.clone(),
            contract,
            ..MapSpec::default()
        };
        let place = self.tables.len();
        self.by_path.insert(path.clone(), place);
        self.tables.push(Child {
            path,
            table,
            mapper: Mapper::new(spec, layout),
            page: Page::default(),
        });
        place
    }
}

/// The table that the object in hand is a row of.
#[derive(Debug, Clone, Copy)]
struct Owner {
    /// Lists that the object stands in.
    level: u32,
    /// `None`: the root table.
    table: Option<usize>,
    /// Steps from the root to the row's own fields.
    base: usize,
}

impl Owner {
    const ROOT: Self = Self {
        level: 0,
        table: None,
        base: 0,
    };
}

/// The taking apart of one record.
struct Work<'n> {
    nest: &'n mut Nest,
    hints: &'n Hints,
    root: u128,
    /// Position of the root's record in its page.
    place: usize,
}

impl Work<'_> {
    /// Copies an object without its lists and without its closing bracket.
    fn object(
        &mut self,
        object: &[u8],
        parent: u128,
        path: &mut Vec<String>,
        depth: usize,
        owner: Owner,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        out.push(b'{');
        for (name, text, value) in members(object)? {
            let raw = object
                .get(value.start as usize..value.end as usize)
                .unwrap_or_default();
            path.push(text);
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            out.push(b'"');
            out.extend_from_slice(name);
            out.extend_from_slice(b"\":");
            let is_whole = self.keeps_whole(path, owner);
            match value.token {
                Token::Object if depth < MAX_LEVELS && !is_whole => {
                    self.object(raw, parent, path, depth + 1, owner, out)?;
                    out.push(b'}');
                }
                Token::Array if owner.level < self.nest.levels && !is_whole => {
                    match self.nest.table(path) {
                        Home::Table(table) => {
                            self.list(raw, table, parent, path, owner.level)?;
                            out.extend_from_slice(b"null");
                        }
                        Home::Column => out.extend_from_slice(raw),
                        Home::Nowhere => out.extend_from_slice(b"null"),
                    }
                }
                Token::String => {
                    out.push(b'"');
                    out.extend_from_slice(raw);
                    out.push(b'"');
                }
                _ => out.extend_from_slice(raw),
            }
            path.pop();
        }
        Ok(())
    }

    /// Whether a column of the row takes the field at `path` as it is.
    fn keeps_whole(&self, path: &[String], owner: Owner) -> bool {
        match owner.table {
            None => self.hints.kind_of(path).is_some(),
            Some(table) => {
                let own = path.get(owner.base..).unwrap_or_default();
                let table = self.nest.tables.get(table);
                table.is_some_and(|child| child.mapper.keeps_whole(own))
            }
        }
    }

    fn list(
        &mut self,
        list: &[u8],
        table: usize,
        parent: u128,
        path: &mut Vec<String>,
        level: u32,
    ) -> Result<(), Malformed> {
        let mut seed = parent.to_be_bytes().to_vec();
        for part in path.iter() {
            seed.extend_from_slice(&part.len().to_be_bytes());
            seed.extend_from_slice(part.as_bytes());
        }
        path.push(ELEMENT.to_owned());
        let owner = Owner {
            level: level + 1,
            table: Some(table),
            base: path.len(),
        };
        let stem = seed.len();
        for (index, element) in elements(list)?.into_iter().enumerate() {
            seed.truncate(stem);
            seed.extend_from_slice(&index.to_be_bytes());
            let id = xxh3_128(&seed);
            let raw = list
                .get(element.start as usize..element.end as usize)
                .unwrap_or_default();
            let mut out = Vec::with_capacity(raw.len() + 160);
            match element.token {
                Token::Object => self.object(raw, id, path, 0, owner, &mut out)?,
                token => {
                    // What is no object is given a name, as in dlt.
                    let (name, quote): (&[u8], &[u8]) = match token {
                        Token::Array => (b"list", b""),
                        Token::String => (b"value", b"\""),
                        _ => (b"value", b""),
                    };
                    let parts: [&[u8]; 6] = [b"{\"", name, b"\":", quote, raw, quote];
                    let mut wrapped = parts.concat();
                    wrapped.push(b'}');
                    self.object(&wrapped, id, path, 0, owner, &mut out)?;
                }
            }
            let quoted = |id| format!("\"{}\"", hex(id));
            finish(
                &mut out,
                &[
                    (ID_FIELD, quoted(id)),
                    ("\u{1}parent", quoted(parent)),
                    ("\u{1}root", quoted(self.root)),
                    ("\u{1}index", index.to_string()),
                ],
            );
            if let Some(child) = self.nest.tables.get_mut(table) {
                let start = child.page.body.len();
                child.page.body.extend_from_slice(&out);
                child
                    .page
                    .records
                    .push(offset(start)..offset(child.page.body.len()));
                child.page.roots.push(self.place);
            }
        }
        path.pop();
        Ok(())
    }
}

/// Adds the links to an object and closes it.
fn finish(out: &mut Vec<u8>, links: &[(&str, String)]) {
    for (field, value) in links {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.push(b'"');
        super::json::escape(field, out);
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'}');
}

/// A member: its name as it stands, what that means, and its value.
pub(super) type Member<'a> = (&'a [u8], String, Extent);

/// The members of an object. Of names that stand twice the last counts.
pub(super) fn members(object: &[u8]) -> Result<Vec<Member<'_>>, Malformed> {
    let mut members: Vec<Member<'_>> = Vec::new();
    let mut last: HashMap<String, usize> = HashMap::new();
    let mut reader = Reader::new(object);
    reader.skip_space();
    if !reader.eat(b'{') {
        return Err(Malformed);
    }
    if reader.peek() == Some(b'}') {
        return Ok(members);
    }
    loop {
        let name = reader.name()?;
        let value = reader.value()?;
        let mut text = Vec::with_capacity(name.raw.len());
        unescape(name.raw, &mut text, &mut 0)?;
        let text = String::from_utf8(text).map_err(|_| Malformed)?;
        let member = (name.raw, text.clone(), value);
        match last.get(&text).and_then(|&place| members.get_mut(place)) {
            Some(known) => *known = member,
            None => {
                last.insert(text, members.len());
                members.push(member);
            }
        }
        if !reader.more(b'}')? {
            return Ok(members);
        }
    }
}

pub(super) fn elements(list: &[u8]) -> Result<Vec<Extent>, Malformed> {
    let mut elements = Vec::new();
    let mut reader = Reader::new(list);
    if !reader.eat(b'[') {
        return Err(Malformed);
    }
    if reader.peek() == Some(b']') {
        return Ok(elements);
    }
    loop {
        elements.push(reader.value()?);
        if !reader.more(b']')? {
            return Ok(elements);
        }
    }
}

fn hex(id: u128) -> String {
    format!("{id:032x}")
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
