/* SPDX-License-Identifier: Apache-2.0 */
/* Both versions on a tree of plain files, made as the kernel would make them. */
#include "shim/cgroup.h"

#include "shim/tests/cgroup_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void clear(void)
{
    CHECK_EQ(dbx_fs_remove_tree(root, NULL), 0);
    CHECK_EQ(dbx_fs_mkdirs(root, 0755, NULL), 0);
}

static struct shim_cgroups *open_at(const char *sub, bool move, int expect)
{
    DBX_CLEANUP(dbx_freep) char *mount = dbx_asprintf("%s%s", root, sub);
    struct shim_cgroups_opts opts = {.mount = mount, .base = "devbox-n", .move_self = move};
    struct shim_cgroups *cgs = NULL;
    struct dbx_err err = {0};
    CHECK_EQ(shim_cgroups_open(&opts, &cgs, &err), expect);
    if (expect == 0 && !cgs)
        fprintf(stderr, "%s\n", err.msg);
    return cgs;
}

static void check_weight(const char *sub, const char *file, const char *expect, const char *least)
{
    DBX_CLEANUP(dbx_freep) char *mount = dbx_asprintf("%s%s", root, sub);
    struct shim_cgroups_opts opts = {.mount = mount, .base = "devbox-n", .weight = 10};
    DBX_CLEANUP(shim_cgroups_freep) struct shim_cgroups *cgs = NULL;
    CHECK_EQ(shim_cgroups_open(&opts, &cgs, NULL), -ENOENT); /* as where the kernel has none */
    put(file, "100\n");
    DBX_CLEANUP(dbx_freep)
    char *behind = dbx_asprintf("%.*s" SHIM_CGROUP_BACKGROUND "%s",
                                (int)(strrchr(file, '/') - file), file, strrchr(file, '/'));
    CHECK_EQ(shim_cgroups_open(&opts, &cgs, NULL), -ENOENT);
    put(behind, "100\n");
    CHECK_EQ(shim_cgroups_open(&opts, &cgs, NULL), 0);
    CHECK_STR(get(file), expect);
    CHECK_STR(get(behind), least); /* where the kernel knows no idle ones */
}

/* A background that is as heavy as its heaviest. */
static void check_background(struct shim_cgroups *cgs, const char *dir, const char *file,
                             const char *const expect[static 3])
{
    DBX_CLEANUP(dbx_freep) char *idle = dbx_asprintf("%s/cpu.idle", dir);
    DBX_CLEANUP(dbx_freep) char *weight = dbx_asprintf("%s/%s", dir, file);
    struct shim_cgroup *cg[2];
    put(idle, "0\n");
    put(weight, "\n");
    for (int i = 0; i < 2; i++) {
        DBX_CLEANUP(dbx_freep) char *own = dbx_asprintf("%s/b%d/cpu.idle", dir, i);
        DBX_CLEANUP(dbx_freep) char *own_weight = dbx_asprintf("%s/b%d/%s", dir, i, file);
        DBX_CLEANUP(dbx_freep) char *procs = dbx_asprintf("%s/b%d/cgroup.procs", dir, i);
        put(procs, "");
        put(own, i ? "0\n" : "1\n");
        put(own_weight, "\n");
    }
    cg[0] = shim_cgroup_adopt(cgs, "b0");
    CHECK_STR(strrchr(shim_cgroup_path(cg[0]), '.'), SHIM_CGROUP_BACKGROUND "/b0");
    CHECK_STR(get(weight), "\n");
    cg[1] =
        shim_cgroup_adopt(cgs, "b1"); /* not idle: whatever it is, it counts as much as can be */
    CHECK_STR(get(weight), expect[2]);
    CHECK_EQ(shim_cgroup_set_weight(cg[1], SHIM_WEIGHT_IDLE), 0);
    CHECK_STR(get(idle), "1");
    CHECK_EQ(shim_cgroups_lift(cgs, SHIM_WEIGHT_BATCH), 0);
    CHECK_STR(get(idle), "0");
    CHECK_STR(get(weight), expect[0]);
    CHECK(shim_cgroup_is_idle(cg[0]) && shim_cgroup_is_idle(cg[1])); /* among themselves */
    CHECK_EQ(shim_cgroup_set_weight(cg[1], SHIM_WEIGHT_AHEAD), 0);
    CHECK_EQ(shim_cgroups_lift(cgs, SHIM_WEIGHT_IDLE), 0);
    CHECK_STR(get(idle), "0");
    CHECK_STR(get(weight), expect[1]);
    uint64_t us = 0;
    CHECK_EQ(shim_cgroups_got(cgs, &us), 0); /* what all got */
    CHECK_EQ(us, 7);
    shim_cgroup_free(cg[1]);
    CHECK_STR(get(idle), "1");
    shim_cgroup_free(cg[0]);
}

static void v1_tree(void)
{
    static const char *const names[] = {"pids", "memory", "cpu", "cpuacct", "cpuset"};
    for (size_t i = 0; i < DBX_ARRAY_LEN(names); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/cgroup.procs", names[i]);
        put(path, "1\n");
    }
    put("cpuset/cpuset.cpus", "0-1\n");
    put("cpuset/cpuset.mems", "0\n");
    put("cpuset/devbox-n/cpuset.cpus", "\n");
    put("cpuset/devbox-n.background/cpuset.cpus", "\n");
    put("cpuset/devbox-n.background/cpuset.mems", "\n");
    put("cpuset/devbox-n/cpuset.mems", "\n");
    put("cpuset/devbox-n/a/cpuset.cpus", "\n");
    put("cpuset/devbox-n/a/cpuset.mems", "\n");
    put("memory/devbox-n/a/memory.limit_in_bytes", "");
    put("memory/devbox-n/a/memory.memsw.limit_in_bytes", "");
    put("memory/devbox-n/a/memory.usage_in_bytes", "5000\n");
    put("memory/devbox-n/a/memory.max_usage_in_bytes", "9000\n");
    put("memory/devbox-n/a/memory.stat", "cache 3\nrss 4\ninactive_file 100\nactive_file 20\n");
    put("memory/devbox-n/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    put("cpu/devbox-n/a/cpu.cfs_quota_us", "");
    put("cpu/devbox-n/a/cpu.shares", "");
    put("cpuacct/devbox-n/a/cpuacct.usage", "123456789\n");
    put("pids/devbox-n/a/pids.max", "");
    put("pids/devbox-n/a/pids.current", "7\n");
}

static void test_v1(void)
{
    clear();
    v1_tree();
    check_weight("", "cpu/devbox-n/cpu.shares", "102", "10");
    struct shim_cgroups *cgs = open_at("", false, 0);
    CHECK_EQ(shim_cgroups_version(cgs), 1);
    struct shim_cgroup *cg = NULL;
    struct dbx_err err = {0};
    struct shim_cgroup_limits l = {.memory_bytes = 1 << 20, .cpu_millis = 1500, .processes = 10};
    CHECK_EQ(shim_cgroup_create(cgs, "a", false, &l, &cg, &err), 0);
    CHECK_STR(shim_cgroup_path(cg), "/devbox-n/a");
    CHECK_STR(get("memory/devbox-n/a/memory.limit_in_bytes"), "1048576");
    CHECK_STR(get("memory/devbox-n/a/memory.memsw.limit_in_bytes"), "1048576");
    CHECK_STR(get("cpu/devbox-n/a/cpu.cfs_quota_us"), "150000");
    CHECK_STR(get("pids/devbox-n/a/pids.max"), "168");
    CHECK_STR(get("cpuset/devbox-n/a/cpuset.cpus"), "0-1\n");
    CHECK_STR(get("cpuset/devbox-n/a/cpuset.mems"), "0\n");
    struct shim_cgroup_stat st;
    CHECK_EQ(shim_cgroup_read(cg, &st), 0);
    CHECK_EQ(st.cpu_us, 123456);
    CHECK_EQ(st.memory_bytes, 5000);
    CHECK_EQ(st.memory_peak_bytes, 9000);
    CHECK_EQ(st.file_bytes, 120);
    CHECK_EQ(st.oom_kills, 2);
    CHECK_EQ(st.pids, 7);
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_BATCH), 0);
    CHECK_STR(get("cpu/devbox-n/a/cpu.shares"), "51");
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_FULL), 0);
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_IDLE), 0); /* a kernel that has no such thing */
    CHECK_STR(get("cpu/devbox-n/a/cpu.shares"), "51");
    put("cpu/devbox-n/a/cpu.idle", "0\n");
    CHECK(!shim_cgroup_is_idle(cg));
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_IDLE), 0);
    CHECK_STR(get("cpu/devbox-n/a/cpu.idle"), "1");
    CHECK(shim_cgroup_is_idle(cg));
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_FULL), 0);
    CHECK_STR(get("cpu/devbox-n/a/cpu.idle"), "0");
    CHECK_STR(get("cpu/devbox-n/a/cpu.shares"), "1024");
    CHECK_EQ(shim_cgroup_reset_peak(cg), 0);
    CHECK_STR(get("memory/devbox-n/a/memory.max_usage_in_bytes"), "0");
    CHECK_EQ(shim_cgroup_set(cg, &(struct shim_cgroup_limits){0}, &err), 0);
    CHECK_STR(get("memory/devbox-n/a/memory.limit_in_bytes"), "-1");
    CHECK_STR(get("pids/devbox-n/a/pids.max"), "max");
    CHECK_EQ(shim_cgroup_kill(cg), 0); /* it has no procs file: gone */
    CHECK_EQ(shim_cgroup_remove(cg), -ENOTEMPTY);
    CHECK_EQ(shim_cgroup_create(cgs, "b", false, &l, &(struct shim_cgroup *){NULL}, &err), -ENOENT);
    shim_cgroup_free(cg);
    put("cpuacct/devbox-n.background/cpuacct.usage", "7000\n");
    put("memory/devbox-n.background/memory.oom_control", "oom_kill 0\n");
    check_background(cgs, "cpu/devbox-n.background", "cpu.shares",
                     (const char *const[]){"51", "256", "1024"});
    shim_cgroups_free(cgs);
}

static void test_v1_kills(void)
{
    clear();
    v1_tree();
    struct shim_cgroups *cgs = open_at("", false, 0);
    struct shim_cgroup *cg = shim_cgroup_adopt(cgs, "a");
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    char text[64];
    snprintf(text, sizeof(text), "%d\n%d\n1\n", (int)pid,
             (int)getpid()); /* itself and PID 1 are never killed */
    put("pids/devbox-n/a/cgroup.procs", text);
    CHECK_EQ(shim_cgroup_kill(cg), 1);
    int status = 0;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    put("pids/devbox-n/a/cgroup.procs", "");
    CHECK_EQ(shim_cgroup_kill(cg), 0);
    shim_cgroup_free(cg);
    shim_cgroups_free(cgs);
}

static void test_v2(void)
{
    clear();
    put("v2/cgroup.controllers", "cpuset cpu io memory pids\n");
    put("v2/cgroup.subtree_control", "");
    put("v2/devbox-n/cgroup.subtree_control", "");
    put("v2/devbox-n/a/memory.max", "");
    put("v2/devbox-n/a/cpu.max", "");
    put("v2/devbox-n/a/pids.max", "");
    put("v2/devbox-n/a/cpu.weight", "");
    put("v2/devbox-n/a/memory.current", "5000\n");
    put("v2/devbox-n/a/memory.peak", "9000\n");
    put("v2/devbox-n/a/memory.stat", "anon 3\ninactive_file 100\nactive_file 20\nfile 999\n");
    put("v2/devbox-n/a/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 0\n");
    put("v2/devbox-n/a/cpu.stat", "usage_usec 4711\nuser_usec 1\n");
    put("v2/devbox-n/a/pids.current", "7\n");
    put("v2/devbox-n/a/cgroup.events", "populated 1\nfrozen 0\n");
    put("v2/devbox-n/a/cgroup.kill", "");
    put("v2/devbox-n.background/cgroup.subtree_control", "");
    check_weight("/v2", "v2/devbox-n/cpu.weight", "10", "1");
    struct shim_cgroups *cgs = open_at("/v2", false, 0);
    CHECK_EQ(shim_cgroups_version(cgs), 2);
    CHECK_STR(get("v2/cgroup.subtree_control"), "+cpu +memory +pids");
    CHECK_STR(get("v2/devbox-n/cgroup.subtree_control"), "+cpu +memory +pids");
    struct shim_cgroup *cg = NULL;
    struct dbx_err err = {0};
    struct shim_cgroup_limits l = {.memory_bytes = 1 << 20, .cpu_millis = 500, .processes = 64};
    CHECK_EQ(shim_cgroup_create(cgs, "a", false, &l, &cg, &err), 0);
    CHECK_STR(get("v2/devbox-n/a/memory.max"), "1048576");
    CHECK_STR(get("v2/devbox-n/a/cpu.max"), "50000 100000");
    CHECK_STR(get("v2/devbox-n/a/pids.max"), "384");
    struct shim_cgroup_stat st;
    CHECK_EQ(shim_cgroup_read(cg, &st), 0);
    CHECK_EQ(st.cpu_us, 4711);
    CHECK_EQ(st.memory_bytes, 5000);
    CHECK_EQ(st.memory_peak_bytes, 9000);
    CHECK_EQ(st.file_bytes, 120);
    CHECK_EQ(st.oom_kills, 3);
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_BATCH), 0);
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_FULL), 0);
    CHECK_STR(get("v2/devbox-n/a/cpu.weight"), "100");
    put("v2/devbox-n/a/cpu.idle", "0\n");
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_IDLE), 0);
    CHECK_STR(get("v2/devbox-n/a/cpu.idle"), "1");
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_AHEAD), 0);
    CHECK_STR(get("v2/devbox-n/a/cpu.idle"), "0");
    CHECK_STR(get("v2/devbox-n/a/cpu.weight"), "25");
    CHECK_EQ(shim_cgroup_reset_peak(cg), 0);
    CHECK_EQ(strncmp(get("v2/devbox-n/a/memory.peak"), "reset\n", 6), 0);
    CHECK_EQ(shim_cgroup_kill(cg), 1);
    CHECK_STR(get("v2/devbox-n/a/cgroup.kill"), "1");
    put("v2/devbox-n/a/cgroup.events", "populated 0\n");
    CHECK_EQ(shim_cgroup_kill(cg), 0);
    CHECK_EQ(shim_cgroup_add(cg, 5, &err), -ENOENT);
    shim_cgroup_free(cg);
    put("v2/devbox-n.background/cpu.stat", "usage_usec 7\n");
    put("v2/devbox-n.background/memory.events", "oom_kill 0\n");
    check_background(cgs, "v2/devbox-n.background", "cpu.weight",
                     (const char *const[]){"5", "25", "100"});
    shim_cgroups_free(cgs);
}

static void count_ids(const char *id, void *user)
{
    int *n = user;
    CHECK(strcmp(id, "a") == 0 || strcmp(id, "old") == 0);
    (*n)++;
}

static void test_detection(void)
{
    clear();
    open_at("", false, -ENOSYS);
    put("cgroup.controllers", "cpuset cpu\n"); /* v2 without memory: of no use, as a hybrid's */
    open_at("", false, -ENOSYS);
    v1_tree();
    put("pids/devbox-n/old/pids.max", "");
    struct shim_cgroups *cgs = open_at("", false, 0);
    CHECK_EQ(shim_cgroups_version(cgs), 1);
    int n = 0;
    CHECK_EQ(shim_cgroups_each(cgs, count_ids, &n, NULL), 0);
    CHECK(n >= 2);
    shim_cgroups_free(cgs);
}

static void count_all(const char *id, void *user)
{
    (void)id;
    ++*(int *)user;
}

/* What the tree of files cannot tell, on the machine's own where there is one. */
static void test_real(void)
{
    struct shim_cgroups_opts opts = {.base = "devbox-unit-test"};
    struct shim_cgroups *cgs = NULL;
    struct shim_cgroup *cg = NULL;
    struct dbx_err err = {0};
    if (geteuid() != 0 || shim_cgroups_open(&opts, &cgs, &err) < 0) {
        printf("no cgroups to write here: %s\n", err.msg);
        return;
    }
    char id[32];
    snprintf(id, sizeof(id), "t%d", (int)getpid());
    struct shim_cgroup_limits l = {.memory_bytes = 64 << 20, .cpu_millis = 500, .processes = 10};
    CHECK_EQ(shim_cgroup_create(cgs, id, false, &l, &cg, &err), 0);
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    CHECK_EQ(shim_cgroup_add(cg, pid, &err), 0);
    l.memory_bytes = 128 << 20; /* up, and down */
    CHECK_EQ(shim_cgroup_set(cg, &l, &err), 0);
    l.memory_bytes = 32 << 20;
    CHECK_EQ(shim_cgroup_set(cg, &l, &err), 0);
    struct shim_cgroup_stat st;
    CHECK_EQ(shim_cgroup_read(cg, &st), 0);
    CHECK_EQ(st.pids, 1);
    CHECK(shim_cgroup_remove(cg) == -EBUSY);
    CHECK_EQ(shim_cgroup_kill(cg), 1);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    CHECK_EQ(shim_cgroup_kill(cg), 0);
    CHECK_EQ(shim_cgroup_remove(cg), 0);
    CHECK_EQ(shim_cgroup_remove(cg), 0);
    shim_cgroup_free(cg);
    CHECK_EQ(shim_cgroup_create(cgs, id, true, &l, &cg, &err), 0);
    shim_cgroup_free(cg);
    cg = shim_cgroup_adopt(cgs, id);
    CHECK(strstr(shim_cgroup_path(cg), SHIM_CGROUP_BACKGROUND "/"));
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_FULL), 0);
    CHECK_EQ(shim_cgroup_set_weight(cg, SHIM_WEIGHT_IDLE), 0);
    uint64_t us = UINT64_MAX;
    CHECK_EQ(shim_cgroups_got(cgs, &us), 0);
    CHECK(us < UINT64_MAX);
    int n = 0;
    CHECK_EQ(shim_cgroups_each(cgs, count_all, &n, NULL), 0);
    CHECK(n >= 1);
    CHECK_EQ(shim_cgroup_remove(cg), 0);
    shim_cgroup_free(cg);
    shim_cgroups_prune(cgs);
    shim_cgroups_free(cgs);
}

int main(void)
{
    if (!mkdtemp(root))
        return 1;
    test_v1();
    test_v1_kills();
    test_v2();
    test_detection();
    test_real();
    CHECK_EQ(dbx_fs_remove_tree(root, NULL), 0);
    return check_result();
}
