//! From a page of JSON to typed rows: names, types, keys, hashes. No I/O, no async.
//!
//! Records stay the bytes that the API sent until the moment they are encoded for Postgres: number
//! digits are never parsed into binary floats, lists are stored as they came, and a record whose
//! hash Postgres already has is never looked into beyond its key and cursor.

/// Type of a column that rosterd makes. Widening goes down the ways of [`Kind::join`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Boolean,
    BigInt,
    Numeric,
    Date,
    Timestamptz,
    Text,
    Jsonb,
}

/// One column of a data table and where in the record its value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// At most 63 bytes, unique in the table.
    pub name: String,
    /// Object keys from the record's root, in source spelling.
    pub path: Vec<String>,
    pub kind: Kind,
}

/// The columns of a table as the rows are encoded, without rosterd's own (`_run_id` ...).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    pub columns: Vec<Column>,
    /// Positions in `columns` of the primary key, in its order.
    pub key: Vec<usize>,
    /// Counts the changes of this layout within a run. Rows encoded under one revision share their columns.
    pub revision: u32,
}

/// A record that could not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The key as text, as far as there is one.
    pub key: Option<String>,
    /// Path of the field at fault, in source spelling.
    pub path: Option<String>,
    /// Stable word: `null_key`, `not_an_object`, `number_out_of_range`, ...
    pub reason: &'static str,
    /// Position in the page.
    pub record: usize,
}
