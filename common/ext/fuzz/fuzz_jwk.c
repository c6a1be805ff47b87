/* SPDX-License-Identifier: Apache-2.0 */
/* A set of keys of a stranger, and a signature: what stands behind the first NUL. */
#include "common/ext/json.h"
#include "common/ext/jwk.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    const uint8_t *nul = memchr(data, 0, size);
    size_t len = nul ? (size_t)(nul - data) : size;
    const uint8_t *sig = nul ? nul + 1 : data;
    size_t sig_len = nul ? size - len - 1 : 0;
    if (dbx_json_parse(data, len, NULL, &doc, NULL) < 0)
        return 0;
    (void)!dbx_jwk_verify(dbx_json_root(doc), "RS256", NULL, "x", 1, sig, sig_len, NULL);
    (void)!dbx_jwk_verify(dbx_json_root(doc), "ES256", "k", "x", 1, sig, sig_len, NULL);
    return 0;
}
