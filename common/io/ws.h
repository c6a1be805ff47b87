/* SPDX-License-Identifier: Apache-2.0 */
/* A WebSocket (RFC 6455), either side. Server ones come from httpd.h, client ones from
 * dbx_ws_connect. */
#pragma once

#include "common/base/err.h"

struct dbx_loop;
struct dbx_ws;

struct dbx_ws_handlers {
    /* Client only: the handshake succeeded. */
    void (*on_open)(struct dbx_ws *ws, void *user);
    /* One whole message (never a fragment). The data is valid during the call. */
    void (*on_message)(struct dbx_ws *ws, bool binary, const uint8_t *data, size_t len, void *user);
    /* The send queue fell below the low watermark after dbx_ws_queued had exceeded the high one.
     * May be NULL. */
    void (*on_drain)(struct dbx_ws *ws, void *user);
    /* The last callback; ws is freed when it returns. code: RFC 6455 7.4, 1005 when the peer
     * gave none, 1006 when it vanished; a peer's 1012-1014 arrive as 1002 (lws does not know them).
     * For a client whose handshake failed: http_status as answered (0 when none), reason
     * in words. */
    void (*on_close)(struct dbx_ws *ws, int code, int http_status, const char *reason, void *user);
};

struct dbx_ws_opts {
    size_t max_message;           /* larger: closed with 1009. Default 1 MiB */
    size_t high_water, low_water; /* of the send queue, bytes; default 256 KiB, 64 KiB */
    uint32_t ping_ms; /* default 30000; the peer is given as long again to answer, then 1006 */
};

struct dbx_ws_client_opts {
    struct dbx_loop *loop;
    const char *url;         /* ws://host:port/path, wss://…, or ws+unix:///path/to.sock:/path */
    const char *subprotocol; /* or NULL */
    const char *authorization;   /* value of that header, or NULL */
    const char *ca_file;         /* wss: NULL for the system's */
    uint32_t connect_timeout_ms; /* default 5000 */
    struct dbx_ws_opts ws;
};

/* Never calls back before it has returned. Not for servers that are not ours (docs/dependencies.md
 * says why). */
struct dbx_ws *dbx_ws_connect(const struct dbx_ws_client_opts *opts,
                              const struct dbx_ws_handlers *handlers, void *user);

/* Queues a copy. -ENOBUFS when the queue would exceed 64 MiB (nothing is queued; one message on an
 * empty queue may be larger), -ENOTCONN when closing. */
int dbx_ws_send(struct dbx_ws *ws, bool binary, const void *data, size_t len);
/* The same from two pieces, sent as one message. */
int dbx_ws_send2(struct dbx_ws *ws, bool binary, const void *a, size_t alen, const void *b,
                 size_t blen);
/* A reference-counted message that many sockets share without a copy each (fan-out). */
struct dbx_ws_frame;
struct dbx_ws_frame *dbx_ws_frame_new(bool binary, const void *a, size_t alen, const void *b,
                                      size_t blen);
void dbx_ws_frame_unref(struct dbx_ws_frame *f);
const uint8_t *dbx_ws_frame_data(const struct dbx_ws_frame *f, size_t *ret_len);
int dbx_ws_send_frame(struct dbx_ws *ws, struct dbx_ws_frame *f); /* takes a reference of its own */
size_t dbx_ws_queued(const struct dbx_ws *ws);     /* bytes not yet given to the kernel */
void dbx_ws_pause(struct dbx_ws *ws, bool paused); /* stop and go on reading from the peer */
void dbx_ws_close(struct dbx_ws *ws, int code,
                  const char *reason); /* queued data goes first; on_close follows */
void dbx_ws_abort(
    struct dbx_ws *ws); /* at once; on_close follows, never before this has returned */
const char *dbx_ws_subprotocol(const struct dbx_ws *ws); /* negotiated, or "" */
void dbx_ws_set_user(struct dbx_ws *ws, void *user);
