//! Section `columns`: what is known of a column before the first value comes, and how odd values are read.

use chrono_tz::Tz;
use indexmap::IndexMap;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    decode::{Decode, section, words},
    problem::Problems,
    tree::Node,
};

/// What the configuration says of one column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnHint {
    /// Fixes the type: what does not convert to it exactly is a reject. The column exists from the first row on.
    pub data_type: Option<DataType>,
    pub precision: Option<u16>,
    pub scale: Option<u16>,
    pub zone: Zone,
    /// A null in this column makes a reject of its record.
    pub not_null: bool,
    pub primary_key: bool,
    pub merge_key: bool,
    pub unique: bool,
    /// Of several records with one key, that with the first value in this order is kept.
    pub dedup_sort: Option<Order>,
    /// True (of another type than boolean: not null) deletes the row.
    pub hard_delete: bool,
    pub format: Option<Format>,
    /// Texts that stand for null; `None`: those of the resource.
    pub null_values: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    Text,
    Bigint,
    Double,
    Bool,
    Timestamp,
    Date,
    Time,
    Interval,
    Json,
    Decimal,
    Binary,
    Wei,
}

/// What a timestamp's column holds, and what times without an offset mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    /// `timestamptz`; times without an offset are UTC.
    #[default]
    Utc,
    /// `timestamp`: the UTC time, without saying so.
    Naive,
    /// `timestamptz`; times without an offset are of this zone.
    Local(Tz),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Asc,
    Desc,
}

/// How the source spells a date, a time or a length of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    EpochSeconds,
    EpochMillis,
    /// `/Date(1700000000000)/`, also with an offset behind the number.
    DotNet,
    /// `PT8H30M`.
    IsoDuration,
    /// strftime, as chrono reads it.
    Pattern(String),
}

/// Which strings are taken for more than text in columns without a `data_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detect {
    pub timestamps: bool,
    pub dates: bool,
}

impl Default for Detect {
    fn default() -> Self {
        Self {
            timestamps: true,
            dates: true,
        }
    }
}

/// What becomes of NUL and of lone surrogates, which Postgres cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Nul {
    /// Each becomes U+FFFD.
    #[default]
    Replace,
    /// Each is left out.
    Strip,
    /// The record becomes a reject.
    Reject,
}

words! {
    /// Types of columns, as dlt names them, and `interval`.
    pub(super) enum TypeWord {
        Text = "text",
        Bigint = "bigint",
        Double = "double",
        Bool = "bool",
        Timestamp = "timestamp",
        Date = "date",
        Time = "time",
        Interval = "interval",
        Json = "json" | "complex",
        Decimal = "decimal",
        Binary = "binary",
        Wei = "wei",
    }
}

words! {
    /// Which of the records with one key is kept.
    pub(super) enum OrderWord {
        Asc = "asc",
        Desc = "desc",
    }
}

words! {
    /// What becomes of characters that Postgres cannot hold.
    pub(super) enum NulWord {
        Replace = "replace",
        Strip = "strip",
        Reject = "reject",
    }
}

section! {
    /// Which strings are taken for more than text. Columns with a `data_type` do not ask.
    pub(super) struct DetectFile {
        /// RFC 3339 strings become `timestamptz`.
        timestamps: bool = "true",
        /// `YYYY-MM-DD` strings become `date`.
        dates: bool = "true",
    }
}

section! {
    /// What becomes of text that Postgres cannot hold.
    pub(super) struct TextFile {
        /// NUL characters and lone surrogates: `replace` by U+FFFD (counted in `text_replaced`), `strip` (counted too), or `reject` the record.
        nul: NulWord = "replace",
    }
}

section! {
    /// What is known of one column.
    pub(super) struct ColumnFile {
        /// Type of the column: it exists even when every value is null, never widens, and what does not convert exactly is a reject.
        data_type: TypeWord,
        /// Characters of a text, digits of a decimal, bits of a bigint (8, 16, 32), digits of a second's fraction.
        precision: u16,
        /// Fraction digits of a decimal. More digits than these are a reject, not rounded.
        scale: u16,
        /// Of a timestamp: `false` makes a column without time zone, holding UTC; a zone such as `Europe/Berlin` tells what times without an offset mean.
        timezone: ZoneFile,
        /// `false`: a null makes a reject of the record.
        nullable: bool = "true",
        /// The field belongs to the primary key; written as the source spells it.
        primary_key: bool = "false",
        /// The field belongs to the merge key.
        merge_key: bool = "false",
        /// No two rows may have the same value.
        unique: bool = "false",
        /// Which of several records with one key becomes the row: `desc` that with the highest value, `asc` that with the lowest. Compared as numbers and instants; where one of two is neither, the later record.
        dedup_sort: OrderWord,
        /// Rows in which this is true (for other types: not null) are deleted.
        hard_delete: bool = "false",
        /// How the source spells it: `epoch_s`, `epoch_ms`, `/Date(ms)/`, `iso_duration`, or a strftime pattern such as `%d.%m.%Y`.
        format: FormatFile,
        /// Strings that stand for null, such as `""` or `None`, in place of the resource's.
        null_values: Vec<String>,
        /// Taken for dlt's sake: what the column means.
        description: String,
        /// Taken for dlt's sake: a matter of warehouses.
        partition: bool,
        /// As `partition`.
        cluster: bool,
        /// As `partition`.
        sort: bool,
    }
    refused [
        "name": "is the key under which the column stands",
        "row_key": "marks columns that dlt makes",
        "parent_key": "marks columns that dlt makes",
        "root_key": "marks columns that dlt makes",
        "variant": "marks columns that dlt makes",
    ]
}

section! {
    /// What is known of the table of one list.
    pub(super) struct NestedFile {
        /// As `columns` of the resource, by the names in the list's elements. Rows of lists have no keys and marks of their own.
        columns: IndexMap<String, ColumnFile>,
    }
    refused [
        "primary_key": "does not go with a list: its rows are replaced with the record's row",
        "merge_key": "does not go with a list: its rows are replaced with the record's row",
        "write_disposition": "is that of the resource",
    ]
}

impl NestedFile {
    /// The hints of the list's table.
    pub(super) fn resolve(
        &self,
        node: &Node,
        problems: &mut Problems,
    ) -> IndexMap<String, ColumnHint> {
        let columns = self.columns.iter().flatten();
        let hints = columns.map(|(name, file)| {
            let at = node.nearest(&["columns", name]);
            let hint = file.resolve(at, problems);
            let marks = [
                ("primary_key", hint.primary_key),
                ("merge_key", hint.merge_key),
                ("unique", hint.unique),
                ("dedup_sort", hint.dedup_sort.is_some()),
                ("hard_delete", hint.hard_delete),
            ];
            for (key, _) in marks.iter().filter(|(_, is_set)| *is_set) {
                at.nearest(&[key])
                    .wrong(problems, "rows of lists go with their record's row");
            }
            (name.clone(), hint)
        });
        hints.collect()
    }
}

/// `true`, `false` or the name of a zone.
#[derive(Debug, Clone)]
pub(super) struct ZoneFile(Zone);

impl Decode for ZoneFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let text = node.scalar().map(|scalar| scalar.text.as_str());
        let zone = match text {
            Some("true") => Some(Zone::Utc),
            Some("false") => Some(Zone::Naive),
            Some(name) => name.parse().ok().map(Zone::Local),
            None => None,
        };
        if zone.is_none() {
            node.wrong(
                problems,
                "expected true, false, or a time zone such as Europe/Berlin",
            );
        }
        zone.map(Self)
    }

    fn show(&self) -> Value {
        match self.0 {
            Zone::Utc => true.into(),
            Zone::Naive => false.into(),
            Zone::Local(zone) => zone.name().into(),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "string"] })
    }
}

/// A word for one of the known spellings, or a strftime pattern.
#[derive(Debug, Clone)]
pub(super) struct FormatFile(pub(super) Format);

impl Decode for FormatFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let text = node.scalar().map_or("", |scalar| scalar.text.as_str());
        let format = match text {
            "epoch_s" => Format::EpochSeconds,
            "epoch_ms" => Format::EpochMillis,
            "/Date(ms)/" => Format::DotNet,
            "iso_duration" => Format::IsoDuration,
            pattern if is_pattern(pattern) => Format::Pattern(pattern.to_owned()),
            _ => {
                node.wrong(
                    problems,
                    "expected epoch_s, epoch_ms, /Date(ms)/, iso_duration, or a strftime pattern such as %d.%m.%Y",
                );
                return None;
            }
        };
        Some(Self(format))
    }

    fn show(&self) -> Value {
        match &self.0 {
            Format::EpochSeconds => "epoch_s".into(),
            Format::EpochMillis => "epoch_ms".into(),
            Format::DotNet => "/Date(ms)/".into(),
            Format::IsoDuration => "iso_duration".into(),
            Format::Pattern(pattern) => pattern.as_str().into(),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date format" })
    }
}

fn is_pattern(text: &str) -> bool {
    use chrono::format::{Item, StrftimeItems};
    let mut fields = 0;
    for item in StrftimeItems::new(text) {
        match item {
            Item::Error => return false,
            Item::Numeric(..) | Item::Fixed(_) => fields += 1,
            Item::Literal(_) | Item::OwnedLiteral(_) | Item::Space(_) | Item::OwnedSpace(_) => {}
        }
    }
    fields > 0
}

/// What a pattern tells of: its type, when `data_type` does not say.
fn pattern_type(pattern: &str) -> DataType {
    use chrono::format::{Item, Numeric, StrftimeItems};
    let (mut date, mut time) = (false, false);
    for item in StrftimeItems::new(pattern) {
        match item {
            Item::Numeric(
                Numeric::Hour | Numeric::Hour12 | Numeric::Minute | Numeric::Second,
                _,
            ) => time = true,
            Item::Numeric(Numeric::Timestamp, _)
            | Item::Fixed(chrono::format::Fixed::RFC2822 | chrono::format::Fixed::RFC3339) => {
                (date, time) = (true, true);
            }
            Item::Numeric(..) => date = true,
            _ => {}
        }
    }
    match (date, time) {
        (true, true) => DataType::Timestamp,
        (false, true) => DataType::Time,
        (_, false) => DataType::Date,
    }
}

impl DetectFile {
    pub(super) fn resolve(&self) -> Detect {
        Detect {
            timestamps: self.timestamps,
            dates: self.dates,
        }
    }
}

impl TextFile {
    pub(super) fn resolve(&self) -> Nul {
        match self.nul {
            NulWord::Replace => Nul::Replace,
            NulWord::Strip => Nul::Strip,
            NulWord::Reject => Nul::Reject,
        }
    }
}

impl ColumnFile {
    /// The hint, checked for parts that do not go together.
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> ColumnHint {
        let format = self.format.clone().map(|format| format.0);
        let mut data_type = self.data_type.map(|word| match word {
            TypeWord::Text => DataType::Text,
            TypeWord::Bigint => DataType::Bigint,
            TypeWord::Double => DataType::Double,
            TypeWord::Bool => DataType::Bool,
            TypeWord::Timestamp => DataType::Timestamp,
            TypeWord::Date => DataType::Date,
            TypeWord::Time => DataType::Time,
            TypeWord::Interval => DataType::Interval,
            TypeWord::Json => DataType::Json,
            TypeWord::Decimal => DataType::Decimal,
            TypeWord::Binary => DataType::Binary,
            TypeWord::Wei => DataType::Wei,
        });
        if let Some(format) = &format {
            let own = match format {
                Format::EpochSeconds | Format::EpochMillis | Format::DotNet => DataType::Timestamp,
                Format::IsoDuration => DataType::Interval,
                Format::Pattern(pattern) => pattern_type(pattern),
            };
            let fits = match data_type {
                None => true,
                Some(DataType::Date | DataType::Time) => {
                    own == DataType::Timestamp || data_type == Some(own)
                }
                Some(DataType::Timestamp) => matches!(own, DataType::Timestamp | DataType::Date),
                Some(other) => other == own,
            };
            if !fits {
                node.nearest(&["format"])
                    .wrong(problems, "does not go with this `data_type`");
            }
            data_type = data_type.or(Some(own));
        } else if data_type == Some(DataType::Interval) {
            node.nearest(&["data_type"])
                .wrong(problems, "`interval` needs `format: iso_duration`");
        }
        self.check_size(data_type, node, problems);
        if self.timezone.is_some() && data_type != Some(DataType::Timestamp) {
            node.nearest(&["timezone"])
                .wrong(problems, "only `data_type: timestamp` has a time zone");
        }
        if self.primary_key {
            self.check_key(data_type, node, problems);
        }
        ColumnHint {
            data_type,
            precision: self.precision,
            scale: self.scale,
            zone: self.timezone.clone().map_or(Zone::Utc, |zone| zone.0),
            not_null: !self.nullable,
            primary_key: self.primary_key,
            merge_key: self.merge_key,
            unique: self.unique,
            dedup_sort: self.dedup_sort.map(|word| match word {
                OrderWord::Asc => Order::Asc,
                OrderWord::Desc => Order::Desc,
            }),
            hard_delete: self.hard_delete,
            format,
            null_values: self.null_values.clone(),
        }
    }

    /// Keys are compared before they are written, so their values are taken as they are.
    pub(super) fn check_key(
        &self,
        data_type: Option<DataType>,
        node: &Node,
        problems: &mut Problems,
    ) {
        if self.format.is_some() || self.null_values.is_some() || self.timezone.is_some() {
            node.wrong(
                problems,
                "a key has no `format`, `null_values` or `timezone`: keys are compared as they are",
            );
        }
        if !is_key_type(data_type) {
            node.nearest(&["data_type"]).wrong(
                problems,
                "a key is text, bigint, decimal, bool, date or timestamp",
            );
        }
    }

    fn check_size(&self, data_type: Option<DataType>, node: &Node, problems: &mut Problems) {
        if let Some(precision) = self.precision {
            let expected = match data_type {
                Some(DataType::Text) => (precision == 0).then_some("expected at least 1 character"),
                Some(DataType::Decimal) => {
                    (!(1..=1_000).contains(&precision)).then_some("expected 1 to 1000 digits")
                }
                Some(DataType::Bigint) => (!matches!(precision, 8 | 16 | 32 | 64))
                    .then_some("expected 8, 16, 32 or 64 bits"),
                Some(DataType::Timestamp | DataType::Time) => {
                    (precision > 9).then_some("expected 0 to 9 digits")
                }
                _ => Some("only text, decimal, bigint, timestamp and time have a precision"),
            };
            if let Some(expected) = expected {
                node.nearest(&["precision"]).wrong(problems, expected);
            }
        }
        if let Some(scale) = self.scale
            && (data_type != Some(DataType::Decimal)
                || self.precision.is_none_or(|precision| scale > precision))
        {
            node.nearest(&["scale"]).wrong(
                problems,
                "only `data_type: decimal` with a `precision` has a scale, and no larger one",
            );
        }
    }
}

/// Whether a column of this type can be a key.
fn is_key_type(data_type: Option<DataType>) -> bool {
    matches!(
        data_type,
        None | Some(
            DataType::Text
                | DataType::Bigint
                | DataType::Decimal
                | DataType::Bool
                | DataType::Date
                | DataType::Timestamp
        )
    )
}
