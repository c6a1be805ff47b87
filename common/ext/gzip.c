/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ext/gzip.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#define WINDOW_GZIP (15 + 16) /* 32 KiB, gzip's frame and no other */
#define BLOCK (64u << 10)

struct dbx_gunzip {
    z_stream z;
    bool ended; /* a member is complete; another one may follow */
    bool begun;
};

struct dbx_gzip {
    z_stream z;
};

struct dbx_gunzip *dbx_gunzip_new(void)
{
    struct dbx_gunzip *g = DBX_NEW(struct dbx_gunzip);

    dbx_assert(inflateInit2(&g->z, WINDOW_GZIP) == Z_OK);
    return g;
}

/* Room for one block, or for what is left below the maximum. */
static size_t room(struct dbx_buf *out)
{
    size_t left = out->max - out->len, want = left < BLOCK ? left : BLOCK;

    return want && dbx_buf_reserve(out, want) == 0 ? want : 0;
}

static int next_member(struct dbx_gunzip *g)
{
    if (!g->ended)
        return 0;
    g->ended = false;
    return inflateReset(&g->z) == Z_OK ? 0 : -EBADMSG;
}

int dbx_gunzip_feed(struct dbx_gunzip *g, const void *data, size_t len, size_t *ret_used,
                    struct dbx_buf *out)
{
    dbx_assert(len <= UINT_MAX);
    g->z.next_in = (Bytef *)data;
    g->z.avail_in = (uInt)len;
    *ret_used = 0;
    for (;;) {
        size_t space = room(out);
        /* Output that zlib still holds comes without new input. */
        if (!space || (g->z.avail_in == 0 && g->z.avail_out > 0 && g->begun))
            break;
        if (g->ended && g->z.avail_in == 0)
            break;
        if (next_member(g) < 0)
            return -EBADMSG;
        g->begun = true;
        g->z.next_out = out->data + out->len;
        g->z.avail_out = (uInt)space;
        int r = inflate(&g->z, Z_NO_FLUSH);
        out->len += space - g->z.avail_out;
        out->data[out->len] = 0;
        if (r == Z_STREAM_END)
            g->ended = true;
        else if (r != Z_OK && r != Z_BUF_ERROR)
            return -EBADMSG;
    }
    *ret_used = len - g->z.avail_in;
    return 0;
}

bool dbx_gunzip_done(const struct dbx_gunzip *g)
{
    return g->ended;
}

struct dbx_gunzip *dbx_gunzip_free(struct dbx_gunzip *g)
{
    if (g)
        inflateEnd(&g->z);
    free(g);
    return NULL;
}

struct dbx_gzip *dbx_gzip_new(int level)
{
    struct dbx_gzip *g = DBX_NEW(struct dbx_gzip);

    dbx_assert(deflateInit2(&g->z, level, Z_DEFLATED, WINDOW_GZIP, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    return g;
}

int dbx_gzip_feed(struct dbx_gzip *g, const void *data, size_t len, bool end, struct dbx_buf *out)
{
    int r = Z_OK;

    dbx_assert(len <= UINT_MAX);
    g->z.next_in = (Bytef *)data;
    g->z.avail_in = (uInt)len;
    do {
        size_t space = room(out);
        if (!space)
            return -E2BIG;
        g->z.next_out = out->data + out->len;
        g->z.avail_out = (uInt)space;
        r = deflate(&g->z, end ? Z_FINISH : Z_NO_FLUSH);
        out->len += space - g->z.avail_out;
        out->data[out->len] = 0;
        dbx_assert(r != Z_STREAM_ERROR);
    } while (g->z.avail_out == 0 || (end && r != Z_STREAM_END));
    return 0;
}

struct dbx_gzip *dbx_gzip_free(struct dbx_gzip *g)
{
    if (g)
        deflateEnd(&g->z);
    free(g);
    return NULL;
}

uint32_t dbx_crc32(uint32_t crc, const void *data, size_t len)
{
    return (uint32_t)crc32_z(crc, data, len);
}
