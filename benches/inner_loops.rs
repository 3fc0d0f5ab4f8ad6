//! The inner loops, each by itself: `cargo bench --bench inner_loops`.
//!
//! Their input is a page of 1,000 employees of the sample API. Throughput is that of the page's JSON.

use std::ops::Range;

use chrono::{DateTime, Utc};
use divan::{Bencher, counter::BytesCount};
use rosterd::{
    config::{
        columns::{Detect, Nul},
        endpoint::{DottedPath, Step},
    },
    demo,
    shape::{Layout, MapSpec, Mapper, Stamp},
};
use tokio_util::sync::CancellationToken;

fn main() {
    divan::main();
}

/// A body as the API sends it, with the places of its records.
struct Page {
    body: Vec<u8>,
    records: Vec<Range<u32>>,
}

#[expect(clippy::unwrap_used, reason = "a bench may stop where it stands")]
fn page() -> Page {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let people = runtime.block_on(async {
        let cancel = CancellationToken::new();
        let api = demo::Api::start(demo::Options::default(), cancel).await;
        api.unwrap().snapshot("employees")
    });
    let mut body = b"{\"data\":[".to_vec();
    let mut records = Vec::new();
    for person in people {
        let start = u32::try_from(body.len()).unwrap();
        serde_json::to_writer(&mut body, &person).unwrap();
        records.push(start..u32::try_from(body.len()).unwrap());
        body.push(b',');
    }
    body.pop();
    body.extend_from_slice(b"]}");
    Page { body, records }
}

fn mapper() -> Mapper {
    let spec = MapSpec {
        primary_key: vec![DottedPath(vec![Step::Key("id".to_owned())])],
        cursor_path: Some(DottedPath(vec![Step::Key("updated_at".to_owned())])),
        max_table_nesting: None,
        mapping_version: 1,
        columns: indexmap::IndexMap::new(),
        null_values: Vec::new(),
        detect: Detect::default(),
        nul: Nul::default(),
        ..MapSpec::default()
    };
    Mapper::new(spec, Layout::default())
}

fn stamp() -> Stamp {
    Stamp {
        run_id: 1,
        synced_at: DateTime::<Utc>::UNIX_EPOCH,
    }
}

/// Is it UTF-8?
#[divan::bench]
fn utf8(bencher: Bencher<'_, '_>) {
    let page = page();
    bencher
        .counter(BytesCount::of_slice(&page.body))
        .bench(|| simdutf8::basic::from_utf8(&page.body).is_ok());
}

/// Hash of each record: was it there before?
#[divan::bench]
fn hash(bencher: Bencher<'_, '_>) {
    let page = page();
    bencher
        .counter(BytesCount::of_slice(&page.body))
        .bench(|| xxhash_rust::xxh3::xxh3_128(&page.body));
}

/// First look: keys, hashes, cursor.
#[divan::bench]
fn scan(bencher: Bencher<'_, '_>) {
    let (page, mapper) = (page(), mapper());
    bencher
        .counter(BytesCount::of_slice(&page.body))
        .bench(|| mapper.scan(&page.body, &page.records, None).rows.len());
}

/// The parameters that ask Postgres which rows are unchanged.
#[divan::bench]
fn probe(bencher: Bencher<'_, '_>) {
    let (page, mut mapper) = (page(), mapper());
    let scan = mapper.scan(&page.body, &page.records, None);
    let keep = vec![true; scan.rows.len()];
    mapper.encode(&page.body, &page.records, &scan, &keep, stamp());
    bencher
        .counter(BytesCount::of_slice(&page.body))
        .bench(|| scan.probe(mapper.layout()).is_some());
}

/// Second look: typed rows, as the bytes of a binary COPY.
#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let (page, mut mapper) = (page(), mapper());
    let scan = mapper.scan(&page.body, &page.records, None);
    let keep = vec![true; scan.rows.len()];
    // The first page finds the columns.
    mapper.encode(&page.body, &page.records, &scan, &keep, stamp());
    bencher
        .counter(BytesCount::of_slice(&page.body))
        .bench_local(|| {
            let encoded = mapper.encode(&page.body, &page.records, &scan, &keep, stamp());
            encoded.data.len()
        });
}
