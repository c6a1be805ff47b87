/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/offload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/blob.h"
#include "common/io/loop.h"
#include "gateway/contents.h"
#include "gateway/gw.h"
#include "gateway/store.h"

#define NAME GW_OBJECT_NAME("etag", "$2")

const struct dbx_pg_stmt gw_offload_sql[] = {
    /* $1 threshold, $2 what makes the object's name its own: the largest, announced */
    {"offload_find",
     "with f as (select id, etag, size, content from files where blob is null and size > "
     "$1::bigint order by size desc limit 1), n as (insert into blobs (digest, name, size) select "
     "etag, " NAME ", size from f on conflict (digest) do update set seen_at = now() returning "
     "digest, name, stored) select f.id, f.etag, f.content, n.name, n.stored from f join n on "
     "n.digest = f.etag"},
    /* $1 file, $2 etag; the trigger of schema 009 makes it refer to the object */
    {"offload_refer", "update files set content = '' where id = $1::uuid and etag = $2::text and "
                      "blob is null returning 1"},
};
const size_t gw_offload_sql_len = DBX_ARRAY_LEN(gw_offload_sql);

struct gw_offload {
    struct gw *gw; /* NULL: freed with the answer that is still to come */
    struct dbx_timer *timer;
    bool busy;
    char *id, *etag;  /* owned; of the file that is being moved */
    uint8_t *content; /* owned */
    struct dbx_metric *moved;
};

static void release(struct gw_offload *o)
{
    free(DBX_TAKE(o->id));
    free(DBX_TAKE(o->etag));
    free(DBX_TAKE(o->content));
}

/* After a call: false when nothing follows. */
static bool back(struct gw_offload *o, const struct dbx_err *err)
{
    if (o->gw && !err)
        return true;
    if (o->gw)
        dbx_log(DBX_LOG_WARN, &o->gw->log, "move a file into the blob store, trying again: %s",
                err->msg);
    release(o);
    o->busy = false;
    if (!o->gw)
        free(o);
    return false;
}

static void on_referred(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_offload *o = user;
    if (!back(o, err))
        return;
    release(o);
    o->busy = false;
    if (dbx_pg_rows(res) == 0)
        return; /* it was written meanwhile */
    dbx_metric_add(o->moved, 1);
    dbx_timer_start(o->timer, 0, o->gw->cfg->blob_sweep_ms); /* there may be more */
}

static void refer(struct gw_offload *o)
{
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(o->id), DBX_PG_TEXT(o->etag)};
    dbx_pg_query(gw_store_pg(o->gw->store), "offload_refer", params, DBX_ARRAY_LEN(params),
                 on_referred, o);
}

static void on_put(struct dbx_buf *data, const struct dbx_err *err, void *user)
{
    struct gw_offload *o = user;
    (void)data;
    if (back(o, err))
        refer(o);
}

static void on_found(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_offload *o = user;
    size_t len = 0;
    if (!back(o, err))
        return;
    if (dbx_pg_rows(res) == 0) {
        o->busy = false;
        return;
    }
    o->id = dbx_strdup(dbx_pg_text(res, 0, "id", NULL));
    o->etag = dbx_strdup(dbx_pg_text(res, 0, "etag", NULL));
    o->content = dbx_pg_bytes(res, 0, "content", &len);
    if (dbx_streq(dbx_pg_text(res, 0, "stored", NULL), "t"))
        refer(o);
    else
        dbx_blob_put(o->gw->blobs, dbx_pg_text(res, 0, "name", NULL), o->content, len, on_put, o);
}

static void look(void *user)
{
    struct gw_offload *o = user;
    char threshold[24], own[GW_OBJECT_OWN];
    if (o->busy || o->gw->draining || !gw_store_ready(o->gw->store))
        return;
    o->busy = true;
    gw_object_own(own);
    snprintf(threshold, sizeof(threshold), "%" PRIu64, o->gw->cfg->blob_threshold);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(threshold), DBX_PG_TEXT(own)};
    dbx_pg_query(gw_store_pg(o->gw->store), "offload_find", params, DBX_ARRAY_LEN(params), on_found,
                 o);
}

struct gw_offload *gw_offload_new(struct gw *gw)
{
    struct gw_offload *o = DBX_NEW(struct gw_offload);
    o->gw = gw;
    o->moved = dbx_counter("devbox_gateway_files_offloaded_total", NULL,
                           "Files that programs wrote, moved from their row to the blob store.");
    o->timer = dbx_timer_new(gw->loop, look, o);
    dbx_timer_start(o->timer, gw->cfg->blob_sweep_ms, gw->cfg->blob_sweep_ms);
    return o;
}

struct gw_offload *gw_offload_free(struct gw_offload *o)
{
    if (!o)
        return NULL;
    o->timer = dbx_timer_free(o->timer);
    o->gw = NULL;
    if (o->busy)
        return NULL;
    release(o);
    free(o);
    return NULL;
}
