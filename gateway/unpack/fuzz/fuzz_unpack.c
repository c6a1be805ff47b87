/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/unpack/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct unpack_limits limits = {
        .entries = 100, .file = 64u << 10, .all = 256u << 10, .ratio = 100, .ratio_at = 16u << 10};
    struct dbx_buf block;
    dbx_buf_init(&block, 1u << 20);
    (void)!unpack_archive(data, size, &limits, &block, NULL);
    dbx_buf_done(&block);
    return 0;
}
