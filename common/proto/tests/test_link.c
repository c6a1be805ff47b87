/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of a link over a Unix socket. Each step is begun by the event that ends the one
 * before. */
#include "common/base/str.h"
#include "common/io/httpd.h"
#include "common/io/loop.h"
#include "common/proto/link.h"
#include "common/proto/token.h"
#include "common/proto/token_int.h"
#include "tests/unit/check.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEADLINE_MS 60000

struct world {
    struct dbx_loop *loop;
    struct dbx_keyring *keys, *foreign;
    struct dbx_httpd *httpd;
    struct dbx_link *server, *client, *stranger;
    char dir[64], url[200], listen[128];
    int ups, downs, server_downs, refused, canceled;
};

static void finish(struct world *w)
{
    dbx_loop_stop(w->loop, 0);
}

static void on_deadline(void *user)
{
    CHECK(!"in time");
    finish(user);
}

/* ---- server ---- */

static void fill_text(struct dbx_jw *w, void *arg)
{
    dbx_jw_kstr(w, "text", arg);
}

static void on_client_answer(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct world *w = user;

    CHECK(err == NULL && m != NULL);
    CHECK_STR(dbx_json_get_str(m->header, "text"), "from the client");
    dbx_link_drop(w->server, "the test says so");
}

static void on_server_msg(struct dbx_link *l, const struct dbx_link_msg *m, void *user)
{
    struct world *w = user;
    struct dbx_err err = {0};

    w->server = l;
    if (strcmp(m->op, "echo") == 0) {
        CHECK(m->blob_len == 5 && memcmp(m->blob, "b\0lob", 5) == 0);
        CHECK_EQ(dbx_link_reply(l, m->rid, fill_text, (void *)dbx_json_get_str(m->header, "text")),
                 0);
    } else if (strcmp(m->op, "fail") == 0) {
        (void)dbx_err_field(&err, "x.y", "is wrong");
        CHECK_EQ(dbx_link_reply_error(l, m->rid, &err), 0);
    } else if (strcmp(m->op, "ask me") == 0) {
        CHECK_EQ(m->rid, 0);
        dbx_link_request(l, "hello", NULL, NULL, NULL, 0, 5000, on_client_answer, w);
    } else {
        CHECK_STR(m->op, "silence");
    }
}

static void on_server_down(struct dbx_link *l, const char *reason, void *user)
{
    struct world *w = user;

    (void)reason;
    if (w->server == l)
        w->server = NULL;
    w->server_downs++;
}

static void on_request(struct dbx_http_req *req, void *user)
{
    (void)user;
    dbx_http_reply(req, 404, "text/plain", NULL, "no", 2);
}

static int on_upgrade(struct dbx_http_req *req, const struct dbx_ws_handlers **ret_handlers,
                      void **ret_ws_user, const char **ret_subprotocol, void *user)
{
    static const struct dbx_link_handlers h = {.on_msg = on_server_msg, .on_down = on_server_down};
    struct world *w = user;
    char label[65];

    if (strcmp(dbx_http_path(req), "/link") != 0 ||
        dbx_link_authorize(w->keys, dbx_http_header(req, "authorization"), label, NULL) < 0) {
        dbx_http_reply(req, 401, "text/plain", NULL, "no", 2);
        return -1;
    }
    CHECK_STR(label, "node:n1");
    *ret_handlers = dbx_link_ws_handlers();
    *ret_ws_user = dbx_link_accept(w->loop, &h, w);
    *ret_subprotocol = DBX_LINK_SUBPROTOCOL;
    return 0;
}

static void on_ws_open(struct dbx_ws *ws, void *ws_user, void *user)
{
    (void)user;
    dbx_link_opened(ws_user, ws);
}

/* ---- client ---- */

static void on_stranger_refused(struct dbx_link *l, const char *reason, void *user)
{
    struct world *w = user;

    CHECK(strstr(reason, "401") != NULL);
    CHECK(!dbx_link_is_up(l));
    w->stranger = dbx_link_free(l);
    finish(w);
}

static void on_canceled(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct world *w = user;

    CHECK(m == NULL && err != NULL);
    CHECK_EQ(err->code, -ECANCELED);
    w->canceled++;
}

static void on_timeout(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct world *w = user;
    static const struct dbx_link_handlers h = {.on_refused = on_stranger_refused};
    struct dbx_link_client_opts opts = {
        .loop = w->loop, .url = w->url, .keys = w->foreign, .label = "node:n1"};

    CHECK(m == NULL && err != NULL);
    CHECK_EQ(err->kind, DBX_TIMEOUT);
    dbx_link_request(w->client, "silence", NULL, NULL, NULL, 0, 5000, on_canceled, w);
    w->client = dbx_link_free(w->client); /* within its own callback */
    CHECK_EQ(w->canceled, 1);
    w->stranger = dbx_link_connect(&opts, &h, w);
}

static void on_unavail(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct world *w = user;

    CHECK(m == NULL && err != NULL);
    CHECK_EQ(err->kind, DBX_UNAVAIL);
    w->downs += 10;
}

static void on_failed(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct world *w = user;

    CHECK(m == NULL && err != NULL);
    CHECK_EQ(err->kind, DBX_INVALID);
    CHECK_EQ(err->code, -EREMOTEIO);
    CHECK_STR(err->field, "x.y");
    CHECK_STR(err->msg, "is wrong");
    CHECK_EQ(dbx_link_send(w->client, "ask me", NULL, NULL, NULL, 0), 0);
    dbx_link_request(w->client, "silence", NULL, NULL, NULL, 0, 15000, on_unavail, w);
}

static void on_echo(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct world *w = user;

    CHECK(err == NULL && m != NULL);
    CHECK_STR(dbx_json_get_str(m->header, "text"), "h\xc3\xa9llo");
    dbx_link_request(w->client, "fail", NULL, NULL, NULL, 0, 5000, on_failed, w);
}

static void on_up(struct dbx_link *l, void *user)
{
    struct world *w = user;

    CHECK(dbx_link_is_up(l));
    if (w->ups++ == 0)
        dbx_link_request(l, "echo", fill_text, "h\xc3\xa9llo", "b\0lob", 5, 5000, on_echo, w);
    else
        dbx_link_request(l, "silence", NULL, NULL, NULL, 0, 20, on_timeout, w);
}

static void on_client_msg(struct dbx_link *l, const struct dbx_link_msg *m, void *user)
{
    (void)user;
    CHECK_STR(m->op, "hello");
    CHECK_EQ(dbx_link_reply(l, m->rid, fill_text, "from the client"), 0);
}

static void on_client_down(struct dbx_link *l, const char *reason, void *user)
{
    struct world *w = user;

    (void)reason;
    CHECK(!dbx_link_is_up(l));
    CHECK_EQ(w->downs, 10); /* the open request was called back before */
    w->downs++;
    CHECK_EQ(dbx_link_send(l, "x", NULL, NULL, NULL, 0), -ENOTCONN);
}

static void on_refused(struct dbx_link *l, const char *reason, void *user)
{
    struct world *w = user;

    (void)l;
    (void)reason;
    w->refused++;
}

static void set_up(struct world *w)
{
    static const struct dbx_httpd_handlers h = {
        .on_request = on_request, .on_upgrade = on_upgrade, .on_ws_open = on_ws_open};
    static const char a[] = "1 0000000000000000000000000000000000000000000000000000000000000000";
    static const char b[] = "1 1111111111111111111111111111111111111111111111111111111111111111";
    struct dbx_err err = {0};

    (void)dbx_strcpy(w->dir, sizeof(w->dir), "/tmp/dbx-link-XXXXXX");
    CHECK(mkdtemp(w->dir) != NULL);
    (void)snprintf(w->listen, sizeof(w->listen), "unix:%s/s", w->dir);
    (void)snprintf(w->url, sizeof(w->url), "ws+unix://%s/s:/link", w->dir);
    w->loop = dbx_loop_new();
    w->keys = dbx_keyring__parse(a, sizeof(a) - 1, "a", NULL);
    w->foreign = dbx_keyring__parse(b, sizeof(b) - 1, "b", NULL);
    struct dbx_httpd_opts opts = {.loop = w->loop,
                                  .listen = w->listen,
                                  .handlers = &h,
                                  .user = w,
                                  .ws = {.max_message = DBX_MAX_LINK_MSG}};
    CHECK_EQ(dbx_httpd_new(&opts, &w->httpd, &err), 0);
    CHECK_STR(err.msg, "");
}

static void tear_down(struct world *w)
{
    dbx_link_free(w->client);
    dbx_link_free(w->stranger);
    dbx_httpd_free(w->httpd);
    dbx_loop_free(w->loop);
    dbx_keyring_free(w->keys);
    dbx_keyring_free(w->foreign);
    (void)unlink(w->listen + strlen("unix:"));
    (void)rmdir(w->dir);
}

int main(void)
{
    static const struct dbx_link_handlers h = {.on_up = on_up,
                                               .on_msg = on_client_msg,
                                               .on_down = on_client_down,
                                               .on_refused = on_refused};
    struct world w = {0};
    char urls[500];

    set_up(&w);
    (void)snprintf(urls, sizeof(urls), "ws+unix://%s/nobody:/link,%s", w.dir, w.url);
    struct dbx_link_client_opts opts = {
        .loop = w.loop, .url = urls, .keys = w.keys, .label = "node:n1"};
    struct dbx_timer *deadline = dbx_timer_new(w.loop, on_deadline, &w);
    dbx_timer_start(deadline, DEADLINE_MS, 0);
    w.client = dbx_link_connect(&opts, &h, &w);
    dbx_loop_run(w.loop);
    CHECK_EQ(w.ups, 2);
    CHECK_EQ(w.downs, 11);
    CHECK(w.refused >= 2); /* once before each connection */
    CHECK(w.server_downs >= 1);
    CHECK(w.stranger == NULL && w.client == NULL);
    dbx_timer_free(deadline);
    tear_down(&w);
    return check_result();
}
