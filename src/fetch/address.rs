//! URLs as they may be printed.
//!
//! Which query values are secret cannot be told by their names, so none is shown at all.

use std::fmt;

use url::Url;

/// Scheme, host, path and the *names* of the query parameters of a URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Box<str>);

impl Address {
    /// Longest text; a link of the API's may have any length.
    const MAX: usize = 300;

    #[must_use]
    pub fn of(url: &Url) -> Self {
        let mut text = format!("{}://{}", url.scheme(), url.host_str().unwrap_or("-"));
        if let Some(port) = url.port() {
            text.push_str(&format!(":{port}"));
        }
        text.push_str(url.path());
        for (i, (name, _)) in url.query_pairs().enumerate() {
            text.push_str(if i == 0 { "?" } else { "," });
            text.extend(
                name.chars()
                    .map(|c| if c.is_control() { '\u{fffd}' } else { c }),
            );
        }
        if text.len() > Self::MAX {
            let end = text.floor_char_boundary(Self::MAX);
            text.truncate(end);
            text.push('…');
        }
        Self(text.into_boxed_str())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Host and port of a URL: all that an error says of a place we do not trust.
pub(super) fn host_of(url: &Url) -> Box<str> {
    let host = url.host_str().unwrap_or("-");
    let host: String = host.chars().take(255).collect();
    match url.port() {
        Some(port) => format!("{host}:{port}").into(),
        None => host.into_boxed_str(),
    }
}

/// Whether `url` may get our requests: same scheme, host and port as configured, no user in it.
pub(super) fn same_origin(base: &Url, url: &Url) -> bool {
    base.scheme() == url.scheme()
        && base.host() == url.host()
        && base.port_or_known_default() == url.port_or_known_default()
        && url.username().is_empty()
        && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_names_and_never_values() {
        let url = Url::parse("https://u:pw@api.example.com:8443/v1/people?api_key=s3cret&page=2&next=https%3A%2F%2Fx#frag").unwrap();
        let shown = format!("{0} {0:?}", Address::of(&url));
        assert_eq!(
            shown,
            "https://api.example.com:8443/v1/people?api_key,page,next https://api.example.com:8443/v1/people?api_key,page,next"
        );
    }

    #[test]
    fn origin_is_scheme_host_and_port() {
        let base = Url::parse("https://api.example.com/v1").unwrap();
        for (url, same) in [
            ("https://api.example.com/other", true),
            ("https://api.example.com:443/x", true),
            ("https://API.example.com/x", true),
            ("http://api.example.com/x", false),
            ("https://api.example.com:444/x", false),
            ("https://api.example.com./x", false),
            ("https://api.example.com.evil.test/x", false),
            ("https://me@api.example.com/x", false),
            ("https://169.254.169.254/x", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(same_origin(&base, &Url::parse(url).unwrap()), same, "{url}");
        }
    }
}
