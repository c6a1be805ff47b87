/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a program without fork(): the shim may be large, and copying its page tables takes
 * milliseconds. posix_spawn (CLONE_VFORK) starts devbox-shim-exec, whose words are "[--cgroup
 * DIR]... [--dir DIR] -- ARGV...", or, when these come later, "... --later FD". */
#include "shim/reap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t count(const char *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

/* The array is the caller's, the strings are borrowed. */
static char **make_argv(const struct shim_spawn *sp, const char *words)
{
    size_t n_dirs = count(sp->cgroup_dirs), n_argv = count((const char *const *)sp->argv), n = 0;
    const char **argv = dbx_calloc(2 * n_dirs + n_argv + 6, sizeof(*argv));
    argv[n++] = "devbox-shim-exec";
    for (size_t i = 0; i < n_dirs; i++) {
        argv[n++] = "--cgroup";
        argv[n++] = sp->cgroup_dirs[i];
    }
    if (sp->dir) {
        argv[n++] = "--dir";
        argv[n++] = sp->dir;
    }
    argv[n++] = sp->argv ? "--" : "--later";
    if (!sp->argv)
        argv[n++] = words;
    for (size_t i = 0; i < n_argv; i++)
        argv[n++] = sp->argv[i];
    return (char **)argv;
}

static int set_fds(posix_spawn_file_actions_t *fa, const struct shim_spawn *sp)
{
    if (!sp->argv) { /* onto itself: it is inherited */
        int r = posix_spawn_file_actions_adddup2(fa, sp->words, sp->words);
        if (r)
            return -r;
    }
    for (int i = 0; i < 3; i++) {
        int r = sp->fds[i] >= 0 ? posix_spawn_file_actions_adddup2(fa, sp->fds[i], i)
                                : posix_spawn_file_actions_addopen(fa, i, "/dev/null", O_RDWR, 0);
        if (r)
            return -r;
    }
    return 0;
}

/* Nothing of the shim's way with signals is inherited. */
static int set_signals(posix_spawnattr_t *attr)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int r = posix_spawnattr_setsigmask(attr, &none);
    if (!r)
        r = posix_spawnattr_setsigdefault(attr, &all);
    if (!r)
        r = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return -r;
}

static int spawn(const struct shim_spawn *sp, char **argv, pid_t *ret_pid)
{
    static char *const no_env[] = {NULL};
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    int r = -posix_spawn_file_actions_init(&fa);
    if (r)
        return r;
    r = -posix_spawnattr_init(&attr);
    if (r == 0) {
        r = set_fds(&fa, sp);
        if (r == 0)
            r = set_signals(&attr);
        if (r == 0)
            r = -posix_spawn(ret_pid, sp->shim_exec, &fa, &attr, argv, no_env);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&fa);
    return r;
}

int shim_spawn(struct shim_reaper *rp, const struct shim_spawn *sp, shim_reaped *fn, void *user,
               pid_t *ret_pid, struct dbx_err *err)
{
    char words[16];
    snprintf(words, sizeof(words), "%d", sp->words);
    DBX_CLEANUP(dbx_freep) char **argv = make_argv(sp, words);
    pid_t pid;
    int r = spawn(sp, argv, &pid);
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "start %s: %s", sp->shim_exec, strerror(-r));
    shim_reap(rp, pid, fn, user);
    *ret_pid = pid;
    return 0;
}
