//! The file as a tree in which every node knows its place, and scalars keep their text.
//!
//! serde stops at the first error and YAML libraries guess types (`00123` becomes 123). So the file
//! is read once into this tree, and the sections are decoded from it, each field by itself: all
//! problems are found in one go, and a string is exactly what stands in the file.

use std::{cell::Cell, fmt, sync::Arc};

use indexmap::IndexMap;
use serde::{Deserialize, de};
use serde_json::Value;
use serde_saphyr::{
    NonFiniteFloatPolicy, Spanned,
    options::{DuplicateKeyPolicy, MergeKeyPolicy},
};

use super::problem::{Place, Problems};

/// Larger files are refused. The longest honest configuration known has 200 KiB.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;

/// Values within values. Deeper than any section goes, far from what a stack bears.
const MAX_DEPTH: usize = 64;

/// Nodes of the file with its aliases written out.
const MAX_NODES: usize = 200_000;

/// A value of the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    /// Dotted path from the root.
    pub(super) path: String,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(IndexMap<String, Entry>),
    /// What a problem was already noted for: nothing more is said of it.
    Broken,
}

/// A value under a key, with the key's own place.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key_place: Place,
    pub(super) node: Node,
}

/// A scalar as it stands in the file.
#[derive(Clone)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) kind: Kind,
    pub(super) filled: Filled,
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scalar({:?}, ***)", self.kind)
    }
}

/// What YAML takes the scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Boolean,
}

/// Whether a `${...}` was filled in, and how secret its origin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filled {
    No,
    /// From a variable: may be a tenant's name as well as a key.
    Variable,
    /// From a file or a credential: made to hold secrets.
    Secret,
}

impl Node {
    /// Reads a whole file. Errors of YAML itself end the reading; there is one of them at most.
    pub(super) fn parse(file: &str, text: &str, problems: &mut Problems) -> Option<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            merge_keys: MergeKeyPolicy::Merge,
            non_finite_float_policy: NonFiniteFloatPolicy::AsString,
            leading_zero_numbers_as_strings: true,
            strict_booleans: true,
            reject_unsupported_tags: true,
            with_snippet: false,
            budget: serde_saphyr::budget! {
                max_depth: MAX_DEPTH,
                max_nodes: MAX_NODES,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: MAX_NODES,
                max_replay_stack_depth: 16,
            },
        };
        match serde_saphyr::from_str_with_options::<Option<Spanned<Raw>>>(text, options) {
            Ok(raw) => {
                let file = Arc::from(file);
                let reader = Reader { text, file: &file };
                Some(match raw {
                    Some(raw) => reader.node(raw, String::new(), problems),
                    None => Self::empty(Place::whole(&file), String::new()),
                })
            }
            Err(error) => {
                let place = match error.location() {
                    Some(at) if at.line() > 0 => Place::File {
                        file: file.into(),
                        line: at.line(),
                        column: at.column(),
                    },
                    _ => Place::whole(file),
                };
                problems.push(&place, "", describe(&error));
                None
            }
        }
    }

    /// A default of a section, written as in the file: a plain scalar or a flow list.
    pub(super) fn default_value(text: &str, path: String) -> Self {
        if text.starts_with('[') {
            let mut problems = Problems::default();
            if let Some(mut node) = Self::parse("default", text, &mut problems) {
                node.place = Place::Default;
                node.path = path;
                return node;
            }
        }
        let kind = match text {
            "true" | "false" => Kind::Boolean,
            _ if is_json_number(text) => Kind::Number,
            _ => Kind::Text,
        };
        Self {
            place: Place::Default,
            path,
            content: match text {
                "null" => Content::Null,
                _ => Content::Scalar(Scalar {
                    text: text.to_owned(),
                    kind,
                    filled: Filled::No,
                }),
            },
        }
    }

    /// A map without entries.
    pub(super) fn empty(place: Place, path: String) -> Self {
        Self {
            place,
            path,
            content: Content::Map(IndexMap::new()),
        }
    }

    /// A map with this node as its one entry: what a short form stands for.
    pub(super) fn under(self, key: &str) -> Self {
        let (place, path) = (self.place.clone(), self.path.clone());
        let mut outer = Self::empty(place, path);
        outer.insert(key, self);
        outer
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    pub(super) fn scalar(&self) -> Option<&Scalar> {
        match &self.content {
            Content::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    pub(super) fn map(&self) -> Option<&IndexMap<String, Entry>> {
        match &self.content {
            Content::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match &self.content {
            Content::List(list) => Some(list),
            _ => None,
        }
    }

    /// The value under `key`, if this is a map that has one.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.map()?.get(key).map(|entry| &entry.node)
    }

    /// Puts a value under `key`, in place of what stands there.
    pub(super) fn insert(&mut self, key: &str, node: Self) {
        if let Content::Map(map) = &mut self.content {
            let entry = Entry {
                key_place: node.place.clone(),
                node,
            };
            map.insert(key.to_owned(), entry);
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Content::Map(map) = &mut self.content {
            map.shift_remove(key);
        }
    }

    /// The node that the steps lead to, or the last one on the way that exists.
    pub(super) fn nearest(&self, steps: &[&str]) -> &Self {
        let mut node = self;
        for step in steps {
            match node.get(step) {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// Notes a problem with this value.
    pub(super) fn wrong(&self, problems: &mut Problems, message: impl Into<String>) {
        if !matches!(self.content, Content::Broken) {
            problems.push(&self.place, &self.path, message);
        }
    }

    /// The value as JSON. Numbers keep their digits; what JSON cannot write as a number is text.
    ///
    /// `mask`: scalars that were filled from outside are shown as `***`.
    pub(super) fn to_json(&self, mask: bool) -> Value {
        match &self.content {
            Content::Null | Content::Broken => Value::Null,
            Content::Scalar(scalar) if mask && scalar.filled != Filled::No => MASK.into(),
            Content::Scalar(scalar) => scalar.to_json(),
            Content::List(list) => list.iter().map(|node| node.to_json(mask)).collect(),
            Content::Map(map) => Value::Object(
                map.iter()
                    .map(|(key, entry)| (key.clone(), entry.node.to_json(mask)))
                    .collect(),
            ),
        }
    }

    /// Whether a value from a file or a credential stands below or at this node.
    pub(super) fn holds_secret(&self) -> bool {
        let mut found = false;
        self.each_scalar(&mut |_, scalar| found |= scalar.filled == Filled::Secret);
        found
    }

    /// Calls `visit` with every scalar below and at this node.
    pub(super) fn each_scalar<'a>(&'a self, visit: &mut impl FnMut(&'a Self, &'a Scalar)) {
        match &self.content {
            Content::Scalar(scalar) => visit(self, scalar),
            Content::List(list) => list.iter().for_each(|node| node.each_scalar(visit)),
            Content::Map(map) => map.values().for_each(|entry| entry.node.each_scalar(visit)),
            Content::Null | Content::Broken => {}
        }
    }
}

/// What stands in the place of a secret.
pub(super) const MASK: &str = "***";

impl Scalar {
    fn to_json(&self) -> Value {
        match self.kind {
            Kind::Boolean => Value::Bool(self.text.eq_ignore_ascii_case("true")),
            // A number whose JSON form would be spelt otherwise (`1e5` is kept as 1e+5) stays text:
            // the API gets what the file says.
            Kind::Number if is_json_number(&self.text) => {
                serde_json::from_str::<serde_json::Number>(&self.text)
                    .ok()
                    .filter(|number| number.to_string() == self.text)
                    .map_or_else(|| self.text.clone().into(), Value::Number)
            }
            Kind::Number | Kind::Text => Value::String(self.text.clone()),
        }
    }
}

fn is_json_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// Path of a value under `key`.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
    match (path, plain) {
        ("", true) => key.to_owned(),
        (_, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

/// What YAML's own errors are told as. The library's texts quote the file, so they are not used.
fn describe(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as E;
    match error {
        E::WithSnippet { error, .. } | E::AliasError { error, .. } => describe(error),
        E::Eof { .. } => "the file ends in the middle of a value".into(),
        E::MultipleDocuments { .. } => "more than one document; only one is read".into(),
        E::UnknownAnchor { .. } => "the alias names an anchor that is not there".into(),
        E::MergeValueNotMapOrSeqOfMaps { .. } => "`<<` takes a map or a list of maps".into(),
        E::UnsupportedTag { .. } => "this tag is not known".into(),
        E::Budget { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. }
        | E::AliasReplayCounterOverflow { .. } => too_large(),
        // Told in words only; the words are looked at and not passed on.
        _ if ["recursion limit exceeded", TOO_DEEP]
            .iter()
            .any(|words| error.to_string().starts_with(words)) =>
        {
            too_large()
        }
        _ => NOT_YAML.into(),
    }
}

const NOT_YAML: &str =
    "not valid YAML here (indentation, quotes, `: ` in plain text, or `{` before `$`?)";

fn too_large() -> String {
    format!(
        "too deep or too large (at most {MAX_DEPTH} levels and {MAX_NODES} values, aliases written out)"
    )
}

struct Reader<'a> {
    text: &'a str,
    file: &'a Arc<str>,
}

impl Reader<'_> {
    fn place(&self, at: serde_saphyr::Location) -> Place {
        Place::File {
            file: Arc::clone(self.file),
            line: at.line(),
            column: at.column(),
        }
    }

    fn node(&self, raw: Spanned<Raw>, path: String, problems: &mut Problems) -> Node {
        let place = self.place(raw.referenced);
        let content = match raw.value {
            Raw::Null => Content::Null,
            Raw::Text(text) => Content::Scalar(Scalar {
                text,
                kind: Kind::Text,
                filled: Filled::No,
            }),
            Raw::Plain(kind, spelt) => {
                let span = raw.defined.span();
                let text = span
                    .byte_offset()
                    .zip(span.byte_len())
                    .and_then(|(start, length)| {
                        let start = usize::try_from(start).ok()?;
                        let end = start.checked_add(usize::try_from(length).ok()?)?;
                        self.text.get(start..end)
                    })
                    .map(str::trim)
                    .filter(|text| !text.is_empty() && !text.starts_with(['"', '\'', '!', '&']))
                    .map_or(spelt, str::to_owned);
                Content::Scalar(Scalar {
                    text,
                    kind,
                    filled: Filled::No,
                })
            }
            Raw::List(list) => Content::List(
                list.into_iter()
                    .enumerate()
                    .map(|(index, raw)| self.node(raw, format!("{path}[{index}]"), problems))
                    .collect(),
            ),
            Raw::Map(entries) => {
                let mut map = IndexMap::with_capacity(entries.len());
                for (key, raw) in entries {
                    let key_place = self.place(key.referenced);
                    let path = join(&path, &key.value);
                    if map.contains_key(&key.value) {
                        problems.push(&key_place, &path, "this key stands twice");
                        continue;
                    }
                    let node = self.node(raw, path, problems);
                    map.insert(key.value, Entry { key_place, node });
                }
                Content::Map(map)
            }
        };
        Node {
            place,
            path,
            content,
        }
    }
}

/// What the parser tells, before places are resolved.
enum Raw {
    Null,
    Text(String),
    /// Not text for YAML; the spelling is taken from the file where it can be.
    Plain(Kind, String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

const TOO_DEEP: &str = "too deep";

thread_local! {
    /// Depth of the value being read; the parser's own limit counts events, which aliases evade.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

struct Deeper;

impl Deeper {
    fn enter<E: de::Error>() -> Result<Self, E> {
        let depth = DEPTH.get();
        if depth >= MAX_DEPTH {
            return Err(E::custom(TOO_DEEP));
        }
        DEPTH.set(depth + 1);
        Ok(Self)
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> de::Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(Kind::Boolean, value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(Kind::Number, value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(Kind::Number, value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Plain(Kind::Number, value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Plain(Kind::Number, value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(Kind::Number, value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let _deeper = Deeper::enter()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let _deeper = Deeper::enter()?;
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}
