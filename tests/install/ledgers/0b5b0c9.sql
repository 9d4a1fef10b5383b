--
-- PostgreSQL database dump
--


-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: auth; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA auth;


--
-- Name: dispatcher; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA dispatcher;


--
-- Name: extensions; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA extensions;


--
-- Name: func; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA func;


--
-- Name: notify; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA notify;


--
-- Name: shared_types; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA shared_types;


--
-- Name: ltree; Type: DOMAIN; Schema: extensions; Owner: -
--

CREATE DOMAIN extensions.ltree AS text;


--
-- Name: notification_channel_type; Type: TYPE; Schema: shared_types; Owner: -
--

CREATE TYPE shared_types.notification_channel_type AS ENUM (
    'IN_APP',
    'EMAIL',
    'SMS',
    'CHAT',
    'PUSH'
);


--
-- Name: notification_status; Type: TYPE; Schema: shared_types; Owner: -
--

CREATE TYPE shared_types.notification_status AS ENUM (
    'PENDING',
    'PROCESSING',
    'SENT',
    'FAILED',
    'RETRACTED'
);


--
-- Name: notification_workflow_type; Type: TYPE; Schema: shared_types; Owner: -
--

CREATE TYPE shared_types.notification_workflow_type AS ENUM (
    'STATIC',
    'DYNAMIC'
);


--
-- Name: publish_status; Type: TYPE; Schema: shared_types; Owner: -
--

CREATE TYPE shared_types.publish_status AS ENUM (
    'NONE',
    'DRAFT',
    'DISCARD',
    'PUBLISH',
    'DELETED',
    'REVIEW'
);


--
-- Name: user_id(); Type: FUNCTION; Schema: auth; Owner: -
--

CREATE FUNCTION auth.user_id() RETURNS uuid
    LANGUAGE sql STABLE
    RETURN NULL::uuid;


--
-- Name: ring_v1(); Type: FUNCTION; Schema: dispatcher; Owner: -
--

CREATE FUNCTION dispatcher.ring_v1() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  begin
    if pg_catalog.current_setting('transaction_isolation') = 'read committed'
      and exists (select from dispatcher.node where awake_until > pg_catalog.clock_timestamp()) then
      return null;
    end if;
    if tg_level = 'STATEMENT' and not exists (
      select from inserted
      where notification_status = 'PENDING' and publish_status = 'PUBLISH' and not deactivated
        and (scheduled_for is null or scheduled_for < 'infinity')
    ) then
      return null;
    end if;
  exception when others then
    null;  -- something is not as installed: a ring too many costs nothing, a lost insert would
  end;
  -- Set by our own sessions, and by producers who load in bulk or use two-phase commit: the sweep finds their rows.
  if pg_catalog.lower(pg_catalog.current_setting('dispatcher.quiet', true)) in ('on', 'true', 'yes', '1') then
    return null;
  end if;
  -- Constant, so that a transaction yields one message however many rows and statements it has.
  perform pg_catalog.pg_notify('dispatcher', '');
  return null;
end
$$;


--
-- Name: normalize_repr(text); Type: FUNCTION; Schema: func; Owner: -
--

CREATE FUNCTION func.normalize_repr(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN lower(regexp_replace(btrim(value), '\s+'::text, ' '::text, 'g'::text));


--
-- Name: ensure_enum_values(text, text[]); Type: FUNCTION; Schema: shared_types; Owner: -
--

CREATE FUNCTION shared_types.ensure_enum_values(enum_name text, enum_values text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: action; Type: TABLE; Schema: dispatcher; Owner: -
--

CREATE TABLE dispatcher.action (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    actor text DEFAULT SESSION_USER NOT NULL,
    action text NOT NULL,
    notification_ids bigint[] NOT NULL,
    detail text
);


--
-- Name: action_id_seq; Type: SEQUENCE; Schema: dispatcher; Owner: -
--

ALTER TABLE dispatcher.action ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME dispatcher.action_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: delivery; Type: TABLE; Schema: dispatcher; Owner: -
--

CREATE TABLE dispatcher.delivery (
    notification_id bigint NOT NULL,
    birth text NOT NULL,
    generation integer NOT NULL,
    fence bigint NOT NULL,
    batch text,
    workflow_id text GENERATED ALWAYS AS (
CASE
    WHEN (batch IS NULL) THEN ((((('notification-'::text || (notification_id)::text) || '-'::text) || birth) || '-'::text) || (generation)::text)
    ELSE ('notifications-'::text || batch)
END) STORED NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    lease_owner text,
    lease_until timestamp with time zone,
    next_attempt_at timestamp with time zone,
    first_claimed_at timestamp with time zone NOT NULL,
    claimed_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone,
    last_error text,
    dead_lettered_at timestamp with time zone
)
WITH (fillfactor='80');


--
-- Name: installation; Type: TABLE; Schema: dispatcher; Owner: -
--

CREATE TABLE dispatcher.installation (
    only_row boolean DEFAULT true NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    installed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT installation_only_row_check CHECK (only_row)
);


--
-- Name: migration; Type: TABLE; Schema: dispatcher; Owner: -
--

CREATE TABLE dispatcher.migration (
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);


--
-- Name: node; Type: TABLE; Schema: dispatcher; Owner: -
--

CREATE TABLE dispatcher.node (
    id text NOT NULL,
    role text NOT NULL,
    host text NOT NULL,
    version text NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    mode text NOT NULL,
    awake_until timestamp with time zone,
    in_flight integer DEFAULT 0 NOT NULL,
    last_sweep_at timestamp with time zone,
    CONSTRAINT node_mode_check CHECK ((mode = ANY (ARRAY['EVENT'::text, 'POLLING'::text])))
);


--
-- Name: recipient; Type: TABLE; Schema: dispatcher; Owner: -
--

CREATE TABLE dispatcher.recipient (
    notification_id bigint NOT NULL,
    generation integer NOT NULL,
    recipient text NOT NULL,
    ordinal integer NOT NULL,
    transaction_id text NOT NULL,
    epoch integer DEFAULT 0 NOT NULL,
    call_key text,
    call_ordinal integer,
    body_hash text,
    state text DEFAULT 'planned'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    first_called_at timestamp with time zone,
    last_called_at timestamp with time zone,
    outcome text,
    error text,
    cancel_at timestamp with time zone,
    cancel_tries integer DEFAULT 0 NOT NULL,
    CONSTRAINT recipient_state_check CHECK ((state = ANY (ARRAY['planned'::text, 'sending'::text, 'accepted'::text, 'refused'::text, 'unknown'::text, 'cancelled'::text])))
)
WITH (fillfactor='80');


--
-- Name: ent_notification; Type: TABLE; Schema: notify; Owner: -
--

CREATE TABLE notify.ent_notification (
    id bigint NOT NULL,
    name text NOT NULL,
    description text,
    publish_status shared_types.publish_status DEFAULT 'DRAFT'::shared_types.publish_status NOT NULL,
    deactivated boolean DEFAULT false NOT NULL,
    typ_notification_category_id bigint,
    typ_notification_priority_id bigint,
    notification_workflow_id bigint,
    notification_rule_id bigint,
    notification_status shared_types.notification_status DEFAULT 'PENDING'::shared_types.notification_status NOT NULL,
    business_id uuid,
    payload jsonb NOT NULL,
    recipients uuid[] NOT NULL,
    channels shared_types.notification_channel_type[] DEFAULT ARRAY['IN_APP'::shared_types.notification_channel_type],
    overrides jsonb,
    tags text[],
    transaction_id text,
    scheduled_for timestamp with time zone,
    processed_at timestamp with time zone,
    retracted_at timestamp with time zone,
    retraction_reason text,
    error_details jsonb,
    workflow_version integer DEFAULT 1,
    repr text GENERATED ALWAYS AS (func.normalize_repr(name)) STORED,
    enterprise_id uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by uuid DEFAULT auth.user_id(),
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_by uuid DEFAULT auth.user_id()
);


--
-- Name: ent_notification_id_seq; Type: SEQUENCE; Schema: notify; Owner: -
--

ALTER TABLE notify.ent_notification ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME notify.ent_notification_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: ent_notification_rule; Type: TABLE; Schema: notify; Owner: -
--

CREATE TABLE notify.ent_notification_rule (
    id bigint NOT NULL,
    name text NOT NULL,
    description text,
    publish_status shared_types.publish_status DEFAULT 'DRAFT'::shared_types.publish_status NOT NULL,
    deactivated boolean DEFAULT false NOT NULL,
    notification_workflow_id bigint NOT NULL,
    trigger_type text NOT NULL,
    trigger_config jsonb,
    rule_payload jsonb,
    business_id uuid,
    repr text GENERATED ALWAYS AS (func.normalize_repr(name)) STORED,
    enterprise_id uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by uuid DEFAULT auth.user_id(),
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_by uuid DEFAULT auth.user_id()
);


--
-- Name: ent_notification_rule_id_seq; Type: SEQUENCE; Schema: notify; Owner: -
--

ALTER TABLE notify.ent_notification_rule ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME notify.ent_notification_rule_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: ent_notification_template; Type: TABLE; Schema: notify; Owner: -
--

CREATE TABLE notify.ent_notification_template (
    id bigint NOT NULL,
    name text NOT NULL,
    description text,
    publish_status shared_types.publish_status DEFAULT 'DRAFT'::shared_types.publish_status NOT NULL,
    deactivated boolean DEFAULT false NOT NULL,
    template_key text,
    typ_notification_category_id bigint,
    channel_type shared_types.notification_channel_type NOT NULL,
    subject_template text,
    body_template text NOT NULL,
    variables_description jsonb,
    business_id uuid,
    repr text GENERATED ALWAYS AS (func.normalize_repr(name)) STORED,
    enterprise_id uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by uuid DEFAULT auth.user_id(),
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_by uuid DEFAULT auth.user_id()
);


--
-- Name: ent_notification_template_id_seq; Type: SEQUENCE; Schema: notify; Owner: -
--

ALTER TABLE notify.ent_notification_template ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME notify.ent_notification_template_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: ent_notification_workflow; Type: TABLE; Schema: notify; Owner: -
--

CREATE TABLE notify.ent_notification_workflow (
    id bigint NOT NULL,
    name text NOT NULL,
    description text,
    publish_status shared_types.publish_status DEFAULT 'DRAFT'::shared_types.publish_status NOT NULL,
    deactivated boolean DEFAULT false NOT NULL,
    typ_notification_category_id bigint,
    workflow_type shared_types.notification_workflow_type NOT NULL,
    workflow_key text NOT NULL,
    default_channels shared_types.notification_channel_type[],
    payload_schema jsonb,
    control_schema jsonb,
    template_overrides jsonb,
    business_id uuid,
    repr text GENERATED ALWAYS AS (func.normalize_repr(workflow_key)) STORED,
    enterprise_id uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by uuid DEFAULT auth.user_id(),
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_by uuid DEFAULT auth.user_id()
);


--
-- Name: ent_notification_workflow_id_seq; Type: SEQUENCE; Schema: notify; Owner: -
--

ALTER TABLE notify.ent_notification_workflow ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME notify.ent_notification_workflow_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: typ_notification_category; Type: TABLE; Schema: notify; Owner: -
--

CREATE TABLE notify.typ_notification_category (
    id bigint NOT NULL,
    name text NOT NULL,
    description text,
    publish_status shared_types.publish_status DEFAULT 'DRAFT'::shared_types.publish_status NOT NULL,
    deactivated boolean DEFAULT false NOT NULL,
    code text,
    path extensions.ltree,
    path_text text GENERATED ALWAYS AS ((path)::text) STORED,
    sort_order integer DEFAULT 0 NOT NULL,
    business_id uuid,
    repr text GENERATED ALWAYS AS (func.normalize_repr(name)) STORED,
    enterprise_id uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by uuid DEFAULT auth.user_id(),
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_by uuid DEFAULT auth.user_id()
);


--
-- Name: typ_notification_category_id_seq; Type: SEQUENCE; Schema: notify; Owner: -
--

ALTER TABLE notify.typ_notification_category ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME notify.typ_notification_category_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: typ_notification_priority; Type: TABLE; Schema: notify; Owner: -
--

CREATE TABLE notify.typ_notification_priority (
    id bigint NOT NULL,
    name text NOT NULL,
    description text,
    publish_status shared_types.publish_status DEFAULT 'DRAFT'::shared_types.publish_status NOT NULL,
    deactivated boolean DEFAULT false NOT NULL,
    code text,
    sort_order integer DEFAULT 0 NOT NULL,
    business_id uuid,
    repr text GENERATED ALWAYS AS (func.normalize_repr(name)) STORED,
    enterprise_id uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by uuid DEFAULT auth.user_id(),
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_by uuid DEFAULT auth.user_id()
);


--
-- Name: typ_notification_priority_id_seq; Type: SEQUENCE; Schema: notify; Owner: -
--

ALTER TABLE notify.typ_notification_priority ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME notify.typ_notification_priority_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Data for Name: action; Type: TABLE DATA; Schema: dispatcher; Owner: -
--



--
-- Data for Name: delivery; Type: TABLE DATA; Schema: dispatcher; Owner: -
--

INSERT INTO dispatcher.delivery (notification_id, birth, generation, fence, batch, attempts, lease_owner, lease_until, next_attempt_at, first_claimed_at, claimed_at, settled_at, last_error, dead_lettered_at) VALUES (4, '15ab87ca2c52', 1, 2, NULL, 1, NULL, NULL, NULL, '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.66183+00', 'HTTP 422: workflow_not_found', '2026-11-28 10:59:24.66183+00');
INSERT INTO dispatcher.delivery (notification_id, birth, generation, fence, batch, attempts, lease_owner, lease_until, next_attempt_at, first_claimed_at, claimed_at, settled_at, last_error, dead_lettered_at) VALUES (1, '15dfd92ba6d2', 1, 2, NULL, 1, NULL, NULL, NULL, '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.710433+00', NULL, NULL);
INSERT INTO dispatcher.delivery (notification_id, birth, generation, fence, batch, attempts, lease_owner, lease_until, next_attempt_at, first_claimed_at, claimed_at, settled_at, last_error, dead_lettered_at) VALUES (2, '27e588a4884a', 1, 2, NULL, 1, NULL, NULL, NULL, '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.725409+00', NULL, NULL);
INSERT INTO dispatcher.delivery (notification_id, birth, generation, fence, batch, attempts, lease_owner, lease_until, next_attempt_at, first_claimed_at, claimed_at, settled_at, last_error, dead_lettered_at) VALUES (6, '9f46a5516bdf', 1, 2, NULL, 1, NULL, NULL, NULL, '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.732452+00', NULL, NULL);
INSERT INTO dispatcher.delivery (notification_id, birth, generation, fence, batch, attempts, lease_owner, lease_until, next_attempt_at, first_claimed_at, claimed_at, settled_at, last_error, dead_lettered_at) VALUES (5, 'd2beb032d248', 1, 3, NULL, 1, NULL, NULL, NULL, '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.728916+00', NULL, NULL);
INSERT INTO dispatcher.delivery (notification_id, birth, generation, fence, batch, attempts, lease_owner, lease_until, next_attempt_at, first_claimed_at, claimed_at, settled_at, last_error, dead_lettered_at) VALUES (3, 'e993af23c062', 1, 7, NULL, 1, NULL, NULL, '2026-11-28 11:00:32.919264+00', '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:24.510485+00', '2026-11-28 10:59:32.920464+00', 'HTTP 500: Internal server error, contact support and provide them with the errorId', NULL);
INSERT INTO dispatcher.delivery (notification_id, birth, generation, fence, batch, attempts, lease_owner, lease_until, next_attempt_at, first_claimed_at, claimed_at, settled_at, last_error, dead_lettered_at) VALUES (7, '2a6dd01f2b6b', 1, 2, NULL, 1, 'vm-10496-1ae396', '2026-11-28 10:59:38.041579+00', NULL, '2026-11-28 10:59:33.017096+00', '2026-11-28 10:59:33.017096+00', NULL, NULL, NULL);


--
-- Data for Name: installation; Type: TABLE DATA; Schema: dispatcher; Owner: -
--

INSERT INTO dispatcher.installation (only_row, id, installed_at) VALUES (true, '454ceaf3-df55-479c-8209-e4b6f986db2d', '2026-11-28 10:59:21.11369+00');


--
-- Data for Name: migration; Type: TABLE DATA; Schema: dispatcher; Owner: -
--

INSERT INTO dispatcher.migration (name, checksum, applied_at) VALUES ('010_schema.sql', 'cd9984a70e78e444104a898460db5119a5a1128cafebbe06e48e07ceceaf8298', '2026-11-28 10:59:21.134894+00');
INSERT INTO dispatcher.migration (name, checksum, applied_at) VALUES ('020_tables.sql', '34618fd62c4a5e9cc306ad23ff97b5ec8fe89fae5be7575aa2a05fe96f8ce4f0', '2026-11-28 10:59:21.13813+00');
INSERT INTO dispatcher.migration (name, checksum, applied_at) VALUES ('030_ledger_indexes.sql', '5611f57cc8a6eab9d28f4f77b5805459b5d3f0763897421f0d9ab94cf8ccb82c', '2026-11-28 10:59:21.138448+00');
INSERT INTO dispatcher.migration (name, checksum, applied_at) VALUES ('040_functions.sql', '624ec7dc3f395f04902d0c0f0080667a02b1a1093b55647f8d32232dbcca8ad4', '2026-11-28 10:59:21.13928+00');
INSERT INTO dispatcher.migration (name, checksum, applied_at) VALUES ('050_triggers.sql', 'f7548dcb5509075a6bfc09caa81adb9ceec45398417629bb115d012962e311cd', '2026-11-28 10:59:21.142249+00');
INSERT INTO dispatcher.migration (name, checksum, applied_at) VALUES ('060_outbox_indexes.sql', 'eee85fec8beee74d08f3eeab28a24c77febdcf10ba6c434fb91b8d1c89ce74d0', '2026-11-28 10:59:21.204941+00');


--
-- Data for Name: node; Type: TABLE DATA; Schema: dispatcher; Owner: -
--

INSERT INTO dispatcher.node (id, role, host, version, started_at, seen_at, mode, awake_until, in_flight, last_sweep_at) VALUES ('vm-10496-1ae396', 'all', 'vm', '0.1.0', '2026-11-28 10:59:24.405716+00', '2026-11-28 10:59:33.027599+00', 'EVENT', '2026-11-28 10:59:35.026526+00', 1, '2026-11-28 10:59:33.02757+00');


--
-- Data for Name: recipient; Type: TABLE DATA; Schema: dispatcher; Owner: -
--

INSERT INTO dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash, state, attempts, first_called_at, last_called_at, outcome, error, cancel_at, cancel_tries) VALUES (4, 1, 'a38ea93f-724f-4ac0-bdd2-69058f7d3718', 0, 'n1-d6e6ea88250f17a760c7251ff56257c1', 1, 'n1-d6e6ea88250f17a760c7251ff56257c1:0', 0, 'b490320da6fda2b6f92923fc57716345', 'refused', 1, '2026-11-28 10:59:24.601768+00', '2026-11-28 10:59:24.601768+00', 'http_422', 'HTTP 422: workflow_not_found', NULL, 0);
INSERT INTO dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash, state, attempts, first_called_at, last_called_at, outcome, error, cancel_at, cancel_tries) VALUES (3, 1, '985b9647-18a3-4444-8e0f-0342d989e069', 1, 'n1-7fd1d601096769e1970c4ce3ec694741', 0, 'n1-7fd1d601096769e1970c4ce3ec694741:0', 0, 'ceec2ed4a0be9357f5f438f405efeec6', 'accepted', 1, '2026-11-28 10:59:24.60325+00', '2026-11-28 10:59:24.60325+00', 'processed', NULL, NULL, 0);
INSERT INTO dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash, state, attempts, first_called_at, last_called_at, outcome, error, cancel_at, cancel_tries) VALUES (1, 1, 'e05afe66-44dd-4f42-8d5d-9602409dfa92', 0, 'n1-da68c7f5b1590d712e3fd8dac265bd82', 0, 'n1-da68c7f5b1590d712e3fd8dac265bd82:0', 0, 'ceec2ed4a0be9357f5f438f405efeec6', 'accepted', 1, '2026-11-28 10:59:24.607337+00', '2026-11-28 10:59:24.607337+00', 'processed', NULL, NULL, 0);
INSERT INTO dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash, state, attempts, first_called_at, last_called_at, outcome, error, cancel_at, cancel_tries) VALUES (2, 1, '75c97342-daa5-4712-b7af-b3ce3d13b6f8', 2, 'n1-d9bd8cdb1b23efeac8b6d9a14f0a0203', 0, 'n1-d9bd8cdb1b23efeac8b6d9a14f0a0203:0', 0, 'ceec2ed4a0be9357f5f438f405efeec6', 'accepted', 1, '2026-11-28 10:59:24.607364+00', '2026-11-28 10:59:24.607364+00', 'processed', NULL, NULL, 0);
INSERT INTO dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash, state, attempts, first_called_at, last_called_at, outcome, error, cancel_at, cancel_tries) VALUES (2, 1, '1d70eb1d-591f-4b0b-9bd5-5270444abade', 1, 'n1-c0d35ce09644df043ff24fd66430f3a5', 0, 'n1-c0d35ce09644df043ff24fd66430f3a5:0', 0, 'ceec2ed4a0be9357f5f438f405efeec6', 'accepted', 1, '2026-11-28 10:59:24.607435+00', '2026-11-28 10:59:24.607435+00', 'processed', NULL, NULL, 0);
INSERT INTO dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash, state, attempts, first_called_at, last_called_at, outcome, error, cancel_at, cancel_tries) VALUES (2, 1, '2f9ce729-7bc3-4769-a1a4-244d92008886', 0, 'n1-b1849ebba4642da908bf834569fce7f2', 0, 'n1-b1849ebba4642da908bf834569fce7f2:0', 0, 'ceec2ed4a0be9357f5f438f405efeec6', 'accepted', 1, '2026-11-28 10:59:24.607456+00', '2026-11-28 10:59:24.607456+00', 'processed', NULL, NULL, 0);
INSERT INTO dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash, state, attempts, first_called_at, last_called_at, outcome, error, cancel_at, cancel_tries) VALUES (6, 1, '10c8b769-9173-490e-9cdc-700ae424d5e7', 0, 'n1-213539fc6738fa1c86358c68c41bfa8b', 0, 'n1-213539fc6738fa1c86358c68c41bfa8b:0', 0, 'ceec2ed4a0be9357f5f438f405efeec6', 'accepted', 1, '2026-11-28 10:59:24.608946+00', '2026-11-28 10:59:24.608946+00', 'processed', NULL, NULL, 0);
INSERT INTO dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash, state, attempts, first_called_at, last_called_at, outcome, error, cancel_at, cancel_tries) VALUES (5, 1, 'c27a9a17-68ad-4fe9-9e41-b2af495cc629', 0, 'n1-82c9af801f1d4a042eb193f807eb1337', 0, 'n1-82c9af801f1d4a042eb193f807eb1337:0', 0, 'ceec2ed4a0be9357f5f438f405efeec6', 'accepted', 1, '2026-11-28 10:59:24.634772+00', '2026-11-28 10:59:24.634772+00', 'http_500', 'HTTP 500: Internal server error, contact support and provide them with the errorId', '2026-11-28 10:59:35.629288+00', 3);
INSERT INTO dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash, state, attempts, first_called_at, last_called_at, outcome, error, cancel_at, cancel_tries) VALUES (3, 1, '9e144476-2802-4d7f-a9ca-29cfe81a0c93', 0, 'n1-7ad553b00786f44d29127f7cb0735444', 0, 'n1-7ad553b00786f44d29127f7cb0735444:0', 0, 'ceec2ed4a0be9357f5f438f405efeec6', 'unknown', 5, '2026-11-28 10:59:24.603293+00', '2026-11-28 10:59:32.886745+00', 'http_500', 'HTTP 500: Internal server error, contact support and provide them with the errorId', NULL, 0);
INSERT INTO dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash, state, attempts, first_called_at, last_called_at, outcome, error, cancel_at, cancel_tries) VALUES (7, 1, 'f3f7ccb9-3667-4831-975a-78fbeb418f01', 0, 'n1-6925777f48a9747a765dea62d14a28e2', 0, 'n1-6925777f48a9747a765dea62d14a28e2:0', 0, 'ceec2ed4a0be9357f5f438f405efeec6', 'sending', 1, '2026-11-28 10:59:33.043931+00', '2026-11-28 10:59:33.043931+00', NULL, NULL, NULL, 0);


--
-- Data for Name: ent_notification; Type: TABLE DATA; Schema: notify; Owner: -
--

INSERT INTO notify.ent_notification (id, name, description, publish_status, deactivated, typ_notification_category_id, typ_notification_priority_id, notification_workflow_id, notification_rule_id, notification_status, business_id, payload, recipients, channels, overrides, tags, transaction_id, scheduled_for, processed_at, retracted_at, retraction_reason, error_details, workflow_version, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (4, 'n c48c0aecdf194ee78bf8d11a46a67b8d', NULL, 'PUBLISH', false, NULL, NULL, 17, NULL, 'FAILED', NULL, '{"title": "Lift", "message": "stands still"}', '{a38ea93f-724f-4ac0-bdd2-69058f7d3718}', '{IN_APP}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:24.661622+00', NULL, NULL, '{"error": "HTTP 422: workflow_not_found", "outcome": "FAILED", "results": [{"error": "HTTP 422: workflow_not_found", "success": false, "recipientId": "a38ea93f-724f-4ac0-bdd2-69058f7d3718"}], "attempts": 1, "timestamp": "2026-11-28T10:59:24.661644+00:00", "generation": 1, "dead_letter": true, "successCount": 0, "totalRecipients": 1, "novu_transaction_ids": []}', 1, NULL, '2026-11-28 10:59:24.489087+00', NULL, '2026-11-28 10:59:24.661657+00', NULL);
INSERT INTO notify.ent_notification (id, name, description, publish_status, deactivated, typ_notification_category_id, typ_notification_priority_id, notification_workflow_id, notification_rule_id, notification_status, business_id, payload, recipients, channels, overrides, tags, transaction_id, scheduled_for, processed_at, retracted_at, retraction_reason, error_details, workflow_version, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (2, 'n 03365131ba3c40348ecb88a5ed813171', NULL, 'PUBLISH', false, NULL, NULL, 2, NULL, 'SENT', NULL, '{"title": "Lift", "message": "stands still"}', '{2f9ce729-7bc3-4769-a1a4-244d92008886,1d70eb1d-591f-4b0b-9bd5-5270444abade,75c97342-daa5-4712-b7af-b3ce3d13b6f8}', '{IN_APP}', NULL, NULL, 'n1-b1849ebba4642da908bf834569fce7f2', NULL, '2026-11-28 10:59:24.725317+00', NULL, NULL, '{"outcome": "SENT", "results": [{"success": true, "recipientId": "2f9ce729-7bc3-4769-a1a4-244d92008886", "transactionId": "n1-b1849ebba4642da908bf834569fce7f2"}, {"success": true, "recipientId": "1d70eb1d-591f-4b0b-9bd5-5270444abade", "transactionId": "n1-c0d35ce09644df043ff24fd66430f3a5"}, {"success": true, "recipientId": "75c97342-daa5-4712-b7af-b3ce3d13b6f8", "transactionId": "n1-d9bd8cdb1b23efeac8b6d9a14f0a0203"}], "attempts": 1, "timestamp": "2026-11-28T10:59:24.725335+00:00", "generation": 1, "successCount": 3, "totalRecipients": 3, "novu_transaction_ids": ["n1-b1849ebba4642da908bf834569fce7f2", "n1-c0d35ce09644df043ff24fd66430f3a5", "n1-d9bd8cdb1b23efeac8b6d9a14f0a0203"]}', 1, NULL, '2026-11-28 10:59:24.480828+00', NULL, '2026-11-28 10:59:24.725344+00', NULL);
INSERT INTO notify.ent_notification (id, name, description, publish_status, deactivated, typ_notification_category_id, typ_notification_priority_id, notification_workflow_id, notification_rule_id, notification_status, business_id, payload, recipients, channels, overrides, tags, transaction_id, scheduled_for, processed_at, retracted_at, retraction_reason, error_details, workflow_version, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (5, 'n 42864c84e7d34e17835c4241b83bd03c', NULL, 'PUBLISH', false, NULL, NULL, 2, NULL, 'RETRACTED', NULL, '{"title": "Lift", "message": "stands still"}', '{c27a9a17-68ad-4fe9-9e41-b2af495cc629}', '{IN_APP}', NULL, NULL, 'n1-82c9af801f1d4a042eb193f807eb1337', NULL, '2026-11-28 10:59:24.728825+00', '2026-11-28 10:59:26.042422+00', NULL, '{"outcome": "SENT", "results": [{"success": true, "recipientId": "c27a9a17-68ad-4fe9-9e41-b2af495cc629", "transactionId": "n1-82c9af801f1d4a042eb193f807eb1337"}], "attempts": 1, "timestamp": "2026-11-28T10:59:24.728834+00:00", "generation": 1, "retraction": {"noticed_at": "2026-11-28T10:59:26.042426+00:00"}, "successCount": 1, "totalRecipients": 1, "novu_transaction_ids": ["n1-82c9af801f1d4a042eb193f807eb1337"]}', 1, NULL, '2026-11-28 10:59:24.493966+00', NULL, '2026-11-28 10:59:26.042446+00', NULL);
INSERT INTO notify.ent_notification (id, name, description, publish_status, deactivated, typ_notification_category_id, typ_notification_priority_id, notification_workflow_id, notification_rule_id, notification_status, business_id, payload, recipients, channels, overrides, tags, transaction_id, scheduled_for, processed_at, retracted_at, retraction_reason, error_details, workflow_version, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (3, 'n 1a614ae6f8c44a53b33d3992d6ed4010', NULL, 'PUBLISH', false, NULL, NULL, 2, NULL, 'FAILED', NULL, '{"title": "Lift", "message": "stands still"}', '{9e144476-2802-4d7f-a9ca-29cfe81a0c93,985b9647-18a3-4444-8e0f-0342d989e069}', '{IN_APP}', NULL, NULL, 'n1-7fd1d601096769e1970c4ce3ec694741', NULL, '2026-11-28 10:59:32.920361+00', NULL, NULL, '{"error": "HTTP 500: Internal server error, contact support and provide them with the errorId", "outcome": "PARTIAL", "results": [{"error": "HTTP 500: Internal server error, contact support and provide them with the errorId", "outcome": "unknown", "success": false, "recipientId": "9e144476-2802-4d7f-a9ca-29cfe81a0c93"}, {"success": true, "recipientId": "985b9647-18a3-4444-8e0f-0342d989e069", "transactionId": "n1-7fd1d601096769e1970c4ce3ec694741"}], "attempts": 1, "timestamp": "2026-11-28T10:59:32.920377+00:00", "generation": 1, "dead_letter": false, "successCount": 1, "totalRecipients": 2, "novu_transaction_ids": ["n1-7fd1d601096769e1970c4ce3ec694741"]}', 1, NULL, '2026-11-28 10:59:24.487447+00', NULL, '2026-11-28 10:59:32.920386+00', NULL);
INSERT INTO notify.ent_notification (id, name, description, publish_status, deactivated, typ_notification_category_id, typ_notification_priority_id, notification_workflow_id, notification_rule_id, notification_status, business_id, payload, recipients, channels, overrides, tags, transaction_id, scheduled_for, processed_at, retracted_at, retraction_reason, error_details, workflow_version, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (7, 'n 9bcb3a4ec9b049e2bd75d0c22cd40471', NULL, 'PUBLISH', false, NULL, NULL, 2, NULL, 'PROCESSING', NULL, '{"title": "Lift", "message": "stands still"}', '{f3f7ccb9-3667-4831-975a-78fbeb418f01}', '{IN_APP}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, NULL, '2026-11-28 10:59:33.01522+00', NULL, '2026-11-28 10:59:33.017096+00', NULL);
INSERT INTO notify.ent_notification (id, name, description, publish_status, deactivated, typ_notification_category_id, typ_notification_priority_id, notification_workflow_id, notification_rule_id, notification_status, business_id, payload, recipients, channels, overrides, tags, transaction_id, scheduled_for, processed_at, retracted_at, retraction_reason, error_details, workflow_version, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (8, 'n 1939f82b4382459aa61d05d2020ec880', NULL, 'PUBLISH', false, NULL, NULL, 2, NULL, 'PENDING', NULL, '{"title": "Lift", "message": "stands still"}', '{8714602e-1b89-48b0-95cd-b7a5a9c86a6c,17db54f3-0e16-4929-b5cf-f73c24404d4a,341d9ffe-e929-4b87-b5c1-1ad3a2377273}', '{IN_APP}', NULL, NULL, NULL, '2999-01-01 00:00:00+00', NULL, NULL, NULL, NULL, 1, NULL, '2026-11-28 10:59:33.121151+00', NULL, '2026-11-28 10:59:33.121151+00', NULL);
INSERT INTO notify.ent_notification (id, name, description, publish_status, deactivated, typ_notification_category_id, typ_notification_priority_id, notification_workflow_id, notification_rule_id, notification_status, business_id, payload, recipients, channels, overrides, tags, transaction_id, scheduled_for, processed_at, retracted_at, retraction_reason, error_details, workflow_version, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (6, 'n db1fca8cbb1c4e2181bfe44a905c4c76', NULL, 'PUBLISH', false, NULL, NULL, 2, NULL, 'RETRACTED', NULL, '{"title": "Lift", "message": "stands still"}', '{10c8b769-9173-490e-9cdc-700ae424d5e7}', '{IN_APP}', NULL, NULL, 'n1-213539fc6738fa1c86358c68c41bfa8b', NULL, '2026-11-28 10:59:24.732294+00', NULL, NULL, '{"outcome": "SENT", "results": [{"success": true, "recipientId": "10c8b769-9173-490e-9cdc-700ae424d5e7", "transactionId": "n1-213539fc6738fa1c86358c68c41bfa8b"}], "attempts": 1, "timestamp": "2026-11-28T10:59:24.732302+00:00", "generation": 1, "successCount": 1, "totalRecipients": 1, "novu_transaction_ids": ["n1-213539fc6738fa1c86358c68c41bfa8b"]}', 1, NULL, '2026-11-28 10:59:24.504451+00', NULL, '2026-11-28 10:59:24.732312+00', NULL);
INSERT INTO notify.ent_notification (id, name, description, publish_status, deactivated, typ_notification_category_id, typ_notification_priority_id, notification_workflow_id, notification_rule_id, notification_status, business_id, payload, recipients, channels, overrides, tags, transaction_id, scheduled_for, processed_at, retracted_at, retraction_reason, error_details, workflow_version, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (1, 'n 575e604d753d48f892993d27f734824b', NULL, 'PUBLISH', false, NULL, NULL, 2, NULL, 'PENDING', NULL, '{"title": "Lift", "message": "stands still"}', '{e05afe66-44dd-4f42-8d5d-9602409dfa92}', '{IN_APP}', NULL, NULL, 'n1-da68c7f5b1590d712e3fd8dac265bd82', NULL, '2026-11-28 10:59:24.706734+00', NULL, NULL, '{"outcome": "SENT", "results": [{"success": true, "recipientId": "e05afe66-44dd-4f42-8d5d-9602409dfa92", "transactionId": "n1-da68c7f5b1590d712e3fd8dac265bd82"}], "attempts": 1, "timestamp": "2026-11-28T10:59:24.706759+00:00", "generation": 1, "successCount": 1, "totalRecipients": 1, "novu_transaction_ids": ["n1-da68c7f5b1590d712e3fd8dac265bd82"]}', 1, NULL, '2026-11-28 10:59:24.474513+00', NULL, '2026-11-28 10:59:24.70677+00', NULL);
INSERT INTO notify.ent_notification (id, name, description, publish_status, deactivated, typ_notification_category_id, typ_notification_priority_id, notification_workflow_id, notification_rule_id, notification_status, business_id, payload, recipients, channels, overrides, tags, transaction_id, scheduled_for, processed_at, retracted_at, retraction_reason, error_details, workflow_version, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (9, 'n 73adcac56c7f48268b3d79af7e0064b9', NULL, 'PUBLISH', false, NULL, NULL, 2, NULL, 'PENDING', NULL, '{"title": "Lift", "message": "stands still"}', '{85e6a81c-aadb-40b5-a8c7-f1faea8b8034}', '{IN_APP}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, NULL, '2026-11-28 10:59:33.165793+00', NULL, '2026-11-28 10:59:33.165793+00', NULL);


--
-- Data for Name: ent_notification_rule; Type: TABLE DATA; Schema: notify; Owner: -
--



--
-- Data for Name: ent_notification_template; Type: TABLE DATA; Schema: notify; Owner: -
--



--
-- Data for Name: ent_notification_workflow; Type: TABLE DATA; Schema: notify; Owner: -
--

INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (1, 'Default e-mail', NULL, 'PUBLISH', false, 1, 'STATIC', 'default-email', '{EMAIL}', '{"type": "object", "required": ["subject", "title", "message"], "properties": {"title": {"type": "string"}, "message": {"type": "string"}, "subject": {"type": "string"}}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (2, 'Default in-app', NULL, 'PUBLISH', false, 1, 'STATIC', 'default-in-app', '{IN_APP}', '{"type": "object", "required": ["title", "message"], "properties": {"title": {"type": "string"}, "message": {"type": "string"}}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (3, 'Default SMS', NULL, 'PUBLISH', false, 1, 'STATIC', 'default-sms', '{SMS}', '{"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (4, 'Default push', NULL, 'PUBLISH', false, 1, 'STATIC', 'default-push', '{PUSH}', '{"type": "object", "required": ["title", "message"], "properties": {"title": {"type": "string"}, "message": {"type": "string"}}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (5, 'Default chat', NULL, 'PUBLISH', false, 1, 'STATIC', 'default-chat', '{CHAT}', '{"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (6, 'Default multi-channel', NULL, 'PUBLISH', false, 1, 'STATIC', 'default-multi-channel', '{EMAIL,IN_APP,SMS,PUSH,CHAT}', '{"type": "object", "required": ["title", "message"], "properties": {"title": {"type": "string"}, "message": {"type": "string"}}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (7, 'Default dynamic multi-channel', NULL, 'PUBLISH', false, 1, 'DYNAMIC', 'default-dynamic-multi', '{EMAIL,IN_APP,SMS,PUSH,CHAT}', '{"type": "object", "required": [], "properties": {}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (8, 'Fire emergency', NULL, 'PUBLISH', false, 3, 'STATIC', 'default-fire-emergency', '{SMS,PUSH,EMAIL,IN_APP,CHAT}', '{"type": "object", "required": ["emergencyType", "severity", "buildingName", "locationDescription", "recipientRole", "alertMessage", "evacuationInstructions", "assemblyPoint", "emergencyContactName", "emergencyContactPhone", "detectedAt", "alertId"], "properties": {"alertId": {"type": "string"}, "severity": {"type": "string"}, "detectedAt": {"type": "string"}, "alertMessage": {"type": "string"}, "buildingName": {"type": "string"}, "assemblyPoint": {"type": "string"}, "emergencyType": {"type": "string"}, "recipientRole": {"type": "string"}, "locationDescription": {"type": "string"}, "emergencyContactName": {"type": "string"}, "emergencyContactPhone": {"type": "string"}, "evacuationInstructions": {"type": "string"}}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (9, 'Fire drill', NULL, 'PUBLISH', false, 3, 'STATIC', 'default-fire-drill', '{EMAIL,IN_APP,SMS,PUSH,CHAT}', '{"type": "object", "required": [], "properties": {}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (10, 'Fire inspection', NULL, 'PUBLISH', false, 3, 'STATIC', 'default-fire-inspection', '{EMAIL,IN_APP,SMS,PUSH,CHAT}', '{"type": "object", "required": [], "properties": {}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (11, 'Fire maintenance', NULL, 'PUBLISH', false, 3, 'STATIC', 'default-fire-maintenance', '{EMAIL,IN_APP,SMS,PUSH}', '{"type": "object", "required": [], "properties": {}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (12, 'Fire training', NULL, 'PUBLISH', false, 3, 'STATIC', 'default-fire-training', '{EMAIL,IN_APP,PUSH}', '{"type": "object", "required": [], "properties": {}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (13, 'Fire assessment', NULL, 'PUBLISH', false, 3, 'STATIC', 'default-fire-assessment', '{EMAIL,IN_APP}', '{"type": "object", "required": [], "properties": {}}', NULL, NULL, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.ent_notification_workflow (id, name, description, publish_status, deactivated, typ_notification_category_id, workflow_type, workflow_key, default_channels, payload_schema, control_schema, template_overrides, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (17, 'no-such-workflow ed0153', NULL, 'PUBLISH', false, NULL, 'STATIC', 'no-such-workflow', '{IN_APP}', NULL, NULL, NULL, NULL, NULL, '2026-11-28 10:59:24.488129+00', NULL, '2026-11-28 10:59:24.488129+00', NULL);


--
-- Data for Name: typ_notification_category; Type: TABLE DATA; Schema: notify; Owner: -
--

INSERT INTO notify.typ_notification_category (id, name, description, publish_status, deactivated, code, path, sort_order, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (1, 'General', NULL, 'PUBLISH', false, 'general', 'general', 10, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.typ_notification_category (id, name, description, publish_status, deactivated, code, path, sort_order, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (2, 'Building', NULL, 'PUBLISH', false, 'building', 'building', 20, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.typ_notification_category (id, name, description, publish_status, deactivated, code, path, sort_order, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (3, 'Fire safety', NULL, 'PUBLISH', false, 'fire-safety', 'building.fire', 30, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.typ_notification_category (id, name, description, publish_status, deactivated, code, path, sort_order, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (4, 'Account', NULL, 'PUBLISH', false, 'account', 'account', 40, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);


--
-- Data for Name: typ_notification_priority; Type: TABLE DATA; Schema: notify; Owner: -
--

INSERT INTO notify.typ_notification_priority (id, name, description, publish_status, deactivated, code, sort_order, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (1, 'Low', NULL, 'PUBLISH', false, 'low', 10, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.typ_notification_priority (id, name, description, publish_status, deactivated, code, sort_order, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (2, 'Medium', NULL, 'PUBLISH', false, 'medium', 20, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.typ_notification_priority (id, name, description, publish_status, deactivated, code, sort_order, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (3, 'High', NULL, 'PUBLISH', false, 'high', 30, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);
INSERT INTO notify.typ_notification_priority (id, name, description, publish_status, deactivated, code, sort_order, business_id, enterprise_id, created_at, created_by, updated_at, updated_by) OVERRIDING SYSTEM VALUE VALUES (4, 'Critical', NULL, 'PUBLISH', false, 'critical', 40, NULL, NULL, '2026-11-28 10:59:18.350384+00', NULL, '2026-11-28 10:59:18.350384+00', NULL);


--
-- Name: action_id_seq; Type: SEQUENCE SET; Schema: dispatcher; Owner: -
--

SELECT pg_catalog.setval('dispatcher.action_id_seq', 1, false);


--
-- Name: ent_notification_id_seq; Type: SEQUENCE SET; Schema: notify; Owner: -
--

SELECT pg_catalog.setval('notify.ent_notification_id_seq', 9, true);


--
-- Name: ent_notification_rule_id_seq; Type: SEQUENCE SET; Schema: notify; Owner: -
--

SELECT pg_catalog.setval('notify.ent_notification_rule_id_seq', 1, false);


--
-- Name: ent_notification_template_id_seq; Type: SEQUENCE SET; Schema: notify; Owner: -
--

SELECT pg_catalog.setval('notify.ent_notification_template_id_seq', 1, false);


--
-- Name: ent_notification_workflow_id_seq; Type: SEQUENCE SET; Schema: notify; Owner: -
--

SELECT pg_catalog.setval('notify.ent_notification_workflow_id_seq', 22, true);


--
-- Name: typ_notification_category_id_seq; Type: SEQUENCE SET; Schema: notify; Owner: -
--

SELECT pg_catalog.setval('notify.typ_notification_category_id_seq', 4, true);


--
-- Name: typ_notification_priority_id_seq; Type: SEQUENCE SET; Schema: notify; Owner: -
--

SELECT pg_catalog.setval('notify.typ_notification_priority_id_seq', 4, true);


--
-- Name: action action_pkey; Type: CONSTRAINT; Schema: dispatcher; Owner: -
--

ALTER TABLE ONLY dispatcher.action
    ADD CONSTRAINT action_pkey PRIMARY KEY (id);


--
-- Name: delivery delivery_pkey; Type: CONSTRAINT; Schema: dispatcher; Owner: -
--

ALTER TABLE ONLY dispatcher.delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY (notification_id);


--
-- Name: installation installation_pkey; Type: CONSTRAINT; Schema: dispatcher; Owner: -
--

ALTER TABLE ONLY dispatcher.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);


--
-- Name: migration migration_pkey; Type: CONSTRAINT; Schema: dispatcher; Owner: -
--

ALTER TABLE ONLY dispatcher.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (name);


--
-- Name: node node_pkey; Type: CONSTRAINT; Schema: dispatcher; Owner: -
--

ALTER TABLE ONLY dispatcher.node
    ADD CONSTRAINT node_pkey PRIMARY KEY (id);


--
-- Name: recipient recipient_pkey; Type: CONSTRAINT; Schema: dispatcher; Owner: -
--

ALTER TABLE ONLY dispatcher.recipient
    ADD CONSTRAINT recipient_pkey PRIMARY KEY (notification_id, generation, recipient);


--
-- Name: ent_notification ent_notification_pkey; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification
    ADD CONSTRAINT ent_notification_pkey PRIMARY KEY (id);


--
-- Name: ent_notification_rule ent_notification_rule_pkey; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_rule
    ADD CONSTRAINT ent_notification_rule_pkey PRIMARY KEY (id);


--
-- Name: ent_notification_template ent_notification_template_pkey; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_template
    ADD CONSTRAINT ent_notification_template_pkey PRIMARY KEY (id);


--
-- Name: ent_notification_template ent_notification_template_template_key_key; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_template
    ADD CONSTRAINT ent_notification_template_template_key_key UNIQUE (template_key);


--
-- Name: ent_notification_workflow ent_notification_workflow_pkey; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_workflow
    ADD CONSTRAINT ent_notification_workflow_pkey PRIMARY KEY (id);


--
-- Name: ent_notification_workflow ent_notification_workflow_workflow_key_key; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_workflow
    ADD CONSTRAINT ent_notification_workflow_workflow_key_key UNIQUE (workflow_key);


--
-- Name: typ_notification_category typ_notification_category_code_key; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.typ_notification_category
    ADD CONSTRAINT typ_notification_category_code_key UNIQUE (code);


--
-- Name: typ_notification_category typ_notification_category_pkey; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.typ_notification_category
    ADD CONSTRAINT typ_notification_category_pkey PRIMARY KEY (id);


--
-- Name: typ_notification_priority typ_notification_priority_code_key; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.typ_notification_priority
    ADD CONSTRAINT typ_notification_priority_code_key UNIQUE (code);


--
-- Name: typ_notification_priority typ_notification_priority_pkey; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.typ_notification_priority
    ADD CONSTRAINT typ_notification_priority_pkey PRIMARY KEY (id);


--
-- Name: ent_notification uq_ent_notification_name_enterprise; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification
    ADD CONSTRAINT uq_ent_notification_name_enterprise UNIQUE (name, enterprise_id);


--
-- Name: ent_notification_rule uq_ent_notification_rule_name_enterprise; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_rule
    ADD CONSTRAINT uq_ent_notification_rule_name_enterprise UNIQUE (name, enterprise_id);


--
-- Name: ent_notification_template uq_ent_notification_template_name_enterprise_category; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_template
    ADD CONSTRAINT uq_ent_notification_template_name_enterprise_category UNIQUE (name, enterprise_id, typ_notification_category_id);


--
-- Name: ent_notification_workflow uq_ent_notification_workflow_name_enterprise; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_workflow
    ADD CONSTRAINT uq_ent_notification_workflow_name_enterprise UNIQUE (name, enterprise_id);


--
-- Name: typ_notification_category uq_typ_notification_category_name_enterprise; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.typ_notification_category
    ADD CONSTRAINT uq_typ_notification_category_name_enterprise UNIQUE (name, enterprise_id);


--
-- Name: typ_notification_priority uq_typ_notification_priority_name_enterprise; Type: CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.typ_notification_priority
    ADD CONSTRAINT uq_typ_notification_priority_name_enterprise UNIQUE (name, enterprise_id);


--
-- Name: delivery_dead_letter; Type: INDEX; Schema: dispatcher; Owner: -
--

CREATE INDEX delivery_dead_letter ON dispatcher.delivery USING btree (notification_id) WHERE (dead_lettered_at IS NOT NULL);


--
-- Name: delivery_lease; Type: INDEX; Schema: dispatcher; Owner: -
--

CREATE INDEX delivery_lease ON dispatcher.delivery USING btree (lease_owner, lease_until) WHERE (lease_until IS NOT NULL);


--
-- Name: delivery_retry; Type: INDEX; Schema: dispatcher; Owner: -
--

CREATE INDEX delivery_retry ON dispatcher.delivery USING btree (next_attempt_at) WHERE (next_attempt_at IS NOT NULL);


--
-- Name: delivery_retry_batch; Type: INDEX; Schema: dispatcher; Owner: -
--

CREATE INDEX delivery_retry_batch ON dispatcher.delivery USING btree (batch) WHERE ((next_attempt_at IS NOT NULL) AND (batch IS NOT NULL));


--
-- Name: recipient_cancel; Type: INDEX; Schema: dispatcher; Owner: -
--

CREATE INDEX recipient_cancel ON dispatcher.recipient USING btree (cancel_at) WHERE (cancel_at IS NOT NULL);


--
-- Name: ent_notification_dispatcher_immediate; Type: INDEX; Schema: notify; Owner: -
--

CREATE INDEX ent_notification_dispatcher_immediate ON notify.ent_notification USING btree (COALESCE((enterprise_id)::text, ''::text) COLLATE "C", id) WHERE ((notification_status = 'PENDING'::shared_types.notification_status) AND (publish_status = 'PUBLISH'::shared_types.publish_status) AND (NOT deactivated) AND (scheduled_for IS NULL));


--
-- Name: ent_notification_dispatcher_processing; Type: INDEX; Schema: notify; Owner: -
--

CREATE INDEX ent_notification_dispatcher_processing ON notify.ent_notification USING btree (id) WHERE (notification_status = 'PROCESSING'::shared_types.notification_status);


--
-- Name: ent_notification_dispatcher_retracted; Type: INDEX; Schema: notify; Owner: -
--

CREATE INDEX ent_notification_dispatcher_retracted ON notify.ent_notification USING btree (id) WHERE ((notification_status = 'RETRACTED'::shared_types.notification_status) AND ((error_details -> 'retraction'::text) IS NULL));


--
-- Name: ent_notification_dispatcher_scheduled; Type: INDEX; Schema: notify; Owner: -
--

CREATE INDEX ent_notification_dispatcher_scheduled ON notify.ent_notification USING btree (scheduled_for, id) WHERE ((notification_status = 'PENDING'::shared_types.notification_status) AND (publish_status = 'PUBLISH'::shared_types.publish_status) AND (NOT deactivated) AND (scheduled_for IS NOT NULL));


--
-- Name: idx_ent_notification_created_at; Type: INDEX; Schema: notify; Owner: -
--

CREATE INDEX idx_ent_notification_created_at ON notify.ent_notification USING btree (created_at DESC);


--
-- Name: ent_notification dispatcher_insert; Type: TRIGGER; Schema: notify; Owner: -
--

CREATE TRIGGER dispatcher_insert AFTER INSERT ON notify.ent_notification REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION dispatcher.ring_v1();


--
-- Name: ent_notification dispatcher_update; Type: TRIGGER; Schema: notify; Owner: -
--

CREATE TRIGGER dispatcher_update AFTER UPDATE ON notify.ent_notification FOR EACH ROW WHEN (((new.notification_status = 'PENDING'::shared_types.notification_status) AND (new.publish_status = 'PUBLISH'::shared_types.publish_status) AND (NOT new.deactivated) AND ((new.scheduled_for IS NULL) OR (new.scheduled_for < 'infinity'::timestamp with time zone)) AND ((((old.notification_status = 'PENDING'::shared_types.notification_status) AND (old.publish_status = 'PUBLISH'::shared_types.publish_status) AND (NOT old.deactivated)) IS NOT TRUE) OR (old.scheduled_for IS DISTINCT FROM new.scheduled_for)))) EXECUTE FUNCTION dispatcher.ring_v1();


--
-- Name: ent_notification ent_notification_notification_rule_id_fkey; Type: FK CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification
    ADD CONSTRAINT ent_notification_notification_rule_id_fkey FOREIGN KEY (notification_rule_id) REFERENCES notify.ent_notification_rule(id) ON DELETE SET NULL;


--
-- Name: ent_notification ent_notification_notification_workflow_id_fkey; Type: FK CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification
    ADD CONSTRAINT ent_notification_notification_workflow_id_fkey FOREIGN KEY (notification_workflow_id) REFERENCES notify.ent_notification_workflow(id) ON DELETE SET NULL;


--
-- Name: ent_notification_rule ent_notification_rule_notification_workflow_id_fkey; Type: FK CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_rule
    ADD CONSTRAINT ent_notification_rule_notification_workflow_id_fkey FOREIGN KEY (notification_workflow_id) REFERENCES notify.ent_notification_workflow(id) ON DELETE CASCADE;


--
-- Name: ent_notification_template ent_notification_template_typ_notification_category_id_fkey; Type: FK CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_template
    ADD CONSTRAINT ent_notification_template_typ_notification_category_id_fkey FOREIGN KEY (typ_notification_category_id) REFERENCES notify.typ_notification_category(id) ON DELETE SET NULL;


--
-- Name: ent_notification ent_notification_typ_notification_category_id_fkey; Type: FK CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification
    ADD CONSTRAINT ent_notification_typ_notification_category_id_fkey FOREIGN KEY (typ_notification_category_id) REFERENCES notify.typ_notification_category(id) ON DELETE SET NULL;


--
-- Name: ent_notification ent_notification_typ_notification_priority_id_fkey; Type: FK CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification
    ADD CONSTRAINT ent_notification_typ_notification_priority_id_fkey FOREIGN KEY (typ_notification_priority_id) REFERENCES notify.typ_notification_priority(id) ON DELETE SET NULL;


--
-- Name: ent_notification_workflow ent_notification_workflow_typ_notification_category_id_fkey; Type: FK CONSTRAINT; Schema: notify; Owner: -
--

ALTER TABLE ONLY notify.ent_notification_workflow
    ADD CONSTRAINT ent_notification_workflow_typ_notification_category_id_fkey FOREIGN KEY (typ_notification_category_id) REFERENCES notify.typ_notification_category(id) ON DELETE SET NULL;


--
-- PostgreSQL database dump complete
--


