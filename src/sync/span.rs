//! What a walk asks for between two ends, and the pieces that a wide span is walked in.
//!
//! Both ends are sent as the API spells them, cut down to what the spelling can say; the next piece
//! begins at the very text that the one before ended with. Until the API has told its time, the
//! span ends by this machine's clock; from then on by the API's.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    config::{
        Resource,
        endpoint::Endpoint,
        incremental::{Incremental, Toward, Until},
        source::WriteDisposition,
    },
    shape::{Bound, Bounds, CursorValue},
};

/// An end that is so near to now is now: the time that the walk itself takes is left to the next run.
const NEAR: TimeDelta = TimeDelta::seconds(60);

/// Steps of a window that is narrower than what the spelling can say.
const COARSE: [Duration; 3] = [
    Duration::from_secs(86_400),
    Duration::from_secs(31 * 86_400),
    Duration::from_secs(366 * 86_400),
];

/// What one walk asks for.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    /// The ends as they are sent.
    pub start_value: Option<String>,
    pub end_value: Option<String>,
    /// What they mean, where it is known.
    pub start: Option<CursorValue>,
    pub end: Option<CursorValue>,
}

impl Piece {
    /// Where a run begins that knows of this cursor.
    pub(super) fn first(
        incremental: &Incremental,
        cursor: Option<&CursorValue>,
        now: DateTime<Utc>,
    ) -> Self {
        let notation = &incremental.notation;
        let initial = incremental.initial_value.as_deref();
        let start_value = match cursor {
            Some(cursor) => Some(cursor.start(incremental)),
            None => initial.map(|text| match CursorValue::parse(text, notation) {
                Some(value) => value.sent(notation),
                None => text.to_owned(),
            }),
        };
        let like = cursor
            .cloned()
            .or_else(|| CursorValue::parse(initial?, notation));
        Self::from(incremental, start_value, like, now)
    }

    /// The walk that a checkpoint was made in.
    pub(super) fn of_checkpoint(
        incremental: &Incremental,
        start_value: Option<String>,
        end_value: Option<String>,
    ) -> Self {
        let read =
            |text: &Option<String>| CursorValue::parse(text.as_deref()?, &incremental.notation);
        Self {
            start: read(&start_value),
            end: read(&end_value),
            start_value,
            end_value,
        }
    }

    /// The piece behind this one; `None`: the span is over.
    pub(super) fn next(&self, incremental: &Incremental, now: DateTime<Utc>) -> Option<Self> {
        let end = self.end.as_ref()?;
        let over = match incremental.until {
            Some(Until::Now { ahead }) => now.checked_add_signed(delta(ahead))? - NEAR,
            Some(Until::Open) => DateTime::<Utc>::MAX_UTC,
            None => CursorValue::parse(incremental.end_value.as_deref()?, &incremental.notation)?
                .instant()?,
        };
        if end.instant()? >= over {
            return None;
        }
        let start = self.end_value.clone();
        let next = Self::from(incremental, start, Some(end.clone()), now);
        // Nothing more can be said in this spelling.
        let moves = next.end.as_ref().is_none_or(|next| next > end);
        moves.then_some(next)
    }

    /// `like`: a value in whose spelling the end is sent.
    fn from(
        incremental: &Incremental,
        start_value: Option<String>,
        like: Option<CursorValue>,
        now: DateTime<Utc>,
    ) -> Self {
        let notation = &incremental.notation;
        let start = start_value
            .as_deref()
            .and_then(|text| CursorValue::parse(text, notation));
        let fixed = incremental
            .end_value
            .as_deref()
            .and_then(|text| CursorValue::parse(text, notation));
        let spelled = |at: DateTime<Utc>| match &like {
            Some(like) => like.moved_to(at, notation),
            None => CursorValue::at(at, notation),
        };
        let whole = match incremental.until {
            Some(Until::Now { ahead }) => now.checked_add_signed(delta(ahead)).and_then(spelled),
            Some(Until::Open) => None,
            None => fixed,
        };
        let begin = start.as_ref().and_then(CursorValue::instant);
        let step = incremental.window.zip(begin).and_then(|(window, begin)| {
            let mut steps = [window].into_iter().chain(COARSE);
            steps.find_map(|step| {
                spelled(begin.checked_add_signed(delta(step))?)
                    .filter(|end| start.as_ref().is_none_or(|start| end > start))
            })
        });
        let end = match (whole, step, incremental.until) {
            (Some(whole), Some(step), _) => Some(whole.min(step)),
            // The last window of a span without an end has none.
            (None, Some(step), Some(Until::Open)) => {
                Some(step).filter(|step| step.instant().is_some_and(|end| end < now))
            }
            (None, Some(step), _) => Some(step),
            (whole, None, _) => whole,
        };
        // A cursor may be ahead of a clock.
        let end = match (end, &start) {
            (Some(end), Some(start)) if end < *start => Some(start.clone()),
            (end, _) => end,
        };
        let end_value = match &end {
            Some(end) => Some(end.sent(notation)),
            // Not understood here, and sent as it stands.
            None => incremental.end_value.clone(),
        };
        Self {
            start_value,
            end_value,
            start,
            end,
        }
    }

    /// Which records of the walk become rows.
    ///
    /// What the API was asked to keep back, it keeps back; what it sends all the same is merged. Only
    /// where nothing was asked, or where a row would be appended a second time, are records left out.
    pub(super) fn bounds(&self, resource: &Resource, endpoint: &Endpoint) -> Bounds {
        let Some(incremental) = &endpoint.incremental else {
            return Bounds::default();
        };
        let notation = &incremental.notation;
        let appends = resource.write_disposition == WriteDisposition::Append;
        let initial = || CursorValue::parse(incremental.initial_value.as_deref()?, notation);
        let start = if incremental.open_start || appends {
            self.start.clone()
        } else if endpoint.sends_start() {
            None
        } else {
            initial()
        };
        let near = start.map(|value| Bound {
            value,
            closed: !incremental.open_start,
        });
        let far = match (&incremental.end_value, &self.end) {
            (Some(text), _) => CursorValue::parse(text, notation).map(|value| Bound {
                value,
                closed: incremental.closed_end,
            }),
            // The next piece brings what stands on the border.
            (None, Some(end)) if appends && incremental.window.is_some() => Some(Bound {
                value: end.clone(),
                closed: false,
            }),
            (None, _) => None,
        };
        let (lower, upper) = match incremental.toward {
            Toward::Max => (near, far),
            Toward::Min => (far, near),
        };
        Bounds {
            lower,
            upper,
            leaves_out_missing: incremental.missing == crate::config::incremental::Missing::Exclude,
        }
    }
}

fn delta(time: Duration) -> TimeDelta {
    TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX)
}
