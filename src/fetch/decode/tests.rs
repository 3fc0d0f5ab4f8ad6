use tokio::time::Instant;

use super::*;
use crate::config::{
    endpoint::Method,
    paginator::{Counted, More, Stop, Stride, Target, Unit},
};
use crate::fetch::{Address, client::Asked};

fn path(text: &str) -> DottedPath {
    let steps = text.split('.').map(|key| match key.parse() {
        Ok(index) => Step::Index(index),
        Err(_) => Step::Key(key.to_owned()),
    });
    DottedPath(steps.collect())
}

fn decoder(selector: Selector) -> Decoder {
    Decoder::new(
        &Endpoint {
            method: Method::Get,
            path: "/p".into(),
            data_selector: selector,
            paginator: Paginator::Counted(Box::new(Counted {
                unit: Unit::Rows,
                start: 0,
                base: 0,
                position: Target::Query("offset".into()),
                size: None,
                stride: Stride::Received,
                overlap: 0,
                stop: Stop {
                    total: Some(Total {
                        at: TotalAt::Body(path("meta.total")),
                        counts: Unit::Rows,
                    }),
                    more: Some(More {
                        path: path("meta.more"),
                        means_more: true,
                    }),
                    ..Stop::default()
                },
                maximum: None,
            })),
            ..Endpoint::default()
        },
        1 << 20,
    )
}

pub(in crate::fetch) fn answer(body: impl Into<Bytes>) -> Answer {
    Answer {
        status: 200,
        json_type: true,
        headers: reqwest::header::HeaderMap::new(),
        date: None,
        received_at: crate::clock::now(),
        asked: Asked {
            sent: Instant::now(),
            answered: Instant::now(),
        },
        body: body.into(),
        at: Address::of(&url::Url::parse("https://api.test/p").unwrap()),
    }
}

fn records(decoded: &Decoded) -> Vec<&str> {
    decoded
        .records
        .iter()
        .map(|r| std::str::from_utf8(&decoded.body[r.start as usize..r.end as usize]).unwrap())
        .collect()
}

#[test]
fn finds_records_and_envelope_wherever_they_stand() {
    let body = "\u{feff} {\"noise\": [[{\"data\": 1}]], \"data\" : [ {\"a\": 1.10} , 7,\"x\", {\"b\":\"\\ud800 \\\" ] }\"} ], \"meta\": {\"x\": 1, \"more\": \"yes\", \"total\": \"12\"}}";
    let decoded = decoder(Selector::Path(path("data")))
        .decode(&answer(body), 0)
        .unwrap();
    assert_eq!(
        records(&decoded),
        [r#"{"a": 1.10}"#, "7", "\"x\"", r#"{"b":"\ud800 \" ] }"}"#]
    );
    assert_eq!(decoded.envelope.total, Some(Scalar::Text("12".into())));
    assert_eq!(decoded.envelope.has_more, Some(Scalar::Text("yes".into())));
    assert_eq!(decoded.envelope.next, None);
}

#[test]
fn selectors_by_shape_of_the_answer() {
    let missing = "is not in the answer";
    let scalar = "is neither a list nor an object";
    for (selector, body, expected) in [
        ("data", r#"{"data":[]}"#, Ok(vec![])),
        ("data", r#"{"data":{"id":1}}"#, Ok(vec![r#"{"id":1}"#])),
        ("data", r#"{"data":null}"#, Err("is null instead of a list")),
        ("data", r#"{"data":"no"}"#, Err(scalar)),
        ("data", r#"{"data":12}"#, Err(scalar)),
        ("data", r#"{"data":true}"#, Err(scalar)),
        ("data", r#"{"error":"x"}"#, Err(missing)),
        ("data", "[]", Err(missing)),
        ("data.items", r#"{"data":null}"#, Err(missing)),
        ("data.items", r#"{"data":{"items":[1]}}"#, Ok(vec!["1"])),
        (
            "data.0.rows",
            r#"{"data":[{"rows":[1,2]},{"rows":[3]}]}"#,
            Ok(vec!["1", "2"]),
        ),
        (
            "data.-1.rows",
            r#"{"data":[{"rows":[1,2]},{"rows":[3]}]}"#,
            Ok(vec!["3"]),
        ),
        ("data.0.rows", r#"{"data":[]}"#, Err(missing)),
        (
            "meta",
            r#"{"meta":{"total":3}}"#,
            Ok(vec![r#"{"total":3}"#]),
        ),
        ("data", r#"{"data":[1],"data":[2]}"#, Ok(vec!["2"])),
        ("d\u{e4}ta", r#"{"d\u00e4ta":[1]}"#, Ok(vec!["1"])),
    ] {
        let decoded = decoder(Selector::Path(path(selector))).decode(&answer(body), 3);
        match (&decoded, expected) {
            (Ok(decoded), Ok(expected)) => {
                assert_eq!(records(decoded), expected, "{selector} on {body}");
            }
            (Err(Error::UnexpectedShape { what, page: 3, .. }), Err(expected)) => {
                assert_eq!(*what, expected, "{selector} on {body}");
            }
            other => panic!("{selector} on {body}: {other:?}"),
        }
    }
    let root = decoder(Selector::Root);
    assert_eq!(
        records(&root.decode(&answer("[1,2]"), 0).unwrap()),
        ["1", "2"]
    );
    assert_eq!(
        records(&root.decode(&answer(" {\"a\":1} "), 0).unwrap()),
        ["{\"a\":1}"]
    );
}

#[test]
fn broken_bodies_are_named_by_their_place_only() {
    let not_json = "not_json";
    for (body, json_type, code, offset) in [
        (&b""[..], true, "empty_body", None),
        (b" \n ", true, "empty_body", None),
        (b"<html>Jane</html>", true, not_json, None),
        (b"\n<html>", false, not_json, None),
        (b"Service unavailable", false, not_json, None),
        (b"Service unavailable", true, "invalid_json", Some(1)),
        (b"{\"data\":[{\"n\":\"Jane", true, "invalid_json", Some(19)),
        (b"{\"data\":[]} {}", true, "invalid_json", Some(13)),
        (
            b"\xef\xbb\xbf{\n\"data\":\nNaN}",
            true,
            "invalid_json",
            Some(14),
        ),
        (b"{\"data\":[\"Jane\xff\"]}", true, "invalid_utf8", Some(14)),
        (
            b"\xef\xbb\xbf{\"data\":[\"\xc3\"]}",
            false,
            "invalid_utf8",
            Some(13),
        ),
    ] {
        let mut answer = answer(body);
        answer.json_type = json_type;
        let error = decoder(Selector::Path(path("data")))
            .decode(&answer, 0)
            .unwrap_err();
        let shown = format!("{error} {error:?} {}", error.fault());
        assert_eq!(error.fault().code, code, "{shown}");
        assert!(!shown.contains("Jane"), "{shown}");
        match error {
            Error::InvalidJson { offset: at, .. } | Error::InvalidUtf8 { offset: at, .. } => {
                assert_eq!(Some(at), offset, "{:?}", String::from_utf8_lossy(body));
            }
            _ => assert_eq!(offset, None),
        }
    }
}

#[test]
fn a_cut_body_is_told_from_a_broken_one() {
    let whole = r#"{"data":[{"id":1,"name":"Jane"},{"id":2}],"meta":{"total":2}}"#;
    for end in 1..whole.len() {
        let error = decoder(Selector::Path(path("data"))).decode(&answer(&whole[..end]), 0);
        assert!(
            matches!(
                error,
                Err(Error::InvalidJson {
                    truncated: true,
                    ..
                })
            ),
            "cut at {end}: {error:?}"
        );
    }
}

#[test]
fn depth_costs_no_stack() {
    let depth = 1_000_000;
    let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let body = format!(r#"{{"noise":{deep},"data":[{deep}],"meta":{{"total":{deep}}}}}"#);
    let decoded = decoder(Selector::Path(path("data")))
        .decode(&answer(body), 0)
        .unwrap();
    assert_eq!(decoded.records.len(), 1);
    assert_eq!(decoded.envelope.total, Some(Scalar::Other));
    let objects = format!("{}1{}", "{\"a\":".repeat(200_000), "}".repeat(200_000));
    let root = decoder(Selector::Root).decode(&answer(objects), 0).unwrap();
    assert_eq!(root.records.len(), 1);
    let expression = serde_json_path::JsonPath::parse("$.data[?@.a]").unwrap();
    let deep = format!(r#"{{"data":[{deep}]}}"#);
    let error = decoder(Selector::JsonPath(Box::new(expression)))
        .decode(&answer(deep), 0)
        .unwrap_err();
    assert_eq!(error.fault().code, "invalid_json");
}
