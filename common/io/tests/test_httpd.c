/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/httpd.h"
#include "common/io/tests/peer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

static struct {
    struct dbx_loop *loop;
    struct dbx_httpd *hd;
    struct dbx_timer *timer;
    struct dbx_http_req *waiting;
    uint16_t port;
    int aborted, requests;
    size_t streamed, max_pending;
} t;

#define STREAM_TOTAL (4u << 20)

static const struct dbx_header common[] = {{"X-Common", "yes"}, {NULL, NULL}};

static void on_later(void *user)
{
    (void)user;
    struct dbx_http_req *req = DBX_TAKE(t.waiting);
    if (req)
        dbx_http_reply(req, 200, "text/plain", NULL, "later", 5);
}

static void on_abort(struct dbx_http_req *req, void *user)
{
    (void)user;
    CHECK(dbx_http_path(req)[0] == '/');
    t.waiting = NULL;
    t.aborted++;
}

static void pump(struct dbx_http_req *req, void *user)
{
    static const char block[10000] = {'x'};
    (void)user;
    while (t.streamed < STREAM_TOTAL && dbx_http_pending(req) < (256u << 10)) {
        size_t n =
            STREAM_TOTAL - t.streamed < sizeof(block) ? STREAM_TOTAL - t.streamed : sizeof(block);
        dbx_http_chunk(req, block, n);
        t.streamed += n;
        if (dbx_http_pending(req) > t.max_pending)
            t.max_pending = dbx_http_pending(req);
    }
    if (t.streamed == STREAM_TOTAL)
        dbx_http_end(req);
}

/* A file of FILE_SIZE bytes, byte i is i % 251, that has no name. */
#define FILE_SIZE (3u << 20)
static int file_fd(void)
{
    static uint8_t block[FILE_SIZE];
    int fd = memfd_create("answer", MFD_CLOEXEC);

    for (size_t i = 0; i < FILE_SIZE; i++)
        block[i] = (uint8_t)(i % 251);
    CHECK_EQ(dbx_write_all(fd, block, FILE_SIZE), 0);
    return fd;
}

static void reply_file(struct dbx_http_req *req, const char *how)
{
    int fd = file_fd();

    if (strcmp(how, "whole") == 0) {
        dbx_http_reply_file(req, 200, "a/b", NULL, fd, 0, FILE_SIZE);
    } else if (strcmp(how, "short") == 0) { /* less is there than was announced */
        dbx_http_reply_file(req, 200, "a/b", NULL, fd, 10, FILE_SIZE);
    } else {
        dbx_http_begin(req, 200, "a/b", NULL, strcmp(how, "length") == 0 ? 1000 : -1);
        dbx_http_chunk(req, "begin", 5);
        dbx_http_chunk_file(req, fd, 251, 500);
        dbx_http_chunk_file(req, fd, FILE_SIZE - 495, 495);
        dbx_http_end(req);
    }
    close(fd);
}

static int64_t on_headers(struct dbx_http_req *req, void *user)
{
    (void)user;
    if (strcmp(dbx_http_path(req), "/deny") == 0) {
        dbx_http_reply(req, 403, "text/plain", NULL, "no", 2);
        return -1;
    }
    return strcmp(dbx_http_path(req), "/small") == 0 ? 10 : 0;
}

static void reply_text(struct dbx_http_req *req, const char *s)
{
    dbx_http_reply(req, 200, "text/plain", NULL, s, strlen(s));
}

static void on_request(struct dbx_http_req *req, void *user)
{
    const char *path = dbx_http_path(req);
    size_t len;
    (void)user;

    t.requests++;
    if (strncmp(path, "/file/", 6) == 0) {
        reply_file(req, path + 6);
    } else if (strcmp(path, "/later") == 0) {
        t.waiting = req;
        dbx_http_on_abort(req, on_abort, NULL);
        dbx_timer_start(t.timer, 30, 0);
    } else if (strcmp(path, "/never") == 0) {
        t.waiting = req;
        dbx_http_on_abort(req, on_abort, NULL);
    } else if (strcmp(path, "/echo") == 0 || strcmp(path, "/small") == 0) {
        const uint8_t *body = dbx_http_body(req, &len);
        dbx_http_reply(req, 200, "application/octet-stream", NULL, body, len);
    } else if (strcmp(path, "/stream") == 0) {
        t.streamed = t.max_pending = 0;
        dbx_http_begin(req, 200, "text/plain", NULL, -1);
        dbx_http_on_drain(req, pump, NULL);
        pump(req, NULL);
    } else if (strcmp(path, "/fixed") == 0) {
        dbx_http_begin(req, 200, "text/plain", NULL, 5);
        dbx_http_chunk(req, "he", 2);
        dbx_http_chunk(req, "llo", 3);
        dbx_http_end(req);
    } else if (strcmp(path, "/fail") == 0) {
        dbx_http_begin(req, 200, "text/plain", NULL, -1);
        dbx_http_chunk(req, "part", 4);
        dbx_http_fail(req);
    } else if (strcmp(path, "/none") == 0) {
        dbx_http_reply(req, 204, NULL, NULL, "ignored", 7);
    } else if (strcmp(path, "/q") == 0) {
        char out[256];
        const char *a = dbx_http_query(req, "a", 0), *a1 = dbx_http_query(req, "a", 1),
                   *b = dbx_http_query(req, "b", 0);
        snprintf(out, sizeof(out), "%s|%s|%s|%s", a ? a : "-", a1 ? a1 : "-", b ? b : "-",
                 dbx_http_raw_query(req));
        reply_text(req, out);
    } else if (strcmp(path, "/h") == 0) {
        const char *v = dbx_http_header(req, "x-list");
        reply_text(req, v ? v : "-");
    } else {
        reply_text(req, path);
    }
}

static const struct dbx_httpd_handlers handlers = {.on_headers = on_headers,
                                                   .on_request = on_request};

static void stop(void *user)
{
    (void)user;
    dbx_loop_stop(t.loop, 0);
}

static void run(void *(*client)(void *), const struct dbx_httpd_opts *more)
{
    struct dbx_httpd_opts opts = more ? *more : (struct dbx_httpd_opts){0};
    struct dbx_err err;
    pthread_t thread;

    memset(&t, 0, sizeof(t));
    t.loop = dbx_loop_new();
    t.timer = dbx_timer_new(t.loop, on_later, NULL);
    opts.loop = t.loop;
    opts.handlers = &handlers;
    opts.common_headers = common;
    if (!opts.listen)
        opts.listen = "127.0.0.1:0";
    CHECK_EQ(dbx_httpd_new(&opts, &t.hd, &err), 0);
    t.port = dbx_httpd_port(t.hd);
    CHECK_EQ(pthread_create(&thread, NULL, client, NULL), 0);
    dbx_loop_run(t.loop);
    pthread_join(thread, NULL);
    dbx_httpd_free(t.hd);
    dbx_timer_free(t.timer);
    dbx_loop_free(t.loop);
}

static void finish(void)
{
    answer_done();
    dbx_loop_post(t.loop, stop, NULL);
}

static void *basics(void *arg)
{
    int fd = peer_connect(t.port);
    struct answer *a = peer_ask(fd, "GET /a%2Fb/../c HTTP/1.1\r\nHost: h\r\n\r\n");
    (void)arg;

    CHECK_EQ(a->status, 200);
    CHECK_STR(dbx_buf_cstr(&a->body), "/a%2Fb/../c"); /* as sent */
    CHECK_STR(answer_header(a, "X-Common"), "yes");
    CHECK(!a->close);
    /* keep-alive, also behind a deferred answer */
    CHECK_STR(dbx_buf_cstr(&peer_ask(fd, "GET /later HTTP/1.1\r\nHost: h\r\n\r\n")->body), "later");
    CHECK_STR(dbx_buf_cstr(&peer_ask(fd, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")->body), "/1");
    a = peer_ask(fd, "HEAD /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_EQ(a->status, 200);
    CHECK_STR(answer_header(a, "Content-Length"), "2");
    a = peer_ask(fd, "GET /none HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_EQ(a->status, 204);
    CHECK(!strcasestr(a->head, "content-length"));
    CHECK_STR(
        dbx_buf_cstr(
            &peer_ask(fd, "PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")->body),
        "abc");
    CHECK_STR(
        dbx_buf_cstr(
            &peer_ask(fd, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                          "3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n")
                 ->body),
        "abcde");
    CHECK_EQ(peer_ask(fd, "POST /echo HTTP/1.1\r\nHost: h\r\n\r\n")->status,
             200); /* no length: no body */
    CHECK_EQ(peer_ask(fd, "DELETE /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")->status,
             200);
    CHECK_EQ(peer_ask(fd, "PATCH /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")->status,
             200);
    CHECK_EQ(peer_ask(fd, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")->status, 200);
    a = peer_ask(fd, "GET /q?a=1+2&b=%zz&a=%C3%A4&c HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_STR(dbx_buf_cstr(&a->body), "1 2|\xc3\xa4|-|a=1+2&b=%zz&a=%C3%A4&c");
    a = peer_ask(fd, "GET /q?a=%00&a=%ff HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_STR(dbx_buf_cstr(&a->body), "-|-|-|a=%00&a=%ff");
    a = peer_ask(fd, "GET /h HTTP/1.1\r\nHost: h\r\nX-List: a\r\nX-List:  b \r\n\r\n");
    CHECK_STR(dbx_buf_cstr(&a->body), "a, b");
    a = peer_ask(fd, "GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_STR(dbx_buf_cstr(&a->body), "hello");
    a = peer_ask(fd, "GET http://other/abs HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    CHECK_STR(dbx_buf_cstr(&a->body), "/abs");
    CHECK(a->close);
    CHECK(peer_closed(fd));
    close(fd);
    fd = peer_connect(t.port);
    a = peer_ask(fd, "GET /old HTTP/1.0\r\n\r\n");
    CHECK_STR(dbx_buf_cstr(&a->body), "/old");
    CHECK(peer_closed(fd));
    close(fd);
    finish();
    return NULL;
}

/* A keep-alive connection whose second request asks for an unknown Upgrade: read freed memory in
 * the packaged lws. */
static void *upgrades(void *arg)
{
    static const char *const values[] = {"foo", "h2c", "foo, bar", "TLS/1.0"};
    int fd = peer_connect(t.port);
    (void)arg;

    CHECK_EQ(peer_ask(fd, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")->status, 200);
    for (size_t i = 0; i < DBX_ARRAY_LEN(values); i++) {
        char ask[256];
        snprintf(
            ask, sizeof(ask),
            "GET /%zu HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\n"
            "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            i, values[i]);
        struct answer *a = peer_ask(fd, ask);
        CHECK_EQ(a->status, 200); /* ignored, in HTTP/1.1 */
        CHECK_EQ(a->body.len, 2);
    }
    CHECK_EQ(peer_ask(fd, WS_ASK("/", ""))->status, 404); /* no on_upgrade here */
    close(fd);
    fd = peer_connect(t.port);
    peer_say(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    CHECK_EQ(peer_answer(fd, false)->status, 505);
    close(fd);
    finish();
    return NULL;
}

static bool is_file(const struct dbx_buf *body, size_t at, size_t off, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (at + i >= body->len || body->data[at + i] != (off + i) % 251)
            return false;
    return true;
}

static void *files(void *arg)
{
    int fd = peer_connect(t.port);
    (void)arg;

    for (int i = 0; i < 20; i++) /* pipelined: more than may wait at once */
        peer_say(fd, "GET /file/whole HTTP/1.1\r\nHost: h\r\n\r\n");
    peer_say(fd, "HEAD /file/whole HTTP/1.1\r\nHost: h\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    for (int i = 0; i < 20; i++) {
        struct answer *a = peer_answer(fd, false);
        CHECK(a->complete && a->body.len == FILE_SIZE && is_file(&a->body, 0, 0, FILE_SIZE));
    }
    CHECK_EQ(peer_number(answer_header(peer_answer(fd, true), "Content-Length")), FILE_SIZE);
    CHECK_STR(dbx_buf_cstr(&peer_answer(fd, false)->body), "/x");
    for (int i = 0; i < 2; i++) {
        struct answer *a = peer_ask(fd, i ? "GET /file/length HTTP/1.1\r\nHost: h\r\n\r\n"
                                          : "GET /file/chunked HTTP/1.1\r\nHost: h\r\n\r\n");
        CHECK(a->complete && a->body.len == 1000 && memcmp(a->body.data, "begin", 5) == 0);
        CHECK(is_file(&a->body, 5, 0, 500) && is_file(&a->body, 505, FILE_SIZE - 495, 495));
    }
    struct answer *a =
        peer_ask(fd, "GET /file/short HTTP/1.1\r\nHost: h\r\n\r\nGET /y HTTP/1.1\r\n");
    CHECK(!a->complete);
    CHECK(peer_closed(fd));
    close(fd);
    finish();
    return NULL;
}

static void *pipelining(void *arg)
{
    int fd = peer_connect(t.port);
    char want[32];
    (void)arg;

    peer_say(
        fd,
        "GET /later HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
        "GET /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /l");
    CHECK_STR(dbx_buf_cstr(&peer_answer(fd, false)->body), "later");
    CHECK_STR(dbx_buf_cstr(&peer_answer(fd, false)->body), "/2");
    CHECK_STR(dbx_buf_cstr(&peer_answer(fd, false)->body), "hi");
    CHECK_STR(dbx_buf_cstr(&peer_answer(fd, false)->body), "a");
    struct answer *a = peer_answer(fd, false);
    CHECK_EQ(a->body.len, STREAM_TOTAL);
    CHECK(a->complete);
    CHECK(t.max_pending < (300u << 10));
    peer_say(fd, "ast HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_STR(dbx_buf_cstr(&peer_answer(fd, false)->body), "/last");
    for (int i = 0; i < 500; i++) {
        char ask[64];
        snprintf(ask, sizeof(ask), "GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", i);
        peer_say(fd, ask);
    }
    int wrong = 0;
    for (int i = 0; i < 500; i++) {
        snprintf(want, sizeof(want), "/%d", i);
        wrong += strcmp(dbx_buf_cstr(&peer_answer(fd, false)->body), want) != 0;
    }
    CHECK_EQ(wrong, 0);
    close(fd);
    finish();
    return NULL;
}

static void *refusals(void *arg)
{
    static const struct {
        const char *ask;
        int status;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET /\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505},
        {"GET / HTTQ/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\nX: a\x01z\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", 400},
        {"\x16\x03\x01\x02\x00\x01", 400},
        {"BREW / HTTP/1.1\r\nHost: h\r\n\r\n", 501},
        {"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 405},
        {"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 405},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: h\r\nExpect: wonders\r\n\r\n", 417},
        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
         400},
        {"POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
         "chunked\r\n\r\nb\r\n01234567890\r\n",
         413},
        {"POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n", 413},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n", 413},
        {"POST /deny HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", 403},
    };
    (void)arg;

    for (size_t i = 0; i < DBX_ARRAY_LEN(cases); i++) {
        int fd = peer_connect(t.port);
        struct answer *a = peer_ask(fd, cases[i].ask);
        if (a->status != cases[i].status)
            fprintf(stderr, "case %zu: %s\n", i, cases[i].ask);
        CHECK_EQ(a->status, cases[i].status);
        CHECK(a->close);
        if (a->status != 403)
            CHECK(strncmp(dbx_buf_cstr(&a->body), "{\"error\":{\"type\":\"", 18) == 0);
        CHECK(peer_closed(fd));
        close(fd);
    }
    int fd = peer_connect(t.port);
    CHECK_EQ(peer_ask(fd, "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789")
                 ->status,
             200);
    close(fd);
    finish();
    return NULL;
}

static void *large_heads(void *arg)
{
    struct dbx_buf ask;
    int fd = peer_connect(t.port);
    (void)arg;

    dbx_buf_init(&ask, 1 << 20);
    dbx_buf_str(&ask, "GET /h HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ");
    for (int i = 0; i < 15000; i++)
        dbx_buf_str(&ask, "a");
    dbx_buf_str(&ask, "\r\n\r\n");
    CHECK_EQ(peer_ask(fd, dbx_buf_cstr(&ask))->status, 200);
    dbx_buf_clear(&ask);
    dbx_buf_str(&ask, "GET /h HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; i < 100; i++)
        dbx_buf_printf(&ask, "X-%d: 1\r\n", i);
    dbx_buf_str(&ask, "X-List: end\r\n\r\n");
    CHECK_STR(dbx_buf_cstr(&peer_ask(fd, dbx_buf_cstr(&ask))->body), "end"); /* lws stops at 64 */
    dbx_buf_clear(&ask);
    dbx_buf_str(&ask, "GET /h HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; i < 200; i++)
        dbx_buf_printf(&ask, "X-%d: 1\r\n", i);
    dbx_buf_str(&ask, "\r\n");
    CHECK_EQ(peer_ask(fd, dbx_buf_cstr(&ask))->status, 431);
    close(fd);
    fd = peer_connect(t.port);
    dbx_buf_clear(&ask);
    dbx_buf_str(&ask, "GET /");
    for (int i = 0; i < 17000; i++)
        dbx_buf_str(&ask, "a");
    CHECK_EQ(peer_ask(fd, dbx_buf_cstr(&ask))->status, 431);
    CHECK(peer_closed(fd));
    close(fd);
    dbx_buf_done(&ask);
    finish();
    return NULL;
}

static void *slowness(void *arg)
{
    (void)arg;
    int fd = peer_connect(t.port);
    peer_say(fd, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na");
    struct answer *a = peer_answer(fd, false);
    CHECK_EQ(a->status, 408);
    CHECK(strstr(dbx_buf_cstr(&a->body), "\"request_timeout\"") != NULL);
    CHECK(peer_closed(fd));
    close(fd);
    fd = peer_connect(t.port);
    peer_say(fd, "GET /slow HT");
    CHECK_EQ(peer_answer(fd, false)->status, 408);
    close(fd);
    /* a request that waits for its answer has no such limit */
    fd = peer_connect(t.port);
    peer_say(fd, "GET /never HTTP/1.1\r\nHost: h\r\n\r\n");
    struct pollfd p = {.fd = fd, .events = POLLIN};
    CHECK_EQ(poll(&p, 1, 400), 0);
    close(fd);
    uint64_t until = dbx_now_ms() + PEER_MS;
    while (!__atomic_load_n(&t.aborted, __ATOMIC_SEQ_CST) && dbx_now_ms() < until)
        poll(NULL, 0, 1);
    CHECK_EQ(t.aborted, 1);
    finish();
    return NULL;
}

static void *expect_and_fail(void *arg)
{
    char line[26] = {0};
    int fd = peer_connect(t.port);
    (void)arg;

    peer_say(fd,
             "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    CHECK(peer_read_exact(fd, line, 25));
    CHECK_STR(line, "HTTP/1.1 100 Continue\r\n\r\n");
    peer_say(fd, "ok");
    CHECK_STR(dbx_buf_cstr(&peer_answer(fd, false)->body), "ok");
    struct answer *a = peer_ask(fd, "GET /fail HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK(!a->complete); /* cut, and not taken for whole */
    close(fd);
    /* a client that goes away in the middle of a stream */
    fd = peer_connect(t.port);
    peer_say(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK(peer_read_exact(fd, line, 10));
    close(fd);
    fd = peer_connect(t.port);
    CHECK_EQ(peer_ask(fd, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")->status, 200);
    close(fd);
    finish();
    return NULL;
}

static void *crowd(void *arg)
{
    int fds[4];
    (void)arg;

    for (int i = 0; i < 3; i++) {
        fds[i] = peer_connect(t.port);
        CHECK_EQ(peer_ask(fds[i], "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")->status, 200);
    }
    fds[3] = peer_connect(t.port);
    struct answer *a = peer_answer(fds[3], false);
    CHECK_EQ(a->status, 503);
    CHECK(a->complete);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    finish();
    return NULL;
}

static void *over_unix(void *arg)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    (void)arg;
    snprintf(addr.sun_path, sizeof(addr.sun_path), "test-httpd-%d.sock", getpid());
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_STR(dbx_buf_cstr(&peer_ask(fd, "GET /u HTTP/1.1\r\nHost: h\r\n\r\n")->body), "/u");
    close(fd);
    finish();
    return NULL;
}

static void test_unix(void)
{
    char spec[64], stale[48];
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(stale, sizeof(stale), "test-httpd-%d.sock", getpid());
    snprintf(spec, sizeof(spec), "unix:%s", stale);
    memcpy(addr.sun_path, stale, sizeof(stale));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0); /* what a killed daemon leaves */
    close(fd);
    run(over_unix, &(struct dbx_httpd_opts){.listen = spec});
    CHECK(access(stale, F_OK) < 0);
}

static void test_inherited(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char spec[16];

    CHECK_EQ(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_EQ(listen(fd, 16), 0);
    snprintf(spec, sizeof(spec), "fd:%d", fd);
    run(upgrades, &(struct dbx_httpd_opts){.listen = spec});
}

static void test_bad_listen(void)
{
    static const char *const bad[] = {
        "127.0.0.1", "localhost:1", "127.0.0.1:65536",        "[::1:1", "fd:0x",
        "fd:1000",   "unix:",       "unix:/no/such/folder/x", ""};
    struct dbx_httpd *hd;
    struct dbx_err err;

    t.loop = dbx_loop_new();
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        struct dbx_httpd_opts opts = {.loop = t.loop, .listen = bad[i], .handlers = &handlers};
        CHECK(dbx_httpd_new(&opts, &hd, &err) < 0);
        CHECK(err.msg[0]);
    }
    dbx_loop_free(t.loop);
}

/* Out of descriptors: accept pauses (a spinning loop would burn this thread's CPU), and goes on
 * when there are some. */
static void *starving(void *arg)
{
    struct rlimit old, low;
    struct timespec before, after;
    int extra = peer_connect(t.port), probe = fcntl(extra, F_DUPFD_CLOEXEC, 3);
    (void)arg;

    CHECK_EQ(peer_ask(extra, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")->status, 200);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons(t.port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    getrlimit(RLIMIT_NOFILE, &old);
    low = old;
    low.rlim_cur = (rlim_t)probe; /* all below are taken */
    setrlimit(RLIMIT_NOFILE, &low);
    CHECK_EQ(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    peer_say(fd, "GET /starved HTTP/1.1\r\nHost: h\r\n\r\n");
    struct pollfd p = {.fd = fd, .events = POLLIN};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    CHECK_EQ(poll(&p, 1, 300), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    CHECK((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 < 100);
    setrlimit(RLIMIT_NOFILE, &old);
    CHECK_STR(dbx_buf_cstr(&peer_answer(fd, false)->body), "/starved");
    close(fd);
    close(extra);
    close(probe);
    finish();
    return NULL;
}

/* All bodies together have a bound; only large ones feel it, and what is over is given back. */
static void *bodies(void *arg)
{
    static const char head[] = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n";
    static char half[100001];
    int first = peer_connect(t.port), second = peer_connect(t.port), small = peer_connect(t.port);
    (void)arg;
    memset(half, 'x', sizeof(half) - 1);
    peer_say(first, head);
    peer_say(first, half);
    peer_say(first, half + 50000);
    for (int i = 0; i < 20; i++) /* turns of the loop: it has come */
        CHECK_EQ(peer_ask(small, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")->status, 200);
    peer_say(second, head);
    peer_say(second, half);
    struct answer *a = peer_answer(second, false);
    CHECK_EQ(a->status, 503);
    CHECK(a->close);
    CHECK_EQ(
        peer_ask(small, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")->status,
        200);
    close(first);
    CHECK(peer_closed(second));
    close(second);
    second = peer_connect(t.port);
    peer_say(second, head);
    peer_say(second, half);
    peer_say(second, half);
    CHECK_EQ(peer_answer(second, false)->status, 200);
    close(second);
    close(small);
    finish();
    return NULL;
}

static void drain(void *user)
{
    (void)user;
    dbx_httpd_drain(t.hd);
}

static void *draining(void *arg)
{
    int idle = peer_connect(t.port), busy = peer_connect(t.port);
    (void)arg;
    CHECK_EQ(peer_ask(idle, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")->status, 200);
    peer_say(busy, "GET /later HTTP/1.1\r\nHost: h\r\n\r\n");
    uint64_t until = dbx_now_ms() + PEER_MS;
    while (__atomic_load_n(&t.requests, __ATOMIC_SEQ_CST) < 2 && dbx_now_ms() < until)
        poll(NULL, 0, 1);
    dbx_loop_post(t.loop, drain, NULL);
    CHECK(peer_closed(idle));
    struct answer *a = peer_answer(busy, false);
    CHECK_STR(dbx_buf_cstr(&a->body), "later");
    CHECK(a->close);
    CHECK(peer_closed(busy));
    close(idle);
    close(busy);
    finish();
    return NULL;
}

int main(void)
{
    run(basics, NULL);
    run(upgrades, NULL);
    run(pipelining, NULL);
    run(files, NULL);
    run(refusals, &(struct dbx_httpd_opts){.max_body = 1000000});
    run(large_heads, NULL);
    run(slowness, &(struct dbx_httpd_opts){.request_timeout_ms = 150});
    run(expect_and_fail, NULL);
    run(crowd, &(struct dbx_httpd_opts){.max_connections = 3});
    run(bodies, &(struct dbx_httpd_opts){.max_bodies = 200000});
    run(starving, NULL);
    run(draining, NULL);
    test_unix();
    test_inherited();
    test_bad_listen();
    return check_result();
}
