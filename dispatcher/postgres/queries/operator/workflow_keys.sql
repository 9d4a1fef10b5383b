-- Returns the keys of Novu workflows that a test can use.
select left(w.workflow_key, 200) from {workflow} w where w.publish_status = 'PUBLISH' and not w.deactivated
order by w.workflow_key limit 20
