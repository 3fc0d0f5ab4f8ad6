//! Key `write_disposition`: what happens to the rows, in dlt's words.

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{
    columns::{ColumnHint, Order},
    decode::{Decode, OneOrMany, section, words},
    endpoint::{DottedPath, Endpoint, Step},
    name::identifier,
    problem::Problems,
    source::{HASHED_KEY, History, KeyHash, Strategy, Version, VersionField, WriteDisposition},
    tree::Node,
};

/// Columns of every table that no configuration can name for itself.
const OWN_COLUMNS: [&str; 4] = ["_run_id", "_synced_at", "_row_hash", "_deleted_at"];

/// Fields of the key, or what it is a hash of.
#[derive(Debug, Clone)]
pub(super) enum KeyFile {
    Fields(OneOrMany<DottedPath>),
    Hash(KeyHashFile),
}

section! {
    /// A key for records that have none.
    pub(super) struct KeyHashFile {
        /// Fields whose values together tell records apart, or `"*"` for all that a record holds: equal records are one row then, and a record that changes is another one.
        hash: HashedFields; required,
    }
}

/// Fields that are hashed, or `*`.
#[derive(Debug, Clone)]
pub(super) struct HashedFields(KeyHash);

impl Decode for HashedFields {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        if node.scalar().is_some_and(|scalar| scalar.text == "*") {
            return Some(Self(KeyHash::Whole));
        }
        let fields = OneOrMany::<DottedPath>::decode(node, problems)?.0;
        if fields.is_empty() {
            node.wrong(problems, "expected at least one field, or \"*\"");
        }
        Some(Self(KeyHash::Fields(fields)))
    }

    fn show(&self) -> Value {
        match &self.0 {
            KeyHash::Whole => "*".into(),
            KeyHash::Fields(fields) => OneOrMany(fields.clone()).show(),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        OneOrMany::<DottedPath>::schema(generator)
    }
}

impl Decode for KeyFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        match node.map() {
            Some(_) => KeyHashFile::decode(node, problems).map(Self::Hash),
            None => OneOrMany::decode(node, problems).map(Self::Fields),
        }
    }

    fn show(&self) -> Value {
        match self {
            Self::Fields(fields) => fields.show(),
            Self::Hash(hash) => hash.show(),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let fields = OneOrMany::<DottedPath>::schema(generator);
        let hash = generator.subschema_for::<KeyHashFile>();
        json_schema!({ "anyOf": [fields, hash] })
    }
}

impl KeyFile {
    /// Fields of the record that the key is, or is made of.
    pub(super) fn fields(&self) -> &[DottedPath] {
        match self {
            Self::Fields(fields) => &fields.0,
            Self::Hash(KeyHashFile {
                hash: HashedFields(KeyHash::Fields(fields)),
            }) => fields,
            Self::Hash(_) => &[],
        }
    }

    pub(super) fn hash(&self) -> Option<&KeyHash> {
        match self {
            Self::Fields(_) => None,
            Self::Hash(file) => Some(&file.hash.0),
        }
    }
}

/// Path of the field that a hashed key stands in.
pub(super) fn hashed_key() -> DottedPath {
    DottedPath(vec![Step::Key(HASHED_KEY.to_owned())])
}

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
        Scd2 = "scd2",
    }
}

section! {
    /// The disposition in its long form.
    pub(super) struct DispositionMapFile {
        /// What happens to the rows.
        disposition: DispositionWord; required,
        /// How a merge treats a row whose key is there: `upsert` and `delete-insert` make it what the record says, `insert-only` leaves it as it is, `scd2` keeps every version with the time in which it was valid. Left out: `upsert`, with a `merge_key` `delete-insert`.
        strategy: StrategyWord,
        /// With `delete-insert`, as in dlt: the source gives each key once. rosterd looks all the same, since two rows of one key cannot stand in the table.
        deduplicated: bool,
        /// As the resource's own `merge_key`.
        merge_key: OneOrMany<DottedPath>,
        /// With `scd2`: names of the columns that say from when to when a version is valid. Left out: `_valid_from` and `_valid_to`.
        validity_column_names: Vec<String>,
        /// With `scd2`: what stands in the second of them while a version is valid: `9999-12-31`. Left out or null: null.
        active_record_timestamp: Option<Moment>,
        /// With `scd2`: the time at which versions begin that a run finds. Left out or null: the time of their commit.
        boundary_timestamp: Option<Moment>,
        /// With `scd2`: the field that alone tells versions apart, a hash that the source makes. Left out: all fields do.
        row_version_column_name: DottedPath,
    }
}

/// A date or an instant.
#[derive(Debug, Clone)]
pub(super) struct Moment(DateTime<Utc>);

impl Decode for Moment {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let text = node.scalar().map_or("", |scalar| scalar.text.trim());
        let instant = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
        let moment = instant.ok().or_else(|| {
            let day: NaiveDate = text.parse().ok()?;
            Some(day.and_time(NaiveTime::MIN).and_utc())
        });
        if moment.is_none() {
            node.wrong(
                problems,
                "expected a date or an instant: 2024-01-01, 2024-01-01T00:00:00Z",
            );
        }
        moment.map(Self)
    }

    fn show(&self) -> Value {
        self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
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
                    validity_column_names: None,
                    active_record_timestamp: None,
                    boundary_timestamp: None,
                    row_version_column_name: None,
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
    pub(super) history: Option<History>,
}

impl DispositionFile {
    /// Whether the strategy takes parts of rows: `delete-insert` says that a row is replaced whole.
    pub(super) fn may_be_partial(&self) -> bool {
        self.0.strategy != Some(StrategyWord::DeleteInsert)
    }

    pub(super) fn merge_key(&self) -> &[DottedPath] {
        self.0.merge_key.as_ref().map_or(&[], |key| &key.0)
    }

    /// Whether the resource is left alone, whatever else is said of it.
    pub(super) fn skips(&self) -> bool {
        self.0.disposition == DispositionWord::Skip
    }

    /// `merge_key`: that which is given, here or beside.
    pub(super) fn resolve(
        &self,
        merge_key: &[DottedPath],
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
        let takes_sets = matches!(
            self.0.strategy,
            None | Some(StrategyWord::DeleteInsert | StrategyWord::Scd2)
        );
        if !merge_key.is_empty() && (word != WriteDisposition::Merge || !takes_sets) {
            node.nearest(&["strategy"]).wrong(
                problems,
                "a `merge_key` replaces whole sets of rows: it needs `merge` with the strategy `delete-insert` or `scd2`",
            );
        }
        let history = (self.0.strategy == Some(StrategyWord::Scd2))
            .then(|| self.history(merge_key, node, problems));
        if history.is_none() {
            for (key, is_given) in [
                (
                    "validity_column_names",
                    self.0.validity_column_names.is_some(),
                ),
                (
                    "active_record_timestamp",
                    self.0.active_record_timestamp.is_some(),
                ),
                ("boundary_timestamp", self.0.boundary_timestamp.is_some()),
                (
                    "row_version_column_name",
                    self.0.row_version_column_name.is_some(),
                ),
            ] {
                if is_given {
                    node.nearest(&[key])
                        .wrong(problems, "belongs to `strategy: scd2`");
                }
            }
        }
        let strategy = match self.0.strategy {
            // A row is replaced as a whole in both; ours keeps its place in the table.
            None | Some(StrategyWord::Upsert | StrategyWord::DeleteInsert) => Strategy::Upsert,
            Some(StrategyWord::InsertOnly) => Strategy::InsertOnly,
            Some(StrategyWord::Scd2) => Strategy::History,
        };
        Disposition {
            word,
            strategy,
            history,
        }
    }

    fn history(&self, merge_key: &[DottedPath], node: &Node, problems: &mut Problems) -> History {
        let names = self.0.validity_column_names.as_deref();
        let [from, to] = match names {
            None => ["_valid_from".to_owned(), "_valid_to".to_owned()],
            Some([from, to]) if identifier(from) != identifier(to) => [from.clone(), to.clone()],
            Some(_) => {
                node.nearest(&["validity_column_names"])
                    .wrong(problems, "expected two different names");
                ["_valid_from".to_owned(), "_valid_to".to_owned()]
            }
        };
        for name in [&from, &to] {
            let is_usable = name.len() <= 63
                && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if names.is_some() && (!is_usable || OWN_COLUMNS.contains(&name.as_str())) {
                node.nearest(&["validity_column_names"]).wrong(
                    problems,
                    "expected names in lower case, of letters, digits and `_`, and none of rosterd's own",
                );
                break;
            }
        }
        let moment =
            |given: &Option<Option<Moment>>| given.as_ref().and_then(Option::as_ref).map(|m| m.0);
        History {
            valid_from: from,
            valid_to: to,
            active: moment(&self.0.active_record_timestamp),
            boundary: moment(&self.0.boundary_timestamp),
            row_version: self.0.row_version_column_name.clone(),
            within: merge_key.to_vec(),
        }
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
