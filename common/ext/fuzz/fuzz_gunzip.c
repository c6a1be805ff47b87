/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever comes in, in pieces of any size: bounded output, no crash. */
#include "common/ext/gzip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out = {.max = 4096};
    size_t step = size ? 1 + data[size - 1] : 1, used, total = 0;
    struct dbx_gunzip *g = dbx_gunzip_new();

    while (size && total < (1u << 20)) {
        size_t n = step < size ? step : size;
        if (dbx_gunzip_feed(g, data, n, &used, &out) < 0)
            break;
        dbx_assert(used <= n && out.len <= out.max && (used == n || out.len));
        total += out.len;
        dbx_buf_clear(&out);
        data += used;
        size -= used;
    }
    dbx_gunzip_free(g);
    return 0;
}
