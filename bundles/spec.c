/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI bundle: everything runsc is told about a sandbox, in two places. config.json says what is
 * in it; the flags say what runsc itself may do.
 *
 * The root is the template's EROFS image below a writable layer kept in an unlinked file of
 * overlay_dir: bounded by options=size, not charged to memory. Three quirks of runsc (2026-09)
 * decide how that is said: the layer's medium
 * ("dir=D") counts only when the flag --overlay2=root:dir=D agrees; it is the gofer that makes the
 * file, and there is a gofer only with a bind mount, which init's folder always is; and root.path
 * is ignored but must exist. /tmp belongs to the root only because the image has a file in it:
 * runsc covers an empty one with a tmpfs. */
#include "bundles/bundles_int.h"

#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/str.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define MAX_SPEC (64u << 10)

static const struct {
    uint32_t bit;
    const char *name;
} caps[] = {
    {BND_CAP_CHOWN, "CAP_CHOWN"},
    {BND_CAP_KILL, "CAP_KILL"},
    {BND_CAP_SETGID, "CAP_SETGID"},
    {BND_CAP_SETUID, "CAP_SETUID"},
    {BND_CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
    {BND_CAP_SYS_CHROOT, "CAP_SYS_CHROOT"},
    {BND_CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"},
};

/* ---- checks: the spec is privileged input, whatever wrote the options
 * --------------------------------------- */

static int check_path(const char *path, const char *field, bool in_a_flag, struct dbx_err *err)
{
    if (!path || path[0] != '/')
        return dbx_err_field(err, field, "%s must be an absolute path", field);
    for (const char *p = path; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || (in_a_flag && strchr(",:", *p)))
            return dbx_err_field(err, field, "%s '%.100s' holds a character that it must not",
                                 field, path);
    if (strstr(path, "/../") || (strlen(path) >= 3 && !strcmp(path + strlen(path) - 3, "/..")))
        return dbx_err_field(err, field, "%s '%.100s' goes upward", field, path);
    return 0;
}

static int check_opts(const struct bnd_spec_opts *o, struct dbx_err *err)
{
    if (!o->id || !*o->id || strlen(o->id) > 64)
        return dbx_err_field(err, "id", "a sandbox id has 1 to 64 characters");
    for (const char *p = o->id; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '_' && *p != '-')
            return dbx_err_field(err, "id", "'%s' is no sandbox id", o->id);
    if (o->disk_bytes == 0 || o->disk_bytes > INT64_MAX)
        return dbx_err_field(err, "disk_bytes", "the writable layer must have a size");
    if (o->shm_bytes == 0 || o->shm_bytes > INT64_MAX)
        return dbx_err_field(err, "shm_bytes", "/dev/shm must have a size");
    if (o->memory_bytes > INT64_MAX || o->cpu_quota_us > INT64_MAX || o->pids > INT64_MAX)
        return dbx_err_field(err, "resources", "out of range");
    if (o->caps & ~(uint32_t)BND_CAPS_INIT)
        return dbx_err_field(err, "caps", "unknown capability");
    int rc = check_path(o->image, "image", false, err);
    if (rc == 0)
        rc = check_path(o->overlay_dir, "overlay_dir", true, err);
    if (rc == 0)
        rc = check_path(o->init_dir, "init_dir", false, err);
    if (rc == 0 && o->layers_dir)
        rc = check_path(o->layers_dir, "layers_dir", false, err);
    if (rc == 0 && o->over_dir)
        rc = check_path(o->over_dir, "over_dir", true, err);
    if (rc == 0 && o->cgroup_path)
        rc = check_path(o->cgroup_path, "cgroup_path", false, err);
    return rc;
}

/* ---- parts of config.json
 * ----------------------------------------------------------------------------------- */

static void write_strings(struct dbx_jw *w, const char *key, const char *const *list)
{
    dbx_jw_key(w, key);
    dbx_jw_array(w);
    for (; list && *list; list++)
        dbx_jw_str(w, *list);
    dbx_jw_array_end(w);
}

static void write_caps(struct dbx_jw *w, const char *set, uint32_t bits)
{
    dbx_jw_key(w, set);
    dbx_jw_array(w);
    for (size_t i = 0; i < DBX_ARRAY_LEN(caps); i++)
        if (bits & caps[i].bit)
            dbx_jw_str(w, caps[i].name);
    dbx_jw_array_end(w);
}

static void write_rlimit(struct dbx_jw *w, const char *type, int64_t value)
{
    dbx_jw_object(w);
    dbx_jw_kstr(w, "type", type);
    dbx_jw_ki64(w, "hard", value);
    dbx_jw_ki64(w, "soft", value);
    dbx_jw_object_end(w);
}

static void write_process(struct dbx_jw *w, const struct bnd_spec_opts *o)
{
    dbx_jw_key(w, "process");
    dbx_jw_object(w);
    dbx_jw_kbool(w, "terminal", false);
    dbx_jw_key(w, "user");
    dbx_jw_object(w);
    dbx_jw_ki64(w, "uid", 0);
    dbx_jw_ki64(w, "gid", 0);
    dbx_jw_object_end(w);
    dbx_jw_key(w, "args");
    dbx_jw_array(w);
    dbx_jw_str(w, BND_INIT_DIR "/init");
    for (const char *const *a = o->init_args; a && *a; a++)
        dbx_jw_str(w, *a);
    dbx_jw_array_end(w);
    write_strings(w, "env", (const char *const[]){"PATH=/usr/local/bin:/usr/bin:/bin", NULL});
    dbx_jw_kstr(w, "cwd", "/");
    dbx_jw_key(w, "capabilities");
    dbx_jw_object(w);
    write_caps(w, "bounding", o->caps);
    write_caps(w, "effective", o->caps);
    write_caps(w, "permitted", o->caps);
    write_caps(w, "inheritable", 0);
    write_caps(w, "ambient", 0);
    dbx_jw_object_end(w);
    /* init lowers these for each process; what it does not know of is already low. */
    dbx_jw_key(w, "rlimits");
    dbx_jw_array(w);
    write_rlimit(w, "RLIMIT_NOFILE", 65536);
    write_rlimit(w, "RLIMIT_CORE", 0);
    dbx_jw_array_end(w);
    dbx_jw_kbool(w, "noNewPrivileges", true);
    dbx_jw_object_end(w);
}

static void write_mount(struct dbx_jw *w, const char *dest, const char *type, const char *source,
                        const char *const *options)
{
    dbx_jw_object(w);
    dbx_jw_kstr(w, "destination", dest);
    dbx_jw_kstr(w, "type", type);
    dbx_jw_kstr(w, "source", source);
    write_strings(w, "options", options);
    dbx_jw_object_end(w);
}

static void write_mounts(struct dbx_jw *w, const struct bnd_spec_opts *o)
{
    static const char *const proc[] = {"nosuid", "noexec", "nodev", NULL};
    static const char *const sys[] = {"nosuid", "noexec", "nodev", "ro", NULL};
    /* /dev itself is a tmpfs: nobody but init may write there, and a size keeps it small. */
    static const char *const dev[] = {"nosuid", "noexec", "mode=0755", "size=65536", NULL};
    static const char *const bind[] = {"bind", "ro", "nosuid", "nodev", NULL};
    static const char *const over[] = {"bind", "rw", "nosuid", "nodev", NULL};
    DBX_CLEANUP(dbx_freep) char *size = dbx_asprintf("size=%ju", (uintmax_t)o->shm_bytes);
    const char *const shm[] = {"nosuid", "noexec", "nodev", "mode=1777", size, NULL};

    dbx_jw_key(w, "mounts");
    dbx_jw_array(w);
    write_mount(w, "/proc", "proc", "proc", proc);
    write_mount(w, "/sys", "sysfs", "sysfs", sys);
    write_mount(w, "/dev", "tmpfs", "tmpfs", dev);
    write_mount(w, "/dev/shm", "tmpfs", "tmpfs", shm);
    write_mount(w, BND_INIT_DIR, "bind", o->init_dir, bind);
    if (o->layers_dir)
        write_mount(w, BND_LAYERS_DIR, "bind", o->layers_dir, bind);
    if (o->over_dir)
        write_mount(w, BND_OVER_DIR, "bind", o->over_dir, over);
    dbx_jw_array_end(w);
}

static void write_resources(struct dbx_jw *w, const struct bnd_spec_opts *o)
{
    if (!o->memory_bytes && !o->cpu_quota_us && !o->pids)
        return;
    dbx_jw_key(w, "resources");
    dbx_jw_object(w);
    if (o->memory_bytes) {
        dbx_jw_key(w, "memory");
        dbx_jw_object(w);
        dbx_jw_ki64(w, "limit", (int64_t)o->memory_bytes);
        dbx_jw_object_end(w);
    }
    if (o->cpu_quota_us) {
        dbx_jw_key(w, "cpu");
        dbx_jw_object(w);
        dbx_jw_ki64(w, "quota", (int64_t)o->cpu_quota_us);
        dbx_jw_ki64(w, "period", 100000);
        dbx_jw_object_end(w);
    }
    if (o->pids) {
        dbx_jw_key(w, "pids");
        dbx_jw_object(w);
        dbx_jw_ki64(w, "limit", (int64_t)o->pids);
        dbx_jw_object_end(w);
    }
    dbx_jw_object_end(w);
}

static void write_linux(struct dbx_jw *w, const struct bnd_spec_opts *o)
{
    static const char *const namespaces[] = {"pid", "network", "ipc", "uts", "mount"};
    dbx_jw_key(w, "linux");
    dbx_jw_object(w);
    if (o->cgroup_path)
        dbx_jw_kstr(w, "cgroupsPath", o->cgroup_path);
    write_resources(w, o);
    dbx_jw_key(w, "namespaces");
    dbx_jw_array(w);
    for (size_t i = 0; i < DBX_ARRAY_LEN(namespaces); i++) {
        dbx_jw_object(w);
        dbx_jw_kstr(w, "type", namespaces[i]);
        dbx_jw_object_end(w);
    }
    dbx_jw_array_end(w);
    dbx_jw_object_end(w);
}

/* Makes of the bind mount a tmpfs of the sentry's own, whose pages are a file in the folder:
 * neither the host's to see nor charged to memory. */
static void write_over(struct dbx_jw *w, const struct bnd_spec_opts *o, const char *size)
{
    DBX_CLEANUP(dbx_freep) char *options = dbx_asprintf("rw,mode=0711,%s", size);
    dbx_jw_kstr(w, "dev.gvisor.spec.mount.over.source", o->over_dir);
    dbx_jw_kstr(w, "dev.gvisor.spec.mount.over.type", "tmpfs");
    dbx_jw_kstr(w, "dev.gvisor.spec.mount.over.share", "container");
    dbx_jw_kstr(w, "dev.gvisor.spec.mount.over.options", options);
}

static void write_annotations(struct dbx_jw *w, const struct bnd_spec_opts *o)
{
    DBX_CLEANUP(dbx_freep) char *overlay = dbx_asprintf("dir=%s", o->overlay_dir);
    DBX_CLEANUP(dbx_freep) char *size = dbx_asprintf("size=%ju", (uintmax_t)o->disk_bytes);
    dbx_jw_key(w, "annotations");
    dbx_jw_object(w);
    dbx_jw_kstr(w, "dev.gvisor.spec.rootfs.source", o->image);
    dbx_jw_kstr(w, "dev.gvisor.spec.rootfs.type", "erofs");
    dbx_jw_kstr(w, "dev.gvisor.spec.rootfs.overlay", overlay);
    dbx_jw_kstr(w, "dev.gvisor.spec.rootfs.options", size);
    if (o->over_dir)
        write_over(w, o, size);
    dbx_jw_object_end(w);
}

int bnd_spec_write(const struct bnd_spec_opts *opts, struct dbx_buf *out, struct dbx_err *err)
{
    int rc = check_opts(opts, err);
    if (rc < 0)
        return rc;
    struct dbx_jw *w = dbx_jw_new(out);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "ociVersion", "1.0.2");
    write_process(w, opts);
    dbx_jw_key(w, "root");
    dbx_jw_object(w);
    dbx_jw_kstr(w, "path", BND_ROOT_NAME);
    dbx_jw_kbool(w, "readonly", false); /* true would leave the writable layer out */
    dbx_jw_object_end(w);
    dbx_jw_kstr(w, "hostname", "devbox");
    write_mounts(w, opts);
    write_linux(w, opts);
    write_annotations(w, opts);
    dbx_jw_object_end(w);
    rc = dbx_jw_end(&w);
    if (rc < 0)
        return dbx_err_set(err, rc, DBX_INVALID,
                           "config.json of sandbox '%s' cannot be written: a path that is not "
                           "UTF-8, or too long",
                           opts->id);
    return 0;
}

/* Without fsync: a bundle is of no use after the machine went down. */
static int write_file(const char *path, const struct dbx_buf *data, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_closep)
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return dbx_err_sys(err, "open '%s'", path);
    int rc = dbx_write_all(fd, data->data, data->len);
    if (rc < 0)
        return dbx_err_set(err, rc, rc == -ENOSPC ? DBX_LIMIT : DBX_INTERNAL, "write '%s': %s",
                           path, strerror(-rc));
    return 0;
}

int bnd_bundle_create(const char *dir, const struct bnd_spec_opts *opts, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf spec = {0};
    DBX_CLEANUP(dbx_freep) char *root = dbx_asprintf("%s/" BND_ROOT_NAME, dir);
    DBX_CLEANUP(dbx_freep) char *config = dbx_asprintf("%s/config.json", dir);
    dbx_buf_init(&spec, MAX_SPEC);
    int rc = bnd_spec_write(opts, &spec, err);
    if (rc == 0)
        rc = dbx_fs_mkdirs(root, 0700, err);
    if (rc == 0)
        rc = write_file(config, &spec, err);
    return rc;
}

/* ---- runsc's flags
 * ------------------------------------------------------------------------------------------- */

struct argv {
    char **words;
    size_t n;
};

static void push(struct argv *a, char *word) /* takes it over */
{
    a->words = dbx_realloc(a->words, (a->n + 2) * sizeof(*a->words));
    a->words[a->n++] = word;
    a->words[a->n] = NULL;
}

char **bnd_runsc_args(const struct bnd_runsc_opts *o, const char *const *command)
{
    /* The defaults of some are these already; what keeps strangers in does not hang on a default.
     */
    static const char *const fixed[] = {
        "--platform=systrap", "--network=none",  "--host-uds=none",
        "--host-fifo=none",   "--net-raw=false", "--allow-flag-override=false",
        "--debug=false",      "--profile=false", "--file-access=exclusive",
        "--rootless=false",
    };
    struct argv a = {0};
    push(&a, dbx_strdup(o->runsc));
    push(&a, dbx_asprintf("--root=%s", o->root));
    if (o->log) {
        push(&a, dbx_asprintf("--log=%s", o->log));
        push(&a, dbx_strdup("--log-format=json"));
    }
    for (size_t i = 0; i < DBX_ARRAY_LEN(fixed); i++)
        push(&a, dbx_strdup(fixed[i]));
    push(&a, dbx_asprintf("--overlay2=root:dir=%s", o->overlay_dir));
    push(&a, dbx_asprintf("--directfs=%s", o->directfs ? "true" : "false"));
    if (o->no_fast_path)
        push(&a, dbx_strdup("--systrap-disable-fast-path=true"));
    if (o->ignore_cgroups)
        push(&a, dbx_strdup("--ignore-cgroups"));
    for (; command && *command; command++)
        push(&a, dbx_strdup(*command));
    return a.words;
}

char **bnd_argv_free(char **argv)
{
    for (size_t i = 0; argv && argv[i]; i++)
        free(argv[i]);
    free(argv);
    return NULL;
}

void bnd_argv_freep(char ***argv)
{
    *argv = bnd_argv_free(*argv);
}

void bnd_runsc_root_release(const char *root)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/null-netns", root);
    while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        ;
    (void)unlink(path);
}
