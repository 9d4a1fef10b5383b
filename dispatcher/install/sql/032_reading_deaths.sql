-- reading_since: a try began to read the row, and has neither recorded a call since nor ended. Null: none has.
-- reading_deaths: tries one after the other that read this row alone, and whose process died of it. Null: none.
alter table dispatcher.delivery add column if not exists reading_since timestamptz;
alter table dispatcher.delivery add column if not exists reading_deaths integer;
