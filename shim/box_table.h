/* SPDX-License-Identifier: Apache-2.0 */
/* What a shim leaves to its successor of the files of a workspace's sandbox: what record and
 * sandbox last agreed on, path by path. Pure. "DBXT", u32 count, i64 revision, then for each: u16
 * path length, u8 folder, u8 0, u32 mode, i64 revision, 32 bytes of SHA-256, path. */
#pragma once

#include "common/base/buf.h"
#include "common/ext/crypto.h"

struct shim_table_entry {
    const char *path; /* not terminated */
    size_t path_len;
    bool folder;
    uint32_t mode;
    int64_t revision;
    uint8_t sha[DBX_SHA256_LEN];
};

int shim_table_begin(struct dbx_buf *out, int64_t revision); /* out is empty */
int shim_table_add(struct dbx_buf *out, const struct shim_table_entry *e) DBX_MUST_USE;
/* Calls fn for each. -EBADMSG, perhaps after some calls. */
int shim_table_read(const uint8_t *data, size_t len, int64_t *ret_revision,
                    void (*fn)(const struct shim_table_entry *e, void *user),
                    void *user) DBX_MUST_USE;
