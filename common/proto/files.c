/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/files.h"

#include "common/proto/path.h"
#include <errno.h>
#include <string.h>

#define HEAD 8   /* magic, count */
#define ENTRY 16 /* before the path */

static uint32_t get_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int dbx_files_begin(struct dbx_buf *out)
{
    dbx_assert(out->len == 0);
    return dbx_buf_append(out, "DBXF\0\0\0\0", HEAD);
}

int dbx_files_add(struct dbx_buf *out, const struct dbx_file *f)
{
    dbx_assert(out->len >= HEAD && memcmp(out->data, "DBXF", 4) == 0);
    uint32_t count = get_u32(out->data + 4);
    uint64_t size = f->folder || f->gone ? 0 : f->size;
    int r = dbx_path_check(f->path, f->path_len, "path", NULL);

    if (r < 0)
        return r;
    if (count >= DBX_FILES_MAX_COUNT || size > out->max)
        return -E2BIG;
    r = dbx_buf_reserve(out, ENTRY + f->path_len + size);
    if (r < 0)
        return r;
    (void)dbx_buf_u8(out, f->gone ? 2 : f->folder);
    (void)dbx_buf_u8(out, 0);
    (void)dbx_buf_u16(out, f->path_len);
    (void)dbx_buf_u32(out, f->mode & 0777);
    (void)dbx_buf_u64(out, size);
    (void)dbx_buf_append(out, f->path, f->path_len);
    if (size > 0)
        (void)dbx_buf_append(out, f->data, size);
    count++;
    for (int i = 0; i < 4; i++)
        out->data[4 + i] = (uint8_t)(count >> (8 * i));
    return 0;
}

int dbx_files_join(struct dbx_buf *out, const void *block, size_t len)
{
    if (len < HEAD || memcmp(block, "DBXF", 4) != 0)
        return -EBADMSG;
    if (out->len == 0)
        return dbx_buf_append(out, block, len);
    if (out->len < HEAD || memcmp(out->data, "DBXF", 4) != 0)
        return -EBADMSG;
    uint64_t count = (uint64_t)get_u32(out->data + 4) + get_u32((const uint8_t *)block + 4);
    if (count > DBX_FILES_MAX_COUNT)
        return -E2BIG;
    int r = dbx_buf_append(out, (const uint8_t *)block + HEAD, len - HEAD);
    for (int i = 0; r == 0 && i < 4; i++)
        out->data[4 + i] = (uint8_t)(count >> (8 * i));
    return r;
}

static int read_entry(struct dbx_reader *rd, struct dbx_file *ret)
{
    struct dbx_file f = {0};
    uint8_t type = dbx_rd_u8(rd), reserved = dbx_rd_u8(rd);

    f.folder = type == 1;
    f.gone = type == 2;
    f.path_len = dbx_rd_u16(rd);
    f.mode = dbx_rd_u32(rd);
    f.size = dbx_rd_u64(rd);
    if (rd->bad || type > 2 || reserved != 0 || f.mode > 0777 || (type > 0 && f.size > 0))
        return -EBADMSG;
    f.path = (const char *)dbx_rd_bytes(rd, f.path_len);
    if (rd->bad || f.size > rd->left || dbx_path_check(f.path, f.path_len, "path", NULL) < 0)
        return -EBADMSG;
    f.data = dbx_rd_bytes(rd, f.size);
    *ret = f;
    return 1;
}

int dbx_files_next(const void *block, size_t len, size_t *offset, struct dbx_file *ret)
{
    size_t at = *offset;

    if (at == 0) {
        if (len < HEAD || memcmp(block, "DBXF", 4) != 0)
            return -EBADMSG;
        at = HEAD;
    }
    if (at > len)
        return -EBADMSG;
    struct dbx_reader rd = {.p = (const uint8_t *)block + at, .left = len - at};
    int r = rd.left == 0 ? 0 : read_entry(&rd, ret);
    if (r >= 0)
        *offset = len - rd.left;
    return r;
}

int dbx_files_check(const void *block, size_t len, struct dbx_err *err)
{
    struct dbx_file f;
    size_t offset = 0;
    uint32_t count = 0;
    int r;

    while ((r = dbx_files_next(block, len, &offset, &f)) > 0) {
        if (++count > DBX_FILES_MAX_COUNT)
            return dbx_err_set(err, -E2BIG, DBX_LIMIT, "more than %d files", DBX_FILES_MAX_COUNT);
    }
    if (r < 0)
        return dbx_err_set(err, r, DBX_INVALID, "malformed block of files at file %u", count);
    if (count != get_u32((const uint8_t *)block + 4))
        return dbx_err_set(err, -EBADMSG, DBX_INVALID, "block of files holds %u, not what it says",
                           count);
    return 0;
}
