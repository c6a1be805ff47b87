/* SPDX-License-Identifier: Apache-2.0 */
/* What init tells of files (struct init_change), from bytes that may be anybody's. Pure. */
#pragma once

#include "common/base/err.h"
#include "shim/init/protocol.h"

struct shim_change {
    enum init_change_kind kind;
    bool skipped;
    const char *path; /* not terminated; relative, no empty component, no "." or "..", UTF-8 */
    size_t path_len;
    const uint8_t *data; /* of a FILE */
    uint64_t size;
};
/* Returns 1 and how many bytes it takes, 0 when it is not all there yet, -EBADMSG. A path that no
 * file of record can have comes with path_len 0. */
int shim_change_next(const uint8_t *data, size_t len, struct shim_change *ret,
                     size_t *ret_used) DBX_MUST_USE;
