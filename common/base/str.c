/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"

#include <errno.h>
#include <string.h>

int dbx_parse_u64(const char *s, size_t len, uint64_t min, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    bool too_large = false;
    if (len == 0)
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
            too_large = true;
    }
    if (too_large || v < min || v > max)
        return -ERANGE;
    *ret = v;
    return 0;
}

int dbx_parse_i64(const char *s, size_t len, int64_t min, int64_t max, int64_t *ret)
{
    bool negative = len > 0 && s[0] == '-';
    uint64_t limit = (uint64_t)INT64_MAX + negative, magnitude;
    int r = dbx_parse_u64(s + negative, len - negative, 0, limit, &magnitude);
    if (r < 0)
        return r;
    int64_t v = (int64_t)(negative ? 0 - magnitude : magnitude);
    if (v < min || v > max)
        return -ERANGE;
    *ret = v;
    return 0;
}

bool dbx_streq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool dbx_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool dbx_strcpy(char *dst, size_t size, const char *src)
{
    dbx_assert(size > 0);
    size_t len = strnlen(src, size);
    bool fits = len < size;
    if (!fits)
        len = size - 1;
    memcpy(dst, src, len);
    dst[len] = '\0';
    return fits;
}

void dbx_hex_encode(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int dbx_hex_decode(const char *s, size_t len, void *out)
{
    uint8_t *o = out;
    if (len % 2)
        return -EINVAL;
    for (size_t i = 0; i < len; i += 2) {
        int high = hex_value(s[i]), low = hex_value(s[i + 1]);
        if (high < 0 || low < 0)
            return -EINVAL;
        *o++ = (uint8_t)(high << 4 | low);
    }
    return 0;
}

size_t dbx_base64_encode(const void *data, size_t len, char *out, bool url)
{
    static const char alphabet[2][65] = {
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
    };
    const char *digits = alphabet[url];
    const uint8_t *p = data;
    char *o = out;
    for (; len >= 3; p += 3, len -= 3) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        *o++ = digits[v >> 18];
        *o++ = digits[v >> 12 & 63];
        *o++ = digits[v >> 6 & 63];
        *o++ = digits[v & 63];
    }
    if (len) {
        uint32_t v = (uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0);
        *o++ = digits[v >> 18];
        *o++ = digits[v >> 12 & 63];
        if (len == 2)
            *o++ = digits[v >> 6 & 63];
        for (size_t i = len; i < 3 && !url; i++)
            *o++ = '=';
    }
    *o = '\0';
    return (size_t)(o - out);
}

static int base64_value(char c, bool url)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == (url ? '-' : '+'))
        return 62;
    if (c == (url ? '_' : '/'))
        return 63;
    return -1;
}

int dbx_base64_decode(const char *s, size_t len, void *out, size_t *ret_len, bool url)
{
    uint8_t *o = out;
    if (!url) {
        if (len % 4)
            return -EINVAL;
        if (len && s[len - 1] == '=')
            len -= s[len - 2] == '=' ? 2 : 1;
    }
    if (len % 4 == 1)
        return -EINVAL;
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < len; i++) {
        int v = base64_value(s[i], url);
        if (v < 0)
            return -EINVAL;
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *o++ = (uint8_t)(bits >> have);
        }
    }
    if (bits & ((1u << have) - 1))
        return -EINVAL; /* one value has one spelling */
    *ret_len = (size_t)(o - (uint8_t *)out);
    return 0;
}

/* Length of the well-formed character at p (1..4); 0: ill-formed; -1: well-formed as far as it
 * goes. n >= 1. */
static int utf8_char(const uint8_t *p, size_t n)
{
    size_t need;
    uint8_t low = 0x80, high = 0xbf; /* of the second byte */
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        need = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        need = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        need = 4;
    else
        return 0;
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < need; i++) {
        if (i == n)
            return -1;
        if (p[i] < low || p[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return (int)need;
}

size_t dbx_utf8_prefix(const void *data, size_t len, bool *ret_incomplete)
{
    const uint8_t *p = data;
    size_t i = 0;
    int n = 1;
    while (i < len && n > 0) {
        uint64_t word;
        if (len - i >= sizeof(word)) {
            memcpy(&word, p + i, sizeof(word));
            if ((word & 0x8080808080808080u) == 0) {
                i += sizeof(word);
                continue;
            }
        }
        n = utf8_char(p + i, len - i);
        if (n > 0)
            i += (size_t)n;
    }
    *ret_incomplete = n < 0;
    return i;
}

bool dbx_utf8_valid(const void *data, size_t len)
{
    bool incomplete;
    return dbx_utf8_prefix(data, len, &incomplete) == len;
}

bool dbx_equal_secret(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t diff = 0;
    for (size_t i = 0; i < len; i++)
        diff |= (uint8_t)(x[i] ^ y[i]);
    return diff == 0;
}
