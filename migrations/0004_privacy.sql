-- What the privacy rules leave behind: which keys were used, who was erased, what never arrives.

create table rosterd.privacy_keys (
  key_id        text primary key,
  check_value   bytea not null,
  first_used_at timestamptz not null default now()
);

comment on table rosterd.privacy_keys is 'Keys that hashes were made with, by name. The secrets are in the configuration.';
comment on column rosterd.privacy_keys.key_id is 'Name of the key; stands before each hash.';
comment on column rosterd.privacy_keys.check_value is 'Tells this secret from another one under the same name, and tells nothing else of it.';
comment on column rosterd.privacy_keys.first_used_at is 'When it was first used here.';

create table rosterd.suppressions (
  resource_id bigint not null,
  mark        bytea not null,
  key_id      text not null,
  erased_at   timestamptz not null default now(),
  primary key (resource_id, mark)
);

comment on table rosterd.suppressions is 'Erased persons: whoever stands here is not loaded again. Joins nothing, and names nobody.';
comment on column rosterd.suppressions.resource_id is 'The resource.';
comment on column rosterd.suppressions.mark is 'Keyed hash of the primary key. Without the key of the configuration it says nothing.';
comment on column rosterd.suppressions.key_id is 'The key of that hash; as long as the row stands, the configuration must have it.';
comment on column rosterd.suppressions.erased_at is 'When.';

create table rosterd.withheld_fields (
  resource_id bigint not null,
  field       text not null,
  treatment   text not null,
  since       timestamptz not null default now(),
  primary key (resource_id, field)
);

comment on table rosterd.withheld_fields is 'Fields of the API that never arrive, by name.';
comment on column rosterd.withheld_fields.resource_id is 'The resource.';
comment on column rosterd.withheld_fields.field is 'Path of the field, or the rule that names it: * is any one name, ** any number of them.';
comment on column rosterd.withheld_fields.treatment is 'excluded (the configuration says so), not listed (the configuration lists what arrives), blocked (it is new).';
comment on column rosterd.withheld_fields.since is 'Since when.';

create view rosterd.catalogue as
select r.source, r.resource, r.account, c.table_schema, c.table_name, c.column_name,
       array_to_string(c.source_path, '.') as field, c.data_type, c.treatment, c.added_at as since
from rosterd.columns c join rosterd.resources r using (resource_id)
union all
select r.source, r.resource, r.account, null, r.target_table, null, w.field, null, w.treatment, w.since
from rosterd.withheld_fields w join rosterd.resources r using (resource_id);

comment on view rosterd.catalogue is 'Every field of every resource: where it goes, and how it is treated on the way. For records of processing activities.';
comment on column rosterd.catalogue.source is 'Source.';
comment on column rosterd.catalogue.resource is 'Resource.';
comment on column rosterd.catalogue.account is 'Tenant of the source.';
comment on column rosterd.catalogue.table_schema is 'Schema of the data table; null for a field that does not arrive.';
comment on column rosterd.catalogue.table_name is 'The data table.';
comment on column rosterd.catalogue.column_name is 'The column; null for a field that does not arrive.';
comment on column rosterd.catalogue.field is 'Path of the field in the API''s records.';
comment on column rosterd.catalogue.data_type is 'Type of the column; null for a field that does not arrive.';
comment on column rosterd.catalogue.treatment is 'as is, hashed and the name of the key, year only, in part (some of what is in it does not arrive or is hashed), excluded, not listed, blocked.';
comment on column rosterd.catalogue.since is 'When the column was made, or since when the field is kept out.';

comment on column rosterd.columns.treatment is 'as is, hashed and the name of the key, year only, in part, excluded.';

create or replace view rosterd.schema_version as select 4 as version;
