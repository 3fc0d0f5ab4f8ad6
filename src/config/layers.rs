//! The file and the environment laid over each other, by the `config` crate.
//!
//! `ROSTERD__DAEMON__TIMEZONE=Europe/Berlin` overrides `daemon.timezone`. What to know of it:
//!
//! - Names of variables are lower-cased, so only lower-case keys can be addressed. Sources therefore
//!   have lower-case names; a key like `X-Version` under `headers` cannot be overridden.
//! - Values are texts, taken as they are: no type is guessed (`00123` stays), no `${...}` is filled.
//! - An empty variable counts as not set.
//! - Elements of lists have no name and cannot be overridden. `resources` is a list: use `${VAR}` there.
//! - A variable that names no key is an error, like an unknown key of the file.

use std::{collections::HashMap, ffi::OsString};

use config::{Map, Source, Value, ValueKind};
use indexmap::IndexMap;

use super::{
    problem::{Place, Problems},
    tree::{Content, Entry, Filled, Kind, Node, Scalar, join},
};

const PREFIX: &str = "ROSTERD";
const SEPARATOR: &str = "__";

/// The environment variables that a configuration may draw on.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Those of this process. Variables that are not UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |text: OsString| text.into_string().ok();
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
                .collect(),
        )
    }

    /// Given ones, and no others.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// The name of the user that the environment tells of; for the history, not for any right.
    #[must_use]
    pub fn user(&self) -> &str {
        self.get("SUDO_USER")
            .or_else(|| self.get("USER"))
            .or_else(|| self.get("LOGNAME"))
            .unwrap_or("unknown")
    }

    /// Whether the variable is set, to whatever.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Those that override the file.
    fn overrides(&self) -> Map<String, String> {
        let prefix = format!("{PREFIX}{SEPARATOR}").to_lowercase();
        self.0
            .iter()
            .filter(|(name, value)| name.to_lowercase().starts_with(&prefix) && !value.is_empty())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

/// Lays the environment's overrides over the file's tree.
pub(super) fn overlay(file: Node, environment: &Environment, problems: &mut Problems) -> Node {
    let overrides = environment.overrides();
    if overrides.is_empty() || file.map().is_none() {
        return file;
    }
    let variables = config::Environment::with_prefix(PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .ignore_empty(true)
        .source(Some(overrides));
    let layered = config::Config::builder()
        .add_source(Tree(plain(&file)))
        .add_source(variables)
        .build();
    match layered {
        Ok(layered) => relocate(layered.cache, Some(&file), String::new()),
        Err(_) => {
            problems.push(
                &Place::Environment(format!("{PREFIX}{SEPARATOR}*").into()),
                "",
                "these variables cannot be laid over the file",
            );
            file
        }
    }
}

/// Marks the leaves that came from the file, whose places are looked up afterwards.
const FROM_FILE: &str = "file";

/// The file's tree as the `config` crate holds it.
#[derive(Debug, Clone)]
struct Tree(Value);

impl Source for Tree {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        self.0.clone().into_table()
    }

    // The default goes through path expressions, which take keys with dots apart.
    fn collect_to(&self, cache: &mut Value) -> Result<(), config::ConfigError> {
        *cache = self.0.clone();
        Ok(())
    }
}

fn plain(node: &Node) -> Value {
    let kind = match &node.content {
        Content::Null | Content::Broken => ValueKind::Nil,
        Content::Scalar(scalar) => ValueKind::String(scalar.text.clone()),
        Content::List(list) => ValueKind::Array(list.iter().map(plain).collect()),
        Content::Map(map) => ValueKind::Table(
            map.iter()
                .map(|(key, entry)| (key.clone(), plain(&entry.node)))
                .collect(),
        ),
    };
    Value::new(Some(&FROM_FILE.to_owned()), kind)
}

/// The layered values with their places: the file's own nodes where the file still holds.
fn relocate(value: Value, file: Option<&Node>, path: String) -> Node {
    let variable = || {
        let name = path.replace('.', SEPARATOR).to_uppercase();
        Place::Environment(format!("{PREFIX}{SEPARATOR}{name}").into())
    };
    let from_file = value.origin() == Some(FROM_FILE);
    match (value.kind, file) {
        // Tables lose their origin when an override goes through them.
        (ValueKind::Table(table), _) => {
            let known = file.and_then(Node::map);
            let map = table
                .into_iter()
                .map(|(key, value)| {
                    let entry = known.and_then(|map| map.get(&key));
                    let node = relocate(value, entry.map(|entry| &entry.node), join(&path, &key));
                    let key_place =
                        entry.map_or_else(|| node.place.clone(), |entry| entry.key_place.clone());
                    (key, Entry { key_place, node })
                })
                .collect::<IndexMap<_, _>>();
            let place = match file {
                Some(file) if known.is_some() => file.place.clone(),
                _ => map
                    .values()
                    .next()
                    .map_or_else(variable, |entry| entry.node.place.clone()),
            };
            Node {
                place,
                content: Content::Map(map),
                path,
            }
        }
        (_, Some(file)) if from_file => file.clone(),
        (ValueKind::String(text), _) => Node {
            place: variable(),
            content: Content::Scalar(Scalar {
                text,
                kind: Kind::Text,
                filled: Filled::Variable,
            }),
            path,
        },
        (_, _) => Node {
            place: variable(),
            content: Content::Null,
            path,
        },
    }
}
