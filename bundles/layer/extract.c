/* SPDX-License-Identifier: Apache-2.0 */
/* Every parent of what is written was made here and is a folder: that is looked up in a table and
 * not on the disk, so no path ever leads through a link, whatever the order of the entries. */
#include "bundles/layer/extract.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/proto/path.h"

#define BLOCK (256u << 10)
#define MAX_NAME 1026

/* What stands at a path: the address of one of these. */
static const char is_folder[] = "folder", is_file[] = "file", is_link[] = "link";

struct layer {
    struct archive *ar, *packed; /* packed: NULL where nothing is packed */
    const struct layer_limits *limits;
    struct dbx_map *seen;
    int in, root, out;
    struct dbx_sha256_ctx *in_sha, *out_sha;
    uint8_t *block;
    int io_error; /* of in or out, -errno */
    struct layer_result n;
};

static int refuse(struct dbx_err *err, const char *path, const char *why)
{
    return dbx_err_set(err, -EINVAL, DBX_INVALID, "'%.120s' %s", path, why);
}

static int broken(struct layer *ly, struct dbx_err *err)
{
    const char *why = archive_error_string(ly->ar);
    if (ly->io_error)
        return dbx_err_set(err, ly->io_error, DBX_INTERNAL, "read the layer: %s",
                           strerror(-ly->io_error));
    return dbx_err_set(err, -EINVAL, DBX_INVALID, "the layer cannot be read: %.150s",
                       why ? why : "it is broken");
}

/* ---- libarchive's ends ---- */

static la_ssize_t on_read(struct archive *ar, void *user, const void **ret)
{
    struct layer *ly = user;
    ssize_t n;
    (void)ar;
    do
        n = read(ly->in, ly->block, BLOCK);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        ly->io_error = -errno;
        return ARCHIVE_FATAL;
    }
    dbx_sha256_update(ly->in_sha, ly->block, (size_t)n);
    ly->n.in_bytes += (uint64_t)n;
    *ret = ly->block;
    return n;
}

static la_ssize_t on_write(struct archive *ar, void *user, const void *data, size_t len)
{
    struct layer *ly = user;
    (void)ar;
    int r = dbx_write_all(ly->out, data, len);
    if (r < 0) {
        ly->io_error = r;
        return ARCHIVE_FATAL;
    }
    dbx_sha256_update(ly->out_sha, data, len);
    ly->n.out_bytes += len;
    return (la_ssize_t)len;
}

/* ---- checks ---- */

static int read_path(struct archive_entry *e, char *path, size_t size, struct dbx_err *err)
{
    const char *name = archive_entry_pathname_utf8(e);
    if (!name)
        name = archive_entry_pathname(e);
    if (!name)
        return refuse(err, "", "has a name that is no UTF-8");
    int r = dbx_path_of_archive(name, archive_entry_filetype(e) == AE_IFDIR, path, size, err);
    for (const char *c = path; r == 0 && c; c = strchr(c, '/')) {
        c += *c == '/';
        if (dbx_starts_with(c, ".wh."))
            return refuse(err, path, "is a whiteout");
    }
    return r;
}

static size_t depth_of(const char *path)
{
    size_t n = 0;
    for (const char *c = path; (c = strchr(c, '/')); c++)
        n++;
    return n;
}

/* "../" first, not above the root, then names. */
static int check_target(const char *path, const char *target, struct dbx_err *err)
{
    size_t up = 0;
    struct dbx_err why = {0};
    while (dbx_starts_with(target, "../") || dbx_starts_with(target, "./")) {
        up += target[1] == '.';
        target += target[1] == '.' ? 3 : 2;
    }
    if (dbx_streq(target, "..") || dbx_streq(target, ".")) {
        up += target[1] == '.';
        target = "";
    }
    size_t len = strlen(target);
    if (len > 1 && target[len - 1] == '/')
        len--;
    if (up > depth_of(path) || (len > 0 && dbx_path_check(target, len, "archive", &why) < 0))
        return refuse(err, path, "is a link to what is outside");
    return 0;
}

static int check_kind(struct archive_entry *e, const char *path, struct dbx_err *err)
{
    unsigned type = archive_entry_filetype(e);
    if (archive_entry_hardlink(e))
        return 0;
    if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
        return refuse(err, path, "is a device, a pipe or a socket");
    if (type != AE_IFLNK && archive_entry_perm(e) & (S_ISUID | S_ISGID))
        return refuse(err, path, "has setuid or setgid");
    return 0;
}

static int check_room(struct layer *ly, const char *path, uint64_t in_file, uint64_t more,
                      struct dbx_err *err)
{
    const struct layer_limits *l = ly->limits;
    ly->n.bytes += more;
    if (in_file + more > l->file)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT, "'%.120s' has more than %llu bytes", path,
                           (unsigned long long)l->file);
    if (ly->n.bytes > l->all)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT, "the layer has more than %llu bytes in all",
                           (unsigned long long)l->all);
    if (ly->n.bytes > l->ratio_at && ly->n.bytes / l->ratio > ly->n.in_bytes)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT,
                           "the layer unpacks to more than %llu times its size",
                           (unsigned long long)l->ratio);
    return 0;
}

/* ---- the tree ---- */

static int sys_error(const char *path, struct dbx_err *err)
{
    return dbx_err_sys(err, "write '%.120s'", path);
}

static int make_folder(struct layer *ly, const char *path, struct dbx_err *err)
{
    const char *there = dbx_map_get(ly->seen, path, strlen(path));
    if (there)
        return there == is_folder ? 0 : refuse(err, path, "is something else, and then a folder");
    if (++ly->n.entries > ly->limits->entries)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT, "the layer has more than %zu entries",
                           ly->limits->entries);
    (void)dbx_map_put(ly->seen, path, strlen(path), (void *)(uintptr_t)is_folder);
    if (ly->root >= 0 && mkdirat(ly->root, path, 0755) < 0)
        return sys_error(path, err);
    return 0;
}

static int make_parents(struct layer *ly, const char *path, struct dbx_err *err)
{
    char parent[MAX_NAME];
    for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
        size_t len = (size_t)(slash - path);
        if (dbx_map_get(ly->seen, path, len) == is_folder)
            continue;
        memcpy(parent, path, len);
        parent[len] = '\0';
        int r = make_folder(ly, parent, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int put(struct layer *ly, int fd, const char *path, uint64_t *at, const void *data,
               size_t len, struct dbx_err *err)
{
    int r = check_room(ly, path, *at, len, err);
    if (r < 0)
        return r;
    *at += len;
    if (fd >= 0 && (r = dbx_write_all(fd, data, len)) < 0)
        return dbx_err_set(err, r, DBX_LIMIT, "write '%.120s': %s", path, strerror(-r));
    if (ly->packed && archive_write_data(ly->packed, data, len) != (la_ssize_t)len)
        return dbx_err_set(err, -EIO, DBX_INTERNAL, "pack '%.120s'", path);
    return 0;
}

/* By what comes, never by what the header claims. Holes of a sparse file are bytes too. */
static int copy_data(struct layer *ly, int fd, const char *path, uint64_t size, struct dbx_err *err)
{
    static const uint8_t zeros[64u << 10];
    uint64_t done = 0;
    const void *data;
    size_t len;
    la_int64_t at;
    int r;
    while ((r = archive_read_data_block(ly->ar, &data, &len, &at)) == ARCHIVE_OK) {
        if (at < 0 || (uint64_t)at < done)
            return refuse(err, path, "has pieces in disorder");
        while ((uint64_t)at > done) {
            uint64_t hole = (uint64_t)at - done;
            r = put(ly, fd, path, &done, zeros, hole < sizeof(zeros) ? (size_t)hole : sizeof(zeros),
                    err);
            if (r < 0)
                return r;
        }
        if ((r = put(ly, fd, path, &done, data, len, err)) < 0)
            return r;
    }
    if (r != ARCHIVE_EOF)
        return broken(ly, err);
    return done == size ? 0 : refuse(err, path, "is not as long as it says");
}

static int write_file(struct layer *ly, struct archive_entry *e, const char *path, mode_t mode,
                      struct dbx_err *err)
{
    DBX_CLEANUP(dbx_closep) int fd = -1;
    const struct timespec times[2] = {
        {.tv_sec = archive_entry_mtime(e), .tv_nsec = archive_entry_mtime_nsec(e)},
        {.tv_sec = archive_entry_mtime(e), .tv_nsec = archive_entry_mtime_nsec(e)}};
    if (ly->root >= 0) {
        fd = openat(ly->root, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd < 0)
            return sys_error(path, err);
    }
    int r = copy_data(ly, fd, path, (uint64_t)archive_entry_size(e), err);
    if (r == 0 && fd >= 0 && futimens(fd, times) < 0)
        return sys_error(path, err);
    return r;
}

static int write_hardlink(struct layer *ly, struct archive_entry *e, const char *path,
                          struct dbx_err *err)
{
    char target[MAX_NAME];
    const char *name = archive_entry_hardlink(e);
    int r = dbx_path_of_archive(name, false, target, sizeof(target), err);
    if (r < 0 || dbx_map_get(ly->seen, target, strlen(target)) != is_file)
        return refuse(err, path, "is a hard link to no file of this layer");
    if (ly->root >= 0 && linkat(ly->root, target, ly->root, path, 0) < 0)
        return sys_error(path, err);
    return 0;
}

static int write_symlink(struct layer *ly, struct archive_entry *e, const char *path,
                         struct dbx_err *err)
{
    const char *target = archive_entry_symlink(e);
    if (!target || !*target)
        return refuse(err, path, "is a link to nothing");
    int r = check_target(path, target, err);
    if (r == 0 && ly->root >= 0 && symlinkat(target, ly->root, path) < 0)
        return sys_error(path, err);
    return r;
}

/* The same entry, cleaned, into what is packed. */
static int pack_head(struct layer *ly, struct archive_entry *e, const char *path, mode_t mode,
                     struct dbx_err *err)
{
    if (!ly->packed)
        return 0;
    struct archive_entry *p = archive_entry_new();
    bool file = archive_entry_filetype(e) == AE_IFREG;
    archive_entry_set_pathname(p, path);
    archive_entry_set_filetype(p, archive_entry_filetype(e));
    archive_entry_set_perm(p, mode);
    archive_entry_set_mtime(p, archive_entry_mtime(e), archive_entry_mtime_nsec(e));
    if (archive_entry_hardlink(e))
        archive_entry_set_hardlink(p, archive_entry_hardlink(e));
    else if (archive_entry_filetype(e) == AE_IFLNK)
        archive_entry_set_symlink(p, archive_entry_symlink(e));
    archive_entry_set_size(p, file && !archive_entry_hardlink(e) ? archive_entry_size(e) : 0);
    int r = archive_write_header(ly->packed, p);
    archive_entry_free(p);
    return r >= ARCHIVE_WARN ? 0
                             : dbx_err_set(err, -EIO, DBX_INTERNAL, "pack '%.60s': %.120s", path,
                                           archive_error_string(ly->packed));
}

static int take_leaf(struct layer *ly, struct archive_entry *e, const char *path,
                     struct dbx_err *err)
{
    bool link = archive_entry_filetype(e) == AE_IFLNK && !archive_entry_hardlink(e);
    mode_t mode = archive_entry_perm(e) & 0111 ? 0755 : 0644;
    if (dbx_map_get(ly->seen, path, strlen(path)))
        return refuse(err, path, "comes twice");
    if (++ly->n.entries > ly->limits->entries)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT, "the layer has more than %zu entries",
                           ly->limits->entries);
    int r = make_parents(ly, path, err);
    if (r == 0 && !link && !archive_entry_hardlink(e) && archive_entry_size(e) < 0)
        r = refuse(err, path, "has less than no bytes");
    if (r == 0)
        r = pack_head(ly, e, path, mode, err);
    if (r < 0)
        return r;
    if (archive_entry_hardlink(e))
        r = write_hardlink(ly, e, path, err);
    else if (link)
        r = write_symlink(ly, e, path, err);
    else
        r = write_file(ly, e, path, mode, err);
    (void)dbx_map_put(ly->seen, path, strlen(path), (void *)(uintptr_t)(link ? is_link : is_file));
    return r;
}

static int take(struct layer *ly, struct archive_entry *e, struct dbx_err *err)
{
    char path[MAX_NAME];
    int r = read_path(e, path, sizeof(path), err);
    if (r == 0)
        r = check_kind(e, path, err);
    if (r < 0 || !*path)
        return r;
    if (archive_entry_filetype(e) != AE_IFDIR || archive_entry_hardlink(e))
        return take_leaf(ly, e, path, err);
    r = make_parents(ly, path, err);
    if (r == 0)
        r = make_folder(ly, path, err);
    return r == 0 ? pack_head(ly, e, path, 0755, err) : r;
}

static int take_all(struct layer *ly, struct dbx_err *err)
{
    struct archive_entry *e;
    const void *rest;
    size_t heads = 0;
    la_ssize_t n;
    int r;
    while ((r = archive_read_next_header(ly->ar, &e)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
        if (++heads > ly->limits->entries)
            return dbx_err_set(err, -E2BIG, DBX_LIMIT, "the layer has more than %zu entries",
                               ly->limits->entries);
        r = take(ly, e, err);
        if (r < 0)
            return r;
    }
    if (r != ARCHIVE_EOF)
        return broken(ly, err);
    while ((n = on_read(ly->ar, ly, &rest)) > 0) /* behind the archive: the digest is of it all */
        ;
    return n < 0 ? broken(ly, err) : 0;
}

/* ---- begin and end ---- */

static void open_archives(struct layer *ly)
{
    ly->ar = archive_read_new();
    dbx_assert(ly->ar);
    archive_read_support_filter_gzip(ly->ar);
    archive_read_support_filter_zstd(ly->ar);
    archive_read_support_format_tar(ly->ar);
    if (ly->out < 0)
        return;
    ly->packed = archive_write_new();
    dbx_assert(ly->packed);
    archive_write_set_format_pax_restricted(ly->packed);
    archive_write_set_bytes_in_last_block(ly->packed, 1); /* no zeros behind the last frame */
    archive_write_add_filter_zstd(ly->packed);
    archive_write_set_filter_option(ly->packed, "zstd", "compression-level", "3");
}

static int finish(struct layer *ly, int r, struct dbx_err *err)
{
    if (ly->packed && archive_write_close(ly->packed) != ARCHIVE_OK && r == 0)
        r = dbx_err_set(err, ly->io_error ? ly->io_error : -EIO, DBX_INTERNAL, "pack the layer");
    if (r == 0 && ly->root >= 0 && syncfs(ly->root) < 0)
        r = dbx_err_sys(err, "write the layer");
    dbx_sha256_peek(ly->in_sha, ly->n.in);
    dbx_sha256_peek(ly->out_sha, ly->n.out);
    archive_read_free(ly->ar);
    if (ly->packed)
        archive_write_free(ly->packed);
    dbx_sha256_free(ly->in_sha);
    dbx_sha256_free(ly->out_sha);
    dbx_map_free(ly->seen);
    free(ly->block);
    return r;
}

int layer_extract(int in, int root, int out, const struct layer_limits *limits,
                  struct layer_result *ret, struct dbx_err *err)
{
    struct layer ly = {.limits = limits,
                       .seen = dbx_map_new(),
                       .in = in,
                       .root = root,
                       .out = out,
                       .in_sha = dbx_sha256_new(),
                       .out_sha = dbx_sha256_new(),
                       .block = dbx_malloc(BLOCK)};
    int r = 0;
    open_archives(&ly);
    if (archive_read_open(ly.ar, &ly, NULL, on_read, NULL) != ARCHIVE_OK)
        r = broken(&ly, err);
    if (r == 0 && ly.packed &&
        archive_write_open(ly.packed, &ly, NULL, on_write, NULL) != ARCHIVE_OK)
        r = dbx_err_set(err, -EIO, DBX_INTERNAL, "pack the layer");
    if (r == 0)
        r = take_all(&ly, err);
    r = finish(&ly, r, err);
    *ret = ly.n;
    return r;
}
