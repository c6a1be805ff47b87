/* SPDX-License-Identifier: Apache-2.0 */
/* The shim's own listener: /healthz, /readyz, /metrics, and /link for gateways (input, eof). */
#pragma once

#include "common/base/log.h"
#include "shim/exec.h"

struct dbx_keyring;
struct shim_serve;

struct shim_serve_opts {
    struct dbx_loop *loop;
    const char *listen, *tls_cert, *tls_key;
    const struct dbx_keyring *keys;
    const struct dbx_log_ctx *log;
    /* NULL: ready; else the words that say what is missing. */
    const char *(*unready)(void *user);
    void (*before_metrics)(void *user); /* gauges are set now */
    void *user;
};
int shim_serve_new(const struct shim_serve_opts *opts, struct shim_serve **ret,
                   struct dbx_err *err) DBX_MUST_USE;
/* Until then /link answers with UNAVAIL. */
void shim_serve_set_execs(struct shim_serve *sv, struct shim_execs *execs);
uint16_t shim_serve_port(const struct shim_serve *sv);
struct shim_serve *shim_serve_free(struct shim_serve *sv);
