/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/unpack/confine.h"

#include <errno.h>
#include <grp.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/ext/confine.h"

#define NOBODY 65534
#define MAX_MEMORY (512ul << 20)
#define MAX_CPU_SECONDS 10

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true /* its shadow is terabytes of address space */
#else
#define SANITIZED false
#endif

static int set_limits(struct dbx_err *err)
{
    const struct {
        int what;
        rlim_t most;
    } limits[] = {{RLIMIT_CPU, MAX_CPU_SECONDS},
                  {RLIMIT_AS, SANITIZED ? RLIM_INFINITY : MAX_MEMORY},
                  {RLIMIT_NOFILE, 3},
                  {RLIMIT_FSIZE, 0},
                  {RLIMIT_CORE, 0},
                  {RLIMIT_NPROC, 0}};
    for (size_t i = 0; i < DBX_ARRAY_LEN(limits); i++) {
        const struct rlimit l = {limits[i].most, limits[i].most};
        if (setrlimit((__rlimit_resource_t)limits[i].what, &l) < 0)
            return dbx_err_sys(err, "limits");
    }
    return 0;
}

static int drop_user(struct dbx_err *err)
{
    if (geteuid() != 0)
        return 0;
    if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) < 0)
        return dbx_err_sys(err, "become nobody");
    return 0;
}

/* What libc and libarchive try without needing it is refused; anything else is the end. */
static int filter(struct dbx_err *err)
{
    static const char *const allowed[] = {
        "read",          "write",        "brk",          "mmap", "munmap",   "mremap",
        "madvise",       "futex",        "exit_group",   "exit", "mprotect", "getrandom",
        "clock_gettime", "rt_sigreturn", "gettimeofday", NULL};
    static const char *const refused[] = {"open",     "openat", "newfstatat", "fstat", "stat",
                                          "readlink", "access", "ioctl",      "lseek", NULL};
    const struct dbx_seccomp f = {.allow = allowed, .refuse = refused, .otherwise = DBX_SYS_KILL};
    return dbx_seccomp(&f, err);
}

int unpack_confine(struct dbx_err *err)
{
    int r = drop_user(err);
    if (r == 0)
        r = set_limits(err);
    if (r == 0)
        r = dbx_confine_caps(0, err);
    if (r == 0)
        r = dbx_confine_memory(err);
    return r == 0 ? filter(err) : r;
}
