//! Finds the records and the paginator's values in a body, in one pass and without copying.
//!
//! All wanted paths make one tree; the body is read along it, and whatever lies off the tree is
//! skipped. Skipping does not recurse, so nesting costs no stack. A generic JSON tree would need
//! several times the time and memory of the body.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::config::endpoint::{DottedPath, Step};

/// A value that a paginator reads from the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Total,
    HasMore,
    /// The next cursor or link.
    Next,
    /// The token that the next walk begins with.
    SyncToken,
}

/// The wanted paths as a tree.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    children: Vec<(Step, Self)>,
    slots: Vec<Slot>,
    records: bool,
}

impl Wanted {
    pub(super) fn records_at(&mut self, path: &[Step]) {
        self.at(path).records = true;
    }

    pub(super) fn slot_at(&mut self, slot: Slot, path: &DottedPath) {
        self.at(&path.0).slots.push(slot);
    }

    fn at(&mut self, path: &[Step]) -> &mut Self {
        let Some((step, rest)) = path.split_first() else {
            return self;
        };
        let place = self.children.iter().position(|(known, _)| known == step);
        let place = place.unwrap_or_else(|| {
            self.children.push((step.clone(), Self::default()));
            self.children.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found or pushed just above")]
        self.children[place].1.at(rest)
    }

    fn named(&self, name: &str) -> Option<&Self> {
        let mut children = self.children.iter();
        children.find_map(|(step, child)| {
            matches!(step, Step::Key(key) if key == name).then_some(child)
        })
    }

    fn indexed(&self) -> impl Iterator<Item = (i64, &Self)> {
        self.children.iter().filter_map(|(step, child)| match step {
            Step::Index(index) => Some((*index, child)),
            Step::Key(_) => None,
        })
    }
}

/// What was found; texts are parts of the body.
#[derive(Debug, Default)]
pub(super) struct Found<'de> {
    pub(super) records: Records<'de>,
    pub(super) total: Option<&'de RawValue>,
    pub(super) has_more: Option<&'de RawValue>,
    pub(super) next: Option<&'de RawValue>,
    pub(super) sync_token: Option<&'de RawValue>,
}

/// What stands at the records' path.
#[derive(Debug, Default)]
pub(super) enum Records<'de> {
    /// The path does not exist in this body.
    #[default]
    Missing,
    /// An array: its elements.
    List(Vec<&'de RawValue>),
    /// Anything else. The pass along the tree cannot tell where it begins and ends.
    Other,
    /// Anything else, as its whole text.
    One(&'de RawValue),
}

/// Reads `text` along `wanted`.
///
/// # Errors
///
/// The first fault of syntax, also in parts that nobody wanted, and trailing characters.
pub(super) fn scan<'de>(text: &'de str, wanted: &Wanted) -> Result<Found<'de>, serde_json::Error> {
    let mut found = Found::default();
    read(text, wanted, &mut found, Pass::First)?;
    if matches!(found.records, Records::Other) {
        // One object instead of a list: small, and rare enough to read twice.
        found.records = Records::Missing;
        read(text, wanted, &mut found, Pass::WholeRecords)?;
    }
    Ok(found)
}

fn read<'de>(
    text: &'de str,
    wanted: &Wanted,
    found: &mut Found<'de>,
    pass: Pass,
) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    Follow {
        wanted,
        found,
        pass,
    }
    .deserialize(&mut json)?;
    json.end()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    First,
    /// Take the value at the records' path as one piece.
    WholeRecords,
}

/// Reads one value that stands at `wanted`.
struct Follow<'f, 'de> {
    wanted: &'f Wanted,
    found: &'f mut Found<'de>,
    pass: Pass,
}

impl<'de> DeserializeSeed<'de> for Follow<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        let whole = self.wanted.records && self.pass == Pass::WholeRecords;
        if self.wanted.slots.is_empty() && !whole {
            return json.deserialize_any(self);
        }
        let Self {
            wanted,
            found,
            pass,
        } = self;
        let raw: &'de RawValue = serde::Deserialize::deserialize(json)?;
        for slot in &wanted.slots {
            match slot {
                Slot::Total => found.total = Some(raw),
                Slot::HasMore => found.has_more = Some(raw),
                Slot::Next => found.next = Some(raw),
                Slot::SyncToken => found.sync_token = Some(raw),
            }
        }
        if whole {
            found.records = Records::One(raw);
        }
        if (wanted.records && !whole) || !wanted.children.is_empty() {
            let mut inner = serde_json::Deserializer::from_str(raw.get());
            (&mut inner)
                .deserialize_any(Self {
                    wanted,
                    found,
                    pass,
                })
                .map_err(D::Error::custom)?;
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Follow<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self {
            wanted,
            found,
            pass,
        } = self;
        if wanted.records && pass == Pass::First {
            // Numbers of arbitrary precision come as maps too; the second pass sorts them out.
            found.records = Records::Other;
        }
        while let Some(child) = map.next_key_seed(ChildNamed(wanted))? {
            match child {
                Some(wanted) => map.next_value_seed(Follow {
                    wanted,
                    found: &mut *found,
                    pass,
                })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self {
            wanted,
            found,
            pass,
        } = self;
        if !wanted.records && wanted.indexed().next().is_none() {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let mut elements: Vec<&'de RawValue> = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        for (index, wanted) in wanted.indexed() {
            let place = if index < 0 {
                usize::try_from(index.unsigned_abs())
                    .ok()
                    .and_then(|back| elements.len().checked_sub(back))
            } else {
                usize::try_from(index).ok()
            };
            if let Some(element) = place.and_then(|place| elements.get(place)) {
                let mut inner = serde_json::Deserializer::from_str(element.get());
                Follow {
                    wanted,
                    found: &mut *found,
                    pass,
                }
                .deserialize(&mut inner)
                .map_err(A::Error::custom)?;
            }
        }
        if wanted.records && pass == Pass::First {
            found.records = Records::List(elements);
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.scalar();
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.scalar();
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.scalar();
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.scalar();
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.scalar();
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.scalar();
        Ok(())
    }
}

impl Follow<'_, '_> {
    fn scalar(self) {
        if self.wanted.records && self.pass == Pass::First {
            self.found.records = Records::Other;
        }
    }
}

/// Reads an object key and answers which wanted child it leads to.
struct ChildNamed<'w>(&'w Wanted);

impl<'w, 'de> DeserializeSeed<'de> for ChildNamed<'w> {
    type Value = Option<&'w Wanted>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for ChildNamed<'w> {
    type Value = Option<&'w Wanted>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(key))
    }
}
