/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/unpack/confine.h"

#include <errno.h>
#include <grp.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

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
    static const int allowed[] = {
        SCMP_SYS(read),       SCMP_SYS(write),     SCMP_SYS(brk),           SCMP_SYS(mmap),
        SCMP_SYS(munmap),     SCMP_SYS(mremap),    SCMP_SYS(madvise),       SCMP_SYS(futex),
        SCMP_SYS(exit_group), SCMP_SYS(exit),      SCMP_SYS(clock_gettime), SCMP_SYS(rt_sigreturn),
        SCMP_SYS(mprotect),   SCMP_SYS(getrandom), SCMP_SYS(gettimeofday)};
    static const int refused[] = {SCMP_SYS(open),   SCMP_SYS(openat), SCMP_SYS(newfstatat),
                                  SCMP_SYS(fstat),  SCMP_SYS(stat),   SCMP_SYS(readlink),
                                  SCMP_SYS(access), SCMP_SYS(ioctl),  SCMP_SYS(lseek)};
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int r = ctx ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && i < DBX_ARRAY_LEN(allowed); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; r == 0 && i < DBX_ARRAY_LEN(refused); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), refused[i], 0);
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r < 0 ? dbx_err_set(err, r, DBX_INTERNAL, "the seccomp filter: %d", r) : 0;
}

int unpack_confine(struct dbx_err *err)
{
    int r = drop_user(err);
    if (r == 0)
        r = set_limits(err);
    if (r == 0 && (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0))
        r = dbx_err_sys(err, "give up privileges");
    return r == 0 ? filter(err) : r;
}
