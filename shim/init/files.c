/* SPDX-License-Identifier: Apache-2.0 */
/* Writes files into the tree of the user, who may have put anything there: links to elsewhere,
 * pipes, folders without permission. So it is done with the user's identity (what he may not touch,
 * init does not touch for him; what is made is his), one component at a time, never through a link.
 * Until somebody's program has run, nobody has put anything there: what is new then is made by uid
 * 0 and given to him, in four calls for a dozen. */
#include "shim/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct writer {
    char root_path[256];
    uid_t uid;
    gid_t gid;
    size_t watched;
    bool careful;  /* what follows is there, and init has the user's identity */
    bool switched; /* which is not the one that it has anyway */
    int root;
    int dir;         /* the folder of the last path, to save walking there again */
    char name[1025]; /* its path; empty: root itself */
};

int init_open_folder(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

void init_each_entry(const char *folder, void (*fn)(const struct init_folder_entry *e, void *user),
                     void *user)
{
    uint8_t room[4096] __attribute__((aligned(8)));
    int fd = init_open_folder(AT_FDCWD, folder);
    long n;
    while (fd >= 0 && (n = syscall(SYS_getdents64, fd, room, sizeof(room))) > 0)
        for (long at = 0; at < n;) {
            const struct init_folder_entry *e = (const void *)(room + at);
            fn(e, user);
            at += e->reclen;
        }
    if (fd >= 0)
        close(fd);
}

int init_make_folder(int at, const char *name, mode_t mode)
{
    int fd = init_open_folder(at, name);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    if (mkdirat(at, name, mode) < 0 && errno != EEXIST)
        return -1;
    return init_open_folder(at, name);
}

static void leave(const struct writer *w)
{
    if (w->dir != w->root)
        close(w->dir);
}

/* Makes w->dir the folder `path` (its first len bytes), which and whose parents are made. */
static int enter(struct writer *w, const char *path, size_t len)
{
    if (strlen(w->name) == len && !memcmp(w->name, path, len))
        return 0;
    int at = dup(w->root);
    for (size_t i = 0; at >= 0 && i < len;) {
        char name[256];
        size_t n = strcspn(path + i, "/");
        memcpy(name, path + i, n);
        name[n] = 0;
        int next = init_make_folder(at, name, 0755);
        int error = errno;
        close(at);
        errno = error;
        at = next;
        i += n + 1;
    }
    if (at < 0)
        return -1;
    leave(w);
    w->dir = at;
    memcpy(w->name, path, len);
    w->name[len] = 0;
    return 0;
}

/* ret_other: it has another mode. */
static int open_file(int at, const char *name, mode_t mode, bool *ret_other)
{
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    struct stat st;
    *ret_other = false;
    int fd = openat(at, name, flags | O_EXCL, mode);
    if (fd >= 0 || errno != EEXIST)
        return fd;
    fd = openat(at, name, flags, mode);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *ret_other = (st.st_mode & 07777) != mode;
        return fd;
    }
    if (fd >= 0)
        close(fd);
    else if (errno != ELOOP && errno != EACCES && errno != ENXIO)
        return -1;
    if (unlinkat(at, name, 0) < 0) /* a link, a pipe, a file he may not write */
        return -1;
    return openat(at, name, flags | O_EXCL, mode);
}

static int write_data(int fd, const uint8_t *data, uint64_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size > 1 << 20 ? 1 << 20 : (size_t)size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        size -= (uint64_t)n;
    }
    return 0;
}

/* A program may have put something else there: a folder with something in it stays. */
static int remove_one(int at, const char *name)
{
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    if (unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT || errno == ENOTEMPTY ||
        errno == EEXIST)
        return 0;
    return errno;
}

static int write_one(struct writer *w, const struct init_file *f)
{
    const char *slash = strrchr(f->path, '/');
    const char *name = slash ? slash + 1 : f->path;
    mode_t mode = f->mode ? f->mode : f->folder ? 0755 : 0644;
    if (enter(w, f->path, slash ? (size_t)(slash - f->path) : 0) < 0)
        return f->gone && (errno == ENOTDIR || errno == ELOOP) ? 0 : errno;
    if (f->gone)
        return remove_one(w->dir, name);
    bool other = false;
    int fd =
        f->folder ? init_make_folder(w->dir, name, mode) : open_file(w->dir, name, mode, &other);
    if (fd < 0)
        return errno;
    int error = 0;
    if (write_data(fd, f->data, f->size) < 0 || (other && fchmod(fd, mode) < 0))
        error = errno;
    close(fd);
    return error;
}

static int open_root(const char *root, uid_t uid, gid_t gid)
{
    int fd = init_open_folder(AT_FDCWD, root);
    if (fd >= 0 || errno != ENOENT || mkdir(root, 0755) < 0)
        return fd;
    fd = init_open_folder(AT_FDCWD, root);
    if (fd >= 0 && geteuid() == 0 && fchown(fd, uid, gid) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Returns 0 or errno; text says where. */
static int begin_careful(struct init *in, struct writer *w, char *text, size_t text_size)
{
    if (w->careful)
        return 0;
    w->root = w->dir = open_root(w->root_path, w->uid, w->gid);
    if (w->root < 0) {
        snprintf(text, text_size, "%s", w->root_path);
        return errno;
    }
    w->careful = true;
    w->switched = geteuid() == 0;
    /* only the effective ids: with the real uid 0, the user can send init no signal meanwhile */
    if (w->switched && (setegid(w->gid) < 0 || seteuid(w->uid) < 0))
        return errno;
    w->watched = init_watch_before(in, w->root_path);
    return 0;
}

static void end_careful(struct init *in, struct writer *w)
{
    if (!w->careful)
        return;
    init_watch_after(in, w->watched);
    leave(w);
    if (w->switched && (seteuid(0) < 0 || setegid(0) < 0))
        _exit(70); /* init without its identity is of no use */
    close(w->root);
}

static int write_carefully(struct init *in, struct writer *w, const struct init_file *f)
{
    if (init_watch_holds(w->watched, f->path))
        return 0;
    int r = write_one(w, f);
    init_watch_wrote(in, w->watched, f, r == 0);
    return r;
}

/* A file in the root itself, where none is yet. False: it is to be made carefully. */
static bool write_first(const struct init *in, const struct writer *w, const struct init_file *f,
                        int *ret_error)
{
    char path[sizeof(w->root_path) + INIT_MAX_PATH + 2];
    if (w->careful || in->begun || !(in->features & INIT_CAN_SETUID) || f->gone || f->folder ||
        strchr(f->path, '/'))
        return false;
    snprintf(path, sizeof(path), "%s/%s", w->root_path, f->path);
    int fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, f->mode ? f->mode : 0644);
    if (fd < 0)
        return false;
    bool done = fchown(fd, w->uid, w->gid) == 0 && write_data(fd, f->data, f->size) == 0;
    *ret_error = done ? 0 : errno;
    close(fd);
    return true;
}

static int write_block(struct init *in, struct writer *w, const uint8_t *block, size_t len,
                       uint64_t *ret_count, char *text, size_t text_size)
{
    struct init_files_iter it = {0};
    struct init_file f;
    int r;
    while ((r = init_files_next(block, len, &it, &f)) == 0) {
        if (!write_first(in, w, &f, &r)) {
            r = begin_careful(in, w, text, text_size);
            if (r)
                return r;
            r = write_carefully(in, w, &f);
        }
        if (r) {
            snprintf(text, text_size, "%s", f.path);
            return r;
        }
        init_park_wrote(in, w->root_path, &f);
        ++*ret_count;
    }
    if (r > 0)
        return r;
    /* the root is there, even if nothing is in it */
    return *ret_count ? 0 : begin_careful(in, w, text, text_size);
}

int init_write_files(struct init *in, const uint8_t *body, size_t len, uint64_t *ret_count,
                     char *text, size_t text_size)
{
    struct init_files fixed;
    const char *name;
    const uint8_t *block;
    size_t block_len;
    int r = init_decode_files(body, len, &fixed, &name, &block, &block_len);
    *ret_count = 0;
    if (r)
        return r;
    struct writer w = {.uid = fixed.uid, .gid = fixed.gid, .watched = SIZE_MAX};
    memcpy(w.root_path, name, fixed.root_len);
    w.root_path[fixed.root_len] = 0;
    if (init_watch_is(w.root_path))
        r = begin_careful(in, &w, text, text_size);
    if (!r)
        r = write_block(in, &w, block, block_len, ret_count, text, text_size);
    end_careful(in, &w);
    return r;
}
