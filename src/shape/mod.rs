//! From a page of JSON to typed rows: names, types, keys, hashes. No I/O, no async.
//!
//! Records stay the bytes that the API sent until the moment they are encoded for Postgres: number
//! digits are never parsed into binary floats, lists are stored as they came, and a record whose
//! hash Postgres already has is never looked into beyond its key and cursor.
//!
//! A page is looked at twice. [`Mapper::scan`] finds keys, hashes and the cursor; what turns out to
//! be new or changed then goes through [`Mapper::encode`], straight into the bytes of a binary COPY.

mod condition;
mod cursor;
mod encode;
mod graft;
mod hashed;
mod hint;
mod json;
mod keep;
mod keys;
mod name;
mod nest;
mod number;
mod privacy;
mod scan;
mod steps;
mod stretch;
mod time;
mod tree;
mod value;

#[cfg(test)]
mod tests;

pub use condition::{Condition, Verdict};
pub use cursor::CursorValue;
pub use encode::{Conflict, Encoded, MapSpec, Mapper, Stamp};
pub use graft::{field, raw_field, with_members};
pub use hashed::{HASHED_KEY_COLUMN, key_page};
pub use keep::kept;
pub use keys::{KeyHashing, KeySet};
pub use name::{of_list as list_table, of_path as column_name};

pub use crate::config::name::identifier;
pub use nest::{ChildRows, ELEMENT, ROOT_ID, ROW_ID};
pub use privacy::{AS_IS, Hasher, Screen, ScreenSpec, Screened, treatment, written_key};
pub use scan::{Beside, BinaryArray, HashArray, Probe, RowKeys, Scan, ScanRow};
pub use steps::{Became, Steps, Stop};
pub use stretch::{Bound, Bounds, CursorRule, Stretch};

/// rosterd's own columns as they stand at the end of each tuple, with their types.
pub const SYSTEM_COLUMNS: [(&str, &str); 3] = [
    ("_run_id", "bigint"),
    ("_synced_at", "timestamptz"),
    ("_row_hash", "bytea"),
];

/// The field behind all others of a tuple whose record may leave columns out: `bytea`, a bit for each column
/// that it speaks of, the lowest bit of the first byte for the first column.
pub const PRESENT_COLUMN: &str = "_rosterd_present";

/// Columns that a table gets at the most, beside rosterd's own. Postgres ends at 1,600 and counts
/// those that were dropped.
pub const MAX_COLUMNS: usize = 1_500;

/// Type `bytea`, of the row hashes.
pub const BYTEA_OID: u32 = 17;
/// Type `bytea[]`.
pub const BYTEA_ARRAY_OID: u32 = 1001;

/// Type of a column that rosterd makes. Widening goes down the ways of [`Kind::join`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Boolean,
    BigInt,
    Numeric,
    Double,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Bytea,
    Text,
    Jsonb,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Boolean,
        Self::BigInt,
        Self::Numeric,
        Self::Double,
        Self::Date,
        Self::Time,
        Self::Timestamp,
        Self::Timestamptz,
        Self::Interval,
        Self::Bytea,
        Self::Text,
        Self::Jsonb,
    ];

    /// The narrowest kind that holds the values of both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::Jsonb, _) | (_, Self::Jsonb) => Self::Jsonb,
            (Self::BigInt, Self::Numeric) | (Self::Numeric, Self::BigInt) => Self::Numeric,
            (Self::Date, Self::Timestamptz) | (Self::Timestamptz, Self::Date) => Self::Timestamptz,
            (Self::BigInt | Self::Numeric, Self::Double)
            | (Self::Double, Self::BigInt | Self::Numeric) => Self::Numeric,
            _ => Self::Text,
        }
    }

    /// The type's name in SQL.
    #[must_use]
    pub fn sql(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::BigInt => "bigint",
            Self::Numeric => "numeric",
            Self::Double => "double precision",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Interval => "interval",
            Self::Bytea => "bytea",
            Self::Date => "date",
            Self::Timestamptz => "timestamptz",
            Self::Text => "text",
            Self::Jsonb => "jsonb",
        }
    }

    /// The kind of a column by its type as the catalogue spells it (`udt_name` or `format_type`).
    /// `None`: rosterd does not write that type.
    #[must_use]
    pub fn from_sql(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "boolean" | "bool" => Self::Boolean,
            "bigint" | "int8" => Self::BigInt,
            "numeric" => Self::Numeric,
            "double precision" | "float8" => Self::Double,
            "date" => Self::Date,
            "time" | "time without time zone" => Self::Time,
            "timestamp" | "timestamp without time zone" => Self::Timestamp,
            "interval" => Self::Interval,
            "bytea" => Self::Bytea,
            "timestamptz" | "timestamp with time zone" => Self::Timestamptz,
            "text" | "varchar" | "character varying" => Self::Text,
            "jsonb" => Self::Jsonb,
            _ => return None,
        })
    }

    /// The type's number, the same in every Postgres.
    #[must_use]
    pub fn oid(self) -> u32 {
        match self {
            Self::Boolean => 16,
            Self::BigInt => 20,
            Self::Numeric => 1700,
            Self::Double => 701,
            Self::Date => 1082,
            Self::Time => 1083,
            Self::Timestamp => 1114,
            Self::Interval => 1186,
            Self::Bytea => BYTEA_OID,
            Self::Timestamptz => 1184,
            Self::Text => 25,
            Self::Jsonb => 3802,
        }
    }

    /// The type's word in dlt's variant columns, `<name>__v_<word>`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Boolean => "bool",
            Self::BigInt => "bigint",
            Self::Numeric => "decimal",
            Self::Double => "double",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp | Self::Timestamptz => "timestamp",
            Self::Interval => "interval",
            Self::Bytea => "binary",
            Self::Text => "text",
            Self::Jsonb => "json",
        }
    }

    /// The number of the type's array type.
    #[must_use]
    pub fn array_oid(self) -> u32 {
        match self {
            Self::Boolean => 1000,
            Self::BigInt => 1016,
            Self::Numeric => 1231,
            Self::Double => 1022,
            Self::Date => 1182,
            Self::Time => 1183,
            Self::Timestamp => 1115,
            Self::Interval => 1187,
            Self::Bytea => BYTEA_ARRAY_OID,
            Self::Timestamptz => 1185,
            Self::Text => 1009,
            Self::Jsonb => 3807,
        }
    }
}

/// One column of a data table and where in the record its value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// At most 63 bytes, unique in the table.
    pub name: String,
    /// Object keys from the record's root, in source spelling. Empty where the field is not known
    /// (a column of the catalogue without a note of ours) and for the overflow column.
    pub path: Vec<String>,
    pub kind: Kind,
    /// Something hangs on the column that does not let its type change: a view, a policy, a constraint.
    pub is_fixed: bool,
    pub declared: Declared,
}

/// What the configuration says of a column beyond its kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    pub precision: Option<u16>,
    pub scale: Option<u16>,
    pub not_null: bool,
    pub unique: bool,
}

impl Column {
    /// The column's type in SQL, with its size.
    #[must_use]
    pub fn sql_type(&self) -> String {
        let name = self.kind.sql();
        match (self.kind, self.declared.precision, self.declared.scale) {
            (Kind::Text, Some(length), _) => format!("varchar({length})"),
            (Kind::Numeric, Some(precision), scale) => {
                format!("numeric({precision}, {})", scale.unwrap_or(0))
            }
            (Kind::Time | Kind::Timestamp, Some(precision), _) => {
                format!("{name}({})", precision.min(6))
            }
            (Kind::Timestamptz, Some(precision), _) => format!("timestamptz({})", precision.min(6)),
            _ => name.to_owned(),
        }
    }
}

/// The columns of a table as the rows are encoded, without rosterd's own (`_run_id` ...).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    pub columns: Vec<Column>,
    /// Positions in `columns` of the primary key, in its order. Empty until the key columns exist,
    /// which they do as soon as a row was encoded.
    pub key: Vec<usize>,
    /// Counts the changes of this layout within a run. Rows encoded under one revision share their columns.
    pub revision: u32,
    /// Tables of the lists, where these have tables of their own.
    pub children: Vec<Family>,
    /// Whether tuples end with [`PRESENT_COLUMN`], which says of which columns their records speak.
    pub partial: bool,
}

/// The table of the lists that stand at one place of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub table: String,
    /// Keys from the root's record to the list; [`ELEMENT`] for the way through a list around it.
    pub path: Vec<String>,
    /// Its columns' paths begin at the list's element.
    pub layout: Layout,
}

/// What a page asked for that a frozen contract does not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The key of `schema_contract`.
    pub clause: &'static str,
    pub table: String,
    /// Path of the field, in source spelling.
    pub field: String,
}

/// A record that could not become a row.
#[derive(Clone, PartialEq, Eq)]
pub struct Reject {
    /// The key as text, as far as there is one.
    pub key: Option<String>,
    /// Path of the field at fault, in source spelling.
    pub path: Option<String>,
    /// Stable word, one of [`reason`].
    pub reason: &'static str,
    /// Position in the page.
    pub record: usize,
}

impl std::fmt::Debug for Reject {
    /// Without the key, which may be a person's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reject")
            .field("path", &self.path)
            .field("reason", &self.reason)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// Why a record became a reject: the words that stand in the rejects table.
pub mod reason {
    /// The record is a list, a string, a number, null.
    pub const NOT_AN_OBJECT: &str = "not_an_object";
    /// The record's bytes are not JSON.
    pub const INVALID_JSON: &str = "invalid_json";
    pub const INVALID_UTF8: &str = "invalid_utf8";
    /// A part of the key is missing, null or an empty string.
    pub const NULL_KEY: &str = "null_key";
    /// The key has more than 512 bytes.
    pub const KEY_TOO_LONG: &str = "key_too_long";
    /// A part of the key is a list or an object.
    pub const KEY_NOT_SCALAR: &str = "key_not_scalar";
    /// More than 1,000 digits, or an exponent beyond 1,000.
    pub const NUMBER_OUT_OF_RANGE: &str = "number_out_of_range";
    /// Lists or objects nested more than 5,000 levels deep.
    pub const TOO_DEEP: &str = "too_deep";
    /// Far more fields than a table can have, or far too many that stand twice.
    pub const TOO_MANY_FIELDS: &str = "too_many_fields";
    /// More bytes than a row of Postgres can have, after all that can be moved out of it.
    pub const ROW_TOO_WIDE: &str = "row_too_wide";
    /// The page grew beyond 1 GiB as rows.
    pub const PAGE_TOO_LARGE: &str = "page_too_large";
    /// A column that is not nullable has no value.
    pub const NULL_VALUE: &str = "null_value";
    /// A field has no column, and `schema_contract` discards such records.
    pub const CONTRACT_COLUMNS: &str = "contract_columns";
    /// A value does not fit its column's type, and `schema_contract` discards such records.
    pub const CONTRACT_DATA_TYPE: &str = "contract_data_type";
    /// Whether the configuration asked for the record to be left out.
    #[must_use]
    pub fn is_contract(reason: &str) -> bool {
        matches!(reason, CONTRACT_COLUMNS | CONTRACT_DATA_TYPE)
    }
    /// A text holds NUL or a lone surrogate, and these are to be rejected.
    pub const UNSTORABLE_TEXT: &str = "unstorable_text";
    /// The value does not fit the column, which cannot become wider.
    pub const MISFIT: &str = "misfit";
    /// The program of a processing step ended with an error.
    pub const STEP_FAILED: &str = "step_failed";
    /// The program of a `filter` or `map` gave no output, or several.
    pub const STEP_NOT_ONE: &str = "step_not_one_output";
    /// What a program gave is nothing that JSON has.
    pub const STEP_NOT_JSON: &str = "step_not_json";
    /// The condition that says whether a record is gone gave neither true nor false.
    pub const NOT_BOOLEAN: &str = "not_boolean";
    /// One record became more than 100,000 records or 64 MiB.
    pub const STEP_TOO_MUCH: &str = "step_too_much";
    /// The programs took longer over the record than `processing_limits` says.
    pub const STEP_TOO_LONG: &str = "step_too_long";
    /// The programs needed more memory, or deeper calls, than `processing_limits` allow.
    pub const STEP_EXHAUSTED: &str = "step_exhausted";
}
