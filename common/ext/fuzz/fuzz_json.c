/* SPDX-License-Identifier: Apache-2.0 */
/* What is read must be written again, and read again as the same. */
#include "common/ext/json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL, *again = NULL;
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out = {.max = 1 << 20}, out2 = {.max = 1 << 20};
    if (dbx_json_parse(data, size, NULL, &doc, NULL) < 0 || size > 1 << 16)
        return 0;
    struct dbx_jw *w = dbx_jw_new(&out);
    dbx_jw_node(w, dbx_json_root(doc));
    dbx_assert(dbx_jw_end(&w) == 0);
    dbx_assert(dbx_json_parse(out.data, out.len, NULL, &again, NULL) == 0);
    w = dbx_jw_new(&out2);
    dbx_jw_node(w, dbx_json_root(again));
    dbx_assert(dbx_jw_end(&w) == 0);
    dbx_assert(out.len == out2.len && memcmp(out.data, out2.data, out.len) == 0);
    return 0;
}
