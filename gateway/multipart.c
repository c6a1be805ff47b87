/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/multipart.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/str.h"

#define MAX_PART_HEADER 4096

static int bad(struct dbx_err *err, const char *why)
{
    return dbx_err_set(err, -EINVAL, DBX_INVALID, "the multipart body %s", why);
}

/* One parameter of a header's value: token or quoted string (in which browsers write " as %22, so
 * that a backslash stands for itself but before " and \). */
static int param(const char *value, const char *name, char *ret, size_t size)
{
    size_t len = strlen(name);
    for (const char *p = value; (p = strchr(p, ';'));) {
        size_t n = 0;
        p += 1 + strspn(p + 1, " \t");
        if (strncasecmp(p, name, len) != 0 || p[len] != '=')
            continue;
        p += len + 1;
        bool quoted = *p == '"';
        for (p += quoted; *p && (quoted ? *p != '"' : !strchr("; \t", *p)); p++) {
            if (quoted && *p == '\\' && (p[1] == '"' || p[1] == '\\'))
                p++;
            if (n + 1 >= size)
                return -EINVAL;
            ret[n++] = *p;
        }
        ret[n] = '\0';
        return quoted && *p != '"' ? -EINVAL : 1;
    }
    ret[0] = '\0';
    return 0;
}

int gw_multipart_boundary(const char *content_type, char ret[static GW_MULTIPART_BOUNDARY],
                          struct dbx_err *err)
{
    static const char type[] = "multipart/form-data";
    if (!content_type || strncasecmp(content_type, type, sizeof(type) - 1) != 0 ||
        param(content_type, "boundary", ret, GW_MULTIPART_BOUNDARY) != 1 || !*ret)
        return dbx_err_field(err, "Content-Type", "must be multipart/form-data with a boundary");
    return 0;
}

static int read_disposition(const char *value, struct gw_part *p, struct dbx_err *err)
{
    if (strncasecmp(value, "form-data", 9) != 0 || (value[9] && !strchr("; \t", value[9])))
        return bad(err, "has a part that is not form-data");
    if (param(value, "name", p->name, sizeof(p->name)) != 1)
        return bad(err, "has a part without a name");
    if (param(value, "filename", p->filename, sizeof(p->filename)) < 0)
        return bad(err, "has a file name that is malformed or too long");
    return 0;
}

/* The part's headers, each ended by CRLF. */
static int read_headers(const uint8_t *data, size_t len, struct gw_part *p, struct dbx_err *err)
{
    static const char name[] = "content-disposition:";
    char line[MAX_PART_HEADER + 1];
    bool seen = false;
    while (len > 0) {
        const uint8_t *end = memmem(data, len, "\r\n", 2);
        size_t n = end ? (size_t)(end - data) : len;
        if (!end || n > MAX_PART_HEADER || memchr(data, '\0', n))
            return bad(err, "has a malformed header");
        memcpy(line, data, n);
        line[n] = '\0';
        data += n + 2;
        len -= n + 2;
        if (strncasecmp(line, name, sizeof(name) - 1) != 0)
            continue;
        if (seen)
            return bad(err, "has a part with two names");
        seen = true;
        const char *value = line + sizeof(name) - 1;
        int r = read_disposition(value + strspn(value, " \t"), p, err);
        if (r < 0)
            return r;
    }
    return seen ? 0 : bad(err, "has a part without a name");
}

/* "--BOUNDARY" then "\r\n" (1) or "--" (0). */
static int read_delimiter(const uint8_t *p, size_t len, const char *boundary, size_t *ret_used)
{
    size_t n = strlen(boundary);
    if (len < n + 4 || memcmp(p, "--", 2) != 0 || memcmp(p + 2, boundary, n) != 0)
        return -EINVAL;
    *ret_used = n + 4;
    if (memcmp(p + 2 + n, "\r\n", 2) == 0)
        return 1;
    return memcmp(p + 2 + n, "--", 2) == 0 ? 0 : -EINVAL;
}

int gw_multipart_next(const uint8_t *body, size_t len, const char *boundary, size_t *offset,
                      struct gw_part *ret, struct dbx_err *err)
{
    char mark[GW_MULTIPART_BOUNDARY + 4];
    size_t used, left = len - *offset;
    const uint8_t *p = body + *offset;
    int r = left ? read_delimiter(p, left, boundary, &used) : -EINVAL;
    if (r <= 0)
        return r < 0 ? bad(err, "does not have its boundary where it has to be") : 0;
    p += used;
    left -= used;
    memset(ret, 0, sizeof(*ret));
    const uint8_t *blank = memmem(p, left, "\r\n\r\n", 4);
    if (!blank || (size_t)(blank - p) > MAX_PART_HEADER)
        return bad(err, "has a part without end of its headers");
    r = read_headers(p, (size_t)(blank - p) + 2, ret, err);
    if (r < 0)
        return r;
    left -= (size_t)(blank + 4 - p);
    ret->data = blank + 4;
    int n = snprintf(mark, sizeof(mark), "\r\n--%s", boundary);
    const uint8_t *end = memmem(ret->data, left, mark, (size_t)n);
    if (!end)
        return bad(err, "ends in the middle of a part");
    ret->len = (size_t)(end - ret->data);
    *offset = (size_t)(end + 2 - body);
    return 1;
}
