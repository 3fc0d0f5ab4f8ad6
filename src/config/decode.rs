//! From the tree to typed sections, with all problems noted on the way.
//!
//! A section is declared once, by [`section!`], [`variants!`] or [`words!`]. From that one
//! declaration come the decoder, the defaults, the JSON Schema, the reference in the README and the
//! effective configuration of `check --print`, so that none of them can fall behind the others.

use std::{
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use chrono_tz::Tz;
use indexmap::IndexMap;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};
use url::Url;

use super::{
    Secret,
    endpoint::DottedPath,
    problem::Problems,
    tree::{Content, Entry, Filled, MASK, Node},
    units,
};

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
    /// Opens a map and notes every key that is not in `known`. `later`: keys that dlt has and rosterd does not yet.
    pub(super) fn open(
        node: &'a Node,
        known: &[&str],
        later: &[&str],
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
            if later.contains(&key.as_str()) {
                if !entry.node.is_null() {
                    let message = format!("`{key}` is not supported yet");
                    problems.push(&entry.key_place, &entry.node.path, message);
                }
                continue;
            }
            let message = match closest(key, known.iter().chain(later).copied()) {
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
        let node = Node::default_value(default, super::tree::join(&self.node.path, key));
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
                let path = super::tree::join(&self.node.path, key);
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

/// Declares a section of the file: a map with known keys.
///
/// `key: Type` may be left out (`Option<Type>`), `key: Type = "default"` has a default, written as in the
/// file, `key: Type; required` must be there, `key: Type; section` is a section that may be left out whole.
/// `later [...]` lists keys of dlt that are refused as not supported yet.
macro_rules! section {
    (
        $(#[doc = $doc:expr])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $field_doc:expr])* $field:ident : $ty:ty $(= $default:literal)? $(; $mode:ident)? , )*
        }
        $( later [ $( $later:literal ),* $(,)? ] )?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $( $(#[doc = $field_doc])* $vis $field: $crate::config::decode::section!(@type $ty $(, $default)? $(; $mode)?), )*
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                node: &$crate::config::tree::Node,
                problems: &mut $crate::config::problem::Problems,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[ $( stringify!($field) ),* ];
                const LATER: &[&str] = &[ $( $( $later ),* )? ];
                let fields = $crate::config::decode::Fields::open(node, KEYS, LATER, problems)?;
                // All are decoded before the first `?`: every problem is to be found.
                $( let $field = $crate::config::decode::section!(@take fields, problems, $field, $ty $(, $default)? $(; $mode)?); )*
                let _ = &fields;
                Some(Self { $( $field: $field? ),* })
            }

            fn show(&self) -> serde_json::Value {
                let entries: Vec<Option<(String, serde_json::Value)>> = vec![ $(
                    $crate::config::decode::section!(@show self.$field, $field $(, $default)? $(; $mode)?)
                ),* ];
                serde_json::Value::Object(entries.into_iter().flatten().collect())
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).trim_end_matches("File").into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let _ = &generator;
                let properties: Vec<(&str, schemars::Schema)> = vec![ $( (
                    stringify!($field),
                    $crate::config::decode::property(
                        <$ty as $crate::config::decode::Decode>::schema(generator),
                        &[ $( $field_doc ),* ],
                        $crate::config::decode::section!(@default $(, $default)?),
                        $crate::config::decode::section!(@required $field $(; $mode)?).is_some_and(|_: &str| true),
                    ),
                ) ),* ];
                let required: Vec<Option<&str>> = vec![ $( $crate::config::decode::section!(@required $field $(; $mode)?) ),* ];
                let required: Vec<&str> = required.into_iter().flatten().collect();
                $crate::config::decode::object(&[ $( $doc ),* ], properties, &required)
            }
        }
    };

    (@type $ty:ty) => { Option<$ty> };
    (@type $ty:ty, $default:literal) => { $ty };
    (@type $ty:ty; $mode:ident) => { $ty };

    (@take $fields:ident, $problems:ident, $field:ident, $ty:ty) => {
        $fields.optional::<$ty>(stringify!($field), $problems)
    };
    (@take $fields:ident, $problems:ident, $field:ident, $ty:ty, $default:literal) => {
        $fields.defaulted::<$ty>(stringify!($field), $default, $problems)
    };
    (@take $fields:ident, $problems:ident, $field:ident, $ty:ty; $mode:ident) => {
        $fields.$mode::<$ty>(stringify!($field), $problems)
    };

    (@show $value:expr, $field:ident) => {
        $value.as_ref().map(|value| (stringify!($field).to_owned(), $crate::config::decode::Decode::show(value)))
    };
    (@show $value:expr, $field:ident, $default:literal) => {
        Some((stringify!($field).to_owned(), $crate::config::decode::Decode::show(&$value)))
    };
    (@show $value:expr, $field:ident; $mode:ident) => {
        Some((stringify!($field).to_owned(), $crate::config::decode::Decode::show(&$value)))
    };

    (@default) => { None };
    (@default, $default:literal) => { Some($default) };

    (@required $field:ident) => { None };
    (@required $field:ident; required) => { Some(stringify!($field)) };
    (@required $field:ident; section) => { None };
}
pub(super) use section;

/// Declares a closed set of words.
macro_rules! words {
    (
        $(#[doc = $doc:expr])*
        $vis:vis enum $name:ident { $( $variant:ident = $word:literal $(| $alias:literal)* ),* $(,)? }
        $( later [ $( $later:literal ),* $(,)? ] )?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $( $variant ),* }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                node: &$crate::config::tree::Node,
                problems: &mut $crate::config::problem::Problems,
            ) -> Option<Self> {
                const WORDS: &[&str] = &[ $( $word $(, $alias)* ),* ];
                const LATER: &[&str] = &[ $( $( $later ),* )? ];
                match $crate::config::decode::word(node, WORDS, LATER, problems)? {
                    $( $word $(| $alias)* => Some(Self::$variant), )*
                    _ => None,
                }
            }

            fn show(&self) -> serde_json::Value {
                match self { $( Self::$variant => $word.into() ),* }
            }

            fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "enum": [ $( $word $(, $alias)* ),* ] })
            }
        }
    };
}
pub(super) use words;

/// Declares a choice of sections, told apart by the key `type`. A bare word stands for a section of that type alone.
macro_rules! variants {
    (
        $(#[doc = $doc:expr])*
        $vis:vis enum $name:ident {
            $( $variant:ident ( $section:ty ) = $word:literal $(| $alias:literal)* ),* $(,)?
        }
        $( default $default:literal )?
        $( later [ $( $later:literal ),* $(,)? ] )?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone)]
        $vis enum $name { $( $variant($section) ),* }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                node: &$crate::config::tree::Node,
                problems: &mut $crate::config::problem::Problems,
            ) -> Option<Self> {
                const WORDS: &[&str] = &[ $( $word $(, $alias)* ),* ];
                const LATER: &[&str] = &[ $( $( $later ),* )? ];
                const DEFAULT: &[&str] = &[ $( $default )? ];
                let default = DEFAULT.first().copied();
                let (word, section) = $crate::config::decode::variant(node, WORDS, LATER, default, problems)?;
                match word {
                    $( $word $(| $alias)* => <$section as $crate::config::decode::Decode>::decode(&section, problems).map(Self::$variant), )*
                    _ => None,
                }
            }

            fn show(&self) -> serde_json::Value {
                match self {
                    $( Self::$variant(section) => $crate::config::decode::tagged(
                        $word,
                        $crate::config::decode::Decode::show(section),
                    ) ),*
                }
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).trim_end_matches("File").into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                const DEFAULT: &[&str] = &[ $( $default )? ];
                let default = DEFAULT.first().copied();
                let choices = vec![ $( $crate::config::decode::choice(
                    <$section as schemars::JsonSchema>::json_schema(generator),
                    &[ $word $(, $alias)* ],
                    default == Some($word),
                ) ),* ];
                $crate::config::decode::any_of(&[ $( $doc ),* ], choices, &[ $( $word $(, $alias)* ),* ])
            }
        }
    };
}
pub(super) use variants;

/// The text of a doc comment, as one paragraph.
fn prose(lines: &[&str]) -> String {
    lines
        .iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .replace(['[', ']'], "")
}

/// The schema of a key: that of its type, its description, its default. What is not required may be null.
pub(super) fn property(
    schema: Schema,
    doc: &[&str],
    default: Option<&str>,
    required: bool,
) -> Schema {
    let mut schema = match required {
        true => schema,
        false => or_null(schema),
    };
    if !doc.is_empty() {
        schema.insert("description".into(), prose(doc).into());
    }
    if let Some(default) = default {
        let value = Node::default_value(default, String::new()).to_json(false);
        schema.insert("default".into(), value);
    }
    schema
}

fn or_null(mut schema: Schema) -> Schema {
    if schema.get("$ref").is_some() {
        return json_schema!({ "anyOf": [schema, { "type": "null" }] });
    }
    match schema.get_mut("type") {
        Some(Value::Array(kinds)) if !kinds.iter().any(|kind| kind == "null") => {
            kinds.push("null".into());
        }
        Some(Value::Array(_)) => {}
        Some(kind) => *kind = Value::Array(vec![kind.take(), "null".into()]),
        None => {
            for list in ["enum", "anyOf"] {
                let null = match list {
                    "enum" => Value::Null,
                    _ => serde_json::json!({ "type": "null" }),
                };
                if let Some(Value::Array(choices)) = schema.get_mut(list) {
                    choices.push(null);
                }
            }
        }
    }
    schema
}

pub(super) fn object(doc: &[&str], properties: Vec<(&str, Schema)>, required: &[&str]) -> Schema {
    let properties: Map<String, Value> = properties
        .into_iter()
        .map(|(key, schema)| (key.to_owned(), schema.to_value()))
        .collect();
    let mut schema = json_schema!({
        "description": prose(doc),
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    schema
}

pub(super) fn choice(mut schema: Schema, words: &[&str], default: bool) -> Schema {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("type".into(), serde_json::json!({ "enum": words }));
    }
    if !default {
        let required = schema
            .ensure_object()
            .entry("required")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(required) = required {
            required.insert(0, "type".into());
        }
    }
    schema
}

pub(super) fn any_of(doc: &[&str], choices: Vec<Schema>, words: &[&str]) -> Schema {
    let mut choices: Vec<Value> = choices.into_iter().map(Schema::to_value).collect();
    choices.push(serde_json::json!({ "enum": words }));
    json_schema!({ "description": prose(doc), "anyOf": choices })
}

/// A section with its type in front.
pub(super) fn tagged(word: &str, section: Value) -> Value {
    let mut map = Map::new();
    map.insert("type".into(), word.into());
    if let Value::Object(fields) = section {
        map.extend(fields);
    }
    Value::Object(map)
}

/// The one of `words` that a scalar is, in any case.
pub(super) fn word(
    node: &Node,
    words: &'static [&'static str],
    later: &[&str],
    problems: &mut Problems,
) -> Option<&'static str> {
    let expected = || format!("expected one of {}", words.join(", "));
    let Some(scalar) = node.scalar() else {
        node.wrong(problems, expected());
        return None;
    };
    let text = scalar.text.trim();
    let is = |word: &&&str| word.eq_ignore_ascii_case(text);
    if let Some(word) = words.iter().find(is) {
        return Some(word);
    }
    match later.iter().find(is) {
        Some(later) => node.wrong(problems, format!("`{later}` is not supported yet")),
        None => match closest(text, words.iter().copied()) {
            Some(near) => node.wrong(problems, format!("{}; did you mean `{near}`?", expected())),
            None => node.wrong(problems, expected()),
        },
    }
    None
}

/// The type of a choice and the section without its type.
pub(super) fn variant(
    node: &Node,
    words: &'static [&'static str],
    later: &[&str],
    default: Option<&'static str>,
    problems: &mut Problems,
) -> Option<(&'static str, Node)> {
    match &node.content {
        Content::Scalar(_) => {
            let word = word(node, words, later, problems)?;
            Some((word, Node::empty(node.place.clone(), node.path.clone())))
        }
        Content::Map(_) => {
            let word = match (node.get("type").filter(|node| !node.is_null()), default) {
                (Some(tag), _) => word(tag, words, later, problems)?,
                (None, Some(default)) => default,
                (None, None) => {
                    let message = format!("the key `type` is missing: one of {}", words.join(", "));
                    node.wrong(problems, message);
                    return None;
                }
            };
            let mut section = node.clone();
            section.remove("type");
            Some((word, section))
        }
        Content::Null | Content::List(_) | Content::Broken => {
            let message = format!("expected a map with `type`, or one of {}", words.join(", "));
            node.wrong(problems, message);
            None
        }
    }
}

/// The text of a scalar, or a problem that says what was expected.
fn text<'a>(node: &'a Node, expected: &str, problems: &mut Problems) -> Option<&'a str> {
    match node.scalar() {
        Some(scalar) => Some(&scalar.text),
        None => {
            node.wrong(problems, format!("expected {expected}"));
            None
        }
    }
}

/// Reads a scalar with `parse`.
fn scalar<T>(
    node: &Node,
    expected: &str,
    problems: &mut Problems,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let value = parse(text(node, expected, problems)?);
    if value.is_none() {
        node.wrong(problems, format!("expected {expected}"));
    }
    value
}

/// Any `${...}` may stand where a number or a word is wanted; editors must not complain.
const REFERENCE: &str = r"\$\{";

fn text_schema(format: &str) -> Schema {
    json_schema!({ "type": "string", "format": format })
}

fn number_schema(kind: &str, minimum: u64, maximum: Option<u64>) -> Schema {
    let mut schema = json_schema!({
        "type": [kind, "string"],
        "pattern": REFERENCE,
        "minimum": minimum,
    });
    if let Some(maximum) = maximum {
        schema.insert("maximum".into(), maximum.into());
    }
    schema
}

macro_rules! integers {
    ( $( $ty:ty, $minimum:literal, $maximum:expr, $expected:literal );* $(;)? ) => { $(
        impl Decode for $ty {
            fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
                scalar(node, $expected, problems, |text| text.parse().ok())
            }

            fn show(&self) -> Value {
                u64::try_from(*self).map_or_else(|_| self.to_string().into(), Value::from)
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                number_schema("integer", $minimum, $maximum)
            }
        }
    )* };
}
integers! {
    u16, 0, Some(u64::from(u16::MAX)), "a whole number from 0 to 65535";
    u32, 0, Some(u64::from(u32::MAX)), "a whole number";
    u64, 0, None, "a whole number";
}

macro_rules! positive_integers {
    ( $( $ty:ty, $maximum:expr, $expected:literal );* $(;)? ) => { $(
        impl Decode for $ty {
            fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
                scalar(node, $expected, problems, |text| text.parse().ok())
            }

            fn show(&self) -> Value {
                self.get().into()
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                number_schema("integer", 1, $maximum)
            }
        }
    )* };
}
positive_integers! {
    NonZeroU16, Some(u64::from(u16::MAX)), "a whole number from 1 to 65535";
    NonZeroU32, Some(u64::from(u32::MAX)), "a whole number of at least 1";
    NonZeroU64, None, "a whole number of at least 1";
    NonZeroUsize, None, "a whole number of at least 1";
}

impl Decode for f64 {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        scalar(node, "a number", problems, |text| {
            text.parse().ok().filter(|number: &Self| number.is_finite())
        })
    }

    fn show(&self) -> Value {
        // A whole number is shown as one: `factor: 2`.
        self.to_string()
            .parse::<serde_json::Number>()
            .map_or(Value::Null, Value::Number)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        number_schema("number", 0, None)
    }
}

impl Decode for bool {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        scalar(node, "true or false", problems, |text| {
            match text.to_ascii_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            }
        })
    }

    fn show(&self) -> Value {
        (*self).into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "string"], "pattern": REFERENCE })
    }
}

impl Decode for String {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        text(node, "a text", problems).map(str::to_owned)
    }

    fn show(&self) -> Value {
        self.as_str().into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl Decode for Secret {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        text(node, "a text", problems).map(|text| Self::new(text.to_owned()))
    }

    fn show(&self) -> Value {
        MASK.into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "format": "secret" })
    }
}

impl Decode for Duration {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let expected = "a length of time such as 500ms, 30s, 15m, 36h, 7d, or a number of seconds";
        scalar(node, expected, problems, units::parse_duration)
    }

    fn show(&self) -> Value {
        units::format_duration(*self).into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "format": "duration" })
    }
}

/// A length of time that is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);

impl Decode for Period {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let duration = Duration::decode(node, problems)?;
        if duration.is_zero() {
            node.wrong(problems, "expected a length of time above zero");
            return None;
        }
        Some(Self(duration))
    }

    fn show(&self) -> Value {
        self.0.show()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Duration::schema(generator)
    }
}

/// A number of bytes above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl Decode for Size {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let expected = "a size above zero such as 64MiB, 8MB, or a number of bytes";
        scalar(node, expected, problems, |text| {
            units::parse_size(text).filter(|size| *size > 0).map(Self)
        })
    }

    fn show(&self) -> Value {
        units::format_size(self.0).into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "size" })
    }
}

impl Decode for Tz {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let expected = "a time zone such as UTC or Europe/Berlin";
        scalar(node, expected, problems, |text| text.parse().ok())
    }

    fn show(&self) -> Value {
        self.name().into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        text_schema("time zone")
    }
}

impl Decode for SocketAddr {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let expected = "an address with a port such as 127.0.0.1:8686 or [::1]:8686";
        scalar(node, expected, problems, |text| text.parse().ok())
    }

    fn show(&self) -> Value {
        self.to_string().into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        text_schema("address:port")
    }
}

impl Decode for PathBuf {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        scalar(node, "a path", problems, |text| {
            (!text.is_empty() && !text.contains('\0')).then(|| Self::from(text))
        })
    }

    fn show(&self) -> Value {
        self.display().to_string().into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        text_schema("path")
    }
}

impl Decode for Url {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let expected = "a URL such as https://api.example.com/v1";
        scalar(node, expected, problems, |text| Self::parse(text).ok())
    }

    fn show(&self) -> Value {
        self.as_str().trim_end_matches('/').into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        text_schema("url")
    }
}

impl Decode for DottedPath {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let expected = "a path of plain steps such as data.items, result[0].id or ['odd key']";
        scalar(node, expected, problems, |text| {
            Self::parse(text).filter(|path| !path.0.is_empty())
        })
    }

    fn show(&self) -> Value {
        self.to_string().into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        text_schema("dotted path")
    }
}

/// A key that may be switched off by null.
impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        T::decode(node, problems).map(Some)
    }

    fn null() -> Option<Self> {
        Some(None)
    }

    fn show(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::show)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        or_null(T::schema(generator))
    }
}

/// A section whose failure does not keep its neighbours from being looked at.
#[derive(Debug, Clone)]
pub(super) struct Tried<T>(pub(super) Option<T>);

impl<T: Decode> Decode for Tried<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        Some(Self(T::decode(node, problems)))
    }

    fn show(&self) -> Value {
        self.0.as_ref().map_or(Value::Null, T::show)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Some(list) = node.list() else {
            node.wrong(problems, "expected a list");
            return None;
        };
        let items: Vec<Option<T>> = list.iter().map(|item| T::decode(item, problems)).collect();
        items.into_iter().collect()
    }

    fn show(&self) -> Value {
        self.iter().map(T::show).collect()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": T::schema(generator) })
    }
}

/// A section for which a bare text may stand. The tree has the long form by the time it is decoded.
#[derive(Debug, Clone)]
pub(super) struct Short<T>(pub(super) T);

impl<T: Decode> Decode for Short<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        T::decode(node, problems).map(Self)
    }

    fn show(&self) -> Value {
        self.0.show()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let long = T::schema(generator);
        json_schema!({ "anyOf": [{ "type": "string" }, long] })
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<T: Decode> Decode for OneOrMany<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        match node.list() {
            Some(_) => Vec::decode(node, problems).map(Self),
            None => T::decode(node, problems).map(|one| Self(vec![one])),
        }
    }

    fn show(&self) -> Value {
        match self.0.as_slice() {
            [one] => one.show(),
            _ => self.0.show(),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let one = T::schema(generator);
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl<T: Decode> Decode for IndexMap<String, T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Some(map) = node.map() else {
            node.wrong(problems, "expected a map of names and values");
            return None;
        };
        let mut whole = true;
        let mut decoded = Self::with_capacity(map.len());
        for (key, entry) in map {
            match T::decode(&entry.node, problems) {
                Some(value) => {
                    decoded.insert(key.clone(), value);
                }
                None => whole = false,
            }
        }
        whole.then_some(decoded)
    }

    fn show(&self) -> Value {
        Value::Object(
            self.iter()
                .map(|(key, value)| (key.clone(), value.show()))
                .collect(),
        )
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": T::schema(generator) })
    }
}

/// A text that is shown as `***` when it was filled in from outside.
#[derive(Debug, Clone)]
pub(super) struct Guarded {
    pub(super) text: String,
    filled: bool,
}

impl Decode for Guarded {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let text = text(node, "a text", problems)?.to_owned();
        let filled = node
            .scalar()
            .is_some_and(|scalar| scalar.filled != Filled::No);
        Some(Self { text, filled })
    }

    fn show(&self) -> Value {
        match self.filled {
            true => MASK.into(),
            false => self.text.as_str().into(),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        String::schema(generator)
    }
}

/// Any JSON value, as it stands in the file.
#[derive(Debug, Clone)]
pub(super) struct Json {
    pub(super) value: Value,
    /// The same with `***` for what was filled in from outside.
    masked: Value,
}

impl Decode for Json {
    fn decode(node: &Node, _: &mut Problems) -> Option<Self> {
        (!matches!(node.content, Content::Broken)).then(|| Self {
            value: node.to_json(false),
            masked: node.to_json(true),
        })
    }

    fn null() -> Option<Self> {
        Some(Self {
            value: Value::Null,
            masked: Value::Null,
        })
    }

    fn show(&self) -> Value {
        self.masked.clone()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}
