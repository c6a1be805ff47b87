/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/box.h"

#include "common/ext/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbx_json_doc *doc = NULL;
    struct shim_box_order order;
    if (dbx_json_parse(data, size, NULL, &doc, NULL) == 0)
        (void)!shim_box_order_decode(dbx_json_root(doc), &order, NULL);
    dbx_json_doc_free(doc);
    return 0;
}
