-- Credentials that the API replaces: the next one is written down before it is used.

create table rosterd.credentials (
  source         text not null,
  account        text not null,
  key_id         text,
  sealed_refresh bytea,
  sealed_access  bytea,
  renew_at       timestamptz,
  seed_marks     bytea[] not null default '{}',
  generation     bigint not null default 0,
  changed_at     timestamptz not null default now(),
  primary key (source, account),
  check (sealed_refresh is null or key_id is not null),
  check (sealed_access is null or sealed_refresh is not null)
);

comment on table rosterd.credentials is 'Refresh tokens, encrypted. Whoever refreshes one holds its row locked, and commits the next one before it is used.';
comment on column rosterd.credentials.source is 'Source.';
comment on column rosterd.credentials.account is 'Tenant of the source.';
comment on column rosterd.credentials.key_id is 'Name of the key of credential_store that encrypted it.';
comment on column rosterd.credentials.sealed_refresh is 'The refresh token: nonce, ciphertext, tag (AES-256-GCM, bound to the row). Null: none yet.';
comment on column rosterd.credentials.sealed_access is 'The access token that came with it, sealed the same way, for the other replicas.';
comment on column rosterd.credentials.renew_at is 'When the access token should be renewed.';
comment on column rosterd.credentials.seed_marks is 'Keyed hashes of the configured first tokens that were taken already: a new one wins over what is kept, an old one does not.';
comment on column rosterd.credentials.generation is 'Counts the changes.';
comment on column rosterd.credentials.changed_at is 'When it changed last.';

create or replace view rosterd.schema_version as select 7 as version;
