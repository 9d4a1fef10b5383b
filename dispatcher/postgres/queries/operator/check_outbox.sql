-- Returns whether the outbox exists, which of our tables are missing, and the outbox's columns: all of them, and those
-- that this role may read.
select to_regclass(%(outbox)s) is not null,
  {missing_tables},
  array(select attname::text from pg_attribute
        where attrelid = to_regclass(%(outbox)s) and attnum > 0 and not attisdropped),
  array(select attname::text from pg_attribute
        where attrelid = to_regclass(%(outbox)s) and attnum > 0 and not attisdropped
          and has_column_privilege(attrelid, attnum, 'SELECT'))
