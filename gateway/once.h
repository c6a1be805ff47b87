/* SPDX-License-Identifier: Apache-2.0 */
/* The Idempotency-Key of a request whose effect stands outside of the database (input to a program,
 * a signal, a cancel). The key is taken before the deed, and given back when the deed failed: who
 * asks again after a failure is served, who asks again after a success is only told so. A gateway
 * that dies between key and deed leaves the key: then the deed was done at most once. */
#pragma once

#include "common/ext/crypto.h"
#include "gateway/request.h"

typedef void gw_once_fn(struct gw_req *rq, bool repeated);

struct gw_once {
    char *key; /* owned; NULL: the request has none */
    uint8_t hash[DBX_SHA256_LEN];
    bool taken; /* by this request */
};

/* The digest of what a key stands for: method, path and body. */
void gw_request_hash(struct gw_req *rq, const void *body, size_t len,
                     uint8_t ret[static DBX_SHA256_LEN]);
/* 409: the key belongs to another request. */
void gw_req_key_reused(struct gw_req *rq);
/* Reads the header. */
int gw_once_init(struct gw_once *once, struct gw_req *rq, struct dbx_err *err) DBX_MUST_USE;
void gw_once_done(struct gw_once *once);
/* Calls fn when the key is this request's (at once where there is none; the client may have gone
 * meanwhile), or was that of the same request before; answers when it was another's. once lives in
 * rq->op. */
void gw_once_take(struct gw_once *once, struct gw_req *rq, gw_once_fn *fn);
/* It was not done after all: fn when the key is free again. */
void gw_once_release(struct gw_once *once, struct gw_req *rq, gw_once_fn *fn);

/* For what may be done again: a key has to be nobody else's, then the deed is done, also by who
 * asks again; a deletion that finds nothing then was done before, and is answered so. Calls deed,
 * or answers. */
void gw_once_again(struct gw_req *rq, void (*deed)(struct gw_req *rq));
bool gw_once_repeated(const struct gw_req *rq);
/* An answer that says that nothing was done: the key is free again. */
void gw_once_undone(struct gw_req *rq);
void gw_again_free(struct gw_again *again);
