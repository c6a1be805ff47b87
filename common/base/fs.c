/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/fs.h"
#include "common/base/fd.h"
#include "common/base/rand.h"
#include "common/base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define READ_CHUNK 65536
#define OPENAT2_TRIES 16 /* EAGAIN: a rename raced with the walk */

int dbx_fs_read(const char *path, size_t max, struct dbx_buf *ret, struct dbx_err *err)
{
    dbx_buf_init(ret, max);
    DBX_CLEANUP(dbx_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return dbx_err_sys(err, "open '%s'", path);
    for (;;) {
        size_t room = max - ret->len < READ_CHUNK ? max - ret->len : READ_CHUNK;
        uint8_t probe; /* at the maximum: is there one more? */
        int r = dbx_buf_reserve(ret, room);
        if (r < 0) {
            dbx_buf_done(ret);
            return dbx_err_set(err, r, DBX_LIMIT, "read '%s': out of memory", path);
        }
        ssize_t n = read(fd, room ? ret->data + ret->len : &probe, room ? room : 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            r = dbx_err_sys(err, "read '%s'", path);
            dbx_buf_done(ret);
            return r;
        }
        if (n > 0 && room == 0) {
            dbx_buf_done(ret);
            return dbx_err_set(err, -E2BIG, DBX_LIMIT, "'%s' has more than %zu bytes", path, max);
        }
        ret->len += (size_t)n;
        ret->data[ret->len] = 0;
        if (n == 0)
            return 0;
    }
}

/* The folder that path is in; the caller frees it. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return dbx_strdup(".");
    return slash == path ? dbx_strdup("/") : dbx_strndup(path, (size_t)(slash - path));
}

static int sync_parent(const char *path, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *dir = parent_of(path);
    DBX_CLEANUP(dbx_closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return dbx_err_sys(err, "sync folder '%s'", dir);
    return 0;
}

static int write_and_sync(int fd, const char *path, const void *data, size_t len, mode_t mode,
                          struct dbx_err *err)
{
    int r = dbx_write_all(fd, data, len);
    if (r < 0) {
        errno = -r;
        return dbx_err_sys(err, "write '%s'", path);
    }
    if (fchmod(fd, mode) < 0) /* whatever the umask */
        return dbx_err_sys(err, "chmod '%s'", path);
    if (fsync(fd) < 0)
        return dbx_err_sys(err, "sync '%s'", path);
    return 0;
}

int dbx_fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode,
                        struct dbx_err *err)
{
    uint64_t unique;
    dbx_random(&unique, sizeof(unique));
    DBX_CLEANUP(dbx_freep) char *tmp = dbx_asprintf("%s.tmp.%016" PRIx64, path, unique);
    DBX_CLEANUP(dbx_closep)
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0600);
    if (fd < 0)
        return dbx_err_sys(err, "create '%s'", tmp);
    int r = write_and_sync(fd, tmp, data, len, mode, err);
    if (r == 0 && rename(tmp, path) < 0)
        r = dbx_err_sys(err, "rename '%s' to '%s'", tmp, path);
    if (r < 0) {
        (void)unlink(tmp);
        return r;
    }
    return sync_parent(path, err);
}

int dbx_fs_mkdirs(const char *path, mode_t mode, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *copy = dbx_strdup(path);
    for (char *p = copy; *p;) {
        p += strspn(p, "/");
        p += strcspn(p, "/");
        char saved = *p;
        *p = '\0';
        if (*copy && mkdir(copy, mode) < 0) {
            int e = errno; /* EROFS and EACCES may stand before a folder that exists */
            struct stat st;
            if (stat(copy, &st) < 0 || !S_ISDIR(st.st_mode)) {
                errno = e;
                return dbx_err_sys(err, "make folder '%s'", copy);
            }
        }
        *p = saved;
    }
    return 0;
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .resolve = resolve};
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE)
        how.mode = mode;
    for (int i = 0; i < OPENAT2_TRIES; i++) {
        long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
        if (fd >= 0)
            return (int)fd;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return -EAGAIN;
}

int dbx_fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
    return open_at(dirfd, path, flags, mode,
                   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}
