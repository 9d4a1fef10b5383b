-- The only secondary index that XNovu has.
create index if not exists idx_ent_notification_created_at on notify.ent_notification (created_at desc);
