//! ADP Workforce Now: a client certificate, and pages by `$top` and `$skip` to an answer without content.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};

use super::{
    IDENTITY, Stage,
    fake::{Answer, Asked, Data, Fake, open_route, route, slice, wants_headers},
};

/// Talks TLS with whoever shows the certificate, and passes what is asked on to the fake. Its address.
fn behind_mutual_tls(fake: &str) -> String {
    let certificate = CertificateDer::from_pem_slice(IDENTITY.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(IDENTITY.as_bytes()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate.clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider))
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let upstream = fake.trim_start_matches("http://").to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // Somebody without the certificate is turned away here.
            pass_on(StreamOwned::new(connection, stream.unwrap()), &upstream).ok();
        }
    });
    address
}

/// One request and its answer.
fn pass_on(tls: StreamOwned<ServerConnection, TcpStream>, upstream: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(tls);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut fake = TcpStream::connect(upstream)?;
    write!(fake, "{head}Connection: close\r\n\r\n")?;
    fake.write_all(&body)?;
    let mut answer = Vec::new();
    fake.read_to_end(&mut answer)?;
    let mut tls = reader.into_inner();
    tls.write_all(&answer)?;
    tls.conn.send_close_notify();
    tls.flush()
}

fn token(asked: &Asked, _: &mut Data) -> Answer {
    match asked.body["client_id"] == "a-id" && asked.body["grant_type"] == "client_credentials" {
        true => Answer::json(&json!({"access_token": "a-token", "expires_in": 3600})),
        false => Answer::empty(401),
    }
}

fn workers(asked: &Asked, data: &mut Data) -> Answer {
    let size = asked.number("$top", 50).min(2);
    let (page, _) = slice(&data["workers"], asked.number("$skip", 0), size);
    match page.is_empty() {
        true => Answer::empty(204),
        false => Answer::json(&json!({"workers": page, "meta": null})),
    }
}

fn worker(id: &str, title: &str) -> Value {
    json!({
        "associateOID": id, "workerID": {"idValue": "X1"}, "person": {"legalName": {"givenName": "Jo"}, "birthDate": "1990-01-01", "governmentIDs": [{"idValue": "123"}]},
        "workAssignments": [{"itemID": "1", "jobTitle": title, "baseRemuneration": {"annualRateAmount": {"amountValue": 70000.00}}}]
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn adp_workers_are_read_with_a_certificate_to_an_answer_without_content() {
    let guard = wants_headers([("authorization", "Bearer a-token".into())]);
    let routes = [
        open_route("POST", "/auth/oauth/v2/token", token),
        route("GET", "/hr/v2/workers", workers),
    ];
    let fake = Fake::new(guard, routes).await;
    for id in ["a", "b", "c"] {
        fake.put("workers", worker(id, "Cook"));
    }
    let address = behind_mutual_tls(fake.url());
    let variables = [
        ("ADP_CLIENT_ID", "a-id"),
        ("ADP_CLIENT_SECRET", "a-secret"),
        ("ADP_CERTIFICATE", IDENTITY),
        ("ADP_KEY", IDENTITY),
        ("ROSTERD__SOURCES__ADP__CLIENT__TLS__CA", IDENTITY),
    ];
    let stage = Stage::at(&address, "adp", fake, &variables).await;
    let requests = stage.sync("workers").await;
    assert!(
        requests.iter().any(|request| request.contains("$skip=3")),
        "{requests:?}"
    );
    assert_eq!(
        stage
            .rows("select associate_oid, work_assignments from adp.workers order by 1")
            .await[0],
        json!({"associate_oid": "a", "work_assignments": [{"itemID": "1", "jobTitle": "Cook"}]})
    );
    let columns = stage.columns("adp.workers").await;
    assert!(
        !columns
            .iter()
            .any(|column| column.contains("birth") || column.contains("government")),
        "{columns:?}"
    );
    stage.fake.change("workers", |all| {
        all[0] = worker("a", "Chef");
    });
    stage.sync("workers").await;
    assert_eq!(stage.counts().await, "0 1 2 0");
}
