"""The invariants that hold after every end-to-end test, as SQL that returns the rows which break them.

`oracle` has what the fake Novu saw (its own log), `audit` what a test trigger saw of every status change. Both
stand outside the program under test. Run when the system is quiet: all faults healed, all due rows final.
"""

from collections.abc import Sequence
from typing import Any

import psycopg

from dispatcher.devstack.fake_novu.process import FakeNovu

PREPARE = """
create schema if not exists oracle;
create table if not exists oracle.call (seq bigint, transaction_id text, subscriber text, started_at timestamptz,
  ended_at timestamptz, counted boolean default true);
create table if not exists oracle.effect (transaction_id text, subscriber text, accepted integer,
  taken_back integer default 0);
create table if not exists oracle.gate (
  seq bigint generated always as identity, id bigint, at timestamptz default clock_timestamp(), open boolean);
create table if not exists oracle.audit (
  seq bigint generated always as identity, id bigint, at timestamptz default clock_timestamp(), old_status text,
  new_status text, generation integer, ours boolean);
create or replace function oracle.write_down() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into oracle.audit (id, old_status, new_status, generation, ours)
  values (new.id, old.notification_status, new.notification_status,
    (select generation from dispatcher.delivery where notification_id = new.id),
    coalesce(current_setting('dispatcher.quiet', true) = 'on', false));
  return null;
end $$;
-- What the owner wrote, as a hash: our own writes may change only the columns left out here.
create table if not exists oracle.kept (id bigint primary key, hash text);
create or replace function oracle.hash_of(notification jsonb) returns text language sql immutable as $$
  select md5((notification - array['notification_status', 'updated_at', 'processed_at', 'error_details',
    'transaction_id', 'channels', 'retracted_at'])::text)
$$;
create or replace function oracle.keep() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if coalesce(current_setting('dispatcher.quiet', true) = 'on', false) then return null; end if;
  insert into oracle.kept values (new.id, oracle.hash_of(to_jsonb(new)))
  on conflict (id) do update set hash = excluded.hash;
  return null;
end $$;
create or replace trigger keep after insert or update on notify.ent_notification for each row
  execute function oracle.keep();
create or replace trigger audit after update of notification_status on notify.ent_notification for each row
  when (old.notification_status is distinct from new.notification_status) execute function oracle.write_down();
create or replace function oracle.write_gate() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into oracle.gate (id, open) values (new.id, new.publish_status = 'PUBLISH' and not new.deactivated);
  return null;
end $$;
create or replace trigger gate_new after insert on notify.ent_notification for each row
  when (new.publish_status <> 'PUBLISH' or new.deactivated) execute function oracle.write_gate();
create or replace trigger gate after update of publish_status, deactivated on notify.ent_notification for each row
  execute function oracle.write_gate();
"""

INVARIANTS = {
    "I1 complete: no due row without a final status": """
        select id, notification_status from notify.ent_notification n
        where publish_status = 'PUBLISH' and not deactivated and notification_status in ('PENDING', 'PROCESSING')
          and not exists (
            select from dispatcher.delivery d where d.notification_id = n.id and d.refused_version is not null)
          and greatest(coalesce(scheduled_for, '-infinity'), created_at) < clock_timestamp() - %(t_live)s::interval""",
    "I2 no second effect": """
        select transaction_id, subscriber, accepted from oracle.effect where accepted > 1
        union all
        select (r.notification_id, r.generation)::text, r.recipient, count(*)::integer
        from oracle.effect e join dispatcher.recipient r using (transaction_id)
        group by r.notification_id, r.generation, r.recipient having count(*) > 1""",
    "I3 never two calls in flight": """
        select a.seq, b.seq, a.transaction_id from oracle.call a join oracle.call b using (transaction_id)
        where a.seq < b.seq and b.started_at < a.ended_at""",
    "I4 every call was written down before it left, and none left after its recipient was settled": """
        select r.transaction_id, r.attempts, count(*)
        from dispatcher.recipient r join oracle.call c using (transaction_id)
        where c.counted
        group by r.transaction_id, r.attempts having count(*) > r.attempts
        union all
        select r.transaction_id, c.seq, 0
        from dispatcher.recipient r join oracle.call c using (transaction_id)
        join dispatcher.delivery d on d.notification_id = r.notification_id and d.generation = r.generation
        where r.state in ('accepted', 'refused') and c.started_at > d.settled_at""",
    "I5 every call belongs to a recipient of the ledger": """
        select c.seq, c.transaction_id from oracle.call c left join dispatcher.recipient r using (transaction_id)
        where r.transaction_id is null or r.recipient <> c.subscriber""",
    "I6 the status is the truth": """
        select n.id, n.notification_status, s.accepted, s.total
        from notify.ent_notification n
        join dispatcher.delivery d on d.notification_id = n.id
        cross join lateral (
          select count(*) filter (where r.state = 'accepted') as accepted, count(*) as total
          from dispatcher.recipient r
          where r.notification_id = n.id and r.generation = d.generation and r.outcome is distinct from 'withdrawn') s
        where d.settled_at is not null and case n.notification_status::text
          when 'SENT' then s.total = 0 or s.accepted <> s.total
            or s.total <> (select count(distinct u) from unnest(n.recipients) u)
          when 'PARTIAL' then s.accepted = 0 or s.accepted = s.total
          when 'FAILED' then (s.accepted > 0) <> (n.error_details ->> 'outcome' = 'PARTIAL')
          else false end""",
    "I7 accepted here is an effect there, and the reverse; cancelled here was taken back there": """
        select coalesce(r.transaction_id, e.transaction_id), r.state
        from dispatcher.recipient r full join oracle.effect e using (transaction_id)
        where coalesce(r.state = 'accepted', false) <> (e.transaction_id is not null)
          and coalesce(r.state, '') not in ('unknown', 'cancelled')
        union all
        select r.transaction_id, r.state
        from dispatcher.recipient r left join oracle.effect e using (transaction_id)
        where r.state = 'cancelled' and r.outcome in ('stopped', 'removed') and coalesce(e.taken_back, 0) = 0""",
    "I8 only allowed transitions; final is final within a generation": """
        select id, old_status, new_status from oracle.audit a
        where ours and (old_status, new_status) not in (
          ('PENDING', 'PROCESSING'), ('FAILED', 'PROCESSING'), ('PARTIAL', 'PROCESSING'), ('PROCESSING', 'PENDING'),
          ('PROCESSING', 'SENT'), ('PROCESSING', 'PARTIAL'), ('PROCESSING', 'FAILED'),
          ('PENDING', 'SENT'), ('PENDING', 'PARTIAL'), ('PENDING', 'FAILED'))  -- written over a row in work
          -- Another program replaced our status, and it is put back.
          and (old_status = 'RETRACTED' or new_status is distinct from (
            select b.new_status from oracle.audit b
            where b.id = a.id and b.ours and b.seq < a.seq order by b.seq desc limit 1))
        union all
        select again.id, sent.new_status, again.new_status
        from oracle.audit sent join oracle.audit again on again.id = sent.id and again.seq > sent.seq
        where sent.new_status = 'SENT' and again.ours and again.new_status = 'PROCESSING'
          and again.generation = sent.generation""",
    "I9 never early": """
        select c.seq, n.id from oracle.call c join dispatcher.recipient r using (transaction_id)
        join notify.ent_notification n on n.id = r.notification_id
        join dispatcher.delivery d on d.notification_id = n.id and d.generation = r.generation
        where c.started_at < n.scheduled_for""",
    "I10 never a call for a claim newer than the retraction": """
        select n.id, d.claimed_at, n.retracted_at from notify.ent_notification n
        join dispatcher.delivery d on d.notification_id = n.id and d.claimed_at > n.retracted_at
        join dispatcher.recipient r on r.notification_id = n.id and r.generation = d.generation
        join oracle.call c on c.transaction_id = r.transaction_id
        where n.notification_status = 'RETRACTED'
        union all
        -- A call written down just before the retraction was seen is on the wire.
        select r.notification_id, r.last_called_at, was.at
        from dispatcher.recipient r join oracle.call c using (transaction_id)
        cross join lateral (
          select a.at, a.new_status from oracle.audit a
          where a.id = r.notification_id and a.at < r.last_called_at order by a.seq desc limit 1) was
        where was.new_status = 'RETRACTED' and was.at < r.last_called_at - interval '1 s'""",
    "I11 never a call for a row that is unpublished or deactivated": """
        select r.notification_id, r.last_called_at, was.at
        from dispatcher.recipient r join oracle.call c using (transaction_id)
        cross join lateral (
          select g.at, g.open from oracle.gate g
          where g.id = r.notification_id and g.at < r.last_called_at order by g.seq desc limit 1) was
        where not was.open and was.at < r.last_called_at - interval '1 s'""",
    "I12 no orphan: nothing is held past its lease": """
        select notification_id, lease_owner, lease_until from dispatcher.delivery
        where lease_until < clock_timestamp() - interval '30 s'
        union all
        select n.id, 'nobody', null from notify.ent_notification n
        left join dispatcher.delivery d on d.notification_id = n.id
        where n.notification_status = 'PROCESSING' and d.lease_until is null""",
    "I13 what the owner wrote is untouched": """
        select n.id, 'not as its owner left it' from notify.ent_notification n join oracle.kept k using (id)
        where oracle.hash_of(to_jsonb(n)) <> k.hash""",
    # A crash can come between the record and the call, so there are at most as many calls as records.
    "I14 accounting: no more calls than were written down; whom Novu answered was called": """
        select r.transaction_id, r.attempts, count(c.seq)
        from dispatcher.recipient r
        left join oracle.call c on c.transaction_id = r.transaction_id and c.counted
        group by r.transaction_id, r.attempts, r.state
        having count(c.seq) > r.attempts or (r.state in ('accepted', 'refused') and count(c.seq) = 0)
        union all
        select 'all', attempts, calls
        from (select sum(attempts) from dispatcher.recipient) r (attempts),
          (select count(*) from oracle.call where counted) c (calls)
        where calls > attempts or attempts <> (calls + %(uncalled)s::integer)""",
    "I15 quiet: no queue, no forgotten transaction, no lock left": """
        select 'queue', pg_notification_queue_usage()::text where pg_notification_queue_usage() >= 0.01
        union all
        select application_name, state from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and state like 'idle in transaction%%'
        union all
        select 'advisory lock', pid::text from pg_locks
        where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())""",
}

Violations = dict[str, list[tuple[Any, ...]]]


async def load_oracle(connection: psycopg.AsyncConnection[Any], novu: FakeNovu) -> None:
    """Load what the fake Novu saw into the database, beside what we wrote."""
    calls: list[Sequence[Any]] = []
    for request in await novu.requests():
        if request.method == "POST":
            pairs = zip(request.transaction_ids, request.subscribers, strict=False)
            # The ledger does not count a call that Novu only held up.
            rest = (request.started_at, request.ended_at, request.status not in (409, 429))
            calls += [(request.seq, tx, subscriber, *rest) for tx, subscriber in pairs]
    effects = [
        (effect.transaction_id, effect.subscriber, effect.accepted, effect.taken_back)
        for effect in await novu.effects(least=1)
    ]
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute("truncate oracle.call, oracle.effect")
        await cursor.executemany(
            "insert into oracle.call values (%s, %s, %s, to_timestamp(%s), to_timestamp(%s), %s)", calls
        )
        await cursor.executemany("insert into oracle.effect values (%s, %s, %s, %s)", effects)


async def find_violations(
    connection: psycopg.AsyncConnection[Any], *, t_live: str = "0 s", uncalled: int | None = None
) -> Violations:
    """Return every invariant that does not hold, with rows that show it.

    `uncalled`: exactly so many calls were written down and never left; None where a fault may have kept any number.
    """
    found: Violations = {}
    for name, statement in INVARIANTS.items():
        cursor = await connection.execute(statement.encode(), {"t_live": t_live, "uncalled": uncalled})
        if rows := await cursor.fetchmany(5):
            found[name] = rows
    return found
