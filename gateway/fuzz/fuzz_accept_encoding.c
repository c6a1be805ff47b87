/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "common/base/def.h"
#include "gateway/assets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gw_asset a = {.body = {[GW_GZIP] = {.data.len = 1}, [GW_BROTLI] = {.data.len = 1}}};
    char *text = dbx_strndup((const char *)data, size);
    (void)gw_asset_choose(&a, text);
    (void)gw_etag_matches(text, "\"0123456789abcdef\"");
    free(text);
    return 0;
}
