/* SPDX-License-Identifier: Apache-2.0 */
/* The workspaces' SQL. A write is a batch: the lock of the workspace's row, then one statement,
 * which so sees all that was written before. Parameters of each: $1 owner, $2 Idempotency-Key or
 * null, $3 hash of the request, $4 what is kept under the key; then its own. It gives one row:
 * found, problem (a word, or null), taken (0: nothing was written), and what it wrote. */
#include "common/ext/pg.h"
#include "gateway/contents.h"
#include "gateway/workspace_sql_int.h"
#include "gateway/workspaces_int.h"

const struct dbx_pg_stmt gw_workspace_sql[] = {
    {"ws_lock", "select 1 from workspaces where id = $1::uuid for update"},
    /* Who writes contents holds the owner's row too: so his bytes are counted right. */
    {"ws_lock_bytes",
     "select 1 from workspaces w join users u on u.id = w.owner where w.id = $1::uuid "
     "for update of w for no key update of u"},
    {"ws_lock_bytes_by_file", "select 1 from workspaces w join users u on u.id = w.owner where "
                              "w.id = (select workspace_id from "
                              "files where id = $1::uuid) for update of w for no key update of u"},
    {"user_lock", "select 1 from users where id = $1::uuid for no key update"},
    {"ws_lock_by_file", "select 1 from workspaces where id = (select workspace_id from files"
                        " where id = $1::uuid) for update"},
    {"ws_get",
     "select " ROLE_HERE " as role, " WORKSPACE "where w.id = $1::uuid and " ROLE_HERE " > 0"},
    /* His own, and those he is a member of or came to by a link. */
    {"ws_list",
     "select " ROLE_IN(
         "w", "$1",
         "false") " as role, " WORKSPACE "where (w.owner = $1::uuid or w.id in (select "
                  "m.workspace_id from workspace_members m where m.user_id = $1::uuid union all "
                  "select "
                  "m.workspace_id from workspace_members m join users u on u.email = m.email where "
                  "u.id = $1::uuid and u.email_verified and m.user_id is null union all select "
                  "l.workspace_id from "
                  "share_links l join link_uses g on g.link_id = l.id where g.user_id = $1::uuid "
                  "and "
                  "(l.expires_at is null or l.expires_at > now()))) and ($2::bigint = 0 or "
                  "(w.created_at, w.id) "
                  "< (" TIME(
                      "$2") ", $3::uuid)) order by w.created_at desc, w.id desc limit $4::int"},
    {"ws_create",
     "with p as (select case when (select count(*) from workspaces where owner = $1::uuid) >= "
     "user_quota($1::uuid, 'workspaces') then 'workspaces' end as problem), ok as (select 1 from p "
     "where problem is null)," GO
     ", w as (insert into workspaces (id, owner, name, template, sharing_mode, created_at, "
     "updated_at) select $5::uuid, $1::uuid, $6::text, $7::text, $8::text, " TIME("$9") ", " TIME(
         "$9") " from go returning 1)" RESULT("p", "w")},
    {"ws_put",
     "with w as " SEEN("$9") ", p as (select case " UNLESS_EDITOR(
         "w") "when w.role < 3 and "
              "$8::text is not null then 'forbidden' end as problem from w), ok as (select w.id "
              "from w, p "
              "where p.problem is null)," GO
              ", x as (update workspaces w set name = coalesce($6::text, w.name), template = "
              "coalesce($7::text, w.template), sharing_mode = coalesce($8::text, w.sharing_mode), "
              "updated_at = now() from go where w.id = go.id returning 1)" RESULT("w", "x")},
    {"ws_delete", "with w as " SEEN("$6") ", p as (select case " UNLESS_OWNER(
                      "w") "end as problem from w), ok "
                           "as (select w.id, w.sandbox_id from w, p where p.problem is null)," GO
                           ", x as (delete from workspaces w using go where w.id = go.id returning "
                           "1), sb as (update "
                           "sandboxes set ended_at = now() where id in (select sandbox_id from go) "
                           "and ended_at is "
                           "null)" RESULT("w", "x") ", (select sandbox_id from go) as sandbox_id"},
    {"ws_tree", "select w.id as workspace_id, " ENTRY(
                    "f") "from workspaces w left join files f on f.workspace_id = w.id where w.id "
                         "= $1::uuid and " ROLE_HERE " > 0 order by f.path"},
    {"file_get", "select f.workspace_id, " ENTRY("f") ", " DBX_CONTENT(
                     "f") " from files f where f.id = $1::uuid "
                          "and " ROLE_OF("f.workspace_id", "$2", "$3") " > 0"},
    /* clang-format off */
    /* $9 content: empty when it is in the blob store; $14 its size */
    {"file_create",
     "with w as " SEEN("$15") ", p as (select case " UNLESS_EDITOR("w") "when exists "
     "(select 1 from files where workspace_id = $5::uuid and path = $7::text) then 'exists' when exists (select 1 from files "
     "where workspace_id = $5::uuid and type = 'file' and path = any ($11::text[])) then 'parent' when "
     ROOM("$5::uuid", "$11", "1") " then 'count' when " BYTES("$5::uuid", "$14::bigint") " then 'bytes' when "
     "owner_full($5::uuid, $14::bigint) then 'quota' end as problem from w), ok as (select w.id from w, p where p.problem is null),"
     GO ", " NEW_FOLDERS("go.id", "$12", "$11") "x as (insert into files (id, workspace_id, path, type, content, size, etag, "
     "updated_at) select $6::uuid, go.id, $7::text, $8::text, $9::bytea, $14::bigint, $10::text, " TIME("$13") " from go "
     "returning 1), " CHANGED "(select id from go))" RESULT("w", "x")},
    /* $9 the size of what $6 is, or stands for */
    {"file_put",
     "with " FILE_SEEN("$10") "p as (select case " UNLESS_EDITOR("f") "when f.type = 'directory' then 'directory' when "
     "$8::text <> '' and $8::text <> f.etag then 'stale' when " BYTES("f.workspace_id", "$9::bigint - f.size") " then 'bytes' when "
     "owner_full(f.workspace_id, $9::bigint - f.size) then 'quota' end as problem from f), ok as (select f.id, f.workspace_id from "
     "f, p where p.problem is null)," GO ", x as (update files t set content = $6::bytea, size = $9::bigint, etag = $7::text, "
     "updated_at = now() from go where t.id = go.id returning t.*), " CHANGED "(select workspace_id from go))" RESULT("f", "x") ", "
     ENTRY("x") "from (select 1) one left join x on true"},
    /* clang-format on */
    {"file_move",
     "with " FILE_SEEN("$10") "p as (select case " UNLESS_EDITOR(
         "f") "when $9::text <> '' and $9::text is distinct from "
              "f.etag then 'stale' when exists (select 1 from files where workspace_id = "
              "f.workspace_id "
              "and path = $6::text and id <> f.id) then 'exists' when starts_with($6::text, f.path "
              "|| "
              "'/') then 'inside' when exists (select 1 from files where workspace_id = "
              "f.workspace_id and "
              "type = 'file' and path = any ($7::text[])) then 'parent' when " ROOM(
                  "f.workspace_id", "$7",
                  "0") " then 'count' when exists (select 1 from files t where "
                       "t.workspace_id = f.workspace_id and starts_with(t.path, "
                       "f.path || '/') and octet_length($6::text || "
                       "substr(t.path, length(f.path) + 1)) > 1024) then 'long' "
                       "end as problem from f), ok as (select f.id, "
                       "f.workspace_id, f.path from f, p where p.problem is "
                       "null)," GO ", " NEW_FOLDERS(
                           "go.workspace_id", "$8",
                           "$7") "m as (update files t set path = $6::text || "
                                 "substr(t.path, length(go.path) + 1), updated_at = now() "
                                 "from go where t.workspace_id = go.workspace_id and (t.id "
                                 "= go.id or starts_with(t.path, go.path || '/')) "
                                 "returning t.*), x as (select * from m where id = "
                                 "$5::uuid), " CHANGED
                                 "(select workspace_id from go))" RESULT("f", "x") ", " ENTRY(
                                     "x") "from (select 1) one left join x on true"},
    {"file_delete",
     "with " FILE_SEEN("$7") "p as (select case " UNLESS_EDITOR(
         "f") "when $6::text <> '' and $6::text is distinct from "
              "f.etag then 'stale' end as problem from f), ok as (select f.id, f.workspace_id, "
              "f.path from "
              "f, p where p.problem is null)," GO ", x as (delete from files t using go where "
              "t.workspace_id = go.workspace_id and (t.id = "
              "go.id or starts_with(t.path, go.path || '/')) returning 1), " CHANGED
              "(select workspace_id from go))" RESULT("f", "x")},
    /* clang-format off */
    {"run_plan",
     "select w.template, w.revision, s.id as sandbox_id, " SIZE("w") " as size, f.path, f.type, " DBX_CONTENT("f") ", " ROLE_HERE
     " as role from workspaces w " LIVE "left join files f on f.workspace_id = w.id and " ROLE_HERE " > 1 "
     "where w.id = $1::uuid and " ROLE_HERE " > 0 order by f.path"},
    {"run_accept",
     "with cur as (select w.id, w.owner, w.template, s.id as sandbox, " SIZE("w") " as size, w.role from " SEEN("$14") " w " LIVE
     "), p as (select case " UNLESS_EDITOR("cur") "when user_full($1::uuid) then 'running' when cur.sandbox <> $6::uuid or "
     "(cur.sandbox is null and exists (select 1 from sandboxes where id = $6::uuid)) or cur.template <> $12::text or "
     "cur.size <> $13::text then 'moved' end as problem from cur), ok as (select cur.* from cur, p where p.problem is null)," GO
     ", sb as (insert into sandboxes (id, owner, template, kind, workspace_id, size) select $6::uuid, go.owner, go.template, "
     "'workspace', go.id, $13::text from go where go.sandbox is null), ws as (update workspaces w set sandbox_id = $6::uuid "
     "from go where w.id = go.id and go.sandbox is null), x as (insert into processes (id, sandbox_id, owner, log_offset, "
     "request, trace) select $7::uuid, $6::uuid, $1::uuid, $8::bigint, $9::text, $10::text from go returning 1), pi as "
     "(insert into process_inputs (process_id, files, stdin) select $7::uuid, $11::bytea, '' from go)" RESULT("cur", "x")},
    /* $7 the size that is wanted, or null: as it is. It can be chosen until something has run there; what was made ready of
     * another one ends. Who may run something ($8 idle_ms, $9 max_ms) also orders it, unless it stands somewhere. */
    {"sandbox_bind",
     "with cur as (select w.id, w.owner, w.template, s.id as sandbox, s.node_id, s.standby_at, " SIZE("w") " as size, w.role, "
     SANDBOX_STATUS " as status from " SEEN("$10") " w " LIVE ", " SANDBOX_COUNTS ") , used as (select exists (select 1 from processes p "
     "where p.sandbox_id = cur.sandbox and (cur.node_id is not null or p.status in ('pending', 'running'))) as used from cur), "
     "p as (select case when $7::text <> cur.size then case " UNLESS_EDITOR("cur") "when used then 'size' when not exists (select 1 from "
     "nodes where state = 'ready' and $7::text = any (sizes)) then 'no_node' end when cur.role > 1 and cur.node_id is null and "
     "cur.standby_at is null and (user_full(cur.owner) or (select count(*) from sandboxes b where b.owner = cur.owner and b.standby_at "
     "is not null and b.ended_at is null) >= user_quota(cur.owner, 'running')) then 'running' end as problem from cur, used), "
     "ok as (select cur.*, cur.sandbox is null or (cur.node_id is not null or cur.standby_at is not null) and "
     "coalesce($7::text <> cur.size, false) as fresh "
     "from cur, p where p.problem is null)," GO
     ", sb as (insert into sandboxes (id, owner, template, kind, workspace_id, size, standby_at, idle_ms, max_ms) select $6::uuid, "
     "go.owner, go.template, 'workspace', go.id, coalesce($7::text, go.size), case when go.role > 1 then now() end, $8::bigint, "
     "$9::bigint from go where go.fresh), rs as (update sandboxes s set size = coalesce($7::text, s.size), standby_at = case when "
     "go.role > 1 then now() else s.standby_at end, idle_ms = $8::bigint, max_ms = $9::bigint from go where s.id = go.sandbox "
     "and not go.fresh and s.node_id is null), old as (update sandboxes s set end_wanted_at = coalesce(s.end_wanted_at, now()), "
     "end_reason = coalesce(s.end_reason, 'requested') from go where s.id = go.sandbox and go.fresh returning s.id), ws as (update "
     "workspaces w set sandbox_id = $6::uuid from go where w.id = go.id and go.fresh)" RESULT("cur", "go")
     ", (select case when fresh then $6::uuid else sandbox end from go) as sandbox_id, (select id from old) as old, (select case when "
     "fresh then 'pending' else status end from go) as status, (select role > 1 and (fresh or node_id is null) from go) as ordered, "
     "(select role from go) as role, (select coalesce($7::text, size) from go) as size"},
    /* clang-format on */
};
const size_t gw_workspace_sql_len = DBX_ARRAY_LEN(gw_workspace_sql);
