/* SPDX-License-Identifier: Apache-2.0 */
/* One line of JSON, the header; behind it the block of files. */
#include "common/base/buf.h"
#include "common/ext/json.h"
#include "common/proto/link.h"
#include "scheduler/messages.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
    struct dbx_buf col[SCHED_FILES_COLUMNS];
    struct dbx_err err;
    if (!end || dbx_json_parse(data, (size_t)(end - data), NULL, &doc, NULL) < 0)
        return 0;
    for (size_t i = 0; i < SCHED_FILES_COLUMNS; i++)
        dbx_buf_init(&col[i], 1 << 20);
    const struct dbx_link_msg m = {
        .header = dbx_json_root(doc), .blob = end + 1, .blob_len = size - (size_t)(end + 1 - data)};
    (void)!sched_files_decode(&m, col, &err);
    for (size_t i = 0; i < SCHED_FILES_COLUMNS; i++)
        dbx_buf_done(&col[i]);
    return 0;
}
