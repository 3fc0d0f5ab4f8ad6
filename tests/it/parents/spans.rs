//! Windows, first walks and other watermarks for each parent.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use rosterd::{clock, record::Status, sync::Start};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{EMPLOYEES, company, config, employees, page};
use crate::support::{
    site::{Asked, Reply, Site},
    sync::Bench,
};

/// Absences of three people in 2024: the day of the year is part of the id.
const ABSENCES: [(i64, &str); 8] = [
    (10, "2024-01-05"),
    (11, "2024-02-25"),
    (12, "2024-02-26"),
    (13, "2024-04-10"),
    (20, "2024-01-31"),
    (21, "2024-03-31"),
    (22, "2024-04-01"),
    (30, "2024-05-01"),
];

/// What lies between `from` and `to` of the person in the path; the day of `to` is without.
fn absences(asked: &Asked) -> Reply {
    let person: i64 = asked.segments()[1].parse().unwrap();
    let (from, to) = (asked.param("from").unwrap(), asked.param("to").unwrap());
    let found: Vec<Value> = ABSENCES
        .iter()
        .filter(|(id, day)| id / 10 == person && *day >= from && *day < to)
        .map(|(id, day)| json!({"id": id, "at": day}))
        .collect();
    page(asked, &found)
}

/// Windows of sixty days from January to the end of June.
fn child(more: &str) -> String {
    format!(
        "{EMPLOYEES}
      - name: absences
        batch: {{rows: 1}}
        parent: {{concurrency: 1}}
        {more}
        endpoint:
          path: employees/{{resources.employees.id}}/absences
          incremental: {{cursor_path: at, start_param: from, end_param: to, initial_value: '2024-01-01', window: 60d}}
"
    )
}

/// Requests for children: the person and the window's ends.
fn windows(site: &Site) -> Vec<String> {
    let asked = site.take().into_iter().filter(|a| a.contains("/absences"));
    asked
        .filter(|asked| asked.contains("offset=0"))
        .map(|asked| {
            let value = |name: &str| {
                let (_, rest) = asked.split_once(&format!("{name}=")).unwrap();
                rest.split('&').next().unwrap().to_owned()
            };
            let person = asked.split('/').nth(2).unwrap();
            format!("{person} {} {}", value("from"), value("to"))
        })
        .collect()
}

#[tokio::test]
async fn a_span_is_walked_in_windows_for_each_parent_and_its_cursor_moves_when_all_are_proven() {
    let refused: Arc<Mutex<Option<String>>> = Arc::default();
    let refusing = Arc::clone(&refused);
    let site = company(3, move |asked| {
        let is_refused = |window: &String| {
            format!("{} {}", asked.segments()[1], asked.param("from").unwrap()) == *window
        };
        match refusing.lock().unwrap().as_ref().is_some_and(is_refused) {
            true => Reply::status(500),
            false => absences(asked),
        }
    })
    .await;
    let config = config(&site, &child(""));
    let bench = Bench::new().await;

    // The second window of the second person fails: the others are read to their ends.
    *refused.lock().unwrap() = Some("2 2024-03-01".to_owned());
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Partial, "{outcome:?}");
    let first = windows(&site);
    let of = |person: &str, all: &[String]| -> Vec<String> {
        let all = all.iter().filter(|w| w.starts_with(person));
        all.map(|w| w[2..].to_owned()).collect()
    };
    assert_eq!(
        of("1", &first)[..2],
        ["2024-01-01 2024-03-01", "2024-03-01 2024-04-30"]
    );
    assert_eq!(
        of("2", &first),
        ["2024-01-01 2024-03-01", "2024-03-01 2024-04-30"]
    );
    assert_eq!(of("1", &first), of("3", &first));
    // Window after window, none left out, to now.
    let ends: Vec<String> = of("1", &first);
    for pair in ends.windows(2) {
        assert_eq!(pair[0].split(' ').nth(1), pair[1].split(' ').next());
    }
    let rows: Vec<i64> = bench.column("select id from hr.absences order by id").await;
    assert_eq!(rows, [10, 11, 12, 13, 20, 30]);

    // It begins at its beginning again, the others where their last window began.
    *refused.lock().unwrap() = None;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let second = windows(&site);
    assert_eq!(of("2", &second)[0], "2024-01-01 2024-03-01");
    let last = ends.last().unwrap().split(' ').next().unwrap();
    assert!(of("1", &second)[0].as_str() >= last, "{second:?} {last}");
    assert!(of("1", &second).len() <= 2, "{second:?}");
    let rows: Vec<i64> = bench.column("select id from hr.absences order by id").await;
    assert_eq!(rows, [10, 11, 12, 13, 20, 21, 22, 30]);
}

#[tokio::test]
async fn a_run_that_is_cut_in_any_window_goes_on_there_and_doubles_nothing() {
    let span =
        |config: String| config.replace("window: 60d", "window: 60d, end_value: '2024-06-01'");
    // Three people, three windows; some of two pages.
    for disposition in ["merge", "append"] {
        for stop_at in 1..=9 {
            let (count, token) = (AtomicUsize::new(0), CancellationToken::new());
            let stop = token.clone();
            let site = company(3, move |asked| {
                if count.fetch_add(1, SeqCst) + 1 == stop_at {
                    stop.cancel();
                }
                absences(asked)
            })
            .await;
            let config = span(config(
                &site,
                &child(&format!("write_disposition: {disposition}")),
            ));
            let bench = Bench::new().await;
            let outcome = bench.sync_until(&config, Start::GoOn, token).await;
            assert_eq!(outcome.status, Status::Interrupted, "{stop_at} {outcome:?}");
            let first = site.take().len();
            let outcome = bench.sync(&config, Start::GoOn).await;
            assert_eq!(outcome.status, Status::Succeeded, "{stop_at} {outcome:?}");
            let rows: Vec<i64> = bench.column("select id from hr.absences order by id").await;
            assert_eq!(
                rows,
                [10, 11, 12, 13, 20, 21, 22, 30],
                "{disposition}, cut at {stop_at}"
            );
            let second = site.take().len();
            assert!(
                first + second <= 19,
                "{disposition}, {stop_at}: {first} {second}"
            );
        }
    }
}

#[tokio::test]
async fn a_parents_cursor_may_be_the_time_of_its_walk_or_what_the_api_hands_out() {
    let site = company(2, |asked| {
        let person = asked.segments()[1].to_owned();
        json!({"data": [{"id": person}], "total": 1, "token": format!("t{person}")}).into()
    })
    .await;
    for (incremental, paginator) in [
        ("{watermark: run_start, start_param: from}", ""),
        (
            "{watermark: token, start_param: from}",
            ", sync_token_path: token",
        ),
    ] {
        let config = config(
            &site,
            &format!(
                "{EMPLOYEES}
      - name: absences
        endpoint:
          path: employees/{{resources.employees.id}}/absences
          paginator: {{type: offset, limit: 2{paginator}}}
          incremental: {incremental}
"
            ),
        );
        let bench = Bench::new().await;
        for run in 0..2 {
            let outcome = bench.sync(&config, Start::GoOn).await;
            assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
            let asked = site.take().into_iter().filter(|a| a.contains("/absences"));
            let mut from: Vec<String> = asked
                .map(|asked| {
                    let from = asked.split_once("from=").map(|(_, from)| from.to_owned());
                    let person = asked.split('/').nth(2).unwrap().to_owned();
                    let from = from.map(|from| from.split('&').next().unwrap().to_owned());
                    format!("{person} {}", from.as_deref().unwrap_or("-"))
                })
                .collect();
            from.sort();
            match (run, paginator.is_empty()) {
                (0, _) => assert_eq!(from, ["1 -", "2 -"]),
                (_, true) => assert!(
                    from[0].starts_with("1 20") && from[1].starts_with("2 20"),
                    "{from:?}"
                ),
                (_, false) => assert_eq!(from, ["1 t1", "2 t2"]),
            }
        }
    }
}

#[tokio::test]
async fn a_parents_token_that_does_not_come_leaves_its_cursor_and_is_told() {
    let silent = Arc::new(AtomicUsize::new(2));
    let mute = Arc::clone(&silent);
    let site = company(2, move |asked| {
        let person: usize = asked.segments()[1].parse().unwrap();
        let token = (mute.load(SeqCst) != person).then(|| format!("t{person}"));
        json!({"data": [{"id": person}], "total": 1, "token": token}).into()
    })
    .await;
    let config = config(
        &site,
        &format!(
            "{EMPLOYEES}
      - name: absences
        endpoint:
          path: employees/{{resources.employees.id}}/absences
          paginator: {{type: offset, limit: 2, sync_token_path: token}}
          incremental: {{watermark: token, start_param: from}}
"
        ),
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Partial, "{outcome:?}");
    assert_eq!(outcome.fault.unwrap().code, "no_end_token");
    let cursors: Vec<String> = bench
        .column("select cursor #>> '{}' from rosterd.cursors where partition <> ''")
        .await;
    assert_eq!(cursors, ["t1"]);
    silent.store(0, SeqCst);
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
}

#[tokio::test]
async fn the_first_walk_for_a_parent_may_go_to_another_endpoint() {
    let site = company(2, |asked| {
        let person: i64 = asked.segments()[1].parse().unwrap();
        page(
            asked,
            &[json!({"id": person, "at": "2024-01-01T00:00:00Z"})],
        )
    })
    .await;
    let config = config(
        &site,
        &format!(
            "{EMPLOYEES}
      - name: absences
        endpoint:
          path: employees/{{resources.employees.id}}/changes
          incremental: {{cursor_path: at, start_param: from, first: {{path: 'employees/{{resources.employees.id}}/all'}}}}
"
        ),
    );
    let bench = Bench::new().await;
    for expected in ["all", "changes"] {
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        let mut asked: Vec<String> = (site.take().iter())
            .filter_map(|asked| asked.strip_prefix("/employees/"))
            .map(|asked| asked.split('?').next().unwrap().to_owned())
            .collect();
        asked.sort();
        assert_eq!(asked, [format!("1/{expected}"), format!("2/{expected}")]);
    }
}

#[tokio::test]
async fn a_parent_without_a_cursor_is_asked_elsewhere_and_the_others_since_their_walks_began() {
    let (count, refused) = (Arc::new(AtomicUsize::new(2)), Arc::new(AtomicUsize::new(2)));
    let (known, refusing) = (Arc::clone(&count), Arc::clone(&refused));
    let site = Site::start(move |asked| match asked.path.as_str() {
        "/employees" => page(asked, &employees(known.load(SeqCst))),
        _ => {
            let person: usize = asked.segments()[1].parse().unwrap();
            match person == refusing.load(SeqCst) {
                true => Reply::status(500),
                false => page(asked, &[json!({"id": person})]),
            }
        }
    })
    .await;
    let config = config(
        &site,
        &format!(
            "{EMPLOYEES}
      - name: absences
        endpoint:
          path: employees/{{resources.employees.id}}/changes
          incremental: {{watermark: run_start, start_param: from, first: {{path: 'employees/{{resources.employees.id}}/all'}}}}
"
        ),
    );
    let bench = Bench::new().await;
    let began = clock::now() - chrono::TimeDelta::seconds(1);
    for (people, refuses, status, expected) in [
        (2, 2, Status::Partial, vec!["1/all", "2/all"]),
        // The second has no cursor yet, the third is new.
        (3, 0, Status::Succeeded, vec!["1/changes", "2/all", "3/all"]),
        (
            3,
            0,
            Status::Succeeded,
            vec!["1/changes", "2/changes", "3/changes"],
        ),
    ] {
        count.store(people, SeqCst);
        refused.store(refuses, SeqCst);
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, status, "{outcome:?}");
        let mut asked: Vec<String> = Vec::new();
        for request in site.take() {
            let Some(request) = request.strip_prefix("/employees/") else {
                continue;
            };
            let (path, query) = request.split_once('?').unwrap();
            let from = query.split('&').find_map(|pair| pair.strip_prefix("from="));
            let from: Option<chrono::DateTime<chrono::Utc>> = from.map(|at| at.parse().unwrap());
            assert_eq!(from.is_some(), path.ends_with("changes"), "{request}");
            assert!(from.is_none_or(|at| at >= began && at <= clock::now()));
            asked.push(path.to_owned());
        }
        asked.sort();
        assert_eq!(asked, expected);
    }
}

#[tokio::test]
async fn what_a_parents_cursor_has_passed_is_not_appended_again() {
    // An API that does not keep back what is old.
    let site = company(1, |asked| {
        let days = [("a", "2024-01-01T00:00:00Z"), ("b", "2024-01-02T00:00:00Z")];
        page(asked, &days.map(|(id, at)| json!({"id": id, "at": at})))
    })
    .await;
    let config = config(
        &site,
        &format!(
            "{EMPLOYEES}
      - name: absences
        write_disposition: append
        endpoint:
          path: employees/{{resources.employees.id}}/absences
          incremental: {{cursor_path: at, start_param: from, range_start: open}}
"
        ),
    );
    let bench = Bench::new().await;
    for left_out in [0, 2] {
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert_eq!(outcome.counters.records_left_out, left_out);
    }
    let rows: Vec<String> = bench.column("select id from hr.absences order by id").await;
    assert_eq!(rows, ["a", "b"]);
}

#[tokio::test]
async fn a_parents_cursor_stays_where_its_records_moved_while_they_were_walked() {
    // Four entries on two pages, by the day; the first one changes once, before the second page is asked for.
    let (days, moves) = (
        Arc::new(Mutex::new([1, 2, 3, 4])),
        Arc::new(AtomicUsize::new(1)),
    );
    let moving = Arc::clone(&moves);
    let site = company(2, move |asked| {
        let person: i64 = asked.segments()[1].parse().unwrap();
        let is_second = person == 2 && asked.param("offset") == Some("2");
        let mut days = days.lock().unwrap();
        if is_second && moving.swap(0, SeqCst) == 1 {
            days[0] = 9;
        }
        let days = if person == 2 { *days } else { [1, 2, 3, 4] };
        let mut entries: Vec<(i64, i64)> = days.into_iter().zip(person * 10..).collect();
        entries.sort_unstable();
        let entries: Vec<Value> = entries
            .iter()
            .map(|(day, id)| json!({"id": id, "at": format!("2024-01-{day:02}T00:00:00Z")}))
            .filter(|entry| entry["at"].as_str().unwrap() >= asked.param("from").unwrap_or(""))
            .collect();
        page(asked, &entries)
    })
    .await;
    let config = config(
        &site,
        &format!(
            "{EMPLOYEES}
      - name: absences
        endpoint:
          path: employees/{{resources.employees.id}}/absences
          incremental: {{cursor_path: at, start_param: from, row_order: asc}}
"
        ),
    );
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Partial, "{outcome:?}");
    assert_eq!(outcome.fault.unwrap().code, "pagination_drift");
    assert_eq!(moves.load(SeqCst), 0);
    let cursors: Vec<String> = bench
        .column("select cursor #>> '{}' from rosterd.cursors where partition <> ''")
        .await;
    assert_eq!(
        cursors,
        ["2024-01-04T00:00:00Z"],
        "that of the first person"
    );
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let rows: Vec<i64> = bench.column("select id from hr.absences order by id").await;
    assert_eq!(rows, [10, 11, 12, 13, 20, 21, 22, 23]);
}
