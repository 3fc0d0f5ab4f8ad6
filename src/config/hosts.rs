//! Hosts besides the configured one to which credentials may go.

use url::Url;

use super::{client::is_loopback, problem::Problems, tree::Node};

/// Host names; `*.` in front stands for any labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Takes patterns as they stand in the file, and notes at `node` when one is none.
    pub(super) fn resolve(patterns: &[String], node: &Node, problems: &mut Problems) -> Self {
        if !patterns.iter().all(|pattern| is_pattern(pattern)) {
            node.wrong(
                problems,
                "expected names of hosts such as rest.example.com or *.example.com",
            );
        }
        Self(patterns.iter().map(|p| p.to_ascii_lowercase()).collect())
    }

    /// Whether credentials may go there: https (or loopback), an admitted host, no odd port, no user.
    #[must_use]
    pub fn admits(&self, url: &Url) -> bool {
        let local = is_loopback(url);
        let plain = url.scheme() == "https" || url.scheme() == "http" && local;
        let Some(host) = url.host_str().map(str::to_ascii_lowercase) else {
            return false;
        };
        let named = self
            .0
            .iter()
            .any(|pattern| match pattern.strip_prefix('*') {
                Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
                None => host == *pattern,
            });
        plain
            && named
            && (local || url.port().is_none())
            && url.username().is_empty()
            && url.password().is_none()
    }
}

fn is_pattern(pattern: &str) -> bool {
    let (name, least) = match pattern.strip_prefix("*.") {
        Some(rest) => (rest, 2),
        None => (pattern, 1),
    };
    let labels: Vec<&str> = name.split('.').collect();
    labels.len() >= least
        && labels.iter().all(|label| {
            let mut signs = label.bytes();
            !label.is_empty() && signs.all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}
