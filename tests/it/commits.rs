//! COMMIT is sent and its answer never comes: was it committed? Each answer must lead to the same table.

use std::time::Duration;

use rosterd::demo::{Api, Options};
use tokio_util::sync::CancellationToken;

use crate::support::{
    daemon::Setup,
    db::TestDb,
    proxy::{Harm, Proxy},
    timeline, truth,
};

fn config(disposition: &str, api: &str, database: &str) -> String {
    format!(
        "database: {{url: \"{database}\", max_connections: 3}}
daemon: {{admin: {{listen: null}}, lease: 20s}}
sources:
  hr:
    client:
      base_url: {api}
      auth: {{type: api_key, name: api_key, api_key: demo-key, location: query}}
    resources:
      - name: employees
        primary_key: id
        write_disposition: {disposition}
        batch: {{rows: 80}}
        endpoint:
          path: /v1/employees
          data_selector: data
          paginator: {{type: offset, limit: 40}}
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_commit_neither_doubles_nor_loses_rows_or_counts() {
    const PEOPLE: usize = 240;
    let options = Options {
        employees: PEOPLE,
        ..Options::default()
    };
    let api = Api::start(options, CancellationToken::new()).await.unwrap();
    let harms = [
        Harm::AnswerLost,
        // The first tries come after 100 and 300 ms.
        Harm::Late(Duration::from_millis(200)),
        Harm::NeverSent,
    ];
    for disposition in ["append", "merge", "replace"] {
        // The first of three, and the one that also ends the run.
        for (harm, nth) in harms.iter().flat_map(|harm| [(*harm, 1), (*harm, 3)]) {
            let story = format!("{disposition}, {harm:?} at commit {nth}");
            let db = TestDb::new().await;
            let proxy = Proxy::start(&db, harm, nth).await;
            let config = config(disposition, &api.base_url(), &proxy.url(&db));
            let mut sync = Setup::command(config, &["sync"]).start();
            let (status, log) = tokio::task::spawn_blocking(move || (sync.wait(), sync.stderr()))
                .await
                .unwrap();
            assert!(proxy.commits() > nth.min(2), "{story}: nothing was harmed");
            assert!(status.success(), "{story}: {log}");
            let rows = truth::rows(db.pool(), "hr.employees", "true").await;
            let wrong = truth::differences(&rows, &api.snapshot("employees"));
            assert_eq!(wrong, Vec::<String>::new(), "{story}");
            let runs = timeline::runs(db.pool(), 0).await;
            let [run] = runs.as_slice() else {
                panic!("{story}: {runs:#?}");
            };
            assert_eq!(run.status, "succeeded", "{story}");
            let people = i64::try_from(PEOPLE).unwrap();
            assert_eq!(
                (run.pages, run.records_read, run.rows_inserted),
                (6, people, people),
                "{story}"
            );
        }
    }
}
