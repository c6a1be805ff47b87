/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/fuzz/fuzz_doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_document(RC_FORM_CRATE_LINKS, false, data, size);
    return 0;
}
