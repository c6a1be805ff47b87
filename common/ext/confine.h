/* SPDX-License-Identifier: Apache-2.0 */
/* What a daemon gives up for good: it holds for the process and for all that it starts. */
#pragma once

#include "common/base/err.h"

struct dbx_loop;

/* No new privileges by exec, and no capabilities but those of keep (bits, 1ull << CAP_X) that the
 * process has: bounding set, permitted, effective; inheritable and ambient: none. Threads that run
 * already keep theirs, so call it first. */
int dbx_confine_caps(uint64_t keep, struct dbx_err *err) DBX_MUST_USE;
/* The bounding set alone, for who is about to become another user. */
int dbx_confine_bounding(uint64_t keep, struct dbx_err *err) DBX_MUST_USE;

/* For who has secrets in its memory: no core file, and nobody but root may look into it. Left out
 * in a build with sanitizers, whose search for leaks looks into it. */
int dbx_confine_memory(struct dbx_err *err) DBX_MUST_USE;

/* Sets of system calls. All of them: memory, threads of its own, clocks, descriptors, waiting. */
enum dbx_syscalls {
    DBX_SYS_BASE = 1,
    DBX_SYS_NET = 2,   /* sockets: unix, inet, inet6, and netlink to ask for routes */
    DBX_SYS_READ = 4,  /* opening and looking at files */
    DBX_SYS_WRITE = 8, /* making, renaming and removing them */
};

enum dbx_syscall_end {
    DBX_SYS_KILL, /* the process is killed (SIGSYS) */
    DBX_SYS_TELL, /* it fails with ENOSYS, and its name is told (dbx_seccomp_watch). A thread that
                   * blocks SIGSYS, as those of librdkafka do, is killed with its process. */
    DBX_SYS_ALLOW,
};

/* Names; lists end with NULL and may be NULL. A name that this kernel's architecture lacks is left
 * out. */
struct dbx_seccomp {
    unsigned sets;
    const char *const *allow, *const *refuse; /* refused: EPERM */
    bool refuse_outside; /* refused too: what looks into other processes or changes the machine */
    enum dbx_syscall_end otherwise;
};

/* With sets, what a daemon never does (exec, ptrace, mounts, modules, other namespaces, ...) is
 * death whatever `otherwise` says. Threads that run already are confined too. */
int dbx_seccomp(const struct dbx_seccomp *f, struct dbx_err *err) DBX_MUST_USE;

/* All of the above, for a daemon that needs no capability: first thing in main, before any thread
 * and any descriptor that a stranger could reach. */
int dbx_confine(const struct dbx_seccomp *f, struct dbx_err *err) DBX_MUST_USE;

/* Calls fn once for each name that was told, in the loop. */
typedef void dbx_seccomp_fn(const char *name, void *user);
int dbx_seccomp_watch(struct dbx_loop *loop, dbx_seccomp_fn *fn, void *user,
                      struct dbx_err *err) DBX_MUST_USE;
void dbx_seccomp_unwatch(void);
