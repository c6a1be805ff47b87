/* SPDX-License-Identifier: Apache-2.0 */
/* A reign: what a leader holds in memory, read from the database when it takes the lead, and thrown
 * away when it loses it. What is placed waits for its node's hello until the lease runs out; what
 * is pending is found by the scan. */
#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/pg.h"
#include "common/io/loop.h"
#include "scheduler/flow.h"
#include "scheduler/leader.h"
#include "scheduler/messages.h"
#include "scheduler/store.h"
#include <stdlib.h>
#include <string.h>

#define TICK_MS 100
#define TOUCH_MS 10000
#define LOAD_PAGE 1000
#define SCAN_PAGE 256
#define AGAIN_MS 200

/* A walk over processes, page by page, by (created_at, id). */
struct walk {
    struct sched *s;
    uint64_t reign;
    char at[64], id[DBX_ID_TEXT];
    bool placed; /* load; else scan */
    struct dbx_timer *timer;
};

static void walk_on(struct walk *w);

static bool is_ours(const struct sched *s, uint64_t reign)
{
    return s->reign == reign && (s->leading || s->loading);
}

static struct walk *walk_new(struct sched *s, bool placed)
{
    struct walk *w = DBX_NEW(struct walk);

    w->s = s;
    w->reign = s->reign;
    w->placed = placed;
    (void)dbx_strcpy(w->at, sizeof(w->at), "-infinity");
    (void)dbx_strcpy(w->id, sizeof(w->id), "00000000-0000-0000-0000-000000000000");
    return w;
}

static void walk_free(struct walk *w)
{
    dbx_timer_free(w->timer);
    free(w);
}

static void on_again(void *user)
{
    struct walk *w = user;

    w->timer = dbx_timer_free(w->timer);
    walk_on(w);
}

/* ---- rows ---- */

static struct sched_proc *proc_of_row(const struct dbx_pg_result *res, size_t i,
                                      struct dbx_err *err)
{
    struct sched_proc *sp = DBX_NEW(struct sched_proc);
    size_t len = 0;
    const char *request = dbx_pg_text(res, i, "request", &len);
    const char *trace = dbx_pg_text(res, i, "trace", NULL);

    sp->attempt = (uint32_t)dbx_pg_i64(res, i, "attempt", 0);
    sp->accepted_us = dbx_pg_i64(res, i, "accepted_us", 0);
    sp->trace = dbx_strdup(trace ? trace : "");
    if (dbx_id_parse(dbx_pg_text(res, i, "id", NULL), &sp->id) == 0 &&
        dbx_id_parse(dbx_pg_text(res, i, "sandbox_id", NULL), &sp->sandbox) == 0 &&
        dbx_id_parse(dbx_pg_text(res, i, "owner", NULL), &sp->owner) == 0 && request &&
        sched_request_take(sp, request, len, err) == 0)
        return sp;
    sched_proc_free(sp);
    return NULL;
}

/* It ends in INTERNAL; in a load, when the reign has begun. */
static void end_unreadable(struct sched *s, const char *id)
{
    struct sched_proc *sp = DBX_NEW(struct sched_proc);

    if (dbx_id_parse(id, &sp->id) < 0 || sched_core_find(s->core, &sp->id)) {
        sched_proc_free(sp);
        return;
    }
    sched_core_add(s->core, sp);
    sched_end(s, sp, DBX_V_INTERNAL, NULL, /* ran= */ false, NULL);
}

void sched_use_row(struct sched *s, const struct dbx_pg_result *res, size_t i, bool placed)
{
    struct dbx_err err = {0};
    const char *node_id = dbx_pg_text(res, i, "node_id", NULL),
               *id = dbx_pg_text(res, i, "id", NULL);
    struct sched_proc *sp = proc_of_row(res, i, &err);

    if (!sp) {
        dbx_log(DBX_LOG_ERR, NULL, "process %s cannot be read: %s %s", id, err.field, err.msg);
        end_unreadable(s, id);
        return;
    }
    if (sched_core_find(s->core, &sp->id)) {
        sched_proc_free(sp);
        return;
    }
    struct dbx_id batch;
    if (dbx_id_parse(dbx_pg_text(res, i, "batch_id", NULL), &batch) == 0)
        sp->batch = sched_core_batch(s->core, &batch, /* create= */ true);
    if (!placed) {
        sched_core_add(s->core, sp);
        return;
    }
    if (!node_id || strlen(node_id) > SCHED_NAME_MAX)
        node_id = "?"; /* no node's name: it will not come */
    struct sched_node *node = sched_core_node(s->core, node_id, /* create= */ true);
    if (node->deadline == 0)
        node->deadline = dbx_now_ms() + s->cfg->lease_ms;
    const char *started = dbx_pg_text(res, i, "started", NULL);
    sched_core_adopt(s->core, sp, node, started && started[0] == 't');
}

/* ---- the walk ---- */

static void on_tick(void *user);

static void loaded(struct sched *s)
{
    s->loading = false;
    s->leading = true;
    sched_store_kick(s->store);
    dbx_timer_start(s->tick, TICK_MS, TICK_MS);
    dbx_timer_start(s->scan, 1, s->cfg->scan_ms);
    dbx_metric_set(s->metrics.leading, 1);
    dbx_log(DBX_LOG_INFO, NULL, "leads: epoch %lld, %zu processes open", (long long)s->epoch,
            sched_core_count(s->core));
}

static void walk_end(struct walk *w)
{
    struct sched *s = w->s;
    bool placed = w->placed;

    walk_free(w);
    if (placed) {
        loaded(s);
    } else {
        s->scanning = false;
        sched_pump_soon(s);
    }
}

static void on_page(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct walk *w = user;
    size_t n = err ? 0 : dbx_pg_rows(res), page = w->placed ? LOAD_PAGE : SCAN_PAGE;

    if (!is_ours(w->s, w->reign)) {
        walk_free(w);
        return;
    }
    if (err) {
        dbx_log(DBX_LOG_WARN, NULL, "reading the open processes, trying again: %s", err->msg);
        w->timer = dbx_timer_new(w->s->loop, on_again, w);
        dbx_timer_start(w->timer, AGAIN_MS, 0);
        return;
    }
    for (size_t i = 0; i < n && (w->placed || !sched_core_full(w->s->core)); i++)
        sched_use_row(w->s, res, i, w->placed);
    if (n < page || (!w->placed && sched_core_full(w->s->core))) {
        walk_end(w);
        return;
    }
    const char *at = dbx_pg_text(res, n - 1, "cursor", NULL),
               *id = dbx_pg_text(res, n - 1, "id", NULL);
    (void)dbx_strcpy(w->at, sizeof(w->at), at ? at : "infinity");
    (void)dbx_strcpy(w->id, sizeof(w->id), id ? id : "");
    walk_on(w);
}

static void walk_on(struct walk *w)
{
    struct dbx_pg_param params[] = {DBX_PG_TEXT(w->at), DBX_PG_TEXT(w->id)};

    if (is_ours(w->s, w->reign))
        dbx_pg_query(w->s->pg, w->placed ? "load_placed" : "scan", params, 2, on_page, w);
    else
        walk_free(w);
}

static void on_scan(void *user)
{
    struct sched *s = user;

    if (!s->leading)
        return;
    sched_sweep(s);
    sched_batches_look(s);
    sched_standby_look(s);
    if (s->scanning || sched_core_full(s->core))
        return;
    s->scanning = true;
    walk_on(walk_new(s, /* placed= */ false));
}

/* Until the nodes' hellos say better. */
static void on_boxes(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct walk *w = user;
    struct sched *s = w->s;

    if (!is_ours(s, w->reign)) {
        walk_free(w);
        return;
    }
    if (err)
        dbx_log(DBX_LOG_WARN, NULL, "reading the sandboxes, going on without: %s", err->msg);
    for (size_t i = 0; !err && i < dbx_pg_rows(res); i++) {
        const char *node_id = dbx_pg_text(res, i, "node_id", NULL);
        struct sched_node *node = sched_core_node(s->core, node_id, /* create= */ false);
        struct dbx_id id;
        if (node && dbx_id_parse(dbx_pg_text(res, i, "id", NULL), &id) == 0)
            sched_core_box_live(s->core, &id, node);
    }
    walk_on(w);
}

/* Nodes that nobody hears of any more become lost by their lease, like any other. */
static void on_nodes(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct walk *w = user;
    struct sched *s = w->s;

    if (!is_ours(s, w->reign)) {
        walk_free(w);
        return;
    }
    if (err)
        dbx_log(DBX_LOG_WARN, NULL, "reading the nodes, going on without: %s", err->msg);
    for (size_t i = 0; !err && i < dbx_pg_rows(res); i++) {
        const char *id = dbx_pg_text(res, i, "id", NULL), *url = dbx_pg_text(res, i, "url", NULL);
        if (strlen(id) > SCHED_NAME_MAX)
            continue;
        struct sched_node *node = sched_core_node(s->core, id, /* create= */ true);
        (void)dbx_strcpy(node->url, sizeof(node->url), url);
        node->deadline = dbx_now_ms() + s->cfg->lease_ms;
    }
    dbx_pg_query(s->pg, "load_boxes", NULL, 0, on_boxes, w);
}

/* ---- time ---- */

static void look_at_nodes(struct sched *s, uint64_t now)
{
    struct dbx_list *it, *next;
    bool touch = now - s->last_touch >= TOUCH_MS;
    size_t online = 0;

    dbx_list_each(it, next, sched_core_nodes(s->core))
    {
        const struct sched_node *node = dbx_list_entry(it, struct sched_node, _node);
        online += node->online;
        if (node->online && touch)
            sched_node_save(s, node, "");
    }
    if (touch)
        s->last_touch = now;
    dbx_metric_set(s->metrics.nodes, (double)online);
}

static void on_tick(void *user)
{
    struct sched *s = user;
    uint64_t now = dbx_now_ms();

    if (!s->leading)
        return;
    sched_node_expire(s, now);
    sched_core_sweep(s->core);
    look_at_nodes(s, now);
    if (sched_core_queued(s->core) > 0)
        sched_pump(s);
    dbx_metric_set(s->metrics.queue, (double)sched_core_queued(s->core));
    dbx_metric_set(s->metrics.open, (double)sched_core_count(s->core));
}

/* ---- from lead to loss ---- */

void sched_reign_begin(struct sched *s, int64_t epoch)
{
    static sched_committed *const fns[3] = {sched_on_placed, sched_on_started, sched_on_ended};

    s->reign++;
    s->epoch = epoch;
    s->loading = true;
    s->scanning = s->pump_due = false;
    s->listing = s->list_again = s->feeding = s->feed_due = false;
    s->standing = s->stand_again = false;
    s->core = sched_core_new(s->cfg->max_queue);
    s->store = sched_store_new(s, fns);
    s->tick = dbx_timer_new(s->loop, on_tick, s);
    s->scan = dbx_timer_new(s->loop, on_scan, s);
    s->last_touch = dbx_now_ms();
    dbx_pg_query(s->pg, "load_nodes", NULL, 0, on_nodes, walk_new(s, /* placed= */ true));
}

void sched_reign_end(struct sched *s, const char *why)
{
    struct dbx_list *it, *next;

    s->leading = s->loading = false;
    if (!s->core)
        return;
    s->reign++;
    dbx_metric_set(s->metrics.leading, 0);
    dbx_log(DBX_LOG_WARN, NULL, "leads no more: %s", why);
    dbx_list_each(it, next, &s->conns) dbx_list_entry(it, struct sched_conn, _conn)->node = NULL;
    s->tick = dbx_timer_free(s->tick);
    s->scan = dbx_timer_free(s->scan);
    s->store = sched_store_free(s->store);
    s->core = sched_core_free(s->core);
    sched_conns_drop(s, "not the leader any more");
}

static void on_deposed(void *user)
{
    struct sched *s = user;

    if (s->leading || s->loading || !s->core)
        return;
    sched_reign_end(s, "another scheduler has taken the lead");
    sched_leader_resign(s->leader);
}

void sched_depose(struct sched *s, const char *why)
{
    dbx_log(DBX_LOG_WARN, NULL, "no write any more: %s", why);
    s->leading = s->loading = false;
    dbx_loop_defer(s->loop, on_deposed, s);
}
