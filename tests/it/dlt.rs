//! What dlt's `rest_api` source says of its configuration, statement by statement: each is shown by
//! tests, or stands in the README's table of differences, or both.

use rosterd::config;

use crate::capabilities::known_tests;

/// Section of dlt's documentation, what it is about, the tests that show it, and words of the README's line.
type Statement = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
);

const STATEMENTS: &[Statement] = &[
    (
        "whole",
        "keys are checked with their path",
        &["config::every_problem_is_told_with_its_place_and_all_of_them_at_once"],
        "",
    ),
    (
        "whole",
        "arguments of the source stand in the file",
        &["contracts::the_contract_of_a_source_holds_where_a_resource_has_none"],
        "",
    ),
    (
        "whole",
        "a resource as a text or as a map",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "config::defaults_lie_under_resources_by_the_rules_of_dlt",
        ],
        "",
    ),
    (
        "whole",
        "duplicate names",
        &["config::every_problem_is_told_with_its_place_and_all_of_them_at_once"],
        "",
    ),
    (
        "whole",
        "resource_defaults lie under resources",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "config::defaults_lie_under_resources_by_the_rules_of_dlt",
        ],
        "",
    ),
    (
        "whole",
        "selected",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "dispositions::a_disposition_of_skip_is_no_resource",
        ],
        "",
    ),
    (
        "whole",
        "table_name",
        &["dlt_shown::a_dictionary_means_what_it_means_in_dlt"],
        "",
    ),
    (
        "whole",
        "parallelized",
        &["from_dlt::each_stricter_rule_is_told_with_its_place_and_without_a_value"],
        "| `parallelized`, ",
    ),
    (
        "whole",
        "no rate limit",
        &["fetch::pace::limits_hold_at_the_server_over_all_walks_and_retries"],
        "no rate limit",
    ),
    (
        "whole",
        "no schedule",
        &["scheduling::slots_missed_while_down_become_one_run_and_paused_ones_none"],
        "no schedule",
    ),
    (
        "client",
        "base_url and path",
        &["dlt_shown::a_dictionary_means_what_it_means_in_dlt"],
        "",
    ),
    (
        "client",
        "an absolute path",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "apis::redirects::a_redirect_elsewhere_gets_nothing_and_one_in_a_circle_ends",
        ],
        "followed anywhere",
    ),
    (
        "client",
        "headers",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "apis::teamtailor::teamtailor_jobs_of_every_status_come_by_link_and_then_by_change",
        ],
        "",
    ),
    (
        "client",
        "session",
        &["from_dlt::each_stricter_rule_is_told_with_its_place_and_without_a_value"],
        "`session`",
    ),
    (
        "client",
        "paginator of all endpoints",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "config::defaults_lie_under_resources_by_the_rules_of_dlt",
        ],
        "",
    ),
    (
        "client",
        "method",
        &["answers::requests::a_search_by_put_sends_typed_values_and_lists_as_the_api_reads_them"],
        "",
    ),
    ("client", "TLS and proxy", &[], "TLS and proxy"),
    (
        "auth",
        "bearer",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "apis::workable::workable_candidates_come_by_link_through_a_passing_404",
        ],
        "",
    ),
    (
        "auth",
        "api_key in header, query, cookie",
        &["fetch::keys::a_key_goes_to_its_origin_only_and_is_shown_nowhere"],
        "",
    ),
    (
        "auth",
        "http_basic",
        &["apis::bamboohr::bamboohr_employees_are_read_through_an_overload"],
        "",
    ),
    (
        "auth",
        "oauth2_client_credentials",
        &[
            "fetch::tokens::a_token_is_asked_for_in_every_configured_way",
            "fetch::tokens::walks_at_the_same_time_share_one_token",
        ],
        "",
    ),
    ("auth", "JWT only in Python", &[], "signed assertions"),
    (
        "auth",
        "register_auth",
        &["from_dlt::each_stricter_rule_is_told_with_its_place_and_without_a_value"],
        "classes of your own",
    ),
    (
        "auth",
        "missing secrets are looked up in settings",
        &["from_dlt::each_stricter_rule_is_told_with_its_place_and_without_a_value"],
        "looked up",
    ),
    (
        "auth",
        "secrets in configuration errors",
        &[
            "config::secrets_are_never_shown",
            "config::no_message_repeats_a_value_of_the_file",
        ],
        "",
    ),
    (
        "auth",
        "secrets in logs and HTTP errors",
        &["secrets::no_secret_and_no_person_is_shown_anywhere_at_trace_level"],
        "",
    ),
    (
        "auth",
        "credentials follow links",
        &["fetch::keys::a_key_goes_to_its_origin_only_and_is_shown_nowhere"],
        "followed anywhere",
    ),
    (
        "endpoint",
        "params",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "answers::requests::a_search_by_put_sends_typed_values_and_lists_as_the_api_reads_them",
        ],
        "`True`",
    ),
    (
        "endpoint",
        "json",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "answers::requests::a_search_by_put_sends_typed_values_and_lists_as_the_api_reads_them",
        ],
        "",
    ),
    (
        "endpoint",
        "data",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "answers::requests::forms_and_plain_texts_are_bodies_too",
        ],
        "",
    ),
    (
        "endpoint",
        "headers",
        &["fetch::places::headers_without_a_value_are_left_out"],
        "",
    ),
    (
        "endpoint",
        "static places of the path",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "fetch::places::places_are_filled_for_where_they_stand",
        ],
        "",
    ),
    (
        "endpoint",
        "placeholders",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "fetch::places::places_are_filled_for_where_they_stand",
        ],
        "the text `None`",
    ),
    (
        "endpoint",
        "doubled braces",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "fetch::places::places_are_filled_for_where_they_stand",
        ],
        "",
    ),
    (
        "endpoint",
        "redirects",
        &["fetch::keys::a_key_goes_to_its_origin_only_and_is_shown_nowhere"],
        "followed anywhere",
    ),
    (
        "selector",
        "data_selector",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "fetch::paging::no_content_is_an_empty_end_and_a_lone_object_one_record",
        ],
        "",
    ),
    (
        "selector",
        "no match",
        &["apis::workday_raas::workday_reports_are_read_whole_and_leavers_are_marked"],
        "matches nothing",
    ),
    (
        "selector",
        "guessed selector",
        &["from_dlt::each_stricter_rule_is_told_with_its_place_and_without_a_value"],
        "no `data_selector`",
    ),
    (
        "selector",
        "one match is unwrapped",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "fetch::paging::no_content_is_an_empty_end_and_a_lone_object_one_record",
        ],
        "",
    ),
    (
        "selector",
        "single entities",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "answers::requests::a_path_that_ends_in_a_placeholder_is_one_record_whatever_the_client_pages_by",
        ],
        "",
    ),
    (
        "selector",
        "items that are no objects",
        &["shapes::every_odd_document_ends_as_it_should"],
        "column `value`",
    ),
    (
        "selector",
        "bodies that are no JSON",
        &["api_trouble::each_trouble_is_named_bounded_and_its_own"],
        "without content (204)",
    ),
    (
        "paginator",
        "page_number",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "fetch::paging::every_paginator_reads_everything_once_and_is_proven",
            "paging::a_rule_that_dlt_does_not_have_stands_in_for_its_total",
        ],
        "",
    ),
    (
        "paginator",
        "offset",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "fetch::paging::every_paginator_reads_everything_once_and_is_proven",
            "fetch::paging::empty_and_short_pages_in_the_middle_are_not_the_end",
        ],
        "goes on by `limit`",
    ),
    (
        "paginator",
        "totals that are missing or odd",
        &["fetch::paging::totals_that_lie_are_told_from_complete_walks"],
        "",
    ),
    (
        "paginator",
        "has_more",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "apis::ashby::ashby_is_read_by_sync_token_and_read_whole_when_the_token_expired",
        ],
        "",
    ),
    (
        "paginator",
        "empty pages",
        &["fetch::paging::empty_and_short_pages_in_the_middle_are_not_the_end"],
        "",
    ),
    (
        "paginator",
        "a stop rule is required",
        &["fetch::paging::a_walk_that_would_not_end_is_ended"],
        "go on for ever",
    ),
    (
        "paginator",
        "cursor",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "fetch::paging::every_paginator_reads_everything_once_and_is_proven",
        ],
        "",
    ),
    (
        "paginator",
        "header_cursor",
        &["fetch::kinds::the_next_token_stands_in_a_header"],
        "",
    ),
    (
        "paginator",
        "json_link",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "fetch::paging::every_paginator_reads_everything_once_and_is_proven",
        ],
        "",
    ),
    (
        "paginator",
        "header_link",
        &["fetch::paging::every_paginator_reads_everything_once_and_is_proven"],
        "",
    ),
    (
        "paginator",
        "single_page",
        &["fetch::paging::every_paginator_reads_everything_once_and_is_proven"],
        "",
    ),
    (
        "paginator",
        "auto",
        &["fetch::kinds::auto_asks_once_and_says_what_to_write"],
        "no `paginator`",
    ),
    (
        "paginator",
        "register_paginator",
        &["from_dlt::each_stricter_rule_is_told_with_its_place_and_without_a_value"],
        "classes of your own",
    ),
    (
        "paginator",
        "a limit of pages",
        &["fetch::kinds::a_loop_is_found_however_long_it_is"],
        "",
    ),
    (
        "answers",
        "error statuses",
        &["fetch::faults::faults_that_stay_have_a_class_and_a_code"],
        "",
    ),
    (
        "answers",
        "response_actions",
        &["answers::rules::each_action_means_what_it_says_on_the_third_page"],
        "",
    ),
    (
        "answers",
        "ignore",
        &["answers::rules::only_empty_proves_that_the_rows_behind_it_are_gone"],
        "`action: ignore`",
    ),
    (
        "answers",
        "a status as text",
        &["from_dlt::each_stricter_rule_is_told_with_its_place_and_without_a_value"],
        "written as text",
    ),
    (
        "answers",
        "no action, unknown action",
        &["answers::refused::rules"],
        "",
    ),
    (
        "answers",
        "what is retried",
        &["fetch::faults::faults_that_pass_are_ridden_out_and_counted"],
        "four retries",
    ),
    (
        "answers",
        "how often and how long",
        &["fetch::faults::faults_that_pass_are_ridden_out_and_counted"],
        "four retries",
    ),
    (
        "answers",
        "Retry-After",
        &["fetch::pace::retry_after_is_never_undercut_also_by_other_walks"],
        "",
    ),
    (
        "answers",
        "timeouts",
        &["fetch::faults::faults_that_stay_have_a_class_and_a_code"],
        "",
    ),
    (
        "answers",
        "a resource that fails",
        &["api_trouble::each_trouble_is_named_bounded_and_its_own"],
        "ends all others",
    ),
    (
        "answers",
        "long reads",
        &["deletes::a_stopped_walk_goes_on_and_knows_what_it_saw"],
        "",
    ),
    (
        "incremental",
        "cursor_path and state",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "incremental::values::a_walk_that_fails_leaves_the_cursor_where_it_was",
        ],
        "",
    ),
    (
        "incremental",
        "initial_value",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "fetch::paging::asks_only_for_what_changed_by_get_and_by_post",
        ],
        "",
    ),
    (
        "incremental",
        "start_value and its kin",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "answers::requests::the_cursor_stands_wherever_it_was_put_in_the_second_run",
        ],
        "",
    ),
    (
        "incremental",
        "no initial_value",
        &["apis::workable::workable_candidates_come_by_link_through_a_passing_404"],
        "the text `None`",
    ),
    (
        "incremental",
        "start_param, end_param",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "apis::hubstaff::hubstaff_activities_come_in_windows_of_whole_hours",
        ],
        "",
    ),
    (
        "incremental",
        "params of type incremental",
        &["incremental::refused::dlts_parameter_of_type_incremental_is_the_section"],
        "",
    ),
    (
        "incremental",
        "end_value",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "incremental::values::between_fixed_ends_there_is_no_cursor",
        ],
        "",
    ),
    (
        "incremental",
        "range_start, range_end",
        &[
            "incremental::values::between_fixed_ends_there_is_no_cursor",
            "incremental::values::what_the_api_was_not_asked_to_keep_back_is_left_out",
        ],
        "",
    ),
    (
        "incremental",
        "comparison",
        &["incremental::values::a_cursor_in_the_apis_own_spelling_is_compared_as_an_instant"],
        "cursors compare",
    ),
    (
        "incremental",
        "records at the border",
        &["incremental::values::what_changed_twice_within_the_same_instant_is_seen"],
        "rows equal to the last cursor value",
    ),
    (
        "incremental",
        "records below the cursor",
        &["incremental::values::what_the_api_was_not_asked_to_keep_back_is_left_out"],
        "rows before the cursor",
    ),
    (
        "incremental",
        "on_cursor_value_missing",
        &[
            "incremental::values::a_record_without_a_cursor_value_is_included_left_out_or_fails_the_run",
        ],
        "on_cursor_value_missing",
    ),
    (
        "incremental",
        "lag",
        &["config::a_plain_lag_means_what_it_means_in_dlt"],
        "",
    ),
    (
        "incremental",
        "row_order",
        &[
            "incremental::values::newest_first_ends_at_the_first_page_that_is_older_than_the_cursor",
            "incremental::values::oldest_first_ends_at_the_first_page_that_is_past_the_end",
        ],
        "",
    ),
    (
        "incremental",
        "convert",
        &["from_dlt::each_stricter_rule_is_told_with_its_place_and_without_a_value"],
        "`convert`",
    ),
    (
        "incremental",
        "several parents",
        &["apis::seven_shifts::sevenshifts_users_are_read_company_by_company_and_day_by_day"],
        "one cursor for all parents",
    ),
    (
        "incremental",
        "when the cursor moves",
        &["commits::a_lost_answer_to_commit_neither_doubles_nor_loses_rows_or_counts"],
        "",
    ),
    (
        "parents",
        "resolve",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "parents::chains::the_older_form_of_dlt_means_the_same",
        ],
        "",
    ),
    (
        "parents",
        "several parents, cycles, unknown parents",
        &["dlt::parents_that_cannot_be_are_refused_before_any_request"],
        "",
    ),
    (
        "parents",
        "levels",
        &["apis::seven_shifts::sevenshifts_users_are_read_company_by_company_and_day_by_day"],
        "",
    ),
    (
        "parents",
        "a field is missing or null",
        &[
            "parents::batches::a_parent_that_stands_twice_is_asked_for_once_and_one_without_a_value_not_at_all",
        ],
        "the text `None`",
    ),
    (
        "parents",
        "special characters in ids",
        &["parents::chains::ids_stay_one_segment_and_stand_wherever_they_are_named"],
        "percent-encoded",
    ),
    (
        "parents",
        "duplicate parents",
        &[
            "parents::batches::a_parent_that_stands_twice_is_asked_for_once_and_one_without_a_value_not_at_all",
        ],
        "asked for once",
    ),
    (
        "parents",
        "batches",
        &["parents::batches::batches_are_written_as_the_api_reads_them"],
        "",
    ),
    (
        "parents",
        "include_from_parent",
        &[
            "dlt_shown::a_dictionary_means_what_it_means_in_dlt",
            "apis::hibob::hibob_work_is_read_person_by_person",
        ],
        "",
    ),
    (
        "parents",
        "filtered parents",
        &["parents::chains::steps_of_the_parent_decide_which_children_are_asked_for"],
        "",
    ),
    (
        "parents",
        "processing_steps",
        &["steps::a_map_of_keys_becomes_rows_and_money_keeps_every_digit"],
        "programs of jq",
    ),
];

#[test]
fn every_statement_on_dlt_is_shown_by_tests_that_exist_or_stands_in_the_readme() {
    let known = known_tests();
    let readme = include_str!("../../README.md");
    let start = readme.find("### Differences from dlt").unwrap();
    let end = readme[start..].find("\n## ").unwrap();
    let differences = &readme[start..start + end];
    let mut wrong = Vec::new();
    for (section, what, tests, words) in STATEMENTS {
        wrong.extend(
            tests
                .iter()
                .filter(|test| !known.contains(**test))
                .map(|test| format!("{section}, {what}: no test {test}")),
        );
        if !differences.contains(words) {
            wrong.push(format!("{section}, {what}: {words:?} is not in the README"));
        }
        if tests.is_empty() && words.is_empty() {
            wrong.push(format!("{section}, {what}: neither shown nor told"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn parents_that_cannot_be_are_refused_before_any_request() {
    for (what, resources) in [
        (
            "nobody",
            "[{name: a, endpoint: 'a/{resources.nobody.id}/x'}]",
        ),
        ("itself", "[{name: a, endpoint: 'a/{resources.a.id}/x'}]"),
        (
            "a circle",
            "[{name: a, endpoint: 'a/{resources.b.id}/x'}, {name: b, endpoint: 'b/{resources.a.id}/x'}]",
        ),
        (
            "two that are no line",
            "[p, q, {name: a, endpoint: 'a/{resources.p.id}/{resources.q.id}/x'}]",
        ),
        (
            "a parent without its records",
            "[{name: a, include_from_parent: [id], endpoint: a}]",
        ),
    ] {
        let text = format!(
            "sources: {{hr: {{client: {{base_url: 'https://x.example', paginator: single_page}}, resources: {resources}}}}}"
        );
        let problems = config::from_str(&text)
            .err()
            .unwrap_or_else(|| panic!("{what} was accepted"));
        let told = problems
            .iter()
            .any(|problem| problem.path.starts_with("sources.hr.resources["));
        assert!(told, "{what}: {problems}");
    }
}
