//! Texts of an endpoint with places that each walk fills: `{incremental.start_value}`.
//!
//! There is no expression language: a place is a name in one of a few namespaces, filled as data and
//! encoded for where it stands. `{{` and `}}` are the signs themselves.
//!
//! | namespace | known | in |
//! | --- | --- | --- |
//! | `{incremental.<moment>}` | when a walk begins | anything |
//! | `{vars.<name>}` | when the configuration is read | anything |
//! | `{resources.<parent>.<field>}` | when the walk of a parent's record begins | anything |
//! | `{<name>}`: the parameter of that name | when the configuration is read | the path |
//! | `{export.<path>}` | when the first answer of an export is there | the paths of the export |
//!
//! A new namespace is a variant of [`Place`], read in `place`, allowed by [`Names`] and filled in
//! `fetch::request`. What the configuration knows is filled in at once; the others stay.

use std::fmt::Write as _;

use indexmap::IndexMap;
use serde_json::Value;

use super::{endpoint::DottedPath, problem::Problems, tree::Node};

/// What a text is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Place(Place),
}

/// A value that is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Where the walk begins: the stored cursor less `lag`, or the initial value.
    StartValue,
    /// `incremental.initial_value` as configured.
    InitialValue,
    /// Where the walk ends: `incremental.end_value`, that of `until`, or that of the window.
    EndValue,
    /// A variable of the source.
    Variable(String),
    /// A field of a parent's record.
    Field(Field),
    /// A parameter that stands in the path instead of the query: one of the endpoint, or the page's number.
    Param(String),
    /// A field of the answer to the request that creates an export.
    Export(DottedPath),
}

/// A field of a parent's record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Name of the resource.
    pub resource: String,
    pub path: DottedPath,
}

/// Splits a text into its pieces.
///
/// # Errors
///
/// Says what is wrong, without repeating the text.
pub fn pieces(text: &str) -> Result<Vec<Piece>, &'static str> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(at);
        plain.push_str(before);
        if let Some(tail) = after.strip_prefix("{{") {
            plain.push('{');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix("}}") {
            plain.push('}');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            let (name, tail) = tail
                .split_once('}')
                .ok_or("a `{` without its `}`; write `{{` and `}}` for the signs themselves")?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Place(place(name.trim())?));
            rest = tail;
        } else {
            return Err("a `}` alone; write `{{` and `}}` for the signs themselves");
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

const UNKNOWN: &str = "unknown placeholder; known here: incremental.start_value, incremental.initial_value, incremental.end_value, vars.<name>, resources.<parent>.<field>, and in a path the name of a parameter";

fn place(name: &str) -> Result<Place, &'static str> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'))
    };
    match name.split_once('.') {
        Some(("incremental", moment)) => match moment {
            // In dlt the last value moves while rows arrive; here it stands still during a walk.
            "start_value" | "last_value" => Ok(Place::StartValue),
            "initial_value" => Ok(Place::InitialValue),
            "end_value" => Ok(Place::EndValue),
            _ => Err(UNKNOWN),
        },
        Some(("vars", name)) if !name.is_empty() => Ok(Place::Variable(name.to_owned())),
        Some(("resources", field)) => {
            let (resource, path) = field
                .split_once('.')
                .ok_or("expected the parent and its field: resources.<parent>.<field>")?;
            let path = DottedPath::parse(path)
                .filter(|path| !path.0.is_empty())
                .ok_or(
                    "expected a field as a path of plain steps: resources.<parent>.address.id",
                )?;
            Ok(Place::Field(Field {
                resource: resource.to_owned(),
                path,
            }))
        }
        Some(("export", path)) => DottedPath::parse(path)
            .filter(|path| !path.0.is_empty())
            .map(Place::Export)
            .ok_or("expected a path of plain steps behind `export.`"),
        Some(_) => Err(UNKNOWN),
        None if is_name(name) => Ok(Place::Param(name.to_owned())),
        None => Err(UNKNOWN),
    }
}

/// The pieces as one text that [`pieces`] would read again.
fn joined(pieces: &[Piece]) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(&escaped(text)),
            Piece::Place(Place::StartValue) => out.push_str("{incremental.start_value}"),
            Piece::Place(Place::InitialValue) => out.push_str("{incremental.initial_value}"),
            Piece::Place(Place::EndValue) => out.push_str("{incremental.end_value}"),
            Piece::Place(Place::Variable(name)) => {
                let _ = write!(out, "{{vars.{name}}}");
            }
            Piece::Place(Place::Field(Field { resource, path })) => {
                let _ = write!(out, "{{resources.{resource}.{path}}}");
            }
            Piece::Place(Place::Param(name)) => {
                let _ = write!(out, "{{{name}}}");
            }
            Piece::Place(Place::Export(path)) => {
                let _ = write!(out, "{{export.{path}}}");
            }
        }
    }
    out
}

/// A text that stands for itself when it is read as pieces.
fn escaped(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// A scalar as text; `None` for null.
#[must_use]
pub fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(value.to_string())
        }
    }
}

/// Puts the source's variables where they are named. What they hold is text and nothing else: braces
/// in it are doubled, and `encode` makes it fit for its place.
fn with_variables(
    pieces: Vec<Piece>,
    vars: &IndexMap<String, Value>,
    encode: impl Fn(&str) -> String,
) -> Result<Vec<Piece>, &'static str> {
    let fill = |piece| match piece {
        Piece::Place(Place::Variable(name)) => {
            let value = vars.get(&name).and_then(text_of);
            value
                .map(|text| Piece::Text(encode(&text)))
                .ok_or("no such variable in the source's `vars`")
        }
        other => Ok(other),
    };
    pieces.into_iter().map(fill).collect()
}

/// A value as one segment of a path: only RFC 3986's unreserved signs stay.
#[must_use]
pub fn path_segment(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").ok();
        }
    }
    // A segment of dots alone would walk up the path.
    match out.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => out,
    }
}

/// What the texts of an endpoint may name.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) vars: &'a IndexMap<String, Value>,
    /// Whether `endpoint.incremental` is there, and whether it has an initial value.
    pub(super) incremental: Option<bool>,
    /// Whether each walk has an end.
    pub(super) end: bool,
    /// Names of the source's resources.
    pub(super) resources: &'a [String],
}

impl Names<'_> {
    /// The text with what is known filled in, still with its places; checked, so that a walk can fill them.
    ///
    /// `needed`: a text that cannot be left out when a place has no value.
    pub(super) fn template(
        self,
        text: &str,
        needed: bool,
        at: &Node,
        problems: &mut Problems,
    ) -> Option<String> {
        let read = pieces(text).and_then(|pieces| {
            let pieces = with_variables(pieces, self.vars, str::to_owned)?;
            match pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Place(Place::Param(_))))
            {
                true => Err(UNKNOWN),
                false => Ok(pieces),
            }
        });
        self.checked(read, needed, at, problems)
    }

    /// The same for a path, in which every filled value becomes one segment or a part of one.
    ///
    /// `param`: values of the parameters that may be named; the names that were are noted in `bound`.
    /// `walked`: the one that the walk fills anew for each page.
    pub(super) fn path(
        self,
        text: &str,
        param: impl Fn(&str) -> Option<Value>,
        walked: Option<&str>,
        bound: &mut Vec<String>,
        at: &Node,
        problems: &mut Problems,
    ) -> Option<String> {
        let read = pieces(text).and_then(|read| {
            let mut filled = Vec::new();
            for piece in with_variables(read, self.vars, path_segment)? {
                let Piece::Place(Place::Param(name)) = piece else {
                    filled.push(piece);
                    continue;
                };
                if walked == Some(name.as_str()) {
                    filled.push(Piece::Place(Place::Param(name)));
                    continue;
                }
                let value = param(&name)
                    .ok_or("the placeholder needs a value of the same name in `endpoint.params`")?;
                let text = match &value {
                    Value::String(text) if text.is_empty() => None,
                    Value::Null | Value::Array(_) | Value::Object(_) => None,
                    value => text_of(value),
                };
                let inner =
                    text.ok_or("a parameter in a path must be a text, a number or a boolean")?;
                let inner = with_variables(pieces(&inner)?, self.vars, str::to_owned)?;
                filled.extend(inner.into_iter().map(|piece| match piece {
                    Piece::Text(text) => Piece::Text(path_segment(&text)),
                    place @ Piece::Place(_) => place,
                }));
                bound.push(name);
            }
            Ok(filled)
        });
        self.checked(read, true, at, problems)
    }

    /// A path of an export's: like another, but it may name fields of the first answer, and nothing
    /// that only a walk's beginning knows.
    pub(super) fn export_path(
        self,
        text: &str,
        at: &Node,
        problems: &mut Problems,
    ) -> Option<String> {
        let read = pieces(text).and_then(|pieces| with_variables(pieces, self.vars, path_segment));
        let is_known =
            |piece: &Piece| matches!(piece, Piece::Text(_) | Piece::Place(Place::Export(_)));
        match read {
            Ok(pieces) if pieces.iter().all(is_known) => Some(joined(&pieces)),
            Ok(_) => {
                at.wrong(
                    problems,
                    "unknown placeholder; known here: export.<path>, vars.<name>",
                );
                None
            }
            Err(message) => {
                at.wrong(problems, message);
                None
            }
        }
    }

    fn checked(
        self,
        read: Result<Vec<Piece>, &'static str>,
        needed: bool,
        at: &Node,
        problems: &mut Problems,
    ) -> Option<String> {
        let pieces = match read {
            Ok(pieces) => pieces,
            Err(message) => {
                at.wrong(problems, message);
                return None;
            }
        };
        if pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Place(Place::Export(_))))
        {
            at.wrong(
                problems,
                "`{export...}` is known only in `export.poll_path` and `export.download_path`",
            );
            return None;
        }
        let has_places = pieces.iter().any(|piece| {
            matches!(
                piece,
                Piece::Place(Place::StartValue | Place::InitialValue | Place::EndValue)
            )
        });
        if self.incremental.is_some()
            && !self.end
            && pieces.contains(&Piece::Place(Place::EndValue))
        {
            at.wrong(
                problems,
                "no walk has an end to put here: set `incremental.until` or `incremental.end_value`",
            );
            return None;
        }
        let is_unknown = |piece: &Piece| match piece {
            Piece::Place(Place::Field(field)) => !self.resources.contains(&field.resource),
            Piece::Place(_) | Piece::Text(_) => false,
        };
        if pieces.iter().any(is_unknown) {
            at.wrong(
                problems,
                "the source has no resource of the placeholder's name",
            );
            return None;
        }
        match self.incremental {
            None if has_places => {
                at.wrong(problems, "the placeholder needs `endpoint.incremental`");
                None
            }
            Some(false) if has_places && needed => {
                at.wrong(
                    problems,
                    "the first walk has nothing to put here: set `incremental.initial_value`",
                );
                None
            }
            _ => Some(joined(&pieces)),
        }
    }

    /// The same for every text of a JSON value. A text that is one variable and nothing else keeps
    /// the variable's type.
    pub(super) fn json(self, value: &Value, at: &Node, problems: &mut Problems) -> Option<Value> {
        Some(match value {
            Value::String(text) => {
                if let Ok([Piece::Place(Place::Variable(name))]) = pieces(text).as_deref()
                    && let Some(value) = self.vars.get(name)
                {
                    return Some(match value {
                        Value::String(text) => escaped(text).into(),
                        other => other.clone(),
                    });
                }
                Value::String(self.template(text, false, at, problems)?)
            }
            Value::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| self.json(item, at, problems))
                    .collect::<Option<_>>()?,
            ),
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, value)| {
                        Some((literal(key, at, problems)?, self.json(value, at, problems)?))
                    })
                    .collect::<Option<_>>()?,
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        })
    }
}

/// A text that has no places: `{{` and `}}` as single braces.
pub(super) fn literal(text: &str, at: &Node, problems: &mut Problems) -> Option<String> {
    match pieces(text).as_deref() {
        Ok([Piece::Text(text)]) => Some(text.clone()),
        Ok(_) => {
            at.wrong(problems, "a placeholder cannot stand in a name");
            None
        }
        Err(message) => {
            at.wrong(problems, *message);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn texts_are_split_at_their_places() {
        let start = Piece::Place(Place::StartValue);
        for (source, expected) in [
            ("", Some(vec![text("")])),
            ("plain", Some(vec![text("plain")])),
            ("{{\"a\": 1}}", Some(vec![text("{\"a\": 1}")])),
            ("{incremental.start_value}", Some(vec![start.clone()])),
            (
                "updated > '{ incremental.last_value }' and {{x}}",
                Some(vec![text("updated > '"), start, text("' and {x}")]),
            ),
            (
                "{vars.tenant}/{org}",
                Some(vec![
                    Piece::Place(Place::Variable("tenant".into())),
                    text("/"),
                    Piece::Place(Place::Param("org".into())),
                ]),
            ),
            ("{incremental.start_value", None),
            ("a } b", None),
            ("{os.environ}", None),
            (
                "/{resources.p.a[0].id}",
                Some(vec![
                    text("/"),
                    Piece::Place(Place::Field(Field {
                        resource: "p".into(),
                        path: DottedPath::parse("a[0].id").unwrap(),
                    })),
                ]),
            ),
            ("{resources.p}", None),
            ("{resources.p.}", None),
            ("{resources.p.a[*]}", None),
            ("{vars.}", None),
            ("{}", None),
            ("{a b}", None),
        ] {
            let read = pieces(source).ok();
            assert_eq!(read, expected, "{source}");
            if let Some(read) = read {
                assert_eq!(pieces(&joined(&read)).ok(), Some(read), "{source}");
            }
        }
    }

    #[test]
    fn variables_are_data_wherever_they_stand() {
        let vars = IndexMap::from([
            ("tenant".to_owned(), json!("a/b {x}")),
            ("up".to_owned(), json!("..")),
            ("size".to_owned(), json!(50)),
        ]);
        let names = Names {
            vars: &vars,
            incremental: None,
            end: false,
            resources: &[],
        };
        let node = Node::default_value("x", String::new());
        let mut problems = Problems::default();
        let mut path = |text| {
            let param = |name: &str| (name == "org").then(|| json!("{vars.tenant}-7"));
            names.path(text, param, None, &mut Vec::new(), &node, &mut problems)
        };
        assert_eq!(
            path("/t/{vars.tenant}/{vars.up}/{org}/x").unwrap(),
            "/t/a%2Fb%20%7Bx%7D/%2E%2E/a%2Fb%20%7Bx%7D-7/x"
        );
        assert_eq!(path("/t/{{vars.tenant}}").unwrap(), "/t/{{vars.tenant}}");
        for wrong in ["/{none}", "/{vars.none}", "/{resources.none.id}"] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
        let body = json!({"n": "{vars.size}", "t": "{vars.tenant}", "both": "{vars.size}px", "{{k}}": null});
        assert_eq!(
            names.json(&body, &node, &mut problems).unwrap(),
            json!({"n": 50, "t": "a/b {{x}}", "both": "50px", "{k}": null})
        );
    }
}
