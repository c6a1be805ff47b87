/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup v2: one folder. A cgroup that has processes cannot give controllers to its children (the
 * root of the machine excepted), so the shim itself may have to move into a leaf: in a pod it
 * begins in the root of its name space. */
#include "shim/cgroup_int.h"

#include "common/base/fd.h"
#include "common/base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAF "devbox-shim"
#define MOVE_ROUNDS 10

struct move {
    const char *leaf;
    bool self;
    int error;
};

static void find_self(pid_t pid, void *user)
{
    struct move *m = user;
    m->self = m->self || pid == getpid();
}

static void move_pid(pid_t pid, void *user)
{
    struct move *m = user;
    char text[24];
    snprintf(text, sizeof(text), "%d", (int)pid);
    int r = shim_cg__write(m->leaf, "cgroup.procs", text);
    if (r < 0 && r != -ESRCH)
        m->error = r;
}

/* Empties dir into its leaf, if it is ours: who else's processes stand there is not for us to move.
 */
static int move_out(const char *dir, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *leaf = dbx_asprintf("%s/%s", dir, LEAF);
    struct move m = {.leaf = leaf};
    int n = shim_cg__each_pid(dir, find_self, &m);
    if (n < 0 || !m.self)
        return dbx_err_set(err, -EBUSY, DBX_UNAVAIL,
                           "cgroup %s holds processes of others and cannot have children", dir);
    if (mkdir(leaf, 0755) < 0 && errno != EEXIST)
        return dbx_err_sys(err, "make cgroup %s", leaf);
    for (int i = 0; i < MOVE_ROUNDS && n > 0; i++)
        n = shim_cg__each_pid(dir, move_pid, &m);
    if (m.error)
        return dbx_err_set(err, m.error, DBX_UNAVAIL, "move into cgroup %s: %s", leaf,
                           strerror(-m.error));
    return 0;
}

static int give_controllers(const char *dir, bool move_self, struct dbx_err *err)
{
    static const char wanted[] = "+cpu +memory +pids";
    int r = shim_cg__write(dir, "cgroup.subtree_control", wanted);
    if (r == -EBUSY && move_self) {
        r = move_out(dir, err);
        if (r < 0)
            return r;
        r = shim_cg__write(dir, "cgroup.subtree_control", wanted);
    }
    if (r < 0)
        return dbx_err_set(err, r, DBX_UNAVAIL, "give controllers to children of %s: %s", dir,
                           strerror(-r));
    return 0;
}

/* From the mount down to base, each must hand the controllers on. */
static int v2_open(struct shim_cgroups *cgs, const char *base, bool move_self, struct dbx_err *err)
{
    int r = give_controllers(cgs->mount, move_self, err);
    for (const char *p = base; r == 0 && *p;) {
        size_t len = strcspn(p, "/");
        DBX_CLEANUP(dbx_freep)
        char *dir = dbx_asprintf("%s/%.*s", cgs->mount, (int)(p - base + (ptrdiff_t)len), base);
        if (mkdir(dir, 0755) < 0 && errno != EEXIST)
            return dbx_err_sys(err, "make cgroup %s", dir);
        r = give_controllers(dir, move_self, err);
        p += len + (p[len] == '/');
    }
    return r;
}

static int v2_weigh(const struct shim_cgroups *cgs, const char *base, uint32_t weight)
{
    DBX_CLEANUP(dbx_freep) char *dir = dbx_asprintf("%s/%s", cgs->mount, base);
    char text[16];
    snprintf(text, sizeof(text), "%" PRIu32, weight);
    return shim_cg__write(dir, "cpu.weight", text);
}

static int v2_prepare(struct shim_cgroup *cg, struct dbx_err *err)
{
    (void)cg;
    (void)err;
    return 0;
}

static int v2_set(struct shim_cgroup *cg, const struct shim_cgroup_limits *l, struct dbx_err *err)
{
    char memory[24] = "max", cpu[48] = "max", pids[24] = "max";
    if (l->memory_bytes)
        snprintf(memory, sizeof(memory), "%" PRIu64, l->memory_bytes);
    if (l->cpu_millis)
        snprintf(cpu, sizeof(cpu), "%" PRIu64 " %d",
                 (uint64_t)l->cpu_millis * SHIM_CG_PERIOD_US / 1000, SHIM_CG_PERIOD_US);
    if (l->processes)
        snprintf(pids, sizeof(pids), "%" PRIu64, SHIM_PIDS_MAX(l->processes));
    const struct {
        const char *file, *value;
        bool may_miss;
    } files[] = {
        {"memory.max", memory, false},
        {"memory.swap.max", "0", true}, /* a kernel without swap */
        {"cpu.max", cpu, false},
        {"pids.max", pids, false},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(files); i++) {
        int r = shim_cg__put(cg, cg->dirs[0], files[i].file, files[i].value);
        if (r < 0 && !(r == -ENOENT && files[i].may_miss))
            return dbx_err_set(err, r, DBX_INTERNAL, "write %s to %s/%s: %s", files[i].value,
                               cg->path, files[i].file, strerror(-r));
    }
    return 0;
}

static int v2_set_weight(struct shim_cgroup *cg, uint32_t weight)
{
    char text[16];
    snprintf(text, sizeof(text), "%" PRIu32, weight);
    return shim_cg__put(cg, cg->dirs[0], "cpu.weight", text);
}

/* The peak since the reset, which counts for its descriptor only; else since ever. */
static int read_peak(struct shim_cgroup *cg, uint64_t *ret)
{
    if (cg->peak_fd < 0)
        return shim_cg__get_u64(cg, cg->dirs[0], "memory.peak", ret);
    char text[32];
    ssize_t n = pread(cg->peak_fd, text, sizeof(text) - 1, 0);
    if (n < 0)
        return -errno;
    text[n] = 0;
    return dbx_parse_u64(text, strcspn(text, "\n"), 0, UINT64_MAX, ret);
}

static int v2_spent(struct shim_cgroup *cg, struct shim_cgroup_stat *st)
{
    const struct shim_cg_key cpu[] = {{"usage_usec", &st->cpu_us}};
    const struct shim_cg_key oom[] = {{"oom_kill", &st->oom_kills}};
    int r = shim_cg__get_keys(cg, cg->dirs[0], "cpu.stat", cpu, DBX_ARRAY_LEN(cpu));
    return r == 0 ? shim_cg__get_keys(cg, cg->dirs[0], "memory.events", oom, DBX_ARRAY_LEN(oom))
                  : r;
}

static int v2_read(struct shim_cgroup *cg, struct shim_cgroup_stat *st)
{
    const char *dir = cg->dirs[0];
    uint64_t inactive = 0, active = 0;
    const struct shim_cg_key files[] = {{"inactive_file", &inactive}, {"active_file", &active}};
    int r = v2_spent(cg, st);
    if (r == 0)
        r = shim_cg__get_u64(cg, dir, "memory.current", &st->memory_bytes);
    if (r == 0)
        r = read_peak(cg, &st->memory_peak_bytes);
    if (r == -ENOENT) { /* before 5.19 */
        st->memory_peak_bytes = st->memory_bytes;
        r = 0;
    }
    if (r == 0)
        r = shim_cg__get_keys(cg, dir, "memory.stat", files, DBX_ARRAY_LEN(files));
    if (r == 0)
        r = shim_cg__get_u64(cg, dir, "pids.current", &st->pids);
    st->file_bytes = inactive + active;
    return r;
}

static int v2_reset_peak(struct shim_cgroup *cg)
{
    if (cg->peak_fd < 0) {
        DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/memory.peak", cg->dirs[0]);
        cg->peak_fd = open(path, O_RDWR | O_CLOEXEC);
        if (cg->peak_fd < 0)
            return errno == EACCES || errno == ENOENT ? -EOPNOTSUPP : -errno;
    }
    if (pwrite(cg->peak_fd, "reset\n", 6, 0) >= 0)
        return 0;
    dbx_closep(&cg->peak_fd); /* before 6.12 it can only be read */
    cg->peak_fd = -1;
    return -EOPNOTSUPP;
}

static int v2_kill(struct shim_cgroup *cg)
{
    uint64_t populated = 0;
    const struct shim_cg_key key[] = {{"populated", &populated}};
    int r = shim_cg__get_keys(cg, cg->dirs[0], "cgroup.events", key, DBX_ARRAY_LEN(key));
    if (r == -ENOENT || r == -ENODEV)
        return 0;
    if (r < 0 || !populated)
        return r;
    r = shim_cg__write(cg->dirs[0], "cgroup.kill", "1");
    if (r == -ENOENT) /* before 5.14 */
        return shim_cg__kill_procs(cg->dirs[0]);
    return r < 0 ? r : 1;
}

const struct shim_cgroup_ops shim_cg__v2 = {
    .version = 2,
    .open = v2_open,
    .weigh = v2_weigh,
    .prepare = v2_prepare,
    .set = v2_set,
    .set_weight = v2_set_weight,
    .read = v2_read,
    .spent = v2_spent,
    .reset_peak = v2_reset_peak,
    .kill = v2_kill,
};
