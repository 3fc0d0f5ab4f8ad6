-- A key for the one table that had none: in a publication for all tables, rows without one cannot be deleted.

alter table rosterd.seen add column seen_id bigint generated always as identity primary key;

comment on column rosterd.seen.seen_id is 'Number of the row.';

create or replace view rosterd.schema_version as select 10 as version;
