//! Section `endpoint.export`: an answer that must be ordered, waited for and fetched.

use std::time::Duration;

use url::Url;

use super::{
    client::is_loopback,
    decode::{OneOrMany, Period, section},
    endpoint::{DottedPath, check_path},
    paginator::Paginator,
    problem::Problems,
    template::Names,
    tree::Node,
};

/// What follows on the request that creates an export.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// Where its state is asked for; places name fields of the first answer.
    pub poll_path: String,
    pub status_path: DottedPath,
    pub done: Vec<String>,
    pub failed: Vec<String>,
    pub interval: Duration,
    pub max_time: Duration,
    pub download: Download,
    /// Where the download may lead to besides the API's own origin. Asked without any credential.
    pub origins: Vec<Url>,
}

/// Where a finished export is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Download {
    /// Places name fields of the first answer.
    Path(String),
    /// The last answer about the state holds the URL.
    Url(DottedPath),
}

section! {
    /// An export: the endpoint's request creates it, its state is asked for until it is done, then it is fetched. `data_selector` and `response` are of what is fetched.
    pub(super) struct ExportFile {
        /// Where the state is asked for, with GET. `{export.<path>}` is a field of the first answer: `/reports/{export.id}`.
        poll_path: String; required,
        /// Where the answer holds the state.
        status_path: DottedPath = "status",
        /// States that mean that the export is there.
        done: OneOrMany<String>; required,
        /// States that mean that it will never be. All others mean that it is being made.
        failed: OneOrMany<String>,
        /// Wait before the state is asked for, each time.
        interval: Period = "5s",
        /// Longest time until the export is there. Then the run fails.
        max_time: Period = "30m",
        /// Path of the export. May hold `{export.<path>}`, like `poll_path`.
        download_path: String,
        /// Where the last answer about the state holds the URL of the export, instead of `download_path`.
        url_path: DottedPath,
        /// Other places that this URL may lead to, such as `https://storage.example.com`. They are asked without key and headers: the URL must be enough.
        origins: Vec<Url>,
    }
}

impl ExportFile {
    pub(super) fn resolve(
        &self,
        names: Names<'_>,
        base: Option<&Url>,
        paginator: &Paginator,
        endpoint: &Node,
        problems: &mut Problems,
    ) -> Option<Export> {
        let node = endpoint.nearest(&["export"]);
        let mut path = |text: &str, key: &str| {
            let at = node.nearest(&[key]);
            names
                .export_path(text, at, problems)
                .and_then(|path| check_path(path, base, at, problems))
        };
        let poll_path = path(&self.poll_path, "poll_path");
        let download_path = self
            .download_path
            .as_ref()
            .map(|text| path(text, "download_path"));
        let download = match (download_path, &self.url_path) {
            (Some(path), None) => path.map(Download::Path),
            (None, Some(path)) => Some(Download::Url(path.clone())),
            (Some(_), Some(_)) => {
                node.nearest(&["url_path"]).wrong(
                    problems,
                    "`download_path` and `url_path` exclude each other",
                );
                None
            }
            (None, None) => {
                node.wrong(
                    problems,
                    "where the export is must be said: `download_path` or `url_path`",
                );
                None
            }
        };
        let failed = self.failed.as_ref().map(|list| list.0.clone());
        let failed = failed.unwrap_or_default();
        if self.done.0.is_empty() || self.done.0.iter().any(|state| failed.contains(state)) {
            node.nearest(&["done"]).wrong(
                problems,
                "expected at least one state, none of which is in `failed`",
            );
        }
        if self.interval.0 > self.max_time.0 {
            node.nearest(&["interval"])
                .wrong(problems, "expected at most `max_time`");
        }
        let origins = self.origins.clone().unwrap_or_default();
        for (url, at) in origins
            .iter()
            .zip(node.nearest(&["origins"]).list().into_iter().flatten())
        {
            let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
            let is_bare = url.host().is_some()
                && url.path().trim_start_matches('/').is_empty()
                && url.query().is_none()
                && url.username().is_empty();
            if !is_safe || !is_bare {
                at.wrong(problems, "expected https://, a host and nothing behind it");
            }
        }
        if !origins.is_empty() && self.url_path.is_none() {
            node.nearest(&["origins"])
                .wrong(problems, "only a URL (`url_path`) may lead elsewhere");
        }
        if !matches!(paginator, Paginator::SinglePage) {
            endpoint
                .nearest(&["paginator"])
                .wrong(problems, "an export needs `paginator: single_page`");
        }
        Some(Export {
            poll_path: poll_path?,
            status_path: self.status_path.clone(),
            done: self.done.0.clone(),
            failed,
            interval: self.interval.0,
            max_time: self.max_time.0,
            download: download?,
            origins,
        })
    }
}
