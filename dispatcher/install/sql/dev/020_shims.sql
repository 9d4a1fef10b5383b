-- What the host platform brings along and a plain PostgreSQL lacks. Each is created only where it is missing.
do $shims$
begin
  if to_regprocedure('shared_types.ensure_enum_values(text, text[])') is null then
    create function shared_types.ensure_enum_values(enum_name text, enum_values text[]) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $$
    declare
      label text;
    begin
      if to_regtype(format('shared_types.%I', enum_name)) is null then
        execute format('create type shared_types.%I as enum (%s)', enum_name,
                       (select string_agg(quote_literal(value), ', ') from unnest(enum_values) as value));
      end if;
      foreach label in array enum_values loop
        execute format('alter type shared_types.%I add value if not exists %L', enum_name, label);
      end loop;
    end
    $$;
  end if;

  -- Immutable, because generated columns are made of it.
  if to_regprocedure('func.normalize_repr(text)') is null then
    create function func.normalize_repr(value text) returns text
    language sql immutable parallel safe
    return lower(regexp_replace(btrim(value), '\s+', ' ', 'g'));
  end if;

  -- Nobody is logged in here.
  if to_regprocedure('auth.user_id()') is null then
    create function auth.user_id() returns uuid
    language sql stable
    return null::uuid;
  end if;
end
$shims$;

-- ltree belongs into schema extensions. A server without contrib modules, or a role that may not install them, gets a text
-- domain of that name: the columns stay, the path operators do not.
do $ltree$
begin
  if to_regtype('extensions.ltree') is null then
    begin
      create extension ltree schema extensions;
    exception when others then
      create domain extensions.ltree as text;
    end;
  end if;
end
$ltree$;
