/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/stream_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gw_message m;
    if (gw_message_decode(data, size, &m, NULL) == 0)
        gw_message_done(&m);
    return 0;
}
