/* SPDX-License-Identifier: Apache-2.0 */
/* A FIFO that was opened anew while nobody writes never polls as "ended": so each piece is first
 * read for, and waited for only when there is nothing. */
#include "cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/stdio_fd.h"
#include "common/base/fd.h"
#include "common/io/loop.h"

struct cli_input {
    struct dbx_loop *loop;
    struct cli_stdio_fd fd;
    struct dbx_watch *watch; /* NULL: a plain file */
    bool wanted, ended;
    const struct cli_input_handlers *h;
    void *user;
    uint8_t piece[CLI_INPUT_PIECE];
};

static void read_piece(void *user)
{
    struct cli_input *in = user;
    if (!in->wanted || in->ended)
        return;
    int fd = in->watch ? in->fd.fd : in->fd.original;
    ssize_t n = read(fd, in->piece, sizeof(in->piece));
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && in->watch) {
        dbx_watch_set(in->watch, DBX_READ);
        return;
    }
    if (in->watch)
        dbx_watch_set(in->watch, 0);
    in->wanted = false;
    if (n > 0) {
        in->h->on_piece(in->piece, (size_t)n, in->user);
    } else {
        in->ended = true;
        in->h->on_end(in->user);
    }
}

static void on_readable(void *user, int events, int error)
{
    struct cli_input *in = user;
    (void)events;
    (void)error; /* read says it again */
    read_piece(in);
}

struct cli_input *cli_input_new(struct dbx_loop *loop, int fd, const struct cli_input_handlers *h,
                                void *user)
{
    struct cli_input *in = DBX_NEW(struct cli_input);
    in->loop = loop;
    in->h = h;
    in->user = user;
    cli_stdio_fd_open(&in->fd, fd, O_RDONLY);
    if (in->fd.fd >= 0)
        in->watch = dbx_watch_new(loop, in->fd.fd, 0, on_readable, in);
    return in;
}

void cli_input_next(struct cli_input *in)
{
    if (in->wanted || in->ended)
        return;
    in->wanted = true;
    dbx_loop_defer(in->loop, read_piece, in);
}

struct cli_input *cli_input_free(struct cli_input *in)
{
    if (!in)
        return NULL;
    dbx_loop_undefer(in->loop, read_piece, in);
    dbx_watch_free(in->watch);
    cli_stdio_fd_close(&in->fd);
    free(in);
    return NULL;
}
