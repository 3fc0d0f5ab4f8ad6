//! What dlt says of its `rest_api` dictionaries, each with a dictionary in dlt's own keys, the requests that
//! it means, one after the other and no other, and the rows.

use serde_json::{Value, json};

use crate::apis::{
    Stage,
    fake::{Answer, Asked, Data, Fake, route},
};

/// A dictionary and what it means.
struct Shown {
    what: &'static str,
    /// The source. `URL` is the API's.
    source: &'static str,
    /// Resources that are synced, in this order.
    synced: &'static [&'static str],
    /// Headers of every request.
    headers: &'static [(&'static str, &'static str)],
    /// The requests with their answers. Anything else is answered with 404.
    asked: &'static [(&'static str, &'static str)],
    /// A query and its rows.
    rows: (&'static str, &'static str),
}

const EMPLOYEES: (&str, &str) = ("GET /employees", r#"[{"id": 1}]"#);
const ONE: (&str, &str) = ("select id from hr.employees", r#"[{"id": 1}]"#);
const TWO: (&str, &str) = (
    "select id from hr.employees order by id",
    r#"[{"id": 1}, {"id": 2}]"#,
);
const THREE: (&str, &str) = (
    "select id from hr.employees order by id",
    r#"[{"id": 1}, {"id": 2}, {"id": 3}]"#,
);

const DEFAULTS: &str = "resource_defaults: {primary_key: id, write_disposition: merge}";

const SHOWN: &[Shown] = &[
    Shown {
        what: "a resource as a text: its name is path and table",
        source: "client: {base_url: URL, paginator: single_page}
resources: [employees]",
        synced: &["employees"],
        headers: &[],
        asked: &[EMPLOYEES],
        rows: ONE,
    },
    Shown {
        what: "a resource as a map, its endpoint as a text",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: employees, endpoint: staff/all}]",
        synced: &["employees"],
        headers: &[],
        asked: &[("GET /staff/all", r#"[{"id": 1}]"#)],
        rows: ONE,
    },
    Shown {
        what: "a map without a path: the name as it is written",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: allStaff}]",
        synced: &["allStaff"],
        headers: &[],
        asked: &[("GET /allStaff", r#"[{"id": 1}]"#)],
        rows: ("select id from hr.all_staff", r#"[{"id": 1}]"#),
    },
    Shown {
        what: "table_name: the table's, and that of its lists",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: employees, table_name: people, max_table_nesting: 1}]",
        synced: &["employees"],
        headers: &[],
        asked: &[("GET /employees", r#"[{"id": 1, "tags": ["x"]}]"#)],
        rows: (
            "select id, value from hr.people, hr.people__tags",
            r#"[{"id": 1, "value": "x"}]"#,
        ),
    },
    Shown {
        what: "resource_defaults: params are merged by their names, and null takes one away",
        source: "client: {base_url: URL, paginator: single_page}
resource_defaults: {primary_key: id, write_disposition: merge, endpoint: {params: {a: 1, b: 2, c: 3}}}
resources: [{name: employees, endpoint: {params: {b: 9, c: null, d: 4}}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[("GET /employees?a=1&b=9&d=4", r#"[{"id": 1}]"#)],
        rows: ONE,
    },
    Shown {
        what: "resource_defaults: json is merged by its names",
        source: "client: {base_url: URL, paginator: single_page}
resource_defaults: {primary_key: id, write_disposition: merge, endpoint: {method: POST, json: {a: 1, b: 2}}}
resources: [{name: employees, endpoint: {json: {b: [true, null]}}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[(
            r#"POST /employees {"a":1,"b":[true,null]}"#,
            r#"[{"id": 1}]"#,
        )],
        rows: ONE,
    },
    Shown {
        what: "selected: false is asked for only where a child needs it, and has no table",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: teams, selected: false}, {name: employees, endpoint: 'teams/{resources.teams.id}/employees'}]",
        synced: &["employees"],
        headers: &[],
        asked: &[
            ("GET /teams", r#"[{"id": 7}, {"id": 8}]"#),
            ("GET /teams/7/employees", r#"[{"id": 1}]"#),
            ("GET /teams/8/employees", r#"[{"id": 2}]"#),
        ],
        rows: (
            "select id, to_regclass('hr.teams') as teams from hr.employees order by id",
            r#"[{"id": 1, "teams": null}, {"id": 2, "teams": null}]"#,
        ),
    },
    Shown {
        what: "base_url and path: one stroke between them, however many there are",
        source: "client: {base_url: URL/v1/, paginator: single_page}
resources: [{name: employees, endpoint: /employees}]",
        synced: &["employees"],
        headers: &[],
        asked: &[("GET /v1/employees", r#"[{"id": 1}]"#)],
        rows: ONE,
    },
    Shown {
        what: "an absolute path: base_url does not count",
        source: "client: {base_url: URL/v1, paginator: single_page}
resources: [{name: employees, endpoint: URL/v2/employees}]",
        synced: &["employees"],
        headers: &[],
        asked: &[("GET /v2/employees", r#"[{"id": 1}]"#)],
        rows: ONE,
    },
    Shown {
        what: "headers of the endpoint stand over those of the client",
        source: "client: {base_url: URL, paginator: single_page, headers: {X-One: client, X-Two: client}}
resources: [{name: employees, endpoint: {headers: {x-two: endpoint}}}]",
        synced: &["employees"],
        headers: &[("x-one", "client"), ("x-two", "endpoint")],
        asked: &[EMPLOYEES],
        rows: ONE,
    },
    Shown {
        what: "auth of the endpoint stands over that of the client; a text alone is no type",
        source: "client: {base_url: URL, paginator: single_page, auth: {token: client}}
resources: [{name: employees, endpoint: {auth: {type: api_key, name: X-Key, api_key: endpoint}}}]",
        synced: &["employees"],
        headers: &[("authorization", ""), ("x-key", "endpoint")],
        asked: &[EMPLOYEES],
        rows: ONE,
    },
    Shown {
        what: "bearer is the type of an auth with a token; api_key stands in Authorization by default",
        source: "client: {base_url: URL, paginator: single_page, auth: {token: t0}}
resources: [employees]",
        synced: &["employees"],
        headers: &[("authorization", "Bearer t0")],
        asked: &[EMPLOYEES],
        rows: ONE,
    },
    Shown {
        what: "a paginator of the endpoint stands over that of the defaults, and this one over the client's",
        source: "client: {base_url: URL, paginator: {type: offset, limit: 9, total_path: null}}
resource_defaults: {primary_key: id, write_disposition: merge, endpoint: {paginator: single_page}}
resources: [employees, {name: teams, endpoint: {data_selector: $, paginator: {type: page_number, base_page: 1, total_path: null}}}]",
        synced: &["employees", "teams"],
        headers: &[],
        asked: &[EMPLOYEES, ("GET /teams?page=1", "[]")],
        rows: ONE,
    },
    Shown {
        what: "params: lists repeat their name, null is left out",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: employees, endpoint: {params: {ids: [1, 2], q: a b, none: null}}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[("GET /employees?ids=1&ids=2&q=a b", r#"[{"id": 1}]"#)],
        rows: ONE,
    },
    Shown {
        what: "data as a form",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: employees, endpoint: {method: POST, data: {kind: staff}}}]",
        synced: &["employees"],
        headers: &[("content-type", "application/x-www-form-urlencoded")],
        asked: &[(r#"POST /employees {"kind":"staff"}"#, r#"[{"id": 1}]"#)],
        rows: ONE,
    },
    Shown {
        what: "a place of the path that stands among the params is no parameter",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: employees, endpoint: {path: '{org}/staff', params: {org: acme, sort: id}, data_selector: $}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[("GET /acme/staff?sort=id", r#"[{"id": 1}]"#)],
        rows: ONE,
    },
    Shown {
        what: "doubled braces are braces; a value that is a placeholder alone keeps its type in json",
        source: "client: {base_url: URL, paginator: single_page}
resources:
- {name: teams, selected: false}
- {name: employees, endpoint: {path: search, method: POST, json: {query: '{{staff(team: {resources.teams.id})}}', team: '{resources.teams.id}'}}}",
        synced: &["employees"],
        headers: &[],
        asked: &[
            ("GET /teams", r#"[{"id": 7}]"#),
            (
                r#"POST /search {"query":"{staff(team: 7)}","team":7}"#,
                r#"[{"id": 1}]"#,
            ),
        ],
        rows: ONE,
    },
    Shown {
        what: "data_selector: several matches are the records",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: employees, endpoint: {data_selector: 'teams[*].staff[*]'}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[(
            "GET /employees",
            r#"{"teams": [{"staff": [{"id": 1}]}, {"staff": [{"id": 2}, {"id": 3}]}]}"#,
        )],
        rows: THREE,
    },
    Shown {
        what: "data_selector: one match is unwrapped, be it a list or a record",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: employees, endpoint: {data_selector: result.staff}}, {name: company, endpoint: {data_selector: result.company}}]",
        synced: &["employees", "company"],
        headers: &[],
        asked: &[
            ("GET /employees", r#"{"result": {"staff": [{"id": 1}, {"id": 2}]}}"#),
            ("GET /company", r#"{"result": {"company": {"id": 9}}}"#),
        ],
        rows: TWO,
    },
    Shown {
        what: "a path that ends in a place is one record, whatever the client pages by",
        source: "client: {base_url: URL, paginator: {type: offset, limit: 5, total_path: null}}
resources: [{name: ids, selected: false, endpoint: {paginator: single_page}}, {name: employees, endpoint: 'employees/{resources.ids.id}'}]",
        synced: &["employees"],
        headers: &[],
        asked: &[
            ("GET /ids", r#"[{"id": 1}]"#),
            ("GET /employees/1", r#"{"id": 1, "data": [{"id": 99}]}"#),
        ],
        rows: ONE,
    },
    Shown {
        what: "page_number: from base_page, total_path counts pages",
        source: "client: {base_url: URL}
resources: [{name: employees, endpoint: {data_selector: data, paginator: {type: page_number, base_page: 1, page_param: p, total_path: pages}}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[
            ("GET /employees?p=1", r#"{"data": [{"id": 1}], "pages": 2}"#),
            ("GET /employees?p=2", r#"{"data": [{"id": 2}], "pages": 2}"#),
        ],
        rows: TWO,
    },
    Shown {
        what: "page_number: zero is the first by default, an empty page the last",
        source: "client: {base_url: URL}
resources: [{name: employees, endpoint: {paginator: {type: page_number, total_path: null}}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[
            ("GET /employees?page=0", r#"[{"id": 1}]"#),
            ("GET /employees?page=1", r#"[{"id": 2}]"#),
            ("GET /employees?page=2", "[]"),
        ],
        rows: TWO,
    },
    Shown {
        what: "page_number in the body",
        source: "client: {base_url: URL}
resources: [{name: employees, endpoint: {method: POST, json: {sort: id}, data_selector: data, paginator: {type: page_number, base_page: 1, page_body_path: paging.page, total_path: pages}}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[
            (
                r#"POST /employees {"sort":"id","paging":{"page":1}}"#,
                r#"{"data": [{"id": 1}], "pages": 2}"#,
            ),
            (
                r#"POST /employees {"sort":"id","paging":{"page":2}}"#,
                r#"{"data": [{"id": 2}], "pages": 2}"#,
            ),
        ],
        rows: TWO,
    },
    Shown {
        what: "offset: limit with every page, total counts records",
        source: "client: {base_url: URL}
resources: [{name: employees, endpoint: {data_selector: data, paginator: {type: offset, limit: 2, limit_param: take, offset_param: skip}}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[
            (
                "GET /employees?skip=0&take=2",
                r#"{"data": [{"id": 1}, {"id": 2}], "total": 3}"#,
            ),
            (
                "GET /employees?skip=2&take=2",
                r#"{"data": [{"id": 3}], "total": 3}"#,
            ),
        ],
        rows: THREE,
    },
    Shown {
        what: "offset: has_more_path says when it is over",
        source: "client: {base_url: URL}
resources: [{name: employees, endpoint: {data_selector: data, paginator: {type: offset, limit: 1, total_path: null, has_more_path: more}}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[
            (
                "GET /employees?offset=0&limit=1",
                r#"{"data": [{"id": 1}], "more": "yes"}"#,
            ),
            (
                "GET /employees?offset=1&limit=1",
                r#"{"data": [{"id": 2}], "more": false}"#,
            ),
        ],
        rows: TWO,
    },
    Shown {
        what: "cursor: none in the first request, its defaults, null ends it",
        source: "client: {base_url: URL}
resources: [{name: employees, endpoint: {data_selector: data, paginator: cursor}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[
            (
                "GET /employees",
                r#"{"data": [{"id": 1}], "cursors": {"next": "c1"}}"#,
            ),
            (
                "GET /employees?cursor=c1",
                r#"{"data": [{"id": 2}], "cursors": {"next": null}}"#,
            ),
        ],
        rows: TWO,
    },
    Shown {
        what: "cursor: may point into the data, and stand in the body",
        source: "client: {base_url: URL}
resources: [{name: employees, endpoint: {method: POST, data_selector: data, paginator: {type: cursor, cursor_path: 'data[-1].id', cursor_body_path: after, stop_after_empty_page: true}}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[
            ("POST /employees", r#"{"data": [{"id": 1}]}"#),
            (r#"POST /employees {"after":1}"#, r#"{"data": [{"id": 2}]}"#),
            (r#"POST /employees {"after":2}"#, r#"{"data": []}"#),
        ],
        rows: TWO,
    },
    Shown {
        what: "json_link: next by default, absolute or not",
        source: "client: {base_url: URL}
resources: [{name: employees, endpoint: {params: {size: 1}, data_selector: data, paginator: json_link}}]",
        synced: &["employees"],
        headers: &[],
        asked: &[
            (
                "GET /employees?size=1",
                r#"{"data": [{"id": 1}], "next": "/employees?after=1"}"#,
            ),
            (
                "GET /employees?after=1",
                r#"{"data": [{"id": 2}], "next": null}"#,
            ),
        ],
        rows: TWO,
    },
    Shown {
        what: "start_param and initial_value; the cursor of the next run is the highest value",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: employees, primary_key: id, write_disposition: merge, endpoint: {incremental: {cursor_path: at, initial_value: '2024-01-01', start_param: since}}}]",
        synced: &["employees", "employees"],
        headers: &[],
        asked: &[
            (
                "GET /employees?since=2024-01-01",
                r#"[{"id": 1, "at": "2024-03-01"}, {"id": 2, "at": "2024-02-01"}]"#,
            ),
            (
                "GET /employees?since=2024-03-01",
                r#"[{"id": 3, "at": "2024-03-01"}]"#,
            ),
        ],
        rows: THREE,
    },
    Shown {
        what: "start_value in a placeholder, and end_value: nothing is remembered between fixed ends",
        source: "client: {base_url: URL, paginator: single_page}
resources: [{name: employees, primary_key: id, write_disposition: merge, endpoint: {params: {from: '{incremental.start_value}', to: '{incremental.end_value}'}, incremental: {cursor_path: n, initial_value: 5, end_value: 9}}}]",
        synced: &["employees", "employees"],
        headers: &[],
        asked: &[
            (
                "GET /employees?from=5&to=9",
                r#"[{"id": 1, "n": 5}, {"id": 2, "n": 8}, {"id": 4, "n": 9}]"#,
            ),
            ("GET /employees?from=5&to=9", r#"[{"id": 3, "n": 7}]"#),
        ],
        rows: THREE,
    },
    Shown {
        what: "resolve: the older form; include_from_parent names its columns after the parent",
        source: "client: {base_url: URL, paginator: single_page}
resources:
- {name: teams, selected: false}
- {name: employees, include_from_parent: [title], endpoint: {path: 'teams/{team}/employees', params: {team: {type: resolve, resource: teams, field: ref.id}}}}",
        synced: &["employees"],
        headers: &[],
        asked: &[
            (
                "GET /teams",
                r#"[{"id": 1, "title": "Kitchen", "ref": {"id": "k"}}]"#,
            ),
            ("GET /teams/k/employees", r#"[{"id": 1}]"#),
        ],
        rows: (
            "select id, _teams_title from hr.employees",
            r#"[{"id": 1, "_teams_title": "Kitchen"}]"#,
        ),
    },
];

fn answer(asked: &Asked, data: &mut Data) -> Answer {
    let next = match data.get_mut("asked") {
        Some(expected) if !expected.is_empty() => expected.remove(0),
        _ => Value::Null,
    };
    match next[0] == json!(asked.line()) {
        true => Answer::json(&next[1]),
        false => Answer::json(&json!({"expected": next[0]})).status(404),
    }
}

/// What is not as it should be.
async fn wrong(shown: &Shown) -> Option<String> {
    let mut routes = Vec::new();
    for (line, _) in shown.asked {
        let mut words = line.split([' ', '?']);
        let (method, path) = (words.next()?, words.next()?);
        routes.push(route(method, path, answer));
    }
    let headers = shown.headers;
    let guard = move |asked: &Asked| {
        let odd = headers.iter().find(|(n, value)| asked.header(n) != *value);
        odd.map(|(name, _)| Answer::json(&json!({"header": name})).status(400))
    };
    let fake = Fake::new(guard, routes).await;
    for (line, body) in shown.asked {
        let body: Value = serde_json::from_str(body).unwrap();
        fake.put("asked", json!([line, body]));
    }
    let defaults = match shown.source.contains("resource_defaults") {
        true => "",
        false => DEFAULTS,
    };
    let lines = format!("{}\n{defaults}", shown.source.replace("URL", fake.url()));
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    let stage = Stage::of(fake, &format!("sources:\n  hr:\n{lines}")).await;
    let mut requests = Vec::new();
    let mut outcomes = Vec::new();
    for resource in shown.synced {
        outcomes.push(stage.run(resource).await);
        requests.extend(stage.fake.requests());
    }
    let succeeded = |o: &rosterd::sync::Outcome| o.status == rosterd::record::Status::Succeeded;
    if !outcomes.iter().all(succeeded) {
        return Some(format!("{outcomes:?}\n  {requests:#?}"));
    }
    let expected: Vec<&str> = shown.asked.iter().map(|(line, _)| *line).collect();
    if requests != expected {
        return Some(format!("{requests:#?} instead of {expected:#?}"));
    }
    let (query, rows) = shown.rows;
    let found = stage.rows(query).await;
    let rows: Value = serde_json::from_str(rows).unwrap();
    (found != rows).then(|| format!("{found} instead of {rows}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dictionary_means_what_it_means_in_dlt() {
    let all = SHOWN.iter().map(async |shown| {
        let wrong = wrong(shown).await;
        wrong.map(|wrong| format!("{}: {wrong}", shown.what))
    });
    let wrong: Vec<String> = futures_util::future::join_all(all)
        .await
        .into_iter()
        .flatten()
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
