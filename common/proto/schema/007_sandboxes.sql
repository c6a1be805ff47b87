-- A sandbox that somebody wants to end: what starts from then on gets another one, and its node is told until it is gone.

alter table sandboxes add column end_wanted_at timestamptz;
