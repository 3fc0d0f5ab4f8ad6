//! Section `endpoint.incremental`: only what changed since the last complete walk.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{
    decode::{Decode, section},
    endpoint::{DottedPath, Incremental},
    problem::Problems,
    tree::Node,
    units,
};

section! {
    /// Only what changed since the last complete walk.
    pub(super) struct IncrementalFile {
        /// Field of the record that tells when the record changed, or a number that grows with every change.
        cursor_path: DottedPath; required,
        /// Sent on the first walk. Left out: the first walk has no `start_param`.
        initial_value: String,
        /// Parameter of the query that gets the start value. Left out: every walk reads everything.
        start_param: String,
        /// Taken off the stored cursor, so that late records are seen: `10m`, `36h`. A plain number means what it does in dlt: days when `initial_value` is a date, else seconds.
        lag: LagFile = "0s",
    }
    later [
        "end_value", "end_param", "row_order", "range_start", "range_end", "last_value_func",
        "on_cursor_value_missing", "convert", "primary_key", "allow_external_schedulers",
    ]
}

/// A length of time, or a number whose unit is decided by the cursor.
#[derive(Debug, Clone, Copy)]
pub(super) enum LagFile {
    Time(Duration),
    Number(f64),
}

impl Decode for LagFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let number = node
            .scalar()
            .and_then(|scalar| scalar.text.trim().parse::<f64>().ok())
            .filter(|number| (0.0..=1e9).contains(number));
        match number {
            Some(number) => Some(Self::Number(number)),
            None => Duration::decode(node, problems).map(Self::Time),
        }
    }

    fn show(&self) -> Value {
        match self {
            Self::Time(time) => time.show(),
            Self::Number(number) => number.show(),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "format": "duration" })
    }
}

impl IncrementalFile {
    pub(super) fn resolve(&mut self, node: &Node, problems: &mut Problems) -> Incremental {
        if self.start_param.as_deref() == Some("") {
            node.nearest(&["start_param"])
                .wrong(problems, "expected the name of a parameter");
        }
        let lag = match self.lag {
            LagFile::Time(time) => time,
            LagFile::Number(number) => {
                let unit = match self.initial_value.as_deref().is_some_and(is_date) {
                    true => 86_400.0,
                    false => 1.0,
                };
                Duration::try_from_secs_f64(number * unit).unwrap_or(Duration::MAX)
            }
        };
        // Shown with its unit: what `check --print` says must not hang on another key.
        self.lag = LagFile::Time(lag);
        if units::parse_duration(&units::format_duration(lag)).is_none() {
            node.nearest(&["lag"])
                .wrong(problems, "expected less than a hundred years");
        }
        Incremental {
            cursor_path: self.cursor_path.clone(),
            initial_value: self.initial_value.clone(),
            start_param: self.start_param.clone(),
            lag,
        }
    }
}

/// Whether the text is a date without a time: `2024-01-31`.
fn is_date(text: &str) -> bool {
    chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}
