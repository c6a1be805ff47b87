/* SPDX-License-Identifier: Apache-2.0 */
/* Children. The shim is a subreaper: sentries, gofers and stubs whose parents have gone become its
 * children, and an unreaped one makes runsc wait for seconds. All are reaped at once; whoever
 * registered a pid hears its status, the others are silent. One reaper a process; nobody else may
 * call wait, and uv_spawn is banned. */
#pragma once

#include "common/base/err.h"

#include <sys/types.h>

struct dbx_loop;
struct shim_reaper;

/* Makes the process a subreaper and takes over SIGCHLD. */
int shim_reaper_new(struct dbx_loop *loop, struct shim_reaper **ret,
                    struct dbx_err *err) DBX_MUST_USE;
struct shim_reaper *
shim_reaper_free(struct shim_reaper *rp); /* when the loop runs no more, before it is freed */

/* status: as of waitpid. Called once, from the loop; the pid is registered no more. */
typedef void shim_reaped(pid_t pid, int status, void *user);
/* A pid must be registered in the callback in which it was started (or became known): a child that
 * was reaped before that is not heard of. */
void shim_reap(struct shim_reaper *rp, pid_t pid, shim_reaped *fn, void *user);
void shim_reap_forget(struct shim_reaper *rp, pid_t pid); /* the callback will not come */

/* How a program is started: by posix_spawn of devbox-shim-exec, which does the rest. All borrowed.
 */
struct shim_spawn {
    const char *shim_exec;          /* path of devbox-shim-exec */
    const char *const *cgroup_dirs; /* NULL-terminated, or NULL: joined before the program starts */
    int fds[3];        /* become 0, 1, 2; -1: /dev/null. The caller's; everything else is closed */
    const char *dir;   /* working directory, or NULL: / */
    char *const *argv; /* argv[0] is a path. NULL: these come later, see words */
    int words; /* without argv: the read end of a pipe for them, each with its NUL, to the pipe's
                  end; with none there it exits with 0. At most SHIM_EXEC_MAX_WORDS bytes */
};
#define SHIM_EXEC_MAX_WORDS 4096 /* PIPE_BUF: all or nothing of them is there */
/* Exit statuses of devbox-shim-exec itself, when it could not do its part. */
enum shim_exec_status {
    SHIM_EXEC_USAGE = 121,
    SHIM_EXEC_CGROUP = 122,
    SHIM_EXEC_SETUP = 123,
    SHIM_EXEC_FAILED = 126,
    SHIM_EXEC_MISSING = 127,
};
/* In words: "exited with 1", "was ended by SIGKILL", "could not join its cgroup". */
void shim_status_words(int status, char *out, size_t size);

/* 0 and a pid that is registered: fn comes later. */
int shim_spawn(struct shim_reaper *rp, const struct shim_spawn *sp, shim_reaped *fn, void *user,
               pid_t *ret_pid, struct dbx_err *err) DBX_MUST_USE;
