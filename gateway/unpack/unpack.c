/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/unpack/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/str.h"
#include "common/proto/files.h"
#include "common/proto/path.h"

#define BLOCK (64u << 10)

struct unpacker {
    struct archive *ar;
    const struct unpack_limits *limits;
    struct dbx_map *seen; /* path -> this very object */
    struct dbx_buf *block, file;
    size_t in, entries;
    uint64_t out;
};

static int refuse(struct dbx_err *err, const char *path, const char *why)
{
    return dbx_err_set(err, -EINVAL, DBX_INVALID, "'%.120s' %s", path, why);
}

static int broken(struct unpacker *u, struct dbx_err *err)
{
    const char *why = archive_error_string(u->ar);
    return dbx_err_set(err, -EINVAL, DBX_INVALID, "the archive cannot be read: %.150s",
                       why ? why : "it is broken");
}

static int read_path(struct archive_entry *e, char *path, size_t size, struct dbx_err *err)
{
    const char *name = archive_entry_pathname_utf8(e);
    if (!name)
        name = archive_entry_pathname(e);
    if (!name)
        return refuse(err, "", "has a name that is no UTF-8");
    return dbx_path_of_archive(name, archive_entry_filetype(e) == AE_IFDIR, path, size, err);
}

static int check_kind(struct archive_entry *e, const char *path, struct dbx_err *err)
{
    if (archive_entry_hardlink(e) || archive_entry_symlink(e) ||
        archive_entry_filetype(e) == AE_IFLNK)
        return refuse(err, path, "is a link: files and folders only");
    if (archive_entry_filetype(e) != AE_IFREG && archive_entry_filetype(e) != AE_IFDIR)
        return refuse(err, path, "is neither a file nor a folder");
    if (archive_entry_is_encrypted(e))
        return refuse(err, path, "is encrypted");
    return 0;
}

static int check_room(struct unpacker *u, const char *path, size_t more, struct dbx_err *err)
{
    const struct unpack_limits *l = u->limits;
    u->out += more;
    if (u->file.len + more > l->file)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT, "'%.120s' has more than %llu bytes", path,
                           (unsigned long long)l->file);
    if (u->out > l->all)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT, "the archive has more than %llu bytes in all",
                           (unsigned long long)l->all);
    if (u->out > l->ratio_at && u->out / l->ratio > u->in)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT,
                           "the archive unpacks to more than %llu times its size",
                           (unsigned long long)l->ratio);
    return 0;
}

/* By what comes, never by what the header claims. Holes of a sparse file are bytes too. */
static int read_data(struct unpacker *u, const char *path, struct dbx_err *err)
{
    static const uint8_t zeros[BLOCK];
    const void *data;
    size_t len;
    la_int64_t at;
    int r;
    dbx_buf_clear(&u->file);
    while ((r = archive_read_data_block(u->ar, &data, &len, &at)) == ARCHIVE_OK) {
        if (at < 0 || (uint64_t)at < u->file.len)
            return refuse(err, path, "has pieces in disorder");
        while ((uint64_t)at > u->file.len) {
            uint64_t hole = (uint64_t)at - u->file.len;
            size_t n = hole < sizeof(zeros) ? (size_t)hole : sizeof(zeros);
            if ((r = check_room(u, path, n, err)) < 0)
                return r;
            if (dbx_buf_append(&u->file, zeros, n) < 0)
                return -E2BIG;
        }
        if ((r = check_room(u, path, len, err)) < 0)
            return r;
        if (dbx_buf_append(&u->file, data, len) < 0)
            return -E2BIG;
    }
    return r == ARCHIVE_EOF ? 0 : broken(u, err);
}

static int take(struct unpacker *u, struct archive_entry *e, struct dbx_err *err)
{
    char path[1026];
    bool folder = archive_entry_filetype(e) == AE_IFDIR;
    int r = read_path(e, path, sizeof(path), err);
    if (r == 0)
        r = check_kind(e, path, err);
    if (r < 0 || !*path)
        return r;
    if (dbx_map_put(u->seen, path, strlen(path), u))
        return folder ? 0 : refuse(err, path, "comes twice");
    if (!folder && (r = read_data(u, path, err)) < 0)
        return r;
    const struct dbx_file f = {.folder = folder,
                               .mode = folder ? 0755 : 0644,
                               .path = path,
                               .path_len = (uint16_t)strlen(path),
                               .data = folder ? NULL : u->file.data,
                               .size = folder ? 0 : u->file.len};
    r = dbx_files_add(u->block, &f);
    return r < 0 ? dbx_err_set(err, r, DBX_LIMIT, "the files do not fit") : 0;
}

static int read_all(struct unpacker *u, struct dbx_err *err)
{
    struct archive_entry *e;
    int r;
    while ((r = archive_read_next_header(u->ar, &e)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
        if (++u->entries > u->limits->entries)
            return dbx_err_set(err, -E2BIG, DBX_LIMIT, "the archive has more than %zu entries",
                               u->limits->entries);
        r = take(u, e, err);
        if (r < 0)
            return r;
    }
    if (r != ARCHIVE_EOF)
        return broken(u, err);
    return u->entries ? 0
                      : dbx_err_set(err, -EINVAL, DBX_INVALID, "there is nothing in the archive");
}

static struct archive *new_reader(void)
{
    struct archive *ar = archive_read_new();
    dbx_assert(ar);
    archive_read_support_filter_gzip(ar);
    archive_read_support_filter_zstd(ar);
    archive_read_support_filter_xz(ar);
    archive_read_support_filter_bzip2(ar);
    archive_read_support_format_tar(ar);
    archive_read_support_format_zip_seekable(ar);
    return ar;
}

int unpack_archive(const void *data, size_t len, const struct unpack_limits *limits,
                   struct dbx_buf *block, struct dbx_err *err)
{
    struct unpacker u = {
        .ar = new_reader(), .limits = limits, .seen = dbx_map_new(), .block = block, .in = len};
    dbx_buf_init(&u.file, limits->file);
    int r = dbx_files_begin(block);
    if (r == 0)
        r = archive_read_open_memory(u.ar, data, len) == ARCHIVE_OK ? 0 : broken(&u, err);
    if (r == 0)
        r = read_all(&u, err);
    archive_read_free(u.ar);
    dbx_map_free(u.seen);
    dbx_buf_done(&u.file);
    return r;
}
