//! What an answer looks like in which the records are not where the configuration says: names and types,
//! no value.

use std::{fmt::Write as _, sync::Arc};

use serde_json::Value;

use super::stream;
use crate::{
    config::{
        Resource,
        endpoint::{Endpoint, Selector},
        paginator::Paginator,
    },
    fetch,
};

/// Lines of an outline. An answer that is a map of ids has as many names as records.
const MOST_LINES: usize = 40;
/// Levels that are looked into.
const MOST_LEVELS: usize = 5;

/// The resource's first answer in outline: a line for each name, indented by level. `None`: there is no
/// answer, or it is no JSON.
pub async fn outline(resource: &Resource, api: &Arc<fetch::Api>) -> Option<String> {
    let mut resource = resource.clone();
    take_whole(&mut resource.endpoint);
    let (_, page) = stream::first_page(&resource, api).await.ok()?;
    let answer: Value = serde_json::from_slice(&page?.body).ok()?;
    let mut lines = Vec::new();
    draw("", &answer, 0, &mut lines);
    if lines.len() > MOST_LINES {
        lines.truncate(MOST_LINES);
        lines.push("...".to_owned());
    }
    Some(lines.join("\n"))
}

fn take_whole(endpoint: &mut Endpoint) {
    endpoint.data_selector = Selector::Root;
    endpoint.paginator = Paginator::SinglePage;
    if let Some(first) = endpoint.incremental.as_mut().and_then(|i| i.first.as_mut()) {
        take_whole(first);
    }
}

fn draw(name: &str, value: &Value, level: usize, lines: &mut Vec<String>) {
    if lines.len() > MOST_LINES {
        return;
    }
    let mut line = "  ".repeat(level);
    if !name.is_empty() {
        let _ = write!(line, "{name}: ");
    }
    // Of a list, its first element stands for all.
    let (kind, inner) = match value {
        Value::Null => ("null".to_owned(), None),
        Value::Bool(_) => ("boolean".to_owned(), None),
        Value::Number(_) => ("number".to_owned(), None),
        Value::String(_) => ("text".to_owned(), None),
        Value::Array(list) => (format!("list of {}", list.len()), list.first()),
        Value::Object(_) => ("object".to_owned(), Some(value)),
    };
    lines.push(line + &kind);
    if level >= MOST_LEVELS {
        return;
    }
    match inner {
        Some(Value::Object(map)) => {
            for (name, value) in map {
                draw(name, value, level + 1, lines);
            }
        }
        Some(element) => draw("", element, level + 1, lines),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_types_are_shown_and_no_value() {
        let answer = serde_json::json!({
            "data": {"people": [{"id": 1, "name": "Jane", "tags": ["x"], "boss": null}]},
            "total": 1,
            "rows": [[true]],
        });
        let mut lines = Vec::new();
        draw("", &answer, 0, &mut lines);
        assert_eq!(
            lines,
            [
                "object",
                "  data: object",
                "    people: list of 1",
                "      id: number",
                "      name: text",
                "      tags: list of 1",
                "        text",
                "      boss: null",
                "  total: number",
                "  rows: list of 1",
                "    list of 1",
                "      boolean",
            ]
        );
        let many: serde_json::Map<String, Value> =
            (0..1000).map(|n| (n.to_string(), Value::Null)).collect();
        let mut lines = Vec::new();
        draw("", &many.into(), 0, &mut lines);
        assert_eq!(lines.len(), MOST_LINES + 1);
    }
}
