//! Section `paginator`: how the pages follow each other.
//!
//! There is no `auto`: dlt's guess reads page 1 twice or loses the last page of some APIs without a
//! word. A paginator is written down, and each has a rule that ends it.

use std::num::NonZeroU64;

use super::{
    decode::{section, variants},
    endpoint::{DottedPath, Paginator, Stop, Target},
    problem::Problems,
    tree::Node,
};

variants! {
    /// How the pages follow each other.
    pub(super) enum PaginatorFile {
        SinglePage(SinglePageFile) = "single_page",
        Offset(OffsetFile) = "offset",
        PageNumber(PageNumberFile) = "page_number",
        Cursor(CursorFile) = "cursor",
        JsonLink(JsonLinkFile) = "json_link" | "json_response",
        HeaderLink(HeaderLinkFile) = "header_link",
    }
    later ["header_cursor", "auto"]
}

section! {
    /// One answer is all.
    pub(super) struct SinglePageFile {}
}

section! {
    /// Pages are told by the number of records before them.
    pub(super) struct OffsetFile {
        /// Records per page, sent with every request.
        limit: NonZeroU64; required,
        /// First offset.
        offset: u64 = "0",
        /// Parameter of the query that gets the offset. Left out: `offset`, unless `offset_body_path` is given.
        offset_param: String,
        /// Place in the JSON body that gets the offset, instead of a parameter.
        offset_body_path: DottedPath,
        /// Parameter of the query that gets the limit. Left out: `limit`, unless `limit_body_path` is given.
        limit_param: String,
        /// Place in the JSON body that gets the limit, instead of a parameter.
        limit_body_path: DottedPath,
        /// Where the answer tells the number of all records. Null: it does not.
        total_path: Option<DottedPath> = "total",
        /// The walk ends before this offset.
        maximum_offset: u64,
        /// Whether a page without records ends the walk.
        stop_after_empty_page: bool = "true",
        /// Where the answer tells whether there is more.
        has_more_path: DottedPath,
    }
}

section! {
    /// Pages are numbered.
    pub(super) struct PageNumberFile {
        /// Number of the first page: 0 or 1.
        base_page: u64 = "0",
        /// Page to begin with. Left out: `base_page`.
        page: u64,
        /// Parameter of the query that gets the number. Left out: `page`, unless `page_body_path` is given.
        page_param: String,
        /// Place in the JSON body that gets the number, instead of a parameter.
        page_body_path: DottedPath,
        /// Where the answer tells the number of all pages. Null: it does not.
        total_path: Option<DottedPath> = "total",
        /// The walk ends before this page: with `base_page: 1` and 3, pages 1 and 2 are read.
        maximum_page: u64,
        /// Whether a page without records ends the walk.
        stop_after_empty_page: bool = "true",
        /// Where the answer tells whether there is more.
        has_more_path: DottedPath,
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
        /// Whether a page without records ends the walk.
        stop_after_empty_page: bool = "false",
        /// Where the answer tells whether there is more.
        has_more_path: DottedPath,
    }
}

section! {
    /// The answer holds the URL of the next page; without one the walk ends.
    pub(super) struct JsonLinkFile {
        /// Where the answer holds the URL.
        next_url_path: DottedPath = "next",
    }
}

section! {
    /// The header `Link` holds the URL of the next page; without one the walk ends.
    pub(super) struct HeaderLinkFile {
        /// The `rel` of that link.
        links_next_key: String = "next",
    }
}

impl PaginatorFile {
    pub(super) fn resolve(&mut self, node: &Node, problems: &mut Problems) -> Option<Paginator> {
        Some(match self {
            Self::SinglePage(SinglePageFile {}) => Paginator::SinglePage,
            Self::Offset(file) => {
                let stop = Stop {
                    total_path: file.total_path.clone(),
                    has_more_path: file.has_more_path.clone(),
                    after_empty_page: file.stop_after_empty_page,
                };
                check_stop(&stop, file.maximum_offset, "maximum_offset", node, problems);
                check_maximum(
                    file.maximum_offset,
                    file.offset,
                    "maximum_offset",
                    node,
                    problems,
                );
                Paginator::Offset {
                    limit: file.limit.get(),
                    start: file.offset,
                    offset: target(
                        &mut file.offset_param,
                        file.offset_body_path.as_ref(),
                        "offset",
                        node,
                        problems,
                    )?,
                    limit_to: target(
                        &mut file.limit_param,
                        file.limit_body_path.as_ref(),
                        "limit",
                        node,
                        problems,
                    )?,
                    stop,
                    maximum_offset: file.maximum_offset,
                }
            }
            Self::PageNumber(file) => {
                let stop = Stop {
                    total_path: file.total_path.clone(),
                    has_more_path: file.has_more_path.clone(),
                    after_empty_page: file.stop_after_empty_page,
                };
                check_stop(&stop, file.maximum_page, "maximum_page", node, problems);
                check_maximum(
                    file.maximum_page,
                    file.base_page,
                    "maximum_page",
                    node,
                    problems,
                );
                if file.page.is_some_and(|page| page != file.base_page) {
                    node.nearest(&["page"]).wrong(
                        problems,
                        "another `page` than `base_page` is not supported yet",
                    );
                }
                Paginator::PageNumber {
                    start: file.base_page,
                    page: target(
                        &mut file.page_param,
                        file.page_body_path.as_ref(),
                        "page",
                        node,
                        problems,
                    )?,
                    stop,
                    maximum_page: file.maximum_page,
                }
            }
            Self::Cursor(file) => Paginator::Cursor {
                cursor_path: file.cursor_path.clone(),
                cursor: target(
                    &mut file.cursor_param,
                    file.cursor_body_path.as_ref(),
                    "cursor",
                    node,
                    problems,
                )?,
                stop_after_empty_page: file.stop_after_empty_page,
                has_more_path: file.has_more_path.clone(),
            },
            Self::JsonLink(file) => Paginator::JsonLink {
                next_url_path: file.next_url_path.clone(),
            },
            Self::HeaderLink(file) => Paginator::HeaderLink {
                links_next_key: file.links_next_key.clone(),
            },
        })
    }
}

/// Where a page parameter goes; the parameter's usual name when neither is given.
fn target(
    param: &mut Option<String>,
    body_path: Option<&DottedPath>,
    usual: &str,
    node: &Node,
    problems: &mut Problems,
) -> Option<Target> {
    match (&param, body_path) {
        (Some(_), Some(_)) => {
            let message = format!("`{usual}_param` and `{usual}_body_path` exclude each other");
            node.nearest(&[&format!("{usual}_body_path")])
                .wrong(problems, message);
            None
        }
        (None, Some(path)) => Some(Target::Body(path.clone())),
        (Some(name), None) if name.is_empty() => {
            node.nearest(&[&format!("{usual}_param")])
                .wrong(problems, "expected the name of a parameter");
            None
        }
        (_, None) => {
            let name = param.get_or_insert_with(|| usual.to_owned());
            Some(Target::Query(name.clone()))
        }
    }
}

fn check_stop(
    stop: &Stop,
    maximum: Option<u64>,
    maximum_key: &str,
    node: &Node,
    problems: &mut Problems,
) {
    let ends = stop.total_path.is_some()
        || stop.has_more_path.is_some()
        || stop.after_empty_page
        || maximum.is_some();
    if !ends {
        let message = format!(
            "nothing ends this walk: give `total_path`, `has_more_path`, `{maximum_key}` or `stop_after_empty_page: true`"
        );
        node.wrong(problems, message);
    }
}

fn check_maximum(
    maximum: Option<u64>,
    start: u64,
    key: &str,
    node: &Node,
    problems: &mut Problems,
) {
    if maximum.is_some_and(|maximum| maximum <= start) {
        node.nearest(&[key]).wrong(
            problems,
            "nothing would be read: expected more than the start",
        );
    }
}
