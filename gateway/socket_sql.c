/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of the workspace's socket. */
#include "common/base/def.h"
#include "gateway/contents.h"
#include "gateway/request.h"
#include "gateway/socket_int.h"

#define US(column) "(extract(epoch from " column ") * 1000000)::bigint"
/* What stands before it was removed, as old. An identity that was never used has no last value. */
#define OLDEST                                                                                     \
    "coalesce((select min(seq) from file_events), (select case when is_called then last_value + "  \
    "1 "                                                                                           \
    "else 1 end from file_events_seq_seq))"

const struct dbx_pg_stmt gw_socket_sql[] = {
    /* $1 workspace, $2 caller, $3 whether he acts as administrator, $4 what he came with
     * (access.h; a key has to be good for reading), $5 a sandbox that has to be of the workspace,
     * or null */
    {"socket_role",
     "select case when $4::text = '' or exists (select 1 from api_keys k where left($4::text, 2) = "
     "'k:' and k.id::text = substr($4::text, 3) and k.revoked_at is null and (k.expires_at is null "
     "or k.expires_at > now()) and 'read' = any (string_to_array(k.scopes, ' '))) or exists "
     "(select 1 from sessions s where left($4::text, 2) = 's:' "
     "and s.id::text = substr($4::text, 3) and s.revoked_at is null and s.expires_at > now()) then "
     "workspace_role(w.id, $2::uuid, $3::boolean and u.role = 'admin') else 0 end as role from "
     "workspaces w join users u on u.id = $2::uuid and u.disabled_at is null where w.id = $1::uuid "
     "and ($5::uuid is null or exists (select 1 from sandboxes b where b.id = $5::uuid and "
     "b.workspace_id = w.id))"},
    {"socket_sandbox", "select id from sandboxes where id = $1::uuid and workspace_id = $2::uuid"},
    {"socket_paths", "select id, path, size from files where workspace_id = $1::uuid and type = "
                     "'file' order by path"},
    {"socket_file",
     "select " DBX_CONTENT("f") " from files f where id = $1::uuid and workspace_id = $2::uuid"},
    /* Events of the workspace have ordered numbers with gaps. What was not yet written when the
     * tree is read has a higher number than all that is in it. */
    {"socket_tree",
     "select greatest((select max(e.seq) from file_events e where e.workspace_id = w.id), (select "
     "min(seq) - 1 from file_events), 0) as seq, f.id, f.path, f.type, f.size, f.etag, " US(
         "f.updated_at") " as updated_us from workspaces w left join files f on f.workspace_id = "
                         "w.id where w.id = $1::uuid order by f.path"},
    {"socket_events",
     "select " OLDEST " as oldest, e.seq, e.op, e.file_id, e.path, e.from_path, e.type, e.size, "
     "e.etag, e.detail, " US("e.at") " as at_us from workspaces w left join lateral (select * from "
                                     "file_events x where x.workspace_id = w.id and x.seq > "
                                     "$2::bigint order by x.seq limit 500) e on true where w.id = "
                                     "$1::uuid order by e.seq"},
};
const size_t gw_socket_sql_len = DBX_ARRAY_LEN(gw_socket_sql);
