//! What the configuration refuses, word by word: each row is one mistake in a file that is right otherwise,
//! and what must be said of it, with its path and its line.

use rosterd::config::{self, Environment};

/// Where a row's text goes.
#[derive(Clone, Copy)]
enum At {
    Top,
    Source,
    Client,
    Defaults,
    Resource,
    Endpoint,
}

use At::{Client, Defaults, Endpoint, Resource, Source, Top};

/// A file with `text` in its place, on the last line but for resources, which come last.
fn file(at: At, text: &str) -> String {
    let part = |wanted: At| match (at as u8 == wanted as u8, text.is_empty()) {
        (true, false) => text,
        _ => "",
    };
    let comma = |text: &str| match text.is_empty() {
        true => String::new(),
        false => format!(", {text}"),
    };
    let endpoint = match part(Endpoint) {
        "" => String::new(),
        own => format!(", endpoint: {{{own}}}"),
    };
    format!(
        "{}
sources:
  hr:
    {}
    client: {{base_url: 'https://x.example'{}}}
    resource_defaults: {{endpoint: {{paginator: single_page}}, write_disposition: append{}}}
    resources:
      - {{name: a{}{endpoint}}}
",
        part(Top),
        part(Source),
        comma(part(Client)),
        comma(part(Defaults)),
        comma(part(Resource)),
    )
}

/// The line of the file that `text` stands on.
fn line(at: At) -> usize {
    match at {
        Top => 1,
        Source => 4,
        Client => 5,
        Defaults => 6,
        Resource | Endpoint => 8,
    }
}

#[test]
fn every_mistake_is_told_with_its_path_and_line() {
    let long = "a-secret-of-more-than-thirty-two-signs";
    let rows: Vec<(At, String, &str, &str)> = [
        // Credentials and the way to the API.
        (Client, "auth: {token: t, scheme: 'Bear er'}", "client.auth.scheme", "expected one word, such as Bearer"),
        (Client, "auth: {type: http_basic, username: 'a:b', password: p}", "client.auth.username", "cannot hold a colon"),
        (Client, "auth: {token: \"a\\nb\"}", "client.auth.token", "holds a line break or control character"),
        (Client, "auth: {type: api_key, name: X, api_key: \"a\\rb\"}", "client.auth.api_key", "holds a line break or control character"),
        (Client, "headers: {'X Y': a}", "client.headers[\"X Y\"]", "expected the name of a header"),
        (Client, "headers: {X: \"a\\nb\"}", "client.headers.X", "holds a line break or control character"),
        (Client, "tls: {ca: none}", "client.tls.ca", "expected certificates as PEM"),
        (Client, "tls: {certificate: none, key: none}", "client.tls.certificate", "expected a certificate as PEM"),
        (Client, "tls: {certificate: none, key: none}", "client.tls.key", "expected a private key as PEM, without a password"),
        (Client, "limit_headers: {reset: X-Reset, reserve: 5}", "client.limit_headers.reserve", "needs `remaining`"),
        (Client, "limit_headers: {reset: 'X Reset'}", "client.limit_headers.reset", "expected the name of a header"),
        (Client, "retry: {max_retries: 1000}", "client.retry.max_retries", "expected at most"),
        (Client, "retry: {factor: 0.5}", "client.retry.factor", "expected at least 1"),
        (Client, "retry: {statuses: [401]}", "client.retry.statuses", "APIs lock who insists"),
        (Client, "auth: {type: oauth2_jwt_bearer, access_token_url: 'https://x.example/t', issuer: i, audience: a, private_key: none}", "client.auth.private_key", "expected an RSA key as PEM"),
        (Client, "auth: {type: session, request: {url: 'https://x.example/t', json: {a: b}}, token_path: t, base_url: {path: u, hosts: []}}", "client.auth.base_url.hosts", "expected at least one name of a host"),
        (Client, "auth: {type: session, request: {url: 'https://x.example/t', data: {a: b}, auth: {type: api_key, name: k, api_key: s, location: body}}, token_path: t}", "client.auth.request.auth.location", "a place in the body needs `json`"),
        // The file as a whole.
        (Top, "daemon: {admin: {listen: '0.0.0.0:8686'}}", "daemon.admin.listen", "can be reached from outside"),
        (Top, "daemon: {lease: 1s}", "daemon.lease", "expected at least 3s"),
        (Top, "daemon: {lease: 10s, poll: 20s}", "daemon.poll", "expected less than `lease`"),
        (Top, "database: {schema: pg_own}", "database.schema", "this schema is not for data"),
        (Top, "credential_store: {key: {id: '', secret: s}}", "credential_store.key.id", "expected a name of at most 32 signs"),
        (Top, "credential_store: {key: {id: k, secret: s}}", "credential_store.key.secret", "at least 32 characters"),
        (Top, &format!("credential_store: {{key: {{id: k, secret: {long}}}, former_keys: [{{id: k, secret: {long}2}}]}}"), "credential_store.former_keys[0].id", "another key has this id"),
        (Top, &format!("privacy: {{former_keys: [{{id: k, secret: {long}}}]}}"), "privacy.former_keys", "former keys need a present one"),
        (Top, &format!("privacy: {{key: {{id: K1, secret: {long}}}}}"), "privacy.key.id", "lower-case letters"),
        (Top, "privacy: {key: {id: k, secret: short}}", "privacy.key.secret", "at least 16 characters"),
        (Top, &format!("privacy: {{key: {{id: k, secret: {long}}}, former_keys: [{{id: k, secret: {long}2}}]}}"), "privacy.former_keys[0].id", "another key has this id"),
        // A resource.
        (Resource, "table_name: '--'", "resources[0].table_name", "letters or digits"),
        (Resource, "primary_key: [b, b]", "resources[0].primary_key", "a field stands twice"),
        (Resource, "primary_key: {hash: []}", "resources[0].primary_key.hash", "expected at least one field"),
        (Resource, "partial_records: true", "resources[0].partial_records", "only `merge` with the strategy `upsert`"),
        (Resource, "reconcile: 'every 1d'", "resources[0].reconcile", "nothing to reconcile"),
        (Resource, "write_disposition: merge, merge_key: b, replace_by: c", "resources[0].replace_by", "the merge key is given twice"),
        (Resource, "write_disposition: merge, primary_key: id, columns: {b: {hard_delete: true}, c: {hard_delete: true}}", "resources[0].columns.c.hard_delete", "another column has `hard_delete` already"),
        (Resource, "write_disposition: merge, primary_key: id, deletes: snapshot, columns: {b: {hard_delete: true}}", "resources[0].columns.b.hard_delete", "rows of one table go in one way"),
        (Resource, "write_disposition: merge, primary_key: id, columns: {b: {dedup_sort: desc}, c: {dedup_sort: asc}}", "resources[0].columns.c.dedup_sort", "another column has `dedup_sort` already"),
        (Resource, "primary_key: b, columns: {b: {data_type: json}}", "resources[0].columns.b.data_type", "a key is text, bigint, decimal, bool, date or timestamp"),
        (Resource, "columns: {b: {data_type: timestamp, timezone: Mars}}", "resources[0].columns.b.timezone", "expected true, false, or a time zone"),
        (Resource, "columns: {b: {format: '%Q'}}", "resources[0].columns.b.format", "or a strftime pattern"),
        (Resource, "write_disposition: merge, primary_key: id, deletes: {mode: snapshot, max_fraction: 2}", "resources[0].deletes.max_fraction", "expected a fraction from 0 to 1"),
        (Resource, "write_disposition: merge, primary_key: id, deletes: {mode: feed}", "resources[0].deletes", "`mode: feed` needs an `endpoint`"),
        (Resource, "write_disposition: merge, primary_key: id, deletes: {mode: flag, field: b, values: [[1]]}", "resources[0].deletes.values", "expected texts, numbers, true or false"),
        (Resource, "rejects: {tolerate: some}", "resources[0].rejects.tolerate", "expected a number of records, or a share"),
        (Resource, "privacy: {hash: [b]}", "resources[0].privacy.hash", "needs a key: `privacy: {key:"),
        (Resource, "schedule: {every: 1h, timezone: Europe/Berlin}", "resources[0].schedule.timezone", "`every` knows no time zone"),
        (Resource, "schedule: {every: 10ms}", "resources[0].schedule.every", "expected at least 1s"),
        (Resource, "schedule: {every: 1h, jitter: 2h}", "resources[0].schedule.jitter", "expected less than `every`"),
        (Resource, "schedule: '0 0 30 2 *'", "resources[0].schedule", "this schedule is never due"),
        // An endpoint and its paging.
        (Endpoint, "headers: {'X Y': a}", "resources[0].endpoint.headers[\"X Y\"]", "expected the name of a header"),
        (Endpoint, "headers: {X: \"a\\nb\"}", "resources[0].endpoint.headers.X", "holds a line break or control character"),
        (Endpoint, "path: 'a b'", "resources[0].endpoint.path", "encode it"),
        (Endpoint, "path: 'https://other.example/a'", "resources[0].endpoint.path", "another origin than `client.base_url`"),
        (Endpoint, "path: '{resources.a.id}'", "resources[0].endpoint", "is its own parent"),
        (Endpoint, "params: {q: '{incremental.start_value}'}", "resources[0].endpoint.params.q", "needs `endpoint.incremental`"),
        (Endpoint, "params: {q: '{incremental.end_value}'}, incremental: {cursor_path: u, start_param: s}", "resources[0].endpoint.params.q", "no walk has an end to put here"),
        (Endpoint, "path: 'a/{incremental.start_value}', incremental: {cursor_path: u}", "resources[0].endpoint.path", "the first walk has nothing to put here"),
        (Endpoint, "params: {q: {type: list, values: {a: b}}}", "resources[0].endpoint.params.q.values", "expected `values`: a list"),
        (Endpoint, "params: {q: {type: incremental, cursor_path: u}}, incremental: {cursor_path: u}", "resources[0].endpoint.params.q", "an endpoint has one cursor"),
        (Endpoint, "paginator: {type: page_number, has_more_path: m, last_page_path: l}", "resources[0].endpoint.paginator.last_page_path", "exclude"),
        (Endpoint, "paginator: {type: offset, limit: 5, total_path: t, total_header: X-T}", "resources[0].endpoint.paginator.total_header", "exclude each other"),
        (Endpoint, "paginator: {type: offset, limit: 5, total_header: 'X T'}", "resources[0].endpoint.paginator.total_header", "expected the name of a header"),
        (Endpoint, "paginator: {type: offset, limit: 5, end_statuses: [401]}", "resources[0].endpoint.paginator.end_statuses", "expected"),
        (Endpoint, "response_actions: [{action: ignore}]", "resources[0].endpoint.response_actions[0]", "a rule needs a condition"),
        (Endpoint, "response: xml", "resources[0].endpoint", "expected the names of elements"),
        (Endpoint, "response: {type: json, stream: true}, data_selector: 'a[0]'", "resources[0].endpoint.response.stream", "streams need a `data_selector`"),
        (Endpoint, "response: {type: json, stream: true}, data_selector: '$.a[?@.b]'", "resources[0].endpoint.response.stream", "of plain names"),
        (Endpoint, "response: {type: csv, quote: ';', delimiter: ';'}", "resources[0].endpoint.response.quote", "expected another sign than `delimiter`"),
        (Endpoint, "response: {type: csv, charset: klingon}", "resources[0].endpoint.response.charset", "expected a character set"),
        (Client, "auth: {token: ' '}", "client.auth.token", "is empty"),
        (Client, "auth: {type: api_key, name: s, api_key: 'a;b', location: cookie}", "client.auth.api_key", "holds signs that a cookie cannot"),
        (Client, "limit_headers: {reset: X-R, reset_unit: seconds, reserve: 5}", "client.limit_headers.reserve", "needs `remaining`"),
        (Defaults, "name: a", "resource_defaults.name", "a name belongs to one resource"),
        (Endpoint, "path: 'https://[x'", "resources[0].endpoint.path", "not a URL"),
        (Endpoint, "export: {poll_path: 'e/{export.id}', status_path: s, id_path: id, done: [ok], download_path: d, origins: ['https://y.example']}", "resources[0].endpoint.export.origins", "only a URL (`url_path`) may lead elsewhere"),
        (Endpoint, "paginator: {type: offset, limit: 5, total_path: null, step: received, overlap: 5}", "resources[0].endpoint.paginator.overlap", "expected less than `limit`"),
        (Endpoint, "paginator: {type: offset, limit: 5, total_path: null, step: limit, overlap: 1}", "resources[0].endpoint.paginator.overlap", "needs `step: received`"),
        (Endpoint, "paginator: {type: page_number, base_page: 1, page: 0}", "resources[0].endpoint.paginator.page", "expected at least `base_page`"),
        (Endpoint, "paginator: {type: page_number, page_param: ''}", "resources[0].endpoint.paginator.page_param", "expected the name of a parameter"),
        (Endpoint, "paginator: {type: cursor, limit_param: n}", "resources[0].endpoint.paginator.limit_param", "needs `limit`"),
        (Endpoint, "response_actions: [{content: '', action: ignore}]", "resources[0].endpoint.response_actions[0]", "an empty `content` is in every answer"),
        (Resource, "schedule: {jitter: 5s}", "resources[0].schedule", "expected `cron` or `every`"),
        // Cursors.
        (Endpoint, "incremental: {cursor_path: u, start_param: s, end_param: s}", "resources[0].endpoint.incremental.end_param", "cannot share a parameter"),
        (Endpoint, "incremental: {cursor_path: u, start_param: s, allow_external_schedulers: true}", "resources[0].endpoint.incremental.allow_external_schedulers", "the bounds are set here"),
        (Endpoint, "incremental: {cursor_path: u, start_param: s, last_value_func: min, format: epoch_s}", "resources[0].endpoint.incremental.format", "what is sent is cut down"),
        (Endpoint, "incremental: {cursor_path: u, start_param: s, end_value: '2024-01-01'}", "resources[0].endpoint.incremental.end_value", "where the walk begins"),
        (Endpoint, "incremental: {cursor_path: u, start_param: s, initial_value: '2020-01-01', end_value: '2024-01-01', until: now}", "resources[0].endpoint.incremental.until", "says already where the span ends"),
        (Endpoint, "incremental: {cursor_path: u, start_param: s, range_end: closed}", "resources[0].endpoint.incremental.range_end", "needs `end_value`"),
        (Endpoint, "incremental: {cursor_path: u, start_param: s, end_param: e, initial_value: '2020-01-01', window: 10ms}", "resources[0].endpoint.incremental.window", "expected at least 1s"),
        (Endpoint, "incremental: {cursor_path: u, start_param: s, end_param: e, window: 1d}", "resources[0].endpoint.incremental.window", "where the first one begins"),
        (Endpoint, "incremental: {cursor_path: u, start_param: s, end_param: e, initial_value: '2020-01-01', window: 1d, last_value_func: min}", "resources[0].endpoint.incremental.window", "windows go forward"),
        (Endpoint, "incremental: {cursor_path: u, start_param: s, until: later}", "resources[0].endpoint.incremental.until", "expected now, open, or a time ahead"),
        (Endpoint, "incremental: {cursor_path: u, initial_value: '2020-01-01', window: 1d}", "resources[0].endpoint.incremental.window", "no request names the end"),
        (Endpoint, "incremental: {watermark: run_start, start_param: s, row_order: asc}", "resources[0].endpoint.incremental.row_order", "needs `cursor_path`"),
    ]
    .into_iter()
    .map(|(at, text, path, message)| (at, text.to_owned(), path, message))
    .collect();
    let mut wrong = Vec::new();
    for (at, text, path, message) in &rows {
        let Err(problems) = config::from_str_with(&file(*at, text), &Environment::default()) else {
            wrong.push(format!("{text}: was accepted"));
            continue;
        };
        let is_told = problems.iter().any(|problem| {
            let place = format!("rosterd.yaml:{}:", line(*at));
            problem.path.ends_with(path)
                && problem.message.contains(message)
                && problem.to_string().starts_with(&place)
        });
        if !is_told {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            wrong.push(format!(
                "{text}\n  wanted {path}: {message}\n  told {told:#?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The file around them is right.
    for at in [Top, Source, Client, Defaults, Resource, Endpoint] {
        let text = file(at, "");
        config::from_str_with(&text, &Environment::default())
            .unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn a_resource_without_a_name_is_told_on_its_line() {
    let text = "sources:\n  hr:\n    client: {base_url: 'https://x.example'}\n    resources:\n      - {endpoint: x}\n";
    let problems = config::from_str_with(text, &Environment::default()).unwrap_err();
    let told = problems.to_string();
    assert!(
        told.contains("rosterd.yaml:5:9: sources.hr.resources[0]: the key `name` is missing"),
        "{told}"
    );
}

/// What the loader says, by the place in the sources where it says it.
fn messages() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, text) in sources("src/config") {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, _) in text.match_indices(".wrong(") {
            // The first one of two texts is a key.
            if let Some(message) = texts(&text[at + ".wrong".len()..]).pop() {
                let line = text[..at].lines().count();
                found.push((format!("{name}:{line}"), one_line(&message)));
            }
        }
    }
    found
}

/// The texts between the parentheses that `source` begins with.
fn texts(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut depth, mut text, mut signs) = (0, None::<String>, source.chars());
    while let Some(sign) = signs.next() {
        match (&mut text, sign) {
            (Some(_), '"') => found.extend(text.take()),
            (Some(text), '\\') => match signs.next() {
                Some('\n') | None => {}
                Some(sign) => text.push(sign),
            },
            (Some(text), sign) => text.push(sign),
            (None, '"') => text = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') if depth == 1 => break,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
    }
    found
}

/// Name and text of each source file below a folder of the crate.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.display().to_string(), text));
            }
        }
    }
    found
}

fn one_line(text: &str) -> String {
    text.replace("\\\n", "")
        .replace("\\\"", "\"")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Signs that two texts do not share by chance.
const RUN: usize = 12;

#[test]
fn everything_that_the_loader_says_is_wanted_by_a_test() {
    let mut wanted: String = sources("tests").into_iter().map(|(_, text)| text).collect();
    for (_, text) in sources("src") {
        wanted.extend(text.split("#[cfg(test)]").skip(1));
    }
    let wanted = one_line(&wanted);
    let messages = messages();
    assert!(messages.len() > 200, "{}", messages.len());
    let unheard: Vec<_> = messages
        .iter()
        .filter(|(_, message)| {
            // Any run of words that no other text has by chance, and that is not filled in.
            let pieces = message.split('{').flat_map(|piece| piece.split('}'));
            let mut pieces: Vec<Vec<char>> = pieces.map(|p| p.chars().collect()).collect();
            pieces.retain(|piece| piece.len() >= RUN);
            let mut runs = pieces.iter().flat_map(|piece| piece.windows(RUN));
            let is_heard = runs.any(|run| wanted.contains(&run.iter().collect::<String>()));
            let is_filled = pieces.is_empty() && message.contains('{');
            !is_heard && !is_filled && !wanted.contains(message.as_str())
        })
        .collect();
    assert!(unheard.is_empty(), "{unheard:#?}");
}
