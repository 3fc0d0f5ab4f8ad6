//! A cursor for each parent, and parents that are read only when they changed.

use std::sync::{Arc, Mutex};

use rosterd::{record::Status, sync::Start};
use serde_json::{Value, json};

use super::{EMPLOYEES, company, config, page};
use crate::support::{
    site::{Reply, Site},
    sync::Bench,
};

const CHILD: &str = "
      - name: entries
        endpoint:
          path: employees/{resources.employees.id}/entries
          incremental: {cursor_path: at, start_param: since, initial_value: '2000-01-01T00:00:00Z'}
";

/// Entries of each employee: id and day of January 2024.
type Entries = Arc<Mutex<Vec<(usize, i64, u32)>>>;

async fn site(entries: &Entries, failing: &Arc<Mutex<Option<usize>>>) -> Arc<Site> {
    let (entries, failing) = (Arc::clone(entries), Arc::clone(failing));
    company(3, move |asked| {
        let person: usize = asked.segments()[1].parse().unwrap();
        if *failing.lock().unwrap() == Some(person) {
            return Reply::status(500);
        }
        let since = asked.param("since").unwrap();
        let of_person = entries.lock().unwrap().clone().into_iter();
        let records: Vec<Value> = of_person
            .filter(|(owner, ..)| *owner == person)
            .map(|(_, id, day)| json!({"id": id, "at": format!("2024-01-{day:02}T00:00:00Z")}))
            .filter(|record| record["at"].as_str().unwrap() >= since)
            .collect();
        page(asked, &records)
    })
    .await
}

fn since(site: &Site) -> Vec<String> {
    let asked = site.take().into_iter().filter(|a| a.contains("/entries"));
    asked
        .map(|a| {
            let person = a.split('/').nth(2).unwrap().to_owned();
            let since = a
                .split("since=")
                .nth(1)
                .unwrap()
                .split(['&', 'T'])
                .next()
                .unwrap();
            format!("{person} {since}")
        })
        .collect()
}

#[tokio::test]
async fn each_parent_has_a_cursor_of_its_own_that_moves_only_with_its_walk() {
    let entries: Entries = Arc::new(Mutex::new(vec![(1, 10, 5), (2, 20, 9), (2, 21, 7)]));
    let failing = Arc::default();
    let site = site(&entries, &failing).await;
    let config = config(&site, &format!("{EMPLOYEES}{CHILD}"));
    let bench = Bench::new().await;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let mut first = since(&site);
    first.sort();
    assert_eq!(first, ["1 2000-01-01", "2 2000-01-01", "3 2000-01-01"]);

    // One that fails keeps its cursor; the others' move on.
    entries
        .lock()
        .unwrap()
        .extend([(1, 11, 20), (2, 22, 20), (3, 30, 3)]);
    *failing.lock().unwrap() = Some(2);
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Partial, "{outcome:?}");
    let mut second = since(&site);
    second.sort();
    assert_eq!(second, ["1 2024-01-05", "2 2024-01-09", "3 2000-01-01"]);

    *failing.lock().unwrap() = None;
    let outcome = bench.sync(&config, Start::GoOn).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    let mut third = since(&site);
    third.sort();
    assert_eq!(third, ["1 2024-01-20", "2 2024-01-09", "3 2024-01-03"]);
    let rows: Vec<i64> = bench.column("select id from hr.entries order by id").await;
    assert_eq!(rows, [10, 11, 20, 21, 22, 30]);

    // A full run begins each at its beginning, and a cursor holds no id.
    let outcome = bench.sync(&config, Start::Anew).await;
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert!(
        since(&site)
            .iter()
            .all(|asked| asked.ends_with("2000-01-01"))
    );
    let partitions: Vec<String> = bench
        .column("select partition from rosterd.cursors where partition <> ''")
        .await;
    assert_eq!(partitions.len(), 3);
    assert!(partitions.iter().all(|p| p.len() == 32), "{partitions:?}");
}

#[tokio::test]
async fn of_an_incremental_parent_only_those_are_read_that_changed_unless_all_are_wanted() {
    for (read, second) in [("changed", vec!["2"]), ("all", vec!["1", "2", "3"])] {
        let changed = Arc::new(Mutex::new([1, 1, 1]));
        let days = Arc::clone(&changed);
        let site = Site::start(move |asked| match asked.path.as_str() {
            "/people" => {
                let since = asked.param("since").unwrap_or("2000-01-01T00:00:00Z");
                let days = *days.lock().unwrap();
                let people: Vec<Value> = (1..=3)
                    .zip(days)
                    .map(|(id, day)| json!({"id": id, "at": format!("2024-01-{day:02}T00:00:00Z")}))
                    .filter(|person| person["at"].as_str().unwrap() > since)
                    .collect();
                page(asked, &people)
            }
            _ => {
                let days = *days.lock().unwrap();
                json!({"data": [{"id": asked.path, "note": format!("of {days:?}")}], "total": 1})
                    .into()
            }
        })
        .await;
        let config = config(
            &site,
            &format!(
                "
      - {{name: people, selected: false, endpoint: {{incremental: {{cursor_path: at, start_param: since}}}}}}
      - {{name: notes, parent: {{read: {read}}}, endpoint: 'people/{{resources.people.id}}/notes'}}
"
            ),
        );
        let bench = Bench::new().await;
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        assert_eq!(outcome.counters.records_read, 3);
        site.take();
        changed.lock().unwrap()[1] = 8;
        let outcome = bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
        let asked = site.take();
        let mut people: Vec<&str> = asked
            .iter()
            .filter(|a| a.contains("/notes"))
            .map(|a| a.split('/').nth(2).unwrap())
            .collect();
        people.sort_unstable();
        assert_eq!(people, second, "{read}");
        let notes: Vec<String> = bench
            .column("select id || ' ' || note from hr.notes order by id")
            .await;
        let expected = ["1", "2", "3"].map(|id| {
            let day = if second.contains(&id) { 8 } else { 1 };
            format!("/people/{id}/notes of [1, {day}, 1]")
        });
        assert_eq!(notes, expected, "{read}");
    }
}
