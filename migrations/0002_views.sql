-- The contract with people who read in SQL: these views only ever gain columns, at their end.

-- Is everything fine? One row per resource, and one word for its health.
create view rosterd.resource_health as
select
  r.account, r.source, r.resource, r.target_table,
  case
    when r.paused_at is not null then 'paused'
    when l.run_id is not null and l.expires_at < now() then 'stuck'
    when ok.run_id is null and (last.run_id is null or last.status = 'cancelled') then 'never_ran'
    when last.status = 'failed' and last.error_class in ('config', 'auth', 'permission') then 'broken'
    -- A comparison and not a difference: subtracting an infinite time is an error.
    when r.freshness_slo is not null
      and coalesce(ok.watermark_at, ok.finished_at, timestamptz 'epoch') < now() - r.freshness_slo then 'late'
    when last.status = 'failed' then 'failing'
    when last.status in ('partial', 'interrupted') or coalesce(open.rejects, 0) > 0 then 'degraded'
    else 'ok'
  end as health,
  l.run_id is not null as running_now,
  l.phase,
  l.owner as on_worker,
  ok.finished_at as last_success_at,
  case when isfinite(coalesce(ok.watermark_at, ok.finished_at))
    then now() - coalesce(ok.watermark_at, ok.finished_at) end as data_age,
  r.freshness_slo,
  last.run_id as last_run_id,
  last.status as last_status,
  last.finished_at as last_finished_at,
  case when last.status in ('failed', 'partial') then last.error_class end as error_class,
  case when last.status in ('failed', 'partial') then last.error_message end as error_message,
  case when last.status in ('failed', 'partial') then last.error_hint end as error_hint,
  (select count(*) from rosterd.runs f
    where f.resource_id = r.resource_id and f.status = 'failed' and f.run_id > coalesce(ok.run_id, 0)) as failures_since_success,
  coalesce(open.rejects, 0) as open_rejects,
  r.next_run_at,
  r.paused_reason,
  r.resource_id,
  r.schedule,
  r.schedule_tz
from rosterd.resources r
left join rosterd.leases l on l.resource_id = r.resource_id
left join lateral (
  select x.run_id, x.status, x.finished_at, x.error_class, x.error_message, x.error_hint
  from rosterd.runs x
  where x.resource_id = r.resource_id and x.status not in ('queued', 'running', 'skipped')
  order by x.run_id desc limit 1) last on true
left join lateral (
  select x.run_id, x.finished_at, x.watermark_at
  from rosterd.runs x
  where x.resource_id = r.resource_id and x.status in ('succeeded', 'partial')
  order by x.run_id desc limit 1) ok on true
left join (
  select resource_id, count(*) as rejects from rosterd.rejects where resolved_at is null group by 1) open
  on open.resource_id = r.resource_id
where r.removed_at is null;

comment on view rosterd.resource_health is 'Is everything fine? One row per resource of the configuration.';
comment on column rosterd.resource_health.health is 'paused; stuck (its worker is silent, another one takes over); never_ran; broken (needs a person); late (older than freshness_slo); failing (tries again by itself); degraded (partial, interrupted or open rejects); ok.';
comment on column rosterd.resource_health.running_now is 'A run is going on.';
comment on column rosterd.resource_health.on_worker is 'The worker that runs it.';
comment on column rosterd.resource_health.last_success_at is 'When data last arrived: end of the newest run that succeeded or was partial.';
comment on column rosterd.resource_health.data_age is 'How old the data is, by the watermark or else by the last success.';
comment on column rosterd.resource_health.last_run_id is 'The newest run that ended, skipped slots left out.';
comment on column rosterd.resource_health.last_status is 'How that run ended.';
comment on column rosterd.resource_health.last_finished_at is 'When that run ended.';
comment on column rosterd.resource_health.failures_since_success is 'Failed runs since data last arrived.';
comment on column rosterd.resource_health.open_rejects is 'Records that could not become rows and have not loaded since.';

-- What ran? The history with what people compute from it.
create view rosterd.run_list as
select
  run_id, account, source, resource, status, trigger, mode,
  started_at, finished_at,
  coalesce(finished_at, now()) - started_at as duration,
  scheduled_for,
  started_at - scheduled_for as start_delay,
  records_read,
  rows_inserted + rows_updated + rows_deleted as rows_changed,
  rows_inserted, rows_updated, rows_deleted, rows_unchanged, rows_rejected,
  round(records_read / nullif(extract(epoch from coalesce(finished_at, now()) - started_at), 0)::numeric, 1) as records_per_s,
  pages, http_requests, http_retries, http_429,
  make_interval(secs => wait_rate_ms / 1000.0) as waited_for_limit,
  cursor_from, cursor_to, watermark_at, attempts, reason,
  error_class, error_code, error_message, error_hint,
  worker, trace_id, triggered_by, resource_id, labels
from rosterd.runs;

comment on view rosterd.run_list is 'What ran, newest run_id last; add order by and where.';
comment on column rosterd.run_list.duration is 'From start to end, or to now while it runs.';
comment on column rosterd.run_list.start_delay is 'How long after its slot it started.';
comment on column rosterd.run_list.rows_changed is 'Rows inserted, updated or deleted.';
comment on column rosterd.run_list.records_per_s is 'Records per second, waiting included.';
comment on column rosterd.run_list.waited_for_limit is 'How long the rate limiter held it back.';

-- One cause, many victims.
create view rosterd.error_groups as
select
  error_fingerprint, error_class, error_code,
  min(error_message) as example, min(error_hint) as hint,
  count(*) as runs, count(distinct resource_id) as resources,
  min(finished_at) as first_seen, max(finished_at) as last_seen
from rosterd.runs
where status in ('failed', 'partial') and error_class is not null and finished_at > now() - interval '7 days'
group by 1, 2, 3
order by resources desc, runs desc;

comment on view rosterd.error_groups is 'Errors of the last seven days, grouped by cause.';
comment on column rosterd.error_groups.example is 'One of the messages.';
comment on column rosterd.error_groups.hint is 'What the operator should do.';
comment on column rosterd.error_groups.runs is 'How many runs it hit.';
comment on column rosterd.error_groups.resources is 'How many resources it hit.';
comment on column rosterd.error_groups.first_seen is 'First time in these seven days.';
comment on column rosterd.error_groups.last_seen is 'Last time.';

-- Why is there no data for 03:00?
create view rosterd.gaps as
select
  account, source, resource, scheduled_for, status, reason, error_class, error_message,
  started_at - scheduled_for as start_delay,
  trigger,
  coalesce((labels ->> 'missed_slots')::bigint, (labels ->> 'count')::bigint, 1) as slots,
  coalesce((labels ->> 'last_missed')::timestamptz, (labels ->> 'last_slot')::timestamptz, scheduled_for) as until_slot,
  run_id, resource_id
from rosterd.runs
where scheduled_for is not null
  and (status in ('skipped', 'failed', 'interrupted', 'cancelled')
    or trigger = 'catch_up'
    or started_at - scheduled_for > interval '5 minutes');

comment on view rosterd.gaps is 'Every slot that brought no data, or brought it late, with the reason.';
comment on column rosterd.gaps.start_delay is 'How long after its slot it started; null: not at all.';
comment on column rosterd.gaps.slots is 'How many slots in a row this row stands for.';
comment on column rosterd.gaps.until_slot is 'The last of these slots.';

-- Who eats the quota, and until when are we held back?
create view rosterd.api_budget as
select
  b.credential_key,
  round(1 / nullif(extract(epoch from b.emission), 0)::numeric, 2) as requests_per_s,
  b.burst,
  greatest(b.next_free_at - now(), interval '0') as queued_ahead,
  b.blocked_until, b.blocked_reason, b.remaining, b.limit_reported, b.reset_at, b.circuit,
  (select count(*) from rosterd.resources r join rosterd.leases l using (resource_id)
    where r.credential_key = b.credential_key and r.removed_at is null and l.run_id is not null) as runs_using_it_now
from rosterd.api_budgets b;

comment on view rosterd.api_budget is 'How fast each credential may be used, and what holds it back.';
comment on column rosterd.api_budget.requests_per_s is 'Allowed rate.';
comment on column rosterd.api_budget.queued_ahead is 'How far ahead requests are reserved.';
comment on column rosterd.api_budget.runs_using_it_now is 'Runs that draw from it right now.';

-- Each later migration replaces this view with its own number.
create view rosterd.schema_version as select 2 as version;

comment on view rosterd.schema_version is 'The newest migration of schema rosterd.';
comment on column rosterd.schema_version.version is 'Its number.';

-- A column that a view only passes on is explained once, at its table.
do $$
declare
  passed record;
begin
  for passed in
    select v.relname as view, a.attname as name, min(col_description(t.oid, b.attnum)) as explanation
    from pg_class v
    join pg_attribute a on a.attrelid = v.oid and a.attnum > 0
    join pg_depend d on d.refclassid = 'pg_class'::regclass and d.classid = 'pg_rewrite'::regclass
    join pg_rewrite w on w.oid = d.objid and w.ev_class = v.oid
    join pg_class t on t.oid = d.refobjid and t.relkind = 'r'
    join pg_attribute b on b.attrelid = t.oid and b.attnum = d.refobjsubid and b.attname = a.attname
    where v.relnamespace = 'rosterd'::regnamespace and v.relkind = 'v' and col_description(v.oid, a.attnum) is null
    group by 1, 2
  loop
    execute format('comment on column rosterd.%I.%I is %L', passed.view, passed.name, passed.explanation);
  end loop;
end
$$;
