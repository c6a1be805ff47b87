/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by httpd.c (server, connections), httpd_req.c (requests and answers) and nobody else. */
#pragma once

#include "common/base/list.h"
#include "common/io/http1_int.h"
#include "common/io/httpd.h"
#include "common/io/listen_int.h"

#define HC_OUT_HIGH (256u << 10) /* of the answer's queue: a streamer should wait for on_drain */
#define HC_OUT_LOW (64u << 10)
#define HC_OUT_MAX (64u << 20) /* a streamer that does not wait is cut off */
/* What a piece of a file counts in these: it holds no memory, but a descriptor. */
#define HC_FILE_COST (64u << 10)

struct dbx_watch;
struct dbx_timer;
struct dbx_tls_front;

struct dbx_httpd {
    uint32_t magic;
    struct dbx_loop *loop;
    struct dbx_httpd_opts opts; /* strings are not kept */
    struct dbx_listener *listener;
    struct dbx_tls_front *tls;
    struct dbx_list conns; /* struct conn */
    struct dbx_list socks; /* struct dbx_ws, by their httpd_node */
    size_t nconns, nsocks;
    size_t body_bytes; /* of all requests that are there */
    bool draining;
};

enum conn_state {
    CONN_HEAD,   /* between requests, or a head is coming */
    CONN_BODY,   /* the head is here, on_headers has been called */
    CONN_WAIT,   /* on_request has been called, no answer yet */
    CONN_STREAM, /* dbx_http_begin has been called */
    CONN_FLUSH,  /* the last answer is queued; then close */
    CONN_LINGER, /* our side is shut; input is thrown away, so that no RST overtakes the answer */
    CONN_DEAD,   /* to be freed by the connection's own callback */
};

/* Bytes, or (fd >= 0, owned) a piece of a file that the kernel sends by itself. */
struct out_chunk {
    struct dbx_list node;
    uint64_t len, off; /* off: what of it is sent */
    int fd;
    uint64_t file_off;
    uint8_t data[];
};

struct conn {
    uint32_t magic;
    struct dbx_list node;
    struct dbx_httpd *hd;
    int fd;
    enum conn_state state;
    struct dbx_watch *watch;
    struct dbx_timer *timer;
    struct dbx_buf in;
    struct dbx_list out; /* struct out_chunk */
    size_t out_bytes;
    struct dbx_http_req *req; /* owned; NULL unless BODY, WAIT or STREAM */
    struct dbx_http1_chunked chunked;
    uint64_t body_left;
    uint64_t since_ms;    /* the request's first byte, or the last answer's end */
    uint64_t progress_ms; /* the kernel last took output */
    int busy;             /* depth of our own processing: who ends it settles the rest */
    bool close_after;     /* no further request on this connection */
    bool above_high;
    bool blocked; /* the next request waits for the output to drain */
    bool eof;     /* the client has ended its side */
    char peer[64];
};

struct joined {
    struct joined *next;
    char *name, *value;
};

struct query_pair {
    char *name, *value; /* value NULL: malformed */
};

struct dbx_http_req {
    uint32_t magic;
    struct conn *conn;
    struct dbx_http1_head head;
    struct dbx_buf body;
    bool body_complete;
    bool chunk_answer; /* the streamed answer is chunked */
    bool until_close;  /* ... or ends with the connection (HTTP/1.0) */
    bool no_body;      /* HEAD, 204, 304 */
    int64_t left;      /* of a streamed answer with a length; -1 otherwise */
    void *user;
    void (*on_abort)(struct dbx_http_req *req, void *user);
    void *abort_user;
    void (*on_drain)(struct dbx_http_req *req, void *user);
    void *drain_user;
    struct query_pair *query; /* owned; parsed at first use */
    char *query_text;         /* owned; what the pairs point into */
    size_t nquery;
    bool query_parsed;
    struct joined *joined; /* owned */
};

/* httpd.c */
void dbx_httpd__send(struct conn *c, const void *a, size_t alen, const void *b, size_t blen);
/* The piece is the kernel's to send; fd stays the caller's. */
void dbx_httpd__send_file(struct conn *c, int fd, uint64_t off, uint64_t len);
/* After the application did something to the connection: sees to writing, to the next request and
 * to the timer, without calling the application back. */
void dbx_httpd__touched(struct conn *c);
void dbx_httpd__kill(struct conn *c); /* state DEAD; freed later */

/* httpd_req.c */
struct dbx_http_req *dbx_http__req_new(struct conn *c);
void dbx_http__req_free(struct dbx_http_req *req);
/* An answer of the server's own, in the contract's shape; works without a request. Closes the
 * connection after it. */
void dbx_http__error(struct conn *c, int status, enum dbx_kind kind, const char *code,
                     const char *message);
