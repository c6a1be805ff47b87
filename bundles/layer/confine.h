/* SPDX-License-Identifier: Apache-2.0 */
/* Goes into the folder for good and becomes its user; nothing is left but writing there. */
#pragma once

#include "common/base/err.h"

#include <sys/types.h>

struct layer_confine {
    uid_t uid; /* the owner of all that is written; where we are root */
    uint64_t file_bytes, memory_bytes, cpu_s;
};
/* *ret_root: the folder, open. */
int layer_confine(const char *folder, const struct layer_confine *c, int *ret_root,
                  struct dbx_err *err) DBX_MUST_USE;
