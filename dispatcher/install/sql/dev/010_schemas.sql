-- XNovu's schema for local use, in an empty database. The host platform owns these schemas elsewhere.
create schema if not exists notify;
create schema if not exists shared_types;
create schema if not exists func;
create schema if not exists auth;
create schema if not exists extensions;
