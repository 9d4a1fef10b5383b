-- A rule of the owner's table (a constraint, a trigger) refused our write to this version of the row, its xmin. The row is
-- left alone until somebody updates it: then it has another version. Null: no write was refused.
alter table dispatcher.delivery add column if not exists refused_version text;
create index if not exists delivery_refused on dispatcher.delivery (notification_id) where refused_version is not null;
