/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/fd.h"
#include "tests/unit/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int count_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static void test_close(void)
{
    int p[2];
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    errno = EXDEV;
    dbx_close(p[0]);
    dbx_close(-1);
    CHECK_EQ(errno, EXDEV);
    dbx_closep(&p[1]);
    CHECK_EQ(p[1], -1);
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(null, STDERR_FILENO);
        dbx_close(null); /* it may have taken the number below */
        signal(SIGABRT, SIG_DFL);
        dbx_close(p[0]); /* a second time */
        _exit(0);
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

#define BULK (1 << 20)

static void *write_bulk(void *arg)
{
    static char data[BULK];
    memset(data, 'x', sizeof(data));
    int fd = *(int *)arg;
    CHECK_EQ(dbx_write_all(fd, data, sizeof(data)), 0);
    dbx_close(fd);
    return NULL;
}

/* More than a pipe holds, with O_NONBLOCK on both ends: both have to wait. */
static void test_all(void)
{
    static char data[BULK];
    int p[2];
    pthread_t thread;
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    CHECK_EQ(dbx_set_nonblock(p[0], true) | dbx_set_nonblock(p[1], true), 0);
    CHECK(fcntl(p[1], F_GETFL) & O_NONBLOCK);
    CHECK_EQ(pthread_create(&thread, NULL, write_bulk, &p[1]), 0);
    CHECK_EQ(dbx_read_all(p[0], data, sizeof(data)), 0);
    CHECK(data[0] == 'x' && data[BULK - 1] == 'x');
    pthread_join(thread, NULL);
    CHECK_EQ(dbx_read_all(p[0], data, 1), -ENODATA);
    CHECK_EQ(dbx_set_nonblock(p[0], false), 0);
    CHECK(!(fcntl(p[0], F_GETFL) & O_NONBLOCK));
    CHECK_EQ(dbx_write_all(p[0], "x", 1), -EBADF);
    CHECK_EQ(dbx_set_nonblock(-1, true), -EBADF);
    dbx_close(p[0]);
}

static void test_pass(int type)
{
    int s[2], p[2], fds[DBX_MAX_PASS_FDS] = {0};
    char data[16];
    size_t len, nfds;
    CHECK_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, s), 0);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    CHECK_EQ(dbx_recv_fds(s[1], data, sizeof(data), &len, fds, 8, &nfds), -EAGAIN);
    CHECK_EQ(dbx_send_fds(s[0], "hi", 2, NULL, 0), 0);
    CHECK_EQ(dbx_recv_fds(s[1], data, sizeof(data), &len, NULL, 0, &nfds), 0);
    CHECK_EQ(len, 2);
    CHECK_EQ(nfds, 0);

    int eight[] = {p[0], p[1], p[0], p[1], p[0], p[1], p[0], p[1]};
    int before = count_fds();
    CHECK_EQ(dbx_send_fds(s[0], "abc", 3, eight, 8), 0);
    CHECK_EQ(dbx_recv_fds(s[1], data, sizeof(data), &len, fds, 8, &nfds), 0);
    CHECK_EQ(nfds, 8);
    CHECK_EQ(count_fds(), before + 8);
    CHECK(fcntl(fds[1], F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(write(fds[1], "z", 1), 1);
    CHECK_EQ(read(fds[2], data, 1), 1);
    for (int i = 0; i < 8; i++)
        dbx_close(fds[i]);

    for (size_t room = 0; room < 5; room++) { /* more came than wanted: none stays open */
        CHECK_EQ(dbx_send_fds(s[0], "abc", 3, eight, 5), 0);
        CHECK_EQ(dbx_recv_fds(s[1], data, sizeof(data), &len, fds, room, &nfds), -EMSGSIZE);
        CHECK_EQ(count_fds(), before);
    }
    if (type != SOCK_STREAM) {
        CHECK_EQ(dbx_send_fds(s[0], "too long", 8, eight, 2), 0);
        CHECK_EQ(dbx_recv_fds(s[1], data, 4, &len, fds, 8, &nfds), -EMSGSIZE);
        CHECK_EQ(count_fds(), before);
    }
    int r = 0;
    for (int i = 0; i < 100000 && r == 0; i++)
        r = dbx_send_fds(s[0], "fill", 4, NULL, 0);
    CHECK_EQ(r, -EAGAIN);
    dbx_close(s[1]);
    CHECK(dbx_send_fds(s[0], "x", 1, NULL, 0) < 0); /* -ECONNRESET once: it had not read all */
    CHECK_EQ(dbx_send_fds(s[0], "x", 1, NULL, 0), -EPIPE); /* and no signal */
    dbx_close(s[0]);
    dbx_close(p[0]);
    dbx_close(p[1]);
}

static void test_end(void)
{
    int s[2];
    char data[4];
    size_t len = 9, nfds;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), 0);
    dbx_close(s[0]);
    CHECK_EQ(dbx_recv_fds(s[1], data, sizeof(data), &len, NULL, 0, &nfds), 0);
    CHECK_EQ(len, 0);
    dbx_close(s[1]);
}

int main(void)
{
    test_close();
    test_all();
    test_pass(SOCK_SEQPACKET);
    test_pass(SOCK_STREAM);
    test_end();
    return check_result();
}
