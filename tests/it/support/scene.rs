//! A sample API, a database, and the configuration that joins them.

use rosterd::{
    clock, config,
    demo::{Api, Options},
    record,
};
use tokio_util::sync::CancellationToken;

use super::{daemon::Setup, db::TestDb};

/// One source over one sample API; the collections are resources of the same names.
pub(crate) struct Scene {
    pub(crate) api: Api,
    pub(crate) db: TestDb,
    /// Lines of section `daemon`'s map, besides those for a quick test.
    pub(crate) daemon: &'static str,
    /// Keys of `client`'s map, such as limits.
    pub(crate) client: &'static str,
    /// Keys of `resource_defaults`.
    pub(crate) defaults: &'static str,
    pub(crate) resources: &'static [&'static str],
}

impl Scene {
    pub(crate) async fn new(options: Options) -> Self {
        Self {
            api: Api::start(options, CancellationToken::new()).await.unwrap(),
            db: TestDb::new().await,
            daemon: "",
            client: "",
            defaults: "",
            resources: &["employees"],
        }
    }

    pub(crate) fn config(&self) -> String {
        self.config_of(self.resources)
    }

    pub(crate) fn config_of(&self, resources: &[&str]) -> String {
        let resources: String = resources
            .iter()
            .map(|name| format!("      - {{name: {name}, endpoint: /v1/{name}}}\n"))
            .collect();
        format!(
            "database: {{url: \"{}\", max_connections: 3}}
daemon: {{admin: {{listen: null}}, lease: 3s, poll: 1s{}}}
sources:
  hr:
    client:
      base_url: {}
      auth: {{type: api_key, name: api_key, api_key: demo-key, location: query}}
      {}
    resource_defaults:
      primary_key: id
      {}
      endpoint: {{data_selector: data, paginator: {{type: offset, limit: 40}}}}
    resources:
{resources}",
            self.db.url(),
            self.daemon,
            self.api.base_url(),
            self.client,
            self.defaults,
        )
    }

    pub(crate) fn setup(&self) -> Setup {
        Setup::run(self.config())
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Setup {
        Setup::command(self.config(), arguments)
    }

    /// Makes the resources known without starting anything.
    pub(crate) async fn register(&self) {
        let parsed = config::from_str(&self.config()).unwrap();
        record::register(self.db.pool(), &parsed, clock::now())
            .await
            .unwrap();
    }
}
