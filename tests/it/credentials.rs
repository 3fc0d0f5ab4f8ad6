//! Refresh tokens that the API replaces: written down before they are used, by one replica at a time.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use rosterd::{
    config, failpoint,
    fetch::{Api, Keeper, WalkPlan},
    record::Status,
    sync::{Start, credentials::Store},
};
use serde_json::json;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::support::sync::Bench;

/// A vendor that gives a new refresh token each time, voids the old one, and takes the use of a voided
/// one for theft: then nothing works any more.
#[derive(Clone)]
struct Vendor {
    url: String,
    state: Arc<Mutex<State>>,
    _task: Arc<AbortOnDropHandle<()>>,
}

struct State {
    refresh: String,
    access: String,
    count: u32,
    stolen: bool,
    /// Seconds that access tokens are good for, as told.
    life: u64,
    rotates: bool,
    asked: Vec<String>,
}

impl Vendor {
    async fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            refresh: "seed-0".into(),
            access: "none".into(),
            count: 0,
            stolen: false,
            life: 3600,
            rotates: true,
            asked: Vec::new(),
        }));
        let (tokens, records) = (Arc::clone(&state), Arc::clone(&state));
        let give = move |body: Bytes| {
            let fields: Vec<(String, String)> =
                url::form_urlencoded::parse(&body).into_owned().collect();
            let mut state = tokens.lock().unwrap();
            let field = |name: &str| {
                let found = fields.iter().find(|(n, _)| n == name);
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            };
            assert_eq!(field("grant_type"), "refresh_token");
            assert_eq!(field("client_id"), "me");
            let given = field("refresh_token");
            state.asked.push(given.clone());
            let answer: Response = if state.stolen || given != state.refresh {
                state.stolen = true;
                (StatusCode::BAD_REQUEST, "invalid_grant").into_response()
            } else {
                state.count += 1;
                state.access = format!("access-{}", state.count);
                let mut answer = json!({"access_token": state.access, "expires_in": state.life});
                if state.rotates {
                    state.refresh = format!("rotated-{}", state.count);
                    answer["refresh_token"] = state.refresh.clone().into();
                }
                axum::Json(answer).into_response()
            };
            std::future::ready(answer)
        };
        let list = move |headers: axum::http::HeaderMap| {
            let state = records.lock().unwrap();
            let expected = format!("Bearer {}", state.access);
            let good = headers["authorization"].as_bytes() == expected.as_bytes();
            let answer: Response = match good && !state.stolen {
                true => axum::Json(json!([{"id": 1}, {"id": 2}])).into_response(),
                false => StatusCode::UNAUTHORIZED.into_response(),
            };
            std::future::ready(answer)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/token", post(give))
            .route("/people", get(list));
        let serve = async move { axum::serve(listener, router).await.unwrap() };
        Self {
            url,
            state,
            _task: Arc::new(AbortOnDropHandle::new(TaskTracker::new().spawn(serve))),
        }
    }

    fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Ends the access token before its time.
    fn revoke(&self) {
        self.state.lock().unwrap().access = "revoked".into();
    }

    fn config(&self, bench: &Bench, seed: &str, keys: &str) -> String {
        format!(
            "database: {{url: '{}'}}
credential_store: {keys}
sources:
  hr:
    client:
      base_url: {url}
      auth: {{type: oauth2_refresh_token, access_token_url: '{url}/token', client_id: me{seed}}}
    resources:
      - {{name: people, primary_key: id, write_disposition: merge, endpoint: {{path: people, paginator: single_page}}}}",
            bench.db.url(),
            url = self.url,
        )
    }
}

const KEY: &str = "{key: {id: k1, secret: 0123456789abcdef0123456789abcdef}}";
const SEED: &str = ", refresh_token: seed-0";

async fn expect(bench: &Bench, config: &str, code: Option<&str>) {
    let outcome = bench.sync(config, Start::GoOn).await;
    let fault = outcome.fault.map(|fault| fault.code);
    assert_eq!(fault.as_deref(), code);
    assert_eq!(outcome.status == Status::Succeeded, code.is_none());
}

#[tokio::test]
async fn each_new_token_is_kept_and_used_by_the_next_process() {
    let (bench, vendor) = (Bench::new().await, Vendor::start().await);
    let config = vendor.config(&bench, SEED, KEY);

    // Every run is a process of its own here: nothing is remembered but what was written down.
    expect(&bench, &config, None).await;
    expect(&bench, &config, None).await;
    assert_eq!(vendor.asked(), ["seed-0"], "the access token is shared");

    vendor.revoke();
    expect(&bench, &config, None).await;
    vendor.revoke();
    expect(&bench, &config, None).await;
    assert_eq!(vendor.asked(), ["seed-0", "rotated-1", "rotated-2"]);

    let kept: Vec<u8> = bench
        .value("select sealed_refresh || sealed_access from rosterd.credentials")
        .await;
    let kept = String::from_utf8_lossy(&kept);
    assert!(!kept.contains("rotated") && !kept.contains("access"));
    let left: i64 = bench
        .value("select generation from rosterd.credentials")
        .await;
    assert_eq!(left, 3);
}

#[tokio::test]
async fn an_answer_without_a_new_token_leaves_the_old_one_in_use() {
    let (bench, vendor) = (Bench::new().await, Vendor::start().await);
    vendor.state.lock().unwrap().rotates = false;
    let config = vendor.config(&bench, SEED, KEY);
    expect(&bench, &config, None).await;
    vendor.revoke();
    expect(&bench, &config, None).await;
    assert_eq!(vendor.asked(), ["seed-0", "seed-0"]);
}

#[tokio::test]
async fn of_many_replicas_one_refreshes_at_a_time() {
    let (bench, vendor) = (Bench::new().await, Vendor::start().await);
    let text = vendor.config(&bench, SEED, KEY);
    let config = config::from_str(&text).unwrap();
    expect(&bench, &text, None).await;
    for round in 2..5 {
        vendor.revoke();
        let walks = (0..6).map(|_| {
            // Each with clients of its own, as in as many processes.
            let store = Store::new(&config.sources[0], &config, bench.db.pool()).unwrap();
            let keeper = Keeper {
                vault: Arc::new(store),
                tasks: TaskTracker::new(),
            };
            let api = Arc::new(Api::kept_by(&config.sources[0], Some(keeper)).unwrap());
            let plan = WalkPlan {
                bindings: rosterd::fetch::Bindings::default(),
                endpoint: config.sources[0].resources[0].endpoint.clone(),
                start_value: None,
                end_value: None,
                key: Vec::new(),
                resume: None,
                first_page: 0,
                max_pages: 10,
            };
            async move {
                let mut walk = api.walk(plan, CancellationToken::new());
                while walk.next().await.unwrap().is_some() {}
                walk.ending().unwrap().records
            }
        });
        let read = futures_util::future::join_all(walks).await;
        assert_eq!(read, [2; 6]);
        assert_eq!(vendor.asked().len(), round, "one refresh a round");
    }
}

#[tokio::test]
async fn a_new_seed_wins_once_and_an_old_one_never_again() {
    let (bench, vendor) = (Bench::new().await, Vendor::start().await);
    let old = vendor.config(&bench, SEED, KEY);
    expect(&bench, &old, None).await;

    // Somebody signed in anew, because the chain broke.
    vendor.state.lock().unwrap().refresh = "seed-9".into();
    let new = vendor.config(&bench, ", refresh_token: seed-9", KEY);
    expect(&bench, &new, None).await;
    assert_eq!(vendor.asked(), ["seed-0", "seed-9"]);
    // A replica that still has the old configuration goes on with what is kept.
    vendor.revoke();
    expect(&bench, &old, None).await;
    vendor.revoke();
    expect(&bench, &new, None).await;
    assert_eq!(
        vendor.asked(),
        ["seed-0", "seed-9", "rotated-2", "rotated-3"]
    );
}

#[tokio::test]
async fn a_refused_new_seed_leaves_what_is_kept() {
    let (bench, vendor) = (Bench::new().await, Vendor::start().await);
    let good = vendor.config(&bench, SEED, KEY);
    expect(&bench, &good, None).await;
    let wrong = vendor.config(&bench, ", refresh_token: wrong", KEY);
    expect(&bench, &wrong, Some("token_refused")).await;
    vendor.state.lock().unwrap().stolen = false;
    vendor.revoke();
    expect(&bench, &good, None).await;
    assert_eq!(vendor.asked(), ["seed-0", "wrong", "rotated-1"]);
}

#[tokio::test]
async fn a_key_can_be_replaced_and_a_wrong_one_is_named() {
    let (bench, vendor) = (Bench::new().await, Vendor::start().await);
    expect(&bench, &vendor.config(&bench, SEED, KEY), None).await;
    let other = "{key: {id: k1, secret: ffffffffffffffffffffffffffffffff}}";
    let unknown = "{key: {id: k2, secret: ffffffffffffffffffffffffffffffff}}";
    for (keys, code) in [
        // A seed counts as new under a key that has not seen it; without one, only what is kept counts.
        (other, "credential_key_wrong"),
        (unknown, "credential_key_missing"),
    ] {
        expect(&bench, &vendor.config(&bench, "", keys), Some(code)).await;
    }
    let rotated = "{key: {id: k2, secret: ffffffffffffffffffffffffffffffff}, former_keys: [{id: k1, secret: 0123456789abcdef0123456789abcdef}]}";
    vendor.revoke();
    expect(&bench, &vendor.config(&bench, SEED, rotated), None).await;
    // It lies under the new key now, and the former one may go.
    vendor.revoke();
    expect(&bench, &vendor.config(&bench, SEED, unknown), None).await;
    assert_eq!(vendor.asked(), ["seed-0", "rotated-1", "rotated-2"]);
}

#[tokio::test]
async fn without_any_token_the_operator_is_told_to_put_one_in() {
    let (bench, vendor) = (Bench::new().await, Vendor::start().await);
    let text = vendor.config(&bench, "", KEY);
    expect(&bench, &text, Some("no_refresh_token")).await;
    assert!(vendor.asked().is_empty());

    let config = config::from_str(&text).unwrap();
    let store = Store::new(&config.sources[0], &config, bench.db.pool()).unwrap();
    store
        .put(config::Secret::new("seed-0".into()), None)
        .await
        .unwrap();
    expect(&bench, &text, None).await;
    assert_eq!(vendor.asked(), ["seed-0"]);
}

/// The real binary with these arguments and this on its standard input. Answers exit code and all it said.
async fn rosterd(config: &str, arguments: &[&str], input: &str, failpoint: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("daemon.yaml");
    std::fs::write(&file, config).unwrap();
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_rosterd"));
    command
        .args(arguments)
        .env("ROSTERD_CONFIG", &file)
        .env("ROSTERD_LOG", "trace")
        .write_stdin(input.to_owned());
    if !failpoint.is_empty() {
        command.env("ROSTERD_FAILPOINT", failpoint);
    }
    let done = tokio::task::spawn_blocking(move || {
        let _folder = folder;
        command.output().unwrap()
    });
    let done = done.await.unwrap();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    (done.status.code().unwrap_or(-1), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_puts_a_token_in_sees_that_it_is_there_and_takes_it_out() {
    let (bench, vendor) = (Bench::new().await, Vendor::start().await);
    let config = vendor.config(&bench, "", KEY);
    let list = ["credentials", "list", "--format", "json"];
    let set = ["credentials", "set", "hr"];
    let reset = ["credentials", "reset", "hr"];
    let mut all = String::new();
    for (arguments, input, code, part) in [
        (&list[..], "", 0, "[]"),
        (&["sync"], "", 1, "no_refresh_token"),
        (&set, "", 1, "expected one line with the refresh token"),
        (
            &set,
            "two\nlines",
            1,
            "expected one line with the refresh token",
        ),
        (
            &["credentials", "set", "crm"],
            "seed-0",
            1,
            "there is no source crm",
        ),
        (&set, "seed-0\n", 0, "hr: kept; the next run uses it"),
        (&list, "", 0, "\"kept\": true"),
        (&["sync"], "", 0, "2 inserted"),
        (&list, "", 0, "\"key_id\": \"k1\""),
        (&reset, "", 0, "hr: forgotten"),
        (&reset, "", 0, "hr: nothing was kept"),
        (&["sync"], "", 1, "no_refresh_token"),
    ] {
        let (ended, said) = rosterd(&config, arguments, input, "").await;
        assert!(
            ended == code && said.contains(part),
            "{arguments:?}: {ended} {said}"
        );
        all += &said;
    }
    assert_eq!(vendor.asked(), ["seed-0"]);
    for secret in ["seed-0", "rotated-1", "access-1"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_lost_between_the_answer_and_the_database_is_told_and_put_in_anew() {
    let (bench, vendor) = (Bench::new().await, Vendor::start().await);
    let config = vendor.config(&bench, SEED, KEY);
    let (ended, _) = rosterd(&config, &["sync"], "", failpoint::NEW_CREDENTIAL).await;
    assert_eq!(ended, -1, "killed");
    assert_eq!(vendor.asked(), ["seed-0"]);

    // As if the lease of the dead process had run out.
    sqlx::query("update rosterd.leases set expires_at = now() - interval '1 s'")
        .execute(bench.db.pool())
        .await
        .unwrap();
    // The vendor has voided what is known here. Nothing is lost but time.
    let (ended, said) = rosterd(&config, &["sync"], "", "").await;
    assert!(ended == 1 && said.contains("token_refused"), "{said}");
    let hint: String = bench
        .value("select error_hint from rosterd.runs order by run_id desc limit 1")
        .await;
    assert!(hint.contains("rosterd credentials set"), "{hint}");

    // A person logs in again and hands the new one over.
    {
        let mut state = vendor.state.lock().unwrap();
        state.stolen = false;
        state.refresh = "seed-1".into();
    }
    let (ended, said) = rosterd(&config, &["credentials", "set", "hr"], "seed-1", "").await;
    assert_eq!(ended, 0, "{said}");
    let (ended, said) = rosterd(&config, &["sync"], "", "").await;
    assert!(ended == 0 && said.contains("2 inserted"), "{said}");
}
