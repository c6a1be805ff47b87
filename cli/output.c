/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/stdio_fd.h"
#include "common/base/buf.h"
#include "common/base/fd.h"
#include "common/io/loop.h"

#define CHUNK (64u << 10)

struct cli_output {
    struct dbx_loop *loop;
    struct cli_stdio_fd fd;
    struct dbx_watch *watch; /* NULL: a plain file */
    struct dbx_buf waiting;
    size_t done; /* of waiting: written */
    int error;
    bool deferred;
    const struct cli_output_handlers *h;
    void *user;
};

static void fail(struct cli_output *out, int error)
{
    out->error = error;
    out->watch = dbx_watch_free(out->watch);
    dbx_buf_clear(&out->waiting);
    out->done = 0;
    out->h->on_failed(error, out->user);
}

static void on_writable(void *user, int events, int error)
{
    struct cli_output *out = user;
    size_t left = out->waiting.len - out->done;
    (void)events;
    if (error < 0) {
        fail(out, error);
        return;
    }
    ssize_t n =
        left ? write(out->fd.fd, out->waiting.data + out->done, left < CHUNK ? left : CHUNK) : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        fail(out, -errno);
        return;
    }
    out->done += n > 0 ? (size_t)n : 0;
    if (out->done == out->waiting.len) {
        dbx_buf_clear(&out->waiting);
        out->done = 0;
        dbx_watch_set(out->watch, 0);
    } else if (out->done > CLI_OUTPUT_MAX / 64) {
        dbx_buf_consume(&out->waiting, out->done);
        out->done = 0;
    }
    if (n > 0)
        out->h->on_written(out->user);
}

static void tell(void *user)
{
    struct cli_output *out = user;
    out->deferred = false;
    if (out->error)
        fail(out, out->error);
    else
        out->h->on_written(out->user);
}

static void tell_later(struct cli_output *out)
{
    if (!out->deferred)
        dbx_loop_defer(out->loop, tell, out);
    out->deferred = true;
}

struct cli_output *cli_output_new(struct dbx_loop *loop, int fd,
                                  const struct cli_output_handlers *h, void *user)
{
    struct cli_output *out = DBX_NEW(struct cli_output);
    out->loop = loop;
    out->h = h;
    out->user = user;
    dbx_buf_init(&out->waiting, CLI_OUTPUT_MAX);
    cli_stdio_fd_open(&out->fd, fd, O_WRONLY);
    if (out->fd.fd >= 0)
        out->watch = dbx_watch_new(loop, out->fd.fd, 0, on_writable, out);
    return out;
}

struct cli_output *cli_output_free(struct cli_output *out)
{
    if (!out)
        return NULL;
    dbx_loop_undefer(out->loop, tell, out);
    dbx_watch_free(out->watch);
    cli_stdio_fd_close(&out->fd);
    dbx_buf_done(&out->waiting);
    free(out);
    return NULL;
}

void cli_output_write(struct cli_output *out, const void *data, size_t len)
{
    int r;
    if (out->error || len == 0)
        return;
    if (out->watch) {
        r = dbx_buf_append(&out->waiting, data, len);
        dbx_watch_set(out->watch, DBX_WRITE);
    } else {
        r = dbx_write_all(out->fd.original, data, len);
        if (r == 0)
            tell_later(out);
    }
    if (r < 0) {
        out->error = r;
        tell_later(out);
    }
}

size_t cli_output_waiting(const struct cli_output *out)
{
    return out->waiting.len - out->done;
}
