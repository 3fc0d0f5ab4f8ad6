//! Puts the key on a request, and takes it out of links.
//!
//! The key meets the URL only in [`Client::send`](super::client::Client::send), the last function
//! before the socket, so that no URL elsewhere can hold it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{Error, request::encoded, token::Tokens};
use crate::config::{
    self, Secret,
    source::{Auth, KeyLocation, TokenPlace},
};

/// A credential in the form in which it is sent.
pub(super) enum Signer {
    Header(HeaderName, HeaderValue),
    Query {
        name: String,
        key: Secret,
    },
    /// Asked for first, and again when it was refused.
    Token {
        tokens: Box<Tokens>,
        place: TokenPlace,
    },
}

impl Signer {
    pub(super) fn new(auth: &Auth, api: &config::source::Client) -> Result<Self, Error> {
        Ok(match auth {
            Auth::ApiKey {
                name,
                key,
                location,
            } => match location {
                KeyLocation::Query => Self::Query {
                    name: name.clone(),
                    key: key.clone(),
                },
                KeyLocation::Header => {
                    Self::Header(header_name(name)?, secret_value(name, key.expose())?)
                }
                KeyLocation::Cookie => Self::Header(
                    COOKIE,
                    secret_value(name, &format!("{name}={}", key.expose()))?,
                ),
            },
            Auth::Bearer { token } => Self::Header(
                AUTHORIZATION,
                secret_value("Authorization", &format!("Bearer {}", token.expose()))?,
            ),
            Auth::HttpBasic { username, password } => {
                Self::Header(AUTHORIZATION, basic(username, password)?)
            }
            Auth::Token(auth) => Self::Token {
                tokens: Box::new(Tokens::new(auth, api)?),
                place: auth.place.clone(),
            },
        })
    }

    /// Adds the credential, after asking for it where it must be asked for.
    ///
    /// # Errors
    ///
    /// What keeps a token from being had.
    pub(super) async fn sign(&self, url: &mut Url, headers: &mut HeaderMap) -> Result<(), Error> {
        match self {
            Self::Header(name, value) => {
                headers.insert(name, value.clone());
            }
            Self::Query { name, key } => add_to_query(url, name, key),
            Self::Token { tokens, place } => {
                // Boxed: the token is asked for through a client like the one that asks for this.
                let token = Box::pin(tokens.token()).await?;
                match place {
                    TokenPlace::Header { name, prefix } => {
                        let value = secret_value(name, &format!("{prefix}{}", token.expose()))?;
                        headers.insert(header_name(name)?, value);
                    }
                    TokenPlace::Query { name } => add_to_query(url, name, &token),
                    TokenPlace::Cookie { name } => {
                        let value = secret_value(name, &format!("{name}={}", token.expose()))?;
                        headers.insert(COOKIE, value);
                    }
                }
            }
        }
        Ok(())
    }

    /// The tokens that can be renewed, if the credential is one.
    pub(super) fn tokens(&self) -> Option<&Tokens> {
        match self {
            Self::Header(..) | Self::Query { .. } => None,
            Self::Token { tokens, .. } => Some(tokens),
        }
    }

    /// Removes the key from a link that the API made of our own request.
    pub(super) fn cut(&self, url: &mut Url) {
        let (name, key) = match self {
            Self::Query { name, key } => (name, Some(key)),
            Self::Token {
                place: TokenPlace::Query { name },
                ..
            } => (name, None),
            Self::Header(..) | Self::Token { .. } => return,
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

fn add_to_query(url: &mut Url, name: &str, key: &Secret) {
    let pair = format!("{}={}", encoded(name), encoded(key.expose()));
    let query = match url.query() {
        Some(query) if !query.is_empty() => format!("{query}&{pair}"),
        _ => pair,
    };
    url.set_query(Some(&query));
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

/// User and password as the header's value.
pub(super) fn basic(username: &Secret, password: &Secret) -> Result<HeaderValue, Error> {
    let pair = format!("{}:{}", username.expose(), password.expose());
    secret_value("Authorization", &format!("Basic {}", STANDARD.encode(pair)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_in_the_query_is_encoded_and_cut_again() {
        let signer = Signer::Query {
            name: "api key".into(),
            key: Secret::new("k3y+/=&%1 é".into()),
        };
        for plain in [
            "https://a.test/x",
            "https://a.test/x?page=2&q=a+b%20c",
            "https://a.test/x?flag",
        ] {
            let mut url = Url::parse(plain).unwrap();
            signer.sign(&mut url, &mut HeaderMap::new()).await.unwrap();
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
}
