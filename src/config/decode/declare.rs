//! The macros that declare sections, and what their expansions call.

use schemars::{Schema, json_schema};
use serde_json::{Map, Value};

use super::{Refused, closest};
use crate::config::{
    problem::Problems,
    tree::{Content, Node},
};

/// Declares a section of the file: a map with known keys.
///
/// `key: Type` may be left out (`Option<Type>`), `key: Type = "default"` has a default, written as in the
/// file, `key: Type; required` must be there, `key: Type; section` is a section that may be left out whole.
/// `refused [...]` lists keys of dlt that are refused, each with the reason: `"key": "is ..."`.
macro_rules! section {
    (
        $(#[doc = $doc:expr])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $field_doc:expr])* $field:ident : $ty:ty $(= $default:literal)? $(; $mode:ident)? , )*
        }
        $( refused [ $( $refused:literal : $why:literal ),* $(,)? ] )?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $( $(#[doc = $field_doc])* $vis $field: $crate::config::decode::section!(@type $ty $(, $default)? $(; $mode)?), )*
        }

        impl $name {
            /// Keys of dlt that have no meaning here.
            $vis const REFUSED: $crate::config::decode::Refused = &[ $( $( ($refused, $why) ),* )? ];
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                node: &$crate::config::tree::Node,
                problems: &mut $crate::config::problem::Problems,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[ $( stringify!($field) ),* ];
                let fields = $crate::config::decode::Fields::open(node, KEYS, Self::REFUSED, problems)?;
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
pub(in crate::config) use section;

/// Declares a closed set of words.
macro_rules! words {
    (
        $(#[doc = $doc:expr])*
        $vis:vis enum $name:ident { $( $variant:ident = $word:literal $(| $alias:literal)* ),* $(,)? }
        $( refused [ $( $refused:literal : $why:literal ),* $(,)? ] )?
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
                const REFUSED: $crate::config::decode::Refused = &[ $( $( ($refused, $why) ),* )? ];
                match $crate::config::decode::word(node, WORDS, REFUSED, problems)? {
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
pub(in crate::config) use words;

/// Declares a choice of sections, told apart by the key `type`. A bare word stands for a section of that type alone.
macro_rules! variants {
    (
        $(#[doc = $doc:expr])*
        $vis:vis enum $name:ident {
            $( $variant:ident ( $section:ty ) = $word:literal $(| $alias:literal)* ),* $(,)?
        }
        $( default $default:literal )?
        $( refused [ $( $refused:literal : $why:literal ),* $(,)? ] )?
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
                const REFUSED: $crate::config::decode::Refused = &[ $( $( ($refused, $why) ),* )? ];
                const DEFAULT: &[&str] = &[ $( $default )? ];
                let default = DEFAULT.first().copied();
                let (word, section) = $crate::config::decode::variant(node, WORDS, REFUSED, default, problems)?;
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
pub(in crate::config) use variants;

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
pub(in crate::config) fn property(
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

pub(super) fn or_null(mut schema: Schema) -> Schema {
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

pub(in crate::config) fn object(
    doc: &[&str],
    properties: Vec<(&str, Schema)>,
    required: &[&str],
) -> Schema {
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

pub(in crate::config) fn choice(mut schema: Schema, words: &[&str], default: bool) -> Schema {
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

pub(in crate::config) fn any_of(doc: &[&str], choices: Vec<Schema>, words: &[&str]) -> Schema {
    let mut choices: Vec<Value> = choices.into_iter().map(Schema::to_value).collect();
    choices.push(serde_json::json!({ "enum": words }));
    json_schema!({ "description": prose(doc), "anyOf": choices })
}

/// A section with its type in front.
pub(in crate::config) fn tagged(word: &str, section: Value) -> Value {
    let mut map = Map::new();
    map.insert("type".into(), word.into());
    if let Value::Object(fields) = section {
        map.extend(fields);
    }
    Value::Object(map)
}

/// The one of `words` that a scalar is, in any case.
pub(in crate::config) fn word(
    node: &Node,
    words: &'static [&'static str],
    refused: Refused,
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
    match refused.iter().find(|(word, _)| is(&word)) {
        Some((word, why)) => node.wrong(problems, format!("`{word}` {why}")),
        None => match closest(text, words.iter().copied()) {
            Some(near) => node.wrong(problems, format!("{}; did you mean `{near}`?", expected())),
            None => node.wrong(problems, expected()),
        },
    }
    None
}

/// The type of a choice and the section without its type.
pub(in crate::config) fn variant(
    node: &Node,
    words: &'static [&'static str],
    refused: Refused,
    default: Option<&'static str>,
    problems: &mut Problems,
) -> Option<(&'static str, Node)> {
    match &node.content {
        Content::Scalar(_) => {
            let word = word(node, words, refused, problems)?;
            Some((word, Node::empty(node.place.clone(), node.path.clone())))
        }
        Content::Map(_) => {
            let word = match (node.get("type").filter(|node| !node.is_null()), default) {
                (Some(tag), _) => word(tag, words, refused, problems)?,
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
