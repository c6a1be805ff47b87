/* SPDX-License-Identifier: Apache-2.0 */
/* WebSockets on libwebsockets: it does the framing, masking, pongs and the closing handshake; whole
 * messages, queues, limits, liveness and deadlines are here.
 *
 * A server's socket begins as a connection of httpd.c whose handshake was checked there. lws gets
 * the descriptor and a handshake of our own making as "already read" bytes, followed by whatever
 * the client sent behind the real one.
 *
 * Life of the object: from dbx_ws__new to dbx_ws__finish, which is the only caller of on_close. lws
 * tells the end of a socket in four ways (CLOSED, CLIENT_CLOSED, CLIENT_CONNECTION_ERROR,
 * WSI_DESTROY); the first one counts, and takes the object out of lws' hands. */
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/io/lws_int.h"
#include "common/io/ws_int.h"

#include <errno.h>
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WS_MAGIC 0x57536f63
#define QUEUE_MAX (64u << 20)
#define CLOSE_MS 10000 /* for the queue to drain and the peer to answer the close frame */

struct dbx_ws_frame {
    uint32_t refs;
    bool binary;
    size_t len;
    uint8_t
        data[]; /* LWS_PRE bytes of room, where lws writes the frame's header, then the payload */
};

struct item {
    struct dbx_list node;
    struct dbx_ws_frame *frame; /* a reference */
};

/* The socket that lws is taking over at this moment; lws asks back before it returns the wsi. */
static _Thread_local struct dbx_ws *adopting;

static struct dbx_ws *cast(const struct dbx_ws *ws)
{
    return DBX_CAST(struct dbx_ws, WS_MAGIC, (struct dbx_ws *)ws);
}

/* --- frames --- */

struct dbx_ws_frame *dbx_ws_frame_new(bool binary, const void *a, size_t alen, const void *b,
                                      size_t blen)
{
    struct dbx_ws_frame *f = dbx_malloc(sizeof(*f) + LWS_PRE + alen + blen);

    f->refs = 1;
    f->binary = binary;
    f->len = alen + blen;
    if (alen)
        memcpy(f->data + LWS_PRE, a, alen);
    if (blen)
        memcpy(f->data + LWS_PRE + alen, b, blen);
    return f;
}

const uint8_t *dbx_ws_frame_data(const struct dbx_ws_frame *f, size_t *ret_len)
{
    *ret_len = f->len;
    return f->data + LWS_PRE;
}

void dbx_ws_frame_unref(struct dbx_ws_frame *f)
{
    if (f && --f->refs == 0)
        free(f);
}

/* --- making and ending --- */

static void on_ws_timer(void *user);

struct dbx_ws *dbx_ws__new(struct dbx_loop *loop, const struct dbx_ws_opts *opts,
                           const struct dbx_ws_handlers *handlers, void *user)
{
    struct dbx_ws *ws = DBX_NEW(struct dbx_ws);

    dbx_assert(handlers && handlers->on_message && handlers->on_close);
    ws->magic = WS_MAGIC;
    ws->loop = loop;
    ws->handlers = *handlers;
    ws->user = user;
    ws->opts = *opts;
    if (!opts->max_message)
        ws->opts.max_message = 1 << 20;
    if (!opts->high_water)
        ws->opts.high_water = 256 << 10;
    if (!opts->low_water)
        ws->opts.low_water = ws->opts.high_water / 4;
    if (!opts->ping_ms)
        ws->opts.ping_ms = 30000;
    ws->timer = dbx_timer_new(loop, on_ws_timer, ws);
    dbx_list_init(&ws->queue);
    dbx_list_init(&ws->node);
    dbx_buf_init(&ws->message, ws->opts.max_message);
    return ws;
}

static void drop_queue(struct dbx_ws *ws)
{
    while (!dbx_list_empty(&ws->queue)) {
        struct item *item = dbx_list_first(&ws->queue, struct item, node);
        dbx_list_remove(&item->node);
        dbx_ws_frame_unref(item->frame);
        free(item);
    }
    ws->queued = ws->inflight = 0;
}

void dbx_ws__finish(struct dbx_ws *ws, int code, int http_status, const char *reason)
{
    if (ws->wsi)
        lws_set_opaque_user_data(ws->wsi, NULL);
    ws->wsi = NULL;
    ws->state = WS_ABORTED;
    drop_queue(ws);
    if (ws->on_gone)
        ws->on_gone(ws, ws->gone_arg);
    ws->handlers.on_close(ws, code, http_status, reason, ws->user);
    dbx_timer_free(ws->timer);
    dbx_buf_done(&ws->message);
    dbx_ws__client_free(ws->client);
    ws->magic = 0;
    free(ws);
}

static void kill_wsi(struct dbx_ws *ws)
{
    lws_set_timeout(ws->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
    dbx_lws_kick(ws->loop);
}

void dbx_ws__drop(struct dbx_ws *ws, int code, const char *reason)
{
    if (cast(ws)->wsi)
        kill_wsi(ws);
    dbx_ws__finish(ws, code, 0, reason);
}

static void abort_with(struct dbx_ws *ws, int code, const char *reason)
{
    if (ws->state == WS_ABORTED)
        return;
    ws->state = WS_ABORTED;
    if (!ws->close_code) {
        ws->close_code = code;
        dbx_strcpy(ws->reason, sizeof(ws->reason), reason);
    }
    drop_queue(ws);
    if (ws->wsi && !dbx_lws_ending(ws->loop))
        kill_wsi(ws);
    dbx_ws__timer(ws, WS_T_FINISH, ws->wsi ? 1000 : 0);
}

void dbx_ws_abort(struct dbx_ws *ws)
{
    abort_with(cast(ws), 1006, "aborted");
}

void dbx_ws_close(struct dbx_ws *ws, int code, const char *reason)
{
    if (cast(ws)->state == WS_CLOSING || ws->state == WS_ABORTED)
        return;
    if (ws->client && ws->state == WS_STARTING) {
        abort_with(ws, 1006, "closed before it was open");
        return;
    }
    ws->close_code = code;
    dbx_strcpy(ws->reason, sizeof(ws->reason), reason ? reason : "");
    ws->state = WS_CLOSING;
    dbx_ws__timer(ws, WS_T_CLOSE, CLOSE_MS);
    if (ws->wsi)
        lws_callback_on_writable(ws->wsi);
}

/* --- timers --- */

void dbx_ws__timer(struct dbx_ws *ws, enum ws_timer what, uint64_t after_ms)
{
    ws->timer_for = what;
    dbx_timer_start(ws->timer, after_ms, 0);
}

/* A silent peer gets one ping and as long again to answer it, or to say anything at all. A paused
 * one cannot be heard. */
static void ping_tick(struct dbx_ws *ws)
{
    if (ws->ping_sent && !ws->heard && !ws->paused) {
        abort_with(ws, 1006, "the peer did not answer a ping");
        return;
    }
    ws->heard = false;
    ws->ping_sent = ws->ping_due = !ws->paused;
    if (ws->ping_due)
        lws_callback_on_writable(ws->wsi);
    dbx_ws__timer(ws, WS_T_PING, ws->opts.ping_ms);
}

static void on_finish_timer(struct dbx_ws *ws)
{
    char words[sizeof(ws->reason)];

    dbx_strcpy(words, sizeof(words), ws->reason);
    dbx_ws__finish(ws, ws->close_code ? ws->close_code : 1006, ws->http_status, words);
}

static void on_ws_timer(void *user)
{
    struct dbx_ws *ws = cast(user);

    switch (ws->timer_for) {
    case WS_T_PING:
        ping_tick(ws);
        break;
    case WS_T_CLOSE:
        abort_with(ws, 1006, "the peer did not take the close frame");
        break;
    case WS_T_FINISH:
        on_finish_timer(ws);
        break;
    case WS_T_TRY:
    case WS_T_CONNECT:
        dbx_ws__client_timer(ws, ws->timer_for);
        break;
    case WS_T_NONE:
        break;
    }
}

/* --- sending --- */

/* lws keeps what the kernel did not take, and takes no more before that has gone. */
static int write_frame(struct dbx_ws *ws, struct dbx_ws_frame *f)
{
    int n = lws_write(ws->wsi, f->data + LWS_PRE, f->len,
                      f->binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT);
    ws->inflight = n >= 0 && lws_partial_buffered(ws->wsi) ? f->len : 0;
    ws->heard = true; /* the kernel takes what we send */
    return n < 0 ? -1 : 0;
}

/* With nothing before it a message goes at once: that saves a turn of the loop, and two calls of
 * epoll_ctl, each. Not a client's, whose payload lws masks in place, in its own time; and not an
 * answer while lws reads, which may have a pong to send first. */
static bool may_write_now(const struct dbx_ws *ws)
{
    return ws->wsi && !ws->client && ws->state == WS_OPEN && dbx_list_empty(&ws->queue) &&
           !ws->inflight && !ws->ping_due && !ws->delivering && ws != adopting &&
           !lws_partial_buffered(ws->wsi);
}

static int queue_frame(struct dbx_ws *ws, struct dbx_ws_frame *frame)
{
    if (cast(ws)->state == WS_CLOSING || ws->state == WS_ABORTED)
        return -ENOTCONN;
    if (ws->queued && ws->queued + frame->len > QUEUE_MAX)
        return -ENOBUFS;
    if (may_write_now(ws)) {
        if (write_frame(ws, frame) < 0)
            abort_with(ws, 1006, "the connection broke");
        else if (ws->inflight)
            lws_callback_on_writable(ws->wsi);
        if (dbx_ws_queued(ws) > ws->opts.high_water)
            ws->above_high = true;
        return 0;
    }
    struct item *item = DBX_NEW(struct item);
    item->frame = frame;
    frame->refs++;
    dbx_list_push(&ws->queue, &item->node);
    ws->queued += frame->len;
    if (dbx_ws_queued(ws) > ws->opts.high_water)
        ws->above_high = true;
    if (ws->wsi && ws->state == WS_OPEN)
        lws_callback_on_writable(ws->wsi);
    return 0;
}

int dbx_ws_send2(struct dbx_ws *ws, bool binary, const void *a, size_t alen, const void *b,
                 size_t blen)
{
    struct dbx_ws_frame *frame = dbx_ws_frame_new(binary, a, alen, b, blen);
    int r = queue_frame(ws, frame);

    dbx_ws_frame_unref(frame);
    return r;
}

int dbx_ws_send(struct dbx_ws *ws, bool binary, const void *data, size_t len)
{
    return dbx_ws_send2(ws, binary, data, len, NULL, 0);
}

/* A client masks the payload in place: it must not share. */
int dbx_ws_send_frame(struct dbx_ws *ws, struct dbx_ws_frame *f)
{
    if (cast(ws)->client)
        return dbx_ws_send2(ws, f->binary, f->data + LWS_PRE, f->len, NULL, 0);
    return queue_frame(ws, f);
}

size_t dbx_ws_queued(const struct dbx_ws *ws)
{
    return cast(ws)->queued + ws->inflight;
}

void dbx_ws_pause(struct dbx_ws *ws, bool paused)
{
    if (cast(ws)->paused == paused)
        return;
    ws->paused = paused;
    ws->heard = true;
    if (ws->wsi && ws->state != WS_ABORTED)
        lws_rx_flow_control(ws->wsi, !paused);
}

const char *dbx_ws_subprotocol(const struct dbx_ws *ws)
{
    return cast(ws)->subprotocol;
}

void dbx_ws_set_user(struct dbx_ws *ws, void *user)
{
    cast(ws)->user = user;
}

static int write_ping(struct dbx_ws *ws)
{
    uint8_t room[LWS_PRE + 8] = {0};

    /* Not empty: lws keeps the pong of an empty ping to itself. */
    ws->ping_due = false;
    memcpy(room + LWS_PRE, "devbox", 6);
    return lws_write(ws->wsi, room + LWS_PRE, 6, LWS_WRITE_PING) < 0 ? -1 : 0;
}

static int write_queued(struct dbx_ws *ws)
{
    struct item *item = dbx_list_first(&ws->queue, struct item, node);
    struct dbx_ws_frame *f = item->frame;

    dbx_list_remove(&item->node);
    free(item);
    ws->queued -= f->len;
    int r = write_frame(ws, f);
    dbx_ws_frame_unref(f);
    return r;
}

/* Begins the closing handshake; lws waits for the peer's close frame, or 5 s. Not by returning -1,
 * as its manual says: Debian's build carries a debugging line that closes such a socket a second
 * time at once, and the frame is never sent. ws may be gone when this returns. */
static int write_close(struct dbx_ws *ws)
{
    ws->close_sent = true;
    lws_close_reason(ws->wsi, (enum lws_close_status)ws->close_code, (unsigned char *)ws->reason,
                     strlen(ws->reason));
    lws_set_timeout(ws->wsi, PENDING_TIMEOUT_CLOSE_SEND, LWS_TO_KILL_SYNC);
    return 0;
}

/* One lws_write a call; lws does not come here while it still holds the rest of the last one. */
static int on_writeable(struct dbx_ws *ws)
{
    ws->inflight = 0;
    if (ws->state == WS_ABORTED)
        return -1;
    if (ws->ping_due) {
        if (write_ping(ws) < 0)
            return -1;
    } else if (!dbx_list_empty(&ws->queue)) {
        if (write_queued(ws) < 0)
            return -1;
    } else if (ws->state == WS_CLOSING && !ws->close_sent && !ws->peer_closed) {
        return write_close(ws);
    }
    if (ws->above_high && dbx_ws_queued(ws) <= ws->opts.low_water) {
        ws->above_high = false;
        if (ws->state == WS_OPEN && ws->handlers.on_drain)
            ws->handlers.on_drain(ws, ws->user);
    }
    if (!dbx_list_empty(&ws->queue) || (ws->state == WS_CLOSING && !ws->close_sent) || ws->inflight)
        lws_callback_on_writable(ws->wsi);
    return 0;
}

/* --- receiving --- */

/* What comes until the peer has seen our close frame is read and thrown away. */
static int refuse(struct dbx_ws *ws, int code, const char *reason)
{
    drop_queue(ws);
    dbx_buf_done(&ws->message);
    dbx_ws_close(ws, code, reason);
    return 0;
}

static int deliver(struct dbx_ws *ws, const uint8_t *data, size_t len)
{
    if (!ws->binary && !dbx_utf8_valid(data, len))
        return refuse(ws, 1007, "text that is not UTF-8");
    ws->delivering = true;
    ws->handlers.on_message(ws, ws->binary, len ? data : (const uint8_t *)"", len, ws->user);
    ws->delivering = false;
    dbx_buf_clear(&ws->message);
    if (ws->message.cap >
        (64u << 10)) /* an idle socket does not keep its largest message's memory */
        dbx_buf_done(&ws->message);
    return ws->state == WS_ABORTED ? -1 : 0;
}

static int on_receive(struct dbx_ws *ws, const uint8_t *data, size_t len)
{
    bool first = lws_is_first_fragment(ws->wsi);
    bool final = lws_is_final_fragment(ws->wsi) && !lws_remaining_packet_payload(ws->wsi);

    ws->heard = true;
    if (ws->state == WS_ABORTED)
        return -1;
    if (ws->state != WS_OPEN)
        return 0;
    if (first) {
        dbx_buf_clear(&ws->message);
        ws->binary = lws_frame_is_binary(ws->wsi);
    }
    /* The frame says how long it will be: refuse at once, not after a megabyte. */
    if (len + ws->message.len + lws_remaining_packet_payload(ws->wsi) > ws->opts.max_message)
        return refuse(ws, 1009, "the message is too large");
    if (first && final)
        return deliver(ws, data, len);
    if (len && dbx_buf_append(&ws->message, data, len) < 0)
        return refuse(ws, 1009, "the message is too large");
    return final ? deliver(ws, ws->message.data, ws->message.len) : 0;
}

/* RFC 6455, 5.5.1 and 7.4. */
static bool close_ok(const uint8_t *data, size_t len)
{
    if (len == 0)
        return true;
    if (len == 1 || !dbx_utf8_valid(data + 2, len - 2))
        return false;
    int code = data[0] << 8 | data[1];
    bool never_sent = code == 1004 || code == 1005 || code == 1006;
    return (code >= 1000 && code <= 1014 && !never_sent) || (code >= 3000 && code < 5000);
}

static int on_peer_close(struct dbx_ws *ws, const uint8_t *data, size_t len)
{
    if (ws->close_sent) /* the answer to ours: nothing is left to say */
        return -1;
    if (!close_ok(data, len)) { /* lws would send it back as it is */
        ws->close_code = 1002;
        return -1;
    }
    ws->close_code = len >= 2 ? data[0] << 8 | data[1] : 1005;
    ws->reason[0] = '\0';
    if (len > 2 && len - 2 < sizeof(ws->reason) && dbx_utf8_valid(data + 2, len - 2)) {
        memcpy(ws->reason, data + 2, len - 2);
        ws->reason[len - 2] = '\0';
    }
    ws->peer_closed = true;
    ws->state = WS_CLOSING;
    drop_queue(ws);
    dbx_ws__timer(ws, WS_T_CLOSE, CLOSE_MS);
    return 0; /* lws answers */
}

static int on_open(struct dbx_ws *ws, struct lws *wsi)
{
    ws->wsi = wsi;
    if (ws->state == WS_ABORTED)
        return -1;
    if (ws->state == WS_STARTING)
        ws->state = WS_OPEN;
    if (ws->state == WS_OPEN)
        dbx_ws__timer(ws, WS_T_PING, ws->opts.ping_ms);
    if (ws->client && ws->handlers.on_open)
        ws->handlers.on_open(ws, ws->user);
    if (ws->paused)
        lws_rx_flow_control(wsi, 0);
    if (!dbx_list_empty(&ws->queue) || ws->state == WS_CLOSING)
        lws_callback_on_writable(wsi);
    return ws->state == WS_ABORTED ? -1 : 0;
}

static void on_closed(struct dbx_ws *ws, struct lws *wsi, unsigned reason)
{
    char words[sizeof(ws->reason)];

    if (ws->client && ws->client->starting && reason == LWS_CALLBACK_WSI_DESTROY)
        ws->client->dead = wsi;
    if (ws->client && ws->state == WS_STARTING) {
        dbx_ws__client_failed(ws, 0, "the connection broke in its handshake");
        return;
    }
    /* What lws itself found wrong (a bad opcode, a stray continuation) it has put into its close
     * frame. */
    if (!ws->close_code && reason != LWS_CALLBACK_WSI_DESTROY && lws_get_close_length(wsi) >= 2) {
        const uint8_t *p = lws_get_close_payload(wsi);
        ws->close_code = p[0] << 8 | p[1];
    }
    if (!ws->close_code) {
        ws->close_code = 1006;
        dbx_strcpy(ws->reason, sizeof(ws->reason), "the connection broke");
    }
    if (ws == adopting) { /* the server's code is still below us on the stack */
        lws_set_opaque_user_data(wsi, NULL);
        ws->wsi = NULL;
        ws->state = WS_ABORTED;
        dbx_ws__timer(ws, WS_T_FINISH, 0);
        return;
    }
    dbx_strcpy(words, sizeof(words), ws->reason);
    dbx_ws__finish(ws, ws->close_code, ws->http_status, words);
}

/* --- the handshakes --- */

static int add_server_headers(const struct dbx_ws *ws, struct lws_process_html_args *args)
{
    if (!ws->subprotocol[0])
        return 0;
    int n =
        snprintf(args->p, (size_t)args->max_len, "Sec-WebSocket-Protocol: %s\r\n", ws->subprotocol);
    if (n >= args->max_len)
        return -1;
    args->p += n;
    return 0;
}

static int add_client_headers(const struct dbx_ws *ws, struct lws *wsi, void *in, size_t len)
{
    unsigned char **p = in, *end = *p + len;
    const char *value = ws->client->authorization;

    if (!value)
        return 0;
    return lws_add_http_header_by_name(wsi, (const unsigned char *)"authorization:",
                                       (const unsigned char *)value, (int)strlen(value), p, end)
               ? -1
               : 0;
}

static void note_subprotocol(struct dbx_ws *ws, struct lws *wsi)
{
    if (lws_hdr_copy(wsi, ws->subprotocol, sizeof(ws->subprotocol), WSI_TOKEN_PROTOCOL) < 0)
        ws->subprotocol[0] = '\0';
}

static int on_live(struct dbx_ws *ws, struct lws *wsi, unsigned reason, void *in, size_t len)
{
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        return on_open(ws, wsi);
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return on_receive(ws, in, len);
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return on_writeable(ws);
    case LWS_CALLBACK_RECEIVE_PONG:
    case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
        ws->heard = true;
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        return on_peer_close(ws, in, len);
    case LWS_CALLBACK_ADD_HEADERS:
        return add_server_headers(ws, in);
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return add_client_headers(ws, wsi, in, len);
    case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
        note_subprotocol(ws, wsi);
        return 0;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        dbx_ws__client_failed(ws, (int)lws_http_client_http_response(wsi),
                              in ? in : "the connection failed");
        return 0;
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_CLIENT_CLOSED:
    case LWS_CALLBACK_WSI_DESTROY:
        on_closed(ws, wsi, reason);
        return 0;
    default:
        return 0;
    }
}

int dbx_ws__callback(struct lws *wsi, unsigned reason, void *in, size_t len)
{
    struct dbx_ws *ws;

    switch (reason) {
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
        if (adopting &&
            !adopting->wsi) { /* called for clients too, which bring their object with them */
            lws_set_opaque_user_data(wsi, adopting);
            adopting->wsi = wsi;
        }
        return 0;
    case LWS_CALLBACK_HTTP: /* only our own handshakes are adopted: nothing else may come of one */
    case LWS_CALLBACK_RAW_ADOPT:
        return -1;
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_CLIENT_RECEIVE:
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_CLIENT_WRITEABLE:
    case LWS_CALLBACK_RECEIVE_PONG:
    case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
    case LWS_CALLBACK_ADD_HEADERS:
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
    case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_CLIENT_CLOSED:
    case LWS_CALLBACK_WSI_DESTROY:
        ws = lws_get_opaque_user_data(wsi);
        /* Without an object it was dropped or aborted by its owner, and lws is about to close it.
         */
        return ws ? on_live(cast(ws), wsi, reason, in, len) : 0;
    default:
        return 0;
    }
}

struct dbx_ws *dbx_ws__server_new(struct dbx_loop *loop, const struct dbx_ws_opts *opts,
                                  const struct dbx_ws_handlers *handlers, void *user,
                                  void (*on_gone)(struct dbx_ws *ws, void *arg), void *arg)
{
    struct dbx_ws *ws = dbx_ws__new(loop, opts, handlers, user);

    ws->on_gone = on_gone;
    ws->gone_arg = arg;
    return ws;
}

void dbx_ws__adopt(struct dbx_ws *ws, int fd, const char *key, const char *subprotocol,
                   const void *rest, size_t len)
{
    struct dbx_loop *loop = ws->loop;
    struct dbx_buf first;

    if (ws->state == WS_ABORTED) { /* by on_ws_open */
        dbx_close(fd);
        return;
    }
    dbx_strcpy(ws->subprotocol, sizeof(ws->subprotocol), subprotocol ? subprotocol : "");
    dbx_buf_init(&first, len + 1024);
    dbx_buf_printf(&first,
                   "GET / HTTP/1.1\r\nHost: devbox\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
                   key);
    if (len)
        dbx_buf_append(&first, rest, len);
    struct dbx_ws *outer = adopting;
    adopting = ws;
    lws_adopt_socket_vhost_readbuf(dbx_lws_vhost(loop), fd, (const char *)first.data, first.len);
    adopting = outer;
    dbx_buf_done(&first);
    dbx_lws_kick(loop);
}
