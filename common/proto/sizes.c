/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/sizes.h"

#include "common/base/str.h"

const struct dbx_size dbx_sizes[] = {
    {.name = "cpu-small",
     .cpu_millis = 1000,
     .memory_mb = 2048,
     .disk_mb = 1024,
     .processes = 256,
     .open_files = 4096},
    {.name = "cpu-large",
     .cpu_millis = 2000,
     .memory_mb = 4096,
     .disk_mb = 2048,
     .processes = 512,
     .open_files = 4096},
    {.name = "gpu",
     .cpu_millis = 2000,
     .memory_mb = 4096,
     .disk_mb = 2048,
     .processes = 512,
     .open_files = 4096,
     .special = true},
};
const size_t dbx_sizes_len = DBX_ARRAY_LEN(dbx_sizes);

const struct dbx_size *dbx_size_find(const char *name)
{
    for (size_t i = 0; i < dbx_sizes_len; i++)
        if (dbx_streq(name, dbx_sizes[i].name))
            return &dbx_sizes[i];
    return NULL;
}
