//! What holds other values: lists, maps, short forms, JSON as it stands.

use indexmap::IndexMap;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{Decode, declare::or_null};
use crate::config::{
    problem::Problems,
    secret::SecretJson,
    tree::{Content, MASK, Node},
};

/// A section that may hold itself.
impl<T: Decode> Decode for Box<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        T::decode(node, problems).map(Self::new)
    }

    fn show(&self) -> Value {
        T::show(self)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
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
pub(in crate::config) struct Tried<T>(pub(in crate::config) Option<T>);

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
pub(in crate::config) struct Short<T>(pub(in crate::config) T);

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
pub(in crate::config) struct OneOrMany<T>(pub(in crate::config) Vec<T>);

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

/// Any JSON value, as it stands in the file.
#[derive(Debug, Clone)]
pub(in crate::config) struct Json {
    pub(in crate::config) value: Value,
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

impl Decode for SecretJson {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.content {
            Content::Broken => None,
            Content::Map(_) | Content::List(_) => Some(Self::new(node.to_json(false))),
            Content::Null | Content::Scalar(_) => {
                node.wrong(problems, "expected a map or a list");
                None
            }
        }
    }

    fn show(&self) -> Value {
        fn masked(value: &Value) -> Value {
            match value {
                Value::Array(items) => items.iter().map(masked).collect(),
                Value::Object(map) => Value::Object(
                    map.iter()
                        .map(|(key, value)| (key.clone(), masked(value)))
                        .collect(),
                ),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => MASK.into(),
            }
        }
        masked(self.expose())
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["object", "array"] })
    }
}
