-- Large contents stand in the blob store, under the name that their digest has here. Who writes one says so first (seen_at), then
-- stores it, then refers to it; what nobody refers to, and nobody wrote lately, loses its row, its object is garbage, and is
-- removed later on: a new content with that digest gets an object with another name. A reference is a foreign key, so
-- whichever comes first, a reference or the removal, the other one fails.
-- Gateways of the release before see such files as empty: give the new ones a blob store when all of them are new.

create table blobs (
    digest text primary key check (digest ~ '^[0-9a-f]{64}$'),  -- hex SHA-256 of the content
    name text not null unique,                                  -- of the object
    size bigint not null,
    stored boolean not null default false,                      -- the object is there: somebody has referred to it
    seen_at timestamptz not null default now()
);
create table blob_garbage (name text primary key, due_at timestamptz not null);
create index blob_garbage_due on blob_garbage (due_at);

alter table files add column blob text references blobs;
create index files_of_blob on files (blob) where blob is not null;

-- A file of which only size and etag are written has its content in the blob store; so copies, also those that the release before makes, share it.
create function devbox_file_blob() returns trigger language plpgsql as $$
begin
    new.blob := case when new.type = 'file' and new.size > 0 and length(new.content) = 0 then new.etag end;
    if new.blob is not null then
        update blobs set stored = true where digest = new.blob and not stored;
    end if;
    return new;
end $$;
create trigger file_blob before insert or update of type, content, size, etag on files for each row execute function devbox_file_blob();

-- Bytes of files count for the owner of their workspace, whoever writes them.
alter table users
    add column max_bytes bigint check (max_bytes >= 0), -- null: what user_max_bytes says
    add column bytes_used bigint not null default 0;

create function user_max_bytes(usr uuid) returns bigint language sql stable as $$
    select case when u.role = 'admin' then 9007199254740991
        else coalesce(u.max_bytes, case when u.guest then 268435456 else 10737418240 end) end
    from users u where u.id = usr
$$;
-- Whether so many bytes more in a workspace would be too many. Who asks holds the lock of the owner's row.
create function owner_full(ws uuid, more bigint) returns boolean language sql stable as $$
    select more > 0 and u.bytes_used + more > user_max_bytes(u.id)
    from workspaces w join users u on u.id = w.owner where w.id = ws
$$;

create function devbox_count_bytes() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        update users u set bytes_used = u.bytes_used + d.n from (select w.owner, sum(a.size) as n from added a
            join workspaces w on w.id = a.workspace_id group by w.owner having sum(a.size) <> 0) d where u.id = d.owner;
    elsif tg_op = 'DELETE' then
        update users u set bytes_used = u.bytes_used - d.n from (select w.owner, sum(r.size) as n from removed r
            join workspaces w on w.id = r.workspace_id group by w.owner having sum(r.size) <> 0) d where u.id = d.owner;
    else
        update users u set bytes_used = u.bytes_used + d.n from (select w.owner, sum(c.n) as n from
            (select workspace_id, size as n from added union all select workspace_id, -size from removed) c
            join workspaces w on w.id = c.workspace_id group by w.owner having sum(c.n) <> 0) d where u.id = d.owner;
    end if;
    return null;
end $$;
create trigger count_bytes_in after insert on files referencing new table as added
    for each statement execute function devbox_count_bytes();
create trigger count_bytes_changed after update on files referencing old table as removed new table as added
    for each statement execute function devbox_count_bytes();
create trigger count_bytes_out after delete on files referencing old table as removed
    for each statement execute function devbox_count_bytes();

-- A workspace's files go after it, when nobody can say any more whose they were.
create function devbox_count_workspace() returns trigger language plpgsql as $$
begin
    update users set bytes_used = bytes_used - coalesce((select sum(size) from files where workspace_id = old.id), 0)
        where id = old.owner;
    return old;
end $$;
create trigger count_workspace before delete on workspaces for each row execute function devbox_count_workspace();

update users u set bytes_used = d.n from (select w.owner, sum(f.size) as n from files f join workspaces w on w.id = f.workspace_id
    group by w.owner) d where u.id = d.owner;

-- As in 005, and the quota of bytes holds for what programs write.
create or replace function devbox_files_of_sandbox(box uuid, node text, paths text[], kinds text[], contents bytea[], bases text[], sizes bigint[])
returns table (before bigint, after bigint) language plpgsql as $$
declare
    ws workspaces%rowtype;
    f files%rowtype;
    there boolean;
    tag text;
    why text;
begin
    select w.* into ws from workspaces w join sandboxes s on s.id = w.sandbox_id
        where s.id = box and s.node_id = node and s.ended_at is null for update of w;
    if not found then
        return;
    end if;
    perform 1 from users where id = ws.owner for no key update;
    update workspaces set revision = revision + 1, updated_at = now() where id = ws.id;
    for i in 1 .. coalesce(array_length(paths, 1), 0) loop
        select * into f from files where workspace_id = ws.id and path = paths[i];
        there := found;
        why := case kinds[i] when 'skipped' then 'too large' end;
        if kinds[i] = 'gone' then
            delete from files d where there and d.id = f.id and (
                (f.type = 'file' and f.etag = bases[i])
                or (f.type = 'directory' and not exists (select 1 from files c where c.workspace_id = ws.id and starts_with(c.path, f.path || '/'))));
            continue;
        end if;
        if why is null and there and f.type <> (case kinds[i] when 'folder' then 'directory' else 'file' end) then
            if (f.type = 'file' and f.etag = bases[i])
                or (f.type = 'directory' and not exists (select 1 from files c where c.workspace_id = ws.id and starts_with(c.path, f.path || '/'))) then
                delete from files where id = f.id;
                there := false;
            else
                why := 'something else is there';
            end if;
        end if;
        if why is null and not there and (select count(*) from files where workspace_id = ws.id) >= 1000 then
            why := 'too many files';
        end if;
        if why is null and kinds[i] = 'file' and (select coalesce(sum(files.size), 0) from files where workspace_id = ws.id)
            - (case when there then f.size else 0 end) + length(contents[i]) > 33554432 then
            why := 'too many bytes';
        end if;
        if why is null and kinds[i] = 'file' and owner_full(ws.id, length(contents[i]) - case when there then f.size else 0 end) then
            why := 'the quota of bytes is used up';
        end if;
        if why is null and exists (select 1 from files p where p.workspace_id = ws.id and p.type = 'file' and starts_with(paths[i], p.path || '/')) then
            why := 'a part of its path is a file';
        end if;
        if why is not null then
            insert into file_events (workspace_id, revision, op, path, type, size, detail)
                values (ws.id, ws.revision + 1, 'skipped', paths[i], 'file', sizes[i], why);
            perform pg_notify('devbox_files', ws.id::text);
            continue;
        end if;
        if not there then
            insert into files (id, workspace_id, path, type)
                select gen_random_uuid(), ws.id, array_to_string((string_to_array(paths[i], '/'))[1:n], '/'), 'directory'
                from generate_series(1, array_length(string_to_array(paths[i], '/'), 1) - 1) n
                on conflict (workspace_id, path) do nothing;
        end if;
        if kinds[i] = 'folder' then
            insert into files (id, workspace_id, path, type) values (gen_random_uuid(), ws.id, paths[i], 'directory')
                on conflict (workspace_id, path) do nothing;
            continue;
        end if;
        tag := encode(sha256(contents[i]), 'hex');
        if there and f.etag = tag then
            continue;
        elsif there then
            if f.etag <> bases[i] then
                insert into files (id, workspace_id, path, type, content, size, etag)
                    values (gen_random_uuid(), ws.id, f.path || '.conflict-' || left(f.etag, 8), 'file', f.content, f.size, f.etag)
                    on conflict (workspace_id, path) do nothing;
            end if;
            update files set content = contents[i], size = length(contents[i]), etag = tag, updated_at = now() where id = f.id;
        else
            insert into files (id, workspace_id, path, type, content, size, etag)
                values (gen_random_uuid(), ws.id, paths[i], 'file', contents[i], length(contents[i]), tag);
        end if;
    end loop;
    return query select ws.revision, ws.revision + 1;
end $$;
