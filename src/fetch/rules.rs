//! The rules of an endpoint on its answers: which one fits, and what its answer says of itself.

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::{
    decode::found_at,
    select::{Records, Wanted, scan},
};
use crate::config::{
    endpoint::DottedPath,
    rules::{Action, JsonIs, Rule},
    template::text_of,
};

/// Longest message of the API's that is shown.
const LONGEST_MESSAGE: usize = 200;

/// Words at least this long in a message are taken for keys.
const LONGEST_WORD: usize = 24;

/// Digits in a row that may be the number of a person or an account.
const LONGEST_NUMBER: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Compiled>);

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    json: Vec<(Wanted, JsonIs)>,
}

/// What the rule that fits wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) action: Action,
    /// In the API's words.
    pub(super) message: Option<Box<str>>,
}

impl Rules {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let compiled = rules.iter().map(|rule| Compiled {
            json: rule
                .json
                .iter()
                .map(|is| (wanted(&is.path), is.clone()))
                .collect(),
            rule: rule.clone(),
        });
        Self(compiled.collect())
    }

    /// The rules that may still fit when status and headers are known.
    pub(super) fn open(&self, status: u16, headers: &HeaderMap) -> Open<'_> {
        let fits = |rule: &Rule| {
            let statuses = &rule.statuses;
            let right_status = statuses.is_empty()
                || statuses
                    .iter()
                    .any(|(from, to)| (*from..=*to).contains(&status));
            right_status
                && rule.headers.iter().all(|(name, part)| {
                    let values = headers.get_all(name.as_str()).iter();
                    values
                        .filter_map(|value| value.to_str().ok())
                        .any(|value| value.contains(part.as_str()))
                })
        };
        Open(self.0.iter().filter(|c| fits(&c.rule)).collect())
    }
}

/// Rules in their order that wait for the body.
pub(super) struct Open<'r>(Vec<&'r Compiled>);

impl Open<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The verdict that no body can change any more.
    pub(super) fn before_the_body(&self) -> Option<Verdict> {
        let first = self.0.first()?;
        let asks = !first.rule.contents.is_empty()
            || !first.json.is_empty()
            || first.rule.empty.is_some()
            || first.rule.message_path.is_some();
        (!asks).then_some(Verdict {
            action: first.rule.action,
            message: None,
        })
    }

    pub(super) fn decide(&self, body: &[u8]) -> Option<Verdict> {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}');
        let fits = |compiled: &&&Compiled| {
            let rule = &compiled.rule;
            let contents = &rule.contents;
            contents.iter().all(|part| text.contains(part.as_str()))
                && rule
                    .empty
                    .is_none_or(|empty| empty == text.trim_ascii().is_empty())
                && compiled
                    .json
                    .iter()
                    .all(|(wanted, is)| has_value(text, wanted, is))
        };
        let compiled = self.0.iter().find(fits)?;
        let path = compiled.rule.message_path.as_ref();
        Some(Verdict {
            action: compiled.rule.action,
            message: path.and_then(|path| message(text, path)),
        })
    }
}

fn wanted(path: &DottedPath) -> Wanted {
    let mut wanted = Wanted::default();
    wanted.records_at(&path.0);
    wanted
}

fn has_value(text: &str, wanted: &Wanted, is: &JsonIs) -> bool {
    let found = match scan(text, wanted).map(|found| found.records) {
        // Not JSON: no condition on JSON fits.
        Err(_) => return false,
        Ok(Records::Missing) => None,
        Ok(Records::One(raw)) => match serde_json::from_str(raw.get()) {
            Ok(value @ (Value::Array(_) | Value::Object(_))) => Some(value.to_string()),
            Ok(value) => text_of(&value),
            Err(_) => return false,
        },
        Ok(Records::List(_) | Records::Other) => return false,
    };
    is.values.contains(&found)
}

/// The API's message, short and without what may be personal or secret.
fn message(text: &str, path: &DottedPath) -> Option<Box<str>> {
    let body: Value = serde_json::from_str(text).ok()?;
    let message = text_of(found_at(&body, path)?)?;
    let words = message.split(|c: char| c.is_whitespace() || c.is_control());
    let shown: Vec<&str> = words
        .filter(|word| !word.is_empty())
        .map(|word| if is_private(word) { "***" } else { word })
        .collect();
    let mut shown = shown.join(" ");
    if shown.len() > LONGEST_MESSAGE {
        let end = shown.floor_char_boundary(LONGEST_MESSAGE);
        shown.truncate(end);
        shown.push('…');
    }
    (!shown.is_empty()).then(|| shown.into())
}

/// Whether a word may be an address, the number of something, or a key.
fn is_private(word: &str) -> bool {
    let mut digits = 0;
    let has_number = word.chars().any(|c| {
        digits = match c {
            c if c.is_numeric() => digits + 1,
            // Numbers are grouped: 123-45-6789, 12.03.1980.
            '-' | '.' | '/' | ',' => digits,
            _ => 0,
        };
        digits > LONGEST_NUMBER
    });
    has_number || word.contains('@') || word.chars().count() >= LONGEST_WORD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_and_show_neither_people_nor_keys() {
        let path = DottedPath::parse("error.message").unwrap();
        let said = |text: &str| {
            let body = serde_json::json!({"error": {"message": text}});
            message(&body.to_string(), &path)
        };
        for (text, shown) in [
            ("Scope hr:read is missing", Some("Scope hr:read is missing")),
            ("code 403: no", Some("code 403: no")),
            (
                "no access for\njane@example.com (id 4711)",
                Some("no access for *** (id ***"),
            ),
            ("born 12.03.1980 SSN 123-45-6789", Some("born *** SSN ***")),
            (
                "key abcdefghijklmnopqrstuvwxyz wrong",
                Some("key *** wrong"),
            ),
            ("", None),
        ] {
            assert_eq!(said(text).as_deref(), shown, "{text}");
        }
        let long = said(&"word ".repeat(1000)).unwrap();
        assert!(long.len() <= LONGEST_MESSAGE + '…'.len_utf8(), "{long}");
        assert_eq!(message("<html>", &path), None);
    }
}
