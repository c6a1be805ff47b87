/* SPDX-License-Identifier: Apache-2.0 */
/* One sandbox's connections with the registry cache, and with nothing else: each is a socketpair,
 * one end of which goes into the sandbox, and a connection of the shim to the cache's Unix socket;
 * between them the shim carries bytes, and counts. What goes beyond a bound is closed. */
#pragma once

#include "common/base/err.h"

#include <stdint.h>

struct dbx_log_ctx;
struct dbx_loop;
struct shim_registry;

#define SHIM_REGISTRY_MAX_CONNECTIONS 64             /* of one sandbox, at a time */
#define SHIM_REGISTRY_MAX_TOTAL 100000               /* in its life */
#define SHIM_REGISTRY_MAX_BYTES (UINT64_C(16) << 30) /* both ways, in its life */
#define SHIM_REGISTRY_IDLE_MS UINT64_C(300000)       /* without a byte either way */

/* For tests; 0: the above. */
struct shim_registry_limits {
    uint64_t connections, total, bytes, idle_ms;
};

/* socket and log are borrowed and outlive it. */
struct shim_registry *shim_registry_new(struct dbx_loop *loop, const char *socket,
                                        const struct dbx_log_ctx *log);
struct shim_registry *shim_registry_free(struct shim_registry *rg); /* closes all; NULL-tolerant */
void shim_registry_set_limits(struct shim_registry *rg, const struct shim_registry_limits *limits);
/* A connection: *ret_end is the caller's, to be passed into the sandbox. -EMFILE: too many at a
 * time; -EDQUOT: too many, or too many bytes, in its life; else why the cache cannot be reached. */
int shim_registry_connect(struct shim_registry *rg, int *ret_end) DBX_MUST_USE;
