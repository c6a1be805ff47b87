/* SPDX-License-Identifier: Apache-2.0 */
/* A file of executions, whole or line by line; what comes out is one document. */
#include "cli/batch_body.h"
#include "common/ext/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cli_batch_fields fields = {.template = "python"};
    struct dbx_json_doc *doc = NULL;
    struct dbx_err err = {0};
    struct dbx_buf in, out;
    dbx_buf_init(&in, size + 1);
    dbx_buf_init(&out, CLI_BATCH_MAX);
    int r = dbx_buf_append(&in, data, size);
    dbx_assert(r == 0);
    if (cli_batch_body(dbx_buf_cstr(&in), in.len, &fields, &out, &err) == 0) {
        r = dbx_json_parse(out.data, out.len, NULL, &doc, &err);
        dbx_assert(r == 0 || err.kind == DBX_LIMIT || err.kind == DBX_INVALID);
    }
    dbx_json_doc_free(doc);
    dbx_buf_done(&in);
    dbx_buf_done(&out);
    return 0;
}
