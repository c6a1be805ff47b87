/* SPDX-License-Identifier: Apache-2.0 */
/* The fork server (INIT_FORK): an interpreter that has come up once and forks, for each program,
 * what init then holds as parked. It has uid 0, so that its children can take any, and no user's
 * program can signal or trace it; it reads no file of theirs. Its children are its own to reap: it
 * says how they ended. */
#include "shim/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Its stdio are pipes without another end: children find what kind of files they will have. */
static int make_stdio(int its[static 3])
{
    for (int i = 0; i < 3; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
            return errno;
        its[i] = ends[i > 0];
        close(ends[i == 0]);
    }
    return 0;
}

int init_server_start(struct init *in, const struct init_start_request *req)
{
    struct server *sv = &in->server;
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = ON_SERVER};
    struct init_start_request mine = *req;
    int its[3] = {-1, -1, -1}, control[2] = {-1, -1};
    int error = make_stdio(its);
    if (!error && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
        error = errno;
    if (!error && epoll_ctl(in->epoll, EPOLL_CTL_ADD, control[0], &ev) < 0)
        error = errno;
    mine.fixed.fds = INIT_FD_STDIN | INIT_FD_STDOUT | INIT_FD_STDERR;
    struct launch l = {.req = &mine, .fds = its, .control = control[1], .server = true};
    pid_t pid = error ? -1 : init_spawn(&l);
    if (!error && (pid < 0 || l.error))
        error = pid < 0 ? errno : l.error;
    for (int i = 0; i < 3; i++)
        if (its[i] >= 0)
            close(its[i]);
    if (control[1] >= 0)
        close(control[1]);
    if (error && control[0] >= 0)
        close(control[0]);
    if (!error)
        *sv = (struct server){.pid = pid, .sock = control[0]};
    return error;
}

static void say(struct init *in, const struct init_forked *m)
{
    struct server *sv = &in->server;
    if (m->what == INIT_FORKED && m->value > 1) {
        sv->child = m->value;
        if (in->parked.forked && !in->parked.pid && in->parked.sock >= 0)
            in->parked.pid = m->value;
    } else if (m->what == INIT_FORK_ENDED && sv->child) {
        struct rusage ru = {.ru_utime = {.tv_sec = (time_t)(m->utime_us / 1000000),
                                         .tv_usec = (suseconds_t)(m->utime_us % 1000000)},
                            .ru_stime = {.tv_sec = (time_t)(m->stime_us / 1000000),
                                         .tv_usec = (suseconds_t)(m->stime_us % 1000000)}};
        pid_t pid = sv->child;
        sv->child = 0;
        init_sample(in); /* as when a child of ours ends */
        init_gone(in, pid, m->value, &ru);
        in->look = true;
    }
}

void init_on_server(struct init *in)
{
    struct server *sv = &in->server;
    struct init_forked m;
    ssize_t n;
    while (sv->sock > 0 && (n = recv(sv->sock, &m, sizeof(m), MSG_DONTWAIT)) != -1) {
        if (n == 1 && !sv->ready) {
            sv->ready = true;
        } else if (n == sizeof(m)) {
            say(in, &m);
        } else { /* it has ended; its child, if there is one, becomes ours */
            close(sv->sock);
            sv->sock = 0;
        }
    }
}

void init_server_ended(struct init *in)
{
    init_on_server(in); /* what it said last */
    if (in->server.sock > 0)
        close(in->server.sock);
    in->server = (struct server){0};
}
