/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of what concerns many files at once: fork, download, import. */
#include "gateway/contents.h"
#include "gateway/workspace_sql_int.h"
#include "gateway/workspaces_int.h"

/* clang-format off */
const struct dbx_pg_stmt gw_bulk_sql[] = {
    /* A workspace and its files, as they are together. */
    {"ws_whole",
     "select " ROLE_HERE " as role, f.id as f_id, f.path as f_path, f.type as f_type, f.size as f_size, "
     "f.etag as f_etag, " US("f.updated_at") " as f_us, " WORKSPACE
     "left join files f on f.workspace_id = w.id where w.id = $1::uuid and " ROLE_HERE " > 0 order by f.path"},
    {"ws_contents",
     "select w.name, f.path, f.type, " DBX_CONTENT("f") ", " US("f.updated_at") " as updated_us from workspaces w "
     "left join files f on f.workspace_id = w.id where w.id = $1::uuid and " ROLE_HERE " > 0 order by f.path"},
    /* $5 the source, $6 the new one, $7 its name or null */
    {"ws_fork",
     "with w as " SEEN("$8") ", p as (select case when (select count(*) from workspaces where owner = $1::uuid) >= "
     "user_quota($1::uuid, 'workspaces') then 'workspaces' when (select bytes_used > user_max_bytes(id) - (select coalesce(sum(size), 0) "
     "from files where workspace_id = w.id) from users where id = $1::uuid) then 'quota' end as problem from w), "
     "ok as (select w.* from w, p where p.problem is null)," GO ", x as (insert into workspaces (id, owner, name, template) "
     "select $6::uuid, $1::uuid, coalesce($7::text, left(go.name, 192) || ' (fork)'), go.template from go returning 1), "
     "fs as (insert into files (id, workspace_id, path, type, content, size, etag) select gen_random_uuid(), $6::uuid, "
     "f.path, f.type, f.content, f.size, f.etag from files f, go where f.workspace_id = go.id)" RESULT("w", "x")},
    /* $6 ids, $7 paths, $8 types, $9 contents (empty: in the blob store), $10 etags, $11 sizes: folders stand among them, above what is in them */
    {"files_import",
     "with w as " SEEN("$12") ", n as (select * from unnest($6::uuid[], $7::text[], $8::text[], $9::bytea[], $10::text[], $11::bigint[]) "
     "as t (id, path, type, content, etag, size)), p as (select case " UNLESS_EDITOR("w")
     "when exists (select 1 from n join files f on f.workspace_id = w.id and f.path = n.path and f.type <> n.type) then 'exists' "
     "when exists (select 1 from files f, n where f.workspace_id = w.id and f.type = 'file' and n.type = 'file' and "
     "starts_with(n.path, f.path || '/')) then 'parent' "
     "when (select count(*) from files where workspace_id = w.id) + (select count(*) from n where not exists (select 1 from "
     "files f where f.workspace_id = w.id and f.path = n.path)) > " TEXT(GW_MAX_WORKSPACE_FILES) " then 'count' "
     "when (select coalesce(sum(f.size), 0) from files f where f.workspace_id = w.id and not exists (select 1 from n where "
     "n.path = f.path)) + (select coalesce(sum(n.size), 0) from n) > " TEXT(33554432) " then 'bytes' "
     "when owner_full(w.id, (select coalesce(sum(n.size), 0) from n)::bigint - (select coalesce(sum(f.size), 0) from files f join n on "
     "n.path = f.path where f.workspace_id = w.id)::bigint) then 'quota' end "
     "as problem from w), ok as (select w.id from w, p where p.problem is null)," GO
     ", x as (insert into files as t (id, workspace_id, path, type, content, size, etag) select n.id, go.id, n.path, n.type, "
     "n.content, n.size, n.etag from go, n on conflict (workspace_id, path) do update set content = "
     "excluded.content, size = excluded.size, etag = excluded.etag, updated_at = now() where t.type = 'file' and t.etag is "
     "distinct from excluded.etag returning 1), " CHANGED "(select id from go))" RESULT("w", "go")},
};
/* clang-format on */
const size_t gw_bulk_sql_len = DBX_ARRAY_LEN(gw_bulk_sql);
