/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/proto/link.h"
#include "scheduler/flow.h"
#include "scheduler/messages.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_KEEP 1000 /* sandboxes in one message */
#define MAX_BLOBS                                                                                  \
    (256u << 20) /* of what waits; the rest is read from the database again when it is its turn */

/* A question to the database, about a process that the core does not know, or a sandbox. */
struct lookup {
    struct sched *s;
    uint64_t reign;
    struct sched_target target;
    struct dbx_id id;
    bool cancel;
};

struct answer {
    const char *state, *status, *node_id, *url;
};

static void fill_answer(struct dbx_jw *w, void *arg)
{
    const struct answer *a = arg;

    if (a->state)
        dbx_jw_kstr(w, "state", a->state);
    if (a->status) {
        dbx_jw_kstr(w, "status", a->status);
        dbx_jw_kstr(w, "node_id", a->node_id);
        dbx_jw_kstr(w, "url", a->url);
    }
}

static void reply_state(struct sched_conn *cn, int64_t rid, const char *state)
{
    struct answer a = {.state = state};
    (void)dbx_link_reply(cn->link, rid, fill_answer, &a);
}

/* ---- place ---- */

static void on_place(struct sched_conn *cn, const struct dbx_link_msg *m)
{
    struct sched *s = cn->s;
    struct dbx_err err = {0};
    struct sched_proc *sp = NULL, *known;
    bool keep = sched_core_blob_bytes(s->core) + m->blob_len <= MAX_BLOBS;

    if (sched_place_decode(m->header, m->blob, m->blob_len, keep, &sp, &err) < 0) {
        (void)dbx_link_reply_error(cn->link, m->rid, &err);
        return;
    }
    known = sched_core_find(s->core, &sp->id);
    if (known ||
        sched_core_full(s->core)) { /* the second is found by the scan when there is room */
        sched_proc_free(sp);
        reply_state(cn, m->rid, known && known->state != SCHED_QUEUED ? "placed" : "queued");
        return;
    }
    bool alone = sched_core_queued(s->core) == 0;
    sched_core_add(s->core, sp);
    if (alone)
        sched_pump(s);
    else
        sched_pump_soon(s);
    reply_state(cn, m->rid, sp->state == SCHED_QUEUED ? "queued" : "placed");
}

/* ---- cancel, where ---- */

/* Announced by nobody yet; its place will find it ending. */
static struct sched_proc *add_unknown(struct sched *s, const struct dbx_id *id)
{
    struct sched_proc *sp = DBX_NEW(struct sched_proc);

    sp->id = *id;
    sched_core_add(s->core, sp);
    return sp;
}

static void on_lookup(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct lookup *lu = user;
    struct sched *s = lu->s;
    struct sched_conn *cn = sched_conn_find(s, lu->target.conn);
    bool ours = s->leading && s->reign == lu->reign;
    struct dbx_err none = {0};

    if (!err && dbx_pg_rows(res) == 0) {
        (void)dbx_err_set(&none, -ENOENT, DBX_NOT_FOUND, "no such process");
        err = &none;
    }
    if (err || !ours) {
        if (!err)
            (void)dbx_err_set(&none, -EAGAIN, DBX_UNAVAIL, "not the leader");
        if (cn)
            (void)dbx_link_reply_error(cn->link, lu->target.rid, err ? err : &none);
        free(lu);
        return;
    }
    struct answer a = {.status = dbx_pg_text(res, 0, "status", NULL),
                       .node_id = dbx_pg_text(res, 0, "node_id", NULL),
                       .url = dbx_pg_text(res, 0, "url", NULL)};
    struct sched_proc *sp = sched_core_find(s->core, &lu->id);
    const char *placed = dbx_pg_text(res, 0, "placed", NULL);
    if (lu->cancel && !sp && dbx_streq(a.status, "pending") && placed && placed[0] == 'f')
        sp = add_unknown(s, &lu->id);
    if (lu->cancel && sp)
        sched_cancel(s, sp);
    if (cn)
        (void)dbx_link_reply(cn->link, lu->target.rid, fill_answer, &a);
    free(lu);
}

static struct lookup *ask_of(struct sched_conn *cn, int64_t rid, const struct dbx_id *id,
                             const char *stmt, dbx_pg_fn *fn)
{
    struct lookup *lu = DBX_NEW(struct lookup);
    char text[DBX_ID_TEXT];
    struct dbx_pg_param param = DBX_PG_TEXT(text);

    lu->s = cn->s;
    lu->reign = cn->s->reign;
    lu->target = (struct sched_target){.conn = cn->id, .rid = rid};
    lu->id = *id;
    dbx_id_format(id, text);
    dbx_pg_query(cn->s->pg, stmt, &param, 1, fn, lu);
    return lu;
}

static void look_up(struct sched_conn *cn, int64_t rid, const struct dbx_id *id, bool cancel)
{
    ask_of(cn, rid, id, "where", on_lookup)->cancel = cancel;
}

static void reply_where(struct sched_conn *cn, int64_t rid, const struct sched_proc *sp)
{
    struct answer a = {.status = sp->state == SCHED_RUNNING ? "running" : "pending"};

    if (sp->node) {
        a.node_id = sp->node->id;
        a.url = sp->node->url;
    }
    (void)dbx_link_reply(cn->link, rid, fill_answer, &a);
}

/* ---- end_sandbox ---- */

static void cancel_one(struct sched_proc *sp, void *arg)
{
    sched_cancel(arg, sp);
}

static void count_one(struct sched_proc *sp, void *arg)
{
    (void)sp;
    ++*(size_t *)arg;
}

/* The rows that nobody announced end too; then, where no node has it and nothing of it is on its
 * way, it is over. */
static void on_waiting(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct lookup *lu = user;
    struct sched *s = lu->s;
    struct sched_conn *cn = sched_conn_find(s, lu->target.conn);
    bool ours = s->leading && s->reign == lu->reign;
    struct dbx_err none = {0};
    struct dbx_id id;
    size_t left = 0;

    if (!err && !ours) {
        (void)dbx_err_set(&none, -EAGAIN, DBX_UNAVAIL, "not the leader");
        err = &none;
    }
    for (size_t i = 0; !err && i < dbx_pg_rows(res); i++)
        if (dbx_id_parse(dbx_pg_text(res, i, "id", NULL), &id) == 0 &&
            !sched_core_find(s->core, &id))
            sched_cancel(s, add_unknown(s, &id));
    if (!err) {
        sched_core_each_of_sandbox(s->core, &lu->id, count_one, &left);
        if (left == 0 && !sched_core_box_node(s->core, &lu->id))
            sched_box_ended(s, &lu->id, "requested");
    }
    if (cn && err)
        (void)dbx_link_reply_error(cn->link, lu->target.rid, err);
    else if (cn)
        (void)dbx_link_reply(cn->link, lu->target.rid, NULL, NULL);
    free(lu);
}

static void on_end_sandbox(struct sched_conn *cn, const struct dbx_link_msg *m)
{
    struct sched *s = cn->s;
    struct dbx_err err = {0};
    struct dbx_id id;

    if (sched_id_field(m->header, "sandbox_id", &id, &err) < 0) {
        (void)dbx_link_reply_error(cn->link, m->rid, &err);
        return;
    }
    struct sched_node *node = sched_core_box_node(s->core, &id);
    sched_core_each_of_sandbox(s->core, &id, cancel_one, s);
    if (node)
        sched_node_end_sandbox(s, node, &id);
    ask_of(cn, m->rid, &id, "box_waiting", on_waiting);
}

/* ---- keep ---- */

struct keep {
    const struct dbx_id *ids;
    struct sched_node **nodes;
    const struct sched_node *node;
    size_t n;
};

static void fill_keep(struct dbx_jw *w, void *arg)
{
    const struct keep *k = arg;
    char text[DBX_ID_TEXT];

    dbx_jw_key(w, "sandbox_ids");
    dbx_jw_array(w);
    for (size_t i = 0; i < k->n; i++)
        if (k->nodes[i] == k->node) {
            dbx_id_format(&k->ids[i], text);
            dbx_jw_str(w, text);
        }
    dbx_jw_array_end(w);
}

static void pass_on(struct sched *s, const struct keep *k)
{
    struct sched_conn *cn = k->node->online ? sched_conn_find(s, k->node->conn) : NULL;

    if (cn && dbx_link_is_up(cn->link))
        (void)dbx_link_send(cn->link, "keep", fill_keep, (void *)k, NULL, 0);
}

/* Somebody watches these sandboxes. Each is told to the node where it stands; those that stand
 * nowhere need not be kept. */
static int on_keep(struct sched_conn *cn, const struct dbx_link_msg *m, struct dbx_err *err)
{
    const struct dbx_json *list = dbx_json_get(m->header, "sandbox_ids");
    size_t n = dbx_json_count(list);
    struct dbx_id ids[MAX_KEEP];
    struct sched_node *nodes[MAX_KEEP];

    if (dbx_json_type(list) != DBX_JSON_ARRAY || n > MAX_KEEP)
        return dbx_err_field(err, "sandbox_ids", "is not a list of at most %d", MAX_KEEP);
    for (size_t i = 0; i < n; i++) {
        if (dbx_id_parse(dbx_json_str(dbx_json_at(list, i), NULL), &ids[i]) < 0)
            return dbx_err_field(err, "sandbox_ids", "holds what is not an id");
        nodes[i] = sched_core_box_node(cn->s->core, &ids[i]);
    }
    for (size_t i = 0; i < n; i++) {
        struct keep k = {.ids = ids, .nodes = nodes, .node = nodes[i], .n = n};
        bool told = !nodes[i];
        for (size_t j = 0; j < i && !told; j++)
            told = nodes[j] == nodes[i];
        if (!told)
            pass_on(cn->s, &k);
    }
    return 0;
}

/* A batch was accepted, or is to be cancelled: the database says which. */
static void on_batch(struct sched_conn *cn, const struct dbx_link_msg *m)
{
    sched_batches_look(cn->s);
    (void)dbx_link_reply(cn->link, m->rid, NULL, NULL);
}

void sched_gateway_msg(struct sched_conn *cn, const struct dbx_link_msg *m)
{
    struct sched *s = cn->s;
    struct dbx_err err = {0};
    struct dbx_id id;

    if (strcmp(m->op, "place") == 0) {
        on_place(cn, m);
        return;
    }
    if (strcmp(m->op, "end_sandbox") == 0) {
        on_end_sandbox(cn, m);
        return;
    }
    if (strcmp(m->op, "batch") == 0) {
        on_batch(cn, m);
        return;
    }
    if (strcmp(m->op, "standby") == 0) {
        sched_standby_look(cn->s);
        return;
    }
    if (strcmp(m->op, "keep") == 0) {
        if (on_keep(cn, m, &err) < 0)
            (void)dbx_link_reply_error(cn->link, m->rid, &err);
        return;
    }
    bool cancel = strcmp(m->op, "cancel") == 0;
    if (!cancel && strcmp(m->op, "where") != 0)
        (void)dbx_err_set(&err, -ENOSYS, DBX_INVALID, "unknown op");
    else
        err.code = sched_id_field(m->header, "process_id", &id, &err);
    if (err.code < 0) {
        (void)dbx_link_reply_error(cn->link, m->rid, &err);
        return;
    }
    struct sched_proc *sp = sched_core_find(s->core, &id);
    if (!sp || sp->state == SCHED_ENDING) {
        look_up(cn, m->rid, &id, cancel);
    } else if (cancel) {
        sched_cancel(s, sp);
        (void)dbx_link_reply(cn->link, m->rid, NULL, NULL);
    } else {
        reply_where(cn, m->rid, sp);
    }
}
