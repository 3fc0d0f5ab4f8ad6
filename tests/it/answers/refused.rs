//! What `check` says of endpoints that cannot be meant.

use rosterd::config;

/// An endpoint's lines, and what is wrong: the path below the endpoint, and a part of the message.
type Case = (&'static str, &'static [(&'static str, &'static str)]);

fn expect(cases: &[Case]) {
    for (endpoint, expected) in cases {
        let text = format!(
            "sources:\n  hr:\n    vars: {{tenant: acme}}\n    client: {{base_url: https://api.example.com}}\n    resources:\n      - name: a\n        endpoint: {endpoint}\n        write_disposition: append\n"
        );
        let Err(problems) = config::from_str(&text) else {
            panic!("was accepted: {endpoint}");
        };
        let said: Vec<(String, String)> = problems
            .iter()
            .map(|p| {
                let path = p.path.strip_prefix("sources.hr.resources[0].endpoint");
                let path = path.unwrap_or(&p.path).trim_start_matches('.');
                (path.to_owned(), p.message.clone())
            })
            .collect();
        assert_eq!(said.len(), expected.len(), "{endpoint}: {said:?}");
        for ((path, message), (wanted, part)) in said.iter().zip(*expected) {
            assert_eq!(path, wanted, "{endpoint}: {said:?}");
            assert!(message.contains(part), "{endpoint}: {message}");
        }
        let at_line = problems.iter().all(|p| p.to_string().contains(":7:"));
        assert!(at_line, "{endpoint}: {problems}");
        assert!(!problems.to_string().contains("s3cret"), "{problems}");
    }
}

#[test]
fn requests() {
    expect(&[
        (
            "{paginator: single_page, method: DELETE}",
            &[("method", "expected one of GET, POST, PUT, PATCH")],
        ),
        (
            "{paginator: single_page, method: POST, json: s3cret}",
            &[("json", "a map or a list")],
        ),
        (
            "{paginator: single_page, method: POST, json: {}, data: {}}",
            &[("data", "exclude each other")],
        ),
        (
            "{paginator: single_page, data: {a: 1}}",
            &[("data", "needs `method: POST`")],
        ),
        (
            "{paginator: single_page, method: POST, data: [1]}",
            &[("data", "a map (a form) or a text")],
        ),
        (
            "{paginator: single_page, method: POST, data: {a: {b: s3cret}}}",
            &[("data.a", "`type: list`")],
        ),
        (
            "{paginator: {type: cursor, cursor_body_path: c}, method: POST, data: text}",
            &[("paginator", "no places for a paginator")],
        ),
        (
            "{paginator: single_page, method: POST, data: '{incremental.start_value}'}",
            &[("data", "needs `endpoint.incremental`")],
        ),
        (
            "{paginator: single_page, list_style: dots}",
            &[("list_style", "expected one of repeat")],
        ),
        (
            "{paginator: single_page, params: {a: {b: s3cret}}}",
            &[("params.a", "`type: list`")],
        ),
        (
            "{paginator: single_page, params: {a: [[1]]}}",
            &[("params.a", "a list of texts")],
        ),
        (
            "{paginator: single_page, params: {a: {type: list, style: dots, values: []}}}",
            &[("params.a.style", "expected one of repeat")],
        ),
        (
            "{paginator: single_page, params: {a: {type: list}}}",
            &[("params.a", "expected `values`")],
        ),
        (
            "{paginator: single_page, params: {a: {type: list, values: [{}]}}}",
            &[("params.a.values", "a list of texts")],
        ),
        (
            "{paginator: single_page, params: {a: {type: list, value: [1]}}}",
            &[("params.a.value", "unknown key")],
        ),
        (
            "{paginator: single_page, params: {a: {type: json, value: s3cret}}}",
            &[("params.a.value", "a map or a list")],
        ),
        (
            "{paginator: single_page, path: '/{org}/x'}",
            &[("path", "same name in `endpoint.params`")],
        ),
        (
            "{paginator: single_page, path: '/{org}/x', params: {org: [1]}}",
            &[("path", "must be a text")],
        ),
        (
            "{paginator: single_page, path: '/{vars.none}/x'}",
            &[("path", "no such variable")],
        ),
        (
            "{paginator: single_page, headers: {X: '{org}'}, params: {org: 1}}",
            &[("headers.X", "unknown placeholder")],
        ),
        (
            "{paginator: single_page, method: POST, json: {'{vars.tenant}': 1}}",
            &[("json", "cannot stand in a name")],
        ),
    ]);
}

#[test]
fn rules() {
    expect(&[
        (
            "{paginator: single_page, response_actions: {status_code: 404}}",
            &[("response_actions", "expected a list")],
        ),
        (
            "{paginator: single_page, response_actions: [404]}",
            &[("response_actions[0]", "expected a map")],
        ),
        (
            "{paginator: single_page, response_actions: [{status_code: 404}]}",
            &[("response_actions[0]", "the key `action` is missing")],
        ),
        (
            "{paginator: single_page, response_actions: [{action: ignore}]}",
            &[("response_actions[0]", "needs a condition")],
        ),
        (
            "{paginator: single_page, response_actions: [{status_code: 404, action: skipp}]}",
            &[("response_actions[0].action", "did you mean `skip`")],
        ),
        (
            "{paginator: single_page, response_actions: [{status_code: [404, 6xx], action: skip}]}",
            &[("response_actions[0].status_code[1]", "such as 404, 4xx")],
        ),
        (
            "{paginator: single_page, response_actions: [{status_code: 499-400, action: skip}]}",
            &[("response_actions[0].status_code", "such as 404, 4xx")],
        ),
        (
            "{paginator: single_page, response_actions: [{status_code: 404, when: {status: 404}, action: skip}]}",
            &[(
                "response_actions[0].when.status",
                "stands as `status_code` already",
            )],
        ),
        (
            "{paginator: single_page, response_actions: [{content: '', action: skip}]}",
            &[("response_actions[0]", "an empty `content`")],
        ),
        (
            "{paginator: single_page, response_actions: [{when: {json: {'a[*]': 1}}, action: skip}]}",
            &[("response_actions[0].when.json[\"a[*]\"]", "plain steps")],
        ),
        (
            "{paginator: single_page, response_actions: [{when: {json: {a: {b: s3cret}}}, action: skip}]}",
            &[("response_actions[0].when.json.a", "expected a text, number")],
        ),
        (
            "{paginator: single_page, response_actions: [{when: {header: {'a b': x}}, action: skip}]}",
            &[(
                "response_actions[0].when.header[\"a b\"]",
                "name of a header",
            )],
        ),
        (
            "{paginator: single_page, response_actions: [{when: {empty: maybe}, action: skip}]}",
            &[("response_actions[0].when.empty", "true or false")],
        ),
        (
            "{paginator: single_page, response_actions: [{status_code: 404, action: fail, safe_message_path: 'a[*]'}]}",
            &[("response_actions[0].safe_message_path", "plain steps")],
        ),
    ]);
}

#[test]
fn forms_of_answers() {
    expect(&[
        (
            "{paginator: single_page, response: yaml}",
            &[("response", "expected one of json, ndjson")],
        ),
        (
            "{paginator: single_page, response: {type: csv, delimiter: ';;'}}",
            &[("response.delimiter", "one sign of ASCII")],
        ),
        (
            "{paginator: single_page, response: {type: csv, delimiter: '\"'}}",
            &[("response", "another sign")],
        ),
        (
            "{paginator: single_page, response: {type: csv, charset: klingon}}",
            &[("response.charset", "such as utf-8")],
        ),
        (
            "{paginator: single_page, response: {type: csv, columns: [a, a]}}",
            &[("response.columns", "names, each once")],
        ),
        (
            "{paginator: single_page, response: csv, data_selector: rows}",
            &[("data_selector", "every line is a record")],
        ),
        (
            "{paginator: {type: offset, limit: 10}, response: csv}",
            &[("paginator", "set `total_path: null`")],
        ),
        (
            "{paginator: {type: json_link}, response: ndjson}",
            &[("paginator", "lines have no place")],
        ),
        (
            "{paginator: single_page, response: xml}",
            &[("", "names of elements")],
        ),
        (
            "{paginator: single_page, response: {type: xml, stream: true}, data_selector: a.b}",
            &[("response.stream", "unknown key")],
        ),
        (
            "{paginator: header_link, response: {type: json, stream: true}}",
            &[("response.stream", "need `paginator: single_page`")],
        ),
        (
            "{paginator: single_page, response: {type: json, stream: true}, data_selector: '$.a[*]'}",
            &[("response.stream", "plain names")],
        ),
        (
            "{paginator: single_page, response: {type: json, stream: true}, data_selector: 'a[0].b'}",
            &[("response.stream", "without positions")],
        ),
        (
            "{paginator: single_page, response: {type: json, max_body: 0}}",
            &[("response.max_body", "a size above zero")],
        ),
        (
            "{paginator: single_page, null_is_empty: maybe}",
            &[("null_is_empty", "true or false")],
        ),
    ]);
}

#[test]
fn exports() {
    expect(&[
        (
            "{paginator: single_page, export: {poll_path: /x, done: d}}",
            &[("export", "`download_path` or `url_path`")],
        ),
        (
            "{paginator: single_page, export: {poll_path: /x, done: d, url_path: u, download_path: /d}}",
            &[("export.url_path", "exclude each other")],
        ),
        (
            "{paginator: single_page, export: {poll_path: /x, url_path: u}}",
            &[("export", "the key `done` is missing")],
        ),
        (
            "{paginator: single_page, export: {poll_path: /x, url_path: u, done: []}}",
            &[("export.done", "at least one state")],
        ),
        (
            "{paginator: single_page, export: {poll_path: /x, url_path: u, done: d, failed: [e, d]}}",
            &[("export.done", "none of which is in `failed`")],
        ),
        (
            "{paginator: single_page, export: {poll_path: '/{id}', url_path: u, done: d}}",
            &[("export.poll_path", "known here: export.<path>")],
        ),
        (
            "{paginator: single_page, export: {poll_path: '/{export.a[*]}', url_path: u, done: d}}",
            &[("export.poll_path", "plain steps")],
        ),
        (
            "{paginator: single_page, export: {poll_path: 'https://evil.example/x', url_path: u, done: d}}",
            &[("export.poll_path", "another origin")],
        ),
        (
            "{paginator: single_page, path: '/{export.id}', export: {poll_path: /x, url_path: u, done: d}}",
            &[("path", "only in `export.poll_path`")],
        ),
        (
            "{paginator: single_page, export: {poll_path: /x, url_path: u, done: d, interval: 1h}}",
            &[("export.interval", "at most `max_time`")],
        ),
        (
            "{paginator: single_page, export: {poll_path: /x, download_path: /d, done: d, origins: ['https://s.example']}}",
            &[("export.origins", "only a URL")],
        ),
        (
            "{paginator: single_page, export: {poll_path: /x, url_path: u, done: d, origins: ['http://s.example']}}",
            &[("export.origins[0]", "expected https://")],
        ),
        (
            "{paginator: single_page, export: {poll_path: /x, url_path: u, done: d, origins: ['https://s.example/bucket']}}",
            &[("export.origins[0]", "nothing behind it")],
        ),
        (
            "{paginator: header_link, export: {poll_path: /x, url_path: u, done: d}}",
            &[("paginator", "needs `paginator: single_page`")],
        ),
    ]);
}
