/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/contents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/blob.h"
#include "common/io/loop.h"

#define AT_A_TIME 8 /* of one reader */

static int no_store(struct dbx_err *err)
{
    return dbx_err_set(err, -EHOSTDOWN, DBX_UNAVAIL, "there is none here");
}

struct dbx_contents {
    struct dbx_loop *loop;
    struct dbx_blobs *blobs; /* or NULL */
    struct dbx_content *at;  /* owned */
    size_t n, cap, missing;
    size_t next, running;
    struct dbx_err err;
    dbx_contents_fn *fn;
    void *arg;
    bool loading, dead;
};

/* One that is asked for. */
struct wanted {
    struct dbx_contents *cs;
    size_t i;
};

struct dbx_contents *dbx_contents_new(struct dbx_loop *loop, struct dbx_blobs *blobs)
{
    struct dbx_contents *cs = DBX_NEW(struct dbx_contents);
    cs->loop = loop;
    cs->blobs = blobs;
    return cs;
}

static void on_turn(void *user);

static void contents_done(struct dbx_contents *cs)
{
    for (size_t i = 0; i < cs->n; i++) {
        free(cs->at[i].data);
        free(cs->at[i].object);
    }
    free(cs->at);
    free(cs);
}

struct dbx_contents *dbx_contents_free(struct dbx_contents *cs)
{
    if (!cs)
        return NULL;
    dbx_loop_undefer(cs->loop, on_turn, cs);
    cs->dead = true;
    if (cs->running == 0)
        contents_done(cs);
    return NULL;
}

void dbx_contents_add(struct dbx_contents *cs, const struct dbx_pg_result *res, size_t row)
{
    const char *etag = dbx_pg_text(res, row, "content_etag", NULL);
    const char *object = dbx_pg_text(res, row, "object", NULL);
    if (cs->n == cs->cap) {
        cs->cap = cs->cap ? 2 * cs->cap : 4;
        cs->at = dbx_realloc(cs->at, cs->cap * sizeof(*cs->at));
    }
    struct dbx_content *c = &cs->at[cs->n++];
    *c = (struct dbx_content){0};
    (void)dbx_strcpy(c->etag, sizeof(c->etag), etag ? etag : "");
    if (object) {
        c->object = dbx_strdup(object);
        c->len = (size_t)dbx_pg_i64(res, row, "content_size", 0);
        cs->missing++;
    } else {
        c->data = dbx_pg_bytes(res, row, "content", &c->len);
    }
}

bool dbx_contents_here(const struct dbx_contents *cs)
{
    return cs->missing == 0;
}

const struct dbx_content *dbx_contents_at(const struct dbx_contents *cs, size_t i)
{
    dbx_assert(i < cs->n);
    return &cs->at[i];
}

uint8_t *dbx_contents_take(struct dbx_contents *cs, size_t i, size_t *ret_len)
{
    dbx_assert(i < cs->n);
    *ret_len = cs->at[i].len;
    return DBX_TAKE(cs->at[i].data);
}

static void on_blob(struct dbx_buf *data, const struct dbx_err *err, void *arg)
{
    struct wanted *w = arg;
    struct dbx_contents *cs = w->cs;
    struct dbx_content *c = &cs->at[w->i];
    free(w);
    cs->running--;
    if (cs->dead) {
        if (cs->running == 0)
            contents_done(cs);
        return;
    }
    if (data && data->len == c->len) {
        c->data = dbx_buf_take(data);
        cs->missing--;
    } else if (!cs->err.code) {
        if (err)
            cs->err = *err;
        else
            (void)dbx_err_set(&cs->err, -EBADMSG, DBX_UNAVAIL, "object '%s' has another size",
                              c->object);
    }
    on_turn(cs);
}

static void ask_for(struct dbx_contents *cs, size_t i)
{
    const struct dbx_content *c = &cs->at[i];
    uint8_t sha256[DBX_SHA256_LEN];
    struct wanted *w = DBX_NEW(struct wanted);
    *w = (struct wanted){cs, i};
    cs->running++;
    if (strlen(c->etag) != 2 * sizeof(sha256) || dbx_hex_decode(c->etag, 64, sha256) < 0)
        memset(sha256, 0, sizeof(sha256)); /* nothing has that digest */
    dbx_blob_get(cs->blobs, c->object, c->len ? c->len : 1, NULL, sha256, on_blob, w);
}

static void on_turn(void *user)
{
    struct dbx_contents *cs = user;
    if (cs->missing && !cs->blobs && !cs->err.code)
        (void)no_store(&cs->err);
    while (!cs->err.code && cs->running < AT_A_TIME && cs->next < cs->n) {
        size_t i = cs->next++;
        if (cs->at[i].object && !cs->at[i].data)
            ask_for(cs, i);
    }
    if (cs->running > 0 || !cs->loading)
        return;
    cs->loading = false;
    cs->fn(cs, cs->err.code ? &cs->err : NULL, cs->arg);
}

void dbx_contents_load(struct dbx_contents *cs, dbx_contents_fn *fn, void *arg)
{
    dbx_assert(!cs->loading);
    cs->fn = fn;
    cs->arg = arg;
    cs->loading = true;
    dbx_loop_defer(cs->loop, on_turn, cs);
}
