/* SPDX-License-Identifier: Apache-2.0 */
/* The blob store: objects by name, written once and never changed. Two back ends: a folder
 * ("file:DIR", which several processes may share), and any S3
 * ("s3:http[s]://HOST[:PORT]/BUCKET[/PREFIX][?region=R]", signed here; design: the heads of
 * blob_file.c and blob_s3.c). An object is there as a whole and durable, or it is not there. What
 * is read can be verified. At most 16 operations run at a time, 512 wait; each has a deadline. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/ext/crypto.h"

#define DBX_BLOB_MAX (64u << 20) /* of an object */
#define DBX_BLOB_NAME 200        /* [a-z0-9._/-], no empty component, none that begins with '.' */

struct dbx_loop;
struct dbx_blobs;

struct dbx_blobs_opts {
    struct dbx_loop *loop;
    const char *url;
    /* S3: a file with "ACCESS_KEY SECRET_KEY [SESSION_TOKEN]", read again when the server refuses
     * them. NULL or "": AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. */
    const char *keys_file;
    const char *ca_file; /* or NULL */
    uint32_t timeout_ms; /* of an operation, with its repetitions; default 15000 */
};

int dbx_blobs_open(const struct dbx_blobs_opts *opts, struct dbx_blobs **ret,
                   struct dbx_err *err) DBX_MUST_USE;
struct dbx_blobs *dbx_blobs_free(struct dbx_blobs *b); /* calls back what runs with -ECANCELED */

/* Exactly once, never before the starting function has returned. data: of a get, may be taken
 * (dbx_buf_take). err: NOT_FOUND there is no such object; LIMIT the store is full (-ENOSPC), the
 * object larger than wanted (-E2BIG), or too much waits here (-EAGAIN); DENIED; UNAVAIL or TIMEOUT
 * the store is away; -EBADMSG (UNAVAIL) what it gives is not what was stored. */
typedef void dbx_blob_fn(struct dbx_buf *data, const struct dbx_err *err, void *user);

/* Data is copied. An object that is there already stays as it is, and counts as written. */
void dbx_blob_put(struct dbx_blobs *b, const char *name, const void *data, size_t len,
                  dbx_blob_fn *fn, void *user);

struct dbx_blob_range {
    uint64_t from, len; /* len 0: all from there */
};
/* max: how large it may be. sha256 (of the whole; NULL with a range): what it must have. */
void dbx_blob_get(struct dbx_blobs *b, const char *name, size_t max,
                  const struct dbx_blob_range *range, const uint8_t *sha256, dbx_blob_fn *fn,
                  void *user);
void dbx_blob_delete(struct dbx_blobs *b, const char *name, dbx_blob_fn *fn, void *user);
bool dbx_blob_name_ok(const char *name);
