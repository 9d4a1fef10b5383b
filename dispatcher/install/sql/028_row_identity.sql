-- recipient_count: how many recipients of the generation are in dispatcher.recipient. A claim that begins a generation
-- writes 0, a run that acquires the row NULL (it adds recipients), the outcome the number. If another number of rows is
-- found, one of the two tables has lost rows. NULL also for heads that an earlier version wrote: nothing is compared.
alter table dispatcher.delivery add column if not exists recipient_count integer;
-- The generation with which this row of the outbox began: earlier ones are of a row that had the same id before. NULL:
-- an earlier version wrote the head, and the row's created_at tells.
alter table dispatcher.delivery add column if not exists first_generation integer;
