//! Lists as tables of their own, through the real sync.

use serde_json::{Value, json};

use crate::support::documents::Documents;

const MERGE: &str = "primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 2\n";

const FIRST: &str = r#"[
  {"id": 1, "name": "A", "tags": ["x", "y"], "jobs": [
     {"title": "cook", "pay": 1.50, "skills": ["knife", "fire"], "at": {"city": "Oslo"}},
     {"title": "baker", "skills": []}]},
  {"id": 2, "name": "B", "tags": [], "jobs": null, "home": {"phones": [{"no": "1"}]}},
  {"id": 3, "name": "C", "grid": [[1, 2], [3]], "_rosterd_id": "mine"}]"#;

/// Every row version of the tables, so that a row written anew shows even when its values are the same.
async fn versions(docs: &Documents) -> Vec<(String, Value)> {
    let tables = docs
        .json("select relname from pg_class where relnamespace = 'hr'::regnamespace and relkind = 'r' order by 1")
        .await;
    let mut versions = Vec::new();
    for table in tables.as_array().unwrap() {
        let table = table["relname"].as_str().unwrap();
        let rows = docs
            .json(&format!(
                "select ctid::text, xmin::text from hr.{table} order by 1, 2"
            ))
            .await;
        versions.push((table.to_owned(), rows));
    }
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_become_tables_with_links_to_their_rows() {
    let docs = Documents::new(MERGE).await;
    docs.load(FIRST).await;
    assert_eq!(
        docs.json("select r.id, t.value, t._rosterd_list_idx as at from hr.docs r join hr.docs__tags t on t._rosterd_root_id = r._rosterd_id and t._rosterd_parent_id = r._rosterd_id order by 1, 3").await,
        json!([{"id": 1, "value": "x", "at": 0}, {"id": 1, "value": "y", "at": 1}])
    );
    assert_eq!(
        docs.json("select r.id, j.title, j.pay, j.at__city, s.value as skill from hr.docs r join hr.docs__jobs j on j._rosterd_parent_id = r._rosterd_id left join hr.docs__jobs__skills s on s._rosterd_parent_id = j._rosterd_id and s._rosterd_root_id = r._rosterd_id order by j._rosterd_list_idx, s._rosterd_list_idx").await.to_string(),
        r#"[{"id":1,"title":"cook","pay":1.50,"at__city":"Oslo","skill":"knife"},{"id":1,"title":"cook","pay":1.50,"at__city":"Oslo","skill":"fire"},{"id":1,"title":"baker","pay":null,"at__city":null,"skill":null}]"#
    );
    assert_eq!(
        docs.json("select r.id, p.no from hr.docs r join hr.docs__home__phones p on p._rosterd_parent_id = r._rosterd_id").await,
        json!([{"id": 2, "no": "1"}])
    );
    // A list of lists is a table of rows that only hold the next table's.
    assert_eq!(
        docs.json("select g._rosterd_list_idx as a, l._rosterd_list_idx as b, l.value from hr.docs__grid g join hr.docs__grid__list l on l._rosterd_parent_id = g._rosterd_id order by 1, 2").await,
        json!([{"a": 0, "b": 0, "value": 1}, {"a": 0, "b": 1, "value": 2}, {"a": 1, "b": 0, "value": 3}])
    );
    // A field of the source that looks like a link is a column of its own.
    let mine = docs
        .json("select to_jsonb(d)::text like '%\"mine\"%' as kept, length(_rosterd_id) as n from hr.docs d where id = 3")
        .await;
    assert_eq!(mine, json!([{"kept": true, "n": 32}]));
    assert_eq!(
        docs.json("select column_name from information_schema.columns where table_schema = 'hr' and table_name = 'docs' and column_name in ('tags', 'jobs', 'grid')").await,
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_follow_their_rows_and_what_is_unchanged_is_not_written() {
    let docs = Documents::new(MERGE).await;
    docs.load(FIRST).await;
    let before = versions(&docs).await;
    docs.load(FIRST).await;
    assert_eq!(versions(&docs).await, before, "nothing changed");

    // One element goes, one changes, one comes; record 3 loses its list, 2 is as it was.
    docs.load(
        r#"[{"id": 1, "name": "A", "tags": ["x", "z", "w"], "jobs": [
               {"title": "cook", "pay": "by the hour", "skills": ["fire"], "at": {"city": "Oslo"}}]},
            {"id": 2, "name": "B", "tags": [], "jobs": null, "home": {"phones": [{"no": "1"}]}},
            {"id": 3, "name": "C"}]"#,
    )
    .await;
    assert_eq!(
        docs.json("select value from hr.docs__tags order by _rosterd_list_idx")
            .await,
        json!([{"value": "x"}, {"value": "z"}, {"value": "w"}])
    );
    assert_eq!(
        docs.json("select title, pay from hr.docs__jobs").await,
        json!([{"title": "cook", "pay": "by the hour"}])
    );
    assert_eq!(
        docs.json("select value from hr.docs__jobs__skills").await,
        json!([{"value": "fire"}])
    );
    assert_eq!(
        docs.json("select 1 from hr.docs__grid union all select 1 from hr.docs__grid__list")
            .await,
        json!([])
    );
    assert_eq!(
        docs.json("select rows_updated as u, rows_unchanged as n from rosterd.runs order by run_id desc limit 1").await,
        json!([{"u": 2, "n": 1}])
    );
    assert_eq!(
        docs.json("select change, column_name, new_type from rosterd.schema_changes where table_name = '\"hr\".\"docs__jobs\"' and change = 'widen_column'").await,
        json!([{"change": "widen_column", "column_name": "pay", "new_type": "text"}])
    );
    let after = versions(&docs).await;
    docs.load(
        r#"[{"id": 1, "name": "A", "tags": ["x", "z", "w"], "jobs": [
               {"title": "cook", "pay": "by the hour", "skills": ["fire"], "at": {"city": "Oslo"}}]}]"#,
    )
    .await;
    assert_eq!(
        versions(&docs).await,
        after,
        "a change in lists only is known the next time"
    );

    sqlx::raw_sql("delete from hr.docs where id = 1")
        .execute(docs.db.pool())
        .await
        .unwrap();
    assert_eq!(
        docs.json("select (select count(*) from hr.docs__tags) + (select count(*) from hr.docs__jobs) + (select count(*) from hr.docs__jobs__skills) as n").await,
        json!([{"n": 0}]),
        "whoever deletes a row takes its lists along"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_table_has_the_lists_of_the_last_walk() {
    let docs =
        Documents::new("primary_key: id\nwrite_disposition: replace\nmax_table_nesting: 1\n").await;
    docs.load(r#"[{"id": 1, "l": [1, 2]}, {"id": 2, "l": [3], "deep": [{"a": [1]}]}]"#)
        .await;
    let before = versions(&docs).await;
    docs.load(r#"[{"id": 1, "l": [1, 2]}, {"id": 2, "l": [3], "deep": [{"a": [1]}]}]"#)
        .await;
    assert_eq!(versions(&docs).await, before);
    docs.load(r#"[{"id": 1, "l": [1, 2]}, {"id": 4, "l": [7]}]"#)
        .await;
    assert_eq!(
        docs.json("select d.id, l.value from hr.docs d join hr.docs__l l on l._rosterd_root_id = d._rosterd_id order by 1, 2").await,
        json!([{"id": 1, "value": 1}, {"id": 1, "value": 2}, {"id": 4, "value": 7}])
    );
    assert_eq!(
        docs.json("select (select count(*) from hr.docs__l) as n, (select count(*) from hr.docs__deep) as m, (select pg_typeof(a)::text from (select a from hr.docs__deep union all select null) x limit 1) as t").await,
        json!([{"n": 3, "m": 0, "t": "jsonb"}]),
        "deeper than the levels: jsonb"
    );
    assert_eq!(
        docs.json("select relname from pg_class where relname like '\\_rosterd\\_walk%'")
            .await,
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_rows_have_lists_of_their_own_each_time() {
    let docs = Documents::new("max_table_nesting: 1\n").await;
    docs.load(r#"[{"n": 1, "l": ["a"]}, {"n": 1, "l": ["a"]}]"#)
        .await;
    docs.load(r#"[{"n": 1, "l": ["a"]}]"#).await;
    assert_eq!(
        docs.json("select count(*) as rows, count(distinct d._rosterd_id) as ids, count(l.value) as elements from hr.docs d join hr.docs__l l on l._rosterd_root_id = d._rosterd_id").await,
        json!([{"rows": 3, "ids": 3, "elements": 3}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_no_row_brings_no_rows_of_lists() {
    let docs = Documents::new(&format!(
        "{MERGE}columns:\n  n: {{data_type: bigint}}\n  keep: {{data_type: json}}\n"
    ))
    .await;
    let (status, _) = docs
        .sync(r#"[{"id": 1, "n": "x", "l": [1]}, {"id": 2, "n": 5, "l": [2, 1e2000], "l": [3, 1e2000], "keep": [1]}]"#)
        .await;
    assert_eq!(status, "partial");
    assert_eq!(
        docs.json("select d.id, l.value, l._rosterd_list_idx as at, d.keep from hr.docs d join hr.docs__l l on l._rosterd_root_id = d._rosterd_id").await,
        json!([{"id": 2, "value": 3, "at": 0, "keep": [1]}])
    );
    assert_eq!(
        docs.json("select column_name, reason from rosterd.rejects order by 1")
            .await,
        json!([{"column_name": "l.[].value", "reason": "number_out_of_range"}, {"column_name": "n", "reason": "misfit"}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_levels_keep_objects_whole() {
    let docs =
        Documents::new("primary_key: id\nwrite_disposition: merge\nmax_table_nesting: 0\n").await;
    docs.load(r#"[{"id": 1, "a": {"b": [1]}}]"#).await;
    assert_eq!(
        docs.json("select a from hr.docs").await,
        json!([{"a": {"b": [1]}}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_table_refuses_keeps_its_lists_and_is_tried_again() {
    let docs = Documents::new(MERGE).await;
    docs.load(r#"[{"id": 1, "name": "A", "tags": ["x"]}, {"id": 2, "name": "B", "tags": ["y"]}]"#)
        .await;
    docs.execute("alter table hr.docs add constraint plain check (name <> 'C')")
        .await;
    let changed =
        r#"[{"id": 1, "name": "C", "tags": ["z"]}, {"id": 2, "name": "D", "tags": ["w"]}]"#;
    let state = "select d.id, d.name, t.value from hr.docs d join hr.docs__tags t on t._rosterd_root_id = d._rosterd_id order by 1";

    assert_eq!(docs.sync(changed).await.0, "partial");
    assert_eq!(
        docs.json(state).await,
        json!([{"id": 1, "name": "A", "value": "x"}, {"id": 2, "name": "D", "value": "w"}])
    );

    docs.execute("alter table hr.docs drop constraint plain")
        .await;
    docs.load(changed).await;
    assert_eq!(
        docs.json(state).await,
        json!([{"id": 1, "name": "C", "value": "z"}, {"id": 2, "name": "D", "value": "w"}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_gets_another_table_gets_other_tables_of_lists() {
    let page = r#"[{"id": 1, "tags": ["x"], "jobs": [{"title": "cook", "skills": ["fire"]}]}]"#;
    let mut docs = Documents::new(MERGE).await;
    docs.load(page).await;
    docs.configure(&format!("{MERGE}table_name: people\n"));
    let said = docs.command(&["reset", "hr/docs"]).await;
    for _ in 0..2 {
        docs.load(page).await;
        for (table, row) in [("docs", "x"), ("people", "x")] {
            assert_eq!(
                docs.json(&format!(
                    "select t.value, s.value as skill from hr.{table} d join hr.{table}__tags t on t._rosterd_root_id = d._rosterd_id \
                     join hr.{table}__jobs__skills s on s._rosterd_root_id = d._rosterd_id"
                ))
                .await,
                json!([{"value": row, "skill": "fire"}]),
                "{table} {said}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_give_the_tables_of_lists_their_types_from_the_start_and_later() {
    let hints = "nested_hints:\n  jobs: {columns: {pay: {data_type: decimal}, since: {data_type: date, format: \"%d.%m.%Y\"}, note: {data_type: text}, at: {data_type: json}}}\n  jobs.tasks: {columns: {hours: {data_type: text, nullable: false}}}\n";
    let types = "select table_name || '.' || column_name as c, data_type as t from information_schema.columns where table_schema = 'hr' and table_name like 'docs\\_\\_%' and column_name not like '\\_%' order by 1";
    let first = r#"[{"id": 1, "jobs": [{"pay": 7, "since": "02.01.2024", "at": {"city": "Oslo"}, "tasks": [{"hours": 5}]}]}]"#;
    let hinted = json!([
        {"c": "docs__jobs.at", "t": "jsonb"},
        {"c": "docs__jobs.note", "t": "text"},
        {"c": "docs__jobs.pay", "t": "numeric"},
        {"c": "docs__jobs.since", "t": "date"},
        {"c": "docs__jobs__tasks.hours", "t": "text"},
    ]);

    let docs = Documents::new(&format!("{MERGE}{hints}")).await;
    docs.load(first).await;
    assert_eq!(docs.json(types).await, hinted);
    assert_eq!(
        docs.json("select pay, since, at, hours from hr.docs__jobs j join hr.docs__jobs__tasks t on t._rosterd_parent_id = j._rosterd_id").await,
        json!([{"pay": 7, "since": "2024-01-02", "at": {"city": "Oslo"}, "hours": "5"}])
    );

    // Hints that come to a table which is there change it, and the rows in it.
    let mut docs = Documents::new(MERGE).await;
    let page = r#"[{"id": 1, "jobs": [{"pay": 7, "tasks": [{"hours": 5}]}]}]"#;
    docs.load(page).await;
    docs.configure(&format!(
        "{MERGE}nested_hints: {{jobs: {{columns: {{pay: {{data_type: decimal}}}}}}, jobs.tasks: {{columns: {{hours: {{data_type: text}}}}}}}}\n"
    ));
    docs.load(page).await;
    assert_eq!(
        docs.json(types).await,
        json!([{"c": "docs__jobs.pay", "t": "numeric"}, {"c": "docs__jobs__tasks.hours", "t": "text"}])
    );
    assert_eq!(
        docs.json("select hours from hr.docs__jobs__tasks").await,
        json!([{"hours": "5"}])
    );

    // One that no value could follow is refused, and names the list's table.
    docs.configure(&format!(
        "{MERGE}nested_hints: {{jobs: {{columns: {{pay: {{data_type: date}}}}}}}}\n"
    ));
    let (status, log) = docs.sync(page).await;
    assert_eq!(status, "failed");
    assert!(log.contains("docs__jobs"), "{log}");
}
