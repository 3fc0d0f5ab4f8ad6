//! An API that misbehaves, seen from the run history of a real daemon.

use std::{
    fmt::Write as _,
    net::ToSocketAddrs as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{
    api::{Api, Fault, Paging},
    daemon::Setup,
    db::TestDb,
    history::{bookkeeping, make_due, next_run},
};

const OFFSET: &str = "{type: offset, limit: 10}";
const CURSOR: &str = "{type: cursor, cursor_path: next_cursor, cursor_param: cursor}";
const LINK: &str = "{type: json_link, next_url_path: next}";

/// For faults that are to be seen soon.
const IMPATIENT: &str = "{read: 700ms, total: 1s}";

/// For bodies that take their time on a busy machine.
const PATIENT: &str = "{read: 30s, total: 60s}";

/// One way in which an API misbehaves, and what the history must say about it.
struct Case {
    name: &'static str,
    paginator: &'static str,
    timeouts: &'static str,
    api: Trouble,
    verdict: (&'static str, &'static str, &'static str),
    /// A word that the hint must hold to be of use.
    hint: &'static str,
    /// Requests that reach the API, at most.
    requests: usize,
}

enum Trouble {
    /// This fault, on every request for this page.
    Fault(usize, Fault),
    /// Ignores where a request wants to begin.
    Deaf,
    /// Nobody listens.
    Closed,
    /// A host name that nobody has.
    Nameless,
}

fn case(
    name: &'static str,
    fault: Fault,
    verdict: (&'static str, &'static str, &'static str),
    hint: &'static str,
    requests: usize,
) -> Case {
    Case {
        name,
        paginator: OFFSET,
        timeouts: PATIENT,
        api: Trouble::Fault(0, fault),
        verdict,
        hint,
        requests,
    }
}

fn json(body: &str) -> Fault {
    Fault::Answer(
        200,
        "application/json",
        Bytes::copy_from_slice(body.as_bytes()),
    )
}

fn cases(evil: &str) -> Vec<Case> {
    let response = |code| ("failed", "source_response", code);
    let away = |code| ("failed", "source_unavailable", code);
    let html = Fault::Answer(
        200,
        "text/html",
        Bytes::from_static(b"<html>Jane Doe 123-45-6789, please log in</html>"),
    );
    let foreign = format!(
        r#"{{"data":[{{"id":1,"name":"Jane Doe"}}],"next":"{evil}/v1/x?cursor=123-45-6789"}}"#
    );
    let looping = r#"{"data":[{"id":1,"name":"Jane Doe"}],"next_cursor":"c1"}"#;
    vec![
        case("html", html, response("not_json"), "login", 2),
        case(
            "denied",
            Fault::Status(401),
            ("failed", "auth", "HTTP 401"),
            "renew",
            1,
        ),
        case(
            "forbidden",
            Fault::Status(403),
            ("failed", "permission", "HTTP 403"),
            "scope",
            1,
        ),
        case(
            "missing",
            Fault::Status(404),
            response("HTTP 404"),
            "endpoint.path",
            1,
        ),
        case(
            "throttled",
            Fault::RetryAfter(429, "3600".to_owned()),
            ("partial", "rate_limit", "rate_limited"),
            "client.limits",
            1,
        ),
        case(
            "broken",
            Fault::Status(500),
            away("HTTP 500"),
            "vendor's status page",
            3,
        ),
        Case {
            api: Trouble::Fault(1, Fault::Status(503)),
            ..case(
                "broken_later",
                Fault::Status(503),
                away("HTTP 503"),
                "vendor's status page",
                // Two pages more are fetched ahead.
                6,
            )
        },
        case(
            "redirected",
            Fault::Redirect(format!("{evil}/login")),
            response("redirect_refused"),
            "client.base_url",
            1,
        ),
        Case {
            paginator: LINK,
            ..case(
                "lured",
                json(&foreign),
                response("foreign_next_link"),
                "client.base_url",
                1,
            )
        },
        case(
            "endless",
            Fault::Endless,
            response("body_too_large"),
            "max_body",
            1,
        ),
        case(
            "bomb",
            Fault::GzipBomb,
            response("body_too_large"),
            "max_body",
            1,
        ),
        case(
            "truncated",
            json(r#"{"total":1,"data":[{"id":1,"name":"Jane Doe"#),
            response("invalid_json"),
            "cuts",
            3,
        ),
        case(
            "cut",
            Fault::Truncated,
            away("connection_lost"),
            "smaller pages",
            3,
        ),
        case(
            "garbled",
            json(r#"{"total":1,"data":[{"id":1,,"name":"Jane Doe"}]}"#),
            response("invalid_json"),
            "garbles",
            2,
        ),
        case(
            "shapeless",
            json(r#"{"total":1,"data":"Jane Doe"}"#),
            response("unexpected_shape"),
            "data_selector",
            1,
        ),
        case(
            "elsewhere",
            json(r#"{"error":"Jane Doe 123-45-6789"}"#),
            response("unexpected_shape"),
            "data_selector",
            1,
        ),
        case(
            "empty",
            json(""),
            response("empty_body"),
            "endpoint.path",
            2,
        ),
        Case {
            timeouts: IMPATIENT,
            ..case(
                "slow_headers",
                Fault::Late(Duration::from_secs(20)),
                away("timeout"),
                "client.timeouts",
                3,
            )
        },
        Case {
            timeouts: IMPATIENT,
            ..case(
                "slow_body",
                Fault::Trickle(Duration::from_millis(100)),
                away("timeout"),
                "client.timeouts",
                3,
            )
        },
        Case {
            api: Trouble::Closed,
            ..case(
                "closed",
                Fault::Reset,
                away("connect_failed"),
                "status page",
                0,
            )
        },
        Case {
            api: Trouble::Nameless,
            ..case(
                "nameless",
                Fault::Reset,
                away("dns_failed"),
                "client.base_url",
                0,
            )
        },
        case("reset", Fault::Reset, away("connection_lost"), "proxy", 3),
        Case {
            api: Trouble::Deaf,
            ..case(
                "deaf",
                Fault::Reset,
                response("pagination_loop"),
                "endpoint.paginator",
                5,
            )
        },
        Case {
            paginator: CURSOR,
            ..case(
                "circling",
                json(looping),
                response("pagination_loop"),
                "endpoint.paginator",
                5,
            )
        },
    ]
}

#[tokio::test]
async fn each_trouble_is_named_bounded_and_its_own() {
    let db = TestDb::new().await;
    let (evil, visitors, _listening) = listen().await;
    let closed = closed_port().await;
    let healthy = Api::start().await;
    healthy.collection("employees").fill(2_500);

    let mut apis = Vec::new();
    let mut sources = source(
        "healthy",
        &healthy.url(),
        PATIENT,
        "{type: offset, limit: 100}",
    );
    for case in cases(&evil) {
        let api = Api::start().await;
        let rows = api.collection("employees").fill(35);
        let url = match &case.api {
            Trouble::Closed => closed.clone(),
            Trouble::Nameless if !nobody_answers() => continue,
            Trouble::Nameless => "http://api.invalid".to_owned(),
            Trouble::Deaf => {
                rows.deaf();
                api.url()
            }
            Trouble::Fault(page, fault) => {
                rows.paging(match case.paginator {
                    LINK => Paging::JsonLink,
                    CURSOR => Paging::Cursor,
                    _ => Paging::Offset,
                });
                api.page(*page).goes(fault.clone()).always();
                api.url()
            }
        };
        sources += &source(case.name, &url, case.timeouts, case.paginator);
        apis.push((case, api));
    }
    let config = format!(
        "database: {{url: '{}'}}\n\
         daemon: {{admin: {{listen: null}}, poll: 200ms, max_concurrent_runs: 4}}\n\
         sources:\n{sources}",
        db.url()
    );
    let mut setup = Setup::run(config);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        setup = setup.with_env(proxy, "");
    }
    let mut daemon = setup.start();
    daemon.wait_until_ready();
    for (case, _) in &apis {
        make_due(db.pool(), case.name, "employees").await;
    }
    make_due(db.pool(), "healthy", "employees").await;

    for (case, api) in &apis {
        let name = case.name;
        let run = next_run(db.pool(), name, "employees", 0).await;
        assert_eq!(run.verdict(), case.verdict, "{name}: {run:?}");
        let asked = api.requests().len();
        assert!(asked <= case.requests, "{name}: {asked} requests");
        let counted = usize::try_from(run.http_requests).unwrap();
        assert!(asked <= counted, "{name}: {asked} asked, {counted} counted");
        let message = run.message();
        assert!(
            (10..200).contains(&message.len()) && !message.contains('\n'),
            "{name}: {message}"
        );
        assert!(run.hint().contains(case.hint), "{name}: {}", run.hint());
    }
    let run = next_run(db.pool(), "healthy", "employees", 0).await;
    assert_eq!(run.verdict(), ("succeeded", "", ""), "{run:?}");
    assert_eq!(run.records_read, 2_500);

    let moved: Vec<String> = sqlx::query_scalar(
        "select source from rosterd.cursors join rosterd.resources using (resource_id) where cursor is not null",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    assert_eq!(moved, ["healthy"], "only a proven walk moves its cursor");
    // The page before the fault is kept, and only that.
    let kept: i64 = sqlx::query_scalar("select count(*) from broken_later.employees")
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(kept, 10);

    assert_eq!(visitors.load(SeqCst), 0, "somebody was lured away");
    let told = bookkeeping(db.pool()).await + &daemon.stderr() + &daemon.stdout();
    for word in ["Jane", "Doe", "123-45", "Person ", "please log in"] {
        assert!(!told.contains(word), "{word:?} in {told}");
    }
    let peak = daemon.peak_memory();
    assert!(peak < 150, "{peak} MiB");
}

fn source(name: &str, url: &str, timeouts: &str, paginator: &str) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "  {name}:\n    \
             client:\n      \
               base_url: {url}\n      \
               allow_http: true\n      \
               max_body: 16MiB\n      \
               timeouts: {timeouts}\n      \
               retry: {{max_retries: 2, backoff: 20ms}}\n    \
             resources:\n      \
               - name: employees\n        \
                 primary_key: id\n        \
                 write_disposition: merge\n        \
                 schedule: every 1d\n        \
                 endpoint:\n          \
                   path: /v1/employees\n          \
                   data_selector: data\n          \
                   paginator: {paginator}\n          \
                   incremental: {{cursor_path: updated_at, start_param: updated_since, initial_value: '2020-01-01T00:00:00Z'}}\n"
    );
    text
}

/// A listener that counts who comes, and its URL.
async fn listen() -> (String, Arc<AtomicUsize>, AbortOnDropHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let visitors = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&visitors);
    let listening = tokio_util::task::TaskTracker::new().spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, SeqCst);
        }
    });
    (url, visitors, AbortOnDropHandle::new(listening))
}

async fn closed_port() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Whether this machine's resolver says at once that a name which cannot exist does not exist.
fn nobody_answers() -> bool {
    let asked = std::time::Instant::now();
    ("api.invalid", 80).to_socket_addrs().is_err() && asked.elapsed() < Duration::from_secs(1)
}
