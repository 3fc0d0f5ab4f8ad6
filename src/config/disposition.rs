//! Key `write_disposition`: what happens to the rows, in dlt's words.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{
    columns::{ColumnHint, Order},
    decode::{Decode, OneOrMany, section, words},
    endpoint::{DottedPath, Endpoint},
    problem::Problems,
    source::{Strategy, Version, VersionField, WriteDisposition},
    tree::Node,
};

words! {
    /// What happens to the rows.
    pub(super) enum DispositionWord {
        Append = "append",
        Replace = "replace",
        Merge = "merge",
        Skip = "skip",
    }
}

words! {
    /// How a merge treats rows that are there.
    pub(super) enum StrategyWord {
        Upsert = "upsert",
        DeleteInsert = "delete-insert",
        InsertOnly = "insert-only",
    }
    later ["scd2"]
}

section! {
    /// The disposition in its long form.
    pub(super) struct DispositionMapFile {
        /// What happens to the rows.
        disposition: DispositionWord; required,
        /// How a merge treats a row whose key is there: `upsert` and `delete-insert` make it what the record says, `insert-only` leaves it as it is. Left out: `upsert`.
        strategy: StrategyWord,
        /// With `delete-insert`, as in dlt: the source gives each key once. rosterd looks all the same, since two rows of one key cannot stand in the table.
        deduplicated: bool,
        /// As the resource's own `merge_key`.
        merge_key: OneOrMany<DottedPath>,
    }
    later [
        "validity_column_names", "active_record_timestamp", "boundary_timestamp",
        "row_version_column_name",
    ]
}

/// A disposition in its short or long form.
#[derive(Debug, Clone)]
pub(super) struct DispositionFile(DispositionMapFile);

impl Decode for DispositionFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        match node.scalar() {
            Some(_) => DispositionWord::decode(node, problems).map(|disposition| {
                Self(DispositionMapFile {
                    disposition,
                    strategy: None,
                    deduplicated: None,
                    merge_key: None,
                })
            }),
            None => DispositionMapFile::decode(node, problems).map(Self),
        }
    }

    fn show(&self) -> Value {
        let is_long = self.0.strategy.is_some()
            || self.0.deduplicated.is_some()
            || self.0.merge_key.is_some();
        match is_long {
            true => self.0.show(),
            false => self.0.disposition.show(),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let short = DispositionWord::schema(generator);
        let long = generator.subschema_for::<DispositionMapFile>();
        json_schema!({ "anyOf": [short, long] })
    }
}

/// What a disposition means, and how.
pub(super) struct Disposition {
    pub(super) word: WriteDisposition,
    pub(super) strategy: Strategy,
}

impl DispositionFile {
    pub(super) fn merge_key(&self) -> &[DottedPath] {
        self.0.merge_key.as_ref().map_or(&[], |key| &key.0)
    }

    /// Whether the resource is left alone, whatever else is said of it.
    pub(super) fn skips(&self) -> bool {
        self.0.disposition == DispositionWord::Skip
    }

    /// `by_sets`: a merge key is given, here or beside.
    pub(super) fn resolve(
        &self,
        by_sets: bool,
        node: &Node,
        problems: &mut Problems,
    ) -> Disposition {
        let word = match self.0.disposition {
            // Looked at like any other, so that what is wrong in it is told.
            DispositionWord::Append | DispositionWord::Skip => WriteDisposition::Append,
            DispositionWord::Replace => WriteDisposition::Replace,
            DispositionWord::Merge => WriteDisposition::Merge,
        };
        if self.0.strategy.is_some() && word != WriteDisposition::Merge {
            node.nearest(&["strategy"])
                .wrong(problems, "only `merge` has strategies");
        }
        if self.0.deduplicated.is_some() && self.0.strategy != Some(StrategyWord::DeleteInsert) {
            node.nearest(&["deduplicated"])
                .wrong(problems, "belongs to `strategy: delete-insert`");
        }
        if by_sets
            && (word != WriteDisposition::Merge
                || !matches!(self.0.strategy, None | Some(StrategyWord::DeleteInsert)))
        {
            node.nearest(&["strategy"]).wrong(
                problems,
                "a `merge_key` replaces whole sets of rows: it needs `merge` with the strategy `delete-insert`",
            );
        }
        let strategy = match self.0.strategy {
            // A row is replaced as a whole in both; ours keeps its place in the table.
            None | Some(StrategyWord::Upsert | StrategyWord::DeleteInsert) => Strategy::Upsert,
            Some(StrategyWord::InsertOnly) => Strategy::InsertOnly,
        };
        Disposition { word, strategy }
    }
}

/// The field that tells which of two records with one key is the later one.
///
/// A column with `dedup_sort`, else the field of the cursor.
pub(super) fn version<'c>(
    columns: impl Iterator<Item = (&'c String, &'c ColumnHint)>,
    endpoint: &Endpoint,
    node: &Node,
    problems: &mut Problems,
) -> Option<Version> {
    let mut sorted = columns.filter_map(|(name, hint)| Some((name, hint.dedup_sort?)));
    if let Some((name, order)) = sorted.next() {
        if let Some((other, _)) = sorted.next() {
            node.nearest(&["columns", other, "dedup_sort"])
                .wrong(problems, "another column has `dedup_sort` already");
        }
        return Some(Version {
            field: VersionField::Path(hinted_path(name)?),
            lowest: order == Order::Asc,
        });
    }
    let incremental = endpoint.incremental.as_ref()?;
    Some(Version {
        field: VersionField::Cursor(incremental.cursor_path.clone()?),
        lowest: false,
    })
}

/// The field that a column hint names: `address__city` is `address.city`.
pub(super) fn hinted_path(name: &str) -> Option<DottedPath> {
    DottedPath::parse(&name.replace("__", "."))
}
