/* SPDX-License-Identifier: Apache-2.0 */
/* A set of files on its way into a sandbox: one block of bytes that the gateway builds, scheduler
 * and shim pass on unopened, and init unpacks. Little-endian: "DBXF", u32 count, then for each: u8
 * type (0 file, 1 folder, 2 nothing: what stands there is removed, unless it is a folder with
 * something in it), u8 reserved, u16 path length, u32 mode, u64 size, path, data. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

#define DBX_FILES_MAX_COUNT 10000

struct dbx_file {
    bool folder, gone; /* at most one */
    uint32_t mode;     /* permission bits, 0777 at most */
    const char *path;  /* not terminated */
    uint16_t path_len;
    const uint8_t *data;
    uint64_t size;
};

int dbx_files_begin(struct dbx_buf *out); /* out is empty: the block is all it holds */
/* out holds what _begin started. -EINVAL for a path, -E2BIG for the count or out's maximum; out is
 * as it was then. */
int dbx_files_add(struct dbx_buf *out, const struct dbx_file *f) DBX_MUST_USE;
/* Puts another whole block behind the one out holds (out empty: the other is all it holds then).
 * -EBADMSG for what is no block, -E2BIG. */
int dbx_files_join(struct dbx_buf *out, const void *block, size_t len) DBX_MUST_USE;
/* Walks a block; every path is checked (path.h) and every length bounded. Start with offset 0.
 * Returns 1 and a file, 0 at the end, -EBADMSG. The count is looked at by dbx_files_check only. */
int dbx_files_next(const void *block, size_t len, size_t *offset,
                   struct dbx_file *ret) DBX_MUST_USE;
/* Checks the whole block once. */
int dbx_files_check(const void *block, size_t len, struct dbx_err *err) DBX_MUST_USE;
