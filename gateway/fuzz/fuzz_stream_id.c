/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/stream_id.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = dbx_strndup((const char *)data, size), back[GW_STREAM_ID_MAX];
    struct gw_stream_id id;
    uint64_t seq;
    if (gw_stream_id_parse(text, &id) == 0 && id.at.phase != GW_PHASE_NONE) {
        gw_stream_id_format(&id, back);
        dbx_assert(strcmp(text, back) == 0);
    }
    (void)!gw_stream_seq_parse(text, &seq);
    free(text);
    return 0;
}
