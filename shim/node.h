/* SPDX-License-Identifier: Apache-2.0 */
/* The node's link to the scheduler (docs/protocols.md, `/node`): the node dials, says what it has
 * and what runs, takes orders, and repeats its reports until they are acknowledged. */
#pragma once

#include "common/base/log.h"
#include "shim/exec.h"

struct dbx_keyring;
struct shim_node_link;

struct shim_node_link_opts {
    struct dbx_loop *loop;
    const char *scheduler; /* ws://host:port/node */
    const char *node_id, *url;
    const struct dbx_keyring *keys;
    const char *ca_file;
    const struct dbx_log_ctx *log;
    struct shim_pool *pool;
    uint32_t cpus;
};
/* Connects at once; execs is told by the two calls below what it is to report. */
struct shim_node_link *shim_node_link_new(const struct shim_node_link_opts *opts,
                                          struct shim_execs *execs);
struct shim_node_link *shim_node_link_free(struct shim_node_link *nl);
void shim_node_link_started(struct shim_node_link *nl); /* some has; it is told soon */
void shim_node_link_ended(struct shim_node_link *nl, struct shim_exec *ex);
/* False (both): no scheduler is there. */
bool shim_node_link_tell(struct shim_node_link *nl, const char *op, dbx_link_fill *fill, void *arg);
bool shim_node_link_files(struct shim_node_link *nl, dbx_link_fill *fill, void *arg,
                          const void *blob, size_t len, dbx_link_answer *fn, void *fn_user);
void shim_node_link_box_ended(struct shim_node_link *nl, const char *sandbox_id, const char *why);
void shim_node_link_changed(struct shim_node_link *nl);     /* a state message soon */
bool shim_node_link_is_up(const struct shim_node_link *nl); /* hello was answered */
