/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/archive.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/ext/gzip.h"

#define MAX_DIRECTORY (4u << 20)
#define TAR_BLOCK 512
#define UTF8_NAMES 0x0800
#define MADE_BY_UNIX 0x0314

void gw_archive_init(struct gw_archive *a, enum gw_archive_kind kind, struct dbx_buf *out)
{
    *a = (struct gw_archive){.kind = kind, .out = out};
    dbx_buf_init(&a->directory, MAX_DIRECTORY);
}

void gw_archive_done(struct gw_archive *a)
{
    dbx_buf_done(&a->directory);
}

/* --- zip --- */

/* MS-DOS's two words, in UTC; what it cannot say is its first day. */
static uint32_t dos_time(int64_t at)
{
    struct tm tm;
    time_t t = (time_t)at;
    if (!gmtime_r(&t, &tm) || tm.tm_year < 80 || tm.tm_year > 207)
        return 0x00210000;
    return (uint32_t)((tm.tm_year - 80) << 25 | (tm.tm_mon + 1) << 21 | tm.tm_mday << 16 |
                      tm.tm_hour << 11 | tm.tm_min << 5 | tm.tm_sec / 2);
}

static bool is_script(const struct gw_archive_entry *e)
{
    return e->len > 2 && memcmp(e->data, "#!", 2) == 0;
}

/* The part that the local header and the directory have in common, from "version needed" on. */
static int put_common(struct dbx_buf *out, const struct gw_archive_entry *e, uint32_t crc)
{
    int r = dbx_buf_u16(out, 20) | dbx_buf_u16(out, UTF8_NAMES) | dbx_buf_u16(out, 0) |
            dbx_buf_u32(out, dos_time(e->mtime)) | dbx_buf_u32(out, crc) |
            dbx_buf_u32(out, (uint32_t)e->len) | dbx_buf_u32(out, (uint32_t)e->len) |
            dbx_buf_u16(out, (uint16_t)(strlen(e->path) + e->folder)) | dbx_buf_u16(out, 0);
    return r;
}

static int put_name(struct dbx_buf *out, const struct gw_archive_entry *e)
{
    return dbx_buf_str(out, e->path) | (e->folder ? dbx_buf_str(out, "/") : 0);
}

static int add_zip(struct gw_archive *a, const struct gw_archive_entry *e)
{
    uint32_t crc = dbx_crc32(0, e->data, e->len), at = (uint32_t)a->out->len;
    uint32_t mode = e->folder ? 040755u : (is_script(e) ? 0100755u : 0100644u);
    struct dbx_buf *d = &a->directory;
    int r = dbx_buf_u32(a->out, 0x04034b50) | put_common(a->out, e, crc) | put_name(a->out, e) |
            dbx_buf_append(a->out, e->data, e->len);
    r |= dbx_buf_u32(d, 0x02014b50) | dbx_buf_u16(d, MADE_BY_UNIX) | put_common(d, e, crc) |
         dbx_buf_u16(d, 0) | dbx_buf_u16(d, 0) | dbx_buf_u16(d, 0) |
         dbx_buf_u32(d, mode << 16 | (e->folder ? 0x10 : 0)) | dbx_buf_u32(d, at) | put_name(d, e);
    return r ? -E2BIG : 0;
}

static int end_zip(struct gw_archive *a)
{
    uint32_t at = (uint32_t)a->out->len, len = (uint32_t)a->directory.len;
    int r = dbx_buf_append(a->out, a->directory.data, a->directory.len) |
            dbx_buf_u32(a->out, 0x06054b50) | dbx_buf_u32(a->out, 0) |
            dbx_buf_u16(a->out, (uint16_t)a->count) | dbx_buf_u16(a->out, (uint16_t)a->count) |
            dbx_buf_u32(a->out, len) | dbx_buf_u32(a->out, at) | dbx_buf_u16(a->out, 0);
    return r ? -E2BIG : 0;
}

/* --- tar --- */

static int pad(struct dbx_buf *out)
{
    static const uint8_t zeros[TAR_BLOCK];
    return dbx_buf_append(out, zeros, (TAR_BLOCK - out->len % TAR_BLOCK) % TAR_BLOCK);
}

static int tar_header(struct dbx_buf *out, const char *name, char type, unsigned mode, size_t len,
                      int64_t mtime)
{
    char h[TAR_BLOCK + 1] = {0};
    unsigned sum = 0;
    memcpy(h, name, strnlen(name, 100));
    snprintf(h + 100, 8, "%07o", mode);
    memcpy(h + 108, "0000000", 8);
    memcpy(h + 116, "0000000", 8);
    snprintf(h + 124, 12, "%011llo", (unsigned long long)len);
    snprintf(h + 136, 12, "%011llo", (unsigned long long)(mtime > 0 ? mtime : 0) & 077777777777ull);
    memset(h + 148, ' ', 8);
    h[156] = type;
    memcpy(h + 257, "ustar\00000", 8);
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 7, "%06o", sum);
    return dbx_buf_append(out, h, TAR_BLOCK);
}

/* "LEN path=NAME\n", where LEN counts itself. */
static int pax_path(struct dbx_buf *out, const char *name)
{
    size_t rest = strlen(" path=") + strlen(name) + 1, len = rest + 1;
    char digits[24];
    while ((size_t)snprintf(digits, sizeof(digits), "%zu", len) + rest != len)
        len = strlen(digits) + rest;
    return tar_header(out, "pax", 'x', 0644, len, 0) |
           dbx_buf_printf(out, "%s path=%s\n", digits, name) | pad(out);
}

static int add_tar(struct gw_archive *a, const struct gw_archive_entry *e)
{
    DBX_CLEANUP(dbx_freep) char *name = dbx_asprintf("%s%s", e->path, e->folder ? "/" : "");
    bool script = is_script(e);
    int r = strlen(name) > 100 ? pax_path(a->out, name) : 0;
    r |= tar_header(a->out, name, e->folder ? '5' : '0', e->folder || script ? 0755 : 0644, e->len,
                    e->mtime) |
         dbx_buf_append(a->out, e->data, e->len) | pad(a->out);
    return r ? -E2BIG : 0;
}

static int end_tar(struct gw_archive *a)
{
    static const uint8_t zeros[2 * TAR_BLOCK];
    return dbx_buf_append(a->out, zeros, sizeof(zeros)) ? -E2BIG : 0;
}

int gw_archive_add(struct gw_archive *a, const struct gw_archive_entry *e)
{
    if (++a->count > UINT16_MAX)
        return -E2BIG;
    return a->kind == GW_ARCHIVE_ZIP ? add_zip(a, e) : add_tar(a, e);
}

int gw_archive_end(struct gw_archive *a)
{
    return a->kind == GW_ARCHIVE_ZIP ? end_zip(a) : end_tar(a);
}
