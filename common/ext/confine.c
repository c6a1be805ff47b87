/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ext/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The bounding set first: that takes CAP_SETPCAP. Who has not even that has a bounding set that
 * gives nothing, with no_new_privs. */
int dbx_confine_bounding(uint64_t keep, struct dbx_err *err)
{
    for (int cap = 0; cap < 64; cap++) {
        int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (has < 0)
            break; /* the kernel knows no more */
        if (has && !(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
            return dbx_err_sys(err, "give up capability %d", cap);
    }
    return 0;
}

int dbx_confine_caps(uint64_t keep, struct dbx_err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    int r = dbx_confine_bounding(keep, err);
    if (r < 0)
        return r;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return dbx_err_sys(err, "give up new privileges");
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capget, &head, data) < 0)
        return dbx_err_sys(err, "ask for the capabilities");
    for (int i = 0; i < 2; i++) {
        uint32_t mine = data[i].permitted & (uint32_t)(keep >> (32 * i));
        data[i] = (struct __user_cap_data_struct){.permitted = mine, .effective = mine};
    }
    return syscall(SYS_capset, &head, data) < 0 ? dbx_err_sys(err, "give up capabilities") : 0;
}

int dbx_confine_memory(struct dbx_err *err)
{
#if !defined(__SANITIZE_ADDRESS__)
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return dbx_err_sys(err, "keep memory from being looked into");
#endif
    (void)err;
    return 0;
}
