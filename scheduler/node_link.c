/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes say. Hello comes first, and is compared with what the core holds: that is how a new
 * leader, and a node that was away, come to agree. */
#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/proto/link.h"
#include "scheduler/flow.h"
#include "scheduler/messages.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DROP_TIMEOUT_MS 10000

/* ---- the table of nodes: for people and for gateways that look, not for us ---- */

static void on_saved(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    (void)res;
    (void)user;
    if (err && err->code != -ECANCELED)
        dbx_log(DBX_LOG_WARN, NULL, "writing a node's row, ignoring: %s", err->msg);
}

static char *array_of_one(const char *s)
{
    struct dbx_buf buf;

    dbx_buf_init(&buf, 4096);
    (void)dbx_buf_str(&buf, "{\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            (void)dbx_buf_str(&buf, "\\");
        (void)dbx_buf_append(&buf, s, 1);
    }
    (void)dbx_buf_str(&buf, "\"}");
    return (char *)dbx_buf_take(&buf);
}

void sched_node_save(struct sched *s, const struct sched_node *node, const char *version)
{
    DBX_CLEANUP(dbx_freep) char *id = array_of_one(node->id);
    DBX_CLEANUP(dbx_freep) char *url = array_of_one(node->url);
    DBX_CLEANUP(dbx_freep) char *text = array_of_one(version);
    char epoch[24], sizes[256] = "{";

    for (size_t i = 0, at = 1; i < dbx_sizes_len; i++)
        if (node->cap.sizes & dbx_size_bit(&dbx_sizes[i]))
            at += (size_t)snprintf(sizes + at, sizeof(sizes) - at, "%s%s", at > 1 ? "," : "",
                                   dbx_sizes[i].name);
    (void)strncat(sizes, "}", 2);

    (void)snprintf(epoch, sizeof(epoch), "%lld", (long long)s->epoch);
    struct dbx_pg_param params[] = {DBX_PG_TEXT(epoch), DBX_PG_TEXT(id), DBX_PG_TEXT(url),
                                    DBX_PG_TEXT(text), DBX_PG_TEXT(sizes)};
    dbx_pg_query(s->pg, "nodes_up", params, DBX_ARRAY_LEN(params), on_saved, NULL);
}

/* ---- the lease ---- */

void sched_node_expire(struct sched *s, uint64_t now)
{
    struct sched_node *node;
    struct dbx_list *it, *next;
    char epoch[24];

    (void)snprintf(epoch, sizeof(epoch), "%lld", (long long)s->epoch);
    while ((node = sched_core_expire(s->core, now))) {
        struct sched_conn *cn = sched_conn_find(s, node->conn);
        struct dbx_pg_param params[] = {DBX_PG_TEXT(epoch), DBX_PG_TEXT(node->id)};
        dbx_log(DBX_LOG_WARN, NULL, "node %s is lost, with %u processes", node->id, node->nprocs);
        if (cn && cn->node == node) {
            cn->node = NULL;
            dbx_link_drop(cn->link, "silent for too long");
        }
        dbx_pg_query(s->pg, "node_lost", params, DBX_ARRAY_LEN(params), on_saved, NULL);
        dbx_list_each(it, next, &node->procs)
        {
            struct sched_proc *sp = dbx_list_entry(it, struct sched_proc, _of_node);
            if (sp->state == SCHED_STARTING || sp->state == SCHED_RUNNING)
                sched_lost(s, sp);
        }
    }
}

/* ---- hello ---- */

struct drop {
    struct dbx_id id;
    uint32_t attempt;
};

static void fill_drop(struct dbx_jw *w, void *arg)
{
    const struct drop *d = arg;
    char id[DBX_ID_TEXT];

    dbx_id_format(&d->id, id);
    dbx_jw_kstr(w, "process_id", id);
    dbx_jw_ki64(w, "attempt", d->attempt);
}

static void on_dropped(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    (void)m;
    (void)user;
    if (err && err->code == -EREMOTEIO) /* else its next hello lists it again */
        dbx_log(DBX_LOG_WARN, NULL, "a node does not drop a process: %s", err->msg);
}

static void send_drop(struct sched_conn *cn, const struct dbx_id *id, uint32_t attempt)
{
    struct drop d = {.id = *id, .attempt = attempt};
    dbx_link_request(cn->link, "drop", fill_drop, &d, NULL, 0, DROP_TIMEOUT_MS, on_dropped, NULL);
}

/* It has the process: goes on from there. */
static void agree(struct sched *s, struct sched_proc *sp, const struct sched_inventory *inv)
{
    sp->accepted = true;
    sp->start_ask = 0;
    sched_proc_drop_blob(s->core, sp);
    if (inv->running && sp->state == SCHED_STARTING)
        sched_started(s, sp, 0, NULL);
    if (sp->cancel && !inv->ended)
        sched_send_cancel(s, sp);
}

/* It has not: never got it, or forgot it. */
static void disagree(struct sched *s, struct sched_proc *sp)
{
    if (sp->state == SCHED_RUNNING || sp->accepted)
        sched_lost(s, sp);
    else if (sp->cancel)
        sched_end(s, sp, DBX_V_CANCELLED, NULL, /* ran= */ false, NULL);
    else
        sched_start(s, sp);
}

static void reconcile(struct sched_conn *cn, const struct sched_hello *h)
{
    struct sched *s = cn->s;
    struct sched_node *node = cn->node;
    struct dbx_map *has = dbx_map_new();
    struct dbx_list *it, *next;

    for (size_t i = 0; i < h->ninventory; i++)
        (void)dbx_map_put(has, h->inventory[i].process.b, 16, &h->inventory[i]);
    dbx_list_each(it, next, &node->procs)
    {
        struct sched_proc *sp = dbx_list_entry(it, struct sched_proc, _of_node);
        const struct sched_inventory *inv = dbx_map_get(has, sp->id.b, 16);
        if (sp->state != SCHED_STARTING && sp->state != SCHED_RUNNING)
            continue;
        if (inv && inv->attempt == sp->attempt)
            agree(s, sp, inv);
        else
            disagree(s, sp);
    }
    for (size_t i = 0; i < h->ninventory; i++) {
        const struct sched_inventory *inv = &h->inventory[i];
        const struct sched_proc *sp = sched_core_find(s->core, &inv->process);
        bool wanted =
            sp && sp->node == node && sp->attempt == inv->attempt && sp->state != SCHED_ENDING;
        if (!wanted && !inv->ended)
            send_drop(cn, &inv->process, inv->attempt);
    }
    dbx_map_free(has);
}

static void fill_hello(struct dbx_jw *w, void *arg)
{
    const struct sched *s = arg;

    dbx_jw_ki64(w, "epoch", s->epoch);
    dbx_jw_ki64(w, "heartbeat_ms", (int64_t)s->cfg->heartbeat_ms);
}

static void take_node(struct sched_conn *cn, const struct sched_hello *h)
{
    struct sched *s = cn->s;
    struct sched_node *node = sched_core_node(s->core, h->node_id, /* create= */ true);
    struct sched_conn *older = sched_conn_find(s, node->conn);

    if (older && older != cn && older->node == node) {
        older->node = NULL;
        dbx_link_drop(older->link, "the node has a newer link");
    }
    cn->node = node;
    node->conn = cn->id;
    node->online = true;
    node->hold_until = 0;
    node->deadline = dbx_now_ms() + s->cfg->lease_ms;
    node->cap = h->cap;
    (void)dbx_strcpy(node->url, sizeof(node->url), h->url);
}

static void agree_on_boxes(struct sched_conn *cn, const struct sched_hello *h);

static void on_hello(struct sched_conn *cn, const struct dbx_link_msg *m)
{
    struct sched *s = cn->s;
    struct sched_hello h;
    struct dbx_err err = {0};
    int r = sched_hello_decode(m->header, &h, &err);

    if (r == 0 && strcmp(cn->label + strlen("node:"), h.node_id) != 0) {
        r = dbx_err_set(&err, -EACCES, DBX_DENIED, "the token is another node's");
        sched_hello_done(&h);
    }
    if (r < 0) {
        dbx_log(DBX_LOG_WARN, NULL, "%s says a hello that is refused: %s", cn->label, err.msg);
        (void)dbx_link_reply_error(cn->link, m->rid, &err);
        dbx_link_drop(cn->link, "hello refused");
        return;
    }
    take_node(cn, &h);
    dbx_log(DBX_LOG_INFO, NULL, "node %s at %s: %u sandboxes, %zu templates, %zu processes",
            h.node_id, h.url, h.cap.sandboxes, h.cap.ntemplates, h.ninventory);
    (void)dbx_link_reply(cn->link, m->rid, fill_hello, s);
    sched_node_save(s, cn->node, h.version);
    agree_on_boxes(cn, &h);
    reconcile(cn, &h);
    sched_hello_done(&h);
    sched_pump_soon(s);
}

/* ---- sandboxes of workspaces ---- */

struct asked {
    struct sched *s;
    uint64_t reign;
};

static struct asked *asked_new(struct sched *s)
{
    struct asked *as = DBX_NEW(struct asked);

    as->s = s;
    as->reign = s->reign;
    return as;
}

static void fill_sandbox(struct dbx_jw *w, void *arg)
{
    char id[DBX_ID_TEXT];

    dbx_id_format(arg, id);
    dbx_jw_kstr(w, "sandbox_id", id);
}

/* When it does not hear of it, the sandbox ends by being idle. */
void sched_node_end_sandbox(struct sched *s, const struct sched_node *node,
                            const struct dbx_id *sandbox)
{
    struct sched_conn *cn = node->online ? sched_conn_find(s, node->conn) : NULL;

    if (cn && dbx_link_is_up(cn->link))
        (void)dbx_link_send(cn->link, "end_sandbox", fill_sandbox, (void *)sandbox, NULL, 0);
}

void sched_box_ended(struct sched *s, const struct dbx_id *sandbox, const char *why)
{
    char epoch[24], text[DBX_ID_TEXT];

    (void)snprintf(epoch, sizeof(epoch), "%lld", (long long)s->epoch);
    dbx_id_format(sandbox, text);
    struct dbx_pg_param params[] = {DBX_PG_TEXT(epoch), DBX_PG_TEXT(text), DBX_PG_TEXT(why)};
    dbx_pg_query(s->pg, "box_ended", params, DBX_ARRAY_LEN(params), on_saved, NULL);
}

/* A word of ours, or null. */
static const char *end_reason(const char *said)
{
    static const char *const words[] = {"idle",   "max_age", "requested", "lost",
                                        "failed", "drained", "evicted"};

    for (size_t i = 0; i < DBX_ARRAY_LEN(words); i++)
        if (dbx_streq(said, words[i]))
            return words[i];
    return NULL;
}

static void on_sandbox_ended(struct sched_conn *cn, const struct dbx_link_msg *m)
{
    struct dbx_id id;

    if (sched_id_field(m->header, "sandbox_id", &id, NULL) < 0)
        return;
    sched_core_box_gone(cn->s->core, &id, cn->node);
    sched_box_ended(cn->s, &id, end_reason(dbx_json_get_str(m->header, "reason")));
}

/* Those that live there and are not wanted any more: whoever wanted them to end was not heard. */
static void on_unwanted(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct asked *as = user;
    struct sched *s = as->s;
    struct dbx_id id;

    on_saved(res, err, NULL);
    for (size_t i = 0; !err && s->leading && s->reign == as->reign && i < dbx_pg_rows(res); i++) {
        if (dbx_id_parse(dbx_pg_text(res, i, "id", NULL), &id) < 0)
            continue;
        const struct sched_node *node = sched_core_box_node(s->core, &id);
        if (node)
            sched_node_end_sandbox(s, node, &id);
    }
    free(as);
}

/* Said when it is, and again after each hello. */
static void on_sandbox_ready(struct sched_conn *cn, const struct dbx_link_msg *m)
{
    struct sched *s = cn->s;
    char epoch[24], text[DBX_ID_TEXT];
    struct dbx_id id;

    if (sched_id_field(m->header, "sandbox_id", &id, NULL) < 0)
        return;
    (void)snprintf(epoch, sizeof(epoch), "%lld", (long long)s->epoch);
    dbx_id_format(&id, text);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(epoch), DBX_PG_TEXT(text),
                                          DBX_PG_TEXT(cn->node->id)};
    dbx_pg_query(s->pg, "box_ready", params, DBX_ARRAY_LEN(params), on_unwanted, asked_new(s));
}

/* What lives there, by its own word. */
static void agree_on_boxes(struct sched_conn *cn, const struct sched_hello *h)
{
    struct sched *s = cn->s;
    struct dbx_buf ids;
    char epoch[24];

    sched_core_boxes_reset(s->core, cn->node);
    dbx_buf_init(&ids, 8u << 20);
    int r = dbx_buf_str(&ids, "{");
    for (size_t i = 0; i < h->nboxes; i++) {
        char id[DBX_ID_TEXT];
        dbx_id_format(&h->boxes[i], id);
        r |= dbx_buf_printf(&ids, "%s%s", i ? "," : "", id);
        sched_core_box_live(s->core, &h->boxes[i], cn->node);
    }
    r |= dbx_buf_str(&ids, "}");
    dbx_assert(r == 0); /* at most SCHED_MAX_INVENTORY of 37 bytes */
    (void)snprintf(epoch, sizeof(epoch), "%lld", (long long)s->epoch);
    struct dbx_pg_param params[] = {DBX_PG_TEXT(epoch), DBX_PG_TEXT(cn->node->id),
                                    DBX_PG_TEXT(dbx_buf_cstr(&ids))};
    dbx_pg_query(s->pg, "boxes_live", params, DBX_ARRAY_LEN(params), on_unwanted, asked_new(s));
    dbx_buf_done(&ids);
}

/* ---- state, started, ended ---- */

static void on_state(struct sched_conn *cn, const struct dbx_link_msg *m)
{
    struct sched_capacity cap;
    struct dbx_err err = {0};

    if (sched_capacity_decode(m->header, &cap, &err) < 0) {
        dbx_log(DBX_LOG_WARN, NULL, "%s says a state that is ignored: %s %s", cn->label, err.field,
                err.msg);
        return;
    }
    cn->node->cap = cap;
    sched_pump_soon(cn->s);
}

/* The platform failed it, and whoever asked said that it may run again. The node is answered at
 * once: should we die now, its next hello does not list the process, which comes to the same. */
static bool may_run_again(const struct sched_proc *sp, const struct sched_report *rp)
{
    bool open = sp->state == SCHED_STARTING || sp->state == SCHED_RUNNING;
    bool failed = rp->verdict == DBX_V_NODE_LOST || rp->verdict == DBX_V_INTERNAL;
    return open && failed && sched_proc_fate(sp) == SCHED_AGAIN;
}

/* A report about what is not this node's (any more) is answered, so that it is not repeated. */
static void on_report(struct sched_conn *cn, const struct dbx_link_msg *m, bool ended)
{
    struct sched *s = cn->s;
    struct sched_target t = {.conn = cn->id, .rid = m->rid};
    struct sched_report rp;
    struct dbx_err err = {0};

    if (sched_report_decode(m->header, ended, &rp, &err) < 0) {
        (void)dbx_link_reply_error(cn->link, m->rid, &err);
        return;
    }
    struct sched_proc *sp = sched_core_find(s->core, &rp.process);
    bool current =
        sp && sp->node == cn->node && sp->attempt == rp.attempt && sp->state != SCHED_PLACING;
    if (current && ended && may_run_again(sp, &rp)) {
        sched_reply_ok(s, &t);
        sched_lost(s, sp);
    } else if (current && ended) {
        sp->started_us = rp.started_us;
        sched_end(s, sp, rp.verdict, DBX_TAKE(rp.outcome), /* ran= */ true, &t);
    } else if (current) {
        sched_started(s, sp, rp.started_us, &t);
    } else {
        sched_reply_ok(s, &t);
        if (!ended)
            send_drop(cn, &rp.process, rp.attempt);
    }
    sched_report_done(&rp);
}

void sched_node_msg(struct sched_conn *cn, const struct dbx_link_msg *m)
{
    struct dbx_err err = {0};

    if (strcmp(m->op, "hello") == 0) {
        on_hello(cn, m);
        return;
    }
    if (!cn->node) {
        (void)dbx_err_set(&err, -EPROTO, DBX_CONFLICT, "hello comes first");
        (void)dbx_link_reply_error(cn->link, m->rid, &err);
        return;
    }
    cn->node->deadline = dbx_now_ms() + cn->s->cfg->lease_ms;
    if (strcmp(m->op, "state") == 0) {
        on_state(cn, m);
    } else if (strcmp(m->op, "files") == 0) {
        sched_node_files(cn, m);
    } else if (strcmp(m->op, "files_since") == 0) {
        if (sched_node_files_since(cn, m, &err) < 0)
            (void)dbx_link_reply_error(cn->link, m->rid, &err);
    } else if (strcmp(m->op, "sandbox_ended") == 0) {
        on_sandbox_ended(cn, m);
    } else if (strcmp(m->op, "sandbox_ready") == 0) {
        on_sandbox_ready(cn, m);
    } else if (strcmp(m->op, "started") == 0 || strcmp(m->op, "ended") == 0) {
        on_report(cn, m, m->op[0] == 'e');
    } else {
        (void)dbx_err_set(&err, -ENOSYS, DBX_INVALID, "unknown op");
        (void)dbx_link_reply_error(cn->link, m->rid, &err);
    }
}
