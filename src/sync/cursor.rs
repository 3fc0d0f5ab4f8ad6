//! The cursor of a run: what its records say of it, and what is wrong with it at the end.

use std::sync::Arc;

use tracing::info;

use super::{Error, plan::Plan, walk::Walker};
use crate::{
    config::incremental::{Incremental, Missing, RowOrder, Toward, Watermark},
    fault::{Class, Fault},
    record::Level,
    shape::Scan,
};

impl Walker {
    /// Looks at the order and the gaps of the cursor values.
    pub(super) fn check_cursor(&mut self, scan: &Scan) -> Result<(), Error> {
        let resource = Arc::clone(&self.store.context.resource);
        let Some(incremental) = &resource.endpoint.incremental else {
            return Ok(());
        };
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

    /// Tells when a read of everything met nothing as far as the stored cursor: the cursor never moves back,
    /// and what the API changes before it is not seen until somebody resets it.
    pub(super) async fn tell_regression(&self, plan: &Plan) -> Result<(), Error> {
        let incremental = plan.endpoint.incremental.as_ref();
        let watched = incremental.filter(|i| i.watermark == Watermark::Max && !self.is_fanout());
        let values = plan.stored.as_ref().zip(self.read.cursor.as_ref());
        let (Some(incremental), Some((stored, seen)), None) = (watched, values, &plan.cursor)
        else {
            return Ok(());
        };
        if !stored.is_beyond(seen, incremental.toward) {
            return Ok(());
        }
        let message = "everything was read, and nothing is as new as the cursor, which stays: if the API was restored from a backup, run `rosterd reset`";
        let data = serde_json::json!({ "cursor": stored.raw, "newest": seen.raw });
        let mut connection = self.store.acquire().await?;
        self.store
            .tell(
                &mut connection,
                Level::Warn,
                "cursor_regression",
                message,
                data,
            )
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
