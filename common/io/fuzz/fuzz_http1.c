/* SPDX-License-Identifier: Apache-2.0 */
/* A request head, and what follows it as a chunked body; then the query. */
#include "common/io/http1_int.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbx_http1_head head;
    struct dbx_http1_chunked chunked = {0};
    struct dbx_buf body;
    const char *why;
    size_t used, end = dbx_http1_head_end(data, size);

    dbx_buf_init(&body, 1024);
    if (end && dbx_http1_parse(data, end, &head, &why) == 0 && head.query)
        (void)dbx_http1_unescape((char *)head.query);
    if (end)
        dbx_http1_done(&head);
    (void)!dbx_http1_chunked_feed(&chunked, data + end, size - end, &used, &body);
    dbx_buf_done(&body);
    return 0;
}
