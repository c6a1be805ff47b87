/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/upstream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/proto/link.h"
#include "gateway/batches.h"
#include "gateway/execution_decode.h"
#include "gateway/gw.h"
#include "gateway/watch.h"
#include "gateway/workspace_decode.h"

#define PLACE_MS 5000
#define CANCEL_MS 5000
#define WHERE_MS 5000
#define NODE_UP_MS 5000 /* a node's link must stand within this */
#define INPUT_MS 10000
#define NODE_IDLE_MS 60000
#define TICK_MS 1000
#define MAX_WHERE 4096

struct node {
    struct gw_upstream *up;
    char *url; /* owned; the key */
    struct dbx_link *link;
    struct dbx_list waiting; /* struct input: until the link stands */
    uint64_t used_ms;
    unsigned open; /* requests on it */
};

/* One piece of input on its way: where, the link, the bytes, the end; or another order. */
struct input {
    struct dbx_list node;
    struct gw_upstream *up;
    struct node *nd; /* NULL before it is known */
    struct dbx_id process;
    struct dbx_buf data;
    const char *op; /* NULL: data and eof */
    int64_t cols, rows, signo;
    bool eof, from_cache, again;
    uint64_t deadline_ms; /* while it waits for a link */
    gw_upstream_fn *fn;
    void *arg;
};

struct gw_upstream {
    struct gw *gw;
    struct dbx_link *scheduler;
    bool seen, closing;
    struct dbx_map *nodes; /* url -> struct node, owned */
    struct dbx_map *where; /* process -> char *url, owned */
    struct dbx_timer *tick;
};

static void find_node(struct input *in);

/* --- the scheduler --- */

static void on_scheduler_up(struct dbx_link *l, void *user)
{
    struct gw_upstream *up = user;
    (void)l;
    up->seen = true;
    dbx_log(DBX_LOG_INFO, &up->gw->log, "the scheduler is there");
    gw_watches_resync(up->gw->watches);
}

static void on_scheduler_down(struct dbx_link *l, const char *reason, void *user)
{
    struct gw_upstream *up = user;
    (void)l;
    dbx_log(DBX_LOG_WARN, &up->gw->log, "the scheduler is away: %s", reason);
}

static void forget_where(struct gw_upstream *up, const struct dbx_id *process)
{
    free(dbx_map_del(up->where, process, sizeof(*process)));
}

static void remember_where(struct gw_upstream *up, const struct dbx_id *process, const char *url)
{
    struct dbx_map_iter it = {0};
    if (dbx_map_count(up->where) >= MAX_WHERE)
        while (dbx_map_next(up->where, &it)) {
            char *old = it.value;
            (void)dbx_map_del(up->where, it.key, it.key_len);
            free(old);
        }
    free(dbx_map_put(up->where, process, sizeof(*process), dbx_strdup(url)));
}

static void on_scheduler_msg(struct dbx_link *l, const struct dbx_link_msg *m, void *user)
{
    struct gw_upstream *up = user;
    struct dbx_id process;
    struct gw_end end;
    const char *id = dbx_json_get_str(m->header, "process_id");
    struct dbx_id batch;
    (void)l;
    if (dbx_id_parse(dbx_json_get_str(m->header, "batch_id"), &batch) == 0)
        gw_batches_wake(up->gw, &batch);
    if (!id || dbx_id_parse(id, &process) < 0)
        return;
    if (dbx_streq(m->op, "started")) {
        const char *url = dbx_json_get_str(m->header, "url");
        if (url && dbx_map_get(up->where, &process, sizeof(process)))
            remember_where(up, &process, url); /* it may have moved */
        gw_watches_started(up->gw->watches, &process);
    } else if (dbx_streq(m->op, "ended")) {
        forget_where(up, &process);
        if (gw_end_read(dbx_json_get_str(m->header, "status"),
                        dbx_json_get_str(m->header, "verdict"), dbx_json_get(m->header, "outcome"),
                        &end) == 0 &&
            end.terminal)
            gw_watches_ended(up->gw->watches, &process, &end);
    }
}

static void put_id(struct dbx_jw *w, const char *key, const struct dbx_id *id)
{
    char text[DBX_ID_TEXT];
    dbx_id_format(id, text);
    dbx_jw_kstr(w, key, text);
}

static void fill_place(struct dbx_jw *w, void *arg)
{
    const struct gw_place *p = arg;
    put_id(w, "process_id", p->process);
    put_id(w, "sandbox_id", p->sandbox);
    put_id(w, "owner", p->owner);
    dbx_jw_kstr(w, "trace", p->trace);
    dbx_jw_ki64(w, "accepted_us", dbx_wall_us());
    dbx_jw_key(w, "request");
    if (p->run)
        gw_run_write_request(w, p->run);
    else
        gw_execution_write_request(w, p->ex, p->stdin_open);
    dbx_jw_ki64(w, "files_len", (int64_t)p->files->len);
}

static void on_placed(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct gw_upstream *up = user;
    (void)m;
    if (err)
        dbx_log(DBX_LOG_DEBUG, up->closing ? NULL : &up->gw->log, "place: %s", err->msg);
}

void gw_upstream_place(struct gw_upstream *up, const struct gw_place *p)
{
    const struct dbx_buf *files = p->files;
    if (!gw_upstream_ready(up))
        return;
    size_t len = files->len + p->stdin_len;
    DBX_CLEANUP(dbx_freep) uint8_t *blob = dbx_malloc(len + 1);
    memcpy(blob, files->data, files->len);
    memcpy(blob + files->len, p->stdin_data, p->stdin_len);
    dbx_link_request(up->scheduler, "place", fill_place, (void *)p, blob, len, PLACE_MS, on_placed,
                     up);
}

struct cancel {
    gw_upstream_fn *fn;
    void *arg;
};

static void fill_process(struct dbx_jw *w, void *arg)
{
    put_id(w, "process_id", arg);
}

static void on_cancelled(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct cancel c = *(struct cancel *)user;
    (void)m;
    free(user);
    c.fn(err, c.arg);
}

void gw_upstream_cancel(struct gw_upstream *up, const struct dbx_id *process, gw_upstream_fn *fn,
                        void *arg)
{
    struct cancel *c = DBX_NEW(struct cancel);
    c->fn = fn;
    c->arg = arg;
    dbx_link_request(up->scheduler, "cancel", fill_process, (void *)process, NULL, 0, CANCEL_MS,
                     on_cancelled, c);
}

static void fill_sandbox(struct dbx_jw *w, void *arg)
{
    put_id(w, "sandbox_id", arg);
}

static void ignore(const struct dbx_err *err, void *arg)
{
    (void)arg;
    if (err)
        dbx_log(DBX_LOG_WARN, NULL, "end a sandbox: %s", err->msg);
}

void gw_upstream_end_sandbox(struct gw_upstream *up, const struct dbx_id *sandbox,
                             gw_upstream_fn *fn, void *arg)
{
    struct cancel *c = DBX_NEW(struct cancel);
    c->fn = fn ? fn : ignore;
    c->arg = arg;
    dbx_link_request(up->scheduler, "end_sandbox", fill_sandbox, (void *)sandbox, NULL, 0,
                     CANCEL_MS, on_cancelled, c);
}

void gw_upstream_standby(struct gw_upstream *up)
{
    if (gw_upstream_ready(up))
        (void)dbx_link_send(up->scheduler, "standby", NULL, NULL, NULL, 0);
}

struct keep {
    const struct dbx_id *ids;
    size_t n;
};

static void fill_keep(struct dbx_jw *w, void *arg)
{
    const struct keep *k = arg;
    char text[DBX_ID_TEXT];
    dbx_jw_key(w, "sandbox_ids");
    dbx_jw_array(w);
    for (size_t i = 0; i < k->n; i++) {
        dbx_id_format(&k->ids[i], text);
        dbx_jw_str(w, text);
    }
    dbx_jw_array_end(w);
}

void gw_upstream_keep(struct gw_upstream *up, const struct dbx_id *sandboxes, size_t n)
{
    struct keep k = {.ids = sandboxes, .n = n};
    if (gw_upstream_ready(up))
        (void)dbx_link_send(up->scheduler, "keep", fill_keep, &k, NULL, 0);
}

static void fill_batch(struct dbx_jw *w, void *arg)
{
    put_id(w, "batch_id", arg);
}

static void on_batch_told(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct gw_upstream *up = user;
    (void)m;
    if (err)
        dbx_log(DBX_LOG_WARN, up->closing ? NULL : &up->gw->log,
                "tell of a batch, it will be found: %s", err->msg);
}

void gw_upstream_batch(struct gw_upstream *up, const struct dbx_id *batch)
{
    dbx_link_request(up->scheduler, "batch", fill_batch, (void *)batch, NULL, 0, CANCEL_MS,
                     on_batch_told, up);
}

/* --- nodes --- */

static void finish(struct input *in, const struct dbx_err *err)
{
    struct node *nd = in->nd;
    if (nd) {
        dbx_list_remove(&in->node);
        nd->used_ms = dbx_now_ms();
    }
    if (in->fn)
        in->fn(err, in->arg);
    dbx_buf_done(&in->data);
    free(in);
}

/* The node does not know the process, or is away: where it runs is asked once more. */
static void fail(struct input *in, const struct dbx_err *err)
{
    bool stale = in->from_cache && !in->again && !in->up->closing &&
                 (err->kind == DBX_NOT_FOUND || err->kind == DBX_UNAVAIL);
    forget_where(in->up, &in->process);
    if (!stale) {
        finish(in, err);
        return;
    }
    dbx_list_remove(&in->node);
    in->nd = NULL;
    in->again = true;
    find_node(in);
}

static void on_eof_answer(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct input *in = user;
    (void)m;
    in->nd->open--;
    finish(in, err);
}

static void on_input_answer(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct input *in = user;
    (void)m;
    if (!err && in->eof) {
        dbx_link_request(in->nd->link, "eof", fill_process, &in->process, NULL, 0, INPUT_MS,
                         on_eof_answer, in);
        return;
    }
    in->nd->open--;
    if (err)
        fail(in, err);
    else
        finish(in, NULL);
}

static void fill_order(struct dbx_jw *w, void *arg)
{
    const struct input *in = arg;
    put_id(w, "process_id", &in->process);
    if (in->signo) {
        dbx_jw_ki64(w, "signo", in->signo);
    } else {
        dbx_jw_ki64(w, "cols", in->cols);
        dbx_jw_ki64(w, "rows", in->rows);
    }
}

static void send_input(struct input *in)
{
    struct node *nd = in->nd;
    dbx_list_remove(&in->node);
    nd->open++;
    nd->used_ms = dbx_now_ms();
    if (in->op)
        dbx_link_request(nd->link, in->op, fill_order, in, NULL, 0, INPUT_MS, on_input_answer, in);
    else if (in->data.len > 0)
        dbx_link_request(nd->link, "input", fill_process, &in->process, in->data.data, in->data.len,
                         INPUT_MS, on_input_answer, in);
    else
        dbx_link_request(nd->link, "eof", fill_process, &in->process, NULL, 0, INPUT_MS,
                         on_eof_answer, in);
}

static void on_node_up(struct dbx_link *l, void *user)
{
    struct node *nd = user;
    (void)l;
    while (!dbx_list_empty(&nd->waiting))
        send_input(dbx_list_first(&nd->waiting, struct input, node));
}

static void on_node_msg(struct dbx_link *l, const struct dbx_link_msg *m, void *user)
{
    (void)l;
    (void)m;
    (void)user; /* a node says nothing unasked */
}

static void on_node_down(struct dbx_link *l, const char *reason, void *user)
{
    struct node *nd = user;
    (void)l;
    dbx_log(DBX_LOG_DEBUG, &nd->up->gw->log, "node %s is away: %s", nd->url, reason);
}

static const struct dbx_link_handlers node_handlers = {
    .on_up = on_node_up, .on_msg = on_node_msg, .on_down = on_node_down};

/* A node may name itself by its base URL: http://host:port is ws://host:port/link. Caller frees. */
static char *link_url(const char *url)
{
    bool http = dbx_starts_with(url, "http");
    const char *scheme = !http ? "" : dbx_starts_with(url, "https") ? "wss" : "ws";
    const char *rest = http ? url + strcspn(url, ":") : url;
    const char *host = strstr(rest, "://");
    bool bare = host && !strchr(host + 3, '/');
    return dbx_asprintf("%s%s%s", scheme, rest, bare ? "/link" : "");
}

static struct node *node_of(struct gw_upstream *up, const char *base)
{
    DBX_CLEANUP(dbx_freep) char *url = link_url(base);
    struct node *nd = DBX_MAP_GET_STR(up->nodes, url);
    if (nd)
        return nd;
    nd = DBX_NEW(struct node);
    nd->up = up;
    nd->url = DBX_TAKE(url);
    nd->used_ms = dbx_now_ms();
    dbx_list_init(&nd->waiting);
    const struct dbx_link_client_opts opts = {.loop = up->gw->loop,
                                              .url = nd->url,
                                              .keys = up->gw->keys,
                                              .label = "gateway",
                                              .ca_file = up->gw->cfg->ca_file};
    nd->link = dbx_link_connect(&opts, &node_handlers, nd);
    (void)dbx_map_put(up->nodes, nd->url, strlen(nd->url), nd);
    return nd;
}

static void free_node(struct node *nd)
{
    struct dbx_err err;
    dbx_err_set(&err, -ECANCELED, DBX_UNAVAIL, "closing");
    (void)dbx_map_del(nd->up->nodes, nd->url, strlen(nd->url));
    nd->link = dbx_link_free(nd->link);
    while (!dbx_list_empty(&nd->waiting))
        finish(dbx_list_first(&nd->waiting, struct input, node), &err);
    free(nd->url);
    free(nd);
}

static void use_node(struct input *in, const char *url)
{
    in->nd = node_of(in->up, url);
    in->deadline_ms = dbx_now_ms() + NODE_UP_MS;
    dbx_list_push(&in->nd->waiting, &in->node);
    if (dbx_link_is_up(in->nd->link))
        send_input(in);
}

static void on_where(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct input *in = user;
    struct dbx_err gone;
    const char *url = err ? NULL : dbx_json_get_str(m->header, "url");
    if (url && !in->up->closing) {
        remember_where(in->up, &in->process, url);
        use_node(in, url);
        return;
    }
    if (!err) {
        dbx_err_set(&gone, -ENOENT, DBX_NOT_FOUND, "the process runs nowhere");
        err = &gone;
    }
    finish(in, err);
}

static void find_node(struct input *in)
{
    const char *url = in->again ? NULL : dbx_map_get(in->up->where, &in->process, 16);
    in->from_cache = url != NULL;
    if (url)
        use_node(in, url);
    else
        dbx_link_request(in->up->scheduler, "where", fill_process, &in->process, NULL, 0, WHERE_MS,
                         on_where, in);
}

static struct input *new_input(struct gw_upstream *up, const struct dbx_id *process,
                               gw_upstream_fn *fn, void *arg)
{
    struct input *in = DBX_NEW(struct input);
    dbx_list_init(&in->node);
    in->up = up;
    in->process = *process;
    in->fn = fn;
    in->arg = arg;
    dbx_buf_init(&in->data, DBX_MAX_LINK_MSG);
    return in;
}

void gw_upstream_resize(struct gw_upstream *up, const struct dbx_id *process, int64_t cols,
                        int64_t rows, gw_upstream_fn *fn, void *arg)
{
    struct input *in = new_input(up, process, fn, arg);
    in->op = "resize";
    in->cols = cols;
    in->rows = rows;
    find_node(in);
}

void gw_upstream_signal(struct gw_upstream *up, const struct dbx_id *process, int signo,
                        gw_upstream_fn *fn, void *arg)
{
    struct input *in = new_input(up, process, fn, arg);
    in->op = "signal";
    in->signo = signo;
    find_node(in);
}

void gw_upstream_input(struct gw_upstream *up, const struct dbx_id *process, const void *data,
                       size_t len, bool eof, gw_upstream_fn *fn, void *arg)
{
    struct input *in = new_input(up, process, fn, arg);
    in->eof = eof;
    int r = dbx_buf_append(&in->data, data, len);
    dbx_assert(r == 0); /* the caller bounds it */
    find_node(in);
}

static void collect_late(struct node *nd, uint64_t now, struct dbx_list *late)
{
    struct dbx_list *node, *tmp;
    dbx_list_each(node, tmp, &nd->waiting)
    {
        if (dbx_list_entry(node, struct input, node)->deadline_ms > now)
            continue;
        dbx_list_remove(node);
        dbx_list_push(late, node);
    }
}

/* Links that nobody used for long are closed; input that waited too long for one is refused. */
static void on_tick(void *user)
{
    struct gw_upstream *up = user;
    struct dbx_map_iter it = {0};
    struct dbx_list late;
    struct dbx_err err;
    uint64_t now = dbx_now_ms();
    dbx_list_init(&late);
    dbx_err_set(&err, -ENOTCONN, DBX_UNAVAIL, "the node cannot be reached");
    while (dbx_map_next(up->nodes, &it)) {
        struct node *nd = it.value;
        if (!nd->open && dbx_list_empty(&nd->waiting) && nd->used_ms + NODE_IDLE_MS < now)
            free_node(nd);
        else
            collect_late(nd, now, &late);
    }
    while (!dbx_list_empty(&late))
        finish(dbx_list_first(&late, struct input, node), &err);
}

/* --- the whole --- */

struct gw_upstream *gw_upstream_new(struct gw *gw)
{
    static const struct dbx_link_handlers handlers = {
        .on_up = on_scheduler_up, .on_msg = on_scheduler_msg, .on_down = on_scheduler_down};
    struct gw_upstream *up = DBX_NEW(struct gw_upstream);
    up->gw = gw;
    up->nodes = dbx_map_new();
    up->where = dbx_map_new();
    const struct dbx_link_client_opts opts = {.loop = gw->loop,
                                              .url = gw->cfg->scheduler,
                                              .keys = gw->keys,
                                              .label = "gateway",
                                              .ca_file = gw->cfg->ca_file};
    up->scheduler = dbx_link_connect(&opts, &handlers, up);
    up->tick = dbx_timer_new(gw->loop, on_tick, up);
    dbx_timer_start(up->tick, TICK_MS, TICK_MS);
    return up;
}

struct gw_upstream *gw_upstream_free(struct gw_upstream *up)
{
    if (!up)
        return NULL;
    struct dbx_map_iter it = {0};
    up->closing = true;
    up->scheduler = dbx_link_free(up->scheduler);
    while (dbx_map_next(up->nodes, &it))
        free_node(it.value);
    it = (struct dbx_map_iter){0};
    while (dbx_map_next(up->where, &it))
        free(it.value);
    dbx_map_free(up->nodes);
    dbx_map_free(up->where);
    dbx_timer_free(up->tick);
    free(up);
    return NULL;
}

bool gw_upstream_ready(const struct gw_upstream *up)
{
    return dbx_link_is_up(up->scheduler);
}

bool gw_upstream_seen(const struct gw_upstream *up)
{
    return up->seen;
}
