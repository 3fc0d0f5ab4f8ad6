//! Selecting by a JSONPath expression that is more than plain steps.
//!
//! What comes out has one shape whatever the number of matches: matched lists are opened, matched
//! objects are records. (dlt opens a list only when it is the single match.)

use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;
use serde_json_path::JsonPath;

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    path: JsonPath,
    /// The expression without its last wildcard, filter or slice. Where that matches, nothing
    /// selected means an empty list; where it does not, the answer has another shape.
    parent: Option<JsonPath>,
}

#[derive(Debug)]
pub(super) enum Failure {
    Json(serde_json::Error),
    Shape(&'static str),
}

impl Expression {
    pub(super) fn new(path: &JsonPath) -> Self {
        Self {
            path: path.clone(),
            parent: without_last_choice(&path.to_string())
                .and_then(|text| JsonPath::parse(text).ok()),
        }
    }

    /// Writes the records of `text` into a body of their own.
    ///
    /// `null_is_empty`: a match that is null holds no records, instead of being an error.
    pub(super) fn records(
        &self,
        text: &str,
        null_is_empty: bool,
    ) -> Result<(Bytes, Vec<Range<u32>>), Failure> {
        let tree: Value = match serde_json::from_str(text) {
            Ok(tree) => tree,
            Err(e) => {
                // One lone surrogate must not cost the page; the tree cannot hold it.
                let mended = without_lone_surrogates(text).ok_or(Failure::Json(e))?;
                serde_json::from_str(&mended).map_err(Failure::Json)?
            }
        };
        let matches = self.path.query(&tree).all();
        if matches.is_empty() {
            return match &self.parent {
                Some(parent) if !parent.query(&tree).is_empty() => Ok((Bytes::new(), Vec::new())),
                _ => Err(Failure::Shape("matches nothing in the answer")),
            };
        }
        let mut body = Vec::with_capacity(text.len());
        let mut records = Vec::new();
        for found in matches {
            match found {
                Value::Array(elements) => {
                    for element in elements {
                        write(element, &mut body, &mut records)?;
                    }
                }
                Value::Object(_) => write(found, &mut body, &mut records)?,
                Value::Null if null_is_empty => {}
                Value::Null => return Err(Failure::Shape("is null instead of a list")),
                Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                    return Err(Failure::Shape("is neither a list nor an object"));
                }
            }
        }
        Ok((body.into(), records))
    }
}

fn write(value: &Value, body: &mut Vec<u8>, records: &mut Vec<Range<u32>>) -> Result<(), Failure> {
    let start = body.len();
    serde_json::to_writer(&mut *body, value).map_err(Failure::Json)?;
    let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(body.len())) else {
        // A descendant expression can select the same bytes again and again.
        return Err(Failure::Shape("selects more than 4 GiB"));
    };
    records.push(start..end);
    body.push(b'\n');
    Ok(())
}

/// Cuts the last segment when it is one that may rightly select nothing: `[*]`, `.*`, `[?..]`, `[a:b]`.
fn without_last_choice(expression: &str) -> Option<&str> {
    if let Some(parent) = expression.strip_suffix(".*") {
        return (!parent.ends_with('.')).then_some(parent);
    }
    let (mut open, mut quote, mut escaped, mut depth) = (None, None, false, 0_u32);
    for (at, c) in expression.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => {
                if depth == 0 {
                    open = Some(at);
                }
                depth += 1;
            }
            (None, ']') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    let inner = expression.strip_suffix(']')?;
    let (parent, last) = (expression.get(..open?)?, inner.get(open? + 1..)?);
    let last = last.trim_start();
    let named = last.starts_with(['\'', '"']);
    let choice = last.starts_with(['*', '?']) || (!named && last.contains(':'));
    (choice && !parent.ends_with("..")).then_some(parent)
}

/// Puts U+FFFD for each escaped surrogate without its partner. `None`: there was none.
fn without_lone_surrogates(text: &str) -> Option<String> {
    let mut mended = String::new();
    let mut copied = 0;
    let mut rest = 0;
    while let Some(at) = text.get(rest..)?.find('\\').map(|i| rest + i) {
        let Some(unit) = unit_at(text, at) else {
            rest = at + 2;
            continue;
        };
        rest = at + 6;
        let high = (0xd800..0xdc00).contains(&unit);
        let low = (0xdc00..0xe000).contains(&unit);
        if high && unit_at(text, rest).is_some_and(|next| (0xdc00..0xe000).contains(&next)) {
            rest += 6;
        } else if high || low {
            mended.push_str(text.get(copied..at)?);
            mended.push('\u{fffd}');
            copied = rest;
        }
    }
    if copied == 0 {
        return None;
    }
    mended.push_str(text.get(copied..)?);
    Some(mended)
}

/// The code unit of `\uXXXX` at `at`.
fn unit_at(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(expression: &str, text: &str) -> Result<Vec<String>, &'static str> {
        let expression = Expression::new(&JsonPath::parse(expression).unwrap());
        match expression.records(text, false) {
            Ok((body, ranges)) => Ok(ranges
                .iter()
                .map(|r| {
                    String::from_utf8(body[r.start as usize..r.end as usize].to_vec()).unwrap()
                })
                .collect()),
            Err(Failure::Shape(what)) => Err(what),
            Err(Failure::Json(_)) => Err("json"),
        }
    }

    #[test]
    fn matches_have_one_shape_and_nothing_is_told_from_not_there() {
        let nothing = "matches nothing in the answer";
        for (path, text, expected) in [
            (
                "$.data[*]",
                r#"{"data":[{"a":1},{"a":2}]}"#,
                Ok(vec![r#"{"a":1}"#, r#"{"a":2}"#]),
            ),
            ("$.data[*]", r#"{"data":[{"a":1}]}"#, Ok(vec![r#"{"a":1}"#])),
            ("$.data[*]", r#"{"data":[]}"#, Ok(vec![])),
            ("$.data[*]", r#"{"error":"x"}"#, Err(nothing)),
            ("$.data.*", r#"{"data":{}}"#, Ok(vec![])),
            (
                "$.data[?@.on == true]",
                r#"{"data":[{"on":false}]}"#,
                Ok(vec![]),
            ),
            (
                "$.data[?@.on == true]",
                r#"{"data":[{"on":false},{"on":true}]}"#,
                Ok(vec![r#"{"on":true}"#]),
            ),
            (
                "$..people",
                r#"{"a":[{"people":[{"n":1}]},{"people":[{"n":2}]}]}"#,
                Ok(vec![r#"{"n":1}"#, r#"{"n":2}"#]),
            ),
            ("$..people", r#"{"a":[]}"#, Err(nothing)),
            (
                "$['a]','b'][*]",
                r#"{"b":[{"n":1}]}"#,
                Ok(vec![r#"{"n":1}"#]),
            ),
            (
                "$.data[*].rows",
                r#"{"data":[{"rows":null}]}"#,
                Err("is null instead of a list"),
            ),
            (
                "$.data[*]",
                r#"{"data":[12345678901234567890123.4567890123, 1.10]}"#,
                Err("is neither a list nor an object"),
            ),
            (
                "$.data[0:2]",
                r#"{"data":[{"n":1.10},{"s":"\ud83d \ud83d\ude00"}]}"#,
                Ok(vec![r#"{"n":1.10}"#, "{\"s\":\"\u{fffd} 😀\"}"]),
            ),
        ] {
            let expected = expected.map(|v| v.into_iter().map(str::to_owned).collect());
            assert_eq!(records(path, text), expected, "{path} on {text}");
        }
    }
}
