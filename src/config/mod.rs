//! The YAML as typed values.
//!
//! Two shapes stand here. What the file may say (optional everywhere, dlt's spelling) is private to
//! the loader; what the rest of the program gets is the resolved [`Config`]: defaults merged, paths
//! and expressions parsed, every value present. A stage gets its own section, never the whole.
//!
//! The way of the file: text -> tree with places (`tree`) -> environment laid over it (`layers`) ->
//! references filled (`interpolate`) -> `resource_defaults` spread -> sections decoded (`decode`,
//! one file per section) -> resolved and checked. serde's derive is not used for the sections: it
//! stops at the first error, and an operator wants all of them at once.

pub mod database;

pub mod daemon;

pub mod source;

pub mod privacy;

pub mod credential_store;

mod client;

pub mod auth;

pub mod token;

mod resource;

pub mod name;

pub mod columns;

pub mod contract;

mod disposition;

mod deletes;

mod rejects;

pub mod endpoint;

pub mod paginator;

pub mod params;

pub mod response;

pub mod export;

pub mod rules;

pub mod incremental;

pub mod spelled;

pub mod schedule;

pub mod template;

pub mod jq;

pub mod parent;

mod family;

pub mod secret;

mod tree;

mod layers;

mod interpolate;

mod decode;

mod units;

mod path;

pub mod problem;

/// Hosts to which credentials may go.
pub mod hosts;

mod vars;

mod effective;

mod reference;

pub mod from_dlt;

use std::{collections::HashMap, fs::File, io::Read, path::Path};

use indexmap::IndexMap;
use serde_json::Value;
use url::Url;

pub use daemon::Daemon;
pub use database::Database;
pub use layers::Environment;
pub use problem::{Place, Problem, Problems};
pub use reference::reference;
pub use secret::Secret;
pub use source::{Resource, Source};

use auth::Auth;
use decode::{Decode, Tried, section};
use source::{Given, SourceFile};
use tree::{Content, Filled, Node};

/// The whole effective configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub database: Database,
    pub daemon: Daemon,
    /// Keys for hashed fields, the present one first.
    pub privacy_keys: Vec<privacy::PrivacyKey>,
    /// Keys that encrypt kept credentials, the present one first.
    pub credential_keys: Vec<credential_store::StoreKey>,
    /// In the order of the file.
    pub sources: Vec<Source>,
    /// Hash of the effective configuration without its secrets; stands in `rosterd.workers` and `rosterd.runs`.
    pub fingerprint: String,
    /// What is allowed and unwise.
    pub warnings: Vec<Problem>,
    /// The file with all defaults and without secrets.
    pub effective: Value,
    /// Values from outside that stand in parameters, headers and bodies.
    filled: Vec<Secret>,
}

section! {
    /// The configuration of rosterd.
    struct ConfigFile {
        /// Where the tables live.
        database: Tried<database::DatabaseFile>; section,
        /// The process itself.
        daemon: Tried<daemon::DaemonFile>; section,
        /// Keys for hashed fields and for the list of erased persons.
        privacy: Tried<privacy::PrivacyKeysFile>,
        /// Keys for credentials that the API replaces and rosterd keeps.
        credential_store: Tried<credential_store::CredentialStoreFile>,
        /// The APIs, by names of your choice: lower-case letters, digits, `_`, `-`.
        sources: Tried<IndexMap<String, Tried<SourceFile>>>,
    }
}

/// Reads, fills and checks the file; nothing is requested from anywhere.
///
/// # Errors
/// All problems of the file at once, in its order. No message holds a value of the file.
pub fn load(path: &Path, environment: &Environment) -> Result<Config, Problems> {
    let file = path.display().to_string();
    let mut problems = Problems::default();
    let text = match read(path) {
        Ok(text) => text,
        Err(message) => {
            problems.push(&Place::whole(&file), "", message);
            return Err(problems);
        }
    };
    parse(&file, &text, environment, is_open_to_others(path))
}

/// Like [`load`], from a text and without any environment.
///
/// # Errors
/// As [`load`].
pub fn from_str(text: &str) -> Result<Config, Problems> {
    from_str_with(text, &Environment::default())
}

/// Like [`load`], from a text.
///
/// # Errors
/// As [`load`].
pub fn from_str_with(text: &str, environment: &Environment) -> Result<Config, Problems> {
    from_named("rosterd.yaml", text, environment)
}

/// Like [`from_str_with`], with a name of the file for the problems.
///
/// # Errors
/// As [`load`].
pub fn from_named(file: &str, text: &str, environment: &Environment) -> Result<Config, Problems> {
    parse(file, text, environment, false)
}

/// The JSON Schema of what the file may say, for editors and for `rosterd schema`.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<ConfigFile>();
    schema.insert("title".into(), "rosterd".into());
    schema.to_value()
}

impl Config {
    /// The effective configuration as YAML: all defaults written out, secrets and values from outside as `***`.
    #[must_use]
    pub fn to_yaml_masked(&self) -> String {
        effective::to_yaml(&self.effective)
    }

    /// The texts of [`Config::secrets`], for the log that covers them.
    #[must_use]
    pub fn secret_texts(&self) -> Vec<String> {
        let secrets = self.secrets();
        secrets
            .iter()
            .map(|secret| secret.expose().to_owned())
            .collect()
    }

    /// Every text that must not be seen anywhere but at its place: for the last filter before logs.
    ///
    /// Short values stand in too where they are credentials. Encoded forms (percent, base64) are the filter's affair.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let mut secrets = self.filled.clone();
        if let Some(url) = &self.database.url {
            secrets.push(url.clone());
            // In the URL the password is encoded; a message would hold it as it is.
            if let Ok(url) = Url::parse(url.expose()) {
                let encoded = url.password().map(str::to_owned);
                let plain = encoded.as_ref().map(|password| {
                    let pair = password.replace('+', "%2B").replace('&', "%26");
                    url::form_urlencoded::parse(format!("p={pair}").as_bytes())
                        .map(|(_, password)| password.into_owned())
                        .collect::<String>()
                });
                let in_query = url
                    .query_pairs()
                    .filter(|(name, _)| name == "password")
                    .map(|(_, value)| value.into_owned());
                let all = encoded.into_iter().chain(plain).chain(in_query);
                secrets.extend(all.map(Secret::new));
            }
        }
        secrets.extend(self.daemon.admin.token.clone());
        secrets.extend(self.privacy_keys.iter().map(|key| key.secret.clone()));
        secrets.extend(self.credential_keys.iter().map(|key| key.secret.clone()));
        for source in &self.sources {
            let headers = source.client.headers.iter();
            secrets.extend(
                headers
                    .filter(|(name, _)| {
                        !PUBLIC_HEADERS.contains(&name.to_ascii_lowercase().as_str())
                    })
                    .map(|(_, value)| value.clone()),
            );
            secrets.extend(source.client.auth.iter().flat_map(Auth::secrets));
            secrets.extend(source.client.network.secrets());
            let endpoints = source.resources.iter().map(|resource| &resource.endpoint);
            let own = endpoints.filter_map(|endpoint| endpoint.auth.as_ref());
            secrets.extend(own.flat_map(Auth::secrets));
        }
        secrets.retain(|secret| !secret.expose().is_empty());
        secrets
    }
}

/// Headers whose values are words of the trade: masked wherever they appear, they would blot out the logs.
const PUBLIC_HEADERS: [&str; 6] = [
    "accept",
    "accept-language",
    "cache-control",
    "content-type",
    "prefer",
    "user-agent",
];

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such file (`rosterd init` writes one)".to_owned()
        }
        kind => format!("cannot be read: {kind}"),
    };
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(tree::MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())
}

fn parse(
    file: &str,
    text: &str,
    environment: &Environment,
    open_to_others: bool,
) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    if text.len() as u64 > tree::MAX_BYTES {
        problems.push(&Place::whole(file), "", "larger than 1 MiB");
        return Err(problems);
    }
    let config = Node::parse(file, text, &mut problems)
        .and_then(|root| build(root, environment, open_to_others, &mut problems));
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems.sorted()),
    }
}

fn build(
    root: Node,
    environment: &Environment,
    open_to_others: bool,
    problems: &mut Problems,
) -> Option<Config> {
    let root = match root.is_null() {
        true => Node::empty(root.place, root.path),
        false => root,
    };
    let mut root = layers::overlay(root, environment, problems);
    interpolate::fill(&mut root, environment, problems);
    fill_vars(&mut root, problems);
    spread_defaults(&mut root);
    let mut file = ConfigFile::decode(&root, problems)?;
    let (database_node, daemon_node) = (root.nearest(&["database"]), root.nearest(&["daemon"]));
    let database = file
        .database
        .0
        .as_ref()
        .map(|file| file.resolve(database_node, problems));
    let daemon = file
        .daemon
        .0
        .as_ref()
        .map(|file| file.resolve(daemon_node, problems));
    let schema = database
        .as_ref()
        .and_then(|database| database.schema.clone());
    let timezone = daemon
        .as_ref()
        .map_or(chrono_tz::UTC, |daemon| daemon.timezone);
    let privacy_keys = match &file.privacy {
        Some(Tried(Some(file))) => file.resolve(root.nearest(&["privacy"]), problems),
        Some(Tried(None)) | None => Vec::new(),
    };
    let credential_keys = match &file.credential_store {
        Some(Tried(Some(file))) => file.resolve(root.nearest(&["credential_store"]), problems),
        Some(Tried(None)) | None => Vec::new(),
    };
    let given = Given {
        has_credential_store: file.credential_store.is_some(),
        schema: schema.as_deref(),
        timezone,
        privacy_keys: &privacy_keys,
    };
    let mut sources = Vec::new();
    let files = file.sources.as_mut().and_then(|sources| sources.0.as_mut());
    for (name, file) in files.into_iter().flatten() {
        let node = root.nearest(&["sources", name]);
        if let Some(file) = &mut file.0 {
            sources.extend(file.resolve(name, &given, node, problems));
        }
    }
    check_tables(&sources, &root, problems);
    check_list_tables(&sources, &root, problems);
    let mut warnings = Problems::default();
    warn(&sources, &root, open_to_others, &mut warnings);
    let mut config = Config {
        fingerprint: String::new(),
        filled: filled(&root),
        database: database?,
        daemon: daemon?,
        privacy_keys,
        credential_keys,
        sources,
        warnings: warnings.sorted().into_vec(),
        effective: file.show(),
    };
    // Fields of type `Secret` are masked by now; this is for a secret that was filled in elsewhere.
    let secrets = config.secrets();
    mask(&mut config.effective, &secrets);
    config.fingerprint = resource::hash(&config.effective);
    Some(config)
}

/// Puts `***` for every secret within the texts of a value.
fn mask(value: &mut Value, secrets: &[Secret]) {
    match value {
        Value::String(text) => {
            for secret in secrets {
                if secret.expose().len() >= SHORTEST_FILLED && text.contains(secret.expose()) {
                    *text = text.replace(secret.expose(), tree::MASK);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| mask(value, secrets)),
        Value::Object(map) => map.values_mut().for_each(|value| mask(value, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn fill_vars(root: &mut Node, problems: &mut Problems) {
    if let Content::Map(map) = &mut root.content
        && let Some(sources) = map.get_mut("sources")
        && let Content::Map(sources) = &mut sources.node.content
    {
        for entry in sources.values_mut() {
            vars::fill(&mut entry.node, problems);
        }
    }
}

fn spread_defaults(root: &mut Node) {
    if let Content::Map(map) = &mut root.content
        && let Some(sources) = map.get_mut("sources")
        && let Content::Map(sources) = &mut sources.node.content
    {
        for entry in sources.values_mut() {
            entry.node = source::spread_defaults(entry.node.clone());
        }
    }
}

/// Two resources in one table would overwrite each other's rows.
fn check_tables(sources: &[Source], root: &Node, problems: &mut Problems) {
    let mut taken: HashMap<(String, String), String> = HashMap::new();
    for source in sources {
        for resource in &source.resources {
            let key = (
                name::identifier(&resource.schema),
                name::identifier(&resource.table),
            );
            let whole = format!("{}/{}", source.name, resource.name);
            if let Some(other) = taken.insert(key, whole.clone())
                && other != whole
            {
                let node = resource_node(root, &source.name, &resource.name);
                node.nearest(&["table_name"]).wrong(
                    problems,
                    format!(
                        "ends in the same table as {other}; give one of them another `table_name`"
                    ),
                );
            }
        }
    }
}

/// The tables of a resource's lists begin with the name of its table and two underscores.
fn check_list_tables(sources: &[Source], root: &Node, problems: &mut Problems) {
    let all = || {
        let sources = sources.iter();
        sources.flat_map(|source| source.resources.iter().map(move |one| (source, one)))
    };
    for (source, parent) in all().filter(|(_, one)| one.max_table_nesting > Some(0)) {
        let schema = name::identifier(&parent.schema);
        let prefix = name::identifier(&parent.table) + name::SEPARATOR;
        for (other, resource) in all().filter(|(_, one)| name::identifier(&one.schema) == schema) {
            if name::identifier(&resource.table).starts_with(&prefix) {
                let node = resource_node(root, &other.name, &resource.name);
                node.nearest(&["table_name"]).wrong(
                    problems,
                    format!(
                        "has the name of a table for lists of {}/{}; give one of them another `table_name`",
                        source.name, parent.name
                    ),
                );
            }
        }
    }
}

fn resource_node<'a>(root: &'a Node, source: &str, resource: &str) -> &'a Node {
    let list = root.nearest(&["sources", source, "resources"]);
    list.list()
        .into_iter()
        .flatten()
        .find(|node| {
            node.get("name")
                .and_then(Node::scalar)
                .is_some_and(|name| name.text == resource)
        })
        .unwrap_or(list)
}

fn warn(sources: &[Source], root: &Node, open_to_others: bool, warnings: &mut Problems) {
    if sources.is_empty() {
        root.wrong(warnings, "no sources: there is nothing to sync");
    }
    for source in sources {
        for resource in &source.resources {
            let endpoint = &resource.endpoint;
            let node = resource_node(root, &source.name, &resource.name).nearest(&["endpoint"]);
            let start_param = match &endpoint.incremental {
                Some(incremental) => incremental.start_param.as_deref(),
                None => None,
            };
            if endpoint.incremental.is_some() && !endpoint.asks_for_changes() {
                node.nearest(&["incremental"]).wrong(
                    warnings,
                    "without `start_param` or `{incremental.start_value}` every walk reads everything",
                );
            }
            let own = endpoint
                .paginator
                .query_params()
                .into_iter()
                .chain(start_param);
            for param in own.filter_map(|name| node.nearest(&["params"]).get(name)) {
                param.wrong(
                    warnings,
                    "the walk itself sets this parameter; the value here is not sent",
                );
            }
        }
    }
    if open_to_others {
        root.each_scalar(&mut |node, scalar| {
            if scalar.filled == Filled::No && is_secret_path(&node.path) {
                node.wrong(
                    warnings,
                    "a secret stands here and other users can read the file: use ${VAR}, ${file:/path} or ${credential:name}, or chmod 600",
                );
            }
        });
    }
}

/// Whether a value at this place is a credential (and not only treated like one, as all client headers are).
fn is_secret_path(path: &str) -> bool {
    let last = path.rsplit(['.', '[']).next().unwrap_or_default();
    let name = last.trim_matches(['"', ']']).to_ascii_lowercase();
    if path == "daemon.admin.token" || path == "database.url" || is_key_secret(path) {
        return true;
    }
    if !path.starts_with("sources.") {
        return false;
    }
    match path.contains(".client.headers") {
        true => ["auth", "key", "token", "secret", "cookie"]
            .iter()
            .any(|word| name.contains(word)),
        false => {
            [".client.auth.", ".endpoint.auth."]
                .iter()
                .any(|part| path.contains(part))
                && matches!(
                    name.as_str(),
                    "api_key" | "token" | "password" | "client_secret"
                )
        }
    }
}

/// Whether the secret of a key stands here.
fn is_key_secret(path: &str) -> bool {
    ["privacy.", "credential_store."]
        .iter()
        .any(|section| path.starts_with(section))
        && path.ends_with(".secret")
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}

/// Shorter values from outside are words such as `1` or `true`: masking them would blot out the logs.
const SHORTEST_FILLED: usize = 6;

/// Values from outside in places where a credential may hide, and all values of files and credentials.
fn filled(root: &Node) -> Vec<Secret> {
    let mut secrets = Vec::new();
    root.each_scalar(&mut |node, scalar| {
        let suspect = match scalar.filled {
            Filled::No => false,
            Filled::Secret => true,
            Filled::Variable => [
                ".client.auth",
                ".endpoint.auth",
                ".endpoint.params",
                ".endpoint.headers",
                ".endpoint.json",
            ]
            .iter()
            .any(|part| node.path.contains(part)),
        };
        if suspect && scalar.text.len() >= SHORTEST_FILLED {
            secrets.push(Secret::new(scalar.text.clone()));
        }
    });
    secrets
}
