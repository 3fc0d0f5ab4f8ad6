-- What full walks have seen, where rows that are not seen are deleted.
--
-- Beside the data tables and not in their rows: a mark in each row would write the whole table anew at each
-- walk. Hashes of many keys in one row: eight bytes a key, and few rows to take away when the walk is over.

create table rosterd.seen (
  resource_id bigint not null,
  generation  bigint not null,
  keys        bigint[] not null
);
-- Hashes do not compress.
alter table rosterd.seen alter column keys set storage external;
create index seen_walk on rosterd.seen (resource_id, generation);

comment on table rosterd.seen is 'Keys that a full walk under way has seen; emptied when the walk is over.';
comment on column rosterd.seen.resource_id is 'The resource.';
comment on column rosterd.seen.generation is 'The walk, as in cursors.';
comment on column rosterd.seen.keys is 'Hashes of primary keys: hash_record_extended of the key columns, seeded with the generation.';

create or replace view rosterd.schema_version as select 3 as version;
