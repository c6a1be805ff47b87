/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a WebSocket: what httpd.c needs to make one, and what ws.c and ws_client.c share. */
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/io/ws.h"

struct lws;
struct addrinfo;

enum ws_state {
    WS_STARTING, /* no handshake yet */
    WS_OPEN,
    WS_CLOSING, /* dbx_ws_close was called: the queue goes out, then the close frame */
    WS_ABORTED, /* nothing is sent or delivered any more */
};

/* What the socket's one timer is for. */
enum ws_timer { WS_T_NONE, WS_T_PING, WS_T_CLOSE, WS_T_FINISH, WS_T_TRY, WS_T_CONNECT };

struct ws_client {
    char *host, *host_header, *path, *address, *authorization, *offered; /* owned */
    struct lws_vhost *vhost;
    uint16_t port;
    bool tls, local, starting, failed;
    struct addrinfo *addrs, *next; /* owned by addrs; next: to be tried */
    void *dead;                    /* what lws has freed while it was starting */
    void *resolving;               /* uv_getaddrinfo_t, which outlives us if it must */
    uint64_t deadline_ms;
};

struct dbx_ws {
    uint32_t magic;
    enum ws_state state;
    enum ws_timer timer_for;
    struct dbx_loop *loop;
    struct lws *wsi; /* lws' own; NULL before and after */
    struct dbx_ws_handlers handlers;
    void *user;
    struct dbx_ws_opts opts;
    struct dbx_timer *timer;
    struct dbx_list queue; /* struct item */
    size_t queued;
    size_t inflight; /* of what lws holds because the kernel did not take it */
    struct dbx_buf message;
    bool binary, above_high, paused, ping_due, ping_sent, heard, close_sent, peer_closed,
        delivering;
    int close_code;
    char reason[124];
    int http_status;
    char subprotocol[64];
    struct ws_client *client; /* owned; NULL for a server's */
    struct dbx_list node;     /* in the server's list */
    void (*on_gone)(struct dbx_ws *ws, void *arg);
    void *gone_arg;
};

/* Makes the object only; it queues and may be closed, but reads and writes nothing before _adopt.
 * on_gone: before handlers->on_close is called. */
struct dbx_ws *dbx_ws__server_new(struct dbx_loop *loop, const struct dbx_ws_opts *opts,
                                  const struct dbx_ws_handlers *handlers, void *user,
                                  void (*on_gone)(struct dbx_ws *ws, void *arg), void *arg);
/* Takes the descriptor, answers the handshake with key (24 characters, checked) and subprotocol (or
 * NULL), and takes the bytes that came behind the handshake. Never calls handlers->on_close. */
void dbx_ws__adopt(struct dbx_ws *ws, int fd, const char *key, const char *subprotocol,
                   const void *rest, size_t len);
/* Calls on_close now and frees ws; the peer sees the connection end. */
void dbx_ws__drop(struct dbx_ws *ws, int code, const char *reason);

struct dbx_ws *dbx_ws__new(struct dbx_loop *loop, const struct dbx_ws_opts *opts,
                           const struct dbx_ws_handlers *handlers, void *user);
void dbx_ws__finish(struct dbx_ws *ws, int code, int http_status,
                    const char *reason); /* on_close, and free */
void dbx_ws__timer(struct dbx_ws *ws, enum ws_timer what, uint64_t after_ms);
/* ws_client.c */
void dbx_ws__client_timer(struct dbx_ws *ws, enum ws_timer what);
void dbx_ws__client_failed(struct dbx_ws *ws, int http_status,
                           const char *reason); /* tries the next address, or finishes */
void dbx_ws__client_free(struct ws_client *client);
