/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/base/def.h"
#include "gateway/multipart.h"

/* The first line is the Content-Type, the rest the body. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
    char boundary[GW_MULTIPART_BOUNDARY];
    struct gw_part p;
    size_t offset = 0;
    if (!end)
        return 0;
    char *type = dbx_strndup((const char *)data, (size_t)(end - data));
    size_t left = size - (size_t)(end + 1 - data);
    if (gw_multipart_boundary(type, boundary, NULL) == 0)
        while (gw_multipart_next(end + 1, left, boundary, &offset, &p, NULL) == 1)
            continue;
    dbx_freep(&type);
    return 0;
}
