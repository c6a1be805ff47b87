/* SPDX-License-Identifier: Apache-2.0 */
/* What opens a channel of the workspace's socket: every kind, with its own fields. */
#include <stdlib.h>

#include "gateway/socket_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct gw_channel ch = {0};
    struct dbx_err err;
    if (dbx_json_parse(data, size, &gw_socket_json, &doc, NULL) < 0)
        return 0;
    if (gw_channel_decode(dbx_json_root(doc), &ch, &err) == 0)
        dbx_assert(ch.kind && ch.state && ch.number > 0);
    free(ch.state);
    return 0;
}
