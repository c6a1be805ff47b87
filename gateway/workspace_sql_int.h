/* SPDX-License-Identifier: Apache-2.0 */
/* What the statements of workspaces consist of (workspace_sql.c says how a write is built). */
#pragma once

#include "gateway/workspace_decode.h"

#define US(column) "(extract(epoch from " column ") * 1000000)::bigint"
#define TIME(param) "(timestamptz 'epoch' + " param "::bigint * interval '1 microsecond')"
#define TEXT_(n) #n
#define TEXT(n) TEXT_(n)

/* `ok` has a row when nothing speaks against it; `go` is the same unless the key was used before.
 */
#define GO                                                                                         \
    " i as (insert into idempotency (owner, key, request_hash, response, status)"                  \
    " select $1::uuid, $2::text, $3::bytea, $4::text, 0 from ok where $2::text is not null"        \
    " on conflict do nothing returning 1),"                                                        \
    " go as (select * from ok where $2::text is null or exists (select 1 from i)) "
/* PostgreSQL plans an SQL function's body anew in each statement that calls it, which costs more
 * than all the rest: owners, who ask most, are known without. ROLE_IN: in a row of workspaces. */
#define ROLE_IN(w, usr, adm)                                                                       \
    "case when " w ".owner = " usr "::uuid then 3 else workspace_role(" w ".id, " usr              \
    "::uuid, " adm "::boolean) end"
#define ROLE_OF(ws, usr, adm)                                                                      \
    "coalesce((select 3 from workspaces o where o.id = " ws " and o.owner = " usr "::uuid), "      \
    "workspace_role(" ws ", " usr "::uuid, " adm "::boolean))"
/* What the caller may see of workspace or file $5, with his role in it (workspace_role: the one
 * place that says who may do what). */
#define SEEN(adm)                                                                                  \
    "(select w.*, r.role from workspaces w, lateral (select " ROLE_IN(                             \
        "w", "$1", adm) " as role) r where w.id = $5::uuid and r.role > 0)"
#define FILE_SEEN(adm)                                                                             \
    "f as (select f.*, r.role from files f, lateral (select " ROLE_OF(                             \
        "f.workspace_id", "$1", adm) " as role) r where f.id = $5::uuid and r.role > 0), "
#define UNLESS_EDITOR(t) "when " t ".role < 2 then 'forbidden' "
#define UNLESS_OWNER(t) "when " t ".role < 3 then 'forbidden' "
#define ROLE_HERE ROLE_IN("w", "$2", "$3")
#define CHANGED                                                                                    \
    "u as (update workspaces set revision = revision + 1, updated_at = now() where id in "
#define RESULT(found, written)                                                                     \
    " select (select count(*) from " found ") as found, (select problem from p) as problem,"       \
    " (select count(*) from " written ") as taken"
#define LIVE                                                                                       \
    "left join sandboxes s on s.id = w.sandbox_id and s.ended_at is null and s.end_wanted_at is "  \
    "null and s.template = w.template "
/* Of the current sandbox; of a new one: as the last one was. */
#define SIZE(w)                                                                                    \
    "coalesce(s.size, (select b.size from sandboxes b where b.id = " w ".sandbox_id), "            \
    "'cpu-small')"
/* How sandbox s stands, with n of SANDBOX_COUNTS. */
#define SANDBOX_COUNTS                                                                             \
    "lateral (select count(*) filter (where p.status = 'running') as running, count(*) filter "    \
    "(where p.status = 'pending') as pending, count(p.started_at) as begun from processes p "      \
    "where p.sandbox_id = s.id) n "
#define SANDBOX_STATUS                                                                             \
    "case when s.ended_at is not null then 'terminated' when s.end_wanted_at is not null then "    \
    "'ending' when n.running > 0 then 'running' when s.node_id is null or n.pending > 0 or "       \
    "(s.standby_at is not null and s.ready_at is null and n.begun = 0) then 'pending' else "       \
    "'idle' end"
#define WORKSPACE                                                                                  \
    " w.id, w.name, w.template, w.sharing_mode, s.id as sandbox_id, " US(                          \
        "w.created_at") " as created_us, " US("w.updated_at") " as updated_us from workspaces "    \
                                                              "w " LIVE
#define ENTRY(t)                                                                                   \
    t ".id, " t ".path, " t ".type, " t ".size, " t ".etag, " US(t ".updated_at") " as "           \
                                                                                  "updated_us "
#define NEW_FOLDERS(go, ids, paths)                                                                \
    "d as (insert into files (id, workspace_id, path, type) select g.id, " go                      \
    ", g.path, 'directory' from go, unnest(" ids "::uuid[], " paths                                \
    "::text[]) as g(id, path) on conflict (workspace_id, path) do nothing), "
#define ROOM(ws, paths, more)                                                                      \
    "(select count(*) from files where workspace_id = " ws ") + " more                             \
    " + (select count(*) from unnest(" paths "::text[]) q where not exists"                        \
    " (select 1 from files where workspace_id = " ws                                               \
    " and path = q)) > " TEXT(GW_MAX_WORKSPACE_FILES)
#define BYTES(ws, more)                                                                            \
    "(select coalesce(sum(size), 0) from files where workspace_id = " ws ") + " more               \
    " > " TEXT(33554432)
_Static_assert(GW_MAX_WORKSPACE_BYTES == 33554432, "as in BYTES");
