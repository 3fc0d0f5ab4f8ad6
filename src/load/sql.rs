//! The only place where SQL text is made of names known at run time.
//!
//! Every name passes through [`Ident`], which quotes itself; every value goes as a bind or inside a
//! COPY. Statements are wrapped in `AssertSqlSafe` here and nowhere else in `load`.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::AssertSqlSafe;

use super::deletes::Keyed;
use crate::config::source::History;
use crate::shape::{Column, Kind, PRESENT_COLUMN, ROOT_ID, ROW_ID, SYSTEM_COLUMNS, identifier};

/// A quoted SQL identifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ident(String);

impl Ident {
    /// `name` must fit Postgres' 63 bytes: `shape::identifier` and the layout's names do.
    #[must_use]
    pub fn new(name: &str) -> Self {
        debug_assert!(name.len() <= 63, "Postgres would cut the name silently");
        Self(name.replace('\0', "\u{fffd}"))
    }

    /// The name without quotes, to compare with the catalogue.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A table with its schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableName {
    pub schema: Ident,
    pub table: Ident,
}

impl TableName {
    #[must_use]
    pub fn new(schema: &str, table: &str) -> Self {
        Self {
            schema: Ident::new(schema),
            table: Ident::new(table),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Marks text built in this module as made of quoted names and literals only.
pub(super) fn safe(text: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(text)
}

/// Temporary table that takes a batch's rows before they are merged.
const STAGE: &str = "pg_temp.rosterd_stage";

/// `"a", "b", ...`, the layout's columns followed by rosterd's own.
fn all_columns(columns: &[Column]) -> String {
    let own = SYSTEM_COLUMNS.iter().map(|(name, _)| Ident::new(name));
    join(columns.iter().map(|c| Ident::new(&c.name)).chain(own), ", ")
}

fn join<T: fmt::Display>(items: impl Iterator<Item = T>, separator: &str) -> String {
    items
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(separator)
}

fn prefixed(prefix: &str, names: impl Iterator<Item = Ident>) -> String {
    join(names.map(|name| format!("{prefix}.{name}")), ", ")
}

/// `"a" bigint, ...` with rosterd's own columns at the end.
fn definitions(columns: &[Column]) -> Vec<String> {
    let own = SYSTEM_COLUMNS
        .iter()
        .map(|(name, kind)| format!("{} {kind}", Ident::new(name)));
    columns
        .iter()
        .map(|c| format!("{} {}", Ident::new(&c.name), c.sql_type()))
        .chain(own)
        .collect()
}

pub(super) fn create_schema(schema: &Ident) -> String {
    format!("create schema if not exists {schema}")
}

/// A table with the layout's columns, rosterd's own, and a primary key on `key` when there is one.
pub(super) fn create_table(table: &TableName, columns: &[Column], key: &[Ident]) -> String {
    let mut parts = definitions(columns);
    for (column, definition) in columns.iter().zip(&mut parts) {
        if column.declared.not_null {
            definition.push_str(" not null");
        }
        if column.declared.unique {
            definition.push_str(" unique");
        }
    }
    format!("create table {table} ({})", with_key(parts, key))
}

/// The table that takes a `replace` walk until it is proven. Unlogged: after a crash the walk starts anew.
pub(super) fn create_walk_table(table: &TableName, columns: &[Column], key: &[Ident]) -> String {
    let parts = definitions(columns);
    format!("create unlogged table {table} ({})", with_key(parts, key))
}

fn with_key(mut parts: Vec<String>, key: &[Ident]) -> String {
    if !key.is_empty() {
        parts.push(format!("primary key ({})", join(key.iter(), ", ")));
    }
    parts.join(", ")
}

pub(super) fn drop_table(table: &TableName) -> String {
    format!("drop table if exists {table}")
}

pub(super) fn comment_on_table(table: &TableName, source: &str, resource: &str) -> String {
    let text =
        format!("Kept by rosterd: resource {resource} of source {source}.").replace('\'', "''");
    format!("comment on table {table} is '{text}'")
}

pub(super) fn add_column(table: &TableName, column: &str, sql_type: &str) -> String {
    format!(
        "alter table {table} add column {} {sql_type}",
        Ident::new(column)
    )
}

pub(super) fn add_unique(table: &TableName, column: &str) -> String {
    format!("alter table {table} add unique ({})", Ident::new(column))
}

/// Widens a column in place; the `using` says each value as the shape stage would have written it.
///
/// Where the old type kept the value but not its spelling, the rows lose their hashes: they are
/// compared again when they are next read, and then get what the API says.
pub(super) fn widen_column(table: &TableName, column: &str, from: Kind, to: Kind) -> String {
    let name = Ident::new(column);
    let using = match (from, to) {
        (Kind::Date, Kind::Timestamptz) => format!("{name}::timestamp at time zone 'UTC'"),
        (Kind::Timestamptz, Kind::Text) => {
            format!("to_char({name} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        }
        (Kind::Timestamptz, Kind::Jsonb) => {
            format!(
                "to_jsonb(to_char({name} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))"
            )
        }
        (_, Kind::Jsonb) => format!("to_jsonb({name})"),
        (_, other) => format!("{name}::{}", other.sql()),
    };
    let alter = format!(
        "alter table {table} alter column {name} type {} using {using}",
        to.sql()
    );
    match keeps_spelling(from, to) {
        true => alter,
        false => {
            format!(
                "{alter}; update {table} set _row_hash = {DOUBT} || _row_hash \
                 where {name} is not null and octet_length(_row_hash) = 16"
            )
        }
    }
}

/// Whether values of `from` become in `to` exactly what their JSON would have become there.
pub(super) fn keeps_spelling(from: Kind, to: Kind) -> bool {
    matches!(
        (from, to),
        (Kind::Boolean | Kind::Date | Kind::Text | Kind::Jsonb, _) | (Kind::BigInt, Kind::Numeric)
    )
}

/// Stands before the hash of a row that may not be spelled as its record is: a wider type took over its
/// values. It makes the row differ from what is read, and what follows it still tells whether it is the same record.
const DOUBT: &str = "'\\x00'::bytea";

/// Is true for a row `t` that may not be spelled as its record is.
const IS_DOUBTED: &str = "coalesce(octet_length(t._row_hash) > 16, true)";

/// Doubts the rows that have a value in `column` of their lists' table.
pub(super) fn doubt_roots(root: &TableName, child: &TableName, column: &str) -> String {
    format!(
        "update {root} set _row_hash = {DOUBT} || _row_hash \
         where octet_length(_row_hash) = 16 and \"{ROW_ID}\" in \
         (select \"{ROOT_ID}\" from {child} where {} is not null)",
        Ident::new(column)
    )
}

/// `partial`: the rows say of which columns they speak.
pub(super) fn create_stage(columns: &[Column], partial: bool) -> String {
    let mut parts = definitions(columns);
    if partial {
        parts.push(format!("{PRESENT_COLUMN} bytea"));
    }
    format!(
        "create temp table rosterd_stage ({}) on commit drop",
        parts.join(", ")
    )
}

pub(super) fn drop_stage() -> &'static str {
    "drop table pg_temp.rosterd_stage"
}

pub(super) fn copy_into(table: &TableName, columns: &[Column]) -> String {
    format!(
        "copy {table} ({}) from stdin with (format binary)",
        all_columns(columns)
    )
}

pub(super) fn copy_into_stage(columns: &[Column], partial: bool) -> String {
    let present = if partial {
        format!(", {PRESENT_COLUMN}")
    } else {
        String::new()
    };
    format!(
        "copy {STAGE} ({}{present}) from stdin with (format binary)",
        all_columns(columns)
    )
}

fn on_key(key: &[Ident]) -> String {
    join(key.iter().map(|k| format!("t.{k} = s.{k}")), " and ")
}

/// A column that tells which of two rows of one key counts.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    column: Ident,
    /// When the table's version is not to be trusted.
    distrust: &'static str,
    lowest: bool,
}

impl Guard {
    /// `None`: the column's values have no order but that of letters.
    pub(super) fn new(column: &Column, lowest: bool) -> Option<Self> {
        let distrust = match column.kind {
            Kind::BigInt | Kind::Numeric | Kind::Double | Kind::Time | Kind::Interval => "false",
            // A time that has not come yet would keep every later row out.
            Kind::Date | Kind::Timestamp | Kind::Timestamptz => "> now() + interval '1 day'",
            Kind::Boolean | Kind::Bytea | Kind::Text | Kind::Jsonb => return None,
        };
        Some(Self {
            column: Ident::new(&column.name),
            distrust,
            lowest,
        })
    }

    /// Is true where the staged row `s` must give way to the table's `t`.
    fn gives_way(&self) -> String {
        let column = &self.column;
        let order = if self.lowest { ">" } else { "<" };
        let trusted = match self.distrust {
            "false" => String::new(),
            distrust => format!(" and not (t.{column} {distrust})"),
        };
        format!("coalesce(s.{column} {order} t.{column}{trusted}, false)")
    }
}

/// Ids of the staged rows that the table does not take, because it has their key (and, with a guard,
/// a later version of it, which is not marked as deleted).
pub(super) fn roots_kept(
    table: &TableName,
    key: &[Ident],
    marks: bool,
    guard: Option<&Guard>,
) -> String {
    let on = on_key(key);
    let gives_way = match guard {
        None => "true".to_owned(),
        Some(guard) if marks => format!("{} and t._deleted_at is null", guard.gives_way()),
        Some(guard) => guard.gives_way(),
    };
    format!("select s.\"{ROW_ID}\" from {STAGE} as s join {table} as t on {on} where {gives_way}")
}

/// Counts the staged rows that give way to the table's.
pub(super) fn count_behind(
    table: &TableName,
    key: &[Ident],
    marks: bool,
    guard: &Guard,
    history: Option<&History>,
) -> String {
    let live = match (history, marks) {
        (Some(_), _) => and_valid(history),
        (None, true) => " and t._deleted_at is null".to_owned(),
        (None, false) => String::new(),
    };
    format!(
        "select count(*) from {STAGE} as s join {table} as t on {}{live} where {}",
        on_key(key),
        guard.gives_way()
    )
}

/// Where versions are kept: and the row `t` is a valid one.
fn and_valid(history: Option<&History>) -> String {
    history.map_or_else(String::new, |history| {
        format!(" and {}", Validity::new(history).is_open("t."))
    })
}

/// Hashes of the rows that this very run wrote and that a staged row now takes the place of.
pub(super) fn superseded(
    table: &TableName,
    key: &[Ident],
    guard: Option<&Guard>,
    history: Option<&History>,
) -> String {
    let valid = and_valid(history);
    // By the key's index, as in `probe`.
    format!(
        "select t._row_hash from {STAGE} as s \
         cross join lateral (select * from {table} as t where {}{valid} limit 1) as t \
         where t._run_id = s._run_id and t._row_hash <> s._row_hash \
           and octet_length(t._row_hash) = 16{}",
        on_key(key),
        unless_behind(guard)
    )
}

/// Writes the staged rows that differ from the table's. Equal rows get no new version, and neither
/// do rows of which the table has a later version.
///
/// Where the table `marks` rows as deleted, a staged row is there again: its mark goes, also when it is equal otherwise.
pub(super) fn update_changed(
    table: &TableName,
    columns: &[Column],
    partial: bool,
    key: &[Ident],
    marks: bool,
    guard: Option<&Guard>,
) -> String {
    let names: Vec<Ident> = columns.iter().map(|c| Ident::new(&c.name)).collect();
    let own = SYSTEM_COLUMNS.iter().map(|(name, _)| Ident::new(name));
    // Each column but those of the key, with what it is to hold.
    let values: Vec<(&Ident, String)> = names
        .iter()
        .enumerate()
        .filter(|(_, name)| !key.contains(name))
        .map(|(place, name)| {
            let value = match partial {
                true => format!(
                    "case when get_bit(s.{PRESENT_COLUMN}, {place}) = 1 then s.{name} else t.{name} end"
                ),
                false => format!("s.{name}"),
            };
            (name, value)
        })
        .collect();
    let set = join(
        values
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .chain(own.map(|name| format!("{name} = s.{name}")))
            .chain(marks.then(|| "_deleted_at = null".to_owned())),
        ", ",
    );
    let differs = if values.is_empty() {
        "false".to_owned()
    } else {
        format!(
            "({}) is distinct from ({})",
            prefixed("t", values.iter().map(|(name, _)| (*name).clone())),
            join(values.iter().map(|(_, value)| value), ", ")
        )
    };
    // Of a row that is marked, any version shows that its record is there again.
    let came_back = if marks {
        " or t._deleted_at is not null"
    } else {
        ""
    };
    let behind = unless_behind(guard);
    format!(
        "update {table} as t set {set} from {STAGE} as s \
         where {} and ((({differs} or {IS_DOUBTED}){behind}){came_back})",
        on_key(key)
    )
}

/// Gives rows that another mapping wrote, and that are what this one would write, its hash: once each, or
/// every run would look into them. Not so where only the record is spelled otherwise, maybe each time.
pub(super) fn refresh_hashes(
    table: &TableName,
    key: &[Ident],
    guard: Option<&Guard>,
    history: Option<&History>,
) -> String {
    let valid = and_valid(history);
    format!(
        "update {table} as t set _row_hash = s._row_hash from {STAGE} as s where {}{valid}{} \
         and octet_length(t._row_hash) = 16 and substr(t._row_hash, 1, 4) <> substr(s._row_hash, 1, 4)",
        on_key(key),
        unless_behind(guard)
    )
}

/// Adds the staged rows whose key the table does not have.
pub(super) fn insert_missing(table: &TableName, columns: &[Column], key: &[Ident]) -> String {
    let columns = all_columns(columns);
    format!(
        "insert into {table} ({columns}) select {columns} from {STAGE} as s \
         where not exists (select 1 from {table} as t where {}) \
         on conflict ({}) do nothing",
        on_key(key),
        join(key.iter(), ", ")
    )
}

/// The SQL of a history's two columns and of what stands in them.
struct Validity {
    from: Ident,
    to: Ident,
    /// When versions begin and end that this transaction finds.
    boundary: String,
    /// What `to` is while a version is valid.
    open: String,
}

impl Validity {
    fn new(history: &History) -> Self {
        let literal = |at: DateTime<Utc>| {
            format!(
                "timestamptz '{}'",
                at.to_rfc3339_opts(SecondsFormat::Micros, true)
            )
        };
        Self {
            from: Ident::new(&identifier(&history.valid_from)),
            to: Ident::new(&identifier(&history.valid_to)),
            boundary: history.boundary.map_or_else(|| "now()".to_owned(), literal),
            open: history.active.map_or_else(|| "null".to_owned(), literal),
        }
    }

    /// Is true for a version of the table called `name` that is valid.
    fn is_open(&self, name: &str) -> String {
        match self.open.as_str() {
            "null" => format!("{name}{} is null", self.to),
            open => format!("{name}{} = {open}", self.to),
        }
    }
}

pub(super) fn create_history(
    table: &TableName,
    columns: &[Column],
    key: &[Ident],
    history: &History,
) -> String {
    let validity = Validity::new(history);
    let mut parts = definitions(columns);
    parts.push(format!("{} timestamptz not null", validity.from));
    parts.push(format!("{} timestamptz", validity.to));
    let key: Vec<Ident> = key.iter().cloned().chain([validity.from]).collect();
    let unique = columns.iter().any(|column| column.name == ROW_ID);
    if unique {
        parts.push(format!("unique (\"{ROW_ID}\")"));
    }
    format!("create table {table} ({})", with_key(parts, &key))
}

pub(super) fn index_active(table: &TableName, key: &[Ident], history: &History) -> String {
    format!(
        "create unique index on {table} ({}) where {}",
        join(key.iter(), ", "),
        Validity::new(history).is_open("")
    )
}

/// Is true for a valid version `t` that the staged row `s` replaces.
fn is_replaced(
    columns: &[Column],
    key: &[Ident],
    validity: &Validity,
    by_hash: bool,
    guard: Option<&Guard>,
) -> String {
    let compared = columns.iter().map(|column| Ident::new(&column.name));
    let compared: Vec<Ident> = compared.filter(|name| !key.contains(name)).collect();
    let differs = match (by_hash, compared.is_empty()) {
        (true, _) => "t._row_hash is distinct from s._row_hash".to_owned(),
        (false, true) => "false".to_owned(),
        (false, false) => format!(
            "({}) is distinct from ({})",
            prefixed("t", compared.iter().cloned()),
            prefixed("s", compared.iter().cloned())
        ),
    };
    format!(
        "{} and {differs} and not {}{}",
        validity.is_open("t."),
        is_same_record(),
        unless_behind(guard)
    )
}

/// Is true for a doubted row `t` that was made of the same record as the staged row `s`.
fn is_same_record() -> String {
    format!("coalesce(t._row_hash = {DOUBT} || s._row_hash, false)")
}

/// Spells valid versions as their records do, where only the type has changed: each goes with its lists,
/// whose ids are new in every run, and comes again with its time.
pub(super) fn respell_versions(
    table: &TableName,
    columns: &[Column],
    key: &[Ident],
    history: &History,
) -> String {
    let own = SYSTEM_COLUMNS.iter().map(|(name, _)| Ident::new(name));
    let names = columns.iter().map(|column| Ident::new(&column.name));
    let staged = prefixed("s", names.chain(own));
    let columns = all_columns(columns);
    let validity = Validity::new(history);
    let (from, to) = (&validity.from, &validity.to);
    format!(
        "with t as (delete from {table} as t using {STAGE} as s where {on} and {} and {} \
           returning {}, t.{from}) \
         insert into {table} ({columns}, {from}, {to}) \
         select {staged}, t.{from}, {} from {STAGE} as s join t on {on}",
        validity.is_open("t."),
        is_same_record(),
        prefixed("t", key.iter().cloned()),
        validity.open,
        on = on_key(key),
    )
}

/// Takes away versions that would begin and end at once, and those in whose place a new one comes.
pub(super) fn drop_versions(
    table: &TableName,
    columns: &[Column],
    key: &[Ident],
    history: &History,
    by_hash: bool,
    guard: Option<&Guard>,
) -> String {
    let validity = Validity::new(history);
    let replaced = is_replaced(columns, key, &validity, by_hash, guard);
    let (from, boundary) = (&validity.from, &validity.boundary);
    format!(
        "delete from {table} as t using {STAGE} as s where {} \
           and (({replaced} and t.{from} >= {boundary}) or (not ({}) and t.{from} = {boundary}))",
        on_key(key),
        validity.is_open("t.")
    )
}

/// Ends the valid versions that staged rows replace.
pub(super) fn end_versions(
    table: &TableName,
    columns: &[Column],
    key: &[Ident],
    history: &History,
    by_hash: bool,
    guard: Option<&Guard>,
) -> String {
    let validity = Validity::new(history);
    format!(
        "update {table} as t set {} = {} from {STAGE} as s where {} and {}",
        validity.to,
        validity.boundary,
        on_key(key),
        is_replaced(columns, key, &validity, by_hash, guard)
    )
}

/// Adds the staged rows whose key has no valid version.
pub(super) fn add_versions(
    table: &TableName,
    columns: &[Column],
    key: &[Ident],
    history: &History,
) -> String {
    let columns = all_columns(columns);
    let validity = Validity::new(history);
    format!(
        "insert into {table} ({columns}, {}, {}) select {columns}, {}, {} from {STAGE} as s \
         where not exists (select 1 from {table} as t where {} and {})",
        validity.from,
        validity.to,
        validity.boundary,
        validity.open,
        on_key(key),
        validity.is_open("t.")
    )
}

/// Ends the valid versions that have the keys of the staged rows.
pub(super) fn end_staged(
    table: &TableName,
    key: &[Ident],
    history: &History,
    guard: Option<&Guard>,
) -> String {
    let validity = Validity::new(history);
    format!(
        "update {table} as t set {to} = greatest({}, t.{}) from {STAGE} as s where {} and {}{}",
        validity.boundary,
        validity.from,
        on_key(key),
        validity.is_open("t."),
        unless_behind(guard),
        to = validity.to,
    )
}

/// Which rows of a table are there for those that ask what is gone.
#[derive(Debug, Clone, Copy)]
pub enum Live<'a> {
    All,
    /// Those that are not marked as deleted.
    Unmarked,
    /// The versions that are valid.
    Valid(&'a History),
}

impl Live<'_> {
    /// Is true for a live row of the table called `name`.
    fn of(&self, name: &str) -> String {
        match self {
            Self::All => "true".to_owned(),
            Self::Unmarked => format!("{name}._deleted_at is null"),
            Self::Valid(history) => Validity::new(history).is_open(&format!("{name}.")),
        }
    }
}

/// Ends the valid versions that the walk did not see.
pub(super) fn end_unseen(rows: &Keyed<'_>, history: &History) -> String {
    let validity = Validity::new(history);
    format!(
        "update {} as t set {} = greatest({}, t.{}) where {}",
        rows.table,
        validity.to,
        validity.boundary,
        validity.from,
        unseen(rows)
    )
}

fn unless_behind(guard: Option<&Guard>) -> String {
    guard.map_or_else(String::new, |guard| {
        format!(" and not {}", guard.gives_way())
    })
}

/// Deletes the rows that have the keys of the staged ones.
pub(super) fn delete_staged(table: &TableName, key: &[Ident], guard: Option<&Guard>) -> String {
    format!(
        "delete from {table} as t using {STAGE} as s where {}{}",
        on_key(key),
        unless_behind(guard)
    )
}

/// The same, by marking them with the transaction's time and the run.
pub(super) fn mark_staged(table: &TableName, key: &[Ident], guard: Option<&Guard>) -> String {
    format!(
        "update {table} as t set _deleted_at = now(), _synced_at = s._synced_at, _run_id = s._run_id \
         from {STAGE} as s where {} and t._deleted_at is null{}",
        on_key(key),
        unless_behind(guard)
    )
}

/// Sends the hashes of at most `most` rows that count: not of those that are marked as deleted, of older
/// versions, or to be compared again.
pub(super) fn copy_hashes(
    table: &TableName,
    marks: bool,
    history: Option<&History>,
    most: usize,
) -> String {
    let live = if marks {
        " and t._deleted_at is null"
    } else {
        ""
    };
    format!(
        "copy (select t._row_hash from {table} as t where octet_length(t._row_hash) = 16{live}{} \
         limit {most}) to stdout with (format binary)",
        and_valid(history)
    )
}

/// For each probed key: its ordinal, and whether the table has no such key (`true`) or another hash (`false`).
/// Keys whose row stands unchanged are left out; a row that is marked as deleted does not. Where nothing
/// is compared, every row that is there does.
pub(super) fn probe(
    table: &TableName,
    key: &[(Ident, Kind)],
    marks: bool,
    compares: bool,
    history: Option<&History>,
) -> String {
    let arrays = join((1..=key.len() + 1).map(|n| format!("${n}")), ", ");
    let names = join((1..=key.len()).map(|n| format!("k{n}")), ", ");
    let on = join(
        key.iter()
            .enumerate()
            .map(|(n, (name, _))| format!("t.{name} = p.k{}", n + 1)),
        " and ",
    );
    let first = key
        .first()
        .map_or_else(String::new, |(name, _)| format!("t.{name}"));
    let valid = and_valid(history);
    let (hash, or_differs) = if compares {
        (", t._row_hash", " or t._row_hash is distinct from p.h")
    } else {
        ("", "")
    };
    let (mark, is_marked, or_marked) = if marks {
        (
            ", t._deleted_at",
            "t._deleted_at is not null",
            " or t._deleted_at is not null",
        )
    } else {
        ("", "false", "")
    };
    // One look into the key's index for each row of the page. Left to itself, the planner reads all
    // of a table of some ten thousand rows for each page, which takes five times as long.
    format!(
        "select p.n, {first} is null, {is_marked} from unnest({arrays}) with ordinality as p({names}, h, n) \
         left join lateral (select {first}{hash}{mark} from {table} as t where {on}{valid} limit 1) as t on true \
         where {first} is null{or_differs}{or_marked}"
    )
}

/// The rows of a table that a walk speaks for: those of its sets, and those with its keys.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Columns that name a set; empty: no set is whole.
    pub sets: Vec<Ident>,
    pub key: Vec<Ident>,
}

impl Scope {
    /// Is true for a row `t` that the walk speaks for.
    fn holds(&self, walk: &TableName) -> String {
        let among = |columns: &Vec<Ident>| {
            let own = prefixed("t", columns.iter().cloned());
            let walked = join(columns.iter(), ", ");
            (!columns.is_empty()).then(|| format!("({own}) in (select {walked} from {walk})"))
        };
        let parts: Vec<String> = [&self.sets, &self.key]
            .into_iter()
            .filter_map(among)
            .collect();
        match parts.is_empty() {
            true => "false".to_owned(),
            false => parts.join(" or "),
        }
    }
}

/// Rows as a bag: each with its hash and its number among those of the same hash.
fn bag(table: &TableName, walk: &TableName, scope: Option<&Scope>, more: &str) -> String {
    let within = scope.map_or_else(String::new, |scope| format!(" where {}", scope.holds(walk)));
    format!(
        "(select {more}_row_hash, row_number() over (partition by _row_hash) as rosterd_n \
         from {table} as t{within})"
    )
}

/// Makes `table` equal to `walk` as a bag of rows, as far as the scope goes, touching only what differs.
pub(super) fn delete_absent(table: &TableName, walk: &TableName, scope: Option<&Scope>) -> String {
    let (part, place) = ("tableoid as rosterd_part", "ctid as rosterd_place");
    let absent = format!(
        "select t.rosterd_part, t.rosterd_place from {} as t where not exists (select 1 from {} as s \
           where s._row_hash = t._row_hash and s.rosterd_n = t.rosterd_n)",
        bag(table, walk, scope, &format!("{part}, {place}, ")),
        bag(walk, walk, None, "")
    );
    format!("delete from {table} as t using ({absent}) as g where {IS_THAT_ROW}")
}

/// Is true for the row `t` that `g` names. Its place alone does not tell rows of two partitions apart.
const IS_THAT_ROW: &str = "t.ctid = g.rosterd_place and t.tableoid = g.rosterd_part";

/// Names at most `most` rows for which the condition holds, for [`IS_THAT_ROW`].
fn some_rows(table: &TableName, condition: &str, most: u64) -> String {
    format!(
        "(select tableoid as rosterd_part, ctid as rosterd_place from {table} where {condition} limit {most}) as g"
    )
}

/// The second half of [`delete_absent`].
pub(super) fn insert_absent(
    table: &TableName,
    walk: &TableName,
    columns: &[Column],
    scope: Option<&Scope>,
) -> String {
    let columns = all_columns(columns);
    format!(
        "insert into {table} ({columns}) select {columns} from \
         (select *, row_number() over (partition by _row_hash) as rosterd_n from {walk}) as s \
         where not exists (select 1 from {} as t \
           where t._row_hash = s._row_hash and t.rosterd_n = s.rosterd_n)",
        bag(table, walk, scope, "")
    )
}

/// Hash of a key, the same for a row of the table and for the values that the walk read. `$2` seeds it.
fn key_hash(parts: impl Iterator<Item = String>) -> String {
    format!("hash_record_extended(row({}), $2)", join(parts, ", "))
}

/// Writes the hashes of the keys in the arrays `$3` and following, one array per part.
pub(super) fn remember_seen(parts: usize) -> String {
    format!(
        "insert into rosterd.seen (resource_id, generation, keys) \
         select $1, $2, array_agg({}) from unnest({}) as p({})",
        key_hash((1..=parts).map(|n| format!("p.k{n}"))),
        join((1..=parts).map(|n| format!("${}", n + 2)), ", "),
        join((1..=parts).map(|n| format!("k{n}")), ", ")
    )
}

/// Is true for a row, called `name`, that the walk of resource `$1` and generation `$2` did not see.
fn is_unseen(key: &[(Ident, Kind)], name: &str) -> String {
    format!(
        "not exists (select 1 from (select unnest(keys) as key from rosterd.seen \
           where resource_id = $1 and generation = $2) as s where s.key = {})",
        key_hash(
            key.iter()
                .map(|(column, kind)| format!("{name}.{column}::{}", kind.sql()))
        )
    )
}

/// Is true for a live row `t` that the walk should have seen and did not.
fn unseen(rows: &Keyed<'_>) -> String {
    let mut unseen = format!("{} and {}", rows.live.of("t"), is_unseen(rows.key, "t"));
    if !rows.within.is_empty() {
        let own = prefixed("t", rows.within.iter().cloned());
        let theirs = prefixed("o", rows.within.iter().cloned());
        unseen.push_str(&format!(
            " and ({own}) in (select {theirs} from {} as o where {} and not {})",
            rows.table,
            rows.live.of("o"),
            is_unseen(rows.key, "o")
        ));
    }
    unseen
}

/// Different keys that were seen, rows that are live, and of these the ones not seen.
pub(super) fn census(rows: &Keyed<'_>) -> String {
    let (table, live) = (rows.table, rows.live.of("t"));
    format!(
        "select (select count(distinct key) from (select unnest(keys) as key from rosterd.seen \
                  where resource_id = $1 and generation = $2) as s), \
                (select count(*) from {table} as t where {live}), \
                (select count(*) from {table} as t where {})",
        unseen(rows)
    )
}

pub(super) fn delete_unseen(rows: &Keyed<'_>) -> String {
    format!("delete from {} as t where {}", rows.table, unseen(rows))
}

/// Is true for a live row that the keys in the arrays `$2` and following name, and that a run before
/// `$1` wrote.
fn listed(rows: &Keyed<'_>, kinds: &[Kind]) -> String {
    let same = rows.key.iter().map(|(_, kind)| kind).eq(kinds);
    let cast = if same { "" } else { "::text" };
    format!(
        "{} and ($1::bigint is null or t._run_id < $1) and ({}) in (select {} from unnest({}) as p({}))",
        rows.live.of("t"),
        join(
            rows.key
                .iter()
                .map(|(column, _)| format!("t.{column}{cast}")),
            ", "
        ),
        join((1..=kinds.len()).map(|n| format!("p.k{n}{cast}")), ", "),
        join((1..=kinds.len()).map(|n| format!("${}", n + 1)), ", "),
        join((1..=kinds.len()).map(|n| format!("k{n}")), ", "),
    )
}

pub(super) fn count_live(rows: &Keyed<'_>) -> String {
    format!(
        "select count(*) from {} as t where {}",
        rows.table,
        rows.live.of("t")
    )
}

pub(super) fn count_listed(rows: &Keyed<'_>, kinds: &[Kind]) -> String {
    format!(
        "select count(*) from {} as t where {}",
        rows.table,
        listed(rows, kinds)
    )
}

pub(super) fn delete_listed(rows: &Keyed<'_>, kinds: &[Kind]) -> String {
    format!(
        "delete from {} as t where {}",
        rows.table,
        listed(rows, kinds)
    )
}

/// Marks with the transaction's time, and with the run behind the keys.
pub(super) fn mark_listed(rows: &Keyed<'_>, kinds: &[Kind]) -> String {
    format!(
        "update {} as t set _deleted_at = now(), _synced_at = now(), _run_id = ${} where {}",
        rows.table,
        kinds.len() + 2,
        listed(rows, kinds)
    )
}

/// Marks with the transaction's time, and with the run `$3`.
pub(super) fn mark_unseen(rows: &Keyed<'_>) -> String {
    format!(
        "update {} as t set _deleted_at = now(), _synced_at = now(), _run_id = $3 where {}",
        rows.table,
        unseen(rows)
    )
}

/// Ties the rows of lists to the row that they belong to.
pub(super) fn reference_root(table: &TableName, root: &TableName) -> String {
    format!(
        "alter table {table} add foreign key (\"{ROOT_ID}\") references {root} (\"{ROW_ID}\") on delete cascade"
    )
}

pub(super) fn index_root(table: &TableName) -> String {
    format!("create index on {table} (\"{ROOT_ID}\")")
}

/// Deletes what the lists of the rows `$1` no longer hold as it was.
pub(super) fn delete_lists(table: &TableName) -> String {
    format!(
        "delete from {table} as t where t.\"{ROOT_ID}\" = any ($1) and not exists \
         (select 1 from {STAGE} as s where s.\"{ROW_ID}\" = t.\"{ROW_ID}\" and s._row_hash = t._row_hash)"
    )
}

/// Adds what the lists hold anew, except of rows that the table refused, `$1`, or does not have.
pub(super) fn insert_lists(root: &TableName, table: &TableName, columns: &[Column]) -> String {
    insert_lists_from(STAGE, root, table, columns) + &format!(" and s.\"{ROOT_ID}\" <> all ($1)")
}

/// Adds the rows of lists that a walk gathered, those of rows that the table has and whose lists it has not.
pub(super) fn insert_walked_lists(
    walk: &TableName,
    root: &TableName,
    table: &TableName,
    columns: &[Column],
) -> String {
    insert_lists_from(&walk.to_string(), root, table, columns)
}

fn insert_lists_from(
    from: &str,
    root: &TableName,
    table: &TableName,
    columns: &[Column],
) -> String {
    let columns = all_columns(columns);
    format!(
        "insert into {table} ({columns}) select {columns} from {from} as s \
         where not exists (select 1 from {table} as t where t.\"{ROW_ID}\" = s.\"{ROW_ID}\") \
           and exists (select 1 from {root} as r where r.\"{ROW_ID}\" = s.\"{ROOT_ID}\")"
    )
}

/// Gives the rows of lists the marks that their rows have.
pub(super) fn copy_marks(root: &TableName, table: &TableName) -> String {
    format!(
        "update {table} as t set _deleted_at = r._deleted_at from {root} as r \
         where r.\"{ROW_ID}\" = t.\"{ROOT_ID}\" and r._deleted_at is not null"
    )
}

/// Marks the lists of the rows that this transaction marked, with the run `$1`.
pub(super) fn mark_lists(root: &TableName, table: &TableName) -> String {
    format!(
        "update {table} as t set _deleted_at = r._deleted_at, _synced_at = now(), _run_id = $1 \
         from {root} as r where r.\"{ROW_ID}\" = t.\"{ROOT_ID}\" and r._deleted_at = now() \
           and t._deleted_at is null"
    )
}

/// Takes the marks from the lists of those of the rows `$1` that have none, with the run `$2`.
pub(super) fn unmark_lists(root: &TableName, table: &TableName) -> String {
    format!(
        "update {table} as t set _deleted_at = null, _synced_at = now(), _run_id = $2 \
         from {root} as r where r.\"{ROW_ID}\" = t.\"{ROOT_ID}\" and r.\"{ROW_ID}\" = any ($1) \
           and r._deleted_at is null and t._deleted_at is not null"
    )
}

/// Gives the rows `$1` the hashes `$2` and the run `$3`, where they have other hashes.
pub(super) fn touch_roots(root: &TableName) -> String {
    format!(
        "update {root} as r set _row_hash = n.hash, _run_id = $3, _synced_at = now() \
         from unnest($1::text[], $2::bytea[]) as n (id, hash) \
         where r.\"{ROW_ID}\" = n.id and r._row_hash is distinct from n.hash"
    )
}

pub(super) fn add_primary_key(table: &TableName, key: &[Ident]) -> String {
    format!(
        "alter table {table} add primary key ({})",
        join(key.iter(), ", ")
    )
}

/// Rows that have no whole key, and rows beyond the first of each key.
pub(super) fn keyless_and_repeated(table: &TableName, key: &[Ident]) -> String {
    let is_null = join(key.iter().map(|name| format!("{name} is null")), " or ");
    format!(
        "select count(*) filter (where {is_null}), \
           count(*) filter (where not ({is_null})) - count(distinct ({})) filter (where not ({is_null})) \
         from {table}",
        join(key.iter(), ", ")
    )
}

pub(super) fn delete_all(table: &TableName) -> String {
    format!("delete from {table}")
}

/// Binds the run as `$1`.
pub(super) fn delete_of_runs(table: &TableName) -> String {
    format!(
        "with gone as (delete from {table} where _run_id = any($1) returning _run_id)
         select _run_id, count(*) from gone group by _run_id"
    )
}

/// Comments of many columns, as one text.
pub(super) fn comment_on_columns(table: &TableName, columns: &[(String, String)]) -> String {
    let comments = columns.iter().map(|(name, text)| {
        let text = text.replace('\0', "\u{fffd}").replace('\'', "''");
        format!("comment on column {table}.{} is '{text}'", Ident::new(name))
    });
    join(comments, "; ")
}

/// Sets a column to null in at most `most` rows that have a value in it.
pub(super) fn empty_column(table: &TableName, column: &str, most: u64) -> String {
    let column = Ident::new(column);
    let rows = some_rows(table, &format!("{column} is not null"), most);
    format!("update {table} as t set {column} = null from {rows} where {IS_THAT_ROW}")
}

/// Deletes at most `most` rows whose date or time lies before `$1`.
pub(super) fn delete_expired(table: &TableName, column: &Column, most: u64) -> String {
    let name = Ident::new(&column.name);
    let time = match column.kind {
        Kind::Date => format!("{name}::timestamp at time zone 'UTC'"),
        _ => name.to_string(),
    };
    let rows = some_rows(table, &format!("{time} < $1"), most);
    format!("delete from {table} as t using {rows} where {IS_THAT_ROW}")
}

/// Deletes the rows with the key that `$1`, `$2`, ... spell.
pub(super) fn delete_key(table: &TableName, key: &[(Ident, Kind)]) -> String {
    let on = key
        .iter()
        .enumerate()
        .map(|(at, (name, kind))| format!("{name} = ${}::text::{}", at + 1, kind.sql()));
    format!("delete from {table} where {}", join(on, " and "))
}

pub(super) fn count(table: &TableName) -> String {
    format!("select count(*) from {table}")
}

/// Whether there are rows, and in how many blocks, those of partitions too. `$1` names the table once more.
pub(super) fn extent(table: &TableName) -> String {
    format!(
        "select exists (select 1 from {table}), \
           greatest(pg_relation_size($1::text::regclass), \
             (select coalesce(sum(pg_relation_size(relid)), 0) from pg_partition_tree($1::text::regclass)))::bigint \
           / current_setting('block_size')::bigint"
    )
}
