/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/host.h"

#include "common/base/log.h"
#include "common/base/metrics.h"
#include "shim/cgroup.h"

#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS_OF_A_SANDBOX 24 /* control socket, process, files of its cgroup, rings */
#define FDS_OF_THE_SHIM 256

/* What follows was seen by leaving each out, or stands in the code that needs it. */
static const struct {
    const char *name, *without;
    int cap;
    bool needed;
} caps[] = {
    {"cap_sys_admin", "runsc can make no name spaces and mounts", CAP_SYS_ADMIN, true},
    {"cap_sys_chroot", "runsc can lock no sandbox in", CAP_SYS_CHROOT, true},
    {"cap_setuid", "runsc cannot make a sandbox somebody else's", CAP_SETUID, true},
    {"cap_setgid", "runsc cannot make a sandbox somebody else's", CAP_SETGID, true},
    {"cap_dac_override", "no cgroups can be made in folders of others", CAP_DAC_OVERRIDE, true},
    {"cap_chown", "dependency layers cannot be given to who unpacks them", CAP_CHOWN, false},
    {"cap_kill", "a sandbox that hangs can be ended through its init only", CAP_KILL, false},
};

static void add(struct shim_host *host, const char *name, bool there, bool needed,
                const char *without)
{
    dbx_assert(host->n < SHIM_HOST_MAX);
    host->facts[host->n++] = (struct shim_host_fact){name, without, needed, there};
}

static void look_at_capabilities(struct shim_host *host)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    (void)syscall(SYS_capget, &head, data); /* cannot fail: it is asked about itself */
    for (size_t i = 0; i < DBX_ARRAY_LEN(caps); i++)
        add(host, caps[i].name,
            data[caps[i].cap / 32].effective & (uint32_t)1 << (caps[i].cap % 32), caps[i].needed,
            caps[i].without);
}

static void look_at_cgroups(struct shim_host *host, const struct shim_cgroups *cgroups)
{
    struct shim_cgroups_gives g = {0};
    if (cgroups)
        shim_cgroups_give(cgroups, &g);
    add(host, "cgroups", cgroups != NULL, true, "nothing can be limited");
    add(host, "cgroup_swap", g.swap, false, "what is swapped out is not counted as memory");
    add(host, "cgroup_kill", g.kill, false, "a sandbox's processes are killed one by one");
    add(host, "cgroup_peak_reset", g.reset_peak, false,
        "memory_peak_bytes counts what was before the program, too");
}

void shim_host_look(const struct shim_cgroups *cgroups, uint32_t max_sandboxes,
                    struct shim_host *ret)
{
    struct rlimit fds = {0};
    ret->n = 0;
    look_at_capabilities(ret);
    look_at_cgroups(ret, cgroups);
    (void)getrlimit(RLIMIT_NOFILE, &fds);
    add(ret, "open_files",
        fds.rlim_cur >= FDS_OF_THE_SHIM + (uint64_t)max_sandboxes * FDS_OF_A_SANDBOX, false,
        "max_sandboxes cannot be reached: each takes up to 24 descriptors");
}

void shim_host_tell(const struct shim_host *host, const struct dbx_log_ctx *log)
{
    for (size_t i = 0; i < host->n; i++) {
        const struct shim_host_fact *f = &host->facts[i];
        char labels[64];
        snprintf(labels, sizeof(labels), "has=\"%s\"", f->name);
        dbx_metric_set(dbx_gauge("devbox_shim_host", labels, "What the machine gives, or not"),
                       f->there);
        if (!f->there)
            dbx_log(f->needed ? DBX_LOG_ERR : DBX_LOG_INFO, log, "this machine lacks %s: %s",
                    f->name, f->without);
    }
}

void shim_host_lacks(const struct shim_host *host, char *ret, size_t size)
{
    size_t len = 0;
    ret[0] = 0;
    for (size_t i = 0; i < host->n && len < size; i++) {
        const struct shim_host_fact *f = &host->facts[i];
        if (f->needed && !f->there)
            len += (size_t)snprintf(ret + len, size - len, "%s%s (%s)", len ? ", " : "lacks ",
                                    f->name, f->without);
    }
}
