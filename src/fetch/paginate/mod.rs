//! Decides after each page where the next one is, or that there is none.
//!
//! No I/O: what runs ahead of the decisions is the walk's business, and every page it fetched on a
//! guess is judged here as if it had been asked for in turn.
//!
//! An end is taken from the API's own signal only. What speaks against a complete walk without
//! making it useless becomes a doubt, and a walk with a doubt is not proven.

use std::{collections::HashSet, fmt};

use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Error, Position, WalkPlan,
    auth::Signer,
    client::Answer,
    decode::{Decoded, Scalar, shown},
    link,
};
use crate::config::paginator::{More, Paginator};

mod counted;

pub(super) mod detect;

mod overlap;

mod token;

mod totals;

use counted::Counted;
use totals::Totals;

/// Empty pages in a row that are followed when the API says that more comes.
const MOST_EMPTY: u32 = 20;

/// How a walk ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// There only when the API itself ended the walk and nothing speaks against its completeness.
    pub proven: Option<Proven>,
    /// Why the walk is not proven.
    pub doubt: Option<Doubt>,
    /// Records on the pages of this walk.
    pub records: u64,
    /// The API's last count of all items (offset) or pages (page number).
    pub total: Option<u64>,
    /// The token that the next walk begins with, where the API hands one out on its last page.
    pub sync_token: Option<String>,
}

/// Why a walk is not proven to be complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// What the answers say does not fit together; those of another walk may.
    Drift(String),
    /// The paginator's `maximum_page` or `maximum_offset` is reached, with more behind it.
    Maximum(u64),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drift(why) => f.write_str(why),
            Self::Maximum(maximum) => {
                write!(
                    f,
                    "stopped at the configured maximum of {maximum}, with more behind it"
                )
            }
        }
    }
}

/// Says that a walk was complete. Only a walk can make one.
#[derive(Debug, Clone)]
pub struct Proven(());

/// One page as the pager looks at it.
pub(super) struct Seen<'p> {
    pub(super) number: u64,
    /// Where it was asked for; `None` at the beginning of a walk without positions.
    pub(super) position: Option<&'p Position>,
    /// Its URL, without the key.
    pub(super) url: &'p Url,
    pub(super) answer: &'p Answer,
    pub(super) decoded: &'p Decoded,
}

/// What follows a page.
#[derive(Debug)]
pub(super) enum Onward {
    Next(Position),
    End(Ending),
}

/// What a page is to its walk.
#[derive(Debug)]
struct Judged {
    /// `None`: it was the last.
    next: Option<Position>,
    /// Records at its front that were on the page before, or are to be read again.
    repeated: usize,
}

impl From<Option<Position>> for Judged {
    fn from(next: Option<Position>) -> Self {
        Self { next, repeated: 0 }
    }
}

/// The state of one walk's paging.
#[derive(Debug)]
pub(super) struct Pager {
    kind: Kind,
    book: Book,
}

#[derive(Debug)]
enum Kind {
    Single,
    Counted(Counted),
    Token(token::Token),
    Link(token::Link),
}

/// What all kinds keep count of.
#[derive(Debug, Default)]
struct Book {
    records: u64,
    /// Pages in a row that brought no record.
    empty_in_a_row: u32,
    contents: Memory,
    repeated_in_a_row: u32,
    sync_token: Option<String>,
    doubt: Option<Doubt>,
    total: Option<u64>,
    totals: Totals,
}

impl Pager {
    /// The API's last count of all items or pages.
    pub(super) fn total(&self) -> Option<u64> {
        self.book.total
    }

    /// Whether something speaks against a complete walk.
    pub(super) fn is_doubtful(&self) -> bool {
        self.book.doubt.is_some()
    }

    pub(super) fn new(plan: &WalkPlan, base: &Url) -> Result<Self, Error> {
        let kind = match &plan.endpoint.paginator {
            Paginator::SinglePage | Paginator::Auto => Kind::Single,
            Paginator::Counted(rule) => {
                Kind::Counted(Counted::new(rule, &plan.key, plan.resume.as_ref())?)
            }
            Paginator::Token(rule) => Kind::Token(token::Token::new(rule)),
            Paginator::Link(rule) => Kind::Link(token::Link::new(rule, base)),
        };
        Ok(Self {
            kind,
            book: Book::default(),
        })
    }

    /// Where a walk from the beginning starts.
    pub(super) fn first(&self) -> Option<Position> {
        match &self.kind {
            Kind::Counted(counted) => Some(counted.first()),
            Kind::Single | Kind::Token(_) | Kind::Link(_) => None,
        }
    }

    /// Judges a page, in the order of the walk. Also tells how many records at its front are not to be
    /// handed on, because they were already or will be.
    pub(super) fn after(
        &mut self,
        seen: &Seen<'_>,
        signer: Option<&Signer>,
    ) -> Result<(Onward, usize), Error> {
        let Self { kind, book } = self;
        if let Some(token) = seen.decoded.envelope.sync_token.as_ref().and_then(text) {
            book.sync_token = Some(token.to_owned());
        }
        let judged = match kind {
            Kind::Single => {
                book.note(seen, 0)?;
                let next = link::by_relation(seen.answer.links(), "next");
                if next.is_some() && !seen.decoded.no_content {
                    book.doubt(
                        "the paginator is single_page, but the API names a next page".into(),
                    );
                }
                None.into()
            }
            Kind::Counted(counted) => counted.after(seen, book)?,
            Kind::Token(token) => {
                book.note(seen, 0)?;
                token.after(seen, book)?.into()
            }
            Kind::Link(link) => {
                book.note(seen, 0)?;
                link.after(seen, book, signer)?.into()
            }
        };
        let onward = match judged.next {
            Some(position) => Onward::Next(position),
            None => Onward::End(self.ending()),
        };
        Ok((onward, judged.repeated))
    }

    /// Places that will follow `next` as far as they can be foreseen, at most `count`.
    pub(super) fn foresee(&self, next: &Position, count: usize) -> Vec<Position> {
        match &self.kind {
            Kind::Counted(counted) => counted.foresee(next, self.book.total, count),
            Kind::Single | Kind::Token(_) | Kind::Link(_) => Vec::new(),
        }
    }

    fn ending(&self) -> Ending {
        Ending {
            proven: self.book.doubt.is_none().then_some(Proven(())),
            doubt: self.book.doubt.clone(),
            records: self.book.records,
            total: self.book.total,
            sync_token: self.book.sync_token.clone(),
        }
    }
}

impl Book {
    /// Counts a page, less its `repeated` records, and finds the API that sends the same ones for ever.
    fn note(&mut self, seen: &Seen<'_>, repeated: u64) -> Result<(), Error> {
        let rows = seen.decoded.records.len() as u64;
        let fresh = rows.saturating_sub(repeated);
        self.records += fresh;
        if fresh > 0 {
            self.empty_in_a_row = 0;
        } else {
            self.empty_in_a_row += 1;
        }
        if rows == 0 || (fresh == 0 && repeated > 0) {
            return Ok(());
        }
        if self.contents.add(&seen.decoded.content.to_le_bytes()) {
            self.repeated_in_a_row = 0;
            return Ok(());
        }
        // Once may be chance: the rows before the page grew by just one page.
        self.repeated_in_a_row += 1;
        self.doubt(format!("page {} repeats a page before it", seen.number));
        if self.repeated_in_a_row >= 2 {
            return Err(Error::PaginationLoop {
                what: "the API sends the same page for different positions",
                page: seen.number,
            });
        }
        Ok(())
    }

    /// Reads the flag that says whether there is more. A configured one must be there on every page.
    fn has_more(&self, more: Option<&More>, seen: &Seen<'_>) -> Result<Option<bool>, Error> {
        let Some(More { path, means_more }) = more else {
            return Ok(None);
        };
        let misshapen = |what| Error::UnexpectedShape {
            path: shown(path).into(),
            what,
            page: seen.number,
        };
        match seen.decoded.envelope.has_more.as_ref().map(flag) {
            Some(Some(told)) => Ok(Some(told == *means_more)),
            Some(None) if *means_more => {
                Err(misshapen("(has_more_path) is neither true nor false"))
            }
            Some(None) => Err(misshapen("(last_page_path) is neither true nor false")),
            None if *means_more => Err(misshapen("(has_more_path) is not in the answer")),
            None => Err(misshapen("(last_page_path) is not in the answer")),
        }
    }

    /// Goes on behind an empty page, for a while.
    fn follow_empty(&self) -> Result<(), Error> {
        if self.empty_in_a_row > MOST_EMPTY {
            return Err(Error::EmptyPages {
                count: self.empty_in_a_row,
            });
        }
        Ok(())
    }

    /// Keeps the first reason.
    fn doubt(&mut self, why: String) {
        self.doubt.get_or_insert(Doubt::Drift(why));
    }
}

/// Hashes of what was seen; the things themselves may be long.
#[derive(Debug, Default)]
struct Memory(HashSet<u64>);

impl Memory {
    /// Whether it is new.
    fn add(&mut self, bytes: &[u8]) -> bool {
        self.0.insert(xxh3_64(bytes))
    }
}

/// Reads a has-more flag: a boolean, 0 or 1, or one of dlt's words.
fn flag(value: &Scalar) -> Option<bool> {
    match value {
        Scalar::Bool(flag) => Some(*flag),
        Scalar::Number(text) | Scalar::Text(text) => {
            match text.trim().to_ascii_lowercase().as_str() {
                "yes" | "true" | "t" | "y" | "1" => Some(true),
                "no" | "false" | "f" | "n" | "0" => Some(false),
                _ => None,
            }
        }
        Scalar::Null | Scalar::Other => None,
    }
}

/// Reads a token.
fn text(value: &Scalar) -> Option<&str> {
    match value {
        Scalar::Number(text) | Scalar::Text(text) if !text.is_empty() => Some(text),
        Scalar::Null | Scalar::Bool(_) | Scalar::Number(_) | Scalar::Text(_) | Scalar::Other => {
            None
        }
    }
}

/// Reads a total: a whole number, also as text.
fn count(value: &Scalar) -> Option<u64> {
    match value {
        Scalar::Number(text) | Scalar::Text(text) => {
            let text = text.trim();
            let text = match text.split_once('.') {
                Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
                _ => text,
            };
            text.parse().ok()
        }
        Scalar::Null | Scalar::Bool(_) | Scalar::Other => None,
    }
}

#[cfg(test)]
mod tests;
