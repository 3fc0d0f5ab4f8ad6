//! Section `client.auth`: who we are to the API.

use indexmap::IndexMap;
use url::Url;

use super::{
    Secret,
    client::is_loopback,
    decode::{Period, section, variants, words},
    endpoint::DottedPath,
    problem::Problems,
    source::{Auth, KeyLocation, TokenAuth, TokenFormat, TokenPlace},
    tree::Node,
};

variants! {
    /// Who we are to the API. Without `type` it is `bearer`, as in dlt.
    pub(super) enum AuthFile {
        ApiKey(ApiKeyFile) = "api_key",
        Bearer(BearerFile) = "bearer",
        HttpBasic(HttpBasicFile) = "http_basic",
        ClientCredentials(ClientCredentialsFile) = "oauth2_client_credentials",
        Session(SessionFile) = "session",
    }
    default "bearer"
    later ["oauth2_refresh_token", "jwt"]
}

section! {
    /// A key in a header, the query or a cookie of every request.
    pub(super) struct ApiKeyFile {
        /// Name of the header, parameter or cookie.
        name: String = "Authorization",
        /// The key.
        api_key: Secret; required,
        /// Where it goes: `header`, `query` (or `param`), `cookie`.
        location: LocationFile = "header",
    }
}

words! {
    /// Where a key goes.
    pub(super) enum LocationFile {
        Header = "header",
        Query = "query" | "param",
        Cookie = "cookie",
    }
}

section! {
    /// A token in the header `Authorization: Bearer`.
    pub(super) struct BearerFile {
        /// The token.
        token: Secret; required,
    }
}

section! {
    /// User and password in the header `Authorization: Basic`.
    pub(super) struct HttpBasicFile {
        /// The user.
        username: Secret; required,
        /// The password; may be empty.
        password: Secret; required,
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
        /// Where client and secret go: in the `body`, or as user and password in the header (`basic`).
        client_auth: ClientAuthFile = "body",
        /// How the body is written: `form` or `json`.
        request_format: FormatFile = "form",
        /// Place of the token in the answer.
        token_path: DottedPath = "access_token",
        /// Place of its life in seconds.
        expires_path: DottedPath = "expires_in",
        /// Life of a token whose answer names none.
        default_token_expiration: Period = "1h",
    }
    later ["access_token", "session"]
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
    /// A token that a login gives. Shared by all resources of the source; a refused one is fetched anew once.
    pub(super) struct SessionFile {
        /// Where the login is sent, as a POST.
        login_url: Url; required,
        /// Fields of the login: user, password, company.
        fields: IndexMap<String, Secret>,
        /// Headers of the login.
        headers: IndexMap<String, Secret>,
        /// How the fields are written: `form` or `json`.
        request_format: FormatFile = "json",
        /// Place of the token in the answer.
        token_path: DottedPath = "token",
        /// Place of its life in seconds, when the answer names it.
        expires_path: DottedPath = "expires_in",
        /// Life of a token whose answer names none.
        lifetime: Period = "1h",
        /// Where the token goes in the requests: `header`, `query` (or `param`), `cookie`.
        location: LocationFile = "header",
        /// Name of that header, parameter or cookie.
        name: String = "Authorization",
        /// What stands before the token in a header.
        prefix: String = "Bearer ",
    }
}

impl AuthFile {
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Auth {
        match self {
            Self::ApiKey(file) => {
                let location = match file.location {
                    LocationFile::Header => KeyLocation::Header,
                    LocationFile::Query => KeyLocation::Query,
                    LocationFile::Cookie => KeyLocation::Cookie,
                };
                let name = node.nearest(&["name"]);
                if location == KeyLocation::Query {
                    if file.name.is_empty() {
                        name.wrong(problems, "expected the name of a parameter");
                    }
                } else if !is_token(&file.name) {
                    name.wrong(
                        problems,
                        "expected the name of a header or cookie: letters, digits, `-`, `_`",
                    );
                }
                check_secret(&file.api_key, node.nearest(&["api_key"]), problems);
                if location == KeyLocation::Cookie
                    && file.api_key.expose().contains([';', ',', ' ', '"', '\\'])
                {
                    node.nearest(&["api_key"])
                        .wrong(problems, "holds signs that a cookie cannot");
                }
                Auth::ApiKey {
                    name: file.name.clone(),
                    key: file.api_key.clone(),
                    location,
                }
            }
            Self::Bearer(file) => {
                check_secret(&file.token, node.nearest(&["token"]), problems);
                Auth::Bearer {
                    token: file.token.clone(),
                }
            }
            Self::HttpBasic(file) => {
                check_secret(&file.username, node.nearest(&["username"]), problems);
                if file.username.expose().contains(':') {
                    node.nearest(&["username"])
                        .wrong(problems, "a user of http_basic cannot hold a colon");
                }
                if file.password.expose().contains(char::is_control) {
                    node.nearest(&["password"])
                        .wrong(problems, "holds a line break or control character");
                }
                Auth::HttpBasic {
                    username: file.username.clone(),
                    password: file.password.clone(),
                }
            }
            Self::ClientCredentials(file) => file.resolve(node, problems),
            Self::Session(file) => file.resolve(node, problems),
        }
    }
}

impl ClientCredentialsFile {
    fn resolve(&self, node: &Node, problems: &mut Problems) -> Auth {
        check_token_url(
            &self.access_token_url,
            node.nearest(&["access_token_url"]),
            problems,
        );
        check_secret(&self.client_id, node.nearest(&["client_id"]), problems);
        check_secret(
            &self.client_secret,
            node.nearest(&["client_secret"]),
            problems,
        );
        let mut fields = IndexMap::from([(
            "grant_type".to_owned(),
            Secret::new("client_credentials".to_owned()),
        )]);
        let basic = match self.client_auth {
            ClientAuthFile::Basic => Some((self.client_id.clone(), self.client_secret.clone())),
            ClientAuthFile::Body => {
                fields.insert("client_id".to_owned(), self.client_id.clone());
                fields.insert("client_secret".to_owned(), self.client_secret.clone());
                None
            }
        };
        fields.extend(self.access_token_request_data.clone().into_iter().flatten());
        Auth::Token(Box::new(TokenAuth {
            url: self.access_token_url.clone(),
            headers: IndexMap::new(),
            fields,
            format: self.request_format.resolve(),
            basic,
            token_path: self.token_path.clone(),
            expires_path: self.expires_path.clone(),
            lifetime: self.default_token_expiration.0,
            place: TokenPlace::Header {
                name: "Authorization".to_owned(),
                prefix: "Bearer ".to_owned(),
            },
        }))
    }
}

impl SessionFile {
    fn resolve(&self, node: &Node, problems: &mut Problems) -> Auth {
        check_token_url(&self.login_url, node.nearest(&["login_url"]), problems);
        for name in self.headers.iter().flatten().map(|(name, _)| name) {
            if !is_token(name) {
                node.nearest(&["headers", name]).wrong(
                    problems,
                    "expected the name of a header: letters, digits, `-`, `_`",
                );
            }
        }
        let name = self.name.clone();
        if !is_token(&name) {
            node.nearest(&["name"])
                .wrong(problems, "expected a name of letters, digits, `-`, `_`");
        }
        Auth::Token(Box::new(TokenAuth {
            url: self.login_url.clone(),
            headers: self.headers.clone().unwrap_or_default(),
            fields: self.fields.clone().unwrap_or_default(),
            format: self.request_format.resolve(),
            basic: None,
            token_path: self.token_path.clone(),
            expires_path: self.expires_path.clone(),
            lifetime: self.lifetime.0,
            place: match self.location {
                LocationFile::Header => TokenPlace::Header {
                    name,
                    prefix: self.prefix.clone(),
                },
                LocationFile::Query => TokenPlace::Query { name },
                LocationFile::Cookie => TokenPlace::Cookie { name },
            },
        }))
    }
}

impl FormatFile {
    fn resolve(self) -> TokenFormat {
        match self {
            Self::Form => TokenFormat::Form,
            Self::Json => TokenFormat::Json,
        }
    }
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

/// An empty secret would be sent and refused with a 401 that explains nothing; a line break cannot be sent.
fn check_secret(secret: &Secret, node: &Node, problems: &mut Problems) {
    if secret.expose().trim().is_empty() {
        node.wrong(problems, "is empty");
    } else if secret.expose().contains(char::is_control) {
        node.wrong(problems, "holds a line break or control character");
    }
}

/// Whether the text may be the name of a header or cookie (RFC 9110, `token`).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
