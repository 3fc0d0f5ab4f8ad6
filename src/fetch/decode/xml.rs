//! XML as JSON: elements become objects, so that selector and paginator look at it like at any answer.
//!
//! Whether an element is a list must not hang on how many of it there are, so those at configured
//! paths always are. Entities of a document's own are refused, not expanded.

use std::collections::HashSet;

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value};

use crate::config::endpoint::{DottedPath, Step};

/// Elements within elements. Deeper than any record, far from what reading costs a stack.
const MAX_DEPTH: usize = 100;

/// Where the document is broken, and whether it only ends too early.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) offset: u64,
    pub(super) truncated: bool,
}

/// Paths of names that are lists.
#[derive(Debug, Default)]
pub(super) struct Lists(HashSet<Vec<String>>);

impl Lists {
    pub(super) fn add(&mut self, path: &DottedPath) {
        let names = path.0.iter().filter_map(|step| match step {
            Step::Key(name) => Some(name.clone()),
            Step::Index(_) => None,
        });
        self.0.insert(names.collect());
    }
}

/// An element that is open.
struct Element {
    name: String,
    fields: Map<String, Value>,
    text: String,
}

/// The bytes as text, in the character set that the document names.
pub(super) fn text_of(body: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).into_owned();
    let named = head
        .split_once("encoding=")
        .and_then(|(_, rest)| rest.split(['"', '\'']).nth(1))
        .and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes()));
    let charset = named.unwrap_or(encoding_rs::UTF_8);
    let (text, _, is_wrong) = charset.decode(body);
    (!is_wrong).then(|| text.into_owned())
}

/// Reads a whole document into an object with one field, the root element.
pub(super) fn to_json(text: &str, lists: &Lists) -> Result<Value, Broken> {
    let mut reader = Reader::from_str(text);
    let mut path: Vec<String> = Vec::new();
    let mut open = vec![Element {
        name: String::new(),
        fields: Map::new(),
        text: String::new(),
    }];
    loop {
        let event = reader.read_event();
        let broken = |truncated| Broken {
            offset: reader.error_position(),
            truncated,
        };
        match event.map_err(|e| broken(matches!(e, quick_xml::Error::Syntax(_))))? {
            Event::Start(start) => {
                if open.len() > MAX_DEPTH {
                    return Err(broken(false));
                }
                let element = begin(&start).ok_or(broken(false))?;
                path.push(element.name.clone());
                open.push(element);
            }
            Event::Empty(start) => {
                let element = begin(&start).ok_or(broken(false))?;
                path.push(element.name.clone());
                end(element, &mut open, &mut path, lists);
            }
            Event::End(_) => {
                let element = open.pop().ok_or(broken(false))?;
                end(element, &mut open, &mut path, lists);
            }
            Event::Text(text) => add(&mut open, &text.xml_content(XmlVersion::Implicit1_0)),
            Event::CData(text) => add(&mut open, &text.xml_content(XmlVersion::Implicit1_0)),
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(c)) => add(&mut open, c.encode_utf8(&mut [0; 4])),
                Ok(None) => {
                    let known = resolve_predefined_entity(&reference);
                    add(&mut open, known.ok_or(broken(false))?);
                }
                Err(_) => return Err(broken(false)),
            },
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Eof => {
                let is_whole = path.is_empty();
                let root = open
                    .pop()
                    .filter(|root| is_whole && !root.fields.is_empty());
                return match root {
                    Some(root) => Ok(Value::Object(root.fields)),
                    None => Err(broken(true)),
                };
            }
        }
    }
}

fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// An element with its attributes; `None`: they are broken.
fn begin(start: &BytesStart<'_>) -> Option<Element> {
    let mut fields = Map::new();
    for attribute in start.attributes() {
        let attribute = attribute.ok()?;
        let is_namespace = attribute.key.as_namespace_binding().is_some();
        if !is_namespace {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?;
            let name = attribute.key.local_name();
            fields.insert(format!("@{}", name.as_ref()), value.into_owned().into());
        }
    }
    Some(Element {
        name: start.local_name().as_ref().to_owned(),
        fields,
        text: String::new(),
    })
}

/// Closes the element at `path` and gives it to the one around it.
fn end(mut element: Element, open: &mut [Element], path: &mut Vec<String>, lists: &Lists) {
    for list in &lists.0 {
        if let Some((last, around)) = list.split_last()
            && around == path.as_slice()
        {
            let fields = &mut element.fields;
            fields
                .entry(last.as_str())
                .or_insert_with(|| Value::Array(Vec::new()));
        }
    }
    let text = element.text.trim();
    let value = match (element.fields.is_empty(), text.is_empty()) {
        (true, true) => Value::Null,
        (true, false) => text.into(),
        (false, true) => Value::Object(element.fields),
        (false, false) => {
            element.fields.insert("#text".to_owned(), text.into());
            Value::Object(element.fields)
        }
    };
    let is_list = lists.0.contains(path.as_slice());
    path.pop();
    let Some(around) = open.last_mut() else {
        return;
    };
    match around.fields.get_mut(&element.name) {
        Some(Value::Array(list)) => list.push(value),
        Some(one) => {
            let first = one.take();
            *one = Value::Array(vec![first, value]);
        }
        None => {
            let value = match is_list {
                true => Value::Array(vec![value]),
                false => value,
            };
            around.fields.insert(element.name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_become_objects_and_lists_do_not_hang_on_a_count() {
        let mut lists = Lists::default();
        lists.add(&DottedPath::parse("people.person").unwrap());
        lists.add(&DottedPath::parse("people.person.phone").unwrap());
        for (xml, expected) in [
            ("<people/>", json!({"people": {"person": []}})),
            (
                "<?xml version=\"1.0\"?><!-- x --><p:people xmlns:p=\"u\"><p:person id=\"1\"><name>A &amp; &#66;</name><phone>1</phone><empty/><note lang='de'> x </note></p:person></p:people>",
                json!({"people": {"person": [
                    {"@id": "1", "name": "A & B", "phone": ["1"], "empty": null, "note": {"@lang": "de", "#text": "x"}},
                ]}}),
            ),
            (
                "<people><n>2</n><person><c><![CDATA[<&>]]></c><c>2</c></person><person/></people>",
                json!({"people": {"n": "2", "person": [{"c": ["<&>", "2"], "phone": []}, {"phone": []}]}}),
            ),
        ] {
            assert_eq!(to_json(xml, &lists).unwrap(), expected, "{xml}");
        }
    }

    #[test]
    fn what_is_cut_broken_or_a_bomb_is_refused() {
        let deep = "<a>".repeat(5000);
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\">]><a>&b;</a>";
        for (xml, truncated) in [
            ("", true),
            ("<a><b>1</b>", true),
            ("<a><b>1</", true),
            ("<a></b>", false),
            ("<a x=1></a>", false),
            ("<a>&nope;</a>", false),
            (bomb, false),
            (&deep, false),
        ] {
            let broken = to_json(xml, &Lists::default()).unwrap_err();
            assert_eq!(broken.truncated, truncated, "{}", &xml[..xml.len().min(40)]);
        }
    }

    #[test]
    fn the_document_names_its_character_set() {
        let body = b"<?xml version='1.0' encoding='ISO-8859-1'?><a>M\xfcller</a>";
        let text = text_of(body).unwrap();
        assert_eq!(
            to_json(&text, &Lists::default()).unwrap(),
            json!({"a": "M\u{fc}ller"})
        );
        assert_eq!(text_of(b"<a>\xff</a>"), None);
    }
}
