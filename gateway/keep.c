/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/keep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/ext/pg.h"
#include "common/io/loop.h"
#include "gateway/gw.h"
#include "gateway/session_int.h"
#include "gateway/socket_int.h"
#include "gateway/store.h"
#include "gateway/upstream.h"
#include "gateway/workspaces_int.h"

#define MOST_MS 20000 /* between two messages */
#define SOON_MS 500
#define MAX_ARRAY (1u << 20)
#define MAX_WORKSPACES 20000 /* sockets beyond are not looked at: their streams are */

struct gw_keep {
    struct gw *gw;
    struct dbx_timer *timer, *soon;
    bool asked, due; /* due: soon */
};

static void add(struct dbx_map *seen, const struct dbx_id *id)
{
    (void)dbx_map_put(seen, id->b, sizeof(id->b), seen);
}

static void tell(struct gw_keep *kp, struct dbx_map *sandboxes)
{
    struct dbx_map_iter it = {0};
    struct dbx_id ids[GW_MAX_KEEP];
    size_t n = 0;
    while (dbx_map_next(sandboxes, &it)) {
        memcpy(ids[n++].b, it.key, sizeof(ids[0].b));
        if (n == GW_MAX_KEEP) {
            gw_upstream_keep(kp->gw->up, ids, n);
            n = 0;
        }
    }
    if (n > 0)
        gw_upstream_keep(kp->gw->up, ids, n);
}

static void on_current(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_keep *kp = arg;
    struct dbx_map *sandboxes;
    struct dbx_id id;
    if (err && err->code == -ECANCELED)
        return; /* it goes */
    kp->asked = false;
    if (err)
        return; /* the next time */
    sandboxes = dbx_map_new();
    for (size_t i = 0; i < dbx_pg_rows(res); i++)
        if (gw_column_id(res, i, "sandbox_id", &id))
            add(sandboxes, &id);
    tell(kp, sandboxes);
    dbx_map_free(sandboxes);
}

/* The sandboxes of these workspaces are the database's to say. */
static void ask(struct gw_keep *kp, struct dbx_map *workspaces)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf array = {0};
    struct dbx_map_iter it = {0};
    char text[DBX_ID_TEXT];
    struct dbx_id id;
    if (kp->asked || dbx_map_count(workspaces) == 0)
        return;
    dbx_buf_init(&array, MAX_ARRAY);
    int r = dbx_buf_str(&array, "{");
    while (r == 0 && dbx_map_next(workspaces, &it)) {
        memcpy(id.b, it.key, sizeof(id.b));
        dbx_id_format(&id, text);
        r = dbx_buf_printf(&array, "%s%s", array.len > 1 ? "," : "", text);
    }
    r = r ? r : dbx_buf_str(&array, "}");
    dbx_assert(r == 0); /* MAX_WORKSPACES of 37 bytes */
    const struct dbx_pg_param param = DBX_PG_TEXT(dbx_buf_cstr(&array));
    kp->asked = true;
    dbx_pg_query(gw_store_pg(kp->gw->store), "current_sandboxes", &param, 1, on_current, kp);
}

static void look(struct gw_keep *kp)
{
    struct dbx_map *sandboxes = dbx_map_new(), *workspaces = dbx_map_new();
    struct dbx_list *node, *tmp;
    dbx_list_each(node, tmp, &kp->gw->sessions)
    {
        const struct gw_session *ss = dbx_list_entry(node, struct gw_session, node);
        if (ss->ws)
            add(sandboxes, &ss->sandbox);
    }
    dbx_list_each(node, tmp, &kp->gw->sockets)
    {
        const struct gw_socket *sk = dbx_list_entry(node, struct gw_socket, node);
        if (sk->ws && dbx_map_count(workspaces) < MAX_WORKSPACES)
            add(workspaces, &sk->workspace);
    }
    tell(kp, sandboxes);
    ask(kp, workspaces);
    dbx_map_free(sandboxes);
    dbx_map_free(workspaces);
}

static void on_timer(void *user)
{
    look(user);
}

static void on_soon(void *user)
{
    struct gw_keep *kp = user;
    kp->due = false;
    look(kp);
}

struct gw_keep *gw_keep_new(struct gw *gw)
{
    struct gw_keep *kp = DBX_NEW(struct gw_keep);
    uint64_t every = gw->cfg->workspace_idle_ms / 4;
    kp->gw = gw;
    kp->timer = dbx_timer_new(gw->loop, on_timer, kp);
    kp->soon = dbx_timer_new(gw->loop, on_soon, kp);
    every = every < MOST_MS ? every : MOST_MS;
    dbx_timer_start(kp->timer, every, every);
    return kp;
}

struct gw_keep *gw_keep_free(struct gw_keep *kp)
{
    if (!kp)
        return NULL;
    dbx_timer_free(kp->timer);
    dbx_timer_free(kp->soon);
    free(kp);
    return NULL;
}

void gw_keep_soon(struct gw *gw)
{
    if (!gw->keep || gw->keep->due)
        return;
    gw->keep->due = true;
    dbx_timer_start(gw->keep->soon, SOON_MS, 0);
}
