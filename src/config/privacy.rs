//! Sections `privacy` and `retention`: which values never arrive, which arrive in disguise, and for how long.
//!
//! Rules are lists that add up: those of the source, of `resource_defaults` and of the resource hold
//! together, because a rule that is lost on the way is a person's data in the wrong place. Only
//! `only` and `new_columns` are replaced by the nearest.

use std::{fmt, time::Duration};

use indexmap::IndexMap;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{
    Secret,
    decode::{Decode, OneOrMany, Period, Short, section, words},
    endpoint::{DottedPath, Step},
    path,
    problem::Problems,
    tree::{Content, Node},
};

/// What is done to a resource's records before anything of them is stored.
#[derive(Debug, Clone, Default)]
pub struct Privacy {
    /// Fields that never arrive, with all that is in them.
    pub exclude: Vec<Pattern>,
    /// Where there are any: the only fields that arrive.
    pub only: Vec<Pattern>,
    pub hash: Vec<HashRule>,
    /// Dates of which only the year arrives.
    pub year: Vec<Pattern>,
    pub new_columns: NewColumns,
    /// The present key first, then former ones. Empty: none is configured.
    pub keys: Vec<PrivacyKey>,
}

impl Privacy {
    /// Whether records arrive as the API sends them.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.exclude.is_empty()
            && self.only.is_empty()
            && self.hash.is_empty()
            && self.year.is_empty()
            && self.new_columns != NewColumns::Block
    }

    /// Whether the values of a field become hashes.
    #[must_use]
    pub fn hashes(&self, field: &DottedPath) -> bool {
        let names = field.keys();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.hash.iter().any(|rule| rule.pattern.covers(&names))
    }

    /// The rules as one text, without secrets: rows shaped under other rules count as changed.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let texts = |patterns: &[Pattern]| -> Vec<String> {
            patterns.iter().map(ToString::to_string).collect()
        };
        let hash: Vec<_> = self
            .hash
            .iter()
            .map(|rule| (rule.pattern.to_string(), rule.fold))
            .collect();
        json!({
            "exclude": texts(&self.exclude),
            "only": texts(&self.only),
            "hash": hash,
            "key": self.keys.first().filter(|_| !hash.is_empty()).map(|key| &key.id),
            "year": texts(&self.year),
            "block": self.new_columns == NewColumns::Block,
        })
        .to_string()
    }
}

/// Fields whose values become keyed hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashRule {
    pub pattern: Pattern,
    /// Blanks around the value and the case of its letters do not count.
    pub fold: bool,
}

/// A secret for keyed hashes and the name that tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivacyKey {
    pub id: String,
    pub secret: Secret,
}

/// What happens to fields that a loaded table has no column for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NewColumns {
    #[default]
    Allow,
    /// They get a column, and an event says so.
    Warn,
    /// They are dropped, and an event says so.
    Block,
}

/// How long rows are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The date or time that the age counts from.
    pub field: DottedPath,
    pub delete_after: Duration,
}

/// A path with wildcards: `home.**`, `*.ssn`, `**.iban`. Lists on the way are passed through, each
/// of their elements being looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    pub segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    Name(String),
    /// `*`: any one name.
    Any,
    /// `**`: any number of names, none too.
    Deep,
}

impl Pattern {
    /// Reads `a.b`, `*.b`, `a.**`, `['odd.key'].b`, `rows[].b`. `None`: not such a path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut rest = text.strip_prefix("$.").unwrap_or(text);
        let mut segments: Vec<Segment> = Vec::new();
        let mut expect_step = true;
        while !rest.is_empty() {
            if let Some(tail) = ["[]", "[*]"]
                .iter()
                .find_map(|sign| rest.strip_prefix(sign))
                .filter(|_| !segments.is_empty() && !expect_step)
            {
                rest = tail;
            } else if let Some(inner) = rest.strip_prefix('[') {
                let (Step::Key(name), tail) = path::bracket(inner)? else {
                    return None;
                };
                segments.push(Segment::Name(name));
                rest = tail;
            } else if expect_step {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let (name, tail) = rest.split_at_checked(end)?;
                segments.push(match name {
                    "*" => Segment::Any,
                    "**" => Segment::Deep,
                    name if path::is_plain_key(name) => Segment::Name(name.to_owned()),
                    _ => return None,
                });
                rest = tail;
            } else {
                return None;
            }
            expect_step = false;
            if let Some(tail) = rest.strip_prefix('.') {
                expect_step = true;
                rest = tail;
            }
        }
        (!expect_step && !segments.is_empty()).then_some(Self { segments })
    }

    /// Whether the field at `path`, or an object around it, is meant.
    #[must_use]
    pub fn covers(&self, path: &[&str]) -> bool {
        (0..=path.len()).any(|end| {
            path.get(..end)
                .is_some_and(|path| meets(&self.segments, path))
        })
    }

    /// Whether a field below `path` may be meant.
    #[must_use]
    pub fn reaches_below(&self, path: &[&str]) -> bool {
        reaches(&self.segments, path)
    }
}

fn meets(segments: &[Segment], path: &[&str]) -> bool {
    match (segments.split_first(), path.split_first()) {
        (None, _) => path.is_empty(),
        (Some((Segment::Deep, rest)), _) => {
            meets(rest, path)
                || path
                    .split_first()
                    .is_some_and(|(_, below)| meets(segments, below))
        }
        (Some((Segment::Any, rest)), Some((_, below))) => meets(rest, below),
        (Some((Segment::Name(name), rest)), Some((first, below))) => {
            name == first && meets(rest, below)
        }
        (Some(_), None) => false,
    }
}

fn reaches(segments: &[Segment], path: &[&str]) -> bool {
    match (segments.split_first(), path.split_first()) {
        (None, _) => false,
        (Some(_), None) | (Some((Segment::Deep, _)), _) => true,
        (Some((Segment::Any, rest)), Some((_, below))) => reaches(rest, below),
        (Some((Segment::Name(name), rest)), Some((first, below))) => {
            name == first && reaches(rest, below)
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            let dot = if index > 0 { "." } else { "" };
            match segment {
                Segment::Any => write!(f, "{dot}*")?,
                Segment::Deep => write!(f, "{dot}**")?,
                Segment::Name(name) => {
                    let quoted = DottedPath(vec![Step::Key(name.clone())]).to_string();
                    let dot = if quoted.starts_with('[') { "" } else { dot };
                    write!(f, "{dot}{quoted}")?;
                }
            }
        }
        Ok(())
    }
}

impl Decode for Pattern {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let pattern = node.scalar().and_then(|scalar| Self::parse(&scalar.text));
        if pattern.is_none() {
            node.wrong(
                problems,
                "expected a path such as work.email, home.**, *.ssn or **.iban",
            );
        }
        pattern
    }

    fn show(&self) -> Value {
        self.to_string().into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "path with * and **" })
    }
}

section! {
    /// Values that become keyed hashes.
    pub(super) struct HashFile {
        /// The fields.
        path: Pattern; required,
        /// Blanks around the value and the case of its letters do not count, so that `Anna@x.org` joins `anna@x.org`. Not for keys, which may differ in case alone.
        fold: bool = "false",
    }
}

words! {
    /// What is kept of a value.
    pub(super) enum KeepWord {
        Year = "year",
    }
}

words! {
    /// What happens to fields that a loaded table has no column for.
    pub(super) enum NewColumnsWord {
        Allow = "allow",
        Warn = "warn",
        Block = "block",
    }
}

section! {
    /// What is done to records in memory, before anything of them is stored, logged or compared.
    pub(super) struct PrivacyFile {
        /// Fields that never arrive, with all that is in them: `home.**`, `*.ssn`, `**.iban`; also inside lists, which are passed through. Adds to what the source and the defaults exclude.
        exclude: OneOrMany<Pattern>,
        /// The only fields that arrive, with all that is in them. What `exclude` names goes even so.
        only: OneOrMany<Pattern>,
        /// Fields whose values become keyed hashes (HMAC-SHA-256 with `privacy.key`), written as `k1:` and 64 hexadecimal digits; equal values are equal in every resource, null and empty texts stay. Objects and lists are hashed value by value.
        hash: OneOrMany<Short<HashFile>>,
        /// Fields of which only a part is kept, as `birth_date: year`: the year as a number. What is no ISO date becomes null.
        keep: IndexMap<String, KeepWord>,
        /// What happens to fields that a loaded table has no column for: `allow`, `warn` (an event says so), `block` (they are dropped, and an event says so). Left out: `allow`.
        new_columns: NewColumnsWord,
    }
}

section! {
    /// A secret for keyed hashes.
    pub(super) struct PrivacyKeyFile {
        /// Name that stands before each hash, to tell keys apart after a change: lower-case letters, digits, `_`, `-`.
        id: String; required,
        /// At least 16 characters that nobody can guess. Whoever has it can look for values by trying them.
        secret: Secret; required,
    }
}

section! {
    /// Keys for hashed fields and for the list of erased persons.
    pub(super) struct PrivacyKeysFile {
        /// The key of all hashes from now on. A new secret needs a new `id`.
        key: PrivacyKeyFile,
        /// Keys of the past. Erased persons stay away only as long as the key is known under which they were written down.
        former_keys: Vec<PrivacyKeyFile>,
    }
}

section! {
    /// How long rows are kept. Older ones are deleted for good at the next run, and are not loaded again.
    pub(super) struct RowRetentionFile {
        /// Field with the date or time that the age counts from. Rows without one are kept.
        column: DottedPath; required,
        /// Age from which a row goes.
        delete_after: Period; required,
    }
}

/// Shortest secret for keyed hashes.
const SHORTEST_SECRET: usize = 16;

impl PrivacyKeysFile {
    /// The keys, the present one first.
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Vec<PrivacyKey> {
        let former = self.former_keys.iter().flatten();
        if self.key.is_none() && former.clone().next().is_some() {
            node.nearest(&["former_keys"])
                .wrong(problems, "former keys need a present one: `key`");
        }
        let mut keys: Vec<PrivacyKey> = Vec::new();
        let list = node.nearest(&["former_keys"]).list().unwrap_or_default();
        let nodes = self
            .key
            .iter()
            .map(|_| node.nearest(&["key"]))
            .chain(list.iter());
        for (file, node) in self.key.iter().chain(former).zip(nodes) {
            let plain = file.id.starts_with(|c: char| c.is_ascii_lowercase())
                && file.id.len() <= 16
                && file.id.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-')
                });
            if !plain {
                node.nearest(&["id"]).wrong(
                    problems,
                    "expected at most 16 lower-case letters, digits, `_` or `-`, a letter first",
                );
            }
            if keys.iter().any(|key| key.id == file.id) {
                node.nearest(&["id"])
                    .wrong(problems, "another key has this id");
            }
            if file.secret.expose().len() < SHORTEST_SECRET {
                node.nearest(&["secret"]).wrong(
                    problems,
                    "expected a secret of at least 16 characters; `openssl rand -hex 32` makes one",
                );
            }
            keys.push(PrivacyKey {
                id: file.id.clone(),
                secret: file.secret.clone(),
            });
        }
        keys
    }
}

impl PrivacyFile {
    pub(super) fn resolve(
        &self,
        keys: &[PrivacyKey],
        primary_key: &[DottedPath],
        node: &Node,
        problems: &mut Problems,
    ) -> Privacy {
        let list = |given: &Option<OneOrMany<Pattern>>| {
            given.as_ref().map_or_else(Vec::new, |list| list.0.clone())
        };
        let hash: Vec<HashRule> = self
            .hash
            .iter()
            .flat_map(|list| &list.0)
            .map(rule)
            .collect();
        if !hash.is_empty() && keys.is_empty() {
            node.nearest(&["hash"]).wrong(
                problems,
                "needs a key: `privacy: {key: {id: k1, secret: ${file:...}}}` at the top of the file",
            );
        }
        let mut year = Vec::new();
        let keep = node.get("keep").and_then(Node::map).into_iter().flatten();
        for (text, entry) in keep {
            match Pattern::parse(text) {
                Some(pattern) => year.push(pattern),
                None => problems.push(
                    &entry.key_place,
                    &entry.node.path,
                    "expected a path such as birth_date, home.** or **.birthday",
                ),
            }
        }
        let privacy = Privacy {
            exclude: list(&self.exclude),
            only: list(&self.only),
            hash,
            year,
            new_columns: match self.new_columns {
                None | Some(NewColumnsWord::Allow) => NewColumns::Allow,
                Some(NewColumnsWord::Warn) => NewColumns::Warn,
                Some(NewColumnsWord::Block) => NewColumns::Block,
            },
            keys: keys.to_vec(),
        };
        for key in primary_key {
            let names = key.keys();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if privacy.exclude.iter().any(|pattern| pattern.covers(&names)) {
                node.nearest(&["exclude"]).wrong(
                    problems,
                    "covers a field of the `primary_key`, without which there is no row; `hash` it instead",
                );
            }
            if !privacy.only.is_empty() && !privacy.only.iter().any(|p| p.covers(&names)) {
                node.nearest(&["only"]).wrong(
                    problems,
                    "leaves out a field of the `primary_key`; name it here too, and under `hash` if it must not be seen",
                );
            }
            if privacy.year.iter().any(|pattern| pattern.covers(&names)) {
                node.nearest(&["keep"]).wrong(
                    problems,
                    "covers a field of the `primary_key`, which would no longer tell records apart",
                );
            }
        }
        privacy
    }
}

fn rule(Short(file): &Short<HashFile>) -> HashRule {
    HashRule {
        pattern: file.path.clone(),
        fold: file.fold,
    }
}

impl RowRetentionFile {
    pub(super) fn resolve(
        &self,
        privacy: &Privacy,
        node: &Node,
        problems: &mut Problems,
    ) -> Retention {
        let names = self.column.keys();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let column = node.nearest(&["column"]);
        if names.len() != self.column.0.len() {
            column.wrong(problems, "expected a field that is not inside a list");
        }
        let hash = privacy.hash.iter().map(|rule| &rule.pattern);
        let mut changed = privacy.exclude.iter().chain(&privacy.year).chain(hash);
        if changed.any(|pattern| pattern.covers(&names))
            || (!privacy.only.is_empty() && !privacy.only.iter().any(|p| p.covers(&names)))
        {
            column.wrong(
                problems,
                "the privacy rules keep this field's value out of the table, so that no row's age is known",
            );
        }
        Retention {
            field: self.column.clone(),
            delete_after: self.delete_after.0,
        }
    }
}

/// Writes the short forms of a `privacy` section as the long ones, so that sections can be added up.
pub(super) fn lengthen(privacy: &mut Node) {
    let Content::Map(map) = &mut privacy.content else {
        return;
    };
    for key in ["exclude", "only", "hash"] {
        let Some(entry) = map.get_mut(key) else {
            continue;
        };
        if matches!(entry.node.content, Content::Scalar(_) | Content::Map(_)) {
            let one = entry.node.clone();
            entry.node.content = Content::List(vec![one]);
        }
        if let (true, Content::List(list)) = (key == "hash", &mut entry.node.content) {
            for rule in list {
                if rule.scalar().is_some() {
                    *rule = rule.clone().under("path");
                }
            }
        }
    }
}

/// The rules of `below` and of `above` together; both in their long form.
pub(super) fn add_up(below: &Node, above: &Node) -> Node {
    let (Content::Map(under), Content::Map(over)) = (&below.content, &above.content) else {
        return above.clone();
    };
    let mut map = under.clone();
    for (key, entry) in over {
        let mut entry = entry.clone();
        let default = under.get(key).map(|entry| &entry.node.content);
        match (key.as_str(), default, &mut entry.node.content) {
            ("exclude" | "hash", Some(Content::List(first)), Content::List(then)) => {
                then.splice(0..0, first.iter().cloned());
            }
            ("keep", Some(Content::Map(first)), Content::Map(then)) => {
                let mut all = first.clone();
                all.extend(then.drain(..));
                *then = all;
            }
            _ => {}
        }
        map.insert(key.clone(), entry);
    }
    Node {
        place: above.place.clone(),
        path: above.path.clone(),
        content: Content::Map(map),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_and_written_alike() {
        for (text, segments) in [
            ("ssn", 1),
            ("home.**", 2),
            ("*.ssn", 2),
            ("**.iban", 2),
            ("rows[].ssn", 2),
            ("rows[*].ssn", 2),
            ("['odd.key'].x", 2),
            ("['*']", 1),
            ("$.a.b", 2),
        ] {
            let pattern = Pattern::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(pattern.segments.len(), segments, "{text}");
            assert_eq!(
                Pattern::parse(&pattern.to_string()),
                Some(pattern),
                "{text}"
            );
        }
        for text in [
            "", ".", "a..b", "a.", "a[0]", "a b", "*x", "a***", "[]", "a.[]",
        ] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_names_and_all_below() {
        for (pattern, path, covers, below) in [
            ("ssn", "ssn", true, false),
            ("ssn", "ssn.last4", true, false),
            ("ssn", "a.ssn", false, false),
            ("*.ssn", "a.ssn", true, false),
            ("*.ssn", "ssn", false, true),
            ("*.ssn", "a.b.ssn", false, false),
            ("**.ssn", "ssn", true, true),
            ("**.ssn", "a.b.ssn", true, true),
            ("home.**", "home", true, true),
            ("home.**", "home.street.name", true, true),
            ("home.**", "office", false, false),
            ("a.*.c", "a.b", false, true),
            ("a.**.z", "a.b.c.z", true, true),
        ] {
            let path: Vec<&str> = path.split('.').collect();
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.covers(&path), covers, "{pattern} {path:?}");
            assert_eq!(parsed.reaches_below(&path), below, "{pattern} {path:?}");
        }
    }
}
