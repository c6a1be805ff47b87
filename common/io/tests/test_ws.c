/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of WebSockets: the server against raw bytes, and our client against our server. */
#include "common/base/log.h"
#include "common/io/httpd.h"
#include "common/io/tests/peer.h"
#include "common/io/ws.h"

#include <uv.h>

#define FAN 100

static struct {
    struct dbx_loop *loop;
    struct dbx_httpd *hd;
    struct dbx_timer *guard;
    uint16_t port;
    struct dbx_ws *socks[FAN + 8];
    size_t opened, closed, aborted;
    int last_code;
    char last_reason[128];
    bool drained;
    struct dbx_ws_frame *frame;
} t;

static void on_message(struct dbx_ws *ws, bool binary, const uint8_t *data, size_t len, void *user)
{
    (void)user;
    if (!binary && len == 5 && memcmp(data, "close", 5) == 0)
        dbx_ws_close(ws, 4001, "asked for");
    else if (!binary && len == 5 && memcmp(data, "abort", 5) == 0)
        dbx_ws_abort(ws);
    else if (!binary && len == 5 && memcmp(data, "proto", 5) == 0)
        dbx_ws_send(ws, false, dbx_ws_subprotocol(ws), strlen(dbx_ws_subprotocol(ws)));
    else
        CHECK_EQ(dbx_ws_send(ws, binary, data, len), 0);
}

static void on_close(struct dbx_ws *ws, int code, int http_status, const char *reason, void *user)
{
    (void)ws;
    (void)user;
    CHECK_EQ(http_status, 0);
    t.last_code = code;
    snprintf(t.last_reason, sizeof(t.last_reason), "%s", reason);
    __atomic_add_fetch(&t.closed, 1, __ATOMIC_SEQ_CST);
}

static void on_drain(struct dbx_ws *ws, void *user)
{
    (void)ws;
    (void)user;
    t.drained = true;
}

static const struct dbx_ws_handlers echo = {
    .on_message = on_message, .on_close = on_close, .on_drain = on_drain};

/* "/later" asks somebody first; the answer comes from the loop. */
static struct dbx_http_req *waiting;

static void accept_later(void *user)
{
    static const char *const served[] = {"devbox.json.v1", NULL};
    (void)user;
    if (!waiting)
        return;
    if (dbx_http_query(waiting, "no", 0))
        dbx_http_reply(DBX_TAKE(waiting), 403, "text/plain", NULL, "no", 2);
    else
        dbx_http_upgrade(waiting, &echo, &t, dbx_http_pick_subprotocol(waiting, served));
    waiting = NULL;
}

static void on_waiter_gone(struct dbx_http_req *req, void *user)
{
    (void)user;
    CHECK(req == waiting);
    waiting = NULL;
    __atomic_add_fetch(&t.aborted, 1, __ATOMIC_SEQ_CST);
}

static int on_upgrade(struct dbx_http_req *req, const struct dbx_ws_handlers **ret_handlers,
                      void **ret_ws_user, const char **ret_subprotocol, void *user)
{
    static const char *const served[] = {"devbox.json.v1", "devbox.bin.v1", "devbox.link.v1", NULL};
    (void)user;
    if (strcmp(dbx_http_path(req), "/denied") == 0 ||
        dbx_streq(dbx_http_header(req, "authorization"), "bad")) {
        dbx_http_reply(req, 401, "application/json", NULL, "{\"error\":{}}", 12);
        return -1;
    }
    if (dbx_starts_with(dbx_http_path(req), "/later")) {
        waiting = req;
        dbx_http_on_abort(req, on_waiter_gone, NULL);
        if (strcmp(dbx_http_path(req), "/later/at-once") == 0)
            accept_later(NULL);
        else if (strcmp(dbx_http_path(req), "/later/never") != 0)
            dbx_loop_defer(t.loop, accept_later, NULL);
        return DBX_UPGRADE_LATER;
    }
    *ret_handlers = &echo;
    *ret_ws_user = &t;
    *ret_subprotocol = dbx_http_pick_subprotocol(req, served);
    return 0;
}

static void on_ws_open(struct dbx_ws *ws, void *ws_user, void *user)
{
    (void)user;
    CHECK(ws_user == &t);
    if (t.opened < DBX_ARRAY_LEN(t.socks))
        t.socks[t.opened] = ws;
    __atomic_add_fetch(&t.opened, 1, __ATOMIC_SEQ_CST);
    if (t.frame)
        dbx_ws_send_frame(ws, t.frame);
}

static void on_request(struct dbx_http_req *req, void *user)
{
    (void)user;
    dbx_http_reply(req, 200, "text/plain", NULL, "hi", 2);
}

static const struct dbx_httpd_handlers handlers = {
    .on_request = on_request, .on_upgrade = on_upgrade, .on_ws_open = on_ws_open};

static void stop(void *user)
{
    (void)user;
    dbx_loop_stop(t.loop, 0);
}

static void on_guard(void *user)
{
    CHECK(!"deadline passed");
    stop(user);
}

static void begin(const char *listen, const struct dbx_ws_opts *ws)
{
    struct dbx_httpd_opts opts = {.listen = listen, .handlers = &handlers};
    struct dbx_err err;

    memset(&t, 0, sizeof(t));
    opts.loop = t.loop = dbx_loop_new();
    if (ws)
        opts.ws = *ws;
    t.guard = dbx_timer_new(t.loop, on_guard, NULL);
    dbx_timer_start(t.guard, 60000, 0);
    int r = dbx_httpd_new(&opts, &t.hd, &err);
    CHECK_EQ(r, 0);
    t.port = dbx_httpd_port(t.hd);
}

static void end(void)
{
    t.hd = dbx_httpd_free(t.hd);
    dbx_timer_free(t.guard);
    dbx_ws_frame_unref(t.frame);
    dbx_loop_free(t.loop);
    CHECK_EQ(t.opened, t.closed);
}

static void run(void *(*client)(void *), const struct dbx_ws_opts *ws)
{
    pthread_t thread;

    begin("127.0.0.1:0", ws);
    CHECK_EQ(pthread_create(&thread, NULL, client, NULL), 0);
    dbx_loop_run(t.loop);
    pthread_join(thread, NULL);
    end();
}

static void finish(void)
{
    answer_done();
    dbx_loop_post(t.loop, stop, NULL);
}

static bool wait_for(size_t *counter, size_t n)
{
    uint64_t until = dbx_now_ms() + PEER_MS;
    while (__atomic_load_n(counter, __ATOMIC_SEQ_CST) < n && dbx_now_ms() < until)
        poll(NULL, 0, 1);
    return __atomic_load_n(counter, __ATOMIC_SEQ_CST) >= n;
}

static int open_ws(const char *ask)
{
    int fd = peer_connect(t.port);
    CHECK_EQ(peer_ask(fd, ask)->status, 101);
    return fd;
}

static void check_echo(int fd, uint8_t first, const uint8_t *data, size_t len)
{
    uint8_t *back;
    size_t n;

    peer_frame(fd, first, data, len);
    CHECK_EQ(peer_read_frame(fd, &back, &n), first);
    CHECK_EQ(n, len);
    CHECK(n == len && memcmp(back, data, n) == 0);
    free(back);
}

static void *echoes(void *arg)
{
    static const size_t sizes[] = {0, 1, 125, 126, 4095, 4096, 4097, 65535, 65536, 300000, 1 << 20};
    uint8_t *data = malloc(1 << 20);
    (void)arg;

    for (size_t i = 0; i < 1 << 20; i++)
        data[i] = (uint8_t)(i * 7);
    int fd = open_ws(WS_ASK("/ws", ""));
    CHECK_STR(answer_header(&peer_last, "Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for (size_t i = 0; i < DBX_ARRAY_LEN(sizes); i++)
        check_echo(fd, 0x82, data, sizes[i]);
    memset(data, 'x', 1 << 20);
    for (size_t i = 0; i < DBX_ARRAY_LEN(sizes); i++)
        check_echo(fd, 0x81, data, sizes[i]);
    /* many at once, behind the handshake in one segment */
    free(data);
    close(fd);
    fd = peer_connect(t.port);
    struct dbx_buf all;
    dbx_buf_init(&all, 1 << 20);
    dbx_buf_str(&all, WS_ASK("/ws", ""));
    for (int i = 0; i < 200; i++)
        dbx_buf_append(&all, "\x81\x82\0\0\0\0hi", 8);
    peer_send(fd, all.data, all.len);
    dbx_buf_done(&all);
    CHECK_EQ(peer_answer(fd, false)->status, 101);
    for (int i = 0; i < 200; i++) {
        uint8_t *back;
        size_t n;
        CHECK_EQ(peer_read_frame(fd, &back, &n), 0x81);
        CHECK_STR((char *)back, "hi");
        free(back);
    }
    close(fd);
    CHECK(wait_for(&t.closed, 2));
    CHECK_EQ(t.last_code, 1006);
    finish();
    return NULL;
}

static void *fragments(void *arg)
{
    uint8_t *back;
    size_t n;
    int fd = open_ws(WS_ASK("/ws", ""));
    (void)arg;

    peer_frame(fd, 0x01, "h\xc3", 2); /* a character across fragments, a ping between them */
    peer_frame(fd, 0x89, "p", 1);
    peer_frame(fd, 0x00, "", 0);
    peer_frame(fd, 0x00, "\xa4", 1);
    peer_frame(fd, 0x80, "!", 1);
    CHECK_EQ(peer_read_frame(fd, &back, &n), 0x8a);
    CHECK_STR((char *)back, "p");
    free(back);
    CHECK_EQ(peer_read_frame(fd, &back, &n), 0x81);
    CHECK_STR((char *)back, "h\xc3\xa4!");
    free(back);
    /* byte by byte */
    static const uint8_t slow[] = {0x81, 0x83, 0, 0, 0, 0, 'a', 'b', 'c'};
    for (size_t i = 0; i < sizeof(slow); i++)
        peer_send(fd, slow + i, 1);
    CHECK_EQ(peer_read_frame(fd, &back, &n), 0x81);
    CHECK_STR((char *)back, "abc");
    free(back);
    peer_frame(fd, 0x88,
               "\x03\xe8"
               "bye",
               5);
    CHECK_EQ(peer_close_code(fd), 1000);
    CHECK(peer_closed(fd));
    CHECK(wait_for(&t.closed, 1));
    CHECK_EQ(t.last_code, 1000);
    CHECK_STR(t.last_reason, "bye");
    close(fd);
    finish();
    return NULL;
}

static void *violations(void *arg)
{
    static const struct {
        const char *bytes; /* unmasked payload of one frame */
        size_t len;
        uint8_t first;
        int answered, told;
    } cases[] = {
        {"\xff", 1, 0x81, 1007, 1007},     /* text that is not UTF-8 */
        {"\xc3", 1, 0x81, 1007, 1007},     /* ... that ends in mid-character */
        {"x", 1, 0x80, 1002, 1002},        /* continuation of nothing */
        {"x", 1, 0x83, 1002, 1002},        /* reserved opcode */
        {"x", 1, 0xc1, 1002, 1002},        /* reserved bit */
        {"x", 1, 0x09, 1002, 1002},        /* fragmented ping */
        {"\x03\xed", 2, 0x88, 1002, 1002}, /* close with 1005 */
        {"\x00\x01", 2, 0x88, 1002, 1002}, /* close with 1 */
        {"\x0b\xb8", 2, 0x88, 3000, 3000}, /* close with 3000 is fine */
    };
    (void)arg;

    for (size_t i = 0; i < DBX_ARRAY_LEN(cases); i++) {
        int fd = open_ws(WS_ASK("/ws", ""));
        peer_frame(fd, cases[i].first, cases[i].bytes, cases[i].len);
        int code = peer_close_code(fd);
        if (code != cases[i].answered)
            fprintf(stderr, "case %zu\n", i);
        CHECK_EQ(code, cases[i].answered);
        peer_frame(fd, 0x88, "\x03\xe8", 2);
        close(fd);
        CHECK(wait_for(&t.closed, i + 1));
        CHECK_EQ(t.last_code, cases[i].told);
    }
    finish();
    return NULL;
}

static void *too_long(void *arg)
{
    static const uint8_t head[] = {0x82, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 'x'};
    uint8_t block[1000] = {0};
    (void)arg;

    int fd = open_ws(WS_ASK("/ws", ""));
    peer_frame(fd, 0x82, block, 1000);
    uint8_t *back;
    size_t n;
    CHECK_EQ(peer_read_frame(fd, &back, &n), 0x82);
    free(back);
    peer_send(fd, head, sizeof(head)); /* announces 2 GiB */
    CHECK_EQ(peer_close_code(fd), 1009);
    close(fd);
    fd = open_ws(WS_ASK("/ws", ""));
    for (int i = 0; i < 3; i++)
        peer_frame(fd, i ? 0x00 : 0x02, block, 400);
    CHECK_EQ(peer_close_code(fd), 1009);
    close(fd);
    CHECK(wait_for(&t.closed, 2));
    finish();
    return NULL;
}

static void *later(void *arg)
{
    static const char *const asks[] = {WS_ASK("/later", ""), WS_ASK("/later/at-once", "")};
    (void)arg;

    for (size_t i = 0; i < DBX_ARRAY_LEN(asks); i++) {
        struct dbx_buf all;
        int fd = peer_connect(t.port);
        dbx_buf_init(&all, 4096);
        dbx_buf_str(&all, asks[i]);
        dbx_buf_append(&all, "\x81\x82\0\0\0\0hi", 8); /* said before it was accepted */
        peer_send(fd, all.data, all.len);
        dbx_buf_done(&all);
        CHECK_EQ(peer_answer(fd, false)->status, 101);
        uint8_t *back;
        size_t n;
        CHECK_EQ(peer_read_frame(fd, &back, &n), 0x81);
        CHECK_STR((char *)back, "hi");
        free(back);
        close(fd);
        CHECK(wait_for(&t.closed, i + 1));
    }
    int fd = peer_connect(t.port);
    CHECK_EQ(peer_ask(fd, WS_ASK("/later?no=1", ""))->status, 403);
    CHECK_EQ(peer_ask(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")->status, 200);
    peer_send(fd, WS_ASK("/later/never", ""), strlen(WS_ASK("/later/never", "")));
    close(fd);
    CHECK(wait_for(&t.aborted, 1));
    finish();
    return NULL;
}

static void *refused(void *arg)
{
    (void)arg;
    int fd = peer_connect(t.port);
    struct answer *a = peer_ask(fd, WS_ASK("/denied", ""));
    CHECK_EQ(a->status, 401);
    CHECK_STR(dbx_buf_cstr(&a->body), "{\"error\":{}}");
    /* and the connection lives on */
    CHECK_EQ(peer_ask(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")->status, 200);
    CHECK_EQ(peer_ask(fd, WS_ASK("/ws", ""))->status, 101);
    close(fd);

    static const struct {
        const char *ask;
        int status;
    } bad[] = {
        {"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: "
         "Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
         400},
        {"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: "
         "Upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: short\r\n\r\n",
         400},
        {"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: "
         "Upgrade\r\nSec-WebSocket-Version: 8\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
         426},
        {"POST / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: "
         "Upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 0\r\n\r\n",
         400},
        {"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", 200}, /* not on this hop */
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        fd = peer_connect(t.port);
        CHECK_EQ(peer_ask(fd, bad[i].ask)->status, bad[i].status);
        close(fd);
    }
    CHECK(wait_for(&t.closed, 1));
    finish();
    return NULL;
}

static void check_subprotocol(const char *ask, const char *want)
{
    uint8_t *back;
    size_t n;
    int fd = open_ws(ask);

    CHECK_STR(answer_header(&peer_last, "Sec-WebSocket-Protocol"), want);
    peer_frame(fd, 0x81, "proto", 5);
    CHECK_EQ(peer_read_frame(fd, &back, &n), 0x81);
    CHECK_STR((char *)back, want);
    free(back);
    peer_frame(fd, 0x81, "close", 5);
    CHECK_EQ(peer_close_code(fd), 4001);
    peer_frame(fd, 0x88, "\x0f\xa1", 2);
    CHECK(peer_closed(fd));
    close(fd);
}

static void *subprotocols(void *arg)
{
    (void)arg;
    check_subprotocol(WS_ASK("/ws", ""), "");
    check_subprotocol(WS_ASK("/ws", "Sec-WebSocket-Protocol: devbox.json.v1\r\n"),
                      "devbox.json.v1");
    check_subprotocol(WS_ASK("/ws", "Sec-WebSocket-Protocol: foo, devbox.bin.v1\r\n"),
                      "devbox.bin.v1");
    check_subprotocol(
        WS_ASK("/ws", "Sec-WebSocket-Protocol: foo\r\nSec-WebSocket-Protocol: devbox.link.v1\r\n"),
        "devbox.link.v1");
    check_subprotocol(WS_ASK("/ws", "Sec-WebSocket-Protocol: foo\r\n"), "");
    check_subprotocol(WS_ASK("/ws", "Sec-WebSocket-Extensions: permessage-deflate\r\n"), "");
    CHECK(wait_for(&t.closed, 6));
    CHECK_EQ(t.last_code, 4001);
    finish();
    return NULL;
}

static void *vanishing(void *arg)
{
    uint8_t *back;
    size_t n;
    (void)arg;

    for (int i = 0; i < 20; i++) { /* in the middle of a frame, with a reset */
        struct linger now = {.l_onoff = 1};
        int fd = open_ws(WS_ASK("/ws", ""));
        peer_send(fd,
                  "\x82\xfe\x10\x00"
                  "abcdefgh",
                  12);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close(fd);
    }
    CHECK(wait_for(&t.closed, 20));
    CHECK_EQ(t.last_code, 1006);
    int fd = open_ws(WS_ASK("/ws", ""));
    peer_frame(fd, 0x81, "abort", 5);
    CHECK(peer_closed(fd));
    CHECK(wait_for(&t.closed, 21));
    CHECK_EQ(t.last_code, 1006);
    close(fd);
    /* one that answers pings lives, one that does not is cut off (ping_ms is 500 here) */
    int dead = open_ws(WS_ASK("/ws", ""));
    int alive = open_ws(WS_ASK("/ws", ""));
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(peer_read_frame(alive, &back, &n), 0x89);
        peer_frame(alive, 0x8a, back, n);
        free(back);
    }
    CHECK(peer_closed(dead));
    CHECK(wait_for(&t.closed, 22));
    check_echo(alive, 0x81, (const uint8_t *)"x", 1);
    close(dead);
    close(alive);
    CHECK(wait_for(&t.closed, 23));
    finish();
    return NULL;
}

static void send_to_all(void *user)
{
    (void)user;
    t.frame = dbx_ws_frame_new(true, "head", 4, "0123456789", 10);
    for (size_t i = 0; i < t.opened; i++)
        CHECK_EQ(dbx_ws_send_frame(t.socks[i], t.frame), 0);
}

static void *fan_out(void *arg)
{
    int fds[FAN];
    (void)arg;

    for (int i = 0; i < FAN; i++)
        fds[i] = open_ws(WS_ASK("/ws", ""));
    CHECK(wait_for(&t.opened, FAN));
    dbx_loop_post(t.loop, send_to_all, NULL);
    for (int i = 0; i < FAN; i++) {
        uint8_t *back;
        size_t n;
        CHECK_EQ(peer_read_frame(fds[i], &back, &n), 0x82);
        CHECK_STR((char *)back, "head0123456789");
        free(back);
        close(fds[i]);
    }
    CHECK(wait_for(&t.closed, FAN));
    finish();
    return NULL;
}

/* A viewer that does not read: the queue grows in our hands, within bounds, and drains when it
 * reads. */
static void flood(void *user)
{
    static uint8_t block[1 << 20];
    int r = 0, sent = 0;
    (void)user;
    while ((r = dbx_ws_send(t.socks[0], true, block, sizeof(block))) == 0)
        sent++;
    CHECK_EQ(r, -ENOBUFS);
    CHECK(sent >= 64 && sent < 70);
    CHECK(dbx_ws_queued(t.socks[0]) > (60u << 20));
    t.last_code = sent;
    dbx_ws_close(t.socks[0], 1000, "");
    CHECK_EQ(dbx_ws_send(t.socks[0], true, block, 1), -ENOTCONN);
    __atomic_add_fetch(&t.opened, 1, __ATOMIC_SEQ_CST);
}

static void *slow_viewer(void *arg)
{
    uint8_t *back;
    size_t n;
    int fd = open_ws(WS_ASK("/ws", "")), got = 0;
    (void)arg;

    dbx_loop_post(t.loop, flood, NULL);
    CHECK(wait_for(&t.opened, 2));
    int sent = t.last_code;
    while (peer_read_frame(fd, &back, &n) == 0x82) {
        CHECK_EQ(n, 1 << 20);
        free(back);
        got++;
    }
    free(back);
    CHECK_EQ(got, sent); /* what was queued goes first */
    t.opened--;
    peer_frame(fd, 0x88, "\x03\xe8", 2);
    CHECK(peer_closed(fd));
    CHECK(wait_for(&t.closed, 1));
    CHECK_EQ(t.last_code, 1000);
    close(fd);
    finish();
    return NULL;
}

static void do_drain(void *user)
{
    (void)user;
    dbx_httpd_drain(t.hd);
}

static void *draining(void *arg)
{
    int fd = open_ws(WS_ASK("/ws", ""));
    (void)arg;
    dbx_loop_post(t.loop, do_drain, NULL);
    CHECK_EQ(peer_close_code(fd), 1001);
    close(fd);
    CHECK(wait_for(&t.closed, 1));
    finish();
    return NULL;
}

/* Left open: dbx_httpd_free tells the application and closes. */
static void *left_open(void *arg)
{
    (void)arg;
    int fd = open_ws(WS_ASK("/ws", ""));
    finish();
    (void)fd; /* closed by the process' end */
    return NULL;
}

/* --- our client --- */

struct client {
    struct dbx_ws *ws;
    size_t messages, bytes;
    int code, status, closed;
    bool open;
    char reason[128], sub[64];
};

static size_t expected_closed, clients_closed;

static void c_open(struct dbx_ws *ws, void *user)
{
    static uint8_t big[200000];
    struct client *c = user;

    c->open = true;
    snprintf(c->sub, sizeof(c->sub), "%s", dbx_ws_subprotocol(ws));
    CHECK_EQ(dbx_ws_send(ws, false, "one", 3), 0);
    CHECK_EQ(dbx_ws_send2(ws, true, "tw", 2, "o", 1), 0);
    struct dbx_ws_frame *f = dbx_ws_frame_new(true, big, sizeof(big), NULL, 0);
    CHECK_EQ(dbx_ws_send_frame(ws, f), 0);
    CHECK_EQ(dbx_ws_send_frame(ws, f), 0);
    dbx_ws_frame_unref(f);
}

static void c_message(struct dbx_ws *ws, bool binary, const uint8_t *data, size_t len, void *user)
{
    struct client *c = user;

    c->messages++;
    c->bytes += len;
    if (c->messages == 1)
        CHECK(!binary && len == 3 && memcmp(data, "one", 3) == 0);
    if (c->messages == 2)
        CHECK(binary && len == 3 && memcmp(data, "two", 3) == 0);
    if (c->messages == 3)
        CHECK(len == 200000 && data[0] == 0 && data[len - 1] == 0);
    if (c->messages == 4)
        dbx_ws_close(ws, 1000, "done");
}

static void c_close(struct dbx_ws *ws, int code, int http_status, const char *reason, void *user)
{
    struct client *c = user;

    (void)ws;
    c->closed++;
    c->code = code;
    c->status = http_status;
    snprintf(c->reason, sizeof(c->reason), "%s", reason);
    if (++clients_closed == expected_closed)
        dbx_loop_stop(t.loop, 0);
}

static const struct dbx_ws_handlers client_handlers = {
    .on_open = c_open, .on_message = c_message, .on_close = c_close};

static void connect_client(struct client *c, const char *url, const char *sub, const char *auth)
{
    struct dbx_ws_client_opts opts = {.loop = t.loop,
                                      .url = url,
                                      .subprotocol = sub,
                                      .authorization = auth,
                                      .connect_timeout_ms = 1000};
    memset(c, 0, sizeof(*c));
    c->ws = dbx_ws_connect(&opts, &client_handlers, c);
}

static void run_clients(size_t n)
{
    clients_closed = 0;
    expected_closed = n;
    dbx_loop_run(t.loop);
}

static void check_good(const struct client *c, const char *sub)
{
    CHECK(c->open);
    CHECK_EQ(c->messages, 4);
    CHECK_EQ(c->bytes, 400006);
    CHECK_EQ(c->code, 1000);
    CHECK_EQ(c->closed, 1);
    CHECK_STR(c->sub, sub);
}

static void count_one(uv_handle_t *handle, void *arg)
{
    if (!uv_is_closing(handle))
        ++*(size_t *)arg;
}

static size_t count_handles(void)
{
    size_t n = 0;

    uv_walk(dbx_loop_uv(t.loop), count_one, &n);
    return n;
}

static void test_clients(void)
{
    struct client c[8];
    char url[128], gone[128];

    begin("127.0.0.1:0", NULL);
    snprintf(url, sizeof(url), "ws://127.0.0.1:%u/ws?x=1", t.port);
    for (int i = 0; i < 7; i++)
        connect_client(&c[i], url, i ? "devbox.link.v1" : NULL, "good");
    snprintf(url, sizeof(url), "ws://localhost:%u/ws",
             t.port); /* a name, of which ::1 may come first */
    connect_client(&c[7], url, "devbox.json.v1", NULL);
    run_clients(8);
    check_good(&c[0], "");
    for (int i = 1; i < 7; i++)
        check_good(&c[i], "devbox.link.v1");
    check_good(&c[7], "devbox.json.v1");

    snprintf(url, sizeof(url), "ws://127.0.0.1:%u/ws", t.port);
    snprintf(gone, sizeof(gone), "ws://127.0.0.1:%u/ws", 1);
    connect_client(&c[0], url, NULL, "bad");
    connect_client(&c[1], gone, NULL, NULL);
    connect_client(&c[2], "http://127.0.0.1/", NULL, NULL);
    connect_client(&c[3], "ws+unix:///no/such.sock:/ws", NULL, NULL);
    connect_client(&c[4], "ws://no-such-host.invalid/ws", NULL, NULL);
    connect_client(&c[5], url, NULL, "two\r\nlines: x");
    connect_client(&c[6], url, NULL, NULL);
    dbx_ws_abort(c[6].ws);
    CHECK_EQ(c[6].closed, 0);
    run_clients(7);
    CHECK_EQ(c[0].status, 401);
    size_t handles = count_handles();
    for (int i = 0; i < 5; i++) {
        connect_client(&c[0], "ws+unix:///no/such.sock:/ws", NULL, NULL);
        connect_client(&c[1], gone, NULL, NULL);
        run_clients(2);
        CHECK_EQ(c[0].closed + c[1].closed, 2);
    }
    /* Trying again and again leaves nothing behind; what was before may have gone meanwhile. */
    CHECK(count_handles() <= handles);
    for (int i = 2; i < 7; i++) {
        CHECK(!c[i].open);
        CHECK_EQ(c[i].closed, 1);
        CHECK_EQ(c[i].code, 1006);
        CHECK(c[i].reason[0]);
    }
    end();
}

static void test_unix_client(void)
{
    struct client c;
    char path[64], spec[80], url[160], cwd[4096];

    snprintf(path, sizeof(path), "test-ws-%d.sock", getpid());
    snprintf(spec, sizeof(spec), "unix:%s", path);
    begin(spec, NULL);
    CHECK(getcwd(cwd, sizeof(cwd)) != NULL);
    snprintf(url, sizeof(url), "ws+unix://%.60s/%.30s:/ws", cwd, path);
    connect_client(&c, url, "devbox.bin.v1", NULL);
    run_clients(1);
    check_good(&c, "devbox.bin.v1");
    end();
}

/* Somebody who accepts and says nothing. */
static void test_mute_server(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct client c;
    char url[64];

    CHECK_EQ(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_EQ(listen(fd, 16), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    begin("127.0.0.1:0", NULL);
    snprintf(url, sizeof(url), "ws://127.0.0.1:%u/", ntohs(addr.sin_port));
    uint64_t t0 = dbx_now_ms();
    connect_client(&c, url, NULL, NULL);
    run_clients(1);
    CHECK(dbx_now_ms() - t0 >= 900 && dbx_now_ms() - t0 < 30000);
    CHECK_EQ(c.code, 1006);
    CHECK_STR(c.reason, "the connection was not made in time");
    end();
    close(fd);
}

/* The loop goes while a client is connecting: it is told, and nothing leaks. */
static void test_loop_goes(void)
{
    struct client c;
    char url[64];

    begin("127.0.0.1:0", NULL);
    snprintf(url, sizeof(url), "ws://127.0.0.1:%u/ws", t.port);
    connect_client(&c, url, NULL, NULL);
    expected_closed = clients_closed = 0;
    dbx_loop_defer(t.loop, stop, NULL);
    dbx_loop_run(t.loop);
    dbx_loop_defer(t.loop, stop, NULL);
    dbx_loop_run(t.loop);
    dbx_ws_abort(c.ws);
    expected_closed = 1;
    dbx_loop_run(t.loop);
    CHECK_EQ(c.closed, 1);
    end();
}

int main(void)
{
    static const struct dbx_ws_opts small = {.max_message = 1000}, lively = {.ping_ms = 500};

    if (getenv("WS_DEBUG"))
        dbx_log_init("test", "logfmt", DBX_LOG_DEBUG);
    run(echoes, NULL);
    run(fragments, NULL);
    run(violations, NULL);
    run(too_long, &small);
    run(refused, NULL);
    run(later, NULL);
    run(subprotocols, NULL);
    run(vanishing, &lively);
    run(fan_out, NULL);
    run(slow_viewer, NULL);
    run(draining, NULL);
    run(left_open, NULL);
    test_clients();
    test_unix_client();
    test_mute_server();
    test_loop_goes();
    return check_result();
}
