//! Section `sources`: one API with one credential set, and its resources.

use std::time::Duration;

use chrono::{DateTime, Utc};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{
    Secret,
    auth::Auth,
    client::ClientFile,
    columns::{ColumnHint, Detect, Nul},
    contract::{Contract, ContractShort},
    database::is_reserved_schema,
    decode::{Json, Short, Tried, section},
    endpoint::{Body, DottedPath, Endpoint, Method},
    family::{self, Draft},
    hosts::Hosts,
    incremental::Incremental,
    jq::Program,
    parent::Parent,
    privacy::{self, Privacy, PrivacyFile, PrivacyKey, Retention},
    problem::{self, Problems},
    resource::{ResourceFile, Shared},
    schedule::Schedule,
    template::{self, Piece, Place},
    tree::{Content, Node},
};

/// One API with one credential set.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    /// Tenant of the source; `default` when the file names none.
    pub account: String,
    pub client: Client,
    /// In the order of the file, without those that are not `selected`.
    pub resources: Vec<Resource>,
}

impl Source {
    /// Name of the rate budget that this source's credential spends. Never the secret itself.
    #[must_use]
    pub fn credential_key(&self) -> String {
        format!("{}/{}", self.name, self.account)
    }
}

/// How to talk to the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    pub base_url: Url,
    pub headers: IndexMap<String, Secret>,
    pub auth: Option<Auth>,
    /// All windows hold at once. Empty: no limit but `max_in_flight`.
    pub limits: Vec<Limit>,
    /// Requests at the same time over all resources of the source.
    pub max_in_flight: usize,
    /// Headers in which the API tells how much of its limit is left.
    pub quota: Option<QuotaHeaders>,
    pub retry: Retry,
    pub timeouts: Timeouts,
    /// How the API is reached.
    pub network: Network,
    /// When a refused credential is not sent any more. `None`: it always is.
    pub circuit: Option<CircuitRule>,
    /// Largest decoded body in bytes. Larger ones fail the run, whatever the API says of the length.
    pub max_body: u64,
    /// Where redirects may lead besides the origin of `base_url`.
    pub redirect_hosts: Hosts,
    /// Plain `http://` to a host that is not loopback.
    pub allow_http: bool,
}

/// At most `requests` in any window of length `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub requests: u32,
    pub per: Duration,
}

/// Headers in which the API tells how much of its limit is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaHeaders {
    pub remaining: Option<String>,
    pub reset: String,
    pub unit: ResetUnit,
    /// Requests that are left to others.
    pub reserve: u64,
}

/// How the end of the API's window is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetUnit {
    /// From now.
    Seconds,
    Milliseconds,
    /// Since 1970.
    Epoch,
    EpochMs,
    /// ISO 8601, or as in HTTP.
    Date,
}

/// When and how a request is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries after the first.
    pub max_retries: u32,
    /// Wait before the first retry, before jitter.
    pub backoff: Duration,
    pub factor: f64,
    /// Shortest single wait, whatever the API says.
    pub min_wait: Duration,
    /// Longest single wait. A `Retry-After` beyond it ends the run as rate limited.
    pub max_wait: Duration,
    pub statuses: Vec<u16>,
}

/// The way to the API: who we say we are, whom we trust, through whom we go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Network {
    /// `None`: rosterd and its version.
    pub user_agent: Option<String>,
    pub proxy: ProxyRule,
    /// Certificates (PEM) that are trusted besides the system's.
    pub ca: Option<Secret>,
    /// Certificate and key (PEM) that we show, to the API and to the servers of its tokens.
    pub identity: Option<(Secret, Secret)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub enum ProxyRule {
    /// As the environment says.
    #[default]
    Environment,
    None,
    /// May hold a user and a password.
    Through(Secret),
}

impl Network {
    /// Everything in it that must not be seen.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let mut secrets = Vec::new();
        if let ProxyRule::Through(proxy) = &self.proxy {
            secrets.push(proxy.clone());
            let url = Url::parse(proxy.expose()).ok();
            let password = url.as_ref().and_then(Url::password);
            secrets.extend(password.map(|password| Secret::new(password.to_owned())));
        }
        secrets.extend(self.identity.iter().map(|(_, key)| key.clone()));
        secrets
    }
}

/// When a refused credential is not sent any more, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitRule {
    /// Answers 401 and 403 within `per`, over all resources.
    pub refusals: u32,
    pub per: Duration,
    pub open_for: Duration,
    /// A 401 that a fresh token does not mend is enough.
    pub first_401: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Duration,
    /// Longest silence while headers or body are awaited.
    pub read: Duration,
    /// One try from its first byte to its last.
    pub total: Duration,
}

/// One endpoint that fills one table.
#[derive(Debug, Clone)]
pub struct Resource {
    pub name: String,
    /// Schema and table of the rows, as configured; `load` makes identifiers of them.
    pub schema: String,
    pub table: String,
    /// Paths into the record, in source spelling; [`HASHED_KEY`] alone where the key is a hash. Empty
    /// only where rows need no key.
    pub primary_key: Vec<DottedPath>,
    /// What the key is a hash of, where records have none.
    pub key_hash: Option<KeyHash>,
    pub write_disposition: WriteDisposition,
    /// Under merge: what becomes of a row whose key is there.
    pub strategy: Strategy,
    /// Under the strategy `scd2`: how versions of a row are kept.
    pub history: Option<History>,
    /// Fields that a record leaves out stay in the row as they are.
    pub partial_records: bool,
    /// Under merge: fields of which each value names a set of rows. A set that a walk delivers replaces
    /// the rows of it that are there. Empty: rows are told apart by the key alone.
    pub replace_by: Vec<DottedPath>,
    /// Which of two records with one key counts; `None`: the one that came last.
    pub version: Option<Version>,
    /// Under replace: an empty but complete walk empties the table.
    pub allow_empty: bool,
    pub deletes: Deletes,
    /// There under `deletes: {mode: feed}`.
    pub delete_feed: Option<DeleteFeed>,
    /// Rejects that leave a run succeeded.
    pub tolerated_rejects: Tolerance,
    pub kept_of_rejects: Keep,
    /// `None`: runs only on request.
    pub schedule: Option<Schedule>,
    /// When everything is read, although there is a cursor.
    pub reconcile: Option<Schedule>,
    /// `None`: objects flattened and lists as `jsonb`. 0: objects too as `jsonb`. N: N levels of lists as tables.
    pub max_table_nesting: Option<u32>,
    /// By the name of the column or of the field, as configured.
    pub columns: IndexMap<String, ColumnHint>,
    /// The same for the tables of lists, by the list's field.
    pub nested_hints: IndexMap<String, IndexMap<String, ColumnHint>>,
    pub schema_contract: Contract,
    /// Strings that stand for null where a column says nothing else.
    pub null_values: Vec<String>,
    pub detect: Detect,
    pub nul: Nul,
    pub endpoint: Endpoint,
    /// The resource for whose records this one is walked.
    pub parent: Option<Parent>,
    /// Records that stand in the file instead of being asked for.
    pub values: Option<Vec<Value>>,
    /// What becomes of each record before anything else looks at it.
    pub steps: Vec<ProcessingStep>,
    pub processing_limits: ProcessingLimits,
    pub max_pages: u64,
    pub max_run_time: Duration,
    pub batch: Batch,
    /// The table should never be older than this; `resource_health` says `late` when it is.
    pub freshness: Option<Duration>,
    /// What is done to records before anything of them is stored.
    pub privacy: Privacy,
    /// `None`: rows are kept for as long as the API has them.
    pub retention: Option<Retention>,
    /// Hash of what decides the meaning of a cursor: path, params, cursor field, key.
    pub fingerprint: String,
}

impl Resource {
    /// The resource that is asked for first: this one or, where it is walked for each record of a parent, the
    /// outermost parent; and whether the cursor of that walk tells how far this resource is known as a whole.
    #[must_use]
    pub fn outermost(&self) -> (&Self, bool) {
        match &self.parent {
            None => (self, true),
            Some(parent) => parent.outermost(),
        }
    }

    /// The cursor of that walk.
    #[must_use]
    pub fn watched(&self) -> Option<&Incremental> {
        match self.outermost() {
            (outermost, true) => outermost.endpoint.incremental.as_ref(),
            (_, false) => None,
        }
    }
}

/// What the programs of a resource may take for one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessingLimits {
    pub time: Duration,
    /// Bytes of memory.
    pub memory: u64,
}

/// One step on a record's way to its row.
#[derive(Debug, Clone)]
pub struct ProcessingStep {
    pub kind: StepKind,
    pub program: Program,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepKind {
    /// The record is left out unless the program says that it stays.
    Filter,
    /// The record becomes the one output.
    Map,
    /// The record becomes as many records as there are outputs.
    YieldMap,
}

impl StepKind {
    /// The step's key in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Map => "map",
            Self::YieldMap => "yield_map",
        }
    }
}

impl Resource {
    /// The fields of the key as the source has them: none where the key is a hash.
    #[must_use]
    pub fn source_key(&self) -> &[DottedPath] {
        match self.key_hash {
            Some(_) => &[],
            None => &self.primary_key,
        }
    }

    /// Whether a walk's rows gather beside the table until it is proven.
    #[must_use]
    pub fn gathers(&self) -> bool {
        self.write_disposition == WriteDisposition::Replace || !self.replace_by.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteDisposition {
    Append,
    Replace,
    Merge,
}

/// What a merge does with a row whose key is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// It becomes what the record says, all of it.
    Upsert,
    /// It stays as it is.
    InsertOnly,
    /// It stays as the version that was valid until now, and a new one is added.
    History,
}

/// How the versions of a row are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Names of the two columns that say from when to when a version is valid.
    pub valid_from: String,
    pub valid_to: String,
    /// What stands in `valid_to` of a version that is valid; `None`: null.
    pub active: Option<DateTime<Utc>>,
    /// When versions that a run finds begin; `None`: when they are committed.
    pub boundary: Option<DateTime<Utc>>,
    /// The field that alone tells versions apart.
    pub row_version: Option<DottedPath>,
    /// Rows that a walk does not see are retired only among those that share these fields with a row
    /// that it does see. Empty: among all.
    pub within: Vec<DottedPath>,
}

/// The field that a key made of a hash is put into. No API has fields with a control character in front.
pub const HASHED_KEY: &str = "\u{1}key";

/// What a key is a hash of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyHash {
    /// The whole record.
    Whole,
    Fields(Vec<DottedPath>),
}

/// What tells which of two records with one key counts. Values are compared as numbers and instants;
/// where one of the two is neither, the record that came last counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub field: VersionField,
    /// The record with the lowest value counts, and not the one with the highest.
    pub lowest: bool,
}

/// Where a record's version stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionField {
    /// In the field of the cursor, which privacy rules may keep from the rows.
    Cursor(DottedPath),
    Path(DottedPath),
}

impl Version {
    /// Path of the field.
    #[must_use]
    pub fn path(&self) -> &DottedPath {
        match &self.field {
            VersionField::Cursor(path) | VersionField::Path(path) => path,
        }
    }
}

/// How many of a run's records may be rejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    Records(u64),
    /// Of the records that were read.
    Percent(f64),
}

/// What is kept of a rejected record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Key,
    /// The record too, as the privacy rules leave it.
    Record,
}

impl Tolerance {
    #[must_use]
    pub fn covers(self, rejected: u64, read: u64) -> bool {
        match self {
            Self::Records(most) => rejected <= most,
            // Counts of records are far below the numbers that a double cannot tell apart.
            #[expect(clippy::cast_precision_loss, reason = "see above")]
            Self::Percent(most) => rejected as f64 * 100.0 <= most * read as f64,
        }
    }
}

/// How records that are gone are noticed, and what becomes of their rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletes {
    pub mode: DeleteMode,
    /// False: rows stay and get the time in `_deleted_at`.
    pub hard: bool,
    /// Under snapshot: a larger share of the rows is not deleted at once, unless it is `floor` rows or fewer.
    pub max_fraction: f64,
    pub floor: u64,
    /// The field that says that a record is gone.
    pub flag: Option<Flag>,
    /// The condition that says so, of the record before the privacy rules.
    pub when: Option<Program>,
}

/// A field of a record that says that the record is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Flag {
    pub field: DottedPath,
    /// The values that say so; `None`: every one but null and false.
    pub values: Option<Vec<Value>>,
}

/// Another endpoint that lists what is gone.
#[derive(Debug, Clone)]
pub struct DeleteFeed {
    pub endpoint: Endpoint,
    /// Fields of its records, one for each of the resource's key.
    pub key: Vec<DottedPath>,
    pub steps: Vec<ProcessingStep>,
    /// Records that it may list in one run.
    pub max_records: u64,
    /// Hash of what decides the meaning of its cursor.
    pub fingerprint: String,
}

/// How records that are gone are noticed.
#[derive(Debug, Clone, PartialEq)]
pub enum DeleteMode {
    None,
    /// A proven, complete, full walk did not see them.
    Snapshot,
    /// A field of theirs says so.
    Flag,
    /// Another endpoint lists them.
    Feed,
}

/// When the rows in hand are committed: whichever bound is met first.
#[derive(Debug, Clone)]
pub struct Batch {
    pub rows: usize,
    pub bytes: usize,
    pub wait: Duration,
}

section! {
    /// One API with one credential set: the dictionary of dlt's `rest_api` source.
    pub(super) struct SourceFile {
        /// Tenant of the source, for a description that serves several.
        account: String = "default",
        /// How to talk to the API.
        client: Tried<ClientFile>; required,
        /// As in a resource, for those that do not say otherwise.
        max_table_nesting: u32,
        /// As in a resource, for those that do not say otherwise. A resource's own contract replaces this one as a whole.
        schema_contract: ContractShort,
        /// Values that endpoints name as `{vars.<name>}`: a tenant, a region. A number or boolean stays one where it is the whole of a value in `json`.
        vars: IndexMap<String, Json>,
        /// Privacy rules of all resources; those of a resource add to them.
        privacy: Tried<PrivacyFile>,
        /// The endpoints, each filling one table. A bare text stands for its `name`.
        resources: Vec<Tried<Short<ResourceFile>>>; required,
        /// What all resources have in common. A resource's own key replaces the one here; in `endpoint`, `params` and `json`, and in `columns`, keys are merged one by one.
        resource_defaults: Tried<ResourceFile>,
        /// Taken for dlt's sake, as in a resource.
        parallelized: bool,
        /// Taken for dlt's sake: rows of lists always know their root row, in `_rosterd_root_id`.
        root_key: bool,
    }
    refused [
        "name": "is the key under which the source stands",
        "section": "names dlt's own settings",
        "schema": "is a Python object of dlt; use `columns`",
    ]
}

/// What a source takes from the rest of the file.
pub(super) struct Given<'a> {
    pub(super) schema: Option<&'a str>,
    pub(super) timezone: chrono_tz::Tz,
    pub(super) privacy_keys: &'a [PrivacyKey],
    pub(super) has_credential_store: bool,
}

impl SourceFile {
    pub(super) fn resolve(
        &mut self,
        name: &str,
        given: &Given<'_>,
        node: &Node,
        problems: &mut Problems,
    ) -> Option<Source> {
        check_name(name, node, problems);
        if given.schema.is_none() && is_reserved_schema(name) {
            node.wrong(
                problems,
                "tables go to a schema with the source's name, and this one is taken; rename the source or set `database.schema`",
            );
        }
        if self.account.is_empty() || self.account.contains(|c: char| c == '/' || c.is_control()) {
            node.nearest(&["account"])
                .wrong(problems, "expected a name without `/`");
        }
        let client_node = node.nearest(&["client"]);
        let client = self
            .client
            .0
            .as_ref()
            .and_then(|client| client.resolve(client_node, problems));
        let refreshes = client
            .as_ref()
            .and_then(|client| client.auth.as_ref()?.refresh());
        if refreshes.is_some() && !given.has_credential_store {
            client_node.nearest(&["auth"]).wrong(
                problems,
                "needs `credential_store.key`: the API replaces this token, and the new one must be kept",
            );
        }
        if node
            .get("resource_defaults")
            .and_then(|defaults| defaults.get("name"))
            .is_some()
        {
            node.nearest(&["resource_defaults", "name"])
                .wrong(problems, "a name belongs to one resource");
        }
        let list = node.nearest(&["resources"]);
        if self.resources.is_empty() {
            list.wrong(problems, "expected at least one resource");
        }
        let mut vars: IndexMap<String, Value> = IndexMap::new();
        for (name, json) in self.vars.iter().flatten() {
            if json.value.is_null() || json.value.is_array() || json.value.is_object() {
                node.nearest(&["vars", name])
                    .wrong(problems, "expected a text, a number or a boolean");
            }
            vars.insert(name.clone(), json.value.clone());
        }
        let all: Vec<String> = self
            .resources
            .iter()
            .filter_map(|file| file.0.as_ref()?.0.name.clone())
            .collect();
        let shared = Shared {
            names: &all,
            schema: given.schema.unwrap_or(name),
            base_url: self.client.0.as_ref().map(|client| &client.base_url),
            vars: &vars,
            timezone: given.timezone,
            max_table_nesting: self.max_table_nesting,
            schema_contract: self.schema_contract.as_ref(),
            privacy_keys: given.privacy_keys,
        };
        let mut names: Vec<String> = Vec::new();
        let mut drafts = Vec::new();
        let mut whole = true;
        for (file, node) in self
            .resources
            .iter_mut()
            .zip(list.list().into_iter().flatten())
        {
            let Some(Short(file)) = &mut file.0 else {
                whole = false;
                continue;
            };
            if let Some(name) = &file.name {
                if names.contains(name) {
                    node.nearest(&["name"])
                        .wrong(problems, "another resource has this name");
                }
                names.push(name.clone());
            }
            let rules = file.parent_rules();
            match file.resolve(&shared, node, problems) {
                Some(resource) => {
                    let auth = client.as_ref().and_then(|client| client.auth.as_ref());
                    check_auth(&resource.endpoint, auth, node, problems);
                    drafts.push(Draft {
                        is_synced: file.is_synced() && resource.values.is_none(),
                        resource,
                        rules,
                        node,
                    });
                }
                None => whole = false,
            }
        }
        let resources = match whole {
            true => family::join(&drafts, problems),
            false => None,
        };
        // They lie under each resource by now; shown again they would only be read twice.
        self.resource_defaults = None;
        self.privacy = None;
        let client = client?;
        Some(Source {
            name: name.to_owned(),
            account: self.account.clone(),
            client,
            resources: resources?,
        })
    }
}

/// A key in the body needs a body that has room for it; what must be kept is kept once.
fn check_auth(endpoint: &Endpoint, auth: Option<&Auth>, node: &Node, problems: &mut Problems) {
    if endpoint
        .auth
        .as_ref()
        .is_some_and(|auth| auth.refresh().is_some())
    {
        node.nearest(&["endpoint", "auth"]).wrong(
            problems,
            "a refresh token belongs in `client.auth`: one is kept for the source",
        );
    }
    let auth = endpoint.auth.as_ref().or(auth);
    if auth.and_then(Auth::body_place).is_none() {
        return;
    }
    let at = node.nearest(&["endpoint"]);
    if endpoint.method == Method::Get {
        at.nearest(&["method"]).wrong(
            problems,
            "the credential goes into the body: needs `method: POST`",
        );
    }
    let key = match &endpoint.body {
        Some(Body::Json(json)) if !json.is_object() => "json",
        Some(Body::Raw(_)) => "data",
        Some(Body::Json(_) | Body::Form(_)) | None => return,
    };
    at.nearest(&[key]).wrong(
        problems,
        "the credential goes into the body: expected a map",
    );
}

/// Names of sources stand in commands, URLs and variables; environment overrides reach lower case only.
fn check_name(name: &str, node: &Node, problems: &mut Problems) {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    if !plain || name.len() > 63 {
        node.wrong(
            problems,
            "expected a name of at most 63 lower-case letters, digits, `_` or `-`, a letter first",
        );
    }
}

/// Lays `resource_defaults` under every resource and the client's paginator under every endpoint.
///
/// Done on the tree, so that a default's problem is told where the default stands. The rules are
/// dlt's: a resource's key replaces the default's, also when it is null; within `endpoint` the same,
/// but `params` and `json` are merged key by key, one level deep.
pub(super) fn spread_defaults(mut source: Node) -> Node {
    let mut defaults = source
        .get("resource_defaults")
        .filter(|node| node.map().is_some())
        .cloned();
    if let Some(defaults) = &mut defaults {
        defaults.remove("name");
        lengthen(defaults);
    }
    let mut privacy = source
        .get("privacy")
        .filter(|node| node.map().is_some())
        .cloned();
    if let Some(privacy) = &mut privacy {
        privacy::lengthen(privacy);
    }
    let paginator = source
        .get("client")
        .and_then(|client| client.get("paginator"))
        .filter(|node| !node.is_null())
        .cloned();
    let Content::Map(map) = &mut source.content else {
        return source;
    };
    if let Some(entry) = map.get_mut("privacy") {
        privacy::lengthen(&mut entry.node);
    }
    if let Some(entry) = map.get_mut("resource_defaults")
        && entry.node.map().is_some()
    {
        lengthen(&mut entry.node);
    }
    let Some(entry) = map.get_mut("resources") else {
        return source;
    };
    let Content::List(list) = &mut entry.node.content else {
        return source;
    };
    for resource in list {
        if resource.scalar().is_some() {
            *resource = resource.clone().under("name");
        }
        if resource.map().is_none() {
            continue;
        }
        lengthen(resource);
        let own_endpoint = resource.get("endpoint").is_some();
        if let Some(defaults) = &defaults {
            *resource = merged(defaults, resource, |key, default, own| match key {
                "endpoint" => Some(merged(default, own, |key, default, own| {
                    matches!(key, "params" | "json").then(|| merged(default, own, |_, _, _| None))
                })),
                "columns" => Some(merged(default, own, |_, default, own| {
                    Some(merged(default, own, |_, _, _| None))
                })),
                "privacy" => Some(privacy::add_up(default, own)),
                "parent" => Some(merged(default, own, |_, _, _| None)),
                _ => None,
            });
        }
        if let (Some(rules), Content::Map(map)) = (&privacy, &mut resource.content) {
            match map.get_mut("privacy") {
                Some(entry) => entry.node = privacy::add_up(rules, &entry.node),
                None => resource.insert("privacy", rules.clone()),
            }
        }
        if resource
            .get("values")
            .is_some_and(|values| !values.is_null())
            && !own_endpoint
        {
            // Nothing is asked for.
            let path = super::tree::join(&resource.path, "endpoint");
            let mut endpoint = Node::empty(problem::Place::Default, path.clone());
            let paginator = Node::default_value("single_page", path);
            endpoint.insert("paginator", paginator);
            resource.insert("endpoint", endpoint);
        }
        if resource.get("endpoint").is_none_or(Node::is_null) {
            let path = super::tree::join(&resource.path, "endpoint");
            let place = resource.nearest(&["name"]).place.clone();
            resource.insert("endpoint", Node::empty(place, path));
        }
        if let Content::Map(map) = &mut resource.content
            && let Some(entry) = map.get_mut("endpoint")
        {
            super::incremental::lift(&mut entry.node);
        }
        let name = resource.get("name").and_then(Node::scalar);
        let name = name.map(|name| name.text.clone()).unwrap_or_default();
        if let Content::Map(map) = &mut resource.content
            && let Some(entry) = map.get_mut("endpoint")
            && entry.node.get("paginator").is_none_or(Node::is_null)
        {
            let path = entry.node.get("path").and_then(Node::scalar);
            if is_single_entity(path.map_or(&*name, |path| &path.text)) {
                let at = super::tree::join(&entry.node.path, "paginator");
                let mut single = Node::default_value("single_page", at);
                single.place = entry.node.place.clone();
                entry.node.insert("paginator", single);
            }
        }
        if let (Some(paginator), Content::Map(map)) = (&paginator, &mut resource.content)
            && let Some(entry) = map.get_mut("endpoint")
            && entry.node.get("paginator").is_none_or(Node::is_null)
        {
            entry.node.insert("paginator", paginator.clone());
        }
    }
    source
}

/// Whether a path leads to one thing, as in dlt: its last segment is named by a placeholder. A
/// variable is a constant of the configuration and says nothing of the kind.
fn is_single_entity(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let last = path.trim_end_matches('/').rsplit('/').next();
    template::pieces(last.unwrap_or_default()).is_ok_and(|pieces| {
        let named = |piece: &Piece| {
            matches!(piece, Piece::Place(place) if !matches!(place, Place::Variable(_)))
        };
        pieces.iter().any(named)
    })
}

/// Writes the short forms of an endpoint and of privacy rules as the long ones.
fn lengthen(resource: &mut Node) {
    if let Content::Map(map) = &mut resource.content
        && let Some(entry) = map.get_mut("privacy")
    {
        privacy::lengthen(&mut entry.node);
    }
    if let Some(endpoint) = resource.get("endpoint")
        && endpoint.scalar().is_some()
    {
        let long = endpoint.clone().under("path");
        if let Content::Map(map) = &mut resource.content
            && let Some(entry) = map.get_mut("endpoint")
        {
            entry.node = long;
        }
    }
}

/// The defaults with the entries of `own` over them. `deeper` may merge two maps under one key.
fn merged(
    defaults: &Node,
    own: &Node,
    deeper: impl Fn(&str, &Node, &Node) -> Option<Node>,
) -> Node {
    let (Content::Map(below), Content::Map(above)) = (&defaults.content, &own.content) else {
        return own.clone();
    };
    let mut map = below.clone();
    for (key, entry) in above {
        let mut entry = entry.clone();
        if let Some(default) = below.get(key)
            && default.node.map().is_some()
            && entry.node.map().is_some()
            && let Some(node) = deeper(key, &default.node, &entry.node)
        {
            entry.node = node;
        }
        map.insert(key.clone(), entry);
    }
    Node {
        place: own.place.clone(),
        path: own.path.clone(),
        content: Content::Map(map),
    }
}
