/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes of workspaces that are wanted before any process. The row says so (standby_at), and is
 * all there is of it: what stands nowhere is looked for when a gateway says so and at each scan,
 * gets a node, and the node is told when that is committed. What a node refuses, or does not have
 * at its next hello, stands nowhere again. A process that comes meanwhile goes to the same node, or
 * chooses one itself; then there is nothing left to do here. */
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/proto/link.h"
#include "scheduler/flow.h"
#include "scheduler/messages.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PREPARE_TIMEOUT_MS 10000
#define HOLD_MS 100

/* One that has a node in the core, on its way there. */
struct order {
    struct sched *s;
    uint64_t reign, conn;
    struct dbx_id id;
    char id_text[DBX_ID_TEXT], template[SCHED_NAME_MAX + 1], node[SCHED_NAME_MAX + 1];
    const struct dbx_size *size;
    int64_t idle_ms, max_ms;
};

static bool is_ours(const struct order *o)
{
    return o->s->leading && o->s->reign == o->reign;
}

static struct sched_node *node_of(const struct order *o)
{
    struct sched_node *node = sched_core_box_node(o->s->core, &o->id);
    return node && dbx_streq(node->id, o->node) ? node : NULL;
}

static void on_unplaced(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    (void)res;
    (void)user;
    if (err && err->code != -ECANCELED)
        dbx_log(DBX_LOG_WARN, NULL, "a sandbox without its node, ignoring: %s", err->msg);
}

/* The next look finds it, as long as it is wanted. */
static void unplace(struct order *o, const char *why)
{
    char epoch[24];
    struct sched_node *node = node_of(o);

    dbx_log(DBX_LOG_INFO, NULL, "sandbox %s, node %s: not made ready there: %s", o->id_text,
            o->node, why);
    if (node) {
        node->hold_until = dbx_now_ms() + HOLD_MS;
        sched_core_box_gone(o->s->core, &o->id, node);
    }
    (void)snprintf(epoch, sizeof(epoch), "%lld", (long long)o->s->epoch);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(epoch), DBX_PG_TEXT(o->id_text),
                                          DBX_PG_TEXT(o->node)};
    dbx_pg_query(o->s->pg, "standby_unplace", params, DBX_ARRAY_LEN(params), on_unplaced, NULL);
}

/* ---- the node ---- */

static void fill_order(struct dbx_jw *w, void *arg)
{
    const struct order *o = arg;

    dbx_jw_key(w, "order");
    dbx_jw_object(w);
    dbx_jw_ki64(w, "epoch", o->s->epoch);
    dbx_jw_kstr(w, "sandbox_id", o->id_text);
    dbx_jw_kstr(w, "template", o->template);
    dbx_jw_kstr(w, "size", o->size->name);
    dbx_jw_ki64(w, "idle_ms", o->idle_ms);
    dbx_jw_ki64(w, "max_ms", o->max_ms);
    dbx_jw_object_end(w);
}

/* No answer is no refusal: what the node has it says in its next hello. */
static void on_ordered(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct order *o = user;
    struct sched_conn *cn = is_ours(o) ? sched_conn_find(o->s, o->conn) : NULL;

    (void)m;
    if (err && cn && err->code == -EREMOTEIO)
        unplace(o, err->msg);
    else if (err && cn && err->kind == DBX_TIMEOUT)
        dbx_link_drop(cn->link, "does not answer");
    free(o);
}

/* What a new hello has said meanwhile counts: then it stands elsewhere, or nowhere. */
static void on_placed(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct order *o = user;

    if (!is_ours(o)) {
        free(o);
        return;
    }
    struct sched_node *node = node_of(o);
    struct sched_conn *cn = node && node->online ? sched_conn_find(o->s, node->conn) : NULL;
    if (!err && dbx_pg_rows(res) == 0) { /* ended, or of another size now */
        if (node)
            sched_core_box_gone(o->s->core, &o->id, node);
        free(o);
    } else if (err || !cn || !dbx_link_is_up(cn->link)) {
        unplace(o, err ? err->msg : "it is away");
        free(o);
    } else {
        o->conn = cn->id;
        dbx_link_request(cn->link, "prepare", fill_order, o, NULL, 0, PREPARE_TIMEOUT_MS,
                         on_ordered, o);
    }
}

/* ---- those that stand nowhere ---- */

static bool read_order(const struct dbx_pg_result *res, size_t i, struct order *o)
{
    o->size = dbx_size_find(dbx_pg_text(res, i, "size", NULL));
    o->idle_ms = dbx_pg_i64(res, i, "idle_ms", 0);
    o->max_ms = dbx_pg_i64(res, i, "max_ms", 0);
    return o->size && dbx_id_parse(dbx_pg_text(res, i, "id", NULL), &o->id) == 0 &&
           dbx_strcpy(o->template, sizeof(o->template), dbx_pg_text(res, i, "template", NULL));
}

static void place(struct sched *s, const struct dbx_pg_result *res, size_t i)
{
    struct order *o = DBX_NEW(struct order);
    struct sched_node *node = NULL;
    char epoch[24];

    o->s = s;
    o->reign = s->reign;
    if (read_order(res, i, o))
        node = sched_core_box_place(s->core, &o->id, o->template, o->size, dbx_now_ms());
    if (!node || !node->online) { /* there is no room: the next look */
        free(o);
        return;
    }
    dbx_id_format(&o->id, o->id_text);
    (void)dbx_strcpy(o->node, sizeof(o->node), node->id);
    (void)snprintf(epoch, sizeof(epoch), "%lld", (long long)s->epoch);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(epoch), DBX_PG_TEXT(o->id_text),
                                          DBX_PG_TEXT(o->node), DBX_PG_TEXT(o->size->name)};
    dbx_pg_query(s->pg, "standby_place", params, DBX_ARRAY_LEN(params), on_placed, o);
}

struct look {
    struct sched *s;
    uint64_t reign;
};

static void on_look(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct look lk = *(struct look *)user;
    struct sched *s = lk.s;

    free(user);
    if (!s->leading || s->reign != lk.reign)
        return;
    s->standing = false;
    for (size_t i = 0; !err && i < dbx_pg_rows(res); i++)
        place(s, res, i);
    if (s->stand_again)
        sched_standby_look(s);
}

void sched_standby_look(struct sched *s)
{
    s->stand_again = s->standing;
    if (s->standing || !s->leading)
        return;
    s->standing = true;
    struct look *lk = DBX_NEW(struct look);
    *lk = (struct look){.s = s, .reign = s->reign};
    dbx_pg_query(s->pg, "standby", NULL, 0, on_look, lk);
}
