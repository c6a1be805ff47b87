/* SPDX-License-Identifier: Apache-2.0 */
/* The server: listener, connections, and the life of a connection.
 *
 * HTTP/1.1 is read here, by http1.c, and not by libwebsockets. The packaged 4.1.6 decodes and
 * rewrites the path before anybody sees it (a proxied "@scope%2fname" is gone), drops a connection
 * without an answer on the 65th header or query parameter, on a malformed or over-long head and on
 * an unknown method, knows no chunked request bodies, and reads freed memory on a second request
 * with an unknown Upgrade (NN-2025-0102). What it does well it does here: when a handshake has been
 * checked and accepted, the descriptor goes over to it with a handshake that we wrote ourselves
 * (ws.c), so it never parses a byte of a stranger's HTTP.
 *
 * One request at a time is taken from a connection; what was pipelined behind it waits in conn->in.
 * Nothing of a connection is freed while the application is being called: conn->busy counts our own
 * frames, and a connection that is over becomes CONN_DEAD until the outermost frame, or its timer,
 * frees it. */
#include "common/io/httpd.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/io/httpd_int.h"
#include "common/io/loop.h"
#include "common/io/lws_int.h"
#include "common/io/tls_int.h"
#include "common/io/ws_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define HTTPD_MAGIC 0x48747064
#define CONN_MAGIC 0x436f6e6e

#define IN_MAX (DBX_MAX_HEADER + (128u << 10))
#define SMALL_BODY (64u << 10)
#define IN_PAUSE (64u << 10) /* pipelined bytes that we hold before we stop reading */
#define READ_SIZE (32u << 10)
#define IDLE_MS 75000 /* keep-alive without a request */
#define LINGER_MS 2000
#define IOV_BATCH 16
#define FILE_BURST (4u << 20) /* sent from files before others have their turn */

static void conn_settle(struct conn *c);
static void conn_process(struct conn *c);

/* --- output --- */

void dbx_httpd__kill(struct conn *c)
{
    c->state = CONN_DEAD;
}

static void queue_chunk(struct conn *c, struct out_chunk *chunk, size_t cost)
{
    if (dbx_list_empty(&c->out))
        c->progress_ms = dbx_now_ms();
    dbx_list_push(&c->out, &chunk->node);
    c->out_bytes += cost;
    if (c->out_bytes > HC_OUT_HIGH)
        c->above_high = true;
    if (c->out_bytes > HC_OUT_MAX)
        dbx_httpd__kill(c);
}

void dbx_httpd__send(struct conn *c, const void *a, size_t alen, const void *b, size_t blen)
{
    if (c->state == CONN_DEAD || alen + blen == 0)
        return;
    struct out_chunk *chunk = dbx_malloc(sizeof(*chunk) + alen + blen);
    chunk->len = alen + blen;
    chunk->off = 0;
    chunk->fd = -1;
    if (alen)
        memcpy(chunk->data, a, alen);
    if (blen)
        memcpy(chunk->data + alen, b, blen);
    queue_chunk(c, chunk, alen + blen);
}

void dbx_httpd__send_file(struct conn *c, int fd, uint64_t off, uint64_t len)
{
    if (c->state == CONN_DEAD || len == 0)
        return;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0) {
        dbx_httpd__kill(c);
        return;
    }
    struct out_chunk *chunk = dbx_malloc(sizeof(*chunk));
    *chunk = (struct out_chunk){.len = len, .fd = own, .file_off = off};
    queue_chunk(c, chunk, HC_FILE_COST);
}

static void drop_chunk(struct out_chunk *chunk)
{
    dbx_list_remove(&chunk->node);
    dbx_close(chunk->fd);
    free(chunk);
}

/* The bytes in front of the queue, up to the first file; a head goes into one packet with what
 * follows it. */
static ssize_t send_bytes(struct conn *c)
{
    struct iovec iov[IOV_BATCH];
    struct msghdr msg = {.msg_iov = iov};
    struct dbx_list *it, *tmp;
    int flags = MSG_NOSIGNAL;

    dbx_list_each(it, tmp, &c->out)
    {
        struct out_chunk *chunk = dbx_list_entry(it, struct out_chunk, node);
        if (chunk->fd >= 0)
            flags |= MSG_MORE;
        if (chunk->fd >= 0 || msg.msg_iovlen == IOV_BATCH)
            break;
        iov[msg.msg_iovlen++] = (struct iovec){chunk->data + chunk->off, chunk->len - chunk->off};
    }
    return sendmsg(c->fd, &msg, flags);
}

/* A file that has become shorter cannot be made good any more: the client must not take the next
 * answer for the rest. */
static ssize_t send_file(struct conn *c, const struct out_chunk *chunk)
{
    off_t at = (off_t)(chunk->file_off + chunk->off);
    uint64_t left = chunk->len - chunk->off;
    ssize_t n = sendfile(c->fd, chunk->fd, &at, left < FILE_BURST ? left : FILE_BURST);

    if (n == 0) {
        errno = EIO;
        return -1;
    }
    return n;
}

static ssize_t send_some(struct conn *c, bool *ret_file)
{
    const struct out_chunk *first = dbx_list_first(&c->out, struct out_chunk, node);

    *ret_file = first->fd >= 0;
    return *ret_file ? send_file(c, first) : send_bytes(c);
}

static void drop_sent(struct conn *c, size_t n)
{
    while (n) {
        struct out_chunk *chunk = dbx_list_first(&c->out, struct out_chunk, node);
        uint64_t left = chunk->len - chunk->off, took = n < left ? n : left;
        if (chunk->fd < 0)
            c->out_bytes -= took;
        else if (took == left)
            c->out_bytes -= HC_FILE_COST;
        chunk->off += took;
        n -= took;
        if (took == left)
            drop_chunk(chunk);
    }
}

static void conn_flush(struct conn *c)
{
    size_t burst = 0;
    bool file;

    while (!dbx_list_empty(&c->out)) {
        if (burst >= FILE_BURST)
            return;
        ssize_t n = send_some(c, &file);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            dbx_httpd__kill(c);
            return;
        }
        c->progress_ms = dbx_now_ms();
        drop_sent(c, (size_t)n);
        if (file)
            burst += (size_t)n;
    }
    if (c->state == CONN_FLUSH && c->eof) {
        dbx_httpd__kill(c);
    } else if (c->state == CONN_FLUSH) {
        (void)shutdown(c->fd, SHUT_WR);
        dbx_buf_done(&c->in);
        c->state = CONN_LINGER;
        c->since_ms = dbx_now_ms();
    }
}

/* --- deadlines --- */

static uint64_t conn_deadline(const struct conn *c)
{
    uint64_t at = UINT64_MAX;

    if (c->state == CONN_LINGER)
        at = c->since_ms + LINGER_MS;
    else if (c->state == CONN_BODY || (c->state == CONN_HEAD && c->in.len))
        at = c->since_ms + c->hd->opts.request_timeout_ms;
    else if (c->state == CONN_HEAD)
        at = c->since_ms + IDLE_MS;
    if (c->out_bytes && c->progress_ms + c->hd->opts.stall_ms < at)
        at = c->progress_ms + c->hd->opts.stall_ms;
    return at;
}

static void conn_arm(struct conn *c)
{
    uint64_t now = dbx_now_ms(), at = conn_deadline(c);

    if (at == UINT64_MAX)
        dbx_timer_stop(c->timer);
    else
        dbx_timer_start(c->timer, at > now ? at - now : 0, 0);
}

static void conn_timed_out(struct conn *c)
{
    if (conn_deadline(c) > dbx_now_ms())
        return;
    bool stalled = c->out_bytes && c->progress_ms + c->hd->opts.stall_ms <= dbx_now_ms();
    if (!stalled && (c->state == CONN_BODY || (c->state == CONN_HEAD && c->in.len)))
        dbx_http__error(c, 408, DBX_TIMEOUT, "request_timeout",
                        "the request did not arrive in time");
    else
        dbx_httpd__kill(c);
}

static void on_conn_timer(void *user)
{
    struct conn *c = DBX_CAST(struct conn, CONN_MAGIC, user);

    c->busy++;
    if (c->state != CONN_DEAD)
        conn_timed_out(c);
    if (c->state != CONN_DEAD)
        conn_process(c);
    c->busy--;
    conn_settle(c);
}

/* --- the end of a connection --- */

static void conn_free(struct conn *c)
{
    struct dbx_http_req *req = DBX_TAKE(c->req);

    dbx_list_remove(&c->node);
    c->hd->nconns--;
    dbx_watch_free(c->watch);
    dbx_timer_free(c->timer);
    dbx_close(c->fd);
    c->fd = -1;
    if (req) {
        c->busy++; /* the application may still look at the request, not answer it */
        if (req->on_abort)
            req->on_abort(req, req->abort_user);
        dbx_http__req_free(req);
    }
    while (!dbx_list_empty(&c->out))
        drop_chunk(dbx_list_first(&c->out, struct out_chunk, node));
    dbx_buf_done(&c->in);
    c->magic = 0;
    free(c);
}

static void conn_rearm(struct conn *c)
{
    bool reading =
        !c->eof && (c->state == CONN_LINGER || c->state == CONN_BODY || c->in.len < IN_PAUSE);

    /* Also with nothing left to send: whoever waits for room is told from the event that there is
     * some. */
    bool writing = c->out_bytes || c->above_high || c->blocked;
    dbx_watch_set(c->watch, (reading ? DBX_READ : 0) | (writing ? DBX_WRITE : 0));
    conn_arm(c);
}

/* The outermost of our frames is over: write, arm, or free. */
static void conn_settle(struct conn *c)
{
    if (c->busy)
        return;
    if (c->state != CONN_DEAD)
        conn_flush(c);
    if (c->state == CONN_DEAD)
        conn_free(c);
    else
        conn_rearm(c);
}

void dbx_httpd__touched(struct conn *c)
{
    if (c->busy)
        return;
    if (c->state != CONN_DEAD)
        conn_flush(c);
    /* on_abort, on_drain and the next request belong into a callback of the connection's own. */
    if (c->state == CONN_DEAD || (c->state == CONN_HEAD && c->in.len))
        dbx_timer_start(c->timer, 0, 0);
    else
        conn_rearm(c);
}

/* --- requests --- */

static void too_large(struct conn *c)
{
    dbx_http__error(c, 413, DBX_LIMIT, "body_too_large",
                    "the body is larger than this request may have");
}

/* Bodies come before anybody has looked at a key, so what strangers may make us hold is bounded for
 * all of them together. Small ones always get in. */
static bool has_room(const struct conn *c)
{
    return c->req->body.len <= SMALL_BODY || c->hd->body_bytes <= c->hd->opts.max_bodies;
}

static void conn_dispatch(struct conn *c)
{
    c->state = CONN_WAIT;
    c->req->body_complete = true;
    c->hd->opts.handlers->on_request(c->req, c->hd->opts.user);
}

static void conn_read_body(struct conn *c)
{
    struct dbx_http_req *req = c->req;
    size_t used = 0, before = req->body.len;
    int r = 0;

    if (req->head.chunked) {
        r = dbx_http1_chunked_feed(&c->chunked, c->in.data, c->in.len, &used, &req->body);
    } else {
        used = c->in.len < c->body_left ? c->in.len : (size_t)c->body_left;
        r = dbx_buf_append(&req->body, c->in.data, used);
        c->body_left -= used;
    }
    if (used)
        dbx_buf_consume(&c->in, used);
    c->hd->body_bytes += req->body.len - before;
    if (r == 0 && !has_room(c))
        dbx_http__error(c, 503, DBX_UNAVAIL, "busy", "too many large requests at once, try again");
    else if (r == -EBADMSG)
        dbx_http__error(c, 400, DBX_INVALID, "bad_chunk", "the chunked body is malformed");
    else if (r < 0)
        too_large(c);
    else if (req->head.chunked ? c->chunked.done : c->body_left == 0)
        conn_dispatch(c);
}

/* Returns how large the body may be, or -1 when the request was answered. */
static int64_t ask_limit(struct conn *c)
{
    const struct dbx_httpd_handlers *h = c->hd->opts.handlers;
    int64_t limit = h->on_headers ? h->on_headers(c->req, c->hd->opts.user) : 0;

    if (limit >= 0 && c->req && c->state == CONN_BODY)
        return limit ? limit : (int64_t)c->hd->opts.max_body;
    if (c->req && c->state == CONN_BODY)
        dbx_http__error(c, 500, DBX_INTERNAL, "not_answered",
                        "the server refused the request without a reason");
    return -1;
}

static void conn_begin_request(struct conn *c, struct dbx_http_req *req)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

    c->req = req;
    c->state = CONN_BODY;
    c->body_left = req->head.length;
    memset(&c->chunked, 0, sizeof(c->chunked));
    int64_t limit = ask_limit(c);
    if (limit < 0)
        return;
    if (c->body_left > (uint64_t)limit) {
        too_large(c);
        return;
    }
    dbx_buf_init(&req->body, (size_t)limit);
    if (!c->body_left && !req->head.chunked)
        conn_dispatch(c);
    else if (req->head.expect_continue && !c->in.len)
        dbx_httpd__send(c, go_on, sizeof(go_on) - 1, NULL, 0);
}

/* --- upgrade --- */

static void on_sock_gone(struct dbx_ws *ws, void *arg)
{
    struct dbx_httpd *hd = DBX_CAST(struct dbx_httpd, HTTPD_MAGIC, arg);

    dbx_list_remove(&ws->node);
    hd->nsocks--;
}

static bool offered(struct dbx_http_req *req, const char *name)
{
    const char *list;

    for (size_t i = 0; (list = dbx_http1_field(&req->head, "sec-websocket-protocol", i)); i++)
        if (dbx_http1_has_token(list, name))
            return true;
    return false;
}

static void conn_become_ws(struct conn *c, const struct dbx_ws_handlers *handlers, void *ws_user,
                           const char *sub)
{
    struct dbx_httpd *hd = c->hd;
    struct dbx_ws *ws =
        dbx_ws__server_new(hd->loop, &hd->opts.ws, handlers, ws_user, on_sock_gone, hd);
    struct dbx_http_req *req = DBX_TAKE(c->req);
    int fd = DBX_TAKE_FD(c->fd);

    dbx_list_push(&hd->socks, &ws->node);
    hd->nsocks++;
    c->watch = dbx_watch_free(c->watch);
    if (sub && !offered(req, sub))
        sub = NULL;
    /* The object exists before anything can go wrong with it: whoever accepted gets on_ws_open and,
     * whatever happens, on_close. */
    if (hd->opts.handlers->on_ws_open)
        hd->opts.handlers->on_ws_open(ws, ws_user, hd->opts.user);
    dbx_ws__adopt(ws, fd, dbx_http1_field(&req->head, "sec-websocket-key", 0), sub, c->in.data,
                  c->in.len);
    dbx_http__req_free(req);
    dbx_httpd__kill(c);
}

static void conn_upgrade(struct conn *c, struct dbx_http_req *req)
{
    const struct dbx_httpd_handlers *h = c->hd->opts.handlers;
    const struct dbx_ws_handlers *handlers = NULL;
    const char *sub = NULL;
    void *ws_user = NULL;

    c->req = req;
    c->state = CONN_WAIT;
    req->body_complete = true;
    if (!h->on_upgrade) {
        dbx_http__error(c, 404, DBX_NOT_FOUND, "not_found", "there is no WebSocket here");
        return;
    }
    if (c->hd->draining) {
        dbx_http__error(c, 503, DBX_UNAVAIL, "draining",
                        "this server is going away; try another one");
        return;
    }
    int r = h->on_upgrade(req, &handlers, &ws_user, &sub, c->hd->opts.user);
    if (r == 0 && c->req == req && c->state == CONN_WAIT)
        conn_become_ws(c, handlers, ws_user, sub);
    else if (r != DBX_UPGRADE_LATER && c->req == req && c->state == CONN_WAIT)
        dbx_http__error(c, 500, DBX_INTERNAL, "not_answered",
                        "the server refused the request without a reason");
}

void dbx_http_upgrade(struct dbx_http_req *req, const struct dbx_ws_handlers *handlers,
                      void *ws_user, const char *subprotocol)
{
    struct conn *c = req->conn;

    dbx_assert(req->head.websocket && c->req == req && c->state == CONN_WAIT);
    conn_become_ws(c, handlers, ws_user, subprotocol);
    dbx_httpd__touched(c);
}

/* --- input --- */

static void refuse_head(struct conn *c, int status, const char *why)
{
    static const struct {
        int status;
        enum dbx_kind kind;
        const char *code;
    } table[] = {
        {400, DBX_INVALID, "bad_request"},        {405, DBX_INVALID, "method_not_allowed"},
        {417, DBX_INVALID, "expectation_failed"}, {426, DBX_INVALID, "bad_websocket_version"},
        {431, DBX_LIMIT, "headers_too_large"},    {501, DBX_INVALID, "not_implemented"},
        {505, DBX_INVALID, "bad_http_version"}};

    for (size_t i = 0; i < DBX_ARRAY_LEN(table); i++)
        if (table[i].status == status)
            dbx_http__error(c, status, table[i].kind, table[i].code, why);
}

/* What cannot become a request is refused at once, not when 16 KiB of it have come. */
static bool not_http(const struct conn *c)
{
    size_t i = 0;

    while (i < c->in.len && (c->in.data[i] == '\r' || c->in.data[i] == '\n'))
        i++;
    return i > 16 || (i < c->in.len && (c->in.data[i] < 'A' || c->in.data[i] > 'Z'));
}

/* Takes one head from the input. False when there is none to take now. */
static bool conn_read_head(struct conn *c)
{
    const char *why;

    c->blocked = c->in.len && c->out_bytes > HC_OUT_HIGH;
    if (!c->in.len || c->blocked)
        return false;
    size_t end = dbx_http1_head_end(c->in.data, c->in.len);
    if (end ? end > DBX_MAX_HEADER : c->in.len > DBX_MAX_HEADER) {
        refuse_head(c, 431, "the head of the request is larger than 16 KiB");
        return true;
    }
    if (!end) {
        if (not_http(c))
            refuse_head(c, 400, "this is not an HTTP request");
        return c->state != CONN_HEAD;
    }
    struct dbx_http_req *req = dbx_http__req_new(c);
    int status = dbx_http1_parse(c->in.data, end, &req->head, &why);
    bool upgrade = !status && req->head.websocket;
    if (upgrade &&
        c->out_bytes) { /* earlier answers go out first: the descriptor is about to change hands */
        dbx_http__req_free(req);
        c->blocked = true;
        return false;
    }
    dbx_buf_consume(&c->in, end);
    if (!status && req->head.websocket_version_bad)
        status = 426, why = "only version 13 of the WebSocket protocol is spoken here";
    else if (!status && req->head.websocket_bad)
        status = 400, why = "the WebSocket handshake is malformed";
    if (status) {
        dbx_http__req_free(req);
        refuse_head(c, status, why);
        return true;
    }
    c->close_after = !req->head.keep_alive || c->hd->draining;
    if (upgrade)
        conn_upgrade(c, req);
    else
        conn_begin_request(c, req);
    return true;
}

static void conn_process(struct conn *c)
{
    for (;;) {
        if (c->state == CONN_HEAD) {
            if (!conn_read_head(c))
                return;
        } else if (c->state == CONN_BODY && c->in.len) {
            conn_read_body(c);
        } else {
            return;
        }
    }
}

/* End of input. Answers that are queued still go out; a request that is not answered yet is
 * aborted: who has gone away cannot be told from who has only shut its side. */
static void conn_eof(struct conn *c)
{
    c->eof = true;
    if (c->out_bytes && (c->state == CONN_HEAD || c->state == CONN_FLUSH))
        c->state = CONN_FLUSH;
    else
        dbx_httpd__kill(c);
}

static void conn_read(struct conn *c)
{
    uint8_t block[READ_SIZE];
    ssize_t n = recv(c->fd, block, sizeof(block), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_eof(c);
        return;
    }
    if (c->state == CONN_LINGER || c->state == CONN_FLUSH)
        return;
    if (c->state == CONN_HEAD && !c->in.len)
        c->since_ms = dbx_now_ms();
    if (dbx_buf_append(&c->in, block, (size_t)n) < 0)
        dbx_httpd__kill(c);
}

static void conn_drained(struct conn *c)
{
    if (!c->above_high || c->out_bytes > HC_OUT_LOW)
        return;
    c->above_high = false;
    if (c->state == CONN_STREAM && c->req->on_drain)
        c->req->on_drain(c->req, c->req->drain_user);
}

static void on_conn_io(void *user, int events, int error)
{
    struct conn *c = DBX_CAST(struct conn, CONN_MAGIC, user);

    c->busy++;
    if (error)
        dbx_httpd__kill(c);
    if (events & DBX_WRITE && c->state != CONN_DEAD) {
        conn_flush(c);
        if (c->state != CONN_DEAD)
            conn_drained(c);
    }
    if (events & DBX_READ && c->state != CONN_DEAD)
        conn_read(c);
    if (c->state != CONN_DEAD)
        conn_process(c);
    c->busy--;
    conn_settle(c);
}

static void refuse_connection(int fd)
{
    static const char body[] =
        "{\"error\":{\"type\":\"limit\",\"code\":\"too_many_connections\",\"message\":"
        "\"the server is full\",\"field\":null,\"request_id\":null}}";
    char full[512];
    int n = snprintf(full, sizeof(full),
                     "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                     sizeof(body) - 1, body);

    (void)send(fd, full, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(fd, SHUT_WR);
    dbx_close(fd);
}

static void on_plain(int fd, const char *peer, void *user)
{
    struct dbx_httpd *hd = DBX_CAST(struct dbx_httpd, HTTPD_MAGIC, user);

    if (dbx_httpd_connections(hd) >= hd->opts.max_connections) {
        refuse_connection(fd);
        return;
    }
    struct conn *c = DBX_NEW(struct conn);
    c->magic = CONN_MAGIC;
    c->hd = hd;
    c->fd = fd;
    dbx_list_init(&c->out);
    dbx_buf_init(&c->in, IN_MAX);
    memcpy(c->peer, peer, strnlen(peer, sizeof(c->peer) - 1));
    c->since_ms = c->progress_ms = dbx_now_ms();
    c->timer = dbx_timer_new(hd->loop, on_conn_timer, c);
    c->watch = dbx_watch_new(hd->loop, fd, DBX_READ, on_conn_io, c);
    dbx_list_push(&hd->conns, &c->node);
    hd->nconns++;
    conn_arm(c);
}

static void on_accept(int fd, const char *peer, void *user)
{
    struct dbx_httpd *hd = DBX_CAST(struct dbx_httpd, HTTPD_MAGIC, user);

    if (hd->tls)
        dbx_tls_front_take(hd->tls, fd, peer);
    else
        on_plain(fd, peer, hd);
}

/* --- the server --- */

int dbx_httpd_new(const struct dbx_httpd_opts *opts, struct dbx_httpd **ret, struct dbx_err *err)
{
    struct dbx_httpd *hd = DBX_NEW(struct dbx_httpd);
    int r = 0;

    dbx_assert(opts->handlers && opts->handlers->on_request);
    hd->magic = HTTPD_MAGIC;
    hd->loop = opts->loop;
    hd->opts = *opts;
    hd->opts.max_body = opts->max_body ? opts->max_body : DBX_MAX_BODY;
    hd->opts.request_timeout_ms = opts->request_timeout_ms ? opts->request_timeout_ms : 30000;
    hd->opts.stall_ms = opts->stall_ms ? opts->stall_ms : 60000;
    hd->opts.max_bodies = opts->max_bodies ? opts->max_bodies : 512u << 20;
    hd->opts.max_connections = opts->max_connections ? opts->max_connections : 12000;
    dbx_list_init(&hd->conns);
    dbx_list_init(&hd->socks);
    if (opts->handlers->on_upgrade)
        (void)dbx_lws_context(hd->loop); /* made now: it takes 50 ms */
    if (opts->tls_cert || opts->tls_key)
        r = dbx_tls_front_new(hd->loop, opts->tls_cert, opts->tls_key, hd->opts.stall_ms, on_plain,
                              hd, &hd->tls, err);
    if (r == 0)
        r = dbx_listener_new(hd->loop, opts->listen, on_accept, hd, &hd->listener, err);
    if (r < 0) {
        dbx_tls_front_free(hd->tls);
        free(hd);
        return r;
    }
    *ret = hd;
    return 0;
}

uint16_t dbx_httpd_port(const struct dbx_httpd *hd)
{
    return dbx_listener_port(hd->listener);
}

size_t dbx_httpd_connections(const struct dbx_httpd *hd)
{
    return hd->nconns + hd->nsocks;
}

void dbx_httpd_drain(struct dbx_httpd *hd)
{
    struct dbx_list *it, *tmp;

    hd->draining = true;
    hd->listener = dbx_listener_free(hd->listener);
    dbx_list_each(it, tmp, &hd->conns)
    {
        struct conn *c = dbx_list_entry(it, struct conn, node);
        c->close_after = true;
        if (c->state == CONN_HEAD && !c->in.len) {
            c->state = CONN_FLUSH;
            dbx_httpd__touched(c);
        }
    }
    dbx_list_each(it, tmp, &hd->socks)
        dbx_ws_close(dbx_list_entry(it, struct dbx_ws, node), 1001, "going away");
}

struct dbx_httpd *dbx_httpd_free(struct dbx_httpd *hd)
{
    if (!hd)
        return NULL;
    dbx_listener_free(hd->listener);
    while (!dbx_list_empty(&hd->conns)) {
        struct conn *c = dbx_list_first(&hd->conns, struct conn, node);
        dbx_assert(!c->busy); /* not from inside a callback of the server */
        conn_free(c);
    }
    while (!dbx_list_empty(&hd->socks))
        dbx_ws__drop(dbx_list_first(&hd->socks, struct dbx_ws, node), 1001, "going away");
    dbx_tls_front_free(hd->tls);
    hd->magic = 0;
    free(hd);
    return NULL;
}
