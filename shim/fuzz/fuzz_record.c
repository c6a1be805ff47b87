/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/box_table.h"
#include "shim/record.h"

static void ignore(const struct shim_table_entry *e, void *user)
{
    (void)e;
    (void)user;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shim_sandbox_record sb;
    struct shim_box_record box;
    struct shim_exec_record ex;
    struct shim_stdin_record in;
    struct dbx_err err = {0};
    int64_t revision;
    (void)!shim_sandbox_record_decode(data, size, &sb, &err);
    (void)!shim_box_record_decode(data, size, &box, &err);
    if (shim_exec_record_decode(data, size, &ex, &err) == 0)
        shim_exec_record_done(&ex);
    (void)!shim_table_read(data, size, &revision, ignore, NULL);
    if (shim_stdin_record_decode(data, size, &in, &err) == 0)
        shim_stdin_record_done(&in);
    return 0;
}
