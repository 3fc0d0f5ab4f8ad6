//! Every secret and every person of a run is searched for in everything that the daemon shows.

use std::fmt::Write as _;

use aho_corasick::AhoCorasick;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    api::{Api, Fault, Key, Paging},
    daemon::{Daemon, Setup},
    history::{bookkeeping, make_due, next_run},
    server::OwnServer,
};

/// A secret of each kind, every one with all the characters that encodings treat apart.
const QUERY: &str = r#"q7Kx2Zz+/=&%#"'\ éw8Lp4Rt"#;
const PARAM: &str = r#"p3Vn9Yy+/=&%#"'\ éd5Hs6Jm"#;
const USER: &str = r#"u2Bc8Xx+/=&%#"'\ éf9Gk3Nw"#;
const PASSWORD: &str = r#"w4Dr6Ww+/=&%#"'\ ém2Tz7Qh"#;
const DATABASE: &str = r#"d9Fs5Vv+/=&%#"'\ éc6Yb8Lx"#;
// HTTP headers carry ASCII only.
const HEADER: &str = r#"h8Jt3Uu+/=&%#"'\ xk7Rn5Pv"#;
const BEARER: &str = r#"b5Lw7Tt+/=&%#"'\ xs4Mq9Cd"#;
const COOKIE: &str = r#"c6Nz4Ss+/=&%#'x:xg3Vf2Kj9"#;
const EXTRA: &str = r#"x3Pc9Rr+/=&%#"'\ xt8Bh6Wl"#;
const TOKEN: &str = r#"t7Qd2Qq+/=&%#"'\ xy5Zg4Xn"#;

const SECRETS: [&str; 10] = [
    QUERY, PARAM, USER, PASSWORD, DATABASE, HEADER, BEARER, COOKIE, EXTRA, TOKEN,
];

/// Stands in every field and body that is about a person.
const PERSON: &str = "\u{27e6}P-17-name-4be1a2c9\u{27e7}";

#[test]
fn the_scan_finds_a_leak_in_every_form() {
    let scan = Scan::new();
    for (name, form) in SECRETS.iter().flat_map(|secret| forms(secret)) {
        let mut sink = b"{\"line\":\"before ".to_vec();
        sink.extend(&form);
        sink.extend(b" after\"}");
        assert!(!scan.of(&sink).is_empty(), "{name} is not found");
    }
    let pair = format!("user:{PASSWORD}");
    for encoded in [STANDARD.encode(&pair), URL_SAFE.encode(&pair)] {
        assert!(!scan.of(encoded.as_bytes()).is_empty());
    }
    assert!(!scan.of(PERSON.as_bytes()).is_empty());
    assert!(!scan.of(&QUERY.as_bytes()[3..16]).is_empty(), "cut");
    assert!(
        scan.of(b"an innocent line with a key and a name")
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_person_is_shown_anywhere_at_trace_level() {
    let server = OwnServer::start(DATABASE).await;
    let apis = Apis::start().await;
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("param"), PARAM).unwrap();
    let config = apis.config(&files.path().join("param").display().to_string());
    let setup = |arguments: &[&str], config: &str| {
        [
            ("S_QUERY", QUERY),
            ("S_USER", USER),
            ("S_PASSWORD", PASSWORD),
            ("S_HEADER", HEADER),
            ("S_BEARER", BEARER),
            ("S_COOKIE", COOKIE),
            ("S_EXTRA", EXTRA),
            ("S_TOKEN", TOKEN),
            ("S_DATABASE", server.url(DATABASE).as_str()),
            ("ROSTERD_LOG", "trace"),
        ]
        .into_iter()
        .fold(
            Setup::command(config.to_owned(), arguments),
            |setup, (name, value)| setup.with_env(name, value),
        )
        .start()
    };
    let mut daemon = setup(&["run"], &config);
    daemon.wait_until_ready();
    let pool = server.pool();
    for (source, _) in &apis.sources {
        make_due(&pool, source, "employees").await;
    }
    let mut sinks = Sinks::default();
    let mut verdicts = String::new();
    for (source, expected) in &apis.sources {
        let run = next_run(&pool, source, "employees", 0).await;
        let code = run.error_code.clone().unwrap_or_default();
        assert_eq!(&code, expected, "{source}: {run:?}");
        let _ = writeln!(verdicts, "{source} {code}");
        sinks.page(&mut daemon, &format!("/runs/{}", run.run_id));
        sinks.page(
            &mut daemon,
            &format!("/resources/{source}/default/employees"),
        );
    }
    // What the daemon must not do: take a wrong configuration, and repeat it.
    daemon.write_config(&config.replace("max_retries: 1", "max_retries: ${S_QUERY}"));
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("kept the old configuration");

    for path in ["/", "/metrics", "/readyz", "/healthz", "/nothing"] {
        sinks.page(&mut daemon, path);
    }
    for file in ["cmdline", "status"] {
        let path = format!("/proc/{}/{file}", daemon.pid());
        sinks.add(&path, std::fs::read(&path).unwrap());
    }
    sinks.add("schema rosterd", bookkeeping(&pool).await);
    let activity: Vec<String> =
        sqlx::query_scalar("select to_jsonb(a)::text from pg_stat_activity a")
            .fetch_all(&pool)
            .await
            .unwrap();
    sinks.add("pg_stat_activity", activity.join("\n"));

    let broken = config
        .replace("max_retries: 1", "max_retries: ${S_QUERY}")
        .replace("type: bearer", "typo: ${S_BEARER}")
        .replace("poll: 200ms", "poll: ${S_TOKEN}");
    for (arguments, config) in [
        (&["check", "--print"][..], &config),
        (&["check", "--connect"], &config),
        (&["check"], &broken),
        (&["run"], &broken),
        (&["runs", "--format", "json", "-n", "1000"], &config),
        (&["runs"], &config),
        (&["status", "--format", "json"], &config),
        (&["sync", "query", "basic", "denied"], &config),
        (&["preview", "query/employees", "-n", "0"], &config),
    ] {
        let mut command = setup(arguments, config);
        command.wait();
        sinks.output(&arguments.join(" "), &command);
    }
    daemon.signal(Signal::TERM);
    daemon.wait();
    sinks.output("run", &daemon);

    // The second wall, which covers what the first let through, had nothing to do.
    let log = daemon.stderr();
    assert!(!log.contains("***"), "{log}");
    assert!(log.lines().count() > 20, "{log}");
    sinks.expect_clean();

    // The people are where they belong.
    let people: i64 = sqlx::query_scalar("select count(*) from query.employees where name = $1")
        .bind(PERSON)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(people, 30);
    // And every API was asked with its secret, or all of this proves nothing.
    apis.expect_keys_were_sent();
}

/// One source per kind of credential, and per way in which an API gives it back.
struct Apis {
    /// Name, and the code with which its run must end.
    sources: Vec<(&'static str, &'static str)>,
    yaml: String,
    keyed: Vec<Api>,
}

impl Apis {
    async fn start() -> Self {
        let mut all = Self {
            sources: Vec::new(),
            yaml: String::new(),
            keyed: Vec::new(),
        };
        let query = "{type: api_key, name: api_key, api_key: '${S_QUERY}', location: query}";
        let offset = "{type: offset, limit: 10}";
        let link = "{type: json_link, next_url_path: next}";
        let encoded: String = url::form_urlencoded::byte_serialize(QUERY.as_bytes()).collect();
        let body = |kind: &'static str, status: u16| {
            let text = format!("{PERSON} used {QUERY}, {encoded} and {BEARER}");
            let text = match kind {
                "text/html" => format!("<html>{text}</html>"),
                _ => json!({"error": text, "name": PERSON}).to_string(),
            };
            Fault::Answer(status, kind, Bytes::from(text))
        };
        let elsewhere = format!("http://localhost:1/v1/employees?api_key={encoded}");
        let foreign = json!({"data": [{"id": 1, "name": PERSON}], "next": elsewhere}).to_string();
        let foreign = Fault::Answer(200, "application/json", foreign.into());
        let json = "application/json";

        // With each credential, all well.
        all.add("query", query, offset, None, "").await;
        let basic = "{type: http_basic, username: '${S_USER}', password: '${S_PASSWORD}'}";
        all.add("basic", basic, offset, None, "").await;
        let header = "{type: api_key, name: X-Api-Key, api_key: '${S_HEADER}', location: header}";
        all.add("header", header, offset, None, "").await;
        let bearer = "{type: bearer, token: '${S_BEARER}'}";
        all.add("bearer", bearer, offset, None, "").await;
        let cookie = "{type: api_key, name: session, api_key: '${S_COOKIE}', location: cookie}";
        all.add("cookie", cookie, offset, None, "").await;
        // The next link repeats the whole query, and the checkpoint holds a next link.
        let broken = Some((2, Fault::Status(500)));
        all.add("link", query, link, broken.clone(), "HTTP 500")
            .await;
        all.add("header_link", query, "header_link", broken, "HTTP 500")
            .await;
        // With each fault.
        for (name, fault, code) in [
            ("html", body("text/html", 200), "not_json"),
            ("denied", body(json, 401), "HTTP 401"),
            ("forbidden", body("text/html", 403), "HTTP 403"),
            ("absent", body(json, 404), "HTTP 404"),
            ("broken", body(json, 500), "HTTP 500"),
            ("shapeless", body(json, 200), "unexpected_shape"),
            (
                "redirected",
                Fault::Redirect(elsewhere.clone()),
                "redirect_refused",
            ),
            (
                "throttled",
                Fault::RetryAfter(429, "3600".to_owned()),
                "rate_limited",
            ),
            ("reset", Fault::Reset, "connection_lost"),
            ("cut", Fault::ResetMidBody, "connection_lost"),
            ("odd", Fault::Encoding("gzip, gzip"), "unknown_encoding"),
        ] {
            all.add(name, query, offset, Some((0, fault)), code).await;
        }
        let lured = Some((0, foreign));
        all.add("lured", query, link, lured, "foreign_next_link")
            .await;
        // A record without a key is kept apart, without its person.
        all.keyed[0]
            .collection("employees")
            .put(json!({"id": 30, "name": PERSON, "note": null}));
        all
    }

    async fn add(
        &mut self,
        name: &'static str,
        auth: &str,
        paginator: &str,
        fault: Option<(usize, Fault)>,
        code: &'static str,
    ) {
        let api = Api::start().await;
        let rows = api.collection("employees").page_size(10);
        for id in 1..=30 {
            rows.put(json!({"id": id, "name": PERSON, "home": {"street": PERSON}}));
        }
        rows.paging(match paginator {
            "header_link" => Paging::HeaderLink,
            link if link.contains("json_link") => Paging::JsonLink,
            _ => Paging::Offset,
        });
        api.require(match name {
            "basic" => {
                let pair = STANDARD.encode(format!("{USER}:{PASSWORD}"));
                Key::Header("authorization", format!("Basic {pair}").leak())
            }
            "header" => Key::Header("x-api-key", HEADER),
            "bearer" => Key::Header("authorization", format!("Bearer {BEARER}").leak()),
            "cookie" => Key::Header("cookie", format!("session={COOKIE}").leak()),
            _ => Key::Query("api_key", QUERY),
        });
        if let Some((page, fault)) = fault {
            api.page(page).goes(fault).always();
        }
        let _ = write!(
            self.yaml,
            "  {name}:
    client:
      base_url: {}
      auth: {auth}
      headers: {{X-Extra: '${{S_EXTRA}}'}}
      retry: {{max_retries: 1, backoff: 10ms}}
    resources:
      - name: employees
        primary_key: id
        write_disposition: merge
        schedule: every 1d
        endpoint:
          path: /v1/employees
          data_selector: data
          params: {{tenant: '${{file:PARAM_FILE}}'}}
          paginator: {paginator}
",
            api.url()
        );
        self.sources.push((name, code));
        self.keyed.push(api);
    }

    fn config(&self, param: &str) -> String {
        format!(
            "database: {{url: '${{S_DATABASE}}'}}
daemon: {{admin: {{listen: '127.0.0.1:0', token: '${{S_TOKEN}}'}}, poll: 200ms}}
sources:
{}",
            self.yaml.replace("PARAM_FILE", param)
        )
    }

    fn expect_keys_were_sent(&self) {
        for ((name, code), api) in self.sources.iter().zip(&self.keyed) {
            let seen = api.requests();
            assert!(!seen.is_empty(), "{name}");
            for request in seen {
                assert_eq!(request.headers["x-extra"].as_bytes(), EXTRA.as_bytes());
                let query: Vec<(String, String)> = url::form_urlencoded::parse(
                    request.target.split_once('?').unwrap().1.as_bytes(),
                )
                .into_owned()
                .collect();
                let has = |wanted: (&str, &str)| query.iter().any(|(n, v)| (&**n, &**v) == wanted);
                assert!(has(("tenant", PARAM)), "{name} {code} {query:?}");
                assert!(!request.headers.contains_key("referer"));
            }
        }
    }
}

/// What was shown, by its place.
#[derive(Default)]
struct Sinks(Vec<(String, Vec<u8>)>);

impl Sinks {
    fn add(&mut self, place: &str, shown: impl Into<Vec<u8>>) {
        self.0.push((place.to_owned(), shown.into()));
    }

    fn page(&mut self, daemon: &mut Daemon, path: &str) {
        let page = daemon.get(path, TOKEN);
        assert!(!page.starts_with("HTTP/1.1 401"), "{path}: {page}");
        self.add(path, page);
    }

    fn output(&mut self, name: &str, process: &Daemon) {
        self.add(&format!("stdout of {name}"), process.stdout());
        self.add(&format!("stderr of {name}"), process.stderr());
    }

    fn expect_clean(&self) {
        let scan = Scan::new();
        for (place, shown) in &self.0 {
            assert!(
                !shown.is_empty() || place.contains("std"),
                "{place} is empty"
            );
            let found = scan.of(shown);
            assert!(
                found.is_empty(),
                "{found:?} in {place}: {}",
                String::from_utf8_lossy(shown)
            );
        }
    }
}

/// Every form of every secret, as one automaton.
struct Scan {
    search: AhoCorasick,
    names: Vec<String>,
}

impl Scan {
    fn new() -> Self {
        let mut names = Vec::new();
        let mut all = Vec::new();
        for secret in SECRETS {
            for (name, form) in forms(secret) {
                names.push(format!("{} {name}", &secret[..5]));
                all.push(form);
            }
        }
        names.push("a person".to_owned());
        all.push(b"P-17-name".to_vec());
        Self {
            search: AhoCorasick::new(all).unwrap(),
            names,
        }
    }

    fn of(&self, sink: &[u8]) -> Vec<&str> {
        self.search
            .find_overlapping_iter(sink)
            .map(|found| self.names[found.pattern().as_usize()].as_str())
            .collect()
    }
}

/// A secret as it may stand in a sink. Written apart from the product's own list, so that a gap there shows.
fn forms(secret: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, form: String| all.push((name.to_owned(), form.into_bytes()));
    let percent = |keep: &dyn Fn(u8) -> bool, upper: bool, plus: bool| -> String {
        let mut out = String::new();
        for byte in bytes {
            let _ = match byte {
                b' ' if plus => write!(out, "+"),
                byte if keep(*byte) => write!(out, "{}", char::from(*byte)),
                byte if upper => write!(out, "%{byte:02X}"),
                byte => write!(out, "%{byte:02x}"),
            };
        }
        out
    };
    let nothing = |_: u8| false;
    let letters = |b: u8| b.is_ascii_alphanumeric();
    let most = |b: u8| b.is_ascii_graphic() && !b"\"#<>&'%+".contains(&b);
    for upper in [true, false] {
        add("percent, full", percent(&nothing, upper, false));
        add("percent", percent(&letters, upper, false));
        add("percent, minimal", percent(&most, upper, false));
        add("form", percent(&letters, upper, true));
        let twice = percent(&letters, upper, false).replace('%', "%25");
        add("percent twice", twice);
    }
    let json = serde_json::to_string(secret).unwrap();
    add("json", json.trim_matches('"').to_owned());
    add("debug", format!("{secret:?}").trim_matches('"').to_owned());
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    add("HEX", hex.to_uppercase());
    add("hex", hex);
    for shift in 0..3 {
        let mut padded = vec![0; shift];
        padded.extend_from_slice(bytes);
        // Only characters that all of their bits come from the secret.
        let first = (shift * 8).div_ceil(6);
        let whole = padded.len() * 8 / 6;
        let standard = STANDARD_NO_PAD.encode(&padded)[first..whole].to_owned();
        let url_safe = URL_SAFE_NO_PAD.encode(&padded)[first..whole].to_owned();
        add("base64", standard);
        add("base64url", url_safe);
    }
    let wide: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    all.push(("utf-16".to_owned(), wide));
    // Cut or shown in part; the whole is one of these, too.
    for window in bytes.windows(12) {
        all.push(("raw".to_owned(), window.to_vec()));
    }
    all
}
