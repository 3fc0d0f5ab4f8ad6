//! Parameters of a query and fields of a form: what they hold, and how a list of them is written.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{decode::words, problem::Problems, template::Names, tree::Node};

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Its texts may hold places.
    pub value: Value,
    pub style: ListStyle,
}

/// How a list is written where there are only texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListStyle {
    /// The name again for each value.
    #[default]
    Repeat,
    /// `name[]`
    Brackets,
    /// `name[0]`
    Indexed,
    /// One value, its parts joined by this.
    Joined(char),
    /// One value: the list, or a map, as JSON.
    Json,
}

words! {
    /// How a list is written where there are only texts.
    pub(super) enum ListStyleFile {
        Repeat = "repeat",
        Brackets = "brackets",
        Indexed = "indexed",
        Comma = "comma",
        Semicolon = "semicolon",
        Pipe = "pipe",
        Space = "space",
        Json = "json",
    }
}

impl ListStyleFile {
    pub(super) fn resolve(self) -> ListStyle {
        match self {
            Self::Repeat => ListStyle::Repeat,
            Self::Brackets => ListStyle::Brackets,
            Self::Indexed => ListStyle::Indexed,
            Self::Comma => ListStyle::Joined(','),
            Self::Semicolon => ListStyle::Joined(';'),
            Self::Pipe => ListStyle::Joined('|'),
            Self::Space => ListStyle::Joined(' '),
            Self::Json => ListStyle::Json,
        }
    }
}

/// The value alone: the style counts for the meaning of a request only where it is not the usual one.
impl Serialize for Param {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.style {
            ListStyle::Repeat => self.value.serialize(serializer),
            style => (format!("{style:?}"), &self.value).serialize(serializer),
        }
    }
}

impl Param {
    /// Reads the short form (a scalar or a list) or a long one (a map with `type`).
    pub(super) fn read(
        value: &Value,
        style: ListStyle,
        names: Names<'_>,
        at: &Node,
        problems: &mut Problems,
    ) -> Option<Self> {
        let Value::Object(map) = value else {
            check_flat(value, at, problems)?;
            let value = names.json(value, at, problems)?;
            return Some(Self { value, style });
        };
        let kind = map.get("type").and_then(Value::as_str);
        let keys: &[&str] = match kind {
            Some("list") => &["type", "style", "values"],
            Some("json") => &["type", "value"],
            Some("incremental") => {
                at.wrong(
                    problems,
                    "there is an `incremental` already; an endpoint has one cursor",
                );
                return None;
            }
            _ => {
                at.wrong(
                    problems,
                    "expected a text, number, boolean, null or a list of them; a map needs `type: list` or `type: json`, and a parameter such as `filter[from]` is written as that name",
                );
                return None;
            }
        };
        if let Some(key) = map.keys().find(|key| !keys.contains(&key.as_str())) {
            let message = format!("unknown key; known here: {}", keys.join(", "));
            at.nearest(&[key]).wrong(problems, message);
            return None;
        }
        if kind == Some("json") {
            let inner = map.get("value").unwrap_or(&Value::Null);
            let at = at.nearest(&["value"]);
            if !inner.is_object() && !inner.is_array() {
                at.wrong(problems, "expected a `value` that is a map or a list");
                return None;
            }
            let value = names.json(inner, at, problems)?;
            return Some(Self {
                value,
                style: ListStyle::Json,
            });
        }
        let style = match at.get("style").filter(|node| !node.is_null()) {
            Some(node) => {
                <ListStyleFile as super::decode::Decode>::decode(node, problems)?.resolve()
            }
            None => style,
        };
        let values = map.get("values").unwrap_or(&Value::Null);
        let at = at.nearest(&["values"]);
        if values.is_object() || values.is_null() {
            at.wrong(problems, "expected `values`: a list");
            return None;
        }
        check_flat(values, at, problems)?;
        let value = names.json(values, at, problems)?;
        Some(Self { value, style })
    }
}

/// Texts, numbers and booleans, alone or in a list.
fn check_flat(value: &Value, at: &Node, problems: &mut Problems) -> Option<()> {
    let Value::Array(items) = value else {
        return Some(());
    };
    let flat = items
        .iter()
        .all(|item| !matches!(item, Value::Array(_) | Value::Object(_) | Value::Null));
    if !flat {
        at.wrong(
            problems,
            "expected a list of texts, numbers and booleans; `{type: json, value: [...]}` takes any list",
        );
    }
    flat.then_some(())
}
