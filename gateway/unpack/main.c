/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-unpack: descriptor 0 is the gateway's socket. Each message on it carries two descriptors,
 * an archive and where the block of its files goes, and is given a process of its own. What comes
 * before the block says how it went: "ok\n", or "invalid WORDS\n", "limit WORDS\n", "internal
 * WORDS\n". Ends with the socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/proto/files.h"
#include "gateway/unpack/confine.h"
#include "gateway/unpack/unpack.h"

#define MAX_IN (40u << 20)
#define MAX_OUT (40u << 20)
#define READ_AT_ONCE (1u << 20)

static int read_in(struct dbx_buf *in, struct dbx_err *err)
{
    for (;;) {
        if (dbx_buf_reserve(in, READ_AT_ONCE) < 0)
            return dbx_err_set(err, -E2BIG, DBX_LIMIT, "the archive is too large");
        ssize_t n = read(0, in->data + in->len, READ_AT_ONCE);
        if (n < 0)
            return dbx_err_sys(err, "read the archive");
        if (n == 0)
            return 0;
        in->len += (size_t)n;
    }
}

static int run(struct dbx_buf *out, struct dbx_err *err)
{
    static const struct unpack_limits limits = {
        .entries = 2000, .file = 16u << 20, .all = 32u << 20, .ratio = 300, .ratio_at = 4u << 20};
    struct dbx_buf in;
    dbx_buf_init(&in, MAX_IN + READ_AT_ONCE);
    int r = unpack_confine(err);
    if (r == 0)
        r = read_in(&in, err);
    if (r == 0)
        r = unpack_archive(in.data, in.len, &limits, out, err);
    dbx_buf_done(&in);
    return r;
}

/* The process of one archive: it is descriptor 0, the answer goes to 1, and there is no other. */
_Noreturn static void unpack_one(void)
{
    struct dbx_err err = {0};
    struct dbx_buf out;
    char line[400];
    close_range(2, ~0u, 0);
    dbx_buf_init(&out, MAX_OUT);
    int r = run(&out, &err);
    int n = snprintf(line, sizeof(line), "%s%s\n",
                     r == 0                    ? "ok"
                     : err.kind == DBX_INVALID ? "invalid "
                     : err.kind == DBX_LIMIT   ? "limit "
                                               : "internal ",
                     r == 0 ? "" : err.msg);
    r = dbx_write_all(1, line, (size_t)n);
    if (r == 0 && line[0] == 'o')
        r = dbx_write_all(1, out.data, out.len);
    _exit(r < 0);
}

/* False when the socket is closed. Who gets no process sees its answer end at once. */
static bool take_one(void)
{
    struct pollfd p = {.fd = 0, .events = POLLIN};
    char byte;
    int fds[2];
    size_t len, nfds = 0;
    if (poll(&p, 1, -1) < 0)
        return errno == EINTR;
    int r = dbx_recv_fds(0, &byte, 1, &len, fds, 2, &nfds);
    if (r < 0)
        return r == -EAGAIN || r == -EINTR || r == -EMSGSIZE;
    if (nfds == 2 && fork() == 0) {
        if (dup2(fds[0], 0) < 0 || dup2(fds[1], 1) < 0)
            _exit(1);
        unpack_one();
    }
    for (size_t i = 0; i < nfds; i++)
        dbx_close(fds[i]);
    return len > 0;
}

int main(void)
{
    const int devnull = open("/dev/null", O_RDWR);
    (void)signal(SIGCHLD, SIG_IGN); /* nobody asks how they ended */
    if (devnull < 0 || dup2(devnull, 1) < 0 || dup2(devnull, 2) < 0)
        return 1;
    close_range(3, ~0u, 0);
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    while (take_one())
        continue;
    return 0;
}
