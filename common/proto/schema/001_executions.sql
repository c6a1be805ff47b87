-- What a run consists of: people and keys (few columns yet), nodes, sandboxes, processes.
-- A terminal status is written once: every update that ends a process says "where status in ('pending', 'running')".

create table users (
    id uuid primary key,
    email text unique,
    role text not null default 'user' check (role in ('user', 'admin')),
    created_at timestamptz not null default now()
);

create table api_keys (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    hash bytea not null unique, -- SHA-256 of the key; the key itself is nowhere
    label text not null default '',
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

-- One row: the number of the scheduler leader that may write. Taken by incrementing it while holding the advisory lock.
create table scheduler_epoch (
    one boolean primary key default true check (one),
    epoch bigint not null
);
insert into scheduler_epoch (epoch) values (0);

create table nodes (
    id text primary key,
    url text not null,          -- where gateways reach the node's shim
    version text not null,
    state text not null check (state in ('ready', 'draining', 'lost')),
    last_seen timestamptz not null default now()
);

create table sandboxes (
    id uuid primary key,
    owner uuid not null references users on delete cascade,
    template text not null,
    kind text not null check (kind in ('run', 'workspace')),
    node_id text,
    created_at timestamptz not null default now(),
    ended_at timestamptz
);

create table processes (
    id uuid primary key,
    sandbox_id uuid not null references sandboxes on delete cascade,
    execution_id uuid unique,   -- null for a process in a workspace
    owner uuid not null references users on delete cascade,
    status text not null default 'pending' check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')),
    verdict text,
    outcome text,               -- JSON of the END record (record.h): compile, run, hashes
    retry text not null default 'never' check (retry in ('never', 'safe')),
    attempt integer not null default 0, -- how often it was handed to a node
    node_id text,
    epoch bigint,               -- of the leader that placed it
    log_offset bigint not null, -- of its partition, at acceptance: no output of it stands before
    request text not null,      -- JSON (docs/protocols.md, "place")
    trace text not null default '', -- W3C traceparent
    created_at timestamptz not null default now(),
    placed_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz
);
create index processes_of_sandbox on processes (sandbox_id, created_at);
create index processes_open on processes (created_at) where status in ('pending', 'running');
create index processes_of_owner on processes (owner, created_at desc);

-- What a process starts with; deleted when it has ended.
create table process_inputs (
    process_id uuid primary key references processes on delete cascade,
    files bytea not null,       -- files.h
    stdin bytea not null
);
alter table process_inputs alter column files set storage external;

create table idempotency (
    owner uuid not null references users on delete cascade,
    key text not null,
    request_hash bytea not null,
    response text not null,
    status integer not null,
    created_at timestamptz not null default now(),
    primary key (owner, key)
);
create index idempotency_age on idempotency (created_at);
