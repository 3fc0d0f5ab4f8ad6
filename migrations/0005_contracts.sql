-- What schema contracts need: since when they are in force, and what they left out.

alter table rosterd.resources add column first_load_at timestamptz;

comment on column rosterd.resources.first_load_at is 'When a run first read everything that the API had. From then on the resource''s schema_contract is in force.';

update rosterd.resources r
   set first_load_at = (select min(finished_at) from rosterd.runs
                         where resource_id = r.resource_id and status = 'succeeded');

alter table rosterd.runs add column rows_discarded bigint not null default 0;
alter table rosterd.runs add column values_discarded bigint not null default 0;

comment on column rosterd.runs.rows_discarded is 'Of rows_rejected, those that the schema_contract leaves out; they do not make a run partial.';
comment on column rosterd.runs.values_discarded is 'Values, and lists, that the schema_contract left out of rows that loaded.';

create or replace view rosterd.schema_version as select 5 as version;
