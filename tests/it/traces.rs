//! What the privacy rules keep out leaves no trace: not in a full dump of the database, not in what
//! the program says, whatever goes wrong; and what the rules do is told of every column.

use serde_json::{Value, json};

use crate::{
    privacy::{KEY, WITHHELD, config, end_leases, person, resource, succeed, text},
    support::{
        api::{Api, Fault},
        daemon::Setup,
        db::TestDb,
        documents::Documents,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_everything_holds_nothing_that_is_kept_out() {
    for nesting in [
        "selected: true",
        "max_table_nesting: 0",
        "max_table_nesting: 2",
    ] {
        let (api, db) = (Api::start().await, TestDb::new().await);
        let people = api.collection("people");
        for id in 1..=7 {
            people.put(person(id));
        }
        let rules = format!(
            "{nesting}, rejects: {{store: record}}, schema_contract: {{data_type: discard_row}}, primary_key: badge, \
             privacy: {{exclude: ['**.ssn', salary, home.**, '**.iban'], hash: '**.pin', keep: {{born: year}}, new_columns: block}}"
        );
        let config = config(
            &db,
            &api,
            &format!("{{key: {KEY}}}"),
            &resource("people", &rules),
        );
        let mut said = String::new();
        let mut attempt = |failpoint: &str| {
            let mut setup =
                Setup::command(config.clone(), &["sync"]).with_env("ROSTERD_LOG", "trace");
            if !failpoint.is_empty() {
                setup = setup.with_env("ROSTERD_FAILPOINT", failpoint);
            }
            let mut run = setup.start();
            let success = run.wait().success();
            said += &(run.stdout() + &run.stderr());
            success
        };

        let broken = json!({"data": [person(3)]}).to_string();
        let broken = broken.as_bytes()[..broken.len() - 9].to_vec();
        api.page(1)
            .goes(Fault::Answer(200, "application/json", broken.into()))
            .once();
        assert!(!attempt(""), "an answer that breaks off");
        let told = json!({"error": "cannot read", "record": person(5)}).to_string();
        api.page(2)
            .goes(Fault::Answer(500, "application/json", told.into()))
            .once();
        assert!(!attempt(""), "an error with a person in it");
        // Records that are none, and one that is cut.
        let odd = r#"{"total": 7, "data": ["219-09-9999", {"badge": "X", "ssn": "219-09-9999", "n": [1}, 2]}"#;
        api.page(3)
            .goes(Fault::Answer(200, "application/json", odd.into()))
            .once();
        attempt("");
        if cfg!(feature = "failpoints") {
            for place in ["load.after_copy", "load.after_merge", "load.before_commit"] {
                assert!(!attempt(place), "killed at {place}");
                end_leases(&db).await;
            }
        }
        // The person without a badge becomes a reject, and its record is kept.
        attempt("");
        // A name that is a number, a field that nobody knew, and an element with one.
        let mut odd = person(2);
        odd["name"] = json!({"first": "Person 2", "ssn": "219-09-9999"});
        odd["secret"] = json!("219-09-9999");
        odd["accounts"][0]["pin"] = json!("219-09-9999");
        people.put(odd);
        attempt("");
        let preview = succeed(&config, &["preview", "hr/people"]);
        assert!(preview.contains("Person 1"), "{preview}");
        said += &preview;

        let dump = db.dump().await;
        assert!(dump.contains("Person 1"), "the dump sees rows");
        assert!(dump.contains("null_key"), "and rejects");
        assert!(
            dump.contains("contract_data_type") || !nesting.ends_with('0'),
            "of both kinds"
        );
        assert!(said.contains("run ended"));
        for value in WITHHELD {
            assert!(!dump.contains(value), "{nesting}: {value} is in the dump");
            assert!(!said.contains(value), "{nesting}: {value} is in the output");
        }
        let kept = text(
            &db,
            "select record::text from rosterd.rejects where reason = 'null_key'",
        )
        .await;
        let kept = kept[0].as_deref().unwrap();
        assert!(kept.contains("Person 4") && !kept.contains("ssn"), "{kept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_says_of_columns_of_lists_what_is_done_to_them_and_follows_the_rules() {
    let keys = "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 1\n";
    let page = r#"[{"id": 1, "jobs": [{"title": "cook", "boss": {"mail": "a@example.org"}, "since": "2020-02-03"}], "tags": ["x"]}]"#;
    let mut docs = Documents::new(keys).await;
    docs.load(page).await;
    let treatments = "select column_name as c, treatment as t from rosterd.columns where table_name like 'docs\\_\\_%' and column_name not like '\\_%' order by table_name, 1";
    assert_eq!(
        docs.json(treatments).await,
        json!([{"c": "boss__mail", "t": "as is"}, {"c": "since", "t": "as is"}, {"c": "title", "t": "as is"}, {"c": "value", "t": "as is"}])
    );
    docs.configure(&format!(
        "{keys}privacy:\n  exclude: '**.mail'\n  keep: {{'jobs[].since': year}}\n"
    ));
    docs.load(page).await;
    assert_eq!(
        docs.json(treatments).await,
        json!([{"c": "boss__mail", "t": "excluded"}, {"c": "since", "t": "year only"}, {"c": "title", "t": "as is"}, {"c": "value", "t": "as is"}])
    );
    assert_eq!(
        docs.json("select title, boss__mail, since::text from hr.docs__jobs")
            .await,
        json!([{"title": "cook", "boss__mail": null, "since": "2020"}])
    );
    let comments = docs
        .json("select col_description(attrelid, attnum) as c from pg_attribute where attrelid = 'hr.docs__jobs'::regclass and attname in ('title', 'boss__mail') order by attname")
        .await;
    assert_eq!(
        comments,
        json!([{"c": "Field jobs.[].boss.mail of the API; excluded."}, {"c": "Field jobs.[].title of the API; as is."}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_with_tables_of_their_own_are_known_fields_where_new_ones_are_blocked() {
    let docs = Documents::new(
        "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 1\nprivacy: {new_columns: block}\n",
    )
    .await;
    docs.load(r#"[{"id": 1, "tags": ["x"], "jobs": [{"title": "cook"}]}]"#)
        .await;
    docs.load(r#"[{"id": 1, "tags": ["x", "y"], "jobs": [{"title": "baker", "pay": 3}], "new": 1, "more": [1]}]"#)
        .await;
    assert_eq!(
        docs.json("select (select json_agg(value order by value) from hr.docs__tags) as tags, (select json_agg(title) from hr.docs__jobs) as jobs").await,
        json!([{"tags": ["x", "y"], "jobs": ["baker"]}])
    );
    let blocked: Value = docs
        .json("select field from rosterd.withheld_fields order by 1")
        .await;
    assert_eq!(
        blocked,
        json!([{"field": "jobs.pay"}, {"field": "more"}, {"field": "new"}])
    );
}
