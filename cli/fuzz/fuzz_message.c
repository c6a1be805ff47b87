/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cli_msg m;
    struct dbx_err err;
    if (size > 65536 ||
        cli_msg_parse(data, size, "11111111-2222-4333-8444-555555555555", &m, &err) < 0)
        return 0;
    uint8_t sum = 0;
    for (size_t i = 0; m.type == CLI_MSG_OUTPUT && i < m.len; i++)
        sum ^= ((const uint8_t *)m.data)[i];
    cli_msg_done(&m);
    return sum * 0;
}
