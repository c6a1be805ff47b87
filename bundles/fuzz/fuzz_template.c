/* SPDX-License-Identifier: Apache-2.0 */
/* Templates, and the manifests of their images: the first byte chooses. */
#include "bundles/bundles_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bnd__manifest m = {0};
    struct dbx_err err = {0};
    if (size == 0)
        return 0;
    if (data[0] == 'm')
        (void)!bnd__manifest_parse(data + 1, size - 1, "python", &m, &err);
    else
        (void)!bnd_template_check(data + 1, size - 1, &err);
    return 0;
}
