//! From an endpoint and a position to a request, without its key.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use url::Url;

use super::{
    Address, Error, Position, WalkPlan,
    address::same_origin,
    auth::{Signed, Signer, header_name, secret_value},
    paginate::Pager,
};
use crate::config::{
    endpoint::{Body, Method, Step},
    paginator::{PageSize, Paginator, Target, Token, Unit},
    params::{ListStyle, Param},
    template::{self, Piece, Place, path_segment, text_of},
};

/// Stands in a path where the page's number goes.
const NUMBER: &str = "~rosterd~number~";

/// A request that may be sent any number of times.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) method: reqwest::Method,
    pub(super) url: Url,
    /// The URL as errors may tell it, where the path of `url` holds a parent's id.
    pub(super) shown: Option<Url>,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
}

/// What all requests of a walk have in common.
#[derive(Debug)]
pub(super) struct Template {
    method: reqwest::Method,
    /// Without query.
    url: Url,
    /// The same with the names of the parents' fields in the place of their values.
    shown: Option<Url>,
    query: Vec<(String, String)>,
    /// Names of parameters in `query` that are neither shown nor stored.
    secret: Vec<String>,
    headers: HeaderMap,
    body: Option<Content>,
    paginator: Paginator,
    number_in_path: bool,
}

/// A body whose places are filled.
#[derive(Debug, Clone)]
enum Content {
    Json(Value),
    Form(Vec<(String, String)>),
    Raw(String),
}

pub(super) fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
    }
}

/// Method, URL and body of a walk's first request, which holds no key yet. Values of parameters are shown, they
/// are what one looks for in a preview; parameters that are secrets are covered. Whoever shows it covers
/// the secrets of the body.
pub(super) fn describe(
    base: &Url,
    plan: &WalkPlan,
    signer: Option<&Signer>,
) -> Result<String, Error> {
    let from_the_start = WalkPlan {
        resume: None,
        ..plan.clone()
    };
    let first = Pager::new(&from_the_start, base)?.first();
    let mut template = Template::new(base, plan)?;
    for (name, value) in &mut template.query {
        if template.secret.contains(name) {
            "***".clone_into(value);
        }
    }
    let mut draft = template.draft(first.as_ref())?;
    if let Some(signer) = signer {
        signer.mask(Signed {
            url: &mut draft.url,
            headers: &mut draft.headers,
            body: &mut draft.body,
        })?;
    }
    let headers = draft.headers.iter().map(|(name, value)| {
        let value = match value.is_sensitive() {
            true => "***",
            false => value.to_str().unwrap_or("***"),
        };
        format!(" {name}: {value}")
    });
    let headers: String = headers.collect();
    let body = draft.body.map_or_else(String::new, |body| {
        format!(" {}", String::from_utf8_lossy(&body))
    });
    Ok(format!("{} {}{headers}{body}", draft.method, draft.url))
}

impl Template {
    pub(super) fn new(base: &Url, plan: &WalkPlan) -> Result<Self, Error> {
        let endpoint = &plan.endpoint;
        let path = filled_path(&endpoint.path, plan).ok_or(Error::NoStartValue)?;
        let mut url = match plan.bindings.is_empty() {
            true => join(base, &path)?,
            // Told as it is configured: what fills it may be a person's.
            false => join(base, &path)
                .ok()
                .filter(|_| !has_dots(plan))
                .ok_or_else(|| Error::BadPath {
                    path: endpoint.path.as_str().into(),
                })?,
        };
        let mut query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let mut secret = endpoint.secret_params.clone();
        url.set_query(None);
        for (name, param) in &endpoint.params {
            let pairs = pairs(name, param, plan);
            if endpoint.secret_params.contains(name) {
                secret.extend(pairs.iter().map(|(name, _)| name.clone()));
            }
            query.extend(pairs);
        }
        if let Some(incremental) = &endpoint.incremental {
            for (name, value) in [
                (&incremental.start_param, &plan.start_value),
                (&incremental.end_param, &plan.end_value),
            ] {
                if let (Some(name), Some(value)) = (name, value) {
                    set(&mut query, name, value.clone());
                }
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &endpoint.headers {
            if let Some(value) = filled(value, plan, str::to_owned) {
                headers.insert(header_name(name)?, secret_value(name, &value)?);
            }
        }
        Ok(Self {
            method: method(endpoint.method),
            url,
            shown: shown(base, plan),
            query,
            secret,
            body: match &endpoint.body {
                None => None,
                Some(body) => Some(content(body, &headers, plan)?),
            },
            headers,
            paginator: endpoint.paginator.clone(),
            number_in_path: template::pieces(&endpoint.path)
                .unwrap_or_default()
                .iter()
                .any(|piece| matches!(piece, Piece::Place(Place::Param(_)))),
        })
    }

    /// The request for one position; `None` is the beginning of a walk that starts without a token.
    pub(super) fn draft(&self, position: Option<&Position>) -> Result<Draft, Error> {
        let mut query = self.query.clone();
        let mut body = self.body.clone();
        if let (Paginator::Token(token), Some(_)) = (&self.paginator, position)
            && !token.keep_params
        {
            query.retain(|(name, _)| self.secret.contains(name));
        }
        let mut put = |target: &Target, value: Value| match target {
            Target::Query(name) => {
                if let Some(text) = text_of(&value) {
                    set(&mut query, name, text);
                }
            }
            Target::Body(path) => match body.get_or_insert(Content::Json(Value::Null)) {
                Content::Json(json) => put_in(json, &path.0, value),
                Content::Form(fields) => {
                    if let (Some(Step::Key(name)), Some(text)) = (path.0.first(), text_of(&value)) {
                        set(fields, name, text);
                    }
                }
                // Refused when the configuration was read.
                Content::Raw(_) => {}
            },
        };
        let (mut link, mut number) = (None, None);
        match (&self.paginator, position) {
            (Paginator::Counted(counted), Some(position)) => {
                let at = match (counted.unit, position) {
                    (Unit::Rows, Position::Offset(at)) | (Unit::Pages, Position::Page(at)) => *at,
                    _ => return Err(Error::BadPosition),
                };
                if self.number_in_path {
                    number = Some(at.to_string());
                } else {
                    put(&counted.position, at.into());
                }
                if let Some(PageSize { limit, to }) = &counted.size {
                    put(to, (*limit).into());
                }
            }
            (Paginator::Token(token), position) => {
                let Token {
                    to,
                    size,
                    keep_params,
                    ..
                } = token.as_ref();
                match position {
                    None => {}
                    Some(Position::Cursor(text)) => put(to, text.as_str().into()),
                    Some(Position::Number(text)) => put(to, number_value(text)),
                    Some(_) => return Err(Error::BadPosition),
                }
                if let Some(PageSize { limit, to }) = size
                    && (*keep_params || position.is_none())
                {
                    put(to, (*limit).into());
                }
            }
            (Paginator::Link(way), Some(Position::Url(url))) => {
                let mut url = Url::parse(url).map_err(|_| Error::BadPosition)?;
                if way.keep_params {
                    add_missing(&mut url, &self.query, |_| true);
                } else {
                    add_missing(&mut url, &self.query, |name| self.is_named_secret(name));
                }
                link = Some(url);
            }
            (Paginator::SinglePage | Paginator::Auto | Paginator::Link(_), None) => {}
            (
                Paginator::SinglePage
                | Paginator::Auto
                | Paginator::Link(_)
                | Paginator::Counted(_),
                _,
            ) => return Err(Error::BadPosition),
        }
        let url = link.unwrap_or_else(|| {
            let mut url = self.url.clone();
            if let Some(number) = number {
                let path = url.path().replace(NUMBER, &number);
                url.set_path(&path);
            }
            let text = query_text(&query);
            url.set_query((!text.is_empty()).then_some(&*text));
            url
        });
        let mut headers = self.headers.clone();
        let body = body.filter(|_| self.method != reqwest::Method::GET);
        let body = body.map(|body| {
            let (kind, bytes) = body.written();
            if let Some(kind) = kind {
                let kind = HeaderValue::from_static(kind);
                headers.entry(CONTENT_TYPE).or_insert(kind);
            }
            bytes
        });
        Ok(Draft {
            method: self.method.clone(),
            shown: self.shown.clone().map(|mut shown| {
                shown.set_query(url.query());
                shown
            }),
            url,
            headers,
            body,
        })
    }
}

impl Template {
    /// A GET of another place of the API, with the endpoint's headers.
    pub(super) fn get(&self, url: Url) -> Draft {
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_TYPE);
        Draft {
            method: reqwest::Method::GET,
            url,
            shown: None,
            headers,
            body: None,
        }
    }

    /// A position as it may be stored: APIs repeat all parameters of a request in their next links.
    pub(super) fn without_secrets(&self, position: Position) -> Position {
        let Position::Url(link) = position else {
            return position;
        };
        if self.secret.is_empty() {
            return Position::Url(link);
        }
        let Ok(mut url) = Url::parse(&link) else {
            return Position::Url(link);
        };
        let pairs = url.query().unwrap_or_default().split('&');
        let kept: Vec<&str> = pairs
            .filter(|pair| !self.is_secret(pair.as_bytes()))
            .collect();
        let kept = kept.join("&");
        url.set_query((!kept.is_empty()).then_some(&*kept));
        Position::Url(url.into())
    }

    /// Whether a pair of a query is one of the secret parameters, or holds the value of one.
    fn is_secret(&self, pair: &[u8]) -> bool {
        let secrets = || self.query.iter().filter(|(n, _)| self.secret.contains(n));
        url::form_urlencoded::parse(pair)
            .any(|(name, value)| secrets().any(|(n, v)| *n == name || *v == value))
    }

    fn is_named_secret(&self, name: &str) -> bool {
        self.secret.iter().any(|secret| secret == name)
    }
}

impl Content {
    /// Its content type, where it has one by itself, and its bytes.
    fn written(&self) -> (Option<&'static str>, Bytes) {
        match self {
            Self::Json(json) => (Some("application/json"), json.to_string().into()),
            Self::Form(fields) => {
                let text: String = url::form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(fields)
                    .finish();
                (Some("application/x-www-form-urlencoded"), text.into())
            }
            Self::Raw(text) => (None, text.clone().into()),
        }
    }
}

/// A body with its places filled.
fn content(body: &Body, headers: &HeaderMap, plan: &WalkPlan) -> Result<Content, Error> {
    Ok(match body {
        Body::Json(json) => Content::Json(match filled_json(json, plan) {
            Some(json) => json,
            None if json.is_array() => Value::Array(Vec::new()),
            None => Value::Object(serde_json::Map::new()),
        }),
        Body::Form(form) => {
            let fields = form
                .iter()
                .flat_map(|(name, param)| pairs(name, param, plan));
            Content::Form(fields.collect())
        }
        Body::Raw(text) => {
            let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
            let kind = kind.unwrap_or_default().to_ascii_lowercase();
            let filled = match () {
                () if kind.contains("xml") => filled(text, plan, for_xml),
                () if kind.contains("json") => filled(text, plan, for_json),
                () => filled(text, plan, str::to_owned),
            };
            Content::Raw(filled.ok_or(Error::NoStartValue)?)
        }
    })
}

fn for_xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}

/// As the inside of a JSON string.
fn for_json(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    let inner = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

/// A parameter as names and texts; empty when it is left out.
fn pairs(name: &str, param: &Param, plan: &WalkPlan) -> Vec<(String, String)> {
    let pair = |name: String, text: Option<String>| text.map(|text| (name, text));
    let Some(value) = filled_json(&param.value, plan) else {
        return Vec::new();
    };
    let values = match (&value, param.style) {
        (Value::Array(values), style) if style != ListStyle::Json => values,
        (value, _) => return pair(name.to_owned(), text_of(value)).into_iter().collect(),
    };
    let texts = values.iter().filter_map(text_of);
    match param.style {
        ListStyle::Repeat => texts.map(|text| (name.to_owned(), text)).collect(),
        ListStyle::Brackets => texts.map(|text| (format!("{name}[]"), text)).collect(),
        ListStyle::Indexed => texts
            .enumerate()
            .map(|(at, text)| (format!("{name}[{at}]"), text))
            .collect(),
        ListStyle::Joined(sign) => {
            let joined = texts.collect::<Vec<_>>().join(&sign.to_string());
            let some = Some(joined).filter(|joined| !joined.is_empty());
            pair(name.to_owned(), some).into_iter().collect()
        }
        ListStyle::Json => Vec::new(),
    }
}

/// Whether a value would be a segment of dots, which no encoding keeps from walking up the path.
fn has_dots(plan: &WalkPlan) -> bool {
    let pieces = template::pieces(&plan.endpoint.path).unwrap_or_default();
    pieces.into_iter().any(|piece| match piece {
        Piece::Place(Place::Field(field)) => plan
            .bindings
            .value(&field)
            .is_some_and(|value| value == "." || value == ".."),
        Piece::Place(_) | Piece::Text(_) => false,
    })
}

/// The URL of a child's requests without its parent's id: `/employees/:employees.id/absences`.
fn shown(base: &Url, plan: &WalkPlan) -> Option<Url> {
    if plan.bindings.is_empty() {
        return None;
    }
    let pieces = template::pieces(&plan.endpoint.path).ok()?;
    let path: String = pieces
        .into_iter()
        .map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Place(Place::Field(field)) => format!(":{}.{}", field.resource, field.path),
            Piece::Place(_) => ":cursor".to_owned(),
        })
        .collect();
    join(base, &path).ok()
}

/// A path with its places filled. An empty text is no value here: it would name another place.
fn filled_path(path: &str, plan: &WalkPlan) -> Option<String> {
    let is_empty = |piece: &Piece| match piece {
        Piece::Text(_) => false,
        Piece::Place(place) => value_of(place, plan).is_none_or(|value| value == ""),
    };
    let pieces = template::pieces(path).unwrap_or_default();
    (!pieces.iter().any(is_empty)).then(|| filled(path, plan, path_segment))?
}

/// Adds those of the wanted pairs whose name the URL does not have.
fn add_missing(url: &mut Url, query: &[(String, String)], wanted: impl Fn(&str) -> bool) {
    let missing: Vec<(String, String)> = query
        .iter()
        .filter(|(name, _)| wanted(name))
        .filter(|(name, _)| !url.query_pairs().any(|(known, _)| known == name.as_str()))
        .cloned()
        .collect();
    if missing.is_empty() {
        return;
    }
    let query = match url.query() {
        Some(query) if !query.is_empty() => format!("{query}&{}", query_text(&missing)),
        _ => query_text(&missing),
    };
    url.set_query(Some(&query));
}

/// A text with its places filled. `None`: a place has no value, so the text is left out.
fn filled(text: &str, plan: &WalkPlan, encode: impl Fn(&str) -> String) -> Option<String> {
    // Checked when the configuration was read; a text that is no template stands for itself.
    let Ok(pieces) = template::pieces(text) else {
        return Some(text.to_owned());
    };
    let texts = pieces.into_iter().map(|piece| match piece {
        Piece::Text(text) => Some(text),
        Piece::Place(place) => match value_of(&place, plan)? {
            // Each value is encoded by itself, and the commas stay.
            Value::Array(values) => {
                let texts: Option<Vec<String>> = values.iter().map(text_of).collect();
                let texts = texts?.into_iter().map(|text| encode(&text));
                Some(texts.collect::<Vec<_>>().join(","))
            }
            value => Some(encode(&text_of(&value)?)),
        },
    });
    texts.collect()
}

/// The same for all texts of a JSON value. A text that is one place and nothing else keeps the
/// type of what is filled in. `None`: it is left out, as is a map or list that holds nothing else than
/// what is left out.
fn filled_json(value: &Value, plan: &WalkPlan) -> Option<Value> {
    match value {
        Value::String(text) => match template::pieces(text).as_deref() {
            Ok([Piece::Place(place)]) => value_of(place, plan).filter(|value| !value.is_null()),
            _ => filled(text, plan, str::to_owned).map(Value::String),
        },
        Value::Array(items) => {
            let filled: Vec<Value> = items.iter().filter_map(|i| filled_json(i, plan)).collect();
            (items.is_empty() || !filled.is_empty()).then_some(Value::Array(filled))
        }
        Value::Object(map) => {
            let filled: serde_json::Map<String, Value> = map
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), filled_json(value, plan)?)))
                .collect();
            (map.is_empty() || !filled.is_empty()).then_some(Value::Object(filled))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.clone()),
    }
}

/// What a place stands for in this walk; `None` or null: nothing.
fn value_of(place: &Place, plan: &WalkPlan) -> Option<Value> {
    let moment = |text: &str| match serde_json::from_str(text) {
        // A cursor that is a number is one in JSON too.
        Ok(number @ Value::Number(_)) => number,
        _ => text.into(),
    };
    match place {
        Place::StartValue => plan.start_value.as_deref().map(moment),
        Place::EndValue => plan.end_value.as_deref().map(moment),
        Place::InitialValue => {
            let incremental = plan.endpoint.incremental.as_ref()?;
            incremental.initial_value.as_deref().map(moment)
        }
        Place::Field(field) => plan.bindings.value(field).cloned(),
        // Each page fills it anew.
        Place::Param(_) => Some(NUMBER.into()),
        // Filled in when the configuration was read.
        Place::Variable(_) => None,
        // Known only to the export that follows.
        Place::Export(_) => None,
    }
}

/// Hangs `path` below `base`, as dlt does: the base's own path stays. A whole URL stands for itself.
pub(super) fn join(base: &Url, path: &str) -> Result<Url, Error> {
    let bad = || {
        // A query may hold anything, a user too.
        let shown = match Url::parse(path) {
            Ok(url) => Address::of(&url).to_string(),
            Err(_) => path.chars().take_while(|c| *c != '?').collect(),
        };
        Error::BadPath { path: shown.into() }
    };
    let url = if path.contains("://") {
        Url::parse(path).map_err(|_| bad())?
    } else {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut url = base.clone();
        if !path.is_empty() {
            let joined = format!(
                "{}/{}",
                base.path().trim_end_matches('/'),
                path.trim_start_matches('/')
            );
            url.set_path(&joined);
        }
        let queries = [base.query().unwrap_or(""), query];
        let queries: Vec<&str> = queries.into_iter().filter(|q| !q.is_empty()).collect();
        let query = queries.join("&");
        url.set_query((!query.is_empty()).then_some(&*query));
        url
    };
    if same_origin(base, &url) {
        Ok(url)
    } else {
        Err(bad())
    }
}

/// Gives a parameter one value, in the place of the first it had.
fn set(query: &mut Vec<(String, String)>, name: &str, value: String) {
    let place = query
        .iter()
        .position(|(n, _)| n == name)
        .unwrap_or(query.len());
    query.retain(|(n, _)| n != name);
    query.insert(place, (name.to_owned(), value));
}

/// Sets a value in a JSON document, making objects on the way. List positions that do not exist,
/// and steps through other values, leave the document as it is.
pub(super) fn put_in(document: &mut Value, path: &[Step], value: Value) {
    let Some((step, rest)) = path.split_first() else {
        *document = value;
        return;
    };
    if document.is_null() {
        *document = Value::Object(serde_json::Map::new());
    }
    match (step, document) {
        (Step::Key(key), Value::Object(map)) => {
            put_in(map.entry(key.as_str()).or_insert(Value::Null), rest, value);
        }
        (Step::Index(index), Value::Array(items)) => {
            let index = usize::try_from(*index).unwrap_or(usize::MAX);
            if let Some(item) = items.get_mut(index) {
                put_in(item, rest, value);
            }
        }
        (Step::Key(_) | Step::Index(_), _) => {}
    }
}

fn query_text(query: &[(String, String)]) -> String {
    let pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    pairs.join("&")
}

/// Percent-encodes for a query. A space becomes `%20`: every server reads that, not every one `+`.
pub(super) fn encoded(text: &str) -> String {
    let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    form.replace('+', "%20")
}

/// A number as JSON, with the digits that it has.
fn number_value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use serde_json::json;

    use super::*;
    use crate::config::{
        endpoint::{DottedPath, Endpoint, Selector},
        incremental::Incremental,
        paginator::{Counted, Link, LinkFrom, Stop, Stride, TokenFrom},
    };
    use crate::fetch::Bindings;

    fn key(name: &str) -> Step {
        Step::Key(name.into())
    }

    fn param(value: Value) -> Param {
        Param {
            value,
            style: ListStyle::Repeat,
        }
    }

    fn plan(paginator: Paginator) -> WalkPlan {
        WalkPlan {
            endpoint: Endpoint {
                method: Method::Post,
                path: "people?fields=a,b&page=9".into(),
                params: IndexMap::from([
                    ("q".to_owned(), param(json!("a b+c&d"))),
                    ("none".to_owned(), param(Value::Null)),
                    ("on".to_owned(), param(json!(true))),
                    ("ids".to_owned(), param(json!([1, "x"]))),
                ]),
                body: Some(Body::Json(json!({"filter": {"x": 1}}))),
                data_selector: Selector::Root,
                paginator,
                incremental: Some(Incremental {
                    start_param: Some("since".into()),
                    ..Incremental::by(DottedPath(vec![key("updated")]))
                }),
                ..Endpoint::default()
            },
            end_value: None,
            bindings: Bindings::default(),
            start_value: Some("2020-01-01T00:00:00+02:00".into()),
            key: Vec::new(),
            resume: None,
            first_page: 0,
            max_pages: 10,
        }
    }

    fn cursor(keep_params: bool) -> Paginator {
        Paginator::Token(Box::new(Token {
            from: TokenFrom::Body(DottedPath(vec![key("next")])),
            to: Target::Query("page".into()),
            size: None,
            stop: Stop::default(),
            keep_params,
        }))
    }

    #[test]
    fn a_cursor_that_is_a_number_keeps_its_digits() {
        for text in [
            "17",
            "-1.50",
            "9007199254740993",
            "100000000000000000000001",
        ] {
            let value = number_value(text);
            assert!(value.is_number(), "{value:?}");
            assert_eq!(value.to_string(), text);
        }
        assert_eq!(number_value("no number"), json!("no number"));
    }

    #[test]
    fn a_token_or_link_goes_alone_or_with_the_parameters() {
        let base = Url::parse("https://api.test").unwrap();
        let urls = |paginator, position| {
            let mut plan = plan(paginator);
            plan.endpoint.path = "people".into();
            plan.endpoint.secret_params = vec!["on".into()];
            let template = Template::new(&base, &plan).unwrap();
            template.draft(Some(&position)).unwrap().url.to_string()
        };
        let token = || Position::Cursor("t".into());
        assert_eq!(
            urls(cursor(false), token()),
            "https://api.test/people?on=true&page=t"
        );
        assert!(urls(cursor(true), token()).contains("q=a%20b%2Bc%26d"));
        let link = |keep_params| {
            Paginator::Link(Box::new(Link {
                from: LinkFrom::Relation("next".into()),
                ignore_host: false,
                keep_params,
                stop: Stop::default(),
            }))
        };
        let next = || Position::Url("https://api.test/people?q=own".into());
        assert_eq!(
            urls(link(false), next()),
            "https://api.test/people?q=own&on=true"
        );
        assert_eq!(
            urls(link(true), next()),
            "https://api.test/people?q=own&on=true&ids=1&ids=x&since=2020-01-01T00%3A00%3A00%2B02%3A00"
        );
    }

    #[test]
    fn parameters_keep_their_order_and_are_encoded_once() {
        let base = Url::parse("https://api.test/v1/?tenant=7").unwrap();
        let template = Template::new(&base, &plan(cursor(true))).unwrap();
        let common = "https://api.test/v1/people?tenant=7&fields=a%2Cb&page=";
        let rest = "&q=a%20b%2Bc%26d&on=true&ids=1&ids=x&since=2020-01-01T00%3A00%3A00%2B02%3A00";
        assert_eq!(
            template.draft(None).unwrap().url.as_str(),
            format!("{common}9{rest}")
        );
        let draft = template
            .draft(Some(&Position::Cursor("á=".into())))
            .unwrap();
        assert_eq!(draft.url.as_str(), format!("{common}%C3%A1%3D{rest}"));
        assert_eq!(
            template.draft(Some(&Position::Offset(3))).unwrap_err(),
            Error::BadPosition
        );
    }

    #[test]
    fn positions_go_into_the_body_where_asked() {
        let base = Url::parse("https://api.test").unwrap();
        let offset = Paginator::Counted(Box::new(Counted {
            unit: Unit::Rows,
            start: 0,
            base: 0,
            position: Target::Body(DottedPath(vec![key("page"), key("from")])),
            size: Some(PageSize {
                limit: 50,
                to: Target::Body(DottedPath(vec![key("filter"), key("size")])),
            }),
            stride: Stride::Received,
            overlap: 0,
            stop: Stop::default(),
            maximum: None,
        }));
        let template = Template::new(&base, &plan(offset)).unwrap();
        let draft = template.draft(Some(&Position::Offset(100))).unwrap();
        let body: Value = serde_json::from_slice(&draft.body.unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"filter": {"x": 1, "size": 50}, "page": {"from": 100}})
        );
        assert_eq!(draft.headers[CONTENT_TYPE], "application/json");
    }

    #[test]
    fn paths_hang_below_the_base_and_stay_on_its_origin() {
        for (base, path, expected) in [
            (
                "https://api.test/v1",
                "people",
                Some("https://api.test/v1/people"),
            ),
            (
                "https://api.test/v1/",
                "/people/",
                Some("https://api.test/v1/people/"),
            ),
            ("https://api.test", "", Some("https://api.test/")),
            (
                "https://api.test/v1",
                "https://api.test/other",
                Some("https://api.test/other"),
            ),
            ("https://api.test/v1", "https://evil.test/other", None),
            (
                "https://api.test/v1",
                "//evil.test/other",
                Some("https://api.test/v1/evil.test/other"),
            ),
        ] {
            let url = join(&Url::parse(base).unwrap(), path).ok();
            let url = url.map(|mut url| {
                url.set_query(None);
                url.to_string()
            });
            assert_eq!(url.as_deref(), expected, "{base} {path}");
        }
    }

    #[test]
    fn a_body_keeps_the_types_of_what_fills_it() {
        for (start, since, text) in [
            (Some("17"), json!(17), json!("since 17")),
            (
                Some("2024-01-01"),
                json!("2024-01-01"),
                json!("since 2024-01-01"),
            ),
        ] {
            let mut plan = plan(Paginator::SinglePage);
            plan.start_value = start.map(str::to_owned);
            plan.endpoint.body = Some(Body::Json(json!({
                "since": "{incremental.start_value}",
                "deep": [{"text": "since {incremental.start_value}", "n": 1.50}],
            })));
            let base = Url::parse("https://api.test").unwrap();
            let draft = Template::new(&base, &plan).unwrap().draft(None).unwrap();
            let body: Value = serde_json::from_slice(&draft.body.unwrap()).unwrap();
            assert_eq!(
                body,
                json!({"since": since, "deep": [{"text": text, "n": 1.50}]})
            );
        }
    }
    #[test]
    fn what_has_no_value_is_left_out_wherever_it_stands() {
        let start = || Value::from("{incremental.start_value}");
        let mut plan = plan(Paginator::SinglePage);
        plan.start_value = None;
        plan.endpoint.path = "people".into();
        plan.endpoint.params = IndexMap::from([
            ("from".to_owned(), param(start())),
            (
                "q".to_owned(),
                param(json!("since {incremental.start_value}")),
            ),
            ("ids".to_owned(), param(json!([start(), 2]))),
        ]);
        plan.endpoint.headers = IndexMap::from([
            (
                "If-Modified-Since".to_owned(),
                "{incremental.start_value}".to_owned(),
            ),
            ("X-Kept".to_owned(), "1".to_owned()),
        ]);
        for (json, expected) in [
            (
                json!({"filter": {"updated": {"gt": start()}}, "kept": null, "empty": {}}),
                json!({"kept": null, "empty": {}}),
            ),
            (json!({"a": [{"gt": start()}, 1]}), json!({"a": [1]})),
            (json!([{"gt": start()}]), json!([])),
            (json!({"gt": start()}), json!({})),
        ] {
            plan.endpoint.body = Some(Body::Json(json));
            let base = Url::parse("https://api.test").unwrap();
            let draft = Template::new(&base, &plan).unwrap().draft(None).unwrap();
            assert_eq!(draft.url.as_str(), "https://api.test/people?ids=2");
            assert!(!draft.headers.contains_key("if-modified-since"));
            assert_eq!(draft.headers["x-kept"], "1");
            let body: Value = serde_json::from_slice(&draft.body.unwrap()).unwrap();
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn lists_are_written_as_the_api_reads_them() {
        let list = json!(["a b", 2, true]);
        for (style, expected) in [
            (ListStyle::Repeat, "f=a%20b&f=2&f=true"),
            (ListStyle::Brackets, "f%5B%5D=a%20b&f%5B%5D=2&f%5B%5D=true"),
            (
                ListStyle::Indexed,
                "f%5B0%5D=a%20b&f%5B1%5D=2&f%5B2%5D=true",
            ),
            (ListStyle::Joined(','), "f=a%20b%2C2%2Ctrue"),
            (ListStyle::Json, "f=%5B%22a%20b%22%2C2%2Ctrue%5D"),
        ] {
            let mut plan = plan(Paginator::SinglePage);
            plan.endpoint.incremental = None;
            plan.endpoint.path = "p".into();
            let value = list.clone();
            plan.endpoint.params = IndexMap::from([("f".to_owned(), Param { value, style })]);
            plan.endpoint.body = Some(Body::Form(plan.endpoint.params.clone()));
            let base = Url::parse("https://api.test").unwrap();
            let draft = Template::new(&base, &plan).unwrap().draft(None).unwrap();
            assert_eq!(draft.url.query(), Some(expected), "{style:?}");
            let form = draft.body.unwrap();
            let in_query = url::form_urlencoded::parse(expected.as_bytes());
            assert!(url::form_urlencoded::parse(&form).eq(in_query), "{style:?}");
        }
    }

    #[test]
    fn what_is_filled_into_a_text_is_escaped_for_its_kind() {
        for (kind, expected) in [
            (
                "application/soap+xml",
                "<since>&lt;a&gt; &amp; &quot;b&quot;</since>",
            ),
            ("application/json", "<since><a> & \\\"b\\\"</since>"),
            ("text/plain", "<since><a> & \"b\"</since>"),
        ] {
            let mut plan = plan(Paginator::SinglePage);
            plan.start_value = Some("<a> & \"b\"".into());
            plan.endpoint.headers = IndexMap::from([("Content-Type".to_owned(), kind.to_owned())]);
            let text = "<since>{incremental.start_value}</since>";
            plan.endpoint.body = Some(Body::Raw(text.into()));
            let base = Url::parse("https://api.test").unwrap();
            let draft = Template::new(&base, &plan).unwrap().draft(None).unwrap();
            assert_eq!(draft.body.unwrap(), expected, "{kind}");
            assert_eq!(draft.headers[CONTENT_TYPE], kind);
        }
    }
}
