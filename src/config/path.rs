//! Paths into JSON: `data.items`, `result[0].rows`, `['odd key'].x`, and RFC 9535 for the rest.
//!
//! Plain steps are taken apart here and not left to the JSONPath library: they are walked for every
//! record, and a path of plain steps is ten times faster than a compiled expression.

use std::fmt;

use super::endpoint::{DottedPath, Selector, Step};

impl DottedPath {
    /// The steps that are object keys, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let keys = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.clone()),
            Step::Index(_) => None,
        });
        keys.collect()
    }

    /// Reads plain steps; `$` for the root may lead. `None`: not plain, or not a path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut rest = match text.strip_prefix('$') {
            Some("") => return Some(Self(Vec::new())),
            Some(rest) if rest.starts_with('.') || rest.starts_with('[') => rest,
            // `$type` is a key like any other.
            Some(_) | None => text,
        };
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let mut steps = Vec::new();
        let mut expect_step = true;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (step, tail) = bracket(inner)?;
                steps.push(step);
                rest = tail;
            } else if expect_step {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let (key, tail) = rest.split_at_checked(end)?;
                if !is_plain_key(key) {
                    return None;
                }
                steps.push(Step::Key(key.to_owned()));
                rest = tail;
            } else {
                return None;
            }
            expect_step = false;
            if let Some(tail) = rest.strip_prefix('.') {
                expect_step = true;
                rest = tail;
            }
        }
        (!expect_step && !steps.is_empty()).then_some(Self(steps))
    }
}

/// One `[...]` after its opening bracket: a position or a quoted key.
pub(super) fn bracket(inner: &str) -> Option<(Step, &str)> {
    let quote = inner.chars().next().filter(|c| matches!(c, '\'' | '"'));
    if let Some(quote) = quote {
        let mut key = String::new();
        let mut chars = inner.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == '\\' {
                key.push(chars.next()?.1);
            } else if c == quote {
                let tail = inner.get(at + c.len_utf8()..)?.strip_prefix(']')?;
                return Some((Step::Key(key), tail));
            } else {
                key.push(c);
            }
        }
        return None;
    }
    let (index, tail) = inner.split_once(']')?;
    Some((Step::Index(index.trim().parse().ok()?), tail))
}

/// Whether the key may stand without quotes. Signs of JSONPath's own may not.
pub(super) fn is_plain_key(key: &str) -> bool {
    !key.is_empty() && key != "*" && !key.contains(['*', '?', '(', ')', ',', '\'', '"', ']', ' '])
}

impl fmt::Display for DottedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("$");
        }
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(position) => write!(f, "[{position}]")?,
                Step::Key(key) if is_plain_key(key) && !key.contains(['.', '[']) && key != "$" => {
                    if index > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(key)?;
                }
                Step::Key(key) => {
                    write!(f, "['{}']", key.replace('\\', "\\\\").replace('\'', "\\'"))?;
                }
            }
        }
        Ok(())
    }
}

impl Selector {
    /// Reads a selector: plain steps, or any expression of RFC 9535 (its `$` may be left out, as in dlt).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(path) = DottedPath::parse(text) {
            return Some(if path.0.is_empty() {
                Self::Root
            } else {
                Self::Path(path)
            });
        }
        let full = match text.chars().next()? {
            '$' => text.to_owned(),
            '[' | '.' => format!("${text}"),
            _ => format!("$.{text}"),
        };
        serde_json_path::JsonPath::parse(&full)
            .ok()
            .map(|path| Self::JsonPath(Box::new(path)))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("$"),
            Self::Path(path) => path.fmt(f),
            Self::JsonPath(path) => path.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    #[test]
    fn plain_paths_are_taken_apart() {
        for (text, steps) in [
            ("data", vec![key("data")]),
            ("data.items", vec![key("data"), key("items")]),
            ("$.data.items", vec![key("data"), key("items")]),
            ("$['a.b'].c", vec![key("a.b"), key("c")]),
            ("[\"x y\"][0]", vec![key("x y"), Step::Index(0)]),
            ("data[-1].id", vec![key("data"), Step::Index(-1), key("id")]),
            ("@odata.nextLink", vec![key("@odata"), key("nextLink")]),
            ("['@odata.nextLink']", vec![key("@odata.nextLink")]),
            ("$type", vec![key("$type")]),
            ("Straße.größe", vec![key("Straße"), key("größe")]),
            ("$", vec![]),
        ] {
            let path = DottedPath::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(path.0, steps, "{text}");
            assert_eq!(DottedPath::parse(&path.to_string()), Some(path), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_plain_path_is_refused() {
        for text in [
            "", ".", "a..b", "a.", "a[", "a[x]", "a['b", "a[0]b", "a[*]", "*", "$..a", "a b",
            "[?(@.x)]",
        ] {
            assert_eq!(DottedPath::parse(text), None, "{text}");
        }
    }

    #[test]
    fn selectors_are_the_root_a_plain_path_or_rfc_9535() {
        assert!(matches!(Selector::parse("$"), Some(Selector::Root)));
        assert!(matches!(Selector::parse("data"), Some(Selector::Path(_))));
        for text in ["a[*].list", "$.a[?@.x > 1]", "$..id", "[*]", "a[0:3]"] {
            assert!(
                matches!(Selector::parse(text), Some(Selector::JsonPath(_))),
                "{text}"
            );
        }
        for text in ["", "a[", "$.[", "a..", "???"] {
            assert!(Selector::parse(text).is_none(), "{text}");
        }
    }
}
