-- Both are numbers of generations, so a mark ends with its generation, also if an earlier version begins the next one.
-- retracted_in: the generation that ended with a retraction.
-- status_put_back_in: the generation whose status was put back after another program had replaced it. Once is enough.
alter table dispatcher.delivery add column if not exists retracted_in integer;
alter table dispatcher.delivery add column if not exists status_put_back_in integer;
