/* SPDX-License-Identifier: Apache-2.0 */
/* What daemons say to each other: a WebSocket (subprotocol devbox.link.v1) that carries messages of a JSON header and an
 * opaque blob: u32 header length (LE), header, blob. Header: {"op":"...", ...}; a request has "rid" (positive integer), its answer {"re":rid,
 * "ok":true, ...} or {"re":rid,"error":{"kind","field","message"}}. Authorised by a DAEMON token in the handshake. The ops are listed in
 * docs/protocols.md. */
#pragma once

#include "common/base/err.h"
#include "common/ext/json.h"

struct dbx_loop;
struct dbx_ws;
struct dbx_link;
struct dbx_keyring;

struct dbx_link_msg {
    const struct dbx_json *header;
    const char *op;   /* "" in an answer */
    int64_t rid;      /* 0: wants no answer */
    const uint8_t *blob;
    size_t blob_len;
};

struct dbx_link_handlers {
    void (*on_up)(struct dbx_link *l, void *user);   /* connected (again) */
    void (*on_msg)(struct dbx_link *l, const struct dbx_link_msg *m, void *user);
    /* A client link connects again by itself; a server link is freed when this returns. Requests without an answer have
     * been called back with DBX_UNAVAIL before. */
    void (*on_down)(struct dbx_link *l, const char *reason, void *user);
};

/* Client side. url: ws://host:port/link. label goes into the token. url_file (or NULL): read anew before each attempt, first
 * line replaces url. Back-off 20 ms .. 1 s. Never calls back before returning. */
struct dbx_link_client_opts {
    struct dbx_loop *loop;
    const char *url;
    const struct dbx_keyring *keys; /* borrowed */
    const char *label;              /* "gateway", "node:<name>" */
    const char *ca_file;
};
struct dbx_link *dbx_link_connect(const struct dbx_link_client_opts *opts, const struct dbx_link_handlers *h, void *user);
struct dbx_link *dbx_link_free(struct dbx_link *l); /* no callback afterwards but -ECANCELED to open requests, before it returns */

/* Server side: give handlers() to httpd's on_upgrade, then wrap the socket in on_ws_open. */
int dbx_link_authorize(const struct dbx_keyring *keys, const char *authorization_header, char label[static 65], struct dbx_err *err) DBX_MUST_USE;
const struct dbx_ws_handlers *dbx_link_ws_handlers(void); /* ws_user must be a link made by dbx_link_accept */
struct dbx_link *dbx_link_accept(struct dbx_loop *loop, const struct dbx_link_handlers *h, void *user);
void dbx_link_opened(struct dbx_link *l, struct dbx_ws *ws); /* from on_ws_open */

bool dbx_link_is_up(const struct dbx_link *l);
size_t dbx_link_queued(const struct dbx_link *l);
/* fill writes the keys after "op" (the object is open); may be NULL. -ENOTCONN when down, -ENOBUFS when the queue is full. */
typedef void dbx_link_fill(struct dbx_jw *w, void *arg);
int dbx_link_send(struct dbx_link *l, const char *op, dbx_link_fill *fill, void *arg, const void *blob, size_t blob_len);
/* Calls fn exactly once, later: the answer (m, err NULL), or err (TIMEOUT, UNAVAIL, or what the peer answered). */
typedef void dbx_link_answer(const struct dbx_link_msg *m, const struct dbx_err *err, void *user);
void dbx_link_request(struct dbx_link *l, const char *op, dbx_link_fill *fill, void *arg, const void *blob, size_t blob_len,
                      uint32_t timeout_ms, dbx_link_answer *fn, void *user);
int dbx_link_reply(struct dbx_link *l, int64_t rid, dbx_link_fill *fill, void *arg);
int dbx_link_reply_error(struct dbx_link *l, int64_t rid, const struct dbx_err *err);
