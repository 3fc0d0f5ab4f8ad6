//! Where a run starts: from scratch, from the cursor, or in the middle of an interrupted walk.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Error, deletes::Snapshot};
use crate::{
    clock,
    config::{Resource, source::DeleteMode},
    fetch::{Position, WalkPlan},
    record::{Cursor, Mode},
    shape::CursorValue,
};

/// What is stored with each batch, so that a walk can go on after the process died.
///
/// It names the last committed page, not the one after it: the walk goes on by asking for that page
/// again, and only if it shows the same records in the same order. As long as the API keeps the order
/// of what it does not change, nothing that was there from the beginning can then have slipped from
/// the unread part to the read one, whatever was deleted or inserted meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Where the last page was asked for; `None`: it is the first.
    pub at: Option<Position>,
    /// Ordinal of that page.
    pub page: u64,
    /// Hash over the keys of its records, in order.
    pub anchor: String,
    /// Filter that the walk began with.
    pub start_value: Option<String>,
    /// Time of the API's clock when the walk began; no cursor may pass it.
    pub cap: Option<DateTime<Utc>>,
    /// Highest cursor value seen so far.
    pub seen: Option<serde_json::Value>,
    /// Records read so far, those of this page counted too.
    pub records: u64,
    /// There when the walk is over everything and rows that it does not see are to go.
    #[serde(default)]
    pub snapshot: Option<Snapshot>,
    pub stored_at: DateTime<Utc>,
}

/// Which of the stored things a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From the cursor or the checkpoint, as far as there is one.
    GoOn,
    /// As if nothing had been read before. Rows and cursor stay until the walk is proven.
    Anew,
    /// The same, and rows that it does not see are deleted however many they are.
    AnewAllowingDeletes,
}

/// A run's starting point.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The cursor before the run.
    pub cursor: Option<CursorValue>,
    /// Value of the incremental parameter.
    pub start_value: Option<String>,
    pub resume: Option<Checkpoint>,
    /// Whether the walk begins at the very beginning.
    pub reads_everything: bool,
    /// Whether rows that the walk does not see are gone: it is over everything, and they are to go.
    pub is_snapshot: bool,
    /// Whether they may go however many they are.
    pub allow_deletes: bool,
}

impl Plan {
    /// Reads the stored state with the eyes of the present configuration.
    ///
    /// A full read that is gone on with does not fall back to the cursor when it has no checkpoint yet.
    /// A checkpoint older than `max_run_time` is dropped: the data behind it has moved on. So is that of
    /// a walk with another beginning: it has not read what this one is to read.
    ///
    /// # Errors
    ///
    /// [`Error::CursorOfOtherConfiguration`] when the cursor was made under another fingerprint.
    pub fn new(
        resource: &Resource,
        stored: Option<&Cursor>,
        start: Start,
        mode: Mode,
    ) -> Result<Self, Error> {
        let incremental = resource.endpoint.incremental.as_ref();
        if let Some(fingerprint) = stored.and_then(|s| s.fingerprint.as_deref())
            && fingerprint != resource.fingerprint
            && stored.is_some_and(|s| s.value.is_some())
        {
            return Err(Error::CursorOfOtherConfiguration);
        }
        let cursor = incremental
            .and(stored)
            .filter(|_| start == Start::GoOn && mode == Mode::Incremental)
            .and_then(|s| s.value.clone())
            .and_then(|value| CursorValue::from_json(&value));
        let start_value = incremental.and_then(|i| match &cursor {
            Some(cursor) => Some(cursor.minus(i.lag)),
            None => i.initial_value.clone(),
        });
        let resume = stored
            .filter(|s| {
                start == Start::GoOn
                    && s.fingerprint.as_deref() == Some(resource.fingerprint.as_str())
            })
            .and_then(|s| s.checkpoint.clone())
            .and_then(|checkpoint| serde_json::from_value::<Checkpoint>(checkpoint).ok())
            .filter(|checkpoint| checkpoint.start_value == start_value)
            .filter(|checkpoint| is_fresh(checkpoint, resource.max_run_time));
        // With a cursor the request may be narrowed anywhere: a parameter, the path, the body.
        let reads_everything = cursor.is_none();
        let is_snapshot = resource.deletes.mode == DeleteMode::Snapshot
            && resume
                .as_ref()
                .map_or(reads_everything, |checkpoint| checkpoint.snapshot.is_some());
        Ok(Self {
            cursor,
            start_value,
            reads_everything: reads_everything && resume.is_none(),
            resume,
            is_snapshot,
            allow_deletes: start == Start::AnewAllowingDeletes,
        })
    }

    /// The same run without its checkpoint.
    #[must_use]
    pub fn from_the_start(&self) -> Self {
        Self {
            resume: None,
            ..self.clone()
        }
    }

    /// What `fetch` is asked for.
    #[must_use]
    pub fn walk(&self, resource: &Resource) -> WalkPlan {
        WalkPlan {
            endpoint: resource.endpoint.clone(),
            start_value: self.start_value.clone(),
            key: resource.primary_key.clone(),
            resume: self
                .resume
                .as_ref()
                .and_then(|checkpoint| checkpoint.at.clone()),
            first_page: self.resume.as_ref().map_or(0, |checkpoint| checkpoint.page),
            max_pages: resource.max_pages,
        }
    }
}

fn is_fresh(checkpoint: &Checkpoint, max_age: Duration) -> bool {
    (clock::now() - checkpoint.stored_at)
        .to_std()
        .is_ok_and(|age| age <= max_age)
}
