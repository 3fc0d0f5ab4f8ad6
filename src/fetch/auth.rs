//! Puts the key on a request, and takes it out of links.
//!
//! The key meets the URL only in [`Client::send`](super::client::Client::send), the last function
//! before the socket, so that no URL elsewhere can hold it.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, Entry, HeaderMap, HeaderName, HeaderValue,
};
use serde_json::Value;
use url::Url;

use super::{
    Error,
    request::{encoded, put_in},
    token::Tokens,
    vault::Keeper,
};
use crate::config::{
    self, Secret,
    auth::{Auth, Form, Place},
    endpoint::DottedPath,
};

/// A credential in the form in which it is sent.
pub(super) enum Signer {
    /// Known from the start, written out.
    Known { secret: Secret, place: Place },
    /// Asked for first, and again when it was refused.
    Token {
        tokens: Arc<Tokens>,
        form: Form,
        place: Place,
    },
}

/// A request on its way to the socket.
pub(super) struct Signed<'a> {
    pub(super) url: &'a mut Url,
    pub(super) headers: &'a mut HeaderMap,
    pub(super) body: &'a mut Option<Bytes>,
}

impl Signer {
    /// `keeper`: where a token is written down that the API replaces.
    pub(super) fn new(
        auth: &Auth,
        keeper: Option<&Keeper>,
        api: &config::source::Client,
    ) -> Result<Self, Error> {
        let signer = match auth {
            Auth::Token(auth) => {
                let inner = auth.request.auth.as_ref();
                let inner = inner
                    .map(|inner| Self::new(inner, keeper, api))
                    .transpose()?;
                return Ok(Self::Token {
                    tokens: Arc::new(Tokens::new(auth, inner, keeper.cloned(), api)?),
                    form: auth.form.clone(),
                    place: auth.place.clone(),
                });
            }
            Auth::Key(key) => Self::Known {
                secret: key.form.filled(&key.key),
                place: key.place.clone(),
            },
            Auth::HttpBasic { username, password } => {
                let pair = format!("{}:{}", username.expose(), password.expose());
                Self::Known {
                    secret: Secret::new(format!("Basic {}", STANDARD.encode(pair))),
                    place: Place::Header(AUTHORIZATION.to_string()),
                }
            }
        };
        signer.check()?;
        Ok(signer)
    }

    /// What cannot be sent is told before the first request.
    fn check(&self) -> Result<(), Error> {
        let mut url = Url::parse("https://nowhere.invalid/").map_err(|_| Error::Client)?;
        let (mut headers, mut body) = (HeaderMap::new(), None);
        if let Self::Known { secret, place } = self {
            put(
                secret,
                place,
                Signed {
                    url: &mut url,
                    headers: &mut headers,
                    body: &mut body,
                },
            )?;
        }
        Ok(())
    }

    /// Adds the credential, after asking for it where it must be asked for.
    ///
    /// # Errors
    ///
    /// What keeps a token from being had.
    pub(super) async fn sign(&self, request: Signed<'_>) -> Result<(), Error> {
        match self {
            Self::Known { secret, place } => put(secret, place, request),
            Self::Token {
                tokens,
                form,
                place,
            } => {
                let token = tokens.token().await?;
                put(&form.filled(&token), place, request)
            }
        }
    }

    /// Puts a mask where the secret goes, in a request that is only to be shown.
    pub(super) fn mask(&self, request: Signed<'_>) -> Result<(), Error> {
        put(&Secret::new("***".to_owned()), self.place(), request)
    }

    fn place(&self) -> &Place {
        match self {
            Self::Known { place, .. } | Self::Token { place, .. } => place,
        }
    }

    /// The tokens that can be renewed, if the credential is one.
    pub(super) fn tokens(&self) -> Option<&Arc<Tokens>> {
        match self {
            Self::Known { .. } => None,
            Self::Token { tokens, .. } => Some(tokens),
        }
    }

    /// Removes the key from a link that the API made of our own request.
    pub(super) fn cut(&self, url: &mut Url) {
        let (name, key) = match self {
            Self::Known {
                secret,
                place: Place::Query(name),
            } => (name, Some(secret)),
            Self::Token {
                place: Place::Query(name),
                ..
            } => (name, None),
            Self::Known { .. } | Self::Token { .. } => return,
        };
        let Some(query) = url.query() else { return };
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                url::form_urlencoded::parse(pair.as_bytes())
                    .all(|(n, v)| n != name.as_str() && key.is_none_or(|key| v != key.expose()))
            })
            .collect();
        let kept = kept.join("&");
        url.set_query((!kept.is_empty()).then_some(&*kept));
    }
}

/// Puts a secret, written as it is to be sent, in its place.
fn put(secret: &Secret, place: &Place, request: Signed<'_>) -> Result<(), Error> {
    let text = secret.expose();
    match place {
        Place::Header(name) => {
            let value = secret_value(name, text)?;
            request.headers.insert(header_name(name)?, value);
        }
        Place::Query(name) => add_to_query(request.url, name, secret),
        Place::Cookie(name) => {
            let cookies = match request.headers.get(COOKIE).and_then(|v| v.to_str().ok()) {
                Some(others) => format!("{others}; {name}={text}"),
                None => format!("{name}={text}"),
            };
            let value = secret_value(name, &cookies)?;
            request.headers.insert(COOKIE, value);
        }
        Place::Body(path) => add_to_body(request, path, text),
    }
    Ok(())
}

fn add_to_query(url: &mut Url, name: &str, key: &Secret) {
    let pair = format!("{}={}", encoded(name), encoded(key.expose()));
    let query = match url.query() {
        Some(query) if !query.is_empty() => format!("{query}&{pair}"),
        _ => pair,
    };
    url.set_query(Some(&query));
}

/// A form gets one more field; everything else is JSON.
fn add_to_body(request: Signed<'_>, path: &DottedPath, text: &str) {
    let form = matches!(
        request.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes),
        Some(kind) if kind.starts_with(b"application/x-www-form-urlencoded")
    );
    let before = request.body.take().unwrap_or_default();
    if form {
        let mut fields = String::from_utf8_lossy(&before).into_owned();
        url::form_urlencoded::Serializer::for_suffix(&mut fields, 0)
            .append_pair(&path.to_string(), text);
        *request.body = Some(fields.into());
        return;
    }
    let mut json = serde_json::from_slice(&before).unwrap_or(Value::Null);
    put_in(&mut json, &path.0, text.into());
    if let Entry::Vacant(entry) = request.headers.entry(CONTENT_TYPE) {
        entry.insert(HeaderValue::from_static("application/json"));
    }
    *request.body = Some(json.to_string().into());
}

/// A header's name, checked.
pub(super) fn header_name(name: &str) -> Result<HeaderName, Error> {
    name.parse()
        .map_err(|_| Error::BadHeader { name: name.into() })
}

/// A header's value that no `Debug` shows.
pub(super) fn secret_value(name: &str, value: &str) -> Result<HeaderValue, Error> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| Error::BadHeader { name: name.into() })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::Step;

    fn known(secret: &str, place: Place) -> Signer {
        Signer::Known {
            secret: Secret::new(secret.to_owned()),
            place,
        }
    }

    async fn sign(
        signer: &Signer,
        url: &str,
        kind: Option<&'static str>,
        body: &str,
    ) -> (Url, HeaderMap, String) {
        let mut url = Url::parse(url).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let mut body = (!body.is_empty()).then(|| Bytes::from(body.to_owned()));
        let request = Signed {
            url: &mut url,
            headers: &mut headers,
            body: &mut body,
        };
        signer.sign(request).await.unwrap();
        let body = body.unwrap_or_default();
        (url, headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_key_in_the_query_is_encoded_and_cut_again() {
        let signer = known("k3y+/=&%1 é", Place::Query("api key".into()));
        for plain in [
            "https://a.test/x",
            "https://a.test/x?page=2&q=a+b%20c",
            "https://a.test/x?flag",
        ] {
            let (mut url, _, _) = sign(&signer, plain, None, "").await;
            let sent: Vec<_> = url.query_pairs().filter(|(n, _)| n == "api key").collect();
            assert_eq!(sent.len(), 1);
            assert_eq!(sent[0].1, "k3y+/=&%1 é");
            signer.cut(&mut url);
            assert_eq!(url.as_str(), plain);
        }
        let mut renamed =
            Url::parse("https://a.test/x?k=k3y%2B%2F%3D%26%251+%C3%A9&page=3").unwrap();
        signer.cut(&mut renamed);
        assert_eq!(renamed.as_str(), "https://a.test/x?page=3");
    }

    #[tokio::test]
    async fn a_key_in_the_body_leaves_the_rest_as_it_is() {
        let path = DottedPath(vec![Step::Key("auth".into()), Step::Key("key".into())]);
        let signer = known("s&3", Place::Body(path));
        for (kind, before, after) in [
            (
                Some("application/json"),
                r#"{"big":12345678901234567890.10,"auth":{"user":"me"}}"#,
                r#"{"big":12345678901234567890.10,"auth":{"user":"me","key":"s&3"}}"#,
            ),
            (None, "", r#"{"auth":{"key":"s&3"}}"#),
            (
                Some("application/x-www-form-urlencoded"),
                "a=1",
                "a=1&auth.key=s%263",
            ),
        ] {
            let (_, headers, body) = sign(&signer, "https://a.test", kind, before).await;
            assert_eq!(body, after);
            assert_eq!(headers[CONTENT_TYPE], kind.unwrap_or("application/json"));
        }
    }
}
