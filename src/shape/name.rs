//! Names of columns and tables out of whatever an API calls its fields.
//!
//! ASCII names come out as dlt's `snake_case` makes them, so that tables keep their columns when a
//! pipeline moves here. Unlike there, letters of other scripts stay letters, and two fields never
//! share a column: the later one gets a suffix made of its path.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Kind, SYSTEM_COLUMNS};

/// What Postgres keeps of a name (`NAMEDATALEN - 1`); it cuts the rest off without an error.
const MAX_BYTES: usize = 63;
/// Between the names of an object and of its field.
const SEPARATOR: &str = "__";
/// Column for the fields beyond the last column.
pub(super) const OVERFLOW: &str = "_overflow";
/// For a field whose name is empty or blank, as in dlt.
const EMPTY: &str = "_empty";
/// Names of columns that every Postgres table has already.
const POSTGRES_COLUMNS: [&str; 6] = ["xmin", "ctid", "tableoid", "cmin", "cmax", "xmax"];

/// A name for a table or schema: `snake_case`, at most 63 bytes, never empty, none that Postgres
/// keeps for itself (`pg_`). Different texts may give the same name; who names two tables checks.
#[must_use]
pub fn identifier(text: &str) -> String {
    let mut name = part_name(text);
    if name.starts_with("pg_") {
        name.insert(0, '_');
    }
    shorten(name, &[text.to_owned()])
}

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

/// The name of the field at `path` before it is cut to Postgres' length.
pub(super) fn plain(path: &[String]) -> String {
    let parts: Vec<String> = path.iter().map(|part| part_name(part)).collect();
    parts.join(SEPARATOR)
}

/// Names that a source field must not take.
pub(super) fn is_reserved(name: &str) -> bool {
    SYSTEM_COLUMNS.iter().any(|(system, _)| *system == name)
        || matches!(name, "_deleted_at" | OVERFLOW)
        || name.starts_with("_rosterd")
        || POSTGRES_COLUMNS.contains(&name)
}

/// A part may itself hold the separator (`address__city`), as names of flattened fields do.
fn part_name(part: &str) -> String {
    let parts: Vec<&str> = part
        .split(SEPARATOR)
        .filter(|piece| !piece.trim().is_empty())
        .collect();
    if parts.len() < 2 {
        return snake_case(part);
    }
    let parts: Vec<String> = parts.into_iter().map(snake_case).collect();
    parts.join(SEPARATOR)
}

/// dlt's `snake_case`, with letters and digits of any script.
fn snake_case(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return EMPTY.to_owned();
    }
    let mut letters: Vec<char> = Vec::with_capacity(text.len());
    for letter in text.chars() {
        let kept = match letter {
            '+' | '*' => 'x',
            '@' => 'a',
            '|' => 'l',
            '-' => '_',
            // Accents written apart belong to the letter before.
            '_' | '\u{300}'..='\u{36f}' => letter,
            _ if letter.is_alphanumeric() => letter,
            // A run of other characters is one underscore.
            _ if letters.last() == Some(&OTHER) => continue,
            _ => OTHER,
        };
        letters.push(kept);
    }
    for letter in &mut letters {
        if *letter == OTHER {
            *letter = '_';
        }
    }
    let mut name = String::with_capacity(text.len() + 8);
    let mut previous: Option<char> = None;
    for (place, &letter) in letters.iter().enumerate() {
        let begins_word = letter.is_uppercase()
            && previous.is_some_and(|previous| {
                let next = letters.get(place + 1).copied();
                previous != '_'
                    && (next.is_some_and(char::is_lowercase)
                        || previous.is_lowercase()
                        || previous.is_numeric())
            });
        if begins_word {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
        previous = Some(letter);
    }
    if name.starts_with(|first: char| first.is_numeric()) {
        name.insert(0, '_');
    }
    let stem = name.trim_end_matches('_').len();
    let mut ended: String = name.get(..stem).unwrap_or_default().to_owned();
    ended.extend(std::iter::repeat_n('x', name.len() - stem));
    while ended.contains(SEPARATOR) {
        ended = ended.replace(SEPARATOR, "_");
    }
    ended
}

/// Stands for a run of characters without a place in a name, until it becomes an underscore.
const OTHER: char = '\0';

/// The name itself if it fits, otherwise its beginning and a hash of the path.
fn shorten(name: String, path: &[String]) -> String {
    if name.len() <= MAX_BYTES {
        name
    } else {
        with_suffix(&name, path, 0)
    }
}

fn with_suffix(name: &str, path: &[String], salt: u64) -> String {
    let mut bytes = Vec::new();
    for part in path {
        bytes.extend_from_slice(&part.len().to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let suffix = format!("_{:08x}", xxh3_64_with_seed(&bytes, salt) >> 32);
    let end = name.floor_char_boundary(MAX_BYTES - suffix.len());
    format!("{}{suffix}", name.get(..end).unwrap_or_default())
}
