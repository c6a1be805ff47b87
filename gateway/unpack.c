/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/base/str.h"
#include "common/io/loop.h"

#define MAX_ANSWER (42u << 20)
#define DEADLINE_MS 20000
#define READ_AT_ONCE (256u << 10)

struct unpacking {
    int out;
    struct dbx_watch *watch;
    struct dbx_timer *deadline;
    struct dbx_buf answer;
    gw_unpack_fn *fn;
    void *arg;
};

/* "ok\n" and the block behind it, or a kind and words. */
static int read_answer(struct dbx_buf *answer, struct dbx_err *err)
{
    const uint8_t *end = answer->len ? memchr(answer->data, '\n', answer->len) : NULL;
    const char *text = dbx_buf_cstr(answer);
    if (!end || (size_t)(end - answer->data) > 400)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "the archive cannot be read");
    answer->data[end - answer->data] = '\0';
    if (dbx_streq(text, "ok")) {
        dbx_buf_consume(answer, 3);
        return 0;
    }
    const char *words = strchr(text, ' ');
    enum dbx_kind kind = dbx_starts_with(text, "limit ")     ? DBX_LIMIT
                         : dbx_starts_with(text, "invalid ") ? DBX_INVALID
                                                             : DBX_INTERNAL;
    if (!words || !dbx_utf8_valid(words, strlen(words)))
        words = " it has names that are no UTF-8";
    return dbx_err_set(err, -EINVAL, kind, "%.230s", words + 1);
}

/* It has closed its end, or is given up: then its next write ends it, or its limit of CPU does. */
static void finish(struct unpacking *u)
{
    struct dbx_err err = {0};
    u->watch = dbx_watch_free(u->watch);
    u->deadline = dbx_timer_free(u->deadline);
    dbx_close(u->out);
    if (read_answer(&u->answer, &err) < 0)
        u->fn(NULL, &err, u->arg);
    else
        u->fn(&u->answer, NULL, u->arg);
    dbx_buf_done(&u->answer);
    free(u);
}

static void on_deadline(void *user)
{
    struct unpacking *u = user;
    dbx_buf_clear(&u->answer);
    (void)dbx_buf_str(&u->answer, "limit the archive takes too long to read\n");
    finish(u);
}

static void on_output(void *user, int events, int error)
{
    struct unpacking *u = user;
    (void)events;
    (void)error;
    if (dbx_buf_reserve(&u->answer, READ_AT_ONCE) < 0) {
        finish(u);
        return;
    }
    ssize_t n = read(u->out, u->answer.data + u->answer.len, READ_AT_ONCE);
    if (n > 0)
        u->answer.len += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        finish(u);
}

static int memory_file(const void *data, size_t len, int *ret_fd, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_closep) int fd = memfd_create("archive", MFD_CLOEXEC);
    if (fd < 0)
        return dbx_err_sys(err, "memory for an archive");
    int r = dbx_write_all(fd, data, len);
    if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return dbx_err_set(err, r < 0 ? r : -errno, DBX_LIMIT, "memory for an archive");
    *ret_fd = DBX_TAKE_FD(fd);
    return 0;
}

/* Beside our own program. */
static int program(char *path, size_t size)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return -errno;
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    return (size_t)snprintf(path, size, "%s/devbox-unpack", self) < size ? 0 : -ENAMETOOLONG;
}

static int spawn(int sock, struct dbx_err *err)
{
    static char *const no_env[] = {NULL};
    char path[PATH_MAX + 16];
    char *const argv[] = {"devbox-unpack", NULL};
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int r = program(path, sizeof(path));
    if (r == 0)
        r = -posix_spawn_file_actions_init(&fa);
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "start devbox-unpack: %s", strerror(-r));
    r = -posix_spawn_file_actions_adddup2(&fa, sock, 0);
    if (r == 0)
        r = -posix_spawn(&pid, path, &fa, NULL, argv, no_env);
    posix_spawn_file_actions_destroy(&fa);
    return r < 0 ? dbx_err_set(err, r, DBX_INTERNAL, "start %s: %s", path, strerror(-r)) : 0;
}

int gw_unpacker_start(int *ret_sock, struct dbx_err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return dbx_err_sys(err, "socketpair");
    int r = spawn(pair[1], err);
    dbx_close(pair[1]);
    if (r < 0)
        dbx_close(pair[0]);
    else
        *ret_sock = pair[0];
    return r;
}

static int ask(int sock, int in, int out, struct dbx_err *err)
{
    const int fds[2] = {in, out};
    int r = dbx_send_fds(sock, "u", 1, fds, 2);
    return r < 0 ? dbx_err_set(err, r, r == -EAGAIN ? DBX_LIMIT : DBX_INTERNAL,
                               "devbox-unpack does not take an archive: %s", strerror(-r))
                 : 0;
}

int gw_unpack(struct dbx_loop *loop, int sock, const void *archive, size_t len, gw_unpack_fn *fn,
              void *arg, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_closep) int in = -1;
    int pipes[2];
    int r = memory_file(archive, len, &in, err);
    if (r < 0)
        return r;
    if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
        return dbx_err_sys(err, "pipe");
    r = dbx_set_nonblock(pipes[1], false);
    if (r == 0)
        r = ask(sock, in, pipes[1], err);
    dbx_close(pipes[1]);
    if (r < 0) {
        dbx_close(pipes[0]);
        return r;
    }
    struct unpacking *u = DBX_NEW(struct unpacking);
    u->out = pipes[0];
    u->fn = fn;
    u->arg = arg;
    dbx_buf_init(&u->answer, MAX_ANSWER);
    u->watch = dbx_watch_new(loop, u->out, DBX_READ, on_output, u);
    u->deadline = dbx_timer_new(loop, on_deadline, u);
    dbx_timer_start(u->deadline, DEADLINE_MS, 0);
    return 0;
}
