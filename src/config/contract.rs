//! Section `schema_contract`: what may become of a table's shape once its first load is done.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{
    decode::{Decode, section, words},
    problem::Problems,
    tree::Node,
};

/// What happens to data that asks for another shape than the tables have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contract {
    /// A list that would get a table of its own.
    pub tables: Terms,
    /// A field that would get a column.
    pub columns: Terms,
    /// A value that its column's type cannot hold.
    pub data_type: Terms,
}

impl Contract {
    /// Whether every change is welcome.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// One clause of a [`Contract`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Terms {
    /// The table changes.
    #[default]
    Evolve,
    /// The run fails.
    Freeze,
    /// The record is left out, and kept as a reject.
    DiscardRow,
    /// The value is left out, the rest of the record loads.
    DiscardValue,
}

words! {
    /// What happens to data that asks for another shape: the table changes, the run fails, the record is left out, the value is left out.
    pub(super) enum TermsWord {
        Evolve = "evolve",
        Freeze = "freeze",
        DiscardRow = "discard_row",
        DiscardValue = "discard_value",
    }
}

section! {
    /// What may become of the shape of tables that are loaded once. One word stands for all three keys.
    pub(super) struct SchemaContractFile {
        /// Lists that would get a table of their own (under `max_table_nesting`): `evolve`, `freeze` fails the run, the others leave the list out and count it in `values_discarded`.
        tables: TermsWord = "evolve",
        /// Fields that would get a new column: `evolve`, `freeze` fails the run, `discard_row` makes the record a reject, `discard_value` leaves the field out and counts it in `values_discarded`.
        columns: TermsWord = "evolve",
        /// Values that do not fit their column's type: `evolve` widens it, the others are as for `columns`.
        data_type: TermsWord = "evolve",
    }
}

/// The section, or one word for all of it.
#[derive(Debug, Clone)]
pub(super) struct ContractShort(SchemaContractFile);

impl ContractShort {
    pub(super) fn resolve(&self) -> Contract {
        Contract {
            tables: terms(self.0.tables),
            columns: terms(self.0.columns),
            data_type: terms(self.0.data_type),
        }
    }
}

fn terms(word: TermsWord) -> Terms {
    match word {
        TermsWord::Evolve => Terms::Evolve,
        TermsWord::Freeze => Terms::Freeze,
        TermsWord::DiscardRow => Terms::DiscardRow,
        TermsWord::DiscardValue => Terms::DiscardValue,
    }
}

impl Decode for ContractShort {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        if node.scalar().is_none() {
            return SchemaContractFile::decode(node, problems).map(Self);
        }
        let word = TermsWord::decode(node, problems)?;
        Some(Self(SchemaContractFile {
            tables: word,
            columns: word,
            data_type: word,
        }))
    }

    fn show(&self) -> Value {
        self.0.show()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let short = TermsWord::schema(generator);
        let long = generator.subschema_for::<SchemaContractFile>();
        json_schema!({ "anyOf": [short, long] })
    }
}
