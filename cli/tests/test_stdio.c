/* SPDX-License-Identifier: Apache-2.0 */
/* Input and output on pipes, files and sockets: whole, in order, without waiting, flags untouched.
 */
#include "cli/input.h"
#include "cli/output.h"
#include "common/base/fd.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOTAL (1u << 20)

/* Copies its input to its output, piece by piece, and stops the loop behind the end. */
struct copy {
    struct dbx_loop *loop;
    struct cli_input *in;
    struct cli_output *out;
    int reader; /* drained whenever something was written; -1: none */
    size_t taken, seen;
    bool ended;
    int error;
};

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 8));
}

static void drain(struct copy *c)
{
    uint8_t buf[65536];
    ssize_t n;
    while (c->reader >= 0 && (n = read(c->reader, buf, sizeof(buf))) > 0) {
        bool same = true;
        for (ssize_t i = 0; i < n; i++)
            same = same && buf[i] == byte_at(c->seen + (size_t)i);
        CHECK(same);
        c->seen += (size_t)n;
    }
}

static void stop_when_done(struct copy *c)
{
    drain(c);
    if (c->ended && cli_output_waiting(c->out) == 0)
        dbx_loop_stop(c->loop, 0);
}

static void on_piece(const uint8_t *data, size_t len, void *user)
{
    struct copy *c = user;
    bool same = true;
    for (size_t i = 0; i < len; i++)
        same = same && data[i] == byte_at(c->taken + i);
    CHECK(same);
    c->taken += len;
    cli_output_write(c->out, data, len);
    cli_input_next(c->in);
}

static void on_end(void *user)
{
    struct copy *c = user;
    c->ended = true;
    stop_when_done(c);
}

static void on_written(void *user)
{
    stop_when_done(user);
}

static void on_failed(int error, void *user)
{
    struct copy *c = user;
    c->error = error;
    dbx_loop_stop(c->loop, 1);
}

static void on_late(void *user)
{
    struct copy *c = user;
    CHECK(!"in time");
    dbx_loop_stop(c->loop, 2);
}

static int copy(struct copy *c, int from, int to)
{
    static const struct cli_input_handlers ih = {.on_piece = on_piece, .on_end = on_end};
    static const struct cli_output_handlers oh = {.on_written = on_written, .on_failed = on_failed};
    int in_flags = fcntl(from, F_GETFL), out_flags = fcntl(to, F_GETFL);
    c->loop = dbx_loop_new();
    c->in = cli_input_new(c->loop, from, &ih, c);
    c->out = cli_output_new(c->loop, to, &oh, c);
    struct dbx_timer *late = dbx_timer_new(c->loop, on_late, c);
    dbx_timer_start(late, 60000, 0);
    cli_input_next(c->in);
    int code = dbx_loop_run(c->loop);
    dbx_timer_free(late);
    cli_input_free(c->in);
    cli_output_free(c->out);
    dbx_loop_free(c->loop);
    CHECK_EQ(fcntl(from, F_GETFL), in_flags);
    CHECK_EQ(fcntl(to, F_GETFL), out_flags);
    return code;
}

/* A file with the bytes of byte_at. */
static int source(void)
{
    char path[] = "/tmp/test-stdio-XXXXXX";
    uint8_t *data = dbx_malloc(TOTAL);
    int fd = mkostemp(path, O_CLOEXEC);
    CHECK(fd >= 0 && unlink(path) == 0);
    for (size_t i = 0; i < TOTAL; i++)
        data[i] = byte_at(i);
    CHECK_EQ(dbx_write_all(fd, data, TOTAL), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    free(data);
    return fd;
}

/* What is larger than a pipe comes through it, however slowly it is read. */
static void test_pipes(void)
{
    int file = source(), p[2];
    struct copy c = {.reader = -1};
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    c.reader = p[0];
    CHECK_EQ(dbx_set_nonblock(p[0], true), 0);
    CHECK_EQ(copy(&c, file, p[1]), 0);
    drain(&c);
    CHECK_EQ(c.seen, TOTAL);
    close(p[0]);
    close(p[1]);
    close(file);
}

static void test_input_pipe(void)
{
    int p[2];
    struct copy c = {.reader = -1};
    uint8_t data[1000];
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = byte_at(i);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    CHECK_EQ(write(p[1], data, sizeof(data)), (ssize_t)sizeof(data));
    close(p[1]); /* before it is opened anew */
    CHECK_EQ(copy(&c, p[0], null), 0);
    CHECK_EQ(c.taken, sizeof(data));
    close(p[0]);
    close(null);
}

/* A socket cannot be opened anew. */
static void test_socket(void)
{
    int s[2], file = source();
    struct copy c = {.reader = -1};
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    c.reader = s[0];
    CHECK_EQ(dbx_set_nonblock(s[0], true), 0);
    CHECK_EQ(copy(&c, file, s[1]), 0);
    drain(&c);
    CHECK_EQ(c.seen, TOTAL);
    close(s[0]);
    close(s[1]);
    close(file);
}

static void test_broken_pipe(void)
{
    int file = source(), p[2];
    struct copy c = {.reader = -1};
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    close(p[0]);
    CHECK_EQ(copy(&c, file, p[1]), 1);
    CHECK_EQ(c.error, -EPIPE);
    close(p[1]);
    close(file);
}

static void test_full_disk(void)
{
    struct copy c = {.reader = -1};
    int file = source(), full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    CHECK_EQ(copy(&c, file, full), 1);
    CHECK_EQ(c.error, -ENOSPC);
    close(full);
    close(file);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    test_pipes();
    test_input_pipe();
    test_socket();
    test_broken_pipe();
    test_full_disk();
    return check_result();
}
