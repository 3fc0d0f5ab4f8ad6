-- Fields that stand twice in one record.
alter table rosterd.runs add column fields_repeated bigint not null default 0;

comment on column rosterd.runs.fields_repeated is 'Fields that stood twice in the record of a row that was written. The last one counts.';

create or replace view rosterd.schema_version as select 13 as version;
