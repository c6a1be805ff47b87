/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between shim and keeper, in both directions; the first byte says how many descriptors
 * came. */
#include "shim/keeper_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct keeper_msg m;
    if (size == 0)
        return 0;
    for (int from_shim = 0; from_shim < 2; from_shim++)
        if (keeper_msg_decode(data + 1, size - 1, data[0] % 5, from_shim, &m, NULL) == 0)
            dbx_assert(m.slot < KEEPER_SLOTS && m.type != 0);
    return 0;
}
