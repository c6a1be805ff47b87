/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/change.h"

#include "common/base/str.h"
#include "common/proto/path.h"

#include <errno.h>
#include <string.h>

static bool path_ok(const char *path, size_t len)
{
    return len > 0 && dbx_utf8_valid((const uint8_t *)path, len) &&
           dbx_path_check(path, len, "path", NULL) == 0;
}

int shim_change_next(const uint8_t *data, size_t len, struct shim_change *ret, size_t *ret_used)
{
    struct init_change c;
    if (len < sizeof(c))
        return 0;
    memcpy(&c, data, sizeof(c));
    bool has_data = c.kind == INIT_CHANGE_FILE,
         has_path = c.kind <= INIT_CHANGE_TOO_LARGE || c.kind == INIT_CHANGE_THERE;
    if (c.kind < INIT_CHANGE_FILE || c.kind > INIT_CHANGE_THERE || c.flags & ~INIT_CHANGE_SKIPPED ||
        c.path_len > INIT_MAX_PATH || (c.path_len > 0) != has_path ||
        (has_data && c.size > INIT_MAX_CHANGE) || c.size > INT64_MAX)
        return -EBADMSG;
    size_t need = sizeof(c) + c.path_len + (has_data ? (size_t)c.size : 0);
    if (len < need)
        return 0;
    const char *path = (const char *)data + sizeof(c);
    *ret = (struct shim_change){.kind = (enum init_change_kind)c.kind,
                                .skipped = c.flags & INIT_CHANGE_SKIPPED,
                                .path = path,
                                .path_len = path_ok(path, c.path_len) ? c.path_len : 0,
                                .data = has_data ? (const uint8_t *)path + c.path_len : NULL,
                                .size = c.size};
    *ret_used = need;
    return 1;
}
