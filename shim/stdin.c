/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/stdin.h"

#include "common/base/buf.h"
#include "common/io/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK 4096u /* PIPE_BUF: a pipe takes such a piece whole, or not at all */
#define CHUNKS 16   /* in one turn of the loop */

struct shim_stdin {
    int fd; /* borrowed */
    struct dbx_watch *watch;
    struct dbx_buf waiting;
    size_t done; /* of waiting: written */
    bool eof, closed;
    void (*on_closed)(void *user);
    void *user;
    uint64_t at; /* of waiting[done] */
    const struct shim_stdin_keep *keep;
    void *keep_user;
};

static void mark(struct shim_stdin *in, size_t more)
{
    if (in->keep)
        in->keep->mark(in->at + more, in->keep_user);
}

static void close_it(struct shim_stdin *in)
{
    in->closed = true;
    in->watch = dbx_watch_free(in->watch);
    dbx_buf_done(&in->waiting);
    in->done = 0;
    in->on_closed(in->user);
}

/* Of what waits, a piece. 1: there may be more; 0: not now; -1: nobody reads any more. */
static int write_piece(struct shim_stdin *in)
{
    size_t left = in->waiting.len - in->done;
    if (left == 0)
        return 0;
    size_t len = left < CHUNK ? left : CHUNK;
    mark(in, len);
    ssize_t n = write(in->fd, in->waiting.data + in->done, len);
    if (n < 0 && errno != EAGAIN && errno != EINTR) /* EPIPE */
        return -1;
    in->done += n > 0 ? (size_t)n : 0;
    in->at += n > 0 ? (size_t)n : 0;
    if (n != (ssize_t)len)
        mark(in, 0);
    return n == (ssize_t)len ? 1 : 0;
}

static void on_writable(void *user, int events, int error)
{
    struct shim_stdin *in = user;
    (void)events;
    int r = error < 0 ? -1 : 1;
    for (int i = 0; i < CHUNKS && r > 0; i++)
        r = write_piece(in);
    if (r < 0) {
        close_it(in);
        return;
    }
    if (in->done == in->waiting.len) {
        dbx_buf_clear(&in->waiting);
        in->done = 0;
        if (in->eof)
            close_it(in);
        else
            dbx_watch_set(in->watch, 0);
    }
}

struct shim_stdin *shim_stdin_new(struct dbx_loop *loop, int fd, const void *first, size_t len,
                                  bool open, void (*on_closed)(void *user), void *user)
{
    struct shim_stdin *in = DBX_NEW(struct shim_stdin);
    in->fd = fd;
    in->eof = !open;
    in->on_closed = on_closed;
    in->user = user;
    dbx_buf_init(&in->waiting, (size_t)DBX_MAX_LINK_MSG + SHIM_STDIN_MAX_WAITING);
    if (len > 0 && dbx_buf_append(&in->waiting, first, len) < 0)
        in->eof = true; /* no memory: it reads the end */
    in->watch = dbx_watch_new(loop, fd, in->eof || len > 0 ? DBX_WRITE : 0, on_writable, in);
    return in;
}

static void save(struct shim_stdin *in)
{
    if (in->keep)
        in->keep->save(in->at, in->waiting.data + in->done, in->waiting.len - in->done,
                       in->keep_user);
}

void shim_stdin_keep(struct shim_stdin *in, const struct shim_stdin_keep *keep, uint64_t at,
                     void *user)
{
    in->keep = keep;
    in->keep_user = user;
    in->at = at;
    save(in);
}

struct shim_stdin *shim_stdin_free(struct shim_stdin *in)
{
    if (!in)
        return NULL;
    dbx_watch_free(in->watch);
    dbx_buf_done(&in->waiting);
    free(in);
    return NULL;
}

int shim_stdin_write(struct shim_stdin *in, const void *data, size_t len, struct dbx_err *err)
{
    if (in->closed || in->eof)
        return dbx_err_set(err, -EPIPE, DBX_CONFLICT, "stdin is closed");
    if (in->done > 0) {
        dbx_buf_consume(&in->waiting, in->done);
        in->done = 0;
    }
    if (in->waiting.len + len > SHIM_STDIN_MAX_WAITING)
        return dbx_err_set(err, -ENOBUFS, DBX_LIMIT, "the program does not read its stdin");
    if (dbx_buf_append(&in->waiting, data, len) < 0)
        return dbx_err_set(err, -ENOBUFS, DBX_LIMIT, "no memory for stdin");
    save(in);
    if (in->waiting.len > 0)
        dbx_watch_set(in->watch, DBX_WRITE);
    return 0;
}

int shim_stdin_eof(struct shim_stdin *in, struct dbx_err *err)
{
    if (in->closed || in->eof)
        return dbx_err_set(err, -EPIPE, DBX_CONFLICT, "stdin is closed");
    in->eof = true;
    dbx_watch_set(in->watch, DBX_WRITE);
    return 0;
}
