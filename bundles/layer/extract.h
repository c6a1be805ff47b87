/* SPDX-License-Identifier: Apache-2.0 */
/* A layer: a tar, plain or through gzip or zstd, written out as a tree. All or nothing for the
 * caller: an entry that may not be refuses the layer, and what was written by then is to be
 * removed.
 *
 * Refused: names as in common/proto/path.h; names that come twice (a folder may); whatever would be
 * written through a symbolic link, or stands below a file; devices, pipes and sockets; setuid and
 * setgid; names of whiteouts (".wh."); symbolic links but to what is below the root ("../" first,
 * then names); hard links but to a file of this layer that came before; more than the limits allow.
 * Owners and attributes are not read. Folders get 0755, files 0755 or 0644, and keep their times.
 */
#pragma once

#include "common/base/err.h"
#include "common/ext/crypto.h"

struct layer_limits {
    size_t entries;
    uint64_t file, all;       /* bytes */
    uint64_t ratio, ratio_at; /* of bytes out to bytes in, once so many have come out */
};

struct layer_result {
    uint64_t entries, bytes; /* of the tree */
    uint64_t in_bytes, out_bytes;
    uint8_t in[DBX_SHA256_LEN]; /* of all that was read */
    uint8_t out[DBX_SHA256_LEN];
};

/* From descriptor in to the folder root (-1: nothing is written). out: where the same goes packed
 * anew, as tar.zst; -1: nowhere. Kind INVALID: it is no such archive or has what may not be; LIMIT.
 */
int layer_extract(int in, int root, int out, const struct layer_limits *limits,
                  struct layer_result *ret, struct dbx_err *err) DBX_MUST_USE;
