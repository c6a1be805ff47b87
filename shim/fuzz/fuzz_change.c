/* SPDX-License-Identifier: Apache-2.0 */
/* What init tells of files. */
#include "shim/change.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shim_change c;
    size_t used = 0;
    while (shim_change_next(data, size, &c, &used) > 0) {
        dbx_assert(used > 0 && used <= size && c.path_len <= INIT_MAX_PATH);
        data += used;
        size -= used;
    }
    return 0;
}
