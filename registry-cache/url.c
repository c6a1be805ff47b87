/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/url.h"
#include "common/base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEFAULT_PORT(https) ((https) ? 443 : 80)

static bool is_visible(const char *s)
{
    for (; *s; s++)
        if (*s <= ' ' || *s >= 0x7f || *s == '\\' || *s == '"' || *s == '<' || *s == '>')
            return false;
    return true;
}

/* --- parts --- */

static int parse_port(const char *s, size_t len, uint16_t *ret)
{
    uint64_t port;

    if (dbx_parse_u64(s, len, 1, 65535, &port) < 0)
        return -EINVAL;
    *ret = (uint16_t)port;
    return 0;
}

static int copy_host(const char *s, size_t len, char *out, size_t size)
{
    bool v6 = len > 2 && s[0] == '[' && s[len - 1] == ']';

    if (!len || len >= size)
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        char c = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
        bool name =
            (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
        if (!name && !(v6 && (c == ':' || c == '[' || c == ']')))
            return -EINVAL;
        out[i] = c;
    }
    out[len] = '\0';
    return 0;
}

static int parse_authority(const char *s, size_t len, struct rc_url *ret)
{
    const char *at = memrchr(s, '@', len);

    if (at) {
        size_t n = (size_t)(at - s);
        if (n >= sizeof(ret->userinfo))
            return -EINVAL;
        memcpy(ret->userinfo, s, n);
        ret->userinfo[n] = '\0';
        len -= n + 1;
        s = at + 1;
    }
    const char *bracket = len && *s == '[' ? memchr(s, ']', len) : NULL;
    const char *from = bracket ? bracket : s;
    const char *colon = memchr(from, ':', len - (size_t)(from - s));
    size_t host = colon ? (size_t)(colon - s) : len;
    ret->port = DEFAULT_PORT(ret->https);
    if (colon && host + 1 < len && parse_port(colon + 1, len - host - 1, &ret->port) < 0)
        return -EINVAL;
    return copy_host(s, host, ret->host, sizeof(ret->host));
}

/* RFC 3986 5.2.4, on the part before the query. */
static int put_path(const char *path, size_t len, char *out, size_t size)
{
    size_t query = 0, n = 0;

    while (query < len && path[query] != '?')
        query++;
    for (size_t at = 0; at < query;) {
        size_t end = at + 1;
        while (end < query && path[end] != '/')
            end++;
        size_t seg = end - at; /* with its slash in front */
        bool last = end == query, one = seg == 2 && path[at + 1] == '.';
        bool two = seg == 3 && path[at + 1] == '.' && path[at + 2] == '.';
        if (two)
            while (n && out[--n] != '/')
                ;
        if (one || two) {
            if (last && n + 1 < size)
                out[n++] = '/';
        } else {
            if (n + seg >= size)
                return -EINVAL;
            memcpy(out + n, path + at, seg);
            n += seg;
        }
        at = end;
    }
    if (!n)
        out[n++] = '/';
    if (n + (len - query) >= size)
        return -EINVAL;
    memcpy(out + n, path + query, len - query);
    out[n + len - query] = '\0';
    return 0;
}

int rc_url_parse(const char *text, struct rc_url *ret)
{
    bool https = strncasecmp(text, "https://", 8) == 0;

    if (strlen(text) >= RC_MAX_URL || !is_visible(text) ||
        (!https && strncasecmp(text, "http://", 7) != 0))
        return -EINVAL;
    ret->https = https;
    ret->userinfo[0] = '\0';
    text += https ? 8 : 7;
    size_t authority = strcspn(text, "/?#");
    if (parse_authority(text, authority, ret) < 0)
        return -EINVAL;
    text += authority;
    size_t len = strcspn(text, "#");
    if (len && *text == '/')
        return put_path(text, len, ret->path, sizeof(ret->path));
    if (len + 2 > sizeof(ret->path))
        return -EINVAL;
    ret->path[0] = '/';
    memcpy(ret->path + 1, text, len);
    ret->path[len + 1] = '\0';
    return 0;
}

int rc_url_resolve(const struct rc_url *base, const char *ref, struct rc_url *ret)
{
    char joined[2 * RC_MAX_URL];
    size_t colon = strcspn(ref, ":/?#"), len = strcspn(ref, "#");
    int r = 0;

    if (strlen(ref) >= RC_MAX_URL || !is_visible(ref))
        return -EINVAL;
    if (ref[colon] == ':' && colon > 0) {
        r = rc_url_parse(ref, ret);
        return r < 0 || ret->userinfo[0] ? -EINVAL : 0;
    }
    if (strncmp(ref, "//", 2) == 0) {
        char whole[RC_MAX_URL + 8] = "https:";
        (void)dbx_strcpy(whole, sizeof(whole), base->https ? "https:" : "http:");
        memcpy(whole + strlen(whole), ref, strlen(ref) + 1);
        r = rc_url_parse(whole, ret);
        return r < 0 || ret->userinfo[0] ? -EINVAL : 0;
    }
    *ret = *base;
    ret->userinfo[0] = '\0';
    size_t keep = 0;
    if (!len) {
        return 0;
    } else if (*ref == '?') {
        keep = strcspn(base->path, "?");
    } else if (*ref != '/') {
        for (size_t i = 0; base->path[i] && base->path[i] != '?'; i++)
            if (base->path[i] == '/')
                keep = i + 1;
    }
    memcpy(joined, base->path, keep);
    memcpy(joined + keep, ref, len);
    return put_path(joined, keep + len, ret->path, sizeof(ret->path));
}

char *rc_url_text(const struct rc_url *url)
{
    const char *scheme = url->https ? "https" : "http";

    if (url->port == DEFAULT_PORT(url->https))
        return dbx_asprintf("%s://%s%s", scheme, url->host, url->path);
    return dbx_asprintf("%s://%s:%u%s", scheme, url->host, url->port, url->path);
}

bool rc_url_same_origin(const struct rc_url *a, const struct rc_url *b)
{
    return a->https == b->https && a->port == b->port && strcmp(a->host, b->host) == 0;
}

int rc_url_basename(const struct rc_url *url, char *out, size_t size)
{
    size_t end = strcspn(url->path, "?"), begin = end;

    while (begin && url->path[begin - 1] != '/')
        begin--;
    if (rc_segment_decode(url->path + begin, end - begin, out, size) < 0)
        return -EINVAL;
    return *out && strcmp(out, ".") != 0 && strcmp(out, "..") != 0 ? 0 : -EINVAL;
}

/* --- segments --- */

int rc_segment_decode(const char *s, size_t len, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)s[i];
        if (c == '%') {
            if (i + 2 >= len || dbx_hex_decode(s + i + 1, 2, &c) < 0)
                return -EINVAL;
            i += 2;
        }
        if (c <= ' ' || c >= 0x7f || c == '/' || c == '\\' || n + 1 >= size)
            return -EINVAL;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return 0;
}

int rc_segment_encode(struct dbx_buf *out, const char *s)
{
    int r = 0;

    for (; *s && r == 0; s++) {
        bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                     (*s >= '0' && *s <= '9') || strchr("-._~!$&'()*+,;=:@", *s);
        r = plain ? dbx_buf_append(out, s, 1) : dbx_buf_printf(out, "%%%02X", (uint8_t)*s);
    }
    return r;
}
