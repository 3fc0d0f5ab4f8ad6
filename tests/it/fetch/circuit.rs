//! A refused credential is spared, for all resources of the source.

use std::{sync::Arc, time::Duration};

use rosterd::{
    config::source::{CircuitRule, Client},
    fault::Class,
    fetch,
};
use tokio_util::sync::CancellationToken;

use super::{auth_of, offset, plan, source, stop};
use crate::support::api::{Api, Key};

async fn walk_on(client: &Arc<fetch::Api>) -> Result<u64, rosterd::fault::Fault> {
    let plan = plan(offset(10, stop(Some("total"), None)));
    let mut walk = client.walk(plan, CancellationToken::new());
    while walk.next().await.map_err(|error| error.fault())?.is_some() {}
    Ok(walk.ending().unwrap().records)
}

fn rule(client: &mut Client, refusals: u32, open_for: Duration) {
    client.circuit = Some(CircuitRule {
        refusals,
        per: Duration::from_secs(60),
        open_for,
        first_401: true,
    });
}

#[tokio::test]
async fn a_401_spares_the_credential_until_one_request_finds_it_good_again() {
    let api = Api::start().await;
    api.collection("employees").fill(5);
    api.require(Key::Header("authorization", "Bearer good"));
    let mut source = source(&api.url());
    source.client.auth = Some(auth_of("{token: bad}"));
    rule(&mut source.client, 20, Duration::from_millis(300));
    let client = Arc::new(fetch::Api::new(&source).unwrap());

    assert_eq!(walk_on(&client).await.unwrap_err().code, "HTTP 401");
    for _ in 0..5 {
        let fault = walk_on(&client).await.unwrap_err();
        assert_eq!((fault.class, &*fault.code), (Class::Auth, "circuit_open"));
    }
    assert_eq!(api.requests().len(), 1);

    // The key was renewed at the API's side.
    api.require(Key::Header("authorization", "Bearer bad"));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while walk_on(&client).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(api.requests().len(), 2);
}

#[tokio::test]
async fn many_403_across_walks_spare_the_credential_and_none_is_sent_twice() {
    let api = Api::start().await;
    api.collection("employees").fill(5);
    api.every(1).fails_with(403).always();
    let mut source = source(&api.url());
    source.client.auth = Some(auth_of("{token: t}"));
    rule(&mut source.client, 3, Duration::from_secs(60));
    let client = Arc::new(fetch::Api::new(&source).unwrap());

    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push(walk_on(&client).await.unwrap_err().code);
    }

    let (refused, open) = ("HTTP 403", "circuit_open");
    assert_eq!(codes, [refused, refused, refused, open, open, open]);
    assert_eq!(api.requests().len(), 3);
}
