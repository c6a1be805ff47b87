/* SPDX-License-Identifier: Apache-2.0 */
/* Taking over from an earlier shim: what the keeper holds (control sockets, streams, the ledger) is
 * put together again to sandboxes, workspaces' boxes and executions. What does not fit together, or
 * nobody has a record of, is let go of; the sweep removes what is left of it. */
#pragma once

#include "common/base/err.h"
#include "common/proto/id.h"

struct dbx_log_ctx;
struct shim_adopt;
struct shim_execs;
struct shim_keeper;
struct shim_kept;
struct shim_node;
struct shim_pool;

struct shim_adopt_opts {
    struct shim_node *node; /* its ledger is set by _run */
    struct shim_keeper *keeper;
    struct shim_pool *pool;
    struct shim_execs *execs;
    const struct dbx_log_ctx *log;
    /* Everything that was adopted is known to its init, and known here. Once, from the loop. */
    void (*on_done)(void *user);
    void *user;
};
struct shim_adopt *shim_adopt_new(const struct shim_adopt_opts *opts);
struct shim_adopt *shim_adopt_free(struct shim_adopt *ad); /* not before what it listed is gone */
/* The keeper's inventory; all is taken. */
void shim_adopt_sandbox(struct shim_adopt *ad, const struct dbx_id *id, int control, int state);
void shim_adopt_process(struct shim_adopt *ad, struct shim_kept *p);
/* The inventory is whole. Opens the ledger, or makes one and hands it over. */
int shim_adopt_run(struct shim_adopt *ad, struct dbx_err *err) DBX_MUST_USE;
/* The same, when we have been at work before: nothing of it is ours any more. */
int shim_adopt_discard(struct shim_adopt *ad, struct dbx_err *err) DBX_MUST_USE;
size_t shim_adopt_count(const struct shim_adopt *ad); /* sandboxes in the inventory */
