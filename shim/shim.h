/* SPDX-License-Identifier: Apache-2.0 */
/* The node agent as a whole: its parts, made in order and taken down in the reverse one. */
#pragma once

#include "common/base/err.h"

struct dbx_loop;
struct shim_config;
struct shim;

/* Everything is on its way when it returns: connections, the sweep of what an earlier shim left,
 * the probe. Stops the loop (0: drained) when shim_drain is through. */
int shim_start(const struct shim_config *cfg, struct dbx_loop *loop, struct shim **ret,
               struct dbx_err *err) DBX_MUST_USE;
/* No new starts; after drain_ms what runs is ended; then the sandboxes, then the loop. */
void shim_drain(struct shim *sh);
struct shim *shim_free(struct shim *sh); /* after the loop ran, before it is freed */
