/* SPDX-License-Identifier: Apache-2.0 */
/* What daemons say to each other: a WebSocket (subprotocol devbox.link.v1) that carries binary
 * messages of a JSON header and an opaque blob: u32 header length (LE), header, blob. Header:
 * {"op":"...", ...}; a request has "rid" (positive integer), its answer is {"re":rid,"ok":true,
 * ...} or {"re":rid,"error":{"kind","field","message"}}. Authorised by a DAEMON token in the
 * handshake ("Authorization: Bearer ..."). The ops are listed in docs/protocols.md. */
#pragma once

#include "common/base/err.h"
#include "common/ext/json.h"

struct dbx_loop;
struct dbx_ws;
struct dbx_link;
struct dbx_keyring;

#define DBX_LINK_SUBPROTOCOL "devbox.link.v1"
#define DBX_LINK_MAX_HEADER (8u << 20)

struct dbx_link_msg {
    const struct dbx_json *header;
    const char *op; /* "" in an answer */
    int64_t rid;    /* 0: wants no answer */
    const uint8_t *blob;
    size_t blob_len;
};

struct dbx_link_handlers {
    void (*on_up)(struct dbx_link *l, void *user); /* connected (again) */
    void (*on_msg)(struct dbx_link *l, const struct dbx_link_msg *m, void *user);
    /* A client link connects again by itself; a server link is freed when this returns. Requests
     * without an answer have been called back with DBX_UNAVAIL before. */
    void (*on_down)(struct dbx_link *l, const char *reason, void *user);
    /* Client: an attempt to connect failed (it was not up; another follows). May be NULL. */
    void (*on_refused)(struct dbx_link *l, const char *reason, void *user);
};

/* Client side. Never calls back before returning. Back-off 20 ms .. 1 s with jitter; each attempt
 * takes the next url. */
struct dbx_link_client_opts {
    struct dbx_loop *loop;
    const char *url;      /* ws://host:port/link; several, separated by commas, are tried in turn */
    const char *url_file; /* or NULL: read anew before each attempt, its first line replaces url */
    const struct dbx_keyring *keys; /* borrowed */
    const char *label;              /* goes into the token: "gateway", "node:<name>" */
    const char *ca_file;
};
struct dbx_link *dbx_link_connect(const struct dbx_link_client_opts *opts,
                                  const struct dbx_link_handlers *h, void *user);
/* No callback afterwards; open requests are called back with -ECANCELED before it returns. Returns
 * NULL. */
struct dbx_link *dbx_link_free(struct dbx_link *l);
/* Closes the connection; on_down follows, never before this has returned. A client then connects
 * again. */
void dbx_link_drop(struct dbx_link *l, const char *reason);

/* Server side: httpd's on_upgrade authorises, and gives dbx_link_ws_handlers() with a link made by
 * dbx_link_accept as *ret_ws_user and DBX_LINK_SUBPROTOCOL; on_ws_open passes the socket on.
 * httpd's opts.ws.max_message must be DBX_MAX_LINK_MSG. */
int dbx_link_authorize(const struct dbx_keyring *keys, const char *authorization_header,
                       char label[static 65], struct dbx_err *err) DBX_MUST_USE;
const struct dbx_ws_handlers *dbx_link_ws_handlers(void);
struct dbx_link *dbx_link_accept(struct dbx_loop *loop, const struct dbx_link_handlers *h,
                                 void *user);
void dbx_link_opened(struct dbx_link *l, struct dbx_ws *ws);

bool dbx_link_is_up(const struct dbx_link *l);
size_t dbx_link_queued(const struct dbx_link *l);
void dbx_link_set_user(struct dbx_link *l, void *user);
/* fill writes the keys after "op" (the object is open); may be NULL. -ENOTCONN when down, -ENOBUFS
 * when the queue is full, -E2BIG. */
typedef void dbx_link_fill(struct dbx_jw *w, void *arg);
int dbx_link_send(struct dbx_link *l, const char *op, dbx_link_fill *fill, void *arg,
                  const void *blob, size_t blob_len);
/* Calls fn exactly once, later: the answer (m, err NULL), or err (TIMEOUT, UNAVAIL, or what the
 * peer answered). */
typedef void dbx_link_answer(const struct dbx_link_msg *m, const struct dbx_err *err, void *user);
void dbx_link_request(struct dbx_link *l, const char *op, dbx_link_fill *fill, void *arg,
                      const void *blob, size_t blob_len, uint32_t timeout_ms, dbx_link_answer *fn,
                      void *user);
int dbx_link_reply(struct dbx_link *l, int64_t rid, dbx_link_fill *fill, void *arg);
int dbx_link_reply_error(struct dbx_link *l, int64_t rid, const struct dbx_err *err);
