//! Covers the configured secrets in a line of bytes, in whatever encoding they stand there.
//!
//! Their values are known, so they are searched for; names like `token` are not guessed at.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// Shorter values are not covered: they are in every second line by chance.
const SHORTEST_SECRET: usize = 4;

const COVER: &[u8] = b"***";

/// The values to cover, in all their spellings, as one automaton.
#[derive(Debug, Clone, Default)]
pub(super) struct Masks(Arc<RwLock<Covered>>);

#[derive(Default)]
struct Covered {
    spellings: Vec<Vec<u8>>,
    search: Option<AhoCorasick>,
}

impl fmt::Debug for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Covered({} spellings)", self.spellings.len())
    }
}

impl Masks {
    pub(super) fn add(&self, secrets: &[String]) {
        let mut covered = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for secret in secrets.iter().filter(|s| s.len() >= SHORTEST_SECRET) {
            covered.spellings.extend(spellings(secret));
        }
        covered.spellings.sort();
        covered.spellings.dedup();
        // The longest match wins, so that a secret that begins with another one is covered whole. Only
        // gigabytes of secrets could make this fail; then the search from before stays.
        if let Ok(search) = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            // The automaton that would be chosen for a few secrets takes more than a megabyte.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&covered.spellings)
        {
            covered.search = (!covered.spellings.is_empty()).then_some(search);
        }
    }

    pub(super) fn cover(&self, line: Vec<u8>) -> Vec<u8> {
        let covered = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(search) = &covered.search else {
            return line;
        };
        let mut out = Vec::with_capacity(line.len());
        let mut from = 0;
        for found in search.find_iter(&line) {
            out.extend_from_slice(line.get(from..found.start()).unwrap_or_default());
            out.extend_from_slice(COVER);
            from = found.end();
        }
        out.extend_from_slice(line.get(from..).unwrap_or_default());
        out
    }
}

/// A secret as it may stand in a line: itself, encoded for a URL, a form, JSON, Rust, base64 or hex.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let mut all = vec![secret.to_owned()];
    // Clients differ in what they leave alone: nearly nothing, what RFC 3986 calls unreserved, or
    // everything that a query may hold.
    let keep: [fn(u8) -> bool; 4] = [
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || b"-._~".contains(&b),
        |b| b.is_ascii_alphanumeric() || b"-._*".contains(&b),
        |b| b.is_ascii_graphic() && !b"\"#<>&'%".contains(&b),
    ];
    for keep in keep {
        for (plus, upper) in [(false, true), (false, false), (true, true), (true, false)] {
            let once = percent(bytes, keep, plus, upper);
            // A URL inside of a URL: encoded again, the plus of a form left alone or not.
            all.push(percent(once.as_bytes(), keep, false, true));
            all.push(once.replace('%', "%25"));
            all.push(once);
        }
    }
    all.push(bytes.iter().map(|b| format!("{b:02x}")).collect());
    all.push(bytes.iter().map(|b| format!("{b:02X}")).collect());
    // In the middle of something longer (`user:password`), base64 depends on what stands before.
    for before in 0..3 {
        let mut padded = vec![0; before];
        padded.extend_from_slice(bytes);
        for encoded in [
            STANDARD_NO_PAD.encode(&padded),
            URL_SAFE_NO_PAD.encode(&padded),
        ] {
            let first = (before * 8).div_ceil(6);
            let whole = padded.len() * 8 / 6;
            if whole - first >= SHORTEST_SECRET {
                all.extend(encoded.get(first..whole).map(str::to_owned));
            }
        }
    }
    let mut quoted = Vec::new();
    for spelling in &all {
        let debug = format!("{spelling:?}");
        quoted.push(json(&debug));
        quoted.push(json(spelling));
        quoted.push(json(&json(spelling)));
        quoted.push(debug);
    }
    // Without the quotes, which belong to what stands around it.
    let bare = |text: String| text.trim_matches('"').to_owned();
    all.extend(quoted.into_iter().map(bare));
    let mut all: Vec<Vec<u8>> = all
        .into_iter()
        .map(String::into_bytes)
        .filter(|spelling| spelling.len() >= SHORTEST_SECRET)
        .collect();
    all.sort();
    all.dedup();
    all
}

fn percent(bytes: &[u8], keep: fn(u8) -> bool, plus: bool, upper: bool) -> String {
    bytes
        .iter()
        .map(|byte| match byte {
            b' ' if plus => "+".to_owned(),
            byte if keep(*byte) => char::from(*byte).to_string(),
            byte if upper => format!("%{byte:02X}"),
            byte => format!("%{byte:02x}"),
        })
        .collect()
}

/// The text as JSON, without its quotes.
fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted
        .strip_prefix('"')
        .and_then(|q| q.strip_suffix('"'))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    const SECRET: &str = r#"k3y+/=Zz&q%1 #"'\ok é"#;

    fn covered(line: &str) -> String {
        let masks = Masks::default();
        masks.add(&[
            SECRET.to_owned(),
            "other-secret".to_owned(),
            "abc".to_owned(),
        ]);
        String::from_utf8(masks.cover(line.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_secret_is_covered_in_every_spelling() {
        let form: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
        let mut url = url::Url::parse("https://h/").unwrap();
        url.query_pairs_mut().append_pair("key", SECRET);
        let mut plain_query = url::Url::parse("https://h/").unwrap();
        plain_query.set_query(Some("x"));
        let pair = format!("me:{SECRET}");
        for (name, leak) in [
            ("raw", SECRET.to_owned()),
            ("form", form.clone()),
            ("form, lower hex", form.to_lowercase().replace("zz", "Zz")),
            ("url", url.to_string()),
            ("json", serde_json::to_string(SECRET).unwrap()),
            (
                "json in json",
                serde_json::to_string(&serde_json::to_string(SECRET).unwrap()).unwrap(),
            ),
            ("debug", format!("{SECRET:?}")),
            (
                "debug in json",
                serde_json::to_string(&format!("{SECRET:?}")).unwrap(),
            ),
            ("base64", STANDARD.encode(SECRET)),
            ("base64url", URL_SAFE.encode(SECRET)),
            ("basic", STANDARD.encode(&pair)),
            ("basic url", URL_SAFE.encode(format!("u:{SECRET}"))),
            ("double percent", url.query().unwrap().replace('%', "%25")),
        ] {
            let line = covered(&format!("before {leak} after"));
            assert!(line.contains("***"), "{name}: {line}");
            for rest in ["k3y", "Zz", "ok", SECRET] {
                assert!(!line.contains(rest), "{name}: {line}");
            }
            assert!(
                line.starts_with("before ") && line.ends_with(" after"),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in ["", "a plain line abc", "other-secre"] {
            assert_eq!(covered(line), line);
        }
        assert_eq!(covered("[other-secret]"), "[***]");
    }
}
