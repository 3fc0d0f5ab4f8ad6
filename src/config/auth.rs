//! Section `client.auth`: who we are to the API.

use super::{
    Secret,
    decode::{section, variants, words},
    problem::Problems,
    source::{Auth, KeyLocation},
    tree::Node,
};

variants! {
    /// Who we are to the API. Without `type` it is `bearer`, as in dlt.
    pub(super) enum AuthFile {
        ApiKey(ApiKeyFile) = "api_key",
        Bearer(BearerFile) = "bearer",
        HttpBasic(HttpBasicFile) = "http_basic",
    }
    default "bearer"
    later ["oauth2_client_credentials", "oauth2_refresh_token", "jwt", "session"]
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
        }
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
