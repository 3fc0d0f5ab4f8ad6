//! Credentials that must be asked for: OAuth 2.0 grants and logins.
//!
//! All of them are one thing: a request, the places in its answer, and where the token then goes. A kind
//! only says how the request is made, so what holds for one (sharing, renewing, encryption) holds
//! for all.

use std::time::Duration;

use indexmap::IndexMap;
use rustls::{
    SignatureAlgorithm,
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;
use url::Url;

use super::{
    Secret,
    auth::{Auth, AuthFile, Form, LocationFile, Place, check_secret, form, is_token, place},
    client::is_loopback,
    decode::{Period, Tried, section, words},
    endpoint::{DottedPath, Method, MethodFile},
    hosts::Hosts,
    problem::Problems,
    secret::SecretJson,
    tree::Node,
};

/// A token that is asked for first, kept, and renewed before it expires.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenAuth {
    pub request: TokenRequest,
    pub grant: Grant,
    pub token_path: DottedPath,
    /// Seconds that the token is good for, or the moment until which it is.
    pub expires_path: DottedPath,
    /// Taken when the answer does not say how long the token is good for.
    pub lifetime: Duration,
    /// How the token is written in the requests that it opens, and where it goes.
    pub form: Form,
    pub place: Place,
    /// Where the answer names the address of the API.
    pub base_url: Option<BaseRule>,
}

/// Where a login's answer names the API's address, and which addresses are admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRule {
    pub path: DottedPath,
    pub hosts: Hosts,
}

impl BaseRule {
    /// Whether it can be the API's address, and credentials may go there.
    #[must_use]
    pub fn admits(&self, url: &Url) -> bool {
        self.hosts.admits(url) && url.query().is_none() && url.fragment().is_none()
    }
}

/// What the request holds besides what always stands in it.
#[derive(Debug, Clone, PartialEq)]
pub enum Grant {
    /// Nothing.
    Fixed,
    /// A refresh token, which the answer may replace.
    Refresh {
        /// The first one. `None`: it is put in by command.
        seed: Option<Secret>,
        /// Where in the answer the next one stands.
        answer: DottedPath,
    },
    /// A signed statement of who we are.
    Statement(Statement),
}

/// A statement (JWT) that is signed anew for each request.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// RSA, PEM.
    pub key: Secret,
    pub key_id: Option<String>,
    pub algorithm: Algorithm,
    pub claims: IndexMap<String, Secret>,
    pub life: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
}

impl Algorithm {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
        }
    }
}

/// The request that is answered with a token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRequest {
    pub method: Method,
    /// The only other origin that gets a credential.
    pub url: Url,
    pub params: IndexMap<String, Secret>,
    pub headers: IndexMap<String, Secret>,
    pub body: TokenBody,
    /// Who we are to the server that gives the token.
    pub auth: Option<Auth>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TokenBody {
    Empty,
    Form(IndexMap<String, Secret>),
    Json(SecretJson),
}

impl TokenAuth {
    /// Everything in it that must not be seen.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let TokenRequest {
            params,
            headers,
            body,
            auth,
            ..
        } = &self.request;
        let mut secrets: Vec<Secret> = params.values().chain(headers.values()).cloned().collect();
        match body {
            TokenBody::Empty => {}
            TokenBody::Form(fields) => secrets.extend(fields.values().cloned()),
            TokenBody::Json(json) => secrets.extend(json.texts()),
        }
        secrets.extend(auth.iter().flat_map(Auth::secrets));
        if let Grant::Refresh {
            seed: Some(seed), ..
        } = &self.grant
        {
            secrets.push(seed.clone());
        }
        if let Grant::Statement(statement) = &self.grant {
            secrets.push(statement.key.clone());
        }
        secrets
    }

    /// The refresh token that is kept for it or for the login before it.
    #[must_use]
    pub fn refresh(&self) -> Option<Option<&Secret>> {
        match (&self.grant, &self.request.auth) {
            (Grant::Refresh { seed, .. }, _) => Some(seed.as_ref()),
            (Grant::Fixed | Grant::Statement(_), Some(Auth::Token(inner))) => inner.refresh(),
            (Grant::Fixed | Grant::Statement(_), _) => None,
        }
    }
}

section! {
    /// A token from an OAuth 2.0 server, for the client itself. Shared by all resources of the source and renewed before it expires.
    pub(super) struct ClientCredentialsFile {
        /// Where the token is asked for.
        access_token_url: Url; required,
        /// The client.
        client_id: Secret; required,
        /// Its secret.
        client_secret: Secret; required,
        /// More fields of the request: `scope`, `audience`. `grant_type` may be overridden here.
        access_token_request_data: IndexMap<String, Secret>,
        /// More headers of the request.
        headers: IndexMap<String, Secret>,
        /// Where client and secret go: in the `body`, or as user and password in the header (`basic`).
        client_auth: ClientAuthFile = "body",
        /// How the body is written: `form` or `json`.
        request_format: FormatFile = "form",
        /// Place of the token in the answer.
        token_path: DottedPath = "access_token",
        /// Place of its life in seconds, or of the moment when it ends (RFC 3339, or seconds or milliseconds since 1970).
        expires_path: DottedPath = "expires_in",
        /// Life of a token whose answer names none.
        default_token_expiration: Period = "1h",
        /// Where the token goes: `header`, `query` (or `param`), `cookie`, `body`.
        location: LocationFile = "header",
        /// Name of that header, parameter or cookie; in the body its path.
        name: String = "Authorization",
        /// How it is written there. Left out: `Bearer {token}` in a header, `{token}` elsewhere.
        template: String,
    }
    refused [
        "access_token": "does not stand in the file: tokens are asked for and kept by rosterd",
        "session": "is a Python object of dlt",
    ]
}

section! {
    /// A token that is got with a refresh token. APIs that give a new refresh token each time void the old one: it is kept, encrypted, in the database, before the new token is used, and one replica refreshes at a time. Needs `credential_store`.
    pub(super) struct RefreshTokenFile {
        /// Where the token is asked for.
        access_token_url: Url; required,
        /// The first refresh token. Later ones are in the database; a new value here, never seen before, wins over them. Left out: `rosterd credentials set SOURCE` puts it in.
        refresh_token: Secret,
        /// The client.
        client_id: Secret,
        /// Its secret.
        client_secret: Secret,
        /// More fields of the request: `scope`, `redirect_uri`. `grant_type` may be overridden here.
        access_token_request_data: IndexMap<String, Secret>,
        /// More headers of the request.
        headers: IndexMap<String, Secret>,
        /// Where client and secret go: in the `body`, or as user and password in the header (`basic`).
        client_auth: ClientAuthFile = "body",
        /// How the body is written: `form` or `json`.
        request_format: FormatFile = "form",
        /// Place of the token in the answer.
        token_path: DottedPath = "access_token",
        /// Place of the next refresh token. An answer without one leaves the old one in use.
        refresh_token_path: DottedPath = "refresh_token",
        /// Place of the token's life in seconds, or of the moment when it ends (RFC 3339, or seconds or milliseconds since 1970).
        expires_path: DottedPath = "expires_in",
        /// Life of a token whose answer names none.
        default_token_expiration: Period = "1h",
        /// Where the token goes: `header`, `query` (or `param`), `cookie`, `body`.
        location: LocationFile = "header",
        /// Name of that header, parameter or cookie; in the body its path.
        name: String = "Authorization",
        /// How it is written there. Left out: `Bearer {token}` in a header, `{token}` elsewhere.
        template: String,
    }
}

section! {
    /// A token that is got with a signed statement (JWT bearer, RFC 7523).
    pub(super) struct JwtBearerFile {
        /// Where the token is asked for.
        access_token_url: Url; required,
        /// RSA key that signs, as PEM without a password: `${file:/run/secrets/key.pem}`.
        private_key: Secret; required,
        /// Name of the key at the server (`kid`).
        key_id: String,
        /// How it signs.
        algorithm: AlgorithmFile = "RS256",
        /// Who states (`iss`), often the client.
        issuer: Secret; required,
        /// Of whom (`sub`).
        subject: Secret,
        /// To whom (`aud`). Left out: `access_token_url`.
        audience: Secret,
        /// More claims, as texts.
        claims: IndexMap<String, Secret>,
        /// How long a statement holds.
        assertion_lifetime: Period = "5m",
        /// The client, where the request names it too.
        client_id: Secret,
        /// Its secret.
        client_secret: Secret,
        /// More fields of the request: `scope`. `grant_type` may be overridden here.
        access_token_request_data: IndexMap<String, Secret>,
        /// More headers of the request.
        headers: IndexMap<String, Secret>,
        /// Where client and secret go: in the `body`, or as user and password in the header (`basic`).
        client_auth: ClientAuthFile = "body",
        /// How the body is written: `form` or `json`.
        request_format: FormatFile = "form",
        /// Place of the token in the answer.
        token_path: DottedPath = "access_token",
        /// Place of its life in seconds, or of the moment when it ends (RFC 3339, or seconds or milliseconds since 1970).
        expires_path: DottedPath = "expires_in",
        /// Life of a token whose answer names none.
        default_token_expiration: Period = "1h",
        /// Where the token goes: `header`, `query` (or `param`), `cookie`, `body`.
        location: LocationFile = "header",
        /// Name of that header, parameter or cookie; in the body its path.
        name: String = "Authorization",
        /// How it is written there. Left out: `Bearer {token}` in a header, `{token}` elsewhere.
        template: String,
    }
}

words! {
    /// How a statement is signed.
    pub(super) enum AlgorithmFile {
        Rs256 = "RS256",
        Rs384 = "RS384",
        Rs512 = "RS512",
        Ps256 = "PS256",
    }
}

words! {
    /// Where a client's credentials go in a token's request.
    pub(super) enum ClientAuthFile {
        Body = "body",
        Basic = "basic",
    }
}

words! {
    /// How the body of a token's request is written.
    pub(super) enum FormatFile {
        Form = "form",
        Json = "json",
    }
}

section! {
    /// A token that a login gives. Shared by all resources of the source, renewed before it expires; a refused one is fetched anew once.
    pub(super) struct SessionFile {
        /// The login.
        request: Tried<LoginFile>; required,
        /// Place of the token in the answer.
        token_path: DottedPath = "token",
        /// Place of its life in seconds, or of the moment when it ends (RFC 3339, or seconds or milliseconds since 1970).
        expires_path: DottedPath = "expires_in",
        /// Life of a token whose answer names none.
        lifetime: Period = "1h",
        /// Where the token goes: `header`, `query` (or `param`), `cookie`, `body`.
        location: LocationFile = "header",
        /// Name of that header, parameter or cookie; in the body its path.
        name: String = "Authorization",
        /// How it is written there. Left out: `Bearer {token}` in a header, `{token}` elsewhere.
        template: String,
        /// For APIs whose login says at which address to ask from then on, instead of `client.base_url`.
        base_url: Tried<LoginBaseFile>,
    }
}

section! {
    /// The API's address in a login's answer.
    pub(super) struct LoginBaseFile {
        /// Place of the address in the answer: `restUrl`.
        path: DottedPath; required,
        /// Hosts that are admitted: `rest.example.com`, `*.example.com`. Any other address ends the run; nothing is sent there.
        hosts: Vec<String>; required,
    }
}

section! {
    /// A login, described like any request. Its values are treated as secrets.
    pub(super) struct LoginFile {
        /// Where it is sent.
        url: Url; required,
        /// `GET`, `POST`, `PUT` or `PATCH`.
        method: MethodFile = "POST",
        /// Parameters of the query.
        params: IndexMap<String, Secret>,
        /// Headers.
        headers: IndexMap<String, Secret>,
        /// JSON body: user, password, company.
        json: SecretJson,
        /// Body as a form, instead of `json`.
        data: IndexMap<String, Secret>,
        /// Who we are to the login itself; any kind of `auth`, another token too.
        auth: Box<Tried<AuthFile>>,
    }
}

impl ClientCredentialsFile {
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Option<Auth> {
        let request = OauthRequest {
            url: &self.access_token_url,
            kind: "client_credentials",
            client_id: Some(&self.client_id),
            client_secret: Some(&self.client_secret),
            client_auth: self.client_auth,
            format: self.request_format,
            more: self.access_token_request_data.as_ref(),
            headers: self.headers.as_ref(),
        }
        .request(node, problems);
        let (form, place) = ways(
            self.location,
            &self.name,
            self.template.as_deref(),
            node,
            problems,
        )?;
        Some(Auth::Token(Box::new(TokenAuth {
            request,
            grant: Grant::Fixed,
            token_path: self.token_path.clone(),
            expires_path: self.expires_path.clone(),
            lifetime: self.default_token_expiration.0,
            form,
            place,
            base_url: None,
        })))
    }
}

impl RefreshTokenFile {
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Option<Auth> {
        if let Some(seed) = &self.refresh_token {
            check_secret(seed, node.nearest(&["refresh_token"]), problems);
        }
        let request = OauthRequest {
            url: &self.access_token_url,
            kind: "refresh_token",
            client_id: self.client_id.as_ref(),
            client_secret: self.client_secret.as_ref(),
            client_auth: self.client_auth,
            format: self.request_format,
            more: self.access_token_request_data.as_ref(),
            headers: self.headers.as_ref(),
        }
        .request(node, problems);
        let (form, place) = ways(
            self.location,
            &self.name,
            self.template.as_deref(),
            node,
            problems,
        )?;
        Some(Auth::Token(Box::new(TokenAuth {
            request,
            grant: Grant::Refresh {
                seed: self.refresh_token.clone(),
                answer: self.refresh_token_path.clone(),
            },
            token_path: self.token_path.clone(),
            expires_path: self.expires_path.clone(),
            lifetime: self.default_token_expiration.0,
            form,
            place,
            base_url: None,
        })))
    }
}

impl JwtBearerFile {
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Option<Auth> {
        let is_rsa = PrivateKeyDer::from_pem_slice(self.private_key.expose().as_bytes())
            .ok()
            .and_then(|key| any_supported_type(&key).ok())
            .is_some_and(|key| key.algorithm() == SignatureAlgorithm::RSA);
        if !is_rsa {
            node.nearest(&["private_key"])
                .wrong(problems, "expected an RSA key as PEM, without a password");
        }
        let request = OauthRequest {
            url: &self.access_token_url,
            kind: "urn:ietf:params:oauth:grant-type:jwt-bearer",
            client_id: self.client_id.as_ref(),
            client_secret: self.client_secret.as_ref(),
            client_auth: self.client_auth,
            format: self.request_format,
            more: self.access_token_request_data.as_ref(),
            headers: self.headers.as_ref(),
        }
        .request(node, problems);
        let mut claims = IndexMap::from([("iss".to_owned(), self.issuer.clone())]);
        let audience = self
            .audience
            .clone()
            .unwrap_or_else(|| Secret::new(self.access_token_url.to_string()));
        claims.insert("aud".to_owned(), audience);
        if let Some(subject) = &self.subject {
            claims.insert("sub".to_owned(), subject.clone());
        }
        claims.extend(self.claims.clone().into_iter().flatten());
        let (form, place) = ways(
            self.location,
            &self.name,
            self.template.as_deref(),
            node,
            problems,
        )?;
        Some(Auth::Token(Box::new(TokenAuth {
            request,
            grant: Grant::Statement(Statement {
                key: self.private_key.clone(),
                key_id: self.key_id.clone(),
                algorithm: match self.algorithm {
                    AlgorithmFile::Rs256 => Algorithm::Rs256,
                    AlgorithmFile::Rs384 => Algorithm::Rs384,
                    AlgorithmFile::Rs512 => Algorithm::Rs512,
                    AlgorithmFile::Ps256 => Algorithm::Ps256,
                },
                claims,
                life: self.assertion_lifetime.0,
            }),
            token_path: self.token_path.clone(),
            expires_path: self.expires_path.clone(),
            lifetime: self.default_token_expiration.0,
            form,
            place,
            base_url: None,
        })))
    }
}

impl SessionFile {
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Option<Auth> {
        let login = node.nearest(&["request"]);
        let request = match &self.request.0 {
            Some(file) => file.resolve(login, problems),
            None => None,
        };
        let base_url = match &self.base_url {
            Some(Tried(file)) => {
                let at = node.nearest(&["base_url"]);
                file.as_ref().map(|file| file.resolve(at, problems))
            }
            None => None,
        };
        let (form, place) = ways(
            self.location,
            &self.name,
            self.template.as_deref(),
            node,
            problems,
        )?;
        Some(Auth::Token(Box::new(TokenAuth {
            request: request?,
            grant: Grant::Fixed,
            token_path: self.token_path.clone(),
            expires_path: self.expires_path.clone(),
            lifetime: self.lifetime.0,
            form,
            place,
            base_url,
        })))
    }
}

impl LoginBaseFile {
    fn resolve(&self, node: &Node, problems: &mut Problems) -> BaseRule {
        let at = node.nearest(&["hosts"]);
        if self.hosts.is_empty() {
            at.wrong(problems, "expected at least one name of a host");
        }
        BaseRule {
            path: self.path.clone(),
            hosts: Hosts::resolve(&self.hosts, at, problems),
        }
    }
}

impl LoginFile {
    fn resolve(&self, node: &Node, problems: &mut Problems) -> Option<TokenRequest> {
        check_token_url(&self.url, node.nearest(&["url"]), problems);
        check_headers(self.headers.as_ref(), node, problems);
        let method = self.method.resolve();
        let body = match (&self.json, &self.data) {
            (Some(_), Some(_)) => {
                node.nearest(&["data"])
                    .wrong(problems, "`json` and `data` exclude each other");
                TokenBody::Empty
            }
            (Some(json), None) => TokenBody::Json(json.clone()),
            (None, Some(fields)) => TokenBody::Form(fields.clone()),
            (None, None) => TokenBody::Empty,
        };
        if method == Method::Get && body != TokenBody::Empty {
            node.nearest(&["method"])
                .wrong(problems, "a body needs `method: POST`");
        }
        let auth = match self.auth.as_deref() {
            Some(Tried(file)) => {
                let at = node.nearest(&["auth"]);
                let auth = file.as_ref()?.resolve(at, problems)?;
                if auth.body_place().is_some() && !matches!(body, TokenBody::Json(_)) {
                    at.nearest(&["location"])
                        .wrong(problems, "a place in the body needs `json`");
                }
                Some(auth)
            }
            None => None,
        };
        Some(TokenRequest {
            method,
            url: self.url.clone(),
            params: self.params.clone().unwrap_or_default(),
            headers: self.headers.clone().unwrap_or_default(),
            body,
            auth,
        })
    }
}

/// What the requests of all OAuth 2.0 grants have in common.
struct OauthRequest<'a> {
    url: &'a Url,
    kind: &'a str,
    client_id: Option<&'a Secret>,
    client_secret: Option<&'a Secret>,
    client_auth: ClientAuthFile,
    format: FormatFile,
    more: Option<&'a IndexMap<String, Secret>>,
    headers: Option<&'a IndexMap<String, Secret>>,
}

impl OauthRequest<'_> {
    fn request(&self, node: &Node, problems: &mut Problems) -> TokenRequest {
        check_token_url(self.url, node.nearest(&["access_token_url"]), problems);
        check_headers(self.headers, node, problems);
        let mut fields =
            IndexMap::from([("grant_type".to_owned(), Secret::new(self.kind.to_owned()))]);
        let mut auth = None;
        if let Some(id) = self.client_id {
            check_secret(id, node.nearest(&["client_id"]), problems);
        }
        if let Some(secret) = self.client_secret {
            check_secret(secret, node.nearest(&["client_secret"]), problems);
        }
        match (self.client_auth, self.client_id, self.client_secret) {
            (ClientAuthFile::Basic, Some(id), Some(secret)) => {
                auth = Some(Auth::HttpBasic {
                    username: id.clone(),
                    password: secret.clone(),
                });
            }
            (ClientAuthFile::Basic, _, _) => node
                .nearest(&["client_auth"])
                .wrong(problems, "`basic` needs `client_id` and `client_secret`"),
            (ClientAuthFile::Body, id, secret) => {
                let named = [("client_id", id), ("client_secret", secret)];
                let given = named
                    .into_iter()
                    .filter_map(|(name, value)| Some((name.to_owned(), value?.clone())));
                fields.extend(given);
            }
        }
        fields.extend(self.more.cloned().into_iter().flatten());
        TokenRequest {
            method: Method::Post,
            url: self.url.clone(),
            params: IndexMap::new(),
            headers: self.headers.cloned().unwrap_or_default(),
            body: match self.format {
                FormatFile::Form => TokenBody::Form(fields),
                FormatFile::Json => TokenBody::Json(SecretJson::new(Value::Object(
                    fields
                        .into_iter()
                        .map(|(name, value)| (name, value.expose().into()))
                        .collect(),
                ))),
            },
            auth,
        }
    }
}

/// How the token is written and where it goes.
fn ways(
    location: LocationFile,
    name: &str,
    template: Option<&str>,
    node: &Node,
    problems: &mut Problems,
) -> Option<(Form, Place)> {
    let place = place(location, name, node.nearest(&["name"]), problems);
    let form = match (template, location) {
        (Some(text), _) => form(text, "token", node.nearest(&["template"]), problems),
        (None, LocationFile::Header) => Some(Form::behind("Bearer ")),
        (None, LocationFile::Query | LocationFile::Cookie | LocationFile::Body) => {
            Some(Form::bare())
        }
    };
    Some((form?, place?))
}

/// Client and secret cross the network on the way there.
fn check_token_url(url: &Url, node: &Node, problems: &mut Problems) {
    match url.scheme() {
        "https" if url.host().is_some() => {}
        "http" if is_loopback(url) => {}
        _ => node.wrong(problems, "expected a URL that begins with https://"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        node.wrong(problems, "credentials do not belong in the URL");
    }
}

fn check_headers(headers: Option<&IndexMap<String, Secret>>, node: &Node, problems: &mut Problems) {
    for (name, value) in headers.into_iter().flatten() {
        let at = node.nearest(&["headers", name]);
        if !is_token(name) {
            at.wrong(
                problems,
                "expected the name of a header: letters, digits, `-`, `_`",
            );
        }
        if value.expose().contains(char::is_control) {
            at.wrong(problems, "holds a line break or control character");
        }
    }
}
