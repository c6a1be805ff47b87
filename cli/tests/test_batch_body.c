/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/batch_body.h"

#include <string.h>

#include "tests/unit/check.h"

static const struct cli_batch_fields none, python = {.template = "python"},
                                           all = {"python", "batch", "safe"};

static void check(const char *data, const struct cli_batch_fields *f, const char *body,
                  const char *error)
{
    struct dbx_buf out;
    struct dbx_err err = {0};
    dbx_buf_init(&out, 1000);
    int r = cli_batch_body(data, strlen(data), f, &out, &err);
    CHECK_EQ(r < 0, body == NULL);
    if (body)
        CHECK_STR(dbx_buf_cstr(&out), body);
    else
        CHECK(strstr(err.msg, error) != NULL);
    dbx_buf_done(&out);
}

int main(void)
{
    const char *whole = "{\"template\":\"x\",\n \"executions\":[{}]}\n";
    check(whole, &none, whole, NULL);
    check(whole, &python, NULL, "the file says");
    check("{}\n\n{\"stdin\":\"a\"}", &python,
          "{\"template\":\"python\",\"executions\":[{},{\"stdin\":\"a\"}]}", NULL);
    check("{}\r\n", &all,
          "{\"template\":\"python\",\"isolation\":\"batch\",\"retry\":\"safe\",\"executions\":[{}"
          "\r]}",
          NULL);
    check("{}\n", &none, NULL, "--template");
    check("{}\n{,}\n", &python, NULL, "line 2");
    check("{}\n5\n", &python, NULL, "line 2 is not an object");
    check("", &python, "{\"template\":\"python\",\"executions\":[]}", NULL);
    return check_result();
}
