//! What is asked of an API and what its answers mean, by configuration alone, down to the rows.

mod bodies;

mod exports;

mod refused;

mod requests;

mod rules;

mod server;

use rosterd::sync::Start;

use crate::support::sync::Bench;
use server::Server;

/// A source `hr` on this server, with one resource `people` of these lines.
fn config(bench: &Bench, server: &Server, resource: &str) -> String {
    config_with(bench, server, "", resource)
}

/// The same with lines of the client's map.
fn config_with(bench: &Bench, server: &Server, client: &str, resource: &str) -> String {
    let indented = |text: &str, by: &str| -> String {
        text.lines().map(|line| format!("{by}{line}\n")).collect()
    };
    format!(
        "database: {{url: \"{}\"}}
sources:
  hr:
    vars: {{tenant: a/b, size: 50, archived: false}}
    client:
      base_url: {}
      retry: {{max_retries: 2, backoff: 10ms, max_wait: 2s}}
{}    resources:
      - name: people
        primary_key: id
        write_disposition: merge
{}",
        bench.db.url(),
        server.url(),
        indented(client, "      "),
        indented(resource, "        "),
    )
}

/// Runs the only resource and says how it ended: status and code.
async fn outcome(bench: &Bench, config: &str, start: Start) -> (&'static str, String) {
    let outcome = bench.sync(config, start).await;
    let code = outcome.fault.map(|fault| fault.code).unwrap_or_default();
    (outcome.status.as_str(), code)
}
