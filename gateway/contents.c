/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/contents.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/ext/blob.h"
#include "common/io/loop.h"
#include "gateway/gw.h"
#include "gateway/request.h"
#include "gateway/store.h"
#include "gateway/workspace_decode.h"

#define AT_A_TIME 8 /* of one writer */
#define MAX_ARRAY (1u << 20)
#define NAME GW_OBJECT_NAME("n.digest", "$8")

/* $1 workspace or file, $2 caller, $3 whether he acts as administrator, $4 digests, $5 sizes, $6
 * all of them, $7 whether what is there may be replaced, $8 what makes the names our own. One row
 * for each that he may write. */
const struct dbx_pg_stmt gw_contents_sql[] = {
    {"blobs_announce",
     "with t as (select w.id, case when $7::boolean then (select coalesce(sum(f.size), 0) from "
     "files f where f.workspace_id = w.id) else 0 end as freed from workspaces w where w.id = "
     "$1::uuid union all select f.workspace_id, f.size from files f where f.id = $1::uuid), may as "
     "(select 1 from t where workspace_role(t.id, $2::uuid, $3::boolean) > 1 and not "
     "owner_full(t.id, $6::bigint - t.freed::bigint)), n as (select distinct on (digest) * from "
     "unnest($4::text[], $5::bigint[]) as u (digest, size) order by digest) "
     "insert into blobs (digest, name, size) select n.digest, " NAME ", n.size from n, may on "
     "conflict (digest) do update set seen_at = now() returning digest, name, stored"},
};
const size_t gw_contents_sql_len = DBX_ARRAY_LEN(gw_contents_sql);

void gw_req_fail_blobs(struct gw_req *rq, const struct dbx_err *err)
{
    bool full = err->code == -ENOSPC || err->code == -EDQUOT;
    dbx_log(DBX_LOG_WARN, &rq->log, "blob store: %s", err->msg);
    gw_req_fail_status(rq, 503, DBX_UNAVAIL, full ? "storage_full" : "storage_unavailable",
                       full ? "the store of large files is full, try again later"
                            : "the store of large files cannot be reached, try again",
                       NULL);
}

/* --- writing --- */

void gw_object_own(char ret[static GW_OBJECT_OWN])
{
    uint8_t bytes[(GW_OBJECT_OWN - 1) / 2];
    dbx_random(bytes, sizeof(bytes));
    dbx_hex_encode(bytes, sizeof(bytes), ret);
}

bool gw_content_is_large(const struct gw *gw, size_t len)
{
    return gw->blobs && len > gw->cfg->blob_threshold;
}

struct storing {
    struct gw_req *rq; /* referenced */
    struct gw_store_item *items;
    struct job {
        const struct gw_store_item *item;
        char *name; /* owned */
    } * jobs;       /* owned */
    size_t n, njobs, next, running;
    struct dbx_err err;
    gw_stored_fn *fn;
    void *arg;
};

static void finish(struct storing *st)
{
    st->fn(st->err.code ? &st->err : NULL, st->arg);
    gw_req_unref(st->rq);
    for (size_t i = 0; i < st->njobs; i++)
        free(st->jobs[i].name);
    free(st->jobs);
    free(st->items);
    free(st);
}

static void go_on(struct storing *st);

static void on_put(struct dbx_buf *data, const struct dbx_err *err, void *arg)
{
    struct storing *st = arg;
    (void)data;
    st->running--;
    if (err && !st->err.code)
        st->err = *err;
    go_on(st);
}

/* The bytes are the request's: with its client they go. */
static void go_on(struct storing *st)
{
    struct gw *gw = st->rq->gw;
    if (gw_req_gone(st->rq) && !st->err.code)
        (void)dbx_err_set(&st->err, -ECANCELED, DBX_UNAVAIL, "the client has gone");
    while (!st->err.code && st->running < AT_A_TIME && st->next < st->njobs) {
        const struct job *job = &st->jobs[st->next++];
        st->running++;
        dbx_blob_put(gw->blobs, job->name, job->item->data, job->item->len, on_put, st);
    }
    if (st->running == 0)
        finish(st);
}

static const struct gw_store_item *item_of(const struct storing *st, const char *etag)
{
    for (size_t i = 0; i < st->n; i++)
        if (dbx_streq(st->items[i].etag, etag))
            return &st->items[i];
    return NULL;
}

static void on_announced(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct storing *st = arg;
    if (err)
        st->err = *err;
    st->jobs = dbx_calloc(err ? 1 : dbx_pg_rows(res) + 1, sizeof(*st->jobs));
    for (size_t i = 0; !err && !gw_req_gone(st->rq) && i < dbx_pg_rows(res); i++) {
        const struct gw_store_item *item = item_of(st, dbx_pg_text(res, i, "digest", NULL));
        if (!item || dbx_streq(dbx_pg_text(res, i, "stored", NULL), "t"))
            continue;
        st->jobs[st->njobs].item = item;
        st->jobs[st->njobs++].name = dbx_strdup(dbx_pg_text(res, i, "name", NULL));
    }
    go_on(st);
}

/* digests, sizes */
static int put_arrays(const struct storing *st, struct dbx_buf arrays[static 2], size_t *ret_total)
{
    int r = 0;
    *ret_total = 0;
    for (size_t i = 0; i < st->n; i++) {
        const struct gw_store_item *it = &st->items[i];
        const char *comma = i ? "," : "{";
        r |= dbx_buf_printf(&arrays[0], "%s%s", comma, it->etag);
        r |= dbx_buf_printf(&arrays[1], "%s%zu", comma, it->len);
        *ret_total += it->len;
    }
    for (size_t i = 0; i < 2; i++)
        r |= dbx_buf_str(&arrays[i], st->n ? "}" : "{}");
    return r;
}

void gw_contents_store(struct gw_req *rq, const char *object, bool replaces,
                       const struct gw_store_item *items, size_t n, gw_stored_fn *fn, void *arg)
{
    struct storing *st = DBX_NEW(struct storing);
    struct dbx_buf arrays[2];
    char caller[DBX_ID_TEXT], total_text[24], own[GW_OBJECT_OWN];
    size_t total;
    *st = (struct storing){.rq = rq, .fn = fn, .arg = arg};
    gw_req_ref(rq);
    st->items = dbx_calloc(n + 1, sizeof(*items));
    for (size_t i = 0; i < n; i++)
        if (gw_content_is_large(rq->gw, items[i].len))
            st->items[st->n++] = items[i];
    for (size_t i = 0; i < DBX_ARRAY_LEN(arrays); i++)
        dbx_buf_init(&arrays[i], MAX_ARRAY);
    int r = put_arrays(st, arrays, &total);
    dbx_assert(r == 0); /* at most GW_MAX_WORKSPACE_FILES */
    snprintf(total_text, sizeof(total_text), "%zu", total);
    dbx_id_format(&rq->user.id, caller);
    gw_object_own(own);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(object),
                                          DBX_PG_TEXT(caller),
                                          DBX_PG_TEXT(rq->user.admin ? "t" : "f"),
                                          DBX_PG_TEXT(dbx_buf_cstr(&arrays[0])),
                                          DBX_PG_TEXT(dbx_buf_cstr(&arrays[1])),
                                          DBX_PG_TEXT(total_text),
                                          DBX_PG_TEXT(replaces ? "t" : "f"),
                                          DBX_PG_TEXT(own)};
    dbx_pg_query(gw_store_pg(rq->gw->store), "blobs_announce", params, DBX_ARRAY_LEN(params),
                 on_announced, st);
    for (size_t i = 0; i < DBX_ARRAY_LEN(arrays); i++)
        dbx_buf_done(&arrays[i]);
}
