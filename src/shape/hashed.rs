//! Keys for records that have none: a hash of what they hold.
//!
//! The hash goes into the record as a field of its own, in front of every other look at it, so that
//! it is a key like any other from there on. It is made of what values mean and not of how they are
//! spelled: order of fields, white space, `1.0` for `1` and fields that are null do not change it.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_128;

use super::json::{self, Malformed, Token, Value};
use super::nest::{elements, members};
use super::number::Decimal;
use crate::config::{
    endpoint::DottedPath,
    source::{HASHED_KEY, KeyHash},
};

/// Name of the column that holds the key.
pub const HASHED_KEY_COLUMN: &str = "_rosterd_key";

/// Levels whose values are taken apart; deeper ones count as they are spelled.
const MAX_LEVELS: u32 = 64;

/// Gives the records of a page their key. Those that cannot have one stay as they are, and are
/// rejected for it later.
#[must_use]
pub fn key_page(hash: &KeyHash, body: &[u8], records: &[Range<u32>]) -> (Vec<u8>, Vec<Range<u32>>) {
    let mut out = Vec::with_capacity(body.len() + 48 * records.len());
    let mut places = Vec::with_capacity(records.len());
    let mut text = Vec::new();
    for range in records {
        let record = body
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default();
        let start = out.len();
        text.clear();
        let open = record.trim_ascii().strip_suffix(b"}");
        match (canonical_key(hash, record, &mut text), open) {
            (Ok(true), Some(open)) => {
                out.extend_from_slice(open);
                if open.trim_ascii_end() != b"{" {
                    out.push(b',');
                }
                out.push(b'"');
                json::escape(HASHED_KEY, &mut out);
                out.extend_from_slice(format!("\":\"{:032x}\"}}", xxh3_128(&text)).as_bytes());
            }
            _ => out.extend_from_slice(record),
        }
        places.push(offset(start)..offset(out.len()));
    }
    (out, places)
}

/// Writes what the key is a hash of. `false`: all of it is null.
fn canonical_key(hash: &KeyHash, record: &[u8], out: &mut Vec<u8>) -> Result<bool, Malformed> {
    let whole = Value {
        token: Token::Object,
        raw: record.trim_ascii(),
        escaped: false,
    };
    match hash {
        KeyHash::Whole => {
            canonical(whole, 0, out)?;
            Ok(true)
        }
        KeyHash::Fields(fields) => {
            let mut is_there = false;
            for DottedPath(steps) in fields {
                match json::find(whole, steps)?.filter(|value| value.token != Token::Null) {
                    Some(value) => {
                        is_there = true;
                        canonical(value, 0, out)?;
                    }
                    None => out.push(b'n'),
                }
            }
            Ok(is_there)
        }
    }
}

/// Writes a value so that no two that mean different things are written alike.
fn canonical(value: Value<'_>, level: u32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut part = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&bytes.len().to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match value.token {
        Token::Null => part(b'n', b""),
        Token::Boolean => part(b'b', value.raw),
        Token::Number => {
            let mut text = Vec::new();
            match Decimal::parse(value.raw) {
                Ok(number) => number.write_canonical(&mut text),
                Err(_) => text.extend_from_slice(value.raw),
            }
            part(b'#', &text);
        }
        Token::String => {
            let mut text = Vec::with_capacity(value.raw.len());
            json::unescape(value.raw, &mut text, &mut 0)?;
            part(b's', &text);
        }
        Token::Array | Token::Object if level >= MAX_LEVELS => part(b'?', value.raw),
        Token::Array => {
            out.push(b'[');
            for element in elements(value.raw)? {
                canonical(element.of(value.raw), level + 1, out)?;
            }
            out.push(b']');
        }
        Token::Object => {
            let mut fields = members(value.raw)?;
            fields.retain(|(_, _, extent)| extent.token != Token::Null);
            fields.sort_by(|(_, left, _), (_, right, _)| left.cmp(right));
            out.push(b'{');
            for (_, name, extent) in fields {
                out.extend_from_slice(&name.len().to_le_bytes());
                out.extend_from_slice(name.as_bytes());
                canonical(extent.of(value.raw), level + 1, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(hash: &KeyHash, records: &[&str]) -> Vec<Option<String>> {
        let body = records.concat();
        let mut start = 0;
        let ranges: Vec<Range<u32>> = records
            .iter()
            .map(|record| {
                let from = start;
                start += record.len();
                offset(from)..offset(start)
            })
            .collect();
        let (body, places) = key_page(hash, body.as_bytes(), &ranges);
        places
            .into_iter()
            .map(|place| {
                let record = &body[place.start as usize..place.end as usize];
                let record: serde_json::Value = serde_json::from_slice(record).ok()?;
                record.get(HASHED_KEY)?.as_str().map(str::to_owned)
            })
            .collect()
    }

    #[test]
    fn what_means_the_same_has_one_key_and_what_does_not_has_not() {
        let same = [
            r#"{"a":1,"b":{"x":"é","y":[1,2]}}"#,
            r#" { "b" : {"y":[1.0, 2e0],"x":"\u00e9","z":null}, "a":1.00,"c":null } "#,
        ];
        let others = [
            r#"{"a":1,"b":{"x":"é","y":[2,1]}}"#,
            r#"{"a":"1","b":{"x":"é","y":[1,2]}}"#,
            r#"{"a":1,"b":{"x":"é","y":[1,2]},"c":false}"#,
            r#"{"a":1,"b":{"x":"é","y":[1],"z":2}}"#,
            r#"{"a":1,"b":{"x":"é","y":[[1,2]]}}"#,
            r"{}",
        ];
        let keys = keys(&KeyHash::Whole, &[same.as_slice(), &others].concat());
        assert!(keys.iter().all(Option::is_some));
        assert_eq!(keys[0], keys[1]);
        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), 1 + others.len());
    }

    #[test]
    fn a_key_of_fields_needs_one_of_them_and_keeps_them_apart() {
        let fields = ["a", "b.c"].map(|path| DottedPath::parse(path).unwrap());
        let hash = KeyHash::Fields(fields.to_vec());
        let keys = keys(
            &hash,
            &[
                r#"{"a":1,"b":{"c":2},"d":3}"#,
                r#"{"a":1,"b":{"c":2.0},"d":4}"#,
                r#"{"a":1}"#,
                r#"{"b":{"c":1}}"#,
                r#"{"a":null,"d":1}"#,
                "[1]",
                r#"{"a":1"#,
            ],
        );
        assert_eq!(keys[0], keys[1]);
        assert!(keys[2].is_some() && keys[3].is_some() && keys[2] != keys[3]);
        assert_eq!(keys[4..], [None, None, None]);
    }
}
