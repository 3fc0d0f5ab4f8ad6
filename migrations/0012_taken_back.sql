-- Where the cursors of parents go when the rows that moved them are taken back.
alter table rosterd.cursors add column old_cursor jsonb;

comment on column rosterd.cursors.old_cursor is 'Of a part: where the cursor was before updated_by_run, and the runs that it goes on with, moved it.';
comment on column rosterd.cursors.cursor is 'Everything up to here is in the table; null: nothing is known yet. Moves in the transaction of the rows, and back only by a reset or with rows that are taken back.';

create or replace view rosterd.schema_version as select 12 as version;
