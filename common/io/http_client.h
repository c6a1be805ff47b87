/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP client on libcurl's multi interface; one multi (connection cache) a client object. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

struct dbx_loop;
struct dbx_http_client;
struct dbx_fetch;

struct sockaddr;

struct dbx_fetch_opts {
    const char *method;         /* default GET */
    const char *url;            /* http or https only; redirects are not followed */
    const char *unix_socket;    /* or NULL */
    const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
    const void *body;           /* copied */
    size_t body_len;
    size_t max_response; /* default 8 MiB: -E2BIG */
    uint32_t timeout_ms; /* whole; default 30000 */
    bool insecure; /* any certificate will do: for asking a daemon of this machine whether it lives
                    */
    const char *ca_file;
    uint32_t
        stall_ms; /* gives up (-ETIMEDOUT) on fewer than 256 bytes a second for so long; 0: never */
    /* When set, the body is handed over as it comes and not kept (max_response still counts it).
     * Called from inside of libcurl: no fetch may be started or freed in it. A negative errno ends
     * the fetch with it. */
    int (*on_data)(struct dbx_fetch *f, const void *data, size_t len, void *user);
    /* Whether this address may be connected to; false: -EACCES. May be NULL. */
    bool (*may_connect)(const struct sockaddr *addr, void *user);
};

struct dbx_fetch_result {
    int status; /* 0 when none came; then err says why */
    const struct dbx_buf *body;
    const struct dbx_err *err;
};
const char *dbx_fetch_header(const struct dbx_fetch *f,
                             const char *name); /* of the response, in the callback */

int dbx_fetch_status(const struct dbx_fetch *f); /* in on_data, and in the callback */

typedef void dbx_fetch_fn(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user);

struct dbx_http_client *dbx_http_client_new(struct dbx_loop *loop);
/* Connections at a time, to one host and in all; further fetches wait. Default: no limit. */
void dbx_http_client_limit(struct dbx_http_client *c, uint32_t per_host, uint32_t total);
struct dbx_http_client *dbx_http_client_free(struct dbx_http_client *c); /* cancels what runs */
/* Calls back exactly once, never before it has returned (also after cancel: -ECANCELED). */
struct dbx_fetch *dbx_fetch(struct dbx_http_client *c, const struct dbx_fetch_opts *opts,
                            dbx_fetch_fn *fn, void *user);
void dbx_fetch_cancel(struct dbx_fetch *f);
