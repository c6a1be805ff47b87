/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/path.h"

#include "common/base/str.h"
#include <errno.h>
#include <string.h>

#define MAX_PATH 1024
#define MAX_COMPONENT 255

static bool has_control(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] < 0x20 || p[i] == 0x7f)
            return true;
        /* U+0080..U+009F in UTF-8. */
        if (p[i] == 0xc2 && i + 1 < len && p[i + 1] < 0xa0)
            return true;
    }
    return false;
}

static int check_component(const char *p, size_t len, const char *field, struct dbx_err *err)
{
    if (len == 0)
        return dbx_err_field(err, field, "has an empty component");
    if (len > MAX_COMPONENT)
        return dbx_err_field(err, field, "has a component longer than %d bytes", MAX_COMPONENT);
    if (len <= 2 && memcmp(p, "..", len) == 0)
        return dbx_err_field(err, field, "has a component '.' or '..'");
    return 0;
}

int dbx_path_check(const char *path, size_t len, const char *field, struct dbx_err *err)
{
    if (len == 0)
        return dbx_err_field(err, field, "is empty");
    if (len > MAX_PATH)
        return dbx_err_field(err, field, "is longer than %d bytes", MAX_PATH);
    if (path[0] == '/')
        return dbx_err_field(err, field, "must be relative");
    if (!dbx_utf8_valid(path, len))
        return dbx_err_field(err, field, "is not UTF-8");
    if (has_control((const uint8_t *)path, len))
        return dbx_err_field(err, field, "holds a control character");

    for (size_t at = 0; at <= len;) {
        const char *slash = at < len ? memchr(path + at, '/', len - at) : NULL;
        size_t end = slash ? (size_t)(slash - path) : len;
        int r = check_component(path + at, end - at, field, err);
        if (r < 0)
            return r;
        at = end + 1;
    }
    return 0;
}

static int refuse(struct dbx_err *err, const char *name, const char *why)
{
    return dbx_err_set(err, -EINVAL, DBX_INVALID, "'%.120s' %s", name, why);
}

int dbx_path_of_archive(const char *name, bool folder, char *out, size_t size, struct dbx_err *err)
{
    while (dbx_starts_with(name, "./"))
        name += 2 + strspn(name + 2, "/");
    if (!dbx_strcpy(out, size, dbx_streq(name, ".") ? "" : name))
        return refuse(err, name, "is too long a name");
    size_t len = strlen(out);
    if (len > 0 && out[len - 1] == '/' && folder)
        out[--len] = '\0';
    if (len == 0)
        return folder ? 0 : refuse(err, "", "has no name");
    if (strchr(out, '\\'))
        return refuse(err, out, "has a backslash in its name");
    if (out[1] == ':' && ((out[0] | 32) >= 'a' && (out[0] | 32) <= 'z'))
        return refuse(err, out, "names a drive");
    return dbx_path_check(out, len, "archive", err);
}
