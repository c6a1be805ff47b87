/* SPDX-License-Identifier: Apache-2.0 */
/* Objects as files of a folder, which several processes of one machine may share. Everything is
 * done on libuv's threads.
 *
 * A write goes to a file of its own below ".tmp", is made durable, and is then linked to its name:
 * link() fails where something stands, so an object is never replaced and never torn, and who is
 * killed in between leaves a file below ".tmp" alone (removed by an opening an hour later). The
 * folder is made durable before the write counts. The folder's group may read (who shares it with
 * another user sets its group id bit). fsync that fails is never repeated on the same
 * file: the file goes, and the write has failed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/ext/blob_int.h"
#include "common/io/loop.h"

#define TMP ".tmp"
#define TMP_AGE 3600 /* seconds */

struct folder {
    unsigned refs; /* the store's, and one for each operation in a thread */
    int fd;
};

struct work {
    struct folder *dir; /* referenced */
    struct dbx_blob_op *op;
};

static void unref(struct folder *dir)
{
    if (--dir->refs > 0)
        return;
    dbx_close(dir->fd);
    free(dir);
}

static int sync_folder(int dir, const char *path, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_closep)
    int fd = dbx_fs_open_beneath(dir, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 || fsync(fd) < 0) {
        errno = fd < 0 ? -fd : errno;
        return dbx_err_sys(err, "sync folder '%s'", path);
    }
    return 0;
}

/* The folders above a name; one that is made is durable in the one above. */
static int make_folders(int dir, const char *name, struct dbx_err *err)
{
    char path[DBX_BLOB_NAME + 1], above[DBX_BLOB_NAME + 1] = ".";
    for (size_t i = 0; name[i]; i++) {
        path[i] = name[i];
        if (name[i] != '/')
            continue;
        path[i] = '\0';
        if (mkdirat(dir, path, 0750) == 0) {
            int r = sync_folder(dir, above, err);
            if (r < 0)
                return r;
        } else if (errno != EEXIST) {
            return dbx_err_sys(err, "make folder '%s'", path);
        }
        (void)dbx_strcpy(above, sizeof(above), path);
        path[i] = '/';
    }
    return 0;
}

static int sync_above(int dir, const char *name, struct dbx_err *err)
{
    const char *slash = strrchr(name, '/');
    DBX_CLEANUP(dbx_freep)
    char *above = slash ? dbx_strndup(name, (size_t)(slash - name)) : dbx_strdup(".");
    return sync_folder(dir, above, err);
}

static int write_tmp(int dir, const char *tmp, const struct dbx_buf *data, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_closep)
    int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0)
        return dbx_err_sys(err, "create an object");
    int r = dbx_write_all(fd, data->data, data->len);
    if (r < 0) {
        errno = -r;
        return dbx_err_sys(err, "write an object");
    }
    return fsync(fd) < 0 ? dbx_err_sys(err, "sync an object") : 0;
}

static void put(int dir, struct dbx_blob_op *op)
{
    struct stat st;
    char tmp[64];
    uint64_t unique;
    if (fstatat(dir, op->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        (void)sync_above(dir, op->name, &op->err); /* who linked it may not have come so far */
        return;
    }
    dbx_random(&unique, sizeof(unique));
    snprintf(tmp, sizeof(tmp), TMP "/%016" PRIx64, unique);
    int r = make_folders(dir, op->name, &op->err);
    if (r == 0)
        r = write_tmp(dir, tmp, &op->data, &op->err);
    if (r == 0 && linkat(dir, tmp, dir, op->name, 0) < 0 && errno != EEXIST)
        r = dbx_err_sys(&op->err, "link an object");
    (void)unlinkat(dir, tmp, 0);
    if (r == 0)
        (void)sync_above(dir, op->name, &op->err);
}

static int read_at(int fd, off_t from, size_t len, struct dbx_buf *out)
{
    int r = dbx_buf_reserve(out, len);
    while (r == 0 && out->len < len) {
        ssize_t n = pread(fd, out->data + out->len, len - out->len, from + (off_t)out->len);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -EBADMSG;
        out->len += n > 0 ? (size_t)n : 0;
        out->data[out->len] = 0;
    }
    return r;
}

static void get(int dir, struct dbx_blob_op *op)
{
    struct stat st = {0};
    DBX_CLEANUP(dbx_closep) int fd = dbx_fs_open_beneath(dir, op->name, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &st) < 0) {
        errno = fd < 0 ? -fd : errno;
        (void)dbx_err_sys(&op->err, "open object '%s'", op->name);
        return;
    }
    uint64_t size = (uint64_t)st.st_size;
    uint64_t from = op->range.from < size ? op->range.from : size;
    uint64_t len = size - from;
    if (op->range.len && op->range.len < len)
        len = op->range.len;
    if (len > op->data.max) {
        (void)dbx_err_set(&op->err, -E2BIG, DBX_LIMIT, "object '%s' is larger than wanted",
                          op->name);
        return;
    }
    int r = read_at(fd, (off_t)from, (size_t)len, &op->data);
    if (r < 0) {
        errno = -r;
        (void)dbx_err_sys(&op->err, "read object '%s'", op->name);
    }
    dbx_blob__verify(op);
}

static void del(int dir, struct dbx_blob_op *op)
{
    if (unlinkat(dir, op->name, 0) < 0) {
        if (errno != ENOENT)
            (void)dbx_err_sys(&op->err, "remove object '%s'", op->name);
        return;
    }
    (void)sync_above(dir, op->name, &op->err);
}

/* Of the operation only what a thread needs is touched here. */
static void do_work(void *user)
{
    struct work *wk = user;
    static void (*const kinds[])(int dir, struct dbx_blob_op *op) = {put, get, del};
    kinds[wk->op->kind](wk->dir->fd, wk->op);
}

static void on_done(void *user)
{
    struct work *wk = user;
    if (wk->op->b)
        dbx_blob__finish(wk->op);
    else
        dbx_blob__op_free(wk->op);
    unref(wk->dir);
    free(wk);
}

static void file_start(void *be, struct dbx_blob_op *op)
{
    struct work *wk = DBX_NEW(struct work);
    wk->dir = be;
    wk->dir->refs++;
    wk->op = op;
    dbx_loop_work(dbx_blob__loop(op), do_work, on_done, wk);
}

static bool file_abandon(void *be, struct dbx_blob_op *op)
{
    (void)be;
    (void)op;
    return true;
}

static void file_free(void *be)
{
    unref(be);
}

static void remove_old(int dir)
{
    struct stat st;
    const struct dirent *e;
    int fd = openat(dir, TMP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    while (d && (e = readdir(d)))
        if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            st.st_mtime < time(NULL) - TMP_AGE)
            (void)unlinkat(fd, e->d_name, 0);
    if (d)
        (void)closedir(d);
    else
        dbx_close(fd);
}

int dbx_blob__file_open(const struct dbx_blobs_opts *opts, const char *url, void **ret,
                        struct dbx_err *err)
{
    (void)opts;
    if (url[0] != '/')
        return dbx_err_field(err, "blobs", "file: wants an absolute path");
    int r = access(url, F_OK) == 0 ? 0 : dbx_fs_mkdirs(url, 0750, err);
    if (r < 0)
        return r;
    int fd = open(url, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return dbx_err_sys(err, "open '%s'", url);
    if (faccessat(fd, ".", W_OK, AT_EACCESS) == 0) { /* who only reads needs neither */
        (void)mkdirat(fd, TMP, 0750);
        remove_old(fd);
    }
    struct folder *dir = DBX_NEW(struct folder);
    dir->refs = 1;
    dir->fd = fd;
    *ret = dir;
    return 0;
}

const struct dbx_blob_backend dbx_blob__file = {
    .start = file_start, .abandon = file_abandon, .free = file_free};
