/* SPDX-License-Identifier: Apache-2.0 */
/* The kind in the first byte; a lock file, a NUL, a manifest. */
#include "bundles/deps.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbx_buf lock, manifest;
    bool pinned;
    if (size < 1 || size > 1u << 20)
        return 0;
    const uint8_t *end = memchr(data + 1, 0, size - 1);
    size_t len = end ? (size_t)(end - data) - 1 : size - 1;
    dbx_buf_init(&lock, BND_MAX_LOCK);
    dbx_buf_init(&manifest, BND_MAX_LOCK);
    dbx_buf_append(&lock, data + 1, len);
    if (end)
        dbx_buf_append(&manifest, end + 1, size - 2 - len);
    (void)!bnd__lock_check((enum bnd_lock_kind)(data[0] % BND_LOCK_KINDS), &lock, &manifest,
                           &pinned, NULL);
    dbx_buf_done(&lock);
    dbx_buf_done(&manifest);
    return 0;
}
