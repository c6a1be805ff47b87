/* SPDX-License-Identifier: Apache-2.0 */
/* The cgroups of the sandboxes: made, limited, read, emptied and removed by the shim; runsc only
 * joins them. v1 (one folder in each hierarchy) and v2 (one folder) stand behind one table. Files
 * of a cgroup are small and answered by the kernel at once: all calls may be made on the loop. */
#pragma once

#include "common/base/err.h"

#include <sys/types.h>

struct shim_cgroups; /* the node's part of the tree */
struct shim_cgroup;  /* one sandbox's */

/* Sandboxes stand below base; those that nobody waits for below a second one beside it. That is
 * idle while all in it are: what they use is then taken off nobody's share, neither of the
 * sandboxes below base (which would have to wait for what beside base has more weight) nor of the
 * daemons. */
#define SHIM_CGROUP_BACKGROUND ".background" /* follows base's name */

struct shim_cgroups_opts {
    const char *mount; /* default "/sys/fs/cgroup" */
    const char *base;  /* relative to the mount, e.g. "devbox-node1"; made when missing */
    /* v2 only: the process moves to the leaf "shim" below base's parent when that is where it runs,
     * for a cgroup with processes cannot give controllers to its children. */
    bool move_self;
    /* Of base, against all that stands beside it: cgroup v2's unit, 1 to 10,000, where 100 is what
     * others have. 0: as it is. The background never has more. */
    uint32_t weight;
};
/* Finds out what is mounted: v2 where memory and pids are controllers there, else v1 hierarchies.
 * -ENOSYS, kind UNAVAIL: neither has memory, cpu and pids. */
int shim_cgroups_open(const struct shim_cgroups_opts *opts, struct shim_cgroups **ret,
                      struct dbx_err *err) DBX_MUST_USE;
struct shim_cgroups *shim_cgroups_free(struct shim_cgroups *cgs);
void shim_cgroups_freep(struct shim_cgroups **cgs);
/* Removes base and background where nothing is left in them. */
void shim_cgroups_prune(struct shim_cgroups *cgs);
int shim_cgroups_version(const struct shim_cgroups *cgs); /* 1 or 2 */
/* What this kernel offers beyond what is needed. */
struct shim_cgroups_gives {
    bool swap; /* is limited, and counted */
    bool kill; /* of all in a cgroup at once */
    bool reset_peak;
};
void shim_cgroups_give(const struct shim_cgroups *cgs, struct shim_cgroups_gives *ret);
/* Calls fn for the id of each cgroup that stands below one of them (those of an earlier shim). */
int shim_cgroups_each(struct shim_cgroups *cgs, void (*fn)(const char *id, void *user), void *user,
                      struct dbx_err *err);

/* 0 in a field: no limit. */
struct shim_cgroup_limits {
    uint64_t memory_bytes; /* swap is counted in, where the kernel can: nothing is swapped out */
    uint32_t cpu_millis;   /* thousandths of a CPU */
    uint32_t processes;    /* what a program may have: pids.max becomes SHIM_PIDS_MAX of it */
};
/* A sandbox dies of its host cgroup's pids.max: it is only the outer wall (RLIMIT_NPROC inside is
 * the limit). */
#define SHIM_PIDS_MAX(processes) (128 + 4 * (uint64_t)(processes))

struct shim_cgroup_stat {
    uint64_t cpu_us;
    uint64_t memory_bytes, memory_peak_bytes;
    uint64_t file_bytes; /* of memory_bytes: cache of files on disk, which gives way */
    uint64_t oom_kills;
    uint64_t pids;
};

/* id: [A-Za-z0-9_-]{1,64}. One that stands there already is taken over with its limits set anew.
 * background: where it stands, for good (cgroup v2 does not carry memory along); its weight is to
 * be set. */
int shim_cgroup_create(struct shim_cgroups *cgs, const char *id, bool background,
                       const struct shim_cgroup_limits *limits, struct shim_cgroup **ret,
                       struct dbx_err *err) DBX_MUST_USE;
/* For one that may stand there from before; nothing is made or set. */
struct shim_cgroup *shim_cgroup_adopt(struct shim_cgroups *cgs, const char *id);
struct shim_cgroup *shim_cgroup_free(struct shim_cgroup *cg); /* the object only, not the cgroup */
const char *
shim_cgroup_path(const struct shim_cgroup *cg); /* for cgroupsPath: "/devbox-node1/ID" */
/* The folders that a process has to be put into; NULL-terminated, the cgroup's. */
const char *const *shim_cgroup_dirs(const struct shim_cgroup *cg);

int shim_cgroup_set(struct shim_cgroup *cg, const struct shim_cgroup_limits *limits,
                    struct dbx_err *err) DBX_MUST_USE;
/* What it gets of the CPU while others want it, each less than the one before. -errno */
enum shim_weight {
    SHIM_WEIGHT_FULL,  /* somebody waits for it */
    SHIM_WEIGHT_AHEAD, /* a quarter: it is made for who comes next */
    SHIM_WEIGHT_BATCH, /* a twentieth: several of these leave the better part to one that is made */
    SHIM_WEIGHT_IDLE,  /* what nobody else wants, who gets it at once; as BATCH before Linux 5.15 */
    SHIM_WEIGHTS,
};
/* The background as a whole has the weight of the one in it that has most, as a share of base's. */
int shim_cgroup_set_weight(struct shim_cgroup *cg, enum shim_weight weight);
bool shim_cgroup_in_background(const struct shim_cgroup *cg);
/* The background as a whole has at least that weight, whoever is in it: they stay equals. -errno */
int shim_cgroups_lift(struct shim_cgroups *cgs, enum shim_weight weight);
bool shim_cgroup_is_idle(struct shim_cgroup *cg); /* by whom ever it was set */
int shim_cgroup_read(struct shim_cgroup *cg,
                     struct shim_cgroup_stat *ret) DBX_MUST_USE; /* -errno */
/* cpu_us and oom_kills alone: what is looked at many times a second. */
int shim_cgroup_spent(struct shim_cgroup *cg,
                      struct shim_cgroup_stat *ret) DBX_MUST_USE; /* -errno */
/* Microseconds of CPU that all in the background got. -errno */
int shim_cgroups_got(struct shim_cgroups *cgs, uint64_t *ret_us) DBX_MUST_USE;
/* The peak counts from now on. -EOPNOTSUPP where the kernel cannot (v2 before 6.12). */
int shim_cgroup_reset_peak(struct shim_cgroup *cg);
bool shim_cgroup_has(struct shim_cgroup *cg, pid_t pid);
int shim_cgroup_add(struct shim_cgroup *cg, pid_t pid, struct dbx_err *err) DBX_MUST_USE;
/* Kills whatever is in it now. 1: there was something (call again later), 0: it is empty. */
int shim_cgroup_kill(struct shim_cgroup *cg);
/* 0: gone (also when it never was). -EBUSY: not empty yet, try again later. Else -errno. */
int shim_cgroup_remove(struct shim_cgroup *cg);
