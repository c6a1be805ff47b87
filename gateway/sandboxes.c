/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox as its owner sees it: how it stands, and its end. What wants to end is marked first
 * (what starts from then on gets another one), then the scheduler is told; the mark stays until the
 * node has said that the sandbox is gone, so that it is told again should a node come back. */
#include <stdlib.h>

#include "common/base/str.h"
#include "gateway/executions.h"
#include "gateway/result.h"
#include "gateway/upstream.h"
#include "gateway/workspace_sql_int.h"
#include "gateway/workspaces.h"
#include "gateway/workspaces_int.h"

#define SANDBOX_ROLE(adm)                                                                          \
    "lateral (select sandbox_role(s.id, $1::uuid, " adm "::boolean) as role) r "

/* clang-format off */
const struct dbx_pg_stmt gw_sandbox_sql[] = {
    {"sandbox_lock", "select 1 from workspaces where id = (select workspace_id from sandboxes where id = $1::uuid) for update"},
    {"sandbox_seen",
     "select sandbox_role(s.id, $2::uuid, $3::boolean) as role, s.id, s.workspace_id, s.template, s.size, "
     SANDBOX_STATUS " as status, s.end_reason, n.running + n.pending as processes, " US("s.created_at") " as created_us, "
     US("s.ended_at") " as ended_us from sandboxes s, " SANDBOX_COUNTS
     "where s.id = $1::uuid and sandbox_role(s.id, $2::uuid, $3::boolean) > 0"},
    {"current_sandboxes", "select sandbox_id from workspaces where id = any ($1::uuid[]) and sandbox_id is not null"},
    {"sandbox_end",
     "with cur as (select s.*, r.role from sandboxes s, " SANDBOX_ROLE("$6") "where s.id = $5::uuid and r.role > 0), "
     "p as (select case " UNLESS_EDITOR("cur") "end as problem from cur), ok as (select cur.id from cur, p where p.problem is null)," GO
     ", x as (update sandboxes s set end_wanted_at = coalesce(s.end_wanted_at, now()), "
     "ended_at = case when s.node_id is null and not exists (select 1 from processes p where p.sandbox_id = s.id "
     "and p.status in ('pending', 'running')) then coalesce(s.ended_at, now()) else s.ended_at end, "
     "end_reason = coalesce(s.end_reason, case when s.ended_at is null then 'requested' end) "
     "from go where s.id = go.id returning s.ended_at)" RESULT("cur", "x")
     ", (select ended_at is not null from x) as ended"},
};
/* clang-format on */
const size_t gw_sandbox_sql_len = DBX_ARRAY_LEN(gw_sandbox_sql);

static void put_optional_id(struct dbx_jw *w, const char *key, const struct dbx_pg_result *res)
{
    dbx_jw_kstr(w, key, dbx_pg_text(res, 0, key, NULL));
}

static void on_seen(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    struct dbx_buf buf;
    if (gw_found(rq, res, err)) {
        dbx_buf_init(&buf, DBX_MAX_HEADER);
        struct dbx_jw *w = dbx_jw_new(&buf);
        dbx_jw_object(w);
        dbx_jw_kstr(w, "sandbox_id", dbx_pg_text(res, 0, "id", NULL));
        put_optional_id(w, "workspace_id", res);
        dbx_jw_kstr(w, "status", dbx_pg_text(res, 0, "status", NULL));
        dbx_jw_kstr(w, "template", dbx_pg_text(res, 0, "template", NULL));
        dbx_jw_kstr(w, "size", dbx_pg_text(res, 0, "size", NULL));
        dbx_jw_kstr(w, "reason", dbx_pg_text(res, 0, "end_reason", NULL));
        dbx_jw_ki64(w, "processes", dbx_pg_i64(res, 0, "processes", 0));
        gw_put_time(w, "created_at", dbx_pg_i64(res, 0, "created_us", 0));
        gw_put_time(w, "ended_at", dbx_pg_i64(res, 0, "ended_us", 0));
        dbx_jw_object_end(w);
        gw_answer_json(rq, 200, &buf, &w);
    }
    gw_req_unref(rq);
}

void gw_sandboxes_status(struct gw_req *rq)
{
    struct dbx_id id;
    if (gw_route_id(rq, &id))
        gw_workspace_ask(rq, "sandbox_seen", &id, on_seen);
}

static size_t fill_end(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    params[4] = DBX_PG_TEXT(wr->object_text);
    return 5;
}

static void on_told(const struct dbx_err *err, void *arg)
{
    struct gw_req *rq = arg;
    if (gw_req_gone(rq)) {
        /* nobody to answer */
    } else if (err) {
        gw_req_fail_status(rq, 503, DBX_UNAVAIL, "scheduler_unavailable",
                           "the scheduler cannot be reached, try again", NULL);
    } else {
        gw_req_reply(rq, 204, NULL, NULL, NULL, 0);
    }
    gw_req_unref(rq);
}

static void done_end(struct gw_write *wr, const struct dbx_pg_result *res)
{
    if (dbx_streq(dbx_pg_text(res, 0, "ended", NULL), "t")) {
        gw_write_done_empty(wr, res);
        return;
    }
    gw_req_ref(wr->rq);
    gw_upstream_end_sandbox(wr->rq->gw->up, &wr->object, on_told, wr->rq);
}

/* Ending it again is the same. */
void gw_sandboxes_end(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.no_body = true,
                                              .lock = "sandbox_lock",
                                              .stmt = "sandbox_end",
                                              .by_role = true,
                                              .fill = fill_end,
                                              .done = done_end,
                                              .again = gw_write_again_anew};
    gw_write_begin(rq, &kind);
}
