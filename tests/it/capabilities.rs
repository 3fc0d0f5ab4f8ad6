//! What real HR APIs demand of a configuration: 81 capabilities, each with the tests that show it.
//!
//! A test that is named here must exist in this binary.

use std::{collections::BTreeSet, process::Command};

/// Number, tag, what it is, and the tests that show it against a real HTTP server and a real table.
const CAPABILITIES: &[(u8, &str, &str, &[&str])] = &[
    (
        1,
        "t_drop",
        "a named field is left out or hashed before anything is stored",
        &[
            "traces::a_dump_of_everything_holds_nothing_that_is_kept_out",
            "apis::factorial::factorial_is_read_to_its_empty_page_and_only_changes_are_written",
        ],
    ),
    (
        2,
        "d_path",
        "records at a nested path",
        &["apis::successfactors::successfactors_periods_are_kept_apart_and_dates_are_dates"],
    ),
    (
        3,
        "i_none",
        "no filter for changes: full read, only changes written",
        &["apis::factorial::factorial_is_read_to_its_empty_page_and_only_changes_are_written"],
    ),
    (
        4,
        "c_path",
        "a request per parent, its id in the path",
        &[
            "apis::hibob::hibob_work_is_read_person_by_person",
            "parents::chains::a_child_is_walked_page_by_page_for_each_parent_and_takes_its_fields_along",
        ],
    ),
    (
        5,
        "i_since",
        "a parameter with the time of the last change",
        &["apis::workable::workable_candidates_come_by_link_through_a_passing_404"],
    ),
    (
        6,
        "t_custom",
        "custom fields become columns at run time",
        &[
            "nested_truth::all_tables_equal_random_documents_after_two_runs_with_changes_between",
            "privacy::new_fields_are_blocked_or_told",
        ],
    ),
    (
        7,
        "p_page",
        "page numbers from 0 or 1, to a total or an empty page",
        &[
            "apis::factorial::factorial_is_read_to_its_empty_page_and_only_changes_are_written",
            "fetch::paging::every_paginator_reads_everything_once_and_is_proven",
        ],
    ),
    (
        8,
        "u_tenant",
        "values of the tenant in host and path",
        &[
            "apis::workday_raas::workday_reports_are_read_whole_and_leavers_are_marked",
            "apis::paycor::paycor_employees_come_by_links_without_a_host",
        ],
    ),
    (
        9,
        "x_snapshot",
        "rows that a complete read did not see are marked",
        &[
            "apis::workday_raas::workday_reports_are_read_whole_and_leavers_are_marked",
            "deletes::a_walk_that_is_cut_short_on_any_page_deletes_nothing",
        ],
    ),
    (
        10,
        "a_refresh",
        "refresh tokens that change and are kept",
        &[
            "apis::gusto::gusto_is_read_company_by_company_with_a_token_that_changes",
            "credentials::each_new_token_is_kept_and_used_by_the_next_process",
            "credentials::of_many_replicas_one_refreshes_at_a_time",
        ],
    ),
    (
        11,
        "i_fmt",
        "the cursor in the API's own format",
        &[
            "apis::zoho_people::zoho_people_records_lose_their_maps_and_no_records_are_no_error",
            "incremental::values::a_cursor_in_the_apis_own_spelling_is_compared_as_an_instant",
        ],
    ),
    (
        12,
        "e_budget",
        "several limits at once, for all resources of a credential",
        &[
            "fetch::pace::limits_hold_at_the_server_over_all_walks_and_retries",
            "parents::failures::requests_of_children_keep_to_the_rate_limit",
        ],
    ),
    (
        13,
        "i_window",
        "start and end, in windows of a maximum width",
        &[
            "apis::hubstaff::hubstaff_activities_come_in_windows_of_whole_hours",
            "incremental::spans::a_span_is_walked_in_windows_that_touch_each_other",
        ],
    ),
    (
        14,
        "a_bearer",
        "a static bearer token",
        &["apis::workable::workable_candidates_come_by_link_through_a_passing_404"],
    ),
    (
        15,
        "c_inc",
        "fields of the parent in the child's rows and key",
        &[
            "apis::seven_shifts::sevenshifts_users_are_read_company_by_company_and_day_by_day",
            "parents::chains::a_child_is_walked_page_by_page_for_each_parent_and_takes_its_fields_along",
        ],
    ),
    (
        16,
        "d_root",
        "records are the root array",
        &["apis::deputy::deputy_is_searched_in_pages_to_a_short_one"],
    ),
    (
        17,
        "p_offset",
        "offsets from 0 or 1, by rows or by pages",
        &[
            "apis::personio::personio_absences_come_by_pages_and_by_days",
            "apis::zoho_people::zoho_people_records_lose_their_maps_and_no_records_are_no_error",
        ],
    ),
    (
        18,
        "a_multi",
        "more headers beside the credential",
        &["apis::merge::merge_is_read_by_cursor_and_deleted_records_leave"],
    ),
    (
        19,
        "a_cc",
        "client credentials by form or JSON, with basic, with extra fields",
        &["apis::greenhouse::greenhouse_cursors_go_alone_and_the_bounds_in_one_parameter"],
    ),
    (
        20,
        "a_hdr",
        "a key in a named header, in a template",
        &["apis::teamtailor::teamtailor_jobs_of_every_status_come_by_link_and_then_by_change"],
    ),
    (
        21,
        "r_fields",
        "lists of fields in the request",
        &["apis::hibob::hibob_people_are_searched_with_leavers_and_only_changes_are_written"],
    ),
    (
        22,
        "t_coerce",
        "odd values: dates of OData, texts for null",
        &[
            "apis::successfactors::successfactors_periods_are_kept_apart_and_dates_are_dates",
            "shapes::texts_that_stand_for_null_are_null_by_column_and_by_resource",
        ],
    ),
    (
        23,
        "a_basic",
        "HTTP Basic with the key as user",
        &["apis::bamboohr::bamboohr_employees_are_read_through_an_overload"],
    ),
    (
        24,
        "p_nexturl",
        "the next URL in the body, absolute or relative",
        &[
            "apis::teamtailor::teamtailor_jobs_of_every_status_come_by_link_and_then_by_change",
            "apis::paycor::paycor_employees_come_by_links_without_a_host",
        ],
    ),
    (
        25,
        "t_key",
        "composite, nested or made keys",
        &["apis::successfactors::successfactors_periods_are_kept_apart_and_dates_are_dates"],
    ),
    (
        26,
        "e_reset",
        "other reset headers by name and unit",
        &[
            "fetch::pace::an_api_that_tells_what_is_left_is_never_asked_for_more",
            "apis::odd::an_api_that_tells_when_its_window_is_over_is_waited_for",
        ],
    ),
    (
        27,
        "p_cursor_q",
        "a cursor of the body in the query",
        &["apis::merge::merge_is_read_by_cursor_and_deleted_records_leave"],
    ),
    (
        28,
        "p_shortpage",
        "the end is a short page",
        &["apis::deputy::deputy_is_searched_in_pages_to_a_short_one"],
    ),
    (
        29,
        "q_bracket",
        "parameters with brackets, dollars and blanks",
        &["apis::teamtailor::teamtailor_jobs_of_every_status_come_by_link_and_then_by_change"],
    ),
    (
        30,
        "a_session",
        "a login gives the token",
        &["apis::personio::personio_employees_lose_their_envelopes"],
    ),
    (
        31,
        "e_retryafter",
        "Retry-After",
        &[
            "fetch::pace::retry_after_is_never_undercut_also_by_other_walks",
            "apis::bamboohr::bamboohr_employees_are_read_through_an_overload",
        ],
    ),
    (
        32,
        "i_lookback",
        "a span is read again each time",
        &["apis::personio::personio_absences_come_by_pages_and_by_days"],
    ),
    (
        33,
        "r_post",
        "a list by POST",
        &["apis::hibob::hibob_people_are_searched_with_leavers_and_only_changes_are_written"],
    ),
    (
        34,
        "p_hasmore",
        "a flag says whether there is more",
        &["apis::ashby::ashby_is_read_by_sync_token_and_read_whole_when_the_token_expired"],
    ),
    (
        35,
        "p_none",
        "one large answer without pages",
        &[
            "apis::workday_raas::workday_reports_are_read_whole_and_leavers_are_marked",
            "answers::bodies::a_huge_answer_is_read_no_faster_than_it_is_taken",
        ],
    ),
    (
        36,
        "c_detail",
        "list and detail in one row",
        &[
            "apis::jazzhr::jazzhr_applicants_are_list_and_detail_in_one_row",
            "parents::batches::a_detail_is_laid_over_its_list_row_which_stays_when_there_is_none",
        ],
    ),
    (
        37,
        "c_static",
        "one endpoint over a fixed list of values",
        &["parents::batches::values_of_the_file_are_parents_without_a_request"],
    ),
    (
        38,
        "r_expr",
        "the cursor inside an expression",
        &["apis::successfactors::successfactors_periods_are_kept_apart_and_dates_are_dates"],
    ),
    (
        39,
        "x_flag",
        "a flag on the record deletes the row",
        &["apis::merge::merge_is_read_by_cursor_and_deleted_records_leave"],
    ),
    (
        40,
        "x_term",
        "leavers are asked for",
        &["apis::hibob::hibob_people_are_searched_with_leavers_and_only_changes_are_written"],
    ),
    (
        41,
        "d_explode",
        "a nested list becomes rows with a key of their own",
        &["apis::bamboohr::bamboohr_tables_are_a_map_by_employee_and_only_the_changed_ones_come"],
    ),
    (
        42,
        "x_feed",
        "a feed of deletes ends rows of another endpoint",
        &["apis::lever::lever_is_read_in_windows_and_deletes_are_followed"],
    ),
    (
        43,
        "c_multi",
        "two ancestors in one path",
        &[
            "apis::seven_shifts::sevenshifts_users_are_read_company_by_company_and_day_by_day",
            "parents::chains::levels_may_be_many_and_a_path_may_name_all_of_them",
        ],
    ),
    (
        44,
        "c_query",
        "the parent's value in query or body",
        &["parents::chains::ids_stay_one_segment_and_stand_wherever_they_are_named"],
    ),
    (
        45,
        "d_map",
        "a map by id becomes rows that keep it",
        &[
            "apis::bamboohr::bamboohr_tables_are_a_map_by_employee_and_only_the_changed_ones_come",
            "steps::a_map_of_keys_becomes_rows_and_money_keeps_every_digit",
        ],
    ),
    (
        46,
        "d_unwrap",
        "fields in envelopes",
        &["apis::personio::personio_employees_lose_their_envelopes"],
    ),
    (
        47,
        "e_empty",
        "an error that means no rows",
        &["answers::rules::only_empty_proves_that_the_rows_behind_it_are_gone"],
    ),
    (
        48,
        "i_runstart",
        "the cursor is the start of the run",
        &["apis::hibob::hibob_changes_of_time_off_are_asked_for_from_the_last_run_on"],
    ),
    (
        49,
        "a_401",
        "401: refresh once, then once more",
        &[
            "fetch::tokens::a_token_that_expires_is_renewed_and_a_revoked_one_once",
            "apis::odd::tokens_are_asked_for_in_every_way_and_once_more_when_they_are_refused",
        ],
    ),
    (
        50,
        "e_200",
        "a failure within 200",
        &[
            "apis::ashby::ashby_refuses_with_status_200_and_the_run_fails",
            "apis::zoho_people::zoho_people_records_lose_their_maps_and_no_records_are_no_error",
        ],
    ),
    (
        51,
        "e_403",
        "403 skips the resource and is not repeated",
        &[
            "answers::rules::each_action_means_what_it_says_on_the_third_page",
            "fetch::circuit::many_403_across_walks_spare_the_credential_and_none_is_sent_twice",
        ],
    ),
    (
        52,
        "e_code",
        "statuses that are tried again",
        &["apis::workable::workable_candidates_come_by_link_through_a_passing_404"],
    ),
    (
        53,
        "p_body",
        "page and cursor in the body",
        &[
            "apis::deputy::deputy_is_searched_in_pages_to_a_short_one",
            "apis::ashby::ashby_is_read_by_sync_token_and_read_whole_when_the_token_expired",
        ],
    ),
    (
        54,
        "p_link",
        "the header Link",
        &["apis::greenhouse::greenhouse_cursors_go_alone_and_the_bounds_in_one_parameter"],
    ),
    (
        55,
        "c_batch",
        "several parents in one request",
        &["parents::batches::batches_are_written_as_the_api_reads_them"],
    ),
    (
        56,
        "d_nonjson",
        "CSV, XML, NDJSON, gzip",
        &["answers::bodies::the_same_rows_come_from_every_form_of_answer_packed_or_not"],
    ),
    (
        57,
        "i_desc",
        "newest first: the walk ends at the first older row",
        &["incremental::values::newest_first_ends_at_the_first_page_that_is_older_than_the_cursor"],
    ),
    (
        58,
        "i_perpart",
        "a cursor per parent",
        &[
            "apis::seven_shifts::sevenshifts_users_are_read_company_by_company_and_day_by_day",
            "parents::cursors::each_parent_has_a_cursor_of_its_own_that_moves_only_with_its_walk",
        ],
    ),
    (
        59,
        "p_restart",
        "a cursor that expired: from the beginning",
        &["apis::lever::lever_is_read_in_windows_and_deletes_are_followed"],
    ),
    (
        60,
        "r_bodyinc",
        "the cursor deep in the body",
        &["apis::deputy::deputy_is_searched_in_pages_to_a_short_one"],
    ),
    (
        61,
        "a_assert",
        "signed assertions",
        &[
            "fetch::tokens::a_signed_statement_is_made_for_each_token",
            "apis::odd::tokens_are_asked_for_in_every_way_and_once_more_when_they_are_refused",
        ],
    ),
    (
        62,
        "a_bodykey",
        "the credential in the body",
        &["apis::odd::the_key_goes_in_the_body_beside_what_is_asked_for"],
    ),
    (
        63,
        "a_dynbase",
        "the base URL from the login",
        &[
            "fetch::network::a_login_may_send_us_to_hosts_that_are_admitted_and_nowhere_else",
            "apis::odd::tokens_are_asked_for_in_every_way_and_once_more_when_they_are_refused",
        ],
    ),
    (
        64,
        "c_lookup",
        "a look-up whose value other requests use",
        &[
            "apis::gusto::gusto_is_read_company_by_company_with_a_token_that_changes",
            "parents::batches::one_look_up_serves_one_request",
        ],
    ),
    (
        65,
        "d_filter",
        "records by a predicate",
        &["apis::odd::records_are_chosen_by_a_predicate_of_the_selector_and_of_a_step"],
    ),
    (
        66,
        "e_redir",
        "303 and 307 to another data centre",
        &["apis::redirects::a_redirect_to_another_data_centre_keeps_method_body_and_key"],
    ),
    (
        67,
        "i_changefeed",
        "a feed of changed ids, then the details",
        &[
            "parents::cursors::of_an_incremental_parent_only_those_are_read_that_changed_unless_all_are_wanted",
        ],
    ),
    (
        68,
        "i_future",
        "a window that ends in the future",
        &["apis::bamboohr::bamboohr_time_off_is_read_into_the_future"],
    ),
    (
        69,
        "p_end204",
        "the end is an empty answer",
        &["apis::adp::adp_workers_are_read_with_a_certificate_to_an_answer_without_content"],
    ),
    (
        70,
        "r_discover",
        "a list of fields that is looked up first",
        &["parents::batches::one_look_up_serves_one_request"],
    ),
    (
        71,
        "y_job",
        "create a job, poll, download",
        &["answers::exports::an_export_is_created_waited_for_and_fetched_in_every_run"],
    ),
    (
        72,
        "a_mtls",
        "a client certificate",
        &["apis::adp::adp_workers_are_read_with_a_certificate_to_an_answer_without_content"],
    ),
    (
        73,
        "a_query",
        "a key in the query",
        &[
            "apis::jazzhr::jazzhr_pages_stand_in_the_path",
            "fetch::keys::a_key_goes_to_its_origin_only_and_is_shown_nowhere",
        ],
    ),
    (
        74,
        "e_conc",
        "requests at the same time are limited",
        &[
            "fetch::pace::fetching_ahead_keeps_the_order_and_the_bound",
            "parents::failures::children_are_under_way_together_within_the_limits_and_come_in_order",
        ],
    ),
    (
        75,
        "i_header",
        "the cursor in a header, 304 when nothing is new",
        &["apis::odd::the_cursor_goes_in_a_header_and_304_says_that_nothing_is_new"],
    ),
    (
        76,
        "i_synctoken",
        "a token from the last page begins the next run",
        &["apis::ashby::ashby_is_read_by_sync_token_and_read_whole_when_the_token_expired"],
    ),
    (
        77,
        "i_two",
        "another endpoint for the first run",
        &["incremental::values::the_first_walk_may_go_to_another_endpoint"],
    ),
    (
        78,
        "p_dropparams",
        "parameters only on the first page, or on every one",
        &[
            "apis::greenhouse::greenhouse_cursors_go_alone_and_the_bounds_in_one_parameter",
            "apis::merge::merge_is_read_by_cursor_and_deleted_records_leave",
        ],
    ),
    (
        79,
        "p_hdrtotal",
        "totals in headers",
        &[
            "apis::gusto::gusto_is_read_company_by_company_with_a_token_that_changes",
            "fetch::kinds::the_total_stands_in_a_header",
        ],
    ),
    (
        80,
        "p_keyset",
        "the next page by a field of the last record",
        &[
            "fetch::kinds::the_last_record_names_the_next_page",
            "apis::odd::the_field_of_the_last_record_names_the_next_page",
        ],
    ),
    (
        81,
        "r_pathpage",
        "the page's number in the path",
        &["apis::jazzhr::jazzhr_pages_stand_in_the_path"],
    ),
];

/// The tests of this binary, by their whole names.
pub(crate) fn known_tests() -> BTreeSet<String> {
    let listed = Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    names.map(str::to_owned).collect()
}

#[test]
fn every_capability_has_its_number_and_tag_once() {
    let numbers: Vec<u8> = CAPABILITIES.iter().map(|row| row.0).collect();
    assert_eq!(numbers, (1..=81).collect::<Vec<u8>>());
    let tags: BTreeSet<&str> = CAPABILITIES.iter().map(|row| row.1).collect();
    assert_eq!(tags.len(), CAPABILITIES.len());
}

#[test]
fn every_capability_is_shown_by_tests_that_exist() {
    let known = known_tests();
    let unknown: Vec<&&str> = CAPABILITIES
        .iter()
        .flat_map(|row| row.3)
        .filter(|name| !known.contains(**name))
        .collect();
    assert!(unknown.is_empty(), "no such tests: {unknown:#?}");
    let without: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|row| row.3.is_empty())
        .map(|row| row.1)
        .collect();
    assert!(
        without.is_empty(),
        "capabilities without a test: {without:?}"
    );
}
