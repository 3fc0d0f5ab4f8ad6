//! Section `rejects`: what becomes of a run whose records could not all become rows.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{
    decode::{Decode, section, words},
    problem::Problems,
    source::{Keep, Tolerance},
    tree::Node,
};

section! {
    /// What becomes of a run whose records could not all become rows.
    pub(super) struct RejectsFile {
        /// So many rejects leave a run `succeeded`: a number, or a share of the records read, `5%`. They are kept in `rosterd.rejects` all the same.
        tolerate: ToleranceFile = "0",
        /// What `rosterd.rejects` keeps of a record: its `key`, or the `record` too, as the privacy rules leave it (up to 64 KiB), until it loads or `daemon.retention.rejects` is over.
        store: KeepWord = "key",
    }
}

words! {
    /// What is kept of a rejected record.
    pub(super) enum KeepWord {
        Key = "key",
        Record = "record",
    }
}

impl RejectsFile {
    pub(super) fn keep(&self) -> Keep {
        match self.store {
            KeepWord::Key => Keep::Key,
            KeepWord::Record => Keep::Record,
        }
    }
}

/// A number of records, or a share of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToleranceFile(pub(super) Tolerance);

impl Decode for ToleranceFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let tolerance = node.scalar().and_then(|scalar| {
            let text = scalar.text.trim();
            match text.strip_suffix('%') {
                Some(share) => share
                    .trim()
                    .parse()
                    .ok()
                    .filter(|share| (0.0..=100.0).contains(share))
                    .map(Tolerance::Percent),
                None => text.parse().ok().map(Tolerance::Records),
            }
        });
        if tolerance.is_none() {
            node.wrong(problems, "expected a number of records, or a share: `5%`");
        }
        tolerance.map(Self)
    }

    fn show(&self) -> Value {
        match self.0 {
            Tolerance::Records(records) => records.into(),
            Tolerance::Percent(share) => format!("{share}%").into(),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 0 })
    }
}
