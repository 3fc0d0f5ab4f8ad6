//! Which paginator a first answer suggests. A suggestion and no more: whoever knows the API writes it down.
//!
//! In the order of dlt: a link in the header, a link in the body, a number of pages, a token, one page. Only
//! objects are looked into and never lists, because what stands in a record is no paging.

use serde_json::{Map, Value};

use crate::{
    config::endpoint::{DottedPath, Step},
    fetch::{client::Answer, link},
};

/// How deep the envelope is looked into.
const DEPTH: usize = 6;

/// Names that begin like the next page and are not.
const NOT_PAGES: [&str; 6] = ["date", "review", "day", "step", "payment", "run"];

/// The suggestion, as it is written in the file.
pub(in crate::fetch) fn suggest(answer: &Answer) -> String {
    if link::by_relation(answer.links(), "next").is_some() {
        return "{type: header_link}".to_owned();
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let fields = Fields::of(&body);
    if let Some(path) = fields.find(|name, value| is_next(name) && is_link(value)) {
        return format!("{{type: json_link, next_url_path: {path}}}");
    }
    let is_pages = |name: &str, value: &Value| {
        matches!(plain(name).as_str(), "totalpages" | "pages" | "pagecount") && value.is_u64()
    };
    if let Some(path) = fields.find(is_pages) {
        // The first answer tells from where the API counts.
        let first = fields.value(|name, value| {
            matches!(
                plain(name).as_str(),
                "page" | "currentpage" | "pagenumber" | "number"
            ) && value.is_u64()
        });
        let base = first.and_then(Value::as_u64).unwrap_or(0).min(1);
        return format!("{{type: page_number, base_page: {base}, total_path: {path}}}");
    }
    if let Some(path) = fields.find(|name, value| is_next(name) && is_token(value)) {
        return format!("{{type: cursor, cursor_path: {path}}}");
    }
    if let Some(path) = fields.find(|name, value| {
        matches!(plain(name).as_str(), "total" | "totalcount") && value.is_u64()
    }) {
        return format!("{{type: offset, limit: 100, total_path: {path}}}");
    }
    "single_page".to_owned()
}

/// All fields of the objects of an answer, with their paths.
struct Fields<'v>(Vec<(Vec<Step>, &'v str, &'v Value)>);

impl<'v> Fields<'v> {
    fn of(body: &'v Value) -> Self {
        let mut fields = Self(Vec::new());
        if let Value::Object(map) = body {
            fields.add(map, &[]);
        }
        fields
    }

    fn add(&mut self, map: &'v Map<String, Value>, above: &[Step]) {
        for (name, value) in map {
            let mut path = above.to_vec();
            path.push(Step::Key(name.clone()));
            // Of `next: {href: ...}` the link is meant.
            if let Value::Object(inner) = value
                && path.len() < DEPTH
            {
                self.add(inner, &path);
                for key in ["href", "url"] {
                    if let Some(value) = inner.get(key) {
                        let mut path = path.clone();
                        path.push(Step::Key(key.to_owned()));
                        self.0.push((path, name, value));
                    }
                }
            }
            self.0.push((path, name, value));
        }
    }

    /// The path of the field nearest to the root that is wanted and can be shown.
    fn find(&self, wanted: impl Fn(&str, &Value) -> bool) -> Option<String> {
        let mut found: Vec<_> = self
            .0
            .iter()
            .filter(|(path, name, value)| wanted(name, value) && path.iter().all(is_showable))
            .collect();
        found.sort_by_key(|(path, ..)| path.len());
        let (path, ..) = found.first()?;
        let path = DottedPath(path.clone()).to_string();
        Some(match path.contains(['@', '[', '\'']) {
            true => format!("{path:?}"),
            false => path,
        })
    }

    fn value(&self, wanted: impl Fn(&str, &Value) -> bool) -> Option<&'v Value> {
        let mut found = self.0.iter();
        found
            .find(|(_, name, value)| wanted(name, value))
            .map(|(.., value)| *value)
    }
}

/// A name that is a word of the API's makers. Anything else may be somebody's name.
fn is_showable(step: &Step) -> bool {
    let Step::Key(key) = step else { return false };
    let is_sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '@' | '.');
    key.len() <= 40 && key.chars().all(is_sign)
}

/// A name without its spelling: `total_pages`, `totalPages` and `Total-Pages` are one.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.collect::<String>().to_ascii_lowercase()
}

fn is_next(name: &str) -> bool {
    let name = plain(name);
    let name = name.strip_prefix("odata").unwrap_or(&name);
    name.starts_with("next") && !NOT_PAGES.iter().any(|word| name.contains(word))
}

fn is_link(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.starts_with("http") || text.starts_with('/') || text.starts_with('?')
}

fn is_token(value: &Value) -> bool {
    value.is_number() || value.as_str().is_some_and(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::decode::tests::answer;

    #[test]
    fn suggests_what_the_first_answer_shows() {
        for (body, suggestion) in [
            (
                r#"{"data": [], "next": "https://api.test/x?page=2"}"#,
                "{type: json_link, next_url_path: next}",
            ),
            (
                r#"{"links": {"next": {"href": "/x?page=2"}}}"#,
                "{type: json_link, next_url_path: links.next.href}",
            ),
            (
                r#"{"value": [], "@odata.nextLink": "https://api.test/x"}"#,
                "{type: json_link, next_url_path: \"['@odata.nextLink']\"}",
            ),
            (
                r#"{"meta": {"page": 1, "total_pages": 7}}"#,
                "{type: page_number, base_page: 1, total_path: meta.total_pages}",
            ),
            (
                r#"{"number": 0, "totalPages": 7}"#,
                "{type: page_number, base_page: 0, total_path: totalPages}",
            ),
            (
                r#"{"nextCursor": "abc"}"#,
                "{type: cursor, cursor_path: nextCursor}",
            ),
            (
                r#"{"response_metadata": {"next_cursor": "abc"}}"#,
                "{type: cursor, cursor_path: response_metadata.next_cursor}",
            ),
            (
                r#"{"items": [], "total": 40}"#,
                "{type: offset, limit: 100, total_path: total}",
            ),
            // What dlt takes for a cursor, and goes on for ever with.
            (
                r#"{"id": 1, "next_review_date": "2027-01-01"}"#,
                "single_page",
            ),
            (
                r#"{"data": [{"next": "https://api.test/x"}]}"#,
                "single_page",
            ),
            (r#"{"next": null}"#, "single_page"),
            (r#"{"Jane Doe": {"next": "abc"}}"#, "single_page"),
            ("[1, 2]", "single_page"),
        ] {
            assert_eq!(suggest(&answer(body)), suggestion, "{body}");
            let text = format!(
                "sources: {{hr: {{client: {{base_url: 'https://api.test', paginator: {suggestion}}}, resources: [{{name: a, write_disposition: append}}]}}}}"
            );
            assert!(crate::config::from_str(&text).is_ok(), "{suggestion}");
        }
        let mut linked = answer("[]");
        linked
            .headers
            .insert("link", "</x?page=2>; rel=next".parse().unwrap());
        assert_eq!(suggest(&linked), "{type: header_link}");
    }
}
