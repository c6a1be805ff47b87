/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/download.h"

#include <string.h>
#include <strings.h>

#include "common/base/buf.h"
#include "common/base/str.h"

static int suffix_range(const char *s, uint64_t size, uint64_t *ret_from, uint64_t *ret_to)
{
    uint64_t n;
    if (dbx_parse_u64(s, strlen(s), 0, UINT64_MAX, &n) < 0)
        return 0;
    if (n == 0 || size == 0)
        return -1;
    *ret_from = n < size ? size - n : 0;
    *ret_to = size - 1;
    return 1;
}

int gw_range_parse(const char *header, uint64_t size, uint64_t *ret_from, uint64_t *ret_to)
{
    uint64_t from, to = UINT64_MAX;
    if (!header || strncasecmp(header, "bytes=", 6) != 0)
        return 0;
    header += 6;
    const char *dash = strchr(header, '-');
    if (!dash)
        return 0;
    if (dash == header)
        return suffix_range(dash + 1, size, ret_from, ret_to);
    if (dbx_parse_u64(header, (size_t)(dash - header), 0, UINT64_MAX, &from) < 0)
        return 0;
    if (dash[1] && (dbx_parse_u64(dash + 1, strlen(dash + 1), 0, UINT64_MAX, &to) < 0 || to < from))
        return 0;
    if (from >= size)
        return -1;
    *ret_from = from;
    *ret_to = to < size ? to : size - 1;
    return 1;
}

bool gw_etag_listed(const char *header, const char *etag)
{
    size_t len = strlen(etag);
    if (!header)
        return false;
    if (dbx_streq(header, "*"))
        return true;
    for (const char *p = header; (p = strchr(p, '"')); p++)
        if (strncmp(p + 1, etag, len) == 0 && p[1 + len] == '"')
            return true;
    return false;
}

static bool plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("._-", c));
}

char *gw_disposition(const char *path, const char *suffix)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct dbx_buf buf;
    dbx_buf_init(&buf, 4096);
    (void)dbx_buf_str(&buf, "attachment; filename=\"");
    for (const char *p = name; *p; p++)
        (void)dbx_buf_printf(&buf, "%c", plain((unsigned char)*p) ? *p : '_');
    (void)dbx_buf_printf(&buf, "%s\"; filename*=UTF-8''", suffix);
    for (const char *p = name; *p; p++)
        (void)dbx_buf_printf(&buf, plain((unsigned char)*p) ? "%c" : "%%%02X", (unsigned char)*p);
    int r = dbx_buf_str(&buf, suffix);
    dbx_assert(r == 0); /* a component has at most 255 bytes, a workspace's name 200 */
    return (char *)dbx_buf_take(&buf);
}
