//! Dictionaries of dlt's `rest_api` source, made into configurations.

use std::fs;

use rosterd::config::{
    self, Environment,
    from_dlt::{Converted, from_dlt},
};

use crate::support::daemon::Setup;

const CANARY: &str = "canary-5ecret-value";

fn convert(text: &str) -> Converted {
    from_dlt("dlt.json", text, "hr", "daemon.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

/// The lines that tell of changes, without the one on the schedule, which every source has.
fn told(converted: &Converted) -> Vec<String> {
    let changes = converted.changes.iter();
    changes
        .filter(|change| !change.what.contains("no schedule"))
        .map(|change| format!("{}: {}", change.path, change.what))
        .collect()
}

fn loads(converted: &Converted) -> config::Config {
    assert!(
        converted.problems.is_empty(),
        "{}\n{}",
        converted.problems,
        converted.yaml
    );
    let variables = converted.variables.iter().map(|name| (name.as_str(), "v"));
    config::from_str_with(&converted.yaml, &Environment::from_pairs(variables))
        .unwrap_or_else(|problems| panic!("{problems}\n{}", converted.yaml))
}

#[test]
fn a_strict_dictionary_is_taken_over_as_it_stands() {
    let converted = convert(
        r#"{
          "client": {"base_url": "https://api.example.com/v3/", "paginator": {"type": "json_link", "next_url_path": "paging.next"}},
          "resource_defaults": {"primary_key": "id", "write_disposition": "merge", "endpoint": {"params": {"per_page": 100}, "data_selector": "data"}},
          "resources": ["people", {"name": "teams", "table_name": "groups", "endpoint": "org/teams"}]
        }"#,
    );
    assert_eq!(told(&converted), Vec::<String>::new());
    assert_eq!(converted.variables, Vec::<String>::new());
    let source = &loads(&converted).sources[0];
    assert_eq!(source.name, "hr");
    let tables: Vec<_> = source.resources.iter().map(|r| r.table.as_str()).collect();
    assert_eq!(tables, ["people", "groups"]);
    assert_eq!(source.resources[1].endpoint.path, "org/teams");
}

#[test]
fn each_stricter_rule_is_told_with_its_place_and_without_a_value() {
    let client = r#""client": {"base_url": "https://x.example", "paginator": "single_page"}"#;
    // Client, resource -> what is told; `None`: nothing.
    let cases: &[(&str, &str, Option<&str>)] = &[
        (
            client,
            r#"{"name": "a", "endpoint": {"data_selector": "d"}}"#,
            None,
        ),
        (
            client,
            r#"{"name": "a"}"#,
            Some("sources.hr.resources[0].endpoint.data_selector: dlt guesses where"),
        ),
        (
            r#""client": {"base_url": "https://x.example"}"#,
            r#"{"name": "a", "endpoint": {"data_selector": "d", "paginator": "single_page"}}"#,
            None,
        ),
        (
            client,
            r#"{"name": "a", "write_disposition": "merge", "endpoint": {"data_selector": "d"}}"#,
            Some("sources.hr.resources[0].write_disposition: `merge` without a key appends"),
        ),
        (
            client,
            r#"{"name": "a", "write_disposition": "merge", "columns": {"id": {"primary_key": true}}, "endpoint": {"data_selector": "d"}}"#,
            None,
        ),
        (
            client,
            r#"{"name": "a", "parallelized": true, "endpoint": {"data_selector": "d"}}"#,
            Some("sources.hr.resources[0].parallelized: left out"),
        ),
        (
            client,
            r#"{"name": "a", "columns": [{"name": "id", "primary_key": true, "row_key": true}], "endpoint": {"data_selector": "d"}}"#,
            Some("sources.hr.resources[0].columns.id.row_key: left out: marks columns"),
        ),
        (
            client,
            r#"{"name": "a", "max_table_nesting": 1, "nested_hints": {"jobs": {"columns": {"pay": {"data_type": "decimal"}}}}, "endpoint": {"data_selector": "d"}}"#,
            None,
        ),
        (
            client,
            r#"{"name": "a", "processing_steps": [{"filter": "<function f at 0x7f3c>"}], "endpoint": {"data_selector": "d"}}"#,
            Some(
                "sources.hr.resources[0].processing_steps[0].filter: a Python object: left out; write this step as a jq program",
            ),
        ),
        (
            client,
            r#"{"name": "a", "endpoint": {"data_selector": "d", "incremental": {"cursor_path": "u", "initial_value": "2020-01-01", "start_param": "s", "convert": "<function <lambda> at 0x7f>"}}}"#,
            Some(
                "endpoint.incremental.convert: left out: is a Python function of dlt; `format` says",
            ),
        ),
        (
            client,
            r#"{"name": "a", "endpoint": {"data_selector": "d", "incremental": {"cursor_path": "u", "start_param": "s", "primary_key": "id"}}}"#,
            Some(
                "endpoint.incremental.primary_key: left out: rows at the cursor are read again and merged",
            ),
        ),
        (
            client,
            r#"{"name": "a", "endpoint": {"data_selector": "d", "params": {"active": true}}}"#,
            Some("endpoint.params.active: is sent as `true`"),
        ),
        (
            client,
            r#"{"name": "a", "endpoint": {"data_selector": "d", "params": {"api_key": "canary-5ecret-value"}}}"#,
            Some(
                "endpoint.params.api_key: a secret in the file; comes from the variable HR_API_KEY now",
            ),
        ),
        (
            r#""client": {"base_url": "https://x.example", "paginator": "single_page", "auth": "bearer"}"#,
            r#"{"name": "a", "endpoint": {"data_selector": "d"}}"#,
            Some("sources.hr.client.auth.token: comes from the variable HR_TOKEN"),
        ),
        (
            r#""client": {"base_url": "https://x.example", "paginator": "single_page", "auth": {"token": "canary-5ecret-value"}}"#,
            r#"{"name": "a", "endpoint": {"data_selector": "d"}}"#,
            Some("sources.hr.client.auth.token: a secret in the file"),
        ),
        (
            r#""client": {"base_url": "https://x.example", "paginator": "single_page", "auth": {"type": "http_basic", "username": "u", "password": "canary-5ecret-value"}}"#,
            r#"{"name": "a", "endpoint": {"data_selector": "d"}}"#,
            Some(
                "sources.hr.client.auth.password: a secret in the file; comes from the variable HR_PASSWORD now",
            ),
        ),
        (
            r#""client": {"base_url": "https://x.example", "paginator": "single_page", "auth": "<dlt.sources.helpers.rest_client.auth.APIKeyAuth object at 0x7f>"}"#,
            r#"{"name": "a", "endpoint": {"data_selector": "d"}}"#,
            Some("sources.hr.client.auth: a Python object: its kind is kept"),
        ),
        (
            r#""client": {"base_url": "https://x.example", "paginator": "<dlt.sources.helpers.rest_client.paginators.HeaderLinkPaginator object at 0x7f>"}"#,
            r#"{"name": "a", "endpoint": {"data_selector": "d"}}"#,
            Some("sources.hr.client.paginator: a Python object: its kind is kept"),
        ),
        (
            r#""client": {"base_url": "https://x.example", "paginator": "single_page", "session": "<requests.sessions.Session object at 0x7f>"}"#,
            r#"{"name": "a", "endpoint": {"data_selector": "d"}}"#,
            Some("sources.hr.client.session: left out"),
        ),
        (
            r#""client": {"base_url": "https://x.example", "paginator": "single_page", "headers": {"X-Api-Key": "canary-5ecret-value", "Accept": "application/json"}}"#,
            r#"{"name": "a", "endpoint": {"data_selector": "d"}}"#,
            Some("comes from the variable HR_X_API_KEY now"),
        ),
    ];
    let guessed: &[(&str, &str, Option<&str>)] = &[
        (
            r#""client": {"base_url": "https://x.example"}"#,
            r#"{"name": "a", "endpoint": {"data_selector": "d"}}"#,
            Some(
                "sources.hr.resources[0].endpoint.paginator: dlt guesses it from the first answer",
            ),
        ),
        (
            r#""client": {"base_url": "https://x.example", "paginator": "auto"}"#,
            r#"{"name": "a", "endpoint": {"path": "a/b", "data_selector": "d"}}"#,
            Some(
                "sources.hr.resources[0].endpoint.paginator: dlt guesses it from the first answer",
            ),
        ),
        (
            r#""client": {"base_url": "https://x.example"}"#,
            r#"{"name": "a", "endpoint": {"data_selector": "d", "response_actions": [{"status_code": "404", "action": "ignore"}, "<function f at 0x7f>"], "paginator": "single_page"}}"#,
            Some("response_actions[0].status_code: was a text, which dlt never finds"),
        ),
    ];
    for (client, resource, wanted) in cases.iter().chain(guessed) {
        let converted = convert(&format!("{{{client}, \"resources\": [{resource}]}}"));
        let told = told(&converted);
        match wanted {
            None => assert!(told.is_empty(), "{resource}: {told:?}"),
            Some(wanted) => assert!(
                told.iter().any(|line| line.contains(wanted)),
                "{wanted}: {told:?}"
            ),
        }
        loads(&converted);
        let everything = format!("{}{told:?}", converted.yaml);
        assert!(!everything.contains(CANARY), "{everything}");
        assert!(!everything.contains(" at 0x"), "{everything}");
    }
}

#[test]
fn one_variable_stands_for_one_secret() {
    let converted = convert(
        r#"{"client": {"base_url": "https://x.example", "auth": {"token": "one"}, "headers": {"token": "two", "X-Token": "three"}, "paginator": "single_page"},
            "resources": [{"name": "a", "endpoint": {"data_selector": "$", "params": {"token": "one"}}}]}"#,
    );
    assert_eq!(
        converted.variables,
        ["HR_TOKEN", "HR_TOKEN_2", "HR_X_TOKEN"]
    );
    let params = &converted.yaml[converted.yaml.find("params:").unwrap()..];
    assert!(params.contains("${HR_TOKEN}\""), "{}", converted.yaml);
}

#[test]
fn a_dictionary_that_is_none_is_refused_in_one_line() {
    for (text, wanted) in [
        ("[1]", "expected a dictionary with `client` and `resources`"),
        (
            "{\"client\": {}}",
            "expected a dictionary with `client` and `resources`",
        ),
        ("{\"client\": ", "dlt.json"),
        ("{\"a\": 1, \"a\": 2}", "this key stands twice"),
    ] {
        let problems = from_dlt("dlt.json", text, "hr", "out.yaml").unwrap_err();
        let said = problems.to_string();
        assert!(said.contains(wanted) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn the_command_writes_the_file_and_says_what_had_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let (dict, out) = (
        folder.path().join("My API.json"),
        folder.path().join("out.yaml"),
    );
    fs::write(
        &dict,
        r#"{"client": {"base_url": "https://x.example", "auth": {"token": "canary-5ecret-value"}, "paginator": "header_link"},
            "resources": [{"name": "a", "primary_key": "id", "write_disposition": "merge", "endpoint": {"data_selector": "$"}}]}"#,
    )
    .unwrap();
    let arguments = [
        "init",
        "--from-dlt",
        dict.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
    ];
    let mut process = Setup::command(String::new(), &arguments).start();
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
    let said = process.stderr();
    for part in [
        "changed  sources.my_api: named in lower case",
        "changed  sources.my_api.client.auth.token: a secret in the file",
        "set      MY_API_TOKEN",
        "rosterd check --connect",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let written = fs::read_to_string(&out).unwrap();
    assert!(!format!("{said}{written}").contains(CANARY));
    let mut check = Setup::command(written, &["check"])
        .with_env("MY_API_TOKEN", CANARY)
        .start();
    assert_eq!(check.wait().code(), Some(0), "{}", check.stderr());
    assert!(
        check.stdout().contains("a -> my_api.a: merge on id"),
        "{}",
        check.stdout()
    );
}
