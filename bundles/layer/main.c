/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-layer FOLDER UID MAX-BYTES: the layer on descriptor 0 becomes the tree FOLDER, which is
 * empty; where descriptor 1 is a file, the layer packed anew goes there. How it went is one line on
 * descriptor 2: "ok IN-SHA256 OUT-SHA256 IN-BYTES OUT-BYTES ENTRIES BYTES", or "invalid WORDS",
 * "limit WORDS", "internal WORDS". */
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bundles/layer/confine.h"
#include "bundles/layer/extract.h"
#include "common/base/fd.h"
#include "common/base/str.h"

#define MAX_ENTRIES 1000000u
#define MAX_MEMORY (1ull << 30)
#define MAX_CPU_S 600

static int run(char **argv, struct layer_result *ret, struct dbx_err *err)
{
    struct layer_limits limits = {.entries = MAX_ENTRIES, .ratio = 300, .ratio_at = 64u << 20};
    struct layer_confine c = {.memory_bytes = MAX_MEMORY, .cpu_s = MAX_CPU_S};
    struct stat st;
    uint64_t uid;
    int root = -1;
    if (dbx_parse_u64(argv[2], strlen(argv[2]), 1, 1u << 30, &uid) < 0 ||
        dbx_parse_u64(argv[3], strlen(argv[3]), 1, INT64_MAX, &limits.all) < 0)
        return dbx_err_set(err, -EINVAL, DBX_INTERNAL, "devbox-layer FOLDER UID MAX-BYTES");
    int out = fstat(1, &st) == 0 && S_ISREG(st.st_mode) ? 1 : -1;
    limits.file = c.file_bytes = limits.all;
    c.uid = (uid_t)uid;
    int r = layer_confine(argv[1], &c, &root, err);
    return r < 0 ? r : layer_extract(0, root, out, &limits, ret, err);
}

int main(int argc, char **argv)
{
    struct layer_result res = {0};
    struct dbx_err err = {0};
    char line[600], in[2 * DBX_SHA256_LEN + 1], out[2 * DBX_SHA256_LEN + 1];
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    (void)umask(0);
    int n, r = argc == 4 ? run(argv, &res, &err)
                         : dbx_err_set(&err, -EINVAL, DBX_INTERNAL, "three words are wanted");
    dbx_hex_encode(res.in, sizeof(res.in), in);
    dbx_hex_encode(res.out, sizeof(res.out), out);
    if (r == 0)
        n = snprintf(line, sizeof(line),
                     "ok %s %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", in, out,
                     res.in_bytes, res.out_bytes, res.entries, res.bytes);
    else
        n = snprintf(line, sizeof(line), "%s %s\n",
                     err.kind == DBX_INVALID ? "invalid"
                     : err.kind == DBX_LIMIT ? "limit"
                                             : "internal",
                     err.msg);
    if (dbx_write_all(2, line, (size_t)n) < 0)
        r = -1;
    syscall(SYS_exit_group, r < 0); /* a sanitizer's _exit would look for leaks, and may not */
    __builtin_unreachable();
}
