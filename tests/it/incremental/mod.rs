//! Cursors: what they may pass, what is asked for, and what is left out.

use rosterd::{record::Status, sync::Start};

use crate::support::sync::Bench;

mod api;
mod feed;
mod moving;
mod reconcile;
mod refused;
mod spans;
mod values;

use api::Changes;

/// One resource over the API, merged by `id`; more keys of the resource may stand in `resource`.
fn config(api: &Changes, incremental: &str, resource: &str) -> String {
    format!(
        "
daemon: {{admin: {{listen: null}}}}
sources:
  hr:
    client: {{base_url: '{}', retry: {{max_retries: 0}}}}
    resources:
      - name: changes
        primary_key: id
        write_disposition: merge
        batch: {{rows: 1}}
        endpoint:
          path: changes
          data_selector: data
          paginator: {{type: offset, limit: 4, total_path: total}}
          incremental: {incremental}
{resource}",
        api.url()
    )
}

async fn succeeds(bench: &Bench, config: &str, start: Start) -> rosterd::sync::Outcome {
    let outcome = bench.sync(config, start).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    outcome
}

async fn ids(bench: &Bench) -> Vec<i64> {
    bench
        .column("select id from hr.changes order by id, _synced_at")
        .await
}

async fn cursor(bench: &Bench) -> Option<String> {
    bench
        .value("select (select cursor #>> '{}' from rosterd.cursors where partition = '')")
        .await
}

fn code(outcome: &rosterd::sync::Outcome) -> &str {
    outcome.fault.as_ref().map_or("", |fault| &fault.code)
}
