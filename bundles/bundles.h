/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox is made of: templates (data in bundles/templates), their images (built by
 * bundles/build-images), the plan of an execution (what to compile, what to run) and the OCI bundle
 * that runsc is given. Nothing here starts a process or talks to a network; all of it may be called
 * from a loop's thread, except bnd_image_verify, which reads a whole image. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

#include <sys/types.h>

/* ---- templates and images
 * ---------------------------------------------------------------------------------- */

#define BND_MAX_TEMPLATES 64
#define BND_MAX_TEMPLATE_FILE (64u << 10)
#define BND_MAX_ARGS 256             /* words of a command */
#define BND_MAX_COMMAND (128u << 10) /* bytes of a command, all words together */
#define BND_DIGEST_LEN 64            /* sha256, lower-case hex */

#define BND_USER_UID 1000 /* user `dev` of every image, who owns BND_WORK_DIR and BND_HOME_DIR */
#define BND_USER_GID 1000
#define BND_WORK_DIR "/workspace"
#define BND_HOME_DIR "/home/dev"
#define BND_INIT_DIR "/.devbox" /* in the sandbox: the folder that holds init, read-only */
#define BND_PARKED_DIR BND_INIT_DIR "/parked" /* the drivers of bundles/parked */
/* In a workspace's sandbox: the registry cache, packages only; {registry} in templates. */
#define BND_REGISTRY_PORT 7981
#define BND__TEXT_OF(n) #n
#define BND__TEXT(n) BND__TEXT_OF(n)
#define BND_REGISTRY_URL "http://127.0.0.1:" BND__TEXT(BND_REGISTRY_PORT)
#define BND_LAYERS_DIR "/.layers" /* in the sandbox: the node's layer store, read-only */
#define BND_OVER_DIR "/.over"     /* what is written over layers */

#define BND_MAX_DEPENDENCIES 8
#define BND_MAX_STAMP 200 /* bytes of a path */

/* A lock file, and how what it names is installed. */
enum bnd_lock_kind {
    BND_LOCK_PIP,
    BND_LOCK_NPM,
    BND_LOCK_GO,
    BND_LOCK_CARGO,
    BND_LOCK_PNPM,
    BND_LOCK_UV,
    BND_LOCK_KINDS
};
struct bnd_dependency {
    enum bnd_lock_kind kind;
    const char *lock;     /* its path */
    const char *manifest; /* what the installer wants beside it; or NULL */
    const char *into;     /* the folder that holds all it installs: absolute */
    const char *build;    /* a line for the shell, in BND_WORK_DIR */
};

struct bnd_template {
    const char *name, *title;
    const char *const *extensions; /* "py"; NULL-terminated; the first is the usual one */
    const char *const *env; /* "K=V", NULL-terminated: the whole environment of a user process
                               (PATH, HOME, LANG...) */
    /* The same for those that only processes of workspaces have, over env's: where npm, pip, go and
     * cargo find the registry cache. */
    const char *const *registry_env;
    /* Absolute paths, NULL-terminated: whoever gets a sandbox finds the time there, in seconds
     * since 1970. Tools that clean up when that is long ago would throw away what the image has. */
    const char *const *stamps;
    bool has_compile; /* the contract's "compiled template" */
    uint32_t warm;    /* sandboxes to hold ready where nothing says otherwise */
    /* What waits, started, in a warm sandbox; run NULL: nothing does. */
    struct bnd_parked {
        const char *const *run;    /* words of an entry's run */
        const char *const *start;  /* the words that it is started with: as good as run */
        const char *cwd;           /* at its start */
        const char *const *env;    /* beyond the template's, "K=V"; gone before a program runs */
        uint32_t memory_mb;        /* about what it uses, for the node's budget */
        const char *const *unless; /* variables (their first letters) that it would have needed at
                                      its start: an execution that sets one is started plainly */
        bool fork; /* with DEVBOX_FORK and fork.so it forks what is parked, as often as asked to */
    } parked;

    /* What becomes a dependency layer; see deps.h. */
    const struct bnd_dependency *dependencies;
    size_t n_dependencies;

    const char *image;  /* path of the EROFS file, or NULL while it is not built */
    const char *digest; /* its sha256 in hex, or NULL */
    uint64_t image_bytes;
};

struct bnd_store;
/* Reads templates_dir (every NAME.json; a bad one is an error that names it) and then does a
 * refresh. A cache_dir without images is no error. Strings and templates live as long as the store;
 * image, digest and image_bytes change only in bnd_store_refresh. */
int bnd_store_open(const char *cache_dir, const char *templates_dir, struct bnd_store **ret,
                   struct dbx_err *err) DBX_MUST_USE;
struct bnd_store *bnd_store_free(struct bnd_store *store);
void bnd_store_freep(struct bnd_store **store);
/* Looks again for images (they appear while the daemon runs; a rebuilt one replaces the old one's
 * path and digest). A manifest that is broken, or whose image is missing or of another size, counts
 * as not built: the last such reason is in err while 0 is returned. *ret_changed says whether any
 * template got another image; may be NULL. */
int bnd_store_refresh(struct bnd_store *store, bool *ret_changed, struct dbx_err *err);
size_t bnd_store_count(const struct bnd_store *store);
const struct bnd_template *bnd_store_at(const struct bnd_store *store,
                                        size_t i); /* sorted by name */
const struct bnd_template *bnd_template_find(const struct bnd_store *store,
                                             const char *name); /* or NULL */
/* By the extension of a file's name ("a/b.py"), or NULL. */
const struct bnd_template *bnd_template_guess(const struct bnd_store *store, const char *path);

/* Reads all of the file: -EBADMSG when its digest is another. Blocks. */
int bnd_image_verify(const char *path, const char *digest, struct dbx_err *err) DBX_MUST_USE;
/* Checks one template's JSON; for tests and the fuzzer. */
int bnd_template_check(const void *data, size_t len, struct dbx_err *err) DBX_MUST_USE;

/* ---- the plan of an execution
 * -------------------------------------------------------------------------------- */

/* The files of an execution, wherever they are. */
struct bnd_files {
    void *ctx;
    bool (*has)(void *ctx, const char *path); /* a file (not a folder) of that path */
    /* Whether a file directly in the root ends in suffix (".go"). */
    bool (*has_suffix)(void *ctx, const char *suffix);
    /* Appends the file to out; 0 or -errno (-ENOENT, -E2BIG). */
    int (*read)(void *ctx, const char *path, struct dbx_buf *out);
};
/* Over a block of common/proto/files.h, which must have been checked and must outlive ret; nothing
 * to free. */
struct bnd_files_block {
    const void *data;
    size_t len;
};
struct bnd_files bnd_files_of_block(struct bnd_files_block *block);

struct bnd_extra_file {
    char *path, *data; /* owned, text */
    mode_t mode;
};

/* All owned by the plan. Both phases run in BND_WORK_DIR with the template's env. */
struct bnd_plan {
    char **compile_argv;          /* NULL-terminated, or NULL when there is no such phase */
    char **run_argv;              /* NULL-terminated */
    struct bnd_extra_file *extra; /* to be added to the execution's files */
    size_t n_extra;
};
/* At most one of command_shell (a line for /bin/sh) and command_argv (NULL-terminated) may be
 * given; they replace the run step only, and an interpreted template then needs no entry file. An
 * execution without its entry file is DBX_INVALID with field "files", an unusable command one with
 * field "command". ret is written on success only. */
int bnd_plan(const struct bnd_template *tpl, const struct bnd_files *files,
             const char *command_shell, char *const *command_argv, struct bnd_plan *ret,
             struct dbx_err *err) DBX_MUST_USE;
void bnd_plan_done(struct bnd_plan *plan);

/* ---- the OCI bundle
 * ------------------------------------------------------------------------------------------ */

enum bnd_cap { /* bits */
               BND_CAP_CHOWN = 1 << 0,
               BND_CAP_KILL = 1 << 1,
               BND_CAP_SETGID = 1 << 2,
               BND_CAP_SETUID = 1 << 3,
               BND_CAP_SYS_ADMIN = 1 << 4,   /* to mount layers */
               BND_CAP_SYS_CHROOT = 1 << 5,  /* to stand apart from them: shim/init/layer.c */
               BND_CAP_DAC_OVERRIDE = 1 << 6 /* until the first program: shim/init/files.c */
};
#define BND_CAPS_INIT                                                                              \
    (BND_CAP_CHOWN | BND_CAP_KILL | BND_CAP_SETGID | BND_CAP_SETUID | BND_CAP_SYS_ADMIN |          \
     BND_CAP_SYS_CHROOT | BND_CAP_DAC_OVERRIDE)

struct bnd_spec_opts {
    const char *id;          /* [A-Za-z0-9_-]{1,64} */
    const char *image;       /* absolute path of the EROFS file */
    const char *overlay_dir; /* absolute; where the writable layer's file is kept (unlinked, so
                                nothing stays) */
    uint64_t disk_bytes;     /* size of the writable layer: ENOSPC beyond */
    uint64_t shm_bytes;      /* size of /dev/shm; it is charged to memory */
    const char *init_dir;    /* absolute; host folder with the program `init`, bound read-only to
                                BND_INIT_DIR */
    const char *const *init_args; /* NULL-terminated, put behind BND_INIT_DIR "/init"; or NULL */
    const char *layers_dir;       /* absolute, bound read-only to BND_LAYERS_DIR; or NULL */
    const char *over_dir;    /* with layers_dir: absolute, an empty folder of this sandbox's alone,
                                where    runsc keeps what is written over layers, up to disk_bytes */
    const char *cgroup_path; /* e.g. "/devbox/ID": made before by the shim, runsc only joins; NULL:
                                runsc's own */
    /* Written into the spec when not 0. runsc applies them only to a cgroup that it makes itself.
     */
    uint64_t memory_bytes;
    uint64_t cpu_quota_us; /* a period of 100,000 */
    uint64_t pids;
    uint32_t caps; /* enum bnd_cap bits: init's bounding, permitted and effective set; inherited by
                      nobody */
};
/* Appends config.json to out. The bundle folder needs nothing but this file and an empty folder
 * BND_ROOT_NAME. */
#define BND_ROOT_NAME "rootfs"
int bnd_spec_write(const struct bnd_spec_opts *opts, struct dbx_buf *out,
                   struct dbx_err *err) DBX_MUST_USE;
/* Makes dir (0700), BND_ROOT_NAME in it, and config.json. */
int bnd_bundle_create(const char *dir, const struct bnd_spec_opts *opts,
                      struct dbx_err *err) DBX_MUST_USE;

struct bnd_runsc_opts {
    const char *runsc;       /* path of the program */
    const char *root;        /* runsc's own state folder, 0700, the shim's alone */
    const char *log;         /* JSON lines; or NULL */
    const char *overlay_dir; /* as in bnd_spec_opts */
    bool ignore_cgroups;     /* where cgroups cannot be written at all */
    /* Lets runsc's sentry open files below the bind mounts itself: several times as fast there, at
     * the price of a looser seccomp filter. For sandboxes with a layer store; init alone needs no
     * speed. */
    bool directfs;
    /* Who waits, of a sandbox's threads and of runsc's, sleeps at once instead of spinning for 20
     * us. Not every runsc knows the flag. Where there are processors to spin on, system calls are
     * faster without it. */
    bool no_fast_path;
};
/* "RUNSC --root … --platform systrap --network none …" and behind it the command's own words, which
 * are given as a NULL-terminated list ("create", "--bundle", DIR, "--pid-file", FILE, ID). Free
 * with bnd_argv_free. */
char **bnd_runsc_args(const struct bnd_runsc_opts *opts, const char *const *command);
char **bnd_argv_free(char **argv); /* NULL-tolerant; returns NULL */
void bnd_argv_freep(char ***argv);
/* runsc keeps a mount in its state folder (ROOT/null-netns, the empty network namespace of all
 * gofers), which makes `rm -r` of that folder fail. Takes it away, if it is there; the next runsc
 * makes it anew. */
void bnd_runsc_root_release(const char *root);
