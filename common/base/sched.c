/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/sched.h"

#include <linux/sched.h>
#include <linux/sched/types.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLICE_NS 100000

/* Without the wrappers, which glibc has since 2.41. */
void dbx_sched_short_slices(void)
{
    struct sched_attr attr = {.size = sizeof(attr)};
    if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) < 0 ||
        attr.sched_policy != SCHED_NORMAL)
        return;
    attr.sched_runtime = SLICE_NS;
    attr.sched_flags |= SCHED_FLAG_RESET_ON_FORK;
    (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}
