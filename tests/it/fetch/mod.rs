//! Walks through a fake API: every paginator, every way in which an answer goes wrong.

use std::{sync::Arc, time::Duration};

use indexmap::IndexMap;
use rosterd::{
    config::{
        self, Source,
        auth::Auth,
        endpoint::{DottedPath, Endpoint, Method, Selector, Step},
        hosts::Hosts,
        paginator::Paginator,
        source::{Client, Network, Retry, Timeouts},
    },
    fetch::{self, Bindings, Ending, Error, Page, Tally, WalkPlan},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

mod circuit;

mod faults;

mod network;

mod keys;

mod kinds;

mod pace;

mod paging;

mod places;

pub(crate) mod tokens;

fn path(text: &str) -> DottedPath {
    DottedPath(text.split('.').map(|key| Step::Key(key.into())).collect())
}

/// A paginator as it is written in the file.
fn yaml(text: &str) -> Paginator {
    let text = format!(
        "sources: {{hr: {{client: {{base_url: 'https://api.test', paginator: {text}}}, resources: [{{name: people, write_disposition: append, endpoint: {{method: POST}}}}]}}}}"
    );
    let config = config::from_str(&text).unwrap_or_else(|problems| panic!("{text}: {problems}"));
    config.sources[0].resources[0].endpoint.paginator.clone()
}

fn stop(total: Option<&str>, has_more: Option<&str>) -> String {
    let text = |path: Option<&str>| path.unwrap_or("null").to_owned();
    format!(
        "total_path: {}, has_more_path: {}",
        text(total),
        text(has_more)
    )
}

fn offset(limit: u64, stop: String) -> Paginator {
    yaml(&format!("{{type: offset, limit: {limit}, {stop}}}"))
}

fn pages(start: u64, total: Option<&str>) -> Paginator {
    let stop = stop(total, None);
    yaml(&format!(
        "{{type: page_number, base_page: {start}, {stop}}}"
    ))
}

fn cursor() -> Paginator {
    yaml("{type: cursor, cursor_path: next_cursor}")
}

fn plan(paginator: Paginator) -> WalkPlan {
    WalkPlan {
        endpoint: Endpoint {
            method: Method::Get,
            path: "/v1/employees".into(),
            data_selector: Selector::Path(path("data")),
            paginator,
            ..Endpoint::default()
        },
        bindings: Bindings::default(),
        start_value: None,
        key: Vec::new(),
        end_value: None,
        resume: None,
        first_page: 0,
        max_pages: 1000,
    }
}

fn source(url: &str) -> Source {
    Source {
        name: "hr".into(),
        account: "default".into(),
        client: Client {
            base_url: url.parse().unwrap(),
            headers: IndexMap::new(),
            auth: None,
            limits: Vec::new(),
            max_in_flight: 4,
            quota: None,
            retry: Retry {
                max_retries: 3,
                backoff: Duration::from_millis(10),
                factor: 2.0,
                min_wait: Duration::ZERO,
                max_wait: Duration::from_secs(2),
                statuses: vec![429, 500, 502, 503, 504],
            },
            timeouts: Timeouts {
                connect: Duration::from_secs(2),
                read: Duration::from_secs(5),
                total: Duration::from_secs(10),
            },
            circuit: None,
            network: Network::default(),
            max_body: 8 << 20,
            redirect_hosts: Hosts::default(),
            allow_http: false,
        },
        resources: Vec::new(),
    }
}

/// `client.auth` as the configuration reads it.
fn auth_of(yaml: &str) -> Auth {
    let file = format!(
        "sources: {{hr: {{client: {{base_url: 'https://a.test', auth: {yaml}}}, resources: [{{name: e, primary_key: id, endpoint: {{path: e, method: POST, paginator: single_page}}}}]}}}}"
    );
    let config = config::from_str(&file).unwrap_or_else(|problems| panic!("{problems}"));
    config.sources[0].client.auth.clone().unwrap()
}

/// A whole walk.
struct Walked {
    pages: Vec<Page>,
    ids: Vec<i64>,
    end: Result<Ending, Error>,
    tally: Tally,
}

async fn walk(source: &Source, plan: WalkPlan) -> Walked {
    let api = Arc::new(fetch::Api::new(source).unwrap());
    let mut walk = api.walk(plan, CancellationToken::new());
    let (mut pages, mut ids) = (Vec::new(), Vec::new());
    let end = loop {
        match walk.next().await {
            Ok(Some(page)) => {
                ids.extend(ids_of(&page));
                pages.push(page);
            }
            Ok(None) => break Ok(walk.ending().unwrap()),
            Err(error) => break Err(error),
        }
    };
    Walked {
        pages,
        ids,
        end,
        tally: walk.tally(),
    }
}

fn ids_of(page: &Page) -> Vec<i64> {
    let records = page
        .records
        .iter()
        .map(|r| &page.body[r.start as usize..r.end as usize]);
    records
        .map(|bytes| {
            serde_json::from_slice::<Value>(bytes).unwrap()["id"]
                .as_i64()
                .unwrap()
        })
        .collect()
}

fn proven(walked: &Walked) -> bool {
    walked
        .end
        .as_ref()
        .is_ok_and(|ending| ending.proven.is_some())
}

#[track_caller]
fn expect_all(walked: &Walked, count: i64) {
    assert_eq!(walked.ids, (1..=count).collect::<Vec<_>>());
    let ending = walked.end.as_ref().unwrap();
    assert!(ending.proven.is_some(), "{:?}", ending.doubt);
    assert_eq!(ending.records, count as u64);
    let numbers: Vec<u64> = walked.pages.iter().map(|page| page.number).collect();
    assert_eq!(numbers, (0..walked.pages.len() as u64).collect::<Vec<_>>());
    assert_eq!(walked.pages.last().unwrap().next, None);
}
