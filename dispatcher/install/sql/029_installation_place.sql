-- Where the installation lives: one outbox, in one database. `outbox` and `outbox_oid` name the table, so that a second
-- outbox is refused and a renamed or restored one is not. `bound_to` holds the database's marks (system identifier,
-- oid of the database, oid of this table), so that a copy is noticed. NULL: not known.
alter table dispatcher.installation
  add column if not exists outbox text,
  add column if not exists outbox_oid oid,
  add column if not exists bound_to jsonb;
