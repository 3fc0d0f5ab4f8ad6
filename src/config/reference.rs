//! The reference of all keys, for the README: made of the schema, so that it cannot fall behind.

use std::{collections::HashSet, fmt::Write};

use serde_json::Value;

/// A Markdown table of every key: path, type, default, meaning.
#[must_use]
pub fn reference() -> String {
    let schema = super::schema();
    let mut writer = Writer {
        definitions: schema.get("$defs").cloned().unwrap_or_default(),
        told: HashSet::new(),
        out: "| key | type | default | meaning |\n| --- | --- | --- | --- |\n".to_owned(),
    };
    writer.keys(&schema, "");
    writer.out
}

struct Writer {
    definitions: Value,
    /// Sections that stand in the table already.
    told: HashSet<String>,
    out: String,
}

impl Writer {
    fn keys(&mut self, schema: &Value, path: &str) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        let required = |key: &str| {
            schema
                .get("required")
                .and_then(Value::as_array)
                .is_some_and(|keys| keys.iter().any(|known| known == key))
        };
        for (key, property) in properties {
            if key == "type" {
                continue;
            }
            let path = match path {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            self.key(property, &path, required(key));
        }
    }

    fn key(&mut self, property: &Value, path: &str, required: bool) {
        let default = match property.get("default") {
            Some(Value::String(text)) => format!("`{text}`"),
            Some(value) => format!("`{value}`"),
            None if required => "required".to_owned(),
            None => String::new(),
        };
        let meaning = property
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .replace('|', "\\|");
        let _ = writeln!(
            self.out,
            "| `{path}` | {} | {default} | {meaning} |",
            self.kind(property)
        );
        self.below(property, path);
    }

    /// The keys of the sections that the property may hold.
    fn below(&mut self, property: &Value, path: &str) {
        if let Some(items) = property.get("items") {
            self.below(items, &format!("{path}[]"));
        }
        if let Some(values) = property
            .get("additionalProperties")
            .filter(|v| v.is_object())
        {
            self.below(values, &format!("{path}.<name>"));
        }
        if let Some(name) = reference_of(property) {
            let Some(target) = self.definitions.get(name).cloned() else {
                return;
            };
            if !self.told.insert(name.to_owned()) {
                return;
            }
            self.keys(&target, path);
            self.choices(&target, path);
        }
        self.choices(property, path);
    }

    fn choices(&mut self, schema: &Value, path: &str) {
        for choice in schema
            .get("anyOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            match word_of(choice) {
                Some(word) => self.keys(choice, &format!("{path}({word})")),
                None => self.below(choice, path),
            }
        }
    }

    fn kind(&self, property: &Value) -> String {
        if let Some(name) = reference_of(property) {
            let target = self.definitions.get(name).unwrap_or(&Value::Null);
            let words: Vec<&str> = target
                .get("anyOf")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(word_of)
                .collect();
            if !words.is_empty() {
                return format!("one of {}", words.join(", "));
            }
            return match self.told.contains(name) {
                true => "section, as above".to_owned(),
                false => "section".to_owned(),
            };
        }
        if let Some(items) = property.get("items") {
            return format!("list of: {}", self.kind(items));
        }
        if let Some(values) = property
            .get("additionalProperties")
            .filter(|v| v.is_object())
        {
            return format!("map of: {}", self.kind(values));
        }
        if let Some(words) = property.get("enum").and_then(Value::as_array) {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            return format!("one of {}", words.join(", "));
        }
        if let Some(choices) = property.get("anyOf").and_then(Value::as_array) {
            let mut kinds: Vec<String> = choices.iter().map(|choice| self.kind(choice)).collect();
            kinds.retain(|kind| kind != "null");
            return kinds.join(" or ");
        }
        if let Some(format) = property.get("format").and_then(Value::as_str) {
            return format.to_owned();
        }
        match property.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            // `${...}` may stand anywhere: that a number may be written as a text needs no telling.
            Some(Value::Array(kinds)) => kinds
                .first()
                .and_then(Value::as_str)
                .unwrap_or("value")
                .to_owned(),
            _ => "any".to_owned(),
        }
    }
}

fn reference_of(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// The `type` of a choice of sections.
fn word_of(choice: &Value) -> Option<&str> {
    choice.pointer("/properties/type/enum/0")?.as_str()
}
