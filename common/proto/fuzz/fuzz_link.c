/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/link_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbx_link__decoded d;
    struct dbx_err err;

    if (dbx_link__decode(data, size, &d, &err) < 0)
        return 0;
    dbx_assert(d.msg.blob + d.msg.blob_len == data + size);
    dbx_link__answer_error(d.msg.header, &err);
    dbx_link__decoded_done(&d);
    return 0;
}
