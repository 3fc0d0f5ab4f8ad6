//! Puts the key on a request, and takes it out of links.
//!
//! The key meets the URL only in [`Client::send`](super::client::Client::send), the last function
//! before the socket, so that no URL elsewhere can hold it.

use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{Error, request::encoded};
use crate::config::{
    Secret,
    source::{Auth, KeyLocation},
};

/// A credential in the form in which it is sent.
pub(super) enum Signer {
    Header(HeaderName, HeaderValue),
    Query { name: String, key: Secret },
}

impl Signer {
    pub(super) fn new(auth: &Auth) -> Result<Self, Error> {
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
                let pair = format!("{}:{}", username.expose(), password.expose());
                Self::Header(
                    AUTHORIZATION,
                    secret_value(
                        "Authorization",
                        &format!("Basic {}", base64(pair.as_bytes())),
                    )?,
                )
            }
        })
    }

    /// Adds the credential.
    pub(super) fn sign(&self, url: &mut Url, headers: &mut HeaderMap) {
        match self {
            Self::Header(name, value) => {
                headers.insert(name, value.clone());
            }
            Self::Query { name, key } => {
                let pair = format!("{}={}", encoded(name), encoded(key.expose()));
                let query = match url.query() {
                    Some(query) if !query.is_empty() => format!("{query}&{pair}"),
                    _ => pair,
                };
                url.set_query(Some(&query));
            }
        }
    }

    /// Removes the key from a link that the API made of our own request.
    pub(super) fn cut(&self, url: &mut Url) {
        let Self::Query { name, key } = self else {
            return;
        };
        let Some(query) = url.query() else { return };
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                url::form_urlencoded::parse(pair.as_bytes())
                    .all(|(n, v)| n != name.as_str() && v != key.expose())
            })
            .collect();
        let kept = kept.join("&");
        url.set_query((!kept.is_empty()).then_some(&*kept));
    }
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

/// RFC 4648 with padding, for basic authentication only.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, b| bits << 8 | u32::from(*b))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET.get((bits >> (18 - 6 * place) & 63) as usize);
            match letter {
                Some(letter) if place <= chunk.len() => text.push(char::from(*letter)),
                _ => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_padded_base64() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("ü:ÿ?>", "w7w6w78/Pg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_key_in_the_query_is_encoded_and_cut_again() {
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
            signer.sign(&mut url, &mut HeaderMap::new());
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
