/* SPDX-License-Identifier: Apache-2.0 */
/* A REST request from its headers to its answer. Handlers answer once, now or in a later callback;
 * whoever keeps a pointer to it across callbacks holds a reference. When the client has gone,
 * gw_req_gone says so, and answers go nowhere. */
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/io/httpd.h"
#include "common/proto/id.h"
#include "common/proto/token.h"
#include "gateway/router.h"

struct gw;

#define GW_REQ_MAGIC 0x52514757u
#define GW_TRACE_TEXT 56 /* W3C traceparent with NUL */

#define GW_MAX_EXTRA 8 /* headers that are added on the way to the answer */

enum gw_credential { GW_CRED_NONE, GW_CRED_KEY, GW_CRED_SESSION };

struct gw_user {
    struct dbx_id id; /* zero: nobody is signed in */
    bool admin;       /* acts as an administrator: is one, and the key allows it */
    bool guest;
    uint32_t scopes; /* enum gw_scope */
    enum gw_credential by;
    struct dbx_id credential; /* id of the key or session */
};

struct gw_req_rate {
    uint32_t limit, remaining; /* limit 0: no rule holds */
    uint64_t reset;            /* seconds */
};

struct gw_req {
    uint32_t magic;
    unsigned refs;
    struct gw *gw;
    struct dbx_http_req *http; /* NULL once it was answered or the client has gone */
    struct dbx_list node;
    const struct gw_route *route; /* NULL while none was found */
    struct gw_route_params params;
    char id[65], trace[GW_TRACE_TEXT], peer[64];
    struct dbx_log_ctx log;
    uint64_t start_ns;
    struct gw_user user;
    char csrf[33];      /* of the session that came, or "" */
    bool csrf_missing;  /* (GW_AUTH_OPTIONAL) a session came without its CSRF header */
    enum dbx_role role; /* what the caller is to the object at hand, once that is known */
    struct dbx_header extra[GW_MAX_EXTRA]; /* values owned */
    size_t n_extra;
    struct gw_req_rate rate; /* told in the answer */
    bool rate_narrow;        /* by a rule narrower than that of all calls */
    struct gw_again *again;  /* owned, or NULL (once.h) */
    void *op; /* what a handler works with: freed by op_free when the answer is given, or the client
                 has gone and nobody holds a reference */
    void (*op_free)(void *op);
    /* Set by a handler that waits long: the server drains, answer now. */
    void (*hurry)(struct gw_req *rq);
};

struct gw_req *gw_req_new(struct gw *gw, struct dbx_http_req *http);
void gw_req_ref(struct gw_req *rq);
void gw_req_unref(struct gw_req *rq);
static inline bool gw_req_gone(const struct gw_req *rq)
{
    return !rq->http;
}

/* One more header of the answer to come; name static, value copied. */
void gw_req_add_header(struct gw_req *rq, const char *name, const char *value);
/* "PEER REQUEST_ID", for the audit log. */
void gw_req_origin(const struct gw_req *rq, char out[static 128]);
/* 403: he may see it, but not do this. */
void gw_req_forbidden(struct gw_req *rq, const char *message);

/* All answers: rq is gone afterwards unless a reference is held. */
void gw_req_reply(struct gw_req *rq, int status, const char *type, const struct dbx_header *extra,
                  const void *body, size_t len);
void gw_req_json(struct gw_req *rq, int status, const struct dbx_buf *body);
/* A streamed answer: begin, then dbx_http_chunk on rq->http, then end, or cut when it cannot go on
 * (rq is gone after both unless a reference is held). */
void gw_req_begin(struct gw_req *rq, int status, const char *type);
void gw_req_end(struct gw_req *rq);
void gw_req_cut(struct gw_req *rq);
/* By kind; code NULL: the name of the kind. */
void gw_req_fail(struct gw_req *rq, const struct dbx_err *err, const char *code);
void gw_req_fail_status(struct gw_req *rq, int status, enum dbx_kind kind, const char *code,
                        const char *message, const struct dbx_header *extra);
void gw_req_fail_field(struct gw_req *rq, int status, enum dbx_kind kind, const char *code,
                       const char *message, const char *field);
/* What the database said: whatever it is, it is not the client's fault unless it is a conflict. */
void gw_req_fail_db(struct gw_req *rq, const struct dbx_err *err);
/* The output log, or what is kept of it, is away (err NULL: not there yet): 503. */
void gw_req_fail_output(struct gw_req *rq, const struct dbx_err *err);
void gw_req_not_found(struct gw_req *rq);

/* Of every answer, where browsers come by TLS and where they do not. */
extern const struct dbx_header gw_tls_headers[];
#define gw_common_headers (gw_tls_headers + 1)

/* Pure. A sane id or traceparent is taken over, else a new one is made. */
void gw_request_id(const char *given, char out[static 65]);
void gw_traceparent(const char *given, char out[static GW_TRACE_TEXT]);
