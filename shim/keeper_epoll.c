/* SPDX-License-Identifier: Apache-2.0 */
/* The pump where io_uring is forbidden: the loop says which pipe is readable, read() does the rest.
 */
#include "shim/keeper_pump.h"

#include "common/base/fd.h"
#include "common/io/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct keeper_pump {
    struct dbx_loop *loop; /* borrowed */
    const struct keeper_pump_handlers *h;
    void *user;
};

static int epoll_open(struct dbx_loop *loop, const struct keeper_pump_handlers *h, void *user,
                      struct keeper_pump **ret, struct dbx_err *err)
{
    struct keeper_pump *p = DBX_NEW(struct keeper_pump);
    (void)err;
    *p = (struct keeper_pump){.loop = loop, .h = h, .user = user};
    *ret = p;
    return 0;
}

static void epoll_close(struct keeper_pump *p)
{
    free(p);
}

static void end(struct keeper_feed *f, enum keeper_state state)
{
    if (!f->ended)
        keeper_feed_ended(f, state);
    f->watch = dbx_watch_free(f->watch);
    f->reading = false;
    f->pump->h->on_progress(f, 0, f->pump->user);
}

static void on_pipe(void *user, int events, int error)
{
    struct keeper_feed *f = user;
    uint8_t *at;
    (void)events;
    (void)error; /* read tells */
    size_t room = keeper_feed_room(f, &at);
    if (f->ended) {
        end(f, KEEPER_FAILED);
        return;
    }
    if (room == 0) {
        f->reading = false;
        dbx_watch_set(f->watch, 0);
        return;
    }
    ssize_t n = read(f->fd, at, room);
    if (n > 0) {
        keeper_feed_filled(f, (size_t)n);
        f->pump->h->on_progress(f, (size_t)n, f->pump->user);
    } else if (n == 0) {
        end(f, KEEPER_EOF);
    } else if (errno != EAGAIN && errno != EINTR) {
        end(f, KEEPER_FAILED);
    }
}

static void epoll_start(struct keeper_feed *f, struct keeper_pump *p)
{
    f->pump = p;
    f->reading = true;
    (void)dbx_set_nonblock(f->fd, true);
    f->watch = dbx_watch_new(p->loop, f->fd, DBX_READ, on_pipe, f);
}

static void epoll_resume(struct keeper_feed *f)
{
    if (f->ended || f->reading)
        return;
    f->reading = true;
    dbx_watch_set(f->watch, DBX_READ);
}

static void epoll_stop(struct keeper_feed *f)
{
    f->watch = dbx_watch_free(f->watch);
    f->reading = false;
    f->pump->h->on_stopped(f, f->pump->user);
}

static void epoll_flush(struct keeper_pump *p)
{
    (void)p;
}

const struct keeper_pump_ops keeper_pump_epoll = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .start = epoll_start,
    .resume = epoll_resume,
    .stop = epoll_stop,
    .flush = epoll_flush,
};
