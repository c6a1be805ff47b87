/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/http.h"

#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/pg.h"
#include "common/io/httpd.h"
#include "common/proto/link.h"
#include "scheduler/leader.h"
#include "scheduler/sched.h"
#include <stdio.h>
#include <string.h>

#define MAX_METRICS (4u << 20)

static void reply_text(struct dbx_http_req *req, int status, const char *text)
{
    dbx_http_reply(req, status, "text/plain; charset=utf-8", NULL, text, strlen(text));
}

static void reply_ready(struct sched *s, struct dbx_http_req *req)
{
    char text[64];

    if (s->leading)
        (void)snprintf(text, sizeof(text), "leader, epoch %lld\n", (long long)s->epoch);
    if (s->leading)
        reply_text(req, 200, text);
    else if (sched_leader_connected(s->leader) && dbx_pg_ready(s->pg))
        reply_text(req, 200, s->loading ? "standby, taking the lead\n" : "standby\n");
    else
        reply_text(req, 503, "the database is away\n");
}

static void reply_metrics(struct dbx_http_req *req)
{
    struct dbx_buf out;

    dbx_buf_init(&out, MAX_METRICS);
    if (dbx_metrics_print(&out) < 0)
        reply_text(req, 500, "the metrics do not fit\n");
    else
        dbx_http_reply(req, 200, "text/plain; version=0.0.4", NULL, out.data, out.len);
    dbx_buf_done(&out);
}

static void on_request(struct dbx_http_req *req, void *user)
{
    struct sched *s = user;
    const char *path = dbx_http_path(req), *method = dbx_http_method(req);

    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        reply_text(req, 405, "only GET\n");
    else if (strcmp(path, "/healthz") == 0)
        reply_text(req, 200, "ok\n");
    else if (strcmp(path, "/readyz") == 0)
        reply_ready(s, req);
    else if (strcmp(path, "/metrics") == 0)
        reply_metrics(req);
    else
        reply_text(req, 404, "not found\n");
}

/* A gateway's token opens /gateway, a node's /node. A dialler that is refused with 503 goes on to
 * the next scheduler. */
static int on_upgrade(struct dbx_http_req *req, const struct dbx_ws_handlers **ret_handlers,
                      void **ret_ws_user, const char **ret_subprotocol, void *user)
{
    struct sched *s = user;
    bool gateway = strcmp(dbx_http_path(req), "/gateway") == 0;
    struct dbx_err err = {0};
    char label[65];
    int status = 0;

    if (!gateway && strcmp(dbx_http_path(req), "/node") != 0)
        status = 404;
    else if (dbx_link_authorize(s->keys, dbx_http_header(req, "authorization"), label, &err) < 0)
        status = 401;
    else if (gateway ? strcmp(label, "gateway") != 0 : !dbx_starts_with(label, "node:"))
        status = 403;
    else if (!s->leading)
        status = 503;
    if (status) {
        reply_text(req, status, status == 503 ? "not the leader\n" : "refused\n");
        return -1;
    }
    *ret_handlers = dbx_link_ws_handlers();
    *ret_ws_user = sched_conn_new(s, gateway, label)->link;
    *ret_subprotocol = DBX_LINK_SUBPROTOCOL;
    return 0;
}

static void on_ws_open(struct dbx_ws *ws, void *ws_user, void *user)
{
    (void)user;
    dbx_link_opened(ws_user, ws);
}

static const struct dbx_httpd_handlers handlers = {
    .on_request = on_request,
    .on_upgrade = on_upgrade,
    .on_ws_open = on_ws_open,
};

const struct dbx_httpd_handlers *sched_http_handlers(void)
{
    return &handlers;
}
