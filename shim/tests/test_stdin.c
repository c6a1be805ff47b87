/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/stdin.h"

#include "common/base/fd.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static struct dbx_loop *loop;
static int closed;
static int rd, wr;
static size_t got, want;
static char last;

static void on_closed(void *user)
{
    (void)user;
    closed++;
    dbx_loop_stop(loop, 0);
}

static void on_bytes(void *user, int events, int error)
{
    (void)user;
    (void)events;
    (void)error;
    char buf[65536];
    ssize_t n = read(rd, buf, sizeof(buf));
    if (n > 0) {
        got += (size_t)n;
        last = buf[n - 1];
    }
    if (got >= want)
        dbx_loop_stop(loop, 0);
}

static void open_pipe(void)
{
    int fds[2];
    CHECK_EQ(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    rd = fds[0];
    wr = fds[1];
    closed = 0;
    got = 0;
}

static void test_all(void)
{
    struct dbx_err err = {0};
    size_t big = 3u << 20;
    char *data = calloc(1, big);
    open_pipe();
    struct shim_stdin *in = shim_stdin_new(loop, wr, data, big, true, on_closed, NULL);
    CHECK_EQ(shim_stdin_write(in, "x", 1, &err), -ENOBUFS);
    CHECK_EQ(err.kind, DBX_LIMIT);
    struct dbx_watch *w = dbx_watch_new(loop, rd, DBX_READ, on_bytes, NULL);
    want = big;
    dbx_loop_run(loop);
    CHECK_EQ(got, big);
    CHECK_EQ(shim_stdin_write(in, "more", 4, &err), 0);
    want = big + 4;
    dbx_loop_run(loop);
    CHECK_EQ(last, 'e');
    CHECK_EQ(closed, 0);
    CHECK_EQ(shim_stdin_eof(in, &err), 0);
    CHECK_EQ(shim_stdin_write(in, "x", 1, &err), -EPIPE);
    CHECK_EQ(err.kind, DBX_CONFLICT);
    want = SIZE_MAX;
    dbx_loop_run(loop);
    CHECK_EQ(closed, 1);
    CHECK_EQ(shim_stdin_eof(in, &err), -EPIPE);
    shim_stdin_free(in);
    dbx_watch_free(w);
    dbx_close(rd);
    dbx_close(wr);
    free(data);
}

static void test_reader_gone(void)
{
    struct dbx_err err = {0};
    open_pipe();
    dbx_close(rd);
    struct shim_stdin *in = shim_stdin_new(loop, wr, "abc", 3, true, on_closed, NULL);
    dbx_loop_run(loop);
    CHECK_EQ(closed, 1);
    CHECK_EQ(shim_stdin_write(in, "x", 1, &err), -EPIPE);
    shim_stdin_free(in);
    dbx_close(wr);
}

static void test_end_only(void)
{
    open_pipe();
    struct shim_stdin *in = shim_stdin_new(loop, wr, NULL, 0, false, on_closed, NULL);
    dbx_loop_run(loop);
    CHECK_EQ(closed, 1);
    shim_stdin_free(in);
    dbx_close(rd);
    dbx_close(wr);
}

static void nothing(void *user)
{
    (void)user;
}

int main(void)
{
    loop = dbx_loop_new();
    dbx_loop_on_terminate(loop, nothing, NULL); /* ignores SIGPIPE, as the daemon does */
    test_all();
    test_reader_gone();
    test_end_only();
    dbx_loop_free(loop);
    return check_result();
}
