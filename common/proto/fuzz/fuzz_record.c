/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/record.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbx_record r;
    uint8_t head[DBX_REC_HEADER];

    if (dbx_record_decode(data, size, &r) == 0) {
        dbx_record_header(&r, head);
        dbx_assert(memcmp(head, data, DBX_REC_HEADER) == 0);
    }
    return 0;
}
