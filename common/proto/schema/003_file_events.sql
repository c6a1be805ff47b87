-- What happened to the files of workspaces, whoever did it: written by a trigger in the transaction of the change. Who
-- watches listens to the channel devbox_files (payload: the workspace's id) and reads what follows the last seq it saw; the
-- events of one workspace are ordered, for each change locks its row first. Old ones are removed: who is behind the oldest reads the tree.

create table file_events (
    seq bigint generated always as identity primary key,
    workspace_id uuid not null references workspaces on delete cascade,
    revision bigint not null,   -- of the workspace, with this change
    file_id uuid,               -- null for what never became a file of record
    op text not null check (op in ('created', 'changed', 'moved', 'deleted', 'skipped')),
    path text collate "C" not null,
    from_path text collate "C", -- of 'moved'
    type text not null check (type in ('file', 'directory')),
    size bigint not null default 0,
    etag text,
    detail text,                -- of 'skipped': why a file of the sandbox is not a file of record
    at timestamptz not null default now()
);
create index file_events_of_workspace on file_events (workspace_id, seq);
create index file_events_by_revision on file_events (workspace_id, revision);
create index file_events_age on file_events (at);

create function devbox_file_event() returns trigger language plpgsql as $$
declare
    f files%rowtype;
    what text;
    counted bigint;
begin
    f := case when tg_op = 'DELETE' then old else new end;
    select revision into counted from workspaces where id = f.workspace_id;
    if not found then
        return null; -- the workspace goes, with all that is its
    end if;
    what := case
        when tg_op = 'INSERT' then 'created'
        when tg_op = 'DELETE' then 'deleted'
        when new.path <> old.path then 'moved'
        when new.etag is distinct from old.etag or new.type <> old.type then 'changed'
    end;
    if what is null then
        return null;
    end if;
    insert into file_events (workspace_id, revision, file_id, op, path, from_path, type, size, etag)
        values (f.workspace_id, counted, f.id, what, f.path, case when what = 'moved' then old.path end, f.type, f.size, f.etag);
    perform pg_notify('devbox_files', f.workspace_id::text);
    return null;
end $$;
create trigger file_event after insert or update or delete on files for each row execute function devbox_file_event();

alter table sandboxes add column size text not null default 'cpu-small';
