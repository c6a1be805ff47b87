/* SPDX-License-Identifier: Apache-2.0 */
/* The way out of a sandbox that has no network: a port of its loopback. Who connects to it is given
 * a stream that the host has made; what stands behind that is the shim's to say. Here a connection
 * waits until its stream has come (or is refused: it is closed), and then carries bytes both ways,
 * a piece at a time, between the other duties.
 *
 * The host's end is a Unix socket: those may be passed into a sandbox, those of TCP may not. When
 * the host closes it, the connection is over: everything of the host has been written, and nobody
 * reads what might still come. A descriptor that nothing is wanted of is out of the epoll set, for
 * a hang-up is told whether wanted or not. */
#include "shim/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 64
#define ROUNDS_MAX 8 /* pieces in one turn of the loop */

static void want(struct init *in, struct stream *s, enum stream_fd which, uint32_t events)
{
    uint32_t id = ON_STREAMS + (uint32_t)(s - in->streams) * STREAM_FDS + which;
    struct epoll_event ev = {.events = events, .data.u32 = id};
    if (s->fd[which] < 0 || s->wanted[which] == events)
        return;
    int op = !events ? EPOLL_CTL_DEL : s->wanted[which] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(in->epoll, op, s->fd[which], &ev) == 0)
        s->wanted[which] = events;
}

static void rearm(struct init *in, struct stream *s)
{
    want(in, s, STREAM_CLIENT,
         (relay_reads(&s->up) ? EPOLLIN : 0u) | (relay_writes(&s->down) ? EPOLLOUT : 0u));
    want(in, s, STREAM_HOST,
         (relay_reads(&s->down) ? EPOLLIN : 0u) | (relay_writes(&s->up) ? EPOLLOUT : 0u));
}

static void stream_close(struct init *in, struct stream *s)
{
    for (int i = 0; i < STREAM_FDS; i++) {
        want(in, s, (enum stream_fd)i, 0);
        if (s->fd[i] >= 0)
            close(s->fd[i]);
        s->fd[i] = -1;
    }
    s->state = STREAM_FREE;
}

static void turn(struct init *in, struct stream *s)
{
    uint64_t up = 1, down = 1;
    for (int i = 0; i < ROUNDS_MAX && up + down > 0; i++)
        if (relay_move(&s->up, &up) || relay_move(&s->down, &down) || s->down.told) {
            stream_close(in, s);
            return;
        }
    rearm(in, s);
}

void init_stream_turn(struct init *in, uint32_t id)
{
    struct stream *s = &in->streams[id / STREAM_FDS];
    if (s->state == STREAM_OPEN)
        turn(in, s);
}

/* --- the port --- */

static int open_port(uint16_t port, int *ret)
{
    const struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0) {
        int error = errno;
        close(fd);
        return error;
    }
    *ret = fd;
    return 0;
}

int init_listen(struct init *in, uint16_t port)
{
    int fd = -1;
    if (in->listener > 0)
        return port == in->port ? 0 : EBUSY;
    int error = open_port(port, &fd);
    if (error)
        return error;
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = ON_LISTENER};
    if (epoll_ctl(in->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        error = errno;
        close(fd);
        return error;
    }
    in->listener = fd;
    in->port = port;
    return 0;
}

static struct stream *find_free(struct init *in)
{
    for (size_t i = 0; i < INIT_MAX_STREAMS; i++)
        if (in->streams[i].state == STREAM_FREE)
            return &in->streams[i];
    return NULL;
}

void init_on_listener(struct init *in)
{
    struct stream *s = find_free(in);
    int fd = accept4(in->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (!s) {
        close(fd);
        return;
    }
    s->state = STREAM_WAITS;
    s->say = true;
    s->id = ++in->last_stream;
    s->fd[STREAM_CLIENT] = fd;
    s->fd[STREAM_HOST] = -1;
    memset(s->wanted, 0, sizeof(s->wanted));
}

/* --- what the shim says --- */

static int set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static struct stream *find_waiting(struct init *in, uint32_t id)
{
    for (size_t i = 0; i < INIT_MAX_STREAMS; i++)
        if (in->streams[i].state == STREAM_WAITS && in->streams[i].id == id)
            return &in->streams[i];
    return NULL;
}

void init_stream(struct init *in, const struct init_stream *what, int *fd)
{
    struct stream *s = find_waiting(in, what->id);
    if (!s)
        return; /* answered already: two shims were asked */
    if (!fd || set_nonblock(*fd) < 0) {
        stream_close(in, s);
        return;
    }
    int client = s->fd[STREAM_CLIENT];
    s->fd[STREAM_HOST] = *fd;
    s->up = (struct relay){.from = client, .to = *fd};
    s->down = (struct relay){.from = *fd, .to = client};
    s->state = STREAM_OPEN;
    *fd = -1;
    turn(in, s);
}

void init_streams_say(struct init *in)
{
    for (size_t i = 0; i < INIT_MAX_STREAMS && in->queued == 0; i++) {
        struct stream *s = &in->streams[i];
        if (s->state != STREAM_WAITS || !s->say)
            continue;
        struct init_wanted w = {.id = s->id};
        s->say = false;
        init_answer(in, INIT_WANTED, 0, 0, &w, sizeof(w));
    }
}

void init_streams_say_again(struct init *in)
{
    for (size_t i = 0; i < INIT_MAX_STREAMS; i++)
        in->streams[i].say = true;
}
