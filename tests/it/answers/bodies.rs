//! Answers of every form, down to the rows.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use axum::body::{Body, Bytes};
use flate2::{Compression, write::GzEncoder};
use rosterd::{
    config,
    fetch::{self, WalkPlan},
    sync::Start,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    config, config_with, outcome,
    server::{Server, json as answers, says},
};
use crate::support::sync::Bench;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

const CSV: &str = "\"id\";name;salary\n1;\"Müller; Eva\";\"1000.10\"\n2;;2000.20\n";

const XML: &str = "<?xml version=\"1.0\"?><wd:Report xmlns:wd=\"urn:x\">
  <wd:Total>2</wd:Total>
  <wd:Entry wd:id=\"1\"><wd:name>Müller; Eva</wd:name><wd:salary>1000.10</wd:salary></wd:Entry>
  <wd:Entry wd:id=\"2\"><wd:name/><wd:salary>2000.20</wd:salary></wd:Entry></wd:Report>";

const NDJSON: &str = "{\"id\": \"1\", \"name\": \"Müller; Eva\", \"salary\": \"1000.10\"}\n\n{\"id\":\"2\",\"name\":null,\"salary\":\"2000.20\"}\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_come_from_every_form_of_answer_packed_or_not() {
    let lines = "data_selector: $\n  paginator: single_page\n  response: ";
    for (form, body) in [
        (format!("{lines}{{type: csv, delimiter: ';'}}"), CSV.as_bytes().to_vec()),
        (
            format!("{lines}{{type: csv, delimiter: ';', charset: windows-1252}}"),
            CSV.replace('ü', "\u{1}").into_bytes().iter().map(|b| if *b == 1 { 0xfc } else { *b }).collect(),
        ),
        (format!("{lines}{{type: csv, delimiter: ';', stream: true}}"), CSV.as_bytes().to_vec()),
        (format!("{lines}ndjson"), NDJSON.as_bytes().to_vec()),
        (format!("{lines}{{type: jsonl, stream: true}}"), NDJSON.as_bytes().to_vec()),
        (
            format!("{lines}json"),
            format!("[{}]", NDJSON.replace("\n\n", ",")).into_bytes(),
        ),
        (
            format!("{lines}{{type: json, stream: true}}"),
            format!("[{}]", NDJSON.replace("\n\n", ",")).into_bytes(),
        ),
        (
            "data_selector: Report.Entry\n  response: xml\n  paginator: {type: offset, limit: 10, total_path: Report.Total}".to_owned(),
            XML.as_bytes().to_vec(),
        ),
    ] {
        for packed in [false, true] {
            let body = if packed { gzip(&body) } else { body.clone() };
            let server = Server::start(move |_| {
                says(200, body.clone()).with("content-type", "application/octet-stream")
            })
            .await;
            let bench = Bench::new().await;
            let key = if form.contains("xml") { "primary_key: '@id'\n" } else { "" };
            let config = config(&bench, &server, &format!(
                "{key}null_values: ['']\ncolumns: {{salary: {{data_type: decimal}}}}\nendpoint:\n  path: /export\n  {form}"
            ));
            let config = match key {
                "" => config,
                _ => config.replacen("        primary_key: id\n", "", 1),
            };
            let ended = outcome(&bench, &config, Start::GoOn).await;
            assert_eq!(ended, ("succeeded", String::new()), "{form}, packed: {packed}");
            let rows: Vec<String> = bench
                .column("select concat_ws('|', coalesce(name, '-'), salary) from hr.people order by salary")
                .await;
            assert_eq!(rows, ["Müller; Eva|1000.10", "-|2000.20"], "{form}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_another_form_than_declared_is_a_named_error() {
    let html = "<!DOCTYPE html><html>Jane Doe</html>";
    for (response, body, code) in [
        ("json", html.as_bytes().to_vec(), "not_json"),
        ("csv", html.as_bytes().to_vec(), "wrong_format"),
        ("csv", b"{\"error\": \"no\"}".to_vec(), "wrong_format"),
        ("ndjson", html.as_bytes().to_vec(), "wrong_format"),
        ("ndjson", b"{\"id\": 1}\n{\"id\"".to_vec(), "invalid_json"),
        ("xml", html.as_bytes().to_vec(), "wrong_format"),
        ("xml", b"{}".to_vec(), "wrong_format"),
        ("xml", b"<people><person>".to_vec(), "invalid_xml"),
        ("xml", b"<a>&bomb;</a>".to_vec(), "invalid_xml"),
        ("csv", b"id\nM\xfcller".to_vec(), "invalid_charset"),
        (
            "json",
            gzip(b"[{\"id\": 1}]")[..20].to_vec(),
            "invalid_gzip",
        ),
        ("json", gzip(&vec![b' '; 3 << 20]), "body_too_large"),
        (
            "{type: json, max_body: 1KiB}",
            vec![b' '; 2000],
            "body_too_large",
        ),
        (
            "{type: json, stream: true, max_body: 1KiB}",
            vec![b' '; 2000],
            "body_too_large",
        ),
        (
            "{type: json, stream: true}",
            b"{\"people\": {}}".to_vec(),
            "unexpected_shape",
        ),
        (
            "{type: json, stream: true}",
            b"{\"people\": {\"person\": [{\"id\": 1}".to_vec(),
            "stream_broken",
        ),
        (
            "{type: json, stream: true}",
            b"{\"people\": {\"person\": [{\"id\": 1},,]}}".to_vec(),
            "invalid_json",
        ),
        ("csv", b" ".to_vec(), "empty_body"),
    ] {
        let kept = body.clone();
        let server = Server::start(move |_| says(200, kept.clone())).await;
        let bench = Bench::new().await;
        let selector = if response.contains("json") && !response.contains("nd") || response == "xml"
        {
            "people.person"
        } else {
            "$"
        };
        let config = config_with(
            &bench,
            &server,
            "max_body: 2MiB",
            &format!(
                "endpoint: {{path: /x, data_selector: {selector}, response: {response}, paginator: single_page}}"
            ),
        );
        let ended = outcome(&bench, &config, Start::GoOn).await;
        assert_eq!(
            ended,
            ("failed", code.to_owned()),
            "{response}: {}",
            String::from_utf8_lossy(&body)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn null_is_no_list_unless_it_is_said_to_be_an_empty_one() {
    for (body, allowed, ended) in [
        (
            json!({"rows": null}),
            "false",
            ("failed", "unexpected_shape"),
        ),
        (json!({"rows": null}), "true", ("succeeded", "")),
        (json!({}), "true", ("failed", "unexpected_shape")),
    ] {
        for selector in ["rows", "$..rows"] {
            let kept = body.clone();
            let server = Server::start(move |_| answers(&kept)).await;
            let bench = Bench::new().await;
            let config = config(
                &bench,
                &server,
                &format!(
                    "endpoint: {{path: /x, data_selector: {selector}, null_is_empty: {allowed}, paginator: single_page}}"
                ),
            );
            let (status, code) = outcome(&bench, &config, Start::GoOn).await;
            assert_eq!((status, code.as_str()), ended, "{body} {selector}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_are_no_objects_and_rows_of_another_width_are_rejects() {
    let server = Server::start(|_| says(200, "id,name\n1,a\n2\n3,c,x\n4,d\n")).await;
    let bench = Bench::new().await;
    let config = config(
        &bench,
        &server,
        "endpoint: {path: /x, response: csv, paginator: single_page}",
    );
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status.as_str(), "partial");
    assert_eq!(outcome.counters.rows_rejected, 2);
    let ids: Vec<String> = bench.column("select id from hr.people order by id").await;
    assert_eq!(ids, ["1", "4"]);
}

/// A body of `count` records of about a kilobyte, made as it is asked for; counts what was taken.
fn pour(count: usize, taken: &Arc<AtomicUsize>) -> Body {
    let taken = Arc::clone(taken);
    let pieces = (0..=count).map(move |id| {
        let piece = match id {
            0 => "{\"rows\": [{\"id\": 0}".to_owned(),
            id if id == count => "]}".to_owned(),
            id => format!(",{{\"id\": {id}, \"text\": \"{}\"}}", "x".repeat(1000)),
        };
        taken.fetch_add(piece.len(), SeqCst);
        Ok::<_, std::io::Error>(Bytes::from(piece))
    });
    Body::from_stream(futures_util::stream::iter(pieces))
}

const STREAM: &str = "endpoint: {path: /x, data_selector: rows, paginator: single_page, response: {type: json, stream: true, max_body: 1GiB}}";

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_answer_is_read_no_faster_than_it_is_taken() {
    const RECORDS: usize = 60_000;
    // Parts, pieces and the buffers of two sockets.
    const AHEAD: usize = 16 << 20;
    let taken = Arc::new(AtomicUsize::new(0));
    let poured = Arc::clone(&taken);
    let server = Server::start(move |_| says(200, pour(RECORDS, &poured))).await;
    let text = config_with(&Bench::new().await, &server, "max_body: 1MiB", STREAM);
    let config = config::from_str(&text).unwrap();
    let api = Arc::new(fetch::Api::new(&config.sources[0]).unwrap());
    let plan = WalkPlan {
        bindings: fetch::Bindings::default(),
        end_value: None,
        endpoint: config.sources[0].resources[0].endpoint.clone(),
        start_value: None,
        resume: None,
        first_page: 0,
        max_pages: 1,
        key: Vec::new(),
    };
    let mut walk = api.walk(plan, CancellationToken::new());
    let (mut records, mut bytes, mut parts) = (0, 0, 0);
    while let Some(page) = walk.next().await.unwrap() {
        records += page.records.len();
        bytes += page.body.len();
        parts += 1;
        let ahead = taken.load(SeqCst).saturating_sub(bytes);
        assert!(ahead < AHEAD, "{ahead} bytes ahead of part {parts}");
    }
    assert_eq!(records, RECORDS);
    assert!(parts > 30, "{parts}");
    assert!(walk.ending().unwrap().proven.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_begins_anew_and_deletes_only_when_it_came_whole() {
    let server = Server::start(|asked| match asked.number {
        0 => says(200, pour(5000, &Arc::default())),
        // Ends in the middle of a record.
        1 => says(200, "{\"rows\": [{\"id\": 1}, {\"id\""),
        _ => says(200, pour(4900, &Arc::default())),
    })
    .await;
    let bench = Bench::new().await;
    let config = config(
        &bench,
        &server,
        &format!("deletes: {{mode: snapshot, hard: true}}\n{STREAM}"),
    );
    for (rows, requests) in [(5000, 1), (4900, 3)] {
        let ended = outcome(&bench, &config, Start::GoOn).await;
        assert_eq!(ended, ("succeeded", String::new()));
        let count: i64 = bench.value("select count(*) from hr.people").await;
        assert_eq!((count, server.requests().len()), (rows, requests));
    }
}
