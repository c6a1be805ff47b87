/* SPDX-License-Identifier: Apache-2.0 */
/* A call that is not on the list traps. The handler of SIGSYS can do next to nothing (the thread
 * may hold the lock of malloc): it notes the number, wakes the loop through an eventfd, and makes
 * the call fail with ENOSYS, for which libc has other ways where it has any. */
#include "common/ext/confine.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/io/loop.h"

#define MAX_NUMBER 1024
#define PR_SET_VMA_ 0x53564d41 /* naming memory; younger than some headers */

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* fstat() is newfstatat or statx by now. */
static const char *const base[] = {"brk",
                                   "mmap",
                                   "munmap",
                                   "mremap",
                                   "mprotect",
                                   "madvise",
                                   "membarrier",
                                   "mlock",
                                   "munlock",
                                   "msync",
                                   "futex",
                                   "futex_waitv",
                                   "sched_yield",
                                   "sched_getaffinity",
                                   "sched_getparam",
                                   "sched_getscheduler",
                                   "getcpu",
                                   "exit",
                                   "exit_group",
                                   "clock_gettime",
                                   "clock_getres",
                                   "clock_nanosleep",
                                   "nanosleep",
                                   "gettimeofday",
                                   "time",
                                   "getrandom",
                                   "rt_sigaction",
                                   "rt_sigprocmask",
                                   "rt_sigreturn",
                                   "rt_sigpending",
                                   "rt_sigtimedwait",
                                   "sigaltstack",
                                   "getpid",
                                   "gettid",
                                   "getppid",
                                   "getpgrp",
                                   "getuid",
                                   "geteuid",
                                   "getgid",
                                   "getegid",
                                   "getgroups",
                                   "getresuid",
                                   "getresgid",
                                   "capget",
                                   "uname",
                                   "sysinfo",
                                   "times",
                                   "getrusage",
                                   "getrlimit",
                                   "rseq",
                                   "set_robust_list",
                                   "get_robust_list",
                                   "set_tid_address",
                                   "arch_prctl",
                                   "restart_syscall",
                                   "read",
                                   "write",
                                   "readv",
                                   "writev",
                                   "pread64",
                                   "pwrite64",
                                   "preadv",
                                   "pwritev",
                                   "preadv2",
                                   "pwritev2",
                                   "close",
                                   "close_range",
                                   "dup",
                                   "dup2",
                                   "dup3",
                                   "fcntl",
                                   "lseek",
                                   "poll",
                                   "ppoll",
                                   "select",
                                   "pselect6",
                                   "epoll_create",
                                   "epoll_create1",
                                   "epoll_ctl",
                                   "epoll_wait",
                                   "epoll_pwait",
                                   "epoll_pwait2",
                                   "eventfd",
                                   "eventfd2",
                                   "timerfd_create",
                                   "timerfd_settime",
                                   "timerfd_gettime",
                                   "pipe",
                                   "pipe2",
                                   "fstat",
                                   "newfstatat",
                                   "statx",
                                   "memfd_create",
                                   "ftruncate",
                                   NULL};

static const char *const net[] = {
    "socketpair",  "bind",        "connect",    "listen",     "accept", "accept4",  "shutdown",
    "getsockname", "getpeername", "getsockopt", "setsockopt", "sendto", "recvfrom", "sendmsg",
    "recvmsg",     "sendmmsg",    "recvmmsg",   "sendfile",   "splice", NULL};

static const char *const files_read[] = {"open",
                                         "openat",
                                         "openat2",
                                         "access",
                                         "faccessat",
                                         "faccessat2",
                                         "readlink",
                                         "readlinkat",
                                         "stat",
                                         "lstat",
                                         "getdents",
                                         "getdents64",
                                         "getcwd",
                                         "statfs",
                                         "fstatfs",
                                         "inotify_init1",
                                         "inotify_add_watch",
                                         "inotify_rm_watch",
                                         "flock",
                                         "fadvise64",
                                         "readahead",
                                         NULL};

static const char *const files_write[] = {
    "mkdir",           "mkdirat",   "rmdir",           "unlink",    "unlinkat",  "rename",
    "renameat",        "renameat2", "truncate",        "fallocate", "fsync",     "fdatasync",
    "sync_file_range", "fchmod",    "fchmodat",        "chmod",     "utimensat", "link",
    "linkat",          "umask",     "copy_file_range", NULL};

/* What looks into other processes, or changes the machine. */
static const char *const outside[] = {"process_vm_readv",
                                      "process_vm_writev",
                                      "pidfd_getfd",
                                      "init_module",
                                      "finit_module",
                                      "delete_module",
                                      "kexec_load",
                                      "kexec_file_load",
                                      "bpf",
                                      "perf_event_open",
                                      "userfaultfd",
                                      "add_key",
                                      "request_key",
                                      "keyctl",
                                      "open_by_handle_at",
                                      "swapon",
                                      "swapoff",
                                      "reboot",
                                      "iopl",
                                      "ioperm",
                                      "acct",
                                      "quotactl",
                                      "quotactl_fd",
                                      "settimeofday",
                                      "clock_settime",
                                      "clock_adjtime",
                                      "adjtimex",
                                      "sethostname",
                                      "setdomainname",
                                      "syslog",
                                      "fanotify_init",
                                      "lookup_dcookie",
                                      "vhangup",
                                      NULL};

/* Nobody who means well comes here. */
static const char *const never[] = {
    "execve",      "execveat",   "ptrace",   "process_madvise", "kcmp",      "mount",
    "umount2",     "pivot_root", "chroot",   "setns",           "unshare",   "open_tree",
    "move_mount",  "fsopen",     "fsconfig", "fsmount",         "fspick",    "mount_setattr",
    "mknod",       "mknodat",    "setuid",   "setgid",          "setreuid",  "setregid",
    "setresuid",   "setresgid",  "setfsuid", "setfsgid",        "setgroups", "capset",
    "personality", "modify_ldt", NULL};

/* The search for leaks at the end: a thread that is no thread looks at all others. */
static const char *const sanitizer[] = {"ptrace", "clone",    "wait4",      "prctl",
                                        "tgkill", "getdents", "getdents64", "readlink",
                                        "open",   "openat",   NULL};

/* --- who asks for what is not on the list --- */

static struct {
    _Atomic uint64_t asked[MAX_NUMBER / 64];
    uint64_t told[MAX_NUMBER / 64];
    int fd;
    struct dbx_watch *watch;
    dbx_seccomp_fn *fn;
    void *user;
} teller = {.fd = -1};

static void on_sigsys(int signo, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    const uint64_t one = 1;
    int before = errno;
    unsigned nr = (unsigned)info->si_syscall;
    (void)signo;
    if (nr < MAX_NUMBER)
        atomic_fetch_or(&teller.asked[nr / 64], 1ull << (nr % 64));
    if (teller.fd >= 0)
        (void)!write(teller.fd, &one, sizeof(one));
#if defined(__x86_64__)
    uc->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
#elif defined(__aarch64__)
    uc->uc_mcontext.regs[0] = (uint64_t)-ENOSYS;
#else
#error "how a system call returns on this processor"
#endif
    errno = before;
}

static void on_told(void *user, int events, int error)
{
    uint64_t count;
    (void)user;
    (void)events;
    (void)error;
    (void)!read(teller.fd, &count, sizeof(count));
    for (int nr = 0; nr < MAX_NUMBER; nr++) {
        uint64_t bit = 1ull << (nr % 64);
        if (!(atomic_load(&teller.asked[nr / 64]) & bit) || (teller.told[nr / 64] & bit))
            continue;
        teller.told[nr / 64] |= bit;
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);
        teller.fn(name ? name : "of an unknown number", teller.user);
        free(name);
    }
}

int dbx_seccomp_watch(struct dbx_loop *loop, dbx_seccomp_fn *fn, void *user, struct dbx_err *err)
{
    teller.fn = fn;
    teller.user = user;
    teller.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (teller.fd < 0)
        return dbx_err_sys(err, "make an eventfd");
    teller.watch = dbx_watch_new(loop, teller.fd, DBX_READ, on_told, NULL);
    return 0;
}

void dbx_seccomp_unwatch(void)
{
    teller.watch = dbx_watch_free(teller.watch);
    dbx_close(teller.fd);
    teller.fd = -1;
}

/* --- the filter --- */

/* What cannot be resolved is unknown to this architecture, or to this libseccomp. */
static int add(scmp_filter_ctx ctx, uint32_t action, const char *const *names)
{
    int r = 0;
    for (; r == 0 && names && *names; names++) {
        int nr = seccomp_syscall_resolve_name(*names);
        if (nr != __NR_SCMP_ERROR)
            r = seccomp_rule_add(ctx, action, nr, 0);
        if (r == -EACCES || r == -EEXIST) /* the default's own action, or said before */
            r = 0;
    }
    return r;
}

static int add_if(scmp_filter_ctx ctx, int nr, unsigned arg, enum scmp_compare op, uint64_t a,
                  uint64_t b)
{
    struct scmp_arg_cmp cmp = {.arg = arg, .op = op, .datum_a = a, .datum_b = b};
    return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, nr, 1, &cmp);
}

static int add_each(scmp_filter_ctx ctx, int nr, unsigned arg, const uint64_t *values, size_t n)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = add_if(ctx, nr, arg, SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)values[i]);
    return r;
}

/* Threads, but no processes; clone3 hides its flags in memory, and libc takes clone without it. */
static int add_with_arguments(scmp_filter_ctx ctx, unsigned sets)
{
    static const uint64_t domains[] = {AF_UNIX, AF_INET, AF_INET6},
                          controls[] = {FIONREAD, FIONBIO, FIOCLEX, FIONCLEX, TCGETS},
                          options[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_VMA_};
    int r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (r == 0 && !SANITIZED)
        r = add_if(ctx, SCMP_SYS(clone), 0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD);
    if (r == 0)
        r = add_each(ctx, SCMP_SYS(ioctl), 1, controls, DBX_ARRAY_LEN(controls));
    if (r == 0 && !SANITIZED)
        r = add_each(ctx, SCMP_SYS(prctl), 0, options, DBX_ARRAY_LEN(options));
    if (r == 0) /* limits of its own only */
        r = add_if(ctx, SCMP_SYS(prlimit64), 0, SCMP_CMP_EQ, 0, 0);
    if (r == 0 && !SANITIZED) /* abort() and raise() */
        r = add_if(ctx, SCMP_SYS(tgkill), 0, SCMP_CMP_EQ, (uint64_t)getpid(), 0);
    if (r == 0 && (sets & DBX_SYS_NET))
        r = add_each(ctx, SCMP_SYS(socket), 0, domains, DBX_ARRAY_LEN(domains));
    if (r == 0 && (sets & DBX_SYS_NET)) {
        const struct scmp_arg_cmp route[] = {SCMP_A0(SCMP_CMP_EQ, AF_NETLINK),
                                             SCMP_A2(SCMP_CMP_EQ, 0)};
        r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, route);
    }
    return r;
}

static int add_sets(scmp_filter_ctx ctx, unsigned sets)
{
    const struct {
        unsigned set;
        const char *const *names;
    } all[] = {{DBX_SYS_BASE, base},
               {DBX_SYS_NET, net},
               {DBX_SYS_READ, files_read},
               {DBX_SYS_WRITE, files_write}};
    int r = SANITIZED ? add(ctx, SCMP_ACT_ALLOW, sanitizer) : 0;
    for (size_t i = 0; r == 0 && i < DBX_ARRAY_LEN(all); i++)
        if (sets & all[i].set)
            r = add(ctx, SCMP_ACT_ALLOW, all[i].names);
    if (r == 0)
        r = add_with_arguments(ctx, sets);
    if (r == 0)
        r = add(ctx, SCMP_ACT_KILL_PROCESS, outside);
    return r == 0 ? add(ctx, SCMP_ACT_KILL_PROCESS, never) : r;
}

static uint32_t action_of(enum dbx_syscall_end end)
{
    return end == DBX_SYS_ALLOW  ? SCMP_ACT_ALLOW
           : end == DBX_SYS_TELL ? SCMP_ACT_TRAP
                                 : SCMP_ACT_KILL_PROCESS;
}

static int load(const struct dbx_seccomp *f)
{
    scmp_filter_ctx ctx = seccomp_init(action_of(f->otherwise));
    if (!ctx)
        return -ENOMEM;
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    (void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree instead of a list */
    if (r == 0)
        r = add(ctx, SCMP_ACT_ALLOW, f->allow);
    if (r == 0)
        r = add(ctx, SCMP_ACT_ERRNO(EPERM), f->refuse);
    if (r == 0 && f->refuse_outside)
        r = add(ctx, SCMP_ACT_ERRNO(EPERM), outside);
    if (r == 0 && f->sets)
        r = add_sets(ctx, f->sets);
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r;
}

int dbx_seccomp(const struct dbx_seccomp *f, struct dbx_err *err)
{
    struct sigaction sa = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (f->otherwise == DBX_SYS_TELL && sigaction(SIGSYS, &sa, NULL) < 0)
        return dbx_err_sys(err, "a handler of SIGSYS");
    tzset(); /* its file is read once, by whoever first formats a time */
    int r = load(f);
    return r < 0 ? dbx_err_set(err, r, DBX_INTERNAL, "the seccomp filter: error %d", r) : 0;
}

int dbx_confine(const struct dbx_seccomp *f, struct dbx_err *err)
{
    int r = dbx_confine_caps(0, err);
    if (r == 0)
        r = dbx_confine_memory(err);
    return r == 0 ? dbx_seccomp(f, err) : r;
}
