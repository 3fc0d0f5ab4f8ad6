//! Section `endpoint`: what is requested, where the records are, how the pages follow.

use std::fmt;

use indexmap::IndexMap;
use serde_json::Value;
use url::Url;

use super::{
    auth::{Auth, AuthFile, is_token},
    decode::{Decode as _, Guarded, Json, Tried, section, words},
    export::{Export, ExportFile},
    incremental::{Incremental, IncrementalFile, Until},
    paginator::{Paginator, PaginatorFile},
    params::{ListStyleFile, Param},
    problem::Problems,
    response::{Response, ResponseFile},
    rules::{Rule, RuleFile},
    template::{Field, Names, Piece, Place, literal, pieces},
    tree::{Content, Node},
};

/// What one resource asks for. Its `Debug` shows no value that may have been filled in from outside.
#[derive(Clone, Default)]
pub struct Endpoint {
    pub method: Method,
    /// Relative to `client.base_url`, or an absolute URL on the same origin.
    pub path: String,
    /// Query parameters in the order of the file; null leaves one out.
    pub params: IndexMap<String, Param>,
    /// Names of the parameters that hold a value from a file or a credential: neither shown nor stored.
    pub secret_params: Vec<String>,
    pub headers: IndexMap<String, String>,
    /// Who we are to this endpoint, where that differs from `client.auth`.
    pub auth: Option<Auth>,
    pub body: Option<Body>,
    pub data_selector: Selector,
    pub paginator: Paginator,
    pub incremental: Option<Incremental>,
    /// In their order; the first that fits decides.
    pub rules: Vec<Rule>,
    pub response: Response,
    /// There when the request only orders what is to be fetched.
    pub export: Option<Export>,
    /// Whether null in the place of the records means that there are none.
    pub null_is_empty: bool,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("params", &self.params.keys().collect::<Vec<_>>())
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("auth", &self.auth.is_some())
            .field("body", &self.body.is_some())
            .field("data_selector", &self.data_selector)
            .field("paginator", &self.paginator)
            .field("incremental", &self.incremental)
            .finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    #[default]
    Get,
    Post,
    Put,
    Patch,
}

/// What a request carries. Its texts may hold places.
#[derive(Clone)]
pub enum Body {
    Json(Value),
    /// Fields of a form.
    Form(IndexMap<String, Param>),
    /// As it stands in the file.
    Raw(String),
}

/// Where in an answer the records stand.
#[derive(Debug, Clone, Default)]
pub enum Selector {
    /// The whole body.
    #[default]
    Root,
    /// Steps of object keys and list positions from the root: `data.items`, `result[0].rows`.
    Path(DottedPath),
    /// Any other RFC 9535 expression.
    JsonPath(Box<serde_json_path::JsonPath>),
}

/// A path of plain steps into JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DottedPath(pub Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    Key(String),
    /// From the start, or from the end when negative: `data[-1].id`.
    Index(i64),
}

section! {
    /// What is requested, where the records are, how the pages follow. A bare text stands for `path`.
    pub(super) struct EndpointFile {
        /// Path behind `client.base_url`, or a whole URL on the same origin. Left out: the resource's name.
        path: String,
        /// `GET`, `POST`, or `PUT` and `PATCH` for searches that want them.
        method: MethodFile = "GET",
        /// Parameters of the query: texts, numbers, booleans; null leaves one out. A list is written as `list_style` says, or as its own long form does: `{type: list, style: comma, values: [id, name]}`. `{type: json, value: {...}}` sends a map or list as JSON text. One that `path` names as `{name}` goes there instead.
        params: IndexMap<String, Json>,
        /// How a list in `params` or in a form is written: `repeat` (`a=1&a=2`), `brackets` (`a[]=1&a[]=2`), `indexed` (`a[0]=1&a[1]=2`), `comma` (`a=1,2`), `semicolon`, `pipe`, `space`, or `json` (`a=[1,2]`).
        list_style: ListStyleFile = "repeat",
        /// Headers of these requests, over those of the client. Secrets belong in `client.headers`.
        headers: IndexMap<String, Guarded>,
        /// JSON body: a map or a list.
        json: Json,
        /// Body in another form: a map is sent as a form, a text as it is. A value filled into a text is escaped for XML or JSON when the header `Content-Type` names one of them.
        data: Json,
        /// Where in an answer the records are: `data`, `result.items`, any JSONPath of RFC 9535. An answer in which it matches nothing fails the run. Left out: the whole body.
        data_selector: String = "$",
        /// How the pages follow each other. Left out: that of `client`; there must be one.
        paginator: Tried<PaginatorFile>,
        /// Only what changed since the last complete walk. Left out: every walk reads everything.
        incremental: Tried<IncrementalFile>,
        /// What answers mean besides what their status says, in this order.
        response_actions: Vec<Tried<RuleFile>>,
        /// Who we are to this endpoint, instead of `client.auth`.
        auth: Tried<AuthFile>,
        /// The form of the answers.
        response: Tried<ResponseFile> = "json",
        /// For an API that makes its answer in the background: create, wait, fetch.
        export: Tried<ExportFile>,
        /// Whether null at `data_selector` means that there are no records. Otherwise it fails the run.
        null_is_empty: bool = "false",
    }
}

words! {
    /// Method of the requests.
    pub(super) enum MethodFile {
        Get = "GET",
        Post = "POST",
        Put = "PUT",
        Patch = "PATCH",
    }
}

impl MethodFile {
    pub(super) fn resolve(self) -> Method {
        match self {
            Self::Get => Method::Get,
            Self::Post => Method::Post,
            Self::Put => Method::Put,
            Self::Patch => Method::Patch,
        }
    }
}

impl EndpointFile {
    /// `base`: the client's URL, as far as it is right.
    pub(super) fn resolve(
        &mut self,
        name: &str,
        base: Option<&Url>,
        vars: &IndexMap<String, Value>,
        resources: &[String],
        node: &Node,
        problems: &mut Problems,
    ) -> Option<Endpoint> {
        let resolved = self.write_out_resolves(node, problems);
        let incremental = self.incremental.as_ref().and_then(|tried| tried.0.as_ref());
        let names = Names {
            vars,
            // Where the first walk has an endpoint of its own, this one always has a start.
            incremental: incremental
                .map(|file| file.initial_value.is_some() || file.first.is_some()),
            end: incremental.is_some_and(IncrementalFile::has_end),
            resources,
        };
        let paginator = match &mut self.paginator {
            Some(tried) => tried
                .0
                .as_mut()
                .and_then(|file| file.resolve(node.nearest(&["paginator"]), problems)),
            None => {
                node.wrong(
                    problems,
                    "no paginator: write one here, in `resource_defaults.endpoint` or in `client`; `single_page` if one answer is all, `auto` to have `rosterd check --connect` suggest one",
                );
                None
            }
        };
        let path = self.path.get_or_insert_with(|| name.to_owned()).clone();
        let mut bound = Vec::new();
        let param = |name: &str| Some(self.params.as_ref()?.get(name)?.value.clone());
        let walked = paginator.as_ref().and_then(Paginator::number_param);
        let at = node.nearest(&["path"]);
        let path = names
            .path(&path, param, walked, &mut bound, at, problems)
            .and_then(|path| check_path(path, base, at, problems));
        for name in resolved.iter().filter(|name| !bound.contains(name)) {
            node.nearest(&["params", name]).wrong(
                problems,
                "the path does not name this parameter; in the query write `{resources.<parent>.<field>}` as its value",
            );
        }
        let params = self.plain_params(names, &bound, node, problems);
        let headers = self.plain_headers(names, node, problems);
        let body = self.plain_body(names, node, problems);
        let selector = Selector::parse(&self.data_selector);
        if selector.is_none() {
            node.nearest(&["data_selector"]).wrong(
                problems,
                "expected a path such as data or result.items, or a JSONPath of RFC 9535 such as $.data[?@.active]",
            );
        }
        let incremental = match &mut self.incremental {
            Some(tried) => {
                let file = tried.0.as_mut()?;
                let has_first = file.first.is_some();
                let at = node.nearest(&["incremental"]);
                let mut incremental = file.resolve(at, problems);
                if has_first {
                    incremental.first =
                        first(name, base, vars, resources, node, problems).map(Box::new);
                }
                Some(incremental)
            }
            None => None,
        };
        let rules = self.rules(node.nearest(&["response_actions"]), problems);
        let method = self.method.resolve();
        let auth = match &self.auth {
            Some(Tried(file)) => {
                let file = file.as_ref();
                file.and_then(|file| file.resolve(node.nearest(&["auth"]), problems))
            }
            None => None,
        };
        let (paginator, selector) = (paginator?, selector?);
        let response = self.response.0.as_ref();
        let response =
            response.and_then(|file| file.resolve(&selector, &paginator, node, problems));
        let export = match &self.export {
            Some(Tried(file)) => {
                let file = file.as_ref()?;
                Some(file.resolve(names, base, &paginator, node, problems)?)
            }
            None => None,
        };
        if method == Method::Get && paginator.writes_body() {
            node.nearest(&["paginator"])
                .wrong(problems, "a place in the body needs `method: POST`");
        }
        if matches!(body, Some(Body::Raw(_))) && paginator.writes_body() {
            node.nearest(&["paginator"])
                .wrong(problems, "a text in `data` has no places for a paginator");
        }
        let set_by_walk = incremental.as_ref().map_or([None; 2], |incremental| {
            [&incremental.start_param, &incremental.end_param].map(Option::as_deref)
        });
        for (key, param) in ["start_param", "end_param"].into_iter().zip(set_by_walk) {
            if param.is_some_and(|param| paginator.query_params().contains(&param)) {
                node.nearest(&["incremental", key])
                    .wrong(problems, "the paginator sets this parameter");
            }
        }
        let mut params = params;
        // As in dlt, what the walk sets goes before what the file says; `check` warns of it.
        params.retain(|name, _| {
            !paginator.query_params().contains(&name.as_str())
                && !set_by_walk.contains(&Some(name.as_str()))
        });
        let endpoint = Endpoint {
            method,
            path: path?,
            secret_params: params
                .keys()
                .filter(|name| {
                    let param = node.get("params").and_then(|params| params.get(name));
                    param.is_some_and(Node::holds_secret)
                })
                .cloned()
                .collect(),
            params,
            headers,
            auth,
            body,
            data_selector: selector,
            paginator,
            incremental,
            rules: rules?,
            response: response?,
            export,
            null_is_empty: self.null_is_empty,
        };
        endpoint.check_ends(node, problems);
        Some(endpoint)
    }

    fn rules(&self, node: &Node, problems: &mut Problems) -> Option<Vec<Rule>> {
        let files = self.response_actions.iter().flatten();
        let nodes = node.list().into_iter().flatten();
        let rules: Vec<Option<Rule>> = files
            .zip(nodes)
            .map(|(Tried(file), node)| file.as_ref()?.resolve(node, problems))
            .collect();
        rules.into_iter().collect()
    }

    /// Writes dlt's older `{type: resolve, resource: ..., field: ...}` as the placeholder that it is.
    /// Gives the names of these parameters, which the path must name.
    fn write_out_resolves(&mut self, node: &Node, problems: &mut Problems) -> Vec<String> {
        let mut names = Vec::new();
        for (name, json) in self.params.iter_mut().flatten() {
            let Value::Object(map) = &json.value else {
                continue;
            };
            if map.get("type").and_then(Value::as_str) != Some("resolve") {
                continue;
            }
            let text = |key| map.get(key).and_then(Value::as_str);
            let known = map
                .keys()
                .all(|key| matches!(key.as_str(), "type" | "resource" | "field"));
            let (Some(resource), Some(field), true) = (text("resource"), text("field"), known)
            else {
                node.nearest(&["params", name])
                    .wrong(problems, "expected the keys `type`, `resource` and `field`");
                json.value = Value::Null;
                continue;
            };
            json.value = format!("{{resources.{resource}.{field}}}").into();
            names.push(name.clone());
        }
        names
    }

    fn plain_params(
        &self,
        names: Names<'_>,
        bound: &[String],
        node: &Node,
        problems: &mut Problems,
    ) -> IndexMap<String, Param> {
        let mut params = IndexMap::new();
        for (name, json) in self.params.iter().flatten() {
            if bound.contains(name) {
                continue;
            }
            let at = node.nearest(&["params", name]);
            let param = Param::read(&json.value, self.list_style.resolve(), names, at, problems);
            let name = literal(name, at, problems);
            if let (Some(name), Some(param), false) = (name, param, json.value.is_null()) {
                params.insert(name, param);
            }
        }
        params
    }

    fn plain_headers(
        &self,
        names: Names<'_>,
        node: &Node,
        problems: &mut Problems,
    ) -> IndexMap<String, String> {
        let mut headers = IndexMap::new();
        for (name, value) in self.headers.iter().flatten() {
            let at = node.nearest(&["headers", name]);
            if !is_token(name) {
                at.wrong(
                    problems,
                    "expected the name of a header: letters, digits, `-`, `_`",
                );
            }
            if value.text.contains(char::is_control) {
                at.wrong(problems, "holds a line break or control character");
            }
            if let Some(value) = names.template(&value.text, false, at, problems) {
                headers.insert(name.clone(), value);
            }
        }
        headers
    }

    fn plain_body(&self, names: Names<'_>, node: &Node, problems: &mut Problems) -> Option<Body> {
        let (body, at) = match (&self.json, &self.data) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                node.nearest(&["data"])
                    .wrong(problems, "`json` and `data` exclude each other");
                return None;
            }
            (Some(json), None) => (json, node.nearest(&["json"])),
            (None, Some(data)) => (data, node.nearest(&["data"])),
        };
        if matches!(self.method, MethodFile::Get) {
            at.wrong(problems, "a body needs `method: POST`");
        }
        match (&body.value, self.json.is_some()) {
            (value @ (Value::Object(_) | Value::Array(_)), true) => {
                names.json(value, at, problems).map(Body::Json)
            }
            (_, true) => {
                at.wrong(problems, "expected a map or a list");
                None
            }
            (Value::Object(fields), false) => {
                let mut form = IndexMap::new();
                for (name, value) in fields {
                    let at = at.nearest(&[name]);
                    let style = self.list_style.resolve();
                    let param = Param::read(value, style, names, at, problems);
                    if let (Some(name), Some(param), false) =
                        (literal(name, at, problems), param, value.is_null())
                    {
                        form.insert(name, param);
                    }
                }
                Some(Body::Form(form))
            }
            (Value::String(text), false) => names.template(text, true, at, problems).map(Body::Raw),
            _ => {
                at.wrong(problems, "expected a map (a form) or a text");
                None
            }
        }
    }
}

impl Endpoint {
    /// Whether a walk asks only for what changed since the last one, once there was one.
    #[must_use]
    pub fn asks_for_changes(&self) -> bool {
        let incremental = self.incremental.as_ref();
        incremental.is_some_and(|i| i.start_param.is_some())
            || self.places().contains(&Place::StartValue)
    }

    /// Whether a request names where the walk begins, so that the API can keep back what is before.
    #[must_use]
    pub fn sends_start(&self) -> bool {
        self.asks_for_changes() || self.places().contains(&Place::InitialValue)
    }

    /// Whether a request names where the walk ends.
    #[must_use]
    pub fn sends_end(&self) -> bool {
        let incremental = self.incremental.as_ref();
        incremental.is_some_and(|i| i.end_param.is_some())
            || self.places().contains(&Place::EndValue)
    }

    /// Fields of other resources' records that the requests name, each once.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let first = self.incremental.as_ref().and_then(|i| i.first.as_ref());
        let of_first = first.map(|first| first.places()).unwrap_or_default();
        let mut fields = Vec::new();
        for place in self.places().into_iter().chain(of_first) {
            if let Place::Field(field) = place
                && !fields.contains(&field)
            {
                fields.push(field);
            }
        }
        fields
    }

    /// All places of the requests' texts.
    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        let mut note = |text: &str| {
            let pieces = pieces(text).unwrap_or_default();
            places.extend(pieces.into_iter().filter_map(|piece| match piece {
                Piece::Place(place) => Some(place),
                Piece::Text(_) => None,
            }));
        };
        note(&self.path);
        self.headers.values().for_each(|text| note(text));
        let params = self.params.values();
        params.for_each(|param| each_text(&param.value, &mut note));
        match &self.body {
            None => {}
            Some(Body::Json(json)) => each_text(json, &mut note),
            Some(Body::Form(form)) => {
                let fields = form.values();
                fields.for_each(|param| each_text(&param.value, &mut note));
            }
            Some(Body::Raw(text)) => note(text),
        }
        places
    }

    /// Whether the span of the cursor can be asked for as it is configured.
    fn check_ends(&self, node: &Node, problems: &mut Problems) {
        let Some(incremental) = &self.incremental else {
            return;
        };
        let at = |key| node.nearest(&["incremental", key]);
        if incremental.window.is_some() {
            if !self.asks_for_changes() {
                at("window").wrong(problems, "no request names the start: set `start_param`");
            }
            if !self.sends_end() {
                at("window").wrong(problems, "no request names the end: set `end_param`");
            }
        } else if matches!(incremental.until, Some(Until::Now { .. })) && !self.sends_end() {
            at("until").wrong(problems, "no request names the end: set `end_param`");
        }
    }
}

/// An endpoint that lists what is gone: `own` over what it has in common with the resource's.
pub(super) fn beside(
    name: &str,
    base: Option<&Url>,
    vars: &IndexMap<String, Value>,
    endpoint: &Node,
    own: &Node,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let Some(map) = own.map() else {
        own.wrong(problems, "expected a map of keys of `endpoint`");
        return None;
    };
    if own.get("path").is_none_or(Node::is_null) {
        own.wrong(problems, "the key `path` is missing");
        return None;
    }
    let mut whole = Node::empty(own.place.clone(), own.path.clone());
    whole.content = Content::Map(IndexMap::new());
    for key in ["method", "headers", "data_selector", "paginator"] {
        if let Some(node) = endpoint.get(key) {
            whole.insert(key, node.clone());
        }
    }
    for (key, entry) in map {
        whole.insert(key, entry.node.clone());
    }
    super::incremental::lift(&mut whole);
    let mut file = EndpointFile::decode(&whole, problems)?;
    file.resolve(name, base, vars, &[], &whole, problems)
}

/// The endpoint of a walk without a cursor: this one with the keys of `incremental.first` over it.
fn first(
    name: &str,
    base: Option<&Url>,
    vars: &IndexMap<String, Value>,
    resources: &[String],
    node: &Node,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let keys = node.get("incremental")?.get("first")?;
    let Some(map) = keys.map() else {
        keys.wrong(problems, "expected a map of keys of `endpoint`");
        return None;
    };
    let mut whole = node.clone();
    let mut incremental = node.get("incremental")?.clone();
    incremental.remove("first");
    whole.insert("incremental", incremental);
    for (key, entry) in map {
        if key == "incremental" {
            entry
                .node
                .wrong(problems, "the first walk keeps the cursor of the others");
            continue;
        }
        whole.insert(key, entry.node.clone());
    }
    // What is wrong with the other keys was said of them already.
    let mut own = Problems::default();
    let endpoint = EndpointFile::decode(&whole, &mut own)
        .and_then(|mut file| file.resolve(name, base, vars, resources, &whole, &mut own));
    for problem in own.iter() {
        if problems
            .iter()
            .all(|known| known.message != problem.message || known.path != problem.path)
        {
            problems.push(&problem.place, &problem.path, problem.message.clone());
        }
    }
    endpoint
}

/// Calls `visit` with every text of a JSON value, names apart.
fn each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, visit)),
        Value::Object(map) => map.values().for_each(|value| each_text(value, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The path with its places, if it stays with the client's origin whatever fills them.
pub(super) fn check_path(
    template: String,
    base: Option<&Url>,
    at: &Node,
    problems: &mut Problems,
) -> Option<String> {
    let pieces = pieces(&template).ok()?;
    let path: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            // Filled with one encoded segment, or a part of one.
            Piece::Place(_) => "place",
        })
        .collect();
    if path.contains(char::is_control) || path.contains(['\\', '#', ' ']) {
        at.wrong(
            problems,
            "holds a blank, `#`, `\\` or a control character; encode it",
        );
        return None;
    }
    if path.starts_with("//") {
        at.wrong(problems, "expected a path with one `/` in front");
        return None;
    }
    if path.contains("://") && !path.starts_with('/') && !path.starts_with('?') {
        match Url::parse(&path) {
            Ok(url) if base.is_none_or(|base| base.origin() == url.origin()) => {}
            Ok(_) => {
                at.wrong(
                    problems,
                    "another origin than `client.base_url`: the credentials would be sent there",
                );
                return None;
            }
            Err(_) => {
                at.wrong(problems, "not a URL");
                return None;
            }
        }
    }
    Some(template)
}
