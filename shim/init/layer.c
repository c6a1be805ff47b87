/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of the node's store, over folders of the user's: an overlay, whose lower side is the
 * store's folder and whose upper one is on INIT_OVER_DIR (gVisor takes only a tmpfs there, which
 * that is; its pages are a file of the host's). One mount, whatever the size of the layer.
 *
 * A folder that something is mounted on cannot be removed or renamed: "rm -r node_modules" would
 * end with EBUSY. But only mounts of the caller's own namespace count, those of others go with the
 * folder (rmdir(2) of a mount point, since Linux 3.18; gVisor has it too). So init, and with it all
 * that it starts, is in a namespace of its own, apart, with its root in the first one, home, where
 * it sees what is mounted; only to mount and to unmount it goes home for a moment.
 *
 * An overlay acts with the rights of who mounted it. It has to be the user, for what is copied up
 * is his and stands in folders of his; so the mount is made with his effective ids, and SYS_ADMIN.
 */
#include "shim/init/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOUNTS "/proc/self/ns/mnt"

/* Whoever fails here before anything has changed goes on as if nothing had been. */
void init_layers_begin(struct init *in)
{
    int home = open(MOUNTS, O_RDONLY | O_CLOEXEC);
    in->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (home < 0 || in->root < 0 || unshare(CLONE_NEWNS) < 0)
        return;
    in->home = home;
    in->apart = open(MOUNTS, O_RDONLY | O_CLOEXEC);
    if (in->apart < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        fchdir(in->root) < 0 || chroot(".") < 0)
        _exit(70);
}

static bool go_home(const struct init *in)
{
    return !in->home || setns(in->home, CLONE_NEWNS) == 0;
}

static void go_apart(const struct init *in)
{
    if (in->home && (setns(in->apart, CLONE_NEWNS) < 0 || fchdir(in->root) < 0 || chroot(".") < 0))
        _exit(70);
}

static struct layered *layer_at(struct init *in, const char *target)
{
    for (int i = 0; i < INIT_MAX_LAYERS; i++)
        if (strcmp(in->layers[i].target, target) == 0)
            return &in->layers[i];
    return NULL;
}

static bool become(uid_t uid, gid_t gid)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2] = {0};
    if (setegid(gid) < 0 || seteuid(uid) < 0 || syscall(SYS_capget, &head, caps) < 0)
        return false;
    caps[0].effective = caps[0].permitted & 1u << CAP_SYS_ADMIN;
    return syscall(SYS_capset, &head, caps) == 0;
}

static void be_init(void)
{
    if (seteuid(0) < 0 || setegid(0) < 0)
        _exit(70); /* init without its identity is of no use */
}

/* Makes what is missing of an absolute path, without following a link. */
static int open_target(const char *path)
{
    int at = init_open_folder(AT_FDCWD, "/");
    while (at >= 0 && *path) {
        char name[256];
        path += strspn(path, "/");
        size_t n = strcspn(path, "/");
        memcpy(name, path, n);
        name[n] = 0;
        path += n;
        int next = n ? init_make_folder(at, name, 0755) : dup(at);
        int error = errno;
        close(at);
        errno = error;
        at = next;
    }
    return at;
}

static bool is_empty(int folder)
{
    int fd = dup(folder);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *de = NULL;
    if (!dir) {
        close(fd);
        return false;
    }
    do
        de = readdir(dir);
    while (de && (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0));
    closedir(dir);
    return !de;
}

/* The upper side: a folder of the user's in one of ours. As root. */
static int make_upper(struct init *in, uid_t uid, gid_t gid, char *upper, size_t size)
{
    char dir[64];
    snprintf(dir, sizeof(dir), "%s/%u", INIT_OVER_DIR, ++in->last_layer);
    snprintf(upper, size, "%s/user", dir);
    if (mkdir(dir, 0711) < 0 || mkdir(upper, 0755) < 0 || chown(upper, uid, gid) < 0)
        return errno;
    return 0;
}

/* As the user. */
static int lay(const char *upper, const char *name, const char *target)
{
    char words[256], place[64];
    int fd = open_target(target);
    if (fd < 0)
        return errno;
    int r = is_empty(fd) ? 0 : ENOTEMPTY;
    snprintf(words, sizeof(words), "lowerdir=%s/%s,upperdir=%s", INIT_LAYERS_DIR, name, upper);
    snprintf(place, sizeof(place), "/proc/self/fd/%d", fd);
    if (!r && mount("overlay", place, "overlay", MS_NOSUID | MS_NODEV, words) < 0)
        r = errno;
    close(fd);
    return r;
}

/* As the user: only whether something is there. */
static int ask(const char *target)
{
    struct stat st;
    if (lstat(target, &st) < 0)
        return errno == ENOENT ? 0 : errno;
    int fd = init_open_folder(AT_FDCWD, target);
    int r = fd >= 0 && is_empty(fd) ? 0 : ENOTEMPTY;
    if (fd >= 0)
        close(fd);
    return r;
}

int init_layer(struct init *in, const uint8_t *body, size_t len, uint64_t *ret_value)
{
    struct init_layer what;
    const char *target_at, *name_at;
    char target[256], name[INIT_MAX_LAYER_NAME + 1], upper[96] = "";
    int r = init_decode_layer(body, len, &what, &target_at, &name_at);
    if (r)
        return r;
    snprintf(target, sizeof(target), "%.*s", (int)what.target_len, target_at);
    snprintf(name, sizeof(name), "%.*s", (int)what.name_len, name_at);
    struct layered *ly = layer_at(in, target);
    *ret_value = ly != NULL;
    if (ly && (!*name || strcmp(ly->name, name) == 0))
        return 0;
    if (*name && !ly && !(ly = layer_at(in, "")))
        return ENOSPC;
    if (*name)
        r = make_upper(in, what.uid, what.gid, upper, sizeof(upper));
    if (r)
        return r;
    if (!go_home(in))
        return errno;
    if (*ret_value) {
        (void)umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW); /* unless the user has removed it */
        *ly = (struct layered){0};
    }
    if (become(what.uid, what.gid))
        r = *name ? lay(upper, name, target) : ask(target);
    else
        r = EPERM;
    be_init();
    go_apart(in);
    if (!r && *name) {
        memcpy(ly->target, target, sizeof(target));
        memcpy(ly->name, name, sizeof(name));
    }
    return r;
}
