//! From the tree to typed sections, with all problems noted on the way.
//!
//! A section is declared once, by [`section!`], [`variants!`] or [`words!`]. From that one
//! declaration come the decoder, the defaults, the JSON Schema, the reference in the README and the
//! effective configuration of `check --print`, so that none of them can fall behind the others.

mod declare;

mod scalars;

mod wrappers;

use indexmap::IndexMap;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

pub(super) use declare::{
    any_of, choice, object, property, section, tagged, variant, variants, word, words,
};
pub(super) use scalars::{Guarded, Period, Size};
pub(super) use wrappers::{Json, OneOrMany, Short, Tried};

use super::{
    problem::Problems,
    tree::{Content, Entry, Node, join},
};

/// Keys of dlt that have no meaning here, each with the rest of the sentence that refuses it.
pub(super) type Refused = &'static [(&'static str, &'static str)];

/// What may stand in the file.
pub(super) trait Decode: Sized {
    /// Reads a value that is not null. `None`: a problem was noted.
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self>;

    /// What a null stands for, where it is more than "not given".
    fn null() -> Option<Self> {
        None
    }

    /// The value as it would be written, without secrets.
    fn show(&self) -> Value;

    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// The entries of one section while they are taken out.
pub(super) struct Fields<'a> {
    node: &'a Node,
    map: Option<&'a IndexMap<String, Entry>>,
}

impl<'a> Fields<'a> {
    /// Opens a map and notes every key that is not in `known`. `refused`: keys that dlt has and rosterd has not, with the reason.
    pub(super) fn open(
        node: &'a Node,
        known: &[&str],
        refused: Refused,
        problems: &mut Problems,
    ) -> Option<Self> {
        let map = match &node.content {
            Content::Map(map) => Some(map),
            Content::Null => None,
            Content::Broken => return None,
            Content::Scalar(_) | Content::List(_) => {
                node.wrong(problems, "expected a map of keys and values");
                return None;
            }
        };
        for (key, entry) in map.into_iter().flatten() {
            if known.contains(&key.as_str()) {
                continue;
            }
            if let Some((_, why)) = refused.iter().find(|(name, _)| name == key) {
                if !entry.node.is_null() {
                    let message = format!("`{key}` {why}");
                    problems.push(&entry.key_place, &entry.node.path, message);
                }
                continue;
            }
            let message = match closest(
                key,
                known
                    .iter()
                    .copied()
                    .chain(refused.iter().map(|(name, _)| *name)),
            ) {
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None if known.is_empty() => "unknown key; none is known here".to_owned(),
                None => format!("unknown key; known here: {}", known.join(", ")),
            };
            problems.push(&entry.key_place, &entry.node.path, message);
        }
        Some(Self { node, map })
    }

    fn given(&self, key: &str) -> Option<&'a Node> {
        self.map?.get(key).map(|entry| &entry.node)
    }

    /// A key that may be left out. The outer `None`: a problem was noted.
    pub(super) fn optional<T: Decode>(
        &self,
        key: &str,
        problems: &mut Problems,
    ) -> Option<Option<T>> {
        match self.given(key) {
            Some(node) if !node.is_null() => T::decode(node, problems).map(Some),
            _ => Some(None),
        }
    }

    /// A key with a default. Null stands for the default, unless the type knows better.
    pub(super) fn defaulted<T: Decode>(
        &self,
        key: &str,
        default: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        match self.given(key) {
            Some(node) if !node.is_null() => return T::decode(node, problems),
            Some(_) => {
                if let Some(null) = T::null() {
                    return Some(null);
                }
            }
            None => {}
        }
        let node = Node::default_value(default, join(&self.node.path, key));
        match node.is_null() {
            true => T::null(),
            false => T::decode(&node, problems),
        }
    }

    /// A key that must be there. A section whose keys are all optional may be left out even so.
    pub(super) fn required<T: Decode>(&self, key: &str, problems: &mut Problems) -> Option<T> {
        match self.given(key) {
            Some(node) if !node.is_null() => T::decode(node, problems),
            _ => {
                self.node
                    .wrong(problems, format!("the key `{key}` is missing"));
                None
            }
        }
    }

    /// A section that is read as an empty one when it is left out.
    pub(super) fn section<T: Decode>(&self, key: &str, problems: &mut Problems) -> Option<T> {
        match self.given(key) {
            Some(node) => T::decode(node, problems),
            None => {
                let path = join(&self.node.path, key);
                T::decode(&Node::empty(self.node.place.clone(), path), problems)
            }
        }
    }
}

/// The known word that `word` was most likely meant to be.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters must be changed, added, taken out or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.to_lowercase().chars().take(64).collect();
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, &a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in to.iter().enumerate() {
            let mut best = (at(&last, j) + usize::from(a != b))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped =
                i > 0 && j > 0 && from.get(i - 1) == Some(&b) && to.get(j - 1) == Some(&a);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, to.len())
}
