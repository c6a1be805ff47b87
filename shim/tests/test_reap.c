/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/reap.h"

#include "common/base/fd.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

struct t {
    struct dbx_loop *loop;
    struct shim_reaper *rp;
    int status, calls, wanted;
};

static void on_reaped(pid_t pid, int status, void *user)
{
    struct t *t = user;
    CHECK(pid > 0);
    t->status = status;
    if (++t->calls == t->wanted)
        dbx_loop_stop(t->loop, 0);
}

static void on_deadline(void *user)
{
    struct t *t = user;
    dbx_loop_stop(t->loop, 1);
}

/* A subreaper reaps what it never knew, and hears of what it knows. */
static void test_reaps(struct t *t)
{
    pid_t unknown = fork();
    if (unknown == 0)
        _exit(1);
    pid_t known = fork();
    if (known == 0) {
        pid_t orphan = fork();
        if (orphan == 0)
            _exit(3);
        _exit(7);
    }
    pid_t forgotten = fork();
    if (forgotten == 0)
        _exit(2);
    shim_reap(t->rp, known, on_reaped, t);
    shim_reap(t->rp, forgotten, on_reaped, t);
    shim_reap_forget(t->rp, forgotten);
    t->calls = 0;
    t->wanted = 1;
    CHECK_EQ(dbx_loop_run(t->loop), 0);
    CHECK(WIFEXITED(t->status) && WEXITSTATUS(t->status) == 7);
    CHECK_EQ(t->calls, 1);
}

/* Without devbox-shim-exec: /bin/sh takes its place, and sees the words. */
static void test_spawn(struct t *t)
{
    DBX_CLEANUP(dbx_closep) int rd = -1;
    DBX_CLEANUP(dbx_closep) int wr = -1;
    int p[2];
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    rd = p[0];
    wr = p[1];
    static const char *const dirs[] = {"/a", NULL};
    char *argv[] = {"/bin/x", "y", NULL};
    struct shim_spawn sp = {.shim_exec = "/bin/echo",
                            .cgroup_dirs = dirs,
                            .fds = {-1, wr, -1},
                            .dir = "/d",
                            .argv = argv};
    struct dbx_err err = {0};
    pid_t pid = 0;
    t->calls = 0;
    t->wanted = 1;
    CHECK_EQ(shim_spawn(t->rp, &sp, on_reaped, t, &pid, &err), 0);
    CHECK_EQ(dbx_loop_run(t->loop), 0);
    CHECK_EQ(t->status, 0);
    char text[128] = "";
    CHECK(read(rd, text, sizeof(text) - 1) > 0);
    CHECK_STR(text, "--cgroup /a --dir /d -- /bin/x y\n");
    sp.shim_exec = "/nonexistent";
    CHECK_EQ(shim_spawn(t->rp, &sp, on_reaped, t, &pid, &err), -ENOENT);
}

static void test_words(void)
{
    char w[64];
    shim_status_words(SIGKILL, w, sizeof(w));
    CHECK_STR(w, "was ended by SIGKILL");
    shim_status_words(3 << 8, w, sizeof(w));
    CHECK_STR(w, "exited with 3");
    shim_status_words(SHIM_EXEC_CGROUP << 8, w, sizeof(w));
    CHECK_STR(w, "could not join its cgroup");
}

int main(void)
{
    struct t t = {.loop = dbx_loop_new()};
    struct dbx_err err = {0};
    CHECK_EQ(shim_reaper_new(t.loop, &t.rp, &err), 0);
    struct dbx_timer *deadline = dbx_timer_new(t.loop, on_deadline, &t);
    dbx_timer_start(deadline, 60000, 0);
    test_reaps(&t);
    test_spawn(&t);
    test_words();
    dbx_timer_free(deadline);
    dbx_loop_free(t.loop);
    shim_reaper_free(t.rp);
    return check_result();
}
