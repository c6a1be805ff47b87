/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 and WebSocket server. One listener a server. HTTP is parsed here (http1_int.h; httpd.c
 * says why), the WebSockets are libwebsockets', which nobody outside this folder includes.
 *
 * A request is handed over when its headers and its whole (bounded) body are here. It lives until
 * it was answered in full or on_abort was called. Answers may come later, from any callback. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/io/ws.h"

struct dbx_loop;
struct dbx_httpd;
struct dbx_http_req;

struct dbx_header {
    const char *name, *value;
};

#define DBX_UPGRADE_LATER 1

struct dbx_httpd_handlers {
    /* Headers are here, the body is not. Returns how many body bytes this request may have (0:
     * default of opts), or a negative value after having answered. May be NULL. */
    int64_t (*on_headers)(struct dbx_http_req *req, void *user);
    void (*on_request)(struct dbx_http_req *req, void *user);
    /* A WebSocket is asked for. Return 0 and fill *ret_handlers, *ret_ws_user, and *ret_subprotocol
     * (static string or NULL; it is announced only if the client offered it:
     * dbx_http_pick_subprotocol) to accept; else answer with dbx_http_reply (401, 403, 404 ...) and
     * return nonzero. req is gone when it was accepted. on_ws_open is then called with the socket,
     * always, and the socket's on_close after it, whatever happens. Who has to ask somebody first
     * returns DBX_UPGRADE_LATER, and later (or before it returned) calls dbx_http_upgrade, or
     * answers. NULL: no WebSockets (404). */
    int (*on_upgrade)(struct dbx_http_req *req, const struct dbx_ws_handlers **ret_handlers,
                      void **ret_ws_user, const char **ret_subprotocol, void *user);
    void (*on_ws_open)(struct dbx_ws *ws, void *ws_user, void *user);
};

struct dbx_httpd_opts {
    struct dbx_loop *loop;
    const char *listen; /* "127.0.0.1:7000", "[::1]:0", "unix:/path", or "fd:3" (a listening socket
                           inherited) */
    const char *tls_cert, *tls_key; /* PEM files, both or none */
    size_t max_body;                /* default DBX_MAX_BODY; more: 413 */
    uint32_t
        request_timeout_ms;   /* from the first byte to the end of the body; default 30000: 408 */
    uint32_t stall_ms;        /* a client that takes no output for so long goes; default 60000 */
    uint32_t max_connections; /* default 12000; further ones are closed at accept */
    size_t max_bodies; /* bytes of all bodies together; default 512 MiB; then larger ones: 503 */
    struct dbx_ws_opts ws;
    const struct dbx_httpd_handlers *handlers;
    void *user;
    /* Adds headers to every answer (security headers, API version); NULL-terminated by name NULL.
     * May be NULL. */
    const struct dbx_header *common_headers;
};

int dbx_httpd_new(const struct dbx_httpd_opts *opts, struct dbx_httpd **ret,
                  struct dbx_err *err) DBX_MUST_USE;
uint16_t dbx_httpd_port(const struct dbx_httpd *hd); /* 0 for a Unix socket */
/* Stops accepting; keep-alive connections close after their current answer; WebSockets get 1001. */
void dbx_httpd_drain(struct dbx_httpd *hd);
size_t dbx_httpd_connections(const struct dbx_httpd *hd);
/* Aborts what runs and closes all WebSockets (their on_close is called now). Not from a callback of
 * this server. */
struct dbx_httpd *dbx_httpd_free(struct dbx_httpd *hd);

/* Accepts a WebSocket that on_upgrade said DBX_UPGRADE_LATER to. req is gone after it returns. */
void dbx_http_upgrade(struct dbx_http_req *req, const struct dbx_ws_handlers *handlers,
                      void *ws_user, const char *subprotocol);

/* --- the request --- */
const char *dbx_http_method(const struct dbx_http_req *req); /* "GET" */
const char *
dbx_http_path(const struct dbx_http_req *req); /* as sent, without the query, not decoded */
/* Decoded value of a query parameter, or NULL. n-th of that name (from 0). Valid as long as the
 * request. Decoding is strict: a value with a malformed escape, a NUL or bad UTF-8 in it is as if
 * it were absent (NULL). */
const char *dbx_http_query(struct dbx_http_req *req, const char *name, size_t nth);
const char *dbx_http_raw_query(
    const struct dbx_http_req *req); /* as sent, without the '?'; NULL when there is none */
const char *dbx_http_header(struct dbx_http_req *req,
                            const char *lower_case_name); /* or NULL; several are joined by ", " */
/* For on_upgrade: the first of served (NULL-terminated, static strings) that the client offers, or
 * NULL. */
const char *dbx_http_pick_subprotocol(struct dbx_http_req *req, const char *const *served);
const uint8_t *dbx_http_body(const struct dbx_http_req *req, size_t *ret_len);
const char *dbx_http_peer(const struct dbx_http_req *req); /* address in text */
void dbx_http_set_user(struct dbx_http_req *req, void *user);
void *dbx_http_user(const struct dbx_http_req *req);
/* The client went away before the answer was complete; the request is gone when fn returns. */
void dbx_http_on_abort(struct dbx_http_req *req, void (*fn)(struct dbx_http_req *req, void *user),
                       void *user);

/* --- the answer: once --- */
/* headers: NULL, or an array ended by a NULL name. The body is copied. The request is gone after it
 * returns. */
void dbx_http_reply(struct dbx_http_req *req, int status, const char *content_type,
                    const struct dbx_header *headers, const void *body, size_t len);
/* Streamed: begin, then chunks; length -1 means chunked. dbx_http_on_drain tells when to go on;
 * pending() its queue. */
void dbx_http_begin(struct dbx_http_req *req, int status, const char *content_type,
                    const struct dbx_header *headers, int64_t length);
void dbx_http_chunk(struct dbx_http_req *req, const void *data, size_t len);
/* The same with a piece of a file, by sendfile: nothing of it is copied. The file must keep these
 * bytes until they are sent; fd stays the caller's and may be closed at once. pending() counts 64
 * KiB for each. */
void dbx_http_chunk_file(struct dbx_http_req *req, int fd, uint64_t off, uint64_t len);
void dbx_http_reply_file(struct dbx_http_req *req, int status, const char *content_type,
                         const struct dbx_header *headers, int fd, uint64_t off, uint64_t len);
size_t dbx_http_pending(const struct dbx_http_req *req);
void dbx_http_on_drain(struct dbx_http_req *req, void (*fn)(struct dbx_http_req *req, void *user),
                       void *user);
void dbx_http_end(struct dbx_http_req *req); /* the request is gone after it returns */
void dbx_http_fail(
    struct dbx_http_req *req); /* a streamed answer cannot go on: cut the connection */
