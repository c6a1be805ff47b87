/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/workspace_decode.h"

static bool has_template(const char *name, void *user)
{
    (void)user;
    return name[0] == 'p';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct gw_body_rules rules = {.has_template = has_template};
    struct gw_body b;
    if (size > 0 && data[0] <= GW_BODY_INPUT &&
        gw_body_decode(data[0], data + 1, size - 1, &rules, &b, NULL) == 0)
        gw_body_done(&b);
    return 0;
}
