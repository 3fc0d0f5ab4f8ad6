//! From an endpoint to pages of records, under the limiter, with retry.
//!
//! ```text
//! Pager says where -> Draft -> permit -> auth -> socket -> body under a cap -> decode -> Pager
//! ```
//!
//! Selecting the records stands here and not in `shape`: whether a walk goes on is decided by how
//! many records an answer holds.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::{
    self,
    endpoint::{DottedPath, Endpoint},
    template::Field,
};

mod address;

mod auth;

mod buffer;

pub mod budget;

mod circuit;

mod client;

mod credential;

mod decode;

mod error;

mod export;

mod jwt;

mod limiter;

mod link;

mod paginate;

mod quota;

mod request;

mod retry;

mod rules;

mod select;

mod stream;

mod tally;

mod token;

mod vault;

mod walk;

pub use address::Address;
pub use error::{Cost, Course, Decision, Error, Trouble};
pub use paginate::{Doubt, Ending, Proven};
pub use tally::Tally;
pub use vault::{Drawer, Keeper, KeptTokens, Opened, Vault};
pub use walk::Walk;

/// One API with one credential: its connections, its limits, its key. Shared by all walks of the
/// source, because the API counts them together.
pub struct Api {
    client: client::Client,
    limiter: limiter::Limiter,
    credentials: credential::Credentials,
    config: config::source::Client,
}

impl Api {
    /// Builds the client and the limits of a source. Opens no connection.
    ///
    /// # Errors
    ///
    /// [`Error::InsecureUrl`] for plain HTTP that was not allowed, [`Error::BadHeader`] for a header
    /// or key that HTTP cannot carry, [`Error::Client`] when the machine has no CA certificates.
    pub fn new(source: &config::Source) -> Result<Self, Error> {
        Self::kept_by(source, None)
    }

    /// The same for a source whose API replaces the credential; `keeper` is where it is written down.
    ///
    /// # Errors
    ///
    /// As [`Api::new`].
    pub fn kept_by(source: &config::Source, keeper: Option<Keeper>) -> Result<Self, Error> {
        Ok(Self {
            client: client::Client::new(&source.client)?,
            limiter: limiter::Limiter::new(
                &source.client.limits,
                source.client.max_in_flight,
                None,
            ),
            credentials: credential::Credentials::new(&source.client, keeper)?,
            config: source.client.clone(),
        })
    }

    /// The same with limits that other processes draw from too.
    #[must_use]
    pub fn sharing(self, budget: Arc<dyn budget::Budget>) -> Self {
        let (limits, most) = (&self.config.limits, self.config.max_in_flight);
        Self {
            limiter: limiter::Limiter::new(limits, most, Some(budget)),
            ..self
        }
    }

    /// Gives back what it holds of limits that are shared, at the end of the process. It sends nothing more.
    pub async fn retire(&self) {
        self.limiter.retire().await;
    }

    /// The first request of a walk as it may be shown: method, URL, headers that the walk and its credential
    /// set, body. Secrets are masked.
    ///
    /// # Errors
    ///
    /// What would keep the walk from starting: a path or header that cannot be sent.
    pub fn describe(&self, plan: &WalkPlan) -> Result<String, Error> {
        let credential = self.credentials.of(&plan.endpoint)?;
        request::describe(self.client.base(), plan, credential.signer.as_ref())
    }

    /// Where a walk asks: the configured address, or the one that the login of its credential names.
    async fn base_for(&self, credential: &credential::Credential) -> Result<Url, Error> {
        let tokens = credential.signer.as_ref().and_then(auth::Signer::tokens);
        let Some(tokens) = tokens.filter(|tokens| tokens.names_base()) else {
            return Ok(self.client.base().clone());
        };
        let pass = credential.circuit.pass()?;
        let base = tokens.base().await;
        if let Err(Error::TokenRefused { status, .. }) = &base {
            pass.refused(*status, true);
        }
        let base = base?.unwrap_or_else(|| self.client.base().clone());
        self.client.admit(&base);
        Ok(base)
    }

    /// Starts to walk. Requests begin at once, a few pages ahead of [`Walk::next`].
    ///
    /// Must be called inside a tokio runtime. The walk's tasks end when `cancel` is cancelled or the
    /// [`Walk`] is dropped.
    pub fn walk(self: &Arc<Self>, plan: WalkPlan, cancel: CancellationToken) -> Walk {
        Walk::start(Arc::clone(self), plan, cancel)
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("base", &Address::of(&self.config.base_url))
            .finish_non_exhaustive()
    }
}

/// What to walk and from where.
#[derive(Debug, Clone)]
pub struct WalkPlan {
    pub endpoint: Endpoint,
    /// What the placeholders for fields of parents stand for.
    pub bindings: Bindings,
    /// Sent as `incremental.start_param`. `None`: the parameter is left out.
    pub start_value: Option<String>,
    /// Fields by which a record is known again on another page. Empty: whole records are compared.
    pub key: Vec<DottedPath>,
    /// Sent as `incremental.end_param`. `None`: the parameter is left out.
    pub end_value: Option<String>,
    /// Where an interrupted walk goes on. `None`: from the beginning.
    pub resume: Option<Position>,
    /// Number of the first page, so that a resumed walk counts on.
    pub first_page: u64,
    /// A walk that needs more pages than this, counted from 0 and not from `first_page`, fails.
    pub max_pages: u64,
}

/// Values of the parents' fields that a walk's requests name. Clones share them.
#[derive(Clone, Default)]
pub struct Bindings(Arc<[(Field, Value)]>);

impl Bindings {
    #[must_use]
    pub fn new(values: Vec<(Field, Value)>) -> Self {
        Self(values.into())
    }

    #[must_use]
    pub fn value(&self, field: &Field) -> Option<&Value> {
        let mut values = self.0.iter();
        values.find_map(|(known, value)| (known == field).then_some(value))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Bindings {
    /// No value: ids of people are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.0.iter().map(|(field, _)| field);
        f.debug_list().entries(fields).finish()
    }
}

/// One HTTP answer: its body and where in it the records stand.
#[derive(Debug, Clone)]
pub struct Page {
    /// Ordinal in the walk, from 0, a resumed walk counting on.
    pub number: u64,
    /// Where it was asked for; `None` at the beginning of a walk without positions.
    pub at: Option<Position>,
    /// Decoded body.
    pub body: Bytes,
    /// Byte ranges of the records in `body`, in order; each is one complete JSON value.
    pub records: Vec<Range<u32>>,
    /// Where to resume after this page is committed. `None`: this was the last page.
    pub next: Option<Position>,
    /// The API's count of all items or pages, as of this page.
    pub total: Option<u64>,
    /// One of several parts of one answer: there is no place between them to resume at, and more may follow.
    pub is_part: bool,
    /// Whether something already speaks against a complete walk; it will not end proven then.
    pub doubtful: bool,
    /// When the answer was complete, by this machine's clock.
    pub received_at: DateTime<Utc>,
    /// The answer's `Date`, to the second. The one of a walk's first page caps the cursor: a record
    /// that claims to be younger must not push it into the future.
    pub server_date: Option<DateTime<Utc>>,
}

/// A place in a walk, as stored in the checkpoint. Holds no secret: a key in a next link is cut out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    Offset(u64),
    Page(u64),
    Cursor(String),
    /// A cursor that the API names as a number; in a body it goes back as one.
    Number(String),
    Url(String),
}

impl Position {
    /// The text of a cursor.
    fn cursor(&self) -> Option<&str> {
        match self {
            Self::Cursor(text) | Self::Number(text) => Some(text),
            Self::Offset(_) | Self::Page(_) | Self::Url(_) => None,
        }
    }
}
