/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/once.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/execution_decode.h"
#include "gateway/gw.h"
#include "gateway/store.h"

void gw_request_hash(struct gw_req *rq, const void *body, size_t len,
                     uint8_t ret[static DBX_SHA256_LEN])
{
    uint8_t parts[2][DBX_SHA256_LEN];
    DBX_CLEANUP(dbx_freep)
    char *line = dbx_asprintf("%s %s", dbx_http_method(rq->http), dbx_http_path(rq->http));
    dbx_sha256(line, strlen(line), parts[0]);
    dbx_sha256(body, len, parts[1]);
    dbx_sha256(parts, sizeof(parts), ret);
}

void gw_req_key_reused(struct gw_req *rq)
{
    gw_req_fail_status(rq, 409, DBX_CONFLICT, "idempotency_key_reused",
                       "this Idempotency-Key was used with another request", NULL);
}

int gw_once_init(struct gw_once *once, struct gw_req *rq, struct dbx_err *err)
{
    size_t len;
    const uint8_t *body = dbx_http_body(rq->http, &len);
    int r = gw_idempotency_key(dbx_http_header(rq->http, "idempotency-key"), &once->key, err);
    if (r == 0 && once->key)
        gw_request_hash(rq, body, len, once->hash);
    return r;
}

void gw_once_done(struct gw_once *once)
{
    free(once->key);
    once->key = NULL;
}

/* What is done with a key: the request, and what to call, for as long as the question takes. */
struct asking {
    struct gw_once *once;
    struct gw_req *rq;
    gw_once_fn *fn;
};

static struct asking *ask(struct gw_once *once, struct gw_req *rq, gw_once_fn *fn)
{
    struct asking *a = DBX_NEW(struct asking);
    *a = (struct asking){once, rq, fn};
    gw_req_ref(rq);
    return a;
}

static void on_known(const char *response, bool same, const struct dbx_err *err, void *arg)
{
    struct asking a = *(struct asking *)arg;
    free(arg);
    if (gw_req_gone(a.rq)) {
        /* nobody to answer */
    } else if (err) {
        gw_req_fail_db(a.rq, err);
    } else if (!response) { /* given back just now */
        gw_req_fail_status(a.rq, 503, DBX_UNAVAIL, "idempotency_unknown",
                           "what was answered under this key is not known, try again", NULL);
    } else if (same) {
        a.fn(a.rq, true);
    } else {
        gw_req_key_reused(a.rq);
    }
    gw_req_unref(a.rq);
}

static void on_taken(bool taken, const struct dbx_err *err, void *arg)
{
    struct asking *a = arg;
    struct gw_req *rq = a->rq;
    if (!err && !taken) {
        gw_store_idempotent(rq->gw->store, &rq->user.id, a->once->key, a->once->hash, on_known, a);
        return;
    }
    a->once->taken = taken;
    if (!err)
        a->fn(rq, false);
    else if (!gw_req_gone(rq))
        gw_req_fail_db(rq, err);
    gw_req_unref(rq);
    free(a);
}

void gw_once_take(struct gw_once *once, struct gw_req *rq, gw_once_fn *fn)
{
    if (once->key)
        gw_store_key_take(rq->gw->store, &rq->user.id, once->key, once->hash, on_taken,
                          ask(once, rq, fn));
    else
        fn(rq, false);
}

static void on_released(bool taken, const struct dbx_err *err, void *arg)
{
    struct asking a = *(struct asking *)arg;
    (void)taken;
    (void)err; /* then it stays for a day, and the next asks under another */
    free(arg);
    a.fn(a.rq, false);
    gw_req_unref(a.rq);
}

void gw_once_release(struct gw_once *once, struct gw_req *rq, gw_once_fn *fn)
{
    bool taken = once->taken;
    once->taken = false;
    if (taken)
        gw_store_key_release(rq->gw->store, &rq->user.id, once->key, once->hash, on_released,
                             ask(once, rq, fn));
    else
        fn(rq, false);
}

/* --- what may be done again --- */

struct gw_again {
    struct gw_once once;
    void (*deed)(struct gw_req *rq);
    bool repeated;
};

static void nothing(struct gw_req *rq, bool repeated)
{
    (void)rq;
    (void)repeated;
}

static void on_mine(struct gw_req *rq, bool repeated)
{
    struct gw_again *again = rq->again;
    again->repeated = repeated;
    if (gw_req_gone(rq))
        gw_once_release(&again->once, rq, nothing);
    else
        again->deed(rq);
}

void gw_once_again(struct gw_req *rq, void (*deed)(struct gw_req *rq))
{
    struct gw_again *again = DBX_NEW(struct gw_again);
    struct dbx_err err = {0};
    rq->again = again;
    again->deed = deed;
    if (gw_once_init(&again->once, rq, &err) < 0)
        gw_req_fail(rq, &err, NULL);
    else
        gw_once_take(&again->once, rq, on_mine);
}

bool gw_once_repeated(const struct gw_req *rq)
{
    return rq->again && rq->again->repeated;
}

void gw_once_undone(struct gw_req *rq)
{
    if (rq->again && rq->again->once.taken)
        gw_once_release(&rq->again->once, rq, nothing);
}

void gw_again_free(struct gw_again *again)
{
    if (again)
        gw_once_done(&again->once);
    free(again);
}
