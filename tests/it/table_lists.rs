//! The lists that the table side is held to, row by row, each with what shows it: a test, or a case of one
//! of the tables of cases. A row whose test or case is renamed or dropped fails here.
//!
//! The ids are those of the list of failures (A: walks and tables, D: shapes of data) and the lines of
//! dlt's write dispositions and schema inference.

use crate::{capabilities::known_tests, features, shapes, strategies};

/// A row, and tests by their names or cases by how they begin.
type Row = (&'static str, &'static [&'static str]);

const FAILURES: &[Row] = &[
    (
        "A23 an error envelope read as no rows",
        &[
            "guarded::an_answer_without_its_list_is_no_empty_list_on_any_page",
            "fetch::faults::faults_that_stay_have_a_class_and_a_code",
        ],
    ),
    (
        "A24 deletes of an incomplete walk",
        &[
            "deletes::a_walk_that_is_refused_on_any_page_deletes_nothing",
            "deletes::a_walk_that_is_cut_short_on_any_page_deletes_nothing",
            "deletes::too_many_rows_are_held_until_somebody_allows_it_once",
            "deletes::records_that_move_while_they_are_read_are_never_taken_for_gone",
            "deletes::a_row_that_comes_back_is_no_more_deleted",
        ],
    ),
    (
        "A25 replace shows an empty table",
        &["guarded::a_reader_in_the_middle_of_a_swap_sees_the_old_rows_or_the_new_ones"],
    ),
    (
        "A26 state without its data",
        &["commits::a_lost_answer_to_commit_neither_doubles_nor_loses_rows_or_counts"],
    ),
    (
        "A27 state reset in silence",
        &["guarded::a_cursor_of_another_question_is_refused_and_kept_until_somebody_resets_it"],
    ),
    (
        "A28 another question, the old cursor",
        &["guarded::a_cursor_of_another_question_is_refused_and_kept_until_somebody_resets_it"],
    ),
    (
        "A29 an older version over a newer one",
        &["dispositions::a_stored_row_is_never_replaced_by_an_older_version"],
    ),
    ("D1 a key twice in a page", &["D1 "]),
    ("D2 null, missing, empty key", &["D2 "]),
    ("D3 one key in several spellings", &["D3 "]),
    ("D4 keys that differ by case or composition", &["D4 "]),
    (
        "D5 a type that changes",
        &[
            "D5 ",
            "contracts::what_a_view_hangs_on_stays_and_misfits_go_beside_it",
        ],
    ),
    (
        "D6 numbers beyond every type",
        &["D6 ", "shape::postgres_reads_each_value_as_it_was_meant"],
    ),
    (
        "D7 NaN and Infinity",
        &[
            "D7, D11, D12 ",
            "shapes::values_convert_to_the_hinted_type_exactly_or_make_a_reject",
        ],
    ),
    (
        "D8 NUL",
        &[
            "D8, D9 ",
            "shapes::nul_and_lone_surrogates_go_by_the_policy",
        ],
    ),
    ("D9 lone surrogates", &["D8, D9 ", "D9 "]),
    (
        "D10 invalid UTF-8",
        &["shapes::a_page_that_is_no_utf8_fails_with_the_place_and_is_read_again"],
    ),
    (
        "D11 dates that are none, and words that the server takes for dates",
        &[
            "D7, D11, D12 ",
            "shapes::values_convert_to_the_hinted_type_exactly_or_make_a_reject",
        ],
    ),
    (
        "D12 words that the server takes for booleans",
        &[
            "D7, D11, D12 ",
            "shapes::values_convert_to_the_hinted_type_exactly_or_make_a_reject",
        ],
    ),
    ("D13 times without a zone", &["D13 "]),
    (
        "D14 two fields, one column",
        &[
            "D14 ",
            "contracts::names_that_clash_get_a_stable_suffix_and_an_event",
        ],
    ),
    (
        "D15 names of more than 63 bytes",
        &[
            "D15 ",
            "shapes::names_of_tables_indexes_and_constraints_fit_and_are_never_shared",
        ],
    ),
    (
        "D16 more columns than a table can have",
        &["D16 more", "D16 a column"],
    ),
    ("D17 names that differ by case", &["D17, D18 "]),
    ("D18 names of Postgres' own", &["D17, D18 "]),
    ("D19 deep nesting", &["D19 nesting", "D19 values"]),
    ("D20 a name twice in a record", &["D20 "]),
    ("D21 long keys and texts", &["D21 "]),
    (
        "D22 pages of no, one and very many rows",
        &[
            "D22 a page of no",
            "D22 a page of one",
            "D22 a page of many",
        ],
    ),
    (
        "D23 missing or null",
        &[
            "D23 ",
            "new and vanished fields; D23",
            "dispositions::fields_that_a_record_leaves_out_stay_under_partial_records_only",
        ],
    ),
    ("D24 letters of all kinds", &["D24 "]),
];

const DISPOSITIONS: &[Row] = &[
    ("append", &["append: "]),
    (
        "replace",
        &[
            "replace: equal",
            "replace: an answer without",
            "replace: a load that fails",
            "replace: records that are all rejected",
            "guarded::a_reader_in_the_middle_of_a_swap_sees_the_old_rows_or_the_new_ones",
        ],
    ),
    (
        "merge, delete-insert",
        &[
            "merge, delete-insert: a compound key",
            "merge, delete-insert: the row keeps",
            "merge, delete-insert: a compound merge key",
        ],
    ),
    (
        "merge without keys",
        &["merge without keys: no", "merge without keys: a key"],
    ),
    (
        "dedup_sort",
        &[
            "dedup_sort: the highest",
            "dedup_sort: without",
            "dispositions::of_two_records_with_one_key_the_highest_version_counts_wherever_it_stands",
        ],
    ),
    ("skip dedup", &["skip dedup: "]),
    (
        "hard_delete",
        &["hard_delete: true", "hard_delete: of other types"],
    ),
    ("upsert", &["upsert: "]),
    ("insert-only", &["insert-only: "]),
    (
        "scd2",
        &[
            "scd2: versions",
            "scd2: a merge key",
            "dispositions::scd2_takes_dlts_options",
        ],
    ),
    ("deletes at the source", &["deletes at the source: "]),
    ("null key", &["null key: "]),
    (
        "changing append -> merge",
        &[
            "changing append -> merge: the table",
            "changing append -> merge: rows",
        ],
    ),
];

const INFERENCE: &[Row] = &[
    ("types", &["types: "]),
    (
        "timestamp detection",
        &[
            "timestamp detection: ",
            "shapes::detections_can_be_switched_off",
        ],
    ),
    ("first type wins, then coercion", &["first type wins: "]),
    (
        "variant columns",
        &[
            "variant columns: ",
            "contracts::whatever_hangs_on_a_column_leads_beside_it_and_never_to_a_drop",
        ],
    ),
    ("names", &["names of dlt"]),
    (
        "collisions",
        &["contracts::names_that_clash_get_a_stable_suffix_and_an_event"],
    ),
    (
        "long names",
        &["shapes::names_of_tables_indexes_and_constraints_fit_and_are_never_shared"],
    ),
    ("objects", &["objects: "]),
    (
        "lists",
        &[
            "lists: ",
            "nesting::lists_become_tables_with_links_to_their_rows",
        ],
    ),
    ("max_table_nesting", &["max_table_nesting: "]),
    (
        "null",
        &[
            "null: ",
            "shapes::columns_of_hints_exist_with_their_types_even_when_every_value_is_null",
        ],
    ),
    ("new / vanished fields", &["new and vanished fields"]),
    (
        "columns hints",
        &[
            "columns hints: ",
            "keys::every_key_makes_another_table_than_its_absence",
        ],
    ),
    ("unique, indexes", &["unique: "]),
    (
        "nested_hints, references, file_format, table_format",
        &["from_dlt::each_stricter_rule_is_told_with_its_place_and_without_a_value"],
    ),
    ("primary_key", &["primary_key: "]),
    (
        "schema contract",
        &[
            "contracts::a_contract_holds_after_the_first_load_and_never_blocks_a_later_run",
            "contracts::lists_obey_the_contract_too",
        ],
    ),
    ("big integers", &["big integers"]),
    ("NUL in text", &["NUL in text: "]),
    ("system column names", &["system names: "]),
];

/// What a walk that deletes can come to, and what must hold of all strategies.
const PROMISES: &[Row] = &[
    (
        "snapshot: a complete walk",
        &["deletes::a_complete_walk_ends_the_rows_that_it_did_not_see"],
    ),
    (
        "snapshot: a walk cut at each page",
        &[
            "deletes::a_walk_that_is_cut_short_on_any_page_deletes_nothing",
            "deletes::a_walk_that_is_refused_on_any_page_deletes_nothing",
            "deletes::a_stopped_walk_goes_on_and_knows_what_it_saw",
        ],
    ),
    (
        "snapshot: a 403 in a child",
        &[
            "parents::proof::rows_are_deleted_after_a_whole_fan_out_only",
            "parents::proof::a_fan_out_that_is_cut_at_any_request_deletes_the_right_rows_in_the_end",
        ],
    ),
    (
        "snapshot: an empty answer",
        &["deletes::an_empty_answer_deletes_nothing_however_few_the_rows"],
    ),
    (
        "snapshot: half of the rows missing",
        &["deletes::too_many_rows_are_held_until_somebody_allows_it_once"],
    ),
    (
        "snapshot: a row that returns",
        &[
            "deletes::a_row_that_comes_back_is_no_more_deleted",
            "marked_lists::lists_are_marked_and_come_back_with_their_rows",
        ],
    ),
    (
        "what is kept out is in no dump and no output",
        &["traces::a_dump_of_everything_holds_nothing_that_is_kept_out"],
    ),
    (
        "random documents, two runs",
        &["nested_truth::all_tables_equal_random_documents_after_two_runs_with_changes_between"],
    ),
    (
        "fast ways and slow ones make the same rows",
        &["ways::random_documents_become_the_same_rows_by_every_way_into_the_table"],
    ),
    (
        "a second run writes nothing",
        &[
            "unchanged::a_second_run_over_unchanged_data_writes_no_row_whatever_the_strategy",
            "unchanged::what_a_contract_leaves_out_of_every_run_is_no_change",
        ],
    ),
    (
        "every key has a test that fails without it",
        &[
            "keys::every_key_of_the_reference_that_is_about_rows_has_its_row_here",
            "keys::every_key_makes_another_table_than_its_absence",
        ],
    ),
];

/// Those that kill the process at a named point.
#[cfg(feature = "failpoints")]
const KILLED: &[Row] = &[
    (
        "A26 rows, cursor and counters, killed at every point",
        &["crash::a_run_killed_at_any_point_is_made_good_by_the_next_start"],
    ),
    (
        "snapshot: a kill and resume at each page",
        &["deletes::a_walk_that_is_killed_anywhere_deletes_the_right_rows_in_the_end"],
    ),
];

#[cfg(not(feature = "failpoints"))]
const KILLED: &[Row] = &[];

#[test]
fn every_row_of_the_lists_is_shown_by_a_test_or_a_case_that_exists() {
    let known = known_tests();
    let cases: Vec<&str> = shapes::cases()
        .into_iter()
        .chain(features::cases())
        .chain(strategies::cases())
        .collect();
    let mut wrong = Vec::new();
    for (row, shown) in [FAILURES, DISPOSITIONS, INFERENCE, PROMISES, KILLED].concat() {
        let missing = shown.iter().filter(|shown| {
            !known.contains(**shown) && !cases.iter().any(|case| case.starts_with(**shown))
        });
        wrong.extend(missing.map(|missing| format!("{row}: {missing}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (what, from, to) in [("A", 23, 29), ("D", 1, 24)] {
        for number in from..=to {
            let id = format!("{what}{number} ");
            let rows = FAILURES.iter().filter(|row| row.0.starts_with(&id));
            assert_eq!(rows.count(), 1, "{id}");
        }
    }
}
