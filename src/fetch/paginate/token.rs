//! Paging by what the last answer names: a token or a link.

use url::Url;

use super::{
    Book, Memory, Seen,
    counted::{has_more, misshapen},
};
use crate::{
    config::endpoint::DottedPath,
    fetch::{Error, Position, auth::Signer, decode::Scalar, link},
};

/// The answer names the next page's token.
#[derive(Debug)]
pub(super) struct Cursor {
    path: DottedPath,
    has_more_path: Option<DottedPath>,
    stop_after_empty_page: bool,
    tokens: Memory,
    contents: Memory,
}

impl Cursor {
    pub(super) fn new(
        path: &DottedPath,
        has_more_path: Option<&DottedPath>,
        stop_after_empty_page: bool,
    ) -> Self {
        Self {
            path: path.clone(),
            has_more_path: has_more_path.cloned(),
            stop_after_empty_page,
            tokens: Memory::default(),
            contents: Memory::default(),
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
        let has_more = has_more(self.has_more_path.as_ref(), seen)?;
        let empty = seen.decoded.records.is_empty();
        if has_more == Some(false) || (empty && self.stop_after_empty_page) {
            return Ok(None);
        }
        let token = match &seen.decoded.envelope.next {
            None | Some(Scalar::Null | Scalar::Bool(false)) => None,
            // As in dlt: some APIs end with 0.
            Some(Scalar::Number(text)) => Some(text).filter(|text| *text != "0"),
            Some(Scalar::Text(text)) => Some(text).filter(|text| !text.is_empty()),
            Some(Scalar::Bool(true) | Scalar::Other) => {
                return Err(misshapen(
                    &self.path,
                    "(cursor_path) is neither text nor number, or too long",
                    seen,
                ));
            }
        };
        let Some(token) = token else {
            if has_more == Some(true) {
                book.doubt("the API says that there is more, but names no cursor".into());
            }
            return Ok(None);
        };
        if let Some(Position::Cursor(current)) = seen.position {
            self.tokens.add(current.as_bytes());
        }
        // Some APIs keep one token for a whole walk, so a known token alone is no loop: one that
        // brings nothing new is.
        let new_content = self.contents.add(&seen.decoded.content.to_le_bytes()) && !empty;
        if !self.tokens.add(token.as_bytes()) && !new_content {
            return Err(Error::PaginationLoop {
                what: "the API names a cursor again that was used already",
                page: seen.number,
            });
        }
        if empty {
            book.follow_empty()?;
        }
        Ok(Some(Position::Cursor(token.clone())))
    }
}

/// The answer holds the next page's URL.
#[derive(Debug)]
pub(super) struct Link {
    base: Url,
    place: Place,
    urls: Memory,
}

#[derive(Debug)]
enum Place {
    Body(DottedPath),
    Header { rel: String },
}

impl Link {
    pub(super) fn in_body(base: &Url, path: &DottedPath) -> Self {
        Self {
            base: base.clone(),
            place: Place::Body(path.clone()),
            urls: Memory::default(),
        }
    }

    pub(super) fn in_header(base: &Url, rel: &str) -> Self {
        Self {
            base: base.clone(),
            place: Place::Header {
                rel: rel.to_owned(),
            },
            urls: Memory::default(),
        }
    }

    pub(super) fn after(
        &mut self,
        seen: &Seen<'_>,
        book: &Book,
        signer: Option<&Signer>,
    ) -> Result<Option<Position>, Error> {
        let link = match &self.place {
            Place::Header { rel } => link::by_relation(&seen.answer.links, rel),
            Place::Body(path) => match &seen.decoded.envelope.next {
                None | Some(Scalar::Null | Scalar::Bool(false)) => None,
                Some(Scalar::Text(text)) => Some(text.clone()),
                Some(Scalar::Bool(true) | Scalar::Number(_) | Scalar::Other) => {
                    return Err(misshapen(
                        path,
                        "(next_url_path) is not a link, or too long",
                        seen,
                    ));
                }
            },
        };
        let Some(link) = link.filter(|link| !link.trim().is_empty()) else {
            return Ok(None);
        };
        let mut url = link::resolve(&self.base, seen.url, &link)?;
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
