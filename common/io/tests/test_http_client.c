/* SPDX-License-Identifier: Apache-2.0 */
/* Our HTTP client against our server, on one loop. */
#include "common/base/log.h"
#include "common/io/http_client.h"
#include "common/io/httpd.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    struct dbx_loop *loop;
    struct dbx_httpd *hd;
    struct dbx_http_client *client;
    struct dbx_timer *guard;
    char base[64];
    size_t done, expected;
    int aborted;
} t;

struct call {
    int status, code, calls;
    enum dbx_kind kind;
    char body[256], header[64], none[8];
    size_t len;
    size_t taken, stop_at; /* by on_data */
};

static void on_abort(struct dbx_http_req *req, void *user)
{
    (void)req;
    (void)user;
    t.aborted++;
}

static void on_request(struct dbx_http_req *req, void *user)
{
    static const struct dbx_header headers[] = {
        {"X-First", "1"}, {"X-Answer", "forty-two"}, {NULL, NULL}};
    static char block[100000];
    size_t len;
    (void)user;

    if (strcmp(dbx_http_path(req), "/echo") == 0) {
        const uint8_t *body = dbx_http_body(req, &len);
        dbx_http_reply(req, 200, dbx_http_header(req, "content-type"), headers, body, len);
    } else if (strcmp(dbx_http_path(req), "/large") == 0) {
        dbx_http_begin(req, 200, NULL, NULL, -1);
        for (int i = 0; i < 10; i++)
            dbx_http_chunk(req, block, sizeof(block));
        dbx_http_end(req);
    } else if (strcmp(dbx_http_path(req), "/never") == 0) {
        dbx_http_on_abort(req, on_abort, NULL);
    } else if (strcmp(dbx_http_path(req), "/cut") == 0) {
        dbx_http_begin(req, 200, NULL, NULL, 100);
        dbx_http_chunk(req, "part", 4);
        dbx_http_fail(req);
    } else {
        char text[128];
        const char *h = dbx_http_header(req, "x-ask");
        snprintf(text, sizeof(text), "%s %s %s", dbx_http_method(req), dbx_http_path(req),
                 h ? h : "-");
        dbx_http_reply(req, strcmp(dbx_http_path(req), "/moved") ? 200 : 302, "text/plain", headers,
                       text, strlen(text));
    }
}

static const struct dbx_httpd_handlers handlers = {.on_request = on_request};

static void on_guard(void *user)
{
    (void)user;
    CHECK(!"deadline passed");
    dbx_loop_stop(t.loop, -1);
}

static void begin(const char *listen)
{
    struct dbx_httpd_opts opts = {.listen = listen, .handlers = &handlers};
    struct dbx_err err;

    memset(&t, 0, sizeof(t));
    opts.loop = t.loop = dbx_loop_new();
    CHECK_EQ(dbx_httpd_new(&opts, &t.hd, &err), 0);
    t.client = dbx_http_client_new(t.loop);
    t.guard = dbx_timer_new(t.loop, on_guard, NULL);
    dbx_timer_start(t.guard, 60000, 0);
    snprintf(t.base, sizeof(t.base), "http://127.0.0.1:%u", dbx_httpd_port(t.hd));
}

static void end(void)
{
    dbx_http_client_free(t.client);
    dbx_httpd_free(t.hd);
    dbx_timer_free(t.guard);
    dbx_loop_free(t.loop);
}

static void on_fetched(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct call *c = user;

    c->calls++;
    c->status = result->status;
    c->code = result->err ? result->err->code : 0;
    c->kind = result->err ? result->err->kind : DBX_OK;
    c->len = result->body->len;
    snprintf(c->body, sizeof(c->body), "%s", dbx_buf_cstr(result->body));
    const char *h = dbx_fetch_header(f, "x-answer");
    snprintf(c->header, sizeof(c->header), "%s", h ? h : "");
    h = dbx_fetch_header(f, "X-ANSWER"); /* asked twice */
    CHECK_STR(h ? h : "", c->header);
    CHECK(dbx_fetch_header(f, "x-nothing") == NULL);
    if (result->status == 200 && c->header[0])
        CHECK_STR(dbx_fetch_header(f, "X-First"), "1");
    if (++t.done == t.expected)
        dbx_loop_stop(t.loop, 0);
}

static struct dbx_fetch *ask(struct call *c, const char *path, struct dbx_fetch_opts opts)
{
    char url[256];

    snprintf(url, sizeof(url), "%s%s", t.base, path);
    memset(c, 0, sizeof(*c));
    if (!opts.url)
        opts.url = url;
    struct dbx_fetch *f = dbx_fetch(t.client, &opts, on_fetched, c);
    CHECK_EQ(c->calls, 0);
    t.expected++;
    return f;
}

static void run(void)
{
    dbx_loop_run(t.loop);
    t.done = t.expected = 0;
}

static void test_requests(void)
{
    static const char *const headers[] = {"X-Ask: please", "Content-Type: a/b", NULL};
    struct call c[60];

    begin("127.0.0.1:0");
    ask(&c[0], "/a", (struct dbx_fetch_opts){.headers = headers});
    ask(&c[1], "/echo",
        (struct dbx_fetch_opts){
            .method = "POST", .body = "body\0x", .body_len = 6, .headers = headers});
    ask(&c[2], "/d", (struct dbx_fetch_opts){.method = "DELETE"});
    ask(&c[3], "/h", (struct dbx_fetch_opts){.method = "HEAD"});
    ask(&c[4], "/p", (struct dbx_fetch_opts){.method = "PUT"});
    ask(&c[5], "/moved", (struct dbx_fetch_opts){0});
    run();
    CHECK_STR(c[0].body, "GET /a please");
    CHECK_STR(c[0].header, "forty-two");
    CHECK_EQ(c[1].len, 6);
    CHECK_STR(c[2].body, "DELETE /d -");
    CHECK_EQ(c[3].status, 200);
    CHECK_EQ(c[3].len, 0);
    CHECK_STR(c[4].body, "PUT /p -");
    CHECK_EQ(c[5].status, 302); /* redirects are the caller's */
    for (int i = 0; i < 60; i++)
        ask(&c[i], "/many", (struct dbx_fetch_opts){0});
    run();
    for (int i = 0; i < 60; i++) {
        CHECK_EQ(c[i].status, 200);
        CHECK_EQ(c[i].calls, 1);
    }
    end();
}

static void test_failures(void)
{
    struct call c[9];

    begin("127.0.0.1:0");
    ask(&c[0], "/large", (struct dbx_fetch_opts){.max_response = 500000});
    ask(&c[1], "/large", (struct dbx_fetch_opts){.max_response = 1000000});
    ask(&c[2], "/never", (struct dbx_fetch_opts){.timeout_ms = 100});
    ask(&c[3], "", (struct dbx_fetch_opts){.url = "ftp://127.0.0.1/x"});
    ask(&c[4], "", (struct dbx_fetch_opts){.url = "file:///etc/passwd"});
    ask(&c[5], "", (struct dbx_fetch_opts){.url = "http://127.0.0.1:1/"});
    ask(&c[6], "/cut", (struct dbx_fetch_opts){0});
    dbx_fetch_cancel(ask(&c[7], "/never", (struct dbx_fetch_opts){0}));
    ask(&c[8], "/a",
        (struct dbx_fetch_opts){.headers = (const char *const[]){"X: a\r\nY: b", NULL}});
    CHECK_EQ(c[7].calls, 0);
    run();
    CHECK_EQ(c[0].code, -E2BIG);
    CHECK_EQ(c[0].kind, DBX_LIMIT);
    CHECK_EQ(c[0].status, 0);
    CHECK_EQ(c[1].len, 1000000);
    CHECK_EQ(c[1].code, 0);
    CHECK_EQ(c[2].kind, DBX_TIMEOUT);
    CHECK_EQ(c[3].kind, DBX_INVALID);
    CHECK_EQ(c[4].kind, DBX_INVALID);
    CHECK_EQ(c[5].kind, DBX_UNAVAIL);
    CHECK_EQ(c[6].kind, DBX_UNAVAIL);
    CHECK_EQ(c[7].code, -ECANCELED);
    CHECK_EQ(c[8].kind, DBX_INVALID);
    for (int i = 0; i < 9; i++)
        CHECK_EQ(c[i].calls, 1);
    end();
}

static int take_data(struct dbx_fetch *f, const void *data, size_t len, void *user)
{
    struct call *c = user;

    (void)data;
    CHECK_EQ(dbx_fetch_status(f), 200);
    c->taken += len;
    return c->stop_at && c->taken >= c->stop_at ? -EILSEQ : 0;
}

static bool no_address(const struct sockaddr *addr, void *user)
{
    CHECK(addr->sa_family != 0);
    (void)user;
    return false;
}

static bool any_address(const struct sockaddr *addr, void *user)
{
    (void)addr;
    (void)user;
    return true;
}

static void test_streamed(void)
{
    struct call c[6];

    begin("127.0.0.1:0");
    dbx_http_client_limit(t.client, 2, 4);
    ask(&c[0], "/large", (struct dbx_fetch_opts){.on_data = take_data, .may_connect = any_address});
    ask(&c[1], "/large", (struct dbx_fetch_opts){.on_data = take_data, .max_response = 500000});
    ask(&c[2], "/large", (struct dbx_fetch_opts){.on_data = take_data});
    c[2].stop_at = 100000;
    ask(&c[3], "/cut", (struct dbx_fetch_opts){.on_data = take_data});
    run(); /* no kept connection may hide what comes now */
    t.client = dbx_http_client_free(t.client);
    t.client = dbx_http_client_new(t.loop);
    ask(&c[4], "/a", (struct dbx_fetch_opts){.may_connect = no_address});
    ask(&c[5], "/never", (struct dbx_fetch_opts){.stall_ms = 1000});
    run();
    CHECK_EQ(c[0].taken, 1000000);
    CHECK(c[0].code == 0 && c[0].len == 0 && c[0].status == 200);
    CHECK_EQ(c[1].code, -E2BIG);
    CHECK_EQ(c[2].code, -EILSEQ);
    CHECK_EQ(c[3].kind, DBX_UNAVAIL);
    CHECK_EQ(c[4].code, -EACCES);
    CHECK_EQ(c[5].kind, DBX_TIMEOUT);
    end();
}

static void test_unix(void)
{
    struct call c;
    char path[64], spec[80];

    snprintf(path, sizeof(path), "test-fetch-%d.sock", getpid());
    snprintf(spec, sizeof(spec), "unix:%s", path);
    begin(spec);
    ask(&c, "", (struct dbx_fetch_opts){.url = "http://devbox/u", .unix_socket = path});
    run();
    CHECK_STR(c.body, "GET /u -");
    end();
}

static void test_free(void)
{
    struct call c[3];

    begin("127.0.0.1:0");
    ask(&c[0], "/a", (struct dbx_fetch_opts){0});
    run();
    for (int i = 0; i < 3; i++)
        ask(&c[i], "/never", (struct dbx_fetch_opts){0});
    t.expected = 0;
    t.client = dbx_http_client_free(t.client);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(c[i].calls, 1);
        CHECK_EQ(c[i].code, -ECANCELED);
    }
    end();
}

static void free_client(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    (void)f;
    (void)user;
    CHECK_EQ(result->status, 200);
    t.client = dbx_http_client_free(t.client);
    dbx_loop_stop(t.loop, 0);
}

static void test_free_inside(void)
{
    struct call c;
    char url[128];

    begin("127.0.0.1:0");
    snprintf(url, sizeof(url), "%s/a", t.base);
    dbx_fetch(t.client, &(struct dbx_fetch_opts){.url = url}, free_client, NULL);
    ask(&c, "/never", (struct dbx_fetch_opts){0});
    t.expected = 0;
    dbx_loop_run(t.loop);
    CHECK_EQ(c.code, -ECANCELED);
    end();
}

int main(void)
{
    test_requests();
    test_failures();
    test_streamed();
    test_unix();
    test_free();
    test_free_inside();
    return check_result();
}
