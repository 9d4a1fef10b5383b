-- Functions and types that the host platform has and a plain PostgreSQL lacks. Each is created only if it is missing.
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

  -- Immutable, because generated columns use it.
  if to_regprocedure('func.normalize_repr(text)') is null then
    create function func.normalize_repr(value text) returns text
    language sql immutable parallel safe
    return lower(regexp_replace(btrim(value), '\s+', ' ', 'g'));
  end if;

  -- No user is logged in here, so the id is null.
  if to_regprocedure('auth.user_id()') is null then
    create function auth.user_id() returns uuid
    language sql stable
    return null::uuid;
  end if;
end
$shims$;

-- XNovu has ltree in schema extensions. If the server has no contrib modules, or the role may not install them, a text
-- domain of that name replaces it: the columns exist, the path operators do not.
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
