/* SPDX-License-Identifier: Apache-2.0 */
/* What those who yield weigh, on cgroups (v1) of plain files. */
#include "shim/yield.h"

#include "common/io/loop.h"
#include "shim/tests/cgroup_test.h"

#include <stdlib.h>
#include <unistd.h>

#define LOOK_US 200000
#define BACK "devbox-n" SHIM_CGROUP_BACKGROUND

static void spend(const char *path, uint64_t us)
{
    char file[128], ns[32];
    snprintf(file, sizeof(file), "cpuacct/%s/cpuacct.usage", path);
    snprintf(ns, sizeof(ns), "%llu\n", (unsigned long long)us * 1000);
    put(file, ns);
}

static void make(const char *path)
{
    static const char *const files[][2] = {{"pids/%s/cgroup.procs", ""},
                                           {"cpu/%s/cpu.idle", "0\n"},
                                           {"cpu/%s/cpu.shares", "\n"},
                                           {"cpu/%s/cpu.cfs_quota_us", "\n"},
                                           {"memory/%s/memory.oom_control", "oom_kill 0\n"}};
    for (size_t i = 0; i < DBX_ARRAY_LEN(files); i++) {
        char file[128];
        snprintf(file, sizeof(file), files[i][0], path);
        put(file, files[i][1]);
    }
    spend(path, 0);
}

static struct shim_cgroups *tree(void)
{
    struct shim_cgroups_opts opts = {.mount = root, .base = "devbox-n", .weight = 10};
    struct shim_cgroups *cgs = NULL;
    static const char *const names[] = {"pids", "memory", "cpu", "cpuacct"};
    CHECK_EQ(dbx_fs_remove_tree(root, NULL), 0);
    for (size_t i = 0; i < DBX_ARRAY_LEN(names); i++) {
        char path[64];
        snprintf(path, sizeof(path), "%s/cgroup.procs", names[i]);
        put(path, "1\n");
    }
    make("devbox-n");
    make(BACK);
    make("devbox-n/front");
    make(BACK "/b0");
    make(BACK "/b1");
    CHECK_EQ(shim_cgroups_open(&opts, &cgs, NULL), 0);
    return cgs;
}

/* The background gets so much more of LOOK_US, and is looked at: what does it weigh? */
static const char *after(struct shim_yields *ys, uint64_t us)
{
    static uint64_t all;
    all = us ? all + us : all;
    spend(BACK, all);
    shim_yields_look(ys, LOOK_US);
    return strcmp(get("cpu/" BACK "/cpu.idle"), "1") == 0 ? "idle" : get("cpu/" BACK "/cpu.shares");
}

/* Two that want, of two processors: a tenth is 40,000, a third is 133,333. */
static void test_background(struct dbx_loop *loop)
{
    struct shim_cgroups *cgs = tree();
    struct shim_yields *ys = shim_yields_new(loop, cgs, 2);
    struct shim_cgroup *cg[2] = {shim_cgroup_adopt(cgs, "b0"), shim_cgroup_adopt(cgs, "b1")};
    struct shim_yield y[2] = {0};
    CHECK_EQ(shim_yield_begin(ys, &y[0], cg[0]), 0);
    CHECK_EQ(shim_yield_begin(ys, &y[1], cg[1]), 0);
    CHECK_STR(after(ys, 400000), "idle");
    CHECK_STR(after(ys, 40000), "idle");
    CHECK_STR(after(ys, 39999), "10"); /* a step at each look */
    CHECK_STR(after(ys, 0), "20");
    CHECK_STR(after(ys, 100000), "20"); /* enough, and not too much */
    CHECK_STR(after(ys, 10000), "102");
    CHECK_STR(after(ys, 10000), "102"); /* there is no more */
    shim_yield_end(&y[1]);
    CHECK_STR(after(ys, 20000), "102"); /* and what it came to is not lost with who ends ... */
    CHECK(shim_cgroup_is_idle(cg[0]));  /* (they stay equals) */
    CHECK_EQ(shim_yield_begin(ys, &y[1], cg[1]), 0);
    CHECK_STR(after(ys, 50000), "102"); /* ... nor by who comes */
    CHECK_STR(after(ys, 140000), "idle");
    CHECK_STR(after(ys, 0), "10");
    y[0].rests = true;
    CHECK_STR(after(ys, 20000), "10"); /* one wants, of one processor */
    y[1].rests = true;
    CHECK_STR(after(ys, 0), "idle"); /* nobody */
    CHECK_STR(after(ys, 0), "idle");
    y[0].rests = false;
    CHECK_STR(after(ys, 0), "10");
    shim_yield_end(&y[0]);
    shim_yield_end(&y[1]);
    CHECK_STR(get("cpu/" BACK "/cpu.idle"), "1");
    shim_yield_end(&y[1]); /* it does not */
    shim_cgroup_free(cg[0]);
    shim_cgroup_free(cg[1]);
    shim_yields_free(ys);
    shim_cgroups_free(cgs);
}

/* One of the pool's, which stands among those that are waited for, is looked at by itself. */
static void test_front(struct dbx_loop *loop)
{
    struct shim_cgroups *cgs = tree();
    struct shim_yields *ys = shim_yields_new(loop, cgs, 2);
    struct shim_cgroup *cg = shim_cgroup_adopt(cgs, "front");
    struct shim_yield y = {0};
    spend("devbox-n/front", 1000000);
    CHECK_EQ(shim_yield_begin(ys, &y, cg), 0);
    CHECK_STR(get("cpu/devbox-n/front/cpu.idle"), "1");
    spend("devbox-n/front", 1020000);
    shim_yields_look(ys, LOOK_US);
    CHECK_STR(get("cpu/devbox-n/front/cpu.idle"), "1");
    shim_yields_look(ys, LOOK_US);
    CHECK_STR(get("cpu/devbox-n/front/cpu.idle"), "0");
    CHECK_STR(get("cpu/devbox-n/front/cpu.shares"), "51");
    CHECK_STR(after(ys, 0), "idle"); /* and says nothing of those in the background */
    CHECK_STR(get("cpu/devbox-n/front/cpu.shares"), "256");
    spend("devbox-n/front", 1200000);
    shim_yields_look(ys, LOOK_US);
    CHECK_STR(get("cpu/devbox-n/front/cpu.idle"), "1");
    shim_yields_free(ys); /* who yields still does so no more */
    shim_yield_end(&y);
    shim_cgroup_free(cg);
    shim_cgroups_free(cgs);
}

int main(void)
{
    struct dbx_loop *loop = dbx_loop_new();
    CHECK(mkdtemp(root) != NULL);
    test_background(loop);
    test_front(loop);
    CHECK_EQ(dbx_fs_remove_tree(root, NULL), 0);
    dbx_loop_free(loop);
    return check_result();
}
