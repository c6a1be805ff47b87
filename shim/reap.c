/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/reap.h"

#include "common/base/map.h"
#include "common/io/loop.h"
#include "common/proto/limits.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct shim_reaper {
    struct dbx_map *children; /* pid_t -> struct child, owned */
};

struct child {
    shim_reaped *fn;
    void *user;
};

/* One SIGCHLD may stand for many children. */
static void on_sigchld(void *user, int signo)
{
    struct shim_reaper *rp = user;
    (void)signo;
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            return;
        struct child *ch = dbx_map_del(rp->children, &pid, sizeof(pid));
        if (!ch)
            continue;
        shim_reaped *fn = ch->fn;
        void *fn_user = ch->user;
        free(ch);
        fn(pid, status, fn_user);
    }
}

int shim_reaper_new(struct dbx_loop *loop, struct shim_reaper **ret, struct dbx_err *err)
{
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return dbx_err_sys(err, "become a subreaper");
    struct shim_reaper *rp = DBX_NEW(struct shim_reaper);
    rp->children = dbx_map_new();
    dbx_loop_on_signal(loop, SIGCHLD, on_sigchld, rp);
    *ret = rp;
    return 0;
}

struct shim_reaper *shim_reaper_free(struct shim_reaper *rp)
{
    if (!rp)
        return NULL;
    struct dbx_map_iter it = {0};
    while (dbx_map_next(rp->children, &it))
        free(it.value);
    dbx_map_free(rp->children);
    free(rp);
    return NULL;
}

void shim_reap(struct shim_reaper *rp, pid_t pid, shim_reaped *fn, void *user)
{
    struct child *ch = DBX_NEW(struct child);
    *ch = (struct child){.fn = fn, .user = user};
    free(dbx_map_put(rp->children, &pid, sizeof(pid), ch));
}

void shim_reap_forget(struct shim_reaper *rp, pid_t pid)
{
    free(dbx_map_del(rp->children, &pid, sizeof(pid)));
}

void shim_status_words(int status, char *out, size_t size)
{
    if (WIFSIGNALED(status)) {
        snprintf(out, size, "was ended by %s", dbx_signal_name(WTERMSIG(status)));
        return;
    }
    switch (WEXITSTATUS(status)) {
    case SHIM_EXEC_USAGE:
        snprintf(out, size, "was started with wrong words");
        return;
    case SHIM_EXEC_CGROUP:
        snprintf(out, size, "could not join its cgroup");
        return;
    case SHIM_EXEC_SETUP:
        snprintf(out, size, "could not be set up");
        return;
    case SHIM_EXEC_FAILED:
        snprintf(out, size, "could not be executed");
        return;
    case SHIM_EXEC_MISSING:
        snprintf(out, size, "is not there");
        return;
    default:
        snprintf(out, size, "exited with %d", WEXITSTATUS(status));
    }
}
