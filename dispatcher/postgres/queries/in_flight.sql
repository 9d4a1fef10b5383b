-- How many rows this node holds.
select count(*) from dispatcher.delivery where lease_owner = %(node)s and lease_until is not null
