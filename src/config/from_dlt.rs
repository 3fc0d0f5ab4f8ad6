//! A dictionary of dlt's `rest_api` source, as a configuration.
//!
//! Almost all of it means the same and is taken over as it stands. What this module knows is the
//! rest: values that are Python objects, hints that only dlt has a use for, secrets in the text,
//! and what dlt guesses or lets pass and rosterd wants written down. Every change is told, because
//! nobody reads a converted file as closely as one of their own.

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{
    Environment,
    client::ClientFile,
    columns::ColumnFile,
    decode::Refused,
    effective, from_named,
    incremental::IncrementalFile,
    problem::{Place, Problems},
    resource::ResourceFile,
    source::SourceFile,
    token::ClientCredentialsFile,
    tree::{Node, join},
};

/// What became of a dictionary.
#[derive(Debug)]
pub struct Converted {
    /// The configuration, with the changes in the comments at its head.
    pub yaml: String,
    pub changes: Vec<Change>,
    /// Environment variables that the configuration needs, in the order of the file.
    pub variables: Vec<String>,
    /// What `check` still finds once the variables are set.
    pub problems: Problems,
}

/// One thing that is not as it stood in the dictionary. Holds no value of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Dotted path in the configuration.
    pub path: String,
    pub what: String,
}

/// Keys that a configuration takes for dlt's sake only, and why nothing is lost without them. Those
/// that it refuses are told by the sections themselves.
const DROPPED: &[(Section, &str, &str)] = &[
    (Section::Source, "type", "is dlt's"),
    (
        Section::Source,
        "root_key",
        "rows of lists always know their root row (`_rosterd_root_id`)",
    ),
    (Section::Source, "parallelized", SIDE_BY_SIDE),
    (Section::Resource, "parallelized", SIDE_BY_SIDE),
    (
        Section::Resource,
        "file_format",
        "rows go to Postgres by COPY",
    ),
    (
        Section::Resource,
        "references",
        "rosterd makes no foreign keys between resources, nor does dlt in Postgres",
    ),
    (
        Section::Column,
        "description",
        "stands in dlt's schema only",
    ),
    (Section::Column, "partition", WAREHOUSES),
    (Section::Column, "cluster", WAREHOUSES),
    (Section::Column, "sort", WAREHOUSES),
    (
        Section::Incremental,
        "primary_key",
        "rows at the cursor are read again and merged, never dropped by key",
    ),
    (
        Section::Incremental,
        "allow_external_schedulers",
        "is for orchestrators of Python",
    ),
];

const SIDE_BY_SIDE: &str = "resources run side by side under `client.limits`";
const WAREHOUSES: &str = "a matter of warehouses";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Source,
    Client,
    Auth,
    Resource,
    Column,
    Incremental,
}

impl Section {
    /// Keys that the section refuses, with the reason.
    fn refused(self) -> Refused {
        match self {
            Self::Source => SourceFile::REFUSED,
            Self::Client => ClientFile::REFUSED,
            Self::Auth => ClientCredentialsFile::REFUSED,
            Self::Resource => ResourceFile::REFUSED,
            Self::Column => ColumnFile::REFUSED,
            Self::Incremental => IncrementalFile::REFUSED,
        }
    }
}

/// Reads a dictionary, JSON or YAML, of one source. `name`: what the source is called when it does not say so itself.
///
/// # Errors
/// When the text is neither, or not such a dictionary.
pub fn from_dlt(file: &str, text: &str, name: &str, out: &str) -> Result<Converted, Problems> {
    let mut problems = Problems::default();
    let root = Node::parse(file, text, &mut problems);
    let root = match root {
        Some(root) if problems.is_empty() => root,
        _ => return Err(problems.sorted()),
    };
    let mut refuse = |message: &str| {
        problems.push(&Place::whole(file), "", message);
        problems.clone()
    };
    let Value::Object(map) = root.to_json(false) else {
        return Err(refuse(
            "expected a dictionary with `client` and `resources`",
        ));
    };
    let sources = match map.get("sources") {
        Some(Value::Object(sources)) => sources.clone(),
        Some(_) => return Err(refuse("expected a map under `sources`")),
        None => [(name.to_owned(), Value::Object(map))]
            .into_iter()
            .collect(),
    };
    let mut converter = Converter::default();
    let mut converted = Map::new();
    for (name, source) in sources {
        let whole = source.get("client").is_some() && source.get("resources").is_some();
        let (Value::Object(source), true) = (source, whole) else {
            return Err(refuse(
                "expected a dictionary with `client` and `resources`",
            ));
        };
        let (name, source) = converter.source(&name, source);
        converted.insert(name, source);
    }
    let body = effective::to_yaml(&json!({ "sources": converted }));
    Ok(converter.finish(&body.replace("$${", "${"), out))
}

#[derive(Default)]
struct Converter {
    changes: Vec<Change>,
    /// Name -> the secret that it stands for.
    variables: IndexMap<String, String>,
    /// Name of the source at hand, as the beginning of a variable.
    prefix: String,
}

impl Converter {
    fn tell(&mut self, path: &str, what: impl Into<String>) {
        self.changes.push(Change {
            path: path.to_owned(),
            what: what.into(),
        });
    }

    fn source(&mut self, name: &str, mut source: Map<String, Value>) -> (String, Value) {
        let own = source.shift_remove("name");
        let given = own.as_ref().and_then(Value::as_str).unwrap_or(name);
        let name = source_name(given);
        self.prefix = variable_name(&name);
        let path = join("sources", &name);
        if name != given {
            self.tell(
                &path,
                "named in lower case: it is also the schema of the tables",
            );
        }
        self.drop_hints(&mut source, Section::Source, &path);
        if let Some(Value::Object(client)) = source.get_mut("client") {
            self.client(client, &join(&path, "client"));
        }
        let client = source.get("client").cloned().unwrap_or_default();
        let mut defaults = match source.shift_remove("resource_defaults") {
            Some(Value::Object(defaults)) => defaults,
            _ => Map::new(),
        };
        self.resource(&mut defaults, &join(&path, "resource_defaults"));
        let resources = match source.shift_remove("resources") {
            Some(Value::Array(resources)) => resources,
            _ => Vec::new(),
        };
        let mut kept = Vec::new();
        for resource in resources {
            let at = format!("{path}.resources[{}]", kept.len());
            match resource {
                Value::String(text) if is_python(&text) => {
                    self.tell(&at, "a Python object: left out");
                }
                Value::String(name) => kept.push(json!({ "name": name })),
                other => kept.push(other),
            }
            if let Some(Value::Object(resource)) = kept.last_mut() {
                self.resource(resource, &at);
                self.write_down(resource, &defaults, &client, &at);
            }
        }
        if !defaults.is_empty() {
            source.insert("resource_defaults".into(), defaults.into());
        }
        source.insert("resources".into(), kept.into());
        let mut source = Value::Object(source);
        self.drop_python(&mut source, &path);
        self.tell(
            &path,
            "has no schedule in dlt: runs on request until `schedule` is set",
        );
        (name, source)
    }

    fn client(&mut self, client: &mut Map<String, Value>, path: &str) {
        self.drop_hints(client, Section::Client, path);
        if let Some(auth) = client.shift_remove("auth")
            && let Some(auth) = self.auth(auth, &join(path, "auth"))
        {
            client.insert("auth".into(), auth);
        }
        if let Some(Value::Object(headers)) = client.get_mut("headers") {
            self.hide(headers, &join(path, "headers"));
        }
        self.paginator(client, path);
    }

    fn auth(&mut self, auth: Value, path: &str) -> Option<Value> {
        let mut auth = match auth {
            Value::Null => return None,
            Value::String(text) if is_python(&text) => {
                let known = [
                    ("BearerTokenAuth", "bearer"),
                    ("APIKeyAuth", "api_key"),
                    ("HttpBasicAuth", "http_basic"),
                ];
                let Some((_, kind)) = known.iter().find(|(class, _)| text.contains(class)) else {
                    self.tell(path, "a Python object: write this `auth` anew");
                    return None;
                };
                self.tell(
                    path,
                    "a Python object: its kind is kept, look at its other keys",
                );
                Map::from_iter([("type".to_owned(), json!(kind))])
            }
            Value::String(kind) => Map::from_iter([("type".to_owned(), json!(kind))]),
            Value::Object(auth) => auth,
            _ => return None,
        };
        self.drop_hints(&mut auth, Section::Auth, path);
        let kind = auth.get("type").and_then(Value::as_str).unwrap_or("bearer");
        // Required secrets: dlt also takes them from its own settings when they are not in the file.
        let secrets: &[&str] = match kind {
            "bearer" => &["token"],
            "api_key" => &["api_key"],
            "http_basic" => &["username", "password"],
            "oauth2_client_credentials" => &["client_id", "client_secret"],
            _ => &[],
        };
        for key in secrets {
            if auth.get(*key).is_none_or(Value::is_null) {
                let variable = self.variable(key, "");
                self.tell(
                    &join(path, key),
                    format!("comes from the variable {variable}; dlt looked it up in its settings"),
                );
                auth.insert((*key).to_owned(), reference(&variable));
            }
        }
        let all = [
            "token",
            "api_key",
            "username",
            "password",
            "client_secret",
            "refresh_token",
            "private_key",
            "private_key_passphrase",
        ];
        for key in all {
            if let Some(value) = auth.get_mut(key) {
                self.hide_value(key, value, &join(path, key));
            }
        }
        Some(Value::Object(auth))
    }

    /// A resource or the defaults of all.
    fn resource(&mut self, resource: &mut Map<String, Value>, path: &str) {
        self.drop_hints(resource, Section::Resource, path);
        self.columns(resource, &join(path, "columns"));
        let Some(Value::Object(endpoint)) = resource.get_mut("endpoint") else {
            return;
        };
        let path = join(path, "endpoint");
        if let Some(auth) = endpoint.shift_remove("auth")
            && let Some(auth) = self.auth(auth, &join(&path, "auth"))
        {
            endpoint.insert("auth".into(), auth);
        }
        for key in ["params", "headers", "json"] {
            if let Some(Value::Object(map)) = endpoint.get_mut(key) {
                self.hide(map, &join(&path, key));
            }
        }
        if let Some(Value::Object(params)) = endpoint.get("params") {
            for name in params
                .iter()
                .filter(|(_, v)| v.is_boolean())
                .map(|(n, _)| n)
            {
                let at = join(&join(&path, "params"), name);
                let what = "is sent as `true` or `false`; dlt sends `True` or `False`";
                self.changes.push(Change {
                    path: at,
                    what: what.into(),
                });
            }
        }
        self.paginator(endpoint, &path);
        if let Some(Value::Object(incremental)) = endpoint.get_mut("incremental") {
            self.incremental(incremental, &join(&path, "incremental"));
        }
        if let Some(Value::Array(actions)) = endpoint.get_mut("response_actions") {
            self.response_actions(actions, &join(&path, "response_actions"));
            if actions.is_empty() {
                endpoint.shift_remove("response_actions");
            }
        }
    }

    /// Hints of columns, which may be a list of maps with names.
    fn columns(&mut self, resource: &mut Map<String, Value>, path: &str) {
        let Some(columns) = resource.get_mut("columns") else {
            return;
        };
        if let Value::Array(list) = columns {
            let named = list.iter_mut().filter_map(|column| {
                let name = column.as_object_mut()?.shift_remove("name")?;
                Some((name.as_str()?.to_owned(), column.take()))
            });
            *columns = Value::Object(named.collect());
        }
        for (name, column) in columns.as_object_mut().into_iter().flatten() {
            if let Value::Object(column) = column {
                column.shift_remove("name");
                self.drop_hints(column, Section::Column, &join(path, name));
            }
        }
    }

    /// A paginator that is a Python object, as far as its class tells of it.
    fn paginator(&mut self, section: &mut Map<String, Value>, path: &str) {
        let Some(paginator) = section.get_mut("paginator") else {
            return;
        };
        let Some(text) = paginator.as_str().filter(|text| is_python(text)) else {
            return;
        };
        let known = [
            ("HeaderLinkPaginator", "header_link"),
            ("JSONLinkPaginator", "json_link"),
            ("JSONResponsePaginator", "json_link"),
            ("JSONResponseCursorPaginator", "cursor"),
            ("HeaderCursorPaginator", "header_cursor"),
            ("SinglePagePaginator", "single_page"),
        ];
        let found = known.iter().find(|(class, _)| text.contains(class));
        let path = join(path, "paginator");
        let Some((_, kind)) = found else {
            section.shift_remove("paginator");
            self.tell(&path, "a Python object: write this paginator anew");
            return;
        };
        *paginator = json!({ "type": kind });
        self.tell(
            &path,
            "a Python object: its kind is kept, look at its other keys",
        );
    }

    fn incremental(&mut self, incremental: &mut Map<String, Value>, path: &str) {
        self.drop_hints(incremental, Section::Incremental, path);
        if let Some(function) = incremental.get_mut("last_value_func")
            && let Some(text) = function.as_str()
        {
            match text {
                "<built-in function max>" => *function = json!("max"),
                "<built-in function min>" => *function = json!("min"),
                text if is_python(text) => {
                    incremental.shift_remove("last_value_func");
                    self.tell(
                        &join(path, "last_value_func"),
                        "a Python function: left out; the largest value is kept",
                    );
                }
                _ => {}
            }
        }
    }

    fn response_actions(&mut self, actions: &mut Vec<Value>, path: &str) {
        for (index, action) in actions.iter_mut().enumerate() {
            let at = format!("{path}[{index}]");
            if let Some(status) = action.get_mut("status_code")
                && let Some(number) = status.as_str().and_then(|text| text.parse::<u16>().ok())
            {
                *status = number.into();
                self.tell(
                    &join(&at, "status_code"),
                    "was a text, which dlt never finds; it is a number now and takes effect",
                );
            }
        }
        let before = actions.len();
        actions.retain(|action| {
            let callable = |value: &Value| value.as_str().is_some_and(is_python);
            !callable(action) && !action.get("action").is_some_and(callable)
        });
        if actions.len() < before {
            self.tell(
                path,
                "Python functions left out; say what they did with `when` and an action",
            );
        }
    }

    /// What dlt guesses, or lets pass, and rosterd wants written down.
    fn write_down(
        &mut self,
        resource: &mut Map<String, Value>,
        defaults: &Map<String, Value>,
        client: &Value,
        path: &str,
    ) {
        let given = |key: &str| resource.get(key).or_else(|| defaults.get(key));
        let endpoint = |key: &str| {
            let own = resource.get("endpoint").and_then(|own| own.get(key));
            own.or_else(|| defaults.get("endpoint").and_then(|below| below.get(key)))
                .filter(|value| !value.is_null())
        };
        let disposition = given("write_disposition");
        let word = disposition
            .and_then(|d| d.as_str().or_else(|| d.get("disposition")?.as_str()))
            .unwrap_or("append");
        let keyed = ["primary_key", "merge_key"]
            .iter()
            .any(|key| given(key).is_some())
            || [resource.get("columns"), defaults.get("columns")]
                .into_iter()
                .flatten()
                .filter_map(Value::as_object)
                .flat_map(Map::values)
                .any(|column| {
                    let hint = |key: &str| column.get(key) == Some(&Value::Bool(true));
                    hint("primary_key") || hint("merge_key")
                });
        let appends = word == "append" && disposition.is_none();
        let falls_back = word == "merge" && !keyed;

        let path_of_endpoint = match resource.get("endpoint") {
            Some(Value::String(text)) => Some(text.as_str()),
            Some(endpoint) => endpoint.get("path").and_then(Value::as_str),
            None => None,
        };
        let single = path_of_endpoint.is_some_and(|text| {
            let last = text.rsplit('/').next().unwrap_or_default();
            last.contains('{') && !last.contains('?')
        });
        let selector = endpoint("data_selector").is_some();
        let paginator = endpoint("paginator")
            .or_else(|| client.get("paginator"))
            .map(|paginator| paginator.get("type").unwrap_or(paginator));
        let guessed = paginator.is_none_or(|kind| kind == "auto");

        let at = join(path, "endpoint");
        if guessed && !single {
            let endpoint = long_endpoint(resource);
            endpoint.insert("paginator".into(), json!("auto"));
            self.tell(
                &join(&at, "paginator"),
                "dlt guesses it from the first answer, and so does `rosterd check --connect`: write down what it finds",
            );
        }
        if !selector && !single {
            self.tell(
                &join(&at, "data_selector"),
                "dlt guesses where the records are; without this key the whole answer is taken: look with `rosterd preview` and write it down",
            );
        }
        if falls_back {
            resource.insert("write_disposition".into(), json!("append"));
            self.tell(
                &join(path, "write_disposition"),
                "`merge` without a key appends in dlt, and is `append` here; give a `primary_key` to merge",
            );
        } else if appends {
            resource.insert("write_disposition".into(), json!("append"));
        }
    }

    fn drop_hints(&mut self, map: &mut Map<String, Value>, section: Section, path: &str) {
        let dropped = DROPPED.iter().filter(|(place, ..)| *place == section);
        let dropped = dropped.map(|(_, key, why)| (*key, *why));
        for (key, why) in dropped.chain(section.refused().iter().copied()) {
            if map.shift_remove(key).is_some() {
                self.tell(&join(path, key), format!("left out: {why}"));
            }
        }
    }

    /// Puts variables for the secrets among named values.
    fn hide(&mut self, map: &mut Map<String, Value>, path: &str) {
        for (name, value) in map.iter_mut().filter(|(name, _)| names_a_secret(name)) {
            self.hide_value(name, value, &join(path, name));
        }
    }

    fn hide_value(&mut self, name: &str, value: &mut Value, path: &str) {
        let text = match &*value {
            Value::String(text) if is_python(text) => String::new(),
            Value::String(text) if !text.contains('{') && !text.is_empty() => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return,
        };
        let variable = self.variable(name, &text);
        *value = reference(&variable);
        self.tell(
            path,
            format!("a secret in the file; comes from the variable {variable} now"),
        );
    }

    /// The variable for a secret: the same for the same, another for another.
    fn variable(&mut self, name: &str, secret: &str) -> String {
        let stem = format!("{}_{}", self.prefix, variable_name(name));
        let mut variable = stem.clone();
        let mut count = 1;
        while self
            .variables
            .get(&variable)
            .is_some_and(|other| other != secret)
        {
            count += 1;
            variable = format!("{stem}_{count}");
        }
        self.variables.insert(variable.clone(), secret.to_owned());
        variable
    }

    /// Leaves out what `json.dumps(..., default=repr)` makes of functions and objects.
    fn drop_python(&mut self, value: &mut Value, path: &str) {
        match value {
            Value::Object(map) => {
                let mut gone = Vec::new();
                for (key, value) in map.iter_mut() {
                    let at = join(path, key);
                    if value.as_str().is_some_and(is_python) {
                        gone.push(key.clone());
                        self.tell(&at, format!("a Python object: left out{}", instead_of(key)));
                    } else {
                        self.drop_python(value, &at);
                    }
                }
                for key in gone {
                    map.shift_remove(&key);
                }
                if map
                    .get("processing_steps")
                    .and_then(Value::as_array)
                    .is_some_and(Vec::is_empty)
                {
                    map.shift_remove("processing_steps");
                }
            }
            Value::Array(list) => {
                let before = list.len();
                for (index, item) in list.iter_mut().enumerate() {
                    self.drop_python(item, &format!("{path}[{index}]"));
                }
                list.retain(|item| {
                    !item.as_str().is_some_and(is_python)
                        && item.as_object().is_none_or(|map| !map.is_empty())
                });
                if list.len() < before && path.rsplit('.').next() != Some("processing_steps") {
                    self.tell(path, "Python objects left out");
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn finish(self, body: &str, out: &str) -> Converted {
        let variables: Vec<String> = self.variables.into_keys().collect();
        let mut yaml = String::from(
            "# From a dictionary of dlt's rest_api source, by `rosterd init --from-dlt`.\n",
        );
        let mut list = |title: &str, lines: &mut dyn Iterator<Item = String>| {
            let lines: Vec<String> = lines.map(|line| format!("#   {line}\n")).collect();
            if !lines.is_empty() {
                yaml.push_str(&format!("#\n# {title}\n{}", lines.concat()));
            }
        };
        list("Variables to set:", &mut variables.iter().cloned());
        list(
            "What had to change:",
            &mut self
                .changes
                .iter()
                .map(|change| format!("{}: {}", change.path, change.what)),
        );
        yaml.push_str(body);
        let environment =
            Environment::from_pairs(variables.iter().map(|name| (name.as_str(), "placeholder")));
        let problems = from_named(out, &yaml, &environment)
            .err()
            .unwrap_or_default();
        Converted {
            yaml,
            changes: self.changes,
            variables,
            problems,
        }
    }
}

/// The endpoint in its long form.
fn long_endpoint(resource: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let endpoint = resource.entry("endpoint").or_insert_with(|| json!({}));
    if let Value::String(path) = endpoint {
        *endpoint = json!({ "path": path });
    } else if !endpoint.is_object() {
        *endpoint = json!({});
    }
    endpoint.as_object_mut().expect("it was made one above")
}

fn reference(variable: &str) -> Value {
    format!("${{{variable}}}").into()
}

/// What to write where a function stood.
fn instead_of(key: &str) -> &'static str {
    match key {
        "filter" | "map" | "yield_map" => "; write this step as a jq program",
        _ => "",
    }
}

/// Whether a text is what Python's `repr` makes of a function or an object, or a lambda's source.
fn is_python(text: &str) -> bool {
    let shown = text.starts_with('<')
        && text.ends_with('>')
        && (text.contains(" at 0x")
            || text.starts_with("<function")
            || text.starts_with("<class")
            || text.starts_with("<built-in"));
    shown || text.starts_with("lambda ") || text.starts_with("lambda:")
}

/// Whether a parameter or header of this name usually holds a secret.
fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let holds = [
        "token",
        "secret",
        "password",
        "passwd",
        "api_key",
        "apikey",
        "authorization",
        "cookie",
    ];
    holds.iter().any(|word| name.contains(word))
        || name.ends_with("_key")
        || matches!(name.as_str(), "key" | "pwd")
}

fn variable_name(text: &str) -> String {
    let mut name: String = text
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
            _ => '_',
        })
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert(0, 'V');
    }
    name
}

/// A name that a source may have, near to the given one.
fn source_name(text: &str) -> String {
    let mut name: String = text
        .to_lowercase()
        .chars()
        .map(|c| match c {
            'a'..='z' | '0'..='9' | '_' | '-' => c,
            _ => '_',
        })
        .take(63)
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name = format!("api{name}").chars().take(63).collect();
    }
    name
}
