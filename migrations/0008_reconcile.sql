-- The second schedule of an incremental resource: full reads that repair what no cursor sees.
alter table rosterd.resources
  add column reconcile         text,
  add column next_reconcile_at timestamptz;

comment on column rosterd.resources.reconcile is 'When everything is read, whatever the cursor says; null: only on request.';
comment on column rosterd.resources.next_reconcile_at is 'The next slot of reconcile; null: none.';

create index resources_reconcile on rosterd.resources (next_reconcile_at) where next_reconcile_at is not null;

create or replace view rosterd.schema_version as select 8 as version;
