/* SPDX-License-Identifier: Apache-2.0 */
/* gzip as a stream (zlib). Both directions append to a bounded buffer that the caller empties. */
#pragma once

#include "common/base/buf.h"

struct dbx_gunzip;
struct dbx_gzip;

struct dbx_gunzip *dbx_gunzip_new(void);
/* Eats input until it is used up, the stream has ended, or out is full (then *ret_used < len: empty
 * out and go on). Several members are one stream. -EBADMSG when it is not gzip. */
int dbx_gunzip_feed(struct dbx_gunzip *z, const void *data, size_t len, size_t *ret_used,
                    struct dbx_buf *out) DBX_MUST_USE;
bool dbx_gunzip_done(
    const struct dbx_gunzip *z); /* at the end of a member: the stream may end here */
struct dbx_gunzip *dbx_gunzip_free(struct dbx_gunzip *z); /* NULL-tolerant; returns NULL */

struct dbx_gzip *dbx_gzip_new(int level);
/* end: nothing comes after this. -E2BIG from out. */
int dbx_gzip_feed(struct dbx_gzip *z, const void *data, size_t len, bool end,
                  struct dbx_buf *out) DBX_MUST_USE;
struct dbx_gzip *dbx_gzip_free(struct dbx_gzip *z);

/* The checksum of gzip and zip. Begin with crc 0; goes on from what it returned. */
uint32_t dbx_crc32(uint32_t crc, const void *data, size_t len);
