/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/quota.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <string.h>

static uint64_t clock_ms;

static uint64_t now_ms(void)
{
    return clock_ms;
}

int main(void)
{
    const struct shim_quota_opts opts = {
        .at_a_time = 2, .hourly = 4, .hourly_bytes = 1000u << 20, .now_ms = now_ms};
    struct shim_quota *q = shim_quota_new(&opts);
    struct dbx_id a = dbx_id_new(), b = dbx_id_new();
    struct dbx_err err = {0};

    /* At a time; another owner is not in the way. */
    CHECK_EQ(shim_quota_begin(q, &a, &err), 0);
    CHECK_EQ(shim_quota_begin(q, &a, &err), 0);
    CHECK_EQ(shim_quota_begin(q, &a, &err), -EDQUOT);
    CHECK(err.kind == DBX_LIMIT && strstr(err.msg, "2 of your layers are being made"));
    CHECK_EQ(shim_quota_begin(q, &b, &err), 0);
    /* In an hour: what another node had made is not among them. */
    shim_quota_end(q, &a, true, 0);
    shim_quota_end(q, &a, false, 10);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(shim_quota_begin(q, &a, &err), 0);
        shim_quota_end(q, &a, true, 0);
    }
    clock_ms += 59 * 60000;
    CHECK_EQ(shim_quota_begin(q, &a, &err), -EDQUOT);
    CHECK(strstr(err.msg, "4 layers were made for you within the hour") &&
          strstr(err.msg, "in 1 min"));
    clock_ms += 60000;
    CHECK_EQ(shim_quota_begin(q, &a, &err), 0);
    /* Bytes. */
    shim_quota_end(q, &a, true, 1000u << 20);
    CHECK_EQ(shim_quota_begin(q, &a, &err), -EDQUOT);
    CHECK(strstr(err.msg, "layers of 1000 MB") && strstr(err.msg, "in 60 min"));
    /* Who is idle is forgotten, who is not is not. */
    clock_ms += 3600000;
    for (int i = 0; i < 1000; i++) {
        struct dbx_id other = dbx_id_new();
        CHECK_EQ(shim_quota_begin(q, &other, &err), 0);
        shim_quota_end(q, &other, true, 1);
        clock_ms += 36000;
    }
    shim_quota_end(q, &b, true, 1);
    CHECK_EQ(shim_quota_begin(q, &b, &err), 0);
    shim_quota_end(q, &b, true, 1);
    shim_quota_free(q);
    return check_result();
}
