//! Credentials as they stand in the configuration: what is refused, and where.

use rosterd::config;

/// Problems as `path: message`, of a source with these lines under `client` and these resources.
fn problems(client: &str, resources: &str) -> Vec<String> {
    let indented =
        |text: &str| -> String { text.lines().map(|line| format!("      {line}\n")).collect() };
    let file = format!(
        "sources:\n  hr:\n    client:\n      base_url: https://api.example.com\n{}    resources:\n{}    resource_defaults: {{write_disposition: append}}\n",
        indented(client),
        indented(resources)
    );
    match config::from_str(&file) {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .iter()
            .map(|problem| {
                let line = problem.to_string();
                let line = line.strip_prefix("rosterd.yaml:").unwrap();
                line.replace("sources.hr.", "")
            })
            .collect(),
    }
}

const PLAIN: &str = "- {name: a, endpoint: {paginator: single_page}}";

/// What is wrong with `client.auth`; `expected`: line, path below `client`, and a part of the message.
#[track_caller]
fn expect(client: &str, resources: &str, expected: &[(u32, &str, &str)]) {
    let told = problems(client, resources);
    assert_eq!(told.len(), expected.len(), "{client}: {told:#?}");
    for (told, (line, path, message)) in told.iter().zip(expected) {
        let place = told.split(' ').next().unwrap();
        assert!(place.starts_with(&format!("{line}:")), "{client}: {told}");
        assert!(told.contains(&format!(": {path}: ")), "{client}: {told}");
        assert!(told.contains(message), "{client}: {told}");
    }
}

#[test]
fn credentials_that_cannot_be_sent_are_refused() {
    expect(
        "auth: {type: api_key, api_key: k, location: body, name: 'a[', template: 'Token'}
retry: {statuses: [403, 429]}
circuit: {refusals: 0, per: 0s}",
        "- name: a
  endpoint: {paginator: single_page, auth: {type: http_basic, username: a, scheme: x}}
- name: b
  endpoint: {paginator: single_page, auth: {token: t, scheme: 'a b'}}",
        &[
            (5, "client.auth.name", "a path into the body"),
            (5, "client.auth.template", "one `{key}`"),
            (6, "client.retry.statuses", "never tried again"),
            (7, "client.circuit.refusals", "at least 1"),
            (7, "client.circuit.per", "above zero"),
            (10, "resources[0].endpoint.auth.scheme", "unknown key"),
            (12, "resources[1].endpoint.auth.scheme", "one word"),
        ],
    );
    expect(
        "auth: {type: api_key, api_key: 'a;b', location: cookie, name: sid}",
        PLAIN,
        &[(5, "client.auth.api_key", "a cookie cannot")],
    );
}

#[test]
fn a_key_in_the_body_needs_a_body_with_room_for_it() {
    expect(
        "auth: {type: api_key, api_key: k, location: body, name: auth.key}",
        "- {name: a, endpoint: {paginator: single_page}}
- {name: b, endpoint: {method: POST, json: [1], paginator: single_page}}
- {name: c, endpoint: {method: POST, data: text, paginator: single_page}}
- {name: d, endpoint: {method: POST, paginator: single_page}}
- {name: e, endpoint: {paginator: single_page, auth: {token: t}}}",
        &[
            (7, "resources[0].endpoint", "needs `method: POST`"),
            (8, "resources[1].endpoint.json", "expected a map"),
            (9, "resources[2].endpoint.data", "expected a map"),
        ],
    );
}

#[test]
fn logins_that_cannot_be_sent_are_refused() {
    expect(
        "auth:
  type: session
  request:
    url: http://a.example.com
    method: GET
    json: {a: 1}
    data: {a: 1}
    headers: {'a b': c}
    auth: {type: api_key, api_key: k, location: body}
  template: '{key}'",
        PLAIN,
        &[
            (8, "client.auth.request.url", "https://"),
            (11, "client.auth.request.data", "exclude each other"),
            (
                12,
                "client.auth.request.headers[\"a b\"]",
                "name of a header",
            ),
            (13, "client.auth.request.auth.location", "needs `json`"),
            (14, "client.auth.template", "one `{token}`"),
        ],
    );
    expect(
        "auth: {type: session}",
        PLAIN,
        &[(5, "client.auth", "the key `request` is missing")],
    );
}

#[test]
fn variables_of_the_source_fill_its_client() {
    let file = "sources:
  hr:
    vars: {tenant: acme, id: '7/x', key: k}
    client:
      base_url: https://{vars.tenant}.example.com/t/{vars.id}
      headers: {X-Tenant: '{vars.id}'}
      auth: {type: oauth2_client_credentials, access_token_url: 'https://login.example.com/{vars.id}', client_id: '{vars.tenant}', client_secret: s}
    resources:
      - {name: a, write_disposition: append, endpoint: {paginator: single_page}}";
    let config = config::from_str(file).unwrap_or_else(|problems| panic!("{problems}"));
    let client = &config.sources[0].client;
    assert_eq!(client.base_url.as_str(), "https://acme.example.com/t/7%2Fx");
    assert_eq!(client.headers["X-Tenant"].expose(), "7/x");
    let Some(config::auth::Auth::Token(token)) = &client.auth else {
        panic!("a token")
    };
    assert_eq!(
        token.request.url.as_str(),
        "https://login.example.com/7%2Fx"
    );
    // What is filled in cannot become another host.
    for tenant in ["evil.example/", "a@evil.example", "a#", "evil.example?"] {
        let hostile = file.replace("tenant: acme", &format!("tenant: '{tenant}'"));
        let error = config::from_str(&hostile).unwrap_err().to_string();
        assert!(error.contains("expected a URL"), "{error}");
    }
    expect(
        "headers: {X: '{vars.nobody}'}",
        PLAIN,
        &[(5, "client.headers.X", "no such variable")],
    );
}

#[test]
fn ways_to_the_api_that_cannot_be_gone_are_refused() {
    expect(
        "user_agent: \"a\\nb\"
proxy: socks5://proxy.example.com
tls: {ca: nonsense, certificate: nonsense}
auth: {type: session, request: {url: 'https://a.example.com'}, base_url: {path: url, hosts: ['*', 'a b', '*.com']}}",
        PLAIN,
        &[
            (5, "client.user_agent", "plain ASCII"),
            (6, "client.proxy", "http://"),
            (7, "client.tls", "need each other"),
            (7, "client.tls.ca", "as PEM"),
            (8, "client.auth.base_url.hosts", "names of hosts"),
        ],
    );
    expect(
        "tls: {certificate: nonsense, key: nonsense}",
        PLAIN,
        &[
            (5, "client.tls.certificate", "as PEM"),
            (5, "client.tls.key", "as PEM"),
        ],
    );
}

#[test]
fn a_statement_needs_a_key_that_signs() {
    expect(
        "auth: {type: oauth2_jwt_bearer, access_token_url: 'https://a.example.com', private_key: nonsense, issuer: me, algorithm: HS256}",
        PLAIN,
        &[(5, "client.auth.algorithm", "one of RS256")],
    );
    expect(
        "auth: {type: oauth2_jwt_bearer, access_token_url: 'https://a.example.com', private_key: nonsense, issuer: me}",
        PLAIN,
        &[(5, "client.auth.private_key", "an RSA key")],
    );
}

#[test]
fn a_refresh_token_needs_a_place_where_it_is_kept_once() {
    let token = "{type: oauth2_refresh_token, access_token_url: 'https://a.example.com', client_auth: basic}";
    expect(
        &format!("auth: {token}"),
        &format!("- {{name: a, endpoint: {{paginator: single_page, auth: {token}}}}}"),
        &[
            (5, "client.auth", "needs `credential_store.key`"),
            (5, "client.auth.client_auth", "needs `client_id`"),
            (7, "resources[0].endpoint.auth", "belongs in `client.auth`"),
            (
                7,
                "resources[0].endpoint.auth.client_auth",
                "needs `client_id`",
            ),
        ],
    );
}
