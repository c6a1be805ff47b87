/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/fd.h"
#include "common/base/str.h"
#include "common/io/listen_int.h"
#include "common/io/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096
#define ACCEPT_BATCH 64
#define ACCEPT_PAUSE_MS 100
/* The kernel's default lets a client that does not read hold 2.75 MB of kernel memory; this bounds
 * it. */
#define SEND_BUFFER (256 << 10)

struct dbx_listener {
    struct dbx_loop *loop;
    dbx_accept_fn *fn;
    void *user;
    int fd;
    bool tcp;
    char *unlink_path; /* owned; ours to remove */
    struct dbx_watch *watch;
    struct dbx_timer *pause;
};

int dbx_addr_parse(const char *spec, struct sockaddr_storage *ret, unsigned *ret_len,
                   struct dbx_err *err)
{
    const char *colon = strrchr(spec, ':');
    char host[64];
    uint64_t port;

    if (!colon || dbx_parse_u64(colon + 1, strlen(colon + 1), 0, 65535, &port) < 0)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "'%s' is not ADDRESS:PORT", spec);
    size_t n = (size_t)(colon - spec);
    bool v6 = n >= 2 && spec[0] == '[' && spec[n - 1] == ']';
    if (v6) {
        spec++;
        n -= 2;
    }
    if (n >= sizeof(host))
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "the address is too long");
    memcpy(host, spec, n);
    host[n] = '\0';
    memset(ret, 0, sizeof(*ret));
    struct sockaddr_in *in4 = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
    if (v6 && inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        *ret_len = sizeof(*in6);
        return 0;
    }
    if (!v6 && inet_pton(AF_INET, host, &in4->sin_addr) == 1) {
        in4->sin_family = AF_INET;
        in4->sin_port = htons((uint16_t)port);
        *ret_len = sizeof(*in4);
        return 0;
    }
    return dbx_err_set(err, -EINVAL, DBX_INVALID, "'%s' is not a numeric address", host);
}

static int open_tcp(const char *spec, int *ret_fd, struct dbx_err *err)
{
    struct sockaddr_storage addr;
    unsigned len;
    int on = 1, r = dbx_addr_parse(spec, &addr, &len, err);

    if (r < 0)
        return r;
    DBX_CLEANUP(dbx_closep)
    int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return dbx_err_sys(err, "socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
        return dbx_err_sys(err, "socket options");
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, BACKLOG) < 0)
        return dbx_err_sys(err, "listen on %s", spec);
    *ret_fd = DBX_TAKE_FD(fd);
    return 0;
}

/* A socket file that nobody serves any more is what a killed daemon leaves behind. */
static bool remove_stale(const struct sockaddr_un *addr)
{
    struct stat st;

    if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    DBX_CLEANUP(dbx_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ||
        errno != ECONNREFUSED)
        return false;
    return unlink(addr->sun_path) == 0;
}

static int open_unix(const char *path, int *ret_fd, struct dbx_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (!*path || !dbx_strcpy(addr.sun_path, sizeof(addr.sun_path), path))
        return dbx_err_set(err, -ENAMETOOLONG, DBX_INVALID,
                           "the socket path '%s' is empty or too long", path);
    DBX_CLEANUP(dbx_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return dbx_err_sys(err, "socket");
    int r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
    if (r < 0 && errno == EADDRINUSE && remove_stale(&addr))
        r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
    if (r < 0) {
        errno = errno == ENOENT || errno == EACCES ? errno : EADDRINUSE;
        return dbx_err_sys(err, "listen on unix:%s", path);
    }
    if (listen(fd, BACKLOG) < 0)
        return dbx_err_sys(err, "listen on unix:%s", path);
    *ret_fd = DBX_TAKE_FD(fd);
    return 0;
}

static int take_inherited(const char *number, int *ret_fd, struct dbx_err *err)
{
    uint64_t fd;
    int listening = 0;
    socklen_t len = sizeof(listening);

    if (dbx_parse_u64(number, strlen(number), 0, 1 << 20, &fd) < 0)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "'%s' is not a descriptor", number);
    if (getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
        return dbx_err_sys(err, "descriptor %s", number);
    if (!listening)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "descriptor %s does not listen", number);
    dbx_set_nonblock((int)fd, true);
    *ret_fd = (int)fd;
    return 0;
}

static void describe_peer(const struct sockaddr_storage *addr, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "unix";

    if (addr->ss_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)addr)->sin_addr, host, sizeof(host));
    else if (addr->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)addr)->sin6_addr, host, sizeof(host));
    dbx_strcpy(out, size, host);
}

static void on_pause_over(void *user)
{
    struct dbx_listener *ls = user;

    dbx_watch_set(ls->watch, DBX_READ);
}

static void on_acceptable(void *user, int events, int error)
{
    struct dbx_listener *ls = user;
    int on = 1, size = SEND_BUFFER;

    (void)events;
    (void)error;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage addr = {0};
        socklen_t len = sizeof(addr);
        char peer[INET6_ADDRSTRLEN];
        int fd = accept4(ls->fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && errno == EAGAIN)
            return;
        if (fd < 0) {
            /* EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection stays in the backlog and the
             * descriptor stays readable. Without a pause the loop would spin. */
            dbx_watch_set(ls->watch, 0);
            dbx_timer_start(ls->pause, ACCEPT_PAUSE_MS, 0);
            return;
        }
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        if (ls->tcp)
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        describe_peer(&addr, peer, sizeof(peer));
        ls->fn(fd, peer, ls->user);
    }
}

int dbx_listener_new(struct dbx_loop *loop, const char *spec, dbx_accept_fn *fn, void *user,
                     struct dbx_listener **ret, struct dbx_err *err)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    int r, fd = -1;

    if (dbx_starts_with(spec, "unix:"))
        r = open_unix(spec + 5, &fd, err);
    else if (dbx_starts_with(spec, "fd:"))
        r = take_inherited(spec + 3, &fd, err);
    else
        r = open_tcp(spec, &fd, err);
    if (r < 0)
        return r;
    struct dbx_listener *ls = DBX_NEW(struct dbx_listener);
    ls->loop = loop;
    ls->fn = fn;
    ls->user = user;
    ls->fd = fd;
    ls->tcp = getsockname(fd, (struct sockaddr *)&addr, &len) == 0 && addr.ss_family != AF_UNIX;
    if (dbx_starts_with(spec, "unix:"))
        ls->unlink_path = dbx_strdup(spec + 5);
    ls->pause = dbx_timer_new(loop, on_pause_over, ls);
    ls->watch = dbx_watch_new(loop, fd, DBX_READ, on_acceptable, ls);
    *ret = ls;
    return 0;
}

uint16_t dbx_listener_port(const struct dbx_listener *ls)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);

    if (!ls || getsockname(ls->fd, (struct sockaddr *)&addr, &len) < 0)
        return 0;
    if (addr.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&addr)->sin_port);
    return addr.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&addr)->sin6_port) : 0;
}

struct dbx_listener *dbx_listener_free(struct dbx_listener *ls)
{
    if (!ls)
        return NULL;
    dbx_watch_free(ls->watch);
    dbx_timer_free(ls->pause);
    dbx_close(ls->fd);
    if (ls->unlink_path)
        (void)unlink(ls->unlink_path);
    free(ls->unlink_path);
    free(ls);
    return NULL;
}
