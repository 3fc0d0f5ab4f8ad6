//! Texts of an endpoint with places that each walk fills: `{incremental.start_value}`.
//!
//! There is no expression language: a place is a name from a closed list, filled as data and encoded
//! for where it stands. `{{` and `}}` are the signs themselves.

use std::fmt::Write as _;

use indexmap::IndexMap;

/// What a text is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Place(Place),
}

/// A value that is known only when a walk begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where the walk begins: the stored cursor less `lag`, or the initial value.
    StartValue,
    /// `incremental.initial_value` as configured.
    InitialValue,
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

fn place(name: &str) -> Result<Place, &'static str> {
    match name {
        // In dlt the last value moves while rows arrive; here it stands still during a walk.
        "incremental.start_value" | "incremental.last_value" => Ok(Place::StartValue),
        "incremental.initial_value" => Ok(Place::InitialValue),
        _ if name.starts_with("resources.") => {
            Err("placeholders such as `{resources.parent.id}` are not supported yet")
        }
        _ if name.starts_with("vars.") => Err("no such variable in the source's `vars`"),
        _ => Err(
            "unknown placeholder; known here: incremental.start_value, incremental.initial_value, vars.<name>",
        ),
    }
}

/// Puts the source's variables where they are named. What they hold is text and nothing else: braces
/// in it are doubled, and `encode` makes it fit for its place.
pub(super) fn with_vars(
    text: &str,
    vars: &IndexMap<String, String>,
    encode: impl Fn(&str) -> String,
) -> String {
    let mut out = text.to_owned();
    for (name, value) in vars {
        let value = encode(value).replace('{', "{{").replace('}', "}}");
        out = out.replace(&format!("{{vars.{name}}}"), &value);
    }
    out
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

#[cfg(test)]
mod tests {
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
            ("{incremental.start_value", None),
            ("a } b", None),
            ("{os.environ}", None),
            ("{resources.p.id}", None),
            ("{vars.unknown}", None),
            ("{}", None),
        ] {
            assert_eq!(pieces(source).ok(), expected, "{source}");
        }
    }

    #[test]
    fn variables_are_data_wherever_they_stand() {
        let vars = IndexMap::from([
            ("tenant".to_owned(), "a/b {x}".to_owned()),
            ("up".to_owned(), "..".to_owned()),
        ]);
        let path = with_vars("/t/{vars.tenant}/{vars.up}/x", &vars, path_segment);
        assert_eq!(
            pieces(&path).unwrap(),
            [text("/t/a%2Fb%20%7Bx%7D/%2E%2E/x")]
        );
        let header = with_vars("{vars.tenant}", &vars, str::to_owned);
        assert_eq!(pieces(&header).unwrap(), [text("a/b {x}")]);
    }
}
