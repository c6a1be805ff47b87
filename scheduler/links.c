/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/map.h"
#include "common/proto/link.h"
#include "scheduler/sched.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONN_MAGIC 0x73636e6e

struct sched_conn *sched_conn_find(const struct sched *s, uint64_t id)
{
    return dbx_map_get(s->conn_by_id, &id, sizeof(id));
}

static void on_msg(struct dbx_link *l, const struct dbx_link_msg *m, void *user)
{
    struct sched_conn *cn = DBX_CAST(struct sched_conn, CONN_MAGIC, user);

    if (!cn->s->leading) {
        struct dbx_err err = {0};
        (void)dbx_err_set(&err, -EAGAIN, DBX_UNAVAIL, "not the leader");
        (void)dbx_link_reply_error(l, m->rid, &err);
    } else if (cn->gateway) {
        sched_gateway_msg(cn, m);
    } else {
        sched_node_msg(cn, m);
    }
}

/* What stood at the node stays there until it comes back, or its lease runs out. */
static void on_down(struct dbx_link *l, const char *reason, void *user)
{
    struct sched_conn *cn = DBX_CAST(struct sched_conn, CONN_MAGIC, user);

    (void)l;
    dbx_log(cn->s->leading ? DBX_LOG_INFO : DBX_LOG_DEBUG, NULL, "link of %s is down: %s",
            cn->label, reason);
    if (cn->node && cn->node->conn == cn->id)
        cn->node->online = false;
    dbx_list_remove(&cn->_conn);
    (void)dbx_map_del(cn->s->conn_by_id, &cn->id, sizeof(cn->id));
    cn->magic = 0;
    free(cn);
}

static const struct dbx_link_handlers handlers = {.on_msg = on_msg, .on_down = on_down};

struct sched_conn *sched_conn_new(struct sched *s, bool gateway, const char *label)
{
    struct sched_conn *cn = DBX_NEW(struct sched_conn);

    cn->magic = CONN_MAGIC;
    cn->id = ++s->last_conn;
    cn->s = s;
    cn->gateway = gateway;
    memcpy(cn->label, label, strlen(label) + 1);
    cn->link = dbx_link_accept(s->loop, &handlers, cn);
    dbx_list_push(&s->conns, &cn->_conn);
    (void)dbx_map_put(s->conn_by_id, &cn->id, sizeof(cn->id), cn);
    return cn;
}

void sched_conns_drop(struct sched *s, const char *reason)
{
    struct dbx_list *it, *next;

    dbx_list_each(it, next, &s->conns)
        dbx_link_drop(dbx_list_entry(it, struct sched_conn, _conn)->link, reason);
}

void sched_reply_ok(struct sched *s, const struct sched_target *t)
{
    struct sched_conn *cn = t ? sched_conn_find(s, t->conn) : NULL;

    if (cn)
        (void)dbx_link_reply(cn->link, t->rid, NULL, NULL);
}

/* A gateway that takes nothing is cut off: it reads the database anew when it comes back. */
void sched_tell_gateways(struct sched *s, const char *op, sched_fill *fill, void *arg)
{
    struct dbx_list *it, *next;

    dbx_list_each(it, next, &s->conns)
    {
        struct sched_conn *cn = dbx_list_entry(it, struct sched_conn, _conn);
        if (cn->gateway && dbx_link_send(cn->link, op, fill, arg, NULL, 0) == -ENOBUFS)
            dbx_link_drop(cn->link, "too slow");
    }
}
