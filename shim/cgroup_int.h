/* SPDX-License-Identifier: Apache-2.0 */
/* What v1 and v2 must offer, and the small file helpers both use. */
#pragma once

#include "shim/cgroup.h"

#define SHIM_CG_MAX_DIRS 14
#define SHIM_CG_MAX_FILE (64u << 10)
#define SHIM_CG_PERIOD_US 100000
#define SHIM_CG_MAX_HELD 16 /* files of a cgroup that are kept open */

struct shim_cgroup_ops {
    int version;
    /* Makes base (or what stands beside it), ready to have children. */
    int (*open)(struct shim_cgroups *cgs, const char *base, bool move_self, struct dbx_err *err);
    int (*weigh)(const struct shim_cgroups *cgs, const char *base, uint32_t weight); /* -errno */
    int (*prepare)(struct shim_cgroup *cg, struct dbx_err *err); /* after its folders were made */
    int (*set)(struct shim_cgroup *cg, const struct shim_cgroup_limits *l, struct dbx_err *err);
    int (*set_weight)(struct shim_cgroup *cg, uint32_t weight); /* in the unit of weigh */
    int (*read)(struct shim_cgroup *cg, struct shim_cgroup_stat *ret);
    int (*spent)(struct shim_cgroup *cg, struct shim_cgroup_stat *ret);
    int (*reset_peak)(struct shim_cgroup *cg);
    int (*kill)(struct shim_cgroup *cg);
};
extern const struct shim_cgroup_ops shim_cg__v1, shim_cg__v2;

enum shim_cg_part { SHIM_CG_FRONT, SHIM_CG_BACKGROUND, SHIM_CG_PARTS };

struct shim_cgroups {
    const struct shim_cgroup_ops *ops;
    char *mount, *bases[SHIM_CG_PARTS]; /* owned */
    uint32_t weight;                    /* of the front; 0: as it is */
    size_t background[SHIM_WEIGHTS];    /* how many of each weight stand there */
    enum shim_weight lifted;            /* what the background has at least */
    enum shim_weight background_weight; /* SHIM_WEIGHTS: not set yet */
    struct shim_cgroup *all_background; /* owned; all of it as if it were a sandbox's */
    char *roots[SHIM_CG_MAX_DIRS];      /* owned; "<mount>[/<hierarchy>]", the first has pids and is
                                           walked */
    const char *names[SHIM_CG_MAX_DIRS]; /* "memory"; "" in v2 */
    size_t n;
};

struct shim_cgroup {
    struct shim_cgroups *cgs; /* borrowed */
    enum shim_cg_part part;
    enum shim_weight weight;          /* in the background: as it is counted there */
    char *path;                       /* owned: "/<base>/<id>" */
    char *dirs[SHIM_CG_MAX_DIRS + 1]; /* owned; as cgs->roots */
    int peak_fd;                      /* v2: a reset counts for the descriptor that made it */
    /* Opened once, when they are first used: a start reads and writes them all, and a path costs
     * more than the call. */
    struct shim_cg_held {
        const char *dir, *file; /* borrowed: of dirs, a literal */
        bool writes;
        int fd; /* owned */
    } held[SHIM_CG_MAX_HELD];
    size_t n_held;
};

const char *shim_cg__dir(const struct shim_cgroup *cg,
                         const char *name); /* of a v1 hierarchy; NULL: none */
int shim_cg__write(const char *dir, const char *file, const char *value); /* -errno */
/* The same through a descriptor that is kept. dir is one of cg's, file a literal. */
int shim_cg__put(struct shim_cgroup *cg, const char *dir, const char *file, const char *value);
/* Likewise kept; a file with one number, "max" is UINT64_MAX. */
int shim_cg__get_u64(struct shim_cgroup *cg, const char *dir, const char *file, uint64_t *ret);
/* Of a file with lines "key number"; a key that is not there leaves its value. */
struct shim_cg_key {
    const char *key;
    uint64_t *ret;
};
int shim_cg__get_keys(struct shim_cgroup *cg, const char *dir, const char *file,
                      const struct shim_cg_key *keys, size_t n); /* kept */
/* Calls fn for each pid in dir's cgroup.procs. Returns how many there were, or -errno. */
int shim_cg__each_pid(const char *dir, void (*fn)(pid_t pid, void *user), void *user);
int shim_cg__kill_procs(const char *dir); /* as shim_cgroup_kill, one by one */
