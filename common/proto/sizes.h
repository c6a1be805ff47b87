/* SPDX-License-Identifier: Apache-2.0 */
/* The sizes of workspaces' sandboxes. */
#pragma once

#include "common/base/def.h"

struct dbx_size {
    const char *name;
    uint32_t cpu_millis; /* thousandths of a processor: the cgroup's quota */
    uint32_t memory_mb, disk_mb, processes, open_files;
    bool special; /* only nodes that say so have it */
};

extern const struct dbx_size dbx_sizes[];
extern const size_t dbx_sizes_len;
#define DBX_SIZE_DEFAULT "cpu-small"

const struct dbx_size *dbx_size_find(const char *name); /* NULL: there is none */
/* What it is in a set of sizes (32 bits). */
static inline uint32_t dbx_size_bit(const struct dbx_size *sz)
{
    return 1u << (sz - dbx_sizes);
}
