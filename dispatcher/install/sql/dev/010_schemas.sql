-- The schemas of XNovu, for local use. In production the host platform creates them.
create schema if not exists notify;
create schema if not exists shared_types;
create schema if not exists func;
create schema if not exists auth;
create schema if not exists extensions;
