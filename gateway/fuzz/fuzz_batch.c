/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/files.h"
#include "gateway/batch_decode.h"

static bool has_template(const char *name, void *user)
{
    (void)user;
    return name[0] == 'p';
}

static int check_url(const char *url, struct dbx_err *err, void *user)
{
    (void)user;
    return url[0] == 'h' ? 0 : dbx_err_field(err, "webhook.url", "no");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct gw_batch_rules rules = {.execution = {.max = dbx_limits_default,
                                                       .compile_max = dbx_limits_compile_default,
                                                       .has_template = has_template},
                                         .check_url = check_url};
    struct gw_batch b = {0};
    if (gw_batch_decode(data, size, &rules, &b, NULL) == 0)
        dbx_assert(dbx_files_check(b.files.data, b.files.len, NULL) == 0 && b.nitems > 0);
    gw_batch_done(&b);
    return 0;
}
