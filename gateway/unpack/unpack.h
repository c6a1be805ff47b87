/* SPDX-License-Identifier: Apache-2.0 */
/* Reads an archive (zip or tar, plain or through gzip, zstd, xz or bzip2) into a block of files
 * (common/proto/files.h). All or nothing: an entry that may not be refuses the archive. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

struct unpack_limits {
    size_t entries;           /* files and folders, and everything else that has a header */
    uint64_t file, all;       /* bytes */
    uint64_t ratio, ratio_at; /* of bytes out to bytes in, once so many have come out */
};

/* What is refused: links, devices, sockets, pipes; names that are absolute, have "..", a backslash,
 * a control character, are too long or no UTF-8; names that come twice; encrypted entries; more
 * than the limits allow. Modes, owners, times and attributes are not read at all. Kind INVALID: it
 * is no archive or has what may not be; LIMIT. */
int unpack_archive(const void *data, size_t len, const struct unpack_limits *limits,
                   struct dbx_buf *block, struct dbx_err *err) DBX_MUST_USE;
