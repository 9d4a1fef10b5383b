-- How many rows this node holds under a lease.
select count(*) from dispatcher.delivery where lease_owner = %(node)s and lease_until is not null
