/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/sched.h"

#include "tests/unit/check.h"

#include <linux/sched.h>
#include <linux/sched/types.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sched_attr mine(void)
{
    struct sched_attr attr = {.size = sizeof(attr)};
    CHECK_EQ(syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0), 0);
    return attr;
}

/* A kernel before 6.12 tells 0, whatever was asked for. */
static void test_slices(void)
{
    uint64_t usual = mine().sched_runtime;
    CHECK_EQ(setpriority(PRIO_PROCESS, 0, 3), 0);
    dbx_sched_short_slices();
    struct sched_attr attr = mine();
    CHECK(attr.sched_runtime == 0 || (attr.sched_runtime == 100000 && usual > 100000));
    CHECK_EQ(attr.sched_nice, 3);

    pid_t child = fork();
    if (child == 0)
        _exit(mine().sched_runtime == usual ? 0 : 1);
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static void test_other_policies(void)
{
    struct sched_attr attr = {.size = sizeof(attr), .sched_policy = SCHED_BATCH};
    CHECK_EQ(syscall(SYS_sched_setattr, 0, &attr, 0), 0);
    dbx_sched_short_slices();
    CHECK_EQ(mine().sched_policy, SCHED_BATCH);
}

int main(void)
{
    test_slices();
    test_other_policies();
    return check_result();
}
