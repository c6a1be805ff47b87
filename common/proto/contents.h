/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the contents of files: in their row when they are small, else in the blob store, under a
 * name that the database knows (schema 009). What comes from there is verified by its digest. */
#pragma once

#include "common/ext/pg.h"

struct dbx_blobs;
struct dbx_loop;

/* The columns that a query gives for a file f. */
#define DBX_CONTENT(f)                                                                             \
    f ".content, " f ".size as content_size, " f ".etag as content_etag, (select b.name from "     \
      "blobs b where b.digest = " f ".blob) as object"

struct dbx_content {
    uint8_t *data; /* owned; NULL when it is empty */
    size_t len;
    char *object; /* owned; NULL when it was in the row */
    char etag[65];
};

struct dbx_contents;
/* blobs NULL: there is no store; what stands there cannot be read. Both outlive it. */
struct dbx_contents *dbx_contents_new(struct dbx_loop *loop, struct dbx_blobs *blobs);
struct dbx_contents *dbx_contents_free(struct dbx_contents *cs); /* nobody is called any more */
void dbx_contents_add(struct dbx_contents *cs, const struct dbx_pg_result *res, size_t row);
/* Gets what is not here yet. Calls back once, never before it has returned; all or none. */
typedef void dbx_contents_fn(struct dbx_contents *cs, const struct dbx_err *err, void *arg);
void dbx_contents_load(struct dbx_contents *cs, dbx_contents_fn *fn, void *arg);
bool dbx_contents_here(const struct dbx_contents *cs); /* nothing has to be loaded */
uint8_t *dbx_contents_take(struct dbx_contents *cs, size_t i,
                           size_t *ret_len); /* the caller frees */
const struct dbx_content *dbx_contents_at(const struct dbx_contents *cs, size_t i);
