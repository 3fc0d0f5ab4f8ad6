//! Resources that are walked for each record of another: requests, rows, proof, cursors, resumption.

mod batches;
mod chains;
mod cursors;
mod failures;
mod levels;
mod many;
mod proof;
mod repeated;
mod spans;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::site::{Asked, Reply, Site};

/// A site with employees (ids from 1, two a page) and what `child` answers to all other paths.
async fn company(
    count: usize,
    child: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
) -> Arc<Site> {
    let site = Site::start(move |asked| match asked.path.as_str() {
        "/employees" => page(asked, &employees(count)),
        _ => child(asked),
    });
    Arc::new(site.await)
}

fn employees(count: usize) -> Vec<Value> {
    let people = (1..=count).map(
        |id| json!({"id": id, "name": format!("Person {id}"), "unit": {"code": format!("u/{id}")}}),
    );
    people.collect()
}

/// One page of `offset` and `limit`, with its total.
fn page(asked: &Asked, records: &[Value]) -> Reply {
    let start = asked.number("offset", 0);
    let size = asked.number("limit", 2);
    let part: Vec<&Value> = records.iter().skip(start).take(size).collect();
    json!({"data": part, "total": records.len()}).into()
}

/// A source with these resources, all paged by offset with a total, merged by `id`.
fn config(site: &Site, resources: &str) -> String {
    config_with(site, "", resources)
}

/// The same with more keys of the client.
fn config_with(site: &Site, client: &str, resources: &str) -> String {
    format!(
        "
sources:
  hr:
    client:
      base_url: '{}'
      retry: {{max_retries: 0, backoff: 1ms}}
{client}
    resource_defaults:
      primary_key: id
      write_disposition: merge
      endpoint: {{data_selector: data, paginator: {{type: offset, limit: 2}}}}
    resources:
{resources}",
        site.url()
    )
}

/// Parents that fill no table.
const EMPLOYEES: &str = "      - {name: employees, selected: false}\n";
