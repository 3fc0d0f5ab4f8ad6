-- Records that came after a later version of themselves.
alter table rosterd.runs add column rows_behind bigint not null default 0;

comment on column rosterd.runs.rows_behind is 'Of rows_unchanged, those that gave way: the table has a later version of the row, by dedup_sort or cursor.';

create or replace view rosterd.schema_version as select 11 as version;
