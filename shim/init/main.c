/* SPDX-License-Identifier: Apache-2.0 */
/* PID 1 of a sandbox: reads requests on fd 0 (protocol.h), starts processes, reaps them, says how
 * they ended, carries their output. One thread, one epoll; asleep for good while nothing runs and
 * nobody asks. What it has to say is kept as marks on the processes, and a short queue of answers;
 * while the queue holds anything no request is read, so that it needs no more room. */
#include "shim/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_MS 50
#define SAMPLE_CLOSELY_MS 10
#define KILL_AGAIN_MS 5
#define KILL_GIVE_UP_US 5000000u
#define EVENTS_MAX 64 /* in one turn */

uint64_t init_now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* --- what init says --- */

static bool put(struct init *in, const void *data, size_t len)
{
    for (;;) {
        if (send(in->sock, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return true;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != ENOBUFS)
            in->quit = true;
        return false;
    }
}

void init_answer(struct init *in, uint16_t op, uint16_t flags, uint32_t tag, const void *body,
                 size_t len)
{
    struct init_header h = {.op = op, .flags = flags, .tag = tag, .body_len = len};
    struct answer a = {.len = (uint32_t)(sizeof(h) + len)};
    memcpy(a.data, &h, sizeof(h));
    memcpy(a.data + sizeof(h), body, len);
    if (in->queued == 0 && put(in, a.data, a.len))
        return;
    if (in->queued == QUEUE_MAX) {
        in->quit = true; /* cannot be: one request has few answers, and none is read meanwhile */
        return;
    }
    in->queue[in->queued++] = a;
}

void init_done(struct init *in, const struct init_header *h, int error, uint64_t value,
               const char *text)
{
    size_t len = text ? strnlen(text, 255) : 0;
    struct {
        struct init_done fixed;
        char text[256];
    } d = {.fixed = {.op = h->op, .error = error, .value = value, .text_len = (uint32_t)len}};
    if (len)
        memcpy(d.text, text, len);
    init_answer(in, INIT_DONE, 0, h->tag, &d, sizeof(d.fixed) + len);
}

static void say_start(struct init *in, struct proc *p)
{
    struct init_started s = {.key = p->key, .pid = (uint32_t)p->pid};
    if (p->state == PROC_FAILED) {
        s.pid = 0;
        s.error = p->error;
        s.stage = p->stage;
    }
    p->say_start = false;
    init_answer(in, INIT_STARTED, p->again ? INIT_AGAIN : 0, p->tag, &s, sizeof(s));
}

static void say_end(struct init *in, struct proc *p)
{
    p->say_end = false;
    init_answer(in, INIT_EXITED, p->again ? INIT_AGAIN : 0, 0, &p->end, sizeof(p->end));
}

static void say_saw(struct init *in, struct proc *p)
{
    struct init_saw s = {.key = p->key, .seen = p->end.seen & INIT_SAW_AT_ONCE};
    p->say_saw = false;
    init_answer(in, INIT_SAW, p->again ? INIT_AGAIN : 0, 0, &s, sizeof(s));
}

static void say_of(struct init *in, struct proc *p)
{
    if (p->say_start)
        say_start(in, p);
    if (p->state == PROC_RUNNING && p->say_saw && in->queued == 0)
        say_saw(in, p);
    if (p->state == PROC_EXITED && p->say_end && in->queued == 0)
        say_end(in, p);
    if (in->queued == 0)
        p->again = false;
}

static void say_wrote(struct init *in)
{
    struct init_header h = {.op = INIT_FILES, .tag = in->wrote_tag};
    in->wrote = false;
    init_done(in, &h, 0, in->wrote_count, NULL);
}

/* Sends what is marked, as far as the socket takes it. */
static void flush(struct init *in)
{
    size_t sent = 0;
    while (sent < in->queued && put(in, in->queue[sent].data, in->queue[sent].len))
        sent++;
    if (sent) {
        memmove(in->queue, in->queue + sent, (in->queued - sent) * sizeof(in->queue[0]));
        in->queued -= sent;
    }
    if (in->wrote && in->queued == 0)
        say_wrote(in);
    if (in->say_ready && in->queued == 0) {
        struct init_ready r = {INIT_MAGIC, INIT_VERSION, in->features, (uint32_t)getpid()};
        in->say_ready = false;
        init_answer(in, INIT_READY, in->listing ? INIT_AGAIN : 0, 0, &r, sizeof(r));
    }
    for (size_t i = 0; i < INIT_MAX_PROCESSES && in->queued == 0; i++)
        if (in->procs[i].state != PROC_FREE)
            say_of(in, &in->procs[i]);
    if (in->queued == 0)
        init_streams_say(in);
    if (in->killed && in->queued == 0) {
        struct init_header h = {.op = INIT_KILL_ALL, .tag = in->kill_tag};
        in->killed = false;
        init_done(in, &h, in->kill_result, 0, NULL);
    }
    if (in->listing && in->queued == 0) {
        struct init_header h = {.op = INIT_LIST, .tag = in->list_tag};
        in->listing = false;
        init_done(in, &h, 0, 0, NULL);
    }
}

/* --- what the shim asks --- */

static void on_list(struct init *in, const struct init_header *h)
{
    in->listing = in->say_ready = true;
    in->list_tag = h->tag;
    for (size_t i = 0; i < INIT_MAX_PROCESSES; i++) {
        struct proc *p = &in->procs[i];
        if (p->state == PROC_FREE)
            continue;
        p->again = p->say_start = true;
        p->say_end = p->state == PROC_EXITED;
        p->say_saw = p->end.seen & INIT_SAW_AT_ONCE;
    }
    init_streams_say_again(in);
}

static void on_kill_all(struct init *in, const struct init_header *h)
{
    if (in->killing ||
        in->killed) { /* the earlier one's answer would be lost: only one shim, so it gave that up
                       */
        struct init_header old = {.op = INIT_KILL_ALL, .tag = in->kill_tag};
        init_done(in, &old, ECANCELED, 0, NULL);
    }
    in->killing = in->look = true;
    in->killed = false;
    in->kill_tag = h->tag;
    in->kill_until_us = init_now_us() + KILL_GIVE_UP_US;
}

static void on_files(struct init *in, const struct init_header *h, const uint8_t *body, size_t len)
{
    char text[256] = "";
    uint64_t count;
    if (in->wrote)
        say_wrote(in); /* the one before */
    int r = init_write_files(in, body, len, &count, text, sizeof(text));
    in->files_error = r;
    if (r) {
        init_done(in, h, r, count, text);
        return;
    }
    in->wrote = true; /* a START may have come behind it, which is waited for */
    in->wrote_tag = h->tag;
    in->wrote_count = count;
}

static void on_plain(struct init *in, const struct init_header *h, const uint8_t *body, size_t len)
{
    struct init_signal sig;
    struct init_resize resize;
    struct init_listen listen;
    struct init_status st;
    struct init_key key;
    int r;
    switch (h->op) {
    case INIT_SIGNAL:
        r = init_decode_signal(body, len, &sig);
        init_done(in, h, r ? r : init_signal(in, &sig), 0, NULL);
        break;
    case INIT_RESIZE:
        r = init_decode_resize(body, len, &resize);
        init_done(in, h, r ? r : init_tty_resize(in, &resize), 0, NULL);
        break;
    case INIT_LISTEN:
        r = init_decode_listen(body, len, &listen);
        init_done(in, h, r ? r : init_listen(in, listen.port), 0, NULL);
        break;
    case INIT_KILL_ALL:
        on_kill_all(in, h);
        break;
    case INIT_LIST:
        on_list(in, h);
        break;
    case INIT_ACK:
        if (init_decode_key(body, len, &key) == 0)
            init_ack(in, &key);
        break;
    case INIT_STAT:
        init_status(in, &st);
        init_answer(in, INIT_STATUS, 0, h->tag, &st, sizeof(st));
        break;
    case INIT_WARM:
        if (in->pid1 && !in->parked.forked)
            init_warm_up();
        break;
    case INIT_QUIT:
        in->quit = true;
        break;
    default:
        init_done(in, h, ENOSYS, 0, NULL);
    }
}

/* The body in a file: mapped for FILES (it is only read through once), copied for START (whose
 * strings must hold still). */
static int body_of_fd(const struct init_header *h, int fd, uint8_t **ret)
{
    struct stat st;
    bool start = h->op == INIT_START || h->op == INIT_START_TTY;
    uint64_t max = h->op == INIT_FILES ? INIT_MAX_FILES_BODY : start ? INIT_MAX_START_BODY : 0;
    if (h->body_len == 0 || h->body_len > max)
        return E2BIG;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size < h->body_len)
        return EBADF;
    void *map = mmap(NULL, h->body_len, PROT_READ | (start ? PROT_WRITE : 0), MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return errno;
    if (start)
        for (uint64_t i = 0; i < h->body_len; i += 4096) {
            volatile uint8_t *page = (uint8_t *)map + i;
            *page = *page; /* our own copy of the page */
        }
    *ret = map;
    return 0;
}

static void on_layer(struct init *in, const struct init_header *h, const uint8_t *body, size_t len)
{
    uint64_t value = 0;
    int r = init_layer(in, body, len, &value);
    init_done(in, h, r, value, NULL);
}

static void on_stream(struct init *in, const uint8_t *body, size_t len, int *fds, size_t n_fds)
{
    struct init_stream what;
    if (init_decode_stream(body, len, &what) == 0)
        init_stream(in, &what, n_fds ? fds : NULL);
}

static void on_watch(struct init *in, const struct init_header *h, const uint8_t *body, size_t len,
                     int *fds, size_t n_fds)
{
    init_block(fds, n_fds);
    init_done(in, h, init_watch_begin(in, body, len, fds, n_fds), 1, NULL);
}

static void on_request(struct init *in, size_t len, int *fds, size_t n_fds)
{
    struct init_header h;
    const uint8_t *body;
    uint8_t *map = NULL;
    size_t body_len;
    int r = init_decode_header(in->request, len, &h, &body, &body_len);
    if (r) {
        if (len >= sizeof(h))
            init_done(in, &h, r, 0, "header");
        return;
    }
    if (h.flags & INIT_BODY_FD) {
        r = n_fds ? body_of_fd(&h, fds[n_fds - 1], &map) : EBADF;
        if (r) {
            init_done(in, &h, r, 0, "body");
            return;
        }
        body = map;
        body_len = h.body_len;
        n_fds--;
    }
    if (h.op == INIT_START || h.op == INIT_START_TTY)
        init_start(in, &h, body, body_len, fds, n_fds);
    else if (h.op == INIT_FILES)
        on_files(in, &h, body, body_len);
    else if (h.op == INIT_WATCH)
        on_watch(in, &h, body, body_len, fds, n_fds);
    else if (h.op == INIT_LAYER)
        on_layer(in, &h, body, body_len);
    else if (h.op == INIT_PARK)
        init_park(in, &h, body, body_len);
    else if (h.op == INIT_RENEW)
        init_renew(in, &h, body, body_len);
    else if (h.op == INIT_STREAM)
        on_stream(in, body, body_len, fds, n_fds);
    else
        on_plain(in, &h, body, body_len);
    if (map)
        munmap(map, h.body_len);
}

void init_block(const int *fds, size_t n_fds)
{
    for (size_t i = 0; i < n_fds; i++)
        (void)fcntl(fds[i], F_SETFL, 0);
}

/* What did not fit into the control buffer the kernel has closed. */
static size_t take_fds(struct msghdr *msg, int fds[INIT_MAX_FDS])
{
    size_t count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
            if (count == INIT_MAX_FDS) {
                close(fd);
                continue;
            }
            fds[count++] = fd;
        }
    }
    return count;
}

/* One request. Returns false when there is none. */
static bool read_request(struct init *in)
{
    union {
        struct cmsghdr align;
        uint8_t room[CMSG_SPACE(sizeof(int) * INIT_MAX_FDS)];
    } control;
    int fds[INIT_MAX_FDS];
    struct iovec iov = {.iov_base = in->request, .iov_len = sizeof(in->request)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(in->sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            in->quit = true;
        return false;
    }
    size_t n_fds = take_fds(&msg, fds);
    if (n == 0)
        in->quit = true; /* nobody is left at the other end */
    else if (!(msg.msg_flags & MSG_TRUNC))
        on_request(in, (size_t)n, fds, n_fds);
    for (size_t i = 0; i < n_fds; i++)
        if (fds[i] >= 0) /* not kept */
            close(fds[i]);
    return n > 0;
}

/* --- the loop --- */

static void go_on_killing(struct init *in, bool children)
{
    bool late = init_now_us() > in->kill_until_us;
    if (in->pid1 && in->pristine.known) /* the server stays, and reports its child */
        children = init_others(in) > 0 || init_running(in);
    if (children && !late) {
        init_kill(in, SIGKILL);
        return;
    }
    if (!in->pid1 && init_running(in) && !late)
        return;
    in->killing = false;
    in->killed = true; /* said after the exits that it caused */
    in->kill_result = children ? ETIMEDOUT : 0;
}

static int next_wait_ms(const struct init *in)
{
    if (in->killing || in->renew.step == RENEW_ALONE)
        return KILL_AGAIN_MS;
    if (in->renew.step)
        return SAMPLE_MS;
    if (!init_running(in))
        return -1;
    return in->closely ? SAMPLE_CLOSELY_MS : SAMPLE_MS;
}

/* The clock and the socket's direction, where they are not yet as they should be. */
static void rearm(struct init *in)
{
    int ms = next_wait_ms(in);
    bool writing = in->queued > 0;
    if (ms != in->tick_ms) {
        struct timespec every = {.tv_nsec = ms > 0 ? ms * 1000000L : 0};
        struct itimerspec ts = {.it_interval = every, .it_value = every};
        in->tick_ms = ms;
        (void)timerfd_settime(in->timer, 0, &ts, NULL);
    }
    if (writing != in->writing) {
        struct epoll_event ev = {.events = writing ? EPOLLOUT : EPOLLIN, .data.u32 = ON_SOCKET};
        in->writing = writing;
        (void)epoll_ctl(in->epoll, EPOLL_CTL_MOD, in->sock, &ev);
    }
}

static void on_socket(struct init *in, uint32_t events)
{
    if (events & (EPOLLHUP | EPOLLERR) && in->queued)
        in->quit = true;
    while (!in->quit && !in->queued && !in->listing && read_request(in))
        ;
}

/* Time is up, or a child has ended (which is still counted until it is reaped). */
static void on_look(struct init *in, int fd)
{
    uint8_t data[sizeof(struct signalfd_siginfo)];
    if (read(fd, data, sizeof(data)) < 0)
        return; /* the timer was set anew meanwhile */
    in->look = true;
    if (init_running(in))
        init_sample(in);
}

/* Requests come last: a START may take a pump that was closed in this turn, whose other events then
 * lie behind us. Nobody is kept waiting by the pumps: each moves one piece. */
static void take_turn(struct init *in)
{
    struct epoll_event events[EVENTS_MAX];
    uint32_t socket = 0;
    int n = epoll_wait(in->epoll, events, EVENTS_MAX, -1);
    for (int i = 0; i < n; i++) {
        uint32_t what = events[i].data.u32;
        if (what == ON_SOCKET)
            socket = events[i].events;
        else if (what == ON_SIGNAL)
            on_look(in, in->signals);
        else if (what == ON_TICK)
            on_look(in, in->timer);
        else if (what == ON_PARKED)
            init_on_parked(in);
        else if (what == ON_SERVER)
            init_on_server(in);
        else if (what == ON_LISTENER)
            init_on_listener(in);
        else if (what >= ON_STREAMS)
            init_stream_turn(in, what - ON_STREAMS);
        else if (what >= ON_WATCH)
            init_watch_turn(in, what);
        else if (what >= INIT_TTY_EVENTS)
            init_tty_turn(in, what - INIT_TTY_EVENTS);
        else
            init_pump_turn(in, what, events[i].events);
    }
    if (socket)
        on_socket(in, socket);
}

static void run(struct init *in)
{
    while (!in->quit) {
        if (in->look) {
            in->look = false;
            init_park_tidy(in);
            if (in->begun)
                init_drop_spare(in);
            bool children = init_reap(in);
            if (in->killing)
                go_on_killing(in, children);
        }
        if (in->renew.step)
            init_renew_turn(in);
        flush(in);
        if (in->quit)
            break;
        rearm(in);
        take_turn(in);
    }
}

static int watch(struct init *in, int fd, uint32_t what)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = what};
    return fd < 0 ? -1 : epoll_ctl(in->epoll, EPOLL_CTL_ADD, fd, &ev);
}

/* SIGCHLD by a descriptor: a wait that always finds something ready would never let a signal in. */
static int open_loop(struct init *in)
{
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &ended, NULL);
    in->epoll = epoll_create1(EPOLL_CLOEXEC);
    in->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    in->signals = signalfd(-1, &ended, SFD_CLOEXEC | SFD_NONBLOCK);
    in->tick_ms = -1;
    if (watch(in, in->sock, ON_SOCKET) < 0 || watch(in, in->signals, ON_SIGNAL) < 0)
        return -1;
    return watch(in, in->timer, ON_TICK);
}

/* Everything above what init needs goes, for good. SYS_ADMIN and SYS_CHROOT are there for layers;
 * spare: DAC_OVERRIDE, to make a file in a folder that is the user's (files.c:write_first). */
static void drop_capabilities(uint32_t spare)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2] = {0};
    uint32_t keep = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL | 1u << CAP_CHOWN |
                    1u << CAP_SYS_ADMIN | 1u << CAP_SYS_CHROOT | spare;
    if (syscall(SYS_capget, &head, caps) < 0)
        return;
    caps[0].effective = caps[0].permitted = caps[0].permitted & keep;
    caps[0].inheritable = caps[1].effective = caps[1].permitted = caps[1].inheritable = 0;
    (void)syscall(SYS_capset, &head, caps);
}

void init_drop_spare(struct init *in)
{
    if (in->spare)
        drop_capabilities(0);
    in->spare = false;
}

/* fd 0 goes above 2, so that 0, 1 and 2 are /dev/null for children that are given nothing. */
static int take_socket(void)
{
    int sock = fcntl(0, F_DUPFD_CLOEXEC, 3);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (sock < 0 || null < 0)
        return -1;
    for (int i = 0; i < 3; i++)
        if (dup2(null, i) < 0)
            return -1;
    close(null);
    (void)syscall(SYS_close_range, (unsigned)sock + 1, ~0u, 0);
    return sock;
}

int main(int argc, char **argv)
{
    static struct init in;
    (void)argv;
    if (argc > 1) {
        fprintf(stderr, "devbox-sandbox-init takes no arguments: it is started by the shim, with a "
                        "socket as fd 0\n");
        return 64;
    }
    umask(0);
    init_watch_boot();
    in.sock = take_socket();
    signal(SIGPIPE, SIG_IGN);
    if (in.sock < 0 || open_loop(&in) < 0)
        return 71;
    in.pid1 = getpid() == 1;
    in.boot_us = init_now_us();
    in.features = init_probe(in.pid1);
    in.say_ready = true;
    if (in.pid1) {
        if (mkdir("/dev/mqueue", 0755) == 0) /* what is in it is seen by RENEW */
            (void)mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
        init_layers_begin(&in);
        drop_capabilities(1u << CAP_DAC_OVERRIDE);
        in.spare = true;
    }
    run(&in);
    return 0;
}
