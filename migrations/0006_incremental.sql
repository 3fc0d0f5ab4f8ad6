-- Records that are no rows by their cursor value, and rows that the cursor cannot follow.
alter table rosterd.runs
  add column cursor_missing_rows bigint not null default 0,
  add column records_left_out    bigint not null default 0;

comment on column rosterd.runs.cursor_missing_rows is 'Rows without a readable cursor value; stored, but the cursor did not follow them.';
comment on column rosterd.runs.records_left_out is 'Records that are no rows because they are out of the bounds of the walk.';

create or replace view rosterd.schema_version as select 6 as version;
