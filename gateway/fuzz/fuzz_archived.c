/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/archived.h"

/* What is read of a piece becomes the same piece again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbx_reader r = {.p = data, .left = size};
    struct dbx_olog_entry e;
    struct dbx_buf again;
    dbx_buf_init(&again, size);
    while (gw_archived_next(&r, &e)) {
        int put = gw_archived_put(&again, &e);
        dbx_assert(put == 0 && again.len == (size_t)(r.p - data));
    }
    dbx_assert(r.bad || again.len == size);
    dbx_buf_done(&again);
    return 0;
}
