/* SPDX-License-Identifier: Apache-2.0 */
/* Trees in which a user may have made anything, after his last process has gone: nothing changes
 * while it is walked, so ".." leads back. Bounded in depth and number; what is beyond is an error,
 * and the sandbox is not used again. */
#include "shim/init/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 128
#define MAX_ENTRIES 50000

struct walk {
    uid_t uid;
    unsigned depth, entries, removed;
    int (*share)(int dir); /* instead of removing; of each folder. 0 or errno */
};

static int walk_folder(struct walk *w, int dir);

/* Its owner may have taken away his own right to look. */
static int open_folder(const struct walk *w, int at, const char *name, const struct stat *st)
{
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    if (st->st_uid == w->uid && (st->st_mode & 0700) != 0700 && fchmodat(at, name, 0700, 0) < 0)
        return -1;
    return openat(at, name, flags);
}

static int walk_entry(struct walk *w, int dir, const char *name)
{
    struct stat st;
    int error = 0;
    if (w->entries++ > MAX_ENTRIES)
        return E2BIG;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno;
    bool his = !w->share && st.st_uid == w->uid;
    if (S_ISDIR(st.st_mode)) {
        int sub = w->depth >= MAX_DEPTH ? -1 : open_folder(w, dir, name, &st);
        if (sub < 0)
            return w->depth >= MAX_DEPTH ? E2BIG : errno;
        w->depth++;
        error = walk_folder(w, sub);
        w->depth--;
    }
    if (error || !his)
        return error;
    w->removed++;
    return unlinkat(dir, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0 ? errno : 0;
}

/* Takes dir. Names that are removed may hide others from readdir: read until a pass removes
 * nothing.
 */
static int walk_folder(struct walk *w, int dir)
{
    int error = w->share ? w->share(dir) : 0;
    DIR *d = error ? NULL : fdopendir(dir);
    if (!d) {
        error = error ? error : errno;
        close(dir);
        return error;
    }
    unsigned before;
    do {
        before = w->removed;
        rewinddir(d);
        for (struct dirent *e; !error && (e = readdir(d));)
            if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
                error = walk_entry(w, dir, e->d_name);
    } while (!error && w->removed != before);
    closedir(d);
    return error;
}

static int walk(struct walk *w, const char *root)
{
    int dir = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT ? 0 : errno;
    return walk_folder(w, dir);
}

static int share(int dir)
{
    struct stat st;
    if (fstat(dir, &st) < 0)
        return errno;
    if (st.st_uid == 0)
        return 0;
    return fchown(dir, 0, 0) < 0 || fchmod(dir, 01777) < 0 ? errno : 0;
}

int init_wipe_share(const char *root)
{
    struct walk w = {.share = share};
    return walk(&w, root);
}

int init_wipe_tree(const char *root, uid_t uid)
{
    struct walk w = {.uid = uid};
    return walk(&w, root);
}
