/* SPDX-License-Identifier: Apache-2.0 */
/* The loop: libuv with our ownership rules on top (docs/event-loop.md).
 *
 * Every handle of ours is a struct source: it is in loop->sources from birth to its free, and its
 * memory goes in libuv's close callback. What is still in the list when the loop is freed is closed
 * there, so that a forgotten source is never a dangling handle inside libuv. */
#include "common/io/loop.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/io/loop_int.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#define SLOW_CALLBACK_MS 10

struct call {
    struct dbx_list node;
    dbx_loop_fn *fn;
    void *user;
};

struct dbx_loop {
    uv_loop_t uv;
    int code;
    bool stopped;
    uv_idle_t idle; /* runs while something is deferred: it keeps the poll from sleeping */
    uv_async_t async;
    struct dbx_list sources;
    struct dbx_list deferred, running; /* running: the batch whose turn it is */
    struct dbx_list guests;
    pthread_mutex_t lock; /* posted: the only thing that other threads touch */
    struct dbx_list posted;
};

struct source {
    struct dbx_list node;
    struct dbx_loop *loop;
    union {
        uv_handle_t handle;
        uv_timer_t timer;
        uv_poll_t poll;
        uv_signal_t signal;
    } uv;
    void *user;
};

struct dbx_timer {
    struct source src;
    dbx_loop_fn *fn;
};

struct dbx_watch {
    struct source src;
    dbx_watch_fn *fn;
    int fd, events;
    bool active; /* libuv knows about events */
};

struct signal_source {
    struct source src;
    dbx_signal_fn *fn;
    dbx_loop_fn *once;
};

/* --- sources --- */

static void source_add(struct source *src, struct dbx_loop *loop, void *user)
{
    src->loop = loop;
    src->user = user;
    src->uv.handle.data = src;
    dbx_list_push(&loop->sources, &src->node);
}

static void on_source_closed(uv_handle_t *handle)
{
    free(handle->data); /* the source is the first member of whatever it is */
}

static void source_close(struct source *src)
{
    dbx_list_remove(&src->node);
    uv_close(&src->uv.handle, on_source_closed);
}

static void note_slow(uint64_t started_ms, const char *what)
{
    uint64_t took = dbx_now_ms() - started_ms;

    if (took > SLOW_CALLBACK_MS)
        dbx_log(DBX_LOG_DEBUG, NULL, "slow callback: %s took %" PRIu64 " ms", what, took);
}

/* --- calls: deferred and posted --- */

static void run_calls(struct dbx_list *from, struct dbx_list *batch, const char *what)
{
    dbx_list_take_all(from, batch);
    /* What the calls add goes into `from` and waits for the next round: nobody can starve the poll.
     */
    while (!dbx_list_empty(batch)) {
        struct call *call = dbx_list_first(batch, struct call, node);
        dbx_list_remove(&call->node);
        uint64_t started = dbx_now_ms();
        call->fn(call->user);
        note_slow(started, what);
        free(call);
    }
}

static void on_idle(uv_idle_t *idle)
{
    struct dbx_loop *loop = idle->data;

    run_calls(&loop->deferred, &loop->running, "deferred");
    if (dbx_list_empty(&loop->deferred))
        uv_idle_stop(idle);
}

static void on_async(uv_async_t *async)
{
    struct dbx_loop *loop = async->data;
    struct dbx_list taken, batch;

    dbx_list_init(&taken);
    dbx_list_init(&batch);
    pthread_mutex_lock(&loop->lock);
    dbx_list_take_all(&loop->posted, &taken);
    pthread_mutex_unlock(&loop->lock);
    run_calls(&taken, &batch, "posted");
}

static struct call *call_new(dbx_loop_fn *fn, void *user)
{
    struct call *call = DBX_NEW(struct call);

    call->fn = fn;
    call->user = user;
    return call;
}

void dbx_loop_defer(struct dbx_loop *loop, dbx_loop_fn *fn, void *user)
{
    dbx_list_push(&loop->deferred, &call_new(fn, user)->node);
    uv_idle_start(&loop->idle, on_idle);
}

static void drop_matching(struct dbx_list *calls, dbx_loop_fn *fn, const void *user)
{
    struct dbx_list *it, *tmp;

    dbx_list_each(it, tmp, calls)
    {
        struct call *call = dbx_list_entry(it, struct call, node);
        if (call->fn != fn || call->user != user)
            continue;
        dbx_list_remove(it);
        free(call);
    }
}

void dbx_loop_undefer(struct dbx_loop *loop, dbx_loop_fn *fn, void *user)
{
    drop_matching(&loop->deferred, fn, user);
    drop_matching(&loop->running, fn, user);
}

void dbx_loop_post(struct dbx_loop *loop, dbx_loop_fn *fn, void *user)
{
    struct call *call = call_new(fn, user);

    pthread_mutex_lock(&loop->lock);
    dbx_list_push(&loop->posted, &call->node);
    pthread_mutex_unlock(&loop->lock);
    uv_async_send(&loop->async);
}

struct work {
    uv_work_t req;
    dbx_loop_fn *fn, *done;
    void *user;
};

static void on_work(uv_work_t *req)
{
    struct work *work = req->data;

    work->fn(work->user);
}

static void on_worked(uv_work_t *req, int status)
{
    struct work *work = req->data;

    (void)status; /* never cancelled */
    work->done(work->user);
    free(work);
}

void dbx_loop_work(struct dbx_loop *loop, dbx_loop_fn *fn, dbx_loop_fn *done, void *user)
{
    struct work *work = DBX_NEW(struct work);

    work->fn = fn;
    work->done = done;
    work->user = user;
    work->req.data = work;
    dbx_assert(uv_queue_work(&loop->uv, &work->req, on_work, on_worked) == 0);
}

static void drop_calls(struct dbx_list *calls)
{
    while (!dbx_list_empty(calls)) {
        struct call *call = dbx_list_first(calls, struct call, node);
        dbx_list_remove(&call->node);
        free(call);
    }
}

/* --- the loop --- */

struct dbx_loop *dbx_loop_new(void)
{
    struct dbx_loop *loop = DBX_NEW(struct dbx_loop);

    dbx_list_init(&loop->sources);
    dbx_list_init(&loop->deferred);
    dbx_list_init(&loop->running);
    dbx_list_init(&loop->posted);
    dbx_list_init(&loop->guests);
    dbx_assert(pthread_mutex_init(&loop->lock, NULL) == 0);
    dbx_assert(uv_loop_init(&loop->uv) == 0);
    dbx_assert(uv_idle_init(&loop->uv, &loop->idle) == 0);
    dbx_assert(uv_async_init(&loop->uv, &loop->async, on_async) == 0);
    loop->idle.data = loop->async.data = loop;
    return loop;
}

static void close_stranger(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

struct dbx_loop *dbx_loop_free(struct dbx_loop *loop)
{
    if (!loop)
        return NULL;
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &loop->guests)
    {
        struct dbx_loop_guest *guest = dbx_list_entry(it, struct dbx_loop_guest, node);
        guest->stop(guest);
    }
    while (!dbx_list_empty(&loop->sources))
        source_close(dbx_list_first(&loop->sources, struct source, node));
    uv_close((uv_handle_t *)&loop->idle, NULL);
    uv_close((uv_handle_t *)&loop->async, NULL);
    /* Only closing handles and those of guests that close in steps are left: this ends. Requests of
     * libuv's thread pool (getaddrinfo) are waited for. */
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    dbx_list_each(it, tmp, &loop->guests)
    {
        struct dbx_loop_guest *guest = dbx_list_entry(it, struct dbx_loop_guest, node);
        dbx_list_remove(&guest->node);
        guest->done(guest);
    }
    uv_walk(&loop->uv, close_stranger, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    dbx_assert(uv_loop_close(&loop->uv) == 0);
    drop_calls(&loop->deferred);
    drop_calls(&loop->posted);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
    return NULL;
}

struct uv_loop_s *dbx_loop_uv(struct dbx_loop *loop)
{
    return &loop->uv;
}

int dbx_loop_run(struct dbx_loop *loop)
{
    while (!loop->stopped)
        uv_run(&loop->uv, UV_RUN_DEFAULT);
    loop->stopped = false;
    return loop->code;
}

void dbx_loop_stop(struct dbx_loop *loop, int code)
{
    loop->code = code;
    loop->stopped = true;
    uv_stop(&loop->uv);
}

void dbx_loop__add_guest(struct dbx_loop *loop, struct dbx_loop_guest *guest)
{
    dbx_list_push(&loop->guests, &guest->node);
}

struct dbx_loop_guest *dbx_loop__guest(const struct dbx_loop *loop, const char *name)
{
    struct dbx_list *it, *tmp;

    dbx_list_each(it, tmp, &((struct dbx_loop *)loop)->guests)
    {
        struct dbx_loop_guest *guest = dbx_list_entry(it, struct dbx_loop_guest, node);
        if (strcmp(guest->name, name) == 0)
            return guest;
    }
    return NULL;
}

/* --- signals --- */

static void on_signal(uv_signal_t *handle, int signo)
{
    struct signal_source *ss = handle->data;
    uint64_t started = dbx_now_ms();

    if (ss->once) {
        uv_signal_stop(handle);
        ss->once(ss->src.user);
    } else {
        ss->fn(ss->src.user, signo);
    }
    note_slow(started, "signal");
}

static void signal_add(struct dbx_loop *loop, int signo, dbx_signal_fn *fn, dbx_loop_fn *once,
                       void *user)
{
    struct signal_source *ss = DBX_NEW(struct signal_source);

    dbx_assert(uv_signal_init(&loop->uv, &ss->src.uv.signal) == 0);
    source_add(&ss->src, loop, user);
    ss->fn = fn;
    ss->once = once;
    dbx_assert(uv_signal_start(&ss->src.uv.signal, on_signal, signo) == 0);
}

void dbx_loop_on_signal(struct dbx_loop *loop, int signo, dbx_signal_fn *fn, void *user)
{
    signal_add(loop, signo, fn, NULL, user);
}

void dbx_loop_on_terminate(struct dbx_loop *loop, dbx_loop_fn *fn, void *user)
{
    signal(SIGPIPE, SIG_IGN);
    signal_add(loop, SIGTERM, NULL, fn, user);
    signal_add(loop, SIGINT, NULL, fn, user);
}

/* --- timers --- */

static void on_timer(uv_timer_t *handle)
{
    struct dbx_timer *t = handle->data;
    uint64_t started = dbx_now_ms();

    t->fn(t->src.user); /* t may be closing now; its memory lasts until the close phase */
    note_slow(started, "timer");
}

struct dbx_timer *dbx_timer_new(struct dbx_loop *loop, dbx_loop_fn *fn, void *user)
{
    struct dbx_timer *t = DBX_NEW(struct dbx_timer);

    uv_timer_init(&loop->uv, &t->src.uv.timer);
    source_add(&t->src, loop, user);
    t->fn = fn;
    return t;
}

void dbx_timer_start(struct dbx_timer *t, uint64_t after_ms, uint64_t repeat_ms)
{
    /* libuv counts from the start of the iteration: without this a timer set after slow work fires
     * early. */
    uv_update_time(&t->src.loop->uv);
    uv_timer_start(&t->src.uv.timer, on_timer, after_ms, repeat_ms);
}

void dbx_timer_stop(struct dbx_timer *t)
{
    uv_timer_stop(&t->src.uv.timer);
}

struct dbx_timer *dbx_timer_free(struct dbx_timer *t)
{
    if (t)
        source_close(&t->src);
    return NULL;
}

/* --- descriptors --- */

/* libuv turns POLLERR into UV_EBADF and stops the handle; the socket knows what it was. */
static int error_of(int fd)
{
    int error = 0;
    socklen_t len = sizeof(error);

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error > 0)
        return -error;
    return -EPIPE;
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct dbx_watch *w = handle->data;
    uint64_t started = dbx_now_ms();
    int mask = 0;

    if (events & UV_READABLE)
        mask |= DBX_READ;
    if (events & UV_WRITABLE)
        mask |= DBX_WRITE;
    if (status < 0)
        w->active = false;
    if (status < 0)
        w->fn(w->src.user, w->events, status == UV_EBADF ? error_of(w->fd) : status);
    else
        w->fn(w->src.user, mask, 0);
    note_slow(started, "descriptor");
}

struct dbx_watch *dbx_watch_new(struct dbx_loop *loop, int fd, int events, dbx_watch_fn *fn,
                                void *user)
{
    struct dbx_watch *w = DBX_NEW(struct dbx_watch);

    w->fd = fd;
    w->fn = fn;
    dbx_assert(uv_poll_init(&loop->uv, &w->src.uv.poll, fd) == 0);
    source_add(&w->src, loop, user);
    dbx_watch_set(w, events);
    return w;
}

void dbx_watch_set(struct dbx_watch *w, int events)
{
    int mask = (events & DBX_READ ? UV_READABLE : 0) | (events & DBX_WRITE ? UV_WRITABLE : 0);

    /* libuv takes the descriptor out of epoll and puts it back in, whatever changes. */
    if (w->active && w->events == events)
        return;
    w->events = events;
    w->active = true;
    if (mask)
        dbx_assert(uv_poll_start(&w->src.uv.poll, mask, on_poll) == 0);
    else
        uv_poll_stop(&w->src.uv.poll);
}

struct dbx_watch *dbx_watch_free(struct dbx_watch *w)
{
    if (w)
        source_close(&w->src);
    return NULL;
}
