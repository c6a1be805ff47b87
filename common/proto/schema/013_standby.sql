-- A workspace's sandbox that is ordered before any process: when, until when it is wanted without one, and since when its
-- node has it ready, with its files in it. Null: it was made for a process, or by the release before.

alter table sandboxes add column standby_at timestamptz;
alter table sandboxes add column ready_at timestamptz;
alter table sandboxes add column idle_ms bigint;
alter table sandboxes add column max_ms bigint;
create index sandboxes_standby on sandboxes (owner) where standby_at is not null and ended_at is null;
