//! The record against a real Postgres: claims, fences, slots, endings, health, retention.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rosterd::{
    config::{self, Config, daemon::Retention},
    fault::{Class, Fault},
    record::{
        self, Beat, CatalogColumn, Claim, ClaimOne, Counters, Ending, Error, Level, Mode, NewEvent,
        NewReject, ResourceId, SchemaChange, Status, Trigger, Worker,
    },
};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool, Row, postgres::PgPoolOptions};

use crate::support::db::TestDb;

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
const QUARTER: Duration = Duration::from_secs(900);

// The catalogue ------------------------------------------------------------------------------------

#[tokio::test]
async fn every_table_view_and_column_is_explained() {
    let db = TestDb::new().await;
    let silent: Vec<String> = sqlx::query_scalar(
        "select c.relname::text || coalesce('.' || a.attname::text, '')
         from pg_class c
         left join lateral (
           select attname, attnum from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped
           union all select null, 0) a on true
         where c.relnamespace = 'rosterd'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
           and c.relname not like '\\_sqlx%'
           and coalesce(case when a.attnum = 0 then obj_description(c.oid, 'pg_class')
                             else col_description(c.oid, a.attnum) end, '') = ''",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    assert_eq!(silent, Vec::<String>::new());
}

#[tokio::test]
async fn the_bookkeeping_needs_no_extension_enum_trigger_or_zoneless_time() {
    let db = TestDb::new().await;
    let found: i64 = sqlx::query_scalar(
        "select (select count(*) from pg_extension where extname <> 'plpgsql')
              + (select count(*) from pg_type where typtype = 'e' and typnamespace = 'rosterd'::regnamespace)
              + (select count(*) from pg_trigger where not tgisinternal)
              + (select count(*) from information_schema.columns
                 where table_schema = 'rosterd' and data_type = 'timestamp without time zone')",
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    assert_eq!(found, 0);
}

#[tokio::test]
async fn the_schema_version_is_the_number_of_the_newest_migration() {
    let db = TestDb::new().await;
    let newest = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
        .unwrap()
        .filter_map(|file| {
            file.unwrap()
                .file_name()
                .to_str()?
                .split_once('_')?
                .0
                .parse::<i32>()
                .ok()
        })
        .max();
    let version: i32 = sqlx::query_scalar("select version from rosterd.schema_version")
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(Some(version), newest);
}

#[tokio::test]
async fn a_role_that_was_given_no_more_than_the_schema_can_migrate() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let role = format!("owner_{:08x}", fastrand::u32(..));
    // In a transaction that is rolled back: the role is gone with it.
    let mut tx = pool.begin().await.unwrap();
    for statement in [
        "drop schema rosterd cascade".to_owned(),
        format!("create role {role} nosuperuser nocreatedb nocreaterole"),
        "create schema rosterd".to_owned(),
        format!("grant usage, create on schema rosterd to {role}"),
        format!("set local role {role}"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    for migration in sqlx::migrate!("./migrations").iter() {
        sqlx::raw_sql(sqlx::AssertSqlSafe(migration.sql.as_str().to_owned()))
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    let superuser: bool = sqlx::query_scalar("select current_setting('is_superuser')::bool")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert!(!superuser);
    tx.rollback().await.unwrap();
}

// What should run ----------------------------------------------------------------------------------

#[tokio::test]
async fn registering_again_changes_nothing_and_plans_nothing_anew() {
    let db = TestDb::new().await;
    let config = config(&[("employees", Some(QUARTER)), ("absences", None)]);
    let first = record::register(db.pool(), &config, at("10:01:00"))
        .await
        .unwrap();
    let versions = "select string_agg(xmin::text, ',' order by resource_id) from rosterd.resources";
    let before: String = sqlx::query_scalar(versions)
        .fetch_one(db.pool())
        .await
        .unwrap();

    let again = record::register(db.pool(), &config, at("11:01:00"))
        .await
        .unwrap();
    // The rows were locked, which shows in xmax; not written, which would show in xmin.
    let after: String = sqlx::query_scalar(versions)
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(before, after);
    assert_eq!(names(&first), names(&again));
    assert_eq!(
        next_run(&db, first[id_at(&first, "employees")].resource_id).await,
        Some(at("10:15:00"))
    );
    assert_eq!(
        next_run(&db, first[id_at(&first, "absences")].resource_id).await,
        None
    );
}

#[tokio::test]
async fn a_changed_schedule_is_planned_anew_and_a_resource_that_is_gone_is_kept_as_removed() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", Some(QUARTER), at("10:01:00")).await;

    register(&db, &[("employees", Some(HOUR))], at("10:02:00")).await;
    assert_eq!(next_run(&db, employees).await, Some(at("11:00:00")));

    register(&db, &[("absences", Some(HOUR))], at("10:03:00")).await;
    assert_eq!(next_run(&db, employees).await, None);
    assert!(
        record::find(db.pool(), "hr", "default", "employees")
            .await
            .unwrap()
            .is_none()
    );
    let claimed = record::claim_one(
        db.pool(),
        &worker(),
        employees,
        Trigger::Manual,
        Mode::Full,
        "anna",
    )
    .await;
    assert!(matches!(claimed, Err(Error::UnknownResource)));

    let back = given_resource(&db, "employees", Some(HOUR), at("12:30:00")).await;
    assert_eq!(back, employees);
    assert_eq!(next_run(&db, employees).await, Some(at("13:00:00")));
}

// Claims -------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_due_slot_becomes_one_run_with_its_attempt_and_the_next_slot_is_planned() {
    let db = TestDb::new().await;
    let config = config(&[("employees", Some(QUARTER))]);
    record::register(db.pool(), &config, at("10:01:00"))
        .await
        .unwrap();
    let early = record::claim_due(db.pool(), &worker(), &config, 4, at("10:14:59"))
        .await
        .unwrap();
    assert_eq!(early, []);

    let claims = record::claim_due(db.pool(), &worker(), &config, 4, at("10:15:01"))
        .await
        .unwrap();
    let [claim] = claims.as_slice() else {
        panic!("one claim, not {claims:?}")
    };
    assert_eq!(
        (claim.trigger, claim.mode, claim.fence),
        (Trigger::Schedule, Mode::Full, 1)
    );
    assert_eq!(
        (claim.scheduled_for, claim.took_over),
        (Some(at("10:15:00")), None)
    );
    assert_eq!(next_run(&db, claim.resource_id).await, Some(at("10:30:00")));
    let row = run_row(&db, claim.run_id).await;
    assert_eq!(row.get::<String, _>("status"), "running");
    assert_eq!(row.get::<i32, _>("attempts"), 1);
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.attempts where outcome is null"
        )
        .await,
        1
    );
    assert_eq!(health(&db, "employees").await, "never_ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_claimers_never_get_the_same_slot_twice() {
    let db = TestDb::new().await;
    let pool = PgPoolOptions::new()
        .max_connections(16)
        .connect_with(db.pool().connect_options().as_ref().clone())
        .await
        .unwrap();
    let resources: Vec<String> = (0..400).map(|n| format!("r{n}")).collect();
    let specs: Vec<(&str, Option<Duration>)> = resources
        .iter()
        .map(|name| (name.as_str(), Some(QUARTER)))
        .collect();
    let config = config(&specs);
    record::register(&pool, &config, at("10:01:00"))
        .await
        .unwrap();

    // Runs end at once: a claimer that looks at an old snapshot of the schedule finds the lease
    // free again, and would run the slot a second time.
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (pool, config, worker) = (pool.clone(), config.clone(), worker());
            async move {
                let mut slots = Vec::new();
                loop {
                    let claims = record::claim_due(&pool, &worker, &config, 3, at("10:15:01"))
                        .await
                        .unwrap();
                    if claims.is_empty() {
                        break slots;
                    }
                    for claim in claims {
                        slots.push((claim.resource_id, claim.scheduled_for));
                        record::finish(&pool, &worker, &claim, ending(Status::Succeeded))
                            .await
                            .unwrap();
                    }
                }
            }
        })
        .collect();
    let slots: Vec<_> = futures_util::future::join_all(tasks.into_iter().map(spawn))
        .await
        .concat();
    let distinct: HashSet<_> = slots.iter().collect();
    assert_eq!(distinct.len(), slots.len());
    assert_eq!(distinct.len(), resources.len());
    let doubled = "select count(*) from (
        select from rosterd.runs group by resource_id, scheduled_for having count(*) > 1) twice";
    assert_eq!(count(&db, doubled).await, 0);
}

#[tokio::test]
async fn a_claimer_takes_no_more_than_its_limit_and_the_oldest_first() {
    let db = TestDb::new().await;
    let config = config(&[("a", Some(HOUR)), ("b", Some(QUARTER)), ("c", Some(HOUR))]);
    record::register(db.pool(), &config, at("10:01:00"))
        .await
        .unwrap();
    let claims = record::claim_due(db.pool(), &worker(), &config, 1, at("11:00:00"))
        .await
        .unwrap();
    let resources: Vec<_> = claims.iter().map(|claim| claim.resource.as_str()).collect();
    assert_eq!(resources, ["b"]);
}

#[tokio::test]
async fn paused_and_interrupted_resources_are_seen_to_however_many_are_due_before_them() {
    let db = TestDb::new().await;
    let names: Vec<String> = (0..200).map(|n| format!("early{n:03}")).collect();
    let early = names.iter().map(|name| (name.as_str(), Some(QUARTER)));
    let late = [("paused", Some(HOUR)), ("stopped", Some(HOUR))];
    let config = config(&early.chain(late).collect::<Vec<_>>());
    record::register(db.pool(), &config, at("10:01:00"))
        .await
        .unwrap();
    let sql = "update rosterd.resources set paused_at = now() where resource = 'paused'";
    sqlx::query(sql).execute(db.pool()).await.unwrap();
    let sql = "update rosterd.leases set resume_of = 1 where resource_id = \
               (select resource_id from rosterd.resources where resource = 'stopped')";
    sqlx::query(sql).execute(db.pool()).await.unwrap();

    let now = at("11:00:00");
    let claims = record::claim_due(db.pool(), &worker(), &config, 1, now)
        .await
        .unwrap();
    let resources: Vec<_> = claims.iter().map(|claim| claim.resource.as_str()).collect();
    assert_eq!(resources, ["stopped"]);
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.runs where status = 'skipped' and resource = 'paused'"
        )
        .await,
        1
    );
    // All others come in their turn, each once.
    let mut claimed = std::collections::BTreeSet::new();
    while let Some(claim) = record::claim_due(db.pool(), &worker(), &config, 1, now)
        .await
        .unwrap()
        .pop()
    {
        assert!(claimed.insert(claim.resource));
    }
    assert_eq!(claimed.len(), names.len());
}

#[tokio::test]
async fn slots_of_resources_that_only_others_know_are_left_to_them() {
    let db = TestDb::new().await;
    let ours = config(&[("employees", Some(QUARTER))]);
    record::register(
        db.pool(),
        &config(&[("employees", Some(QUARTER)), ("new", Some(QUARTER))]),
        at("10:01:00"),
    )
    .await
    .unwrap();
    let claims = record::claim_due(db.pool(), &worker(), &ours, 10, at("10:15:00"))
        .await
        .unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(count(&db, "select count(*) from rosterd.runs").await, 1);
}

#[tokio::test]
async fn slots_missed_while_down_become_one_catch_up() {
    let db = TestDb::new().await;
    let config = config(&[("employees", Some(QUARTER))]);
    record::register(db.pool(), &config, at("10:01:00"))
        .await
        .unwrap();
    let claims = record::claim_due(db.pool(), &worker(), &config, 4, at("12:01:00"))
        .await
        .unwrap();
    let [claim] = claims.as_slice() else {
        panic!("one claim, not {claims:?}")
    };
    assert_eq!(
        (claim.trigger, claim.scheduled_for),
        (Trigger::CatchUp, Some(at("10:15:00")))
    );
    let labels: Value = run_row(&db, claim.run_id).await.get("labels");
    assert_eq!(labels["missed_slots"], json!(8));
    assert_eq!(next_run(&db, claim.resource_id).await, Some(at("12:15:00")));

    record::finish(db.pool(), &worker(), claim, ending(Status::Succeeded))
        .await
        .unwrap();
    assert_eq!(
        record::claim_due(db.pool(), &worker(), &config, 4, at("12:02:00"))
            .await
            .unwrap(),
        []
    );
    let gap: (i64, DateTime<Utc>) = sqlx::query_as("select slots, until_slot from rosterd.gaps")
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(gap, (8, at("12:00:00")));
}

#[tokio::test]
async fn a_clock_that_jumps_back_runs_no_slot_again() {
    let db = TestDb::new().await;
    let config = config(&[("employees", Some(QUARTER))]);
    let worker = worker();
    record::register(db.pool(), &config, at("10:01:00"))
        .await
        .unwrap();
    for claim in record::claim_due(db.pool(), &worker, &config, 4, at("10:15:00"))
        .await
        .unwrap()
    {
        record::finish(db.pool(), &worker, &claim, ending(Status::Succeeded))
            .await
            .unwrap();
    }
    // Another schedule is planned anew, by a clock that went back.
    let changed = self::config(&[("employees", Some(Duration::from_secs(300)))]);
    record::register(db.pool(), &changed, at("09:00:00"))
        .await
        .unwrap();
    let claims = record::claim_due(db.pool(), &worker, &changed, 4, at("10:15:00"))
        .await
        .unwrap();
    assert_eq!(claims, []);
}

#[tokio::test]
async fn slots_that_meet_a_run_or_a_pause_are_counted_in_one_row_each() {
    let db = TestDb::new().await;
    let config = config(&[("employees", Some(QUARTER))]);
    let worker = worker();
    record::register(db.pool(), &config, at("10:01:00"))
        .await
        .unwrap();
    let claims = record::claim_due(db.pool(), &worker, &config, 4, at("10:15:00"))
        .await
        .unwrap();
    let claim = claims.first().unwrap();
    // Also when the process has no free place.
    for (time, limit) in [("10:30:00", 4), ("10:45:00", 0), ("11:15:00", 4)] {
        assert_eq!(
            record::claim_due(db.pool(), &worker, &config, limit, at(time))
                .await
                .unwrap(),
            []
        );
    }
    record::finish(db.pool(), &worker, claim, ending(Status::Succeeded))
        .await
        .unwrap();

    record::pause(db.pool(), claim.resource_id, "migrating", "anna")
        .await
        .unwrap();
    assert_eq!(health(&db, "employees").await, "paused");
    for time in ["11:30:00", "11:45:00"] {
        assert_eq!(
            record::claim_due(db.pool(), &worker, &config, 4, at(time))
                .await
                .unwrap(),
            []
        );
    }
    let skipped: Vec<(String, DateTime<Utc>, i64, DateTime<Utc>)> = sqlx::query_as(
        "select reason, scheduled_for, slots, until_slot from rosterd.gaps where status = 'skipped' order by run_id",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    assert_eq!(
        skipped,
        [
            ("overlap".to_owned(), at("10:30:00"), 4, at("11:15:00")),
            ("paused".to_owned(), at("11:30:00"), 2, at("11:45:00")),
        ]
    );

    assert!(
        record::resume(db.pool(), claim.resource_id, "anna")
            .await
            .unwrap()
    );
    assert!(
        !record::resume(db.pool(), claim.resource_id, "anna")
            .await
            .unwrap()
    );
    assert_eq!(
        record::claim_due(db.pool(), &worker, &config, 4, at("12:00:00"))
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_new_day_counts_its_skipped_slots_anew() {
    let db = TestDb::new().await;
    let config = config(&[("employees", Some(QUARTER))]);
    let employees =
        register(&db, &[("employees", Some(QUARTER))], at("10:01:00")).await["employees"];
    record::pause(db.pool(), employees, "", "anna")
        .await
        .unwrap();
    for time in ["10:15:00", "10:30:00"] {
        record::claim_due(db.pool(), &worker(), &config, 1, at(time))
            .await
            .unwrap();
        sqlx::query("update rosterd.runs set finished_at = finished_at - interval '1 day'")
            .execute(db.pool())
            .await
            .unwrap();
    }
    assert_eq!(count(&db, "select count(*) from rosterd.gaps").await, 2);
}

#[tokio::test]
async fn a_run_by_hand_starts_at_once_also_when_paused_and_never_beside_another() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    record::pause(db.pool(), employees, "", "anna")
        .await
        .unwrap();
    let (first, second) = (worker(), worker());
    let claim = given_claim(&db, &first, employees).await;
    assert_eq!(
        (claim.trigger, claim.scheduled_for),
        (Trigger::Manual, None)
    );

    let held = record::claim_one(
        db.pool(),
        &second,
        employees,
        Trigger::Api,
        Mode::Full,
        "http",
    )
    .await
    .unwrap();
    assert!(matches!(held, ClaimOne::Held { owner, .. } if owner == first.name));
    record::finish(db.pool(), &first, &claim, ending(Status::Succeeded))
        .await
        .unwrap();
    let claim = given_claim(&db, &second, employees).await;
    assert_eq!(claim.fence, 2);
}

// Leases -------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_over_and_its_run_is_closed_and_gone_on_with() {
    let db = TestDb::new().await;
    let config = config(&[("employees", Some(QUARTER))]);
    let employees =
        register(&db, &[("employees", Some(QUARTER))], at("10:01:00")).await["employees"];
    let (dead, alive) = (worker(), worker());
    let ClaimOne::Claimed(old) = record::claim_one(
        db.pool(),
        &dead,
        employees,
        Trigger::Manual,
        Mode::Reconcile,
        "anna",
    )
    .await
    .unwrap() else {
        panic!("the resource is free")
    };
    let mut tx = db.pool().begin().await.unwrap();
    record::save_checkpoint(
        &mut tx,
        &old,
        "",
        Some(&json!({"offset": 200})),
        7,
        Some("f"),
    )
    .await
    .unwrap();
    record::fence(&mut tx, &dead, &old).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        record::claim_due(db.pool(), &alive, &config, 4, at("10:02:00"))
            .await
            .unwrap(),
        []
    );

    expire(&db, employees).await;
    assert_eq!(health(&db, "employees").await, "stuck");
    // Long before the next slot.
    let claims = record::claim_due(db.pool(), &alive, &config, 4, at("10:02:00"))
        .await
        .unwrap();
    let [new] = claims.as_slice() else {
        panic!("one claim, not {claims:?}")
    };
    assert_eq!(
        (new.trigger, new.mode, new.took_over),
        (Trigger::Retry, Mode::Reconcile, Some(old.run_id))
    );
    assert!(new.fence > old.fence);
    assert_eq!(
        run_row(&db, old.run_id).await.get::<String, _>("status"),
        "interrupted"
    );
    assert_eq!(
        run_row(&db, new.run_id)
            .await
            .get::<String, _>("triggered_by"),
        "anna"
    );
    let outcome: String =
        sqlx::query_scalar("select outcome from rosterd.attempts where run_id = $1")
            .bind(old.run_id)
            .fetch_one(db.pool())
            .await
            .unwrap();
    assert_eq!(outcome, "interrupted");
    let cursor = record::cursor(&mut db.pool().acquire().await.unwrap(), employees, "")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (cursor.checkpoint, cursor.generation),
        (Some(json!({"offset": 200})), 7)
    );

    // The old owner wakes up.
    assert_eq!(
        record::heartbeat(db.pool(), &dead, &old, "page 3")
            .await
            .unwrap(),
        Beat::Lost
    );
    let mut tx = db.pool().begin().await.unwrap();
    assert!(matches!(
        record::fence(&mut tx, &dead, &old).await,
        Err(Error::Lost)
    ));
    assert!(matches!(
        record::add_counters(&mut tx, &old, &Counters::default()).await,
        Err(Error::Lost)
    ));
    let late = record::finish_in(&mut tx, &dead, &old, ending(Status::Succeeded)).await;
    assert!(matches!(late, Err(Error::Lost)));
    tx.rollback().await.unwrap();
    record::finish(db.pool(), &dead, &old, ending(Status::Succeeded))
        .await
        .unwrap();
    assert_eq!(
        run_row(&db, old.run_id).await.get::<String, _>("status"),
        "interrupted"
    );
    assert_eq!(
        record::heartbeat(db.pool(), &alive, new, "page 3")
            .await
            .unwrap(),
        Beat::Alive
    );
}

#[tokio::test]
async fn an_owner_in_the_middle_of_a_batch_is_not_waited_for_and_not_robbed() {
    let db = TestDb::new().await;
    let config = config(&[("employees", None)]);
    let employees = register(&db, &[("employees", None)], at("10:00:00")).await["employees"];
    let (slow, other) = (worker(), worker());
    let claim = given_claim(&db, &slow, employees).await;
    expire(&db, employees).await;

    let mut tx = db.pool().begin().await.unwrap();
    record::add_counters(
        &mut tx,
        &claim,
        &Counters {
            pages: 1,
            ..Counters::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(
        record::claim_due(db.pool(), &other, &config, 4, at("10:00:00"))
            .await
            .unwrap(),
        []
    );
    let held = record::claim_one(
        db.pool(),
        &other,
        employees,
        Trigger::Manual,
        Mode::Full,
        "anna",
    )
    .await
    .unwrap();
    assert!(matches!(held, ClaimOne::Held { .. }));
    record::fence(&mut tx, &slow, &claim).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        record::heartbeat(db.pool(), &slow, &claim, "page 2")
            .await
            .unwrap(),
        Beat::Alive
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stale_writer_never_commits() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    sqlx::raw_sql("create table written (n bigint not null, fence bigint not null)")
        .execute(db.pool())
        .await
        .unwrap();
    sqlx::query("insert into rosterd.cursors (resource_id, cursor) values ($1, '0')")
        .bind(employees)
        .execute(db.pool())
        .await
        .unwrap();

    // Leases shorter than the batches, on purpose: each worker reads the cursor, dawdles and
    // writes the next number. Who dawdled too long would write a number twice.
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let pool = db.pool().clone();
            let worker = Worker {
                lease: Duration::from_millis(20),
                ..worker()
            };
            async move {
                let mut lost = 0_u32;
                for _ in 0..150 {
                    let claimed = record::claim_one(
                        &pool,
                        &worker,
                        employees,
                        Trigger::Manual,
                        Mode::Full,
                        "test",
                    );
                    let ClaimOne::Claimed(claim) = claimed.await.unwrap() else {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        continue;
                    };
                    for _ in 0..3 {
                        let mut conn = pool.acquire().await.unwrap();
                        let known = record::cursor(&mut conn, employees, "").await.unwrap();
                        drop(conn);
                        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..30))).await;
                        let next = known.unwrap().value.unwrap().as_i64().unwrap() + 1;
                        match write_number(&pool, &worker, &claim, next).await {
                            Ok(()) => {}
                            Err(Error::Lost) => {
                                lost += 1;
                                break;
                            }
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                }
                lost
            }
        })
        .collect();
    let lost: u32 = futures_util::future::join_all(tasks.into_iter().map(spawn))
        .await
        .into_iter()
        .sum();
    let written = count(&db, "select count(*) from written").await;
    assert_eq!(
        count(&db, "select count(distinct n) from written").await,
        written
    );
    assert_eq!(
        count(&db, "select coalesce(max(n), 0) from written").await,
        written
    );
    assert_eq!(
        count(
            &db,
            "select coalesce(sum(pages), 0)::bigint from rosterd.runs"
        )
        .await,
        written
    );
    assert!(
        lost > 0 && written > 0,
        "{lost} lost, {written} written: the test had no bite"
    );
}

/// One batch as `sync` writes it.
async fn write_number(pool: &PgPool, worker: &Worker, claim: &Claim, n: i64) -> Result<(), Error> {
    let mut tx = pool.begin().await?;
    let written = async {
        sqlx::query("insert into written values ($1, $2)")
            .bind(n)
            .bind(claim.fence)
            .execute(&mut *tx)
            .await?;
        record::move_cursor(&mut tx, claim, "", Some(&json!(n)), None, 1, None).await?;
        record::add_counters(
            &mut tx,
            claim,
            &Counters {
                pages: 1,
                ..Counters::default()
            },
        )
        .await?;
        record::fence(&mut tx, worker, claim).await
    }
    .await;
    match written {
        Ok(()) => tx.commit().await?,
        Err(_) => tx.rollback().await?,
    }
    written
}

#[tokio::test]
async fn a_run_that_was_stopped_is_resumed_at_once_and_first() {
    let db = TestDb::new().await;
    let config = config(&[("employees", Some(HOUR)), ("absences", Some(HOUR))]);
    let ids = register(
        &db,
        &[("employees", Some(HOUR)), ("absences", Some(HOUR))],
        at("09:30:00"),
    )
    .await;
    let worker = worker();
    let claim = given_claim(&db, &worker, ids["employees"]).await;
    record::finish(db.pool(), &worker, &claim, ending(Status::Interrupted))
        .await
        .unwrap();
    assert_eq!(health(&db, "employees").await, "degraded");

    let claims = record::claim_due(db.pool(), &worker, &config, 1, at("10:00:00"))
        .await
        .unwrap();
    let [resumed] = claims.as_slice() else {
        panic!("one claim, not {claims:?}")
    };
    assert_eq!(
        (resumed.trigger, resumed.took_over),
        (Trigger::Retry, Some(claim.run_id))
    );
    // It answers the slot that is due too.
    assert_eq!(resumed.scheduled_for, Some(at("10:00:00")));
    assert_eq!(next_run(&db, ids["employees"]).await, Some(at("11:00:00")));
}

#[tokio::test]
async fn a_run_that_kills_every_process_is_given_up_until_its_next_slot() {
    let db = TestDb::new().await;
    let config = config(&[("employees", Some(HOUR))]);
    let employees = register(&db, &[("employees", Some(HOUR))], at("09:30:00")).await["employees"];
    given_claim(&db, &worker(), employees).await;
    for _ in 0..3 {
        expire(&db, employees).await;
        let claims = record::claim_due(db.pool(), &worker(), &config, 1, at("09:31:00"))
            .await
            .unwrap();
        assert_eq!(claims.len(), 1);
    }
    expire(&db, employees).await;
    assert_eq!(
        record::claim_due(db.pool(), &worker(), &config, 1, at("09:31:00"))
            .await
            .unwrap(),
        []
    );
    assert_eq!(health(&db, "employees").await, "failing");
    let code: String =
        sqlx::query_scalar("select error_code from rosterd.runs where status = 'failed'")
            .fetch_one(db.pool())
            .await
            .unwrap();
    assert_eq!(code, "crash_loop");
    assert_eq!(
        record::claim_due(db.pool(), &worker(), &config, 1, at("10:00:00"))
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_dead_run_of_a_paused_or_removed_resource_is_closed_and_not_started_again() {
    let db = TestDb::new().await;
    let ids = register(
        &db,
        &[("employees", None), ("absences", None)],
        at("10:00:00"),
    )
    .await;
    for id in ids.values() {
        given_claim(&db, &worker(), *id).await;
        expire(&db, *id).await;
    }
    record::pause(db.pool(), ids["employees"], "", "anna")
        .await
        .unwrap();
    let config = config(&[("employees", None)]);
    record::register(db.pool(), &config, at("10:00:00"))
        .await
        .unwrap();

    assert_eq!(
        record::claim_due(db.pool(), &worker(), &config, 4, at("10:00:00"))
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.runs where status = 'interrupted'"
        )
        .await,
        2
    );
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.leases where run_id is not null"
        )
        .await,
        0
    );
    // Once it runs again, it is gone on with.
    record::resume(db.pool(), ids["employees"], "anna")
        .await
        .unwrap();
    let claims = record::claim_due(db.pool(), &worker(), &config, 4, at("10:00:00"))
        .await
        .unwrap();
    assert_eq!(claims.len(), 1);
}

#[tokio::test]
async fn a_run_hears_with_its_heartbeat_that_it_shall_stop() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    assert_eq!(
        record::request_cancel(db.pool(), employees, "anna")
            .await
            .unwrap(),
        None
    );
    let worker = worker();
    let claim = given_claim(&db, &worker, employees).await;
    assert_eq!(
        record::request_cancel(db.pool(), employees, "anna")
            .await
            .unwrap(),
        Some(claim.run_id)
    );
    let beat = record::heartbeat(db.pool(), &worker, &claim, "fetching page 2")
        .await
        .unwrap();
    assert_eq!(beat, Beat::CancelRequested);
    record::finish(db.pool(), &worker, &claim, ending(Status::Cancelled))
        .await
        .unwrap();
    // The wish is not handed on to the next run.
    let claim = given_claim(&db, &worker, employees).await;
    assert_eq!(
        record::heartbeat(db.pool(), &worker, &claim, "")
            .await
            .unwrap(),
        Beat::Alive
    );
}

#[tokio::test]
async fn a_run_that_lost_its_fence_but_not_its_place_is_still_closed() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    let worker = worker();
    let claim = given_claim(&db, &worker, employees).await;
    expire(&db, employees).await;
    record::reset_cursor(db.pool(), employees, "anna", None)
        .await
        .unwrap();
    let mut tx = db.pool().begin().await.unwrap();
    let fenced = record::finish_in(&mut tx, &worker, &claim, ending(Status::Succeeded)).await;
    assert!(matches!(fenced, Err(Error::Lost)));
    tx.rollback().await.unwrap();

    record::finish(db.pool(), &worker, &claim, ending(Status::Failed))
        .await
        .unwrap();
    let row = run_row(&db, claim.run_id).await;
    assert_eq!(row.get::<String, _>("status"), "failed");
    given_claim(&db, &worker, employees).await;
}

// Endings and health -------------------------------------------------------------------------------

#[tokio::test]
async fn each_ending_shows_as_its_health() {
    let fault = |class| {
        Some(Fault {
            retryable: true,
            ..fault(class)
        })
    };
    let cases: &[(&str, Status, Option<Fault>, &str)] = &[
        ("complete", Status::Succeeded, None, "ok"),
        (
            "with_rejects",
            Status::Partial,
            fault(Class::Data),
            "degraded",
        ),
        ("unexplained_partial", Status::Partial, None, "degraded"),
        ("bad_key", Status::Failed, fault(Class::Auth), "broken"),
        (
            "forbidden",
            Status::Failed,
            fault(Class::Permission),
            "broken",
        ),
        ("bad_config", Status::Failed, fault(Class::Config), "broken"),
        (
            "vendor_down",
            Status::Failed,
            fault(Class::SourceUnavailable),
            "failing",
        ),
        ("unexplained", Status::Failed, None, "failing"),
        ("stopped", Status::Interrupted, None, "degraded"),
        ("cancelled", Status::Cancelled, None, "never_ran"),
    ];
    let db = TestDb::new().await;
    let specs: Vec<(&str, Option<Duration>)> = cases.iter().map(|case| (case.0, None)).collect();
    let ids = register(&db, &specs, at("10:00:00")).await;
    let worker = worker();
    for (name, status, fault, expected) in cases {
        let claim = given_claim(&db, &worker, ids[*name]).await;
        let ending = Ending {
            fault: fault.clone(),
            ..ending(*status)
        };
        record::finish(db.pool(), &worker, &claim, ending)
            .await
            .unwrap();
        assert_eq!(health(&db, name).await, *expected, "{name}");
        let row = run_row(&db, claim.run_id).await;
        assert_eq!(row.get::<String, _>("status"), status.as_str());
        let outcome: String =
            sqlx::query_scalar("select outcome from rosterd.attempts where run_id = $1")
                .bind(claim.run_id)
                .fetch_one(db.pool())
                .await
                .unwrap();
        assert_eq!(outcome, status.as_str());
    }
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.leases where run_id is not null"
        )
        .await,
        0
    );
    assert_eq!(
        count(&db, "select count(*) from rosterd.run_list").await,
        cases.len() as i64
    );
    assert!(count(&db, "select count(*) from rosterd.error_groups").await >= 5);
}

#[tokio::test]
async fn data_that_is_older_than_promised_is_late_and_open_rejects_degrade() {
    let db = TestDb::new().await;
    let mut config = config(&[("employees", None)]);
    config.sources[0].resources[0].freshness = Some(HOUR);
    let employees = record::register(db.pool(), &config, at("10:00:00"))
        .await
        .unwrap()[0]
        .resource_id;
    let worker = worker();
    let claim = given_claim(&db, &worker, employees).await;
    let mut tx = db.pool().begin().await.unwrap();
    record::reject(&mut tx, &claim, &[bad_record(Some("1"))])
        .await
        .unwrap();
    record::finish_in(&mut tx, &worker, &claim, ending(Status::Succeeded))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(health(&db, "employees").await, "degraded");

    let claim = given_claim(&db, &worker, employees).await;
    let old = Ending {
        watermark_at: Some(at("10:00:00")),
        ..ending(Status::Succeeded)
    };
    record::finish(db.pool(), &worker, &claim, old)
        .await
        .unwrap();
    assert_eq!(health(&db, "employees").await, "late");
    sqlx::query("update rosterd.runs set watermark_at = '-infinity'")
        .execute(db.pool())
        .await
        .unwrap();
    assert_eq!(health(&db, "employees").await, "late");
}

#[tokio::test]
async fn the_last_counters_are_added_once_however_often_the_end_is_told() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    let worker = worker();
    let claim = given_claim(&db, &worker, employees).await;
    let two = Counters {
        pages: 2,
        rows_inserted: 200,
        http_429: 1,
        schema_changes: 3,
        ..Counters::default()
    };
    let mut tx = db.pool().begin().await.unwrap();
    record::add_counters(&mut tx, &claim, &two).await.unwrap();
    record::fence(&mut tx, &worker, &claim).await.unwrap();
    tx.commit().await.unwrap();
    for _ in 0..2 {
        let last = Ending {
            counters: two,
            cursor_to: Some("2026-01-01".to_owned()),
            ..ending(Status::Succeeded)
        };
        record::finish(db.pool(), &worker, &claim, last)
            .await
            .unwrap();
    }
    let counted: (i64, i64, i64, i64, i64) = sqlx::query_as(
        "select r.pages, r.rows_inserted, r.http_429, r.schema_changes, a.pages
         from rosterd.runs r join rosterd.attempts a using (run_id)",
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    assert_eq!(counted, (4, 400, 2, 6, 4));
}

#[tokio::test]
async fn texts_that_postgres_cannot_store_do_not_keep_a_run_open() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    let worker = worker();
    let claim = given_claim(&db, &worker, employees).await;
    let message = format!("no\0thing\n{}", "x".repeat(10_000));
    let ending = Ending {
        fault: Some(Fault {
            message,
            ..fault(Class::SourceResponse)
        }),
        reason: Some("a\0b".to_owned()),
        cursor_to: Some("\0".to_owned()),
        ..ending(Status::Failed)
    };
    record::finish(db.pool(), &worker, &claim, ending)
        .await
        .unwrap();
    let message: String = run_row(&db, claim.run_id).await.get("error_message");
    assert!(message.starts_with("no thing x") && message.len() <= 500);
}

#[tokio::test]
async fn a_run_does_not_end_as_running() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    let worker = worker();
    let claim = given_claim(&db, &worker, employees).await;
    let ended = record::finish(db.pool(), &worker, &claim, ending(Status::Running)).await;
    assert!(matches!(ended, Err(Error::NotAnEnding(Status::Running))));
}

// Cursors ------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_cursor_moves_only_by_a_move_or_a_reset_and_each_is_logged() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    let worker = worker();
    let claim = given_claim(&db, &worker, employees).await;
    let mut conn = db.pool().acquire().await.unwrap();

    record::save_checkpoint(
        &mut conn,
        &claim,
        "",
        Some(&json!({"page": 2})),
        1,
        Some("f1"),
    )
    .await
    .unwrap();
    assert_eq!(
        stored(&mut conn, employees).await,
        (None, Some(json!({"page": 2})))
    );
    record::move_cursor(
        &mut conn,
        &claim,
        "",
        Some(&json!("2026-01-01")),
        None,
        1,
        Some("f1"),
    )
    .await
    .unwrap();
    assert_eq!(
        stored(&mut conn, employees).await,
        (Some(json!("2026-01-01")), None)
    );
    // None of these is a new place.
    record::save_checkpoint(
        &mut conn,
        &claim,
        "",
        Some(&json!({"page": 3})),
        2,
        Some("f1"),
    )
    .await
    .unwrap();
    record::move_cursor(&mut conn, &claim, "", None, None, 2, Some("f1"))
        .await
        .unwrap();
    record::move_cursor(
        &mut conn,
        &claim,
        "",
        Some(&Value::Null),
        Some(&Value::Null),
        2,
        Some("f1"),
    )
    .await
    .unwrap();
    record::move_cursor(
        &mut conn,
        &claim,
        "",
        Some(&json!("2026-01-01")),
        None,
        2,
        Some("f1"),
    )
    .await
    .unwrap();
    assert_eq!(
        stored(&mut conn, employees).await,
        (Some(json!("2026-01-01")), None)
    );
    // The configuration changed: the old value must not pass for a new one.
    let mismatch = record::save_checkpoint(
        &mut conn,
        &claim,
        "",
        Some(&json!({"page": 1})),
        3,
        Some("f2"),
    )
    .await;
    assert!(matches!(mismatch, Err(Error::CursorMismatch)));
    record::move_cursor(
        &mut conn,
        &claim,
        "",
        Some(&json!("2026-02-01")),
        None,
        3,
        Some("f2"),
    )
    .await
    .unwrap();

    let held = record::reset_cursor(db.pool(), employees, "anna", None).await;
    assert!(matches!(held, Err(Error::Held { .. })));
    record::finish(db.pool(), &worker, &claim, ending(Status::Succeeded))
        .await
        .unwrap();
    assert_eq!(
        record::reset_cursor(db.pool(), employees, "anna", Some("wrong zone"))
            .await
            .unwrap(),
        1
    );
    assert_eq!(stored(&mut conn, employees).await, (None, None));

    type Line = (Option<Value>, Option<Value>, String, Option<String>);
    let log: Vec<Line> = sqlx::query_as(
        "select old_cursor, new_cursor, changed_by, reason from rosterd.cursor_log order by id",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    let by_run = format!("run:{}", claim.run_id);
    assert_eq!(
        log,
        [
            (None, Some(json!("2026-01-01")), by_run.clone(), None),
            (
                Some(json!("2026-01-01")),
                Some(json!("2026-02-01")),
                by_run,
                None
            ),
            (
                Some(json!("2026-02-01")),
                None,
                "anna".to_owned(),
                Some("wrong zone".to_owned())
            ),
        ]
    );
    assert!(matches!(
        record::reset_cursor(db.pool(), 4711, "anna", None).await,
        Err(Error::UnknownResource)
    ));
}

#[tokio::test]
async fn the_log_keeps_the_last_moves_by_runs_and_all_by_people() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    let worker = worker();
    let claim = given_claim(&db, &worker, employees).await;
    let mut conn = db.pool().acquire().await.unwrap();
    record::move_cursor(&mut conn, &claim, "", Some(&json!(-1)), None, 1, None)
        .await
        .unwrap();
    record::finish(db.pool(), &worker, &claim, ending(Status::Succeeded))
        .await
        .unwrap();
    record::reset_cursor(db.pool(), employees, "anna", None)
        .await
        .unwrap();
    for n in 0..80 {
        record::move_cursor(&mut conn, &claim, "", Some(&json!(n)), None, 1, None)
            .await
            .unwrap();
    }
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.cursor_log where run_id is not null"
        )
        .await,
        50
    );
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.cursor_log where changed_by = 'anna'"
        )
        .await,
        1
    );
    assert_eq!(
        count(
            &db,
            "select max(new_cursor::bigint) from rosterd.cursor_log"
        )
        .await,
        79
    );
}

#[tokio::test]
async fn a_reset_stops_a_worker_whose_lease_ran_out() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    let worker = worker();
    let claim = given_claim(&db, &worker, employees).await;
    expire(&db, employees).await;
    record::reset_cursor(db.pool(), employees, "anna", None)
        .await
        .unwrap();
    let mut tx = db.pool().begin().await.unwrap();
    assert!(matches!(
        record::fence(&mut tx, &worker, &claim).await,
        Err(Error::Lost)
    ));
}

// Rejects, events, catalogue -----------------------------------------------------------------------

async fn open_rejects(conn: &mut PgConnection, resource: ResourceId) -> i64 {
    let left = record::left_over(conn, resource).await.unwrap();
    left.open_rejects
}

#[tokio::test]
async fn a_reject_is_kept_once_per_record_and_reason_and_closed_when_the_record_loads() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    let claim = given_claim(&db, &worker(), employees).await;
    let mut conn = db.pool().acquire().await.unwrap();
    let other_reason = NewReject {
        reason: "number_out_of_range".to_owned(),
        ..bad_record(Some("1"))
    };
    let batch = [
        bad_record(Some("1")),
        bad_record(None),
        bad_record(Some("1")),
        bad_record(None),
        other_reason,
    ];
    for _ in 0..2 {
        record::reject(&mut conn, &claim, &batch).await.unwrap();
    }
    let kept: Vec<(Option<String>, String, i64)> = sqlx::query_as(
        "select record_key, reason, seen_count from rosterd.rejects order by 1 nulls first, 2",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    assert_eq!(
        kept,
        [
            (None, "null_key".to_owned(), 4),
            (Some("1".to_owned()), "null_key".to_owned(), 4),
            (Some("1".to_owned()), "number_out_of_range".to_owned(), 2),
        ]
    );
    assert_eq!(open_rejects(&mut conn, employees).await, 3);
    let keys = ["1".to_owned(), "2".to_owned(), String::new()];
    let loaded = record::resolve_rejects(&mut conn, &claim, &keys);
    assert_eq!(loaded.await.unwrap(), 2);
    assert_eq!(open_rejects(&mut conn, employees).await, 1);
    // It comes back: a new row, the closed one stays as it is.
    record::reject(&mut conn, &claim, &[bad_record(Some("1"))])
        .await
        .unwrap();
    assert_eq!(count(&db, "select count(*) from rosterd.rejects").await, 4);
}

#[tokio::test]
async fn a_run_writes_a_bounded_number_of_events() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    let claim = given_claim(&db, &worker(), employees).await;
    let mut conn = db.pool().acquire().await.unwrap();
    let mut event = NewEvent {
        run_id: Some(claim.run_id),
        resource_id: Some(employees),
        level: Level::Warn,
        kind: "rate_limited",
        message: "the API asked to wait",
        data: json!({ "seconds": 3 }),
    };
    for _ in 0..220 {
        record::event(&mut conn, &event).await.unwrap();
    }
    event.run_id = None;
    record::event(&mut conn, &event).await.unwrap();
    assert_eq!(count(&db, "select count(*) from rosterd.events").await, 201);
}

#[tokio::test]
async fn a_column_keeps_its_field_and_shows_its_changes() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    let claim = given_claim(&db, &worker(), employees).await;
    let mut conn = db.pool().acquire().await.unwrap();
    let id = column("id", &["id"], "bigint");
    let street = column("address__street", &["address", "street"], "text");
    record::save_columns(&mut conn, &claim, &[id.clone(), street.clone()])
        .await
        .unwrap();
    let wider = CatalogColumn {
        data_type: "numeric".to_owned(),
        source_path: vec!["ID".to_owned()],
        ..id.clone()
    };
    record::save_columns(&mut conn, &claim, &[wider])
        .await
        .unwrap();
    let change = SchemaChange {
        change: "widen_column",
        table_name: "hr.employees".to_owned(),
        column_name: Some("id".to_owned()),
        old_type: Some("bigint".to_owned()),
        new_type: Some("numeric".to_owned()),
        ddl: "alter table hr.employees alter column id type numeric".to_owned(),
    };
    record::schema_change(&mut conn, &claim, &change)
        .await
        .unwrap();

    let mut known = record::columns(&mut conn, "hr", "employees").await.unwrap();
    known.sort_by_key(|column| column.source_path.len());
    assert_eq!(
        known,
        [
            CatalogColumn {
                data_type: "numeric".to_owned(),
                ..id
            },
            street
        ]
    );
    assert_eq!(
        record::columns(&mut conn, "hr", "absences").await.unwrap(),
        []
    );
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.schema_changes where run_id is not null"
        )
        .await,
        1
    );
}

#[tokio::test]
async fn a_worker_is_on_the_list_until_it_says_goodbye() {
    let db = TestDb::new().await;
    let worker = worker();
    record::beat_worker(db.pool(), &worker, 3, false)
        .await
        .unwrap();
    record::beat_worker(db.pool(), &worker, 1, true)
        .await
        .unwrap();
    let seen: (i64, bool) = sqlx::query_as("select running, draining from rosterd.workers")
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(seen, (1, true));
    record::remove_worker(db.pool(), &worker).await.unwrap();
    assert_eq!(count(&db, "select count(*) from rosterd.workers").await, 0);
}

// Retention ----------------------------------------------------------------------------------------

#[tokio::test]
async fn old_history_goes_the_newest_of_each_kind_stays_and_days_outlive_it() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    // Days ago, status, rows inserted.
    let history = [
        (400, "failed", 0),
        (399, "failed", 0),
        (60, "succeeded", 5),
        (50, "skipped", 0),
        (49, "skipped", 0),
        (40, "failed", 0),
        (20, "succeeded", 0),
        (19, "succeeded", 7),
        (10, "succeeded", 0),
        (2, "succeeded", 0),
    ];
    for (days, status, inserted) in history {
        given_history(&db, employees, days, status, inserted).await;
    }
    let retained = record::retain(db.pool(), &retention()).await.unwrap();
    assert!(retained.done);
    let left: Vec<(i32, String)> = sqlx::query_as(
        "select extract(day from date_trunc('hour', now() + interval '1 hour' - queued_at))::int, status
         from rosterd.runs order by run_id",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    let left: Vec<(i32, &str)> = left
        .iter()
        .map(|(days, status)| (*days, status.as_str()))
        .collect();
    // Gone: failures of over a year, a success of over 30 days, one without changes of over 7, an old skipped slot.
    assert_eq!(
        left,
        [
            (49, "skipped"),
            (40, "failed"),
            (19, "succeeded"),
            (2, "succeeded")
        ]
    );
    let rolled: (i64, i64, i64, i64) = sqlx::query_as(
        "select count(*), sum(runs)::bigint, sum(failed)::bigint, sum(rows_changed)::bigint from rosterd.daily",
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    // 400 days, the empty ones too. How many depends on whether today began within the last hour.
    assert!((399..=401).contains(&rolled.0), "{} days", rolled.0);
    assert_eq!((rolled.1, rolled.2, rolled.3), (8, 3, 12));

    let again = record::retain(db.pool(), &retention()).await.unwrap();
    assert_eq!((again.done, again.rolled_up, again.runs), (true, 0, 0));
}

#[tokio::test]
async fn the_only_success_and_the_only_failure_stay_for_ever() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    for (days, status) in [
        (900, "succeeded"),
        (800, "partial"),
        (700, "failed"),
        (600, "cancelled"),
    ] {
        given_history(&db, employees, days, status, 1).await;
    }
    let retained = record::retain(db.pool(), &retention()).await.unwrap();
    assert_eq!(retained.runs, 0);
    assert_eq!(count(&db, "select count(*) from rosterd.runs").await, 4);
}

#[tokio::test]
async fn more_old_rows_than_one_step_holds_all_go() {
    let db = TestDb::new().await;
    let employees = given_resource(&db, "employees", None, at("10:00:00")).await;
    sqlx::query(
        "insert into rosterd.runs (status, resource_id, account, source, resource, trigger, mode, queued_at,
                                   started_at, finished_at, rows_inserted)
         select 'succeeded', $1, 'default', 'hr', 'employees', 'schedule', 'full', t, t, t, 1
         from generate_series(now() - interval '60 days', now(), interval '30 minutes') t",
    )
    .bind(employees)
    .execute(db.pool())
    .await
    .unwrap();
    sqlx::raw_sql(
        "insert into rosterd.events (at, level, kind, message)
         select now() - interval '40 days' + n * interval '20 minutes', 'info', 'x', 'y' from generate_series(1, 2500) n;
         insert into rosterd.rejects (run_id, resource_id, record_key, stage, reason, first_seen_at, resolved_at)
         select 1, 1, n::text, 'shape', 'null_key', now() - interval '200 days',
                case when n % 2 = 0 then now() - interval '100 days' end
         from generate_series(1, 2500) n;
         insert into rosterd.workers (worker, heartbeat_at) values ('dead', now() - interval '3 days'), ('alive', now())",
    )
    .execute(db.pool())
    .await
    .unwrap();
    let retained = record::retain(db.pool(), &retention()).await.unwrap();
    assert!(
        (1438..=1441).contains(&retained.runs),
        "{} runs",
        retained.runs
    );
    assert_eq!(
        retained.events,
        count(&db, "select 2500 - count(*) from rosterd.events").await as u64
    );
    assert!(
        (710..=725).contains(&retained.events),
        "{} events",
        retained.events
    );
    assert_eq!((retained.rejects, retained.workers), (1250, 1));
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.events where at < now() - interval '30 days'"
        )
        .await,
        0
    );
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.rejects where resolved_at is not null"
        )
        .await,
        0
    );
}

#[tokio::test]
async fn one_replica_at_a_time_does_the_chores() {
    let db = TestDb::new().await;
    sqlx::query("update rosterd.chores set owner = 'other', expires_at = clock_timestamp() + interval '10 s'")
        .execute(db.pool())
        .await
        .unwrap();
    assert!(!record::retain(db.pool(), &retention()).await.unwrap().done);
    sqlx::query("update rosterd.chores set expires_at = clock_timestamp() - interval '1 s'")
        .execute(db.pool())
        .await
        .unwrap();
    assert!(record::retain(db.pool(), &retention()).await.unwrap().done);
    assert_eq!(
        count(
            &db,
            "select count(*) from rosterd.chores where owner is null and last_done_at is not null"
        )
        .await,
        1
    );
}

// Errors -------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_error_of_the_server_shows_its_code_and_not_its_words() {
    let db = TestDb::new().await;
    let secret = sqlx::query(
        "insert into rosterd.runs (status, resource_id, account, source, resource, trigger, mode)
                              values ('salary 4711', 1, 'a', 's', 'r', 'manual', 'full')",
    )
    .execute(db.pool())
    .await;
    let error = Error::from(secret.unwrap_err());
    let fault = error.fault();
    assert_eq!(
        (fault.class, fault.code.as_str()),
        (Class::Destination, "SQLSTATE 23514")
    );
    for text in [
        error.to_string(),
        format!("{error:?}"),
        format!("{fault:?}"),
    ] {
        assert!(!text.contains("4711"), "{text}");
    }
}

// Helpers ------------------------------------------------------------------------------------------

fn at(time: &str) -> DateTime<Utc> {
    format!("2026-03-02T{time}Z").parse().unwrap()
}

fn worker() -> Worker {
    Worker::new(Duration::from_secs(60), "config")
}

fn ending(status: Status) -> Ending {
    Ending {
        status,
        fault: None,
        reason: None,
        counters: Counters::default(),
        cursor_from: None,
        cursor_to: None,
        watermark_at: None,
    }
}

fn fault(class: Class) -> Fault {
    Fault {
        class,
        code: "code".to_owned(),
        message: "what happened".to_owned(),
        hint: "what to do".to_owned(),
        retryable: false,
    }
}

fn bad_record(key: Option<&str>) -> NewReject {
    NewReject {
        key: key.map(str::to_owned),
        stage: "shape",
        column: Some("id".to_owned()),
        reason: "null_key".to_owned(),
        sqlstate: None,
        record: None,
    }
}

fn column(name: &str, path: &[&str], data_type: &str) -> CatalogColumn {
    CatalogColumn {
        table_schema: "hr".to_owned(),
        table_name: "employees".to_owned(),
        column_name: name.to_owned(),
        source_path: path.iter().map(|&step| step.to_owned()).collect(),
        data_type: data_type.to_owned(),
        treatment: "as is".to_owned(),
    }
}

fn retention() -> Retention {
    Retention {
        runs: 30 * DAY,
        failed_runs: 365 * DAY,
        unchanged_runs: 7 * DAY,
        events: 30 * DAY,
        rejects: 90 * DAY,
    }
}

/// Runs a future on a task of its own, and fails with it.
async fn spawn<F>(future: F) -> F::Output
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio_util::task::TaskTracker::new()
        .spawn(future)
        .await
        .unwrap()
}

async fn register(
    db: &TestDb,
    specs: &[(&str, Option<Duration>)],
    now: DateTime<Utc>,
) -> HashMap<String, ResourceId> {
    let registered = record::register(db.pool(), &config(specs), now)
        .await
        .unwrap();
    registered
        .into_iter()
        .map(|known| (known.resource, known.resource_id))
        .collect()
}

async fn given_resource(
    db: &TestDb,
    name: &str,
    every: Option<Duration>,
    now: DateTime<Utc>,
) -> ResourceId {
    register(db, &[(name, every)], now).await[name]
}

async fn given_claim(db: &TestDb, worker: &Worker, resource_id: ResourceId) -> Claim {
    match record::claim_one(
        db.pool(),
        worker,
        resource_id,
        Trigger::Manual,
        Mode::Full,
        "test",
    )
    .await
    .unwrap()
    {
        ClaimOne::Claimed(claim) => claim,
        ClaimOne::Held { owner, .. } => panic!("held by {owner}"),
    }
}

async fn given_history(
    db: &TestDb,
    resource_id: ResourceId,
    days: i32,
    status: &str,
    inserted: i64,
) {
    sqlx::query(
        "insert into rosterd.runs (status, resource_id, account, source, resource, trigger, mode, reason, queued_at,
                                   started_at, finished_at, rows_inserted, error_class, error_message)
         select $3, $1, 'default', 'hr', 'employees', 'schedule', 'full', 'why', t, t, t, $4, 'internal', 'oh'
         from (select now() - make_interval(days => $2) as t) past",
    )
    .bind(resource_id)
    .bind(days)
    .bind(status)
    .bind(inserted)
    .execute(db.pool())
    .await
    .unwrap();
}

/// The owner was silent for too long.
async fn expire(db: &TestDb, resource_id: ResourceId) {
    sqlx::query("update rosterd.leases set expires_at = clock_timestamp() - interval '1 s' where resource_id = $1")
        .bind(resource_id)
        .execute(db.pool())
        .await
        .unwrap();
}

async fn health(db: &TestDb, resource: &str) -> String {
    sqlx::query_scalar("select health from rosterd.resource_health where resource = $1")
        .bind(resource)
        .fetch_one(db.pool())
        .await
        .unwrap()
}

async fn next_run(db: &TestDb, resource_id: ResourceId) -> Option<DateTime<Utc>> {
    sqlx::query_scalar("select next_run_at from rosterd.resources where resource_id = $1")
        .bind(resource_id)
        .fetch_one(db.pool())
        .await
        .unwrap()
}

async fn run_row(db: &TestDb, run_id: i64) -> sqlx::postgres::PgRow {
    sqlx::query("select * from rosterd.runs where run_id = $1")
        .bind(run_id)
        .fetch_one(db.pool())
        .await
        .unwrap()
}

async fn count(db: &TestDb, query: &'static str) -> i64 {
    sqlx::query_scalar::<_, i64>(query)
        .fetch_one(db.pool())
        .await
        .unwrap()
}

async fn stored(
    conn: &mut PgConnection,
    resource_id: ResourceId,
) -> (Option<Value>, Option<Value>) {
    let cursor = record::cursor(conn, resource_id, "")
        .await
        .unwrap()
        .unwrap();
    (cursor.value, cursor.checkpoint)
}

fn names(registered: &[record::Registered]) -> HashMap<&str, ResourceId> {
    registered
        .iter()
        .map(|known| (known.resource.as_str(), known.resource_id))
        .collect()
}

fn id_at(registered: &[record::Registered], resource: &str) -> usize {
    registered
        .iter()
        .position(|known| known.resource == resource)
        .unwrap()
}

/// A configuration with one source `hr`, whose resources run every so often.
fn config(specs: &[(&str, Option<Duration>)]) -> Config {
    let mut yaml =
        "sources:\n  hr:\n    client: {base_url: \"http://127.0.0.1/\"}\n    resources:\n"
            .to_owned();
    for (name, every) in specs {
        yaml += &format!("      - name: {name}\n        write_disposition: append\n");
        yaml += "        endpoint: {paginator: single_page}\n";
        if let Some(every) = every {
            let seconds = every.as_secs();
            yaml += &format!("        schedule: {{every: {seconds}s, jitter: 0s}}\n");
        }
    }
    config::from_str(&yaml).unwrap()
}
