-- Returns rows with everything that decides their next step. As JSON, for the reason given in rows.sql.
select row_to_json(x) from (
  select n.id, n.notification_status::text as status, n.error_details ->> 'outcome' as outcome, {title} as name,
    n.publish_status::text as publish_status, n.deactivated, left(w.workflow_key, 200) as workflow,
    n.enterprise_id::text as enterprise, n.transaction_id, n.created_at, n.scheduled_for, n.retracted_at,
    coalesce(n.scheduled_for <= clock_timestamp(), true) as due,
    n.error_details -> 'retraction' is not null as retraction_noticed,
    cardinality(n.recipients) as recipients, coalesce(d.pruned_in >= d.generation, false) as pruned,
    -- SENT means every recipient, also after the ledger has lost them.
    case when d.pruned_in >= d.generation and n.notification_status = 'SENT' then cardinality(n.recipients)
      else r.accepted end as accepted,
    r.unknown, r.novu_transaction_id,
    left(coalesce(d.last_error, n.error_details ->> 'error'), 2000) as error,
    d.workflow_id as temporal_workflow_id, d.generation, d.fence, d.attempts, d.lease_owner, d.lease_until,
    coalesce(d.lease_until > clock_timestamp(), false) as held,
    d.first_claimed_at, d.claimed_at, d.settled_at, d.next_attempt_at, d.dead_lettered_at,
    coalesce({refused}, false) as refused,
    (select count(*) from dispatcher.recipient r where r.notification_id = n.id and r.cancel_at is not null) as to_take_back,
    exists (select from dispatcher.recipient r
      where r.notification_id = n.id and r.cancel_at is not null and r.outcome = 'not_run_yet') as not_run_yet,
    (select count(*) from dispatcher.node where seen_at > clock_timestamp() - %(node_ttl)s::interval) as nodes_alive,
    clock_timestamp() as now
  from {outbox} n
  left join {workflow} w on w.id = n.notification_workflow_id
  left join dispatcher.delivery d on d.notification_id = n.id
  left join lateral (
    select count(*) filter (where state = 'accepted') as accepted,
      count(*) filter (where state in ('sending', 'unknown')) as unknown,
      (array_agg(transaction_id order by ordinal) filter (where state = 'accepted'))[1] as novu_transaction_id
    from dispatcher.recipient r
    where r.notification_id = n.id and r.generation = d.generation
  ) r on true
  where {matching}
  order by n.id
) x
