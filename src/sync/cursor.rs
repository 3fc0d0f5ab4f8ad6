//! The cursor of a run: what its records say of it, and what is wrong with it at the end.

use std::{collections::HashMap, sync::Arc};

use tracing::info;

use super::{Error, plan::Plan, walk::Walker};
use crate::{
    config::{
        Resource,
        incremental::{Incremental, Missing, RowOrder, Toward, Watermark},
        paginator::Paginator,
    },
    fault::{Class, Fault},
    record::{self, Level},
    shape::{KeyHashing, Scan},
};

/// Records of one walk that are remembered; 32 MiB of them. What moves beyond is not told.
const MOST_REMEMBERED: usize = 500_000;

/// The records of a walk by places that are counted, where a record that changes goes to the end.
///
/// All others behind its old place move up then, and one of them slips over the border of a page that was
/// read. The total stays what it was. What tells of it is the record itself: it comes again, changed.
#[derive(Debug, Default)]
pub(super) struct Moves {
    is_watched: bool,
    /// The hash of each record by its key.
    met: HashMap<u128, u64, KeyHashing>,
    /// Whether a record came again, changed.
    pub(super) is_met: bool,
}

impl Moves {
    pub(super) fn of(resource: &Resource) -> Self {
        let endpoint = &resource.endpoint;
        let is_ascending = (endpoint.incremental.as_ref()).is_some_and(|incremental| {
            incremental.row_order == Some(RowOrder::Ascending) && incremental.toward == Toward::Max
        });
        let is_counted = match &endpoint.paginator {
            // An overlap meets those that moved up.
            Paginator::Counted(counted) => counted.overlap == 0,
            _ => false,
        };
        Self {
            is_watched: is_ascending && is_counted && !resource.primary_key.is_empty(),
            ..Self::default()
        }
    }

    /// Another walk begins.
    pub(super) fn begin(&mut self) {
        self.met.clear();
        self.is_met = false;
    }

    fn look(&mut self, scan: &Scan) {
        if !self.is_watched || self.is_met {
            return;
        }
        for row in &scan.rows {
            // Half of the hash tells two versions of one record apart.
            let version = row.hash as u64;
            match self.met.get(&row.key) {
                Some(met) => self.is_met |= *met != version,
                None if self.met.len() < MOST_REMEMBERED => {
                    self.met.insert(row.key, version);
                }
                None => {}
            }
        }
    }

    /// Why the walk is not proven.
    pub(super) fn doubt(&self) -> Option<String> {
        self.is_met.then(|| {
            "a record that had been read changed and came again at the end, so that others may have slipped over a border of pages".to_owned()
        })
    }
}

impl Walker {
    /// Looks at the order and the gaps of the cursor values.
    pub(super) fn check_cursor(&mut self, scan: &Scan) -> Result<(), Error> {
        let resource = Arc::clone(&self.store.context.resource);
        let Some(incremental) = &resource.endpoint.incremental else {
            return Ok(());
        };
        self.moves.look(scan);
        if incremental.missing == Missing::Raise && scan.cursor_missing > 0 {
            return Err(Error::CursorMissing {
                records: scan.cursor_missing,
            });
        }
        self.read.has_values |= scan.cursor.is_some() || scan.cursor_future > 0;
        if let Some(stretch) = &scan.stretch {
            let jumps = self
                .before
                .as_ref()
                .is_some_and(|before| match incremental.row_order {
                    Some(RowOrder::Ascending) => *before > stretch.first,
                    Some(RowOrder::Descending) => *before < stretch.first,
                    None => false,
                });
            if (jumps || !stretch.sorted) && !self.read.is_unsorted {
                self.read.is_unsorted = true;
                info!("the records are not in the order of `row_order`; reading on to the end");
            }
            self.before = Some(stretch.last.clone());
        }
        Ok(())
    }

    /// Tells when a walk met records, and none as far as the stored cursor: the cursor never moves back, and
    /// what the API changes before it is not seen until somebody resets it. Told once for the same two values,
    /// since the next walk meets no more.
    pub(super) async fn tell_regression(&self, plan: &Plan) -> Result<(), Error> {
        let incremental = plan.endpoint.incremental.as_ref();
        let watched = incremental.filter(|i| i.watermark == Watermark::Max && !self.is_fanout());
        let values = plan.stored.as_ref().zip(self.read.cursor.as_ref());
        let (Some(incremental), Some((stored, seen))) = (watched, values) else {
            return Ok(());
        };
        // Beside values that the API's clock has not reached yet nobody knows which went back.
        let is_clock_behind = self.gauge.counters().cursor_future_rows > 0;
        if is_clock_behind || !stored.is_beyond(seen, incremental.toward) {
            return Ok(());
        }
        let data = serde_json::json!({ "cursor": stored.raw, "newest": seen.raw });
        let kind = "cursor_regression";
        let mut connection = self.store.acquire().await?;
        let resource_id = self.store.claim.resource_id;
        if record::latest_event(&mut connection, resource_id, kind).await? == Some(data.clone()) {
            return Ok(());
        }
        let message = "no record is as new as the cursor, which stays: if the API was restored from a backup, run `rosterd reset`";
        self.store
            .tell(&mut connection, Level::Warn, kind, message, data)
            .await
    }

    /// Whether what follows the page lies outside of the walk's span, by the order of the records.
    pub(super) fn leaves_span(&self, plan: &Plan) -> bool {
        let order = plan.endpoint.incremental.as_ref().and_then(|i| i.row_order);
        let (Some(order), Some(last)) = (order, &self.before) else {
            return false;
        };
        // A walk that is to see everything reads to the end.
        if self.read.is_unsorted || self.snapshot.is_some() {
            return false;
        }
        let incremental = plan.endpoint.incremental.as_ref();
        let toward = incremental.map(|i| i.toward).unwrap_or_default();
        let (lower, upper) = match toward {
            Toward::Max => (&plan.piece.start, &plan.piece.end),
            Toward::Min => (&plan.piece.end, &plan.piece.start),
        };
        match order {
            RowOrder::Descending => lower.as_ref().is_some_and(|lower| last < lower),
            RowOrder::Ascending => upper.as_ref().is_some_and(|upper| last > upper),
        }
    }
}

/// `watermark: token`, and the walk ended without one.
pub(super) fn no_token() -> Fault {
    Fault {
        class: Class::SourceResponse,
        code: "no_end_token".to_owned(),
        message: "the walk ended without the token that the next one is to begin with".to_owned(),
        hint: "The cursor stays. Check where the paginator looks for the token.".to_owned(),
        retryable: true,
    }
}

/// `watermark: run_start`, and the API does not tell its time.
pub(super) fn no_clock() -> Fault {
    Fault {
        class: Class::SourceResponse,
        code: "no_api_clock".to_owned(),
        message: "the API sends no `Date` header, so the time of the walk is not known".to_owned(),
        hint: "The cursor stays. Use `watermark: max` with a `cursor_path`.".to_owned(),
        retryable: false,
    }
}

/// No record has a cursor value that can be read.
pub(super) fn unreadable(incremental: &Incremental, records: u64) -> Fault {
    let path = incremental
        .cursor_path
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    Fault {
        class: Class::Data,
        code: "cursor_unreadable".to_owned(),
        message: format!("none of {records} records has a readable cursor value at `{path}`"),
        hint: "The rows are stored, the cursor stays. Check `cursor_path`, and `format` for times that are not RFC 3339.".to_owned(),
        retryable: false,
    }
}
