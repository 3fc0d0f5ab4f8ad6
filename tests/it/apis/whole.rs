//! Every resource of every ready configuration, once, over answers as the APIs document them.
//!
//! Whatever identifies a person beyond the work, or tells of health, home or money, is marked in the
//! answers: none of it may be in any table.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};

use futures_util::future::join_all;
use rosterd::{cli::ready, record::Status};
use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, Route, basic, open_route, route},
    placeholder, variables,
};

/// What stands in fields that must not leave the API.
const PRIVATE: &str = "private-7f3a";
/// The value of every variable of the files.
const GIVEN: &str = "placeholder-of-more-than-32-characters";

/// For each resource the requests of its first run, behind `again` those of a second one over the same records,
/// where they are others, and, behind `=`, the values of the row that is there then. `{given}` stands for what a variable holds, `{later}` for a time that depends on when the test runs, and `...`
/// for further windows of time.
const EXPECTED: &str = include_str!("whole.txt");

/// Headers that an API must find beside its credential, in every request.
const HEADERS: &[(&str, &str, &str)] = &[
    ("7shifts", "x-api-version", "2026-01-01"),
    ("7shifts", "authorization", "Bearer {given}"),
    ("bamboohr", "accept", "application/json"),
    ("gusto", "x-gusto-api-version", "2024-04-01"),
    ("merge", "authorization", "Bearer {given}"),
    ("paycor", "ocp-apim-subscription-key", "{given}"),
    ("personio", "x-personio-app-id", "rosterd"),
    ("teamtailor", "x-api-version", "20210218"),
    ("teamtailor", "accept", "application/vnd.api+json"),
];

struct Api {
    name: &'static str,
    /// Header without which nothing is answered.
    header: (&'static str, String),
    /// Where tokens are given out, and in which field.
    login: Option<(&'static str, &'static str)>,
    resources: Vec<Shown>,
}

/// One resource and what it is answered. What it asks and what becomes of it stands in [`EXPECTED`].
struct Shown {
    name: &'static str,
    /// Method, path, the first answer and all others: pages behind the first, windows behind it.
    answers: Vec<(&'static str, String, Value, Value)>,
}

fn shown(name: &'static str, request: &str, first: Value, others: Value) -> Shown {
    let (method, path) = request.split_once(' ').unwrap();
    let method = if method == "GET" { "GET" } else { "POST" };
    Shown {
        name,
        answers: vec![(method, path.to_owned(), first, others)],
    }
}

impl Shown {
    /// A request besides: of a parent, of a list of deletions.
    fn with(mut self, path: &str, answer: Value) -> Self {
        self.answers
            .push(("GET", path.to_owned(), answer.clone(), answer));
        self
    }
}

fn bearer() -> String {
    format!("Bearer {GIVEN}")
}

/// The token that the fakes give out.
const TOKEN: &str = "token-1";

fn apis() -> Vec<Api> {
    let p = PRIVATE;
    let at = "2026-01-05T10:00:00Z";
    let millis = 1_767_607_200_000_i64;
    let date = "/Date(1767607200000)/";
    let empty = json!({"data": []});
    vec![
        Api {
            name: "7shifts",
            header: ("x-company-guid", GIVEN.into()),
            login: None,
            resources: vec![
                shown("companies", "GET /v2/companies", json!({"data": [{"id": 1, "guid": "g", "name": "Acme", "country": "US", "timezone": "America/New_York", "status": "active", "created": at}], "meta": {"cursor": {"next": null}}}), empty.clone()),
                shown("users", "GET /v2/company/1/users", json!({"data": [{"id": 10, "company_id": 1, "identity_id": 5, "first_name": "Jo", "last_name": "Doe", "preferred_first_name": "Jo", "preferred_last_name": "Doe", "pronouns": p, "email": p, "mobile_number": p, "home_number": p, "address": p, "city": p, "prov_state": p, "postal_zip": p, "birth_date": p, "photo": p, "notes": p, "hire_date": "2024-01-01", "active": true, "type": "employee", "punch_id": p, "employee_id": "E1", "max_weekly_hours": 40, "wage_type": "hourly", "hourly_wage": p, "modified": at}], "meta": {"cursor": {"next": null}}}), empty.clone())
                    .with("/v2/companies", json!({"data": [{"id": 1}]})),
                shown("time_punches", "GET /v2/company/1/time_punches", json!({"data": [{"id": 20, "user_id": 10, "location_id": 3, "role_id": 4, "department_id": 5, "clocked_in": at, "clocked_out": at, "approved": true, "hourly_wage": p, "notes": p, "clocked_in_coordinates": p, "clocked_out_coordinates": p, "breaks": [{"id": 1, "in": at, "out": at, "paid": false}], "modified": at}]}), empty.clone())
                    .with("/v2/companies", json!({"data": [{"id": 1}]})),
                shown("assignments", "GET /v2/company/1/users/10/assignments", json!({"data": {"roles": [{"id": 4, "name": "Cook", "hourly_wage": p, "skill_level": 1}], "departments": [], "locations": []}}), empty.clone())
                    .with("/v2/companies", json!({"data": [{"id": 1}]}))
                    .with("/v2/company/1/users", json!({"data": [{"id": 10, "company_id": 1, "modified": at}]})),
            ],
        },
        Api {
            name: "adp",
            header: ("authorization", format!("Bearer {TOKEN}")),
            login: Some(("/auth/oauth/v2/token", "access_token")),
            resources: vec![
                shown("workers", "GET /hr/v2/workers", json!({"workers": [{"associateOID": "A1", "workerID": {"idValue": "W1"}, "person": {"legalName": {"givenName": "Jo", "familyName1": "Doe"}, "birthDate": p, "genderCode": p, "maritalStatusCode": p, "governmentIDs": p, "legalAddress": p, "otherPersonalAddresses": p, "communication": p, "ethnicityCode": p, "raceCode": p, "disabledIndicator": p, "militaryClassificationCodes": p, "religionCode": p}, "photos": p, "customFieldGroup": p, "businessCommunication": {"emails": [{"emailUri": "jo@acme.example"}]}, "workAssignments": [{"itemID": "i", "jobTitle": "Cook", "baseRemuneration": {"hourlyRateAmount": p}, "additionalRemunerations": p, "payGradeCode": p, "payrollFileNumber": p}], "workerStatus": {"statusCode": {"codeValue": "Active"}}}]}), Value::Null),
            ],
        },
        Api {
            name: "ashby",
            header: ("authorization", basic(GIVEN, "")),
            login: None,
            resources: vec![
                shown("candidates", "POST /candidate.list", json!({"success": true, "results": [{"id": "c1", "name": "Jo Doe", "primaryEmailAddress": {"value": p}, "emailAddresses": [p], "phoneNumbers": [p], "primaryPhoneNumber": {"value": p}, "socialLinks": [p], "profileUrl": p, "location": {"summary": p}, "resumeFileHandle": {"name": p}, "fileHandles": [p], "customFields": [p], "tags": [{"title": "t"}], "applicationIds": ["a1"], "source": {"title": "Web"}, "createdAt": at, "updatedAt": at}], "moreDataAvailable": false, "syncToken": "s1"}), Value::Null),
                shown("applications", "POST /application.list", json!({"success": true, "results": [{"id": "a1", "status": "Active", "candidate": {"id": "c1", "name": "Jo Doe", "primaryEmailAddress": {"value": p}, "primaryPhoneNumber": {"value": p}}, "currentInterviewStage": {"id": "i1", "title": "Screen"}, "job": {"id": "j1", "title": "Cook"}, "hiringTeam": [{"userId": "u1", "email": p, "role": "Recruiter"}], "customFields": [p], "submitterClientIp": p, "submitterUserAgent": p, "createdAt": at, "updatedAt": at}], "moreDataAvailable": false, "syncToken": "s1"}), Value::Null),
                shown("jobs", "POST /job.list", json!({"success": true, "results": [{"id": "j1", "title": "Cook", "status": "Open", "departmentId": "d1", "author": {"id": "u1", "email": p}, "hiringTeam": [{"userId": "u1", "email": p}], "customFields": [p], "updatedAt": at}], "moreDataAvailable": false, "syncToken": "s1"}), Value::Null),
                shown("users", "POST /user.list", json!({"success": true, "results": [{"id": "u1", "firstName": "Al", "lastName": "Roe", "email": p, "globalRole": "Organization Admin", "isEnabled": true, "updatedAt": at}], "moreDataAvailable": false, "syncToken": "s1"}), Value::Null),
            ],
        },
        Api {
            name: "bamboohr",
            header: ("authorization", basic(GIVEN, "x")),
            login: None,
            resources: vec![
                shown("employees", "GET /api/v1/employees", json!({"data": [{"employeeId": "1", "firstName": "Jo", "lastName": "Doe", "status": "Active", "hireDate": "2024-01-01", "department": "Kitchen", "jobTitle": "Cook", "ssn": p, "dateOfBirth": p, "gender": p, "homeEmail": p, "mobilePhone": p, "address1": p, "payRate": p}]}), empty.clone()),
                shown("jobs", "GET /api/v1/employees/changed/tables/jobInfo", json!({"table": "jobInfo", "employees": {"1": {"lastChanged": at, "rows": [{"date": "2024-01-01", "jobTitle": "Cook", "department": "Kitchen"}]}}}), Value::Null),
                shown("time_off", "GET /api/v1/time_off/requests", json!([{"id": "70", "employeeId": "1", "start": "2026-02-02", "end": "2026-02-03", "created": "2026-01-01", "status": {"status": "approved"}, "type": {"name": p}, "policyType": p, "notes": {"employee": p}, "amount": {"unit": "days", "amount": "2"}}]), json!([])),
            ],
        },
        Api {
            name: "deputy",
            header: ("authorization", bearer()),
            login: None,
            resources: vec![
                shown("employees", "POST /api/v1/resource/Employee/QUERY", json!([{"Id": 1, "Company": 2, "FirstName": "Jo", "LastName": "Doe", "DisplayName": "Jo Doe", "MainAddress": p, "PostalAddress": p, "Contact": p, "EmergencyAddress": p, "EmergencyContact": p, "DateOfBirth": p, "Gender": p, "Pronouns": p, "Photo": p, "StressProfile": p, "UserId": 3, "Active": true, "StartDate": at, "Role": 50, "Modified": at}]), json!([])),
                shown("locations", "POST /api/v1/resource/Company/QUERY", json!([{"Id": 2, "Code": "K", "CompanyName": "Kitchen", "Active": true, "Modified": at}]), json!([])),
                shown("areas", "POST /api/v1/resource/OperationalUnit/QUERY", json!([{"Id": 4, "OperationalUnitName": "Bar", "Company": 2, "Active": true, "Modified": at}]), json!([])),
                shown("timesheets", "POST /api/v1/resource/Timesheet/QUERY", json!([{"Id": 5, "Employee": 1, "Date": "2026-01-01", "StartTime": 1, "EndTime": 2, "TotalTime": 8.25, "Cost": p, "OnCost": p, "EmployeeComment": p, "SupervisorComment": p, "OperationalUnit": 4, "TimeApproved": true, "Modified": at}]), json!([])),
                shown("rosters", "POST /api/v1/resource/Roster/QUERY", json!([{"Id": 6, "Date": "2026-01-01", "StartTime": 1, "EndTime": 2, "TotalTime": 8, "Cost": p, "OnCost": p, "OperationalUnit": 4, "Employee": 1, "Comment": p, "Published": true, "Modified": at}]), json!([])),
                shown("leave", "POST /api/v1/resource/Leave/QUERY", json!([{"Id": 7, "Employee": 1, "DateStart": "2026-01-01", "DateEnd": "2026-01-02", "Days": 2, "TotalHours": 16, "Status": 1, "LeaveRule": p, "Comment": p, "ApprovalComment": p, "File": p, "Modified": at}]), json!([])),
            ],
        },
        Api {
            name: "factorial",
            header: ("x-api-key", GIVEN.into()),
            login: None,
            resources: vec![
                shown("employees", "GET /api/2026-04-01/resources/employees/employees", json!({"data": [{"id": 1, "first_name": "Jo", "last_name": "Doe", "full_name": "Jo Doe", "email": "jo@acme.example", "birthday_on": p, "personal_email": p, "identifier": p, "identifier_type": p, "gender": p, "nationality": p, "bank_number": p, "swift_bic": p, "city": p, "state": p, "postal_code": p, "address_line_1": p, "address_line_2": p, "country": "es", "phone_number": p, "social_security_number": p, "contact_name": p, "contact_number": p, "disability_percentage_cents": p, "company_id": 1, "manager_id": 2, "active": true, "terminated_on": null, "termination_reason": p, "updated_at": at}]}), empty.clone()),
                shown("teams", "GET /api/2026-04-01/resources/teams/teams", json!({"data": [{"id": 1, "company_id": 1, "name": "Kitchen", "employee_ids": [1], "lead_ids": [2]}]}), empty.clone()),
                shown("contracts", "GET /api/2026-04-01/resources/contracts/contract-versions", json!({"data": [{"id": 1, "employee_id": 1, "effective_on": "2024-01-01", "job_title": "Cook", "salary_amount": p, "working_hours": 4000}]}), empty.clone()),
                shown("leaves", "GET /api/2026-04-01/resources/timeoff/leaves", json!({"data": [{"id": 1, "employee_id": 1, "start_on": "2026-01-01", "finish_on": "2026-01-02", "leave_type_id": p, "leave_type_name": p, "description": p, "half_day": null, "approved": true, "updated_at": at}]}), empty.clone()),
            ],
        },
        Api {
            name: "greenhouse",
            header: ("authorization", format!("Bearer {TOKEN}")),
            login: Some(("/token", "access_token")),
            resources: vec![
                shown("candidates", "GET /v3/candidates", json!([{"id": 1, "first_name": "Jo", "last_name": "Doe", "title": "Cook", "email_addresses": [p], "phone_numbers": [p], "addresses": [p], "website_addresses": [p], "social_media_addresses": [p], "photo_url": p, "attachments": [p], "educations": [p], "employments": [p], "custom_fields": {"race": p}, "tags": ["t"], "created_at": at, "updated_at": at}]), json!([])),
                shown("applications", "GET /v3/applications", json!([{"id": 2, "candidate_id": 1, "job_id": 3, "status": "active", "source_id": 4, "answers": [p], "location": {"address": p}, "attachments": [p], "rejection_details": {"note": p}, "prospect_detail": p, "custom_fields": {"salary": p}, "created_at": at, "updated_at": at}]), json!([])),
                shown("jobs", "GET /v3/jobs", json!([{"id": 3, "name": "Cook", "requisition_id": "R1", "status": "open", "custom_fields": {"salary": p}, "updated_at": at}]), json!([])),
                shown("users", "GET /v3/users", json!([{"id": 5, "first_name": "Al", "last_name": "Roe", "primary_email": p, "emails": [p], "employee_id": "E5", "deactivated": false, "updated_at": at}]), json!([])),
            ],
        },
        Api {
            name: "gusto",
            header: ("authorization", format!("Bearer {TOKEN}")),
            login: Some(("/oauth/token", "access_token")),
            resources: vec![
                shown("companies", "GET /v1/me", json!({"email": p, "uuid": "u", "roles": {"payroll_admin": {"companies": [{"id": 1, "uuid": "c1", "name": "Acme", "trade_name": "Acme"}]}}}), Value::Null),
                shown("employees", "GET /v1/companies/c1/employees", json!([{"uuid": "e1", "first_name": "Jo", "last_name": "Doe", "email": p, "personal_email": p, "company_uuid": "c1", "department": "Kitchen", "terminated": false, "onboarded": true, "ssn": p, "has_ssn": p, "date_of_birth": p, "phone": p, "home_address": {"street_1": p}, "garnishments": [p], "jobs": [{"rate": p}], "compensations": [p], "custom_fields": [p], "eligible_paid_time_off": [p], "payment_method": p, "version": "v"}]), json!([]))
                    .with("/v1/me", json!({"roles": {"payroll_admin": {"companies": [{"uuid": "c1"}]}}})),
                shown("departments", "GET /v1/companies/c1/departments", json!([{"uuid": "d1", "company_uuid": "c1", "title": "Kitchen", "version": "v", "employees": [{"uuid": p}], "contractors": [p]}]), Value::Null)
                    .with("/v1/me", json!({"roles": {"payroll_admin": {"companies": [{"uuid": "c1"}]}}})),
                shown("locations", "GET /v1/companies/c1/locations", json!([{"uuid": "l1", "company_uuid": "c1", "street_1": "1 Main St", "city": "Reno", "state": "NV", "zip": "89501", "active": true, "version": "v"}]), json!([]))
                    .with("/v1/me", json!({"roles": {"payroll_admin": {"companies": [{"uuid": "c1"}]}}})),
            ],
        },
        Api {
            name: "hibob",
            header: ("authorization", basic(GIVEN, GIVEN)),
            login: None,
            resources: vec![
                shown("people", "POST /v1/people/search", json!({"employees": [{"id": "1", "displayName": "Jo Doe", "email": "jo@acme.example", "creationDateTime": at, "work": {"title": "Cook", "department": "Kitchen", "startDate": "2024-01-01"}, "home": {"legalGender": p, "familyStatus": p}, "personal": {"birthDate": p, "pronouns": p, "nationality": p, "honorific": p}, "payroll": {"salary": {"payment": p}}, "financial": p, "about": {"avatar": p}, "identification": {"ssn": p}, "eeo": p, "address": {"city": p}, "avatarUrl": p, "internal": {"status": "Active", "terminationDate": null}}]}), Value::Null),
                shown("work", "GET /v1/people/1/work", json!({"values": [{"id": 9, "effectiveDate": "2024-01-01", "title": "Cook", "department": "Kitchen", "site": "Reno", "salary": p, "isCurrent": true}]}), Value::Null)
                    .with("POST /v1/people/search", json!({"employees": [{"id": "1"}]})),
                shown("time_off_changes", "GET /v1/timeoff/requests/changes", json!({"changes": [{"changeType": "Created", "requestId": 4, "employeeId": "1", "employeeDisplayName": "Jo Doe", "employeeEmail": "jo@acme.example", "policyTypeDisplayName": p, "policyType": p, "type": p, "reasonDescription": p, "startDate": "2026-02-01", "endDate": "2026-02-02", "status": "approved", "createdOn": at}]}), Value::Null),
            ],
        },
        Api {
            name: "hubstaff",
            header: ("authorization", format!("Bearer {TOKEN}")),
            login: Some(("/access_tokens", "access_token")),
            resources: vec![
                shown("organizations", "GET /v2/organizations", json!({"organizations": [{"id": 1, "name": "Acme", "status": "active", "metadata": p, "created_at": at}]}), Value::Null),
                shown("members", &format!("GET /v2/organizations/{GIVEN}/members"), json!({"members": [{"user_id": 10, "membership_role": "user", "membership_status": "active", "pay_rate": p, "bill_rate": p, "effective_role": "user"}]}), Value::Null),
                shown("projects", &format!("GET /v2/organizations/{GIVEN}/projects"), json!({"projects": [{"id": 2, "name": "Kitchen", "metadata": p, "billable": true, "status": "active", "pay_rate": p}]}), Value::Null),
                shown("activities", &format!("GET /v2/organizations/{GIVEN}/activities"), json!({"activities": [{"id": 3, "date": "2026-01-01", "time_slot": at, "user_id": 10, "project_id": 2, "keyboard": p, "mouse": p, "overall": p, "input_tracked": p, "tracked": 600, "billable": 600}]}), json!({"activities": []})),
            ],
        },
        Api {
            name: "jazzhr",
            header: ("accept-encoding", String::new()),
            login: None,
            resources: vec![
                shown("jobs", "GET /v1/jobs/page/1", json!([{"id": "j1", "title": "Cook", "city": "Reno", "state": "NV", "department": "Kitchen", "status": "Open", "questionnaire": p}]), Value::Null)
                    .with("/v1/jobs/page/2", json!([])),
                shown("applicants", "GET /v1/applicants/a1", json!({"id": "a1", "first_name": "Jo", "last_name": "Doe", "email": p, "address": p, "location": p, "phone": p, "linkedin_url": p, "eeo_gender": p, "eeo_race": p, "eeo_disability": p, "eeoc_veteran": p, "eeoc_disability": p, "desired_salary": p, "resume_link": p, "cover_letter": p, "comments": [p], "feedback": [p], "references": p, "over_18": p, "felony": p, "apply_date": "2026-01-01", "source": "Web"}), Value::Null)
                    .with("/v1/applicants/page/1", json!([{"id": "a1", "first_name": "Jo", "last_name": "Doe", "prospect_phone": p, "job_title": "Cook"}]))
                    .with("/v1/applicants/page/2", json!([])),
                shown("users", "GET /v1/users/page/1", json!([{"id": "u1", "first_name": "Al", "last_name": "Roe", "email": p, "type": "Recruiter"}]), Value::Null)
                    .with("/v1/users/page/2", json!([])),
            ],
        },
        Api {
            name: "lever",
            header: ("authorization", basic(GIVEN, "")),
            login: None,
            resources: vec![
                shown("opportunities", "GET /v1/opportunities", json!({"data": [{"id": "o1", "name": "Jo Doe", "contact": "c1", "headline": p, "stage": "s1", "emails": [p], "phones": [{"value": p}], "links": [p], "location": p, "resumes": [p], "tags": [p], "sources": ["Web"], "origin": "applied", "owner": {"id": "u1", "email": p}, "dataProtection": {"store": p}, "createdAt": millis, "updatedAt": millis}], "hasNext": false}), json!({"data": [], "hasNext": false}))
                    .with("/v1/opportunities/deleted", json!({"data": [], "hasNext": false})),
                shown("postings", "GET /v1/postings", json!({"data": [{"id": "p1", "text": "Cook", "state": "published", "user": "u1", "content": {"description": p}, "tags": [p], "createdAt": millis, "updatedAt": millis}], "hasNext": false}), Value::Null),
                shown("users", "GET /v1/users", json!({"data": [{"id": "u1", "name": "Al Roe", "email": p, "accessRole": "admin", "photo": p}], "hasNext": false}), Value::Null),
                shown("stages", "GET /v1/stages", json!({"data": [{"id": "s1", "text": "New"}], "hasNext": false}), Value::Null),
            ],
        },
        Api {
            name: "merge",
            header: ("x-account-token", GIVEN.into()),
            login: None,
            resources: vec![
                shown("employees", "GET /api/hris/v1/employees", json!({"results": [{"id": "e1", "remote_id": "1", "first_name": "Jo", "last_name": "Doe", "work_email": "jo@acme.example", "personal_email": p, "mobile_phone_number": p, "ssn": p, "date_of_birth": p, "gender": p, "ethnicity": p, "marital_status": p, "home_location": p, "avatar": p, "employment_status": "ACTIVE", "custom_fields": {"iban": p}, "remote_data": [{"data": p}], "remote_was_deleted": false, "modified_at": at}], "next": null}), Value::Null),
                shown("employments", "GET /api/hris/v1/employments", json!({"results": [{"id": "m1", "employee": "e1", "job_title": "Cook", "pay_rate": p, "pay_currency": "USD", "effective_date": at, "employment_type": "FULL_TIME", "remote_was_deleted": false, "modified_at": at}], "next": null}), Value::Null),
                shown("time_off", "GET /api/hris/v1/time-off", json!({"results": [{"id": "t1", "employee": "e1", "approver": "e2", "status": "APPROVED", "employee_note": p, "reason": p, "request_type": p, "units": "DAYS", "amount": 2.5, "start_time": at, "end_time": at, "remote_was_deleted": false, "modified_at": at}], "next": null}), Value::Null),
            ],
        },
        Api {
            name: "paycor",
            header: ("authorization", format!("Bearer {TOKEN}")),
            login: Some(("/sts/v1/common/token", "access_token")),
            resources: vec![
                shown("employees", &format!("GET /v1/legalentities/{GIVEN}/employees"), json!({"records": [{"id": "e1", "employeeNumber": 7, "firstName": "Jo", "lastName": "Doe", "birthDate": p, "email": {"emailAddress": p}, "phones": [p], "gender": p, "ethnicity": p, "maritalStatus": p, "socialSecurityNumber": p, "address": {"city": p}, "veteranStatus": p, "disability": p, "notes": p, "positionData": {"jobTitle": "Cook"}, "statusData": {"status": "Active"}, "workLocation": {"name": "Reno"}}], "hasMoreResults": false, "additionalResultsUrl": ""}), Value::Null),
            ],
        },
        Api {
            name: "personio",
            header: ("authorization", format!("Bearer {TOKEN}")),
            login: Some(("/v1/auth", "data")),
            resources: vec![
                shown("employees", "GET /v1/company/employees", json!({"success": true, "data": [{"type": "Employee", "attributes": {"id": {"label": "ID", "value": 1}, "first_name": {"value": "Jo"}, "email": {"value": "jo@acme.example"}, "gender": {"value": p}, "fix_salary": {"value": p}, "fix_salary_interval": {"value": p}, "hourly_salary": {"value": p}, "profile_picture": {"value": p}, "termination_reason": {"value": p}, "status": {"value": "active"}, "department": {"value": {"type": "Department", "attributes": {"id": 3, "name": "Kitchen"}}}, "last_modified_at": {"value": at}}}]}), json!({"success": true, "data": []})),
                shown("absences", "GET /v1/company/time-offs", json!({"success": true, "data": [{"type": "TimeOffPeriod", "attributes": {"id": 70, "status": "approved", "start_date": "2026-02-01", "end_date": "2026-02-02", "days_count": 1.5, "time_off_type": {"type": "TimeOffType", "attributes": {"name": p}}, "employee": {"type": "Employee", "attributes": {"id": {"value": 1}, "email": {"value": p}}}, "certificate": {"status": p}, "comment": p, "updated_at": at}}]}), json!({"success": true, "data": []})),
            ],
        },
        Api {
            name: "successfactors",
            header: ("authorization", basic(GIVEN, GIVEN)),
            login: None,
            resources: vec![
                shown("persons", "GET /odata/v2/PerPerson", json!({"d": {"results": [{"__metadata": {"uri": p}, "personIdExternal": "1", "personId": "9", "dateOfBirth": p, "placeOfBirth": p, "countryOfBirth": p, "regionOfBirth": p, "dateOfDeath": p, "nationalIdNav": {"results": [p]}, "emailNav": {"__deferred": {"uri": p}}, "phoneNav": p, "homeAddressNavDEFLT": p, "emergencyContactNav": p, "personalInfoNav": {"results": [{"__metadata": {"uri": p}, "firstName": "Jo", "lastName": "Doe", "gender": p, "maritalStatus": p, "nationality": p}]}, "createdDateTime": date, "lastModifiedDateTime": date}]}}), Value::Null),
                shown("employments", "GET /odata/v2/EmpEmployment", json!({"d": {"results": [{"__metadata": {"uri": p}, "personIdExternal": "1", "userId": "jdoe", "startDate": date, "endDate": null, "assignmentClass": "ST", "jobInfoNav": {"__deferred": {"uri": p}}, "createdDateTime": date, "lastModifiedDateTime": date}]}}), Value::Null),
                shown("jobs", "GET /odata/v2/EmpJob", json!({"d": {"results": [{"__metadata": {"uri": p}, "userId": "jdoe", "startDate": "/Date(1577836800000)/", "seqNumber": "1", "jobTitle": "Cook", "department": "K", "payGrade": p, "endDate": "/Date(253402214400000)/", "createdDateTime": date, "lastModifiedDateTime": date}]}}), Value::Null),
            ],
        },
        Api {
            name: "teamtailor",
            header: ("authorization", format!("Token token={GIVEN}")),
            login: None,
            resources: vec![
                shown("jobs", "GET /v1/jobs", json!({"data": [{"id": "1", "type": "jobs", "links": {"self": p}, "attributes": {"title": "Cook", "status": "open", "updated-at": at}, "relationships": {"department": {"links": {"self": p}, "data": {"id": "3", "type": "departments"}}}}], "links": {}}), Value::Null),
                shown("candidates", "GET /v1/candidates", json!({"data": [{"id": "2", "type": "candidates", "links": {"self": p}, "attributes": {"first-name": "Jo", "last-name": "Doe", "email": p, "phone": p, "picture": p, "pitch": p, "resume": p, "original-resume": p, "resume-summary": p, "facebook-profile": p, "linkedin-profile": p, "linkedin-url": p, "updated-at": at}}], "links": {}}), Value::Null),
                shown("job_applications", "GET /v1/job-applications", json!({"data": [{"id": "4", "type": "job-applications", "links": {"self": p}, "attributes": {"cover-letter": p, "sourced": false, "updated-at": at}, "relationships": {"candidate": {"data": {"id": "2", "type": "candidates"}}}}], "included": [{"id": "2", "attributes": {"email": p}}], "links": {}}), Value::Null),
                shown("departments", "GET /v1/departments", json!({"data": [{"id": "3", "type": "departments", "attributes": {"name": "Kitchen"}}], "links": {}}), Value::Null),
                shown("users", "GET /v1/users", json!({"data": [{"id": "5", "type": "users", "attributes": {"name": "Al Roe", "email": p, "login-email": p, "phone": p, "picture": p, "signature": p, "role": "admin"}}], "links": {}}), Value::Null),
            ],
        },
        Api {
            name: "workable",
            header: ("authorization", bearer()),
            login: None,
            resources: vec![
                shown("jobs", "GET /spi/v3/jobs", json!({"jobs": [{"id": "j1", "title": "Cook", "shortcode": "C1", "state": "published", "department": "Kitchen", "salary": {"from": p}, "created_at": at, "updated_at": at}], "paging": {}}), Value::Null),
                shown("candidates", "GET /spi/v3/candidates", json!({"candidates": [{"id": "c1", "name": "Jo Doe", "firstname": "Jo", "lastname": "Doe", "headline": p, "email": p, "phone": p, "address": p, "image_url": p, "cover_letter": p, "summary": p, "resume_url": p, "social_profiles": [p], "education_entries": [p], "experience_entries": [p], "skills": [p], "tags": [p], "answers": [p], "stage": "Applied", "created_at": at, "updated_at": at}], "paging": {}}), Value::Null),
                shown("members", "GET /spi/v3/members", json!({"members": [{"id": "m1", "name": "Al Roe", "headline": p, "email": p, "role": "admin", "active": true}], "paging": {}}), Value::Null),
                shown("departments", "GET /spi/v3/departments", json!([{"id": "d1", "name": "Kitchen", "parent_id": null}]), Value::Null),
            ],
        },
        Api {
            name: "workday-raas",
            header: ("authorization", basic(&format!("{GIVEN}@{GIVEN}"), GIVEN)),
            login: None,
            resources: vec![
                shown("workers", &format!("GET /ccx/service/customreport2/{GIVEN}/{GIVEN}/Workers"), json!({"Report_Entry": [{"Employee_ID": "1", "Worker": "Jo Doe", "Job_Title": "Cook", "National_ID": p, "Social_Security_Number": p, "Date_of_Birth": p, "Home_Address": p, "Personal_Email": p, "Gender": p, "Ethnicity": p, "Religion": p, "Bank_Account": p, "Compensation": {"Base_Pay": p, "Salary": p, "Plan": "A"}}]}), Value::Null),
                shown("organizations", &format!("GET /ccx/service/customreport2/{GIVEN}/{GIVEN}/Organizations"), json!({"Report_Entry": [{"Organization_ID": "O1", "Organization": "Kitchen", "Organization_Type": "Supervisory"}]}), Value::Null),
            ],
        },
        Api {
            name: "zoho-people",
            header: ("authorization", format!("Zoho-oauthtoken {TOKEN}")),
            login: Some(("/oauth/v2/token", "access_token")),
            resources: vec![
                shown("employees", "GET /people/api/forms/employee/getRecords", json!({"response": {"status": 0, "result": [{"41": [{"Zoho_ID": 41, "EmployeeID": "E1", "FirstName": "Jo", "LastName": "Doe", "EmailID": "jo@acme.example", "Date_of_birth": p, "Gender": p, "Marital_status": p, "Mobile": p, "Other_Email": p, "Personal_Email": p, "Photo": p, "Photo_downloadUrl": p, "Address": p, "Present_Address": p, "Permanent_Address": p, "AboutMe": p, "Aadhaar": p, "PAN": p, "UAN": p, "Expertise": p, "Extension": p, "Tags": p, "Department": "Kitchen", "ModifiedTime": "1767607200000"}]}]}}), Value::Null),
                shown("departments", "GET /people/api/forms/department/getRecords", json!({"response": {"status": 0, "result": [{"51": [{"Zoho_ID": 51, "Department": "Kitchen", "Department_Lead": "", "ModifiedTime": "1767607200000"}]}]}}), Value::Null),
                shown("leave", "GET /people/api/forms/leave/getRecords", json!({"response": {"status": 0, "result": [{"61": [{"Zoho_ID": 61, "Employee_ID": "E1", "From": "05-Jan-2026", "To": "06-Jan-2026", "Daystaken": "2", "Leavetype": p, "Reasonforleave": p, "ApprovalStatus": "Approved", "ModifiedTime": "1767607200000"}]}]}}), Value::Null),
            ],
        },
    ]
}

/// The routes of all resources of an API.
fn routes(api: &Api) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut known = BTreeSet::new();
    if let Some((path, field)) = api.login {
        routes.push(open_route("POST", path, move |_, _| {
            let token = match field {
                "data" => json!({"success": true, "data": {"token": TOKEN}}),
                _ => json!({"access_token": TOKEN, "refresh_token": "r2", "expires_in": 3600}),
            };
            Answer::json(&token)
        }));
    }
    for (_, path, ..) in api.resources.iter().flat_map(|shown| &shown.answers) {
        let path = path.strip_prefix("POST ").unwrap_or(path);
        if !known.insert(path.to_owned()) {
            continue;
        }
        let path: &'static str = path.to_owned().leak();
        for method in ["GET", "POST"] {
            routes.push(route(method, path, answer));
        }
    }
    routes
}

/// The next of the answers that the test laid out for this path; the last one again and again.
fn answer(asked: &Asked, data: &mut Data) -> Answer {
    let Some(answers) = data.get_mut(&format!("{} {}", asked.method, asked.path)) else {
        return Answer::empty(405);
    };
    let answer = match answers.len() {
        1 => answers[0].clone(),
        _ => answers.remove(0),
    };
    match answer {
        Value::Null => Answer::empty(204),
        answer => Answer::json(&answer).header("X-Total-Pages", "1"),
    }
}

/// [`EXPECTED`] by resource.
fn expected() -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for block in EXPECTED.trim().split("\n\n") {
        let mut lines = block.lines().map(|line| line.trim_start().to_owned());
        all.insert(lines.next().unwrap(), lines.collect());
    }
    all
}

/// The requests without what depends on when the test runs.
fn steady(requests: &[String]) -> Vec<String> {
    let mut steady: Vec<String> = Vec::new();
    let mut last = String::new();
    for request in requests {
        let request = request.replace(GIVEN, "{given}");
        let timeless = with_times(&request, |_| "{time}");
        let is_window = timeless.contains("{time}") && timeless == last;
        last = timeless;
        if !is_window {
            steady.push(with_times(&request, |at| match at > written() {
                true => "{later}",
                false => "",
            }));
        } else if steady.last().is_none_or(|line| line != "...") {
            steady.push("...".to_owned());
        }
    }
    steady
}

/// When this test was written: no configuration names a later time.
fn written() -> DateTime<Utc> {
    "2026-07-01T00:00:00Z".parse().unwrap()
}

/// The text with other words for its times; an empty word leaves the time as it is.
fn with_times(text: &str, word: impl Fn(DateTime<Utc>) -> &'static str) -> String {
    let is_part = |c: char| c.is_ascii_digit() || "TZ:.-".contains(c);
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        let other = time(run).map(&word).filter(|word| !word.is_empty());
        out += other.unwrap_or(run);
        let next = behind.find(is_part).unwrap_or(behind.len());
        out += &behind[..next];
        rest = &behind[next..];
    }
    out
}

/// A time as an instant, a day or in milliseconds.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let day = || {
        Some(
            text.parse::<NaiveDate>()
                .ok()?
                .and_hms_opt(0, 0, 0)?
                .and_utc(),
        )
    };
    let millis =
        || DateTime::from_timestamp_millis(text.parse().ok().filter(|_| text.len() == 13)?);
    text.parse().ok().or_else(day).or_else(millis)
}

/// Lays out the answers of a resource for one run.
fn lay_out(stage: &Stage, shown: &Shown) {
    for (method, path, first, others) in &shown.answers {
        let path = match path.strip_prefix("POST ") {
            Some(path) => format!("POST {path}"),
            None => format!("{method} {path}"),
        };
        stage.fake.change(&path, |answers| {
            *answers = vec![first.clone(), others.clone()];
        });
    }
}

/// What is wrong with the resources of a file, all at once.
async fn every_resource_of(api: Api) -> Vec<String> {
    let mut wrong = Vec::new();
    let expected = expected();
    let (name, value) = api.header.clone();
    let own = HEADERS.iter().filter(|(of, ..)| *of == api.name);
    let own = own.map(|(_, name, value)| (*name, value.replace("{given}", GIVEN)));
    let wanted: Vec<(&str, String)> = [(name, value)].into_iter().chain(own).collect();
    let guard = move |asked: &Asked| {
        let lacks =
            |(name, value): &(&str, String)| !value.is_empty() && asked.header(name) != value;
        let odd = wanted.iter().find(|header| lacks(header));
        odd.map(|(name, _)| Answer::json(&json!({"error": name})).status(401))
    };
    let text = ready::find(api.name).unwrap().text;
    let names = variables(text);
    let pairs: Vec<(&str, &str)> = names.iter().map(|v| (*v, placeholder(v))).collect();
    let stage = Stage::new(api.name, Fake::new(guard, routes(&api)).await, &pairs).await;

    let source = &stage.config.sources[0];
    let synced = source
        .resources
        .iter()
        .filter(|r| r.name != "applicant_list");
    let synced: Vec<&str> = synced.map(|resource| resource.name.as_str()).collect();
    let here: Vec<&str> = api.resources.iter().map(|shown| shown.name).collect();
    assert_eq!(here, synced, "{}", api.name);

    for shown in &api.resources {
        let at = format!("{}/{}", api.name, shown.name);
        let resource = source.resources.iter().find(|r| r.name == shown.name);
        let resource = resource.unwrap();
        // What is asked for a parent may come before or after the next page of parents.
        let in_any_order = resource.parent.is_some();
        let mut runs = Vec::new();
        for _ in 0..2 {
            lay_out(&stage, shown);
            stage.fake.requests();
            let outcome = stage.run(shown.name).await;
            let mut requests = stage.fake.requests();
            if in_any_order {
                requests.sort();
            }
            if outcome.status != Status::Succeeded {
                wrong.push(format!("{at}: {outcome:?}\n{requests:#?}"));
                break;
            }
            runs.push(steady(&requests));
        }
        let [mut found, again]: [Vec<String>; 2] = match runs.try_into() {
            Ok(runs) => runs,
            Err(_) => continue,
        };
        if again != found {
            found.push("again".to_owned());
            found.extend(again);
        }
        let table = format!("{}.{}", source.name, resource.table);
        for row in stage
            .rows(&format!("select * from {table}"))
            .await
            .as_array()
            .unwrap()
        {
            let values = row.as_object().unwrap().iter();
            let values: BTreeMap<_, _> =
                values.filter(|(name, _)| !name.starts_with('_')).collect();
            found.push(format!("= {}", serde_json::to_string(&values).unwrap()));
        }
        let mut same = expected.get(&at).cloned().unwrap_or_default();
        let printed = found.join("\n  ");
        if in_any_order {
            for lines in [&mut found, &mut same] {
                lines
                    .split_mut(|line| line == "again")
                    .for_each(<[_]>::sort);
            }
        }
        if found != same {
            wrong.push(format!("{at}\n  {printed}"));
        }
    }
    let tables = "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname not in ('pg_catalog', 'information_schema')";
    for table in stage.rows(tables).await.as_array().unwrap() {
        let table = table["name"].as_str().unwrap();
        let leaked =
            format!("select 1 as one from {table} t where t::text like '%{PRIVATE}%' limit 1");
        if stage.rows(&leaked).await != json!([]) {
            wrong.push(format!("{}: {table} has what is private", api.name));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_resource_of_every_ready_configuration_is_read_and_keeps_persons_private() {
    let apis = apis();
    let here: BTreeSet<&str> = apis.iter().map(|api| api.name).collect();
    let shipped: BTreeSet<&str> = ready::ALL.iter().map(|ready| ready.name).collect();
    assert_eq!(here, shipped);
    let resources = apis.iter().map(|api| api.resources.len());
    assert_eq!(resources.sum::<usize>(), expected().len());
    let wrong = join_all(apis.into_iter().map(every_resource_of)).await;
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
