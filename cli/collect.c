/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/collect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/base/str.h"
#include "common/proto/path.h"

#define MAX_DEPTH 64

struct walk {
    struct cli_files files;
    size_t cap;
    cli_skipped_fn *skipped;
    void *user;
};

void cli_files_done(struct cli_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        free(files->v[i].path);
        free(files->v[i].data);
    }
    free(files->v);
    *files = (struct cli_files){0};
}

const struct cli_file *cli_files_find(const struct cli_files *files, const char *path)
{
    for (size_t i = 0; i < files->n; i++)
        if (strcmp(files->v[i].path, path) == 0)
            return &files->v[i];
    return NULL;
}

/* The size may change while it is read: what counts is what was read. */
static int read_content(int fd, const char *shown, size_t room, struct cli_file *ret,
                        struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) uint8_t *data = NULL;
    size_t len = 0, cap = 0;
    for (;;) {
        if (len > room)
            return dbx_err_set(err, -E2BIG, DBX_LIMIT,
                               "more than %u MiB of files (at '%s'); that much cannot be sent",
                               CLI_MAX_BYTES >> 20, shown);
        if (len == cap) {
            cap = cap ? cap * 2 : 16384; /* bounded: room is checked before each growth */
            data = dbx_realloc(data, cap);
        }
        ssize_t n = read(fd, data + len, cap - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return dbx_err_sys(err, "read '%s'", shown);
        if (n == 0)
            break;
        len += (size_t)n;
    }
    ret->data = DBX_TAKE(data);
    ret->size = len;
    return 0;
}

static int add_file(struct walk *w, int fd, const char *path, struct dbx_err *err)
{
    struct cli_file f = {0};
    int r = dbx_path_check(path, strlen(path), "path", err);
    if (r < 0)
        return dbx_err_wrap(err, r, "'%.120s' cannot be sent", path);
    if (w->files.n == CLI_MAX_FILES)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT,
                           "more than %d files (at '%s'); that many cannot be sent", CLI_MAX_FILES,
                           path);
    r = read_content(fd, path, CLI_MAX_BYTES - w->files.bytes, &f, err);
    if (r < 0)
        return r;
    if (w->files.n == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 16;
        w->files.v = dbx_realloc(w->files.v, w->cap * sizeof(*w->files.v));
    }
    f.path = dbx_strdup(path);
    w->files.bytes += f.size;
    w->files.v[w->files.n++] = f;
    return 0;
}

/* Why a folder of that name is left out; NULL: it is not. */
static const char *left_out(const char *name)
{
    static const char *const made[] = {"node_modules", "target", "__pycache__"};
    if (name[0] == '.')
        return "hidden folder";
    for (size_t i = 0; i < DBX_ARRAY_LEN(made); i++)
        if (strcmp(name, made[i]) == 0)
            return "made by tools";
    return NULL;
}

static int walk_folder(struct walk *w, int fd, const char *prefix, int depth, struct dbx_err *err);

static int walk_entry(struct walk *w, int dirfd, const char *name, const char *path, int depth,
                      struct dbx_err *err)
{
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return dbx_err_sys(err, "look at '%s'", path);
    bool folder = S_ISDIR(st.st_mode);
    const char *why = folder ? left_out(name) : NULL;
    if (S_ISLNK(st.st_mode))
        why = "symbolic link";
    else if (!folder && !S_ISREG(st.st_mode))
        why = "neither file nor folder";
    if (why) {
        w->skipped(path, why, w->user);
        return 0;
    }
    int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (folder ? O_DIRECTORY : 0);
    DBX_CLEANUP(dbx_closep) int fd = openat(dirfd, name, flags);
    if (fd < 0)
        return dbx_err_sys(err, "open '%s'", path);
    if (!folder)
        return add_file(w, fd, path, err);
    if (depth == MAX_DEPTH)
        return dbx_err_set(err, -ELOOP, DBX_LIMIT, "'%.120s': folders nested too deep", path);
    return walk_folder(w, fd, path, depth + 1, err);
}

static int walk_folder(struct walk *w, int fd, const char *prefix, int depth, struct dbx_err *err)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3), r = 0;
    DIR *dir = own < 0 ? NULL : fdopendir(own);
    if (!dir) {
        r = dbx_err_sys(err, "read the folder '%s'", prefix);
        dbx_close(own);
        return r;
    }
    while (r == 0) {
        errno = 0;
        const struct dirent *de = readdir(dir);
        if (!de) {
            if (errno)
                r = dbx_err_sys(err, "read the folder '%s'", prefix);
            break;
        }
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        DBX_CLEANUP(dbx_freep)
        char *path = dbx_asprintf("%s%s%s", prefix, *prefix ? "/" : "", de->d_name);
        r = walk_entry(w, fd, de->d_name, path, depth, err);
    }
    (void)closedir(dir);
    return r;
}

static int by_path(const void *a, const void *b)
{
    const struct cli_file *x = a, *y = b;
    return strcmp(x->path, y->path);
}

int cli_collect(const char *path, cli_skipped_fn *skipped, void *user, struct cli_files *ret,
                bool *ret_folder, struct dbx_err *err)
{
    struct walk w = {.skipped = skipped, .user = user};
    struct stat st;
    int r;
    DBX_CLEANUP(dbx_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return dbx_err_sys(err, "open '%s'", path);
    if (S_ISDIR(st.st_mode)) {
        r = walk_folder(&w, fd, "", 0, err);
        if (r == 0 && w.files.n == 0)
            r = dbx_err_set(err, -ENOENT, DBX_INVALID, "there is no file in '%s'", path);
    } else if (S_ISREG(st.st_mode)) {
        const char *slash = strrchr(path, '/');
        r = add_file(&w, fd, slash ? slash + 1 : path, err);
    } else {
        r = dbx_err_set(err, -EINVAL, DBX_INVALID, "'%s' is neither a file nor a folder", path);
    }
    if (r < 0) {
        cli_files_done(&w.files);
        return r;
    }
    if (w.files.n > 1)
        qsort(w.files.v, w.files.n, sizeof(*w.files.v), by_path);
    *ret = w.files;
    *ret_folder = S_ISDIR(st.st_mode);
    return 0;
}
