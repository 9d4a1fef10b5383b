-- What there is: the outbox, our own tables that are missing, the outbox's columns, and which of them this role may read.
select to_regclass(%(outbox)s) is not null,
  {missing_tables},
  array(select attname::text from pg_attribute
        where attrelid = to_regclass(%(outbox)s) and attnum > 0 and not attisdropped),
  array(select attname::text from pg_attribute
        where attrelid = to_regclass(%(outbox)s) and attnum > 0 and not attisdropped
          and has_column_privilege(attrelid, attnum, 'SELECT'))
