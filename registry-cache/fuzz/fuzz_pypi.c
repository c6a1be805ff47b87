/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/fuzz/fuzz_doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int html = 0; html < 2; html++) {
        fuzz_document(RC_FORM_PYPI_JSON, html, data, size);
        fuzz_document(RC_FORM_PYPI_HTML, html, data, size);
        fuzz_document(RC_FORM_PYPI_LINKS, html, data, size);
    }
    return 0;
}
