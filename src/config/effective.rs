//! The configuration as it holds: defaults merged, references filled, secrets as `***`.

use std::fmt::Write;

use serde_json::Value;

/// Writes a value as YAML in block style. `${` is escaped, so that the text means the same when it is loaded.
pub(super) fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0, false);
    out
}

fn block(out: &mut String, value: &Value, depth: usize, in_line: bool) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 || !in_line {
                    indent(out, depth);
                }
                out.push_str(&scalar(key));
                out.push(':');
                nested(out, value, depth);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for item in list {
                indent(out, depth);
                out.push_str("- ");
                match item {
                    Value::Object(map) if !map.is_empty() => block(out, item, depth + 1, true),
                    _ => inline(out, item),
                }
            }
        }
        _ => inline(out, value),
    }
}

/// What stands behind a key: on the same line, or in lines of its own.
fn nested(out: &mut String, value: &Value, depth: usize) {
    let deep = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => list
            .iter()
            .any(|item| matches!(item, Value::Array(_) | Value::Object(_))),
        _ => false,
    };
    if deep {
        out.push('\n');
        block(out, value, depth + 1, false);
    } else {
        out.push(' ');
        inline(out, value);
    }
}

fn inline(out: &mut String, value: &Value) {
    flow(out, value);
    out.push('\n');
}

fn flow(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => out.push_str(&scalar(text)),
        Value::Array(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                flow(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                let _ = write!(out, "{}: ", scalar(key));
                flow(out, value);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// A text without quotes where YAML cannot take it for anything else, else as a JSON string.
fn scalar(text: &str) -> String {
    let text = text.replace("${", "$${");
    let word = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':'))
        && (text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
            || text.starts_with("./")
            || is_measure(&text))
        && !text.ends_with(':');
    let taken = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if word && !taken {
        return text;
    }
    Value::String(text).to_string()
}

/// `15m`, `64MiB`: digits and then letters, and no number to any reader.
fn is_measure(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len()
        && !unit.is_empty()
        && !text.starts_with('0')
        && unit.chars().all(|c| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_yaml_that_reads_the_same() {
        let value = json!({
            "a": {"b": "plain", "c": "1.10", "d": "yes", "e": "x: y # z", "f": "${A}"},
            "list": [{"name": "x", "deep": {"z": 1}}, {"name": "z"}],
            "flat": [1, 2, "3"],
            "none": null,
            "empty": {},
            "time": ["15m", "64MiB", "0x1", "1e5", "007d"],
        });
        let yaml = to_yaml(&value);
        assert_eq!(
            yaml,
            r#"a:
  b: plain
  c: "1.10"
  d: "yes"
  e: "x: y # z"
  f: "$${A}"
list:
  - name: x
    deep:
      z: 1
  - name: z
flat: [1, 2, "3"]
none: null
empty: {}
time: [15m, 64MiB, "0x1", "1e5", "007d"]
"#
        );
    }
}
