/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbx_err err;

    if (dbx_path_check((const char *)data, size, "path", &err) == 0)
        dbx_assert(size > 0 && size <= 1024 && data[0] != '/' && data[size - 1] != '/');
    return 0;
}
