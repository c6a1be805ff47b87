/* SPDX-License-Identifier: Apache-2.0 */
/* Removing a tree that a stranger made: it may be deeper than any stack or descriptor table, and
 * deeper than PATH_MAX. So nothing descends. Of each folder in the tree's root the files are
 * unlinked, and folders in it that are not empty are renamed up into the root under a fresh name,
 * where a later pass finds them. Three descriptors and no memory, whatever the depth.
 * RESOLVE_NO_XDEV keeps off what is mounted in the tree: -EXDEV. */
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/rand.h"
#include "common/base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_PASSES                                                                                 \
    (1u << 22) /* one a level at worst; only somebody who goes on making folders gets there */

struct removal {
    int top; /* borrowed: the tree's root */
    uint64_t unique, next;
};

static void closedirp(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

/* The root's path is ours; a name in the tree must be a folder right there, and not one that is
 * mounted. */
static int open_folder(int dirfd, const char *name, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    if (dirfd == AT_FDCWD)
        how.resolve = 0;
    long fd = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
    return fd < 0 ? -errno : (int)fd;
}

/* Opens a folder and makes sure that we may change what is in it (packages often come with
 * read-only folders). */
static int open_writable(int dirfd, const char *name)
{
    DBX_CLEANUP(dbx_closep) int fd = open_folder(dirfd, name, O_RDONLY);
    struct stat st;
    if (fd == -EACCES) {
        DBX_CLEANUP(dbx_closep) int handle = open_folder(dirfd, name, O_PATH);
        if (handle < 0)
            return handle;
        char proc[64]; /* fchmod refuses an O_PATH descriptor; the magic link names exactly this
                          folder */
        snprintf(proc, sizeof(proc), "/proc/self/fd/%d", handle);
        if (chmod(proc, 0700) < 0)
            return -errno;
        fd = open_folder(dirfd, name, O_RDONLY);
    }
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    if ((st.st_mode & 0700) != 0700 && fchmod(fd, 0700) < 0)
        return -errno;
    return DBX_TAKE_FD(fd);
}

/* Renames a non-empty folder into the root. Changing its ".." takes the right to write to it. */
static int lift(struct removal *rm, int dirfd, const char *name)
{
    char fresh[64];
    for (;;) {
        snprintf(fresh, sizeof(fresh), ".dbx-rm.%016" PRIx64 ".%" PRIu64, rm->unique, rm->next++);
        if (renameat(dirfd, name, rm->top, fresh) == 0)
            return 0;
        if (errno == EACCES) {
            int fd = open_writable(dirfd, name);
            if (fd < 0)
                return fd;
            dbx_close(fd);
            if (renameat(dirfd, name, rm->top, fresh) == 0)
                return 0;
        }
        if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
            return -errno;
    }
}

/* 0: gone. -ENOTEMPTY: a folder with something in it. */
static int remove_one(int dirfd, const char *name)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    return errno == EEXIST ? -ENOTEMPTY : -errno;
}

static int next_name(DIR *dir, const char **ret_name)
{
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(dir);
        if (!e) {
            *ret_name = NULL;
            return -errno;
        }
        if (dbx_streq(e->d_name, ".") || dbx_streq(e->d_name, ".."))
            continue;
        *ret_name = e->d_name;
        return 0;
    }
}

/* Empties one folder of the root; its own folders are lifted. */
static int empty_folder(struct removal *rm, const char *folder)
{
    int fd = open_writable(rm->top, folder);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    DBX_CLEANUP(closedirp) DIR *dir = fdopendir(fd);
    if (!dir) {
        int r = -errno;
        dbx_close(fd);
        return r;
    }
    for (;;) {
        const char *name;
        int r = next_name(dir, &name);
        if (r < 0 || !name)
            return r;
        r = remove_one(fd, name);
        if (r == -ENOTEMPTY)
            r = lift(rm, fd, name);
        if (r < 0 && r != -ENOENT)
            return r;
    }
}

/* One pass over the root. *ret_left: whether anything was seen that this pass did not remove for
 * good. */
static int pass(struct removal *rm, DIR *dir, bool *ret_seen)
{
    rewinddir(dir);
    *ret_seen = false;
    for (;;) {
        const char *name;
        int r = next_name(dir, &name);
        if (r < 0 || !name)
            return r;
        *ret_seen = true;
        r = remove_one(rm->top, name);
        if (r == -ENOTEMPTY) {
            r = empty_folder(rm, name);
            if (r == 0)
                r = remove_one(rm->top, name);
        }
        if (r < 0 && r != -ENOTEMPTY)
            return r;
    }
}

static int empty_root(const char *path)
{
    int top = open_writable(AT_FDCWD, path);
    if (top < 0)
        return top;
    DBX_CLEANUP(closedirp) DIR *dir = fdopendir(top);
    if (!dir) {
        int r = -errno;
        dbx_close(top);
        return r;
    }
    struct removal rm = {.top = top};
    dbx_random(&rm.unique, sizeof(rm.unique));
    bool seen = true;
    for (unsigned i = 0; seen; i++) {
        if (i == MAX_PASSES)
            return -EBUSY;
        int r = pass(&rm, dir, &seen);
        if (r < 0)
            return r;
    }
    return 0;
}

int dbx_fs_remove_tree(const char *path, struct dbx_err *err)
{
    int r = remove_one(AT_FDCWD, path);
    if (r == -ENOTEMPTY) {
        r = empty_root(path);
        if (r == 0)
            r = remove_one(AT_FDCWD, path);
    }
    if (r == 0 || r == -ENOENT)
        return 0;
    errno = -r;
    return dbx_err_sys(err, "remove tree '%s'", path);
}
