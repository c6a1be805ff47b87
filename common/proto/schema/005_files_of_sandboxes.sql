-- What programs did to the files of a workspace, as its sandbox's node reports it. bases[i] is the etag that the sandbox knew
-- the file of record by ('': none). Both changed: the sandbox's, which comes last, wins, and the other stays beside it as
-- PATH.conflict-ETAG; who changed a file wins over who removed it. What cannot be a file of record is told by an event.
create function devbox_files_of_sandbox(box uuid, node text, paths text[], kinds text[], contents bytea[], bases text[], sizes bigint[])
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
