/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs on disk, refs in memory.
 *
 *   DIR/blobs/ab/abcd...   the bytes, under their sha256; written beside, fsynced, renamed
 *   DIR/index              the refs: records that are appended; rewritten when mostly outdated
 *   DIR/tmp/               what is being filled; emptied at start
 *   DIR/lock               held by the one process that uses it
 *
 * A blob is there before any record names it, so whatever the instant of a kill, a record's blob is
 * whole or missing. A blob that no record names is removed at start. What a disk has changed since
 * is found when a blob of an earlier process is first opened (up to 8 MiB; larger ones by fsck).
 * The size of all blobs is bounded: the least recently used go. */
#pragma once

#include "common/base/err.h"
#include "registry-cache/ref.h"

struct dbx_loop;
struct rc_store;

struct rc_store_opts {
    struct dbx_loop *loop;
    const char *dir;
    uint64_t max_bytes;
    uint64_t max_refs;
};

struct rc_blob {
    uint8_t digest[RC_DIGEST];
    uint64_t size;
    int fd;    /* -1: not open */
    bool seen; /* its bytes are known to be right: it was made by this process, or has been read */
    struct dbx_list refs;
    struct dbx_list _lru, _open;
};

int rc_store_open(const struct rc_store_opts *opts, struct rc_store **ret,
                  struct dbx_err *err) DBX_MUST_USE;
struct rc_store *rc_store_close(struct rc_store *s); /* waits for what is being committed */

/* Valid until the loop's next turn. Counts as a use. NULL when there is none, or only the memory of
 * a digest and bytes is set. */
struct rc_ref *rc_store_find(struct rc_store *s, const char *key, bool bytes);
/* The descriptor stays the store's. -ENOENT (and the blob is forgotten) when the file is not what
 * it was: the caller begins anew. */
int rc_store_fd(struct rc_store *s, const struct rc_ref *ref);
struct rc_blob *rc_store_blob(struct rc_store *s, const uint8_t digest[static RC_DIGEST]);
int rc_store_blob_fd(struct rc_store *s, struct rc_blob *b); /* as rc_store_fd */

/* A ref, in place of what has its key; the blob must have been committed. Returns the store's own,
 * or NULL when the blob is not there. */
struct rc_ref *rc_store_put(struct rc_store *s, const struct rc_ref *ref);
void rc_store_drop(struct rc_store *s, const char *key);

/* A file to fill. Its name is gone when the process is. */
struct rc_temp {
    int fd;
    uint64_t id;
};
int rc_store_temp(struct rc_store *s, struct rc_temp *ret);
void rc_store_discard(struct rc_store *s, struct rc_temp *temp);
/* Makes a blob of it, durably, in another thread. Takes the temp's descriptor. fn is called once
 * from the loop, with 0 or -errno. */
typedef void rc_commit_fn(int result, void *user);
void rc_store_commit(struct rc_store *s, struct rc_temp *temp,
                     const uint8_t digest[static RC_DIGEST], uint64_t size, rc_commit_fn *fn,
                     void *user);

struct rc_store_stats {
    uint64_t bytes, blobs, refs, evicted, torn;
};
void rc_store_stats(const struct rc_store *s, struct rc_store_stats *ret);

/* Reads every blob and every record of a store that nobody uses; removes what is not as it says.
 * *ret_bad: how many blobs. Says what it does on stdout. */
int rc_store_fsck(const char *dir, uint64_t *ret_bad, struct dbx_err *err) DBX_MUST_USE;
