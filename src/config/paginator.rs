//! Section `paginator`: how the pages follow each other.
//!
//! The kinds of the file are many, the ways to page are three: by a number that we count, by a token
//! that the last page names, by a link that it names. A paginator is written down and has a rule that
//! ends it; `auto` only has it found out, because a guess that is wrong ends after page one and calls
//! that success.

use std::num::NonZeroU64;

use super::{
    auth::is_token,
    decode::{section, variants, words},
    endpoint::DottedPath,
    problem::Problems,
    tree::Node,
};

/// How the pages follow each other. Each way has a stop rule by construction.
#[derive(Debug, Clone, Default)]
pub enum Paginator {
    /// One answer is all.
    #[default]
    SinglePage,
    /// By a number that we count: rows to skip, or pages.
    Counted(Box<Counted>),
    /// By a token that the last page names: in its body, a header, or its last record.
    Token(Box<Token>),
    /// By the URL of the next page that the last one names.
    Link(Box<Link>),
    /// Not known: the first answer is looked at, and the run is refused with what it says.
    Auto,
}

/// Pages whose places we count.
#[derive(Debug, Clone)]
pub struct Counted {
    /// What the number counts.
    pub unit: Unit,
    /// Where the walk begins.
    pub start: u64,
    /// The number of the very first row or page, 0 or 1. Totals count from here.
    pub base: u64,
    pub position: Target,
    pub size: Option<PageSize>,
    /// How far a page leads, where `unit` is rows.
    pub stride: Stride,
    /// Records of a page that are asked for again with the next one, where `unit` is rows.
    pub overlap: u64,
    pub stop: Stop,
    /// Exclusive, as in dlt: with base 1 and maximum 3, pages 1 and 2 are read.
    pub maximum: Option<u64>,
}

/// Pages of which each names the token of the next.
#[derive(Debug, Clone)]
pub struct Token {
    pub from: TokenFrom,
    pub to: Target,
    pub size: Option<PageSize>,
    pub stop: Stop,
    /// Whether the other parameters of the query are sent with a token too.
    pub keep_params: bool,
}

/// Pages of which each names the URL of the next.
#[derive(Debug, Clone)]
pub struct Link {
    pub from: LinkFrom,
    /// Whether only path and query of the link are taken.
    pub ignore_host: bool,
    /// Whether parameters that the link lacks are added to it.
    pub keep_params: bool,
    pub stop: Stop,
}

/// Where the next token is.
#[derive(Debug, Clone)]
pub enum TokenFrom {
    Body(DottedPath),
    Header(String),
    /// A field of the last record.
    LastRecord(DottedPath),
}

/// Where the next link is.
#[derive(Debug, Clone)]
pub enum LinkFrom {
    Body(DottedPath),
    /// The header `Link`, by `rel`.
    Relation(String),
}

/// Where a page parameter goes: the query, or a place in the body (in a form: a field).
#[derive(Debug, Clone)]
pub enum Target {
    Query(String),
    Body(DottedPath),
}

/// How many records a page has when it is full.
#[derive(Debug, Clone)]
pub struct PageSize {
    pub limit: u64,
    pub to: Target,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Rows,
    Pages,
}

/// How far a page leads to the next offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stride {
    /// As far as it has records: the API may cap its pages.
    Received,
    /// As far as it was asked for: the API may leave records out of a page.
    Limit,
    /// By one: the API's offset counts pages.
    One,
}

/// When a walk is over. Counted walks have at least one rule or a maximum.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    pub total: Option<Total>,
    pub more: Option<More>,
    pub after_empty_page: bool,
    pub after_short_page: bool,
    /// Statuses that say that there is nothing at this place.
    pub statuses: Vec<u16>,
    /// Where the last page holds the token that the next walk begins with.
    pub sync_token: Option<DottedPath>,
}

/// The API's count of everything.
#[derive(Debug, Clone)]
pub struct Total {
    pub at: TotalAt,
    pub counts: Unit,
}

#[derive(Debug, Clone)]
pub enum TotalAt {
    Body(DottedPath),
    Header(String),
}

/// The API's word on whether this page is the last.
#[derive(Debug, Clone)]
pub struct More {
    pub path: DottedPath,
    /// Whether true means that there is more; else it means that there is not.
    pub means_more: bool,
}

impl Stop {
    pub(super) fn ends(&self) -> bool {
        self.total.is_some()
            || self.more.is_some()
            || self.after_empty_page
            || self.after_short_page
            || !self.statuses.is_empty()
    }
}

impl Paginator {
    /// Rules by which the walk ends; those of a single page are none.
    #[must_use]
    pub fn stop(&self) -> Option<&Stop> {
        match self {
            Self::Counted(counted) => Some(&counted.stop),
            Self::Token(token) => Some(&token.stop),
            Self::Link(link) => Some(&link.stop),
            Self::SinglePage | Self::Auto => None,
        }
    }

    /// Parameters of the query that the walk itself sets.
    #[must_use]
    pub fn query_params(&self) -> Vec<&str> {
        self.targets()
            .into_iter()
            .filter_map(|target| match target {
                Target::Query(name) => Some(name.as_str()),
                Target::Body(_) => None,
            })
            .collect()
    }

    /// Whether it looks for something in the answers besides their records.
    pub(super) fn reads_body(&self) -> bool {
        let in_stop = |stop: &Stop| {
            let total = stop.total.as_ref().map(|total| &total.at);
            matches!(total, Some(TotalAt::Body(_)))
                || stop.more.is_some()
                || stop.sync_token.is_some()
        };
        let in_place = match self {
            Self::Token(token) => matches!(token.from, TokenFrom::Body(_)),
            Self::Link(link) => matches!(link.from, LinkFrom::Body(_)),
            Self::SinglePage | Self::Counted(_) | Self::Auto => false,
        };
        in_place || self.stop().is_some_and(in_stop)
    }

    /// The parameter that gets the number of a counted page: the one that may stand in the path.
    pub(super) fn number_param(&self) -> Option<&str> {
        match self {
            Self::Counted(counted) => match &counted.position {
                Target::Query(name) => Some(name),
                Target::Body(_) => None,
            },
            Self::SinglePage | Self::Token(_) | Self::Link(_) | Self::Auto => None,
        }
    }

    pub(super) fn writes_body(&self) -> bool {
        self.targets()
            .iter()
            .any(|target| matches!(target, Target::Body(_)))
    }

    fn targets(&self) -> Vec<&Target> {
        let (first, size) = match self {
            Self::Counted(counted) => (&counted.position, &counted.size),
            Self::Token(token) => (&token.to, &token.size),
            Self::SinglePage | Self::Link(_) | Self::Auto => return Vec::new(),
        };
        std::iter::once(first)
            .chain(size.iter().map(|size| &size.to))
            .collect()
    }
}

variants! {
    /// How the pages follow each other.
    pub(super) enum PaginatorFile {
        SinglePage(SinglePageFile) = "single_page",
        Offset(OffsetFile) = "offset",
        PageNumber(PageNumberFile) = "page_number",
        Cursor(CursorFile) = "cursor",
        HeaderCursor(HeaderCursorFile) = "header_cursor",
        Keyset(KeysetFile) = "keyset",
        JsonLink(JsonLinkFile) = "json_link" | "json_response",
        HeaderLink(HeaderLinkFile) = "header_link",
        Auto(AutoFile) = "auto",
    }
}

section! {
    /// One answer is all.
    pub(super) struct SinglePageFile {}
}

section! {
    /// Looks at the first answer and says which paginator it suggests (`rosterd check --connect`). A run is refused: write that one down.
    pub(super) struct AutoFile {}
}

section! {
    /// Pages are told by the number of records before them.
    pub(super) struct OffsetFile {
        /// Records per page, sent with every request.
        limit: NonZeroU64; required,
        /// First offset: 0, or 1 where the API counts records from 1.
        offset: u64 = "0",
        /// Parameter of the query that gets the offset, or of the path where that names it as `{offset}`. Left out: `offset`, unless `offset_body_path` is given.
        offset_param: String,
        /// Place in the JSON body that gets the offset, instead of a parameter.
        offset_body_path: DottedPath,
        /// Parameter of the query that gets the limit. Left out: `limit`, unless `limit_body_path` is given.
        limit_param: String,
        /// Place in the JSON body that gets the limit, instead of a parameter.
        limit_body_path: DottedPath,
        /// How far a page leads: `received` as far as it has records, `limit` as far as was asked (the API leaves records out of its pages), `one` (the API's offset counts pages).
        step: StepWord = "received",
        /// Records of a page that are asked for again with the next one. If none of them comes, rows moved meanwhile: the walk steps back until it meets them, and is not proven if it never does. 0: a row that goes away while pages are read can hide another.
        overlap: u64 = "0",
        /// Where the answer tells the number of all records. Null: it does not. Left out: `total`, unless another rule below ends the walk.
        total_path: Option<DottedPath> = "total",
        /// Header that tells the number of all records, instead of `total_path`.
        total_header: String,
        /// The walk ends before this offset. What lies behind it is not read, so the run is `partial` where there is more.
        maximum_offset: u64,
        /// Whether a page without records ends the walk, where no total and no flag says that there is more.
        stop_after_empty_page: bool = "true",
        /// Whether a page with fewer records than `limit` ends the walk. Wrong where the API caps or thins its pages: the rest is never read.
        stop_after_short_page: bool = "false",
        /// Where the answer tells whether there is more.
        has_more_path: DottedPath,
        /// Where the answer tells whether this page is the last, instead of `has_more_path`.
        last_page_path: DottedPath,
        /// Statuses that end the walk, such as 304 or 404; 204 always does. One of 400 and above does not on the first page.
        end_statuses: Vec<u16>,
        /// Where the last page holds the token that the next run begins with.
        sync_token_path: DottedPath,
    }
}

words! {
    /// How far a page leads to the next offset.
    pub(super) enum StepWord {
        Received = "received",
        Limit = "limit",
        One = "one",
    }
}

section! {
    /// Pages are numbered.
    pub(super) struct PageNumberFile {
        /// Number of the first page: 0 or 1.
        base_page: u64 = "0",
        /// Page to begin with. Left out: `base_page`.
        page: u64,
        /// Parameter of the query that gets the number, or of the path where that names it: `/people/page/{page}`. Left out: `page`, unless `page_body_path` is given.
        page_param: String,
        /// Place in the JSON body that gets the number, instead of a parameter.
        page_body_path: DottedPath,
        /// Records per page, sent with every request. Left out: the API decides.
        limit: NonZeroU64,
        /// Parameter of the query that gets the limit. Left out: `limit`, unless `limit_body_path` is given.
        limit_param: String,
        /// Place in the JSON body that gets the limit, instead of a parameter.
        limit_body_path: DottedPath,
        /// Where the answer tells the number of all pages. Null: it does not. Left out: `total`, unless another rule below ends the walk.
        total_path: Option<DottedPath> = "total",
        /// Header that tells the number of all pages, instead of `total_path`.
        total_header: String,
        /// What the total counts: `pages`, or `records`.
        total_counts: UnitWord = "pages",
        /// The walk ends before this page: with `base_page: 1` and 3, pages 1 and 2 are read.
        maximum_page: u64,
        /// Whether a page without records ends the walk, where no total and no flag says that there is more.
        stop_after_empty_page: bool = "true",
        /// Whether a page with fewer records than `limit` ends the walk. Wrong where the API caps or thins its pages: the rest is never read.
        stop_after_short_page: bool = "false",
        /// Where the answer tells whether there is more.
        has_more_path: DottedPath,
        /// Where the answer tells whether this page is the last, instead of `has_more_path`.
        last_page_path: DottedPath,
        /// Statuses that end the walk, such as 304 or 404; 204 always does. One of 400 and above does not on the first page.
        end_statuses: Vec<u16>,
        /// Where the last page holds the token that the next run begins with.
        sync_token_path: DottedPath,
    }
}

words! {
    /// What a total counts.
    pub(super) enum UnitWord {
        Pages = "pages",
        Records = "records",
    }
}

section! {
    /// The answer holds the token of the next page; without one the walk ends.
    pub(super) struct CursorFile {
        /// Where the answer holds the token.
        cursor_path: DottedPath = "cursors.next",
        /// Parameter of the query that gets the token. Left out: `cursor`, unless `cursor_body_path` is given.
        cursor_param: String,
        /// Place in the JSON body that gets the token, instead of a parameter.
        cursor_body_path: DottedPath,
        /// Records per page, sent with every request. Left out: the API decides.
        limit: NonZeroU64,
        /// Parameter of the query that gets the limit. Left out: `limit`, unless `limit_body_path` is given.
        limit_param: String,
        /// Place in the JSON body that gets the limit, instead of a parameter.
        limit_body_path: DottedPath,
        /// Whether the endpoint's `params` and the limit are sent with a token too. False: the token alone, as APIs want it whose tokens carry the filter.
        keep_params: bool = "true",
        /// Whether a page without records ends the walk.
        stop_after_empty_page: bool = "false",
        /// Whether a page with fewer records than `limit` ends the walk.
        stop_after_short_page: bool = "false",
        /// Where the answer tells whether there is more.
        has_more_path: DottedPath,
        /// Where the answer tells whether this page is the last, instead of `has_more_path`.
        last_page_path: DottedPath,
        /// Statuses that end the walk, such as 304 or 404; 204 always does. One of 400 and above does not on the first page.
        end_statuses: Vec<u16>,
        /// Where the last page holds the token that the next run begins with.
        sync_token_path: DottedPath,
    }
}

section! {
    /// A header of the answer holds the token of the next page; without it the walk ends.
    pub(super) struct HeaderCursorFile {
        /// Name of the header.
        cursor_key: String = "next",
        /// Parameter of the query that gets the token. Left out: `cursor`, unless `cursor_body_path` is given.
        cursor_param: String,
        /// Place in the JSON body that gets the token, instead of a parameter.
        cursor_body_path: DottedPath,
        /// Records per page, sent with every request. Left out: the API decides.
        limit: NonZeroU64,
        /// Parameter of the query that gets the limit. Left out: `limit`, unless `limit_body_path` is given.
        limit_param: String,
        /// Place in the JSON body that gets the limit, instead of a parameter.
        limit_body_path: DottedPath,
        /// Whether the endpoint's `params` and the limit are sent with a token too.
        keep_params: bool = "true",
        /// Whether a page without records ends the walk.
        stop_after_empty_page: bool = "false",
        /// Where the answer tells whether there is more.
        has_more_path: DottedPath,
        /// Where the answer tells whether this page is the last, instead of `has_more_path`.
        last_page_path: DottedPath,
        /// Statuses that end the walk, such as 304 or 404; 204 always does. One of 400 and above does not on the first page.
        end_statuses: Vec<u16>,
    }
}

section! {
    /// A field of the last record is asked for records behind it; a page without records ends the walk.
    pub(super) struct KeysetFile {
        /// Field of the record by which the API sorts. Too many records with one value, more than a page holds, fail the run.
        key_path: DottedPath; required,
        /// Parameter of the query that gets the value of the last record. Left out: `after`, unless `key_body_path` is given.
        key_param: String,
        /// Place in the JSON body that gets the value, instead of a parameter.
        key_body_path: DottedPath,
        /// Records per page, sent with every request. Left out: the API decides.
        limit: NonZeroU64,
        /// Parameter of the query that gets the limit. Left out: `limit`, unless `limit_body_path` is given.
        limit_param: String,
        /// Place in the JSON body that gets the limit, instead of a parameter.
        limit_body_path: DottedPath,
        /// Whether the endpoint's `params` and the limit are sent behind the first page too.
        keep_params: bool = "true",
        /// Whether a page with fewer records than `limit` ends the walk.
        stop_after_short_page: bool = "false",
        /// Where the answer tells whether there is more.
        has_more_path: DottedPath,
        /// Where the answer tells whether this page is the last, instead of `has_more_path`.
        last_page_path: DottedPath,
        /// Statuses that end the walk, such as 304 or 404; 204 always does. One of 400 and above does not on the first page.
        end_statuses: Vec<u16>,
    }
}

section! {
    /// The answer holds the URL of the next page; without one the walk ends.
    pub(super) struct JsonLinkFile {
        /// Where the answer holds the URL. Null, an empty text and the text `null` are none.
        next_url_path: DottedPath = "next",
        /// Whether only path and query of the URL are taken, and the host of `base_url` is asked whatever it names. False: another host fails the run.
        ignore_host: bool = "false",
        /// Whether the endpoint's `params` are added where the URL lacks them.
        keep_params: bool = "false",
        /// Where the answer tells whether there is more.
        has_more_path: DottedPath,
        /// Where the answer tells whether this page is the last, instead of `has_more_path`.
        last_page_path: DottedPath,
        /// Where the last page holds the token that the next run begins with.
        sync_token_path: DottedPath,
    }
}

section! {
    /// The header `Link` holds the URL of the next page; without one the walk ends.
    pub(super) struct HeaderLinkFile {
        /// The `rel` of that link.
        links_next_key: String = "next",
        /// Whether only path and query of the URL are taken, and the host of `base_url` is asked whatever it names. False: another host fails the run.
        ignore_host: bool = "false",
        /// Whether the endpoint's `params` are added where the URL lacks them.
        keep_params: bool = "false",
    }
}

impl PaginatorFile {
    pub(super) fn resolve(&mut self, node: &Node, problems: &mut Problems) -> Option<Paginator> {
        let mut at = At { node, problems };
        Some(match self {
            Self::SinglePage(SinglePageFile {}) => Paginator::SinglePage,
            Self::Auto(AutoFile {}) => Paginator::Auto,
            Self::Offset(file) => Paginator::Counted(Box::new(file.resolve(&mut at)?)),
            Self::PageNumber(file) => Paginator::Counted(Box::new(file.resolve(&mut at)?)),
            Self::Cursor(file) => Paginator::Token(Box::new(file.resolve(&mut at)?)),
            Self::HeaderCursor(file) => Paginator::Token(Box::new(file.resolve(&mut at)?)),
            Self::Keyset(file) => Paginator::Token(Box::new(file.resolve(&mut at)?)),
            Self::JsonLink(file) => Paginator::Link(Box::new(Link {
                from: LinkFrom::Body(file.next_url_path.clone()),
                ignore_host: file.ignore_host,
                keep_params: file.keep_params,
                stop: Stop {
                    more: at.more(file.has_more_path.as_ref(), file.last_page_path.as_ref()),
                    sync_token: file.sync_token_path.clone(),
                    ..Stop::default()
                },
            })),
            Self::HeaderLink(file) => Paginator::Link(Box::new(Link {
                from: LinkFrom::Relation(file.links_next_key.clone()),
                ignore_host: file.ignore_host,
                keep_params: file.keep_params,
                stop: Stop::default(),
            })),
        })
    }
}

impl OffsetFile {
    fn resolve(&mut self, at: &mut At<'_>) -> Option<Counted> {
        let stop = Stop {
            more: at.more(self.has_more_path.as_ref(), self.last_page_path.as_ref()),
            after_empty_page: self.stop_after_empty_page,
            after_short_page: self.stop_after_short_page,
            statuses: at.statuses(self.end_statuses.as_deref()),
            sync_token: self.sync_token_path.clone(),
            total: None,
        };
        let total = at.total(&mut self.total_path, self.total_header.as_ref(), &stop);
        let stop = Stop {
            total: total.map(|at| Total {
                at,
                counts: Unit::Rows,
            }),
            ..stop
        };
        at.stop(&stop, self.maximum_offset, "maximum_offset");
        at.maximum(self.maximum_offset, self.offset, "maximum_offset");
        let limit = self.limit.get();
        if self.overlap >= limit {
            at.wrong("overlap", "expected less than `limit`");
        }
        if self.overlap > 0 && self.step != StepWord::Received {
            at.wrong("overlap", "needs `step: received`");
        }
        let position = at.target(
            &mut self.offset_param,
            self.offset_body_path.as_ref(),
            "offset",
        );
        let to = at.target(
            &mut self.limit_param,
            self.limit_body_path.as_ref(),
            "limit",
        );
        Some(Counted {
            unit: Unit::Rows,
            start: self.offset,
            // A start of 1 counts rows from 1; a larger one skips rows.
            base: u64::from(self.offset == 1),
            position: position?,
            size: Some(PageSize { limit, to: to? }),
            stride: match self.step {
                StepWord::Received => Stride::Received,
                StepWord::Limit => Stride::Limit,
                StepWord::One => Stride::One,
            },
            overlap: self.overlap,
            stop,
            maximum: self.maximum_offset,
        })
    }
}

impl PageNumberFile {
    fn resolve(&mut self, at: &mut At<'_>) -> Option<Counted> {
        let stop = Stop {
            more: at.more(self.has_more_path.as_ref(), self.last_page_path.as_ref()),
            after_empty_page: self.stop_after_empty_page,
            after_short_page: self.stop_after_short_page,
            statuses: at.statuses(self.end_statuses.as_deref()),
            sync_token: self.sync_token_path.clone(),
            total: None,
        };
        let total = at.total(&mut self.total_path, self.total_header.as_ref(), &stop);
        let stop = Stop {
            total: total.map(|at| Total {
                at,
                counts: match self.total_counts {
                    UnitWord::Pages => Unit::Pages,
                    UnitWord::Records => Unit::Rows,
                },
            }),
            ..stop
        };
        let start = self.page.unwrap_or(self.base_page);
        if start < self.base_page {
            at.wrong("page", "expected at least `base_page`");
        }
        at.stop(&stop, self.maximum_page, "maximum_page");
        at.maximum(self.maximum_page, start, "maximum_page");
        let position = at.target(&mut self.page_param, self.page_body_path.as_ref(), "page");
        let size = at.size(
            self.limit,
            &mut self.limit_param,
            self.limit_body_path.as_ref(),
            stop.after_short_page,
        );
        Some(Counted {
            unit: Unit::Pages,
            start,
            base: self.base_page,
            position: position?,
            size: size?,
            stride: Stride::One,
            overlap: 0,
            stop,
            maximum: self.maximum_page,
        })
    }
}

impl CursorFile {
    fn resolve(&mut self, at: &mut At<'_>) -> Option<Token> {
        let to = at.target(
            &mut self.cursor_param,
            self.cursor_body_path.as_ref(),
            "cursor",
        );
        let size = at.size(
            self.limit,
            &mut self.limit_param,
            self.limit_body_path.as_ref(),
            self.stop_after_short_page,
        );
        Some(Token {
            from: TokenFrom::Body(self.cursor_path.clone()),
            to: to?,
            size: size?,
            stop: Stop {
                more: at.more(self.has_more_path.as_ref(), self.last_page_path.as_ref()),
                after_empty_page: self.stop_after_empty_page,
                after_short_page: self.stop_after_short_page,
                statuses: at.statuses(self.end_statuses.as_deref()),
                sync_token: self.sync_token_path.clone(),
                total: None,
            },
            keep_params: self.keep_params,
        })
    }
}

impl HeaderCursorFile {
    fn resolve(&mut self, at: &mut At<'_>) -> Option<Token> {
        let to = at.target(
            &mut self.cursor_param,
            self.cursor_body_path.as_ref(),
            "cursor",
        );
        let size = at.size(
            self.limit,
            &mut self.limit_param,
            self.limit_body_path.as_ref(),
            false,
        );
        at.header(&self.cursor_key, "cursor_key");
        Some(Token {
            from: TokenFrom::Header(self.cursor_key.clone()),
            to: to?,
            size: size?,
            stop: Stop {
                more: at.more(self.has_more_path.as_ref(), self.last_page_path.as_ref()),
                after_empty_page: self.stop_after_empty_page,
                statuses: at.statuses(self.end_statuses.as_deref()),
                ..Stop::default()
            },
            keep_params: self.keep_params,
        })
    }
}

impl KeysetFile {
    fn resolve(&mut self, at: &mut At<'_>) -> Option<Token> {
        let to = match (&self.key_param, &self.key_body_path) {
            (None, None) => {
                self.key_param = Some("after".to_owned());
                Some(Target::Query("after".to_owned()))
            }
            _ => at.target(&mut self.key_param, self.key_body_path.as_ref(), "key"),
        };
        let size = at.size(
            self.limit,
            &mut self.limit_param,
            self.limit_body_path.as_ref(),
            self.stop_after_short_page,
        );
        Some(Token {
            from: TokenFrom::LastRecord(self.key_path.clone()),
            to: to?,
            size: size?,
            stop: Stop {
                more: at.more(self.has_more_path.as_ref(), self.last_page_path.as_ref()),
                // There is no last record then.
                after_empty_page: true,
                after_short_page: self.stop_after_short_page,
                statuses: at.statuses(self.end_statuses.as_deref()),
                ..Stop::default()
            },
            keep_params: self.keep_params,
        })
    }
}

/// The section while it is looked at.
struct At<'a> {
    node: &'a Node,
    problems: &'a mut Problems,
}

impl At<'_> {
    fn wrong(&mut self, key: &str, message: impl Into<String>) {
        self.node
            .nearest(&[key])
            .wrong(self.problems, message.into());
    }

    /// Where a page parameter goes; the parameter's usual name when neither is given.
    fn target(
        &mut self,
        param: &mut Option<String>,
        body_path: Option<&DottedPath>,
        usual: &str,
    ) -> Option<Target> {
        match (&param, body_path) {
            (Some(_), Some(_)) => {
                let message = format!("`{usual}_param` and `{usual}_body_path` exclude each other");
                self.wrong(&format!("{usual}_body_path"), message);
                None
            }
            (None, Some(path)) => Some(Target::Body(path.clone())),
            (Some(name), None) if name.is_empty() => {
                self.wrong(
                    &format!("{usual}_param"),
                    "expected the name of a parameter",
                );
                None
            }
            (_, None) => {
                let name = param.get_or_insert_with(|| usual.to_owned());
                Some(Target::Query(name.clone()))
            }
        }
    }

    /// The size of a page where it may be left out. The outer `None`: a problem was noted.
    fn size(
        &mut self,
        limit: Option<NonZeroU64>,
        param: &mut Option<String>,
        body_path: Option<&DottedPath>,
        needed: bool,
    ) -> Option<Option<PageSize>> {
        let Some(limit) = limit else {
            for (key, given) in [
                ("limit_param", param.is_some()),
                ("limit_body_path", body_path.is_some()),
                ("stop_after_short_page", needed),
            ] {
                if given {
                    self.wrong(key, "needs `limit`");
                }
            }
            return Some(None);
        };
        let to = self.target(param, body_path, "limit")?;
        Some(Some(PageSize {
            limit: limit.get(),
            to,
        }))
    }

    fn more(
        &mut self,
        has_more: Option<&DottedPath>,
        last_page: Option<&DottedPath>,
    ) -> Option<More> {
        if has_more.is_some() && last_page.is_some() {
            self.wrong(
                "last_page_path",
                "`has_more_path` and `last_page_path` exclude each other",
            );
        }
        let (path, means_more) = has_more
            .map(|path| (path, true))
            .or(last_page.map(|path| (path, false)))?;
        Some(More {
            path: path.clone(),
            means_more,
        })
    }

    /// Where the total is. `total_path` has dlt's default only where no rule that dlt does not have ends the walk.
    fn total(
        &mut self,
        path: &mut Option<DottedPath>,
        header: Option<&String>,
        stop: &Stop,
    ) -> Option<TotalAt> {
        let written = self.node.get("total_path").is_some();
        let other_rule = header.is_some()
            || stop.after_short_page
            || !stop.statuses.is_empty()
            || stop.more.as_ref().is_some_and(|more| !more.means_more);
        if !written && other_rule {
            *path = None;
        }
        let Some(header) = header else {
            return path.clone().map(TotalAt::Body);
        };
        if path.is_some() {
            self.wrong(
                "total_header",
                "`total_path` and `total_header` exclude each other",
            );
        }
        self.header(header, "total_header");
        Some(TotalAt::Header(header.clone()))
    }

    fn header(&mut self, name: &str, key: &str) {
        if !is_token(name) {
            self.wrong(
                key,
                "expected the name of a header: letters, digits, `-`, `_`",
            );
        }
    }

    fn statuses(&mut self, statuses: Option<&[u16]>) -> Vec<u16> {
        let statuses = statuses.unwrap_or_default();
        // The others say something of the key or of the moment, not of the place.
        let fits = |status: &u16| {
            matches!(status, 204 | 304)
                || ((400..500).contains(status)
                    && !matches!(status, 401 | 403 | 407 | 408 | 425 | 429))
        };
        if !statuses.iter().all(fits) {
            self.wrong(
                "end_statuses",
                "expected 204, 304 or statuses from 400 to 499 other than 401, 403, 407, 408, 425 and 429",
            );
        }
        statuses.to_vec()
    }

    fn stop(&mut self, stop: &Stop, maximum: Option<u64>, maximum_key: &str) {
        if !stop.ends() && maximum.is_none() {
            let message = format!(
                "nothing ends this walk: give `total_path`, `has_more_path`, `{maximum_key}` or `stop_after_empty_page: true`"
            );
            self.node.wrong(self.problems, message);
        }
    }

    fn maximum(&mut self, maximum: Option<u64>, start: u64, key: &str) {
        if maximum.is_some_and(|maximum| maximum <= start) {
            self.wrong(key, "nothing would be read: expected more than the start");
        }
    }
}
