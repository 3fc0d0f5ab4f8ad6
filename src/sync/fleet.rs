//! The configuration as running parts: one API client per source, ready for any of its resources.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use super::{Binary, Context, budget, credentials};
use crate::{
    config::{Config, Resource, Source, auth::Auth, schedule::Schedule},
    fetch,
    postgres::Pool,
    record::{Claim, Worker},
};

/// Everything a run needs that comes from the configuration.
pub struct Fleet {
    pub config: Arc<Config>,
    /// Refreshes of credentials under way, of this fleet and of those before it.
    refreshes: TaskTracker,
    members: HashMap<Name, Member>,
    binary: Binary,
}

type Name = (String, String, String);

#[derive(Clone)]
struct Member {
    source: Arc<Source>,
    resource: Arc<Resource>,
    api: Arc<fetch::Api>,
}

/// The client of a source: its limits hold over all processes that use this database, and its credential
/// is kept there if the API replaces it.
///
/// # Errors
///
/// As [`fetch::Api::new`].
pub fn api(
    source: &Source,
    config: &Config,
    pool: &Pool,
    worker: &Worker,
    refreshes: &TaskTracker,
) -> Result<fetch::Api, fetch::Error> {
    let budget = budget::Shared::new(pool, worker, source.credential_key());
    Ok(credentials::api(source, config, pool, refreshes)?.sharing(Arc::new(budget)))
}

impl Fleet {
    /// Builds the clients. A source whose client did not change keeps the one of `before`, and with
    /// it the memory of how much of its rate limit is spent.
    ///
    /// # Errors
    ///
    /// What the HTTP client says when it cannot be built.
    pub fn new(
        config: Arc<Config>,
        before: Option<&Self>,
        pool: &Pool,
        worker: &Worker,
        binary: &Binary,
    ) -> Result<Self, fetch::Error> {
        let refreshes = before.map_or_else(TaskTracker::new, |fleet| fleet.refreshes.clone());
        let mut members = HashMap::new();
        for source in &config.sources {
            let kept = before
                .filter(|fleet| fleet.config.credential_keys == config.credential_keys)
                .and_then(|fleet| fleet.api_of(source));
            let api = match kept {
                Some(api) => api,
                None => Arc::new(api(source, &config, pool, worker, &refreshes)?),
            };
            let shared = Arc::new(source.clone());
            for resource in &source.resources {
                let name = (
                    source.name.clone(),
                    source.account.clone(),
                    resource.name.clone(),
                );
                let resource = Arc::new(resource.clone());
                members.insert(
                    name,
                    Member {
                        source: Arc::clone(&shared),
                        resource,
                        api: Arc::clone(&api),
                    },
                );
            }
        }
        Ok(Self {
            config,
            refreshes,
            members,
            binary: binary.clone(),
        })
    }

    fn api_of(&self, source: &Source) -> Option<Arc<fetch::Api>> {
        self.members
            .values()
            .find(|m| m.source.name == source.name && m.source.account == source.account)
            .filter(|m| {
                m.source.client == source.client && own_auths(&m.source) == own_auths(source)
            })
            .map(|m| Arc::clone(&m.api))
    }

    /// At the end of the process: waits until every new credential is written down and what the clients
    /// hold of shared limits is given back.
    pub async fn settled(&self) {
        // Of the clients, each once: those of one source are one.
        let apis: HashMap<_, _> = self
            .members
            .values()
            .map(|member| (Arc::as_ptr(&member.api).addr(), Arc::clone(&member.api)))
            .collect();
        for api in apis.into_values() {
            self.refreshes.spawn(async move { api.retire().await });
        }
        self.refreshes.close();
        self.refreshes.wait().await;
    }

    /// Parts for the run of a claimed resource. `None`: the configuration no longer has it.
    #[must_use]
    pub fn context(
        &self,
        claim: &Claim,
        pool: &Pool,
        worker: &Worker,
        tracker: &TaskTracker,
    ) -> Option<Context> {
        let name = (
            claim.source.clone(),
            claim.account.clone(),
            claim.resource.clone(),
        );
        let member = self.members.get(&name)?.clone();
        Some(Context {
            pool: pool.clone(),
            worker: worker.clone(),
            source: member.source,
            resource: member.resource,
            api: member.api,
            binary: self.binary.clone(),
            lock_timeout: self.lock_timeout(),
            tracker: tracker.clone(),
        })
    }

    fn lock_timeout(&self) -> Duration {
        self.config.database.lock_timeout
    }

    /// The schedules of the resources, by names that are unique in the configuration.
    #[must_use]
    pub fn schedules(&self) -> HashMap<String, Schedule> {
        self.members
            .iter()
            .flat_map(|((source, account, resource), member)| {
                let name = format!("{source}/{account}/{resource}");
                let (schedule, reconcile) = (&member.resource.schedule, &member.resource.reconcile);
                let schedule = schedule.clone().map(|schedule| (name.clone(), schedule));
                // No resource has a name with a slash.
                let reconcile = reconcile
                    .clone()
                    .map(|at| (format!("{name}/reconcile"), at));
                schedule.into_iter().chain(reconcile)
            })
            .collect()
    }
}

/// The credentials that single endpoints bring along.
fn own_auths(source: &Source) -> Vec<&Auth> {
    let endpoints = source.resources.iter().map(|resource| &resource.endpoint);
    endpoints
        .filter_map(|endpoint| endpoint.auth.as_ref())
        .collect()
}
