-- Batches: many executions posted at once. The files that all of them start with stand once. What ended is numbered in the
-- order of ending, without a gap, by the transaction that writes the end: so a number is a place to go on reading from, and
-- the batch is over with the last of them.

create table batches (
    id uuid primary key,
    owner uuid not null references users on delete cascade,
    status text not null default 'running' check (status in ('running', 'completed', 'cancelled')),
    template text not null,
    isolation text not null check (isolation in ('execution', 'batch')),
    retry text not null check (retry in ('never', 'safe')),
    priority integer not null,
    max_parallel integer,       -- null: as many as there is room for
    deadline_at timestamptz,
    files bytea not null,       -- files.h; in front of each execution's own
    total integer not null,
    done integer not null default 0, -- the three below together: the number of the last end
    n_completed integer not null default 0,
    n_failed integer not null default 0,
    n_cancelled integer not null default 0,
    created_at timestamptz not null default now(),
    cancelled_at timestamptz,   -- asked for: what is left ends CANCELLED
    cancel_reason text,         -- 'request', 'deadline'
    ended_at timestamptz,
    webhook_url text,
    webhook_secret text
);
alter table batches alter column files set storage external;
create index batches_running on batches (created_at) where status = 'running';
create index batches_of_owner on batches (owner, created_at desc, id desc);

alter table processes
    add column batch_id uuid references batches on delete cascade,
    add column batch_index integer, -- from 0, as posted
    add column batch_seq integer,   -- from 1, as ended
    add column expect_sha bytea,    -- SHA-256 of the stdout that is expected
    add column passed boolean;      -- (where that is given) ended OK, and wrote just that
create unique index processes_of_batch on processes (batch_id, batch_seq) where batch_id is not null and batch_seq is not null;
create index processes_batch_pending on processes (batch_id, batch_index)
    where batch_id is not null and status = 'pending' and placed_at is null;
create index processes_batch_running on processes (batch_id) where batch_id is not null and status = 'running';
create index processes_waiting on processes (created_at, id) where batch_id is null and status = 'pending' and placed_at is null;
create index processes_open_alone on processes (owner) where batch_id is null and status in ('pending', 'running');
drop index processes_open_of_owner;

-- One a batch with a webhook, from its end on.
create table webhook_deliveries (
    batch_id uuid primary key references batches on delete cascade,
    status text not null default 'waiting' check (status in ('waiting', 'delivered', 'failed')),
    attempts integer not null default 0,
    next_at timestamptz not null default now(), -- (waiting) not before; pushed on by whoever tries
    answer integer,             -- the last one's status code
    error text,                 -- why the last one failed
    created_at timestamptz not null default now(),
    ended_at timestamptz
);
create index webhook_deliveries_waiting on webhook_deliveries (next_at) where status = 'waiting';

create or replace function user_full(usr uuid) returns boolean language sql stable as $$
    select case when q.n = 2147483647 then false else
        (select count(*) from (select 1 from processes where owner = usr and batch_id is null
            and status in ('pending', 'running') limit q.n) p) >= q.n end
    from (select user_quota(usr, 'running') as n) q
$$;

-- Whether a batch of `size` would be too much beside those that run.
create function batch_full(usr uuid, size integer) returns boolean language sql stable as $$
    select coalesce((select sum(total - done) from batches where owner = usr and status = 'running'), 0) + size
        > user_quota(usr, 'running')
$$;
