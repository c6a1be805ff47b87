/* SPDX-License-Identifier: Apache-2.0 */
/* The contents of files: in their row when they are small, else in the blob store, under a name
 * that the database knows (schema 009). What comes from there is verified by its digest. */
#pragma once

#include "common/base/buf.h"
#include "common/proto/contents.h"

struct gw;
struct gw_req;

/* Answers: the blob store is away, full, or has lost something. */
void gw_req_fail_blobs(struct gw_req *rq, const struct dbx_err *err);

bool gw_content_is_large(const struct gw *gw, size_t len);

/* SQL of the name that an object gets: own makes it another one than any object of the same digest
 * had before, for that may be garbage already (schema 009). */
#define GW_OBJECT_NAME(digest, own)                                                                \
    "'files/' || left(" digest ", 2) || '/' || " digest " || '-' || " own "::text"
#define GW_OBJECT_OWN 9 /* with its NUL */
void gw_object_own(char ret[static GW_OBJECT_OWN]);

struct gw_store_item {
    const char *etag; /* hex SHA-256 of it */
    const void *data;
    size_t len;
};
/* Stores what is large among them, if the caller may write so much into the workspace (or the
 * workspace of the file) `object`; if he may not, nothing is stored and there is no error: the
 * statement that writes the rows says why. replaces: files that are there may be replaced. Data is
 * borrowed as long as the client is there. The callback comes once, never before this has returned
 * (-ECANCELED: the client has gone). */
typedef void gw_stored_fn(const struct dbx_err *err, void *arg);
void gw_contents_store(struct gw_req *rq, const char *object, bool replaces,
                       const struct gw_store_item *items, size_t n, gw_stored_fn *fn, void *arg);

extern const struct dbx_pg_stmt gw_contents_sql[];
extern const size_t gw_contents_sql_len;
