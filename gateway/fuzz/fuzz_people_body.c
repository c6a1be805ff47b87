/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/people_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gw_people_body b;
    if (size > 0 && data[0] < GW_PEOPLE_KINDS &&
        gw_people_decode(data[0], data + 1, size - 1, 0, &b, NULL) == 0)
        gw_people_body_done(&b);
    return 0;
}
