/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP client on libcurl's multi interface; one multi (connection cache) a client object. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

struct dbx_loop;
struct dbx_http_client;
struct dbx_fetch;

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
};

struct dbx_fetch_result {
    int status; /* 0 when none came; then err says why */
    const struct dbx_buf *body;
    const struct dbx_err *err;
};
const char *dbx_fetch_header(const struct dbx_fetch *f,
                             const char *name); /* of the response, in the callback */

typedef void dbx_fetch_fn(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user);

struct dbx_http_client *dbx_http_client_new(struct dbx_loop *loop);
struct dbx_http_client *dbx_http_client_free(struct dbx_http_client *c); /* cancels what runs */
/* Calls back exactly once, never before it has returned (also after cancel: -ECANCELED). */
struct dbx_fetch *dbx_fetch(struct dbx_http_client *c, const struct dbx_fetch_opts *opts,
                            dbx_fetch_fn *fn, void *user);
void dbx_fetch_cancel(struct dbx_fetch *f);
