//! Next links: from the `Link` header or the body to a URL that may be asked.

use url::Url;

use super::{
    Error,
    address::{host_of, same_origin},
};

/// Longest link; servers refuse longer URLs.
pub(super) const MAX: usize = 8 << 10;

/// Makes a full URL of a link found at `current`.
///
/// # Errors
///
/// [`Error::ForeignLink`] when it leaves the origin of `base`, or is no URL at all. With `ignore_host`
/// only its path and query are taken, so that it cannot leave.
pub(super) fn resolve(
    base: &Url,
    current: &Url,
    link: &str,
    ignore_host: bool,
) -> Result<Url, Error> {
    let foreign = |host: &str| Error::ForeignLink { host: host.into() };
    let mut url = current
        .join(link)
        .map_err(|_| foreign("no readable host"))?;
    if ignore_host && !url.cannot_be_a_base() {
        let mut own = base.clone();
        own.set_path(url.path());
        own.set_query(url.query());
        url = own;
    }
    if !same_origin(base, &url) {
        return Err(foreign(&host_of(&url)));
    }
    url.set_fragment(None);
    Ok(url)
}

/// The target of the first link with the relation `rel` in the values of `Link` headers (RFC 8288).
pub(super) fn by_relation<'h>(
    mut headers: impl Iterator<Item = &'h str>,
    rel: &str,
) -> Option<String> {
    headers.find_map(|header| in_header(header, rel))
}

fn in_header(header: &str, rel: &str) -> Option<String> {
    let mut rest = header;
    loop {
        rest = rest.get(rest.find('<')? + 1..)?;
        let end = rest.find('>')?;
        let target = rest.get(..end)?.trim();
        rest = rest.get(end + 1..)?;
        let (found, after) = has_relation(rest, rel);
        if found {
            return Some(target.to_owned());
        }
        rest = after;
    }
}

/// Reads one link's parameters; answers whether `rel` is among its relations, and what follows.
fn has_relation<'h>(mut rest: &'h str, rel: &str) -> (bool, &'h str) {
    let mut found = false;
    loop {
        rest = rest.trim_start();
        let Some(parameter) = rest.strip_prefix(';') else {
            return (found, rest);
        };
        let end = parameter.find(['=', ';', ',']).unwrap_or(parameter.len());
        let (name, tail) = parameter.split_at(end);
        let Some(value) = tail.strip_prefix('=') else {
            rest = tail;
            continue;
        };
        let value = value.trim_start();
        let (text, tail) = match value.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"').unwrap_or(quoted.len());
                let (text, tail) = quoted.split_at(end);
                (text, tail.strip_prefix('"').unwrap_or(tail))
            }
            None => value.split_at(value.find([';', ',']).unwrap_or(value.len())),
        };
        if name.trim().eq_ignore_ascii_case("rel")
            && text
                .split_ascii_whitespace()
                .any(|r| r.eq_ignore_ascii_case(rel))
        {
            found = true;
        }
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_link_headers() {
        for (header, next) in [
            (
                r#"<https://a.test/?page=2>; rel="next""#,
                Some("https://a.test/?page=2"),
            ),
            (
                r#"<https://a.test/?a=1,2;3>; rel=next"#,
                Some("https://a.test/?a=1,2;3"),
            ),
            (
                r#"<a>; rel="prev", <b>; rel="next", <c>; rel="last""#,
                Some("b"),
            ),
            (
                r#"<a>;rel=prev,<b>;title="x, <y>; rel=next";rel=next"#,
                Some("b"),
            ),
            (r#"<b>; rel="start NEXT""#, Some("b")),
            (r#"< b > ; crossorigin ; REL = "next""#, Some("b")),
            (r#"<a>; rel="nextish""#, None),
            (r#"<a>; title="rel=next""#, None),
            ("<a", None),
            ("", None),
            (r#"<a>; rel="next"#, Some("a")),
        ] {
            assert_eq!(
                by_relation([header].into_iter(), "next").as_deref(),
                next,
                "{header}"
            );
        }
        let two = ["<a>; rel=prev", "<b>; rel=next"].into_iter();
        assert_eq!(by_relation(two, "next").as_deref(), Some("b"));
    }

    #[test]
    fn links_stay_on_the_origin() {
        let base = Url::parse("https://api.test/v1").unwrap();
        let current = Url::parse("https://api.test/v1/people?page=1").unwrap();
        for (link, expected) in [
            ("?page=2", Some("https://api.test/v1/people?page=2")),
            (
                "/v2/people?c=%2B#top",
                Some("https://api.test/v2/people?c=%2B"),
            ),
            ("https://API.test:443/x", Some("https://api.test/x")),
            ("//evil.test/x", None),
            (r"\\evil.test\x", None),
            (r"/\evil.test/x", None),
            ("http://api.test/x", None),
            ("https://api.test:8443/x", None),
            ("https://api.test.evil.test/", None),
            ("https://api.test@evil.test/", None),
            ("https://user@api.test/", None),
            ("https://api.test./", None),
            ("https://аpi.test/", None),
            ("https://[fe80::1%25eth0]/", None),
            ("http://169.254.169.254/latest", None),
            ("file:///etc/passwd", None),
            ("javascript:alert(1)", None),
            ("https://", None),
            ("\t//evil.test", None),
        ] {
            let url = resolve(&base, &current, link, false).ok();
            assert_eq!(url.as_ref().map(Url::as_str), expected, "{link}");
        }
    }

    #[test]
    fn a_host_that_is_ignored_is_never_asked() {
        let base = Url::parse("https://api.test:8443/v1").unwrap();
        let current = Url::parse("https://api.test:8443/v1/people?page=1").unwrap();
        for (link, expected) in [
            ("http://inner.test/v2/x?c=1", Some("/v2/x?c=1")),
            ("https://me:pw@inner.test/x", Some("/x")),
            ("//inner.test/x?a=%2F", Some("/x?a=%2F")),
            ("?page=2", Some("/v1/people?page=2")),
            ("data:text/plain,x", None),
        ] {
            let url = resolve(&base, &current, link, true).ok();
            let expected = expected.map(|rest| format!("https://api.test:8443{rest}"));
            assert_eq!(url.map(String::from), expected, "{link}");
        }
    }
}
