/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into an interpreter that is to fork what is parked (INIT_FORK in shim/init/protocol.h):
 * its first fork() serves orders on fd 3 until nobody has any, and returns in children only. Each
 * has the identity and the descriptors that its order says, and goes on as what it was forked from.
 * Who is preloaded keeps no descriptor beyond fd 3: all of these are closed behind an order.
 *
 * In C because the parent must touch next to nothing: all it has is shared with its child, and
 * gVisor copies up to 2 MiB for the first byte that either writes. */
#include <dlfcn.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/init/protocol.h"

#define ORDERS 3
#define N_FDS 4
#define MAPS_MAX (64u << 10)

extern void *__tls_get_addr(void *); /* of the loader */

static pid_t (*real_fork)(void);
static bool serving;

__attribute__((constructor)) static void begin(void)
{
    void *found = dlsym(RTLD_NEXT, "fork");
    memcpy(&real_fork, &found, sizeof(found));
    serving = getenv("DEVBOX_FORK") != NULL;
}

/* False: nobody has orders any more. */
static bool take_order(struct init_fork *ret, int fds[static N_FDS])
{
    union {
        struct cmsghdr align;
        uint8_t room[CMSG_SPACE(N_FDS * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = ret, .iov_len = sizeof(*ret)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    if (recvmsg(ORDERS, &msg, MSG_CMSG_CLOEXEC) != sizeof(*ret))
        return false;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(N_FDS * sizeof(int)))
        return false;
    memcpy(fds, CMSG_DATA(c), N_FDS * sizeof(int));
    return true;
}

/* ---- the server's memory ---- */

/* What is there becomes one mapping of its own, with the same bytes. */
static void join(uint8_t *at, size_t len)
{
    uint8_t *copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return;
    memcpy(copy, at, len);
    if (mprotect(copy, len, PROT_READ | PROT_EXEC) < 0 ||
        mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED)
        (void)munmap(copy, len);
}

/* A line of /proc/self/maps: "FROM-TO PERM ... [NAME]". */
static void join_text(const char *line)
{
    char *rest;
    uintptr_t from = strtoul(line, &rest, 16), to = *rest == '-' ? strtoul(rest + 1, &rest, 16) : 0;
    uintptr_t libc = (uintptr_t)real_fork, loader = (uintptr_t)__tls_get_addr;
    bool wanted = (from <= libc && libc < to) || (from <= loader && loader < to);
    if (wanted && !strncmp(rest, " r-xp ", 6))
        join((uint8_t *)from, to - from);
}

/* The instructions of libc and the loader lie in one piece again. Each page in which gVisor has put
 * a jump (see rehearse) is a piece of its own, and so is what is left between two of them: a child
 * would stop some thirty times until it has them all. */
static void join_texts(void)
{
    char maps[MAPS_MAX];
    size_t len = 0;
    ssize_t n;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    while (len < sizeof(maps) - 1 && (n = read(fd, maps + len, sizeof(maps) - 1 - len)) > 0)
        len += (size_t)n;
    close(fd);
    maps[len] = 0;
    for (char *line = maps, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        join_text(line);
    }
}

/* ---- orders ---- */

static void become(const struct init_fork *order, const int fds[static N_FDS])
{
    static const int places[N_FDS] = {ORDERS, 0, 1, 2};
    bool well = true;
    for (int i = 0; i < N_FDS; i++)
        well = well && dup2(fds[i], places[i]) >= 0;
    well = well && close_range(ORDERS + 1, ~0u, 0) == 0 && setsid() > 0 &&
           setgroups(0, NULL) == 0 && setresgid(order->gid, order->gid, order->gid) == 0 &&
           setresuid(order->uid, order->uid, order->uid) == 0;
    if (!well)
        _exit(70);
}

static void say(const struct init_forked *m)
{
    if (send(ORDERS, m, sizeof(*m), MSG_NOSIGNAL) != sizeof(*m))
        _exit(71);
}

/* Waits for it, too: there is one at a time. */
static void report(pid_t child)
{
    struct init_forked m = {.what = INIT_FORKED, .value = child};
    struct rusage ru;
    int status = 0;
    say(&m);
    if (wait4(child, &status, 0, &ru) != child)
        _exit(72);
    m = (struct init_forked){
        .what = INIT_FORK_ENDED,
        .value = status,
        .utime_us = (uint64_t)ru.ru_utime.tv_sec * 1000000 + (uint64_t)ru.ru_utime.tv_usec,
        .stime_us = (uint64_t)ru.ru_stime.tv_sec * 1000000 + (uint64_t)ru.ru_stime.tv_usec};
    say(&m);
}

/* gVisor makes a jump of a system call's instruction when it is first come by, in the memory of who
 * did: what the server has called children call at once, where each would be stopped, and its page
 * of code copied, once more. All of these change nothing here. */
static void rehearse(void)
{
    void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED)
        (void)munmap(page, 4096);
    (void)ioctl(ORDERS, FIONCLEX);
    (void)dup2(ORDERS, ORDERS);
    (void)close_range(ORDERS + 1, ~0u, 0);
    (void)setsid(); /* it leads one */
    (void)setgroups(0, NULL);
    (void)setresgid((gid_t)-1, (gid_t)-1, (gid_t)-1);
    (void)setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1);
    (void)!chdir(".");
}

static pid_t serve(void)
{
    struct init_fork order;
    int fds[N_FDS];
    rehearse();
    join_texts();
    if (send(ORDERS, "R", 1, MSG_NOSIGNAL) != 1)
        _exit(71);
    while (take_order(&order, fds)) {
        pid_t child = real_fork();
        if (child == 0) {
            become(&order, fds);
            return 0;
        }
        (void)close_range(ORDERS + 1, ~0u, 0); /* those of the order: it has no others */
        if (child < 0)
            _exit(73);
        report(child);
    }
    _exit(0);
}

pid_t fork(void)
{
    if (!serving)
        return real_fork();
    serving = false;
    return serve();
}
