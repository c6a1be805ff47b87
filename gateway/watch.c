/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/watch.h"

#include <stdlib.h>

#include "common/base/map.h"
#include "common/io/loop.h"
#include "gateway/gw.h"
#include "gateway/store.h"
#include "gateway/upstream.h"

#define TICK_MS 1000
#define TICKS_WHEN_UP 5 /* pushes come by themselves then; this is for what got lost */
#define CHUNK 1000      /* rows in one query */

/* All watches of one process. */
struct gw_watched {
    struct gw_watches *ws;
    struct dbx_id process;
    struct dbx_list list;
    unsigned busy; /* callbacks run: not to be freed */
};

struct gw_watches {
    struct gw *gw;
    struct dbx_map *map; /* process -> struct gw_watched, owned */
    struct dbx_timer *tick, *soon;
    struct dbx_id verify[CHUNK];
    size_t n_verify;
    unsigned ticks;
};

static void ask(struct gw_watches *ws, const struct dbx_id *ids, size_t n);

static void on_soon(void *user)
{
    struct gw_watches *ws = user;
    ask(ws, ws->verify, ws->n_verify);
    ws->n_verify = 0;
}

void gw_watches_resync(struct gw_watches *ws)
{
    struct dbx_map_iter it = {0};
    struct dbx_id *ids = dbx_calloc(CHUNK, sizeof(*ids));
    size_t n = 0;
    while (dbx_map_next(ws->map, &it)) {
        ids[n++] = ((struct gw_watched *)it.value)->process;
        if (n == CHUNK) {
            ask(ws, ids, n);
            n = 0;
        }
    }
    ask(ws, ids, n);
    free(ids);
}

static void on_tick(void *user)
{
    struct gw_watches *ws = user;
    if (++ws->ticks % TICKS_WHEN_UP == 0 || !gw_upstream_ready(ws->gw->up))
        gw_watches_resync(ws);
}

struct gw_watches *gw_watches_new(struct gw *gw)
{
    struct gw_watches *ws = DBX_NEW(struct gw_watches);
    ws->gw = gw;
    ws->map = dbx_map_new();
    ws->tick = dbx_timer_new(gw->loop, on_tick, ws);
    ws->soon = dbx_timer_new(gw->loop, on_soon, ws);
    dbx_timer_start(ws->tick, TICK_MS, TICK_MS);
    return ws;
}

struct gw_watches *gw_watches_free(struct gw_watches *ws)
{
    if (!ws)
        return NULL;
    dbx_assert(dbx_map_count(ws->map) == 0);
    dbx_map_free(ws->map);
    dbx_timer_free(ws->tick);
    dbx_timer_free(ws->soon);
    free(ws);
    return NULL;
}

static void drop_if_empty(struct gw_watched *wd)
{
    if (wd->busy || !dbx_list_empty(&wd->list))
        return;
    (void)dbx_map_del(wd->ws->map, &wd->process, sizeof(wd->process));
    free(wd);
}

void gw_watch_add(struct gw_watches *ws, struct gw_watch *w, const struct dbx_id *process,
                  bool verify)
{
    struct gw_watched *wd = dbx_map_get(ws->map, process, sizeof(*process));
    dbx_assert(!w->_at);
    if (!wd) {
        wd = DBX_NEW(struct gw_watched);
        wd->ws = ws;
        wd->process = *process;
        dbx_list_init(&wd->list);
        (void)dbx_map_put(ws->map, process, sizeof(*process), wd);
    }
    w->_at = wd;
    dbx_list_push(&wd->list, &w->node);
    if (!verify)
        return;
    if (ws->n_verify == CHUNK)
        on_soon(ws);
    ws->verify[ws->n_verify++] = *process;
    dbx_timer_start(ws->soon, 0, 0);
}

void gw_watch_remove(struct gw_watch *w)
{
    if (!w->_at)
        return;
    struct gw_watched *wd = DBX_TAKE(w->_at);
    dbx_list_remove(&w->node);
    drop_if_empty(wd);
}

/* Calls each watch that is there now; any may be removed meanwhile. */
static void each(struct gw_watches *ws, const struct dbx_id *process, const struct gw_end *end)
{
    struct gw_watched *wd = dbx_map_get(ws->map, process, sizeof(*process));
    struct dbx_list pending;
    if (!wd)
        return;
    dbx_list_init(&pending);
    dbx_list_take_all(&wd->list, &pending);
    wd->busy++;
    while (!dbx_list_empty(&pending)) {
        struct gw_watch *w = dbx_list_first(&pending, struct gw_watch, node);
        dbx_list_remove(&w->node);
        dbx_list_push(&wd->list, &w->node);
        if (end)
            w->on_ended(w, end);
        else
            w->on_started(w);
    }
    wd->busy--;
    drop_if_empty(wd);
}

void gw_watches_started(struct gw_watches *ws, const struct dbx_id *process)
{
    each(ws, process, NULL);
}

void gw_watches_ended(struct gw_watches *ws, const struct dbx_id *process, const struct gw_end *end)
{
    each(ws, process, end);
}

static void on_rows(const struct gw_process *rows, size_t n, const struct dbx_err *err, void *arg)
{
    struct gw *gw = arg;
    if (err || !gw->watches)
        return; /* the next tick asks again */
    for (size_t i = 0; i < n; i++) {
        if (rows[i].end.terminal)
            gw_watches_ended(gw->watches, &rows[i].id, &rows[i].end);
        else if (rows[i].started_us)
            gw_watches_started(gw->watches, &rows[i].id);
    }
}

static void ask(struct gw_watches *ws, const struct dbx_id *ids, size_t n)
{
    if (n > 0)
        gw_store_processes(ws->gw->store, ids, n, on_rows, ws->gw);
}
