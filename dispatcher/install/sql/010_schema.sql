-- Everything that is ours lives in this schema; the outbox itself gains only triggers and indexes.
create schema if not exists dispatcher;
