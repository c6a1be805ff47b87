/* SPDX-License-Identifier: Apache-2.0 */
/* What init says to the shim. */
#include "shim/init_client.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shim_init_msg m;
    struct dbx_err err;
    if (shim_init_decode(data, size, &m, &err) < 0)
        dbx_assert(err.code < 0);
    else if (m.op == INIT_DONE)
        dbx_assert(strnlen(m.done.text, sizeof(m.done.text)) < sizeof(m.done.text));
    return 0;
}
