/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/serve.h"

#include "common/base/list.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/io/httpd.h"
#include "common/proto/link.h"
#include "shim/init/protocol.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SERVE_MAGIC 0x56524553u
#define MAX_METRICS (4u << 20)

struct shim_serve {
    uint32_t magic;
    struct shim_serve_opts opts;
    struct shim_execs *execs;
    struct dbx_httpd *httpd;
    struct dbx_list peers;
};

/* A gateway's link. */
struct peer {
    struct dbx_list link;
    struct shim_serve *sv;
    struct dbx_link *l;
    char label[65];
};

static int take_input(struct shim_exec *ex, const struct dbx_link_msg *m, struct dbx_err *err)
{
    return shim_exec_input(ex, m->blob, m->blob_len, err);
}

static int take_eof(struct shim_exec *ex, const struct dbx_link_msg *m, struct dbx_err *err)
{
    (void)m;
    return shim_exec_eof(ex, err);
}

static int take_resize(struct shim_exec *ex, const struct dbx_link_msg *m, struct dbx_err *err)
{
    int64_t cols = dbx_json_get_i64(m->header, "cols", 0);
    int64_t rows = dbx_json_get_i64(m->header, "rows", 0);
    if (cols < 1 || cols > INIT_MAX_WINSIZE)
        return dbx_err_field(err, "cols", "out of range");
    if (rows < 1 || rows > INIT_MAX_WINSIZE)
        return dbx_err_field(err, "rows", "out of range");
    return shim_exec_resize(ex, (uint16_t)cols, (uint16_t)rows, err);
}

static int take_signal(struct shim_exec *ex, const struct dbx_link_msg *m, struct dbx_err *err)
{
    int64_t signo = dbx_json_get_i64(m->header, "signo", 0);
    if (signo < 1 || signo > 31)
        return dbx_err_field(err, "signo", "out of range");
    return shim_exec_signal(ex, (int)signo, err);
}

static const struct {
    const char *name;
    int (*fn)(struct shim_exec *ex, const struct dbx_link_msg *m, struct dbx_err *err);
} ops[] = {
    {"input", take_input}, {"eof", take_eof}, {"resize", take_resize}, {"signal", take_signal}};

static int take(struct shim_serve *sv, const struct dbx_link_msg *m, struct dbx_err *err)
{
    struct dbx_id id;
    const char *text = dbx_json_get_str(m->header, "process_id");
    size_t op = 0;
    while (op < DBX_ARRAY_LEN(ops) && strcmp(m->op, ops[op].name) != 0)
        op++;
    if (op == DBX_ARRAY_LEN(ops))
        return dbx_err_set(err, -ENOSYS, DBX_INVALID, "no such op");
    if (!text || dbx_id_parse(text, &id) < 0)
        return dbx_err_field(err, "process_id", "not an id");
    if (!sv->execs)
        return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "the node is starting");
    struct shim_exec *ex = shim_execs_find(sv->execs, &id);
    if (!ex)
        return dbx_err_set(err, -ESRCH, DBX_NOT_FOUND, "it is not here");
    return ops[op].fn(ex, m, err);
}

static void on_msg(struct dbx_link *l, const struct dbx_link_msg *m, void *user)
{
    struct peer *peer = user;
    struct dbx_err err = {0};
    int r = take(DBX_CAST(struct shim_serve, SERVE_MAGIC, peer->sv), m, &err);
    if (m->rid > 0)
        (void)(r < 0 ? dbx_link_reply_error(l, m->rid, &err)
                     : dbx_link_reply(l, m->rid, NULL, NULL));
}

static void on_down(struct dbx_link *l, const char *reason, void *user)
{
    struct peer *peer = user;
    (void)l;
    dbx_log(DBX_LOG_DEBUG, peer->sv->opts.log, "link of %s is down: %s", peer->label, reason);
    dbx_list_remove(&peer->link);
    free(peer);
}

static const struct dbx_link_handlers link_handlers = {.on_msg = on_msg, .on_down = on_down};

static void reply_text(struct dbx_http_req *req, int status, const char *text)
{
    dbx_http_reply(req, status, "text/plain; charset=utf-8", NULL, text, strlen(text));
}

static int on_upgrade(struct dbx_http_req *req, const struct dbx_ws_handlers **ret_handlers,
                      void **ret_ws_user, const char **ret_subprotocol, void *user)
{
    struct shim_serve *sv = DBX_CAST(struct shim_serve, SERVE_MAGIC, user);
    struct dbx_err err = {0};
    char label[65];
    if (strcmp(dbx_http_path(req), "/link") != 0) {
        reply_text(req, 404, "not found\n");
        return -1;
    }
    if (dbx_link_authorize(sv->opts.keys, dbx_http_header(req, "authorization"), label, &err) < 0 ||
        strcmp(label, "gateway") != 0) {
        dbx_log(DBX_LOG_WARN, sv->opts.log, "refused a link from %s: %s", dbx_http_peer(req),
                err.code ? err.msg : "not a gateway");
        reply_text(req, 401, "unauthorized\n");
        return -1;
    }
    struct peer *peer = DBX_NEW(struct peer);
    peer->sv = sv;
    (void)dbx_strcpy(peer->label, sizeof(peer->label), label);
    peer->l = dbx_link_accept(sv->opts.loop, &link_handlers, peer);
    dbx_list_push(&sv->peers, &peer->link);
    *ret_handlers = dbx_link_ws_handlers();
    *ret_ws_user = peer->l;
    *ret_subprotocol = "devbox.link.v1";
    return 0;
}

static void on_ws_open(struct dbx_ws *ws, void *ws_user, void *user)
{
    (void)user;
    dbx_link_opened(ws_user, ws);
}

static void reply_metrics(struct shim_serve *sv, struct dbx_http_req *req)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out;
    dbx_buf_init(&out, MAX_METRICS);
    sv->opts.before_metrics(sv->opts.user);
    if (dbx_metrics_print(&out) < 0)
        reply_text(req, 500, "too many metrics\n");
    else
        dbx_http_reply(req, 200, "text/plain; version=0.0.4; charset=utf-8", NULL, out.data,
                       out.len);
}

static void on_request(struct dbx_http_req *req, void *user)
{
    struct shim_serve *sv = DBX_CAST(struct shim_serve, SERVE_MAGIC, user);
    const char *path = dbx_http_path(req), *method = dbx_http_method(req);
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        reply_text(req, 405, "method not allowed\n");
    } else if (strcmp(path, "/healthz") == 0) {
        reply_text(req, 200, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        const char *words = sv->opts.unready(sv->opts.user);
        DBX_CLEANUP(dbx_freep) char *text = dbx_asprintf("%s\n", words ? words : "ready");
        reply_text(req, words ? 503 : 200, text);
    } else if (strcmp(path, "/metrics") == 0) {
        reply_metrics(sv, req);
    } else {
        reply_text(req, 404, "not found\n");
    }
}

int shim_serve_new(const struct shim_serve_opts *opts, struct shim_serve **ret, struct dbx_err *err)
{
    static const struct dbx_httpd_handlers handlers = {
        .on_request = on_request, .on_upgrade = on_upgrade, .on_ws_open = on_ws_open};
    struct shim_serve *sv = DBX_NEW(struct shim_serve);
    sv->magic = SERVE_MAGIC;
    sv->opts = *opts;
    dbx_list_init(&sv->peers);
    struct dbx_httpd_opts ho = {.loop = opts->loop,
                                .listen = opts->listen,
                                .tls_cert = opts->tls_cert,
                                .tls_key = opts->tls_key,
                                .max_body = 4096,
                                .handlers = &handlers,
                                .user = sv,
                                .ws = {.max_message = 2u << 20}};
    int r = dbx_httpd_new(&ho, &sv->httpd, err);
    if (r < 0) {
        free(sv);
        return r;
    }
    *ret = sv;
    return 0;
}

void shim_serve_set_execs(struct shim_serve *sv, struct shim_execs *execs)
{
    sv->execs = execs;
}

uint16_t shim_serve_port(const struct shim_serve *sv)
{
    return dbx_httpd_port(sv->httpd);
}

struct shim_serve *shim_serve_free(struct shim_serve *sv)
{
    if (!sv)
        return NULL;
    sv->execs = NULL;
    while (!dbx_list_empty(&sv->peers)) {
        struct peer *peer = dbx_list_first(&sv->peers, struct peer, link);
        dbx_list_remove(&peer->link);
        dbx_link_free(peer->l);
        free(peer);
    }
    dbx_httpd_free(sv->httpd);
    sv->magic = 0;
    free(sv);
    return NULL;
}
