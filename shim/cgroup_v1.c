/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup v1: a folder of the same name in each hierarchy. */
#include "shim/cgroup_int.h"

#include "common/base/buf.h"
#include "common/base/fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A new cpuset is empty and takes no process until it was given CPUs and memory nodes: its
 * parent's. */
static int fill_cpuset(const char *dir, struct dbx_err *err)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    for (size_t i = 0; i < DBX_ARRAY_LEN(files); i++) {
        DBX_CLEANUP(dbx_freep) char *parent = dbx_asprintf("%s/../%s", dir, files[i]);
        DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
        int r = dbx_fs_read(parent, SHIM_CG_MAX_FILE, &buf, err);
        if (r < 0)
            return r;
        r = shim_cg__write(dir, files[i], dbx_buf_cstr(&buf));
        if (r < 0)
            return dbx_err_set(err, r, DBX_INTERNAL, "write %s/%s: %s", dir, files[i],
                               strerror(-r));
    }
    return 0;
}

static int v1_open(struct shim_cgroups *cgs, const char *base, bool move_self, struct dbx_err *err)
{
    (void)move_self; /* processes may stand beside children here */
    for (size_t i = 0; i < cgs->n; i++) {
        DBX_CLEANUP(dbx_freep) char *dir = dbx_asprintf("%s/%s", cgs->roots[i], base);
        int r = dbx_fs_mkdirs(dir, 0755, err);
        if (r == 0 && strcmp(cgs->names[i], "cpuset") == 0)
            r = fill_cpuset(dir, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* 1,024 is what others have. */
static void to_shares(char text[static 16], uint32_t weight)
{
    snprintf(text, 16, "%" PRIu32, weight * 1024 / 100);
}

static int v1_weigh(const struct shim_cgroups *cgs, const char *base, uint32_t weight)
{
    DBX_CLEANUP(dbx_freep) char *dir = dbx_asprintf("%s/cpu/%s", cgs->mount, base);
    char text[16];
    to_shares(text, weight);
    return shim_cg__write(dir, "cpu.shares", text);
}

static int v1_prepare(struct shim_cgroup *cg, struct dbx_err *err)
{
    const char *cpuset = shim_cg__dir(cg, "cpuset");
    return cpuset ? fill_cpuset(cpuset, err) : 0;
}

/* memory+swap may never be below memory: which of both is written first depends on the direction.
 */
static int set_memory(struct shim_cgroup *cg, uint64_t bytes)
{
    const char *dir = shim_cg__dir(cg, "memory");
    char text[24] = "-1";
    if (bytes)
        snprintf(text, sizeof(text), "%" PRIu64, bytes);
    int first = shim_cg__put(cg, dir, "memory.limit_in_bytes", text);
    int swap = shim_cg__put(cg, dir, "memory.memsw.limit_in_bytes", text);
    if (first == -EINVAL)
        first = shim_cg__put(cg, dir, "memory.limit_in_bytes", text);
    if (swap == -ENOENT) /* a kernel without swap accounting */
        swap = 0;
    return first < 0 ? first : swap;
}

static int v1_set(struct shim_cgroup *cg, const struct shim_cgroup_limits *l, struct dbx_err *err)
{
    int r = set_memory(cg, l->memory_bytes);
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "limit memory of %s to %" PRIu64 ": %s", cg->path,
                           l->memory_bytes, strerror(-r));
    char text[24] = "-1";
    if (l->cpu_millis)
        snprintf(text, sizeof(text), "%" PRIu64,
                 (uint64_t)l->cpu_millis * SHIM_CG_PERIOD_US / 1000);
    r = shim_cg__put(cg, shim_cg__dir(cg, "cpu"), "cpu.cfs_quota_us", text);
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "limit CPU of %s: %s", cg->path, strerror(-r));
    snprintf(text, sizeof(text), "%" PRIu64, SHIM_PIDS_MAX(l->processes));
    r = shim_cg__put(cg, shim_cg__dir(cg, "pids"), "pids.max", l->processes ? text : "max");
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "limit tasks of %s: %s", cg->path, strerror(-r));
    return 0;
}

static int v1_set_weight(struct shim_cgroup *cg, uint32_t weight)
{
    char text[16];
    to_shares(text, weight);
    return shim_cg__put(cg, shim_cg__dir(cg, "cpu"), "cpu.shares", text);
}

static int v1_spent(struct shim_cgroup *cg, struct shim_cgroup_stat *st)
{
    uint64_t cpu_ns = 0;
    const struct shim_cg_key oom[] = {{"oom_kill", &st->oom_kills}};
    int r = shim_cg__get_u64(cg, shim_cg__dir(cg, "cpuacct"), "cpuacct.usage", &cpu_ns);
    st->cpu_us = cpu_ns / 1000;
    return r == 0 ? shim_cg__get_keys(cg, shim_cg__dir(cg, "memory"), "memory.oom_control", oom,
                                      DBX_ARRAY_LEN(oom))
                  : r;
}

static int v1_read(struct shim_cgroup *cg, struct shim_cgroup_stat *st)
{
    const char *mem = shim_cg__dir(cg, "memory");
    uint64_t inactive = 0, active = 0;
    const struct shim_cg_key files[] = {{"inactive_file", &inactive}, {"active_file", &active}};
    int r = v1_spent(cg, st);
    if (r == 0)
        r = shim_cg__get_u64(cg, mem, "memory.usage_in_bytes", &st->memory_bytes);
    if (r == 0)
        r = shim_cg__get_u64(cg, mem, "memory.max_usage_in_bytes", &st->memory_peak_bytes);
    if (r == 0)
        r = shim_cg__get_keys(cg, mem, "memory.stat", files, DBX_ARRAY_LEN(files));
    if (r == 0)
        r = shim_cg__get_u64(cg, shim_cg__dir(cg, "pids"), "pids.current", &st->pids);
    st->file_bytes = inactive + active;
    return r;
}

static int v1_reset_peak(struct shim_cgroup *cg)
{
    return shim_cg__put(cg, shim_cg__dir(cg, "memory"), "memory.max_usage_in_bytes", "0");
}

static int v1_kill(struct shim_cgroup *cg)
{
    return shim_cg__kill_procs(cg->dirs[0]);
}

const struct shim_cgroup_ops shim_cg__v1 = {
    .version = 1,
    .open = v1_open,
    .weigh = v1_weigh,
    .prepare = v1_prepare,
    .set = v1_set,
    .set_weight = v1_set_weight,
    .read = v1_read,
    .spent = v1_spent,
    .reset_peak = v1_reset_peak,
    .kill = v1_kill,
};
