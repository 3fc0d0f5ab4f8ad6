use bytes::Bytes;

use super::*;
use crate::fetch::decode::Envelope;

/// A pager for a paginator as it is written in the file.
fn pager(paginator: &str) -> Pager {
    let text = format!(
        "sources: {{hr: {{client: {{base_url: 'https://api.test', paginator: {paginator}}}, resources: [{{name: people, write_disposition: append, endpoint: {{method: POST}}}}]}}}}"
    );
    let config = crate::config::from_str(&text).unwrap_or_else(|e| panic!("{paginator}: {e}"));
    let plan = WalkPlan {
        end_value: None,
        endpoint: config.sources[0].resources[0].endpoint.clone(),
        bindings: super::super::Bindings::default(),
        start_value: None,
        key: Vec::new(),
        resume: None,
        first_page: 0,
        max_pages: 100,
    };
    Pager::new(&plan, &"https://api.test".parse().unwrap()).unwrap()
}

fn offset(start: u64, total: bool, has_more: bool, maximum: Option<u64>) -> String {
    let total = if total { "total" } else { "null" };
    let has_more = if has_more { "more" } else { "null" };
    let maximum = maximum.map_or_else(|| "null".to_owned(), |maximum| maximum.to_string());
    format!(
        "{{type: offset, limit: 10, offset: {start}, total_path: {total}, has_more_path: {has_more}, maximum_offset: {maximum}}}"
    )
}

fn pages(start: u64, maximum: Option<u64>) -> String {
    let maximum = maximum.map_or_else(|| "null".to_owned(), |maximum| maximum.to_string());
    format!("{{type: page_number, base_page: {start}, maximum_page: {maximum}}}")
}

/// A page: its rows, its total and its has-more flag.
type Told<'t> = (usize, Option<&'t str>, Option<bool>);

/// Walks over what the API tells; answers where it asked, and the doubt or the error.
fn walk(paginator: &str, told: &[Told<'_>]) -> (Vec<u64>, Result<Option<String>, &'static str>) {
    let mut pager = pager(paginator);
    let mut position = pager.first().unwrap();
    let mut asked = Vec::new();
    let url = "https://api.test/".parse().unwrap();
    for (number, (rows, total, more)) in told.iter().enumerate() {
        let (Position::Offset(at) | Position::Page(at)) = position else {
            panic!("{position:?}");
        };
        asked.push(at);
        let decoded = Decoded {
            body: Bytes::new(),
            records: vec![0..0; *rows],
            envelope: Envelope {
                total: total.map(|text| Scalar::Text(text.into())),
                has_more: more.map(Scalar::Bool),
                ..Envelope::default()
            },
            content: number as u128,
            no_content: false,
        };
        let answer = crate::fetch::decode::tests::answer("");
        let seen = Seen {
            number: number as u64,
            position: Some(&position),
            url: &url,
            answer: &answer,
            decoded: &decoded,
        };
        match pager.after(&seen, None) {
            Ok((Onward::Next(next), _)) => position = next,
            Ok((Onward::End(ending), _)) => {
                assert_eq!(ending.proven.is_some(), ending.doubt.is_none());
                return (asked, Ok(ending.doubt.map(|doubt| doubt.to_string())));
            }
            Err(Error::UnexpectedShape { what, .. }) => return (asked, Err(what)),
            Err(error) => panic!("{error}"),
        }
    }
    (asked, Err("goes on"))
}

#[test]
fn counted_walks_end_where_the_api_says_and_doubt_what_does_not_fit() {
    let total = |n| Some(n);
    let no_total = "(total_path) is not in the answer";
    for (name, paginator, told, asked, doubt) in [
        (
            "exact",
            offset(0, true, false, None),
            vec![(10, total("20"), None), (10, total("20"), None)],
            vec![0, 10],
            Ok(None),
        ),
        (
            "one row more",
            offset(0, true, false, None),
            vec![(10, total("11"), None), (1, None, None)],
            vec![0, 10],
            Ok(None),
        ),
        (
            "nothing",
            offset(0, true, false, None),
            vec![(0, total("0"), None)],
            vec![0],
            Ok(None),
        ),
        (
            "counted from 1",
            offset(1, true, false, None),
            vec![
                (10, total("21"), None),
                (10, total("21"), None),
                (1, total("21"), None),
            ],
            vec![1, 11, 21],
            Ok(None),
        ),
        (
            "skips rows",
            offset(5, true, false, None),
            vec![(10, total("20"), None), (5, total("20"), None)],
            vec![5, 15],
            Ok(None),
        ),
        (
            "capped",
            offset(0, true, false, None),
            vec![
                (4, total("9"), None),
                (4, total("9"), None),
                (1, total("9"), None),
            ],
            vec![0, 4, 8],
            Ok(None),
        ),
        (
            "gap",
            offset(0, true, false, None),
            vec![(10, total("15"), None), (0, total("15"), None)],
            vec![0, 10],
            Ok(Some("10 records came, fewer than the 15")),
        ),
        (
            "shrinks",
            offset(0, true, false, None),
            vec![(10, total("30"), None), (10, total("20"), None)],
            vec![0, 10],
            Ok(Some("from 30 to 20")),
        ),
        (
            "grows",
            offset(0, true, false, None),
            vec![
                (10, total("15"), None),
                (10, total("25"), None),
                (5, total("25"), None),
            ],
            vec![0, 10, 20],
            Ok(None),
        ),
        (
            "no total",
            offset(0, true, false, None),
            vec![(10, None, None)],
            vec![0],
            Err(no_total),
        ),
        (
            "odd total",
            offset(0, true, false, None),
            vec![(10, total("many"), None)],
            vec![0],
            Err("(total_path) is not a count"),
        ),
        (
            "round total",
            offset(0, true, false, None),
            vec![(10, total(" 10.0 "), None)],
            vec![0],
            Ok(None),
        ),
        (
            "maximum",
            offset(0, true, false, Some(20)),
            vec![(10, total("90"), None), (10, total("90"), None)],
            vec![0, 10],
            Ok(Some("maximum of 20")),
        ),
        (
            "more by flag",
            offset(0, false, true, None),
            vec![
                (10, None, Some(true)),
                (0, None, Some(true)),
                (3, None, Some(false)),
            ],
            vec![0, 10, 20],
            Ok(None),
        ),
        (
            "no flag",
            offset(0, false, true, None),
            vec![(10, None, None)],
            vec![0],
            Err("(has_more_path) is not in the answer"),
        ),
        (
            "flag against total",
            offset(0, true, true, None),
            vec![(10, total("30"), Some(false))],
            vec![0],
            Ok(Some("no more, but counts 30")),
        ),
        (
            "flag beyond total",
            offset(0, true, true, None),
            vec![(10, total("10"), Some(true)), (2, total("10"), Some(false))],
            vec![0, 10],
            Ok(None),
        ),
        (
            "flag stuck",
            offset(0, true, true, None),
            vec![(10, total("10"), Some(true)), (0, total("10"), Some(true))],
            vec![0, 10],
            Ok(None),
        ),
        (
            "until empty",
            offset(0, false, false, None),
            vec![(10, None, None), (3, None, None), (0, None, None)],
            vec![0, 10, 13],
            Ok(None),
        ),
        (
            "pages from 1",
            pages(1, None),
            vec![(9, total("2"), None), (1, total("2"), None)],
            vec![1, 2],
            Ok(None),
        ),
        (
            "pages from 0",
            pages(0, None),
            vec![(9, total("2"), None), (1, total("2"), None)],
            vec![0, 1],
            Ok(None),
        ),
        (
            "pages, maximum",
            pages(1, Some(3)),
            vec![(9, total("9"), None), (9, total("9"), None)],
            vec![1, 2],
            Ok(Some("maximum of 3")),
        ),
        (
            "one by one, though offset",
            "{type: offset, limit: 10, step: one}".into(),
            vec![
                (10, total("25"), None),
                (10, total("25"), None),
                (5, total("25"), None),
            ],
            vec![0, 1, 2],
            Ok(None),
        ),
        (
            "by the limit, though pages are thinned",
            "{type: offset, limit: 10, step: limit, total_path: null}".into(),
            vec![(7, None, None), (9, None, None), (0, None, None)],
            vec![0, 10, 20],
            Ok(None),
        ),
        (
            "by the limit, though pages are capped",
            "{type: offset, limit: 10, step: limit}".into(),
            vec![(5, total("20"), None), (5, total("20"), None)],
            vec![0, 10],
            Ok(Some("10 records came, fewer than the 20")),
        ),
        (
            "short page",
            "{type: offset, limit: 10, stop_after_short_page: true}".into(),
            vec![(10, None, None), (9, None, None)],
            vec![0, 10],
            Ok(None),
        ),
        (
            "a short page before the total",
            "{type: offset, limit: 10, stop_after_short_page: true, total_path: total}".into(),
            vec![(9, total("12"), None), (3, total("12"), None)],
            vec![0, 9],
            Ok(None),
        ),
        (
            "last page by flag",
            "{type: page_number, last_page_path: more}".into(),
            vec![
                (3, None, Some(false)),
                (0, None, Some(false)),
                (2, None, Some(true)),
            ],
            vec![0, 1, 2],
            Ok(None),
        ),
        (
            "pages from a later one",
            "{type: page_number, base_page: 1, page: 3}".into(),
            vec![(3, total("4"), None), (1, total("4"), None)],
            vec![3, 4],
            Ok(None),
        ),
        (
            "pages whose total counts records",
            "{type: page_number, base_page: 1, limit: 2, total_counts: records}".into(),
            vec![
                (2, total("5"), None),
                (2, total("5"), None),
                (1, total("5"), None),
            ],
            vec![1, 2, 3],
            Ok(None),
        ),
        (
            "pages whose total counts records and that are capped",
            "{type: page_number, limit: 4, total_counts: records}".into(),
            vec![(2, total("4"), None), (2, total("4"), None)],
            vec![0, 1],
            Ok(None),
        ),
        (
            "pages from a later one whose total counts records",
            "{type: page_number, base_page: 1, page: 2, limit: 2, total_counts: records}".into(),
            vec![(2, total("5"), None), (1, total("5"), None)],
            vec![2, 3],
            Ok(None),
        ),
        (
            "pages that are rows",
            pages(1, None),
            vec![
                (2, total("4"), None),
                (2, total("4"), None),
                (0, total("4"), None),
            ],
            vec![1, 2, 3],
            Ok(None),
        ),
    ] {
        let (went, ended) = walk(&paginator, &told);
        assert_eq!(went, asked, "{name}");
        match (ended, doubt) {
            (Ok(Some(is)), Ok(Some(expected))) => assert!(is.contains(expected), "{name}: {is}"),
            (Ok(None), Ok(None)) => {}
            (Err(is), Err(expected)) => assert_eq!(is, expected, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn foresees_only_what_the_total_covers() {
    for (paginator, total, next, count, expected) in [
        (
            offset(0, true, false, None),
            Some(35),
            Position::Offset(10),
            5,
            vec![20, 30],
        ),
        (
            offset(0, true, false, None),
            Some(40),
            Position::Offset(10),
            5,
            vec![20, 30],
        ),
        (
            offset(1, true, false, None),
            Some(40),
            Position::Offset(11),
            5,
            vec![21, 31],
        ),
        (
            offset(0, true, false, Some(30)),
            Some(400),
            Position::Offset(10),
            5,
            vec![20],
        ),
        (
            offset(0, true, false, None),
            Some(400),
            Position::Offset(10),
            2,
            vec![20, 30],
        ),
        (
            offset(0, false, false, None),
            None,
            Position::Offset(10),
            5,
            vec![],
        ),
        (pages(1, None), Some(4), Position::Page(2), 5, vec![3, 4]),
        (pages(0, None), Some(4), Position::Page(1), 5, vec![2, 3]),
        (
            "{type: page_number, base_page: 1, limit: 10, total_counts: records}".into(),
            Some(35),
            Position::Page(2),
            5,
            vec![3, 4],
        ),
        (
            "{type: page_number, total_counts: records}".into(),
            Some(35),
            Position::Page(2),
            5,
            vec![],
        ),
        (
            "{type: offset, limit: 10, step: one}".into(),
            Some(35),
            Position::Offset(1),
            5,
            vec![2, 3],
        ),
        (
            "{type: offset, limit: 10, overlap: 1}".into(),
            Some(28),
            Position::Offset(9),
            5,
            vec![18],
        ),
        (
            "{type: offset, limit: 10, overlap: 1}".into(),
            Some(29),
            Position::Offset(9),
            5,
            vec![18, 27],
        ),
    ] {
        let mut pager = pager(&paginator);
        pager.book.total = total;
        let places = pager.foresee(&next, count).into_iter();
        let places: Vec<u64> = places
            .map(|place| match place {
                Position::Offset(at) | Position::Page(at) => at,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(places, expected, "{next:?} of {total:?}");
    }
}

fn cursor(has_more: bool, stop_after_empty_page: bool) -> String {
    let has_more = if has_more { "more" } else { "null" };
    format!(
        "{{type: cursor, cursor_path: next, has_more_path: {has_more}, stop_after_empty_page: {stop_after_empty_page}}}"
    )
}

/// Walks over pages of a given content, each naming what is next; answers how it ended.
fn follow(paginator: &str, told: &[(usize, u128, Option<Scalar>, Option<bool>)]) -> String {
    let mut pager = pager(paginator);
    let mut position = None;
    let mut url: Url = "https://api.test/people".parse().unwrap();
    for (number, (rows, content, next, more)) in told.iter().enumerate() {
        let decoded = Decoded {
            body: Bytes::new(),
            records: vec![0..0; *rows],
            envelope: Envelope {
                total: None,
                has_more: more.map(Scalar::Bool),
                next: next.clone(),
                ..Envelope::default()
            },
            content: *content,
            no_content: false,
        };
        let seen = Seen {
            number: number as u64,
            position: position.as_ref(),
            url: &url,
            answer: &crate::fetch::decode::tests::answer(""),
            decoded: &decoded,
        };
        match pager.after(&seen, None) {
            Ok((Onward::Next(next), _)) => {
                if let Position::Url(next) = &next {
                    url = next.parse().unwrap();
                }
                position = Some(next);
            }
            Ok((
                Onward::End(Ending {
                    doubt: Some(doubt), ..
                }),
                _,
            )) => return format!("doubt: {doubt}"),
            Ok((Onward::End(_), _)) => return format!("proven after {}", number + 1),
            Err(error) => return error.fault().code,
        }
    }
    format!("{:?}", position.unwrap())
}

#[test]
fn tokens_end_a_walk_or_lead_on() {
    let text = |text: &str| Some(Scalar::Text(text.into()));
    let number = |text: &str| Some(Scalar::Number(text.into()));
    let plain = || cursor(false, false);
    let flagged = || cursor(true, false);
    for (name, paginator, told, ended) in [
        (
            "missing",
            plain(),
            vec![(1, 1, None, None)],
            "proven after 1",
        ),
        (
            "null",
            plain(),
            vec![(1, 1, Some(Scalar::Null), None)],
            "proven after 1",
        ),
        (
            "false",
            plain(),
            vec![(1, 1, Some(Scalar::Bool(false)), None)],
            "proven after 1",
        ),
        (
            "empty",
            plain(),
            vec![(1, 1, text(""), None)],
            "proven after 1",
        ),
        (
            "zero",
            plain(),
            vec![(1, 1, number("0"), None)],
            "proven after 1",
        ),
        (
            "number",
            plain(),
            vec![(1, 1, number("17"), None)],
            "Number(\"17\")",
        ),
        (
            "text zero",
            plain(),
            vec![(1, 1, text("0"), None)],
            "Cursor(\"0\")",
        ),
        (
            "true",
            plain(),
            vec![(1, 1, Some(Scalar::Bool(true)), None)],
            "unexpected_shape",
        ),
        (
            "object",
            plain(),
            vec![(1, 1, Some(Scalar::Other), None)],
            "unexpected_shape",
        ),
        (
            "no more",
            flagged(),
            vec![(1, 1, text("a"), Some(false))],
            "proven after 1",
        ),
        (
            "more",
            flagged(),
            vec![(1, 1, text("a"), Some(true))],
            "Cursor(\"a\")",
        ),
        (
            "more without a token",
            flagged(),
            vec![(1, 1, Some(Scalar::Null), Some(true))],
            "doubt: the API says that there is more, but names no cursor",
        ),
        (
            "empty page",
            plain(),
            vec![(1, 1, text("a"), None), (0, 0, text("b"), None)],
            "Cursor(\"b\")",
        ),
        (
            "empty page stops",
            cursor(false, true),
            vec![(1, 1, text("a"), None), (0, 0, text("b"), None)],
            "proven after 2",
        ),
        (
            "one token, new pages",
            plain(),
            vec![
                (1, 1, text("a"), None),
                (1, 2, text("a"), None),
                (1, 3, text("a"), None),
                (1, 4, None, None),
            ],
            "proven after 4",
        ),
        (
            "one token, one page",
            plain(),
            vec![
                (1, 1, text("a"), None),
                (1, 2, text("a"), None),
                (1, 2, text("a"), None),
            ],
            "pagination_loop",
        ),
        (
            "one token, empty",
            plain(),
            vec![(0, 0, text("a"), None), (0, 0, text("a"), None)],
            "pagination_loop",
        ),
        (
            "round of two",
            plain(),
            vec![
                (1, 1, text("a"), None),
                (1, 2, text("b"), None),
                (1, 3, text("a"), None),
                (1, 2, text("b"), None),
            ],
            "pagination_loop",
        ),
    ] {
        assert_eq!(follow(&paginator, &told), ended, "{name}");
    }
}

#[test]
fn links_end_a_walk_or_lead_on() {
    let text = |text: &str| Some(Scalar::Text(text.into()));
    let long = format!("?c={}", "x".repeat(link::MAX));
    for (name, told, ended) in [
        ("missing", vec![(1, 1, None, None)], "proven after 1"),
        (
            "null",
            vec![(1, 1, Some(Scalar::Null), None)],
            "proven after 1",
        ),
        ("empty", vec![(1, 1, text(" "), None)], "proven after 1"),
        (
            "null as text",
            vec![(1, 1, text("null"), None)],
            "proven after 1",
        ),
        (
            "false",
            vec![(1, 1, Some(Scalar::Bool(false)), None)],
            "proven after 1",
        ),
        (
            "relative",
            vec![(1, 1, text("?c=1"), None)],
            "Url(\"https://api.test/people?c=1\")",
        ),
        (
            "itself",
            vec![(1, 1, text("/people"), None)],
            "pagination_loop",
        ),
        (
            "round of two",
            vec![
                (1, 1, text("?c=1"), None),
                (1, 2, text("?c=2"), None),
                (1, 3, text("?c=1"), None),
            ],
            "pagination_loop",
        ),
        (
            "new links, one page",
            vec![
                (1, 1, text("?c=1"), None),
                (1, 1, text("?c=2"), None),
                (1, 1, text("?c=3"), None),
            ],
            "pagination_loop",
        ),
        (
            "number",
            vec![(1, 1, Some(Scalar::Number("2".into())), None)],
            "unexpected_shape",
        ),
        (
            "foreign",
            vec![(1, 1, text("https://evil.test/"), None)],
            "foreign_next_link",
        ),
        (
            "too long",
            vec![(1, 1, text(&long), None)],
            "pagination_loop",
        ),
    ] {
        assert_eq!(follow("json_link", &told), ended, "{name}");
    }
}
