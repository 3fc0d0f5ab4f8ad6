//! What a single scalar of the file may be.

use std::{
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use chrono_tz::Tz;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use url::Url;

use super::Decode;
use crate::config::{
    Secret,
    endpoint::DottedPath,
    problem::Problems,
    tree::{Filled, MASK, Node},
    units,
};

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
pub(in crate::config) struct Period(pub(in crate::config) Duration);

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
pub(in crate::config) struct Size(pub(in crate::config) u64);

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

/// A text that is shown as `***` when it was filled in from outside.
#[derive(Debug, Clone)]
pub(in crate::config) struct Guarded {
    pub(in crate::config) text: String,
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
