//! Decides after each page where the next one is, or that there is none.
//!
//! No I/O: what runs ahead of the decisions is the walk's business, and every page it fetched on a
//! guess is judged here as if it had been asked for in turn.
//!
//! An end is taken from the API's own signal only. What speaks against a complete walk without
//! making it useless becomes a doubt, and a walk with a doubt is not proven.

use std::collections::HashSet;

use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Error, Position,
    auth::Signer,
    client::Answer,
    decode::{Decoded, Scalar},
    link,
};
use crate::config::endpoint::{Endpoint, Paginator};

mod counted;

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
    pub doubt: Option<String>,
    /// Records on the pages of this walk, repeated ones counted again.
    pub records: u64,
    /// The API's last count of all items (offset) or pages (page number).
    pub total: Option<u64>,
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
    Cursor(token::Cursor),
    Link(token::Link),
}

/// What all kinds keep count of.
#[derive(Debug, Default)]
struct Book {
    records: u64,
    empty_in_a_row: u32,
    last_content: Option<u128>,
    repeated_in_a_row: u32,
    doubt: Option<String>,
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

    pub(super) fn new(
        endpoint: &Endpoint,
        base: &Url,
        resume: Option<&Position>,
    ) -> Result<Self, Error> {
        let kind = match &endpoint.paginator {
            Paginator::SinglePage => Kind::Single,
            Paginator::Offset {
                limit,
                start,
                stop,
                maximum_offset,
                ..
            } => Kind::Counted(Counted::rows(
                *limit,
                *start,
                stop,
                *maximum_offset,
                resume,
            )?),
            Paginator::PageNumber {
                start,
                stop,
                maximum_page,
                ..
            } => Kind::Counted(Counted::pages(*start, stop, *maximum_page, resume)?),
            Paginator::Cursor {
                cursor_path,
                stop_after_empty_page,
                has_more_path,
                ..
            } => Kind::Cursor(token::Cursor::new(
                cursor_path,
                has_more_path.as_ref(),
                *stop_after_empty_page,
            )),
            Paginator::JsonLink { next_url_path } => {
                Kind::Link(token::Link::in_body(base, next_url_path))
            }
            Paginator::HeaderLink { links_next_key } => {
                Kind::Link(token::Link::in_header(base, links_next_key))
            }
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
            Kind::Single | Kind::Cursor(_) | Kind::Link(_) => None,
        }
    }

    /// Judges a page, in the order of the walk.
    pub(super) fn after(
        &mut self,
        seen: &Seen<'_>,
        signer: Option<&Signer>,
    ) -> Result<Onward, Error> {
        let Self { kind, book } = self;
        book.note(seen)?;
        let next = match kind {
            Kind::Single => {
                if link::by_relation(&seen.answer.links, "next").is_some() {
                    book.doubt(
                        "the paginator is single_page, but the API names a next page".into(),
                    );
                }
                None
            }
            Kind::Counted(counted) => counted.after(seen, book)?,
            Kind::Cursor(cursor) => cursor.after(seen, book)?,
            Kind::Link(link) => link.after(seen, book, signer)?,
        };
        Ok(match next {
            Some(position) => Onward::Next(position),
            None => Onward::End(self.ending()),
        })
    }

    /// Places that will follow `next` as far as they can be foreseen, at most `count`.
    pub(super) fn foresee(&self, next: &Position, count: usize) -> Vec<Position> {
        match &self.kind {
            Kind::Counted(counted) => counted.foresee(next, self.book.total, count),
            Kind::Single | Kind::Cursor(_) | Kind::Link(_) => Vec::new(),
        }
    }

    fn ending(&self) -> Ending {
        Ending {
            proven: self.book.doubt.is_none().then_some(Proven(())),
            doubt: self.book.doubt.clone(),
            records: self.book.records,
            total: self.book.total,
        }
    }
}

impl Book {
    /// Counts a page and finds the API that sends the same one for ever.
    fn note(&mut self, seen: &Seen<'_>) -> Result<(), Error> {
        let rows = seen.decoded.records.len();
        self.records += rows as u64;
        if rows == 0 {
            self.empty_in_a_row += 1;
            return Ok(());
        }
        self.empty_in_a_row = 0;
        let content = Some(seen.decoded.content);
        if self.last_content != content {
            self.last_content = content;
            self.repeated_in_a_row = 0;
            return Ok(());
        }
        // Once may be chance: the rows before the page grew by just one page.
        self.repeated_in_a_row += 1;
        self.doubt(format!("page {} repeats the page before it", seen.number));
        if self.repeated_in_a_row >= 2 {
            return Err(Error::PaginationLoop {
                what: "the API sends the same page for different positions",
                page: seen.number,
            });
        }
        Ok(())
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
        self.doubt.get_or_insert(why);
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
