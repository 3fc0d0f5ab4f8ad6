//! A rejected record as JSON that `jsonb` takes, whatever the record is.

use super::json;
use super::value::{Reading, Sink};

/// Longer records are not kept: a table of mistakes must stay small.
const LONGEST: usize = 64 << 10;
/// Length and version byte that stand before the text of a `jsonb` field.
const HEAD: usize = 5;

/// The record, or its text as one JSON string where it is no JSON that Postgres can hold. `None`: it
/// is too long.
#[must_use]
pub fn kept(record: &[u8]) -> Option<String> {
    if record.len() > LONGEST {
        return None;
    }
    let mut sink = Sink::new(Reading::default());
    if std::str::from_utf8(record).is_ok() && sink.json(record).is_ok() {
        return String::from_utf8(sink.out.get(HEAD..)?.to_vec()).ok();
    }
    let text = String::from_utf8_lossy(record).replace('\0', "\u{fffd}");
    let mut quoted = vec![b'"'];
    json::escape(&text, &mut quoted);
    quoted.push(b'"');
    String::from_utf8(quoted).ok()
}
