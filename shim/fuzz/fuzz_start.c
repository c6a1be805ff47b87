/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/request.h"

#include "common/ext/json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *cut = size ? memchr(data, '\n', size) : NULL; /* header, newline, blob */
    size_t head = cut ? (size_t)(cut - data) : size;
    struct dbx_json_doc *doc = NULL;
    struct dbx_err err = {0};
    struct shim_request *rq = NULL;
    if (dbx_json_parse(data, head, NULL, &doc, &err) == 0 &&
        shim_request_decode(dbx_json_root(doc), cut ? cut + 1 : data, cut ? size - head - 1 : 0,
                            &rq, &err) == 0)
        shim_request_free(rq);
    dbx_json_doc_free(doc);
    return 0;
}
