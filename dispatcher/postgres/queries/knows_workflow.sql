-- Whether the ledger knows one of these rows under this workflow. No lock: a workflow that is ours stays ours.
select exists (
  select from dispatcher.delivery where notification_id = any(%(ids)s::bigint[]) and workflow_id = %(workflow_id)s
)
