-- Workspaces: files of record, and the sandbox their programs run in (made with the first process, gone when it is
-- not used). All that changes a workspace's files locks its row first and counts its revision up.

create table workspaces (
    id uuid primary key,
    owner uuid not null references users on delete cascade,
    name text not null,
    template text not null,
    sharing_mode text not null default 'private' check (sharing_mode in ('private', 'view', 'edit')),
    sandbox_id uuid references sandboxes on delete set null, -- the current one, unless it has ended
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index workspaces_of_owner on workspaces (owner, created_at desc, id desc);
create index workspaces_of_sandbox on workspaces (sandbox_id);

create table files (
    id uuid primary key,
    workspace_id uuid not null references workspaces on delete cascade,
    path text collate "C" not null,
    type text not null check (type in ('file', 'directory')),
    content bytea not null default '',
    size bigint not null default 0,
    etag text,                  -- hex SHA-256 of the content; null for a directory
    updated_at timestamptz not null default now(),
    unique (workspace_id, path)
);
alter table files alter column content set storage external;

create index sandboxes_of_node on sandboxes (node_id) where ended_at is null and kind = 'workspace';
