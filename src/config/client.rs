//! Section `client`: how to talk to the API.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use indexmap::IndexMap;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use url::{Host, Url};

use super::{
    Secret,
    auth::{AuthFile, is_token},
    decode::{Period, Size, Tried, section, words},
    hosts::Hosts,
    paginator::PaginatorFile,
    problem::Problems,
    source::{
        CircuitRule, Client, Limit, Network, ProxyRule, QuotaHeaders, ResetUnit, Retry, Timeouts,
    },
    tree::Node,
};

section! {
    /// How to talk to the API.
    pub(super) struct ClientFile {
        /// Address that every `path` is put behind. https, except to loopback hosts or with `allow_http`.
        base_url: Url; required,
        /// Headers of every request. Their values are treated as secrets.
        headers: IndexMap<String, Secret>,
        /// Who we are to the API. Left out: no credentials are sent.
        auth: Tried<AuthFile>,
        /// Paginator of endpoints that name none, nor do the `resource_defaults`.
        paginator: Tried<PaginatorFile>,
        /// Windows that all hold at once, over all resources of the source. Left out: only `max_in_flight` limits.
        limits: Vec<LimitFile>,
        /// Requests at the same time over all resources of the source. Too high: the API refuses.
        max_in_flight: NonZeroUsize = "4",
        /// What the API's answers say of its limit: all requests wait for its next window before one is refused. Left out: only `limits`, `Retry-After` and refusals count.
        limit_headers: Tried<LimitHeadersFile>,
        /// When and how a request is tried again.
        retry: Tried<RetryFile>; section,
        /// How long to wait for the API.
        timeouts: Tried<TimeoutsFile>; section,
        /// When a refused credential is not sent any more, so that the API does not lock it. `enabled: false` switches it off.
        circuit: Tried<CircuitFile>; section,
        /// What we call ourselves in the header `User-Agent`. Left out: rosterd and its version.
        user_agent: String,
        /// Proxy to the API and to the servers of its tokens: `http://user:password@proxy.example.com:3128`; `none` for no proxy at all. Left out: as `HTTPS_PROXY` and `NO_PROXY` of the environment say.
        proxy: Secret,
        /// Whom we trust, and what we show of ourselves.
        tls: Tried<TlsFile>; section,
        /// Largest body of an answer, decompressed. A larger one fails the run.
        max_body: Size = "64MiB",
        /// Hosts besides that of `base_url` that a redirect may lead to, with credentials: another data centre, `*.example.com`. A redirect to any other place fails the run, and nothing is sent there.
        redirect_hosts: Vec<String>,
        /// Lets `base_url` be plain http to a host that is not loopback: anyone on the way reads the key.
        allow_http: bool = "false",
    }
    refused ["session": "is a Python object of dlt; use `timeouts`, `retry`, `proxy` and `tls`"]
}

section! {
    /// One window of a rate limit.
    pub(super) struct LimitFile {
        /// Requests in any window, retries counted.
        requests: NonZeroU32; required,
        /// Length of the window.
        per: Period; required,
    }
}

section! {
    /// Headers in which the API tells how much of its limit is left.
    pub(super) struct LimitHeadersFile {
        /// Header with the requests that are left in the API's window. Left out: the window's end counts where a request is refused.
        remaining: String,
        /// Header with the end of that window.
        reset: String; required,
        /// How the end is written: `seconds` or `ms` from now, `epoch` (seconds) or `epoch_ms`, `date` (ISO 8601 or as in HTTP). Wrong: waits are cut to an hour, or end the run as rate limited.
        reset_unit: ResetUnitWord = "seconds",
        /// Requests left to others who use the same key.
        reserve: u64 = "0",
    }
}

words! {
    /// How the end of a window is written.
    pub(super) enum ResetUnitWord {
        Seconds = "seconds",
        Milliseconds = "ms",
        Epoch = "epoch",
        EpochMs = "epoch_ms",
        Date = "date",
    }
}

section! {
    /// When and how a request is tried again: after `backoff`, then `factor` times longer each time, with jitter, never sooner than `Retry-After` says.
    pub(super) struct RetryFile {
        /// Tries after the first. 0: none.
        max_retries: u32 = "3",
        /// Wait before the first retry.
        backoff: Duration = "1s",
        /// How much longer each wait is than the last one.
        factor: f64 = "2",
        /// Shortest single wait, also where `Retry-After` says less.
        min_wait: Duration = "0s",
        /// Longest single wait. A `Retry-After` beyond it ends the run as rate limited.
        max_wait: Period = "60s",
        /// Statuses that are tried again. Failures of the connection are too.
        statuses: Vec<u16> = "[429, 500, 502, 503, 504]",
    }
}

section! {
    /// Certificates and keys as PEM: `${file:/etc/rosterd/client.pem}`. That the API's certificate is checked cannot be switched off.
    pub(super) struct TlsFile {
        /// Authorities that are trusted besides those of the system.
        ca: Secret,
        /// Our certificate, with those between it and its authority. Shown to the API and to the servers of its tokens.
        certificate: Secret,
        /// The key of `certificate`, without a password.
        key: Secret,
    }
}

section! {
    /// When a refused credential is not sent any more, by any resource of the source. After `open_for` one request finds out whether it is good again; a reload with another credential begins anew.
    pub(super) struct CircuitFile {
        /// False: a refused credential is sent again by every run.
        enabled: bool = "true",
        /// Answers 401 and 403 that are enough, when they come within `per`. Too high: some APIs lock an account after 50 in 10 seconds.
        refusals: NonZeroU32 = "20",
        /// Length of that window.
        per: Period = "10s",
        /// A single 401 is enough, once a fresh token (where there is one to ask for) did not help. False: it counts like a 403.
        first_401: bool = "true",
        /// How long the credential is spared.
        open_for: Period = "15m",
    }
}

section! {
    /// How long to wait for the API.
    pub(super) struct TimeoutsFile {
        /// For a connection (TCP and TLS).
        connect: Period = "10s",
        /// Longest silence while headers or body are awaited.
        read: Period = "30s",
        /// One try from its first byte to its last. Too low: slow reports never arrive.
        total: Period = "120s",
    }
}

/// More tries than this only hide an outage.
const MAX_RETRIES: u32 = 100;

impl ClientFile {
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Option<Client> {
        self.check_base_url(node, problems);
        let mut headers = IndexMap::new();
        for (name, value) in self.headers.iter().flatten() {
            let at = node.nearest(&["headers", name]);
            if !is_token(name) {
                at.wrong(
                    problems,
                    "expected the name of a header: letters, digits, `-`, `_`",
                );
            }
            if value.expose().contains(char::is_control) {
                at.wrong(problems, "holds a line break or control character");
            }
            headers.insert(name.clone(), value.clone());
        }
        // All are looked at before the first `?`: every problem is to be found.
        let auth = self.auth.as_ref().map(|Tried(auth)| {
            let auth = auth.as_ref();
            auth.and_then(|auth| auth.resolve(node.nearest(&["auth"]), problems))
        });
        let retry = self
            .retry
            .0
            .as_ref()
            .map(|retry| retry.resolve(node.nearest(&["retry"]), problems));
        let quota = self.limit_headers.as_ref().map(|Tried(file)| {
            let file = file.as_ref();
            file.map(|file| file.resolve(node.nearest(&["limit_headers"]), problems))
        });
        let network = self.network(node, problems);
        let redirect_hosts = Hosts::resolve(
            self.redirect_hosts.as_deref().unwrap_or_default(),
            node.nearest(&["redirect_hosts"]),
            problems,
        );
        let auth = match auth {
            Some(auth) => Some(auth?),
            None => None,
        };
        let quota = match quota {
            Some(quota) => Some(quota?),
            None => None,
        };
        Some(Client {
            base_url: self.base_url.clone(),
            headers,
            auth,
            limits: self
                .limits
                .iter()
                .flatten()
                .map(|limit| Limit {
                    requests: limit.requests.get(),
                    per: limit.per.0,
                })
                .collect(),
            max_in_flight: self.max_in_flight.get(),
            quota,
            retry: retry?,
            timeouts: self.timeouts.0.as_ref()?.resolve(),
            network,
            circuit: self.circuit.0.as_ref()?.resolve(),
            max_body: self.max_body.0,
            redirect_hosts,
            allow_http: self.allow_http,
        })
    }

    fn network(&self, node: &Node, problems: &mut Problems) -> Network {
        if let Some(name) = &self.user_agent
            && (name.trim().is_empty() || !name.bytes().all(|b| (0x20..0x7f).contains(&b)))
        {
            node.nearest(&["user_agent"])
                .wrong(problems, "expected a text of plain ASCII signs");
        }
        let proxy = match &self.proxy {
            None => ProxyRule::Environment,
            Some(proxy) if proxy.expose() == "none" => ProxyRule::None,
            Some(proxy) => {
                let url = Url::parse(proxy.expose()).ok();
                if !url
                    .is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                {
                    node.nearest(&["proxy"]).wrong(
                        problems,
                        "expected none, or a URL that begins with http:// or https://",
                    );
                }
                ProxyRule::Through(proxy.clone())
            }
        };
        let at = node.nearest(&["tls"]);
        let tls = self.tls.0.as_ref();
        let ca = tls.and_then(|tls| tls.ca.clone());
        if let Some(ca) = &ca
            && !holds_certificates(ca)
        {
            at.nearest(&["ca"])
                .wrong(problems, "expected certificates as PEM");
        }
        let identity = match tls.map(|tls| (&tls.certificate, &tls.key)) {
            Some((Some(certificate), Some(key))) => {
                if !holds_certificates(certificate) {
                    at.nearest(&["certificate"])
                        .wrong(problems, "expected a certificate as PEM");
                }
                if PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).is_err() {
                    at.nearest(&["key"]).wrong(
                        problems,
                        "expected a private key as PEM, without a password",
                    );
                }
                Some((certificate.clone(), key.clone()))
            }
            Some((None, None)) | None => None,
            Some(_) => {
                at.wrong(problems, "`certificate` and `key` need each other");
                None
            }
        };
        Network {
            user_agent: self.user_agent.clone(),
            proxy,
            ca,
            identity,
        }
    }

    fn check_base_url(&self, node: &Node, problems: &mut Problems) {
        let url = &self.base_url;
        let at = node.nearest(&["base_url"]);
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http || is_loopback(url) => {}
            "http" => at.wrong(
                problems,
                "expected https: plain http sends the credentials readable (or set `allow_http: true`)",
            ),
            _ => at.wrong(problems, "expected a URL that begins with https://"),
        }
        if url.host().is_none() || url.cannot_be_a_base() {
            at.wrong(problems, "expected a URL with a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            at.wrong(problems, "credentials do not belong in the URL; use `auth`");
        }
        if url.query().is_some() || url.fragment().is_some() {
            at.wrong(
                problems,
                "expected no `?` and no `#`; parameters belong in `endpoint.params`",
            );
        }
    }
}

impl LimitHeadersFile {
    fn resolve(&self, node: &Node, problems: &mut Problems) -> QuotaHeaders {
        for (key, name) in [
            ("remaining", self.remaining.as_deref()),
            ("reset", Some(self.reset.as_str())),
        ] {
            if name.is_some_and(|name| !is_token(name)) {
                node.nearest(&[key]).wrong(
                    problems,
                    "expected the name of a header: letters, digits, `-`, `_`",
                );
            }
        }
        if self.reserve > 0 && self.remaining.is_none() {
            node.nearest(&["reserve"])
                .wrong(problems, "needs `remaining`");
        }
        QuotaHeaders {
            remaining: self.remaining.clone(),
            reset: self.reset.clone(),
            unit: match self.reset_unit {
                ResetUnitWord::Seconds => ResetUnit::Seconds,
                ResetUnitWord::Milliseconds => ResetUnit::Milliseconds,
                ResetUnitWord::Epoch => ResetUnit::Epoch,
                ResetUnitWord::EpochMs => ResetUnit::EpochMs,
                ResetUnitWord::Date => ResetUnit::Date,
            },
            reserve: self.reserve,
        }
    }
}

impl RetryFile {
    fn resolve(&self, node: &Node, problems: &mut Problems) -> Retry {
        if self.max_retries > MAX_RETRIES {
            node.nearest(&["max_retries"])
                .wrong(problems, format!("expected at most {MAX_RETRIES}"));
        }
        if self.factor < 1.0 {
            node.nearest(&["factor"])
                .wrong(problems, "expected at least 1");
        }
        if self.backoff > self.max_wait.0 {
            node.nearest(&["backoff"])
                .wrong(problems, "expected at most `max_wait`");
        }
        if self.min_wait > self.max_wait.0 {
            node.nearest(&["min_wait"])
                .wrong(problems, "expected at most `max_wait`");
        }
        if !self
            .statuses
            .iter()
            .all(|status| (400..600).contains(status))
        {
            node.nearest(&["statuses"])
                .wrong(problems, "expected statuses from 400 to 599");
        }
        if self
            .statuses
            .iter()
            .any(|status| matches!(status, 401 | 403))
        {
            node.nearest(&["statuses"]).wrong(
                problems,
                "401 and 403 are never tried again: APIs lock who insists",
            );
        }
        Retry {
            max_retries: self.max_retries,
            backoff: self.backoff,
            factor: self.factor,
            min_wait: self.min_wait,
            max_wait: self.max_wait.0,
            statuses: self.statuses.clone(),
        }
    }
}

impl CircuitFile {
    fn resolve(&self) -> Option<CircuitRule> {
        self.enabled.then_some(CircuitRule {
            refusals: self.refusals.get(),
            per: self.per.0,
            open_for: self.open_for.0,
            first_401: self.first_401,
        })
    }
}

impl TimeoutsFile {
    fn resolve(&self) -> Timeouts {
        Timeouts {
            connect: self.connect.0,
            read: self.read.0,
            total: self.total.0,
        }
    }
}

/// Whether there are certificates, and nothing else that looks like one.
fn holds_certificates(pem: &Secret) -> bool {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose().as_bytes()).collect();
    all.is_ok_and(|all| !all.is_empty())
}

/// Whether requests to the URL stay on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
