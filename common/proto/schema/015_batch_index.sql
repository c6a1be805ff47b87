-- One index by batch, in place of two. Where there was one without batch_seq as well, the planner, who remembers a table in which
-- nothing had ended, took that, and read all of a batch for each page of its results.

drop index processes_by_batch;
drop index processes_of_batch;
create unique index processes_of_batch on processes (batch_id, batch_seq) where batch_id is not null;
