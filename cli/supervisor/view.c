/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/supervisor/view.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/base/str.h"

#define MAX_COPY (4u << 20)
#define OLD_FLAGS (MS_NOSUID | MS_NODEV)

void view_add(struct view *v, const char *path, bool own)
{
    dbx_assert(v->n < VIEW_MAX);
    v->item[v->n].path = path;
    v->item[v->n++].own = own;
}

/* --- giving a tree to a user --- */

static struct {
    uid_t uid;
    gid_t gid;
    bool share;
} giving; /* nftw has no word for its caller's data */

static int give_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)at;
    if (type == FTW_NS || lchown(path, giving.uid, giving.gid) < 0)
        return -1;
    return giving.share && type == FTW_DP ? chmod(path, (st->st_mode & 0777) | S_ISGID | 0050) : 0;
}

int view_give(const char *path, uid_t uid, gid_t gid, mode_t mode, bool share, struct dbx_err *err)
{
    struct stat st;
    int r = dbx_fs_mkdirs(path, mode, err);
    if (r < 0)
        return r;
    if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return dbx_err_set(err, -ENOTDIR, DBX_INVALID, "'%s' is not a folder", path);
    /* The top comes last: a walk that was interrupted is begun anew. */
    giving.uid = uid;
    giving.gid = gid;
    giving.share = share;
    if ((st.st_uid != uid || st.st_gid != gid) &&
        nftw(path, give_one, 32, FTW_PHYS | FTW_DEPTH | FTW_MOUNT) != 0)
        return dbx_err_sys(err, "give '%s' to user %u", path, uid);
    return chmod(path, mode) < 0 ? dbx_err_sys(err, "mode of '%s'", path) : 0;
}

/* --- the namespace --- */

static int inside(const struct view *v, const char *path, char out[static PATH_MAX],
                  struct dbx_err *err)
{
    if (path[0] != '/' || (size_t)snprintf(out, PATH_MAX, "%s%s", v->root, path) >= PATH_MAX)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "'%s' is not an absolute path", path);
    return 0;
}

static int make_parent(const char *target, struct dbx_err *err)
{
    char dir[PATH_MAX];
    (void)dbx_strcpy(dir, sizeof(dir), target);
    *strrchr(dir, '/') = '\0';
    return dbx_fs_mkdirs(dir, 0755, err);
}

/* Of a whole tree where the kernel can (5.12), else of its top. */
static int set_flags(const char *target, bool writable, struct dbx_err *err)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                          (writable ? MOUNT_ATTR_NOEXEC : MOUNT_ATTR_RDONLY)};
    if (syscall(SYS_mount_setattr, AT_FDCWD, target, AT_RECURSIVE, &attr, sizeof(attr)) == 0)
        return 0;
    unsigned long flags = MS_REMOUNT | MS_BIND | OLD_FLAGS | (writable ? MS_NOEXEC : MS_RDONLY);
    return mount(NULL, target, NULL, flags, NULL) < 0 ? dbx_err_sys(err, "protect '%s'", target)
                                                      : 0;
}

static int bind_folder(const char *path, const char *target, bool writable, struct dbx_err *err)
{
    int r = dbx_fs_mkdirs(target, 0755, err);
    if (r < 0)
        return r;
    if (mount(path, target, NULL, MS_BIND | MS_REC, NULL) < 0)
        return dbx_err_sys(err, "show '%s'", path);
    return set_flags(target, writable, err);
}

static int copy_file(const char *path, const char *target, uid_t uid, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    int r = make_parent(target, err);
    if (r == 0)
        r = dbx_fs_read(path, MAX_COPY, &buf, err);
    if (r == 0)
        r = dbx_fs_write_atomic(target, buf.data, buf.len, 0400, err);
    if (r == 0 && chown(target, uid, (gid_t)uid) < 0)
        r = dbx_err_sys(err, "give '%s'", target);
    return r;
}

/* A file in a folder that is shown: its copy is laid over it (or over what its link leads to). */
static int cover_file(const struct view *v, const char *path, uid_t uid, struct dbx_err *err)
{
    char copy[PATH_MAX], target[PATH_MAX], real[PATH_MAX], name[32];
    static unsigned n;
    if (!realpath(path, real))
        return dbx_err_sys(err, "find '%s'", path);
    snprintf(name, sizeof(name), "/.shown/%u", n++);
    int r = inside(v, name, copy, err);
    if (r == 0)
        r = inside(v, real, target, err);
    if (r == 0)
        r = copy_file(path, copy, uid, err);
    if (r == 0 && mount(copy, target, NULL, MS_BIND, NULL) < 0)
        r = dbx_err_sys(err, "show '%s'", path);
    return r == 0 ? set_flags(target, false, err) : r;
}

/* What stands there already, because a folder above it is shown, needs nothing. */
static bool is_there(const struct stat *st, const char *target)
{
    struct stat there;
    return stat(target, &there) == 0 && there.st_dev == st->st_dev && there.st_ino == st->st_ino;
}

static int show(const struct view *v, const char *path, uid_t uid, struct dbx_err *err)
{
    char target[PATH_MAX];
    struct stat st;
    int r = inside(v, path, target, err);
    if (r < 0 || stat(path, &st) < 0)
        return r; /* what is missing is the daemon's to tell */
    if (S_ISDIR(st.st_mode))
        return is_there(&st, target) ? 0 : bind_folder(path, target, false, err);
    if (!S_ISREG(st.st_mode))
        return 0;
    return access(target, F_OK) == 0 ? cover_file(v, path, uid, err)
                                     : copy_file(path, target, uid, err);
}

static int own(const struct view *v, const char *path, struct dbx_err *err)
{
    char target[PATH_MAX];
    int r = inside(v, path, target, err);
    return r == 0 ? bind_folder(path, target, true, err) : r;
}

/* Links as links: /bin is usr/bin nowadays. */
static int show_system(const struct view *v, uid_t uid, struct dbx_err *err)
{
    static const char *const dirs[] = {"/usr",   "/bin",   "/sbin", "/lib",
                                       "/lib32", "/lib64", "/etc",  "/opt/devbox"};
    char target[PATH_MAX], link[PATH_MAX], real[PATH_MAX];
    int r = 0;
    for (size_t i = 0; r == 0 && i < DBX_ARRAY_LEN(dirs); i++) {
        ssize_t n = readlink(dirs[i], link, sizeof(link) - 1);
        if (n < 0) {
            r = show(v, dirs[i], uid, err);
            continue;
        }
        link[n] = '\0';
        r = inside(v, dirs[i], target, err);
        if (r == 0 && symlink(link, target) < 0)
            r = dbx_err_sys(err, "link '%s'", target);
    }
    /* Where names are resolved is often written elsewhere, and anew. */
    if (r == 0 && realpath("/etc/resolv.conf", real) && !dbx_starts_with(real, "/etc/")) {
        *strrchr(real, '/') = '\0';
        r = show(v, real, uid, err);
    }
    return r;
}

static int show_devices(const struct view *v, struct dbx_err *err)
{
    static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                                          "/dev/urandom"};
    char target[PATH_MAX];
    int r = 0;
    for (size_t i = 0; r == 0 && i < DBX_ARRAY_LEN(devices); i++) {
        if ((r = inside(v, devices[i], target, err)) < 0 || (r = make_parent(target, err)) < 0)
            return r;
        int fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || mount(devices[i], target, NULL, MS_BIND, NULL) < 0)
            r = dbx_err_sys(err, "show '%s'", devices[i]);
        if (fd >= 0)
            (void)close(fd);
    }
    return r;
}

/* Others' processes cannot be seen. Before 5.8 that was said of the host's own /proc too: there it
 * is shown as it is. */
static int show_proc(const struct view *v, struct dbx_err *err)
{
    struct utsname u;
    char target[PATH_MAX];
    char *minor = NULL;
    int r = inside(v, "/proc", target, err);
    if (r < 0)
        return r;
    bool own_options =
        uname(&u) == 0 &&
        (strtol(u.release, &minor, 10) > 5 ||
         (strtol(u.release, &minor, 10) == 5 && *minor == '.' && strtol(minor + 1, NULL, 10) >= 8));
    unsigned long flags = OLD_FLAGS | MS_NOEXEC | MS_RDONLY;
    if (dbx_fs_mkdirs(target, 0555, err) == 0 && own_options &&
        mount("proc", target, "proc", flags, "hidepid=2") == 0)
        return 0;
    return bind_folder("/proc", target, false, err);
}

static int mount_tmpfs(const char *target, const char *options, unsigned long flags,
                       struct dbx_err *err)
{
    int r = dbx_fs_mkdirs(target, 0755, err);
    if (r == 0 && mount("tmpfs", target, "tmpfs", flags, options) < 0)
        r = dbx_err_sys(err, "a tmpfs on '%s'", target);
    return r;
}

static int build(const struct view *v, uid_t uid, struct dbx_err *err)
{
    char tmp[PATH_MAX];
    int r = mount_tmpfs(v->root, "mode=755,size=16m", OLD_FLAGS, err);
    if (r == 0)
        r = inside(v, "/tmp", tmp, err);
    if (r == 0)
        r = mount_tmpfs(tmp, "mode=1777,size=64m", OLD_FLAGS | MS_NOEXEC, err);
    if (r == 0)
        r = show_system(v, uid, err);
    if (r == 0)
        r = show_devices(v, err);
    if (r == 0)
        r = show_proc(v, err);
    for (size_t i = 0; r == 0 && i < v->n; i++)
        if (!v->item[i].own)
            r = show(v, v->item[i].path, uid, err);
    for (size_t i = 0; r == 0 && i < v->n; i++)
        if (v->item[i].own)
            r = own(v, v->item[i].path, err);
    return r;
}

static bool is_owner(const char *path, uid_t uid)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == uid;
}

int view_enter(const struct view *v, uid_t uid, struct dbx_err *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < v->n; i++)
        if (v->item[i].own && !is_owner(v->item[i].path, uid)) /* else it may be shared */
            r = view_give(v->item[i].path, uid, (gid_t)uid, 0700, false, err);
    if (r < 0)
        return r;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
        return dbx_err_sys(err, "a mount namespace");
    if ((r = build(v, uid, err)) < 0)
        return r;
    if (chdir(v->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
        umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
        mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | OLD_FLAGS | MS_RDONLY, NULL) < 0)
        return dbx_err_sys(err, "enter '%s'", v->root);
    return 0;
}
