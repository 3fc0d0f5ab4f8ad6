-- How replicas share what an API allows: each holds a part of every window, and the parts add up to no
-- more than the whole. Shares change every few seconds while runs go on; half of each page is kept free.
create table rosterd.api_budget_shares (
  credential_key text not null references rosterd.api_budgets on delete cascade,
  holder         text not null,
  held           bigint[] not null,
  wanted         bigint[] not null,
  held_until     timestamptz not null,
  primary key (credential_key, holder)
) with (fillfactor = 50);

comment on table rosterd.api_budget_shares is 'Who may send how many requests under each limit of a credential right now.';
comment on column rosterd.api_budget_shares.credential_key is 'Whose limits are shared.';
comment on column rosterd.api_budget_shares.holder is 'Worker that holds the share, and which of its clients.';
comment on column rosterd.api_budget_shares.held is 'Requests held: first those at the same time, then those of each limit in the order of the configuration.';
comment on column rosterd.api_budget_shares.wanted is 'Requests that the holder would like to hold. All 0: it sends nothing.';
comment on column rosterd.api_budget_shares.held_until is 'Until when the share holds without being renewed. What was sent under it counts for one more window.';

comment on column rosterd.api_budgets.emission is 'Time between two requests at the rate of the slowest limit; zero: only the number at the same time is limited.';
comment on column rosterd.api_budgets.burst is 'Requests that the smallest limit allows at once.';
comment on column rosterd.api_budgets.next_free_at is 'When the row was made. Nothing is reserved ahead: see api_budget_shares.';

create or replace view rosterd.schema_version as select 9 as version;
