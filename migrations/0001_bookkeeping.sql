-- What rosterd knows about itself: what should run, who runs it, what ran, and how far it came.
--
-- People read these tables in SQL, so every state is a word and not a number, every time has its
-- zone, and every column is explained where `\d+` shows it. Plain tables only: no extension, no enum
-- type, no trigger and nothing that needs more than the right to create in this schema.

-- `create schema if not exists` asks for rights on the database even when the schema is there; a role
-- that was only given the schema shall do as well.
do $$
begin
  if not exists (select from pg_namespace where nspname = 'rosterd') then
    create schema rosterd;
  end if;
  if exists (select from pg_namespace where nspname = 'rosterd' and pg_has_role(nspowner, 'USAGE')) then
    comment on schema rosterd is 'Run history, cursors and leases of rosterd. Read the views; the tables may change.';
  end if;
end
$$;

-- What should run ---------------------------------------------------------------------------------

create table rosterd.resources (
  resource_id    bigint generated always as identity primary key,
  account        text not null default 'default',
  source         text not null,
  resource       text not null,
  target_table   text not null,
  credential_key text not null,
  mode           text not null check (mode in ('incremental', 'full')),
  schedule       text,
  schedule_tz    text not null default 'UTC',
  jitter         interval not null default '0',
  freshness_slo  interval,
  paused_at      timestamptz,
  paused_reason  text,
  removed_at     timestamptz,
  fingerprint    text not null,
  next_run_at    timestamptz,
  last_slot      timestamptz,
  updated_at     timestamptz not null default now(),
  unique (account, source, resource),
  constraint slots_go_forward check (next_run_at > last_slot),
  constraint removed_is_not_due check (removed_at is null or next_run_at is null)
);
-- The scheduler's question: what is due?
create index resources_due on rosterd.resources (next_run_at) where removed_at is null;

comment on table rosterd.resources is 'What should run: one row per resource of the configuration, written at start and reload.';
comment on column rosterd.resources.resource_id is 'Identity; stays the same for as long as account, source and resource keep their names.';
comment on column rosterd.resources.account is 'Tenant of the source; default when the configuration names none.';
comment on column rosterd.resources.source is 'Name of the API in the configuration.';
comment on column rosterd.resources.resource is 'Name of the resource in the configuration.';
comment on column rosterd.resources.target_table is 'Schema and table that the resource fills.';
comment on column rosterd.resources.credential_key is 'Name of the rate budget that its requests spend; joins api_budgets. Never the secret.';
comment on column rosterd.resources.mode is 'What a scheduled run does: incremental or full.';
comment on column rosterd.resources.schedule is 'Cron expression, or every and a duration; null: runs on request only.';
comment on column rosterd.resources.schedule_tz is 'Time zone in which the cron expression is told.';
comment on column rosterd.resources.jitter is 'By how much the slots of this resource are moved, so that not all start at :00.';
comment on column rosterd.resources.freshness_slo is 'The data should never be older than this; null: no promise.';
comment on column rosterd.resources.paused_at is 'Since when no slot is run; null: not paused.';
comment on column rosterd.resources.paused_reason is 'Who paused it, and why.';
comment on column rosterd.resources.removed_at is 'Since when the configuration no longer names it; its history stays.';
comment on column rosterd.resources.fingerprint is 'Hash of what decides the meaning of a cursor: path, parameters, cursor field, key.';
comment on column rosterd.resources.next_run_at is 'The next slot, jitter included; due once it is past. Null: nothing planned.';
comment on column rosterd.resources.last_slot is 'The newest slot that has its row in runs. Slots only go forward, also when a clock jumps back.';
comment on column rosterd.resources.updated_at is 'When the configuration last changed this row.';

-- Who runs it: one row per resource, updated in place. Heartbeats would bloat the history, so they
-- live here; half of each page is kept free so that they stay on their page (HOT).
create table rosterd.leases (
  resource_id      bigint primary key references rosterd.resources on delete cascade,
  run_id           bigint,
  owner            text,
  fence            bigint not null default 0,
  acquired_at      timestamptz,
  heartbeat_at     timestamptz,
  expires_at       timestamptz,
  phase            text,
  cancel_requested boolean not null default false,
  resume_of        bigint,
  constraint held_or_idle check ((run_id is null) = (owner is null) and (run_id is null) = (expires_at is null))
) with (fillfactor = 50);
-- The scheduler's other question: whose lease is over, what waits to be resumed?
create index leases_taken on rosterd.leases (resource_id) where run_id is not null or resume_of is not null;

comment on table rosterd.leases is 'Who runs what right now: one row per resource, changed in place, never more.';
comment on column rosterd.leases.resource_id is 'The resource.';
comment on column rosterd.leases.run_id is 'The run that is going on; null: idle.';
comment on column rosterd.leases.owner is 'The worker that runs it; joins workers.';
comment on column rosterd.leases.fence is 'Grows with each owner. Every data transaction checks it, so a worker that was thought dead cannot write.';
comment on column rosterd.leases.acquired_at is 'When the owner took it.';
comment on column rosterd.leases.heartbeat_at is 'When the owner last said that it is alive.';
comment on column rosterd.leases.expires_at is 'When any other worker may take over, unless a heartbeat comes first.';
comment on column rosterd.leases.phase is 'What the run is doing, in words.';
comment on column rosterd.leases.cancel_requested is 'Somebody asked the run to stop after the batch in hand.';
comment on column rosterd.leases.resume_of is 'An interrupted run that the next worker shall go on with, at once.';

-- What ran ----------------------------------------------------------------------------------------

create table rosterd.runs (
  run_id             bigint generated always as identity primary key,
  status             text not null default 'queued'
                     check (status in ('queued', 'running', 'succeeded', 'partial', 'failed', 'cancelled', 'interrupted', 'skipped')),
  resource_id        bigint not null,
  account            text not null,
  source             text not null,
  resource           text not null,
  trigger            text not null check (trigger in ('schedule', 'catch_up', 'manual', 'backfill', 'api', 'retry', 'startup')),
  triggered_by       text,
  mode               text not null check (mode in ('incremental', 'full', 'backfill', 'reconcile')),
  reason             text,
  scheduled_for      timestamptz,
  queued_at          timestamptz not null default now(),
  started_at         timestamptz,
  finished_at        timestamptz,
  attempts           integer not null default 0,
  range_from         text,
  range_to           text,
  cursor_from        text,
  cursor_to          text,
  watermark_at       timestamptz,
  pages              bigint not null default 0,
  records_read       bigint not null default 0,
  rows_inserted      bigint not null default 0,
  rows_updated       bigint not null default 0,
  rows_unchanged     bigint not null default 0,
  rows_deleted       bigint not null default 0,
  rows_rejected      bigint not null default 0,
  text_replaced      bigint not null default 0,
  cursor_future_rows bigint not null default 0,
  http_requests      bigint not null default 0,
  http_retries       bigint not null default 0,
  http_429           bigint not null default 0,
  bytes_in           bigint not null default 0,
  wait_rate_ms       bigint not null default 0,
  wait_retry_ms      bigint not null default 0,
  fetch_ms           bigint not null default 0,
  write_ms           bigint not null default 0,
  schema_changes     bigint not null default 0,
  error_class        text check (error_class in ('config', 'auth', 'permission', 'rate_limit', 'source_unavailable',
                       'source_response', 'data', 'schema', 'destination', 'timeout', 'internal')),
  error_code         text,
  error_message      text,
  error_hint         text,
  error_fingerprint  text,
  retryable          boolean,
  next_retry_at      timestamptz,
  worker             text,
  app_version        text,
  config_hash        text,
  trace_id           text,
  labels             jsonb not null default '{}',
  constraint finished_iff_terminal check ((status in ('queued', 'running')) = (finished_at is null)),
  constraint failed_says_why check (status <> 'failed' or (error_class is not null and error_message is not null)),
  constraint partial_says_why check (status <> 'partial' or reason is not null or error_message is not null),
  constraint skipped_says_why check (status <> 'skipped' or reason is not null)
);
-- Last run and last success of a resource: all health views.
create index runs_resource_recent on rosterd.runs (resource_id, run_id desc);
-- A person who types names.
create index runs_by_name on rosterd.runs (account, source, resource, run_id desc);
-- What broke lately; small, because most runs do not break.
create index runs_recent_bad on rosterd.runs (finished_at desc) where status in ('failed', 'partial', 'interrupted');
-- What is going on.
create index runs_open on rosterd.runs (resource_id) where status in ('queued', 'running');
-- Time ranges; a few kilobytes.
create index runs_queued on rosterd.runs using brin (queued_at);

comment on table rosterd.runs is 'History: one row per run, written before the first request, and one per slot that was skipped.';
comment on column rosterd.runs.run_id is 'Identity; rows of data tables carry it as _run_id.';
comment on column rosterd.runs.status is 'queued, running; succeeded (complete), partial (what is there is right, not all is there), failed, cancelled (by a person), interrupted (its process stopped; it is resumed), skipped (not started, see reason).';
comment on column rosterd.runs.resource_id is 'The resource. No foreign key: history outlives the configuration.';
comment on column rosterd.runs.account is 'Tenant of the source, as it was called then.';
comment on column rosterd.runs.source is 'Source, as it was called then.';
comment on column rosterd.runs.resource is 'Resource, as it was called then.';
comment on column rosterd.runs.trigger is 'What started it: schedule, catch_up (slots were missed), manual, backfill, api, retry (goes on with an interrupted run), startup.';
comment on column rosterd.runs.triggered_by is 'Who started it: scheduler, or a person and place.';
comment on column rosterd.runs.mode is 'incremental, full, backfill or reconcile.';
comment on column rosterd.runs.reason is 'Why it was skipped, cancelled, interrupted or is partial, in words.';
comment on column rosterd.runs.scheduled_for is 'The slot that it answers, the oldest one when it catches up; null: not started by the schedule.';
comment on column rosterd.runs.queued_at is 'When the row was written.';
comment on column rosterd.runs.started_at is 'When a worker took it up; null: skipped.';
comment on column rosterd.runs.finished_at is 'When it ended; null exactly while it is queued or running.';
comment on column rosterd.runs.attempts is 'How many times a process took it up; joins attempts.';
comment on column rosterd.runs.range_from is 'Begin of the range that was asked for in a backfill.';
comment on column rosterd.runs.range_to is 'End of the range that was asked for in a backfill.';
comment on column rosterd.runs.cursor_from is 'The cursor before, as text.';
comment on column rosterd.runs.cursor_to is 'The cursor after, as text.';
comment on column rosterd.runs.watermark_at is 'Time of the source up to which the table is complete.';
comment on column rosterd.runs.pages is 'Answers that were committed.';
comment on column rosterd.runs.records_read is 'Records in those answers.';
comment on column rosterd.runs.rows_inserted is 'Rows that were new.';
comment on column rosterd.runs.rows_updated is 'Rows that had changed.';
comment on column rosterd.runs.rows_unchanged is 'Rows that were the same and were not written.';
comment on column rosterd.runs.rows_deleted is 'Rows that were deleted or marked as deleted.';
comment on column rosterd.runs.rows_rejected is 'Records that could not become rows; joins rejects by resource_id.';
comment on column rosterd.runs.text_replaced is 'Characters that Postgres cannot store (NUL, lone surrogates) and that became U+FFFD.';
comment on column rosterd.runs.cursor_future_rows is 'Rows whose cursor value lies in the future; stored, but the cursor did not follow them.';
comment on column rosterd.runs.http_requests is 'Requests that were sent, retries included.';
comment on column rosterd.runs.http_retries is 'Requests that were sent again.';
comment on column rosterd.runs.http_429 is 'Answers that said too many requests.';
comment on column rosterd.runs.bytes_in is 'Decoded bytes of the answers.';
comment on column rosterd.runs.wait_rate_ms is 'Milliseconds held back by the rate limiter.';
comment on column rosterd.runs.wait_retry_ms is 'Milliseconds slept before retries.';
comment on column rosterd.runs.fetch_ms is 'Milliseconds from request to last byte, summed over the requests.';
comment on column rosterd.runs.write_ms is 'Milliseconds in Postgres.';
comment on column rosterd.runs.schema_changes is 'Tables and columns made or changed; joins schema_changes.';
comment on column rosterd.runs.error_class is 'Kind of trouble: config, auth, permission, rate_limit, source_unavailable, source_response, data, schema, destination, timeout, internal.';
comment on column rosterd.runs.error_code is 'Short and stable, to filter by: HTTP 401, SQLSTATE 42501.';
comment on column rosterd.runs.error_message is 'What happened, in one line, without secrets and values.';
comment on column rosterd.runs.error_hint is 'What the operator should do.';
comment on column rosterd.runs.error_fingerprint is 'The same for the same cause: hash of class, code and message without digits.';
comment on column rosterd.runs.retryable is 'Whether the next slot may succeed with nobody doing anything.';
comment on column rosterd.runs.next_retry_at is 'The slot that tries again, as planned when the run ended.';
comment on column rosterd.runs.worker is 'The process that ran it.';
comment on column rosterd.runs.app_version is 'Version of rosterd.';
comment on column rosterd.runs.config_hash is 'Hash of the whole configuration, secrets left out.';
comment on column rosterd.runs.trace_id is 'Stands on each log line of the run.';
comment on column rosterd.runs.labels is 'Rare facts: missed_slots and last_missed (catch-up), count and last_slot (skipped), resumes and takeovers (retry).';

create table rosterd.attempts (
  run_id        bigint not null references rosterd.runs on delete cascade,
  attempt       integer not null,
  worker        text not null,
  started_at    timestamptz not null,
  finished_at   timestamptz,
  outcome       text check (outcome in ('succeeded', 'partial', 'failed', 'interrupted', 'cancelled')),
  resumed_from  text,
  pages         bigint not null default 0,
  records_read  bigint not null default 0,
  error_class   text,
  error_code    text,
  error_message text,
  error_detail  text,
  http_status   smallint,
  request_id    text,
  backoff_ms    bigint,
  primary key (run_id, attempt),
  constraint finished_iff_outcome check ((outcome is null) = (finished_at is null))
);

comment on table rosterd.attempts is 'Every time a process took up a run, and how that ended.';
comment on column rosterd.attempts.run_id is 'The run.';
comment on column rosterd.attempts.attempt is 'Counts from 1.';
comment on column rosterd.attempts.worker is 'The process.';
comment on column rosterd.attempts.started_at is 'When it took the run up.';
comment on column rosterd.attempts.finished_at is 'When it let go of it; null: it is at it.';
comment on column rosterd.attempts.outcome is 'succeeded, partial, failed, interrupted or cancelled; null: it is at it.';
comment on column rosterd.attempts.resumed_from is 'The interrupted run that it goes on with.';
comment on column rosterd.attempts.pages is 'Answers committed by this attempt.';
comment on column rosterd.attempts.records_read is 'Records read by this attempt.';
comment on column rosterd.attempts.error_class is 'As in runs.';
comment on column rosterd.attempts.error_code is 'As in runs.';
comment on column rosterd.attempts.error_message is 'As in runs.';
comment on column rosterd.attempts.error_detail is 'More about the error, for those who mend rosterd; no values.';
comment on column rosterd.attempts.http_status is 'Status of the answer that ended it.';
comment on column rosterd.attempts.request_id is 'Request id that the API gave, for its support desk.';
comment on column rosterd.attempts.backoff_ms is 'Milliseconds waited before this attempt.';

-- How far it came ---------------------------------------------------------------------------------

create table rosterd.cursors (
  resource_id    bigint not null,
  partition      text not null default '',
  cursor         jsonb,
  version        bigint not null default 1,
  generation     bigint not null default 1,
  scan_complete  boolean not null default true,
  checkpoint     jsonb,
  fingerprint    text,
  updated_at     timestamptz not null default now(),
  updated_by_run bigint,
  updated_by     text,
  primary key (resource_id, partition)
);

comment on table rosterd.cursors is 'How far each resource, or each part of one, is known to be complete.';
comment on column rosterd.cursors.resource_id is 'The resource.';
comment on column rosterd.cursors.partition is 'The part, for example a parent; empty: the whole resource.';
comment on column rosterd.cursors.cursor is 'Everything up to here is in the table; null: nothing is known yet. Moves in the transaction of the rows, and back only by a reset.';
comment on column rosterd.cursors.version is 'Grows with each change of this row.';
comment on column rosterd.cursors.generation is 'Counts the walks, so that a resumed walk knows which rows it saw.';
comment on column rosterd.cursors.scan_complete is 'False while a walk is under way or was cut short.';
comment on column rosterd.cursors.checkpoint is 'Where a walk that was cut short goes on; null: from the start.';
comment on column rosterd.cursors.fingerprint is 'What the resource asked for when this was stored (see resources). Another one now: the cursor cannot be trusted.';
comment on column rosterd.cursors.updated_at is 'When it last changed.';
comment on column rosterd.cursors.updated_by_run is 'The run that changed it.';
comment on column rosterd.cursors.updated_by is 'The person who changed it, when it was no run.';

create table rosterd.cursor_log (
  id          bigint generated always as identity primary key,
  resource_id bigint not null,
  partition   text not null,
  old_cursor  jsonb,
  new_cursor  jsonb,
  run_id      bigint,
  changed_by  text not null,
  reason      text,
  at          timestamptz not null default now()
);
create index cursor_log_resource on rosterd.cursor_log (resource_id, id);

comment on table rosterd.cursor_log is 'Who moved a cursor: every change by a person, and the last ones by runs.';
comment on column rosterd.cursor_log.id is 'Identity, in order of time.';
comment on column rosterd.cursor_log.resource_id is 'The resource.';
comment on column rosterd.cursor_log.partition is 'The part of it, as in cursors.';
comment on column rosterd.cursor_log.old_cursor is 'Before.';
comment on column rosterd.cursor_log.new_cursor is 'After; null: forgotten, the next run reads everything.';
comment on column rosterd.cursor_log.run_id is 'The run that moved it; null: a person.';
comment on column rosterd.cursor_log.changed_by is 'run: and its number, or the person.';
comment on column rosterd.cursor_log.reason is 'What the person said.';
comment on column rosterd.cursor_log.at is 'When.';

-- What could not be loaded, and what else happened ------------------------------------------------

create table rosterd.rejects (
  reject_id     bigint generated always as identity primary key,
  run_id        bigint not null,
  resource_id   bigint not null,
  record_key    text,
  stage         text not null,
  column_name   text,
  reason        text not null,
  sqlstate      text,
  record        jsonb,
  first_seen_at timestamptz not null default now(),
  last_seen_at  timestamptz not null default now(),
  seen_count    bigint not null default 1,
  last_seen_run bigint,
  resolved_at   timestamptz,
  resolution    text
);
-- One open row per record and reason. Null is equal to null here: records without a key share a row.
create unique index rejects_open on rosterd.rejects (resource_id, coalesce(record_key, ''), reason) where resolved_at is null;

comment on table rosterd.rejects is 'Records that could not become rows. May hold keys of people: not for every reader.';
comment on column rosterd.rejects.reject_id is 'Identity.';
comment on column rosterd.rejects.run_id is 'The run that first met it.';
comment on column rosterd.rejects.resource_id is 'The resource.';
comment on column rosterd.rejects.record_key is 'Primary key of the record as text; null: it has none.';
comment on column rosterd.rejects.stage is 'Where it failed: shape or load.';
comment on column rosterd.rejects.column_name is 'The field or column at fault.';
comment on column rosterd.rejects.reason is 'A stable word: null_key, number_out_of_range, ...';
comment on column rosterd.rejects.sqlstate is 'The code of Postgres, when Postgres refused it.';
comment on column rosterd.rejects.record is 'The record, after the privacy rules, when the configuration asks to keep it.';
comment on column rosterd.rejects.first_seen_at is 'When it was first met.';
comment on column rosterd.rejects.last_seen_at is 'When it was last met.';
comment on column rosterd.rejects.seen_count is 'How many times it was met.';
comment on column rosterd.rejects.last_seen_run is 'The run that last met it.';
comment on column rosterd.rejects.resolved_at is 'When the record loaded after all; null: open.';
comment on column rosterd.rejects.resolution is 'How it was resolved.';

create table rosterd.events (
  event_id    bigint generated always as identity primary key,
  at          timestamptz not null default now(),
  run_id      bigint,
  resource_id bigint,
  level       text not null check (level in ('info', 'warn', 'error')),
  kind        text not null,
  message     text not null,
  data        jsonb not null default '{}'
);
create index events_run on rosterd.events (run_id) where run_id is not null;
create index events_kind on rosterd.events (kind, at desc);

comment on table rosterd.events is 'What happened besides the runs, and inside them; a bounded number per run.';
comment on column rosterd.events.event_id is 'Identity, in order of time.';
comment on column rosterd.events.at is 'When.';
comment on column rosterd.events.run_id is 'The run, if it belongs to one.';
comment on column rosterd.events.resource_id is 'The resource, if it belongs to one.';
comment on column rosterd.events.level is 'info, warn or error.';
comment on column rosterd.events.kind is 'A stable word: rate_limited, retry, pause, resume, cancel, reset, config_reload, ...';
comment on column rosterd.events.message is 'One line for people.';
comment on column rosterd.events.data is 'The facts in it, for programs.';

create table rosterd.schema_changes (
  id          bigint generated always as identity primary key,
  run_id      bigint,
  resource_id bigint not null,
  at          timestamptz not null default now(),
  change      text not null,
  table_name  text not null,
  column_name text,
  old_type    text,
  new_type    text,
  ddl         text
);
create index schema_changes_resource on rosterd.schema_changes (resource_id, id desc);

comment on table rosterd.schema_changes is 'Every change that rosterd made to a data table.';
comment on column rosterd.schema_changes.id is 'Identity, in order of time.';
comment on column rosterd.schema_changes.run_id is 'The run that needed it.';
comment on column rosterd.schema_changes.resource_id is 'The resource.';
comment on column rosterd.schema_changes.at is 'When.';
comment on column rosterd.schema_changes.change is 'A stable word: create_table, add_column, widen_column, ...';
comment on column rosterd.schema_changes.table_name is 'Schema and table.';
comment on column rosterd.schema_changes.column_name is 'The column, if one was changed.';
comment on column rosterd.schema_changes.old_type is 'Type before.';
comment on column rosterd.schema_changes.new_type is 'Type after.';
comment on column rosterd.schema_changes.ddl is 'The statement.';

create table rosterd.columns (
  resource_id  bigint not null,
  table_schema text not null,
  table_name   text not null,
  column_name  text not null,
  source_path  text[] not null,
  data_type    text not null,
  treatment    text not null default 'as is',
  added_by_run bigint,
  added_at     timestamptz not null default now(),
  primary key (table_schema, table_name, column_name)
);

comment on table rosterd.columns is 'Catalogue of the data tables: where each column comes from and how it is treated.';
comment on column rosterd.columns.resource_id is 'The resource that fills it.';
comment on column rosterd.columns.table_schema is 'Schema of the data table.';
comment on column rosterd.columns.table_name is 'The data table.';
comment on column rosterd.columns.column_name is 'The column. Once given to a field it stays with it, also when another field would get the same name.';
comment on column rosterd.columns.source_path is 'Keys from the root of the record to the field, in the spelling of the API.';
comment on column rosterd.columns.data_type is 'Type of the column.';
comment on column rosterd.columns.treatment is 'as is, hashed, year only, ...';
comment on column rosterd.columns.added_by_run is 'The run that added it.';
comment on column rosterd.columns.added_at is 'When it was added.';

-- Who is alive, and who does the chores -----------------------------------------------------------

create table rosterd.workers (
  worker       text primary key,
  host         text,
  pid          bigint,
  app_version  text,
  config_hash  text,
  started_at   timestamptz not null default now(),
  heartbeat_at timestamptz not null default now(),
  running      bigint not null default 0,
  draining     boolean not null default false
);

comment on table rosterd.workers is 'The processes that take runs.';
comment on column rosterd.workers.worker is 'Host, process id and a random part.';
comment on column rosterd.workers.host is 'Host name.';
comment on column rosterd.workers.pid is 'Process id on that host.';
comment on column rosterd.workers.app_version is 'Version of rosterd.';
comment on column rosterd.workers.config_hash is 'Hash of its configuration; replicas should show the same.';
comment on column rosterd.workers.started_at is 'When it started.';
comment on column rosterd.workers.heartbeat_at is 'When it last said that it is alive.';
comment on column rosterd.workers.running is 'Runs in its hands.';
comment on column rosterd.workers.draining is 'It is stopping and takes nothing new.';

create table rosterd.chores (
  chore        text primary key,
  owner        text,
  expires_at   timestamptz,
  last_done_at timestamptz
);
insert into rosterd.chores (chore) values ('retention');

comment on table rosterd.chores is 'Work that one replica does for all.';
comment on column rosterd.chores.chore is 'retention: rolls up and deletes old history.';
comment on column rosterd.chores.owner is 'Who is at it; null: nobody.';
comment on column rosterd.chores.expires_at is 'When another one may take it.';
comment on column rosterd.chores.last_done_at is 'When it was last done to the end.';

-- What outlives the history -----------------------------------------------------------------------

create table rosterd.daily (
  day             date not null,
  resource_id     bigint not null,
  account         text not null,
  source          text not null,
  resource        text not null,
  runs            bigint not null,
  succeeded       bigint not null,
  partial         bigint not null,
  failed          bigint not null,
  interrupted     bigint not null,
  skipped         bigint not null,
  records_read    bigint not null,
  rows_changed    bigint not null,
  rows_rejected   bigint not null,
  http_requests   bigint not null,
  http_429        bigint not null,
  wait_rate_ms    bigint not null,
  duration_ms_sum bigint not null,
  duration_ms_max bigint not null,
  worst_lag_s     bigint not null,
  primary key (day, resource_id)
);

comment on table rosterd.daily is 'One row per resource and day, also for days without a run; kept for ever.';
comment on column rosterd.daily.day is 'Day in UTC on which the runs ended.';
comment on column rosterd.daily.resource_id is 'The resource.';
comment on column rosterd.daily.account is 'Tenant of the source.';
comment on column rosterd.daily.source is 'Source.';
comment on column rosterd.daily.resource is 'Resource.';
comment on column rosterd.daily.runs is 'Runs that ended, without the skipped slots.';
comment on column rosterd.daily.succeeded is 'Of these: complete.';
comment on column rosterd.daily.partial is 'Of these: partial.';
comment on column rosterd.daily.failed is 'Of these: failed.';
comment on column rosterd.daily.interrupted is 'Of these: interrupted.';
comment on column rosterd.daily.skipped is 'Slots that were skipped.';
comment on column rosterd.daily.records_read is 'Records read.';
comment on column rosterd.daily.rows_changed is 'Rows inserted, updated or deleted.';
comment on column rosterd.daily.rows_rejected is 'Records rejected.';
comment on column rosterd.daily.http_requests is 'Requests sent.';
comment on column rosterd.daily.http_429 is 'Answers that said too many requests.';
comment on column rosterd.daily.wait_rate_ms is 'Milliseconds held back by the rate limiter.';
comment on column rosterd.daily.duration_ms_sum is 'Milliseconds of all runs.';
comment on column rosterd.daily.duration_ms_max is 'Milliseconds of the longest run.';
comment on column rosterd.daily.worst_lag_s is 'Seconds of the worst delay between slot and start.';

-- What the APIs allow: one row per credential, shared by every resource and replica that spends it.
-- One instant says all (GCRA), so that replicas need no more than one update to share a rate.
create table rosterd.api_budgets (
  credential_key  text primary key,
  emission        interval not null,
  burst           bigint not null default 1,
  next_free_at    timestamptz not null default clock_timestamp(),
  blocked_until   timestamptz,
  blocked_reason  text,
  remaining       bigint,
  limit_reported  bigint,
  reset_at        timestamptz,
  consecutive_429 bigint not null default 0,
  circuit         text not null default 'closed' check (circuit in ('closed', 'open', 'half_open')),
  updated_at      timestamptz not null default now()
) with (fillfactor = 50);

comment on table rosterd.api_budgets is 'How fast each credential may be used; all replicas draw from the same row.';
comment on column rosterd.api_budgets.credential_key is 'Name of the credential; never the secret.';
comment on column rosterd.api_budgets.emission is 'Time between two requests at the allowed rate.';
comment on column rosterd.api_budgets.burst is 'Requests that may follow each other at once after a rest.';
comment on column rosterd.api_budgets.next_free_at is 'The first instant that nobody has reserved.';
comment on column rosterd.api_budgets.blocked_until is 'Nobody sends before this: the API said so.';
comment on column rosterd.api_budgets.blocked_reason is 'How the API said so.';
comment on column rosterd.api_budgets.remaining is 'Requests left, as the API last reported.';
comment on column rosterd.api_budgets.limit_reported is 'Limit, as the API last reported.';
comment on column rosterd.api_budgets.reset_at is 'When the API starts a new window, as it last reported.';
comment on column rosterd.api_budgets.consecutive_429 is 'Refusals in a row.';
comment on column rosterd.api_budgets.circuit is 'closed: in use; open: the credential was refused and is left alone; half_open: one try is under way.';
comment on column rosterd.api_budgets.updated_at is 'When the row last changed.';
