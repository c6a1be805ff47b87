/* SPDX-License-Identifier: Apache-2.0 */
/* Layers between nodes, by a registry cache that they share (docs/protocols.md, "Layers between
 * nodes"). What a node has made it puts there, in parts of 8 MiB; another that wants the same key
 * reads the map, whose seal only the cluster's keys make, and then the parts. The bytes are
 * verified against the map by who unpacks them. Whatever fails, the layer is made here. */
#pragma once

#include "common/base/log.h"

struct dbx_keyring;
struct dbx_loop;
struct shim_transfer;
struct shim_share;

#define SHIM_SHARE_PUSHES 16 /* that wait; what is more is not put */

struct shim_share_opts {
    struct dbx_loop *loop;
    const char *url;     /* http[s]://HOST:PORT */
    const char *ca_file; /* or NULL */
    const char *node_id;
    const struct dbx_keyring *ring; /* the cluster's: of seals */
    const struct dbx_keyring *put;  /* the cache's: who may put; NULL: nothing is put */
    const struct dbx_log_ctx *log;
};
struct shim_share *shim_share_new(const struct shim_share_opts *opts);
struct shim_share *shim_share_free(struct shim_share *sh); /* pulls have been cancelled before */

/* Once, never before shim_share_pull has returned. found: the packed layer is in the file, from its
 * beginning; sha256 is what it must have. */
typedef void shim_pull_fn(bool found, const char *sha256, void *user);
/* key: lives until the end. fd: an empty file, the caller's. max: of its bytes. */
struct shim_transfer *shim_share_pull(struct shim_share *sh, const char *key, int fd, uint64_t max,
                                      shim_pull_fn *fn, void *user);
/* fn is not called; fd may be closed after it has returned. */
void shim_transfer_cancel(struct shim_transfer *p);

/* Puts a layer that was packed here: bytes of fd, which is taken, and its digest in hex. */
void shim_share_push(struct shim_share *sh, const char *key, int fd, const char *sha256,
                     uint64_t bytes);
