/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 on the wire, without any socket: request heads, chunked bodies, queries. Everything here
 * is fed by hostile peers; what RFC 9112 allows a server to refuse and is known from request
 * smuggling is refused. */
#pragma once

#include "common/base/buf.h"

#define DBX_HTTP1_MAX_HEADERS 128

struct dbx_http1_field {
    const char *name; /* lower case */
    const char *value;
};

struct dbx_http1_head {
    char *text; /* owned; everything below points into it */
    const char *method;
    const char *path;  /* as sent, without the query */
    const char *query; /* as sent, without the '?'; NULL when there was none */
    struct dbx_http1_field fields[DBX_HTTP1_MAX_HEADERS];
    size_t nfields;
    bool http10;
    bool keep_alive;      /* what the client wants */
    bool chunked;         /* the body is */
    bool has_length;      /* Content-Length was given */
    uint64_t length;      /* its value, 0 otherwise */
    bool expect_continue; /* Expect: 100-continue */
    bool websocket; /* asks for one, GET and HTTP/1.1, and the rest of the handshake is in order */
    bool websocket_bad; /* asks for one, and the handshake is malformed */
    bool websocket_version_bad;
};

/* Length of a complete head (with its empty line) at the start of the data, 0 when more is needed.
 * Stray CRLFs before a request are part of it. */
size_t dbx_http1_head_end(const uint8_t *data, size_t len);
/* Takes one complete head apart. Returns 0, or the HTTP status to answer with (400, 405, 417, 431,
 * 501, 505) and, in *ret_why, a sentence. The head must be freed by _done in either case. */
int dbx_http1_parse(const uint8_t *data, size_t len, struct dbx_http1_head *ret,
                    const char **ret_why) DBX_MUST_USE;
void dbx_http1_done(struct dbx_http1_head *head);
/* The n-th field of that (lower-case) name, or NULL. */
const char *dbx_http1_field(const struct dbx_http1_head *head, const char *name, size_t nth);
/* Whether a comma-separated list holds the token, without regard to case. */
bool dbx_http1_has_token(const char *list, const char *token);

/* A chunked body. Feed appends the decoded bytes to out. Returns 0, -EBADMSG when malformed, -E2BIG
 * from out; *ret_used says how much of the input was eaten (all of it unless the body has ended).
 */
struct dbx_http1_chunked {
    int state;
    uint64_t left;      /* of the current chunk */
    size_t line;        /* length of the line that is being read */
    size_t trailer_len; /* of all trailers */
    bool digits, done;
};
int dbx_http1_chunked_feed(struct dbx_http1_chunked *c, const uint8_t *data, size_t len,
                           size_t *ret_used, struct dbx_buf *out) DBX_MUST_USE;

/* Decodes one component of a query ('+' is a space) in place. False when an escape is malformed, or
 * the result holds NUL or is not UTF-8. */
bool dbx_http1_unescape(char *s);

const char *dbx_http1_reason(int status);
