-- Records that give way to later ones of their key in the same walk.
create table rosterd.superseded (
  resource_id bigint not null,
  row_hash    bytea not null,
  seen_at     timestamptz not null default now(),
  primary key (resource_id, row_hash)
);

comment on table rosterd.superseded is 'Records that gave way, in one walk, to a later record of the same key. The next walk waits for that one before it writes.';
comment on column rosterd.superseded.resource_id is 'The resource.';
comment on column rosterd.superseded.row_hash is 'Hash of the record, as in the column _row_hash of its table.';
comment on column rosterd.superseded.seen_at is 'When it last gave way, to the day.';

alter table rosterd.runs add column records_superseded bigint not null default 0;

comment on column rosterd.runs.records_superseded is 'Records that gave way to another record of the same key, with other contents, in the same walk.';

create or replace view rosterd.schema_version as select 14 as version;
