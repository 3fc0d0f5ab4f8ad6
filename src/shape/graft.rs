//! Fields of parents: read from their records, and put into those of their children.

use serde_json::Value as Json;

use super::json::{self, Reader, Token, Value};
use crate::config::endpoint::DottedPath;

/// The value at a place of a record. `None`: there is no such place, or the record is not JSON.
#[must_use]
pub fn field(record: &[u8], path: &DottedPath) -> Option<Json> {
    serde_json::from_slice(&raw_field(record, path)?).ok()
}

/// The same as the text that stands there.
#[must_use]
pub fn raw_field(record: &[u8], path: &DottedPath) -> Option<Vec<u8>> {
    let record = record.trim_ascii();
    let token = match record.first()? {
        b'{' => Token::Object,
        b'[' => Token::Array,
        _ => return None,
    };
    let whole = Value {
        token,
        raw: record,
        escaped: false,
    };
    let found = json::find(whole, &path.0).ok().flatten()?;
    Some(match found.token {
        Token::String => [b"\"", found.raw, b"\""].concat(),
        _ => found.raw.to_vec(),
    })
}

/// Appends a record with more members behind its own; where a name stands in both, that of `more` counts.
///
/// `more`: an object. A record that is none is appended as it is.
pub fn with_members(record: &[u8], more: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if append(record, more, out).is_err() {
        out.truncate(start);
        out.extend_from_slice(record);
    }
}

fn append(record: &[u8], more: &[u8], out: &mut Vec<u8>) -> Result<(), json::Malformed> {
    let added = members(more)?;
    out.push(b'{');
    let mut is_first = true;
    let own = members(record)?;
    let own = own
        .iter()
        .filter(|(name, _)| !added.iter().any(|(other, _)| other == name));
    for (name, value) in own.chain(&added) {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        out.push(b'"');
        out.extend_from_slice(name);
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value);
    }
    out.push(b'}');
    Ok(())
}

/// Name, without quotes, and text of a member.
type Member<'a> = (&'a [u8], &'a [u8]);

fn members(object: &[u8]) -> Result<Vec<Member<'_>>, json::Malformed> {
    let mut reader = Reader::new(object);
    reader.skip_space();
    if !reader.eat(b'{') {
        return Err(json::Malformed);
    }
    let mut members = Vec::new();
    if reader.eat(b'}') {
        return Ok(members);
    }
    loop {
        let name = reader.name()?.raw;
        let start = reader.position();
        reader.value()?;
        let value = object.get(start..reader.position());
        members.push((name, value.ok_or(json::Malformed)?));
        if !reader.more(b'}')? {
            return Ok(members);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_text() {
        let record = br#" {"id": 12345678901234567890, "a": {"b": [{"c": "x\"y"}]}, "n": null} "#;
        for (path, expected) in [
            ("id", Some("12345678901234567890")),
            ("a.b[0].c", Some(r#""x\"y""#)),
            ("a.b[-1]", Some(r#"{"c": "x\"y"}"#)),
            ("n", Some("null")),
            ("none", None),
            ("a.b.c", None),
        ] {
            let path = DottedPath::parse(path).unwrap();
            let found = raw_field(record, &path).map(|raw| String::from_utf8(raw).unwrap());
            assert_eq!(found.as_deref(), expected, "{path}");
        }
        assert_eq!(field(b"7", &DottedPath::parse("id").unwrap()), None);
    }

    #[test]
    fn members_are_added_behind_and_replace_what_has_their_name() {
        for (record, more, expected) in [
            (r#"{"a":1}"#, r#"{"b":2}"#, r#"{"a":1,"b":2}"#),
            ("{}", r#"{"b":2}"#, r#"{"b":2}"#),
            (r#"{"a":1}"#, "{}", r#"{"a":1}"#),
            (
                r#" { "a" : 1.50 , "b" : [ 1 ] } "#,
                r#"{"b": null}"#,
                r#"{"a":1.50,"b":null}"#,
            ),
            ("[1]", r#"{"b":2}"#, "[1]"),
            (r#"{"a":"#, r#"{"b":2}"#, r#"{"a":"#),
        ] {
            let mut out = b"x".to_vec();
            with_members(record.as_bytes(), more.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{expected}"));
        }
    }
}
