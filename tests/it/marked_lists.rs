//! Lists with tables of their own, of rows that are only marked as deleted and of rows that return.

use std::sync::{Arc, Mutex};

use rosterd::{
    record::Status,
    sync::{Outcome, Start},
};
use serde_json::{Value, json};

use crate::support::{site::Site, sync::Bench};

const SNAPSHOT: &str = "snapshot";
const FLAG: &str = "{mode: flag, field: left}";
const FEED: &str = "{mode: feed, key: who, endpoint: {path: gone, incremental: {cursor_path: at}}}";

/// What the API knows: its people, and those that its feed lists as gone.
#[derive(Default)]
struct State {
    people: Vec<Value>,
    gone: Vec<Value>,
}

struct Company {
    site: Site,
    state: Arc<Mutex<State>>,
    bench: Bench,
}

impl Company {
    async fn new() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let told = Arc::clone(&state);
        let site = Site::start(move |asked| {
            let state = told.lock().unwrap();
            match asked.path.as_str() {
                "/gone" => json!(state.gone).into(),
                _ => json!(state.people).into(),
            }
        })
        .await;
        let company = Self {
            site,
            state,
            bench: Bench::new().await,
        };
        for id in 1..=3 {
            company.put(person(id, &["cook", "baker"]));
        }
        company
    }

    /// Sets a person; a later run reads it.
    fn put(&self, person: Value) {
        let mut state = self.state.lock().unwrap();
        state.people.retain(|known| known["id"] != person["id"]);
        state.people.push(person);
    }

    /// Takes a person away in the way that the mode tells of it.
    fn remove(&self, id: i64, deletes: &str) {
        if deletes == FLAG {
            let mut person = person(id, &["cook", "baker"]);
            person["left"] = json!(true);
            self.put(person);
            return;
        }
        let mut state = self.state.lock().unwrap();
        state.people.retain(|known| known["id"] != id);
        state
            .gone
            .push(json!({"who": id, "at": "2024-03-01T00:00:00Z"}));
    }

    async fn sync(&self, deletes: &str, more: &str) -> Outcome {
        let config = format!(
            "
sources:
  hr:
    client: {{base_url: '{}', paginator: single_page}}
    resources:
      - name: people
        primary_key: id
        max_table_nesting: 2
        deletes: {deletes}
{}",
            self.site.url(),
            match more {
                "" => "        write_disposition: merge\n",
                more => more,
            }
        );
        let outcome = self.bench.sync(&config, Start::GoOn).await;
        assert_eq!(outcome.status, Status::Succeeded, "{deletes}: {outcome:?}");
        outcome
    }

    /// `person title level`, of jobs and their skills, and how they are marked.
    async fn lists(&self) -> Vec<String> {
        self.bench
            .column(
                "select concat_ws(' ', p.id, j.title, s.value, case
                     when p._deleted_at is null and j._deleted_at is null and s._deleted_at is null then 'there'
                     when p._deleted_at = j._deleted_at and p._deleted_at = s._deleted_at
                       and p._run_id = j._run_id and p._run_id = s._run_id then 'gone'
                     else 'at odds' end)
                 from hr.people p
                 join hr.people__jobs j on j._rosterd_root_id = p._rosterd_id
                 join hr.people__jobs__skills s on s._rosterd_parent_id = j._rosterd_id
                   and s._rosterd_root_id = p._rosterd_id
                 order by p.id, j._rosterd_list_idx, s._rosterd_list_idx",
            )
            .await
    }

    /// Every row version of the three tables.
    async fn versions(&self) -> Vec<String> {
        self.bench
            .column(
                "select ctid::text || xmin::text from hr.people
                 union all select ctid::text || xmin::text from hr.people__jobs
                 union all select ctid::text || xmin::text from hr.people__jobs__skills
                 order by 1",
            )
            .await
    }
}

fn person(id: i64, titles: &[&str]) -> Value {
    let jobs: Vec<Value> = titles
        .iter()
        .map(|title| json!({"title": title, "skills": ["fire"]}))
        .collect();
    json!({"id": id, "left": null, "v": 5, "jobs": jobs})
}

const ALL: [&str; 6] = [
    "1 cook fire there",
    "1 baker fire there",
    "2 cook fire there",
    "2 baker fire there",
    "3 cook fire there",
    "3 baker fire there",
];

/// The lists as they are when person 2 is marked.
const WITHOUT_2: [&str; 6] = [
    "1 cook fire there",
    "1 baker fire there",
    "2 cook fire gone",
    "2 baker fire gone",
    "3 cook fire there",
    "3 baker fire there",
];

#[tokio::test]
async fn lists_are_marked_and_come_back_with_their_rows() {
    for deletes in [SNAPSHOT, FLAG, FEED] {
        let company = Company::new().await;
        company.sync(deletes, "").await;
        assert_eq!(company.lists().await, ALL, "{deletes}");
        company.remove(2, deletes);
        let outcome = company.sync(deletes, "").await;
        assert_eq!(outcome.counters.rows_deleted, 1, "{deletes}");
        assert_eq!(company.lists().await, WITHOUT_2, "{deletes}");

        let before = company.versions().await;
        company.sync(deletes, "").await;
        assert_eq!(company.versions().await, before, "{deletes}");

        // The person returns, with one job as it was and one that is new.
        company.put(person(2, &["cook", "smith"]));
        company.sync(deletes, "").await;
        let mut returned = ALL;
        returned[3] = "2 smith fire there";
        assert_eq!(company.lists().await, returned, "{deletes}");
        let before = company.versions().await;
        let outcome = company.sync(deletes, "").await;
        assert_eq!(outcome.counters.rows_changed(), 0, "{deletes}");
        assert_eq!(company.versions().await, before, "{deletes}");

        // And exactly as it was.
        company.remove(2, deletes);
        if deletes == FEED {
            company.state.lock().unwrap().gone[1]["at"] = json!("2024-03-02T00:00:00Z");
        }
        company.sync(deletes, "").await;
        let mut gone = WITHOUT_2;
        gone[3] = "2 smith fire gone";
        // Also where the record is there and says so: it is no row, and its lists stay as they last were.
        assert_eq!(company.lists().await, gone, "{deletes}");
        company.put(person(2, &["cook", "smith"]));
        company.sync(deletes, "").await;
        assert_eq!(company.lists().await, returned, "{deletes}");
    }
}

#[tokio::test]
async fn a_row_that_returns_in_an_older_version_has_the_lists_of_that() {
    let more = "        write_disposition: merge\n        columns: {v: {dedup_sort: desc}}\n";
    let company = Company::new().await;
    company.sync(SNAPSHOT, more).await;
    company.remove(2, SNAPSHOT);
    company.sync(SNAPSHOT, more).await;
    assert_eq!(company.lists().await, WITHOUT_2);
    let mut older = person(2, &["cook", "smith"]);
    older["v"] = json!(4);
    company.put(older);
    company.sync(SNAPSHOT, more).await;
    let mut returned = ALL;
    returned[3] = "2 smith fire there";
    assert_eq!(company.lists().await, returned);
    let before = company.versions().await;
    company.sync(SNAPSHOT, more).await;
    assert_eq!(company.versions().await, before);
}

#[tokio::test]
async fn tables_of_lists_that_cannot_be_marked_yet_learn_it() {
    for deletes in [SNAPSHOT, FLAG, FEED] {
        let company = Company::new().await;
        company.sync("none", "").await;
        company.remove(2, deletes);
        if deletes == FEED {
            // A feed that is new to a table waits for a full read.
            company.state.lock().unwrap().gone.clear();
            company.sync(deletes, "").await;
            company.remove(2, deletes);
        }
        company.sync(deletes, "").await;
        assert_eq!(company.lists().await, WITHOUT_2, "{deletes}");

        // Rows that were marked when lists were not.
        for table in ["people__jobs", "people__jobs__skills"] {
            company
                .bench
                .execute(&format!("alter table hr.{table} drop column _deleted_at"))
                .await;
        }
        company.remove(3, deletes);
        if deletes == FEED {
            company.state.lock().unwrap().gone[1]["at"] = json!("2024-03-02T00:00:00Z");
        }
        company.sync(deletes, "").await;
        let there: Vec<i64> = company
            .bench
            .column("select p.id from hr.people p join hr.people__jobs j on j._rosterd_root_id = p._rosterd_id where j._deleted_at is null order by 1")
            .await;
        assert_eq!(there, [1, 1], "{deletes}");
    }
}
