//! The second look at a page: records into the tuples of a binary COPY.
//!
//! Encoding is hopeful. Only when a record has a new field or a value that does not fit does the
//! rest of the page become a survey of all that the columns must hold, and is then encoded anew: so
//! one page has one layout, and a page like the last one is read once.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use chrono::{DateTime, Utc};
use indexmap::IndexMap;

use super::hashed::HASHED_KEY_COLUMN;
use super::hint::{Hints, RuleId};
use super::json::{self, Token, Value};
use super::name::{self, Names};
use super::nest::{self, ChildRows, Nest};
use super::scan::{self, Beside, Scan, Wanted};
use super::stretch::{Bounds, CursorRule};
use super::time::Instant;
use super::tree::{FieldId, Tree, Unreadable};
use super::value::{self, Misfit, Reading, Sink};
use super::{Breach, Column, Declared, Kind, Layout, MAX_COLUMNS, Reject, SYSTEM_COLUMNS, reason};
use crate::config::{
    columns::{ColumnHint, Detect, Nul},
    contract::{Contract, Terms},
    endpoint::{DottedPath, Step},
    source::{Flag, HASHED_KEY, Version},
};

/// Times that a page is encoded: once in hope, once after a survey. The third is for a page that
/// defies the rules of widening, whose misfits then become rejects.
const MAX_PASSES: u32 = 3;
/// Changes that one record can ask for one after the other: a column, its kind, the next kind.
const MAX_CHANGES: u32 = 6;
/// Bytes of tuples that one page may become.
const MAX_ENCODED: usize = 1 << 30;
/// Bytes of a row that must stay in its 8 KiB block, less rosterd's own columns.
const MAX_ROW: usize = 8_000;
/// Up to this many columns no row can be too wide.
const ALWAYS_FITS: usize = 250;

/// How the records of one resource become rows.
#[derive(Debug, Clone, Default)]
pub struct MapSpec {
    /// Fields of the key, in order; empty where rows have none.
    pub primary_key: Vec<DottedPath>,
    /// Field of the cursor value.
    pub cursor_path: Option<DottedPath>,
    /// Which of two records with one key counts.
    pub version: Option<Version>,
    /// What says of a record that it is gone.
    pub flag: Option<Flag>,
    /// Fields without which a record cannot be a row, beside the key.
    pub required: Vec<DottedPath>,
    pub cursor: CursorRule,
    /// Columns of the table that are filled by others.
    pub reserved: Vec<String>,
    /// Records may leave out what they do not speak of.
    pub partial: bool,
    /// The field that alone decides whether a row is another one than before.
    pub row_version: Option<DottedPath>,
    /// `None`: objects become columns and lists JSON; 0: objects too stay JSON; N: N levels of lists
    /// become tables.
    pub max_table_nesting: Option<u32>,
    /// Name of the table, which those of its lists begin with.
    pub table: String,
    /// Rows with lists are told apart by their number in the run, and not by their key.
    pub numbered: bool,
    /// Seeds the row hashes: with another mapping every row counts as changed.
    pub mapping_version: u64,
    /// What the configuration says of columns, by name of column or field.
    pub columns: IndexMap<String, ColumnHint>,
    /// The same for the tables of lists, by the list's field.
    pub nested_hints: IndexMap<String, IndexMap<String, ColumnHint>>,
    /// Strings that stand for null where a column says nothing else.
    pub null_values: Vec<String>,
    pub detect: Detect,
    pub nul: Nul,
    /// What may become of the columns; open as long as the first load is not done.
    pub contract: Contract,
}

/// A column of the table whose type cannot become the one that the configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub table: String,
    pub column: String,
    pub found: Kind,
    pub wanted: Kind,
}

/// What rosterd writes into its own columns.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub run_id: i64,
    pub synced_at: DateTime<Utc>,
}

/// Rows as the tuples of a binary COPY, without its header and trailer.
pub struct Encoded {
    /// Per tuple: count of fields (`i16`), then length (`i32`, -1 for null) and bytes of each.
    pub data: Vec<u8>,
    /// Where in `data` each tuple stands.
    pub tuples: Vec<Range<u32>>,
    /// Position in [`Scan::rows`] of each tuple.
    pub rows: Vec<u32>,
    /// [`Layout::revision`] that the tuples follow.
    pub revision: u32,
    /// Columns of the layout, that is, fields of a tuple less [`SYSTEM_COLUMNS`].
    pub columns: usize,
    pub rejects: Vec<Reject>,
    /// NUL and lone surrogates that became U+FFFD or were left out.
    pub replaced: u64,
    /// Fields that stood twice in their record, of which the last counts.
    pub repeated: u64,
    /// Values that the contract left out of rows.
    pub discarded: u64,
    /// What a frozen contract does not give; nothing of this page is to be stored then.
    pub breach: Option<Breach>,
    /// Rows of the lists' tables.
    pub children: Vec<ChildRows>,
    /// Ids of the rows, parallel to `rows`, and their hashes, where lists have tables.
    pub roots: Vec<(String, [u8; 16])>,
}

impl fmt::Debug for Encoded {
    /// Counts only: the data is people's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded")
            .field("bytes", &self.data.len())
            .field("tuples", &self.tuples.len())
            .field("revision", &self.revision)
            .field("columns", &self.columns)
            .field("rejects", &self.rejects.len())
            .field("replaced", &self.replaced)
            .field("repeated", &self.repeated)
            .field("discarded", &self.discarded)
            .field("breach", &self.breach)
            .finish_non_exhaustive()
    }
}

/// Turns the pages of one resource into rows, its table's layout growing with what comes.
pub struct Mapper {
    spec: MapSpec,
    /// Which records become rows.
    bounds: Bounds,
    hints: Hints,
    nest: Option<Nest>,
    conflict: Option<Conflict>,
    layout: Layout,
    /// Parallel to the layout's columns.
    plan: Vec<Plan>,
    tree: Tree,
    names: Names,
    /// Columns of the table whose field is not known; a new field of that name takes it.
    waiting: Vec<Column>,
    /// Position of the column of each key part.
    keys: Vec<Option<usize>>,
    sink: Sink,
    /// Values of the record in hand that the contract leaves out.
    discarded: u64,
    breach: Option<Breach>,
    /// The layout is not what it was before the page.
    is_changed: bool,
    /// Every column with a type of the configuration is in the layout.
    awaits_none: bool,
    ratio: Ratio,
}

/// How many bytes of tuples a page became, to reserve about as much for the next.
#[derive(Clone, Copy, Default)]
struct Ratio {
    json: usize,
    tuples: usize,
}

impl Ratio {
    /// With a little more, so that pages that are nearly alike need no second piece of memory.
    fn expected(self, json: usize) -> usize {
        if self.json == 0 {
            return json / 2;
        }
        let tuples = json as u128 * self.tuples as u128 / self.json as u128;
        usize::try_from(tuples + tuples / 16).map_or(json, |tuples| tuples.min(MAX_ENCODED))
    }

    fn learn(&mut self, json: usize, tuples: usize) {
        if tuples > 0 {
            *self = Self { json, tuples };
        }
    }
}

#[derive(Clone, Copy)]
struct Plan {
    kind: Kind,
    origin: Origin,
    rule: Option<RuleId>,
}

/// Where a column's value comes from.
#[derive(Clone, Copy)]
enum Origin {
    Field(FieldId),
    /// A key part whose path goes through a list.
    KeyPart(usize),
    Overflow,
    /// The values of another column's field that do not fit that column, which cannot be altered.
    Variant(usize),
    /// The configuration names the column; no field for it has come so far.
    Awaited,
}

/// What a record needs before it fits.
enum Change {
    Add(FieldId, Kind),
    AddOverflow,
    AddVariant(usize, Kind),
    Widen(usize, Kind),
}

/// Why a record was not encoded.
enum Halt {
    Reject {
        reason: &'static str,
        path: Option<String>,
    },
    Change(Vec<Change>),
    Breach(Breach),
}

impl Halt {
    fn reject(reason: &'static str) -> Self {
        Self::Reject { reason, path: None }
    }
}

impl fmt::Debug for Mapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapper")
            .field("spec", &self.spec)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Mapper {
    /// `known`: the table's columns as they are now (from the catalogue), possibly none. A column
    /// with a path keeps it. One without waits, outside the layout, until a field comes whose name
    /// leads to it, so that columns made by hand are neither overwritten nor doubled.
    #[must_use]
    pub fn new(spec: MapSpec, mut known: Layout) -> Self {
        let nest = Nest::new(&spec, std::mem::take(&mut known.children));
        if nest.is_some() {
            known.columns.retain(|column| column.name != nest::ROW_ID);
            known.columns.insert(0, nest::root_id());
        }
        // Columns that this mapper does not fill, whatever the fields are called.
        let own = |name: &str| spec.reserved.iter().any(|reserved| reserved == name);
        known.columns.retain(|column| !own(&column.name));
        let is_hashed = |path: &DottedPath| path.keys() == [HASHED_KEY];
        if spec.primary_key.iter().any(is_hashed) {
            known
                .columns
                .retain(|column| column.name != HASHED_KEY_COLUMN);
            known.columns.insert(0, nest::hashed_key());
        }
        let hints = Hints::new(&spec.columns, &spec.null_values);
        let whole = hints.pinned().map(|(name, _)| name.to_owned()).collect();
        let reading = Reading {
            detect: spec.detect,
            nul: spec.nul,
        };
        let partial = spec.partial;
        let mut mapper = Self {
            tree: Tree::new(spec.max_table_nesting.filter(|levels| *levels == 0), whole),
            hints,
            nest,
            conflict: None,
            keys: vec![None; spec.primary_key.len()],
            spec,
            bounds: Bounds::default(),
            layout: Layout {
                revision: known.revision,
                partial,
                ..Layout::default()
            },
            plan: Vec::new(),
            names: Names::default(),
            waiting: Vec::new(),
            sink: Sink::new(reading),
            discarded: 0,
            breach: None,
            is_changed: false,
            awaits_none: false,
            ratio: Ratio::default(),
        };
        for name in &mapper.spec.reserved {
            mapper.names.take(name);
        }
        for column in known.columns {
            if column.path.is_empty() && column.name == name::OVERFLOW {
                mapper.push(column, Origin::Overflow);
            } else if let Some(base) = mapper.base_of(&column) {
                mapper.push(column, Origin::Variant(base));
            } else if !column.path.is_empty() {
                let part =
                    (0..mapper.keys.len()).find(|&part| mapper.key_path(part) == column.path);
                let origin = match part {
                    Some(part) => Some(mapper.key_origin(part)),
                    None => {
                        let path = column.path.iter().map(String::as_str);
                        mapper.tree.at(path).map(Origin::Field)
                    }
                };
                if let Some(origin) = origin {
                    mapper.push(column, origin);
                }
            } else if !name::is_reserved(&column.name) {
                mapper.waiting.push(column);
            }
        }
        for part in 0..mapper.keys.len() {
            let path = mapper.key_path(part);
            let mut place = mapper.layout.columns.iter().position(|c| c.path == path);
            if place.is_none()
                && let Some(column) = mapper.adopt(&name::of_path(&path))
            {
                let origin = mapper.key_origin(part);
                let path = path.clone();
                place = Some(mapper.push(Column { path, ..column }, origin));
            }
            if place.is_none()
                && let Some(kind) = mapper.hints.kind_of(&path)
            {
                let origin = mapper.key_origin(part);
                place = Some(mapper.add(path, kind, origin));
            }
            if let Some(key) = mapper.keys.get_mut(part) {
                *key = place;
            }
        }
        mapper.list_key();
        for column in &mut mapper.layout.columns {
            if nest::is_link(&column.path) {
                column.path.clear();
            }
        }
        if let Some(nest) = &mapper.nest {
            mapper.layout.children = nest.families();
        }
        mapper
    }

    /// The first column of the table or of those of its lists, if any, that the configuration wants to be of another type
    /// and that cannot be widened to it. Such a table is not to be written.
    #[must_use]
    pub fn conflict(&self) -> Option<&Conflict> {
        let nest = self.nest.as_ref();
        self.conflict.as_ref().or_else(|| nest?.conflict())
    }

    /// Whether the hints keep the field at `path` in one column, whatever it holds.
    pub(super) fn keeps_whole(&self, path: &[String]) -> bool {
        self.hints.kind_of(path).is_some()
    }

    /// The columns as they are now. Grows and widens in [`Mapper::encode`], its revision counting.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Takes only records within these bounds from now on.
    pub fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// First look at a page: keys, hashes, cursor. Cheap; changes nothing.
    ///
    /// Records are rejected that have no whole key; of those with the same key the last is kept.
    /// Cursor values above `cap` (the API's own time when the walk began) are counted, not used.
    #[must_use]
    pub fn scan(&self, body: &[u8], records: &[Range<u32>], cap: Option<DateTime<Utc>>) -> Scan {
        self.scan_beside(body, records, Beside::default(), cap)
    }

    /// [`Mapper::scan`] of a page of whose records more is known than stands in them.
    #[must_use]
    pub fn scan_beside(
        &self,
        body: &[u8],
        records: &[Range<u32>],
        beside: Beside<'_>,
        cap: Option<DateTime<Utc>>,
    ) -> Scan {
        let kinds: Vec<Option<Kind>> = self
            .keys
            .iter()
            .map(|place| Some(self.plan.get((*place)?)?.kind))
            .collect();
        let pinned: Vec<Option<&'static str>> = self
            .keys
            .iter()
            .map(|&place| match self.is_pinned(place?) {
                true => Some(reason::MISFIT),
                false if self.spec.contract.data_type == Terms::Evolve => None,
                false => Some(reason::CONTRACT_DATA_TYPE),
            })
            .collect();
        let wanted = Wanted {
            keys: &self.spec.primary_key,
            cursor: self.spec.cursor_path.as_ref(),
            version: self.spec.version.as_ref(),
            flag: self.spec.flag.as_ref(),
            required: &self.spec.required,
            rule: &self.spec.cursor,
            bounds: &self.bounds,
            row_version: self.spec.row_version.as_ref(),
            partial: self.spec.partial,
            seed: self.spec.mapping_version,
            beside,
            kinds: &kinds,
            pinned: &pinned,
            reading: self.sink.reading,
        };
        scan::scan(&wanted, body, records, cap)
    }

    /// Second look: the rows of `scan` for which `keep` says so, as tuples, each with the columns
    /// of [`Mapper::layout`] (as it is afterwards) and then [`SYSTEM_COLUMNS`].
    ///
    /// `body` and `records` are those that were scanned. A row that cannot be stored is a reject
    /// in the result and has no tuple. Memory: the tuples of one page, at most 1 GiB.
    pub fn encode(
        &mut self,
        body: &[u8],
        records: &[Range<u32>],
        scan: &Scan,
        keep: &[bool],
        stamp: Stamp,
    ) -> Encoded {
        let Some(mut nest) = self.nest.take() else {
            return self.encode_flat(body, records, scan, keep, stamp);
        };
        let mut keys: Vec<Option<u128>> = vec![None; records.len()];
        for (row, _) in scan.rows.iter().zip(keep).filter(|(_, keep)| **keep) {
            if let Some(key) = keys.get_mut(row.record as usize) {
                *key = Some(row.key);
            }
        }
        let serial = nest.serial();
        let key = |place: usize| keys.get(place).copied().flatten();
        let rooted = nest.unnest(&self.hints, body, records, stamp, key);
        let before = self.layout.children.clone();
        let mut encoded = self.encode_flat(&rooted.body, &rooted.records, scan, keep, stamp);
        if !encoded.rejects.is_empty() {
            // Records that are no rows have no rows of lists. The numbers must stay the same.
            nest.reset(serial);
            let accepted: HashSet<usize> = encoded
                .rows
                .iter()
                .filter_map(|&row| Some(scan.rows.get(row as usize)?.record as usize))
                .collect();
            nest.unnest_only(&self.hints, body, records, stamp, key, &accepted);
        }
        for &row in &encoded.rows {
            if let Some(row) = scan.rows.get(row as usize)
                && let Some(id) = rooted.ids.get(row.record as usize)
            {
                encoded.roots.push((id.clone(), row.hash.to_be_bytes()));
            }
        }
        let lists = nest.encode(stamp);
        encoded.children = lists.rows;
        encoded.doubt(scan, &lists.rejects);
        encoded
            .rejects
            .extend(lists.rejects.into_iter().map(|reject| {
                Reject {
                    key: (scan.rows.iter())
                        .position(|row| row.record as usize == reject.record)
                        .and_then(|row| scan.key_text(row)),
                    ..reject
                }
            }));
        encoded.replaced += lists.replaced;
        encoded.repeated += lists.repeated;
        encoded.discarded += lists.discarded;
        encoded.breach = encoded.breach.take().or(lists.breach);
        let families = nest.families();
        if families != before {
            self.layout.children = families;
            // One revision for the table and those of its lists.
            if encoded.revision == self.layout.revision && !self.is_changed {
                self.layout.revision += 1;
            }
            encoded.revision = self.layout.revision;
        }
        self.nest = Some(nest);
        encoded
    }

    fn encode_flat(
        &mut self,
        body: &[u8],
        records: &[Range<u32>],
        scan: &Scan,
        keep: &[bool],
        stamp: Stamp,
    ) -> Encoded {
        let kept = || {
            let rows = scan.rows.iter().enumerate().zip(keep);
            rows.filter(|(_, keep)| **keep).map(|(row, _)| row)
        };
        let record = |place: u32| {
            let range = records.get(place as usize).cloned().unwrap_or_default();
            body.get(range.start as usize..range.end as usize)
                .unwrap_or_default()
        };
        self.is_changed = false;
        if kept().next().is_some() {
            self.ensure_key(&scan.key_kinds);
            self.ensure_pinned();
        }
        let tail = tail(stamp);
        let mut done = Encoded::empty();
        for pass in 1..=MAX_PASSES {
            let is_last = pass == MAX_PASSES;
            let mut changed = false;
            done = Encoded::empty();
            self.sink.out.clear();
            let bytes: usize = kept().map(|(_, row)| record(row.record).len()).sum();
            self.sink.out.reserve(self.ratio.expected(bytes));
            for (place, row) in kept() {
                let start = self.sink.out.len();
                let replaced = std::mem::take(&mut self.sink.replaced);
                let result = self.settle(record(row.record), is_last, &mut changed);
                if self.breach.is_some() {
                    done = Encoded::empty();
                    break;
                }
                if let Err((reason, path)) = result {
                    self.sink.out.truncate(start);
                    self.sink.replaced = replaced;
                    done.rejects.push(Reject {
                        key: scan.key_text(place),
                        path,
                        reason,
                        record: row.record as usize,
                    });
                    continue;
                }
                self.sink.replaced += replaced;
                done.discarded += self.discarded;
                if changed {
                    // A survey from here on: the page is encoded anew, nothing of this is sent.
                    self.sink.out.clear();
                    continue;
                }
                self.sink.out.extend_from_slice(&tail);
                self.sink.bytes(&row.hash.to_be_bytes());
                if self.layout.partial {
                    let present = self.present();
                    self.sink.bytes(&present);
                }
                done.repeated += u64::from(self.tree.repeated());
                done.tuples.push(offset(start)..offset(self.sink.out.len()));
                done.rows.push(offset(place));
            }
            done.replaced = std::mem::take(&mut self.sink.replaced);
            if !changed || self.breach.is_some() {
                break;
            }
        }
        done.breach = self.breach.take();
        if self.is_changed {
            self.layout.revision += 1;
        }
        self.ratio.learn(
            kept().map(|(_, row)| record(row.record).len()).sum(),
            self.sink.out.len(),
        );
        done.data = std::mem::take(&mut self.sink.out);
        if done.data.capacity() - done.data.len() > done.data.len() / 8 {
            // Rows wait for their batch; room that they do not need would wait with them.
            done.data.shrink_to_fit();
        }
        done.revision = self.layout.revision;
        done.columns = self.plan.len();
        done
    }

    /// Writes one record as a tuple without its tail, changing the layout until it fits.
    fn settle(
        &mut self,
        record: &[u8],
        is_last: bool,
        changed: &mut bool,
    ) -> Result<(), (&'static str, Option<String>)> {
        let start = self.sink.out.len();
        if start > MAX_ENCODED {
            return Err((reason::PAGE_TOO_LARGE, None));
        }
        let replaced = self.sink.replaced;
        for _ in 0..MAX_CHANGES {
            self.sink.out.truncate(start);
            self.sink.replaced = replaced;
            self.discarded = 0;
            match self.write(record) {
                Ok(()) => {
                    if self.plan.len() > ALWAYS_FITS && self.is_too_wide(start) {
                        return Err((reason::ROW_TOO_WIDE, None));
                    }
                    return Ok(());
                }
                Err(Halt::Reject { reason, path }) => return Err((reason, path)),
                Err(Halt::Breach(breach)) => {
                    self.breach = Some(breach);
                    return Ok(());
                }
                Err(Halt::Change(_)) if is_last => break,
                Err(Halt::Change(changes)) => {
                    *changed = true;
                    for change in changes {
                        self.apply(change);
                    }
                }
            }
        }
        Err((reason::MISFIT, None))
    }

    /// Writes one record as a tuple without its tail, or says why not.
    fn write(&mut self, record: &[u8]) -> Result<(), Halt> {
        self.tree.read(record).map_err(|unreadable| {
            Halt::reject(match unreadable {
                Unreadable::Malformed => reason::INVALID_JSON,
                Unreadable::NotAnObject => reason::NOT_AN_OBJECT,
                Unreadable::TooManyFields => reason::TOO_MANY_FIELDS,
            })
        })?;
        let mut changes = Vec::new();
        let unplaced = self.tree.take_unplaced();
        let unplaced = self.admitted(record, unplaced)?;
        if !self.tree.is_full {
            for &field in &unplaced {
                changes.extend(self.new_field(record, field)?);
            }
        }
        let is_open = self.spec.contract.columns == Terms::Evolve;
        let has_strays = is_open && self.tree.has_strays();
        let overflow = if has_strays || (self.tree.is_full && !unplaced.is_empty()) {
            if !self.has_overflow() {
                changes.push(Change::AddOverflow);
            }
            Some(self.overflow(record, &unplaced))
        } else {
            None
        };
        let fields = self.plan.len() + SYSTEM_COLUMNS.len() + usize::from(self.layout.partial);
        let count = i16::try_from(fields).unwrap_or(i16::MAX);
        self.sink.out.extend_from_slice(&count.to_be_bytes());
        for place in 0..self.plan.len() {
            let Some(plan) = self.plan.get(place).copied() else {
                continue;
            };
            let value = match plan.origin {
                Origin::Field(field) => self.tree.value(record, field),
                Origin::KeyPart(part) => key_part(record, self.spec.primary_key.get(part)),
                Origin::Overflow => overflow.as_deref().map(|raw| Value {
                    token: Token::Object,
                    raw,
                    escaped: false,
                }),
                Origin::Variant(base) => {
                    let base = self.plan.get(base).copied();
                    base.and_then(|base| {
                        misfit(&self.tree, &self.hints, &mut self.sink, record, base)
                    })
                    .filter(|(_, kind)| *kind == plan.kind)
                    .map(|(value, _)| value)
                }
                Origin::Awaited => None,
            };
            let start = self.sink.out.len();
            let rule = plan.rule.and_then(|id| self.hints.rule(id));
            let written = match (rule, value) {
                (None, None) => {
                    self.sink.null();
                    Ok(())
                }
                (None, Some(value)) => self.sink.write(plan.kind, value),
                // The field may be among the changes, and the record is written again after them.
                (Some(_), None) if !changes.is_empty() => {
                    self.sink.null();
                    Ok(())
                }
                // What a part of a row does not speak of is not null.
                (Some(_), None) if self.layout.partial => {
                    self.sink.null();
                    Ok(())
                }
                (Some(rule), None) => rule.null(&mut self.sink),
                (Some(rule), Some(value)) => {
                    let is_key = self.layout.key.contains(&place);
                    rule.write(&mut self.sink, plan.kind, value, is_key)
                }
            };
            match written {
                Ok(()) => {}
                Err(Misfit::Widen(kind)) => {
                    let wider = plan.kind.join(kind);
                    match self.spec.contract.data_type {
                        Terms::Evolve if !self.has_variants(place) => {
                            changes.push(Change::Widen(place, wider));
                        }
                        terms => {
                            self.sink.out.truncate(start);
                            self.sink.null();
                            self.misfit_by(terms, place, wider, &mut changes)?;
                        }
                    }
                }
                Err(Misfit::Reject(reason)) => {
                    let path = self.field_of(place);
                    return Err(Halt::Reject { reason, path });
                }
            }
        }
        if changes.is_empty() {
            Ok(())
        } else {
            Err(Halt::Change(changes))
        }
    }

    /// What becomes of a value that its column cannot hold and that does not make the column wider.
    fn misfit_by(
        &mut self,
        terms: Terms,
        place: usize,
        wider: Kind,
        changes: &mut Vec<Change>,
    ) -> Result<(), Halt> {
        let has_place = self.plan.iter().any(|plan| {
            plan.kind == wider && matches!(plan.origin, Origin::Variant(base) if base == place)
        });
        match terms {
            _ if has_place => {}
            Terms::Evolve => {
                if self.declared_not_null(place) {
                    return Err(Halt::Reject {
                        reason: reason::MISFIT,
                        path: self.field_of(place),
                    });
                }
                changes.push(Change::AddVariant(place, wider));
            }
            Terms::Freeze => {
                return Err(Halt::Breach(Breach {
                    clause: "data_type",
                    table: self.spec.table.clone(),
                    field: self.field_of(place).unwrap_or_default(),
                }));
            }
            Terms::DiscardRow => {
                return Err(Halt::Reject {
                    reason: reason::CONTRACT_DATA_TYPE,
                    path: self.field_of(place),
                });
            }
            Terms::DiscardValue => self.discarded += 1,
        }
        Ok(())
    }

    /// The fields that may get columns, as the contract has it, of those that have none.
    fn admitted(&mut self, record: &[u8], fields: Vec<FieldId>) -> Result<Vec<FieldId>, Halt> {
        let terms = self.spec.contract.columns;
        if terms == Terms::Evolve {
            return Ok(fields);
        }
        let strays: Vec<Vec<String>> = self.tree.strays(record).map(|(path, _)| path).collect();
        let mut admitted = Vec::new();
        let mut refused = strays;
        for field in fields {
            let path = self.path(field);
            if self.is_expected(&path) {
                admitted.push(field);
            } else if !self.stands_for_null(record, field, &path) {
                refused.push(path);
            }
        }
        let Some(first) = refused.first() else {
            return Ok(admitted);
        };
        match terms {
            Terms::Evolve => {}
            Terms::DiscardValue => {
                self.discarded += u64::try_from(refused.len()).unwrap_or(u64::MAX);
            }
            Terms::Freeze => {
                return Err(Halt::Breach(Breach {
                    clause: "columns",
                    table: self.spec.table.clone(),
                    field: first.join("."),
                }));
            }
            Terms::DiscardRow => {
                return Err(Halt::Reject {
                    reason: reason::CONTRACT_COLUMNS,
                    path: Some(first.join(".")),
                });
            }
        }
        Ok(admitted)
    }

    /// Whether a field without a column is to get one whatever the contract says: the table has it
    /// already, or the configuration names it.
    fn is_expected(&self, path: &[String]) -> bool {
        let name = name::of_path(path);
        self.waiting.iter().any(|column| column.name == name)
            || self.awaited(path).is_some()
            || self.hints.kind_of(path).is_some()
    }

    fn stands_for_null(&self, record: &[u8], field: FieldId, path: &[String]) -> bool {
        let value = self.tree.value(record, field);
        let rule = self.hints.of_path(path).and_then(|id| self.hints.rule(id));
        rule.is_some_and(|rule| value.is_some_and(|value| rule.is_null(value)))
    }

    /// Path of a column's field, or the column's name where there is none.
    fn field_of(&self, place: usize) -> Option<String> {
        let column = self.layout.columns.get(place)?;
        Some(match column.path.is_empty() {
            true => column.name.clone(),
            false => column.path.join("."),
        })
    }

    fn declared_not_null(&self, place: usize) -> bool {
        let column = self.layout.columns.get(place);
        column.is_some_and(|column| column.declared.not_null)
    }

    /// Whether values that do not fit go to columns beside this one, as it cannot be altered. Once
    /// there are such columns they stay in use, so that one value has one place.
    fn has_variants(&self, place: usize) -> bool {
        !self.layout.key.contains(&place)
            && ((self.layout.columns.get(place)).is_some_and(|column| column.is_fixed)
                || self
                    .plan
                    .iter()
                    .any(|plan| matches!(plan.origin, Origin::Variant(base) if base == place)))
    }

    /// The column that `column` is a variant of: that of the same field, whose name it continues.
    fn base_of(&self, column: &Column) -> Option<usize> {
        if column.path.is_empty() {
            return None;
        }
        (self.layout.columns.iter()).position(|base| {
            base.path == column.path && column.name == name::variant(&base.name, column.kind)
        })
    }

    /// The column that a field without one would get. A value that no column can hold makes none,
    /// and neither does a text that stands for null.
    fn new_field(&mut self, record: &[u8], field: FieldId) -> Result<Option<Change>, Halt> {
        let start = self.sink.out.len();
        let value = self.tree.value(record, field);
        let rule = match self.hints.has_rules() {
            true => {
                let path = self.path(field);
                let id = self.hints.of_path(&path);
                id.and_then(|id| self.hints.rule(id))
            }
            false => None,
        };
        if let Some(rule) = rule {
            if value.is_some_and(|value| rule.is_null(value)) {
                return Ok(None);
            }
            if let Some(kind) = rule.kind {
                return Ok(Some(Change::Add(field, kind)));
            }
        }
        let reading = self.sink.reading;
        let kind = value.map_or(Ok(Kind::Jsonb), |value| {
            let kind = value::natural(value, reading)?;
            self.sink.write(kind, value).map(|()| kind)
        });
        self.sink.out.truncate(start);
        match kind {
            Ok(kind) => Ok(Some(Change::Add(field, kind))),
            Err(Misfit::Widen(_)) => Err(Halt::reject(reason::MISFIT)),
            Err(Misfit::Reject(reason)) => Err(Halt::Reject {
                reason,
                path: Some(self.tree.path(field).join(".")),
            }),
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Add(field, kind) => {
                if !self.tree.is_full {
                    let path = self.path(field);
                    self.add(path, kind, Origin::Field(field));
                }
            }
            Change::AddOverflow => {
                let column = Column {
                    name: name::OVERFLOW.to_owned(),
                    path: Vec::new(),
                    kind: Kind::Jsonb,
                    is_fixed: false,
                    declared: Declared::default(),
                };
                self.push(column, Origin::Overflow);
            }
            Change::AddVariant(base, kind) => {
                let Some(column) = self.layout.columns.get(base) else {
                    return;
                };
                let column = Column {
                    name: name::variant(&column.name, kind),
                    path: column.path.clone(),
                    kind,
                    is_fixed: false,
                    declared: Declared::default(),
                };
                let known = self.layout.columns.iter().any(|c| c.name == column.name);
                if !known && !self.tree.is_full {
                    self.waiting.retain(|waiting| waiting.name != column.name);
                    self.push(column, Origin::Variant(base));
                }
            }
            Change::Widen(place, kind) => self.widen(place, kind),
        }
    }

    /// Makes the key columns exist, first of all, in kinds that hold what the scan saw.
    fn ensure_key(&mut self, kinds: &[Kind]) {
        for (part, &kind) in kinds.iter().enumerate() {
            match self.keys.get(part).copied().flatten() {
                Some(place) => {
                    let known = self.plan.get(place).map_or(kind, |plan| plan.kind);
                    if !self.is_pinned(place) {
                        self.widen(place, known.join(kind));
                    }
                }
                None => {
                    let origin = self.key_origin(part);
                    let place = self.add(self.key_path(part), kind, origin);
                    if let Some(key) = self.keys.get_mut(part) {
                        *key = Some(place);
                    }
                }
            }
        }
        self.list_key();
    }

    /// Makes the columns exist that the configuration gives a type.
    fn ensure_pinned(&mut self) {
        if self.awaits_none {
            return;
        }
        self.awaits_none = true;
        let missing: Vec<(String, Kind)> = self
            .hints
            .pinned()
            .filter(|(name, _)| {
                !self
                    .layout
                    .columns
                    .iter()
                    .any(|column| is_named(column, name))
            })
            .map(|(name, kind)| (name.to_owned(), kind))
            .collect();
        for (name, kind) in missing {
            let path = [name];
            let name = self.names.assign(&path, |name| {
                self.waiting.iter().any(|column| column.name == name)
            });
            let column = self.adopt(&name).unwrap_or(Column {
                name,
                path: Vec::new(),
                kind,
                is_fixed: false,
                declared: Declared::default(),
            });
            self.push(column, Origin::Awaited);
        }
    }

    fn is_pinned(&self, place: usize) -> bool {
        let rule = self.plan.get(place).and_then(|plan| plan.rule);
        rule.and_then(|id| self.hints.rule(id))
            .is_some_and(|rule| rule.kind.is_some())
    }

    fn path(&self, field: FieldId) -> Vec<String> {
        let path = self.tree.path(field).into_iter();
        path.map(str::to_owned).collect()
    }

    fn list_key(&mut self) {
        let places: Option<Vec<usize>> = self.keys.iter().copied().collect();
        self.layout.key = places.unwrap_or_default();
    }

    /// Adds a column for `path`, or takes the one of the table that waits under its name.
    fn add(&mut self, path: Vec<String>, kind: Kind, origin: Origin) -> usize {
        if let Some(place) = self.awaited(&path) {
            if let Some(plan) = self.plan.get_mut(place) {
                plan.origin = origin;
            }
            if let Some(column) = self.layout.columns.get_mut(place) {
                column.path = path;
            }
            self.is_changed = true;
            self.tell_tree(place);
            return place;
        }
        let waiting = &self.waiting;
        let name = self.names.assign(&path, |name| {
            waiting.iter().any(|column| column.name == name)
        });
        let column = match self.adopt(&name) {
            Some(column) => Column { path, ..column },
            None => Column {
                name,
                path,
                kind,
                is_fixed: false,
                declared: Declared::default(),
            },
        };
        self.push(column, origin)
    }

    /// The column that waits for the field at `path`.
    fn awaited(&self, path: &[String]) -> Option<usize> {
        if self.hints.is_empty() {
            return None;
        }
        let plain = name::plain(path);
        (0..self.plan.len()).find(|&place| {
            let plan = self.plan.get(place);
            plan.is_some_and(|plan| matches!(plan.origin, Origin::Awaited))
                && (self.layout.columns.get(place)).is_some_and(|column| is_named(column, &plain))
        })
    }

    fn adopt(&mut self, name: &str) -> Option<Column> {
        let place = self.waiting.iter().position(|column| column.name == name)?;
        Some(self.waiting.swap_remove(place))
    }

    fn push(&mut self, mut column: Column, origin: Origin) -> usize {
        let place = self.plan.len();
        self.names.take(&column.name);
        let rule = match (origin, column.path.is_empty()) {
            (Origin::Overflow | Origin::Variant(_), _) => None,
            _ if nest::is_link(&column.path) => None,
            (_, true) => self.hints.of_name(&column.name),
            (_, false) => self.hints.of_path(&column.path),
        };
        if let Some(rule) = rule.and_then(|id| self.hints.rule(id)) {
            column.declared = rule.declared;
            if let Some(wanted) = rule.kind
                && wanted != column.kind
            {
                // Keys are compared with the table before it is changed.
                let is_key = (0..self.keys.len()).any(|part| self.key_path(part) == column.path);
                if is_key || column.kind.join(wanted) != wanted {
                    self.conflict.get_or_insert(Conflict {
                        table: self.spec.table.clone(),
                        column: column.name.clone(),
                        found: column.kind,
                        wanted,
                    });
                }
                column.kind = wanted;
            }
        }
        self.plan.push(Plan {
            kind: column.kind,
            origin,
            rule,
        });
        self.layout.columns.push(column);
        self.is_changed = true;
        self.tell_tree(place);
        self.tree.is_full = place + 1 >= MAX_COLUMNS;
        place
    }

    fn widen(&mut self, place: usize, kind: Kind) {
        if let Some(plan) = self.plan.get_mut(place) {
            self.is_changed |= plan.kind != kind;
            plan.kind = kind;
        }
        if let Some(column) = self.layout.columns.get_mut(place) {
            column.kind = kind;
        }
        self.tell_tree(place);
    }

    fn tell_tree(&mut self, place: usize) {
        if let Some(plan) = self.plan.get(place)
            && let Origin::Field(field) = plan.origin
        {
            self.tree
                .place(field, offset(place), plan.kind == Kind::Jsonb);
        }
    }

    fn key_path(&self, part: usize) -> Vec<String> {
        let steps = self.spec.primary_key.get(part).map(|path| &path.0);
        let steps = steps.into_iter().flatten().map(|step| match step {
            Step::Key(name) => name.clone(),
            Step::Index(index) => index.to_string(),
        });
        steps.collect()
    }

    fn key_origin(&mut self, part: usize) -> Origin {
        let path = self.spec.primary_key.get(part).map(|path| &path.0);
        let names: Option<Vec<&str>> = path
            .into_iter()
            .flatten()
            .map(|step| match step {
                Step::Key(name) => Some(name.as_str()),
                Step::Index(_) => None,
            })
            .collect();
        match names.and_then(|names| self.tree.at(names)) {
            Some(field) => Origin::Field(field),
            None => Origin::KeyPart(part),
        }
    }

    fn has_overflow(&self) -> bool {
        self.plan
            .iter()
            .any(|plan| matches!(plan.origin, Origin::Overflow))
    }

    /// The fields without a column as one JSON object. Its names are paths, joined by dots; a dot
    /// or backslash in a name is escaped by a backslash, so that no two paths are the same name.
    fn overflow(&self, record: &[u8], unplaced: &[FieldId]) -> Vec<u8> {
        let mut object = vec![b'{'];
        let fields = unplaced.iter().filter_map(|&field| {
            let path = self.tree.path(field).into_iter().map(str::to_owned);
            Some((path.collect(), self.tree.value(record, field)?))
        });
        for (path, value) in fields.chain(self.tree.strays(record)) {
            let path: Vec<String> = path;
            if object.len() > 1 {
                object.push(b',');
            }
            object.push(b'"');
            let parts: Vec<String> = path
                .iter()
                .map(|part| part.replace('\\', "\\\\").replace('.', "\\."))
                .collect();
            json::escape(&parts.join("."), &mut object);
            object.extend_from_slice(b"\":");
            let quote: &[u8] = if value.token == Token::String {
                b"\""
            } else {
                b""
            };
            object.extend_from_slice(quote);
            object.extend_from_slice(value.raw);
            object.extend_from_slice(quote);
        }
        object.push(b'}');
        object
    }

    /// A bit for each column that the record read last speaks of.
    fn present(&self) -> Vec<u8> {
        let mut bits = vec![0_u8; self.plan.len().div_ceil(8)];
        for place in (0..self.plan.len()).filter(|&place| self.speaks_of(place)) {
            if let Some(byte) = bits.get_mut(place / 8) {
                *byte |= 1 << (place % 8);
            }
        }
        bits
    }

    fn speaks_of(&self, place: usize) -> bool {
        match self.plan.get(place).map(|plan| plan.origin) {
            Some(Origin::Field(field)) => self.tree.speaks_of(field),
            Some(Origin::KeyPart(_)) => true,
            // What stands beside another column goes with it.
            Some(Origin::Variant(base)) => base != place && self.speaks_of(base),
            Some(Origin::Overflow) => self.tree.has_strays() || self.tree.is_full,
            Some(Origin::Awaited) | None => false,
        }
    }

    /// Whether the tuple from `start` on could not be made to fit a block of Postgres by moving
    /// its long values out. Padding as in the layout's order.
    fn is_too_wide(&self, start: usize) -> bool {
        let mut fields = self.sink.out.get(start + 2..).unwrap_or_default();
        let mut size = 24 + self.plan.len().div_ceil(8);
        for plan in &self.plan {
            let Some((head, rest)) = fields.split_first_chunk::<4>() else {
                return false;
            };
            let Ok(length) = usize::try_from(i32::from_be_bytes(*head)) else {
                fields = rest;
                continue;
            };
            size = match plan.kind {
                Kind::Boolean => size + 1,
                Kind::Date => size.next_multiple_of(4) + 4,
                Kind::BigInt | Kind::Double | Kind::Time | Kind::Timestamp | Kind::Timestamptz => {
                    size.next_multiple_of(8) + 8
                }
                Kind::Interval => size.next_multiple_of(8) + 16,
                // Moved out of the row, a value leaves 18 bytes; one below 24 is not moved.
                Kind::Numeric | Kind::Bytea | Kind::Text | Kind::Jsonb => {
                    size + (length + 1).min(24)
                }
            };
            fields = rest.get(length..).unwrap_or_default();
        }
        size > MAX_ROW
    }
}

impl Encoded {
    /// Turns the hashes of rows whose lists are not whole into others than the records have: such a
    /// row must not count as unchanged when it is next read.
    fn doubt(&mut self, scan: &Scan, rejects: &[Reject]) {
        let partial: HashSet<usize> = rejects.iter().map(|reject| reject.record).collect();
        if partial.is_empty() {
            return;
        }
        let rows = self.rows.iter().zip(&self.tuples).zip(&mut self.roots);
        for ((&row, tuple), (_, hash)) in rows {
            let record = scan.rows.get(row as usize).map(|row| row.record as usize);
            if !record.is_some_and(|record| partial.contains(&record)) {
                continue;
            }
            // The hash is the tuple's last field.
            let end = tuple.end as usize;
            let stored = self.data.get_mut(end.saturating_sub(hash.len())..end);
            for byte in stored.into_iter().flatten().chain(hash) {
                *byte = !*byte;
            }
        }
    }

    fn empty() -> Self {
        Self {
            data: Vec::new(),
            tuples: Vec::new(),
            rows: Vec::new(),
            revision: 0,
            columns: 0,
            rejects: Vec::new(),
            replaced: 0,
            repeated: 0,
            discarded: 0,
            breach: None,
            children: Vec::new(),
            roots: Vec::new(),
        }
    }
}

/// The value of a column's field when the column cannot hold it, and the kind that holds both. Writes nothing.
fn misfit<'r>(
    tree: &Tree,
    hints: &Hints,
    sink: &mut Sink,
    record: &'r [u8],
    plan: Plan,
) -> Option<(Value<'r>, Kind)> {
    let Origin::Field(field) = plan.origin else {
        return None;
    };
    let value = tree.value(record, field)?;
    let (start, replaced) = (sink.out.len(), sink.replaced);
    let written = match plan.rule.and_then(|id| hints.rule(id)) {
        Some(rule) => rule.write(sink, plan.kind, value, false),
        None => sink.write(plan.kind, value),
    };
    sink.out.truncate(start);
    sink.replaced = replaced;
    match written {
        Err(Misfit::Widen(kind)) => Some((value, plan.kind.join(kind))),
        Ok(()) | Err(Misfit::Reject(_)) => None,
    }
}

/// Whether the column has this name, before shortening, or would get it from its field.
fn is_named(column: &Column, plain: &str) -> bool {
    match column.path.is_empty() {
        true => column.name == name::of_path(&[plain.to_owned()]),
        false => name::plain(&column.path) == plain,
    }
}

fn key_part<'r>(record: &'r [u8], path: Option<&DottedPath>) -> Option<Value<'r>> {
    let whole = Value {
        token: Token::Object,
        raw: record.trim_ascii_start(),
        escaped: false,
    };
    json::find(whole, &path?.0).ok().flatten()
}

/// The fields of `_run_id` and `_synced_at`, the same in all tuples of a page.
fn tail(stamp: Stamp) -> Vec<u8> {
    let mut sink = Sink::default();
    let synced_at = Instant {
        seconds: stamp.synced_at.timestamp(),
        nanos: stamp.synced_at.timestamp_subsec_nanos(),
    };
    sink.eight(stamp.run_id);
    sink.eight(synced_at.postgres_micros());
    sink.out
}

/// Offsets and counts stay below 4 GiB, because [`MAX_ENCODED`] does.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
