//! Names of columns and of the tables of lists. Two fields never share a column: the later one gets a
//! suffix made of its path.

use std::collections::HashSet;

use super::{ELEMENT, Kind, SYSTEM_COLUMNS};
pub(super) use crate::config::name::plain;
use crate::config::name::{SEPARATOR, shorten, with_suffix};

/// Column for the fields beyond the last column.
pub(super) const OVERFLOW: &str = "_overflow";
/// Names of columns that every Postgres table has already.
const POSTGRES_COLUMNS: [&str; 6] = ["xmin", "ctid", "tableoid", "cmin", "cmax", "xmax"];

/// The name of the table for the lists at `path` in the table `root`, unlike those in `taken`.
pub(super) fn child_table(
    root: &str,
    parts: &[String],
    path: &[String],
    taken: &[String],
) -> String {
    let whole = format!("{root}{SEPARATOR}{}", plain(parts));
    // With the root, of which a cut may leave as much as of another one.
    let path = &[&[root.to_owned()], path].concat();
    let name = shorten(whole.clone(), path);
    if !taken.contains(&name) {
        return name;
    }
    (0..)
        .map(|salt| with_suffix(&whole, path, salt))
        .find(|name| !taken.contains(name))
        .unwrap_or(name)
}

/// Keys of objects on the way to the lists at `path`.
pub(super) fn list_parts(path: &[String]) -> Vec<String> {
    let parts = path.iter().filter(|part| *part != ELEMENT);
    parts.cloned().collect()
}

/// The name that the table of the lists at `path` gets if nothing is in its way.
#[must_use]
pub fn of_list(root: &str, path: &[String]) -> String {
    child_table(root, &list_parts(path), path, &[])
}

/// The columns of one table that are named already.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: HashSet<String>,
}

impl Names {
    pub(super) fn take(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    /// Finds and takes a name for the field at `path`. `waiting` says whether the table has a
    /// column of that name whose field is not known.
    pub(super) fn assign(&mut self, path: &[String], waiting: impl Fn(&str) -> bool) -> String {
        let whole = plain(path);
        // A column that an earlier run made for exactly this field, when it clashed.
        let marked = with_suffix(&whole, path, 0);
        if waiting(&marked) && self.taken.insert(marked.clone()) {
            return marked;
        }
        let name = shorten(whole.clone(), path);
        if !is_reserved(&name) && self.taken.insert(name.clone()) {
            return name;
        }
        // The path decides; the count only matters when two hashes are the same.
        (0..)
            .map(|salt| with_suffix(&whole, path, salt))
            .find(|name| self.taken.insert(name.clone()))
            .unwrap_or_default()
    }
}

/// The name that the column of the field at `path` gets if nothing is in its way.
#[must_use]
pub fn of_path(path: &[String]) -> String {
    shorten(plain(path), path)
}

/// The name of the column beside the column `base` for the values that only `kind` holds, as in dlt.
pub(super) fn variant(base: &str, kind: Kind) -> String {
    let whole = format!("{base}__v_{}", kind.word());
    shorten(whole.clone(), &[whole])
}

/// Names that a source field must not take.
pub(super) fn is_reserved(name: &str) -> bool {
    SYSTEM_COLUMNS.iter().any(|(system, _)| *system == name)
        || matches!(name, "_deleted_at" | OVERFLOW)
        || name.starts_with("_rosterd")
        || POSTGRES_COLUMNS.contains(&name)
}
