//! What may become of a table's shape: contracts, widening, variants, names, what others did to it.

use rosterd::config::contract::{Contract, Terms};
use serde_json::{Value, json};

use crate::support::documents::Documents;

const MERGE: &str = "primary_key: id\nwrite_disposition: merge\n";

async fn last_run(docs: &Documents, columns: &str) -> Value {
    let runs = docs
        .json(&format!(
            "select {columns} from rosterd.runs order by run_id desc limit 1"
        ))
        .await;
    runs[0].clone()
}

async fn columns(docs: &Documents, table: &str) -> Vec<String> {
    let names = docs
        .json(&format!(
            "select attname as name from pg_attribute where attrelid = 'hr.{table}'::regclass and attnum > 0 \
               and not attisdropped and attname not like '\\_%' order by attnum"
        ))
        .await;
    let names = names.as_array().unwrap().iter();
    names
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Contract, second page, status of its run, rows, rows and values discarded, clause in the error.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    Value,
    (i64, i64),
    &'static str,
);

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_holds_after_the_first_load_and_never_blocks_a_later_run() {
    let old = || json!([{"id": 1, "n": 1}, {"id": 2, "n": 2}]);
    let field = r#"[{"id": 1, "n": 5, "more": true}, {"id": 2, "n": 3}]"#;
    let value = r#"[{"id": 1, "n": "x"}, {"id": 2, "n": 3}]"#;
    let cases: Vec<Case> = vec![
        ("freeze", field, "failed", old(), (0, 0), "columns"),
        ("freeze", value, "failed", old(), (0, 0), "data_type"),
        (
            "{columns: freeze}",
            field,
            "failed",
            old(),
            (0, 0),
            "columns",
        ),
        (
            "{columns: freeze}",
            value,
            "succeeded",
            json!([{"id": 1, "n": "x"}, {"id": 2, "n": "3"}]),
            (0, 0),
            "",
        ),
        (
            "{data_type: freeze}",
            field,
            "succeeded",
            json!([{"id": 1, "n": 5}, {"id": 2, "n": 3}]),
            (0, 0),
            "",
        ),
        (
            "discard_row",
            field,
            "succeeded",
            json!([{"id": 1, "n": 1}, {"id": 2, "n": 3}]),
            (1, 0),
            "",
        ),
        (
            "{data_type: discard_row}",
            value,
            "succeeded",
            json!([{"id": 1, "n": 1}, {"id": 2, "n": 3}]),
            (1, 0),
            "",
        ),
        (
            "discard_value",
            field,
            "succeeded",
            json!([{"id": 1, "n": 5}, {"id": 2, "n": 3}]),
            (0, 1),
            "",
        ),
        (
            "{data_type: discard_value}",
            value,
            "succeeded",
            json!([{"id": 1, "n": null}, {"id": 2, "n": 3}]),
            (0, 1),
            "",
        ),
        (
            "evolve",
            value,
            "succeeded",
            json!([{"id": 1, "n": "x"}, {"id": 2, "n": "3"}]),
            (0, 0),
            "",
        ),
    ];
    for (contract, page, status, rows, (discarded_rows, discarded_values), clause) in cases {
        let docs = Documents::new(&format!("{MERGE}schema_contract: {contract}\n")).await;
        docs.load(r#"[{"id": 1, "n": 1}, {"id": 2, "n": 2}]"#).await;
        let (found, log) = docs.sync(page).await;
        let what = format!("{contract} {page} {log}");
        assert_eq!(found, status, "{what}");
        assert_eq!(
            docs.json("select id, n from hr.docs order by id").await,
            rows,
            "{what}"
        );
        let run = last_run(
            &docs,
            "rows_discarded as r, values_discarded as v, error_class, error_code, error_message, error_hint",
        )
        .await;
        assert_eq!(
            (&run["r"], &run["v"]),
            (&json!(discarded_rows), &json!(discarded_values)),
            "{what}"
        );
        if !clause.is_empty() {
            assert_eq!(run["error_class"], "schema", "{what}");
            assert_eq!(run["error_code"], "schema_contract", "{what}");
            let message = run["error_message"].as_str().unwrap();
            assert!(message.contains(clause), "{message}");
            let hint = run["error_hint"].as_str().unwrap();
            assert!(hint.contains(clause), "{hint}");
        }
        let open = docs
            .json("select record_key, reason from rosterd.rejects where resolved_at is null")
            .await;
        assert_eq!(
            open.as_array().unwrap().len(),
            usize::try_from(discarded_rows).unwrap(),
            "{what}"
        );
        // What fits is loaded by the next run, and closes what was discarded.
        docs.load(r#"[{"id": 1, "n": 7}, {"id": 2, "n": 8}]"#).await;
        let sum = docs
            .json("select sum(n::text::int) as n from hr.docs")
            .await;
        assert_eq!(sum, json!([{"n": 15}]), "{what}");
        let open = docs
            .json("select record_key, reason from rosterd.rejects where resolved_at is null")
            .await;
        assert_eq!(open, json!([]), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_key_fails_the_run_and_a_discarded_one_costs_its_record() {
    for (contract, status) in [
        ("freeze", "failed"),
        ("discard_row", "succeeded"),
        ("discard_value", "succeeded"),
    ] {
        let docs = Documents::new(&format!("{MERGE}schema_contract: {contract}\n")).await;
        docs.load(r#"[{"id": 1}, {"id": 2}]"#).await;
        let (found, log) = docs.sync(r#"[{"id": "A-1"}, {"id": 3}]"#).await;
        assert_eq!(found, status, "{contract} {log}");
        let n = if status == "failed" { 2 } else { 3 };
        assert_eq!(
            docs.json("select count(*) as n, pg_typeof(max(id))::text as t from hr.docs")
                .await,
            json!([{"n": n, "t": "bigint"}]),
            "{contract}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_out_comes_when_the_contract_changes() {
    let mut docs = Documents::new(&format!(
        "{MERGE}schema_contract: {{columns: discard_value}}\n"
    ))
    .await;
    docs.load(r#"[{"id": 1}]"#).await;
    docs.load(r#"[{"id": 1, "more": 1}]"#).await;
    assert_eq!(columns(&docs, "docs").await, ["id"]);
    docs.configure(&format!("{MERGE}schema_contract: {{tables: freeze}}\n"));
    docs.load(r#"[{"id": 1, "more": 1}]"#).await;
    assert_eq!(
        docs.json("select id, more from hr.docs").await,
        json!([{"id": 1, "more": 1}])
    );
}

#[test]
fn the_contract_of_a_source_holds_where_a_resource_has_none() {
    let config = rosterd::config::from_str(
        "
sources:
  hr:
    client: {base_url: 'https://api.example.com', paginator: single_page}
    schema_contract: {columns: freeze, tables: discard_row}
    resource_defaults: {write_disposition: append}
    resources:
      - plain
      - {name: own, schema_contract: {data_type: discard_value}}
",
    )
    .unwrap();
    let contracts: Vec<_> = config.sources[0]
        .resources
        .iter()
        .map(|resource| resource.schema_contract)
        .collect();
    let (evolve, freeze) = (Terms::Evolve, Terms::Freeze);
    let contract = |tables, columns, data_type| Contract {
        tables,
        columns,
        data_type,
    };
    assert_eq!(
        contracts,
        [
            contract(Terms::DiscardRow, freeze, evolve),
            contract(evolve, evolve, Terms::DiscardValue)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_obey_the_contract_too() {
    for (contract, page, status, tables, tags, values) in [
        (
            "{tables: freeze}",
            r#"{"id": 2, "tags": ["x"], "jobs": [1]}"#,
            "failed",
            2,
            1,
            0,
        ),
        (
            "{tables: discard_row}",
            r#"{"id": 2, "tags": ["x"], "jobs": [1]}"#,
            "succeeded",
            2,
            2,
            1,
        ),
        (
            "{tables: discard_value}",
            r#"{"id": 2, "tags": ["x"], "jobs": [1, 2]}"#,
            "succeeded",
            2,
            2,
            1,
        ),
        (
            "{columns: discard_value}",
            r#"{"id": 2, "tags": ["x"], "jobs": [{"a": 1}]}"#,
            "succeeded",
            3,
            2,
            0,
        ),
        (
            "{columns: discard_value}",
            r#"{"id": 2, "tags": ["x", {"new": 1}]}"#,
            "succeeded",
            2,
            3,
            1,
        ),
        (
            "{columns: freeze}",
            r#"{"id": 2, "tags": ["x", {"new": 1}]}"#,
            "failed",
            2,
            1,
            0,
        ),
        (
            "{data_type: discard_value}",
            r#"{"id": 2, "tags": ["x", [1]]}"#,
            "succeeded",
            2,
            3,
            0,
        ),
    ] {
        let docs = Documents::new(&format!(
            "{MERGE}max_table_nesting: 1\nschema_contract: {contract}\n"
        ))
        .await;
        docs.load(r#"[{"id": 1, "tags": ["a"]}]"#).await;
        let (found, log) = docs
            .sync(format!(r#"[{{"id": 1, "tags": ["a"]}}, {page}]"#))
            .await;
        assert_eq!(found, status, "{contract} {page} {log}");
        let found = docs
            .json("select (select count(*) from pg_class where relnamespace = 'hr'::regnamespace and relkind = 'r') as tables, (select count(*) from hr.docs__tags) as tags")
            .await;
        assert_eq!(
            found,
            json!([{"tables": tables, "tags": tags}]),
            "{contract} {page}"
        );
        let run = last_run(&docs, "values_discarded as v").await;
        assert_eq!(run["v"], values, "{contract} {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_made_by_hand_or_named_by_the_configuration_is_no_breach() {
    let mut docs = Documents::new(&format!("{MERGE}schema_contract: freeze\n")).await;
    docs.load(r#"[{"id": 1}]"#).await;
    docs.execute("alter table hr.docs add column more bigint")
        .await;
    docs.configure(&format!(
        "{MERGE}schema_contract: freeze\ncolumns:\n  named: {{data_type: text}}\n"
    ));
    docs.load(r#"[{"id": 1, "more": 4, "named": "x"}, {"id": 2, "named": null}]"#)
        .await;
    assert_eq!(
        docs.json("select id, more, named from hr.docs order by id")
            .await,
        json!([{"id": 1, "more": 4, "named": "x"}, {"id": 2, "more": null, "named": null}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_that_is_cut_is_gone_on_with_before_the_contract_holds() {
    let docs = Documents::new(&format!("{MERGE}schema_contract: freeze\n")).await;
    let (status, _) = docs.sync(r#"[{"id": 1}, {"id": 2,]"#).await;
    assert_eq!(status, "failed");
    docs.load(r#"[{"id": 1}, {"id": 2, "more": 1}]"#).await;
    assert_eq!(columns(&docs, "docs").await, ["id", "more"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_view_hangs_on_stays_and_misfits_go_beside_it() {
    let docs = Documents::new(MERGE).await;
    docs.load(r#"[{"id": 1, "n": 1, "d": "2024-01-01"}, {"id": 2, "n": 2, "d": "2024-01-02"}]"#)
        .await;
    docs.execute("create view hr.report as select id, n, d from hr.docs")
        .await;
    let page = r#"[{"id": 1, "n": "one", "d": "2024-01-01"}, {"id": 2, "n": 2.50, "d": "2024-01-02T10:00:00Z"},
                   {"id": 3, "n": 3, "d": "2024-01-03"}, {"id": 4, "n": [4], "d": "soon"}, {"id": 5, "n": true}]"#;
    let expected = json!([
        {"id": 1, "n": null, "n__v_text": "one", "n__v_decimal": null, "n__v_json": null, "d": "2024-01-01", "d__v_timestamp": null, "d__v_text": null},
        {"id": 2, "n": null, "n__v_text": null, "n__v_decimal": 2.50, "n__v_json": null, "d": null, "d__v_timestamp": "2024-01-02T10:00:00+00:00", "d__v_text": null},
        {"id": 3, "n": 3, "n__v_text": null, "n__v_decimal": null, "n__v_json": null, "d": "2024-01-03", "d__v_timestamp": null, "d__v_text": null},
        {"id": 4, "n": null, "n__v_text": null, "n__v_decimal": null, "n__v_json": [4], "d": null, "d__v_timestamp": null, "d__v_text": "soon"},
        {"id": 5, "n": null, "n__v_text": "true", "n__v_decimal": null, "n__v_json": null, "d": null, "d__v_timestamp": null, "d__v_text": null},
    ]);
    let rows = "select id, n, n__v_text, n__v_decimal, n__v_json, d, d__v_timestamp, d__v_text from hr.docs order by id";
    docs.load(page).await;
    let text = |rows: &Value| rows.to_string().replace("2.50", "2.5");
    assert_eq!(text(&docs.json(rows).await), text(&expected));
    let written = last_run(&docs, "rows_inserted + rows_updated as n").await;
    assert_eq!(written["n"], 5);
    docs.load(page).await;
    let written = last_run(
        &docs,
        "rows_inserted + rows_updated as n, rows_unchanged as u",
    )
    .await;
    assert_eq!(written, json!({"n": 0, "u": 5}), "the same again");

    assert_eq!(
        docs.json("select count(*) as n from rosterd.schema_changes where change = 'add_column' and column_name like '%\\_\\_v\\_%' and ddl like 'alter table%'").await,
        json!([{"n": 5}])
    );
    assert_eq!(
        docs.json("select distinct kind from rosterd.events where run_id is not null")
            .await,
        json!([{"kind": "variant_column"}])
    );

    // The view goes; one value still has one place.
    docs.execute("drop view hr.report").await;
    let page = page
        .replace("\"one\"", "\"uno\"")
        .replace("\"n\": 3", "\"n\": \"three\"");
    docs.load(page).await;
    assert_eq!(
        docs.json("select id, n, n__v_text from hr.docs where id in (1, 3) order by 1")
            .await,
        json!([{"id": 1, "n": null, "n__v_text": "uno"}, {"id": 3, "n": null, "n__v_text": "three"}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_hangs_on_a_column_leads_beside_it_and_never_to_a_drop() {
    for (what, ddl) in [
        (
            "materialized view",
            "create materialized view hr.m as select n from hr.docs",
        ),
        (
            "generated column",
            "alter table hr.docs add column twice bigint generated always as (n * 2) stored",
        ),
        ("policy", "create policy p on hr.docs using (n > 0)"),
        (
            "check",
            "alter table hr.docs add constraint c check (n > 0)",
        ),
        ("expression index", "create index on hr.docs ((n + 1))"),
        ("partial index", "create index on hr.docs (id) where n > 5"),
        (
            "trigger",
            "create function hr.f() returns trigger language plpgsql as 'begin return new; end';
             create trigger t before update of n on hr.docs for each row execute function hr.f()",
        ),
        (
            "function",
            "create function hr.g() returns bigint begin atomic select max(n) from hr.docs; end",
        ),
        (
            "foreign key",
            "create table hr.other (k bigint primary key); insert into hr.other values (1), (2);
             alter table hr.docs add foreign key (n) references hr.other",
        ),
    ] {
        let docs = Documents::new(MERGE).await;
        docs.load(r#"[{"id": 1, "n": 1}]"#).await;
        docs.execute(ddl).await;
        let (status, log) = docs
            .sync(r#"[{"id": 1, "n": "x"}, {"id": 2, "n": 2}]"#)
            .await;
        assert_eq!(status, "succeeded", "{what}: {log}");
        assert_eq!(
            docs.json("select id, n, n__v_text from hr.docs order by id")
                .await,
            json!([{"id": 1, "n": null, "n__v_text": "x"}, {"id": 2, "n": 2, "n__v_text": null}]),
            "{what}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_written_before_a_widening_get_the_spelling_of_the_api_and_are_then_left_alone() {
    for nesting in ["", "max_table_nesting: 1\n"] {
        let docs = Documents::new(&format!("{MERGE}{nesting}")).await;
        let first = r#"{"id": 1, "at": "2024-01-01T02:00:00+02:00", "n": 1e2, "l": [{"at": "2024-01-01T02:00:00+02:00"}]}"#;
        let still = r#"{"id": 2, "b": true, "l": []}"#;
        docs.load(format!("[{first}, {still}]")).await;
        let version = "select xmin::text as x from hr.docs where id = 2";
        let before = docs.json(version).await;
        docs.load(r#"[{"id": 3, "at": "soon", "n": "many", "l": [{"at": "soon"}]}]"#)
            .await;
        docs.load(format!("[{first}, {still}]")).await;
        assert_eq!(
            docs.json("select at, n from hr.docs where id = 1").await,
            json!([{"at": "2024-01-01T02:00:00+02:00", "n": "1e2"}])
        );
        if !nesting.is_empty() {
            assert_eq!(
                docs.json("select l.at from hr.docs__l l join hr.docs d on d._rosterd_id = l._rosterd_root_id where d.id = 1").await,
                json!([{"at": "2024-01-01T02:00:00+02:00"}])
            );
        }
        docs.load(format!("[{first}, {still}]")).await;
        let again = last_run(&docs, "rows_updated as u, rows_unchanged as n").await;
        assert_eq!(again, json!({"u": 0, "n": 2}), "{nesting}");
        assert_eq!(
            docs.json(version).await.as_array().unwrap().len(),
            before.as_array().unwrap().len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_clash_get_a_stable_suffix_and_an_event() {
    let docs = Documents::new(&format!("{MERGE}max_table_nesting: 1\n")).await;
    let page =
        r#"[{"id": 1, "na!e": 1, "na%e": 2, "xmin": 3, "_run_id": 4, "l": [{"a!": 1, "a%": 2}]}]"#;
    docs.load(page).await;
    let events = "select data->>'table' as t, c->>'field' as f, c->>'column' as c from rosterd.events, jsonb_array_elements(data->'columns') c where kind = 'name_clash' order by 1, 2";
    let told = docs.json(events).await;
    let fields: Vec<String> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            format!(
                "{} {}",
                row["t"].as_str().unwrap(),
                row["f"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        fields,
        ["docs _run_id", "docs na%e", "docs xmin", "docs__l l.[].a%"]
    );
    let names = columns(&docs, "docs").await;
    docs.load(page.replace("\"na%e\": 2", "\"na%e\": 5")).await;
    assert_eq!(columns(&docs, "docs").await, names);
    assert_eq!(docs.json(events).await, told, "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_whose_tables_names_clash_get_tables_of_their_own_and_an_event() {
    let docs = Documents::new(&format!("{MERGE}max_table_nesting: 1\n")).await;
    let page = r#"[{"id": 1, "l!": [1, 2], "l%": [3], "a": {"b": [4]}, "a__b": [5]}]"#;
    docs.load(page).await;
    let tables = "select data->>'field' as f, (data->>'table') ~ '^docs__(lx|a__b)_[0-9a-f]{8}$' as is_marked from rosterd.events where kind = 'name_clash' order by 1";
    let told = json!([{"f": "a__b", "is_marked": true}, {"f": "l%", "is_marked": true}]);
    assert_eq!(docs.json(tables).await, told);
    let of = "select count(*) as c from pg_class where relnamespace = 'hr'::regnamespace and relkind = 'r'";
    assert_eq!(docs.json(of).await[0]["c"], json!(5));
    docs.load(page.replace("[3]", "[3, 6]")).await;
    assert_eq!(
        docs.json(of).await[0]["c"],
        json!(5),
        "the suffix is stable"
    );
    assert_eq!(docs.json(tables).await, told, "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_of_another_word_is_refused_with_its_line() {
    let config = |contract: &str| {
        format!(
            "sources:\n  hr:\n    client: {{base_url: 'https://api.example.com', paginator: single_page}}\n    schema_contract: {contract}\n    resource_defaults: {{write_disposition: append}}\n    resources:\n      - name: docs\n        schema_contract: {contract}\n"
        )
    };
    for (contract, wrong) in [
        ("frozen", "expected one of"),
        ("{columns: discard}", "expected one of"),
        ("{column: freeze}", "column"),
        ("[freeze]", "expected"),
        ("3", "expected one of"),
        ("{tables: {a: b}}", "expected one of"),
    ] {
        let problems = rosterd::config::from_str(&config(contract))
            .unwrap_err()
            .to_string();
        for path in [
            "sources.hr.schema_contract",
            "sources.hr.resources[0].schema_contract",
        ] {
            assert!(problems.contains(path), "{contract}: {problems}");
        }
        assert!(problems.contains(wrong), "{contract}: {problems}");
    }
    for contract in [
        "evolve",
        "Freeze",
        "{}",
        "{data_type: discard_value}",
        "null",
    ] {
        let config = rosterd::config::from_str(&config(contract));
        assert!(config.is_ok(), "{contract}: {config:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_of_the_same_record_is_no_version() {
    for nesting in ["", "max_table_nesting: 1\n"] {
        let docs = Documents::new(&format!(
            "primary_key: id\nwrite_disposition: {{disposition: merge, strategy: scd2}}\n{nesting}"
        ))
        .await;
        let first = r#"{"id": 1, "at": "2024-01-01T02:00:00+02:00", "n": 1e2, "l": [{"at": "2024-01-01T02:00:00+02:00"}]}"#;
        let second = r#"{"id": 2, "at": "2024-01-02T02:00:00+02:00", "n": 5, "l": []}"#;
        let third = r#"{"id": 3, "at": "soon", "n": "many", "l": [{"at": "soon"}]}"#;
        docs.load(format!("[{first}, {second}]")).await;
        docs.load(format!("[{first}, {second}, {third}]")).await;
        let changed = second.replace("01-02", "01-03");
        docs.load(format!("[{first}, {changed}, {third}]")).await;
        // Record 1 is spelled as the API does, and has one version; record 2 is another one.
        assert_eq!(
            docs.json(
                "select id, at, n, _valid_to is null as valid from hr.docs order by id, _valid_from"
            )
            .await,
            json!([
                {"id": 1, "at": "2024-01-01T02:00:00+02:00", "n": "1e2", "valid": true},
                {"id": 2, "at": "2024-01-02T00:00:00.000000Z", "n": "5", "valid": false},
                {"id": 2, "at": "2024-01-03T02:00:00+02:00", "n": "5", "valid": true},
                {"id": 3, "at": "soon", "n": "many", "valid": true},
            ]),
            "{nesting}"
        );
        if !nesting.is_empty() {
            assert_eq!(
                docs.json("select l.at from hr.docs__l l join hr.docs d on d._rosterd_id = l._rosterd_root_id where d.id = 1").await,
                json!([{"at": "2024-01-01T02:00:00+02:00"}])
            );
        }
        let versions = "select ctid::text as c, xmin::text as x from hr.docs order by 1";
        let before = docs.json(versions).await;
        docs.load(format!("[{first}, {changed}, {third}]")).await;
        assert_eq!(docs.json(versions).await, before, "{nesting}");
        let again = last_run(&docs, "rows_updated as u, rows_unchanged as n").await;
        assert_eq!(again, json!({"u": 0, "n": 3}), "{nesting}");
    }
}
