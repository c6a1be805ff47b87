/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/files.h"
#include "gateway/execution_decode.h"

static bool has_template(const char *name, void *user)
{
    (void)user;
    return name[0] == 'p';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct gw_execution_rules rules = {.max = dbx_limits_default,
                                             .compile_max = dbx_limits_compile_default,
                                             .has_template = has_template};
    struct gw_execution ex;
    if (gw_execution_decode(data, size, &rules, &ex, NULL) == 0) {
        dbx_assert(dbx_files_check(ex.files.data, ex.files.len, NULL) == 0);
        gw_execution_done(&ex);
    }
    return 0;
}
