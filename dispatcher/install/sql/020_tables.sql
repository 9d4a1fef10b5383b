-- The ledger. All times are this database's clock. Nothing here copies a payload.

-- One row: which installation this is. Its id is part of every identity we send to Novu, so two
-- databases that share a Novu organisation never collide.
create table if not exists dispatcher.installation (
  only_row boolean primary key default true check (only_row),
  id uuid not null default gen_random_uuid(),
  installed_at timestamptz not null default clock_timestamp()
);
insert into dispatcher.installation default values on conflict do nothing;

-- One row per notification ever claimed: the head of its ledger.
create table if not exists dispatcher.delivery (
  notification_id bigint primary key,
  birth text not null,                  -- hash of installation and created_at: ids come back after TRUNCATE or restore
  generation integer not null,          -- one intended sending; +1 for each deliberate resend
  fence bigint not null,                -- grows with every taking; a write with an older one changes nothing
  batch text,                           -- set when a batch workflow carries the row
  workflow_id text not null generated always as (
    case when batch is null
      then 'notification-' || notification_id::text || '-' || birth || '-' || generation::text
      else 'notifications-' || batch
    end) stored,
  attempts integer not null default 0,  -- runs of this generation
  lease_owner text,
  lease_until timestamptz,              -- null: nobody works on the row
  next_attempt_at timestamptz,          -- null: no automatic retry is due
  first_claimed_at timestamptz not null,
  claimed_at timestamptz not null,
  settled_at timestamptz,               -- null: this generation has no outcome yet
  last_error text,
  dead_lettered_at timestamptz
) with (fillfactor = 80);

-- One row per notification, generation and recipient.
create table if not exists dispatcher.recipient (
  notification_id bigint not null,
  generation integer not null,
  recipient text not null,
  ordinal integer not null,             -- place in the notification's recipients
  transaction_id text not null,         -- Novu's transactionId
  epoch integer not null default 0,     -- grows when Novu stored an error under the key before
  call_key text,                        -- Idempotency-Key of the call that carried the recipient last
  call_ordinal integer,                 -- place in that call: an ambiguous call is repeated byte for byte
  body_hash text,
  state text not null default 'planned'
    check (state in ('planned', 'sending', 'accepted', 'refused', 'unknown', 'cancelled')),
  attempts integer not null default 0,  -- calls
  first_called_at timestamptz,
  last_called_at timestamptz,
  outcome text,
  error text,
  cancel_at timestamptz,                -- retracted: when to take it back at Novu; null: never, or it is over
  cancel_tries integer not null default 0,
  primary key (notification_id, generation, recipient)
) with (fillfactor = 80);

-- One row per running process.
create table if not exists dispatcher.node (
  id text primary key,
  role text not null,
  host text not null,
  version text not null,
  started_at timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp(),
  mode text not null check (mode in ('EVENT', 'POLLING')),
  awake_until timestamptz,
  in_flight integer not null default 0,
  last_sweep_at timestamptz
);

-- One row per action of an operator.
create table if not exists dispatcher.action (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null default session_user,
  action text not null,
  notification_ids bigint[] not null,
  detail text
);

-- One row per applied file.
create table if not exists dispatcher.migration (
  name text primary key,
  checksum text not null,
  applied_at timestamptz not null default clock_timestamp()
);
