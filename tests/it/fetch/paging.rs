//! How pages follow each other, and how walks end.

use bytes::Bytes;
use rosterd::{
    config::{endpoint::Method, incremental::Incremental, paginator::Paginator},
    fetch::Position,
};
use serde_json::json;

use super::{cursor, expect_all, offset, pages, path, plan, proven, source, stop, walk, yaml};
use crate::support::api::{Api, Fault, Paging};

#[tokio::test]
async fn every_paginator_reads_everything_once_and_is_proven() {
    let has_more = || stop(None, Some("has_more"));
    for (name, paging, paginator, requests) in [
        (
            "offset",
            Paging::Offset,
            offset(10, stop(Some("total"), None)),
            3,
        ),
        (
            "offset, has_more",
            Paging::Offset,
            offset(10, has_more()),
            3,
        ),
        (
            "offset, until empty",
            Paging::Offset,
            offset(10, stop(None, None)),
            4,
        ),
        (
            "offset, both",
            Paging::Offset,
            offset(10, stop(Some("total"), Some("has_more"))),
            3,
        ),
        (
            "page number",
            Paging::PageNumber(1),
            pages(1, Some("total")),
            3,
        ),
        (
            "page number from 0",
            Paging::PageNumber(0),
            pages(0, Some("total")),
            3,
        ),
        (
            "page number, until empty",
            Paging::PageNumber(1),
            pages(1, None),
            4,
        ),
        ("cursor", Paging::Cursor, cursor(), 3),
        ("json link", Paging::JsonLink, yaml("json_link"), 3),
        ("header link", Paging::HeaderLink, yaml("header_link"), 3),
        ("single", Paging::Single, Paginator::SinglePage, 1),
    ] {
        let api = Api::start().await;
        api.collection("employees")
            .fill(25)
            .page_size(10)
            .paging(paging)
            .with_has_more();
        let walked = walk(&source(&api.url()), plan(paginator)).await;
        assert_eq!(api.requests().len(), requests, "{name}");
        assert_eq!(walked.tally.requests, requests as u64, "{name}");
        expect_all(&walked, 25);
    }
}

#[tokio::test]
async fn totals_that_lie_are_told_from_complete_walks() {
    // The API caps its pages: the walk goes on by what it got.
    let api = Api::start().await;
    api.collection("employees").fill(95).cap(7);
    let capped = walk(
        &source(&api.url()),
        plan(offset(10, stop(Some("total"), None))),
    )
    .await;
    expect_all(&capped, 95);

    // Rows before the offset go away while we walk: the rest moves up and is missed.
    let api = Api::start().await;
    let people = api.collection("employees").fill(50);
    api.after_page(0, move || (1..=10).for_each(|id| people.remove(id)));
    let mut slow = source(&api.url());
    slow.client.max_in_flight = 1;
    let drifted = walk(&slow, plan(offset(10, stop(Some("total"), None)))).await;
    assert!(!proven(&drifted));
    let doubt = drifted.end.unwrap().doubt.unwrap().to_string();
    assert!(doubt.contains("from 50 to 40"), "{doubt}");

    // Page numbers whose total counts records, a common slip.
    let api = Api::start().await;
    let body = |ids: &[i64]| json!({"data": ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>(), "total": 4});
    for (page, ids) in [(0, &[1, 2][..]), (1, &[3, 4]), (2, &[]), (3, &[]), (4, &[])] {
        let answer = Fault::Answer(200, "application/json", body(ids).to_string().into());
        api.page(page).goes(answer).always();
    }
    api.collection("employees")
        .page_size(2)
        .paging(Paging::PageNumber(1));
    let slipped = walk(&source(&api.url()), plan(pages(1, Some("total")))).await;
    assert!(proven(&slipped));
    assert_eq!(slipped.ids, [1, 2, 3, 4]);

    // The API counts more than it gives.
    let api = Api::start().await;
    let empty = Fault::Answer(
        200,
        "application/json",
        Bytes::from_static(br#"{"data":[],"total":900}"#),
    );
    api.collection("employees").fill(30);
    for page in 3..30 {
        api.page(page).goes(empty.clone()).always();
    }
    let first = Fault::Answer(
        200,
        "application/json",
        Bytes::from_static(br#"{"data":[{"id":1}],"total":900}"#),
    );
    api.page(0).goes(first).always();
    let mut asked = plan(offset(10, stop(Some("total"), None)));
    asked.endpoint.paginator = offset(10, stop(Some("total"), None));
    let empties = walk(&source(&api.url()), asked).await;
    assert!(!proven(&empties));
}

#[tokio::test]
async fn a_walk_that_would_not_end_is_ended() {
    for (name, paging, paginator, most_requests) in [
        (
            "offset",
            Paging::Offset,
            offset(10, stop(Some("total"), None)),
            8,
        ),
        (
            "offset, until empty",
            Paging::Offset,
            offset(10, stop(None, None)),
            5,
        ),
        (
            "page number",
            Paging::PageNumber(1),
            pages(1, Some("total")),
            8,
        ),
        ("cursor", Paging::Cursor, cursor(), 5),
        ("json link", Paging::JsonLink, yaml("json_link"), 5),
    ] {
        let api = Api::start().await;
        api.collection("employees")
            .fill(100)
            .page_size(10)
            .paging(paging)
            .deaf();
        let walked = walk(&source(&api.url()), plan(paginator)).await;
        assert_eq!(
            walked.end.unwrap_err().fault().code,
            "pagination_loop",
            "{name}"
        );
        assert!(
            api.requests().len() <= most_requests,
            "{name}: {}",
            api.requests().len()
        );
    }

    // Tokens and links that go round, with a period of 2.
    for (paginator, field) in [(cursor(), "next_cursor"), (yaml("json_link"), "next")] {
        let api = Api::start().await;
        api.collection("employees")
            .fill(100)
            .page_size(10)
            .paging(Paging::Cursor);
        for (page, next) in [(0, 10), (1, 20), (2, 10)] {
            let next = if field == "next" {
                format!("?cursor=c{next}")
            } else {
                format!("c{next}")
            };
            let body = json!({"data": [{"id": page}], field: next});
            api.page(page)
                .goes(Fault::Answer(
                    200,
                    "application/json",
                    body.to_string().into(),
                ))
                .always();
        }
        let walked = walk(&source(&api.url()), plan(paginator)).await;
        assert_eq!(
            walked.end.unwrap_err().fault().code,
            "pagination_loop",
            "{field}"
        );
        assert!(
            api.requests().len() <= 4,
            "{field}: {}",
            api.requests().len()
        );
    }

    let api = Api::start().await;
    api.collection("employees").fill(100);
    let mut short = plan(offset(10, stop(Some("total"), None)));
    short.max_pages = 3;
    let walked = walk(&source(&api.url()), short).await;
    assert_eq!(walked.end.unwrap_err().fault().code, "max_pages");
    assert_eq!(walked.ids.len(), 30);
    assert_eq!(api.requests().len(), 3);
}

#[tokio::test]
async fn empty_and_short_pages_in_the_middle_are_not_the_end() {
    let api = Api::start().await;
    api.collection("employees").fill(50);
    let empty = Fault::Answer(
        200,
        "application/json",
        Bytes::from_static(br#"{"data":[],"total":50}"#),
    );
    api.page(2).goes(empty).always();
    let walked = walk(
        &source(&api.url()),
        plan(offset(10, stop(Some("total"), None))),
    )
    .await;
    assert_eq!(walked.ids.len(), 40);
    let ending = walked.end.unwrap();
    assert!(ending.proven.is_none());
    assert!(
        ending
            .doubt
            .unwrap()
            .to_string()
            .contains("40 records came, fewer than the 50")
    );

    let api = Api::start().await;
    api.collection("employees").fill(50);
    let short = br#"{"data":[{"id":21},{"id":22}],"total":50}"#;
    api.page(2)
        .goes(Fault::Answer(
            200,
            "application/json",
            Bytes::from_static(short),
        ))
        .once();
    let walked = walk(
        &source(&api.url()),
        plan(offset(10, stop(Some("total"), None))),
    )
    .await;
    expect_all(&walked, 50);

    let api = Api::start().await;
    api.collection("employees")
        .page_size(10)
        .paging(Paging::Cursor)
        .fill(400);
    let mut fewer = plan(cursor());
    for page in 1..=21 {
        let body = format!(r#"{{"data":[],"next_cursor":"c{}"}}"#, (page + 1) * 10);
        api.page(page)
            .goes(Fault::Answer(200, "application/json", body.into()))
            .always();
    }
    fewer.max_pages = 100;
    let walked = walk(&source(&api.url()), fewer).await;
    assert_eq!(walked.end.unwrap_err().fault().code, "empty_pages");
}

#[tokio::test]
async fn no_content_is_an_empty_end_and_a_lone_object_one_record() {
    let api = Api::start().await;
    api.collection("employees").fill(10);
    api.page(1)
        .goes(Fault::Answer(204, "text/plain", Bytes::new()))
        .always();
    let walked = walk(&source(&api.url()), plan(offset(10, stop(None, None)))).await;
    expect_all(&walked, 10);

    let api = Api::start().await;
    api.collection("employees");
    let object = Bytes::from_static(br#"{"data": {"id": 1, "name": "Jane"}}"#);
    api.page(0)
        .goes(Fault::Answer(200, "application/json", object))
        .always();
    let walked = walk(&source(&api.url()), plan(Paginator::SinglePage)).await;
    expect_all(&walked, 1);

    // A single page that names another is no whole.
    let api = Api::start().await;
    api.collection("employees")
        .fill(25)
        .page_size(10)
        .paging(Paging::HeaderLink);
    let walked = walk(&source(&api.url()), plan(Paginator::SinglePage)).await;
    assert!(walked.end.unwrap().doubt.is_some());
}

#[tokio::test]
async fn resumes_from_any_page() {
    for (paging, paginator) in [
        (Paging::Offset, offset(10, stop(Some("total"), None))),
        (Paging::PageNumber(1), pages(1, Some("total"))),
        (Paging::Cursor, cursor()),
        (Paging::JsonLink, yaml("json_link")),
        (Paging::HeaderLink, yaml("header_link")),
    ] {
        let api = Api::start().await;
        api.collection("employees")
            .fill(45)
            .page_size(10)
            .paging(paging);
        let whole = walk(&source(&api.url()), plan(paginator.clone())).await;
        expect_all(&whole, 45);
        for page in &whole.pages[..4] {
            // As it comes back from the checkpoint.
            let stored = serde_json::to_string(&page.next).unwrap();
            let mut rest = plan(paginator.clone());
            rest.resume = serde_json::from_str(&stored).unwrap();
            rest.first_page = page.number + 1;
            let resumed = walk(&source(&api.url()), rest).await;
            assert!(proven(&resumed), "{:?}", resumed.end);
            assert_eq!(resumed.ids, whole.ids[(page.number as usize + 1) * 10..]);
            assert_eq!(resumed.pages[0].number, page.number + 1);
        }
        let mut wrong = plan(paginator);
        wrong.resume = Some(if paging == Paging::Cursor {
            Position::Offset(1)
        } else {
            Position::Cursor("x".into())
        });
        let error = walk(&source(&api.url()), wrong).await.end.unwrap_err();
        assert_eq!(error.fault().code, "bad_position");
    }
}

#[tokio::test]
async fn asks_only_for_what_changed_by_get_and_by_post() {
    let api = Api::start().await;
    let people = api.collection("employees").fill(30);
    let since = people.records()[24]["updated_at"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut changed = plan(offset(10, stop(Some("total"), None)));
    changed.endpoint.incremental = Some(Incremental {
        start_param: Some("updated_since".into()),
        ..Incremental::by(path("updated_at"))
    });
    changed.start_value = Some(since);
    changed.endpoint.method = Method::Post;
    changed.endpoint.paginator =
        yaml("{type: offset, limit: 10, offset_body_path: offset, limit_body_path: limit}");
    let walked = walk(&source(&api.url()), changed).await;
    assert_eq!(walked.ids, (25..=30).collect::<Vec<_>>());
    assert!(proven(&walked));
    let page = &walked.pages[0];
    let date = page.server_date.unwrap();
    assert!((page.received_at - date).num_seconds().abs() < 60);
}
