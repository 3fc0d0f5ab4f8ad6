//! Section `deletes`: how a resource learns that records are gone, and what becomes of their rows.

use std::num::NonZeroU64;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{
    decode::{Decode, Json, OneOrMany, section, words},
    endpoint::DottedPath,
    jq::Program,
    problem::Problems,
    resource::StepFile,
    source::{DeleteMode, Deletes, Flag, WriteDisposition},
    tree::Node,
};

section! {
    /// How records that are gone are noticed, and what becomes of their rows.
    pub(super) struct DeletesFile {
        /// `none`: rows stay for ever. `snapshot`: what a proven, complete, full walk did not see is gone; with `incremental` that is one of `reconcile`, or `rosterd sync --full`. `flag`: a field of the record, or a condition on it, says so. `feed`: another endpoint lists them.
        mode: DeleteWord; required,
        /// Rows are deleted. False: they stay and get the time in `_deleted_at`, with the rows of their lists, until they return.
        hard: bool = "false",
        /// Under `snapshot` and `feed`: when more than this share of the rows would go, and more than `floor`, none does, and the run is partial.
        max_fraction: f64 = "0.2",
        /// Under `snapshot` and `feed`: so many rows may go at once, whatever share of the table they are.
        floor: u64 = "10",
        /// Under `flag`: the field that says so: `is_deleted`, `status`.
        field: DottedPath,
        /// Under `flag`: the values that say so: `[terminated, merged]`. Left out: every value but null and false.
        values: Vec<Json>,
        /// Under `flag`, instead of `field`: a program of jq that is true for a record that is gone, and false for any other: `.status == "terminated"`. It sees the record behind `processing_steps` and before `privacy`. Where it fails, or gives anything but one true or false, the record is a reject, and its row stays as it is.
        when: Program,
        /// Under `feed`: keys of the endpoint that lists what is gone, over the resource's own `method`, `headers`, `data_selector` and `paginator`. Its `incremental` has a cursor of its own.
        endpoint: Json,
        /// Under `feed`: fields of its records that hold the resource's `primary_key`, in that order. Left out: those of the same names.
        key: OneOrMany<DottedPath>,
        /// Under `feed`: what happens to its records before their keys are looked at; the resource's own steps are not for them. A `filter` finds the deletions in a list of changes of all kinds: `[{filter: .event == "deleted"}]`.
        processing_steps: Vec<StepFile>,
        /// Under `feed`: a feed that lists more records in one run deletes nothing, its cursor stays, and the run is partial. Their keys are held in memory.
        max_records: NonZeroU64 = "1000000",
    }
}

words! {
    /// How records that are gone are noticed.
    pub(super) enum DeleteWord {
        None = "none",
        Snapshot = "snapshot",
        Flag = "flag",
        Feed = "feed",
    }
}

/// The section, or its mode alone.
#[derive(Debug, Clone)]
pub(super) struct DeletesShort(pub(super) DeletesFile);

impl Decode for DeletesShort {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let long = node.scalar().map(|_| node.clone().under("mode"));
        DeletesFile::decode(long.as_ref().unwrap_or(node), problems).map(Self)
    }

    fn show(&self) -> Value {
        self.0.show()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let short = DeleteWord::schema(generator);
        let long = generator.subschema_for::<DeletesFile>();
        json_schema!({ "anyOf": [short, long] })
    }
}

impl DeletesFile {
    pub(super) fn resolve(
        &self,
        disposition: WriteDisposition,
        node: &Node,
        problems: &mut Problems,
    ) -> Deletes {
        if !(0.0..=1.0).contains(&self.max_fraction) {
            node.nearest(&["max_fraction"])
                .wrong(problems, "expected a fraction from 0 to 1");
        }
        let mode = match self.mode {
            DeleteWord::None => DeleteMode::None,
            DeleteWord::Snapshot => DeleteMode::Snapshot,
            DeleteWord::Flag => DeleteMode::Flag,
            DeleteWord::Feed => DeleteMode::Feed,
        };
        let is_feed = mode == DeleteMode::Feed;
        if is_feed != self.endpoint.is_some() {
            node.nearest(&["endpoint"]).wrong(
                problems,
                "`mode: feed` needs an `endpoint`, and no other mode has one",
            );
        }
        if self.key.is_some() && !is_feed {
            node.nearest(&["key"])
                .wrong(problems, "only `mode: feed` has a key");
        }
        if self.processing_steps.is_some() && !is_feed {
            node.nearest(&["processing_steps"]).wrong(
                problems,
                "only `mode: feed` has steps of its own: those of the resource are beside `deletes`",
            );
        }
        let is_flag = mode == DeleteMode::Flag;
        match (is_flag, &self.field, &self.when) {
            (true, None, None) => node.nearest(&["mode"]).wrong(
                problems,
                "`mode: flag` needs a `field`, or a condition: `when`",
            ),
            (true, Some(_), Some(_)) => node.nearest(&["when"]).wrong(
                problems,
                "either a `field` says that a record is gone or a condition does",
            ),
            (false, Some(_), _) => node
                .nearest(&["field"])
                .wrong(problems, "only `mode: flag` has a field"),
            (false, _, Some(_)) => node
                .nearest(&["when"])
                .wrong(problems, "only `mode: flag` has a condition"),
            _ => {}
        }
        if self.values.is_some() && (!is_flag || self.field.is_none()) {
            node.nearest(&["values"])
                .wrong(problems, "only `mode: flag` with a `field` has values");
        }
        let mut values = Vec::new();
        for value in self.values.iter().flatten() {
            match &value.value {
                Value::Array(_) | Value::Object(_) | Value::Null => {
                    node.nearest(&["values"])
                        .wrong(problems, "expected texts, numbers, true or false");
                }
                value => values.push(value.clone()),
            }
        }
        if mode != DeleteMode::None && disposition != WriteDisposition::Merge {
            node.nearest(&["mode"]).wrong(
                problems,
                "rows can be told to be gone under `write_disposition: merge` only; `replace` drops them by itself",
            );
        }
        Deletes {
            mode,
            hard: self.hard,
            max_fraction: self.max_fraction,
            floor: self.floor,
            flag: self.field.clone().filter(|_| is_flag).map(|field| Flag {
                field,
                values: self.values.is_some().then_some(values),
            }),
            when: self.when.clone().filter(|_| is_flag),
        }
    }
}
