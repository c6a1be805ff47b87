/* SPDX-License-Identifier: Apache-2.0 */
/* What decodes must encode to the same text again; a valid prefix must be valid. */
#include "common/base/str.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_freep) uint8_t *raw = dbx_malloc(size + 4);
    DBX_CLEANUP(dbx_freep) char *text = dbx_malloc(2 * size + 8);
    const char *s = (const char *)data;
    size_t len;
    for (int url = 0; url < 2; url++)
        if (dbx_base64_decode(s, size, raw, &len, url) == 0)
            dbx_assert(dbx_base64_encode(raw, len, text, url) == size &&
                       memcmp(text, s, size) == 0);
    if (dbx_hex_decode(s, size, raw) == 0)
        dbx_hex_encode(raw, size / 2, text);
    bool incomplete;
    len = dbx_utf8_prefix(data, size, &incomplete);
    dbx_assert(len <= size && dbx_utf8_valid(data, len) &&
               (len < size) == !dbx_utf8_valid(data, size));
    uint64_t u;
    int64_t i;
    if (dbx_parse_u64(s, size, 0, INT64_MAX, &u) == 0)
        dbx_assert(dbx_parse_i64(s, size, 0, INT64_MAX, &i) == 0 && (uint64_t)i == u);
    return 0;
}
