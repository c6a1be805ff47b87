/* SPDX-License-Identifier: Apache-2.0 */
/* Is this node fit? At start one throw-away sandbox of the first image is made and asked to run
 * /bin/ls, to fill its disk to the brim, and to read its root. The pool works only when that came
 * out well; else it is tried again every ten seconds. */
#pragma once

#include "common/base/err.h"

struct shim_node;
struct shim_pool;
struct bnd_store;
struct shim_probe;

enum shim_probe_state {
    SHIM_PROBE_WAITING /* for an image */,
    SHIM_PROBE_RUNNING,
    SHIM_PROBE_OK,
    SHIM_PROBE_FAILED
};

struct shim_probe_result {
    enum shim_probe_state state;
    char runsc_version[64], platform[16];
    bool init_ready, fds_passed, ls_works, root_erofs, overlay_bounded; /* what was seen to work */
    char words[240]; /* for readyz: what is wrong, or what is waited for; "" when OK */
};

/* Holds the pool until the first good result, and sets node->no_fast_path before its own sandbox is
 * made. on_change (may be NULL): the state changed. */
struct shim_probe *shim_probe_new(struct shim_node *node, struct bnd_store *store,
                                  struct shim_pool *pool,
                                  void (*on_change)(const struct shim_probe_result *r, void *user),
                                  void *user);
struct shim_probe *shim_probe_free(struct shim_probe *pb);
/* Ends it, and says (at once or later) when its sandbox is gone; then it is freed. pb may be NULL.
 */
void shim_probe_end(struct shim_probe *pb, void (*on_gone)(void *user), void *user);
const struct shim_probe_result *shim_probe_result(const struct shim_probe *pb);
