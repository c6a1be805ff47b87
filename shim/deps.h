/* SPDX-License-Identifier: Apache-2.0 */
/* Dependency layers of a node: found in its store, taken from another node that has made it
 * (share.h), or made, once however many wait: the installer runs in a sandbox of its own that has
 * the registry cache and nothing else, what it installed comes out as a tar through a pipe into
 * devbox-layer, and stands in the store under the key of its lock file. */
#pragma once

#include "bundles/deps.h"
#include "common/base/log.h"
#include "common/proto/id.h"

struct dbx_loop;
struct shim_deps;
struct shim_deps_wait;
struct shim_node;
struct shim_pool;
struct shim_quota;
struct shim_reaper;
struct shim_share;

#define SHIM_DEPS_BUILDS 2             /* at a time; more wait */
#define SHIM_DEPS_MAX_BUILDS 64        /* with those that wait; more are refused */
#define SHIM_DEPS_BUILD_MS 900000      /* for all of it */
#define SHIM_DEPS_DISK_MB 4096         /* of the installer */
#define SHIM_DEPS_FAILED_MS 60000      /* what failed is not tried again for so long */
#define SHIM_DEPS_MAX_LOG (256u << 10) /* of the installer's words, from the last backwards */

struct shim_deps_opts {
    struct dbx_loop *loop;
    struct shim_pool *pool;
    struct shim_reaper *reaper;
    const struct shim_node *node;
    struct bnd_layers *layers;
    const char *tool;         /* path of devbox-layer */
    struct shim_share *share; /* or NULL: layers stay here */
    struct shim_quota *quota;
    const struct dbx_log_ctx *log;
};
struct shim_deps *shim_deps_new(const struct shim_deps_opts *opts);
void shim_deps_stop(struct shim_deps *deps); /* ends what is being made; waiters are told */
struct shim_deps *shim_deps_free(struct shim_deps *deps);

/* The name of the layer, or NULL. */
const char *shim_deps_use(struct shim_deps *deps, const char *key);

struct shim_deps_handlers {
    /* What the installer says, from its first word. Or NULL. */
    void (*on_text)(const void *data, size_t len, void *user);
    /* Once, the last call, never before shim_deps_get has returned. name: of the layer; else NULL,
     * and exit_code is the installer's when it failed by itself, or -1 and err. */
    void (*on_done)(const char *name, int exit_code, const struct dbx_err *err, void *user);
};
/* tpl must outlive it; what is taken. owner: on whose account, should it have to be made. */
struct shim_deps_wait *shim_deps_get(struct shim_deps *deps, const struct bnd_template *tpl,
                                     struct bnd_deps *what, const struct dbx_id *owner,
                                     const struct shim_deps_handlers *h, void *user);
void shim_deps_wait_free(struct shim_deps_wait *w); /* before on_done; the work goes on */
