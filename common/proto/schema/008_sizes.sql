-- Which sizes of sandboxes a node has (common/proto/sizes.c), and why a sandbox has ended: idle, max_age, requested,
-- lost, failed, node_lost, drained. Null: nobody said.

alter table nodes add column sizes text[] not null default '{cpu-small}';
alter table sandboxes add column end_reason text;
