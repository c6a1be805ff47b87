/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the results of several processes from the log, some at a time, and gives them in order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/ext/json.h"
#include "common/io/loop.h"
#include "gateway/batches.h"
#include "gateway/gw.h"
#include "gateway/result.h"

#define AT_A_TIME 8
#define MAX_OBJECT (64u << 20) /* four streams of 1 MiB, escaped at worst */

struct item {
    struct gw_collect *c;
    struct gw_process p;
    struct gw_result *result;
    struct dbx_buf json; /* when it is there */
    bool ready;
};

struct gw_collect {
    struct gw *gw;
    struct item *items; /* owned */
    size_t n, started, given;
    const struct gw_collect_handlers *h;
    void *user;
    bool held, failed, *freed; /* freed: set while a callback runs */
    struct dbx_timer *timer;
};

static void give(struct gw_collect *c);

static void on_result(struct gw_result *rs, const struct dbx_err *err, void *arg)
{
    struct item *it = arg;
    struct gw_collect *c = it->c;
    char cursor[24];
    if (err) {
        if (!c->failed) {
            c->failed = true;
            c->h->on_error(err, c->user);
        }
        return;
    }
    struct dbx_jw *w = dbx_jw_new(&it->json);
    dbx_jw_object(w);
    gw_result_write(w, rs);
    dbx_jw_ki64(w, "index", it->p.batch_index);
    if (it->p.has_passed)
        dbx_jw_kbool(w, "passed", it->p.passed);
    snprintf(cursor, sizeof(cursor), "%lld", (long long)it->p.batch_seq);
    dbx_jw_kstr(w, "cursor", cursor);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0);
    it->ready = true;
    dbx_timer_start(c->timer, 0, 0); /* the result is freed outside of its callback */
}

static void start_more(struct gw_collect *c)
{
    for (; c->started < c->n && c->started < c->given + AT_A_TIME; c->started++) {
        struct item *it = &c->items[c->started];
        it->result = gw_result_new(c->gw, &it->p, on_result, it);
    }
}

static void give(struct gw_collect *c)
{
    bool freed = false;
    c->freed = &freed;
    while (!c->held && c->given < c->started && c->items[c->given].ready) {
        struct item *it = &c->items[c->given++];
        it->result = gw_result_free(it->result);
        bool more = c->h->on_object(&it->p, &it->json, c->user);
        if (freed)
            return;
        c->held |= !more;
        dbx_buf_done(&it->json);
    }
    c->freed = NULL;
    if (c->given == c->n && !c->held)
        c->h->on_done(c->user);
    else if (!c->held)
        start_more(c);
}

static void on_timer(void *user)
{
    give(user);
}

struct gw_collect *gw_collect_new(struct gw *gw, const struct gw_process *rows, size_t n,
                                  const struct gw_collect_handlers *h, void *user)
{
    struct gw_collect *c = DBX_NEW(struct gw_collect);
    c->gw = gw;
    c->items = dbx_calloc(n ? n : 1, sizeof(*c->items));
    c->n = n;
    c->h = h;
    c->user = user;
    for (size_t i = 0; i < n; i++) {
        c->items[i].c = c;
        c->items[i].p = rows[i];
        dbx_buf_init(&c->items[i].json, MAX_OBJECT);
    }
    c->timer = dbx_timer_new(gw->loop, on_timer, c);
    dbx_timer_start(c->timer, 0, 0);
    return c;
}

struct gw_collect *gw_collect_free(struct gw_collect *c)
{
    if (!c)
        return NULL;
    if (c->freed)
        *c->freed = true;
    for (size_t i = 0; i < c->n; i++) {
        c->items[i].result = gw_result_free(c->items[i].result);
        dbx_buf_done(&c->items[i].json);
    }
    free(c->items);
    c->timer = dbx_timer_free(c->timer);
    free(c);
    return NULL;
}

void gw_collect_resume(struct gw_collect *c)
{
    if (!c->held)
        return;
    c->held = false;
    dbx_timer_start(c->timer, 0, 0);
}
