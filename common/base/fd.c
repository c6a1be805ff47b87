/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void dbx_close(int fd)
{
    if (fd < 0)
        return;
    int saved = errno;
    /* Linux frees the descriptor even on EINTR: a second try would close somebody else's */
    if (close(fd) < 0)
        dbx_assert(errno != EBADF);
    errno = saved;
}

void dbx_closep(int *fd)
{
    dbx_close(*fd);
    *fd = -1;
}

static int wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    if (poll(&p, 1, -1) < 0 && errno != EINTR)
        return -errno;
    return 0;
}

int dbx_write_all(int fd, const void *data, size_t len)
{
    const uint8_t *p = data;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n >= 0) {
            p += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            int r = wait_for(fd, POLLOUT);
            if (r < 0)
                return r;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

int dbx_read_all(int fd, void *data, size_t len)
{
    uint8_t *p = data;
    while (len) {
        ssize_t n = read(fd, p, len);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        } else if (n == 0) {
            return -ENODATA;
        } else if (errno == EAGAIN) {
            int r = wait_for(fd, POLLIN);
            if (r < 0)
                return r;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

int dbx_set_nonblock(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    int want = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (want != flags && fcntl(fd, F_SETFL, want) < 0)
        return -errno;
    return 0;
}

union control {
    struct cmsghdr align;
    uint8_t room[CMSG_SPACE(sizeof(int) * DBX_MAX_PASS_FDS)];
};

int dbx_send_fds(int sock, const void *data, size_t len, const int *fds, size_t nfds)
{
    union control control = {0};
    struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    dbx_assert(nfds <= DBX_MAX_PASS_FDS);
    if (nfds) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
    }
    ssize_t n;
    do {
        n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return (size_t)n == len ? 0 : -EMSGSIZE; /* only a stream socket takes a part */
}

/* Takes every descriptor out of msg; those for which there is no room are closed. Returns whether
 * all fitted. */
static bool collect_fds(struct msghdr *msg, int *fds, size_t max_fds, size_t *ret_nfds)
{
    size_t count = 0;
    bool fits = true;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
            if (count < max_fds) {
                fds[count++] = fd;
            } else {
                dbx_close(fd);
                fits = false;
            }
        }
    }
    *ret_nfds = count;
    return fits;
}

int dbx_recv_fds(int sock, void *data, size_t size, size_t *ret_len, int *fds, size_t max_fds,
                 size_t *ret_nfds)
{
    union control control = {0};
    struct iovec iov = {.iov_base = data, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    ssize_t n;
    do {
        n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    size_t count;
    bool fits = collect_fds(&msg, fds, max_fds, &count);
    if (!fits || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        for (size_t i = 0; i < count; i++)
            dbx_closep(&fds[i]);
        return -EMSGSIZE;
    }
    *ret_len = (size_t)n;
    *ret_nfds = count;
    return 0;
}
