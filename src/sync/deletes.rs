//! Whether the rows that a full walk did not see may go.
//!
//! Only the end of a proven walk over everything asks. A walk over several pages can miss a record
//! that moved between two of them while it was read, and its total may still be right; so when rows
//! would go, the walk is repeated until it sees no key that was not seen before.

use serde::{Deserialize, Serialize};

use crate::{
    config::source::Deletes,
    fault::{Class, Fault},
    load::deletes::Census,
    record::Claim,
    shape::BinaryArray,
};

/// How often a full walk is repeated while it goes on seeing keys that it had not seen.
pub(super) const MOST_REPETITIONS: u32 = 5;

/// What a walk over everything has seen so far, beside the keys, which are in `rosterd.seen`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Types of the key columns; empty before the first record.
    kinds: Vec<String>,
    /// The types changed on the way, so that what was seen before cannot be compared any more.
    pub(super) is_mixed: bool,
    /// Records that have no usable key: any row may be theirs.
    pub(super) nameless: u64,
}

impl Snapshot {
    /// Notes one page. `keys`: those of its rows; `None` when they have none that the table could hold.
    pub(super) fn see(&mut self, keys: Option<&[BinaryArray]>, nameless: u64) {
        self.nameless += nameless;
        let Some(keys) = keys else {
            self.is_mixed = true;
            return;
        };
        let kinds = keys.iter().map(|array| array.element.sql());
        if self.kinds.is_empty() {
            self.kinds = kinds.map(str::to_owned).collect();
        } else {
            self.is_mixed |= !self.kinds.iter().map(String::as_str).eq(kinds);
        }
    }
}

/// Why rows stay although the walk did not see them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Held {
    /// The walk found nothing at all.
    Empty,
    /// More of them than the configuration lets go at once.
    TooMany {
        max_fraction: f64,
        floor: u64,
    },
    Nameless {
        records: u64,
    },
    /// The API's records moved for as long as they were read.
    Restless,
}

/// Judges what a settled walk over everything did not see.
pub(super) fn judge(
    deletes: &Deletes,
    census: &Census,
    nameless: u64,
    allowed: bool,
) -> Result<(), Held> {
    if census.unseen == 0 || allowed {
        return Ok(());
    }
    if nameless > 0 {
        return Err(Held::Nameless { records: nameless });
    }
    if census.seen == 0 {
        return Err(Held::Empty);
    }
    // Counts of rows are far below the numbers that a double cannot tell apart.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let is_large = census.unseen as f64 > deletes.max_fraction * census.live as f64;
    if is_large && census.unseen > deletes.floor {
        return Err(Held::TooMany {
            max_fraction: deletes.max_fraction,
            floor: deletes.floor,
        });
    }
    Ok(())
}

impl Held {
    /// What the history says of it.
    pub(super) fn fault(&self, census: &Census, claim: &Claim) -> Fault {
        let (unseen, live) = (census.unseen, census.live);
        let why = match self {
            Self::Empty => "the API returned no record at all".to_owned(),
            Self::TooMany {
                max_fraction,
                floor,
            } => format!("more than max_fraction {max_fraction} and floor {floor} allow"),
            Self::Nameless { records } => {
                format!("{records} records without a usable key may be theirs")
            }
            Self::Restless => {
                "the records moved between the pages each time they were read".to_owned()
            }
        };
        Fault {
            class: Class::Data,
            code: "deletes_held".to_owned(),
            message: format!("{unseen} of {live} rows were not seen and are kept: {why}"),
            hint: format!(
                "If they are truly gone: `rosterd sync {}/{} --allow-deletes`.",
                claim.source, claim.resource
            ),
            retryable: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::source::DeleteMode, shape::Kind};

    #[test]
    fn rows_are_held_above_both_the_fraction_and_the_floor_only() {
        let deletes = Deletes {
            mode: DeleteMode::Snapshot,
            hard: false,
            max_fraction: 0.2,
            floor: 10,
            flag: None,
            when: None,
        };
        let too_many = Err(Held::TooMany {
            max_fraction: 0.2,
            floor: 10,
        });
        for (seen, live, unseen, nameless, allowed, expected) in [
            (100, 100, 0, 0, false, Ok(())),
            (90, 100, 10, 0, false, Ok(())),
            (80, 100, 20, 0, false, Ok(())),
            (79, 100, 21, 0, false, too_many.clone()),
            (79, 100, 21, 0, true, Ok(())),
            (10, 20, 10, 0, false, Ok(())),
            (9, 20, 11, 0, false, too_many),
            (0, 1, 1, 0, false, Err(Held::Empty)),
            (0, 0, 0, 0, false, Ok(())),
            (0, 50, 50, 0, true, Ok(())),
            (99, 100, 1, 1, false, Err(Held::Nameless { records: 1 })),
            (100, 100, 0, 1, false, Ok(())),
        ] {
            let census = Census { seen, live, unseen };
            assert_eq!(
                judge(&deletes, &census, nameless, allowed),
                expected,
                "{census:?}"
            );
        }
    }

    #[test]
    fn keys_of_other_types_than_before_make_a_snapshot_useless() {
        let array = |element| BinaryArray {
            element,
            bytes: Vec::new(),
        };
        let mut snapshot = Snapshot::default();
        snapshot.see(Some(&[array(Kind::BigInt)]), 0);
        snapshot.see(Some(&[array(Kind::BigInt)]), 2);
        assert!(!snapshot.is_mixed);
        assert_eq!(snapshot.nameless, 2);
        snapshot.see(Some(&[array(Kind::Text)]), 0);
        assert!(snapshot.is_mixed);
    }
}
