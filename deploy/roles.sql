-- Least-privilege roles for rosterd. Run by a superuser in the database that holds the copy, before the
-- first `rosterd migrate`, and again whenever a source is added; running it again changes nothing else.
--
--   psql -d hr -v data_schemas='hr,ats' -v migrate_password=... -v writer_password=... \
--        -v reader_password=... -f deploy/roles.sql
--
-- Passwords that are left out are not changed; set them with \password. data_schemas are the schemas
-- of the data tables: database.schema, or the name of each source.
--
--   rosterd_owner    owns schema rosterd; nobody logs in as it
--   rosterd_migrate  `rosterd migrate`: makes and changes the tables of schema rosterd, reads no data
--   rosterd_writer   the daemon: owns the data tables, since it adds columns; keeps the history
--   rosterd_reader   dashboards and people: the views of schema rosterd, and no row of data

\set ON_ERROR_STOP on
\if :{?data_schemas}
\else
  \set data_schemas ''
\endif

-- 1. The roles.
do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values ('rosterd_owner', 'nologin'), ('rosterd_migrate', 'login'),
                          ('rosterd_writer', 'login'), ('rosterd_reader', 'login')) r (name, may)
  loop
    if not exists (select from pg_roles where rolname = wanted.name) then
      execute format('create role %I %s', wanted.name, wanted.may);
    end if;
    execute format('alter role %I %s nosuperuser nocreatedb nocreaterole noreplication nobypassrls',
                   wanted.name, wanted.may);
  end loop;
end
$$;
\if :{?migrate_password}
  alter role rosterd_migrate password :'migrate_password';
\endif
\if :{?writer_password}
  alter role rosterd_writer password :'writer_password';
\endif
\if :{?reader_password}
  alter role rosterd_reader password :'reader_password';
\endif

-- Whatever rosterd_migrate makes belongs to the owner.
grant rosterd_owner to rosterd_migrate;
do $$
begin
  execute format('alter role rosterd_migrate in database %I set role to rosterd_owner', current_database());
  -- Values of rows must not reach the server's own log, by DETAIL, CONTEXT or STATEMENT.
  execute format('alter role rosterd_writer in database %I set log_error_verbosity to terse', current_database());
  execute format('alter role rosterd_writer in database %I set log_min_error_statement to panic', current_database());
  execute format('alter role rosterd_writer in database %I set log_statement to none', current_database());
  -- A reader cannot hold the daemon up for long.
  execute format('alter role rosterd_reader in database %I set default_transaction_read_only to on', current_database());
  execute format('alter role rosterd_reader in database %I set statement_timeout to %L', current_database(), '30s');

-- 2. The database: who may connect, and nobody may make anything in public.
  execute format('revoke all on database %I from public', current_database());
  execute format('grant connect on database %I to rosterd_migrate, rosterd_writer, rosterd_reader', current_database());
  -- For the staging tables.
  execute format('grant temporary on database %I to rosterd_writer', current_database());
end
$$;
revoke create on schema public from public;

-- 3. Schema rosterd. What migrations make later is for the writer too.
create schema if not exists rosterd authorization rosterd_owner;
grant usage on schema rosterd to rosterd_writer, rosterd_reader;
grant select, insert, update, delete on all tables in schema rosterd to rosterd_writer;
alter default privileges for role rosterd_owner in schema rosterd
  grant select, insert, update, delete on tables to rosterd_writer;

-- The views are for reading, and their tables without the cursors, rejects and column names.
do $$
declare
  readable text;
begin
  for readable in
    select c.relname from pg_class c
    where c.relnamespace = 'rosterd'::regnamespace
      and (c.relkind = 'v'
        or c.relname in ('runs', 'attempts', 'events', 'schema_changes', 'workers', 'resources', 'leases', 'daily'))
  loop
    execute format('grant select on rosterd.%I to rosterd_reader', readable);
  end loop;
  -- Which migrations ran is for the owner to write.
  if to_regclass('rosterd._sqlx_migrations') is not null then
    revoke insert, update, delete on rosterd._sqlx_migrations from rosterd_writer;
  end if;
end
$$;

-- 4. Schemas of the data tables: the writer makes its tables there, nobody else sees them.
select format('create schema if not exists %I', trim(name))
from unnest(string_to_array(nullif(:'data_schemas', ''), ',')) name \gexec
select format('alter schema %I owner to rosterd_writer', trim(name))
from unnest(string_to_array(nullif(:'data_schemas', ''), ',')) name \gexec

\echo 'Roles are set. After each `rosterd migrate` run this file again: it gives new views to rosterd_reader.'
