/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_limits l;
    struct dbx_outcome o;
    struct dbx_err err;

    if (dbx_json_parse(data, size, NULL, &doc, NULL) < 0)
        return 0;
    if (dbx_limits_decode(dbx_json_root(doc), &dbx_limits_default, &dbx_limits_default, "limits.",
                          &l, &err) == 0)
        dbx_assert(l.cpu_ms >= 1 && l.cpu_ms <= dbx_limits_default.cpu_ms);
    if (dbx_outcome_read(dbx_json_root(doc), &o, &err) == 0)
        dbx_assert(o.exit_code >= -1 && o.usage.cpu_ms >= 0);
    return 0;
}
