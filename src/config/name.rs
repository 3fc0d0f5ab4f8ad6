//! Names of columns and tables out of whatever an API, or a file, calls its fields.
//!
//! ASCII names come out as dlt's `snake_case` makes them, so that tables keep their columns when a
//! pipeline moves here. Unlike there, letters of other scripts stay letters. Where a record's fields
//! clash is found when they come; what the file names is known here, and checked as it is read.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What Postgres keeps of a name (`NAMEDATALEN - 1`); it cuts the rest off without an error.
const MAX_BYTES: usize = 63;
/// Between the names of an object and of its field.
pub(crate) const SEPARATOR: &str = "__";
/// For a field whose name is empty or blank, as in dlt.
const EMPTY: &str = "_empty";

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

/// The name of the field at `path` before it is cut to Postgres' length.
pub(crate) fn plain(path: &[String]) -> String {
    let parts: Vec<String> = path.iter().map(|part| part_name(part)).collect();
    parts.join(SEPARATOR)
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
pub(crate) fn shorten(name: String, path: &[String]) -> String {
    if name.len() <= MAX_BYTES {
        name
    } else {
        with_suffix(&name, path, 0)
    }
}

pub(crate) fn with_suffix(name: &str, path: &[String], salt: u64) -> String {
    let mut bytes = Vec::new();
    for part in path {
        bytes.extend_from_slice(&part.len().to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let suffix = format!("_{:08x}", xxh3_64_with_seed(&bytes, salt) >> 32);
    let end = name.floor_char_boundary(MAX_BYTES - suffix.len());
    format!("{}{suffix}", name.get(..end).unwrap_or_default())
}
