//! What can go wrong between an endpoint and its pages, and what follows from it.
//!
//! No variant holds text that the API sent: bodies hold people, and URLs hold keys.

use std::time::Duration;

use super::Address;
use crate::{
    config::rules::Action,
    fault::{Class, Fault},
};

/// A failure of one request or of the walk as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{host} would be asked over plain HTTP")]
    InsecureUrl { host: Box<str> },
    #[error("the HTTP client could not be built")]
    Client,
    #[error("header {name:?} or its value cannot be sent")]
    BadHeader { name: Box<str> },
    #[error("path {path:?} does not make a URL on the origin of base_url")]
    BadPath { path: Box<str> },
    #[error("the path needs a start value, and there is none")]
    NoStartValue,
    #[error("the stored position does not fit the configured paginator")]
    BadPosition,
    /// A word of the configuration, found out from the names in the first answer.
    #[error("the paginator is auto, and a guess is not enough to know that a walk is complete")]
    PaginatorUnknown { suggestion: Box<str> },
    #[error("{trouble} at {at}")]
    Transport { trouble: Trouble, at: Address },
    #[error("status {status} from {at}")]
    Status {
        status: u16,
        /// The status is one of `client.retry.statuses`.
        listed: bool,
        /// `Retry-After`, when there was a readable one.
        after: Option<Duration>,
        at: Address,
    },
    /// A rule of the endpoint on its answers fitted.
    #[error("{at} answered with status {status}, for which a rule says `{}`{}", action.as_str(), said(message.as_deref()))]
    Ruled {
        action: Action,
        status: u16,
        /// The API's own words, where they were declared fit to be shown.
        message: Option<Box<str>>,
        /// `Retry-After`, when there was a readable one.
        after: Option<Duration>,
        at: Address,
    },
    #[error("{at} refuses to give a token (status {status})")]
    TokenRefused { status: u16, at: Address },
    #[error("the answer of {at} holds no token where one was expected")]
    TokenMissing { at: Address },
    #[error(
        "the login names {host} as the API's address, which is not admitted; nothing was sent there"
    )]
    ForeignBase { host: Box<str> },
    #[error("the key cannot sign")]
    BadKey,
    #[error("there is no refresh token: neither in the configuration nor in the database")]
    NoRefreshToken,
    #[error("this credential needs a place where it is kept")]
    NoVault,
    /// What the keeper of the credential said.
    #[error("{}", .0.message)]
    Vault(Box<Fault>),
    #[error(
        "the credential was refused (status {status}); it is not sent again for {} s",
        left.as_secs().max(1)
    )]
    CircuitOpen { status: u16, left: Duration },
    #[error("the API asks to wait {} s, more than max_wait allows", after.as_secs())]
    RateLimited { after: Duration },
    #[error("redirected to {host}, where this request must not be sent")]
    Redirect { host: Box<str> },
    #[error("redirected again and again")]
    Redirects,
    #[error(
        "the next link leads to {host}, away from the origin of base_url; nothing was sent there"
    )]
    ForeignLink { host: Box<str> },
    #[error("the body from {at} is larger than {limit} bytes")]
    BodyTooLarge { limit: u64, at: Address },
    #[error("{at} answered with something that is not {wanted}")]
    WrongFormat { wanted: &'static str, at: Address },
    #[error("the gzip file from {at} is broken")]
    InvalidGzip { at: Address },
    #[error("the text from {at} is not in the character set that it should be in")]
    Charset { at: Address },
    #[error("the XML from {at} {} at byte {offset}", if *truncated { "ends too early" } else { "is broken" })]
    InvalidXml {
        offset: u64,
        truncated: bool,
        at: Address,
    },
    #[error("the API could not make the export")]
    ExportFailed,
    #[error("the export was not there after {} s", after.as_secs())]
    ExportTimeout { after: Duration },
    /// Some of its records were taken out already.
    #[error("the stream from {at} broke off")]
    StreamBroken { at: Address },
    #[error("the body from {at} is encoded in a way that was not asked for")]
    UnknownEncoding { at: Address },
    #[error("{at} answered with an empty body")]
    EmptyBody { at: Address },
    #[error("the JSON from {at} {} at byte {offset}", if *truncated { "ends too early" } else { "is broken" })]
    InvalidJson {
        offset: u64,
        truncated: bool,
        at: Address,
    },
    #[error("the JSON from {at} is not UTF-8 at byte {offset}")]
    InvalidUtf8 { offset: u64, at: Address },
    /// `path` is the configured one.
    #[error("{path} {what} (page {page})")]
    UnexpectedShape {
        path: Box<str>,
        what: &'static str,
        page: u64,
    },
    #[error("{what} (page {page})")]
    PaginationLoop { what: &'static str, page: u64 },
    #[error("{count} empty pages in a row although the API says that there is more")]
    EmptyPages { count: u32 },
    #[error("the walk did not end within {limit} pages")]
    TooManyPages { limit: u64 },
    #[error("the walk was stopped")]
    Cancelled,
    #[error("the walk's task ended without a word")]
    Lost,
}

/// How a request failed below HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("host name not found")]
    Dns,
    #[error("connection refused or unreachable")]
    Connect,
    #[error("TLS failed")]
    Tls,
    #[error("timed out")]
    Timeout,
    #[error("connection lost before the answer was complete")]
    Broken,
}

/// Whether the same request may be sent again in this walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Up to `max_retries` times, not sooner than `after`.
    Retry {
        after: Option<Duration>,
    },
    /// One more time: it may have been a bad moment, but is more likely a wrong configuration.
    RetryOnce,
    Stop,
}

/// What an error costs where a resource is walked once for each record of its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// That walk.
    Walk,
    /// The run: it would meet all the others.
    Run,
}

/// What follows for the walk from an error that ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// The run ends with it.
    Stop,
    /// The run ends with it, and nothing can be gone on with: the API will say the same at that place.
    End,
    /// The walk begins again.
    Restart,
    /// What is stored of earlier walks is void: everything is read.
    Resync,
}

impl Error {
    /// What follows for the walk.
    #[must_use]
    pub fn course(&self) -> Course {
        match self {
            Self::Ruled { action, .. } => match action {
                Action::Ignore | Action::Empty | Action::Skip => Course::End,
                Action::Restart => Course::Restart,
                Action::Resync => Course::Resync,
                Action::Retry | Action::Refresh | Action::Fail => Course::Stop,
            },
            Self::StreamBroken { .. } => Course::Restart,
            _ => Course::Stop,
        }
    }

    /// Whether it says something of one walk only, or of the credential, the network, the configuration.
    #[must_use]
    pub fn cost(&self) -> Cost {
        match self {
            Self::Status {
                status: 401 | 407 | 429,
                ..
            }
            | Self::Transport {
                trouble: Trouble::Dns | Trouble::Connect | Trouble::Tls,
                ..
            }
            | Self::InsecureUrl { .. }
            | Self::Client
            | Self::TokenRefused { .. }
            | Self::TokenMissing { .. }
            | Self::RateLimited { .. }
            | Self::CircuitOpen { .. }
            | Self::ForeignBase { .. }
            | Self::BadKey
            | Self::NoRefreshToken
            | Self::NoVault
            | Self::Vault(_)
            | Self::Cancelled
            | Self::Lost => Cost::Run,
            Self::Status { .. }
            | Self::Ruled { .. }
            | Self::Transport {
                trouble: Trouble::Timeout | Trouble::Broken,
                ..
            }
            | Self::BadHeader { .. }
            | Self::BadPath { .. }
            | Self::NoStartValue
            | Self::BadPosition
            | Self::Redirect { .. }
            | Self::Redirects
            | Self::ForeignLink { .. }
            | Self::BodyTooLarge { .. }
            | Self::WrongFormat { .. }
            | Self::InvalidGzip { .. }
            | Self::Charset { .. }
            | Self::InvalidXml { .. }
            | Self::StreamBroken { .. }
            | Self::ExportFailed
            | Self::ExportTimeout { .. }
            | Self::UnknownEncoding { .. }
            | Self::EmptyBody { .. }
            | Self::InvalidJson { .. }
            | Self::InvalidUtf8 { .. }
            | Self::UnexpectedShape { .. }
            | Self::PaginationLoop { .. }
            | Self::EmptyPages { .. }
            | Self::PaginatorUnknown { .. }
            | Self::TooManyPages { .. } => Cost::Walk,
        }
    }

    /// Whether what was read is right, only not all.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.course() == Course::End || self.fault().class == Class::RateLimit
    }

    /// The table of what is tried again.
    #[must_use]
    pub fn retry(&self) -> Decision {
        match self {
            // A refused credential is never hammered, whatever the configuration lists.
            Self::Status { status: 401, .. } => Decision::Stop,
            Self::Status {
                listed: true,
                after,
                ..
            }
            // Whoever says when to come again wants us to, whatever the status.
            | Self::Status {
                after: after @ Some(_),
                ..
            }
            | Self::Ruled {
                action: Action::Retry,
                after,
                ..
            } => Decision::Retry { after: *after },
            Self::Transport {
                trouble: Trouble::Dns | Trouble::Connect | Trouble::Timeout | Trouble::Broken,
                ..
            }
            | Self::InvalidJson {
                truncated: true, ..
            }
            | Self::InvalidXml {
                truncated: true, ..
            } => Decision::Retry { after: None },
            Self::WrongFormat { .. }
            | Self::EmptyBody { .. }
            | Self::InvalidGzip { .. }
            | Self::Charset { .. }
            | Self::InvalidXml {
                truncated: false, ..
            }
            | Self::InvalidJson {
                truncated: false, ..
            }
            | Self::InvalidUtf8 { .. } => Decision::RetryOnce,
            Self::Status { listed: false, .. }
            | Self::Ruled {
                action:
                    Action::Ignore
                    | Action::Empty
                    | Action::Skip
                    | Action::Refresh
                    | Action::Restart
                    | Action::Resync
                    | Action::Fail,
                ..
            }
            | Self::Transport {
                trouble: Trouble::Tls,
                ..
            }
            | Self::InsecureUrl { .. }
            | Self::Client
            | Self::BadHeader { .. }
            | Self::BadPath { .. }
            | Self::NoStartValue
            | Self::BadPosition
            | Self::PaginatorUnknown { .. }
            | Self::TokenRefused { .. }
            | Self::TokenMissing { .. }
            | Self::ForeignBase { .. }
            | Self::BadKey
            | Self::NoRefreshToken
            | Self::NoVault
            | Self::Vault(_)
            | Self::CircuitOpen { .. }
            | Self::RateLimited { .. }
            | Self::Redirect { .. }
            | Self::Redirects
            | Self::ForeignLink { .. }
            | Self::BodyTooLarge { .. }
            | Self::StreamBroken { .. }
            | Self::ExportFailed
            | Self::ExportTimeout { .. }
            | Self::UnknownEncoding { .. }
            | Self::UnexpectedShape { .. }
            | Self::PaginationLoop { .. }
            | Self::EmptyPages { .. }
            | Self::TooManyPages { .. }
            | Self::Cancelled
            | Self::Lost => Decision::Stop,
        }
    }

    /// The failure as it goes into the run history.
    #[must_use]
    pub fn fault(&self) -> Fault {
        if let Self::Vault(fault) = self {
            return (**fault).clone();
        }
        let (class, code, hint, retryable) = self.describe();
        Fault {
            class,
            code: match self {
                Self::Status { status, .. } => format!("HTTP {status}"),
                _ => code.into(),
            },
            message: self.to_string(),
            hint: match self {
                Self::PaginatorUnknown { suggestion } => {
                    format!("{hint}: `paginator: {suggestion}`")
                }
                _ => hint.into(),
            },
            retryable,
        }
    }

    fn describe(&self) -> (Class, &'static str, &'static str, bool) {
        match self {
            Self::InsecureUrl { .. } => (
                Class::Config,
                "insecure_url",
                "use https in client.base_url, or set client.allow_http: true if the key may cross the network in clear",
                false,
            ),
            Self::Client => (
                Class::Config,
                "http_client",
                "install the system's CA certificates (package ca-certificates)",
                false,
            ),
            Self::BadHeader { .. } => (
                Class::Config,
                "bad_header",
                "look for line breaks or control characters in client.headers, endpoint.headers and the key",
                false,
            ),
            Self::BadPath { .. } => (
                Class::Config,
                "bad_path",
                "make endpoint.path relative to client.base_url, or a URL with the same scheme, host and port",
                false,
            ),
            Self::NoStartValue => (
                Class::Config,
                "no_start_value",
                "set incremental.initial_value for the first walk",
                false,
            ),
            Self::BadPosition => (
                Class::Config,
                "bad_position",
                "the paginator was changed in the middle of a walk; the next run begins anew after `rosterd reset`",
                false,
            ),
            Self::PaginatorUnknown { .. } => (
                Class::Config,
                "paginator_unknown",
                "compare with the API's documentation and write down; the first answer suggests",
                false,
            ),
            Self::Transport { trouble, .. } => trouble.describe(),
            Self::Status { status, .. } => describe_status(*status),
            Self::Ruled { action, status, .. } => describe_ruled(*action, *status),
            Self::TokenRefused { .. } => (
                Class::Auth,
                "token_refused",
                "look at the client, its secret and its scopes in client.auth; the API's operator may have to renew them. A refresh token that is used up is replaced with `rosterd credentials set SOURCE`",
                false,
            ),
            Self::TokenMissing { .. } => (
                Class::Auth,
                "token_missing",
                "compare client.auth.token_path with the answer of the token's server",
                false,
            ),
            Self::ForeignBase { .. } => (
                Class::Auth,
                "foreign_base_url",
                "if the address is the vendor's, add its host to client.auth.base_url.hosts",
                false,
            ),
            Self::BadKey => (
                Class::Config,
                "bad_key",
                "client.auth.private_key must be an RSA key that fits the algorithm",
                false,
            ),
            Self::NoRefreshToken => (
                Class::Auth,
                "no_refresh_token",
                "put one in with `rosterd credentials set SOURCE`, or as client.auth.refresh_token",
                false,
            ),
            Self::NoVault => (
                Class::Config,
                "no_credential_store",
                "this command has no database to keep the credential in",
                false,
            ),
            Self::Vault(_) => (Class::Internal, "credential_store", "", true),
            Self::CircuitOpen { .. } => (
                Class::Auth,
                "circuit_open",
                "renew the credential in client.auth, or grant it the scope that it lacks, and reload; client.circuit says how long it is spared",
                true,
            ),
            Self::RateLimited { .. } => (
                Class::RateLimit,
                "rate_limited",
                "the API's quota is used up; lower client.limits or run less often, the next run goes on",
                true,
            ),
            Self::Redirect { .. } => (
                Class::SourceResponse,
                "redirect_refused",
                "put the final address into client.base_url and endpoint.path, or its host into client.redirect_hosts if it is the vendor's; a login page here means a wrong key",
                false,
            ),
            Self::Redirects => (
                Class::SourceResponse,
                "redirect_loop",
                "put the final address into client.base_url and endpoint.path; a login page here means a wrong key",
                false,
            ),
            Self::ForeignLink { .. } => (
                Class::SourceResponse,
                "foreign_next_link",
                "make client.base_url the scheme, host and port that the API puts into its next links",
                false,
            ),
            Self::BodyTooLarge { .. } => (
                Class::SourceResponse,
                "body_too_large",
                "ask for smaller pages, or raise client.max_body or endpoint.response.max_body",
                false,
            ),
            Self::WrongFormat { wanted, .. } => (
                Class::SourceResponse,
                match *wanted {
                    "JSON" => "not_json",
                    _ => "wrong_format",
                },
                "often a login or maintenance page: look at endpoint.path, endpoint.response and the key",
                true,
            ),
            Self::InvalidGzip { .. } => (
                Class::SourceResponse,
                "invalid_gzip",
                "the file was cut or garbled on its way, or by the API",
                true,
            ),
            Self::Charset { .. } => (
                Class::SourceResponse,
                "invalid_charset",
                "set endpoint.response.charset to what the API sends; XML names its own in its first line",
                true,
            ),
            Self::InvalidXml { .. } => (
                Class::SourceResponse,
                "invalid_xml",
                "the API or a proxy cuts or garbles its answers; entities of a document's own are refused",
                true,
            ),
            Self::ExportFailed => (
                Class::SourceResponse,
                "export_failed",
                "the API says a state of endpoint.export.failed; look at what the request asks for",
                true,
            ),
            Self::ExportTimeout { .. } => (
                Class::SourceUnavailable,
                "export_timeout",
                "raise endpoint.export.max_time, or ask for less; a state that is in neither `done` nor `failed` is waited for",
                true,
            ),
            Self::StreamBroken { .. } => (
                Class::SourceUnavailable,
                "stream_broken",
                "the connection did not last for the whole answer; ask for less at once",
                true,
            ),
            Self::UnknownEncoding { .. } => (
                Class::SourceResponse,
                "unknown_encoding",
                "a proxy compresses the answer twice or in an odd way; ask the API's operator",
                true,
            ),
            Self::EmptyBody { .. } => (
                Class::SourceResponse,
                "empty_body",
                "status 200 without a body is no empty list; look at endpoint.path",
                true,
            ),
            Self::InvalidJson { .. } => (
                Class::SourceResponse,
                "invalid_json",
                "the API or a proxy cuts or garbles its answers; try smaller pages",
                true,
            ),
            Self::InvalidUtf8 { .. } => (
                Class::SourceResponse,
                "invalid_utf8",
                "the API sends another character set than JSON's; ask its operator",
                true,
            ),
            Self::UnexpectedShape { .. } => (
                Class::SourceResponse,
                "unexpected_shape",
                "compare endpoint.data_selector and the paginator's paths with an answer (`rosterd preview`); an answer without a total needs total_path: null",
                true,
            ),
            Self::PaginationLoop { .. } => (
                Class::SourceResponse,
                "pagination_loop",
                "the API seems to ignore a page parameter: look at its name in endpoint.paginator",
                false,
            ),
            Self::EmptyPages { .. } => (
                Class::SourceResponse,
                "empty_pages",
                "the total may count something else: for page_number it counts pages; set total_path: null to end at an empty page",
                false,
            ),
            Self::TooManyPages { .. } => (
                Class::SourceResponse,
                "max_pages",
                "raise max_pages of the resource if it is really that large",
                false,
            ),
            Self::Cancelled => (
                Class::Internal,
                "cancelled",
                "the next run goes on from here",
                true,
            ),
            Self::Lost => (Class::Internal, "walk_lost", "please report this", true),
        }
    }
}

/// Puts the API's words behind ours.
fn said(message: Option<&str>) -> String {
    message.map_or_else(String::new, |message| format!(": {message}"))
}

fn describe_ruled(action: Action, status: u16) -> (Class, &'static str, &'static str, bool) {
    match action {
        Action::Ignore | Action::Empty => (
            Class::SourceResponse,
            "rule_ignore",
            "what was read is stored; nothing is deleted and the cursor stays, because more may follow. If this answer means that there is nothing more, let its rule say `empty`",
            false,
        ),
        Action::Skip => (
            Class::Permission,
            "rule_skip",
            "the rows stay as they are: grant the key the scope, or remove the resource",
            false,
        ),
        Action::Retry => match status {
            429 => (
                Class::RateLimit,
                "rule_retry",
                "lower client.limits or run less often",
                true,
            ),
            _ => (
                Class::SourceUnavailable,
                "rule_retry",
                "the answer stayed the same through all retries; the next run tries again",
                true,
            ),
        },
        Action::Refresh => (
            Class::Auth,
            "rule_refresh",
            "a new token did not help, or client.auth has none to renew: renew the key in client.auth",
            false,
        ),
        Action::Restart => (
            Class::SourceResponse,
            "rule_restart",
            "the walk began anew several times and was refused again; look at the rule and the paginator",
            true,
        ),
        Action::Resync => (
            Class::SourceResponse,
            "rule_resync",
            "reading everything was refused like the stored cursor; look at the rule and endpoint.incremental",
            false,
        ),
        Action::Fail => (
            Class::SourceResponse,
            "rule_fail",
            "a rule of endpoint.response_actions calls this answer a failure; `safe_message_path` shows the API's reason",
            false,
        ),
    }
}

impl Trouble {
    fn describe(self) -> (Class, &'static str, &'static str, bool) {
        let (code, hint) = match self {
            Self::Dns => (
                "dns_failed",
                "look at the host in client.base_url and at this machine's name servers",
            ),
            Self::Connect => (
                "connect_failed",
                "look at the vendor's status page and at this machine's way out",
            ),
            Self::Tls => (
                "tls_failed",
                "the API's certificate is expired, for another host or from an unknown authority",
            ),
            Self::Timeout => ("timeout", "ask for smaller pages, or raise client.timeouts"),
            Self::Broken => (
                "connection_lost",
                "the API or a proxy drops connections; try smaller pages",
            ),
        };
        (Class::SourceUnavailable, code, hint, true)
    }
}

/// The code is left empty: it is the status itself.
fn describe_status(status: u16) -> (Class, &'static str, &'static str, bool) {
    match status {
        401 => (
            Class::Auth,
            "",
            "the key is wrong, expired or revoked: renew it in client.auth",
            false,
        ),
        403 => (
            Class::Permission,
            "",
            "the key may not read this resource: grant it the scope, or remove the resource",
            false,
        ),
        404 | 410 => (
            Class::SourceResponse,
            "",
            "nothing is there: look at client.base_url and endpoint.path",
            false,
        ),
        408 | 425 => (
            Class::SourceUnavailable,
            "",
            "the API was too slow; add the status to client.retry.statuses",
            true,
        ),
        429 => (
            Class::RateLimit,
            "",
            "lower client.limits or run less often",
            true,
        ),
        500.. => (
            Class::SourceUnavailable,
            "",
            "look at the vendor's status page; the next run tries again",
            true,
        ),
        _ => (
            Class::SourceResponse,
            "",
            "the API refuses the request: look at endpoint.params and the paginator",
            false,
        ),
    }
}
