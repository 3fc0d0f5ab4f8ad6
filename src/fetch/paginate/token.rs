//! Paging by what the last answer names: a token or a link.

use url::Url;

use super::{Book, Memory, Seen};
use crate::{
    config::{
        endpoint::DottedPath,
        paginator::{self, LinkFrom, TokenFrom},
    },
    fetch::{
        Error, Position,
        auth::Signer,
        decode::{Decoded, Scalar, shown},
        link,
        select::{self, Slot, Wanted},
    },
};

/// The last page names the next one's token: in its body, a header or its last record.
#[derive(Debug)]
pub(super) struct Token {
    rule: paginator::Token,
    /// The way to it in the last record.
    in_record: Wanted,
    tokens: Memory,
    contents: Memory,
    /// Records of the fullest page.
    fullest: usize,
}

impl Token {
    pub(super) fn new(rule: &paginator::Token) -> Self {
        let mut in_record = Wanted::default();
        if let TokenFrom::LastRecord(path) = &rule.from {
            in_record.slot_at(Slot::Next, path);
        }
        Self {
            rule: rule.clone(),
            in_record,
            tokens: Memory::default(),
            contents: Memory::default(),
            fullest: 0,
        }
    }

    pub(super) fn after(
        &mut self,
        seen: &Seen<'_>,
        book: &mut Book,
    ) -> Result<Option<Position>, Error> {
        if seen.decoded.no_content {
            return Ok(None);
        }
        let has_more = book.has_more(self.rule.stop.more.as_ref(), seen)?;
        let rows = seen.decoded.records.len();
        self.fullest = self.fullest.max(rows);
        let over = match has_more {
            Some(more) => !more || (rows == 0 && self.rule.stop.after_empty_page),
            None => (rows == 0 && self.rule.stop.after_empty_page) || self.is_short(rows),
        };
        if over {
            if has_more == Some(true) {
                book.doubt("the API says that there is more, but sends an empty page".into());
            }
            return Ok(None);
        }
        let Some(next) = self.token(seen)? else {
            if has_more == Some(true) {
                book.doubt("the API says that there is more, but names no cursor".into());
            }
            return Ok(None);
        };
        let token = next.cursor().unwrap_or_default();
        let current = seen.position.and_then(Position::cursor);
        if matches!(self.rule.from, TokenFrom::LastRecord(_)) && current == Some(token) {
            return self.stands_still(seen, has_more);
        }
        if let Some(current) = current {
            self.tokens.add(current.as_bytes());
        }
        // Some APIs keep one token for a whole walk, so a known token alone is no loop: one that
        // brings nothing new is.
        let new_content = self.contents.add(&seen.decoded.content.to_le_bytes()) && rows > 0;
        if !self.tokens.add(token.as_bytes()) && !new_content {
            return Err(Error::PaginationLoop {
                what: "the API names a cursor again that was used already",
                page: seen.number,
            });
        }
        if rows == 0 {
            book.follow_empty()?;
        }
        Ok(Some(next))
    }

    fn is_short(&self, rows: usize) -> bool {
        let limit = self.rule.size.as_ref().map(|size| size.limit);
        self.rule.stop.after_short_page && limit.is_some_and(|limit| (rows as u64) < limit)
    }

    /// A page whose last record is the one that it was asked to begin with or behind. The API sends that
    /// record again, and nothing comes behind it, unless the page is full of records of that value.
    fn stands_still(
        &self,
        seen: &Seen<'_>,
        has_more: Option<bool>,
    ) -> Result<Option<Position>, Error> {
        let full = self.rule.size.as_ref().map_or(self.fullest, |size| {
            usize::try_from(size.limit).unwrap_or(usize::MAX)
        });
        if has_more != Some(true) && seen.decoded.records.len() < full {
            return Ok(None);
        }
        Err(Error::PaginationLoop {
            what: "more records share one value of key_path than a page holds",
            page: seen.number,
        })
    }

    /// The next token. `None`: the answer names none.
    fn token(&self, seen: &Seen<'_>) -> Result<Option<Position>, Error> {
        let (value, name) = match &self.rule.from {
            TokenFrom::Body(path) => (seen.decoded.envelope.next.clone(), shown(path)),
            TokenFrom::Header(name) => {
                let text = seen.answer.header(name).map(str::trim);
                (text.map(|text| Scalar::Text(text.to_owned())), name.clone())
            }
            TokenFrom::LastRecord(path) => {
                (self.last_key(seen.decoded, path, seen.number)?, shown(path))
            }
        };
        let is_record = matches!(self.rule.from, TokenFrom::LastRecord(_));
        Ok(match value {
            None | Some(Scalar::Null | Scalar::Bool(false)) => None,
            // As in dlt: some APIs end with 0. A record may well have it as its key.
            Some(Scalar::Number(text)) if !is_record && text == "0" => None,
            Some(Scalar::Number(text)) => Some(Position::Number(text)),
            Some(Scalar::Text(text)) if text.is_empty() => None,
            Some(Scalar::Text(text)) => Some(Position::Cursor(text)),
            Some(Scalar::Bool(true) | Scalar::Other) => {
                return Err(Error::UnexpectedShape {
                    path: name.into(),
                    what: "(the next token) is neither text nor number, or too long",
                    page: seen.number,
                });
            }
        })
    }

    fn last_key(
        &self,
        page: &Decoded,
        path: &DottedPath,
        number: u64,
    ) -> Result<Option<Scalar>, Error> {
        let Some(last) = page.records.last() else {
            return Ok(None);
        };
        let key = page
            .body
            .get(last.start as usize..last.end as usize)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .and_then(|text| select::scan(text, &self.in_record).ok())
            .and_then(|found| found.next.map(Scalar::of))
            .filter(|key| *key != Scalar::Null);
        match key {
            Some(key) => Ok(Some(key)),
            // Taken for the end, the rest would never be read.
            None => Err(Error::UnexpectedShape {
                path: shown(path).into(),
                what: "(key_path) is not in the last record",
                page: number,
            }),
        }
    }
}

/// The last page holds the next one's URL.
#[derive(Debug)]
pub(super) struct Link {
    rule: paginator::Link,
    base: Url,
    urls: Memory,
}

impl Link {
    pub(super) fn new(rule: &paginator::Link, base: &Url) -> Self {
        Self {
            rule: rule.clone(),
            base: base.clone(),
            urls: Memory::default(),
        }
    }

    pub(super) fn after(
        &mut self,
        seen: &Seen<'_>,
        book: &mut Book,
        signer: Option<&Signer>,
    ) -> Result<Option<Position>, Error> {
        if seen.decoded.no_content {
            return Ok(None);
        }
        let has_more = book.has_more(self.rule.stop.more.as_ref(), seen)?;
        let link = match &self.rule.from {
            LinkFrom::Relation(rel) => link::by_relation(seen.answer.links(), rel),
            LinkFrom::Body(path) => match &seen.decoded.envelope.next {
                None | Some(Scalar::Null | Scalar::Bool(false)) => None,
                Some(Scalar::Text(text)) => Some(text.clone()),
                Some(Scalar::Bool(true) | Scalar::Number(_) | Scalar::Other) => {
                    return Err(Error::UnexpectedShape {
                        path: shown(path).into(),
                        what: "(next_url_path) is not a link, or too long",
                        page: seen.number,
                    });
                }
            },
        };
        // Some APIs write null as a text.
        let is_link = |link: &String| {
            let link = link.trim();
            !link.is_empty() && !link.eq_ignore_ascii_case("null")
        };
        let link = link.filter(is_link);
        match (link.is_some(), has_more) {
            (_, Some(false)) => return Ok(None),
            (false, Some(true)) => {
                book.doubt("the API says that there is more, but names no next page".into());
            }
            _ => {}
        }
        let Some(link) = link else {
            return Ok(None);
        };
        let mut url = link::resolve(&self.base, seen.url, &link, self.rule.ignore_host)?;
        if let Some(signer) = signer {
            signer.cut(&mut url);
        }
        self.urls.add(seen.url.as_str().as_bytes());
        if url.as_str().len() > link::MAX || !self.urls.add(url.as_str().as_bytes()) {
            return Err(Error::PaginationLoop {
                what: "the API names a next link again that was followed already, or one that grows without end",
                page: seen.number,
            });
        }
        if seen.decoded.records.is_empty() {
            book.follow_empty()?;
        }
        Ok(Some(Position::Url(url.into())))
    }
}
