//! What ends a run early, and what the history says about it.

use crate::{
    fault::{Class, Fault},
    fetch::{self, Doubt},
    load,
    record::{self, Status},
    shape::Breach,
};

/// Why a run did not end well. Its stages' errors pass through; the rest is the run's own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    #[error(transparent)]
    Load(#[from] load::Error),
    #[error(transparent)]
    Record(record::Error),
    /// The lease is another worker's now; nothing more may be written.
    #[error("the lease was lost")]
    Lost,
    /// Stopped softly from outside; the batch in hand was committed.
    #[error("stopped")]
    Halted,
    #[error("the run took longer than max_run_time")]
    OutOfTime,
    /// The walk came to an end that does not prove it complete, also when it was repeated where that may help.
    #[error("the walk is not proven complete: {0}")]
    Unproven(Doubt),
    /// A feed of deletions lists more than one run may hold.
    #[error("the feed lists more than {limit} records")]
    FeedTooLarge { limit: u64 },
    /// A replace walk that brought no row, and nobody allowed that.
    #[error("the walk brought no row")]
    Empty,
    /// A walk that replaces sets of rows without keys, and could not read all of them.
    #[error("records were rejected, so that no set of rows is known to be whole")]
    SetsNotWhole,
    /// A cursor is stored that another configuration made.
    #[error("the stored cursor belongs to another configuration of this resource")]
    CursorOfOtherConfiguration,
    /// Rows were loaded before, and their table is gone. Making it anew would keep the newest rows only.
    #[error("table {table} does not exist, although earlier runs loaded this resource")]
    TableGone { table: String, resource: String },
    /// The privacy rules and what is stored do not go together.
    #[error("{message}")]
    Privacy {
        code: &'static str,
        message: String,
        hint: &'static str,
    },
    /// A page asks for what a frozen contract does not give. The page is not stored; later runs read it again.
    #[error("schema_contract freezes {clause}: field {field} does not fit table {table}")]
    Contract {
        clause: &'static str,
        table: String,
        field: String,
    },
    /// Records without a cursor value, under `on_cursor_value_missing: raise`.
    #[error("{records} records of a page have no readable cursor value")]
    CursorMissing { records: u64 },
    /// The records before the place to resume at are not what they were.
    #[error("records before the place to resume at have moved")]
    Moved,
    /// A parent's record cannot be asked with.
    #[error("{0}")]
    Parent(String),
    /// Walks for some of the parents failed; those of the others are loaded.
    #[error("{}", .0.message)]
    Children(Fault),
    /// The programs of the processing steps have no process to run in.
    #[error("the process for the processing steps cannot be started: {0}")]
    Sandbox(std::io::Error),
    /// Records that the programs could not get through within their limits.
    #[error("the processing steps exceeded their limits on {records} records")]
    StepsLost { records: u32 },
    /// A task of the run ended by itself.
    #[error("a part of the run crashed")]
    Crashed,
}

impl From<Breach> for Error {
    fn from(breach: Breach) -> Self {
        Self::Contract {
            clause: breach.clause,
            table: breach.table,
            field: breach.field,
        }
    }
}

impl From<record::Error> for Error {
    fn from(error: record::Error) -> Self {
        match error {
            record::Error::Lost => Self::Lost,
            other => Self::Record(other),
        }
    }
}

impl Error {
    /// `partial` where what was committed is usable and known to be incomplete, else `failed`.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Unproven(_) | Self::Moved | Self::Parent(_) | Self::Children(_) => {
                Status::Partial
            }
            Self::Fetch(error) if error.is_partial() => Status::Partial,
            Self::Lost | Self::Halted => Status::Interrupted,
            Self::Fetch(_)
            | Self::Load(_)
            | Self::Record(_)
            | Self::OutOfTime
            | Self::FeedTooLarge { .. }
            | Self::Empty
            | Self::SetsNotWhole
            | Self::CursorOfOtherConfiguration
            | Self::TableGone { .. }
            | Self::Privacy { .. }
            | Self::Contract { .. }
            | Self::CursorMissing { .. }
            | Self::Sandbox(_)
            | Self::StepsLost { .. }
            | Self::Crashed => Status::Failed,
        }
    }

    /// Whether the same transaction may succeed when it is tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Load(error) => error.is_transient(),
            Self::Record(error) => error.is_transient(),
            Self::Fetch(_)
            | Self::Lost
            | Self::Halted
            | Self::OutOfTime
            | Self::Unproven(_)
            | Self::FeedTooLarge { .. }
            | Self::Empty
            | Self::SetsNotWhole
            | Self::CursorOfOtherConfiguration
            | Self::TableGone { .. }
            | Self::Privacy { .. }
            | Self::Contract { .. }
            | Self::CursorMissing { .. }
            | Self::Sandbox(_)
            | Self::StepsLost { .. }
            | Self::Moved
            | Self::Parent(_)
            | Self::Children(_)
            | Self::Crashed => false,
        }
    }

    /// Whether the database was away as a whole, so that the run is to go on as soon as it is back.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Load(error) => error.is_outage(),
            Self::Record(error) => error.is_outage(),
            _ => false,
        }
    }

    #[must_use]
    pub fn fault(&self) -> Fault {
        let own = |class, code: &str, hint: &str, retryable| Fault {
            class,
            code: code.to_owned(),
            message: self.to_string(),
            hint: hint.to_owned(),
            retryable,
        };
        match self {
            Self::Fetch(error) => error.fault(),
            Self::Load(error) => error.fault(),
            Self::Record(error) => error.fault(),
            Self::Lost => own(
                Class::Internal,
                "lease_lost",
                "Nothing to do: another worker goes on.",
                true,
            ),
            Self::Halted => own(
                Class::Internal,
                "stopped",
                "Nothing to do: the next run goes on.",
                true,
            ),
            Self::OutOfTime => own(
                Class::Timeout,
                "max_run_time",
                "The next run resumes where this one stopped; raise max_run_time or the rate limit if this repeats.",
                true,
            ),
            Self::Unproven(Doubt::Maximum(_)) => own(
                Class::SourceResponse,
                "maximum_reached",
                "What was read is stored; the cursor stays. Raise the paginator's maximum_page or maximum_offset, or leave it out, to read the rest.",
                false,
            ),
            Self::Unproven(Doubt::Drift(_)) => own(
                Class::SourceResponse,
                "pagination_drift",
                "What was read is stored; the cursor stays. If this repeats, sort the endpoint by a unique field or use a cursor paginator.",
                true,
            ),
            Self::FeedTooLarge { .. } => own(
                Class::Data,
                "feed_too_large",
                "Nothing was deleted and the feed's cursor stays. Raise deletes.max_records (the keys are held in memory), or drop the feed's other records with deletes.processing_steps.",
                false,
            ),
            Self::Sandbox(_) => own(
                Class::Internal,
                "sandbox",
                "rosterd runs jq programs in a process of its own binary: look at limits of processes and memory (TasksMax, MemoryMax, ulimit).",
                true,
            ),
            Self::StepsLost { .. } => own(
                Class::Data,
                "step_limits",
                "See rosterd.rejects for step_too_long and step_exhausted: the programs of processing_steps or deletes.when do not end, or need higher processing_limits.",
                false,
            ),
            Self::Moved => own(
                Class::SourceResponse,
                "parents_moved",
                "The next run reads everything from the beginning.",
                true,
            ),
            Self::Parent(_) => own(
                Class::Data,
                "parent_record",
                "Look at the parent's records and its processing_steps; parent.missing: skip leaves such records out.",
                true,
            ),
            Self::Children(fault) => fault.clone(),
            Self::Empty => own(
                Class::SourceResponse,
                "empty_walk",
                "The table keeps its rows. Look at rosterd.rejects; if there are none and the source is truly empty, set allow_empty: true.",
                true,
            ),
            Self::SetsNotWhole => own(
                Class::Data,
                "sets_not_whole",
                "The table keeps its rows. See rosterd.rejects for reasons; with a primary_key the other records would load.",
                true,
            ),
            Self::CursorOfOtherConfiguration => own(
                Class::Config,
                "cursor_mismatch",
                "Path, parameters, cursor or key changed: run `rosterd reset SOURCE/RESOURCE` to read everything anew.",
                false,
            ),
            Self::TableGone { resource, .. } => own(
                Class::Destination,
                "SQLSTATE 42P01",
                &format!(
                    "Restore the table, or run `rosterd reset {resource}` to make it anew and load everything."
                ),
                false,
            ),
            Self::Contract { clause, .. } => own(
                Class::Schema,
                "schema_contract",
                &format!(
                    "Change the table by hand, or set schema_contract.{clause} to evolve, discard_row or discard_value; the next run reads the record again."
                ),
                false,
            ),
            Self::CursorMissing { .. } => own(
                Class::Data,
                "cursor_missing",
                "The cursor stays. Check `cursor_path` and `format`, or set `on_cursor_value_missing` to include or exclude.",
                true,
            ),
            Self::Privacy { code, hint, .. } => own(Class::Config, code, hint, false),
            Self::Crashed => own(
                Class::Internal,
                "panic",
                "This is a fault in rosterd: please report it with the log.",
                true,
            ),
        }
    }
}
