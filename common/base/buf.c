/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 64

void dbx_buf_init(struct dbx_buf *buf, size_t max)
{
    *buf = (struct dbx_buf){.max = max};
}

void dbx_buf_done(struct dbx_buf *buf)
{
    free(buf->data);
    dbx_buf_init(buf, buf->max);
}

void dbx_buf_clear(struct dbx_buf *buf)
{
    buf->len = 0;
    if (buf->data)
        buf->data[0] = 0;
}

int dbx_buf_reserve(struct dbx_buf *buf, size_t more)
{
    size_t need; /* with the NUL */
    if (buf->len > buf->max || more > buf->max - buf->len)
        return -E2BIG;
    if (__builtin_add_overflow(buf->len + more, 1, &need))
        return -E2BIG;
    if (need <= buf->cap)
        return 0;
    size_t cap = buf->cap > FIRST_CAP ? buf->cap : FIRST_CAP;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap - 1 > buf->max)
        cap = buf->max + 1; /* still at least need */
    uint8_t *data = realloc(buf->data, cap);
    if (!data)
        return -ENOMEM;
    data[buf->len] = 0;
    buf->data = data;
    buf->cap = cap;
    return 0;
}

int dbx_buf_append(struct dbx_buf *buf, const void *data, size_t len)
{
    int r = dbx_buf_reserve(buf, len);
    if (r < 0)
        return r;
    if (len)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = 0;
    return 0;
}

int dbx_buf_str(struct dbx_buf *buf, const char *s)
{
    return dbx_buf_append(buf, s, strlen(s));
}

int dbx_buf_printf(struct dbx_buf *buf, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    size_t room = buf->cap - buf->len;
    int n = vsnprintf(room ? (char *)buf->data + buf->len : NULL, room, fmt, ap);
    int r = n < 0 ? -EINVAL : dbx_buf_reserve(buf, (size_t)n);
    if (r == 0 && (size_t)n >= room)
        (void)vsnprintf((char *)buf->data + buf->len, (size_t)n + 1, fmt, again);
    if (r == 0)
        buf->len += (size_t)n;
    if (buf->data)
        buf->data[buf->len] = 0; /* also where a failed attempt wrote */
    va_end(again);
    va_end(ap);
    return r;
}

void dbx_buf_consume(struct dbx_buf *buf, size_t n)
{
    dbx_assert(n <= buf->len);
    if (n == 0)
        return;
    buf->len -= n;
    memmove(buf->data, buf->data + n, buf->len);
    buf->data[buf->len] = 0;
}

uint8_t *dbx_buf_take(struct dbx_buf *buf)
{
    uint8_t *data = DBX_TAKE(buf->data);
    dbx_buf_init(buf, buf->max);
    return data;
}

static int append_le(struct dbx_buf *buf, uint64_t v, size_t bytes)
{
    uint8_t raw[8];
    for (size_t i = 0; i < bytes; i++)
        raw[i] = (uint8_t)(v >> (8 * i));
    return dbx_buf_append(buf, raw, bytes);
}

int dbx_buf_u8(struct dbx_buf *buf, uint8_t v)
{
    return append_le(buf, v, 1);
}

int dbx_buf_u16(struct dbx_buf *buf, uint16_t v)
{
    return append_le(buf, v, 2);
}

int dbx_buf_u32(struct dbx_buf *buf, uint32_t v)
{
    return append_le(buf, v, 4);
}

int dbx_buf_u64(struct dbx_buf *buf, uint64_t v)
{
    return append_le(buf, v, 8);
}

const uint8_t *dbx_rd_bytes(struct dbx_reader *r, size_t n)
{
    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->p;
    if (n) {
        r->p += n;
        r->left -= n;
    }
    return p;
}

static uint64_t read_le(struct dbx_reader *r, size_t bytes)
{
    const uint8_t *p = dbx_rd_bytes(r, bytes);
    uint64_t v = 0;
    for (size_t i = 0; p && i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint8_t dbx_rd_u8(struct dbx_reader *r)
{
    return (uint8_t)read_le(r, 1);
}

uint16_t dbx_rd_u16(struct dbx_reader *r)
{
    return (uint16_t)read_le(r, 2);
}

uint32_t dbx_rd_u32(struct dbx_reader *r)
{
    return (uint32_t)read_le(r, 4);
}

uint64_t dbx_rd_u64(struct dbx_reader *r)
{
    return read_le(r, 8);
}
