//! Section `auth`: who we are to the API.
//!
//! A credential is a secret, the [`Form`] in which it is written, and the [`Place`] of a request where it
//! goes. The secret is known from the start, or it is a token that is asked for first
//! ([`super::token`]); the rest is the same for both.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Secret,
    decode::{section, variants, words},
    endpoint::DottedPath,
    problem::Problems,
    token::{ClientCredentialsFile, JwtBearerFile, RefreshTokenFile, SessionFile, TokenAuth},
    tree::Node,
};

/// Who we are to the API.
#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    Key(Key),
    HttpBasic { username: Secret, password: Secret },
    Token(Box<TokenAuth>),
}

/// A secret that is known from the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub key: Secret,
    pub form: Form,
    pub place: Place,
}

/// Where in a request a secret goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Header(String),
    Query(String),
    Cookie(String),
    /// A place in the JSON body, or a field of a form.
    Body(DottedPath),
}

/// How a secret is written where it goes: `Token token={key}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    before: String,
    base64: bool,
    after: String,
}

impl Form {
    /// The secret and nothing else.
    #[must_use]
    pub fn bare() -> Self {
        Self::behind("")
    }

    /// The secret behind a text: `Bearer `.
    #[must_use]
    pub fn behind(text: &str) -> Self {
        Self {
            before: text.to_owned(),
            base64: false,
            after: String::new(),
        }
    }

    /// Reads a template that names the secret once, as `{name}` or `{name.base64}`.
    pub(super) fn parse(text: &str, name: &str) -> Option<Self> {
        [
            (format!("{{{name}}}"), false),
            (format!("{{{name}.base64}}"), true),
        ]
        .into_iter()
        .find_map(|(place, base64)| {
            let (before, after) = text.split_once(&place)?;
            let plain = !before.contains(['{', '}']) && !after.contains(['{', '}']);
            plain.then(|| Self {
                before: before.to_owned(),
                base64,
                after: after.to_owned(),
            })
        })
    }

    /// The text that is sent.
    #[must_use]
    pub fn filled(&self, secret: &Secret) -> Secret {
        let Self { before, after, .. } = self;
        Secret::new(match self.base64 {
            true => format!("{before}{}{after}", STANDARD.encode(secret.expose())),
            false => format!("{before}{}{after}", secret.expose()),
        })
    }
}

impl Auth {
    /// Everything in it that must not be seen.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::Key(key) => vec![key.key.clone()],
            Self::HttpBasic { username, password } => vec![username.clone(), password.clone()],
            Self::Token(token) => token.secrets(),
        }
    }

    /// The first refresh token, if this credential is one that must be kept; the configuration may leave
    /// it out.
    #[must_use]
    pub fn refresh(&self) -> Option<Option<&Secret>> {
        match self {
            Self::Token(token) => token.refresh(),
            Self::Key(_) | Self::HttpBasic { .. } => None,
        }
    }

    /// Where in the body of each request it goes, if it does.
    #[must_use]
    pub fn body_place(&self) -> Option<&DottedPath> {
        let place = match self {
            Self::Key(key) => &key.place,
            Self::Token(token) => &token.place,
            Self::HttpBasic { .. } => return None,
        };
        match place {
            Place::Body(path) => Some(path),
            Place::Header(_) | Place::Query(_) | Place::Cookie(_) => None,
        }
    }
}

variants! {
    /// Who we are to the API. Without `type` it is `bearer`, as in dlt.
    pub(super) enum AuthFile {
        ApiKey(ApiKeyFile) = "api_key",
        Bearer(BearerFile) = "bearer",
        HttpBasic(HttpBasicFile) = "http_basic",
        ClientCredentials(ClientCredentialsFile) = "oauth2_client_credentials",
        RefreshToken(RefreshTokenFile) = "oauth2_refresh_token",
        JwtBearer(JwtBearerFile) = "oauth2_jwt_bearer",
        Session(SessionFile) = "session",
    }
    default "bearer"
    refused ["jwt": "is a Python class of dlt; the kind is called `oauth2_jwt_bearer` here"]
}

section! {
    /// A key in a header, the query, a cookie or the body of every request.
    pub(super) struct ApiKeyFile {
        /// Name of the header, parameter or cookie; in the body its path, such as `auth.key`.
        name: String = "Authorization",
        /// The key.
        api_key: Secret; required,
        /// Where it goes: `header`, `query` (or `param`), `cookie`, `body`.
        location: LocationFile = "header",
        /// How it is written there: `Token token={key}`, `AfasToken {key.base64}`.
        template: String = "{key}",
    }
}

words! {
    /// Where a key goes.
    pub(super) enum LocationFile {
        Header = "header",
        Query = "query" | "param",
        Cookie = "cookie",
        Body = "body",
    }
}

section! {
    /// A token in the header `Authorization`.
    pub(super) struct BearerFile {
        /// The token.
        token: Secret; required,
        /// Word before the token: `Bearer`, `Token`, `SSWS`.
        scheme: String = "Bearer",
    }
}

section! {
    /// User and password in the header `Authorization: Basic`.
    pub(super) struct HttpBasicFile {
        /// The user. Where an API takes its key as the user, the key.
        username: Secret; required,
        /// The password; may be empty.
        password: Secret = "",
    }
}

impl AuthFile {
    /// `None`: a problem was noted.
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Option<Auth> {
        match self {
            Self::ApiKey(file) => file.resolve(node, problems).map(Auth::Key),
            Self::Bearer(file) => {
                check_secret(&file.token, node.nearest(&["token"]), problems);
                if !is_token(&file.scheme) {
                    node.nearest(&["scheme"])
                        .wrong(problems, "expected one word, such as Bearer");
                }
                Some(Auth::Key(Key {
                    key: file.token.clone(),
                    form: Form::behind(&format!("{} ", file.scheme)),
                    place: Place::Header("Authorization".to_owned()),
                }))
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
                Some(Auth::HttpBasic {
                    username: file.username.clone(),
                    password: file.password.clone(),
                })
            }
            Self::ClientCredentials(file) => file.resolve(node, problems),
            Self::RefreshToken(file) => file.resolve(node, problems),
            Self::JwtBearer(file) => file.resolve(node, problems),
            Self::Session(file) => file.resolve(node, problems),
        }
    }
}

impl ApiKeyFile {
    fn resolve(&self, node: &Node, problems: &mut Problems) -> Option<Key> {
        let at = node.nearest(&["api_key"]);
        check_secret(&self.api_key, at, problems);
        let place = place(self.location, &self.name, node.nearest(&["name"]), problems);
        let template = node.nearest(&["template"]);
        let form = form(&self.template, "key", template, problems)?;
        let place = place?;
        if matches!(place, Place::Cookie(_))
            && !is_cookie_value(form.filled(&self.api_key).expose())
        {
            at.wrong(problems, "holds signs that a cookie cannot");
        }
        Some(Key {
            key: self.api_key.clone(),
            form,
            place,
        })
    }
}

/// Where a secret goes, with a name that fits there.
pub(super) fn place(
    location: LocationFile,
    name: &str,
    at: &Node,
    problems: &mut Problems,
) -> Option<Place> {
    let (fits, place) = match location {
        LocationFile::Header => (is_token(name), Place::Header(name.to_owned())),
        LocationFile::Cookie => (is_token(name), Place::Cookie(name.to_owned())),
        LocationFile::Query => (!name.is_empty(), Place::Query(name.to_owned())),
        LocationFile::Body => {
            let path = DottedPath::parse(name).filter(|path| !path.0.is_empty());
            (
                path.is_some(),
                Place::Body(path.unwrap_or(DottedPath(Vec::new()))),
            )
        }
    };
    if fits {
        return Some(place);
    }
    at.wrong(
        problems,
        match location {
            LocationFile::Header | LocationFile::Cookie => {
                "expected the name of a header or cookie: letters, digits, `-`, `_`"
            }
            LocationFile::Query => "expected the name of a parameter",
            LocationFile::Body => "expected a path into the body such as key or auth.key",
        },
    );
    None
}

/// Reads a template that names the secret once.
pub(super) fn form(text: &str, name: &str, at: &Node, problems: &mut Problems) -> Option<Form> {
    let form = Form::parse(text, name).filter(|_| !text.contains(char::is_control));
    if form.is_none() {
        at.wrong(
            problems,
            format!("expected a text with one `{{{name}}}` or `{{{name}.base64}}` in it"),
        );
    }
    form
}

/// An empty secret would be sent and refused with a 401 that explains nothing; a line break cannot be sent.
pub(super) fn check_secret(secret: &Secret, node: &Node, problems: &mut Problems) {
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

fn is_cookie_value(text: &str) -> bool {
    !text.contains([';', ',', ' ', '"', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_names_its_secret_once() {
        let key = Secret::new("k{3}y".into());
        for (template, sent) in [
            ("{key}", Some("k{3}y")),
            ("Token token={key}", Some("Token token=k{3}y")),
            ("AfasToken {key.base64}", Some("AfasToken a3szfXk=")),
            ("a {key} b", Some("a k{3}y b")),
            ("Bearer", None),
            ("{token}", None),
            ("{key}{key}", None),
            ("{key} {other}", None),
        ] {
            let form = Form::parse(template, "key");
            let filled = form.map(|form| form.filled(&key).expose().to_owned());
            assert_eq!(filled.as_deref(), sent, "{template}");
        }
    }
}
