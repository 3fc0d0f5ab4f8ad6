//! Records of one key that say different things on different pages of a walk: the last one counts, in
//! whatever way the walk is cut and whatever the source changes between two runs.

use rosterd::{record::Status, sync::Start};
use serde_json::{Value, json};

use crate::support::{
    documents::{Documents, PAGED},
    site::Site,
    sync::Bench,
};

const A: &str = r#"[{"id": 1, "n": 1, "v": "a"}]"#;
const B: &str = r#"[{"id": 1, "n": 1, "v": "b"}]"#;
const OTHER: &str = r#"[{"id": 2, "n": 1, "v": "x"}]"#;

/// Pages of a later run, and what key 1 has then.
const CHANGES: &[(&[&str], &str)] = &[
    // The later one is gone, the earlier one, both have changed, they changed places.
    (&[A, OTHER], "a"),
    (&[OTHER, B], "b"),
    (
        &[
            r#"[{"id": 1, "n": 1, "v": "a2"}]"#,
            OTHER,
            r#"[{"id": 1, "n": 1, "v": "b2"}]"#,
        ],
        "b2",
    ),
    (&[A, OTHER, r#"[{"id": 1, "n": 1, "v": "b2"}]"#], "b2"),
    (&[r#"[{"id": 1, "n": 1, "v": "a2"}]"#, OTHER, B], "b"),
    (&[B, OTHER, A], "a"),
    // One page has both.
    (
        &[
            r#"[{"id": 1, "n": 1, "v": "b"}, {"id": 1, "n": 1, "v": "a"}]"#,
            OTHER,
        ],
        "a",
    ),
];

async fn value(docs: &Documents) -> Value {
    let rows = docs.json("select v from hr.docs where id = 1").await;
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    rows[0]["v"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_record_of_a_key_counts_whatever_changes() {
    for keys in [
        "primary_key: id\nwrite_disposition: merge",
        "primary_key: id\nwrite_disposition: merge\nbatch: {rows: 1}",
        "primary_key: id\nwrite_disposition: merge\ncolumns: {n: {dedup_sort: desc}}",
    ] {
        for (pages, expected) in CHANGES {
            let docs = Documents::new(&format!("{PAGED}{keys}")).await;
            for _ in 0..2 {
                docs.load_pages(&[A, OTHER, B]).await;
                assert_eq!(value(&docs).await, "b");
            }
            for _ in 0..2 {
                docs.load_pages(pages).await;
                assert_eq!(value(&docs).await, *expected, "{keys}: {pages:?}");
            }
            let runs = docs
                .json("select records_read = rows_inserted + rows_updated + rows_unchanged as told from rosterd.runs")
                .await;
            assert!(
                !runs.to_string().contains("false"),
                "{keys}: {pages:?}: {runs}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_version_is_not_replaced_by_what_only_comes_later() {
    let docs = Documents::new(&format!(
        "{PAGED}primary_key: id\nwrite_disposition: merge\ncolumns: {{n: {{dedup_sort: desc}}}}"
    ))
    .await;
    docs.load_pages(&[A, OTHER, B]).await;
    docs.load_pages(&[A, OTHER, B]).await;
    docs.execute("delete from hr.docs where id = 1").await;
    // Without the row, what waits has the higher version.
    docs.load_pages(&[A, OTHER, r#"[{"id": 1, "n": 0, "v": "old"}]"#])
        .await;
    assert_eq!(value(&docs).await, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn superseded_records_are_counted_and_forgotten_with_a_person() {
    let docs = Documents::new(&format!("{PAGED}primary_key: id\nwrite_disposition: merge")).await;
    for _ in 0..2 {
        docs.load_pages(&[
            A,
            r#"[{"id": 2, "v": 1}, {"id": 2, "v": 1}, {"id": 2, "v": 2}]"#,
            B,
        ])
        .await;
    }
    assert_eq!(
        docs.json("select records_superseded from rosterd.runs")
            .await,
        json!([{"records_superseded": 2}, {"records_superseded": 2}])
    );
    let known = "select count(*) from rosterd.superseded";
    assert_eq!(docs.json(known).await, json!([{"count": 1}]));
    docs.command(&["erase", "hr/docs", "--key", "1"]).await;
    assert_eq!(docs.json(known).await, json!([{"count": 0}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_that_is_cut_while_a_record_waits_leaves_the_last_that_was_read() {
    let docs = Documents::new(&format!(
        "{PAGED}primary_key: id\nwrite_disposition: merge\nbatch: {{rows: 1}}"
    ))
    .await;
    docs.load_pages(&[A, OTHER, B]).await;
    docs.load_pages(&[A, OTHER, B]).await;
    let cut = [A, OTHER, "not JSON"].map(|page| page.as_bytes().to_vec());
    let (status, log) = docs.sync_pages(cut.to_vec()).await;
    assert_ne!(status, "succeeded", "{log}");
    assert_eq!(value(&docs).await, "a");
    docs.load_pages(&[A, OTHER, B]).await;
    assert_eq!(value(&docs).await, "b");
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_is_killed_while_a_record_waits_ends_with_the_truth() {
    const LATER: &str = r#"[{"id": 3, "v": "y"}]"#;
    for (pages, expected) in [
        (&[A, OTHER, LATER, B][..], "b"),
        (&[A, OTHER, LATER][..], "a"),
    ] {
        for nth in 1..=pages.len() {
            let docs = Documents::new(&format!(
                "{PAGED}primary_key: id\nwrite_disposition: merge\nbatch: {{rows: 1}}"
            ))
            .await;
            docs.load_pages(&[A, OTHER, B]).await;
            docs.load_pages(&[A, OTHER, B]).await;
            docs.kill_at("load.after_commit", nth, pages).await;
            docs.load_pages(pages).await;
            assert_eq!(value(&docs).await, expected, "{pages:?} killed at {nth}");
        }
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_is_killed_just_before_the_records_that_waited_are_written_reads_them_again() {
    // The new field is a column first, in a commit of its own, and what waited is written after that.
    const LATER: &str = r#"[{"id": 3, "z": "y"}]"#;
    let counted = |pages: [&str; 3]| pages.map(|page| format!(r#"{{"pages": 3, "data": {page}}}"#));
    let (before, after) = (counted([A, OTHER, B]), counted([A, OTHER, LATER]));
    let (before, after) = (
        before.each_ref().map(String::as_str),
        after.each_ref().map(String::as_str),
    );
    for nth in 1..=2 {
        let docs = Documents::new(
            "endpoint: {data_selector: data, paginator: {type: page_number, base_page: 1, total_path: pages}}\nprimary_key: id\nwrite_disposition: merge",
        )
        .await;
        docs.load_pages(&before).await;
        docs.load_pages(&before).await;
        docs.kill_at("load.after_commit", nth, &after).await;
        docs.load_pages(&after).await;
        assert_eq!(value(&docs).await, "a", "killed at {nth}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_row_add_up_on_one_page_as_on_several() {
    const PARTS: [&str; 3] = [
        r#"{"id": 1, "v": "a", "w": {"x": 1}}"#,
        r#"{"id": 1, "w": {"y": 2}}"#,
        r#"{"id": 1, "v": "b"}"#,
    ];
    let together = format!("[{}]", PARTS.join(", "));
    let apart = PARTS.map(|part| format!("[{part}]"));
    let apart: Vec<&str> = apart.iter().map(String::as_str).collect();
    for pages in [&[together.as_str()][..], &apart] {
        let docs = Documents::new(&format!(
            "{PAGED}primary_key: id\nwrite_disposition: merge\npartial_records: true"
        ))
        .await;
        for _ in 0..2 {
            docs.load_pages(pages).await;
            let told = docs
                .json("select v, w__x, w__y, (select count(*) from rosterd.runs where records_read <> rows_inserted + rows_updated + rows_unchanged) as untold from hr.docs")
                .await;
            assert_eq!(told, json!([{"v": "b", "w__x": 1, "w__y": 2, "untold": 0}]));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stands_under_two_parents_is_written_once() {
    let site = Site::start(|asked| match asked.path.as_str() {
        "/teams" => json!([{"id": 1}, {"id": 2}]).into(),
        path => {
            let team: i64 = path.split('/').nth(2).unwrap().parse().unwrap();
            json!([{"id": 7, "role": format!("of team {team}")}, {"id": 10 + team, "role": "one"}])
                .into()
        }
    })
    .await;
    let config = format!(
        "
daemon: {{admin: {{listen: null}}}}
sources:
  hr:
    client: {{base_url: '{}', paginator: single_page}}
    resource_defaults: {{primary_key: id, write_disposition: merge}}
    resources:
      - {{name: teams, selected: false}}
      - {{name: members, endpoint: 'teams/{{resources.teams.id}}/members'}}
",
        site.url()
    );
    let bench = Bench::new().await;
    for run in 1..=3 {
        let outcome = bench.sync(&config, Start::GoOn).await;
        let told = (
            outcome.status,
            outcome.counters.rows_inserted + outcome.counters.rows_updated,
            outcome.counters.rows_unchanged,
        );
        let expected = match run {
            1 => (Status::Succeeded, 4, 0),
            _ => (Status::Succeeded, 0, 4),
        };
        assert_eq!(told, expected, "run {run}");
        let roles: Vec<String> = bench
            .column("select role from hr.members order by id")
            .await;
        assert_eq!(roles, ["of team 2", "one", "one"]);
    }
}
