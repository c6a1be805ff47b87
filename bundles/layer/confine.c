/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/layer/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/ext/confine.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true /* its shadow is terabytes of address space */
#else
#define SANITIZED false
#endif

static int set_limits(const struct layer_confine *c, struct dbx_err *err)
{
    const struct {
        int what;
        rlim_t most;
    } limits[] = {{RLIMIT_CPU, c->cpu_s}, {RLIMIT_AS, SANITIZED ? RLIM_INFINITY : c->memory_bytes},
                  {RLIMIT_NOFILE, 16},    {RLIMIT_FSIZE, c->file_bytes},
                  {RLIMIT_CORE, 0},       {RLIMIT_NPROC, 0}};
    for (size_t i = 0; i < DBX_ARRAY_LEN(limits); i++) {
        const struct rlimit l = {limits[i].most, limits[i].most};
        if (setrlimit((__rlimit_resource_t)limits[i].what, &l) < 0)
            return dbx_err_sys(err, "limits");
    }
    return 0;
}

static int enter(const char *folder, const struct layer_confine *c, int *ret_root,
                 struct dbx_err *err)
{
    bool root = geteuid() == 0;
    if (chdir(folder) < 0 || (root && (chown(".", c->uid, c->uid) < 0 || chroot(".") < 0)))
        return dbx_err_sys(err, "enter %s", folder);
    *ret_root = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*ret_root < 0)
        return dbx_err_sys(err, "open %s", folder);
    if (root && (setgroups(0, NULL) < 0 || setresgid(c->uid, c->uid, c->uid) < 0 ||
                 setresuid(c->uid, c->uid, c->uid) < 0))
        return dbx_err_sys(err, "become user %u", c->uid);
    return 0;
}

/* What libc and libarchive try without needing it is refused; anything else is the end. */
static int filter(struct dbx_err *err)
{
    static const char *const allowed[] = {
        "read",         "write",         "openat",       "mkdirat",   "symlinkat", "linkat",
        "utimensat",    "close",         "syncfs",       "brk",       "mmap",      "munmap",
        "mremap",       "madvise",       "mprotect",     "futex",     "exit",      "exit_group",
        "rt_sigreturn", "clock_gettime", "gettimeofday", "getrandom", NULL};
    static const char *const refused[] = {"open",   "newfstatat",  "fstat", "stat",  "readlink",
                                          "access", "ioctl",       "lseek", "umask", "poll",
                                          "getpid", "sigaltstack", NULL};
    const struct dbx_seccomp f = {.allow = allowed, .refuse = refused, .otherwise = DBX_SYS_KILL};
    return dbx_seccomp(&f, err);
}

int layer_confine(const char *folder, const struct layer_confine *c, int *ret_root,
                  struct dbx_err *err)
{
    int r = enter(folder, c, ret_root, err);
    if (r == 0)
        r = set_limits(c, err);
    if (r == 0 && (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0))
        r = dbx_err_sys(err, "give up privileges");
    return r == 0 ? filter(err) : r;
}
