//! What goes into the history when something went wrong: a class, a code, one line, a hint.
//!
//! Every stage's error turns itself into a [`Fault`]. Its texts are made of words of ours, of the
//! configuration's names and of numbers; never of bytes that an API or Postgres sent, because
//! those hold people and secrets.

use std::fmt;

/// The kinds of trouble an operator can tell apart, as stored in `rosterd.runs.error_class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Config,
    Auth,
    Permission,
    RateLimit,
    SourceUnavailable,
    SourceResponse,
    Data,
    Schema,
    Destination,
    Timeout,
    Internal,
}

impl Class {
    /// All classes, in the order of the table's constraint.
    pub const ALL: [Self; 11] = [
        Self::Config,
        Self::Auth,
        Self::Permission,
        Self::RateLimit,
        Self::SourceUnavailable,
        Self::SourceResponse,
        Self::Data,
        Self::Schema,
        Self::Destination,
        Self::Timeout,
        Self::Internal,
    ];

    /// The word that stands in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::RateLimit => "rate_limit",
            Self::SourceUnavailable => "source_unavailable",
            Self::SourceResponse => "source_response",
            Self::Data => "data",
            Self::Schema => "schema",
            Self::Destination => "destination",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failure as an operator reads it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    pub class: Class,
    /// Short and stable, to filter by: `HTTP 401`, `SQLSTATE 42501`, `pagination_loop`.
    pub code: String,
    /// One line: what happened.
    pub message: String,
    /// What the operator should do.
    pub hint: String,
    /// Whether the next tick may succeed with nobody doing anything.
    pub retryable: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.class, self.code, self.message)
    }
}
