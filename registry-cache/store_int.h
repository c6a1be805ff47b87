/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the store. */
#pragma once

#include "registry-cache/store.h"

#include <limits.h>

struct rc_syncer;

/* "blobs/ab/abcd..." */
#define RC_BLOB_PATH 80
void rc_store__blob_path(const uint8_t digest[static RC_DIGEST], char out[static RC_BLOB_PATH]);
/* Whether a file's content is of this digest. */
bool rc_store__same(int fd, const uint8_t want[static RC_DIGEST]);
/* Opens DIR, makes what is missing in it, takes the lock. Both descriptors are the caller's. */
int rc_store__prepare(const char *dir, int *ret_dirfd, int *ret_lock, struct dbx_err *err);
/* Calls fn for every blob that is there; a nonzero result ends it. */
typedef int rc_blob_fn(int dirfd, const uint8_t digest[static RC_DIGEST], uint64_t size,
                       void *user);
int rc_store__each_blob(int dirfd, rc_blob_fn *fn, void *user, struct dbx_err *err);
/* Every record of the index, in order; *ret_len: how many bytes were whole. ref is fn's. */
typedef void rc_record_fn(struct rc_ref *ref, char *key, void *user);
int rc_store__each_record(int dirfd, rc_record_fn *fn, void *user, uint64_t *ret_len,
                          struct dbx_err *err);

/* syncer.c: a thread that makes files durable; jobs come back by the loop. */
struct rc_sync_job {
    struct dbx_list node;
    struct rc_syncer *syncer;
    int fd; /* owned */
    char from[48], to[RC_BLOB_PATH];
    int result;
    void (*done)(struct rc_sync_job *job); /* on the loop; owns the job */
    void *user;
};
struct rc_syncer *rc_syncer_new(struct dbx_loop *loop, int dirfd);
void rc_syncer_add(struct rc_syncer *sy, struct rc_sync_job *job);
/* Waits for the thread. Jobs that did not come back are not called back; they are freed. */
struct rc_syncer *rc_syncer_free(struct rc_syncer *sy);
