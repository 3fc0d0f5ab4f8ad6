//! Where a run starts: from scratch, from the cursor, or in the middle of an interrupted walk.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Error, deletes::Snapshot, span::Piece, trail::Trail};
use crate::{
    clock,
    config::{
        Resource,
        endpoint::Endpoint,
        incremental::{Incremental, Watermark},
        source::{DeleteMode, WriteDisposition},
    },
    fetch::{Bindings, Position, WalkPlan},
    record::{Cursor, Mode},
    shape::{Bounds, CursorValue},
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
    /// Ends that the walk asked for.
    pub start_value: Option<String>,
    #[serde(default)]
    pub end_value: Option<String>,
    /// The stored cursor at that time.
    #[serde(default)]
    pub cursor: Option<serde_json::Value>,
    /// Time of the API's clock when the walk began; no cursor may pass it.
    pub cap: Option<DateTime<Utc>>,
    /// Whether that is the API's own word.
    #[serde(default)]
    pub has_clock: bool,
    /// Furthest cursor value seen so far.
    pub seen: Option<serde_json::Value>,
    /// The records are not in the order that was promised.
    #[serde(default)]
    pub is_unsorted: bool,
    /// Records read so far, those of this page counted too.
    pub records: u64,
    /// There when the walk is over everything and rows that it does not see are to go.
    #[serde(default)]
    pub snapshot: Option<Snapshot>,
    /// Where this is among the parents, when the resource has any.
    #[serde(default)]
    pub trail: Option<Box<Trail>>,
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

/// A run's starting point, and the piece of its span that is walked now.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is asked: that of the first walk, or that of all others.
    pub endpoint: Endpoint,
    /// The cursor that the run begins at.
    pub cursor: Option<CursorValue>,
    /// The cursor as it is stored, also where the run reads everything.
    pub stored: Option<CursorValue>,
    pub piece: Piece,
    pub resume: Option<Checkpoint>,
    /// Whether the walk begins at the very beginning.
    pub reads_everything: bool,
    /// Whether rows that the walk does not see are gone: it is over everything, and they are to go.
    pub is_snapshot: bool,
    /// Whether they may go however many they are.
    pub allow_deletes: bool,
    /// Whether what is stored may be gone on from.
    goes_on: bool,
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
    /// [`Error::CursorOfOtherConfiguration`] when the cursor was made under another fingerprint, or is
    /// none that the present one can read.
    pub fn new(
        resource: &Resource,
        stored: Option<&Cursor>,
        start: Start,
        mode: Mode,
    ) -> Result<Self, Error> {
        // A child's walk begins with its outermost parents.
        let (asked, is_watched) = resource.outermost();
        let incremental = asked.endpoint.incremental.as_ref();
        let value = stored.and_then(|s| s.value.as_ref()).filter(|_| is_watched);
        if let Some(fingerprint) = stored.and_then(|s| s.fingerprint.as_deref())
            && fingerprint != resource.fingerprint
            && value.is_some()
        {
            return Err(Error::CursorOfOtherConfiguration);
        }
        let known = match (incremental, value) {
            // Between fixed ends there is no cursor.
            (Some(incremental), Some(value)) if incremental.end_value.is_none() => {
                let read = read_cursor(incremental, value);
                Some(read.ok_or(Error::CursorOfOtherConfiguration)?)
            }
            _ => None,
        };
        let cursor = known
            .clone()
            .filter(|_| start == Start::GoOn && mode == Mode::Incremental);
        let first = incremental.and_then(|i| i.first.as_deref());
        let endpoint = match first {
            Some(first) if cursor.is_none() => first,
            _ => &asked.endpoint,
        };
        let piece = incremental.map_or_else(Piece::default, |incremental| {
            Piece::first(incremental, cursor.as_ref(), clock::now())
        });
        let is_windowed = incremental.is_some_and(|i| i.window.is_some());
        let resume = stored
            .filter(|s| {
                start == Start::GoOn
                    && s.fingerprint.as_deref() == Some(resource.fingerprint.as_str())
            })
            .and_then(|s| s.checkpoint.clone())
            .and_then(|checkpoint| serde_json::from_value::<Checkpoint>(checkpoint).ok())
            // A later window begins elsewhere than the run does, at the same cursor.
            .filter(|checkpoint| {
                checkpoint.start_value == piece.start_value
                    || (is_windowed && checkpoint.cursor.as_ref() == value)
            })
            .filter(|checkpoint| is_fresh(checkpoint, resource.max_run_time));
        // With a cursor the request may be narrowed anywhere: a parameter, the path, the body.
        let reads_everything = cursor.is_none();
        // A set that is delivered is whole, whatever the walk is over.
        let history = resource.history.as_ref();
        let by_sets = history.is_some_and(|history| !history.within.is_empty());
        let is_snapshot = resource.deletes.mode == DeleteMode::Snapshot
            && resume
                .as_ref()
                .map_or(reads_everything || by_sets, |checkpoint| {
                    checkpoint.snapshot.is_some()
                });
        let piece = match (&resume, incremental) {
            (Some(checkpoint), Some(incremental)) => Piece::of_checkpoint(
                incremental,
                checkpoint.start_value.clone(),
                checkpoint.end_value.clone(),
            ),
            _ => piece,
        };
        Ok(Self {
            endpoint: endpoint.clone(),
            cursor,
            stored: known,
            piece,
            reads_everything: reads_everything && resume.is_none(),
            resume,
            is_snapshot,
            allow_deletes: start == Start::AnewAllowingDeletes,
            goes_on: start == Start::GoOn && mode == Mode::Incremental,
        })
    }

    /// The same where units of a fan-out have cursors, with which a walk does not read everything.
    #[must_use]
    pub fn with_cursors_of_units(self) -> Self {
        if !self.goes_on {
            return self;
        }
        Self {
            reads_everything: false,
            // An interrupted walk over everything stays one.
            is_snapshot: self.is_snapshot && self.resume.is_some(),
            ..self
        }
    }

    /// Whether the walks for a parent begin at its own cursor. A walk that is to delete what it does not see
    /// must see everything.
    #[must_use]
    pub fn uses_cursors_of_units(&self) -> bool {
        self.goes_on && !self.is_snapshot
    }

    /// The same piece without its checkpoint.
    #[must_use]
    pub fn from_its_start(&self) -> Self {
        Self {
            resume: None,
            ..self.clone()
        }
    }

    /// The same run from its first piece on, as of now.
    #[must_use]
    pub fn from_the_start(&self) -> Self {
        let piece = match &self.endpoint.incremental {
            Some(incremental) => Piece::first(incremental, self.cursor.as_ref(), clock::now()),
            None => Piece::default(),
        };
        Self {
            piece,
            ..self.from_its_start()
        }
    }

    /// The run's next piece, the API's time being `now`. `None`: the span is over.
    #[must_use]
    pub fn next(&self, now: DateTime<Utc>) -> Option<Self> {
        let incremental = self.endpoint.incremental.as_ref()?;
        Some(Self {
            piece: self.piece.next(incremental, now)?,
            ..self.from_its_start()
        })
    }

    /// Whether the cursor moves with each piece. Not where a walk that is repeated takes back all that
    /// the run has brought.
    #[must_use]
    pub fn moves_in_pieces(&self, resource: &Resource) -> bool {
        let incremental = self.endpoint.incremental.as_ref();
        resource.write_disposition == WriteDisposition::Merge
            && incremental.is_some_and(|i| i.window.is_some() && i.end_value.is_none())
    }

    /// Which records become rows.
    #[must_use]
    pub fn bounds(&self, resource: &Resource) -> Bounds {
        self.piece.bounds(resource, &self.endpoint)
    }

    /// What `fetch` is asked for.
    #[must_use]
    pub fn walk(&self, resource: &Resource) -> WalkPlan {
        WalkPlan {
            endpoint: self.endpoint.clone(),
            bindings: Bindings::default(),
            start_value: self.piece.start_value.clone(),
            end_value: self.piece.end_value.clone(),
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

/// A cursor as it is stored, or as a checkpoint holds it.
pub(super) fn read_cursor(
    incremental: &Incremental,
    value: &serde_json::Value,
) -> Option<CursorValue> {
    match incremental.watermark {
        Watermark::Token => value.as_str().map(CursorValue::token),
        Watermark::Max | Watermark::RunStart => {
            CursorValue::from_json(value, &incremental.notation)
        }
    }
}

fn is_fresh(checkpoint: &Checkpoint, max_age: Duration) -> bool {
    (clock::now() - checkpoint.stored_at)
        .to_std()
        .is_ok_and(|age| age <= max_age)
}
