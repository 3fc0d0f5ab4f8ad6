//! The fields that records have been seen to have, as a tree, and the values of the record in hand.
//!
//! Records of one endpoint name the same fields in the same order. So each field remembers which
//! one followed it last time, and that name is compared in place before anything is looked up.

use std::collections::{HashMap, HashSet};

use super::json::{Extent, Malformed, Reader, Token, Value, unescape};
use super::name;

/// Levels of objects that are flattened; what is deeper is kept as JSON.
const MAX_LEVELS: u32 = 64;
/// Fields remembered, with or without a column. What is beyond goes to the overflow column.
const MAX_FIELDS: usize = 8_192;
/// Of these, fields that never had a value.
const MAX_EMPTY_FIELDS: usize = 2_048;
/// Longer names are data, not names; they too go to the overflow column.
const MAX_NAME: usize = 512;
/// Names that may stand twice in one record. Each repetition undoes what the last one set, which
/// is work that a hostile record must not multiply.
const MAX_REPEATED: u32 = 1_000;
/// Values of one record that may go to the overflow column.
const MAX_STRAYS: usize = 65_536;

/// Position of a field in the tree.
pub(super) type FieldId = u32;
type NodeId = u32;
const NONE: u32 = u32::MAX;
const ROOT: NodeId = 0;

struct Field {
    name: Box<str>,
    /// The name can be compared with the record's bytes as it is.
    plain: bool,
    /// The object that it stands in.
    home: NodeId,
    /// The field that followed it in the last record.
    next: FieldId,
    /// Its members, when it was an object.
    members: NodeId,
    column: Option<u32>,
    /// The column is `jsonb`.
    json: bool,
    /// A column stands at some depth below it.
    columns_below: bool,
    /// Its column takes every value as it is, objects too.
    whole: bool,
}

struct Node {
    /// The field whose object this is; `NONE` for the record.
    owner: FieldId,
    first: FieldId,
    index: HashMap<Box<str>, FieldId>,
}

/// What the record in hand has for a field. Valid only while `epoch` is that of the record.
#[derive(Clone, Copy)]
struct Slot {
    epoch: u32,
    /// Epoch in which the field was listed as having no column.
    listed: u32,
    /// An object that went into its members leaves no value.
    value: Option<Extent>,
    /// It is such an object.
    is_open: bool,
}

/// A value whose field is not remembered.
struct Stray {
    home: NodeId,
    name: Vec<u8>,
    value: Extent,
}

/// Why a record could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    Malformed,
    NotAnObject,
    /// Names stand twice, or fields without a column stand there, beyond all measure.
    TooManyFields,
}

impl From<Malformed> for Unreadable {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

pub(super) struct Tree {
    fields: Vec<Field>,
    nodes: Vec<Node>,
    slots: Vec<Slot>,
    epoch: u32,
    /// Objects at this level and deeper stay JSON.
    levels: u32,
    /// No more columns can be had.
    pub(super) is_full: bool,
    unplaced: Vec<FieldId>,
    strays: Vec<Stray>,
    repeated: u32,
    /// Names (before shortening) of columns that take objects whole.
    whole: HashSet<String>,
}

impl Tree {
    /// `levels`: how many levels of objects are flattened; `None`: as many as possible. `whole`:
    /// names, before shortening, of the columns whose objects are never flattened.
    pub(super) fn new(levels: Option<u32>, whole: HashSet<String>) -> Self {
        Self {
            whole,
            fields: Vec::new(),
            nodes: vec![Node::new(NONE)],
            slots: Vec::new(),
            epoch: 0,
            levels: levels.map_or(MAX_LEVELS, |levels| levels.min(MAX_LEVELS)),
            is_full: false,
            unplaced: Vec::new(),
            strays: Vec::new(),
            repeated: 0,
        }
    }

    /// The field at `path`, remembered from now on. `None` for the empty path.
    pub(super) fn at<'p>(&mut self, path: impl IntoIterator<Item = &'p str>) -> Option<FieldId> {
        let mut node = ROOT;
        let mut field = None;
        for name in path {
            if let Some(parent) = field {
                node = self.members(parent);
            }
            let known = self
                .node(node)
                .and_then(|node| node.index.get(name))
                .copied();
            field = Some(known.unwrap_or_else(|| self.remember(node, name)));
        }
        field
    }

    /// Says that `field` has a column now, or that the kind of it changed.
    pub(super) fn place(&mut self, field: FieldId, column: u32, json: bool) {
        if let Some(field) = self.field_mut(field) {
            field.column = Some(column);
            field.json = json;
        }
        let mut owner = self.owner(field);
        while let Some(id) = owner {
            if let Some(field) = self.field_mut(id) {
                field.columns_below = true;
            }
            owner = self.owner(id);
        }
    }

    /// Names from the record's root down to `field`.
    pub(super) fn path(&self, field: FieldId) -> Vec<&str> {
        let mut path = Vec::new();
        let mut next = Some(field);
        while let Some(id) = next {
            path.extend(self.field(id).map(|field| &*field.name));
            next = self.owner(id);
        }
        path.reverse();
        path
    }

    /// Reads a record; its values are then to be had from [`Tree::value`].
    pub(super) fn read(&mut self, record: &[u8]) -> Result<(), Unreadable> {
        if self.epoch == u32::MAX {
            for slot in &mut self.slots {
                slot.epoch = 0;
                slot.listed = 0;
            }
            self.epoch = 0;
        }
        self.epoch += 1;
        self.unplaced.clear();
        self.strays.clear();
        self.repeated = 0;
        let mut reader = Reader::new(record);
        reader.skip_space();
        if reader.peek() != Some(b'{') {
            return Err(Unreadable::NotAnObject);
        }
        self.object(&mut reader, ROOT, 0, true)?;
        if reader.is_done() {
            Ok(())
        } else {
            Err(Unreadable::Malformed)
        }
    }

    /// The value of `field` in the record that was read last.
    pub(super) fn value<'r>(&self, record: &'r [u8], field: FieldId) -> Option<Value<'r>> {
        let slot = self.slots.get(field as usize)?;
        if slot.epoch != self.epoch {
            return None;
        }
        slot.value.map(|extent| extent.of(record))
    }

    /// Whether the record that was read last says what `field` is: a value, null, or that there is
    /// no object for it to stand in.
    pub(super) fn speaks_of(&self, field: FieldId) -> bool {
        let slot = |id: FieldId| {
            let slot = self.slots.get(id as usize);
            slot.filter(|slot| slot.epoch == self.epoch)
        };
        let above = std::iter::successors(self.owner(field), |&id| self.owner(id));
        slot(field).is_some() || above.filter_map(slot).any(|slot| !slot.is_open)
    }

    /// How often a name stood twice in the record that was read last.
    pub(super) fn repeated(&self) -> u32 {
        self.repeated
    }

    /// Takes the fields that have a value in this record but no column, in their order.
    pub(super) fn take_unplaced(&mut self) -> Vec<FieldId> {
        let epoch = self.epoch;
        let mut unplaced = std::mem::take(&mut self.unplaced);
        unplaced.retain(|&id| {
            self.slots
                .get(id as usize)
                .is_some_and(|slot| slot.epoch == epoch && slot.value.is_some())
                && self.field(id).is_some_and(|field| field.column.is_none())
        });
        unplaced
    }

    /// Whether the record has values whose fields are not remembered.
    pub(super) fn has_strays(&self) -> bool {
        !self.strays.is_empty()
    }

    /// The values of fields that are not remembered, with their paths.
    pub(super) fn strays<'r>(
        &self,
        record: &'r [u8],
    ) -> impl Iterator<Item = (Vec<String>, Value<'r>)> {
        self.strays.iter().map(move |stray| {
            let mut path: Vec<String> = Vec::new();
            if let Some(node) = self.node(stray.home)
                && node.owner != NONE
            {
                path.extend(self.path(node.owner).into_iter().map(str::to_owned));
            }
            path.push(String::from_utf8_lossy(&stray.name).into_owned());
            (path, stray.value.of(record))
        })
    }

    /// `learn`: fields not known yet are remembered or kept as strays; otherwise passed over.
    fn object(
        &mut self,
        reader: &mut Reader<'_>,
        node: NodeId,
        level: u32,
        learn: bool,
    ) -> Result<(), Unreadable> {
        if !reader.eat(b'{') {
            return Err(Unreadable::Malformed);
        }
        if reader.peek() == Some(b'}') {
            reader.eat(b'}');
            return Ok(());
        }
        let mut previous = NONE;
        loop {
            let expected = if previous == NONE {
                self.node(node).map_or(NONE, |node| node.first)
            } else {
                self.field(previous).map_or(NONE, |field| field.next)
            };
            let found = if self.eat_name(reader, expected) {
                Some(expected)
            } else {
                // One optional field left out is the common surprise; what follows it is known.
                let second = self.field(expected).map_or(NONE, |field| field.next);
                if self.eat_name(reader, second) {
                    Some(second)
                } else {
                    let name = reader.name()?;
                    let found = self.look_up(reader, node, name, learn)?;
                    if let Some(id) = found {
                        self.expect_after(node, previous, id);
                    }
                    found
                }
            };
            match found {
                Some(id) => {
                    self.member(reader, id, level, learn)?;
                    previous = id;
                }
                None => {
                    reader.value()?;
                }
            }
            if !reader.more(b'}')? {
                return Ok(());
            }
        }
    }

    fn eat_name(&self, reader: &mut Reader<'_>, field: FieldId) -> bool {
        self.field(field)
            .is_some_and(|field| field.plain && reader.eat_name(field.name.as_bytes()))
    }

    fn expect_after(&mut self, node: NodeId, previous: FieldId, field: FieldId) {
        if previous == NONE {
            if let Some(node) = self.nodes.get_mut(node as usize) {
                node.first = field;
            }
        } else if let Some(previous) = self.field_mut(previous) {
            previous.next = field;
        }
    }

    /// The field called `name`, new or not, the reader standing on its value. `None`: the value
    /// is to be passed over (a stray has been noted if it counts).
    fn look_up(
        &mut self,
        reader: &Reader<'_>,
        node: NodeId,
        name: Value<'_>,
        learn: bool,
    ) -> Result<Option<FieldId>, Unreadable> {
        let mut unescaped = Vec::new();
        let bytes = if name.escaped {
            unescape(name.raw, &mut unescaped, &mut 0)?;
            &unescaped
        } else {
            name.raw
        };
        let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::Malformed)?;
        let known = self
            .node(node)
            .and_then(|node| node.index.get(text))
            .copied();
        if known.is_some() || !learn {
            return Ok(known);
        }
        let is_null = reader.peek() == Some(b'n');
        let room = if is_null {
            MAX_EMPTY_FIELDS
        } else {
            MAX_FIELDS
        };
        if self.fields.len() < room && text.len() <= MAX_NAME && !self.is_full {
            return Ok(Some(self.remember(node, text)));
        }
        if !is_null {
            if self.strays.len() >= MAX_STRAYS {
                return Err(Unreadable::TooManyFields);
            }
            let mut ahead = reader.fork();
            let value = ahead.value()?;
            self.strays.push(Stray {
                home: node,
                name: bytes.to_vec(),
                value,
            });
        }
        Ok(None)
    }

    fn member(
        &mut self,
        reader: &mut Reader<'_>,
        id: FieldId,
        level: u32,
        learn: bool,
    ) -> Result<(), Unreadable> {
        let Some(field) = self.fields.get(id as usize) else {
            return Err(Unreadable::Malformed);
        };
        let (column, members) = (field.column, field.members);
        // A column of JSON takes an object whole, unless objects have been flattened beside it.
        let flatten = level < self.levels && !field.whole && (field.columns_below || !field.json);
        let (epoch, listed) = match self.slots.get(id as usize) {
            Some(slot) => (slot.epoch, slot.listed),
            None => (0, 0),
        };
        if epoch == self.epoch {
            // The name stands twice: the last one counts, and nothing of the first is left.
            self.repeated += 1;
            if self.repeated > MAX_REPEATED {
                return Err(Unreadable::TooManyFields);
            }
            self.forget(members);
        }
        let is_open = flatten && reader.peek() == Some(b'{');
        let value = if reader.peek() != Some(b'{') {
            let value = reader.value()?;
            (value.token != Token::Null).then_some(value)
        } else if flatten {
            let members = self.members(id);
            self.object(reader, members, level + 1, learn)?;
            None
        } else {
            let start = reader.position();
            if members == NONE {
                reader.value()?;
            } else {
                // Only a key stands in there that has a column of its own.
                self.object(reader, members, level + 1, false)?;
            }
            Some(reader.extent(Token::Object, start))
        };
        let mut slot = Slot {
            epoch: self.epoch,
            listed,
            value,
            is_open,
        };
        if column.is_none() && learn && value.is_some() && listed != self.epoch {
            slot.listed = self.epoch;
            self.unplaced.push(id);
        }
        if let Some(place) = self.slots.get_mut(id as usize) {
            *place = slot;
        }
        Ok(())
    }

    /// Undoes what the record in hand set below `node`.
    fn forget(&mut self, node: NodeId) {
        if self.node(node).is_none() {
            return;
        }
        self.strays.retain(|stray| stray.home != node);
        let fields: Vec<FieldId> = self
            .node(node)
            .map(|node| node.index.values().copied().collect())
            .unwrap_or_default();
        for id in fields {
            if let Some(slot) = self.slots.get_mut(id as usize)
                && slot.epoch == self.epoch
            {
                slot.epoch = 0;
                let members = self.field(id).map_or(NONE, |field| field.members);
                self.forget(members);
            }
        }
    }

    fn remember(&mut self, home: NodeId, name: &str) -> FieldId {
        let id = u32::try_from(self.fields.len()).unwrap_or(NONE);
        self.fields.push(Field {
            name: name.into(),
            plain: !name
                .bytes()
                .any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')),
            home,
            next: NONE,
            members: NONE,
            column: None,
            json: false,
            columns_below: false,
            whole: false,
        });
        self.slots.push(Slot {
            epoch: 0,
            listed: 0,
            is_open: false,
            value: None,
        });
        if let Some(node) = self.nodes.get_mut(home as usize) {
            node.index.insert(name.into(), id);
        }
        if !self.whole.is_empty() {
            let path: Vec<String> = self.path(id).into_iter().map(str::to_owned).collect();
            let whole = self.whole.contains(&name::plain(&path));
            if let Some(field) = self.field_mut(id) {
                field.whole = whole;
            }
        }
        id
    }

    fn members(&mut self, field: FieldId) -> NodeId {
        let fresh = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        let Some(known) = self.field_mut(field) else {
            return NONE;
        };
        if known.members != NONE {
            return known.members;
        }
        known.members = fresh;
        self.nodes.push(Node::new(field));
        fresh
    }

    fn owner(&self, field: FieldId) -> Option<FieldId> {
        let home = self.field(field)?.home;
        let owner = self.node(home)?.owner;
        (owner != NONE).then_some(owner)
    }

    fn field(&self, id: FieldId) -> Option<&Field> {
        self.fields.get(id as usize)
    }

    fn field_mut(&mut self, id: FieldId) -> Option<&mut Field> {
        self.fields.get_mut(id as usize)
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id as usize)
    }
}

impl Node {
    fn new(owner: FieldId) -> Self {
        Self {
            owner,
            first: NONE,
            index: HashMap::new(),
        }
    }
}
