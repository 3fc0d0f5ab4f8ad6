//! A place in a fan-out, and what became of the parents so far: what is stored with a batch, so that an
//! interrupted run goes on among them.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Error, commit::Store};
use crate::{fault::Fault, fetch, record::Level};

/// A place in a fan-out, as stored in the checkpoint. Holds no id, only hashes of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Trail {
    /// The way down to the unit's first parent, from the outermost.
    pub stops: Vec<Stop>,
    /// Where the unit's own walk is; `None`: it is over.
    pub page: Option<Spot>,
    /// Between which ends that walk is, as they are sent, where the unit has a cursor.
    #[serde(default)]
    pub ends: Option<(Option<String>, Option<String>)>,
    pub report: Report,
    /// Highest cursor value of the outermost parents so far.
    pub seen: Option<Value>,
    /// The time when their walk began, and whether it is the API's own word.
    pub clock: Option<(DateTime<Utc>, bool)>,
}

/// A parent's record within its own walk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stop {
    pub page: Spot,
    /// Which of the page's records.
    pub record: usize,
    /// Hash of what the requests take from the records up to this one.
    pub anchor: String,
}

/// A page within its walk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spot {
    pub at: Option<fetch::Position>,
    pub number: u64,
}

/// What became of the parents besides being walked.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Units whose walks came to their end.
    pub walked: u64,
    /// Gone when they were asked for.
    pub gone: u64,
    /// Without a value that the requests need.
    pub skipped: u64,
    /// Met before.
    pub repeated: u64,
    pub failed: u64,
    /// The first failure: class, code, message, hint.
    pub fault: Option<Fault>,
}

impl Report {
    /// What the run is told to have failed with, when a part of it did.
    pub(super) fn fault(&self) -> Option<Fault> {
        let first = self.fault.as_ref().filter(|_| self.failed > 0)?;
        let asked = self.walked + self.gone + self.failed;
        Some(Fault {
            class: first.class,
            code: first.code.clone(),
            message: format!(
                "{} of {asked} walks for parents failed, the first one: {}",
                self.failed, first.message
            ),
            hint: first.hint.clone(),
            retryable: first.retryable,
        })
    }

    /// Writes what became of the parents into the events of the run.
    pub(super) async fn tell(&self, store: &Store) -> Result<(), Error> {
        if self.gone + self.skipped + self.failed == 0 {
            return Ok(());
        }
        let message = format!(
            "{} walks for parents ended well, {} parents were gone, {} had no value to ask with, {} failed",
            self.walked, self.gone, self.skipped, self.failed
        );
        let data = serde_json::json!({
            "walked": self.walked, "gone": self.gone, "skipped": self.skipped,
            "repeated": self.repeated, "failed": self.failed,
        });
        let level = match self.failed {
            0 => Level::Info,
            _ => Level::Warn,
        };
        let mut connection = store
            .context
            .pool
            .acquire()
            .await
            .map_err(crate::load::Error::database("connecting"))?;
        store
            .tell(&mut connection, level, "parents", &message, data)
            .await
    }
}
