/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/garbage.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/ext/blob.h"
#include "common/io/loop.h"
#include "gateway/gw.h"
#include "gateway/store.h"

const struct dbx_pg_stmt gw_garbage_sql[] = {
    {"garbage_due", "select name from blob_garbage where due_at < now() order by due_at limit 100"},
    {"garbage_gone", "delete from blob_garbage where name = $1::text"},
};
const size_t gw_garbage_sql_len = DBX_ARRAY_LEN(gw_garbage_sql);

struct gw_garbage {
    struct gw *gw; /* NULL: freed with the last call */
    struct dbx_timer *timer;
    size_t calls;
    struct dbx_metric *removed;
};

struct removal {
    struct gw_garbage *g;
    char *name; /* owned */
};

static bool back(struct gw_garbage *g)
{
    g->calls--;
    if (!g->gw && g->calls == 0)
        free(g);
    else if (g->gw)
        return true;
    return false;
}

static void on_forgotten(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_garbage *g = user;
    (void)res;
    if (back(g) && err)
        dbx_log(DBX_LOG_WARN, &g->gw->log, "garbage, trying again: %s", err->msg);
}

static void on_removed(struct dbx_buf *data, const struct dbx_err *err, void *user)
{
    struct removal *rm = user;
    struct gw_garbage *g = rm->g;
    (void)data;
    if (back(g)) {
        if (err) {
            dbx_log(DBX_LOG_WARN, &g->gw->log, "remove an object, trying again: %s", err->msg);
        } else {
            const struct dbx_pg_param params[] = {DBX_PG_TEXT(rm->name)};
            dbx_metric_add(g->removed, 1);
            g->calls++;
            dbx_pg_query(gw_store_pg(g->gw->store), "garbage_gone", params, 1, on_forgotten, g);
        }
    }
    free(rm->name);
    free(rm);
}

static void on_due(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_garbage *g = user;
    if (!back(g))
        return;
    if (err)
        dbx_log(DBX_LOG_WARN, &g->gw->log, "garbage, trying again: %s", err->msg);
    for (size_t i = 0; !err && i < dbx_pg_rows(res); i++) {
        struct removal *rm = DBX_NEW(struct removal);
        rm->g = g;
        rm->name = dbx_strdup(dbx_pg_text(res, i, "name", NULL));
        g->calls++;
        dbx_blob_delete(g->gw->blobs, rm->name, on_removed, rm);
    }
}

static void look(void *user)
{
    struct gw_garbage *g = user;
    if (g->calls > 0 || g->gw->draining || !gw_store_ready(g->gw->store))
        return;
    g->calls++;
    dbx_pg_query(gw_store_pg(g->gw->store), "garbage_due", NULL, 0, on_due, g);
}

struct gw_garbage *gw_garbage_new(struct gw *gw)
{
    struct gw_garbage *g = DBX_NEW(struct gw_garbage);
    g->gw = gw;
    g->removed = dbx_counter("devbox_gateway_blobs_removed_total", NULL,
                             "Objects that nobody referred to, removed from the blob store.");
    g->timer = dbx_timer_new(gw->loop, look, g);
    dbx_timer_start(g->timer, gw->cfg->blob_sweep_ms, gw->cfg->blob_sweep_ms);
    return g;
}

struct gw_garbage *gw_garbage_free(struct gw_garbage *g)
{
    if (!g)
        return NULL;
    g->timer = dbx_timer_free(g->timer);
    g->gw = NULL;
    if (g->calls == 0)
        free(g);
    return NULL;
}
