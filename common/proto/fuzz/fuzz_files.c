/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbx_file f;
    size_t offset = 0;
    volatile uint8_t sink = 0;

    while (dbx_files_next(data, size, &offset, &f) > 0) {
        if (f.size > 0)
            sink ^= f.data[0] ^ f.data[f.size - 1];
        dbx_assert(offset <= size);
    }
    dbx_assert(dbx_files_check(data, size, NULL) <= 0);
    (void)sink;
    return 0;
}
