//! Every key of every shipped configuration, made wrong one at a time: each mistake is refused with
//! its path and line, and the rest of the file is no obstacle.

use rosterd::{
    cli::{init, ready},
    config::{self, Environment, Problems},
};
use serde_json::{Map, Value, json};

/// Under these the file says what it likes.
const FREE: &[&str] = &[
    "access_token_request_data",
    "data",
    "fields",
    "first",
    "headers",
    "json",
    "params",
    "values",
    "vars",
];

const WRONG: &str = "zzz_wrong";

/// The shipped files, in the order of their names, with `${...}` filled.
fn shipped() -> Vec<(&'static str, Value)> {
    let ready = ready::ALL.iter().map(|ready| (ready.name, ready.text));
    let all = ready.chain([("example", init::template())]);
    all.map(|(name, text)| {
        let value: Value = serde_saphyr::from_str(text).unwrap();
        (name, filled(value))
    })
    .collect()
}

fn filled(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains("${") => {
            let mut out = String::new();
            let mut rest = text.as_str();
            while let Some((before, after)) = rest.split_once("${") {
                let (_, after) = after.split_once('}').unwrap();
                out.push_str(before);
                out.push_str("a-placeholder-of-more-than-32-characters");
                rest = after;
            }
            out.push_str(rest);
            if text.contains("_CERTIFICATE}") || text == "${ADP_KEY}" {
                return include_str!("apis/identity.pem").into();
            }
            match out.starts_with("a-placeholder") && text.contains("_URL}") {
                true => "https://x.example".into(),
                false => out.into(),
            }
        }
        Value::Array(list) => list.into_iter().map(filled).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(k, v)| (k, filled(v)))
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}

/// Pointers to all values that are not free, the root apart, with whether the value is a map.
fn places(value: &Value, pointer: &str, found: &mut Vec<(String, bool)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                found.push((below.clone(), value.is_object()));
                if !FREE.contains(&key.as_str()) && !pointer.ends_with("/when") {
                    places(value, &below, found);
                }
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                let below = format!("{pointer}/{index}");
                found.push((below.clone(), value.is_object()));
                places(value, &below, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn refused(name: &str, file: &Value, what: &str) -> (Problems, String) {
    let text = serde_json::to_string_pretty(file).unwrap();
    match config::from_str_with(&text, &Environment::default()) {
        Ok(_) => panic!("{name}: {what} was accepted"),
        Err(problems) => (problems, text),
    }
}

/// Whether a key of this name holds what the file likes.
fn is_free(pointer: &str) -> bool {
    pointer.split('/').any(|key| FREE.contains(&key))
}

#[test]
fn an_unknown_key_is_refused_with_its_line_wherever_it_stands() {
    for (name, file) in shipped() {
        let mut found = vec![(String::new(), true)];
        places(&file, "", &mut found);
        for (pointer, _) in found
            .iter()
            .filter(|(pointer, fixed)| *fixed && !is_free(pointer))
        {
            let mut broken = file.clone();
            let map = broken
                .pointer_mut(pointer)
                .unwrap()
                .as_object_mut()
                .unwrap();
            map.insert(WRONG.to_owned(), json!(1));
            let (problems, text) = refused(name, &broken, &format!("{pointer}/{WRONG}"));
            let line = text.lines().position(|line| line.contains(WRONG)).unwrap() + 1;
            let place = format!("rosterd.yaml:{line}:");
            let told = problems.iter().any(|problem| {
                problem.path.contains(WRONG) && problem.place.to_string().starts_with(&place)
            });
            assert!(told, "{name}: {pointer}, line {line}: {problems}");
        }
    }
}

#[test]
fn a_value_of_another_kind_is_refused_with_its_place() {
    for (name, file) in shipped() {
        let mut found = Vec::new();
        places(&file, "", &mut found);
        for (pointer, _) in found.iter().filter(|(pointer, _)| !is_free(pointer)) {
            let mut broken = file.clone();
            *broken.pointer_mut(pointer).unwrap() = json!({ WRONG: [{}] });
            let (problems, _) = refused(name, &broken, pointer);
            let key = pointer
                .rsplit('/')
                .find(|key| key.parse::<usize>().is_err())
                .unwrap();
            let key = key.replace("~1", "/");
            let told = problems
                .iter()
                .any(|problem| problem.path.contains(&key) || problem.message.contains(&key));
            assert!(told, "{name}: {pointer}: {problems}");
            for problem in &problems {
                assert!(problem.to_string().lines().count() == 1, "{problem}");
            }
        }
    }
}
